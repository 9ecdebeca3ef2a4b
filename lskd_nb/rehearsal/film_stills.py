"""VCR's and VisualCOMET's files about film stills, with the real files' habits.

Stills are wide and large. Detections are COCO's classes, people first, often more than ten, with a
score as the fifth number of a box. Rows have the 23 published keys and no others; the right choice
is anywhere; a token may mention several detections, and "'" and "s" are two tokens. VisualCOMET
names people by bare digits, beside digits that are quantities.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from lskd_nb.mini.files.vcr_questions import Question, shuffled, vcr_questions
from lskd_nb.mini.scenes import grammar
from lskd_nb.mini.scenes.rules import situation_of
from lskd_nb.mini.scenes.world import PEOPLE, PLACES, POSES, Entity, Scene
from lskd_nb.regions import MENTION, Box
from lskd_nb.rehearsal.photographs import Photograph, outline, part_of

CLASSES = {  # what the world calls things -> the detector's classes; it knows no others
    **dict.fromkeys(PEOPLE, "person"),
    **{k: k for k in ("dog", "cat", "horse", "cow", "sheep", "bird", "car", "bicycle", "boat")},
    **{k: k for k in ("bench", "umbrella", "book", "suitcase")},
    "ball": "sportsball",
    "flowers": "pottedplant",
    "camera": "cellphone",
}
HELD = (0.35, 0.3, 1.0, 0.65)
PER_SCENE = 2  # questions, beside one about two people together
GIVEAWAYS = (  # what the test file lacks
    "answer_likelihood",
    "answer_orig",
    "rationale_orig",
    "answer_label",
    "rationale_label",
    "answer_sources",
    "rationale_sources",
    "answer_match_iter",
    "rationale_match_iter",
    "match_fold",
    "match_index",
)
_WORDS = re.compile(r"\[\d+(?:, \d+)*\]|\w+|[^\w\s]")


@dataclass(frozen=True)
class Detection:
    """What the detector found: an entity of a scene, or (``held``) what that entity holds."""

    name: str
    box: Box
    score: float
    scene: int
    entity: int
    held: bool = False


@dataclass(frozen=True)
class Still:
    """A film still; ``folder`` has the film's origin before its name, ``file`` has no ending."""

    photograph: Photograph
    folder: str
    file: str
    split: str
    number: int  # within the split
    detections: tuple[Detection, ...]

    @property
    def path(self) -> str:
        """Below vcr1images, without ending."""
        return f"{self.folder}/{self.file}"

    @property
    def movie(self) -> str:
        return self.folder.partition("_")[2]

    def region(self, scene: int, entity: int) -> int | None:
        """The detection of an entity, None where there is none."""
        for number, d in enumerate(self.detections):
            if (d.scene, d.entity, d.held) == (scene, entity, False):
                return number
        return None


def still(
    photograph: Photograph, folder: str, file: str, split: str, number: int, seed: int
) -> Still:
    """A still and what a detector finds in it: people first, then other classes by name."""
    rng = np.random.default_rng([seed, 41, number, len(split)])
    found = []
    for scene, index, e in photograph.entities:
        seen = [(e.kind, e.box, False)]
        seen += [(e.held, part_of(e.box, *HELD), True)] if e.held else []
        for kind, box, held in seen:
            if kind in CLASSES:
                score = float(rng.uniform(0.71, 0.95 if held else 0.9999))
                box = tuple(_float32(v) for v in box)
                found.append(Detection(CLASSES[kind], box, _float32(score), scene, index, held))
    found.sort(key=lambda d: (d.name != "person", d.name, d.box[0]))
    return Still(photograph, folder, file, split, number, tuple(found))


def _float32(value: float) -> float:
    """A number as detectors write it: 370.6341857910156."""
    return float(np.float32(value))


# ---------------------------------------------------------------------------------------------- VCR


def vcr_metadata(s: Still) -> dict:
    """The JSON beside a still."""
    return dict(
        boxes=[[*d.box, d.score] for d in s.detections],
        segms=[
            [[[int(x), int(y)] for x, y in outline(part)] for part in _pieces(d)]
            for d in s.detections
        ],
        names=[d.name for d in s.detections],
        width=s.photograph.size[0],
        height=s.photograph.size[1],
    )


def _pieces(d: Detection) -> list[Box]:
    """A mask is of one piece, or of two where something is in front."""
    if d.name == "person" and d.score < 0.8:
        return [part_of(d.box, 0, 0, 1, 0.45), part_of(d.box, 0, 0.55, 1, 1)]
    return [d.box]


