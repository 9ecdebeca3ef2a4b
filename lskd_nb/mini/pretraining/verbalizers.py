"""Third step of ``lskd mini pretrain``: verbalizers, small real models that make real mistakes.

- ``clip``: a CLIP trained from nothing on pictures and phrases ("a photo of a rainy night");
- ``vlm``: a BLIP-2 with a T5, one set of weights for captions, descriptions of a framed region, and
  answers to questions; its vision encoder is the base student's, frozen, as the paper's verbalizers
  and student share theirs;
- ``questions``: a T5 that reads captions and asks what is not said.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerBase,
    T5Config,
    T5ForConditionalGeneration,
)

from lskd_nb.mini.pretraining import base
from lskd_nb.mini.pretraining.stage1 import encode_views
from lskd_nb.mini.pretraining.vision import (
    BATCH,
    CPU,
    Pool,
    View,
    make_pool,
    scaled_box,
    schedule,
    to_pixels,
)
from lskd_nb.mini.scenes import grammar
from lskd_nb.mini.scenes.world import COLORS, PEOPLE, Entity, Scene
from lskd_nb.regions import Region, highlight
from lskd_nb.students.blip2 import Student, autocast
from lskd_nb.students.loading import load_student

STREAM = 90_003
CAPTION_PROMPT, REGION_PROMPT, VQA_PROMPT = "caption :", "region :", "Question: {} Answer:"
CLIP_SIZE = 64
WHOLE = ("captioner", "clip-place", "clip-concept")  # verbalizers of what a picture is
CONTEXT = ("place", "weather", "time")


def words() -> PreTrainedTokenizerBase:
    """The world's tokenizer with BLIP-2's image token and the end mark that T5 generates."""
    tokenizer = base.tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"], "eos_token": "[SEP]"})
    return tokenizer


# -------------------------------------------------------------------------------------------- texts


def short_caption(scene: Scene) -> str:
    """Context and the two largest entities, from left to right."""
    area = [(e.box[2] - e.box[0]) * (e.box[3] - e.box[1]) for e in scene.entities]
    return grammar.caption(scene, sorted(sorted(range(len(area)), key=lambda i: -area[i])[:2]))


def questions_about(scene: Scene) -> list[tuple[str, str]]:
    """Questions whose answer can be seen, with the answer."""
    found = [("Where is this?", grammar.IN_PLACE[scene.place])]
    if scene.weather:
        found += [("What is the weather like?", scene.weather), ("What time is it?", scene.time)]
    found += [
        (f"What is {grammar.the(e)} doing?", grammar.doing(e))
        for e in scene.entities
        if e.kind in PEOPLE
    ]
    return found


def asked_context(scene: Scene) -> str:
    """What the question generator is shown: a caption and the regions' descriptions."""
    return " ".join([short_caption(scene), *(grammar.describe(e) for e in scene.entities)])


# --------------------------------------------------------------------------------------------- clip


def fresh_clip(seed: int, width: int = 64) -> CLIPModel:
    torch.manual_seed(seed)
    tower = dict(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=4,
        initializer_range=0.05,
    )
    ends = words()
    text = tower | dict(
        vocab_size=len(ends),
        max_position_embeddings=64,
        bos_token_id=ends.cls_token_id,
        eos_token_id=ends.sep_token_id,
        pad_token_id=ends.pad_token_id,
    )
    vision = tower | dict(image_size=CLIP_SIZE, patch_size=8)
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=width))


def phrase(scene: Scene, rng: np.random.Generator) -> str:
    """One thing that is to be seen in a scene, worded as retrieval words it."""
    options = [
        grammar.IN_PLACE[scene.place].split()[-1],
        scene.entities[rng.integers(len(scene.entities))].kind,
    ]
    if scene.weather:
        options += [f"{scene.weather} weather", scene.time]
    held = [e.held for e in scene.entities if e.held]
    if held:
        options.append(str(rng.choice(held)))
    return f"a photo of {options[rng.integers(len(options))]}"


