"""The systems beside the student in the paper's table: CLIP, BLIP, BLIP-2, evaluated alike.

CLIP (Radford et al. 2021) scores a text by the cosine of image and text times its temperature, BLIP
(Li et al. 2022) by its matching head, BLIP-2 as the student does (``choices.match_scores``). All
see the same: the image squeezed to a square, the regions drawn on it afterwards, and "question
choice" as the text. BLIP-2's square may be given, so that a ViT-L of 224 pixels looks as closely
as the students do; CLIP's and BLIP's are those of their own processors. CLIP and BLIP are small, so
they run in full precision. Weights are read in Hugging Face's layout (CLIP: MIT, e.g.
``openai/clip-vit-base-patch16``, ``openai/clip-vit-large-patch14-336``; BLIP and BLIP-2:
BSD-3-Clause, e.g. ``Salesforce/blip-itm-large-coco``, ``Salesforce/blip2-itm-vit-g``); BLIP-2 in
all layouts that ``load_student`` reads.

Not run here with published weights, only with random ones in the same layout.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from transformers import (
    AutoTokenizer,
    BlipForImageTextRetrieval,
    CLIPModel,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from lskd_nb.evaluation.choices import Item, check_finite, items_of, items_table, match_scores
from lskd_nb.records import hash_of
from lskd_nb.shards import LOCAL, Engine, Work, in_shards
from lskd_nb.students.blip2 import pixels
from lskd_nb.students.loading import load_model, load_student
from lskd_nb.students.views import FrozenFeatures, View, draw

TEXTS_AT_ONCE = 256
SCORED = pa.schema(
    [
        ("item_id", pa.string()),
        ("scores", pa.list_(pa.float32())),
        ("cut", pa.int32()),
        ("pixels", pa.int32()),
    ]
)
BLIP_WORDS, BLIP_ENC = 30524, 30523  # BLIP's text encoder is BERT's with [DEC] and [ENC] added
PREPARED = ("clip", "blip")  # kinds that keep the image size of their own processor
Places = Mapping[str, str | Path]  # folders by task


@dataclass(frozen=True)
class ItemScores:
    """Scores of each item's choices, float32; how many of ``texts`` were longer than the system
    reads and lost their end; and the side of the square it saw, in pixels.
    """

    scores: list[np.ndarray]
    cut: int
    texts: int
    pixels: int


def score_items(
    system: str,
    items: Sequence[Item],
    image_root: str | Path,
    prefix: str = "",
    view_store: str | Path | None = None,
    **how: Any,
) -> ItemScores:
    """Score items whose images lie in one root, their features in ``view_store`` if given.

    ``how`` are further arguments of ``score_tasks``, which says more.
    """
    stores = {"": view_store} if view_store else None
    return score_tasks(
        system, {"": items}, {"": image_root}, prefix=prefix, view_stores=stores, **how
    )[""]


def score_tasks(
    system: str,
    items: Mapping[str, Sequence[Item]],
    image_roots: Places,
    prefix: str = "",
    batch: int = 32,
    max_tokens: int = 128,
    view_stores: Places | None = None,
    loading: Mapping[str, object] | None = None,
    engine: Engine = LOCAL,
    parts: str | Path | None = None,
    part: int = 2000,
) -> dict[str, ItemScores]:
    """Score items by the system at a hub name, folder or LAVIS checkpoint, loaded once for all
    tasks. Its ``model_type`` says which kind it is.

    ``items``, the roots of their images and the stores of their views are given by task.
    ``prefix`` goes before each question: "question: " in the reference release, which trains with
    it too. ``batch`` images are encoded at a time. The next three are for BLIP-2, ``loading`` being
    further arguments of ``load_student`` (its ``image_size`` among them); CLIP and BLIP keep the
    size that they were trained with, and read as much as they have positions for (CLIP: 77 tokens).
    Other processes than this one do ``part`` items at a time and leave their scores in the folder
    ``parts``, in order of image; they store no features. Raises ``ValueError`` for another kind of
    model, for scores that are no finite numbers, or where other processes are not told where to
    leave the parts.
    """
    asked = [
        (task, replace(item, question=prefix + item.question) if item.question else item)
        for task, of_task in items.items()
        for item in of_task
    ]
    told = dict(loading or {})
    stores = dict(view_stores or {})
    if not asked:
        rows = []
    elif engine.name == "local":
        rows = _work(_load(system, batch, max_tokens, told), asked, image_roots, stores)
    else:
        if parts is None:
            raise ValueError(f"engine {engine.name!r} needs a folder for its parts")
        rows = _in_parts(
            system, asked, image_roots, batch, max_tokens, told, engine, Path(parts), part
        )
    found: dict[str, list[dict]] = {task: [] for task in items}
    for (task, _), row in zip(asked, rows, strict=True):
        found[task].append(row)
    return {
        task: ItemScores(
            [np.array(row["scores"], np.float32) for row in of_task],
            sum(row["cut"] for row in of_task),
            sum(len(row["scores"]) for row in of_task),
            of_task[0]["pixels"] if of_task else 0,
        )
        for task, of_task in found.items()
    }


def _in_parts(
    system: str,
    asked: Sequence[tuple[str, Item]],
    image_roots: Places,
    batch: int,
    max_tokens: int,
    loading: dict,
    engine: Engine,
    parts: Path,
    part: int,
) -> list[dict]:
    """SCORED rows of the items, in their order, by other processes."""
    roots = {task: str(root) for task, root in image_roots.items()}
    order = sorted(range(len(asked)), key=lambda n: (roots[asked[n][0]], asked[n][1].view.image, n))
    table = items_table([asked[n][1] for n in order])
    table = table.append_column("root", pa.array([roots[asked[n][0]] for n in order], pa.string()))
    # of a hub name: of nothing
    weights = hash_of(sorted(f for f in (*Path(system).glob("*"), Path(system)) if f.is_file()))
    content = hashlib.sha256(str(table.to_pydict()).encode()).hexdigest()
    told = [system, weights, SCORED.names, batch, max_tokens, loading, part, content]
    folder = parts / hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()[:12]
    found, _ = in_shards(
        table,
        folder,
        part,
        partial(_scoring, system, batch, max_tokens, loading),
        SCORED,
        engine=engine,
    )
    rows: list[dict] = [{}] * len(asked)
    for place, row in zip(order, found.to_pylist(), strict=True):
        rows[place] = row
    return rows


def _scoring(system: str, batch: int, max_tokens: int, loading: dict) -> Work:
    ready = _load(system, batch, max_tokens, loading)

    def work(table: pa.Table) -> tuple[list[dict], list[dict]]:
        roots = table["root"].to_pylist()
        asked = list(zip(roots, items_of(table.drop_columns("root")), strict=True))
        return _work(ready, asked, {root: root for root in roots}, {}), []

    return work


def _work(
    ready: "LoadedBaseline", asked: Sequence[tuple[str, Item]], roots: Places, stores: Places
) -> list[dict]:
    """SCORED rows of items, each with the key of its folders."""
    rows: list[dict] = [{}] * len(asked)
    for key in dict.fromkeys(key for key, _ in asked):
        numbers = [n for n, (of, _) in enumerate(asked) if of == key]
        items = [asked[n][1] for n in numbers]
        scores = ready.score(items, roots[key], stores.get(key))
        for n, item, of_item in zip(numbers, items, scores, strict=True):
            check_finite(of_item, ready.name, f"item {item.item_id}")
            cut, _ = _count_cut(ready.tokenizer, ready.longest, [item])
            rows[n] = dict(
                item_id=item.item_id, scores=of_item.tolist(), cut=cut, pixels=ready.pixels
            )
    return rows


@dataclass(frozen=True)
class LoadedBaseline:
    """A system that is loaded: its scores of items (with the root of their images, and the store of
    their views if there is one), its tokenizer, how many tokens it reads and how many pixels.
    """

    name: str
    score: Callable[[Sequence[Item], str | Path, str | Path | None], list[np.ndarray]]
    tokenizer: PreTrainedTokenizerBase
    longest: int
    pixels: int


def _load(system: str, batch: int, max_tokens: int, loading: dict) -> LoadedBaseline:
    kind = model_type(system)
    if kind == "blip-2":
        student = load_student(system, max_tokens, **loading).eval().to(_device())

        @cache  # to find a store is to hash the vision encoder
        def views(root: str | Path, store: str | Path | None) -> FrozenFeatures:
            return FrozenFeatures(student, root, store)

        return LoadedBaseline(
            system,
            lambda items, root, store: match_scores(
                student, items, views(root, store), batch, system
            ),
            student.tokenizer,
            max_tokens,
            student.image_size,
        )
    if kind not in PREPARED:
        raise ValueError(f"{system} is a {kind!r} model; expected clip, blip or blip-2")
    tokenizer = AutoTokenizer.from_pretrained(system)
    network, scores = (
        (CLIPModel, clip_scores) if kind == "clip" else (BlipForImageTextRetrieval, blip_scores)
    )
    model = load_model(network, system, _device(), torch.float32)
    return LoadedBaseline(
        system,
        lambda items, root, _: scores(model, tokenizer, items, root, batch),
        tokenizer,
        model.config.text_config.max_position_embeddings,
        model.config.vision_config.image_size,
    )


def model_type(system: str) -> str:
    """``model_type`` of a system's config.json; a LAVIS checkpoint, which has none, is a BLIP-2."""
    if Path(system).suffix == ".pth":
        return "blip-2"
    found, _ = PreTrainedConfig.get_config_dict(system)
    if "model_type" not in found:
        raise ValueError(
            f"no config.json with a model_type at {system}:"
            " expected a model in Hugging Face's layout"
        )
    return found["model_type"]


