"""A-OKVQA's, SNLI-VE's and Visual7W's files: questions about whole pictures.

Their habits: a choice may be empty, ten people rarely give one answer, some questions are set apart
as too hard to answer directly; sentences come with two parses, annotators do not always agree, and
the letter in a pair's id is what the sentence's writer meant, not the label.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lskd_nb.mini.files.plain_questions import hypotheses, visual7w_questions
from lskd_nb.mini.scenes import grammar
from lskd_nb.rehearsal.photographs import Photograph

SYMBOLS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
LABELS = ("entailment", "neutral", "contradiction")
HIDDEN = ("correct_choice_idx", "direct_answers", "rationales")  # A-OKVQA's test file lacks them


@dataclass(frozen=True)
class Numbered:
    """A photograph with its number in COCO, Flickr30k or Visual Genome, the split it is in there,
    and how its file is: see ``photographs.FORMS``.
    """

    number: int
    split: str
    photograph: Photograph
    form: str = "plain"


def _short_id(*parts: object) -> str:
    """22 symbols, none of which looks like another."""
    number = int(
        hashlib.md5("/".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest(), 16
    )
    digits = []
    for _ in range(22):
        number, digit = divmod(number, len(SYMBOLS))
        digits.append(SYMBOLS[digit])
    return "".join(digits)


# ------------------------------------------------------------------------------------------ A-OKVQA


def aokvqa(pictures: Sequence[Numbered], split: str, number: int, seed: int) -> list[dict]:
    """Rows of aokvqa_v1p0_{train,val,test}.json.

    One question of train and val has an empty choice; test has no answers.
    """
    rng = np.random.default_rng([seed, 44])
    scenes = [p.photograph.scene for p in pictures]
    rows = []
    for q in visual7w_questions(scenes, number, seed):
        p, scene = pictures[q.scene], scenes[q.scene]
        answer, *wrong = (t.rstrip(".").lower() for t in (q.fact.answer, *q.wrong))
        label = int(rng.integers(4))
        choices = [*wrong[:label], answer, *wrong[label:]]
        hard = len(rows) % 6 == 4
        if len(rows) == 1 and split != "test":
            choices[(label + 1) % 4] = ""
        first = q.fact.regions[0] if q.fact.regions else 0
        row = dict(
            split=split,
            image_id=p.number,
            question_id=_short_id("aokvqa", p.number, q.fact.question),
            question=q.fact.question,
            choices=choices,
            correct_choice_idx=label,
            direct_answers=_direct_answers(answer, wrong, hard, rng),
            difficult_direct_answer=hard,
            rationales=[
                grammar.caption(scene),
                f"There is {grammar.describe(scene.entities[first])}.",
                f"One can see that the answer is {answer}.",
            ],
        )
        rows.append({k: v for k, v in row.items() if split != "test" or k not in HIDDEN})
    return rows


def _direct_answers(
    answer: str, wrong: Sequence[str], hard: bool, rng: np.random.Generator
) -> list[str]:
    """What ten people said: most the answer, few where it is hard."""
    alone = 2 if hard else 7
    return [answer] * alone + [str(t) for t in rng.choice([answer, *wrong], size=10 - alone)]


# ------------------------------------------------------------------------------------------ SNLI-VE


def snli_ve(pictures: Sequence[Numbered], number: int, seed: int) -> list[dict]:
    """Rows of snli_ve_{train,dev,test}.jsonl; the first neutral one was meant otherwise."""
    rng = np.random.default_rng([seed, 45])
    rows = []
    for i, h in enumerate(hypotheses([p.photograph.scene for p in pictures], number, seed)):
        p = pictures[h.scene]
        premise = grammar.caption(p.photograph.scene)
        doubted = h.label == "neutral" and not any(r["gold_label"] == "neutral" for r in rows)
        meant = "contradiction" if doubted else h.label
        sentence = h.text
        rows.append(
            dict(
                Flickr30K_ID=str(p.number),
                annotator_labels=_votes(h.label, meant, i, rng),
                captionID=f"{p.number}.jpg#{i % 5}",
                gold_label=h.label,
                pairID=f"{p.number}.jpg#{i % 5}r{i // 5}{meant[0]}",
                sentence1=premise,
                sentence1_binary_parse=_binary(premise),
                sentence1_parse=_parse(premise),
                sentence2=sentence,
                sentence2_binary_parse=_binary(sentence),
                sentence2_parse=_parse(sentence),
            )
        )
    return rows


def _votes(label: str, meant: str, number: int, rng: np.random.Generator) -> list[str]:
    """What the sentence's writer meant, and for some what four others said: most the label."""
    if meant != label or number % 3 == 0:
        return [meant, label, label, label, str(rng.choice(LABELS))]
    return [label]


def _words(text: str) -> list[str]:
    return text.replace(",", " ,").replace(".", " .").split()


def _binary(text: str) -> str:
    """The words in nested pairs, from the left."""
    first, *others = _words(text)
    for word in others:
        first = f"( {first} {word} )"
    return first


def _parse(text: str) -> str:
    leaves = (f"(NN {w})" if w.isalpha() else f"({w} {w})" for w in _words(text))
    return f"(ROOT (NP {' '.join(leaves)}))"


# ----------------------------------------------------------------------------------------- Visual7W


def visual7w(pictures: Sequence[Numbered], number: int, seed: int) -> dict:
    """The content of dataset_v7w_telling.json: ``number`` questions or so in each split."""
    images = []
    for split in ("train", "val", "test"):
        shown = [p for p in pictures if p.split == split]
        pairs: dict[int, list[dict]] = {p.number: [] for p in shown}
        for i, q in enumerate(
            visual7w_questions([p.photograph.scene for p in shown], number, seed)
        ):
            p = shown[q.scene]
            pairs[p.number].append(
                dict(
                    multiple_choices=list(q.wrong),
                    qa_id=174_500 + 1000 * len(images) + i,
                    question=q.fact.question,
                    image_id=p.number,
                    answer=q.fact.answer,
                    type=q.fact.type,
                )
            )
        images += [
            dict(qa_pairs=found, image_id=n, filename=f"v7w_{n}.jpg", split=split)
            for n, found in pairs.items()
        ]
    return dict(dataset="v7w_telling", images=images)
