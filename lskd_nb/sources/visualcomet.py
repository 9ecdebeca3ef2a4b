"""VisualCOMET: what people in a picture want, what was before, what comes after; and Acc@50.

Reads ``{train,val,test}_annots.json`` (github.com/jamespark3922/visual-comet) with VCR's stills and
metadata, under VCR's licence. Texts name people by bare digits, 1-based into VCR's objects: "2
greets 1" is "[1] greets [0]" here. A digit is a mention where the authors' tokenizer makes it a
word of its own and VCR has a person of that number; any other stays a digit, for it is a quantity
("5 minutes"). A quantity that happens to be a person's number can't be told from a mention. Written
after the authors' published record and code, and tried on files of that form; not run on the real
ones.
"""

import hashlib
import json
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lskd_nb.records import atomic_path
from lskd_nb.regions import LocatedImage
from lskd_nb.sources import (
    BadRecord,
    MultipleChoice,
    Rejected,
    good_texts,
    read_json,
    read_records,
    text_of,
)
from lskd_nb.sources.vcr import read_vcr_image

SOURCE = "visualcomet"
SPLITS = ("train", "val", "test")
# with an older spelling
RELATIONS = {"intent": ("intent", "xIntent"), "before": ("before",), "after": ("after",)}
_DIGITS = re.compile(r"(?<![^\s,])([1-9]\d{0,3})(?=[\s,'?]|\.(?!\d)|$)", re.ASCII)


@dataclass(frozen=True)
class Unit:
    """One (picture, event, relation) and what people inferred: what is generated and retrieved.

    Texts mention regions as "[0]". ``gold_indices`` are the places of ``gold`` in
    ``flat_inferences``; both are () in test.
    """

    unit_id: str
    image: LocatedImage
    place: str
    event: str
    relation: str
    gold: tuple[str, ...]
    gold_indices: tuple[int, ...]


@dataclass(frozen=True)
class Inference:
    """One inference as the file has it, people as bare digits, and the unit it belongs to."""

    unit_id: str
    text: str


@dataclass(frozen=True)
class Candidates:
    """Which inferences each unit ranks: indices into ``flat_inferences``, its own among them.

    ``seed`` is None where the set's authors drew them; ``annotations`` is the SHA-256 of the file
    that the indices are of.
    """

    annotations: str
    seed: int | None
    indices: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Ranking:
    """A unit's retrieval: ``item.choices`` are the candidates (``item.label`` is None), ``gold``
    says which are its own.
    """

    item: MultipleChoice
    gold: tuple[bool, ...]


def read_visualcomet(
    folder: str | Path,
    split: str,
    vcr_folder: str | Path,
    check_images: bool = True,
    limit: int | None = None,
    counts: Counter | None = None,
) -> tuple[list[Unit], list[Rejected], int]:
    """Units of a split's first ``limit`` records, what was left out, how many boxes were cut.

    A record has one unit for each relation it says something of; in test, where it says nothing,
    one for each of the three. Records of the same picture and event are one unit with all their
    inferences, as in the authors' retrieval. Stills and metadata are below
    ``vcr_folder``/vcr1images; the stills may be absent without ``check_images``. ``counts``, where
    given, learns of how many stills the boxes were scaled (``scaled``). Rejected: records that lack
    a field or hold another type, whose still or metadata is missing or damaged; relations that name
    a person whose box has no area; and inferences that are no text. What else a record says is
    kept. Raises ``ValueError`` for an unknown split, ``FileNotFoundError`` or ``ValueError`` naming
    a file.
    """
    if split not in SPLITS:
        raise ValueError(f"split: {split!r} is none of {SPLITS}")
    path = Path(folder) / f"{split}_annots.json"
    records = read_records(path)
    pool = _flatten(records)
    stills: dict[tuple[str, str], tuple[LocatedImage, list[str]] | BadRecord] = {}
    units: dict[str, Unit] = {}
    own = _by_unit(pool)
    rejects, changed = [], Counter()
    for number, record in enumerate(records[:limit]):
        name = f"{path.name}, element {number}"
        try:
            said, bad_parts = _relations(record)
            key = (text_of(record, "img_fn"), text_of(record, "metadata_fn"))
            if key not in stills:
                image_id = key[0].removesuffix(".jpg")
                stills[key], bad, cut = read_vcr_image(
                    Path(vcr_folder), *key, image_id, split, check_images
                )
                rejects += bad
                changed.update(cut)
            still = stills[key]
            if isinstance(still, BadRecord):
                raise still
            _check_people(record, ("event", "place"), *still)
            for relation in RELATIONS if split == "test" else said:
                try:
                    unit = _unit(record, relation, *still, pool, own)
                    units.setdefault(unit.unit_id, unit)
                except BadRecord as error:
                    bad_parts.append(error)
        except BadRecord as error:
            rejects.append(error.of(name))
        else:
            rejects += [error.of(name) for error in bad_parts]
    if counts is not None:
        counts.update(changed)
    return list(units.values()), rejects, changed["clamped"]


