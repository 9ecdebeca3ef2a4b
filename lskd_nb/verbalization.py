"""Verbalization: an image and its regions put into words, for an LLM that cannot see (LSKD, section 3.1).

Three kinds of descriptors, each by models of Hugging Face's loaded by name or path:

- **global**: CLIP retrieves places, objects and concepts from vocabularies; a captioner describes the whole image;
- **local**: a region captioner describes each region, highlighted or cropped;
- **dynamic**: a question generator reads what is known so far and asks, a VQA model answers from the image.

A ``dataset`` verbalizer passes on what humans wrote about the image instead. Each line says which model and version wrote it.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lskd_nb.records import REJECTS, VERBALIZATIONS, read_parquet, write_parquet
from lskd_nb.regions import LocatedImage, Region, highlight, resize_regions
from lskd_nb.student import autocast
from lskd_nb.views import open_image

VOCABULARIES = ("place", "object", "concept")
RETRIEVAL_PROMPT = "a photo of {}"


@dataclass(frozen=True)
class Verbalizers:
    """Which models speak, by hub name or folder; None leaves that descriptor out."""

    clip: str | None = None
    captioner: str | None = None
    region_captioner: str | None = None
    question_generator: str | None = None
    vqa: str | None = None


@dataclass(frozen=True)
class Settings:
    """How they speak. ``region_view`` is "highlight" (the box drawn in the first colour) or "crop" (with a margin)."""

    vocabularies: str = str(Path(__file__).parent / "vocabularies")
    top: tuple[int, int, int] = (1, 4, 2)  # places, objects, concepts kept
    caption_prompt: str = ""
    region_prompt: str = ""
    region_view: str = "highlight"
    vqa_prompt: str = "Question: {} Answer:"
    questions: int = 3
    max_new_tokens: int = 32
    temperature: float = 0.0  # 0: greedy
    batch: int = 128
    seed: int = 0


class Retriever:
    """CLIP over fixed vocabularies, whose text features are computed once."""

    def __init__(self, name: str, vocabularies: str | Path, device: torch.device):
        from transformers import AutoTokenizer, CLIPModel

        self.name, self.device = name, device
        self.model = CLIPModel.from_pretrained(name, dtype=_dtype(device)).eval().to(device)
        self.version = version_of(name, self.model)
        self.words = {kind: read_vocabulary(Path(vocabularies) / f"{kind}.txt") for kind in VOCABULARIES}
        tokenizer = AutoTokenizer.from_pretrained(name)
        with torch.no_grad():
            self.features = {
                kind: _unit(
                    self.model.get_text_features(
                        **tokenizer([RETRIEVAL_PROMPT.format(w) for w in words], padding=True, truncation=True, return_tensors="pt").to(device)
                    )
                )
                for kind, words in self.words.items()
            }

    @torch.no_grad()
    def __call__(self, images: Sequence[Image.Image], top: Sequence[int]) -> list[list[tuple[str, str, float]]]:
        """For each image the (vocabulary, word, probability) of the best words."""
        size = self.model.config.vision_config.image_size
        with autocast(self.device):
            found = _unit(self.model.get_image_features(pixel_values=_stack(images, size).to(self.device)))
        scale = self.model.logit_scale.exp()
        lines: list[list[tuple[str, str, float]]] = [[] for _ in images]
        for kind, number in zip(VOCABULARIES, top, strict=True):
            probability = (scale * found.float() @ self.features[kind].float().T).softmax(-1)
            values, indices = probability.topk(min(number, len(self.words[kind])))
            for row, (ps, ws) in enumerate(zip(values.tolist(), indices.tolist(), strict=True)):
                lines[row] += [(kind, self.words[kind][w], p) for p, w in zip(ps, ws, strict=True)]
        return lines


class Speaker:
    """A BLIP-2 with a language model: a prompt and an image in, words out."""

    def __init__(self, name: str, device: torch.device):
        from transformers import AutoTokenizer, Blip2ForConditionalGeneration

        self.name, self.device = name, device
        self.model = Blip2ForConditionalGeneration.from_pretrained(name, dtype=_dtype(device)).eval().to(device)
        self.tokenizer = AutoTokenizer.from_pretrained(name)
        self.tokenizer.padding_side = "left"
        self.version = version_of(name, self.model)

    @torch.no_grad()
    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str], settings: Settings) -> list[tuple[str, float]]:
        """(text, probability of the text) for each image and prompt."""
        pixels = _stack(images, self.model.config.vision_config.image_size).to(self.device)
        queries = self.model.config.num_query_tokens
        inputs = self.tokenizer(list(prompts), padding=True, return_tensors="pt").to(self.device)
        image_ids = torch.full((len(images), queries), self.model.config.image_token_id, device=self.device)
        ids = torch.cat([image_ids, inputs.input_ids], dim=1)
        mask = torch.cat([torch.ones_like(image_ids), inputs.attention_mask], dim=1)
        with autocast(self.device):
            out = self.model.generate(
                pixel_values=pixels, input_ids=ids, attention_mask=mask, return_dict_in_generate=True, output_logits=True, **_sampling(settings)
            )
        return _spoken(self.tokenizer, out, ids.shape[1], self.model.config.text_config.is_encoder_decoder)


class Asker:
    """A text-to-text model that turns what is known of an image into a question about it."""

    def __init__(self, name: str, device: torch.device):
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        self.name, self.device = name, device
        self.model = AutoModelForSeq2SeqLM.from_pretrained(name, dtype=_dtype(device)).eval().to(device)
        self.tokenizer = AutoTokenizer.from_pretrained(name)
        self.version = version_of(name, self.model)

    @torch.no_grad()
    def __call__(self, contexts: Sequence[str], settings: Settings) -> list[list[str]]:
        """Up to ``settings.questions`` different questions for each context, by beam search."""
        inputs = self.tokenizer(list(contexts), padding=True, truncation=True, return_tensors="pt").to(self.device)
        number = settings.questions
        with autocast(self.device):
            out = self.model.generate(
                input_ids=inputs.input_ids,
                attention_mask=inputs.attention_mask,
                num_beams=max(number, 1),
                num_return_sequences=number,
                do_sample=False,
                max_new_tokens=settings.max_new_tokens,
            )
        texts = [t.strip() for t in self.tokenizer.batch_decode(out, skip_special_tokens=True)]
        return [list(dict.fromkeys(filter(None, texts[i : i + number]))) for i in range(0, len(texts), number)]


def verbalize(
    images: Sequence[LocatedImage],
    image_root: str | Path,
    verbalizers: Verbalizers,
    out: str | Path,
    settings: Settings | None = None,
    human: Iterable[Mapping] = (),
    part: int = 512,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Path, Path]:
    """Verbalize ``images`` into ``out`` (records.VERBALIZATIONS); unreadable images go to ``out``'s rejects file.

    Works in parts of ``part`` images, each written when it is done, so that a killed call goes on where it was. ``human``
    are ready rows of a dataset verbalizer. Returns the paths of both files.
    """
    settings = settings or Settings()
    out = Path(out)
    folder = out.with_suffix(".parts") / _plan(images, verbalizers, settings, part)
    speak = None
    starts = range(0, len(images), part)
    for start in starts:
        lines, rejects = folder / f"{start:07d}.parquet", folder / f"{start:07d}.rejects.parquet"
        if not lines.exists():
            speak = speak or _Voices(verbalizers, settings)
            rows, bad = speak(images[start : start + part], image_root)
            write_parquet(bad, rejects, REJECTS)
            write_parquet(rows, lines, VERBALIZATIONS)
        on_progress(min(start + part, len(images)), len(images))
    known = {i.image_id for i in images}
    rows = [row for start in starts for row in read_parquet(folder / f"{start:07d}.parquet", VERBALIZATIONS).to_pylist()]
    rows += [row for row in human if row["image_id"] in known]
    bad = [row for start in starts for row in read_parquet(folder / f"{start:07d}.rejects.parquet", REJECTS).to_pylist()]
    rejected = out.with_name(out.stem + ".rejects.parquet")
    write_parquet(bad, rejected, REJECTS)
    write_parquet(rows, out, VERBALIZATIONS)
    return out, rejected


class _Voices:
    """The loaded models, each model loaded once however many parts it speaks."""

    def __init__(self, verbalizers: Verbalizers, settings: Settings):
        if bool(verbalizers.vqa) != bool(verbalizers.question_generator):
            raise ValueError("dynamic descriptors need both a question_generator and a vqa model; only one is set")
        self.settings = settings
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        speakers: dict[str, Speaker] = {}

        def speaker(name: str | None) -> Speaker | None:
            if name is not None and name not in speakers:
                speakers[name] = Speaker(name, device)
            return speakers.get(name)

        self.clip = Retriever(verbalizers.clip, settings.vocabularies, device) if verbalizers.clip else None
        self.captioner, self.region_captioner = speaker(verbalizers.captioner), speaker(verbalizers.region_captioner)
        self.vqa = speaker(verbalizers.vqa)
        self.asker = Asker(verbalizers.question_generator, device) if verbalizers.question_generator else None

    def __call__(self, images: Sequence[LocatedImage], image_root: str | Path) -> tuple[list[dict], list[dict]]:
        rows, rejects, batch = [], [], []
        for image in images:
            try:
                batch.append((image, open_image(image_root, image.path)))
            except (OSError, ValueError) as error:
                rejects.append(dict(stage="verbalization", record=image.image_id, reason="unreadable image", detail=str(error)))
            if len(batch) == self.settings.batch:
                rows += self._batch(batch)
                batch = []
        return rows + (self._batch(batch) if batch else []), rejects

    def _batch(self, batch: list[tuple[LocatedImage, Image.Image]]) -> list[dict]:
        located, pictures = zip(*batch, strict=True)
        rows: list[dict] = []
        if self.clip:
            for image, found in zip(located, self.clip(pictures, self.settings.top), strict=True):
                rows += [_row(image, "global", f"clip-{kind}", word, self.clip, p) for kind, word, p in found]
        if self.captioner:
            spoken = self.captioner(pictures, [self.settings.caption_prompt] * len(pictures), self.settings)
            rows += [_row(i, "global", "captioner", t, self.captioner, p) for i, (t, p) in zip(located, spoken, strict=True)]
        if self.region_captioner:
            rows += self._regions(located, pictures)
        if self.asker and self.vqa and self.settings.questions > 0:
            rows += self._questions(located, pictures, rows)
        return rows

    def _regions(self, located, pictures) -> list[dict]:
        model, rows = self.region_captioner, []
        size = model.model.config.vision_config.image_size
        pairs = [(i, r, region_view(p, r, size, self.settings.region_view)) for i, p in zip(located, pictures, strict=True) for r in i.regions]
        for start in range(0, len(pairs), self.settings.batch):
            part = pairs[start : start + self.settings.batch]
            spoken = model([p for _, _, p in part], [self.settings.region_prompt] * len(part), self.settings)
            rows += [_row(i, "local", "region-captioner", t, model, p, region=r.id) for (i, r, _), (t, p) in zip(part, spoken, strict=True)]
        return rows

    def _questions(self, located, pictures, rows: list[dict]) -> list[dict]:
        known: dict[str, list[str]] = {}
        for row in rows:
            if row["verbalizer"] in ("captioner", "region-captioner"):
                known.setdefault(row["image_id"], []).append(row["text"])
        asked = self.asker([" ".join(known.get(i.image_id, [])) for i in located], self.settings)
        pairs = [(i, p, q) for i, p, qs in zip(located, pictures, asked, strict=True) for q in qs]
        found = []
        for start in range(0, len(pairs), self.settings.batch):
            part = pairs[start : start + self.settings.batch]
            spoken = self.vqa([p for _, p, _ in part], [self.settings.vqa_prompt.format(q) for _, _, q in part], self.settings)
            found += [_row(i, "dynamic", "vqa", t, self.vqa, s, question=q) for (i, _, q), (t, s) in zip(part, spoken, strict=True)]
        return found


def human_rows(image_id: str, texts: Iterable[tuple[int | None, str | None, str]], source: str) -> Iterator[dict]:
    """Rows of the dataset verbalizer from (region, question, text): a region's description, a question and answer, or a caption."""
    for region, question, text in texts:
        kind = "dynamic" if question else "global" if region is None else "local"
        yield dict(image_id=image_id, kind=kind, verbalizer="dataset", region=region, question=question, text=text, score=None, model="human", version=source)


