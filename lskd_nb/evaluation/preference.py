"""Human preference between two systems' answers to the same pointed questions (LSKD, section 4.3).

Two answers stand side by side, and an annotator says which is better, or that they tie. The
annotation file is *blinded*: which system is on which side is drawn for each pair, pairs are in
random order, answers are laid out alike, and the key is a file of its own that no annotator is
given. Judgements go to a third file, one row for each pair and annotator, which the widget writes
and anything else may. Win, tie and lose percentages have 95% bootstrap intervals over images; how
far annotators agree is Krippendorff's alpha.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lskd_nb.critic.agreement import JudgementFile, krippendorff_alpha
from lskd_nb.evaluation.choices import bootstrap
from lskd_nb.records import CORPUS, REGION, read_parquet, write_parquet
from lskd_nb.regions import LocatedImage, mentions, renumber
from lskd_nb.run_folder import RunFolder, imported_from
from lskd_nb.students.views import View

CHOICES = ("left", "tie", "right")
OUTCOMES = ("win", "tie", "lose")
QUESTION_FIELDS = [
    ("image_id", pa.string()),
    ("image", pa.string()),  # path relative to the image root
    ("regions", pa.list_(REGION)),  # drawn on it
    ("question", pa.string()),
]
ANSWERS = pa.schema(
    [
        ("question_id", pa.string()),
        *QUESTION_FIELDS,
        ("system", pa.string()),
        ("answer", pa.string()),
        ("rationale", pa.string()),
    ]
)
PAIRS = pa.schema(  # what annotators are given
    [
        ("pair_id", pa.string()),
        *QUESTION_FIELDS,
        *(
            (f"{side}_{part}", pa.string())
            for side in ("left", "right")
            for part in ("answer", "rationale")
        ),
    ]
)
# left and right are systems; kept from annotators
KEY = pa.schema(
    [(name, pa.string()) for name in ("pair_id", "question_id", "image_id", "left", "right")]
)
# a choice is one of CHOICES
JUDGEMENTS = pa.schema(
    [("pair_id", pa.string()), ("annotator", pa.string()), ("choice", pa.string())]
)
_SAID = re.compile(
    r"^\s*(?:answer\s*:)?\s*(?P<answer>.*?)\s*(?:\brationale\s*:\s*(?P<rationale>.*?))?\s*$",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class PointedQuestion:
    """A question that mentions regions of an image; all its regions are drawn."""

    question_id: str
    image: LocatedImage
    question: str

    def __post_init__(self) -> None:
        known = {r.id for r in self.image.regions}
        if not mentions(self.question) or not set(mentions(self.question)) <= known:
            raise ValueError(
                f"question {self.question_id}: {self.question!r} must mention"
                f" regions of its image, which has {sorted(known)}"
            )


def split_answer(text: str) -> tuple[str, str]:
    """Answer and rationale of "Answer: ... Rationale: ...", in any case.

    A text without these words is an answer alone. Both are laid out alike whoever wrote them, so
    that a tokenizer's spaces and small letters give no system away.

    >>> split_answer("answer : a dog  [ 0 ] . rationale : it barks .")
    ('A dog [0].', 'It barks.')
    """
    found = _SAID.match(text)
    return _laid_out(found["answer"]), _laid_out(found["rationale"] or "")


def _laid_out(text: str) -> str:
    text = re.sub(r"\s+([?.!,;:])", r"\1", " ".join(text.split()))
    text = renumber(text, {i: i for i in mentions(text)})
    return text[:1].upper() + text[1:]


def answers_table(
    questions: Sequence[PointedQuestion], system: str, texts: Sequence[str]
) -> pa.Table:
    """ANSWERS rows of one system from what it said to each question.

    Raises ``ValueError`` unless there is one text for each.
    """
    rows = []
    for q, text in zip(questions, texts, strict=True):
        answer, rationale = split_answer(text)
        regions = [
            dict(id=r.id, box=list(r.box), label=r.label, score=r.score) for r in q.image.regions
        ]
        rows.append(
            dict(
                question_id=q.question_id,
                image_id=q.image.image_id,
                image=q.image.path,
                regions=regions,
                question=q.question,
                system=system,
                answer=answer,
                rationale=rationale,
            )
        )
    return pa.Table.from_pylist(rows, schema=ANSWERS)


def unseen_questions(folder: str | Path, number: int, seed: int) -> list[PointedQuestion]:
    """``number`` of the teacher's own questions about images that no student has been trained on.

    The run's corpus keeps no triple about them: the critic believed none. So these are not the
    teacher's best questions, and of a large corpus, with many triples about each image, few images
    are left; ``set_aside`` asks better ones. The questions are of the id family and mention a
    region. ``folder`` is the run's. Raises ``ValueError`` saying what is missing where there are
    none.
    """
    run = RunFolder(folder)
    taught = _columns(run, "corpus.parquet", "04", ["image_id"])["image_id"]
    told = _columns(run, "triples.parquet", "02", ["triple_id", "image_id", "question", "family"])
    pointing = [t for t in told.filter(pc.field("family") == "id").to_pylist() if _points(t)]
    images = set(taught.to_pylist())
    unseen = [t for t in pointing if t["image_id"] not in images]
    if not unseen:
        raise ValueError(
            f"{run.folder} has no question about an image unseen: of {len(told)} triples"
            f" {len(pointing)} are of the id family and point at a region, and the corpus keeps"
            " triples about the images of all of these. Set some of its images aside (held_out),"
            " or verbalize more images than it is to keep (notebooks 01 to 04)"
        )
    return _drawn(run, unseen, number, seed)


def set_aside(
    folder: str | Path, images: int, number: int, seed: int, corpus: str | Path
) -> list[PointedQuestion]:
    """``number`` questions of the run's corpus about so many of its ``images``, drawn at random; a
    corpus without these images, to be trained on, is written to ``corpus``.

    Other than ``unseen_questions`` they are as good as those that the student learns from. Raises
    ``ValueError`` where nothing would be left, to ask or to learn from.
    """
    run = RunFolder(folder)
    whole = read_parquet(run.folder / "corpus.parquet", CORPUS)
    names = pc.unique(whole["image_id"])
    if not 0 < images < len(names):
        raise ValueError(
            f"held_out is {images} of the corpus' {len(names)} images: expected 1 to"
            f" {len(names) - 1}, some to ask about and some to learn from"
        )
    drawn = np.random.default_rng([seed, 12]).permutation(len(names))[:images]
    chosen = pc.is_in(whole["image_id"], names.take(pa.array(np.sort(drawn))))
    asked = whole.filter(chosen).select(["triple_id", "image_id", "question", "family"])
    pointing = [t for t in asked.to_pylist() if t["family"] == "id" and _points(t)]
    if not pointing:
        raise ValueError(
            f"no triple about the {images} images that were set aside is of the id family and"
            " points at a region: set more of them aside (held_out)"
        )
    write_parquet(whole.filter(pc.invert(chosen)), corpus, CORPUS)
    return _drawn(run, pointing, number, seed)


def _columns(run: RunFolder, name: str, notebook: str, columns: list[str]) -> pa.Table:
    """Some columns of a run's file: whole triples by the million would not fit."""
    if not (path := run.folder / name).exists():
        raise FileNotFoundError(f"{path} is not there: run notebook {notebook} first")
    try:
        return pq.read_table(path, columns=columns).select(columns)
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError, KeyError) as error:
        raise ValueError(f"{path} can't be read, or lacks one of {columns}: {error}") from error