def vcr(stills: Sequence[Still], seed: int) -> list[dict]:
    """Rows of {train,val}.jsonl: some questions on each still."""
    rng = np.random.default_rng([seed, 42])
    asked = [*_about_one(stills, seed), *_about_two(stills, rng)]
    asked.sort(key=lambda a: a[0].number)
    rows = []
    for number, (s, q) in enumerate(asked):
        answers, rationales = (
            _choices(texts, label, number, len(asked), rng)
            for texts, label in ((q.answers, q.answer_label), (q.rationales, q.rationale_label))
        )
        rows.append(
            dict(
                movie=s.movie,
                objects=[d.name for d in s.detections],
                interesting_scores=[int(v) for v in rng.choice([-1, 0, 1], size=1 + number % 3)],
                answer_likelihood=str(rng.choice(["unlikely", "possible", "likely"])),
                img_fn=f"{s.path}.jpg",
                metadata_fn=f"{s.path}.json",
                answer_orig=_one_based(q.answers[q.answer_label]),
                question_orig=_one_based(q.question),
                rationale_orig=_one_based(q.rationales[q.rationale_label]),
                question=tokens(q.question),
                answer_match_iter=answers[0],
                answer_sources=answers[1],
                answer_choices=[tokens(t) for t in q.answers],
                answer_label=q.answer_label,
                rationale_choices=[tokens(t) for t in q.rationales],
                rationale_sources=rationales[1],
                rationale_match_iter=rationales[0],
                rationale_label=q.rationale_label,
                img_id=f"{s.split}-{s.number}",
                question_number=number,
                annot_id=f"{s.split}-{number}",
                match_fold=f"{s.split}-{number // 20}",
                match_index=number,
            )
        )
    return rows


def without_labels(rows: Iterable[dict]) -> list[dict]:
    """Rows of test.jsonl."""
    return [{k: v for k, v in row.items() if k not in GIVEAWAYS} for row in rows]


def tokens(text: str) -> list[str | list[int]]:
    """A text cut as VCR cuts it: every mark apart, mentions as lists.

    >>> tokens("What is [0, 1]'s dog up to? It's well-fed.")[2:7]
    [[0, 1], "'", 's', 'dog', 'up']
    """
    return [
        [int(i) for i in re.findall(r"\d+", w)] if w.startswith("[") and len(w) > 1 else w
        for w in _WORDS.findall(text)
    ]


def _choices(
    texts: Sequence[str], label: int, number: int, rows: int, rng: np.random.Generator
) -> tuple[list[int], list[int]]:
    """In which turn each choice was drawn, 0 for the right one, and from which question."""
    turns = [int(v) for v in rng.permutation([1, 2, 3])]
    turns.insert(label, 0)
    sources = [int(v) for v in rng.integers(0, max(rows, 2), size=len(texts))]
    sources[label] = number
    return turns, sources


def _one_based(text: str) -> str:
    """Detections as the people who asked saw them: "1 and 2", counted from 1."""
    return MENTION.sub(
        lambda m: " and ".join(str(int(i) + 1) for i in re.findall(r"\d+", m[1])), text
    )


def _about_one(stills: Sequence[Still], seed: int) -> list[tuple[Still, Question]]:
    """The world's questions, where all that they mention was detected."""
    places = [(s, n) for s in stills for n in range(len(s.photograph.scenes))]
    scenes = [s.photograph.scenes[n] for s, n in places]
    found = []
    for q in vcr_questions(scenes, seed + 41, per_image=PER_SCENE):
        s, scene = places[q.scene]
        renamed = {e: s.region(scene, e) for e in range(len(s.photograph.scenes[scene].entities))}
        texts = [q.question, *q.answers, *q.rationales]
        said = [_mentioning(_as_people_write(t), renamed) for t in texts]
        if None not in said:
            question, *choices = said
            found.append((s, _with_texts(q, question, choices)))
    return found


def _mentioning(text: str, renamed: Mapping[int, int | None]) -> str | None:
    """A text with detections' numbers for entities'; None where one was not detected."""
    if any(renamed.get(int(i)) is None for i in re.findall(r"\[(\d+)\]", text)):
        return None
    return re.sub(r"\[(\d+)\]", lambda m: f"[{renamed[int(m[1])]}]", text)


def _with_texts(q: Question, question: str, choices: Sequence[str]) -> Question:
    return Question(
        q.scene,
        q.region,
        q.kind,
        question,
        tuple(choices[:4]),
        q.answer_label,
        q.swap,
        tuple(choices[4:]),
        q.rationale_label,
        q.rationale_swap,
    )


def _as_people_write(text: str) -> str:
    """ "it is raining" -> "it's raining"; "What mood is [0] in?" -> "What is [0]'s mood?"."""
    text = re.sub(r"^What mood is (\[\d+\]) in\?$", r"What is \1's mood?", text)
    return re.sub(r"\b([Ii]t) is\b", r"\1's", text)