@torch.no_grad()
def clip_scores(
    model: CLIPModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Item],
    image_root: str | Path,
    batch: int = 32,
) -> list[np.ndarray]:
    """CLIP's logits of every item's choices: cosine times temperature.

    An image is encoded once for all items that look at it.
    """

    def encode(image: Tensor) -> Tensor:
        return _unit(model.get_image_features(pixel_values=image))

    def compare(images: Tensor, rows: Tensor, texts: list[str]) -> Tensor:
        told = _tokens(tokenizer, texts, model.config.text_config.max_position_embeddings).to(
            model.device
        )
        words = _unit(
            model.get_text_features(input_ids=told.input_ids, attention_mask=told.attention_mask)
        )
        return model.logit_scale.exp() * (images[rows] * words).sum(-1)

    return _scores(
        items,
        image_root,
        model.config.vision_config.image_size,
        model.device,
        batch,
        encode,
        compare,
    )


@torch.no_grad()
def blip_scores(
    model: BlipForImageTextRetrieval,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Item],
    image_root: str | Path,
    batch: int = 32,
) -> list[np.ndarray]:
    """BLIP's log P(match) - log P(no match) of every item's choices.

    An image is encoded once for all items that look at it.
    """
    start = encoder_start(model, tokenizer)

    def encode(image: Tensor) -> Tensor:
        return model.vision_model(pixel_values=image).last_hidden_state

    def compare(images: Tensor, rows: Tensor, texts: list[str]) -> Tensor:
        told = _tokens(tokenizer, texts, model.config.text_config.max_position_embeddings).to(
            model.device
        )
        ids = torch.cat(
            [torch.full_like(told.input_ids[:, :1], start), told.input_ids[:, 1:]], dim=1
        )
        seen = images[rows]
        everywhere = torch.ones(seen.shape[:2], dtype=torch.long, device=model.device)
        fused = model.text_encoder(
            input_ids=ids,
            attention_mask=told.attention_mask,
            encoder_hidden_states=seen,
            encoder_attention_mask=everywhere,
        )
        logits = model.itm_head(fused.last_hidden_state[:, 0])
        return logits[:, 1] - logits[:, 0]

    return _scores(
        items,
        image_root,
        model.config.vision_config.image_size,
        model.device,
        batch,
        encode,
        compare,
    )


