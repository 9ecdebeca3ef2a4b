"""Second step of ``lskd mini pretrain``: the Q-Former learns from captions to read the encoder.

Captions of plain pictures (ITC, ITM and LM, as in BLIP-2's stage 1), statements about annotated
pictures ("green box is holding a ball") with ITM negatives that tell it of another frame, and the
same as questions and answers with the question-conditioned LM loss. Short statements come first,
and beside them a question alone, "what about green box?", after which a head has to find the words
of what is framed in what the queries saw: one bit a statement would take ten times as long to teach
where to look. No region ids and no commonsense: those are left for distillation.
"""

import re
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lskd_nb.mini.pretraining.vision import (
    BATCH,
    CPU,
    FRAMED,
    Pool,
    View,
    draw_view,
    entity_words,
    optimizers_of,
    schedule,
    to_pixels,
    word_head,
    word_index,
    words_loss,
    words_told,
)
from lskd_nb.mini.scenes import grammar
from lskd_nb.mini.scenes.world import (
    ANIMALS,
    COLORS,
    FACES,
    HELD,
    KINDS,
    PEOPLE,
    PLACES,
    POSES,
    THINGS,
    TIMES,
    WEATHER,
    Entity,
    Scene,
)
from lskd_nb.regions import COLOR_NAMES
from lskd_nb.students.blip2 import Student, autocast, itc_loss, lm_loss

BRIEF = 0.5  # share of the steps that learn from one clause at a time
LOOKING = ("What about {} box?", "{} box.", "What is framed in {}?", "{} box is what?")
WEIGHTS_OF = {"itc": 0.5, "itm": 1.0, "lm": 0.5, "looking": 0.1}  # the losses'


@dataclass(frozen=True)
class Example:
    """A picture's features with a text that fits and one that does not.

    ``question`` may be empty. ``worse`` is a second text that does not fit; where it is empty,
    another picture's text will do. Of "the red one is a man" that may be true as well.
    """

    view: int
    question: str
    text: str
    wrong: str
    worse: str = ""


def encode_views(student: Student, views: list[View]) -> Tensor:
    """(V, P + 1, width) bf16 features, once for all steps."""
    with autocast(CPU):
        return torch.cat(
            [
                student.encode_images(to_pixels(views[i : i + BATCH])).to(torch.bfloat16)
                for i in range(0, len(views), BATCH)
            ]
        )


def brief_example(views: list[View], index: int, rng: np.random.Generator) -> Example:
    """One clause about one entity, and wrong ones: what a Q-Former learns to read first."""
    view = views[index]
    if not view.frames or rng.random() < 0.1:
        return _captioned(views, index, [int(rng.integers(len(view.scene.entities)))], rng, 0.0)
    entity = int(rng.choice(list(view.frames)))
    said = grammar.facts(view.scene, entity, list(view.frames))
    chosen = [said[int(rng.integers(len(said)))]]
    told = (chosen, *(_falsified(view, entity, chosen, rng) for _ in range(2)))
    return Example(index, "", *(in_colors(*clauses, view) for clauses in told))


def example(views: list[View], index: int, rng: np.random.Generator) -> Example:
    """A caption or framed statement of a view, and a wrong one: another's, or a detail altered."""
    view = views[index]
    if view.frames and rng.random() < 0.85:
        return _framed_example(views, index, int(rng.choice(list(view.frames))), rng)
    if rng.random() < 0.3:
        return Example(index, *_scene_question(view.scene, views, rng))
    order = rng.permutation(len(view.scene.entities))[
        : int(rng.integers(1, len(view.scene.entities) + 1))
    ].tolist()
    return _captioned(views, index, order, rng, 0.2)


def _captioned(
    views: list[View], index: int, order: list[int], rng: np.random.Generator, others: float
) -> Example:
    """The caption of a view that names the entities of ``order``, and a wrong one.

    A share ``others`` of these is another picture's.
    """
    scene = views[index].scene
    text, wrong = grammar.caption(scene, order), ""
    while wrong in ("", text):  # another picture may happen to have the same caption
        if rng.random() >= others:
            wrong = grammar.caption(_changed(scene, views, order, rng), order)
        else:
            wrong = _any_caption(views, rng)
    return Example(index, "", text, wrong)


