"""VCR: questions about detections; answer choice (Q→A) and rationale choice (QA→R).

Reads ``{train,val,test}.jsonl`` and ``vcr1images/<movie>/*.{jpg,json}`` as published
(visualcommonsense.com). Token lists mention detections by their index in the metadata's boxes,
which is the id of the region here: ``[0, 1]`` is "[0, 1]".
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from lskd_nb.regions import LocatedImage, Region, tokens_to_text
from lskd_nb.sources import (
    BadRecord,
    MultipleChoice,
    Rejected,
    below,
    box_inside,
    choice_of,
    finite,
    list_of,
    read_json,
    read_jsonl,
    scaled_to,
    size_of,
    stored_size,
    text_of,
)

SOURCE = "vcr"
SPLITS = ("train", "val", "test")
QUESTION_WORDS = ("why", "what", "how", "where", "who", "when", "which")


@dataclass(frozen=True)
class VcrQuestion:
    """One VCR item; texts mention regions as "[0]". Labels are None in the test split.

    ``swap`` and ``rationale_swap`` name the wrong choice that is made of another region's truth,
    where a file says so (keys ``lskd_swap``, ``lskd_rationale_swap``; the published files do not).
    ``typical`` names the wrong answer that the teacher takes for the typical one there
    (``lskd_typical``), None where the right answer is that, or no file says.
    """

    annot_id: str
    img_id: str
    image: LocatedImage
    question: str
    answer_choices: tuple[str, ...]
    answer_label: int | None
    rationale_choices: tuple[str, ...]
    rationale_label: int | None
    slice: str  # lskd_type where a file has it, else the question word
    swap: int | None = None
    rationale_swap: int | None = None
    typical: int | None = None


def read_vcr(
    folder: str | Path, split: str, limit: int | None = None, counts: Counter | None = None
) -> tuple[list[VcrQuestion], list[Rejected]]:
    """Questions of a split (the first ``limit`` rows), located, and what was left out.

    ``counts``, where given, learns how many boxes were cut to their image (``clamped``) and of how
    many stills the boxes were scaled (``scaled``).

    Every detection is a region (xyxy pixels, cut to the image, with its score); image paths are
    relative to ``folder``. Rejected: rows whose image or metadata is missing or damaged, whose
    objects are not the metadata's, that mention an unknown detection or one without area, whose
    choices are not four, whose label disagrees with ``match_iter`` or is named as a wrong choice;
    and detections without area or name, of which the rest of the still is kept. Raises
    ``ValueError`` for an unknown split; ``FileNotFoundError`` or ``ValueError`` naming a missing or
    damaged file.
    """
    if split not in SPLITS:
        raise ValueError(f"split: {split!r} is none of {SPLITS}")
    folder = Path(folder)
    images: dict[tuple[str, str], tuple[LocatedImage, list[str]] | BadRecord] = {}
    questions, rejects = [], []
    for number, row in enumerate(read_jsonl(folder / f"{split}.jsonl")[:limit], 1):
        name = f"{split}.jsonl, {row.get('annot_id') or f'row {number}'}"
        try:
            key = (text_of(row, "img_fn"), text_of(row, "metadata_fn"))
            if key not in images:
                images[key], bad, changed = read_vcr_image(
                    folder, *key, text_of(row, "img_id"), split
                )
                rejects += bad
                if counts is not None:
                    counts.update(changed)
            found = images[key]
            if isinstance(found, BadRecord):
                raise found
            questions.append(_question(row, *found))
        except BadRecord as error:
            rejects.append(error.of(name))
    return questions, rejects


def images_of(questions: Iterable[VcrQuestion]) -> list[LocatedImage]:
    """Each image once, in order of appearance."""
    return list({q.image.image_id: q.image for q in questions}.values())


def q_a(question: VcrQuestion) -> MultipleChoice:
    """Q→A: which answer."""
    return MultipleChoice(
        question.annot_id,
        question.image,
        question.question,
        question.answer_choices,
        question.answer_label,
        "vcr.q_a",
        question.slice,
    )


def qa_r(question: VcrQuestion, answer: int | None = None) -> MultipleChoice:
    """QA→R: which rationale, given the right answer; or given ``answer``, as the test split asks
    for each of the four.

    The item has the id of its ``q_a``, with the answer's index appended where one is given.
    """
    given = question.answer_label if answer is None else answer
    if given is None:
        raise ValueError(
            f"{question.annot_id} has no answer label: say which answer the rationale is for"
        )
    text = f"{question.question} Answer: {question.answer_choices[given]}"
    item_id = question.annot_id if answer is None else f"{question.annot_id}/{answer}"
    return MultipleChoice(
        item_id,
        question.image,
        text,
        question.rationale_choices,
        question.rationale_label,
        "vcr.qa_r",
        question.slice,
    )


# ------------------------------------------------------------------------------------------- images


def read_vcr_image(
    folder: Path, img_fn: str, metadata_fn: str, image_id: str, split: str, check: bool = True
) -> tuple[tuple[LocatedImage, list] | BadRecord, list[Rejected], Counter]:
    """One still: the located image, the names of all detections (whose index is the region's id).

    Where they can't be read, what is wrong with them instead; then the detections without area or
    name, which have no region, and how many boxes were cut to the image (``clamped``) and whether
    all of them were scaled (``scaled``). ``check`` decodes the picture and compares its size;
    without, it may be absent.
    """
    counts: Counter = Counter()
    try:
        path = _under_images(img_fn)
        file = _field("img_fn", below, folder, path)
        metadata = read_json(_field("metadata_fn", below, folder, _under_images(metadata_fn)))
        if not isinstance(metadata, dict):
            raise BadRecord(
                "damaged metadata",
                f"{metadata_fn}: expected an object, found {type(metadata).__name__}",
            )
        width, height = size_of(metadata)
        size = _field("img_fn", stored_size, file, width, height) if check else (width, height)
        names, boxes = list_of(metadata, "names"), list_of(metadata, "boxes")
        if len(names) != len(boxes):
            raise BadRecord(
                "damaged metadata", f"{metadata_fn}: {len(names)} names, {len(boxes)} boxes"
            )
        regions, bad = [], []
        for index, (label, box) in enumerate(zip(names, boxes, strict=True)):
            try:
                regions.append(_region(index, label, box, width, height))
                counts["clamped"] += regions[-1].box != tuple(box[:4])
            except BadRecord as error:
                bad.append(error.of(f"{metadata_fn}, box {index}"))
        image = LocatedImage(image_id, path, width, height, tuple(regions), SOURCE, split)
        counts["scaled"] += size != (width, height)
        return (scaled_to(image, size), names), bad, counts
    except FileNotFoundError as error:
        return BadRecord("missing metadata", f"metadata_fn: {error}"), [], counts
    except BadRecord as error:
        return error, [], counts
    except ValueError as error:
        return BadRecord("damaged metadata", f"metadata_fn: {error}"), [], counts


def _field(name: str, look: Callable, *arguments: object) -> object:
    """What ``look`` finds; a ``BadRecord`` of it names the field."""
    try:
        return look(*arguments)
    except BadRecord as error:
        raise BadRecord(error.reason, f"{name}: {error.detail}") from error


def _under_images(name: str) -> str:
    return name if name.startswith("vcr1images/") else f"vcr1images/{name}"


def _region(index: int, label: object, box: object, width: int, height: int) -> Region:
    """A detection: x1, y1, x2, y2 and mostly a score."""
    if not isinstance(label, str):
        raise BadRecord("bad text", f"its entry in names is {label!r}, expected a text")
    if not isinstance(box, list) or len(box) not in (4, 5):
        raise BadRecord("bad number", f"box {box!r}, expected x1, y1, x2, y2 and a score")
    values = [finite(v, "box") for v in box]
    return Region(
        index, box_inside(values[:4], width, height), label, values[4] if len(values) == 5 else None
    )


# --------------------------------------------------------------------------------------------- rows


def _question(row: dict, image: LocatedImage, names: list) -> VcrQuestion:
    objects = list_of(row, "objects")
    if objects != names:
        raise BadRecord("objects differ", f"the row has {objects}, the metadata {names}")
    known = {r.id for r in image.regions}
    answers, rationales = (
        tuple(_text(t, known) for t in _four(row, key))
        for key in ("answer_choices", "rationale_choices")
    )
    question = _text(list_of(row, "question"), known)
    word = question.split()[0].lower()
    return VcrQuestion(
        text_of(row, "annot_id"),
        image.image_id,
        image,
        question,
        answers,
        _label(row, "answer"),
        rationales,
        _label(row, "rationale"),
        str(row.get("lskd_type") or (word if word in QUESTION_WORDS else "other")),
        _wrong_choice(row, "lskd_swap", "answer"),
        _wrong_choice(row, "lskd_rationale_swap", "rationale"),
        _wrong_choice(row, "lskd_typical", "answer"),
    )


def _text(tokens: object, known: set[int]) -> str:
    """Tokens as text. Raises ``BadRecord`` for a mention of no known region."""
    if not isinstance(tokens, list) or not tokens:
        raise BadRecord("bad tokens", f"{tokens!r}, expected words and lists of detections")
    for token in tokens:
        if isinstance(token, str):
            continue
        if not isinstance(token, list) or not token or not all(type(i) is int for i in token):
            raise BadRecord("bad tokens", f"{token!r} in {json.dumps(tokens)}")
        missing = [i for i in token if i not in known]
        if missing:
            raise BadRecord(
                "unknown region",
                f"{missing[0]} in {json.dumps(tokens)}, the image has {sorted(known)}",
            )
    return tokens_to_text(tokens)


def _four(row: dict, key: str) -> list:
    choices = list_of(row, key)
    if len(choices) != 4:
        raise BadRecord("not four choices", f"{key} has {len(choices)}")
    return choices


def _label(row: dict, part: str) -> int | None:
    """The label of answer or rationale; its ``match_iter`` is 0, as the set's authors define it."""
    label, origin = choice_of(row, f"{part}_label"), row.get(f"{part}_match_iter")
    if (
        label is not None
        and origin is not None
        and (not isinstance(origin, list) or len(origin) != 4 or origin[label] != 0)
    ):
        raise BadRecord("label disagrees", f"{part}_label is {label}, {part}_match_iter {origin!r}")
    return label


def _wrong_choice(row: dict, key: str, part: str) -> int | None:
    """Which wrong choice a key of our own names. Raises ``BadRecord`` where it is the right one."""
    choice = choice_of(row, key)
    if choice is not None and choice == row.get(f"{part}_label"):
        raise BadRecord("label disagrees", f"{key} is {choice}, the index of the right {part}")
    return choice


def read_vcr_images(
    folder: str | Path,
    split: str,
    image_root: str | Path | None = None,
    limit: int | None = None,
    check_images: bool = True,
) -> tuple[list[LocatedImage], list[Rejected]]:
    """The images of a split, each once, with every detection as a region, and what was left out.

    No question is read, so that the file may be of any size: one line is held at a time. ``limit``
    reads the first images only. Metadata and stills lie below ``image_root`` (default:
    ``folder``), in vcr1images. Rejected: rows that name no image, images that are missing, damaged
    or of another size than their metadata say, and boxes of no area. Raises ``ValueError`` for an
    unknown split, or naming file and line of what is no JSON object; ``FileNotFoundError``.
    """
    if split not in SPLITS:
        raise ValueError(f"split: {split!r} is none of {SPLITS}")
    path, root = Path(folder) / f"{split}.jsonl", Path(image_root or folder)
    seen: set[str] = set()
    images, rejects = [], []
    for number, row in _rows_of(path):
        try:
            told = [text_of(row, name) for name in ("img_fn", "metadata_fn", "img_id")]
            if told[0] in seen:
                continue
            if limit is not None and len(seen) == limit:
                break
            seen.add(told[0])
            found, bad, _ = read_vcr_image(root, *told, split, check_images)
            rejects += bad
            if isinstance(found, BadRecord):
                raise found
            images.append(found[0])
        except BadRecord as error:
            rejects.append(error.of(f"{path.name}, row {number}"))
    return images, rejects


def _rows_of(path: Path) -> Iterable[tuple[int, dict]]:
    """Line number and object, one after the other."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; expected one of the data set's own files")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    row = json.loads(line)  # of bytes: a byte order mark is passed over
                except (ValueError, RecursionError) as error:
                    raise ValueError(f"{path}, line {number}: not valid JSON ({error})") from error
                if not isinstance(row, dict):
                    found = type(row).__name__
                    raise ValueError(f"{path}, line {number}: expected an object, found {found}")
                yield number, row
