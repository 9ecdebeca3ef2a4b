"""Stage 1: images and their regions are put into words, for an LLM that can't see.

In: regions.parquet (records.REGIONS) and the images. Out: verbalizations.parquet
(records.VERBALIZATIONS), a line for each thing that a model or a person said. Read ``describe``
first; ``verbalizers`` and ``retrieval`` hold the models, ``captioning`` finetunes one of them,
``detection`` finds the regions of images that have none.
"""
