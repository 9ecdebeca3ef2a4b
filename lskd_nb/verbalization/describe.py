"""Verbalization: images put into words, for an LLM that cannot see (LSKD, section 3.1).

Three kinds of descriptors, each by models of Hugging Face's loaded by name or path:

- **global**: CLIP retrieves places, objects and concepts from vocabularies; a captioner describes
  the whole image, and a narrator, finetuned on Localized Narratives, tells more of it;
- **local**: a region captioner describes each region, highlighted or cropped;
- **dynamic**: a question generator reads what is known so far and asks, a VQA model answers from
  the image.

A ``dataset`` verbalizer passes on what humans wrote about the image instead, and ``ofa`` what
OFA-Huge wrote. Each line says which model and version wrote it.

Captioner, narrator and VQA model look at the same pixels: where their vision encoders hold the same
weights, an image is encoded once for all of them and for all questions about it
(``verbalizers.Looked``).
"""

import gc
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from lskd_nb.records import REJECTS, VERBALIZATIONS, atomic_path, hash_of, write_parquet
from lskd_nb.regions import (
    Box,
    LocatedImage,
    Region,
    highlight,
    located_images,
    picture_bytes,
    regions_table,
    resize_regions,
)
from lskd_nb.shards import LOCAL, Engine, Work, in_shards
from lskd_nb.sources.visual_genome import HumanText
from lskd_nb.students.views import open_image
from lskd_nb.training.batches import REHEARSAL
from lskd_nb.verbalization.retrieval import Retriever
from lskd_nb.verbalization.verbalizers import (
    Looked,
    PromptedBlip2,
    QuestionGenerator,
    Settings,
    Verbalizers,
    share_vision,
    square,
)


def verbalize(
    images: Sequence[LocatedImage],
    image_root: str | Path,
    verbalizers: Verbalizers,
    out: str | Path,
    settings: Settings | None = None,
    human: Iterable[Mapping] = (),
    part: int = 512,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    loaded: "LoadedVerbalizers | None" = None,
    engine: Engine = LOCAL,
) -> tuple[Path, Path]:
    """Verbalize ``images`` into ``out`` (records.VERBALIZATIONS).

    Unreadable images go to ``out``'s rejects file.

    Works in parts of ``part`` images, each written when it is done, so that a killed call goes on
    where it was. ``human`` are ready rows, of a dataset verbalizer or of ``ofa.external_captions``.
    ``loaded`` are these verbalizers with these settings, where they are loaded already. ``engine``
    says who does the parts; where those are workers, ``loaded`` makes room for theirs. Returns the
    paths of both files.
    """
    settings, out = settings or Settings(), Path(out)
    settings = replace(settings, cache=settings.cache or str(out.parent / "text_features"))
    folder = out.with_suffix(".parts") / _plan(images, image_root, verbalizers, settings, part)
    load = partial(_speaking, verbalizers, settings, image_root)
    if loaded and engine.name == "local":
        load = partial(partial, _speak, loaded, image_root)
    elif loaded:
        loaded.free()
    lines, bad = in_shards(
        regions_table(images), folder, part, load, VERBALIZATIONS, on_progress, engine
    )
    known = {i.image_id for i in images}
    ready = pa.Table.from_pylist(
        [row for row in human if row["image_id"] in known], schema=VERBALIZATIONS
    )
    rejected = out.with_name(out.stem + ".rejects.parquet")
    write_parquet(bad, rejected, REJECTS)
    if images and bad.num_rows >= len(images):
        first = bad.slice(0, 1).to_pylist()[0]
        raise ValueError(
            f"no image could be verbalized: {bad.num_rows:,} rejects are in {rejected}, the first"
            f" is {first['record']!r}: {first['reason']}: {first['detail']}"
        )
    write_parquet(pa.concat_tables([lines, ready]).combine_chunks(), out, VERBALIZATIONS)
    return out, rejected


def _speaking(verbalizers: Verbalizers, settings: Settings, image_root: str | Path) -> Work:
    return partial(_speak, LoadedVerbalizers(verbalizers, settings), image_root)


def _speak(
    loaded: "LoadedVerbalizers", image_root: str | Path, images: pa.Table
) -> tuple[list[dict], list[dict]]:
    return loaded(located_images(images), image_root)