def _framed_example(
    views: list[View], index: int, entity: int, rng: np.random.Generator
) -> Example:
    """A statement, or a question and its answer, about one frame."""
    view = views[index]
    this = view.scene.entities[entity]
    if rng.random() < 0.15:
        color = COLOR_NAMES[view.frames[entity]]
        told = (this, *(_mistaken(view, entity, rng) for _ in range(2)))
        answers = ("Answer: " + _content(e) for e in told)
        return Example(index, f"What is framed in {color}?", *answers)
    said = grammar.facts(view.scene, entity, list(view.frames))
    drawn = [said[i] for i in rng.permutation(len(said))]
    chosen = list(dict.fromkeys(drawn))[: int(rng.choice([1, 2, 3], p=[0.4, 0.4, 0.2]))]
    told = (chosen, *(_falsified(view, entity, chosen, rng) for _ in range(2)))
    statements = [in_colors(" and ".join(clauses), view) for clauses in told]
    form = rng.random()
    if form < 0.25:
        return Example(index, "", *statements)
    question = in_colors(f"what about [{entity}]", view).replace(".", "?")
    if form < 0.5:
        return Example(index, question, *(f"Answer: {statement}" for statement in statements))
    # a question, an answer and what supports it, as triples have it; either may be the wrong part
    right, wrong = (f"Answer: {_content(e)}" for e in (this, _mistaken(view, entity, rng)))
    return Example(
        index,
        question,
        f"{right} Rationale: {statements[0]}",
        f"{right} Rationale: {statements[1]}",
        f"{wrong} Rationale: {statements[int(rng.integers(2)) * 2]}",
    )


def _mistaken(view: View, entity: int, rng: np.random.Generator) -> Entity:
    """Another framed entity, or this one with a detail altered."""
    this = view.scene.entities[entity]
    others = [view.scene.entities[e] for e in view.frames if e != entity]
    others = [other for other in others if _content(other) != _content(this)]
    if others and rng.random() < 0.6:
        return others[rng.integers(len(others))]
    altered = this
    while _content(altered) == _content(this):  # what it faces may be what it faced before
        altered = _altered(this, rng)
    return altered


def in_colors(statement: str, view: View) -> str:
    """A statement about entities by their index, told of their frames' colours instead."""
    return re.sub(
        r"\[(\d+)\]", lambda m: f"{COLOR_NAMES[view.frames[int(m[1])]]} box", statement + "."
    ).capitalize()


def _falsified(view: View, entity: int, said: list[str], rng: np.random.Generator) -> list[str]:
    """The statement with one clause that is false: of another frame, or of an altered entity."""
    scene, framed = view.scene, list(view.frames)
    for _ in range(20):
        place = int(rng.integers(len(said)))
        how = rng.random()
        if how < 0.5 and len(framed) > 1:  # two frames' colours exchanged, in one clause or in all
            other = int(rng.choice([e for e in framed if e != entity]))
            ids = {entity: other, other: entity}
            told = [
                re.sub(r"\[(\d+)\]", lambda m, ids=ids: f"[{ids.get(int(m[1]), int(m[1]))}]", c)
                if place == i or how < 0.25
                else c
                for i, c in enumerate(said)
            ]
        else:
            changed = _altered(scene.entities[entity], rng)
            donor = _changed_context(scene, rng)
            entities = (*scene.entities[:entity], changed, *scene.entities[entity + 1 :])
            claims = grammar.facts(replace(donor, entities=entities), entity, framed)
            told = list(said)
            told[place] = claims[rng.integers(len(claims))]
        if not all(grammar.clause_holds(scene, clause) for clause in told):
            return told
    return [*said[:-1], f"[{entity}] is a {_another(scene.entities[entity].kind, rng)}"]


def _another(kind: str, rng: np.random.Generator) -> str:
    return str(rng.choice([k for k in KINDS if k != kind]))


