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

import lskd_nb
from lskd_nb.mini.files.world_files import read_truth, write_world
from lskd_nb.mini.pretraining import verbalizers as mini
from lskd_nb.mini.pretraining.base import fresh_student
from lskd_nb.records import REJECTS, VERBALIZATIONS, read_parquet
from lskd_nb.regions import Region
from lskd_nb.sources.visual_genome import read_visual_genome
from lskd_nb.verbalization import describe as v
from lskd_nb.verbalization import ofa, retrieval

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
    rows, missing = ofa.external_captions(path, images)
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
            ofa.external_captions(path, images)


def test_ofa_is_given_the_images_as_it_reads_them(images, tmp_path):
    lines = ofa.write_ofa_input(images, tmp_path, tmp_path / "images.tsv").read_text().splitlines()
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
