"""What a closer look tells: where models of the paper stay weak, as question types of their own.

Counts (how many of a sort), spatial relations (what is in front of whom, and who looks at whom)
and fine expressions. Each type has its own situations, of which exactly one holds.
"""

from lskd_nb.mini.scenes.situation import Situation
from lskd_nb.mini.scenes.world import ANIMALS, FACES, KINDS, PEOPLE

NOBODY, NOTHING = "nobody", "nothing"
NUMBERS = ("just this one", "two of them", "three of them", "four of them", "five of them")
EXPRESSIONS = dict(zip(FACES, ("joy", "sorrow", "anger", "nothing but calm"), strict=True))

OF_COUNTS = tuple(
    Situation(f"count {n}", KINDS, count=n, answers=dict(count=text))
    for n, text in enumerate(NUMBERS, 1)
)
OF_GAZES = tuple(
    Situation(
        f"in front: {kind}", (*PEOPLE, *ANIMALS), toward=(kind,), answers=dict(front=f"a {kind}")
    )
    for kind in KINDS
) + (
    Situation(
        "in front: nothing",
        (*PEOPLE, *ANIMALS),
        toward=(NOTHING,),
        answers=dict(front="nothing at all"),
    ),
)
OF_LOOKS = tuple(
    Situation(f"seen by: {kind}", KINDS, faced_by=(kind,), answers=dict(who=f"the {kind}"))
    for kind in PEOPLE
) + (Situation("seen by: nobody", KINDS, faced_by=(NOBODY,), answers=dict(who="nobody here")),)
OF_FACES = tuple(
    Situation(f"face: {face}", PEOPLE, face=face, answers=dict(face=text))
    for face, text in EXPRESSIONS.items()
)