def region_view(picture: Image.Image, region: Region, size: int, how: str) -> Image.Image:
    """What the region captioner looks at: the image with the region highlighted in the first colour, or a crop around it."""
    if how == "highlight":
        square = picture.resize((size, size), Image.Resampling.BICUBIC)
        return highlight(square, resize_regions([Region(0, region.box)], picture.size, (size, size)))
    if how == "crop":
        x0, y0, x1, y1 = region.box
        margin = 0.1 * max(x1 - x0, y1 - y0)
        return picture.crop((max(x0 - margin, 0), max(y0 - margin, 0), min(x1 + margin, picture.width), min(y1 + margin, picture.height)))
    raise ValueError(f"region_view is {how!r}; expected 'highlight' or 'crop'")


def read_vocabulary(path: str | Path) -> list[str]:
    """One entry a line; empty lines and lines from "#" are skipped. Raises ``ValueError`` where none is left."""
    words = [w for line in Path(path).read_text(encoding="utf-8").splitlines() if (w := line.split("#")[0].strip())]
    if not words:
        raise ValueError(f"{path} holds no vocabulary entry")
    return words


def version_of(name: str, model) -> str:
    """The hub commit a model was loaded from, or a hash of the weights in its folder."""
    commit = getattr(model.config, "_commit_hash", None)
    if commit:
        return commit[:12]
    digest = hashlib.sha256()
    for file in sorted(Path(name).glob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _row(image: LocatedImage, kind: str, verbalizer: str, text: str, model, score: float, region: int | None = None, question: str | None = None) -> dict:
    return dict(
        image_id=image.image_id,
        kind=kind,
        verbalizer=verbalizer,
        region=region,
        question=question,
        text=text,
        score=score,
        model=_short(model.name),
        version=model.version,
    )


def _short(name: str) -> str:
    """A hub name as it is; of a folder its last two parts, since absolute paths mean nothing elsewhere."""
    return "/".join(Path(name).parts[-2:]) if Path(name).is_dir() else name


def _plan(images: Sequence[LocatedImage], verbalizers: Verbalizers, settings: Settings, part: int) -> str:
    """A name for the parts of this very call: other images, models, weights, vocabularies or settings do not find them."""
    files = [f for name in (*vars(verbalizers).values(), settings.vocabularies) if name and Path(name).is_dir() for f in sorted(Path(name).iterdir())]
    weights = [(str(f), hashlib.sha256(f.read_bytes()).hexdigest()) for f in dict.fromkeys(files) if f.is_file()]
    located = [(i.image_id, i.path, [r.box for r in i.regions]) for i in images]
    told = json.dumps([located, vars(verbalizers), vars(settings), weights, part], default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def _dtype(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def _stack(images: Sequence[Image.Image], size: int) -> Tensor:
    from lskd_nb.student import pixels

    return torch.from_numpy(np.stack([pixels(i, size) for i in images]))


def _unit(found) -> Tensor:
    features = found if isinstance(found, Tensor) else found.pooler_output
    return torch.nn.functional.normalize(features, dim=-1)


def _sampling(settings: Settings) -> dict:
    torch.manual_seed(settings.seed)
    common = dict(max_new_tokens=settings.max_new_tokens, num_beams=1)
    return common | (dict(do_sample=True, temperature=settings.temperature) if settings.temperature > 0 else dict(do_sample=False))


def _spoken(tokenizer, out, prompt: int, encoder_decoder: bool) -> list[tuple[str, float]]:
    """Texts and their probabilities from generated ids and logits (a decoder-only model repeats its prompt)."""
    new = out.sequences[:, 1:] if encoder_decoder else out.sequences[:, -len(out.logits) :]
    log_probability = torch.stack(out.logits, 1).float().log_softmax(-1)
    picked = log_probability.gather(-1, new[:, : log_probability.shape[1], None]).squeeze(-1)
    counted = new[:, : picked.shape[1]] != tokenizer.pad_token_id
    totals = (picked * counted).sum(1).exp().tolist()
    texts = tokenizer.batch_decode(new, skip_special_tokens=True)
    return [(" ".join(t.split()), p) for t, p in zip(texts, totals, strict=True)]
