"""Stage 5: students learn the corpus, in one process or in many, and may be killed at any time.

In: corpus.parquet, the images, a base student. Out: a folder with the trained student. Read
``distillation`` first, then ``batches`` (what a step sees) and ``loop`` (what all trainings share);
``distributed`` makes several processes learn as one, ``launch`` starts and follows them.
"""
