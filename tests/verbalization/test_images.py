"""The images of a corpus: Visual Genome's and VCR's below one root; without any, what is missing;
and what the models that speak about them are told and asked.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch

import lskd_nb
from lskd_nb.mini.files.world_files import write_world
from lskd_nb.records import REJECTS, read_parquet
from lskd_nb.regions import is_person
from lskd_nb.sources.vcr import read_vcr, read_vcr_images
from lskd_nb.sources.visual_genome import read_visual_genome
from lskd_nb.students.views import open_image
from lskd_nb.verbalization import describe, verbalizers
from lskd_nb.verbalization import images as sets

WEIGHTS = Path(lskd_nb.__file__).parent / "mini" / "weights"


BOTH = {"visual_genome": "visual_genome", "vcr": "vcr"}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Both sets' files."""
    folder = tmp_path_factory.mktemp("both")
    write_world(folder, 12, 4, 0)
    return folder


def read(told: dict, root: Path, links: Path, **how) -> sets.Found:
    return sets.read_images(sets.sources_of(told, root), links, **how)


def test_both_sets_lie_below_one_root(world, tmp_path):
    found = read(BOTH, world, tmp_path / "images")
    images, rejected = found.images, found.rejects
    counts = sets.count_sources(images)
    stills = [image for image in images if image.source == "vcr"]
    told = read_vcr(world / "vcr", "train")[0]
    assert counts["visual_genome"] == 12 and {i.image_id for i in stills} == {
        q.img_id for q in told
    }
    assert 1 < counts["vcr"] < len(told) and not rejected, "each still once"
    assert len({i.image_id for i in images}) == len(images) and {i.split for i in images} == {
        "train"
    }
    for image in images:
        assert open_image(found.root, image.path).size == (image.width, image.height)
        assert [r.id for r in image.regions] == list(range(len(image.regions)))
        assert all(r.label for r in image.regions)
    assert images[:12] == read_visual_genome(world / "visual_genome")[0], "as without VCR"
    assert found.root == tmp_path / "images"
    alone = read({"visual_genome": "visual_genome"}, world, tmp_path / "none")
    assert alone.root == world / "visual_genome" and not (tmp_path / "none").exists()


def test_of_too_many_detections_people_stay_and_the_largest(world, tmp_path):
    whole = {i.image_id: i for i in read_vcr_images(world / "vcr", "train")[0]}
    few = read(BOTH, world, tmp_path / "images", max_regions=2).images
    cut = [i for i in few if i.source == "vcr" and len(whole[i.image_id].regions) > 2]
    assert cut
    for image in cut:
        before, boxes = whole[image.image_id].regions, [r.box for r in image.regions]
        left = [r for r in before if r.box not in boxes]
        people = sum(is_person(r.label) for r in before)
        assert sum(is_person(r.label) for r in image.regions) == min(people, 2)
        assert [r.box for r in before if r.box in boxes] == boxes, "in the file's order"
        assert len(left) == len(before) - 2


def test_the_limit_counts_for_each_set(world, tmp_path):
    images = read(BOTH, world, tmp_path / "images", limit=2).images
    assert sets.count_sources(images) == {"visual_genome": 2, "vcr": 2}


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"vg": "x"}, "sources has 'vg'; expected some of visual_genome, vcr, coco, lvis, folder"),
        ({"coco": {"images": "x"}}, "sources.coco is .*; expected a path, or"),
        ({"coco": {"annotations": "x", "pictures": "y"}}, "sources.coco is"),
        ({"folder": ["x"]}, "sources.folder is"),
    ],
)
def test_a_source_of_another_name_or_form_is_refused(told, words):
    with pytest.raises(ValueError, match=words):
        sets.sources_of(told, ".")


