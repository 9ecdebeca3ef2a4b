"""Sherlock's, VisualCOMET's, A-OKVQA's, SNLI-VE's and Visual7W's rows about the world."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from lskd_nb.mini.files.plain_questions import hypotheses, visual7w_questions
from lskd_nb.mini.files.region_sets import VG_URL, Picture, pixel_box
from lskd_nb.mini.files.vcr_questions import vcr_questions
from lskd_nb.mini.scenes import grammar
from lskd_nb.mini.scenes.rules import situation_of
from lskd_nb.mini.scenes.world import HEIGHT, PEOPLE, WIDTH, Scene

VCR_URL = "http://s3-us-west-2.amazonaws.com/ai2-rowanz/vcr1images/{}"
INFERENCES = dict(
    next="{} is about to {}",
    why="{} does this {}",
    feel="{} feels {}",
    role="{} is {}",
    before="{} {}",
)


def _id(*parts: object) -> str:
    """A 32-digit identifier, as Sherlock's."""
    return hashlib.md5("/".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()


def _image(p: Picture) -> dict:
    url = VG_URL.format(p.number) if p.split == "train" else VCR_URL.format(f"{p.still}.jpg")
    return dict(url=url, width=WIDTH, height=HEIGHT)


def _box(p: Picture, region: int) -> dict:
    x, y, w, h = pixel_box(p.scene.entities[region])
    return dict(height=h, width=w, left=x, top=y)


# ---------------------------------------------------------------------------- Sherlock, VisualCOMET


def sherlock(pictures: Sequence[Picture]) -> list[dict]:
    """Sherlock's rows: a clue and an inference for each region; boxes left, top, width, height."""
    rows = []
    for p in pictures:
        for region, e in enumerate(p.scene.entities):
            inputs = dict(
                image=_image(p),
                bboxes=[_box(p, region)],
                clue=grammar.describe_closely(e),
                confidence=3.0,
                obs_idx=region,
            )
            row = dict(
                inputs=inputs,
                targets=dict(inference=inferences(p.scene, region)[0]),
                instance_id=_id("sherlock", p.number, region),
            )
            rows.append(row | (dict(split_idx=len(rows) // 1000) if p.split == "val" else {}))
    return rows


def inferences(scene: Scene, region: int) -> list[str]:
    """What follows for a region, in words that need no id: "the dog is about to fetch the ball"."""
    found = situation_of(scene, region)
    name = f"the {scene.entities[region].kind}"
    if found:
        return [INFERENCES[kind].format(name, text) for kind, text in found[0].answers.items()]
    return []


def sherlock_comparison(
    pictures: Sequence[Picture], seed: int, candidates: int = 10
) -> tuple[list[dict], dict, list[str]]:
    """Instances, answer key and sorted test ids: inferences for a region, rated by two annotators.

    3 is true of the region, 2 of another region of the picture, 1 of neither; each annotator is off
    by one now and then.
    """
    rng = np.random.default_rng([seed, 5])
    everything = sorted(
        {t for p in pictures for r in range(len(p.scene.entities)) for t in inferences(p.scene, r)}
    )
    instances, test_ids, annotations = [], {}, []
    for p in pictures:
        rating = dict.fromkeys(rng.permutation(everything).tolist()[:candidates], 1)
        for region in range(len(p.scene.entities) - 1, -1, -1):
            rating |= dict.fromkeys(inferences(p.scene, region), 2 if region else 3)
        input_id, rated = _id("comparison", p.number), []
        for text in sorted(rating, key=rating.get, reverse=True)[:candidates]:
            source_id, test_id = _id("candidate", p.number, text), _id("test", p.number, text)
            instances.append(
                dict(
                    image=_image(p),
                    region=[_box(p, 0)],
                    inference=text,
                    test_id=test_id,
                    extra_info=dict(task="comparison"),
                )
            )
            test_ids[test_id] = dict(Input_iid=input_id, candidate=source_id)
            votes = np.clip(rating[text] + rng.choice([-1, 0, 1], size=2, p=[0.1, 0.8, 0.1]), 1, 3)
            rated.append(
                dict(
                    source_iid=source_id,
                    prediction=text,
                    annot1=float(votes[0]),
                    annot2=float(votes[1]),
                )
            )
        annotations.append(dict(Input_iid=input_id, candidates=rated))
    return instances, dict(test_id_map=test_ids, annotations=annotations), sorted(test_ids)


def visualcomet(pictures: Sequence[Picture]) -> list[dict]:
    """Rows of {train,val}_annots.json: events of people, what was before, after, and intended.

    People are bare 1-based digits.
    """
    rows = []
    for p in pictures:
        for region, e in enumerate(p.scene.entities):
            found = situation_of(p.scene, region)
            if e.kind not in PEOPLE or found is None:
                continue
            answers = found[0].answers
            row = dict(
                img_fn=f"{p.still}.jpg",
                movie=p.movie,
                metadata_fn=f"{p.still}.json",
                place=grammar.context(p.scene),
                event=f"{region + 1} is {grammar.doing(e)}",
            )
            for name, kind in (("intent", "why"), ("before", "before"), ("after", "next")):
                if kind in answers:
                    row[name] = [answers[kind].removeprefix("to ")]
            rows.append(row)
    return rows


# ----------------------------------------------------------------------- A-OKVQA, SNLI-VE, Visual7W


def aokvqa(pictures: Sequence[Picture], seed: int) -> list[dict]:
    """Rows of aokvqa_v1p0_{train,val}.json: VCR's questions, descriptions in place of ids."""
    rows = []
    for q in vcr_questions([p.scene for p in pictures], seed + 1, per_image=1):
        p = pictures[q.scene]
        names = [grammar.the(e) for e in p.scene.entities]
        if len(set(names)) < len(names):
            continue
        choices = [c.rstrip(".").lower() for c in q.answers]
        reason = re.sub(
            r"\[(\d+)\]", lambda m, names=names: names[int(m[1])], q.rationales[q.rationale_label]
        ).capitalize()
        rows.append(
            dict(
                split=p.split,
                image_id=p.number,
                question_id=_id("aokvqa", p.number, q.region, q.kind)[:22],
                question=q.question.replace(f"[{q.region}]", names[q.region]),
                choices=choices,
                correct_choice_idx=q.answer_label,
                direct_answers=[choices[q.answer_label]] * 10,
                difficult_direct_answer=False,
                rationales=[
                    reason,
                    grammar.caption(p.scene),
                    f"{grammar.describe(p.scene.entities[q.region])}.".capitalize(),
                ],
            )
        )
    return rows


def snli_ve(pictures: Sequence[Picture], number: int, seed: int) -> list[dict]:
    """Rows of snli_ve_{train,dev}.jsonl; every annotator agrees."""
    rows = []
    for i, h in enumerate(hypotheses([p.scene for p in pictures], number, seed)):
        p = pictures[h.scene]
        premise, image = grammar.caption(p.scene), p.number
        rows.append(
            dict(
                Flickr30K_ID=str(image),
                annotator_labels=[h.label],
                captionID=f"{image}.jpg#0",
                gold_label=h.label,
                pairID=f"{image}.jpg#{i}r1{h.label[0]}",
                sentence1=premise,
                sentence1_parse=f"(ROOT {premise})",
                sentence1_binary_parse=f"( {premise} )",
                sentence2=h.text,
                sentence2_parse=f"(ROOT {h.text})",
                sentence2_binary_parse=f"( {h.text} )",
            )
        )
    return rows


def visual7w(pictures: Sequence[Picture], number: int, seed: int) -> list[dict]:
    """The ``images`` of dataset_v7w_telling.json."""
    pairs: dict[int, list[dict]] = {}
    for i, q in enumerate(visual7w_questions([p.scene for p in pictures], number, seed)):
        p = pictures[q.scene]
        pairs.setdefault(q.scene, []).append(
            dict(
                qa_id=1000 * p.number + i,
                image_id=p.number,
                question=q.fact.question,
                answer=q.fact.answer,
                multiple_choices=list(q.wrong),
                type=q.fact.type,
            )
        )
    return [
        dict(
            image_id=pictures[s].number,
            filename=f"v7w_{pictures[s].number}.jpg",
            split=pictures[s].split,
            qa_pairs=found,
        )
        for s, found in pairs.items()
    ]
