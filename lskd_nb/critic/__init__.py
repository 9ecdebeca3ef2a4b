"""Stages 3 and 4: which triples are acceptable, learnt from labels; the best are kept.

In: triples.parquet and people's labels (records.LABELS). Out: the trained critic, scores.parquet
(records.SCORES), and the threshold that decides what is kept. Read ``model`` first, then
``filtering``; ``labels``, ``agreement`` and ``label_studio`` are about the people, ``scoring`` is
the critic over a whole corpus.
"""

# the parameter `critic`, which says where scores come from, beside names of critics (``origin``)
TRAIN, NONE = "train", "none"
UNFILTERED = "unfiltered: no critic"  # what is said of all that was made without one
