"""The networks that learn the corpus, and how they are loaded.

In: images (B, 3, S, S) with regions drawn on them, and texts. Out: how well they match, or words.
Read ``blip2`` first, the student of the paper, then ``qformer`` and ``views``. ``generative`` and
``minigpt4`` answer in words; ``loading`` reads any of them whole, ``lavis_*`` LAVIS's own files.
"""
