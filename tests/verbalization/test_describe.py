"""Verbalization through tiny random models in Hugging Face's layouts, and through the mini
world's own.
"""

import base64
import io
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
from lskd_nb.mini.files.world_files import read_truth, write_world
from lskd_nb.mini.pretraining import verbalizers as mini
from lskd_nb.mini.pretraining.base import fresh_student
from lskd_nb.records import REJECTS, VERBALIZATIONS, read_parquet
from lskd_nb.regions import LocatedImage, Region
from lskd_nb.run_folder import find_root
from lskd_nb.sources.visual_genome import read_visual_genome
from lskd_nb.students.loading import image_processor
from lskd_nb.verbalization import describe as v
from lskd_nb.verbalization import retrieval
from lskd_nb.verbalization import verbalizers as speakers

CPU = torch.device("cpu")
LVIS = find_root().parent / "shared" / "samples" / "lvis"
PACKAGE = Path(lskd_nb.__file__).parent
WEIGHTS = PACKAGE / "mini" / "weights"
WORDS = PACKAGE / "mini" / "vocabularies"


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> v.Verbalizers:
    folder = tmp_path_factory.mktemp("models")
    mini.save(mini.fresh_clip(0, 32), folder / "clip")
    student = fresh_student(0, hidden=32, layers=1, vision_width=24, vision_layers=1, image_size=32)
    mini.save(mini.fresh_vlm(student, 0, 32, 1), folder / "vlm")
    torch.manual_seed(0)
    mini.save(
        mini.T5ForConditionalGeneration(mini.t5_config(mini.words(), 32)), folder / "questions"
    )
    return v.Verbalizers(*(str(folder / n) for n in ("clip", "vlm", "vlm", "questions", "vlm")))


@pytest.fixture
def images(tmp_path) -> list[LocatedImage]:
    for name in "abc":
        Image.fromarray(
            np.random.default_rng(ord(name)).integers(0, 255, (40, 60, 3), dtype=np.uint8)
        ).save(tmp_path / f"{name}.png")
    regions = (Region(0, (1, 1, 30, 30), "dog"), Region(1, (20, 5, 58, 38), "man"))
    return [LocatedImage(n, f"{n}.png", 60, 40, regions, "t", "train") for n in "abc"]


def test_all_kinds_of_lines_with_model_and_version(models, images, tmp_path):
    out, bad = v.verbalize(
        images, tmp_path, models, tmp_path / "v.parquet", v.Settings(str(WORDS), max_new_tokens=5)
    )
    rows = read_parquet(out, VERBALIZATIONS).to_pylist()
    found = {(r["kind"], r["verbalizer"]) for r in rows}
    assert {
        ("global", "clip-place"),
        ("global", "clip-object"),
        ("global", "clip-concept"),
        ("global", "captioner"),
        ("local", "region-captioner"),
    } <= found
    assert all(
        len(r["version"]) == 12 and "/" in r["model"] and 0 <= r["score"] <= 1.0001 for r in rows
    )
    assert {(r["image_id"], r["region"]) for r in rows if r["kind"] == "local"} == {
        (i, r) for i in "abc" for r in (0, 1)
    }
    assert read_parquet(bad, REJECTS).num_rows == 0


def test_unreadable_image_is_rejected_and_the_others_are_not(models, images, tmp_path):
    (tmp_path / "b.png").write_bytes(b"no image")
    only = v.Verbalizers(clip=models.clip)
    out, bad = v.verbalize(images, tmp_path, only, tmp_path / "v.parquet", v.Settings(str(WORDS)))
    assert {r["image_id"] for r in read_parquet(out, VERBALIZATIONS).to_pylist()} == {"a", "c"}
    (row,) = read_parquet(bad, REJECTS).to_pylist()
    assert row["record"] == "b" and row["reason"] == "unreadable image" and "b.png" in row["detail"]


def test_finished_parts_are_not_done_again(models, images, tmp_path, monkeypatch):
    only, settings = v.Verbalizers(clip=models.clip), v.Settings(str(WORDS))
    calls = []
    real = v.LoadedVerbalizers.__call__

    def counted(self, part, root):
        calls.append([i.image_id for i in part])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, part, root)

    monkeypatch.setattr(v.LoadedVerbalizers, "__call__", counted)
    with pytest.raises(KeyboardInterrupt):
        v.verbalize(images, tmp_path, only, tmp_path / "v.parquet", settings, part=1)
    assert not (tmp_path / "v.parquet").exists()
    v.verbalize(images, tmp_path, only, tmp_path / "v.parquet", settings, part=1)
    assert calls == [["a"], ["b"], ["b"], ["c"]]
    assert {
        r["image_id"] for r in read_parquet(tmp_path / "v.parquet", VERBALIZATIONS).to_pylist()
    } == set("abc")


