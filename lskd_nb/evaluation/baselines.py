"""The systems beside the student in the paper's table: CLIP, BLIP, BLIP-2, evaluated alike.

CLIP (Radford et al. 2021) scores a text by the cosine of image and text times its temperature, BLIP
(Li et al. 2022) by its matching head, BLIP-2 as the student does (``choices.match_scores``). All
see the same: the image squeezed to their own square, the regions drawn on it afterwards, and
"question choice" as the text. CLIP and BLIP are small, so they run in full precision. Weights are
read in Hugging Face's layout (CLIP: MIT, e.g. ``openai/clip-vit-base-patch16``,
``openai/clip-vit-large-patch14-336``; BLIP and BLIP-2: BSD-3-Clause, e.g.
``Salesforce/blip-itm-large-coco``, ``Salesforce/blip2-itm-vit-g``); BLIP-2 in all layouts that
``load_student`` reads.

Not run here with published weights, only with random ones in the same layout.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

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

from lskd_nb.evaluation.choices import Item, items_of, items_table, match_scores
from lskd_nb.records import hash_of
from lskd_nb.shards import LOCAL, Engine, Work, in_shards
from lskd_nb.students.blip2 import pixels
from lskd_nb.students.loading import load_student
from lskd_nb.students.views import FrozenFeatures, View, draw

TEXTS_AT_ONCE = 256
SCORED = pa.schema(
    [("item_id", pa.string()), ("scores", pa.list_(pa.float32())), ("cut", pa.int32())]
)
BLIP_WORDS, BLIP_ENC = 30524, 30523  # BLIP's text encoder is BERT's with [DEC] and [ENC] added


@dataclass(frozen=True)
class ItemScores:
    """Scores of each item's choices, float32, and how many of ``texts`` were longer than the
    system reads and lost their end.
    """

    scores: list[np.ndarray]
    cut: int
    texts: int


def score_items(
    system: str,
    items: Sequence[Item],
    image_root: str | Path,
    prefix: str = "",
    batch: int = 32,
    max_tokens: int = 128,
    view_store: str | Path | None = None,
    loading: Mapping[str, object] | None = None,
    engine: Engine = LOCAL,
    parts: str | Path | None = None,
    part: int = 2000,
) -> ItemScores:
    """Score items by the system at a hub name, folder or LAVIS checkpoint.

    Its ``model_type`` says which kind it is.

    ``prefix`` goes before each question; the reference release evaluates with "question: ".
    ``batch`` images are encoded at a time. The next three are for BLIP-2, ``loading`` being further
    arguments of ``load_student``; CLIP and BLIP read as much as they have positions for (CLIP: 77
    tokens). Ray's workers do ``part`` items at a time and leave their scores in the folder
    ``parts``, in order of image; they store no features. Raises ``ValueError`` for another kind of
    model, or where Ray is not told where to leave the parts.
    """
    items = [
        replace(item, question=prefix + item.question) if item.question else item for item in items
    ]
    if engine.name == "local":
        ready = _load(system, image_root, batch, max_tokens, view_store, dict(loading or {}))
        return ItemScores(ready.score(items), *_count_cut(ready.tokenizer, ready.longest, items))
    if parts is None:
        raise ValueError("engine 'ray' needs a folder for its parts")
    order = sorted(range(len(items)), key=lambda i: (items[i].view.image, i))
    table = items_table([items[i] for i in order])
    # of a hub name: of nothing
    weights = hash_of(sorted(f for f in (*Path(system).glob("*"), Path(system)) if f.is_file()))
    told = [
        system,
        weights,
        str(image_root),
        batch,
        max_tokens,
        loading,
        part,
        hashlib.sha256(str(table.to_pydict()).encode()).hexdigest(),
    ]
    folder = Path(parts) / hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()[:12]
    found, _ = in_shards(
        table,
        folder,
        part,
        partial(_scoring, system, str(image_root), batch, max_tokens, dict(loading or {})),
        SCORED,
        engine=engine,
    )
    scores: list[np.ndarray] = [np.zeros(0, np.float32)] * len(items)
    for place, row in zip(order, found["scores"].to_pylist(), strict=True):
        scores[place] = np.array(row, np.float32)
    return ItemScores(
        scores, found["cut"].to_numpy().sum().item(), sum(len(i.choices) for i in items)
    )


def _scoring(system: str, image_root: str, batch: int, max_tokens: int, loading: dict) -> Work:
    ready = _load(system, image_root, batch, max_tokens, None, loading)

    def work(table: pa.Table) -> tuple[list[dict], list[dict]]:
        items = items_of(table)
        cut = [_count_cut(ready.tokenizer, ready.longest, [item])[0] for item in items]
        return [
            dict(item_id=i.item_id, scores=s.tolist(), cut=c)
            for i, s, c in zip(items, ready.score(items), cut, strict=True)
        ], []

    return work


@dataclass(frozen=True)
class LoadedBaseline:
    """A system that is loaded: its scores of items, its tokenizer, and how many tokens it reads."""

    score: Callable[[Sequence[Item]], list[np.ndarray]]
    tokenizer: PreTrainedTokenizerBase
    longest: int


def _load(
    system: str,
    image_root: str | Path,
    batch: int,
    max_tokens: int,
    view_store: str | Path | None,
    loading: dict,
) -> LoadedBaseline:
    kind = model_type(system)
    if kind == "blip-2":
        student = load_student(system, max_tokens, **loading).eval().to(_device())
        views = FrozenFeatures(student, image_root, view_store)
        return LoadedBaseline(
            lambda items: match_scores(student, items, views, batch), student.tokenizer, max_tokens
        )
    if kind not in ("clip", "blip"):
        raise ValueError(f"{system} is a {kind!r} model; expected clip, blip or blip-2")
    tokenizer = AutoTokenizer.from_pretrained(system)
    network, scores = (
        (CLIPModel, clip_scores) if kind == "clip" else (BlipForImageTextRetrieval, blip_scores)
    )
    model = network.from_pretrained(system, dtype=torch.float32).eval().to(_device())
    return LoadedBaseline(
        lambda items: scores(model, tokenizer, items, image_root, batch),
        tokenizer,
        model.config.text_config.max_position_embeddings,
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