def _about_two(stills: Sequence[Still], rng: np.random.Generator) -> list[tuple[Still, Question]]:
    """One question on each still with two people in one scene, who are mentioned together."""
    found = []
    for s in stills:
        pair = _two_people(s)
        if pair is None:
            continue
        scene, ids, people = pair
        both = f"[{ids[0]}, {ids[1]}]"
        wrong = rng.permutation([p for p in PLACES if p != scene.place])[:3]
        answers = [f"{both} are {grammar.IN_PLACE[p]}." for p in (scene.place, *wrong)]
        doings = [grammar.doing(e) or "waiting" for e in people]
        poses = sorted({p for e in people for p in POSES[e.kind]} | set(doings))
        said = [f"[{ids[0]}] is {a}, and [{ids[1]}] isn't {b}." for a, b in product(poses, poses)]
        right = f"[{ids[0]}] is {doings[0]}, and [{ids[1]}] isn't {_other(poses, doings[1])}."
        others = [t for t in said if not t.startswith(f"[{ids[0]}] is {doings[0]},")]
        reasons = [right, *(str(t) for t in rng.permutation(others)[:3])]
        shown, order = shuffled(answers, rng)
        given, reason_order = shuffled(reasons, rng)
        question = f"Where are {both}?"
        labels = (order.index(0), order.index(1), given, reason_order.index(0))
        found.append(
            (s, Question(0, ids[0], "where", question, shown, *labels, reason_order.index(1)))
        )
    return found


def _other(poses: Sequence[str], pose: str) -> str:
    return next(p for p in poses if p != pose)


def _two_people(s: Still) -> tuple[Scene, list[int], list[Entity]] | None:
    for number, scene in enumerate(s.photograph.scenes):
        people = [(i, e) for i, e in enumerate(scene.entities) if e.kind in PEOPLE][:2]
        if len(people) == 2:
            ids = [s.region(number, i) for i, _ in people]
            return scene, [i for i in ids if i is not None], [e for _, e in people]
    return None


# -------------------------------------------------------------------------------------- VisualCOMET


def visualcomet(stills: Sequence[Still], test: bool = False) -> list[dict]:
    """Rows of {train,val,test}_annots.json: events of people, what was before, after, intended.

    Some relations are an empty list and some are left out; test has none.
    """
    rows = []
    for s in stills:
        for scene, index, e in s.photograph.entities:
            who, situation = s.region(scene, index), situation_of(s.photograph.scenes[scene], index)
            if e.kind not in PEOPLE or who is None:
                continue
            row = dict(
                img_fn=f"{s.path}.jpg",
                movie=s.movie,
                metadata_fn=f"{s.path}.json",
                place=grammar.context(s.photograph.scenes[scene]),
                event=_event(s, scene, index, e, who, len(rows)),
            )
            if not test:
                row |= _relations(
                    s, scene, e, who, situation[0].answers if situation else {}, len(rows)
                )
            rows.append(row)
    return rows


def _event(s: Still, scene: int, index: int, e: Entity, who: int, number: int) -> str:
    neighbour = _neighbour(s, scene, index)
    doing = grammar.doing(e) or "waiting"
    if neighbour is None:
        return f"{who + 1} is {doing}"
    if number % 4 == 1:  # 20 is a quantity
        return f"{who + 1} is {doing}, 20 feet away from {neighbour + 1}"
    return f"{who + 1} is {doing} in front of {neighbour + 1}"


def _neighbour(s: Still, scene: int, index: int) -> int | None:
    """Another person of the scene."""
    people = (i for i, e in enumerate(s.photograph.scenes[scene].entities) if e.kind in PEOPLE)
    return next((s.region(scene, i) for i in people if i != index), None)


def _relations(
    s: Still, scene: int, e: Entity, who: int, answers: Mapping[str, str], number: int
) -> dict[str, list[str]]:
    place = grammar.IN_PLACE[s.photograph.scenes[scene].place]
    hold = grammar.A_HELD.get(e.held)
    before = [f"go to meet somebody {place}"] + ([f"pick up {hold}"] if hold else [])
    after = [f"leave with {'nobody' if who else '2'}"] + ([f"put {hold} away"] if hold else [])
    intent = [answers["why"].removeprefix("to ")] if "why" in answers else []
    before += [answers["before"]] if "before" in answers else []
    after += [answers["next"]] if "next" in answers else []
    row = dict(intent=intent, before=before, after=after)
    if number % 5 == 2:
        row["before"] = []
    if number % 5 == 4:
        del row["after"]
    return row