def _points(triple: Mapping) -> bool:
    return bool(mentions(triple["question"]))


def _drawn(
    run: RunFolder, triples: Sequence[Mapping], number: int, seed: int
) -> list[PointedQuestion]:
    if number < 1:
        raise ValueError(f"questions is {number}: expected at least 1")
    drawn = np.random.default_rng([seed, 11]).permutation(len(triples))[:number]
    return [
        PointedQuestion(t["triple_id"], run.image(t["image_id"]), t["question"])
        for t in (triples[i] for i in drawn)
    ]


def lines_about(folder: str | Path, questions: Sequence[PointedQuestion]) -> list[dict]:
    """What was said of the questions' images: their rows of VERBALIZATIONS, and no others.

    Raises ``ValueError`` where nothing was said of any of them.
    """
    path = RunFolder(folder).folder / "verbalizations.parquet"
    asked = pa.array(sorted({q.image.image_id for q in questions}), pa.string())
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: run notebook 01 first")
    lines = pq.read_table(path, filters=pc.field("image_id").isin(asked)).to_pylist()
    if not lines and (record := imported_from(path.parent)):
        raise ValueError(
            f"{path.parent} was imported from {record['file']}, which has no verbalizer's words:"
            " nothing can be answered from them. What was trained is there"
        )
    if not lines:
        raise ValueError(
            f"{path} says nothing of the {len(asked)} images that are asked about: they are of"
            " another run of notebook 01"
        )
    return lines


def answers_from_images(
    student: str | Path,
    questions: Sequence[PointedQuestion],
    image_root: str | Path,
    system: str,
    batch: int = 32,
) -> pa.Table:
    """ANSWERS rows of a generative student (a folder or hub name), on a GPU if there is one,
    ``batch`` questions at a time.

    It looks at the highlighted images: the counterpart of ``verbal_baseline.answers_from_words``.
    """
    from lskd_nb.students.generative import answer
    from lskd_nb.students.loading import load_generative

    views = [View(q.image.path, q.image.regions) for q in questions]
    asked = [q.question for q in questions]
    texts = answer(load_generative(str(student)), image_root, views, asked, batch)
    return answers_table(questions, system, texts)


# -------------------------------------------------------------------------------------------- pairs