class LoadedVerbalizers:
    """The loaded models, each loaded once however many parts it speaks, and each vision encoder
    kept once however many models have it.
    """

    def __init__(self, verbalizers: Verbalizers, settings: Settings):
        if bool(verbalizers.vqa) != bool(verbalizers.question_generator):
            raise ValueError(
                "dynamic descriptors need both a question_generator and a vqa model;"
                " only one is set"
            )
        self.settings, self.freed = settings, False
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        speakers: dict[str, PromptedBlip2] = {}

        def speaker(name: str | None) -> PromptedBlip2 | None:
            if name is None:
                return None
            key = os.path.abspath(name) if Path(name).is_dir() else name
            if key not in speakers:
                new = PromptedBlip2(name, device)
                share_vision(new, speakers.values())
                speakers[key] = new
            return speakers[key]

        if verbalizers.clip:
            self.clip = Retriever(verbalizers.clip, settings.vocabularies, device, settings.cache)
        else:
            self.clip = None
        self.captioner = speaker(verbalizers.captioner)
        self.region_captioner = speaker(verbalizers.region_captioner)
        self.vqa, self.narrator = speaker(verbalizers.vqa), speaker(verbalizers.narrator)
        if verbalizers.question_generator:
            self.asker = QuestionGenerator(verbalizers.question_generator, device)
        else:
            self.asker = None

    def free(self) -> None:
        """Give the memory back, a GPU's too; nothing is spoken after that."""
        self.freed = True
        self.clip = self.captioner = self.region_captioner = None
        self.vqa = self.narrator = self.asker = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def __call__(
        self, images: Sequence[LocatedImage], image_root: str | Path
    ) -> tuple[list[dict], list[dict]]:
        if self.freed:
            raise ValueError("these verbalizers have been freed: load them again")
        rows, rejects, batch = [], [], []
        most = self.settings.batch
        for start in range(0, len(images), most):
            some = images[start : start + most]
            with ThreadPoolExecutor(2) as readers:  # decoding releases Python's lock
                opened = list(readers.map(partial(_opened, image_root), some))
            for image, found in zip(some, opened, strict=True):
                if isinstance(found, Image.Image):
                    batch.append((image, found))
                else:
                    rejects.append(
                        dict(
                            stage="verbalization",
                            record=image.image_id,
                            reason="unreadable image",
                            detail=str(found),
                        )
                    )
                if len(batch) == most:
                    rows += self._batch(batch)
                    batch = []
        return rows + (self._batch(batch) if batch else []), rejects

    def _batch(self, batch: list[tuple[LocatedImage, Image.Image]]) -> list[dict]:
        located, pictures = zip(*batch, strict=True)
        settings, rows = self.settings, []
        if self.clip:
            for image, found in zip(located, self.clip(pictures, settings.top), strict=True):
                rows += [
                    _row(image, "global", f"clip-{kind}", word, self.clip, p)
                    for kind, word, p in found
                ]
        looked = Looked(pictures)
        narrating = replace(settings, max_new_tokens=settings.narrative_tokens)
        for name, model, prompt, how in (
            ("captioner", self.captioner, settings.caption_prompt, settings),
            ("narrator", self.narrator, settings.narrative_prompt, narrating),
        ):
            if model:
                spoken = model.say(looked.by(model), [prompt] * len(pictures), how)
                rows += [
                    _row(i, "global", name, t, model, p)
                    for i, (t, p) in zip(located, spoken, strict=True)
                ]
        if self.region_captioner:
            rows += self._regions(located, pictures)
        if self.asker and self.vqa and settings.questions > 0:
            rows += self._questions(located, looked, rows)
        return rows

    def _regions(self, located, pictures) -> list[dict]:
        model, rows, how = self.region_captioner, [], self.settings.region_view
        with ThreadPoolExecutor(2) as drawing:
            drawn = drawing.map(partial(_region_views, model.image_size, how), located, pictures)
            views = [view for some in drawn for view in some]
        pairs = [(image, region) for image in located for region in image.regions]
        for start in range(0, len(pairs), self.settings.batch):
            part = pairs[start : start + self.settings.batch]
            spoken = model(
                views[start : start + len(part)],
                [self.settings.region_prompt] * len(part),
                self.settings,
            )
            rows += [
                _row(i, "local", "region-captioner", t, model, p, region=r.id)
                for (i, r), (t, p) in zip(part, spoken, strict=True)
            ]
        return rows

    def _questions(self, located, looked: Looked, rows: list[dict]) -> list[dict]:
        known: dict[str, list[str]] = {}
        for row in rows:
            if row["verbalizer"] in ("captioner", "narrator", "region-captioner"):
                known.setdefault(row["image_id"], []).append(row["text"])
        asked = self.asker([" ".join(known.get(i.image_id, [])) for i in located], self.settings)
        pairs = [(n, question) for n, questions in enumerate(asked) for question in questions]
        found = []
        for start in range(0, len(pairs), self.settings.batch):
            part = pairs[start : start + self.settings.batch]
            spoken = self.vqa.say(
                looked.by(self.vqa)[[n for n, _ in part]],
                [self.settings.vqa_prompt.format(q) for _, q in part],
                self.settings,
            )
            found += [
                _row(located[n], "dynamic", "vqa", t, self.vqa, s, question=q)
                for (n, q), (t, s) in zip(part, spoken, strict=True)
            ]
        return found


# --------------------------------------------------------------------- lines that are there already