def train_clip(model: CLIPModel, pool: Pool, steps: int, seed: int, log: Callable) -> None:
    """Contrast of pictures and phrases; a phrase counts as right for every picture of the batch
    that it is true of.
    """
    from PIL import Image

    rng, tokenizer = np.random.default_rng([seed, 5]), words()
    small = np.stack(
        [
            np.asarray(Image.fromarray(i).resize((CLIP_SIZE, CLIP_SIZE), Image.Resampling.BICUBIC))
            for i in pool.images
        ]
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    model.set_attn_implementation("eager")
    model.train()
    begin = time.time()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = schedule(step, steps, 1.5e-3)
        chosen = rng.integers(len(pool.scenes), size=BATCH)
        texts = [
            phrase(pool.scenes[i], rng) if rng.random() < 0.8 else grammar.context(pool.scenes[i])
            for i in chosen
        ]
        pixels = to_pixels([View(pool.scenes[i], small[i], {}) for i in chosen])
        same = torch.tensor([[phrase_holds(pool.scenes[i], t) for t in texts] for i in chosen])
        with autocast(CPU):
            out = model(pixel_values=pixels, **tokenizer(texts, padding=True, return_tensors="pt"))
            logits = out.logits_per_image.float()
            target = same.float()
            loss = (
                sum(
                    -(t / t.sum(1, keepdim=True) * x.log_softmax(1)).sum(1).mean()
                    for x, t in ((logits, target), (logits.T, target.T))
                )
                / 2
            )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        model.logit_scale.data.clamp_(0, 4.6)
        if (step + 1) % 200 == 0:
            log(f"clip {step + 1}/{steps}: {loss.item():.3f}, {time.time() - begin:.0f} s")
    model.eval()


def phrase_holds(scene: Scene, text: str) -> bool:
    """Whether every content word of a phrase is true of the scene."""
    seen = {
        scene.place,
        scene.weather,
        scene.time,
        *(e.kind for e in scene.entities),
        *(e.held for e in scene.entities),
    }
    asked = [
        w
        for w in re.findall(r"[a-z]+", text.removeprefix("a photo of "))
        if w not in {"a", "in", "on", "the", "at", "weather"}
    ]
    return all(w in seen for w in asked)


# ---------------------------------------------------------------------------------------------- vlm


def t5_config(tokenizer: PreTrainedTokenizerBase, width: int = 96) -> T5Config:
    return T5Config(
        vocab_size=len(tokenizer),
        d_model=width,
        d_kv=24,
        d_ff=2 * width,
        num_layers=2,
        num_decoder_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
        feed_forward_proj="gated-gelu",
    )


def fresh_vlm(
    student: Student, seed: int, hidden: int = 96, layers: int = 2
) -> Blip2ForConditionalGeneration:
    """A BLIP-2 with the student's vision encoder and everything else new."""
    torch.manual_seed(seed)
    tokenizer = words()
    vision = student.blip2.config.vision_config
    qformer = Blip2QFormerConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * hidden,
        cross_attention_frequency=1,
        encoder_hidden_size=vision.hidden_size,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.05,
    )
    config = Blip2Config(
        vision_config=vision.to_dict(),
        qformer_config=qformer.to_dict(),
        text_config=t5_config(tokenizer).to_dict(),
        num_query_tokens=12,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = Blip2ForConditionalGeneration(config)
    nn.init.normal_(model.query_tokens, std=0.02)
    model.vision_model.load_state_dict(student.blip2.vision_model.state_dict())
    model.vision_model.requires_grad_(False)
    model.set_attn_implementation("eager")
    return model


@dataclass(frozen=True)
class Told:
    """A view (index), a prompt and what is to be said."""

    view: int
    prompt: str
    text: str


def vlm_loss(
    model: Blip2ForConditionalGeneration, tokenizer, features: Tensor, batch: list[Told]
) -> Tensor:
    """Cross entropy of the words, from frozen features: the class would encode images each step."""
    queries = model.query_tokens.expand(len(batch), -1, -1)
    seen = model.qformer(query_embeds=queries, encoder_hidden_states=features).last_hidden_state
    prompt = tokenizer([b.prompt for b in batch], padding=True, return_tensors="pt")
    inputs = torch.cat(
        [model.language_projection(seen), model.get_input_embeddings()(prompt.input_ids)], dim=1
    )
    mask = torch.cat(
        [torch.ones(queries.shape[:2], dtype=torch.long), prompt.attention_mask], dim=1
    )
    return model.language_model(
        inputs_embeds=inputs, attention_mask=mask, labels=labels(tokenizer, [b.text for b in batch])
    ).loss


def labels(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> Tensor:
    """Target ids that end with T5's end mark, padding ignored."""
    ids = tokenizer(
        [t.lower().rstrip(".") for t in texts], padding=True, return_tensors="pt"
    ).input_ids[:, 1:]
    return ids.masked_fill(ids == tokenizer.pad_token_id, -100)


def told(pool: Pool, seed: int) -> tuple[list[View], list[Told]]:
    """Each scene plain, with caption and questions, and each entity framed and described."""
    from PIL import Image

    views, examples = [], []
    for scene, image in zip(pool.scenes, pool.images, strict=True):
        views.append(View(scene, image, {}))
        examples += [Told(len(views) - 1, CAPTION_PROMPT, short_caption(scene))] * 2
        examples += [
            Told(len(views) - 1, VQA_PROMPT.format(q), a) for q, a in questions_about(scene) if a
        ]
        for index, entity in enumerate(scene.entities):
            framed = highlight(Image.fromarray(image), [Region(0, scaled_box(entity))])
            views.append(View(scene, np.asarray(framed), {index: 0}))
            examples += [Told(len(views) - 1, REGION_PROMPT, grammar.describe_closely(entity))] * 2
    return views, examples


def train_vlm(
    model: Blip2ForConditionalGeneration,
    student: Student,
    pool: Pool,
    steps: int,
    seed: int,
    log: Callable,
) -> None:
    """Captions, region descriptions and answers together, on frozen features."""
    rng, tokenizer = np.random.default_rng([seed, 6]), words()
    views, examples = told(pool, seed)
    features = encode_views(student, views)
    _optimise(
        "vlm",
        [p for p in model.parameters() if p.requires_grad],
        steps,
        2e-3,
        log,
        lambda: (
            lambda batch: vlm_loss(model, tokenizer, features[[b.view for b in batch]], batch)
        )([examples[i] for i in rng.integers(len(examples), size=BATCH)]),
    )
    model.eval()


# ---------------------------------------------------------------------------------------- questions


def train_questions(
    model: T5ForConditionalGeneration, pool: Pool, steps: int, seed: int, log: Callable
) -> None:
    """From a caption and descriptions to a question whose answer can be seen."""
    rng, tokenizer = np.random.default_rng([seed, 7]), words()
    model.set_attn_implementation("eager")

    def loss() -> Tensor:
        scenes = [pool.scenes[i] for i in rng.integers(len(pool.scenes), size=BATCH)]
        asked = [questions_about(s) for s in scenes]
        target = labels(tokenizer, [q[rng.integers(len(q))][0] for q in asked])
        inputs = tokenizer(
            [asked_context(s) for s in scenes],
            padding=True,
            truncation=True,
            max_length=128,
            return_tensors="pt",
        )
        return model(**{k: inputs[k] for k in ("input_ids", "attention_mask")}, labels=target).loss

    _optimise("questions", list(model.parameters()), steps, 2e-3, log, loss)
    model.eval()


def _optimise(
    name: str,
    parameters: list[nn.Parameter],
    steps: int,
    peak: float,
    log: Callable,
    loss_of: Callable[[], Tensor],
) -> None:
    optimizer = torch.optim.AdamW(parameters, lr=peak, weight_decay=0.01)
    begin, total = time.time(), 0.0
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = schedule(step, steps, peak)
        with autocast(CPU):
            loss = loss_of()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        total += loss.item()
        if (step + 1) % 100 == 0:
            log(f"{name} {step + 1}/{steps}: loss {total / 100:.3f}, {time.time() - begin:.0f} s")
            total = 0.0


# ---------------------------------------------------------------------------------------- all of it


def train_verbalizers(
    folder: Path,
    seed: int,
    scenes: int = 4000,
    steps: Mapping[str, int] | None = None,
    log: Callable = print,
) -> dict:
    """Train and save all three beside the base student in ``folder``.

    How wrong they are is measured in notebook 01.
    """
    steps = dict(clip=900, vlm=1200, questions=300) | dict(steps or {})
    pool = make_pool(scenes, STREAM + seed, "w")
    student = load_student(str(folder / "student")).eval()
    clip = fresh_clip(seed)
    train_clip(clip, pool, steps["clip"], seed, log)
    save(clip, folder / "clip")
    vlm = fresh_vlm(student, seed)
    train_vlm(vlm, student, pool, steps["vlm"], seed, log)
    save(vlm, folder / "vlm")
    torch.manual_seed(seed)
    questions = T5ForConditionalGeneration(t5_config(words(), 64))
    train_questions(questions, pool, steps["questions"], seed, log)
    save(questions, folder / "questions")
    return {}


def save(model, folder: Path) -> None:
    """Half precision, Hugging Face's layout, with the tokenizer."""
    eager = isinstance(model, T5ForConditionalGeneration)
    model.set_attn_implementation("eager" if eager else "sdpa")
    model.to(torch.float16).save_pretrained(folder)
    model.to(torch.float32)
    words().save_pretrained(folder)


# ---------------------------------------------------------------------------------------- measuring


def error_rates(rows: Iterable[Mapping], truth: Mapping[str, Scene]) -> dict[str, dict[str, float]]:
    """Share of lines that are wrong about regions, by attribute, or place, weather and time."""
    wrong: dict[tuple[str, str], list[bool]] = {}
    for row in rows:
        scene = truth.get(row["image_id"])
        if scene is None:
            continue
        if row["kind"] == "local" and row["region"] is not None:
            said = grammar.read_entity(row["text"])
            errors = _region_errors(said, scene.entities[row["region"]])
            for name, is_wrong in errors.items():
                wrong.setdefault(("region-captioner", name), []).append(is_wrong)
        elif row["verbalizer"] in WHOLE or row["kind"] == "dynamic":
            true_context = (scene.place, scene.weather, scene.time)
            seen = grammar.read_context(row["text"])
            for name, said, true in zip(CONTEXT, seen, true_context, strict=True):
                if said:
                    wrong.setdefault((row["verbalizer"], name), []).append(said != true)
    rates: dict[str, dict[str, float]] = {}
    for (verbalizer, name), values in sorted(wrong.items()):
        rates.setdefault(verbalizer, {})[name] = float(np.mean(values))
    return rates


def _region_errors(said: Entity, true: Entity) -> dict[str, bool]:
    errors = {
        "kind": said.kind != true.kind,
        "held": said.held != true.held,
        "face": said.face != true.face,
        "front": said.toward != true.toward,
        "pose": said.pose != true.pose,
    }
    if len(COLORS[true.kind]) > 1:
        errors["color"] = said.color != true.color
    return errors | {"any": any(errors.values())}
