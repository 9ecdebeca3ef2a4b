"""Labelling in Label Studio: triples as its tasks, and its annotations back as labels.

A task is an image with its regions as rectangles, the three texts, a choice and two numbers;
``labelling_config`` is the interface for it. Boxes are given in per cent of the image, as Label
Studio wants them, and as *predictions*, so that they are on the picture when it is opened. What
annotators did comes back in its JSON export (not in JSON-MIN).
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree as ET

import numpy as np

from lskd_nb.critic.labels import (
    BY_PEOPLE,
    label_error,
    label_file,
    read_labels,
    run_triple_ids,
    shuffled,
)
from lskd_nb.records import REGIONS, REJECTS, TRIPLES, atomic_path, read_parquet, write_parquet
from lskd_nb.regions import LocatedImage, Region, highlight_colors, located_images
from lskd_nb.run_folder import RunFolder

# Label Studio's own file serving, LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT being the image root
LOCAL_FILES = "/data/local-files/?d="
SCORES = {
    "qa_score": "How good is the answer for the question? (0 to 1)",
    "rationale_score": "How well does the rationale support it? (0 to 1)",
}
TASKS = ("[]", '[\n {\n  "data": {\n   "image": ')  # how files of tasks begin that are written here
STARS = 5  # of a Rating that stands in place of a Number


def labelling_config(region_ids: Iterable[int]) -> str:
    """The XML of the labelling interface, with a rectangle label for each region id, in the
    colour that models see.
    """
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


# ---------------------------------------------------------------------------------------------- out


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
    boxes = dict(model_version="regions", result=[_rectangle(r, image) for r in offered])
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
    """Write ``number`` triples of a run (None: all), drawn by the seed, as tasks to ``out``, and
    the labelling config beside it, as .xml.

    ``labels`` is a label file whose labels go along as annotations. Returns the number of tasks and
    the config's path. Raises ``ValueError`` where ``out`` does not end in .json, ``number`` is
    below 1, the label file is of other triples, a triple's image is not among the regions, or one
    of the two files is there and was not written here: an export with annotations, or an interface
    of your own.
    """
    out, run = Path(out), RunFolder(run_folder)
    if out.suffix != ".json":
        raise ValueError(f"--out is {out}, expected a file that ends in .json")
    if number is not None and number < 1:
        raise ValueError(f"--number is {number}, expected 1 or more")
    _check_ours(out)
    ids = run_triple_ids(run.folder)
    chosen = shuffled(ids, seed)[:number]
    rows = {
        row["triple_id"]: row
        for row in read_parquet(run.folder / "triples.parquet", TRIPLES).to_pylist()
    }
    of: dict[str, list[dict]] = {}
    for label in read_labels(labels, ids).to_pylist() if labels else ():
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
        if not (
            text.startswith(TASKS)
            if path == out
            else text == labelling_config(map(int, re.findall(r'value="\[(\d{1,9})\]"', text)))
        ):
            raise ValueError(
                f"{path} is there and was not written by lskd labels export, or was changed since:"
                " move it, or name another file"
            )


# ----------------------------------------------------------------------------------------- and back


def read_export(
    path: str | Path, triple_ids: Iterable[str], names: Mapping[int, str] | None = None
) -> tuple[list[dict], list[dict]]:
    """LABELS rows of a JSON export, and REJECTS rows of the annotations that are no label, each
    with its reason.

    The annotator is who completed an annotation: the e-mail address, or the user's number as
    ``names`` has it, else as "user-7". Where somebody annotated a triple more than once, what was
    updated last counts (times without a zone are UTC; an annotation without a time is the oldest).
    Raises ``ValueError`` for a file that is no such export.
    """
    known, labels, rejects = set(triple_ids), [], []
    for number, item in enumerate(_tasks(path)):
        triple_id = item["data"].get("triple_id")
        for place, annotation in enumerate(item["annotations"]):
            told = annotation if isinstance(annotation, Mapping) else {}
            record = f"task {item.get('id', number)}, annotation {told.get('id', place)}"
            try:
                reason, detail, label = _label(triple_id, told, known, names or {})
            except RecursionError:
                reason, detail, label = "bad value", "nested too deeply", None
            if label is None:
                rejects.append(_reject(record, reason, detail))
            else:
                labels.append(
                    (_time(told.get("updated_at") or told.get("created_at")), record, label)
                )
    last: dict[tuple[str, str], tuple[str, dict]] = {}
    for _, record, label in sorted(labels, key=lambda found: found[0]):
        earlier = last.pop((label["triple_id"], label["annotator"]), None)
        if earlier:
            rejects.append(
                _reject(
                    earlier[0],
                    "annotated again",
                    f"{label['annotator']} annotated {label['triple_id']} later on",
                )
            )
        last[label["triple_id"], label["annotator"]] = record, label
    return [label for _, label in last.values()], rejects


def _tasks(path: str | Path) -> list[dict]:
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, list):
        raise ValueError(
            f"{path} holds a {type(found).__name__}, expected Label Studio's JSON export, a list of"
            " tasks"
        )
    for number, item in enumerate(found):
        if (
            not isinstance(item, Mapping)
            or not isinstance(item.get("data"), Mapping)
            or not isinstance(item.get("annotations"), list)
        ):
            raise ValueError(
                f"{path}, task {number}: expected an object with `data` and a list of"
                " `annotations`; export as JSON, not as JSON-MIN"
            )
    return found


def _time(told: object) -> datetime:
    """A time with its zone; the earliest there is where none is told."""
    try:
        time = datetime.fromisoformat(told) if isinstance(told, str) else datetime.min
    except ValueError:
        time = datetime.min
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _label(
    triple_id: object, annotation: Mapping, known: set[str], names: Mapping[int, str]
) -> tuple[str, str, dict | None]:
    """A label, or the reason why an annotation is none, with its detail."""
    if not isinstance(triple_id, str):
        return "no triple_id", f"the task's data has triple_id {triple_id!r}", None
    if triple_id not in known:
        return "unknown triple", f"{triple_id!r} is not of this run", None
    if annotation.get("was_cancelled"):
        return "cancelled", f"{triple_id} was skipped", None
    annotator = _annotator(annotation.get("completed_by"), names)
    if not annotator:
        return "no annotator", f"completed_by is {annotation.get('completed_by')!r}", None
    if not _is_text(annotator):
        return "bad value", f"the annotator is {annotator!r}, which is no text", None
    given = _given(annotation.get("result"))
    label = dict(
        triple_id=triple_id,
        annotator=annotator,
        accept=_decision(given.get("accept", {})),
        **{name: _score(given.get(name, {})) for name in SCORES},
    )
    missing = [name for name in ("accept", *SCORES) if label[name] is None]
    if missing:
        return "incomplete", f"{annotator} gave {triple_id} no {', no '.join(missing)}", None
    trouble = label_error(label)
    return (
        ("bad value", trouble, None)
        if trouble
        else ("", "", label | {name: float(label[name]) for name in SCORES})
    )


def _given(result: object) -> dict[str, Mapping]:
    """The value that each control of the interface was given."""
    found = [r for r in result if isinstance(r, Mapping)] if isinstance(result, list) else []
    return {
        r["from_name"]: r["value"]
        for r in found
        if isinstance(r.get("from_name"), str) and isinstance(r.get("value"), Mapping)
    }


def _decision(value: Mapping) -> bool | None:
    return {"['accept']": True, "['reject']": False}.get(repr(value.get("choices")))


def _annotator(who: object, names: Mapping[int, str]) -> str:
    if isinstance(who, Mapping):
        email = who.get("email")
        return (
            email.strip()
            if isinstance(email, str) and email.strip()
            else _annotator(who.get("id"), names)
        )
    return (
        names.get(who, f"user-{who}") if isinstance(who, int) and not isinstance(who, bool) else ""
    )


def _score(value: Mapping) -> object:
    """A Number as it is, or stars from 1 to STARS as 0 to 1."""
    stars, number = value.get("rating"), value.get("number")
    try:
        return (
            (stars - 1) / (STARS - 1)
            if isinstance(stars, int | float) and not isinstance(stars, bool)
            else _float_at_most(number)
        )
    except OverflowError:  # an integer of hundreds of digits
        return math.inf


def _float_at_most(number: object) -> object:
    """A number as it is. Raises ``OverflowError`` for an integer that is beyond any float."""
    if isinstance(number, int):
        float(number)
    return number


def _is_text(text: str) -> bool:
    """Whether a string can be written: JSON's escapes may name half a character."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


