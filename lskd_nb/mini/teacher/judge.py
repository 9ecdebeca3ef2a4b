"""The mini world's judge: what follows from the words by the world's rules, and marks for it.

It reads the verbalization back into a belief about the scene, as the writer does, and judges each
triple as the world's annotator judges from the truth. Where a verbalizer was wrong, it is too; and
with temperature its marks waver.
"""

import hashlib
import json
import re
from contextlib import suppress

import numpy as np

from lskd_nb.mini.annotator import Judgement, judge
from lskd_nb.mini.teacher.writer import Belief, read_context
from lskd_nb.regions import mentions

ASKED = "\n\nTriples:\n"  # comes before the triples
NOTHING = Judgement(False, 0.0, 0.0, understood=False)
WAVERING = 0.15  # how often a mark is one off, at temperature 1
_TRIPLE = re.compile(r"^(\d+)\. Question: (.*?) Answer: (.*?) Rationale: (.*)$", re.MULTILINE)


def write_verdicts(messages: list[dict], seed: int, temperature: float) -> str:
    """The reply to a request for verdicts (lskd_nb.critic.judge), as text."""
    told = messages[-1]["content"]
    context, _, triples = told.partition(ASKED)
    digest = hashlib.sha256(f"{seed}/{temperature}/{told}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    belief = read_context(context)
    verdicts = [
        {"number": int(number)} | _marks(belief, texts, rng, temperature)
        for number, *texts in _TRIPLE.findall(triples)
    ]
    return json.dumps({"verdicts": verdicts})


def _marks(
    belief: Belief, texts: list[str], rng: np.random.Generator, temperature: float
) -> dict[str, int]:
    places = {region: place for place, region in enumerate(belief.ids)}
    found = NOTHING
    if set(mentions(" ".join(texts))) <= places.keys():
        with suppress(KeyError):  # of a place, say, that the words don't tell
            found = judge(belief.scene, *(_renumbered(text, places) for text in texts))
    marks = {
        "pointing": 5 if found.qa in (0.0, 1.0) and found.understood else 2,
        "correct": round(1 + 4 * found.qa),
        "supported": round(1 + 4 * found.rationale),
    }
    for name, mark in marks.items():
        if rng.random() < WAVERING * temperature:
            marks[name] = int(np.clip(mark + rng.choice((-1, 1)), 1, 5))
    return marks


def _renumbered(text: str, places: dict[int, int]) -> str:
    return re.sub(r"\[(\d+)\]", lambda m: f"[{places[int(m[1])]}]", text)
