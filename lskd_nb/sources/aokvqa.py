"""A-OKVQA: questions that need knowledge of the world; four choices, and ten people's answers.

Reads ``aokvqa_v1p0_{train,val,test}.json`` (github.com/allenai/aokvqa, Apache-2.0); the pictures
are COCO's of 2017, ``{split}2017/<12-digit id>.jpg``. There are no boxes. The test file lacks the
right choice, the answers and the rationales. A choice may be empty, as it is in a few real rows.
"""

from dataclasses import dataclass
from pathlib import Path

from lskd_nb.regions import LocatedImage
from lskd_nb.sources import (
    BadRecord,
    MultipleChoice,
    Rejected,
    below,
    choice_of,
    first_of,
    image_size,
    list_of,
    name_of,
    read_records,
    text_of,
    texts_of,
)
from lskd_nb.sources.vcr import QUESTION_WORDS

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class AokvqaQuestion:
    """The multiple-choice item, and what the direct-answer setting asks for.

    Answers and rationales are () in test.

    Choices and answers are as in the file: the official score compares them letter by letter. Two
    choices may be equal.
    """

    item: MultipleChoice
    direct_answers: tuple[str, ...]
    difficult_direct_answer: bool  # such questions are left out of the direct-answer setting
    rationales: tuple[str, ...]


def read_aokvqa(
    folder: str | Path,
    split: str,
    image_root: str | Path | None = None,
    check_images: bool = True,
    limit: int | None = None,
) -> tuple[list[AokvqaQuestion], list[Rejected]]:
    """Questions of a split (the first ``limit``), and what was left out.

    Pictures are below ``image_root`` (default: ``folder``). The files don't say how large they are:
    without ``check_images`` they may be absent, and are 0 x 0 pixels here. Rejected: questions that
    lack a field or hold another type, a label that is none of the choices, pictures missing or
    damaged; and answers and rationales that are no text, whose question is kept. Raises
    ``ValueError`` for an unknown split, ``FileNotFoundError`` or ``ValueError`` naming a missing or
    damaged file.
    """
    if split not in SPLITS:
        raise ValueError(f"split: {split!r} is none of {SPLITS}")
    path, root = Path(folder) / f"aokvqa_v1p0_{split}.json", Path(image_root or folder)
    questions, rejects = [], []
    for number, row in enumerate(read_records(path)[:limit]):
        try:
            question, bad = _question(row, split, root if check_images else None)
            questions.append(question)
        except BadRecord as error:
            bad = [error]
        rejects += [error.of(f"{path.name}, element {number}") for error in bad]
    return questions, rejects


def _question(row: dict, split: str, root: Path | None) -> tuple[AokvqaQuestion, list[BadRecord]]:
    """The question, and what is wrong with some of its answers and rationales."""
    if row.get("split", split) != split:
        raise BadRecord("another split", f"split is {row['split']!r}, expected {split!r}")
    hidden = split == "test"
    question = text_of(row, "question")
    choices = texts_of(row, "choices")
    label = choice_of(row, "correct_choice_idx")
    if len(choices) != 4:
        raise BadRecord("not four choices", f"choices is {choices!r}, expected four texts")
    if label is None and not hidden:
        raise BadRecord("missing field", f"none of correct_choice_idx in {sorted(row)}")
    answers, bad = _texts(row, "direct_answers", optional=hidden)
    if not answers and not hidden:
        raise bad[0] if bad else BadRecord("bad list", "direct_answers is empty, expected texts")
    rationales, more = _texts(row, "rationales", optional=True)
    difficult = row.get("difficult_direct_answer", False if hidden else None)
    if not isinstance(difficult, bool):
        raise BadRecord(
            "bad truth value", f"difficult_direct_answer is {difficult!r}, expected true or false"
        )
    word = question.split()[0].lower()
    item = MultipleChoice(
        name_of(row, "question_id"),
        _image(row, split, root),
        question,
        tuple(choices),
        label,
        "aokvqa",
        word if word in QUESTION_WORDS else "other",
    )
    return AokvqaQuestion(item, answers, difficult, rationales), bad + more


def _texts(row: dict, name: str, optional: bool) -> tuple[tuple[str, ...], list[BadRecord]]:
    """The texts of a list, and what is wrong with others; none where an optional list is absent."""
    if optional and row.get(name) is None:
        return (), []
    values = list_of(row, name)
    bad = [
        BadRecord("bad text", f"{name}[{place}] is {value!r}, expected a text")
        for place, value in enumerate(values)
        if not isinstance(value, str)
    ]
    return tuple(v for v in values if isinstance(v, str)), bad


def _image(row: dict, split: str, root: Path | None) -> LocatedImage:
    image_id = first_of(row, "image_id")
    if type(image_id) is not int or not 0 <= image_id < 10**12:
        raise BadRecord(
            "bad image id", f"image_id is {image_id!r}, expected a number of at most 12 digits"
        )
    path = f"{split}2017/{image_id:012}.jpg"
    size = image_size(below(root, path)) if root else (0, 0)
    return LocatedImage(str(image_id), path, *size, (), "aokvqa", split)