def human_rows(
    image_id: str, texts: Iterable[tuple[int | None, str | None, str]], source: str
) -> Iterator[dict]:
    """Rows of the dataset verbalizer from (region, question, text): a region's description, a
    question and answer, or a caption.
    """
    for region, question, text in texts:
        kind = "dynamic" if question else "global" if region is None else "local"
        yield dict(
            image_id=image_id,
            kind=kind,
            verbalizer="dataset",
            region=region,
            question=question,
            text=text,
            score=None,
            model="human",
            version=source,
        )


def dataset_rows(texts: Iterable[HumanText]) -> list[dict]:
    """What people wrote about images, as rows of the dataset verbalizer."""
    return [
        row
        for t in texts
        for row in human_rows(t.image_id, [(t.region, t.question, t.text)], t.origin)
    ]


def write_rehearsal(
    texts: Iterable[HumanText], images: Iterable[LocatedImage], path: str | Path
) -> Path:
    """The plain pairs that a student rehearses (batches.REHEARSAL): what people wrote about
    ``images``, with the question where it answers one.
    """
    image_of = {image.image_id: image.path for image in images}
    rows = [dict(image=image_of[t.image_id], question=t.question or "", text=t.text) for t in texts]
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, REHEARSAL), temporary)
    return Path(path)


# ----------------------------------------------------------------------------------- views and rows


def _opened(image_root: str | Path, image: LocatedImage) -> Image.Image | Exception:
    """The picture, or what was wrong with it."""
    try:
        return open_image(image_root, image.path)
    except (OSError, ValueError) as error:
        return error


def _region_views(
    size: int, how: str, image: LocatedImage, picture: Image.Image
) -> list[Image.Image]:
    """Each region of an image as the region captioner looks at it: resized once for all."""
    if how != "highlight":
        return [region_view(picture, region, size, how) for region in image.regions]
    whole = square(picture, size)
    boxes = resize_regions(image.regions, picture.size, (size, size))
    return [highlight(whole, [replace(box, id=0)]) for box in boxes]


def region_view(picture: Image.Image, region: Region, size: int, how: str) -> Image.Image:
    """What the region captioner looks at: the image with the region highlighted in the first
    colour, or a crop around it.
    """
    return boxes_view(picture, [region.box], size, how)


def boxes_view(picture: Image.Image, boxes: Sequence[Box], size: int, how: str) -> Image.Image:
    """The same of several boxes (xyxy pixels) that bound one thing.

    Without any, the whole image.
    """
    if how not in ("highlight", "crop"):
        raise ValueError(f"region_view is {how!r}; expected 'highlight' or 'crop'")
    if not boxes:
        return picture
    if how == "highlight":
        square = picture.resize((size, size), Image.Resampling.BICUBIC)
        return highlight(
            square, resize_regions([Region(0, tuple(b)) for b in boxes], picture.size, (size, size))
        )
    x0, y0, x1, y1 = (
        *(min(b[k] for b in boxes) for k in (0, 1)),
        *(max(b[k] for b in boxes) for k in (2, 3)),
    )
    margin = 0.1 * max(x1 - x0, y1 - y0)
    return picture.crop(
        (
            max(x0 - margin, 0),
            max(y0 - margin, 0),
            min(x1 + margin, picture.width),
            min(y1 + margin, picture.height),
        )
    )


def _row(
    image: LocatedImage,
    kind: str,
    verbalizer: str,
    text: str,
    model,
    score: float,
    region: int | None = None,
    question: str | None = None,
) -> dict:
    return dict(
        image_id=image.image_id,
        kind=kind,
        verbalizer=verbalizer,
        region=region,
        question=question,
        text=text,
        score=score,
        model=short_name(model.name),
        version=model.version,
    )


def short_name(name: str) -> str:
    """A hub name as it is.

    Of a folder its last two parts, since absolute paths mean nothing elsewhere.
    """
    return "/".join(Path(name).parts[-2:]) if Path(name).is_dir() else name


def _plan(
    images: Sequence[LocatedImage],
    image_root: str | Path,
    verbalizers: Verbalizers,
    settings: Settings,
    part: int,
) -> str:
    """A name for the parts of this very call: other pictures, boxes, models, weights, words or
    settings do not find them.
    """
    files = [
        f
        for name in (*vars(verbalizers).values(), settings.vocabularies)
        if name and Path(name).is_dir()
        for f in sorted(Path(name).iterdir())
    ]
    weights = [(str(f), hash_of([f])) for f in dict.fromkeys(files) if f.is_file()]
    located = [(i.image_id, i.path, [r.box for r in i.regions]) for i in images]
    sizes = picture_bytes(image_root, [i.path for i in images])
    told = json.dumps(
        [located, sizes, vars(verbalizers), vars(replace(settings, cache=None)), weights, part],
        default=str,
    )
    return hashlib.sha256(told.encode()).hexdigest()[:12]
