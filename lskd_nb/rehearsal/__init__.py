"""The real run's stage set, for a dress rehearsal: what one would have downloaded, grown here.

In: a seed. Out: a folder that plays the project's ``data/``, with every data set in the form it is
published in, so that ``params/a100`` can be walked from end to end without a network. The mini
world writes its own files as it likes to read them; these have what real files have: odd sizes,
damaged pictures, fields left out, spellings that vary. Read ``data_sets`` first.
"""