def encoder_start(model: BlipForImageTextRetrieval, tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that BLIP's matching texts start with: [ENC], as BLIP's own code and LAVIS train
    and evaluate them, where the vocabulary has it.

    Hugging Face's tokenizer of BLIP starts them with [CLS], and does not know [ENC], though the
    word embeddings have its row.
    """
    if "[ENC]" in tokenizer.get_vocab():
        return tokenizer.convert_tokens_to_ids("[ENC]")
    return BLIP_ENC if model.config.text_config.vocab_size == BLIP_WORDS else tokenizer.cls_token_id


def _scores(
    items: Sequence[Item],
    image_root: str | Path,
    size: int,
    device: torch.device,
    batch: int,
    encode: Callable[[Tensor], Tensor],
    compare: Callable[[Tensor, Tensor, list[str]], Tensor],
) -> list[np.ndarray]:
    """Encode ``batch`` views at a time; ``compare(images, rows, texts)`` scores their texts."""
    scores: list[np.ndarray] = [np.zeros(0, np.float32)] * len(items)
    for views, numbers in _by_view(items, batch):
        images = encode(_drawn(views, image_root, size).to(device))
        row = {view.key: place for place, view in enumerate(views)}
        pairs = [(row[items[n].view.key], text) for n in numbers for text in _texts(items[n])]
        found = np.concatenate(
            [
                compare(
                    images, torch.tensor([r for r, _ in part], device=device), [t for _, t in part]
                )
                .float()
                .cpu()
                .numpy()
                for part in (
                    pairs[start : start + TEXTS_AT_ONCE]
                    for start in range(0, len(pairs), TEXTS_AT_ONCE)
                )
            ]
        )
        ends = np.cumsum([len(items[n].choices) for n in numbers])
        for n, of_item in zip(numbers, np.split(found, ends[:-1]), strict=True):
            scores[n] = of_item
    return scores


def _by_view(items: Sequence[Item], batch: int) -> Iterator[tuple[list[View], list[int]]]:
    """``batch`` different views at a time, and the numbers of the items that look at them."""
    views: dict[str, View] = {}
    numbers: dict[str, list[int]] = {}
    for number, item in enumerate(items):
        views.setdefault(item.view.key, item.view)
        numbers.setdefault(item.view.key, []).append(number)
    keys = list(views)
    for start in range(0, len(keys), batch):
        part = keys[start : start + batch]
        yield [views[k] for k in part], [n for k in part for n in numbers[k]]


def _drawn(views: Sequence[View], image_root: str | Path, size: int) -> Tensor:
    with ThreadPoolExecutor(2) as readers:
        return torch.from_numpy(
            np.stack(
                list(readers.map(lambda view: pixels(draw(view, image_root, size), size), views))
            )
        )


def _texts(item: Item) -> list[str]:
    return [f"{item.question} {choice}".strip() for choice in item.choices]


def _tokens(tokenizer: PreTrainedTokenizerBase, texts: list[str], limit: int):
    return tokenizer(texts, padding=True, truncation=True, max_length=limit, return_tensors="pt")


def _count_cut(
    tokenizer: PreTrainedTokenizerBase, limit: int, items: Sequence[Item]
) -> tuple[int, int]:
    """How many texts have more than ``limit`` tokens, of how many."""
    texts = [text for item in items for text in _texts(item)]
    lengths = map(len, tokenizer(texts).input_ids if texts else ())
    return sum(length > limit for length in lengths), len(texts)


def _unit(found) -> Tensor:
    features = found if isinstance(found, Tensor) else found.pooler_output
    return torch.nn.functional.normalize(features, dim=-1)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
