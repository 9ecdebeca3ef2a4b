"""First step of ``lskd mini pretrain``: the student's vision encoder, from pictures and words.

From the patches under an entity's box it predicts the words of the entity's description, and the
colour of the frame drawn around it where there is one; from the [CLS] patch the words of the
caption. What a web-scale vision encoder has learnt from annotated pictures, this one learns from
frames in colours: never from region ids.
"""

import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lskd_nb.mini.drawing.render import render
from lskd_nb.mini.pretraining import base
from lskd_nb.mini.scenes.world import (
    ANIMALS,
    COLORS,
    FACES,
    HEIGHT,
    HELD,
    KINDS,
    PEOPLE,
    PLACES,
    POSES,
    TIMES,
    WEATHER,
    WIDTH,
    Entity,
    Scene,
    sample_scenes,
)
from lskd_nb.regions import COLOR_NAMES, Region, highlight
from lskd_nb.students.blip2 import PIXEL_MEAN, PIXEL_STD, Student, autocast

BATCH = 64
MUON = 13.0  # its learning rate, as a multiple of AdamW's
FRAMED = 0.75  # share of pictures with frames
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Pool:
    """Scenes and their pictures, (N, S, S, 3) uint8."""

    scenes: list[Scene]
    images: np.ndarray


@dataclass(frozen=True)
class View:
    """One picture of a scene with frames drawn: ``frames`` maps entity index to colour index."""

    scene: Scene
    image: np.ndarray
    frames: dict[int, int]


def _thumbnail(scene: Scene) -> np.ndarray:
    from PIL import Image

    return np.asarray(
        render(scene).resize((base.IMAGE_SIZE, base.IMAGE_SIZE), Image.Resampling.BICUBIC)
    )


def make_pool(number: int, seed: int, prefix: str) -> Pool:
    """Sample and draw ``number`` scenes on all cores."""
    scenes = sample_scenes(number, seed, prefix)
    with ProcessPoolExecutor(2) as workers:
        images = np.stack(list(workers.map(_thumbnail, scenes, chunksize=64)))
    return Pool(scenes, images)


def scaled_box(entity: Entity) -> tuple[float, float, float, float]:
    """An entity's box in pixels of the square picture."""
    x, y = base.IMAGE_SIZE / WIDTH, base.IMAGE_SIZE / HEIGHT
    return entity.box[0] * x, entity.box[1] * y, entity.box[2] * x, entity.box[3] * y


def draw_view(pool: Pool, index: int, rng: np.random.Generator, framed: float) -> View:
    """A picture, with probability ``framed`` with frames in random colours around some entities."""
    from PIL import Image

    scene = pool.scenes[index]
    if rng.random() >= framed:
        return View(scene, pool.images[index], {})
    number = int(rng.integers(1, len(scene.entities) + 1))
    chosen = rng.permutation(len(scene.entities))[:number]
    colors = rng.permutation(len(COLOR_NAMES))
    frames = {int(e): int(c) for e, c in zip(chosen, colors, strict=False)}
    regions = [Region(color, scaled_box(scene.entities[e])) for e, color in frames.items()]
    return View(scene, np.asarray(highlight(Image.fromarray(pool.images[index]), regions)), frames)


def to_pixels(views: list[View]) -> Tensor:
    """(B, 3, S, S) normalised pixels of a batch."""
    stacked = (
        torch.from_numpy(np.stack([v.image for v in views])).float().div_(255).permute(0, 3, 1, 2)
    )
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
    return (stacked - mean) / std