def _reject(record: str, reason: str, detail: str) -> dict:
    record, detail = (
        text.encode("utf-8", "backslashreplace").decode() for text in (record, detail)
    )
    return dict(stage="label studio", record=record, reason=reason, detail=detail)


@dataclass(frozen=True)
class Imported:
    """What became of an export's annotations; ``str()`` tells it."""

    labels: Path
    added: int
    there: int  # were in the file already, the same
    rejects: list[dict]  # REJECTS rows

    def __str__(self) -> str:
        reasons = ", ".join(
            f"{count:,} {reason}"
            for reason, count in Counter(r["reason"] for r in self.rejects).most_common()
        )
        return (
            f"{self.added:,} labels added to {self.labels}, {self.there:,} were there already,"
            f" {len(self.rejects):,} annotations left out"
            + (f" ({reasons}; see {_rejects_of(self.labels).name})" if reasons else "")
        )


def named_users(given: Sequence[str]) -> dict[int, str]:
    """Names of Label Studio's users from "7=ada". Raises ``ValueError`` for anything else."""
    names = {}
    for text in given:
        number, equals, name = text.partition("=")
        if not (number.isdecimal() and equals and name.strip()):
            raise ValueError(
                f"--user is {text!r}, expected a user's number in Label Studio and a name, as in"
                " 7=ada"
            )
        names[int(number)] = name.strip()
    return names


