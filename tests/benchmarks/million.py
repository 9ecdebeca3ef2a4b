"""A million rows as the released corpus has them: JSONL, with its spread of lengths, regions,
sources and scores, and its oddities.
"""

import json
import random
from pathlib import Path

from lskd_nb.run_folder import find_root
from lskd_nb.verbalization.retrieval import read_vocabulary

VOCABULARIES = find_root() / "lskd_nb" / "verbalization" / "vocabularies"
SOURCES = (
    "chatgpt_region_any_v4",
    "chatgpt_region_any_v4_people",
    "chatgpt_region_any_v4_description",
    "chatgpt_region_first_v4",
)
OPENINGS = (
    "What is",
    "Why is",
    "What might",
    "How does",
    "Where is",
    "Who is",
    "What does",
    "What can be inferred about",
    "What will",
    "How is",
)
FILLERS = (
    "about to do with the",
    "likely feeling, given the",
    "doing next to the",
    "suggesting about the",
    "used for in this",
    "holding up beside the",
    "part of the",
)
LINKS = (
    "is often used as a sign of",
    "suggests that the person near",
    "may be about to use",
    "stands close to",
    "is a typical part of",
    "points towards",
)
TAILS = (
    "so it is likely that this is a celebration.",
    "which people do when they wait for someone.",
    "as the weather and the light suggest.",
    "and this is why they look at each other.",
    "so the scene may be part of an event.",
    "because it would otherwise fall, or be lost.",
    "which doesn't happen very often here.",
    "since the others can't see it from where they are.",
)


def token_texts(rng: random.Random, words: list[str], number: int, shape: str) -> list[str]:
    """Token lists as JSON, a mention written as %s (the first id) or %t (the second)."""
    found = []
    for _ in range(number):
        one, two, three = (rng.choice(words).split() for _ in range(3))
        if shape == "question":
            tokens = [
                *rng.choice(OPENINGS).split(),
                "%s",
                *rng.choice(FILLERS).replace(",", " ,").split(),
                *one,
                *(("near", "%t") if rng.random() < 0.3 else ()),
                "?",
            ]
        elif shape == "answer":
            tokens = [
                *(("%s",) if rng.random() < 0.5 else ("It",)),
                *rng.choice(LINKS).split(),
                "a",
                *one,
                *(("and", "%t") if rng.random() < 0.3 else ()),
                ".",
            ]
        else:
            tokens = [
                "The",
                *one,
                "on",
                "%s",
                *rng.choice(LINKS).split(),
                "the",
                *two,
                ",",
                *(("%t", "has", "a", *three, ",") if rng.random() < 0.4 else ()),
                *rng.choice(TAILS).split(),
            ]
        found.append(json.dumps(tokens).replace('"%s"', "[%s]").replace('"%t"', "[%t]"))
    return found


def odd(row: str, kind: int) -> str:
    """One of the things that a release may contain besides."""
    if kind == 0:  # a region without box
        return row.replace('"question": [', '"question": [[97], ', 1)
    if kind == 1:  # ids as numbers, references as an object
        raw = json.loads(row)
        return json.dumps(
            raw
            | {
                "region": int(raw["region"][0]),
                "references": {r["name"]: r for r in raw["references"]},
            }
        )
    if kind == 2:
        return row[: len(row) // 2]  # cut off
    return row.replace('"prediction": 0', '"prediction": 7', 1)


def write_rows(path: Path, rows: int, seed: int = 0) -> int:
    """Write ``rows`` lines, one in two hundred of them odd; how many pictures they may name. An
    image's regions have the same boxes and labels in all of its rows.
    """
    rng = random.Random(seed)
    words = [
        w
        for name in ("place", "object", "concept")
        for w in read_vocabulary(VOCABULARIES / f"{name}.txt")
    ]
    texts = {
        shape: token_texts(rng, words, 20_000, shape)
        for shape in ("question", "answer", "rationale")
    }
    labels = [w.replace(" ", "_") for w in read_vocabulary(VOCABULARIES / "object.txt")]
    boxes = []
    for _ in range(20_000):
        x, y = rng.uniform(0, 500), rng.uniform(0, 300)
        boxes.append(
            f"[{x:.10f}, {y:.10f}, {x + rng.uniform(10, 200):.10f},"
            f" {y + rng.uniform(10, 200):.10f}, {rng.random():.6f}]"
        )
    with open(path, "w", encoding="utf-8") as out:
        for number in range(rows):
            picture, source, regions = (
                rng.randrange(rows // 9 + 1),
                rng.choice(SOURCES),
                rng.choice((2, 3, 3, 4, 5)),
            )
            ids = rng.sample(range(regions + 2), regions)
            references = ", ".join(
                f'{{"name": "{i}", "boxes": [{boxes[n % len(boxes)]}], "segms": null, "obj_guess":'
                f' "{labels[n % len(labels)]}", "tag": "region"}}'
                for i in ids
                for n in (picture * 31 + i,)
            )
            one, two = str(ids[0]), str(ids[1])
            question, answer, rationale = (
                rng.choice(texts[s]).replace("%s", one).replace("%t", two)
                for s in ("question", "answer", "rationale")
            )
            score = 1 - 0.2 * rng.random() ** 1.5 if rng.random() < 0.6 else rng.random()
            row = (
                f'{{"image": "VG_100K/{picture}.jpg", "source": "{source}", "split": "train",'
                f' "index": "{source}-{number}", "region": ["{one}"], "region_all":'
                f' {json.dumps([str(i) for i in ids])}, "references": [{references}], "question":'
                f' {question}, "answer": {answer}, "rationale": {rationale}, "prediction":'
                f" {score:.6f}}}"
            )
            out.write((odd(row, number // 200 % 4) if number % 200 == 199 else row) + "\n")
    return rows // 9 + 1
