"""The embedded world: synthetic scenes whose truth is known, drawn, written in the real data sets'
file formats.

Nothing of the method imports this package: it writes files and serves a URL, as a data set and an
LLM provider would.
"""