def import_labels(
    export: str | Path,
    run_folder: str | Path,
    labels: str | Path | None = None,
    names: Mapping[int, str] | None = None,
) -> Imported:
    """Add the labels of an export to a label file, by default the run's; what is left out is
    written beside it, as .rejects.parquet.

    A label that contradicts an earlier one of the same annotator is left out: the earlier one is to
    be taken back first.
    """
    run = RunFolder(run_folder)
    labels, ids = Path(labels or run.folder / BY_PEOPLE), run_triple_ids(run.folder)
    rows, rejects = read_export(export, ids, names)
    file = label_file(labels, ids)
    there = {(r["triple_id"], r["annotator"]): r for r in file.read().to_pylist()}
    new = [r for r in rows if (r["triple_id"], r["annotator"]) not in there]
    again = [
        (r, there[r["triple_id"], r["annotator"]])
        for r in rows
        if (r["triple_id"], r["annotator"]) in there
    ]
    contradicting = [r for r, old in again if not _same(r, old)]
    rejects += [
        _reject(r["triple_id"], "labelled otherwise before", f"by {r['annotator']}")
        for r in contradicting
    ]
    if new:
        file.add(*new)
    write_parquet(rejects, _rejects_of(labels), REJECTS)
    return Imported(labels, len(new), len(again) - len(contradicting), rejects)


def _rejects_of(labels: Path) -> Path:
    return labels.with_suffix(".rejects.parquet")


def _same(one: Mapping, other: Mapping) -> bool:
    return one["accept"] == other["accept"] and all(
        np.float32(one[name]) == np.float32(other[name]) for name in SCORES
    )
