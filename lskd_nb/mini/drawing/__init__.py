"""Pictures of scenes, 320 x 240 pixels, the same bytes for the same scene.

In: a ``Scene``. Out: a PIL image. Read ``render`` first; ``places``, ``sprites`` and ``people``
draw what is in it with the pens of ``canvas``; ``teaser`` is the picture at the README's top.
"""
