"""Regions from a detector of a vocabulary: OWL-ViT or OWLv2 (Minderer et al. 2022, 2023).

The published corpus' Visual Genome boxes carry LVIS names, so a detector of LVIS' vocabulary drew
them; here it is any zero-shot detector of the OWL family from the hub, which takes that vocabulary
as texts (``retrieval.vocabulary_from_lvis``). The texts are encoded once, each image once.
Grounding DINO reads a sentence of a few dozen words together with the image and would have to look
forty times for LVIS: it is not supported. Run with tiny random models only; the hub's have not been
run here.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from lskd_nb.records import REGIONS, hash_of
from lskd_nb.regions import (
    LocatedImage,
    Region,
    clamp,
    located_images,
    picture_bytes,
    regions_table,
)
from lskd_nb.shards import LOCAL, Engine, Work, in_shards
from lskd_nb.sources import Rejected, reject_rows
from lskd_nb.sources.visual_genome import ious
from lskd_nb.students.blip2 import autocast
from lskd_nb.students.loading import image_processor, load_model
from lskd_nb.students.views import open_image

FAMILY = ("owlvit", "owlv2")
CHUNK = 256  # texts encoded at once


@dataclass(frozen=True)
class DetectionSettings:
    """Which boxes become regions: the surest, none too small or nearly copies of a surer one."""

    prompt: str = "a photo of a {}"
    threshold: float = 0.1  # probability that the best word is there
    max_iou: float = 0.5  # with a surer box, whatever its word
    min_area: float = 0.005  # share of the image
    max_regions: int = 10
    batch: int = 8


class Detector:
    """An OWL-ViT or OWLv2 with a vocabulary, in float32: half precision shifts boxes by pixels."""

    def __init__(
        self, name: str, vocabulary: Sequence[str], settings: DetectionSettings | None = None
    ):
        from transformers import AutoConfig, AutoModelForZeroShotObjectDetection, AutoTokenizer

        kind = AutoConfig.from_pretrained(name).model_type
        if kind not in FAMILY:
            raise ValueError(f"{name} is a {kind}; expected a detector of {' or '.join(FAMILY)}")
        if not vocabulary:
            raise ValueError("the vocabulary is empty: there is nothing to look for")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.settings, self.vocabulary = settings or DetectionSettings(), list(vocabulary)
        self.model = load_model(
            AutoModelForZeroShotObjectDetection, name, self.device, torch.float32
        )
        self.prepare = image_processor(name)
        if self.prepare is None:
            raise ValueError(
                f"{name} has no preprocessor_config.json,"
                " which says how a detector's images are resized or padded"
            )
        self.queries = self._encode_texts(AutoTokenizer.from_pretrained(name))

    @torch.no_grad()
    def _encode_texts(self, tokenizer) -> Tensor:
        """(words, d) features of the vocabulary."""
        texts = [self.settings.prompt.format(word) for word in self.vocabulary]
        longest, found = self.model.config.text_config.max_position_embeddings, []
        for start in range(0, len(texts), CHUNK):
            tokens = tokenizer(
                texts[start : start + CHUNK],
                padding=True,
                truncation=True,
                max_length=longest,
                return_tensors="pt",
            ).to(self.device)
            found.append(
                self.model.base_model.get_text_features(
                    input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
                ).pooler_output
            )
        return torch.cat(found)

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Image.Image]) -> list[tuple[Region, ...]]:
        """Regions of each picture, the surest first, xyxy pixels of the picture, labelled by the
        best word and its probability.
        """
        from transformers.models.owlvit.modeling_owlvit import OwlViTObjectDetectionOutput

        shown = self.prepare(images=list(pictures), return_tensors="pt").pixel_values.to(
            self.device
        )
        with autocast(self.device):
            grid = self.model.image_embedder(pixel_values=shown)[0].float()  # (B, rows, columns, d)
        seen = grid.flatten(1, 2)
        logits, _ = self.model.class_predictor(seen, self.queries.expand(len(seen), -1, -1))
        output = OwlViTObjectDetectionOutput(
            logits=logits, pred_boxes=self.model.box_predictor(seen, grid)
        )
        # the processor knows whether it has stretched the picture (OWL-ViT) or padded it on the
        # right and below (OWLv2)
        found = self.prepare.post_process_object_detection(
            output, self.settings.threshold, [(p.height, p.width) for p in pictures]
        )
        return [
            self._choose(p, *(f[k].cpu().numpy() for k in ("boxes", "scores", "labels")))
            for p, f in zip(pictures, found, strict=True)
        ]

    def _choose(
        self, picture: Image.Image, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray
    ) -> tuple[Region, ...]:
        """Non-maximum suppression over all words together, of boxes (N, 4) cut to the picture;
        what lies in padding has no area there.
        """
        settings, kept = self.settings, []
        for index in np.argsort(-scores, kind="stable"):
            try:
                box = np.array(clamp(boxes[index].tolist(), picture.width, picture.height))
            except ValueError:
                continue
            large = (box[2:] - box[:2]).prod() >= settings.min_area * picture.width * picture.height
            if large and (
                not kept or ious(box, np.array([r.box for r in kept])).max() <= settings.max_iou
            ):
                kept.append(
                    Region(
                        len(kept),
                        tuple(box.tolist()),
                        self.vocabulary[labels[index]],
                        float(scores[index]),
                    )
                )
            if len(kept) == settings.max_regions:
                break
        return tuple(kept)


def detect_regions(
    images: Sequence[LocatedImage],
    image_root: str | Path,
    model: str,
    vocabulary: Sequence[str],
    settings: DetectionSettings | None = None,
    parts: str | Path | None = None,
    part: int = 512,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    engine: Engine = LOCAL,
) -> tuple[list[LocatedImage], list[Rejected]]:
    """``images`` with the regions that a detector finds instead of theirs, and what was left out.

    ``model`` is a hub name or folder of the OWL family. With a folder ``parts``, each ``part``
    images are written there when they are done, and a killed call goes on where it was. Rejected:
    images that are unreadable or of another size, and those in which nothing is found. Raises
    ``ValueError`` for a model of another kind or an empty vocabulary.
    """
    settings = settings or DetectionSettings()
    with TemporaryDirectory() as scratch:
        folder = Path(parts or scratch) / _plan(
            images, image_root, model, vocabulary, settings, part
        )
        load = partial(_looking, model, tuple(vocabulary), settings, image_root)
        table, bad = in_shards(
            regions_table(images), folder, part, load, REGIONS, on_progress, engine
        )
    return located_images(table), [
        Rejected(r["record"], r["reason"], r["detail"]) for r in bad.to_pylist()
    ]


def detect_missing(
    images: Sequence[LocatedImage], image_root: str | Path, model: str, words: Sequence[str], **how
) -> tuple[list[LocatedImage], list[Rejected]]:
    """``detect_regions`` of those images that come without any; the others stay as they are."""
    bare = [image for image in images if not image.regions]
    if not bare:
        return list(images), []
    seen, rejects = detect_regions(bare, image_root, model, words, **how)
    found = {image.image_id: image for image in seen}
    whole = (found.get(image.image_id, image) for image in images)
    return [image for image in whole if image.regions], rejects


def _looking(
    model: str, vocabulary: Sequence[str], settings: DetectionSettings, image_root: str | Path
) -> Work:
    detector = Detector(model, vocabulary, settings)

    def look(images: pa.Table) -> tuple[pa.Table, list[dict]]:
        found, rejects = _detected(detector, located_images(images), image_root)
        return regions_table(found), list(reject_rows(rejects, "detection"))

    return look


def _detected(
    detector: Detector, images: Sequence[LocatedImage], image_root: str | Path
) -> tuple[list[LocatedImage], list[Rejected]]:
    found, rejects, size = [], [], detector.settings.batch
    for start in range(0, len(images), size):
        batch = []
        for image in images[start : start + size]:
            try:
                picture = open_image(image_root, image.path)
            except (OSError, ValueError) as error:
                rejects.append(Rejected(image.image_id, "unreadable image", str(error)))
                continue
            if picture.size == (image.width, image.height):
                batch.append((image, picture))
            else:
                rejects.append(
                    Rejected(
                        image.image_id,
                        "image size differs",
                        f"{image.path} has {picture.size}"
                        f" pixels, expected {image.width, image.height}",
                    )
                )
        for (image, _), regions in zip(
            batch, detector([p for _, p in batch]) if batch else [], strict=True
        ):
            if regions:
                found.append(replace(image, regions=regions))
            else:
                rejects.append(
                    Rejected(
                        image.image_id,
                        "no regions",
                        f"nothing is as sure as {detector.settings.threshold} and large enough",
                    )
                )
    return found, rejects


def _plan(
    images: Sequence[LocatedImage],
    image_root: str | Path,
    model: str,
    vocabulary: Sequence[str],
    settings: DetectionSettings,
    part: int,
) -> str:
    """A name for the parts of this very call."""
    if Path(model).is_dir():
        weights = hash_of(sorted(f for f in Path(model).iterdir() if f.is_file()))
    else:
        weights = model
    told = [
        [(i.image_id, i.path, i.width, i.height) for i in images],
        picture_bytes(image_root, [i.path for i in images]),
        weights,
        list(vocabulary),
        vars(settings),
        part,
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]
