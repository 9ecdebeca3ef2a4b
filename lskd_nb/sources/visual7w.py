"""Visual7W, telling: what, where, when, who, why, how about a picture; four answers to choose from.

Reads ``dataset_v7w_telling.json`` (or ``dataset.json``, as the authors' toolkit renames it). The
file gives the right answer and three wrong ones apart; their order here is drawn from the
question's id, so that position says nothing and every reading of the file agrees.
"""

import zlib
from pathlib import Path

import numpy as np

from lskd_nb.regions import LocatedImage
from lskd_nb.sources import (
    BadRecord,
    MultipleChoice,
    Rejected,
    below,
    first_of,
    image_size,
    read_json,
    text_of,
)

NAMES = ("dataset_v7w_telling.json", "dataset.json")
SPLITS = ("train", "val", "test")


def read_visual7w(
    folder: str | Path, split: str, image_root: str | Path | None = None, limit: int | None = None
) -> tuple[list[MultipleChoice], list[Rejected]]:
    """Items of a split (of its first ``limit`` pictures), and what was left out.

    Pictures are at ``image_root``/images/<filename> (default root: ``folder``). Rejected: questions
    with other than three wrong choices, or a wrong choice that equals the answer whatever its case
    (the official score would count it as right); pictures that are missing or damaged. Raises
    ``FileNotFoundError`` or ``ValueError`` naming the file.
    """
    if split not in SPLITS:
        raise ValueError(f"split: {split!r} is none of {SPLITS}")
    path = next(
        (Path(folder) / n for n in NAMES if (Path(folder) / n).exists()), Path(folder) / NAMES[0]
    )
    content = read_json(path)
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or not all(isinstance(i, dict) for i in images):
        raise ValueError(f"{path}: expected an object with a list of images")
    root = Path(image_root) if image_root else Path(folder)
    items, rejects = [], []
    for record in [i for i in images if i.get("split") == split][:limit]:
        name = f"{path.name}, image {record.get('image_id')}"
        try:
            image_id = str(first_of(record, "image_id"))
            file = "images/" + text_of(record, "filename")
            size = image_size(below(root, file))
            image = LocatedImage(image_id, file, *size, (), "visual7w", split)
            pairs = first_of(record, "qa_pairs")
            if not isinstance(pairs, list):
                raise BadRecord("bad list", f"qa_pairs is {type(pairs).__name__}, expected a list")
        except BadRecord as error:
            rejects.append(error.of(name))
            continue
        for index, pair in enumerate(pairs):
            try:
                items.append(_item(pair, image))
            except BadRecord as error:
                rejects.append(error.of(f"{name}, question {index}"))
    return items, rejects


def _item(pair: object, image: LocatedImage) -> MultipleChoice:
    if not isinstance(pair, dict):
        raise BadRecord("bad record", f"{pair!r}, expected an object")
    qa_id = str(first_of(pair, "qa_id"))
    answer = text_of(pair, "answer")
    wrong = first_of(pair, "multiple_choices")
    if (
        not isinstance(wrong, list)
        or len(wrong) != 3
        or not all(isinstance(w, str) and w.strip() for w in wrong)
    ):
        raise BadRecord("not four choices", f"multiple_choices is {wrong!r}, expected three texts")
    choices = [answer, *(" ".join(w.split()) for w in wrong)]
    if answer.lower() in (w.lower() for w in choices[1:]):
        raise BadRecord("ambiguous choices", f"{answer!r} is among the wrong choices {wrong}")
    order = np.random.default_rng(zlib.crc32(qa_id.encode())).permutation(4)
    return MultipleChoice(
        qa_id,
        image,
        text_of(pair, "question"),
        tuple(choices[i] for i in order),
        int(np.flatnonzero(order == 0)[0]),
        "visual7w",
        text_of(pair, "type"),
    )
