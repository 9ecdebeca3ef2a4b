"""Labelling in Label Studio: triples as its tasks; ``label_studio_import`` has the way back.

A task is an image with its regions as rectangles, the three texts, a choice and two numbers;
``labelling_config`` is the interface for it. Boxes are given in per cent of the image, as Label
Studio wants them, and as *predictions*, so that they are on the picture when it is opened.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree as ET

import pyarrow as pa
import pyarrow.compute as pc

from lskd_nb.critic.label_sample import to_label
from lskd_nb.critic.labels import read_labels, run_triple_ids, with_gone
from lskd_nb.records import REGIONS, TRIPLES, atomic_path, read_parquet
from lskd_nb.regions import LocatedImage, Region, highlight_colors, located_images, mentions
from lskd_nb.run_folder import RunFolder

# Label Studio's own file serving, LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT being the image root
LOCAL_FILES = "/data/local-files/?d="
SCORES = {
    "qa_score": "How good is the answer for the question? (0 to 1)",
    "rationale_score": "How well does the rationale support it? (0 to 1)",
}
TASKS = ("[]", '[\n {\n  "data": {\n   "image": ')  # how files of tasks begin that are written here


def labelling_config(region_ids: Iterable[int]) -> str:
    """The XML of the labelling interface: a rectangle label for each region id, in its colour."""
    view = ET.Element("View")
    ET.SubElement(view, "Image", name="image", value="$image", zoom="true")
    rectangles = ET.SubElement(
        view, "RectangleLabels", name="region", toName="image", canRotate="false"
    )
    for region in sorted(set(region_ids)):
        ET.SubElement(
            rectangles,
            "Label",
            value=f"[{region}]",
            background="#" + bytes(highlight_colors(region)[1][:3]).hex(),
        )
    for part in ("question", "answer", "rationale"):
        ET.SubElement(view, "Header", value=part.capitalize(), size="5")
        ET.SubElement(view, "Text", name=part, value=f"${part}")
    decision = ET.SubElement(
        view,
        "Choices",
        name="accept",
        toName="image",
        choice="single-radio",
        showInLine="true",
        required="true",
    )
    for choice, key in (("accept", "a"), ("reject", "r")):
        ET.SubElement(decision, "Choice", value=choice, hotkey=key)
    for name, asked in SCORES.items():
        ET.SubElement(view, "Header", value=asked, size="5")
        ET.SubElement(
            view,
            "Number",
            name=name,
            toName="image",
            min="0",
            max="1",
            step="0.25",
            required="true",
        )
    ET.indent(view)
    return ET.tostring(view, encoding="unicode") + "\n"


def task(
    triple: Mapping,
    image: LocatedImage,
    image_prefix: str = LOCAL_FILES,
    labels: Sequence[Mapping] = (),
) -> dict:
    """One triple (a row of records.TRIPLES) for import, the regions it was offered as a prediction,
    and its LABELS rows as annotations.

    The image's address is ``image_prefix`` and its path, quoted. Label Studio takes annotations
    only of users that it has; it knows them by their e-mail address, which the annotators' names
    should then be. Raises ``ValueError`` naming the triple for a box that is no box of the image.
    """
    offered = [r for r in image.regions if r.id in set(triple["regions_offered"])]
    bad = next(
        (
            r
            for r in offered
            if not all(map(math.isfinite, r.box)) or not (image.width and image.height)
        ),
        None,
    )
    if bad:
        raise ValueError(
            f"triple {triple['triple_id']}: the box of region [{bad.id}] is {bad.box} in an image"
            f" of {image.width} x {image.height} pixels"
        )
    texts = {
        name: triple[name] for name in ("triple_id", "image_id", "question", "answer", "rationale")
    }
    told = " ".join(triple[name] for name in ("question", "answer", "rationale"))
    shown = offered if mentions(told) else []  # a text without mentions is about the plain image
    boxes = dict(model_version="regions", result=[_rectangle(r, image) for r in shown])
    made = dict(data=dict(image=image_prefix + quote(image.path), **texts), predictions=[boxes])
    if labels:
        made["annotations"] = [
            dict(
                completed_by=dict(email=label["annotator"]),
                was_cancelled=False,
                result=_said(label),
            )
            for label in labels
        ]
    return made


def _rectangle(region: Region, image: LocatedImage) -> dict:
    x0, y0, x1, y1 = region.box
    value = dict(
        x=100 * x0 / image.width,
        y=100 * y0 / image.height,
        width=100 * (x1 - x0) / image.width,
        height=100 * (y1 - y0) / image.height,
    )
    return dict(
        id=f"region-{region.id}",
        type="rectanglelabels",
        from_name="region",
        to_name="image",
        original_width=image.width,
        original_height=image.height,
        image_rotation=0,
        value=value | dict(rotation=0, rectanglelabels=[f"[{region.id}]"]),
    )


def _said(label: Mapping) -> list[dict]:
    choice = dict(
        type="choices",
        from_name="accept",
        to_name="image",
        value=dict(choices=["accept" if label["accept"] else "reject"]),
    )
    return [
        choice,
        *(
            dict(type="number", from_name=name, to_name="image", value=dict(number=label[name]))
            for name in SCORES
        ),
    ]


def write_tasks(
    run_folder: str | Path,
    out: str | Path,
    image_prefix: str = LOCAL_FILES,
    number: int | None = None,
    seed: int = 0,
    labels: str | Path | None = None,
) -> tuple[int, Path]:
    """Write the first ``number`` triples (None: all) that a label file asks for
    (``label_sample.to_label``) as tasks to ``out``, and the labelling config beside it, as .xml.

    ``labels`` is a label file whose labels go along as annotations (one in the run's folder may be
    still to be made); unless the critic learns from it, tasks are those to measure with. Returns
    the number of tasks and the config's path. Raises ``ValueError`` where ``out`` does not end in
    .json, ``number`` is below 1, the label file is of other triples, a triple's image is not among
    the regions, or one of the two files is there and was not written here: an export with
    annotations, or an interface of your own.
    """
    out, run = Path(out), RunFolder(run_folder)
    if out.suffix != ".json":
        raise ValueError(f"--out is {out}, expected a file that ends in .json")
    if number is not None and number < 1:
        raise ValueError(f"--number is {number}, expected 1 or more")
    _check_ours(out)
    ids = run_triple_ids(run.folder)
    chosen = to_label(run.folder, labels, seed)[:number]
    triples = read_parquet(run.folder / "triples.parquet", TRIPLES)
    asked = triples.filter(pc.is_in(triples["triple_id"], pa.array(chosen, pa.string())))
    rows = {row["triple_id"]: row for row in asked.to_pylist()}
    of: dict[str, list[dict]] = {}
    begun = labels and (
        Path(labels).exists() or Path(labels).parent.resolve() != run.folder.resolve()
    )
    for label in read_labels(labels, with_gone(labels, ids)).to_pylist() if begun else ():
        of.setdefault(label["triple_id"], []).append(label)
    images = {
        i.image_id: i for i in located_images(read_parquet(run.folder / "regions.parquet", REGIONS))
    }
    if missing := next((t for t in chosen if rows[t]["image_id"] not in images), None):
        raise ValueError(
            f"triple {missing} is about image {rows[missing]['image_id']!r}, which"
            f" {run.folder / 'regions.parquet'} does not have"
        )
    tasks = [
        task(rows[t], images[rows[t]["image_id"]], image_prefix, of.get(t, ())) for t in chosen
    ]
    config = labelling_config(i for t in chosen for i in rows[t]["regions_offered"])
    for path, text in (
        (out, json.dumps(tasks, ensure_ascii=False, indent=1, allow_nan=False)),
        (out.with_suffix(".xml"), config),
    ):
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return len(tasks), out.with_suffix(".xml")


def _check_ours(out: Path) -> None:
    """Raise ``ValueError`` where a file of tasks, or the interface beside it, would replace one
    that ``write_tasks`` did not write as it is.
    """
    config = out.with_suffix(".xml")
    for path in (p for p in (out, config) if p.exists()):
        text = path.read_text(encoding="utf-8", errors="replace")
        if path == out:
            ours = text.startswith(TASKS)
        else:
            regions = map(int, re.findall(r'value="\[(\d{1,9})\]"', text))
            ours = text == labelling_config(regions)
        if not ours:
            raise ValueError(
                f"{path} is there and was not written by lskd labels export, or was changed since:"
                " move it, or name another file"
            )