def _changed_context(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene with one of its place, weather and time drawn anew."""
    ways = [replace(scene, place=str(rng.choice(PLACES)))]
    if scene.weather:
        ways += [
            replace(scene, weather=str(rng.choice(WEATHER))),
            replace(scene, time=str(rng.choice(TIMES))),
        ]
    return ways[rng.integers(len(ways))]


def _content(entity: Entity) -> str:
    return grammar.describe_closely(entity).capitalize() + "."


def _altered(entity: Entity, rng: np.random.Generator) -> Entity:
    """The same with one detail changed, so that the picture, not the noun, tells them apart."""
    ways = [replace(entity, color=c) for c in COLORS[entity.kind] if c != entity.color]
    ways += 2 * [replace(entity, pose=p, held="") for p in POSES[entity.kind] if p != entity.pose]
    if entity.kind in PEOPLE:
        ways += [replace(entity, held=h, pose="standing") for h in HELD if h != entity.held]
        ways += [replace(entity, kind=k) for k in PEOPLE if k != entity.kind]
        ways += 3 * [replace(entity, face=f) for f in FACES if f != entity.face]
    if entity.kind in (*PEOPLE, *ANIMALS):
        ways += [replace(entity, toward=str(k)) for k in rng.choice((*KINDS, ""), 4)]
    if ways:
        return ways[rng.integers(len(ways))]
    return replace(entity, kind=str(rng.choice([k for k in THINGS if k != entity.kind])))


def _other_entity(views: list[View], like: Entity, rng: np.random.Generator) -> Entity:
    while True:
        scene = views[rng.integers(len(views))].scene
        entity = scene.entities[rng.integers(len(scene.entities))]
        if _content(entity) != _content(like):
            return entity


def _changed(scene: Scene, views: list[View], order: list[int], rng: np.random.Generator) -> Scene:
    """The scene with its place, weather or time, or one entity of ``order``, as they are not."""
    donor = views[rng.integers(len(views))].scene
    if rng.random() < 0.4 and (donor.place, donor.weather, donor.time) != (
        scene.place,
        scene.weather,
        scene.time,
    ):
        ways = [replace(scene, place=donor.place, weather=donor.weather, time=donor.time)]
        if scene.weather and donor.weather:
            ways += [
                w
                for w in (replace(scene, weather=donor.weather), replace(scene, time=donor.time))
                if w != scene
            ]
        return ways[rng.integers(len(ways))]
    one = int(rng.choice(order))
    entity = scene.entities[one]
    other = _altered(entity, rng) if rng.random() < 0.6 else _other_entity(views, entity, rng)
    return replace(scene, entities=(*scene.entities[:one], other, *scene.entities[one + 1 :]))


def _any_caption(views: list[View], rng: np.random.Generator) -> str:
    return grammar.caption(views[rng.integers(len(views))].scene)


def _scene_question(
    scene: Scene, views: list[View], rng: np.random.Generator
) -> tuple[str, str, str]:
    """A plain question about the whole picture, its answer and a wrong one."""
    entity = scene.entities[rng.integers(len(scene.entities))]
    wrong = _other_entity(views, entity, rng)
    other = views[rng.integers(len(views))].scene
    forms = [("What is in the picture?", _content(entity), _content(wrong))]
    if other.place != scene.place:
        forms.append(
            ("Where is this?", grammar.IN_PLACE[scene.place], grammar.IN_PLACE[other.place])
        )
    if scene.weather and other.weather not in ("", scene.weather):
        forms.append(("What is the weather like?", scene.weather, other.weather))
    if scene.time and other.time not in ("", scene.time):
        forms.append(("What time is it?", scene.time, other.time))
    question, right, wrong_text = forms[rng.integers(len(forms))]
    return question, "Answer: " + right, "Answer: " + wrong_text


def stage1_losses(
    student: Student, image: Tensor, batch: list[Example], rng: np.random.Generator
) -> dict[str, Tensor]:
    """ITC, ITM and LM of one batch of (B, P, width) features."""
    right = student.tokenize([e.question for e in batch], [e.text for e in batch])
    every = student.tokenize(
        [e.question for e in batch] * 3,
        [e.text for e in batch] + [e.wrong for e in batch] + [e.worse or e.text for e in batch],
    )
    image = student.image_keys_values(image)
    whole = torch.tensor([i for i, e in enumerate(batch) if not e.worse])
    views = torch.tensor([batch[i].view for i in whole])
    itc, similarity = itc_loss(
        student.query_features(image)[whole],
        student.text_features(right[whole]),
        views,
        student.temperature,
    )
    # the text of another image that fits best
    size = len(batch)
    another = torch.arange(2 * size, 3 * size)
    another[whole] = whole[torch.multinomial(similarity.softmax(1), 1).squeeze(1)]
    rows = torch.stack([torch.arange(size), another, torch.arange(size, 2 * size)], 1).flatten()
    logits = student.itm_logits(image, every[rows])
    target = torch.zeros(3 * size, dtype=torch.long)
    target[::3] = 1
    conditioned = bool(rng.random() < 0.7)
    log_probability, counted = student.lm_log_probabilities(image, right, conditioned)
    return dict(
        itc=itc,
        itm=F.cross_entropy(logits, target),
        lm=lm_loss(log_probability, counted, right.ids[:, 1:]),
    )


def looking_loss(
    student: Student,
    head: nn.Linear,
    image: Tensor,
    views: list[View],
    words: dict[str, int],
    rng: np.random.Generator,
) -> Tensor:
    """How badly the queries that read a frame's colour tell what is framed.

    ``head`` predicts the words of ``vision.entity_words`` from the mean of their (B, Q, H) outputs.
    """
    rows, asked, target = [], [], []
    for row, view in enumerate(views):
        if view.frames:
            entity = int(rng.choice(list(view.frames)))
            form = LOOKING[int(rng.integers(len(LOOKING)))]
            rows.append(row)
            asked.append(form.format(COLOR_NAMES[view.frames[entity]]))
            framed = entity_words(view.scene.entities[entity], view.frames[entity])
            target.append(words_told(framed, words))
    seen = student.seen_by_queries(image[rows], student.tokenize(asked, [""] * len(asked)))
    return words_loss(head(seen.mean(1)).float(), torch.from_numpy(np.stack(target)))


def train_reading(
    student: Student,
    pool: Pool,
    steps: int,
    peak: float,
    seed: int,
    log=print,
    framed: float = FRAMED,
) -> None:
    """Step 2: the Q-Former and its heads, from features of the frozen vision encoder."""
    rng = np.random.default_rng([seed, 3])
    torch.manual_seed(seed)
    student.blip2.set_attn_implementation("eager")  # as for the vision encoder
    views = [draw_view(pool, i, rng, framed) for i in range(len(pool.scenes)) for _ in range(2)]
    features = encode_views(student, views)
    words = word_index()
    head = word_head(student.blip2.config.qformer_config.hidden_size, words)
    optimizers = optimizers_of(
        [*student.named_parameters(), *head.named_parameters()], peak, decay=0.1
    )
    parameters = [p for p in (*student.parameters(), *head.parameters()) if p.requires_grad]
    student.train()
    begin, sums = time.time(), {}
    for step in range(steps):
        one = brief_example if step < BRIEF * steps else example
        batch = [one(views, int(i), rng) for i in rng.integers(len(views), size=BATCH)]
        chosen = [e.view for e in batch]
        image = features[chosen]
        with autocast(CPU):
            losses = stage1_losses(student, image, batch, rng)
            if framed:
                seen = [views[i] for i in chosen]
                losses["looking"] = looking_loss(student, head, image, seen, words, rng)
        sum(WEIGHTS_OF[name] * loss for name, loss in losses.items()).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizers.step(schedule(step, steps, peak))
        student.temperature.data.clamp_(0.001, 0.5)
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value.item()
        if (step + 1) % 50 == 0:
            line = ", ".join(f"{n} {v / 50:.3f}" for n, v in sums.items())
            log(f"stage 1 {step + 1}/{steps}: {line}, {time.time() - begin:.0f} s")
            sums = {}
    student.eval()


@torch.no_grad()
def reading_scores(
    student: Student, pool: Pool, seed: int, number: int = 600, framed: float = FRAMED
) -> dict[str, float]:
    """By ITM, shares where the right text wins: of captions, of statements about frames, and of
    those of the latter whose wrong text has nothing else but frames exchanged.
    """
    rng = np.random.default_rng([seed, 4])
    views = [draw_view(pool, i, rng, framed) for i in range(min(number, len(pool.scenes)))]
    features = encode_views(student, views)
    hits: dict[str, list[bool]] = {"caption": [], "frame": [], "exchange": []}
    for start in range(0, len(views), BATCH):
        batch = [example(views, i, rng) for i in range(start, min(start + BATCH, len(views)))]
        pair = student.tokenize(
            [e.question for e in batch] * 2, [e.text for e in batch] + [e.wrong for e in batch]
        )
        image = features[[e.view for e in batch]].repeat(2, 1, 1)
        with autocast(CPU):
            match = student.itm_logits(image, pair)
        match = (match[:, 1] - match[:, 0]).view(2, -1)
        for e, right in zip(batch, (match[0] > match[1]).tolist(), strict=True):
            hits["frame" if views[e.view].frames else "caption"].append(right)
            if e.text != e.wrong and _uncolored(e.text) == _uncolored(e.wrong):
                hits["exchange"].append(right)
    return {name: round(float(np.mean(values)), 4) for name, values in hits.items() if values}


def _uncolored(text: str) -> str:
    return re.sub(rf"({'|'.join(COLOR_NAMES)}) box", "box", text.lower())
