"""Scenes: what there is, what follows from it, and how it is said.

In: a seed. Out: a ``Scene`` (place, weather, time, entities with boxes), its situations, English
sentences. Read ``world`` first, then ``rules`` (common sense) and ``grammar`` (sentences, both
ways).
"""