def test_what_people_wrote_joins_in(images, tmp_path):
    human = list(
        v.human_rows(
            "a",
            [
                (0, None, "a dog"),
                (None, "Where is this?", "in a park"),
                (None, None, "a sunny day"),
            ],
            "region_descriptions",
        )
    )
    out, _ = v.verbalize(
        images,
        tmp_path,
        v.Verbalizers(),
        tmp_path / "v.parquet",
        human=human + [human[0] | {"image_id": "unknown"}],
    )
    rows = read_parquet(out, VERBALIZATIONS).to_pylist()
    assert [r["kind"] for r in rows] == ["local", "dynamic", "global"] and {
        r["model"] for r in rows
    } == {"human"}


def test_half_of_the_dynamic_pair_is_an_error(models, images, tmp_path):
    with pytest.raises(ValueError, match="both a question_generator and a vqa"):
        v.verbalize(
            images,
            tmp_path,
            v.Verbalizers(vqa=models.vqa),
            tmp_path / "v.parquet",
            v.Settings(str(WORDS)),
        )


def test_region_views(images, tmp_path):
    picture = Image.new("RGB", (60, 40), "white")
    assert v.region_view(picture, Region(3, (10, 10, 30, 30)), 32, "crop").size == (24, 24)
    assert v.region_view(picture, Region(3, (10, 10, 30, 30)), 32, "highlight").size == (32, 32)
    with pytest.raises(ValueError, match="region_view is 'zoom'"):
        v.region_view(picture, Region(3, (10, 10, 30, 30)), 32, "zoom")


@pytest.mark.parametrize("kind", retrieval.VOCABULARIES)
def test_vocabularies_are_lists_without_repetition(kind, tmp_path):
    for folder in (WORDS, Path(v.__file__).parent / "vocabularies"):
        words = retrieval.read_vocabulary(folder / f"{kind}.txt")
        assert words and len(set(words)) == len(words)
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(ValueError, match="holds no vocabulary entry"):
        retrieval.read_vocabulary(tmp_path / "empty.txt")


def test_the_mini_verbalizers_see_much_and_not_all(tmp_path):
    write_world(tmp_path / "world", 40, 1, 77)
    images, _ = read_visual_genome(tmp_path / "world" / "visual_genome")
    models = v.Verbalizers(*(str(WEIGHTS / n) for n in ("clip", "vlm", "vlm", "questions", "vlm")))
    settings = v.Settings(
        str(WORDS),
        caption_prompt=mini.CAPTION_PROMPT,
        region_prompt=mini.REGION_PROMPT,
        questions=1,
    )
    out, _ = v.verbalize(
        images, tmp_path / "world" / "visual_genome", models, tmp_path / "v.parquet", settings
    )
    rates = mini.error_rates(
        read_parquet(out, VERBALIZATIONS).to_pylist(),
        read_truth(tmp_path / "world" / "truth.jsonl"),
    )
    assert rates["captioner"]["place"] < 0.1 and rates["region-captioner"]["kind"] < 0.35
    assert 0.05 < rates["region-captioner"]["any"] < 0.7


# -------------------------------------------------------------------------- CLIP in its real layout


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


# -------------------------------------------------------------------------- vocabularies from files


@pytest.mark.skipif(not LVIS.exists(), reason="no sample of LVIS beside the project")
def test_lvis_names_become_an_object_vocabulary(tmp_path):
    words = retrieval.vocabulary_from_lvis(LVIS / "lvis_v1_categories.json")
    assert (
        len(words) == len(set(words)) == 1203
        and words[0] == "aerosol can"
        and "tank (storage vessel)" in words
    )
    assert not any("_" in w for w in words)
    assert (
        retrieval.read_vocabulary(retrieval.write_vocabulary(words, tmp_path / "object.txt"))
        == words
    )
    assert len(retrieval.vocabulary_from_lvis(LVIS / "lvis_v0.5_val_100.json")) == 1230