def test_stills_that_cannot_be_used_are_left_out_with_their_reason(world, tmp_path):
    home = shutil.copytree(world / "vcr", tmp_path / "vcr")
    rows = [json.loads(line) for line in (home / "train.jsonl").read_text().splitlines()]
    first, second, third = list({r["img_fn"]: r for r in rows}.values())[:3]
    (home / "vcr1images" / first["img_fn"]).unlink()
    metadata = home / "vcr1images" / second["metadata_fn"]
    told = json.loads(metadata.read_text())
    metadata.write_text(json.dumps(told | dict(boxes=[], names=[], segms=[])))
    lines = [json.dumps(row) for row in [{"img_fn": 3}, *rows]]
    (home / "train.jsonl").write_bytes(b"\xef\xbb\xbf" + "\n\n".join(lines).encode())
    images, rejects = read_vcr_images(home, "train")
    reasons = {r.reason for r in rejects}
    assert len(rejects) == 2 and "missing image" in reasons
    assert {i.image_id for i in images} >= {second["img_id"], third["img_id"]}
    told = {"visual_genome": str(world / "visual_genome"), "vcr": str(home)}
    both = read(told, tmp_path, tmp_path / "images")
    assert (second["img_id"], "no regions") in {(r.record, r.reason) for r in both.rejects}
    assert second["img_id"] not in {i.image_id for i in both.images}
    (home / "train.jsonl").write_text('{"img_fn": "a"}\n[1]\n')
    with pytest.raises(ValueError, match=r"train.jsonl, line 2: expected an object, found list"):
        read_vcr_images(home, "train")
    with pytest.raises(FileNotFoundError, match="val.jsonl is not there"):
        read_vcr_images(tmp_path, "val")
    with pytest.raises(ValueError, match="split: 'dev' is none of"):
        read_vcr_images(home, "dev")


def test_without_a_single_picture_it_is_said_what_is_missing_where(world, tmp_path):
    (tmp_path / "empty").mkdir()
    told = (
        r"no image can be used: 12 records left out of .*visual_genome, pictures below .*empty:"
        r" 12 × missing image. The first of them: objects.json, image \d+: .* is not there"
    )
    with pytest.raises(ValueError, match=told):
        files = {"annotations": str(world / "visual_genome"), "images": "empty"}
        read({"visual_genome": files}, tmp_path, tmp_path / "images")
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("objects", "image_data"):
        (bare / f"{name}.json").write_text("[]")
    with pytest.raises(ValueError, match="no image: there is no record in .*bare"):
        read({"visual_genome": "bare"}, tmp_path, tmp_path / "images")


def test_pictures_that_vanish_before_they_are_spoken_of_are_named(images, tmp_path):
    for image in images:
        (tmp_path / image.path).unlink()
    with pytest.raises(
        ValueError, match=r"no image could be verbalized: 3 rejects .*'a': unreadab"
    ):
        describe.verbalize(images, tmp_path, describe.Verbalizers(), tmp_path / "v.parquet")
    assert read_parquet(tmp_path / "v.rejects.parquet", REJECTS).num_rows == 3


# --------------------------------------------------------------------------------- asked to ask


def test_a_question_generator_is_told_to_ask(images, tmp_path, monkeypatch):
    """What its encoder reads begins with the request; without one, it reads the words alone."""
    models = verbalizers.Verbalizers(
        captioner=str(WEIGHTS / "vlm"),
        question_generator=str(WEIGHTS / "questions"),
        vqa=str(WEIGHTS / "vlm"),
    )
    read: list[list[str]] = []
    real = verbalizers.QuestionGenerator.__init__

    def listened(self, name: str, device: torch.device) -> None:
        real(self, name, device)
        whole = self.model.generate

        def generate(input_ids, **how):
            read.append(self.tokenizer.batch_decode(input_ids, skip_special_tokens=True))
            return whole(input_ids=input_ids, **how)

        self.model.generate = generate

    monkeypatch.setattr(verbalizers.QuestionGenerator, "__init__", listened)
    for prompts in ({"question": "what is in the park ? {words}"}, {"question": ""}, {}):
        told = verbalizers.prompt_settings({"caption": "caption :"} | prompts)
        settings = describe.Settings(questions=1, max_new_tokens=6, **told)
        rows, _ = describe.LoadedVerbalizers(models, settings)(images, tmp_path)
        said = {r["image_id"]: r["text"] for r in rows if r["verbalizer"] == "captioner"}
        asked = read.pop()
        before = "what is in the park? " if prompts.get("question") else ""
        assert [" ".join(a.replace(" ?", "?").split()) for a in asked] == [
            before + " ".join(said[i.image_id].split()) for i in images
        ]
    with pytest.raises(ValueError, match="prompts has 'questions'; expected some of caption, reg"):
        verbalizers.prompt_settings({"questions": "x"})
