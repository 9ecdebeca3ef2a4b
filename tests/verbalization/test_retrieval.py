"""Retrieval finds what CLIP itself finds, and keeps what it has computed of the vocabularies."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import pre_tokenizers
from transformers import (
    BlipImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
)

import lskd_nb
from lskd_nb.students.loading import image_processor
from lskd_nb.verbalization import describe as v
from lskd_nb.verbalization import retrieval
from lskd_nb.verbalization import verbalizers as speakers

CPU = torch.device("cpu")
PACKAGE = Path(lskd_nb.__file__).parent
WEIGHTS = PACKAGE / "mini" / "weights"


def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's: bytes, bytes that end a word, a few merges, start and end marks last."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("p", "h"), ("o", "f</w>"), ("a", "t")]
    tokens = [
        *letters,
        *(x + "</w>" for x in letters),
        *(a + b for a, b in merges),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    return CLIPTokenizer(vocab={t: i for i, t in enumerate(tokens)}, merges=merges)


@pytest.fixture(scope="module", params=["vit-b-16", "vit-l-14-336"])
def clip(request, tmp_path_factory) -> Path:
    """A tiny random CLIP with the patches, the preparation of images and the end mark (2, by
    mistake) of the published configurations.
    """
    folder, (patch, size) = (
        tmp_path_factory.mktemp(request.param),
        {"vit-b-16": (16, 32), "vit-l-14-336": (14, 42)}[request.param],
    )
    tower, tokenizer = (
        dict(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            initializer_range=0.5,
        ),
        clip_tokenizer(),
    )
    torch.manual_seed(1)
    CLIPModel(
        CLIPConfig(
            text_config=tower
            | dict(
                vocab_size=len(tokenizer),
                bos_token_id=0,
                eos_token_id=2,
                pad_token_id=1,
                max_position_embeddings=40,
            ),
            vision_config=tower | dict(patch_size=patch, image_size=size),
            projection_dim=16,
        )
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            dict(
                crop_size=size,
                do_center_crop=True,
                do_normalize=True,
                do_resize=True,
                feature_extractor_type="CLIPFeatureExtractor",
                resample=3,
                size=size,
                image_mean=[0.48145466, 0.4578275, 0.40821073],
                image_std=[0.26862954, 0.26130258, 0.27577711],
            )
        )
    )
    return folder


@pytest.fixture
def vocabularies(tmp_path) -> Path:
    """As long as LVIS' at least: more than are encoded at once."""
    words = dict(
        place=["beach", "narrow alley"],
        object=[f"thing {n}" for n in range(300)],
        concept=["a very long concept of more than forty letters and tokens"],
    )
    for kind, entries in words.items():
        retrieval.write_vocabulary(entries, tmp_path / "words" / f"{kind}.txt")
    return tmp_path / "words"


def test_retrieval_finds_what_clip_itself_finds(clip, vocabularies, images, tmp_path, monkeypatch):
    monkeypatch.setattr(
        retrieval, "autocast", lambda device: torch.autocast("cpu", enabled=False)
    )  # in full precision, to compare
    found = retrieval.Retriever(str(clip), vocabularies, CPU)
    pictures = [Image.open(tmp_path / i.path).convert("RGB") for i in images]
    processor = CLIPProcessor(CLIPImageProcessor.from_pretrained(clip), clip_tokenizer())
    model = CLIPModel.from_pretrained(clip)
    lines = found(pictures, (1, 4, 2))
    for kind, number in zip(retrieval.VOCABULARIES, (1, 4, 1), strict=True):
        words = retrieval.read_vocabulary(vocabularies / f"{kind}.txt")
        inputs = processor(
            text=[f"a photo of {w}" for w in words],
            images=pictures,
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=40,
        )
        with torch.no_grad():
            best = model(**inputs).logits_per_image.softmax(-1).topk(number)
        for row, (values, indices) in enumerate(
            zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ):
            told = [(w, p) for k, w, p in lines[row] if k == kind]
            assert [w for w, _ in told] == [words[i] for i in indices] and [
                p for _, p in told
            ] == pytest.approx(values, rel=1e-3)
    assert len({tuple(w for _, w, _ in line) for line in lines}) > 1  # pictures differ


