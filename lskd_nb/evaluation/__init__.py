"""Stage 6: what a student has learnt, on benchmarks it was not trained for.

In: a student and items of a benchmark (sources.MultipleChoice). Out: predictions/*.parquet
(records.PREDICTIONS), accuracies with intervals, the leaderboards' files. Read ``choices`` first,
then ``items`` (how each set is put to a student) and ``metrics`` (how each set counts);
``baselines``, ``preference`` and ``verbal_baseline`` are what students are compared with and how.
"""
