"""Retrieval: CLIP finds an image's places, objects, concepts in vocabularies (LSKD, section 3.1).

A vocabulary is a text file, ``place.txt``, ``object.txt`` or ``concept.txt`` in one folder, an
entry a line. The project's own lists are in ``lskd_nb/verbalization/vocabularies``. The names of
Places365 and LVIS (CC BY 4.0) are read from their own files and not copied here:
``write_vocabulary(vocabulary_from_lvis("lvis_v1_val.json"), "my_vocabularies/object.txt")``.
"""

import hashlib
import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lskd_nb.records import atomic_path
from lskd_nb.sources import BadRecord, in_words, read_json, text_of
from lskd_nb.students.blip2 import autocast
from lskd_nb.students.loading import image_processor, load_model, version_of
from lskd_nb.verbalization.verbalizers import pixel_batch

VOCABULARIES = ("place", "object", "concept")
RETRIEVAL_PROMPT = "a photo of {}"
CHUNK = 256  # texts encoded at once
# of Places365's second words, those that are no adjectives: elevator/door, but church/outdoor
NOUNS_LAST = ("door", "platform")


class Retriever:
    """CLIP over fixed vocabularies.

    Their text features are computed once, and kept in ``cache`` where a folder is given.
    """

    def __init__(
        self,
        name: str,
        vocabularies: str | Path,
        device: torch.device,
        cache: str | Path | None = None,
    ):
        from transformers import AutoTokenizer, CLIPModel

        self.name, self.device = name, device
        self.model = load_model(CLIPModel, name, device)
        self.version = version_of(name, self.model)
        self.words = {
            kind: read_vocabulary(Path(vocabularies) / f"{kind}.txt") for kind in VOCABULARIES
        }
        self.tokenizer = AutoTokenizer.from_pretrained(name)
        self.prepare = image_processor(name)
        self.features = {kind: self._text_features(kind, cache) for kind in VOCABULARIES}

    @torch.no_grad()
    def __call__(
        self, images: Sequence[Image.Image], top: Sequence[int]
    ) -> list[list[tuple[str, str, float]]]:
        """For each image the (vocabulary, word, probability) of the best words."""
        size = self.model.config.vision_config.image_size
        with autocast(self.device):
            found = _unit(
                self.model.get_image_features(
                    pixel_values=pixel_batch(images, size, self.prepare).to(self.device)
                )
            )
        scale = self.model.logit_scale.exp()
        lines: list[list[tuple[str, str, float]]] = [[] for _ in images]
        for kind, number in zip(VOCABULARIES, top, strict=True):
            probability = (scale * found.float() @ self.features[kind].float().T).softmax(-1)
            values, indices = probability.topk(min(number, len(self.words[kind])))
            for row, (ps, ws) in enumerate(zip(values.tolist(), indices.tolist(), strict=True)):
                lines[row] += [(kind, self.words[kind][w], p) for p, w in zip(ps, ws, strict=True)]
        return lines

    def _text_features(self, kind: str, cache: str | Path | None) -> Tensor:
        """(words, d) unit vectors, from the cache where it has them: under the weights' version,
        the words, the prompt and the precision.
        """
        told = json.dumps([self.version, self.words[kind], RETRIEVAL_PROMPT, str(self.model.dtype)])
        if cache:
            path = (
                Path(cache) / f"{kind}-{hashlib.sha256(told.encode()).hexdigest()[:16]}.safetensors"
            )
        else:
            path = None
        if path and path.exists():
            try:
                features = load_file(path)["features"]
                if len(features) != len(self.words[kind]):
                    raise ValueError(f"{len(features)} features for {len(self.words[kind])} words")
                return features.to(self.device)
            except (SafetensorError, KeyError, ValueError, OSError) as error:
                warnings.warn(
                    f"{path} is damaged ({error}): its text features are computed anew",
                    stacklevel=2,
                )
        features = self._encode_texts([RETRIEVAL_PROMPT.format(w) for w in self.words[kind]])
        if path:
            with atomic_path(path) as temporary:
                save_file({"features": features.cpu().contiguous()}, temporary)
        return features

    @torch.no_grad()
    def _encode_texts(self, texts: Sequence[str]) -> Tensor:
        longest = self.model.config.text_config.max_position_embeddings
        chunks = [texts[i : i + CHUNK] for i in range(0, len(texts), CHUNK)]
        tokens = [
            self.tokenizer(
                list(c), padding=True, truncation=True, max_length=longest, return_tensors="pt"
            ).to(self.device)
            for c in chunks
        ]
        return torch.cat(
            [
                _unit(
                    self.model.get_text_features(
                        input_ids=t.input_ids, attention_mask=t.attention_mask
                    )
                )
                for t in tokens
            ]
        )


def _unit(found) -> Tensor:
    features = found if isinstance(found, Tensor) else found.pooler_output
    return torch.nn.functional.normalize(features, dim=-1)


# ------------------------------------------------------------------------------------- vocabularies


def read_vocabulary(path: str | Path) -> list[str]:
    """One entry a line; empty lines and lines from "#" are skipped.

    Raises ``ValueError`` where none is left.
    """
    words = [
        w
        for line in Path(path).read_text(encoding="utf-8-sig").splitlines()
        if (w := line.split("#")[0].strip())
    ]
    if not words:
        raise ValueError(f"{path} holds no vocabulary entry")
    return words


def write_vocabulary(words: Iterable[str], path: str | Path) -> Path:
    """Write entries as ``read_vocabulary`` reads them.

    Raises ``ValueError`` for one that would not come back the same.
    """
    words = list(words)
    for word in words:
        if not word or word != " ".join(word.split()) or "#" in word:
            raise ValueError(
                f"{path}: {word!r} can't be a line of a vocabulary: expected plain words"
            )
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{w}\n" for w in words), encoding="utf-8")
    return Path(path)


def vocabulary_from_lvis(path: str | Path) -> list[str]:
    """The category names of an LVIS annotation file (v1: 1,203), in the order of their ids, as
    words: "tank (storage vessel)".

    ``path`` is ``lvis_v1_{train,val}.json``, or a list of its categories alone. Raises
    ``ValueError`` naming file and category.
    """
    content = read_json(path)
    categories = content.get("categories") if isinstance(content, dict) else content
    if not isinstance(categories, list) or not categories:
        raise ValueError(f"{path}: expected LVIS annotations with a list of categories")
    names: dict[int, str] = {}
    for number, category in enumerate(categories):
        if (
            not isinstance(category, dict)
            or type(category.get("id")) is not int
            or category["id"] in names
        ):
            raise ValueError(
                f"{path}, category {number}:"
                f" expected an object with an id (int) of its own, found {category!r}"
            )
        try:
            names[category["id"]] = in_words(text_of(category, "name"))
        except BadRecord as error:
            raise ValueError(f"{path}, category {number}: {error}") from error
    return [names[i] for i in sorted(names)]


def vocabulary_from_places(path: str | Path) -> list[str]:
    """The names in ``categories_places365.txt``, whose lines are "/c/church/outdoor 91", as
    words: "outdoor church".
    """
    words = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8-sig").splitlines(), 1):
        name, _, index = line.strip().rpartition(" ")
        parts = name.split("/")[2:]
        if not name.startswith("/") or not parts or not index.isdecimal():
            raise ValueError(
                f"{path}, line {number}:"
                f" {line!r}, expected a category of Places365 and its number, like '/a/airfield 0'"
            )
        ordered = parts if parts[-1] in NOUNS_LAST else parts[::-1]
        words.append(" ".join(ordered).replace("_", " "))
    return words
