"""Visual Genome's and VCR's rows about the world; ``world_files`` writes them out.

Each function takes pictures and returns what a file of that set holds, with the published field
names, token lists, box conventions and identifiers, so that the loaders of the real sets read it
unchanged. ``benchmark_sets`` has the rest.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lskd_nb.mini.files.plain_questions import facts
from lskd_nb.mini.files.vcr_questions import Question, vcr_questions
from lskd_nb.mini.scenes import grammar
from lskd_nb.mini.scenes.world import HEIGHT, PEOPLE, WIDTH, Entity, Scene
from lskd_nb.regions import text_to_tokens

VG_URL = "https://cs.stanford.edu/people/rak248/VG_100K/{}.jpg"


@dataclass(frozen=True)
class Picture:
    """A scene with the names it has in the files.

    ``number`` is its numeric id in every set that has one.
    """

    scene: Scene
    number: int
    index: int  # within the split
    split: str  # train | val

    @property
    def vcr_id(self) -> str:
        return f"{self.split}-{self.index}"

    @property
    def movie(self) -> str:
        return f"movieclips_Mini_{self.split.capitalize()}_{self.scene.place.capitalize()}"

    @property
    def still(self) -> str:
        """Path of VCR's image below vcr1images, without its ending."""
        return f"{self.movie}/{self.scene.scene_id}@0"


def pixel_box(entity: Entity) -> tuple[int, int, int, int]:
    """An entity's box in whole pixels inside the image: x, y, width, height."""
    x0, y0, x1, y1 = entity.box
    x, y = int(x0), int(y0)
    return x, y, min(round(x1), WIDTH) - x, min(round(y1), HEIGHT) - y


# ------------------------------------------------------------------------------------ Visual Genome


def visual_genome(pictures: Sequence[Picture], seed: int) -> dict[str, list[dict]]:
    """The six v1.2 files, by name. Objects are the entities in the scene's order."""
    rng = np.random.default_rng([seed, 4])
    return {
        "image_data": [
            dict(
                image_id=p.number,
                width=WIDTH,
                height=HEIGHT,
                url=VG_URL.format(p.number),
                coco_id=None,
                flickr_id=None,
            )
            for p in pictures
        ],
        "objects": [dict(image_id=p.number, objects=_vg_objects(p)) for p in pictures],
        "attributes": [dict(image_id=p.number, attributes=_vg_attributes(p)) for p in pictures],
        "relationships": [
            dict(image_id=p.number, relationships=_vg_relationships(p)) for p in pictures
        ],
        "region_descriptions": [
            dict(id=p.number, regions=_vg_descriptions(p, rng)) for p in pictures
        ],
        "question_answers": [dict(id=p.number, qas=_vg_questions(p)) for p in pictures],
    }


def _vg_objects(p: Picture) -> list[dict]:
    return [_vg_object(p, i) | dict(names=[e.kind]) for i, e in enumerate(p.scene.entities)]


def _vg_object(p: Picture, region: int) -> dict:
    x, y, w, h = pixel_box(p.scene.entities[region])
    return dict(
        object_id=10 * p.number + region,
        x=x,
        y=y,
        w=w,
        h=h,
        synsets=[f"{p.scene.entities[region].kind}.n.01"],
    )


def _vg_attributes(p: Picture) -> list[dict]:
    """Colour and pose; entries of which nothing is said lack the key, as in the real file."""
    rows = []
    for row, e in zip(_vg_objects(p), p.scene.entities, strict=True):
        said = [e.pose] if e.kind in PEOPLE else [e.color, e.pose]
        rows.append(row | (dict(attributes=[s for s in said if s]) if any(said) else {}))
    return rows


def _vg_relationships(p: Picture) -> list[dict]:
    """Neighbours are next to each other.

    What people hold is named here only, with a box about their hands.
    """
    named = [_vg_object(p, i) | dict(name=e.kind) for i, e in enumerate(p.scene.entities)]
    found = [("next to", one, two) for one, two in pairwise(named)]
    for region, e in enumerate(p.scene.entities):
        if e.held:
            x, y, w, h = pixel_box(e)
            thing = dict(
                object_id=10 * p.number + 5 + region,
                name=e.held,
                x=x + w // 3,
                y=y + h // 3,
                w=w // 2,
                h=h // 3,
                synsets=[f"{e.held}.n.01"],
            )
            found.append(("holding", named[region], thing))
    return [
        dict(
            relationship_id=20 * p.number + i,
            predicate=predicate,
            synsets=[],
            subject=subject,
            object=thing,
        )
        for i, (predicate, subject, thing) in enumerate(found)
    ]


