"""SNLI-VE: does the picture entail, contradict, or leave open what a sentence says of it?

Reads ``snli_ve_{train,dev,test}.jsonl`` (github.com/necla-ml/SNLI-VE); the pictures are
Flickr30k's. The label is ``gold_label``: the letter in ``pairID`` is what the sentence's writer
meant, and annotators did not always agree.
"""

from pathlib import Path

from lskd_nb.regions import LocatedImage
from lskd_nb.sources import (
    BadRecord,
    MultipleChoice,
    Rejected,
    below,
    image_size,
    name_of,
    read_jsonl,
    text_of,
)

LABELS = ("entailment", "neutral", "contradiction")
SPLITS = ("train", "dev", "test")
PICTURE_IDS = ("Flickr30K_ID", "Flikr30kID", "Flickr30kID")  # as the set's versions spell it


def read_snli_ve(
    folder: str | Path,
    split: str,
    image_root: str | Path | None = None,
    image_folder: str = "flickr30k_images",
    limit: int | None = None,
) -> tuple[list[MultipleChoice], list[Rejected]]:
    """Items, the hypothesis as question, ``LABELS`` as choices; and what was left out.

    Pictures are at ``image_root``/``image_folder``/<id>.jpg (default root: ``folder``). The set's
    older spellings of the picture's id are read too, and ids that are numbers. Rejected: rows
    without agreement (gold label "-"), pairs about Visual Genome ("vg_"), and rows without sentence
    or picture. Raises ``FileNotFoundError`` or ``ValueError`` naming a missing or damaged file.
    """
    if split not in SPLITS:
        raise ValueError(f"split: {split!r} is none of {SPLITS}")
    root = Path(image_root) if image_root else Path(folder)
    sizes: dict[str, tuple[int, int] | BadRecord] = {}
    items, rejects = [], []
    for number, row in enumerate(read_jsonl(Path(folder) / f"snli_ve_{split}.jsonl")[:limit], 1):
        name = f"snli_ve_{split}.jsonl, {row.get('pairID') or f'row {number}'}"
        try:
            pair, label = text_of(row, "pairID"), text_of(row, "gold_label")
            if label == "-":
                raise BadRecord("no gold label", f"annotators said {row.get('annotator_labels')}")
            if pair.startswith("vg_"):
                raise BadRecord("pair of another set", "a picture of Visual Genome")
            if label not in LABELS:
                raise BadRecord("bad label", f"gold_label is {label!r}, expected one of {LABELS}")
            image = _image(row, root, image_folder, split, sizes)
            items.append(
                MultipleChoice(
                    pair,
                    image,
                    text_of(row, "sentence2"),
                    LABELS,
                    LABELS.index(label),
                    "snli_ve",
                    label,
                )
            )
        except BadRecord as error:
            rejects.append(error.of(name))
    return items, rejects


def _image(
    row: dict, root: Path, folder: str, split: str, sizes: dict[str, tuple[int, int] | BadRecord]
) -> LocatedImage:
    image_id = name_of(row, *PICTURE_IDS).removesuffix(".jpg")
    path = f"{folder}/{image_id}.jpg"
    if image_id not in sizes:
        try:
            sizes[image_id] = image_size(below(root, path))
        except BadRecord as error:
            sizes[image_id] = error
    size = sizes[image_id]
    if isinstance(size, BadRecord):
        raise size
    return LocatedImage(image_id, path, *size, (), "snli_ve", split)