def test_vocabularies_are_read_from_the_sets_own_files_and_errors_name_the_place(tmp_path):
    (tmp_path / "lvis.json").write_text(
        json.dumps(
            dict(images=[], categories=[dict(id=2, name="fire_hydrant"), dict(id=1, name="cat")])
        )
    )
    assert retrieval.vocabulary_from_lvis(tmp_path / "lvis.json") == ["cat", "fire hydrant"]
    for content, message in (
        (dict(images=[]), "expected LVIS annotations"),
        (
            [dict(id=1, name="cat"), dict(id=1, name="dog")],
            "lvis.json, category 1: expected .* of its own",
        ),
        ([dict(id=1, name="cat"), dict(id=2)], "lvis.json, category 1: missing field"),
        (["cat"], "lvis.json, category 0"),
        ([], "expected LVIS"),
    ):
        (tmp_path / "lvis.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=message):
            retrieval.vocabulary_from_lvis(tmp_path / "lvis.json")
    (tmp_path / "places.txt").write_text(
        "/a/airfield 0\n/a/apartment_building/outdoor 8\n/e/elevator/door"
        " 131\n/u/underwater/ocean_deep 343\n"
    )
    assert retrieval.vocabulary_from_places(tmp_path / "places.txt") == [
        "airfield",
        "outdoor apartment building",
        "elevator door",
        "ocean deep underwater",
    ]
    (tmp_path / "places.txt").write_text("/a/airfield 0\nairport\n")
    with pytest.raises(ValueError, match="places.txt, line 2: 'airport', expected a category"):
        retrieval.vocabulary_from_places(tmp_path / "places.txt")
    with pytest.raises(ValueError, match="'# cat' can't be a line"):
        retrieval.write_vocabulary(["# cat"], tmp_path / "object.txt")


# --------------------------------------------------------------------- narrator, loaded loaded, OFA


def test_a_narrator_tells_more_and_loaded_voices_are_not_loaded_again(
    images, tmp_path, monkeypatch
):
    told = v.Verbalizers(captioner=str(WEIGHTS / "vlm"), narrator=str(WEIGHTS / "vlm"))
    settings = v.Settings(
        max_new_tokens=3,
        narrative_tokens=12,
        caption_prompt=mini.CAPTION_PROMPT,
        narrative_prompt=mini.CAPTION_PROMPT,
    )
    loaded = v.LoadedVerbalizers(told, settings)
    assert loaded.narrator is loaded.captioner
    monkeypatch.setattr(v.LoadedVerbalizers, "__init__", lambda *_: pytest.fail("loaded again"))
    out, _ = v.verbalize(images, tmp_path, told, tmp_path / "v.parquet", settings, loaded=loaded)
    rows = read_parquet(out, VERBALIZATIONS).to_pylist()
    assert [r["verbalizer"] for r in rows] == ["captioner"] * 3 + ["narrator"] * 3 and {
        r["kind"] for r in rows
    } == {"global"}
    lengths = {
        n: max(
            len(loaded.captioner.tokenizer(r["text"], add_special_tokens=False).input_ids)
            for r in rows
            if r["verbalizer"] == n
        )
        for n in ("captioner", "narrator")
    }
    assert lengths["captioner"] <= 3 < lengths["narrator"] <= 12


def test_what_ofa_wrote_joins_in(images, tmp_path):
    path = tmp_path / "test_predict.json"
    path.write_text(
        json.dumps(
            [
                dict(image_id="b", caption="a man  and a dog"),
                dict(image_id="a", caption="noise"),
                dict(image_id="else", caption="x"),
                dict(image_id="a", caption="noise"),
            ]
        )
    )
    rows, missing = v.external_captions(path, images)
    assert [(r["image_id"], r["text"], r["verbalizer"], r["model"]) for r in rows] == [
        ("a", "noise", "ofa-huge", "ofa-huge"),
        ("b", "a man and a dog", "ofa-huge", "ofa-huge"),
    ]
    assert [(r.record, r.reason) for r in missing] == [("c", "no caption")]
    out, _ = v.verbalize(images, tmp_path, v.Verbalizers(), tmp_path / "v.parquet", human=rows)
    assert [r["kind"] for r in read_parquet(out, VERBALIZATIONS).to_pylist()] == [
        "global",
        "global",
    ]
    for bad, message in (
        (dict(image_id="a"), "row 1: missing field"),
        (dict(image_id="b", caption="a cat"), "row 1: image_id 'b' has a second caption"),
        (dict(caption="x"), "row 1: missing"),
    ):
        path.write_text(json.dumps([dict(image_id="b", caption="a dog"), bad]))
        with pytest.raises(ValueError, match=f"test_predict.json, {message}"):
            v.external_captions(path, images)


def test_ofa_is_given_the_images_as_it_reads_them(images, tmp_path):
    lines = v.write_ofa_input(images, tmp_path, tmp_path / "images.tsv").read_text().splitlines()
    columns = [line.split("\t") for line in lines]
    assert [c[1] for c in columns] == ["a", "b", "c"] and {len(c) for c in columns} == {5}
    seen = Image.open(io.BytesIO(base64.urlsafe_b64decode(columns[1][4])))
    assert np.array_equal(np.asarray(seen), np.asarray(Image.open(tmp_path / "b.png")))


def test_several_boxes_of_one_thing_are_shown_together():
    picture, boxes = Image.new("RGB", (60, 40), "white"), [(10, 10, 20, 20), (30, 15, 40, 30)]
    assert v.boxes_view(picture, boxes, 32, "crop").size == (
        36,
        26,
    )  # around both, with a tenth of the longer side
    drawn = np.asarray(v.boxes_view(picture, boxes, 60, "highlight")) != 255
    both = [np.asarray(v.boxes_view(picture, [b], 60, "highlight")) != 255 for b in boxes]
    assert np.array_equal(drawn, both[0] | both[1]) and all(b.any() for b in both)
    assert v.boxes_view(picture, [], 32, "crop") is picture