def blinded_pairs(
    one: pa.Table, other: pa.Table, seed: int, number: int | None = None
) -> tuple[pa.Table, pa.Table, list[str]]:
    """PAIRS of two systems' answers, their KEY, and the questions that only one answered.

    ``number`` questions are drawn (None: all). A pair's id is a hash of its texts, so a judgement
    can't be taken for one of other texts. Raises ``ValueError`` where a table has a question twice,
    the two ask something else under one id, or no question has been answered by both.
    """
    first, second = _by_question(one), _by_question(other)
    shared = sorted(set(first) & set(second))
    if not shared:
        raise ValueError(
            f"no question was answered by both systems, {len(first)} by one and {len(second)} by"
            " the other: there is no pair to judge"
        )
    rng = np.random.default_rng([seed, 8])
    drawn = [shared[i] for i in rng.permutation(len(shared))[:number]]
    pairs, key = [], []
    for question_id in drawn:
        sides = (first[question_id], second[question_id])
        if any(sides[0][f] != sides[1][f] for f in ("image_id", "image", "question")):
            raise ValueError(
                f"question {question_id} is not the same"
                f" of {sides[0]['system']} and {sides[1]['system']}"
            )
        left, right = sides if rng.random() < 0.5 else sides[::-1]
        said = {
            f"{side}_{part}": row[part]
            for side, row in (("left", left), ("right", right))
            for part in ("answer", "rationale")
        }
        pair_id = hashlib.sha256(repr([seed, question_id, *said.values()]).encode()).hexdigest()[
            :12
        ]
        pairs.append(
            {name: left[name] for name, _ in QUESTION_FIELDS} | said | {"pair_id": pair_id}
        )
        key.append(
            dict(
                pair_id=pair_id,
                question_id=question_id,
                image_id=left["image_id"],
                left=left["system"],
                right=right["system"],
            )
        )
    return (
        pa.Table.from_pylist(pairs, schema=PAIRS),
        pa.Table.from_pylist(key, schema=KEY),
        sorted(set(first) ^ set(second)),
    )


def _by_question(answers: pa.Table) -> dict[str, dict]:
    rows = {row["question_id"]: row for row in answers.to_pylist()}
    if len(rows) != len(answers) or len({row["system"] for row in rows.values()}) > 1:
        raise ValueError("expected the answers of one system, one for each question")
    return rows


# --------------------------------------------------------------------------------------- judgements


def judgement_file(path: str | Path, pairs: pa.Table) -> JudgementFile:
    """The file of JUDGEMENTS of these PAIRS; another pair, or a choice that is none of left, tie
    and right, is an error when it is read or added to.
    """
    known = set(pairs["pair_id"].to_pylist())

    def wrong(row: Mapping) -> str | None:
        if row["pair_id"] not in known:
            return f"pair {row['pair_id']!r} is not among the {len(known)} that were to be judged"
        if row["choice"] in CHOICES:
            return None
        return f"choice is {row['choice']!r}, expected one of {CHOICES}"

    return JudgementFile(Path(path), JUDGEMENTS, "pair_id", wrong)


def read_judgements(path: str | Path, pairs: pa.Table) -> pa.Table:
    """All that was judged of these PAIRS; an empty table where there is no file yet."""
    return judgement_file(path, pairs).read()


# ------------------------------------------------------------------------------------------ results


def outcome(choice: str, left: str, right: str, system: str) -> str:
    """What a choice between two systems' answers is for one of the two: win, tie or lose."""
    if system not in (left, right):
        raise ValueError(f"{system} is neither {left} nor {right}")
    if choice == "tie":
        return "tie"
    return "win" if (left if choice == "left" else right) == system else "lose"


def preference(judgements: pa.Table, key: pa.Table, system: str) -> dict[str, dict]:
    """How often ``system`` wins, ties and loses against each rival, how far annotators agree.

    For each rival: shares of judgements with 95% bootstrap intervals over images, ``pairs`` that
    were judged, ``annotators``, and ``alpha``, None where no pair has two judgements. Raises
    ``ValueError`` for a judgement of a pair that is not in the key, or a system that is not.
    """
    keys = {row["pair_id"]: row for row in key.to_pylist()}
    if system not in {row[side] for row in keys.values() for side in ("left", "right")}:
        raise ValueError(f"no pair has an answer of {system!r}")
    of: dict[str, list[dict]] = {}
    for row in judgements.to_pylist():
        if row["pair_id"] not in keys:
            raise ValueError(f"pair {row['pair_id']!r} is judged but not in the key")
        pair = keys[row["pair_id"]]
        if system in (pair["left"], pair["right"]):
            rival = pair["right"] if pair["left"] == system else pair["left"]
            told = outcome(row["choice"], pair["left"], pair["right"], system)
            of.setdefault(rival, []).append(row | dict(image_id=pair["image_id"], outcome=told))
    found = {}
    for rival, rows in of.items():
        images = np.array([r["image_id"] for r in rows])
        units: dict[str, list[str]] = {}
        for r in rows:
            units.setdefault(r["pair_id"], []).append(r["outcome"])
        alpha = krippendorff_alpha(units.values())
        found[rival] = {
            name: bootstrap(np.array([r["outcome"] == name for r in rows]), images)
            for name in OUTCOMES
        } | dict(
            pairs=len(units),
            annotators=len({r["annotator"] for r in rows}),
            alpha=None if np.isnan(alpha) else alpha,
        )
    return found