def flat_inferences(folder: str | Path, split: str = "val") -> list[Inference]:
    """Every inference of a split in the file's order: the list that candidates are indices into.

    Those of pictures that can't be read are in it as well; what is no text keeps its place, blank
    and of no unit.
    """
    return _flatten(read_records(Path(folder) / f"{split}_annots.json"))


def with_mentions(text: str, people: Set[int]) -> str:
    """Bare 1-based digits as mentions, where there is such a person (0-based ids).

    >>> with_mentions("1's dog, 5 m away from 2", {0, 1})
    "[0]'s dog, 5 m away from [1]"
    """
    return _DIGITS.sub(lambda m: f"[{int(m[1]) - 1}]" if int(m[1]) - 1 in people else m[0], text)


# --------------------------------------------------------------------------------------- candidates


def draw_candidates(
    folder: str | Path, split: str = "val", number: int = 50, seed: int = 0
) -> Candidates:
    """For each unit its own inferences, filled up to ``number`` with others of the split.

    The authors' rule ("random_50"), which draws by Python's unseeded generator; here a unit's draw
    depends on ``seed`` and its id alone. Fewer where the split has not so many. Indices ascend, so
    their order doesn't tell which are right.
    """
    if number < 2:
        raise ValueError(f"number: {number}, expected 2 or more candidates")
    pool = flat_inferences(folder, split)
    indices = {}
    for unit_id, own in _by_unit(pool).items():
        rng = np.random.default_rng([seed, zlib.crc32(unit_id.encode("utf-8", "surrogatepass"))])
        drawn = rng.choice(len(pool), size=min(number, len(pool)), replace=False, shuffle=True)
        others = [int(i) for i in drawn if i not in own and pool[i].text][
            : max(number - len(own), 0)
        ]
        indices[unit_id] = tuple(sorted([*own, *others]))
    return Candidates(_sha256(Path(folder), split), seed, indices)


def write_candidates(candidates: Candidates, path: str | Path) -> None:
    """Record candidate sets as JSON, so that every model ranks the same."""
    content = dict(
        annotations=candidates.annotations, seed=candidates.seed, units=candidates.indices
    )
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def read_candidates(path: str | Path, folder: str | Path, split: str = "val") -> Candidates:
    """Candidate sets: a file of ``write_candidates``, or the authors' ``val_rank_random_50.json``.

    Raises ``ValueError`` naming file and unit where they were drawn from other annotations than
    those in ``folder``, an index is out of range or repeated, or a unit's own inferences are
    missing. The authors' file has no hash: its units and texts must be those of the annotations.
    """
    content = read_json(path)
    pool = flat_inferences(folder, split)
    digest = _sha256(Path(folder), split)
    if isinstance(content, dict) and isinstance(content.get("results"), list):
        seed, units = None, _released(content["results"], pool, path)
    elif isinstance(content, dict) and isinstance(content.get("units"), dict):
        seed, units = content.get("seed"), content["units"]
        if content.get("annotations") != digest:
            raise ValueError(
                f"{path}: drawn from other annotations than"
                f" {Path(folder) / f'{split}_annots.json'} (the hashes differ)"
            )
    else:
        raise ValueError(
            f"{path}: expected an object with units,"
            " or with results as the set's authors published them"
        )
    own = _by_unit(pool)
    for unit_id, indices in units.items():
        if not isinstance(indices, list) or not all(
            type(i) is int and 0 <= i < len(pool) for i in indices
        ):
            raise ValueError(f"{path}, {unit_id}: expected indices from 0 to {len(pool) - 1}")
        if (
            len(set(indices)) < len(indices)
            or unit_id not in own
            or not set(own[unit_id]) <= set(indices)
        ):
            raise ValueError(
                f"{path}, {unit_id}: expected different indices,"
                " the unit's own inferences among them"
            )
    return Candidates(digest, seed, {unit_id: tuple(indices) for unit_id, indices in units.items()})


