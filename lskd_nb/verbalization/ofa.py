"""Captions by OFA-Huge, which the paper uses and no current release of transformers has.

Its own repository (OFA-Sys/OFA) is run beside this one: ``write_ofa_input`` writes what it reads,
``external_captions`` reads what it leaves, as lines like those of the other verbalizers.
"""

import base64
from collections.abc import Iterable
from pathlib import Path

from lskd_nb.records import atomic_path, hash_of
from lskd_nb.regions import LocatedImage, image_file
from lskd_nb.sources import BadRecord, Rejected, first_of, read_records, text_of


def write_ofa_input(
    images: Iterable[LocatedImage], image_root: str | Path, path: str | Path
) -> Path:
    """The tab-separated file that OFA's ``evaluate.py --task=caption`` reads with
    ``selected_cols=1,4,2``.

    Five columns: row number, image id, caption (empty), objects (empty), the image file in base64
    (URL-safe, as OFA decodes it).
    """
    with atomic_path(path) as temporary, open(temporary, "w", encoding="ascii") as lines:
        for number, image in enumerate(images):
            picture = image_file(image_root, image.path).read_bytes()
            content = base64.urlsafe_b64encode(picture).decode()
            lines.write(f"{number}\t{image.image_id}\t\t\t{content}\n")
    return Path(path)


def external_captions(
    path: str | Path, images: Iterable[LocatedImage], model: str = "ofa-huge"
) -> tuple[list[dict], list[Rejected]]:
    """Captions that OFA wrote by itself, as rows of records.VERBALIZATIONS; images without.

    OFA-Huge's classes are in no current release of transformers, so its own repository
    (OFA-Sys/OFA) is run beside this one: ``write_ofa_input`` writes what its
    ``run_scripts/caption/evaluate_caption_huge.sh`` reads, and ``path`` is the
    ``test_predict.json`` it leaves, a list of {"image_id", "caption"}. Captions of other images are
    passed over. The version of the lines is a hash of the file. Raises ``ValueError`` naming file
    and row where one lacks a field or contradicts an earlier one.
    """
    path, captions = Path(path), {}
    for number, row in enumerate(read_records(path)):
        try:
            image_id, text = str(first_of(row, "image_id")), text_of(row, "caption")
        except BadRecord as error:
            raise ValueError(f"{path}, row {number}: {error}") from error
        if captions.setdefault(image_id, text) != text:
            raise ValueError(
                f"{path}, row {number}: image_id {image_id!r} has a second"
                f" caption, {text!r} after {captions[image_id]!r}"
            )
    version, images = hash_of([path])[:12], list(images)
    common = dict(
        kind="global",
        verbalizer=model,
        region=None,
        question=None,
        score=None,
        model=model,
        version=version,
    )
    rows = [
        dict(image_id=i.image_id, text=captions[i.image_id]) | common
        for i in images
        if i.image_id in captions
    ]
    return rows, [
        Rejected(i.image_id, "no caption", f"{path} has none")
        for i in images
        if i.image_id not in captions
    ]
