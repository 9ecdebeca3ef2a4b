"""What is kept: triples with their scores, images and boxes, ready to train on or to publish.

In: triples.parquet, scores.parquet, regions.parquet. Out: corpus.parquet (records.CORPUS), and the
JSONL of the released corpus, read and written. Read ``build`` first; ``index`` finds rows among
millions, ``dedup`` what is said again, ``person_attributes`` how people are spoken of.
"""