def rankings(
    units: Iterable[Unit], candidates: Candidates, pool: Sequence[Inference]
) -> list[Ranking]:
    """The retrieval of each unit.

    Candidates keep their digits' meaning by number: "1" is the query's person 1.

    Raises ``ValueError`` naming a unit without candidates.
    """
    found = []
    for unit in units:
        if unit.unit_id not in candidates.indices:
            raise ValueError(
                f"unit {unit.unit_id!r} has no candidates: they were drawn for other annotations"
            )
        indices, people = candidates.indices[unit.unit_id], _people(unit.image)
        texts = tuple(with_mentions(pool[i].text, people) for i in indices)
        question = f"{unit.event.rstrip('.')}, {unit.place.rstrip('.')}."
        item = MultipleChoice(
            unit.unit_id, unit.image, question, texts, None, "visualcomet", unit.relation
        )
        found.append(Ranking(item, tuple(i in unit.gold_indices for i in indices)))
    return found


def _released(results: list, pool: Sequence[Inference], path: str | Path) -> dict[str, list]:
    units: dict[str, list] = {}
    for number, result in enumerate(results):
        try:
            if not isinstance(result, dict):
                raise BadRecord("bad record", f"{result!r}, expected an object")
            unit_id = _unit_id(result, text_of(result, "inference_relation"))
            indices = result.get("inference_candidate_indices")
            first = indices[0] if isinstance(indices, list) and indices else None
            if type(first) is not int or not 0 <= first < len(pool):
                raise BadRecord(
                    "bad list",
                    f"inference_candidate_indices starts with {first!r},"
                    f" expected an index below {len(pool)}",
                )
            if pool[first] != Inference(unit_id, text_of(result, "inference_text")):
                raise BadRecord(
                    "texts differ",
                    f"inference_text is {result['inference_text']!r},"
                    f" the annotations have {pool[first]}",
                )
            units[unit_id] = indices
        except BadRecord as error:
            raise ValueError(f"{path}, results, element {number}: {error}") from error
    return units


# ------------------------------------------------------------------------------------------ records


def _sha256(folder: Path, split: str) -> str:
    return hashlib.sha256((folder / f"{split}_annots.json").read_bytes()).hexdigest()


def _unit_id(record: dict, relation: str) -> str:
    return f"{text_of(record, 'img_fn')}|{text_of(record, 'event')}|{relation}"


def _relations(record: dict) -> tuple[list[str], list[BadRecord]]:
    """The relations that a record says something of, and what of it is no text."""
    said, bad = [], []
    for relation, names in RELATIONS.items():
        if any(record.get(name) is not None for name in names):
            try:
                texts, wrong = good_texts(record, *names)
            except BadRecord as error:
                texts, wrong = [], [error]
            said += [relation] if texts else []
            bad += wrong
    return said, bad


def _flatten(records: Iterable[dict]) -> list[Inference]:
    pool = []
    for record in records:
        for relation, names in RELATIONS.items():
            texts = next((record[name] for name in names if record.get(name) is not None), [])
            for text in texts if isinstance(texts, list) else []:
                try:
                    pool.append(
                        Inference(_unit_id(record, relation), text_of({relation: text}, relation))
                    )
                except BadRecord:
                    # the reader of units rejects the record; the others' indices must stay
                    pool.append(Inference("", ""))
    return pool


def _by_unit(pool: Sequence[Inference]) -> dict[str, list[int]]:
    own: dict[str, list[int]] = defaultdict(list)
    for index, inference in enumerate(pool):
        if inference.text:
            own[inference.unit_id].append(index)
    return dict(own)


def _people(image: LocatedImage) -> set[int]:
    return {r.id for r in image.regions if r.label == "person"}


def _check_people(
    texts: Mapping[str, object], fields: Iterable[str], image: LocatedImage, names: Sequence
) -> None:
    """Raise ``BadRecord`` where a text names a person of whom there is no region."""
    lost = {i for i, name in enumerate(names) if name == "person"} - _people(image)
    for field in fields:
        text = text_of(texts, field)
        if lost & {int(d) - 1 for d in _DIGITS.findall(text)}:
            raise BadRecord(
                "unknown region", f"{field}: {text!r} names a person whose box has no area"
            )


def _unit(
    record: dict,
    relation: str,
    image: LocatedImage,
    names: Sequence,
    pool: Sequence[Inference],
    own: Mapping[str, list[int]],
) -> Unit:
    unit_id = _unit_id(record, relation)
    indices = tuple(own.get(unit_id, ()))
    gold = [pool[i].text for i in indices]
    for text in gold:
        _check_people({relation: text}, (relation,), image, names)
    people = _people(image)
    event, place, *gold = (
        with_mentions(text, people)
        for text in (text_of(record, "event"), text_of(record, "place"), *gold)
    )
    return Unit(unit_id, image, place, event, relation, tuple(gold), indices)