def test_text_features_are_kept_and_damaged_ones_made_anew(
    clip, vocabularies, tmp_path, monkeypatch
):
    cache = tmp_path / "cache"
    first = retrieval.Retriever(str(clip), vocabularies, CPU, cache)
    files = sorted(cache.iterdir())
    assert [f.name.split("-")[0] for f in files] == ["concept", "object", "place"] and {
        f.suffix for f in files
    } == {".safetensors"}
    encoded = []
    real = retrieval.Retriever._encode_texts
    monkeypatch.setattr(
        retrieval.Retriever,
        "_encode_texts",
        lambda self, texts: encoded.append(len(texts)) or real(self, texts),
    )
    again = retrieval.Retriever(str(clip), vocabularies, CPU, cache)
    assert encoded == [] and all(
        torch.equal(first.features[k], again.features[k]) for k in retrieval.VOCABULARIES
    )
    whole = files[1].read_bytes()
    files[1].write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match="object-.* is damaged .*computed anew"):
        mended = retrieval.Retriever(str(clip), vocabularies, CPU, cache)
    assert (
        encoded == [300]
        and torch.equal(mended.features["object"], first.features["object"])
        and files[1].read_bytes() == whole
    )
    files[1].write_bytes(files[2].read_bytes())  # those of another vocabulary
    with pytest.warns(UserWarning, match="2 features for 300 words"):
        retrieval.Retriever(str(clip), vocabularies, CPU, cache)
    retrieval.write_vocabulary(["beach", "forest"], vocabularies / "place.txt")
    changed = retrieval.Retriever(str(clip), vocabularies, CPU, cache)
    assert (
        encoded == [300, 300, 2]
        and len(list(cache.iterdir())) == 4
        and not torch.equal(changed.features["place"], first.features["place"])
    )
    CLIPModel.from_pretrained(clip).half().float().save_pretrained(tmp_path / "other")
    clip_tokenizer().save_pretrained(tmp_path / "other")
    retrieval.Retriever(str(tmp_path / "other"), vocabularies, CPU, cache)
    assert encoded[3:] == [2, 300, 1]  # other weights


def test_verbalize_keeps_text_features_beside_its_output_or_where_it_is_told(
    clip, vocabularies, images, tmp_path
):
    only = v.Verbalizers(clip=str(clip))
    v.verbalize(
        images, tmp_path, only, tmp_path / "out" / "v.parquet", v.Settings(str(vocabularies))
    )
    v.verbalize(
        images,
        tmp_path,
        only,
        tmp_path / "other" / "v.parquet",
        v.Settings(str(vocabularies), cache=str(tmp_path / "mine")),
    )
    names = [
        sorted(f.name for f in folder.iterdir())
        for folder in (tmp_path / "out" / "text_features", tmp_path / "mine")
    ]
    assert (
        names[0] == names[1]
        and len(names[0]) == 3
        and not (tmp_path / "other" / "text_features").exists()
    )
    assert (tmp_path / "out" / "v.parquet").read_bytes() == (
        tmp_path / "other" / "v.parquet"
    ).read_bytes()


def test_a_model_says_how_its_images_are_prepared(clip):
    slope = (
        np.linspace(0, 255, 60)[None, :, None] * np.linspace(0.2, 1, 40)[:, None, None] * np.ones(3)
    )
    pictures = [Image.fromarray(slope.astype(np.uint8))]
    size = CLIPModel.from_pretrained(clip).config.vision_config.image_size
    own = speakers.pixel_batch(pictures, size, image_processor(str(clip)))
    square = (
        pictures[0].crop((10, 0, 50, 40)).resize((size, size), Image.Resampling.BICUBIC)
    )  # of 60 x 40 the centre, not the whole
    assert (
        own.shape == (1, 3, size, size)
        and (own - speakers.pixel_batch([square], size)).abs().max()
        < 0.1
        < (own - speakers.pixel_batch(pictures, size)).abs().mean()
    )
    assert image_processor(str(WEIGHTS / "clip")) is None
    blip = BlipImageProcessor(size=dict(height=32, width=32))(
        images=pictures, return_tensors="pt"
    ).pixel_values
    assert torch.allclose(
        speakers.pixel_batch(pictures, 32), blip, atol=1e-5
    )  # BLIP-2 stretches them