def schedule(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over a twentieth of the steps, then cosine to a tenth of the peak."""
    if step < steps / 20:
        return peak * (step + 1) / (steps / 20)
    return peak * (0.1 + 0.45 * (1 + np.cos(np.pi * (step - steps / 20) / (steps * 0.95))))


@dataclass(frozen=True)
class Optimizers:
    """Muon for the layers' matrices, AdamW for the rest: from nothing, twice as fast as AdamW."""

    muon: torch.optim.Muon
    adamw: torch.optim.AdamW

    def step(self, rate: float) -> None:
        """A step at the learning rate ``rate`` of AdamW; gradients are cleared."""
        for optimizer, times in ((self.muon, MUON), (self.adamw, 1.0)):
            for group in optimizer.param_groups:
                group["lr"] = times * rate
            optimizer.step()
            optimizer.zero_grad()


def optimizers_of(
    named: Iterable[tuple[str, nn.Parameter]], rate: float, decay: float = 0.0
) -> Optimizers:
    """Of all parameters that are trained; embeddings and heads are AdamW's.

    ``decay`` is of Muon's weights, which grow without it.
    """
    matrices, rest = [], []
    for name, weight in named:
        if weight.requires_grad:
            inner = weight.ndim == 2 and ".layer" in name
            (matrices if inner else rest).append(weight)
    return Optimizers(
        torch.optim.Muon(matrices, lr=MUON * rate, weight_decay=decay),
        torch.optim.AdamW(rest, lr=rate, weight_decay=0.05, betas=(0.9, 0.98)),
    )


def entity_words(entity: Entity, frame: int | None) -> list[str]:
    color = f"{entity.kind}-{entity.color}" if len(COLORS[entity.kind]) > 1 else ""
    doing = [entity.pose and f"is-{entity.pose}", entity.held and f"has-{entity.held}"]
    if entity.kind in PEOPLE or entity.kind in ANIMALS:
        doing.append(f"before-{entity.toward or 'nothing'}")
    doing.append(entity.face and f"face-{entity.face}")
    return [
        entity.kind,
        *filter(None, [color, entity.color, *doing]),
        f"frame-{COLOR_NAMES[frame]}" if frame is not None else "no-frame",
    ]


def _scene_words(scene: Scene) -> list[str]:
    return [
        f"at-{scene.place}",
        *(f"sky-{w}" for w in (scene.weather, scene.time) if w),
        *(e.kind for e in scene.entities),
    ]


def _patch_weights(entity: Entity) -> np.ndarray:
    """How much of each patch an entity's box covers, normalised to sum 1."""
    grid = base.IMAGE_SIZE // base.PATCH
    edges = np.arange(grid) * base.PATCH
    x0, y0, x1, y1 = scaled_box(entity)
    across = np.clip(np.minimum(x1, edges + base.PATCH) - np.maximum(x0, edges), 0, None)
    down = np.clip(np.minimum(y1, edges + base.PATCH) - np.maximum(y0, edges), 0, None)
    weights = np.outer(down, across).ravel()
    return (weights / weights.sum()).astype(np.float32)


def word_index() -> dict[str, int]:
    """The words that the vision encoder learns to see: everything that a scene can hold."""
    words = {f"at-{p}" for p in PLACES} | {f"sky-{w}" for w in (*WEATHER, *TIMES)}
    for kind in KINDS:
        held = (*HELD, "") if kind in PEOPLE else ("",)
        for color, pose, thing in product(COLORS[kind], POSES[kind], held):
            words |= set(entity_words(Entity(kind, color, pose, thing), None))
        words |= set(entity_words(Entity(kind, COLORS[kind][0], toward=kind), None))
    for frame in range(len(COLOR_NAMES)):
        words |= set(entity_words(Entity("tree", "green"), frame))
    words |= {f"face-{face}" for face in FACES}
    words |= {f"before-{kind}" for kind in (*KINDS, "nothing")}
    return {w: i for i, w in enumerate(sorted(words))}


def word_head(width: int, words: dict[str, int]) -> nn.Linear:
    """Reads words from features; at first it expects few of them."""
    head = nn.Linear(width, len(words))
    nn.init.constant_(head.bias, -3.0)
    return head


def words_told(told: Iterable[str], words: dict[str, int]) -> np.ndarray:
    """(W,) float32: 1 for each word that is told."""
    target = np.zeros(len(words), np.float32)
    target[[words[w] for w in told]] = 1
    return target


def words_loss(logits: Tensor, told: Tensor) -> Tensor:
    """Binary cross entropy, summed over words and averaged over what they are told of."""
    return F.binary_cross_entropy_with_logits(logits, told, reduction="none").sum(-1).mean()


def vision_batch(
    views: list[View], words: dict[str, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Pixels; patch weights (R, P) of entities, their pictures (R,); words of both as targets."""
    weights, owner, seen, whole = [], [], [], []
    for row, view in enumerate(views):
        whole.append(words_told(_scene_words(view.scene), words))
        for index, entity in enumerate(view.scene.entities):
            weights.append(_patch_weights(entity))
            owner.append(row)
            seen.append(words_told(entity_words(entity, view.frames.get(index)), words))
    return to_pixels(views), *(
        torch.from_numpy(np.stack(a)) for a in (weights, np.array(owner), seen, whole)
    )


def vision_loss(
    student: Student, head: nn.Linear, batch: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of predicting words from pooled patches and [CLS], and the logits of both."""
    pixels, weights, owner, seen, whole = batch
    features = student.blip2.vision_model(pixels).last_hidden_state
    pooled = torch.einsum("rp,rpd->rd", weights.to(features.dtype), features[owner, 1:])
    entities, pictures = head(pooled).float(), head(features[:, 0]).float()
    # two patches of each entity alone have to tell the same: what is asked about by its frame is
    # found wherever one looks inside
    some = torch.multinomial(weights, 2, replacement=True)
    patches = head(features[owner[:, None], 1 + some]).float()
    pairs = ((entities, seen), (pictures, whole), (patches, seen[:, None].expand_as(patches)))
    loss = sum(words_loss(x, y) for x, y in pairs)
    return loss, entities, pictures


def train_vision(
    student: Student,
    pool: Pool,
    steps: int,
    peak: float,
    seed: int,
    log=print,
    framed: float = FRAMED,
) -> nn.Linear:
    """Step 1. Returns the word head, which is thrown away after scoring.

    ``framed`` is the share of pictures with frames.
    """
    rng, words = np.random.default_rng([seed, 1]), word_index()
    # the CPU's fused attention has a slow backward pass
    student.blip2.set_attn_implementation("eager")
    vision = student.blip2.vision_model.requires_grad_(True).train()
    head = word_head(student.blip2.config.vision_config.hidden_size, words)
    optimizers = optimizers_of([*vision.named_parameters(), *head.named_parameters()], peak)
    begin, total = time.time(), 0.0
    for step in range(steps):
        views = [
            draw_view(pool, int(i), rng, framed) for i in rng.integers(len(pool.scenes), size=BATCH)
        ]
        with autocast(CPU):
            loss, _, _ = vision_loss(student, head, vision_batch(views, words))
        loss.backward()
        nn.utils.clip_grad_norm_(vision.parameters(), 1.0)
        optimizers.step(schedule(step, steps, peak))
        total += loss.item()
        if (step + 1) % 100 == 0:
            log(f"vision {step + 1}/{steps}: loss {total / 100:.3f}, {time.time() - begin:.0f} s")
            total = 0.0
    vision.requires_grad_(False).eval()
    return head


@torch.no_grad()
def vision_scores(
    student: Student,
    head: nn.Linear,
    pool: Pool,
    words: dict[str, int],
    seed: int,
    framed: float = FRAMED,
) -> dict[str, float]:
    """Share of held-out entities whose kind, colour, pose, held thing and frame are seen right."""
    rng = np.random.default_rng([seed, 2])
    names = np.array(sorted(words, key=words.get))
    groups = {
        "frame": ("frame-", "no-frame"),
        "pose": ("is-",),
        "held": ("has-",),
        "face": ("face-",),
        "front": ("before-",),
        "place": ("at-",),
    }
    hits: dict[str, list[bool]] = {}
    for start in range(0, len(pool.scenes), BATCH):
        views = [
            draw_view(pool, i, rng, framed)
            for i in range(start, min(start + BATCH, len(pool.scenes)))
        ]
        with autocast(CPU):
            batch = vision_batch(views, words)
            _, entities, pictures = vision_loss(student, head, batch)
        for group, prefixes in groups.items():
            columns = [i for i, n in enumerate(names) if n.startswith(prefixes)]
            logits, target = (pictures, batch[4]) if group == "place" else (entities, batch[3])
            rows = target[:, columns].sum(1) > 0
            right = logits[rows][:, columns].argmax(1) == target[rows][:, columns].argmax(1)
            hits.setdefault(group, []).extend(right.tolist())
    return {group: round(float(np.mean(values)), 4) for group, values in hits.items()}
