"""The embedded world: synthetic scenes whose truth is known, in the real data sets' formats.

In: a seed. Out: drawn pictures, files of Visual Genome, VCR and the other sets, a teacher behind a
URL, labels by an annotator who knows the truth, small trained weights. Nothing of the method
imports this package: it is used as a data set and an LLM provider would be. Read ``scenes.world``
first.
"""
