"""The world on disk, in the files that the real data sets have.

In: scenes of train and val. Out: folders that the readers of ``sources`` take unchanged, and
truth.jsonl for the annotator alone. Read ``world_files`` first; ``region_sets`` and
``benchmark_sets`` have the rows, ``vcr_questions`` and ``plain_questions`` what is asked.
"""
