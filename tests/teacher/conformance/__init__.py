"""Servers that teachers stand behind, imitated in their words, and notebook 02 run against them.

``personalities`` says who takes what and how a reply looks, ``refusals`` in which words they refuse
the rest, ``shapes`` wraps what the mini world's writer wrote, ``server`` serves them all and keeps
a ledger of each, ``notebook`` runs the notebook.
"""