def _vg_descriptions(p: Picture, rng: np.random.Generator) -> list[dict]:
    """Two phrases about each entity, in boxes drawn by hand: a few pixels off. All are true."""
    rows = []
    for e in p.scene.entities:
        doing = grammar.doing(e)
        variants = [f"{grammar.describe(e)} {grammar.IN_PLACE[p.scene.place]}"]
        variants += [f"{grammar.the(e)} is {doing}"] if doing else []
        for phrase in (grammar.describe_closely(e), variants[rng.integers(len(variants))]):
            x, y, w, h = pixel_box(e)
            dx, dy = (int(v) for v in rng.integers(0, 3, size=2))
            rows.append(
                dict(
                    region_id=100 * p.number + len(rows),
                    image_id=p.number,
                    phrase=phrase,
                    x=x + dx,
                    y=y + dy,
                    width=min(w, WIDTH - x - dx),
                    height=min(h, HEIGHT - y - dy),
                )
            )
    return rows


def _vg_questions(p: Picture) -> list[dict]:
    return [
        dict(
            qa_id=100 * p.number + i,
            image_id=p.number,
            question=f.question,
            answer=f.answer,
            a_objects=[],
            q_objects=[_vg_object(p, r) | dict(name=p.scene.entities[r].kind) for r in f.regions],
        )
        for i, f in enumerate(facts(p.scene))
    ]


# ---------------------------------------------------------------------------------------------- VCR


def vcr_metadata(p: Picture) -> dict:
    """The JSON file beside a VCR image: boxes xyxy with a score, polygons, names."""
    boxes = [e.box for e in p.scene.entities]
    return dict(
        boxes=[[*box, 1.0] for box in boxes],
        segms=[
            [[[int(x0), int(y0)], [int(x1), int(y0)], [int(x1), int(y1)], [int(x0), int(y1)]]]
            for x0, y0, x1, y1 in boxes
        ],
        names=_vcr_names(p.scene),
        width=WIDTH,
        height=HEIGHT,
    )


def _vcr_names(scene: Scene) -> list[str]:
    return ["person" if e.kind in PEOPLE else e.kind for e in scene.entities]


def vcr(pictures: Sequence[Picture], seed: int) -> list[dict]:
    """Rows of {train,val}.jsonl, with four keys of our own: the question type,
    the choices that another region or a prejudice makes tempting."""
    questions = vcr_questions([p.scene for p in pictures], seed)
    first: dict[
        str, int
    ] = {}  # where a text is right, as VCR took its wrong choices from other questions
    for number, q in enumerate(questions):
        first.setdefault(q.answers[q.answer_label], number)
        first.setdefault(_anonymous(q.rationales[q.rationale_label]), number)
    return [_vcr_row(pictures[q.scene], q, number, first) for number, q in enumerate(questions)]


def _vcr_row(p: Picture, q: Question, number: int, first: dict[str, int]) -> dict:
    answer, reason = q.answers[q.answer_label], q.rationales[q.rationale_label]
    return dict(
        movie=p.movie,
        objects=_vcr_names(p.scene),
        interesting_scores=[1, 0],
        answer_likelihood="likely",
        img_fn=f"{p.still}.jpg",
        metadata_fn=f"{p.still}.json",
        question=text_to_tokens(q.question),
        answer_choices=[text_to_tokens(t) for t in q.answers],
        answer_label=q.answer_label,
        rationale_choices=[text_to_tokens(t) for t in q.rationales],
        rationale_label=q.rationale_label,
        answer_sources=_sources(q.answers, q.answer_label, number, first),
        rationale_sources=_sources(q.rationales, q.rationale_label, number, first),
        answer_match_iter=_match_iter(q.answer_label),
        rationale_match_iter=_match_iter(q.rationale_label),
        question_orig=_one_based(q.question),
        answer_orig=_one_based(answer),
        rationale_orig=_one_based(reason),
        img_id=p.vcr_id,
        annot_id=f"{p.split}-{number}",
        question_number=number,
        match_fold=f"{p.split}-0",
        match_index=number,
        lskd_type=q.kind,
        lskd_swap=q.swap,
        lskd_rationale_swap=q.rationale_swap,
        lskd_typical=q.typical,
    )


def _sources(choices: Sequence[str], label: int, number: int, first: dict[str, int]) -> list[int]:
    return [
        number if i == label else first.get(_anonymous(c), number) for i, c in enumerate(choices)
    ]


def _match_iter(label: int) -> list[int]:
    """0 for the right choice, 1 to 3 for the others."""
    wrong = iter((1, 2, 3))
    return [0 if i == label else next(wrong) for i in range(4)]


def _anonymous(text: str) -> str:
    return re.sub(r"\[\d+\]", "[]", text)


def _one_based(text: str) -> str:
    return re.sub(r"\[(\d+)\]", lambda m: str(int(m[1]) + 1), text)
