"""``lskd mini pretrain``: the world's small weights, made anew from nothing.

In: scenes that no run uses. Out: mini/weights/: a base student, CLIP, a BLIP-2 that captions and
answers, a question generator, and their card. Read ``pretrain`` first; its steps are ``vision``,
``stage1`` and ``verbalizers``, the student's dimensions are in ``base``.
"""
