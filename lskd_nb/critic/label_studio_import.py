"""Labels back from Label Studio: what annotators did there, as rows of records.LABELS.

They come in its JSON export (not in JSON-MIN) of the tasks that ``label_studio`` wrote.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from lskd_nb.critic.label_studio import SCORES
from lskd_nb.critic.labels import BY_PEOPLE, label_error, label_file, run_triple_ids, with_gone
from lskd_nb.records import REJECTS, write_parquet
from lskd_nb.run_folder import RunFolder

STARS = 5  # of a Rating that stands in place of a Number


def read_export(
    path: str | Path, triple_ids: Iterable[str], names: Mapping[int, str] | None = None
) -> tuple[list[dict], list[dict]]:
    """LABELS rows of a JSON export, and REJECTS rows of annotations that are no label.

    Drafts, which nobody has submitted, are rejects too, and tasks that nobody has annotated. The
    annotator is who completed an annotation: the e-mail address, or the user's number as ``names``
    has it, else as "user-7". Where somebody annotated a triple more than once, what was
    updated last counts (times without a zone are UTC; an annotation without a time is the oldest).
    Raises ``ValueError`` for a file that is no such export.
    """
    known, labels, rejects = set(triple_ids), [], []
    for number, item in enumerate(_tasks(path)):
        triple_id = item["data"].get("triple_id")
        rejects += _unsubmitted(item, f"task {item.get('id', number)}", names or {})
        for place, annotation in enumerate(item.get("annotations") or []):
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
            f"{path} holds a {type(found).__name__},"
            " expected Label Studio's JSON export, a list of tasks"
        )
    for number, item in enumerate(found):
        if not _is_task(item):
            raise ValueError(
                f"{path}, task {number}: expected an object with `data` and a list of"
                " `annotations`; export as JSON, not as JSON-MIN"
            )
    return found


def _is_task(item: object) -> bool:
    if not isinstance(item, Mapping) or not isinstance(item.get("data"), Mapping):
        return False
    annotations = item.get("annotations")
    return isinstance(annotations, list) or (annotations is None and bool(_drafts(item)))


def _drafts(item: Mapping) -> list:
    drafts = item.get("drafts")
    return drafts if isinstance(drafts, list) else []


def _unsubmitted(item: Mapping, record: str, names: Mapping[int, str]) -> list[dict]:
    """Rejects of a task: each of its drafts, or that there is nothing at all."""
    triple_id = item["data"].get("triple_id")
    found = []
    for place, draft in enumerate(_drafts(item)):
        told = draft if isinstance(draft, Mapping) else {}
        user = told.get("user")  # an e-mail address, or as in annotations
        who = user if isinstance(user, str) else _annotator(user, names)
        postponed = " and postponed" if told.get("was_postponed") else ""
        detail = f"{triple_id} was drafted by {who or 'somebody'}{postponed}, and not submitted"
        found.append(_reject(f"{record}, draft {told.get('id', place)}", "draft", detail))
    if not found and not item.get("annotations"):
        found = [_reject(record, "not annotated", f"{triple_id} has neither annotation nor draft")]
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
    if trouble:
        return ("bad value", trouble, None)
    return ("", "", label | {name: float(label[name]) for name in SCORES})


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
        if isinstance(email, str) and email.strip():
            return email.strip()
        return _annotator(who.get("id"), names)
    return (
        names.get(who, f"user-{who}") if isinstance(who, int) and not isinstance(who, bool) else ""
    )


def _score(value: Mapping) -> object:
    """A Number as it is, or stars from 1 to STARS as 0 to 1."""
    stars, number = value.get("rating"), value.get("number")
    try:
        if isinstance(stars, int | float) and not isinstance(stars, bool):
            return (stars - 1) / (STARS - 1)
        return _float_at_most(number)
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
                f"--user is {text!r}, expected a user's number in Label"
                " Studio and a name, as in 7=ada"
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
    file = label_file(labels, with_gone(labels, ids))
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
