"""Stage 7: what people look at and touch: figures, highlighted images, widgets.

In: the files of a run (``run_folder``). Out: matplotlib figures with alt text, HTML without
scripts, widgets. Read ``plots`` first, then ``pictures``, ``markup`` and ``widgets``; ``verdicts``
says why a triple was kept or dropped, ``pointing`` asks models about boxes drawn by hand.
"""
