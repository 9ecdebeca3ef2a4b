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

from lskd_nb.critic.agreement import JudgementFile, krippendorff_alpha
from lskd_nb.evaluation.choices import bootstrap
from lskd_nb.records import CORPUS, REGION, TRIPLES, read_parquet
from lskd_nb.regions import LocatedImage, mentions, renumber
from lskd_nb.run_folder import RunFolder
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

    The run's corpus keeps no triple about them. The questions are of the id family and mention a
    region. ``folder`` is the run's.
    """
    run = RunFolder(folder)
    taught = set(read_parquet(run.folder / "corpus.parquet", CORPUS)["image_id"].to_pylist())
    triples = [
        t
        for t in read_parquet(run.folder / "triples.parquet", TRIPLES).to_pylist()
        if t["family"] == "id" and t["image_id"] not in taught and mentions(t["question"])
    ]
    drawn = np.random.default_rng([seed, 11]).permutation(len(triples))[:number]
    return [
        PointedQuestion(t["triple_id"], run.image(t["image_id"]), t["question"])
        for t in (triples[i] for i in drawn)
    ]


def answers_from_images(
    student: str | Path, questions: Sequence[PointedQuestion], image_root: str | Path, system: str
) -> pa.Table:
    """ANSWERS rows of a generative student (a folder or hub name).

    It looks at the highlighted images: the counterpart of ``verbal_baseline.answers_from_words``.
    """
    from lskd_nb.students.generative import answer
    from lskd_nb.students.loading import load_generative

    views = [View(q.image.path, q.image.regions) for q in questions]
    texts = answer(load_generative(student), image_root, views, [q.question for q in questions])
    return answers_table(questions, system, texts)


# -------------------------------------------------------------------------------------------- pairs


def blinded_pairs(
    one: pa.Table, other: pa.Table, seed: int, number: int | None = None
) -> tuple[pa.Table, pa.Table, list[str]]:
    """PAIRS of two systems' answers, their KEY, and the questions that only one answered.

    ``number`` questions are drawn (None: all). A pair's id is a hash of its texts, so a judgement
    can't be taken for one of other texts. Raises ``ValueError`` where a table has a question twice,
    or the two ask something else under one id.
    """
    first, second = _by_question(one), _by_question(other)
    shared = sorted(set(first) & set(second))
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
