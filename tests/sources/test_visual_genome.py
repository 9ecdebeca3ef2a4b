"""Visual Genome: real excerpts, the mini world's files, and all that can be wrong with them."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lskd_nb.mini.files.world_files import read_truth
from lskd_nb.mini.scenes import grammar
from lskd_nb.regions import Region, located_images, regions_table
from lskd_nb.run_folder import find_root
from lskd_nb.sources import count_reasons
from lskd_nb.sources.visual_genome import _choose, ious, read_human_texts, read_visual_genome

REAL = find_root().parent / "shared" / "samples" / "visual_genome"
TRAIN, VAL, SEED = 20, 12, 5
ALL_TEXTS = ("region_descriptions", "question_answers", "attributes", "relationships")


@pytest.mark.skipif(
    not REAL.exists(), reason="the real excerpt of Visual Genome is not on this machine"
)
def test_real_visual_genome():
    images, rejects = read_visual_genome(REAL)
    assert not rejects
    assert [(i.image_id, i.path, i.width, i.height) for i in images] == [
        ("1", "VG_100K_2/1.jpg", 800, 600),
        ("2", "VG_100K/2.jpg", 800, 600),
    ]
    for image in images:
        assert 5 <= len(image.regions) <= 10 and [r.id for r in image.regions] == list(
            range(len(image.regions))
        )
        assert "man" in [r.label for r in image.regions]
    texts, rejects = read_human_texts(REAL, images, ALL_TEXTS)
    assert not rejects
    assert Counter(t.origin for t in texts)["region_descriptions"] == 518
    assert Counter(t.origin for t in texts)["question_answers"] == 256
    man = next(r.id for r in images[1].regions if r.label == "man")
    assert any("man" in t.text for t in texts if t.image_id == "2" and t.region == man)
    assert located_images(regions_table(images)) == images


def test_visual_genome_of_the_world_has_its_scenes_entities(world):
    truth = read_truth(world / "truth.jsonl")
    images, rejects = read_visual_genome(world / "visual_genome")
    assert len(images) == TRAIN and not rejects
    for image in images:
        entities = truth[image.image_id].entities
        assert [r.label for r in image.regions] == [e.kind for e in entities]
        assert np.allclose([r.box for r in image.regions], [e.box for e in entities], atol=1.01)
        assert (world / "visual_genome" / image.path).is_file() and image.split == "train"


def test_human_texts_of_the_world_are_about_the_right_regions(world):
    truth = read_truth(world / "truth.jsonl")
    images, _ = read_visual_genome(world / "visual_genome")
    texts, rejects = read_human_texts(world / "visual_genome", images, ALL_TEXTS)
    assert not rejects
    for text in texts:
        entities = truth[text.image_id].entities
        assert text.kind == ("dynamic" if text.question else "local")
        if text.origin == "region_descriptions":
            said, entity = grammar.read_entity(text.text), entities[text.region]
            assert (
                said.kind == entity.kind
                and said.color in ("", entity.color)
                and said.held == entity.held
            )
        elif text.origin != "question_answers":
            assert entities[text.region].kind in text.text.split()
    assert {grammar.describe_closely(e) for e in truth[images[0].image_id].entities} <= {
        t.text for t in texts
    }


def test_human_texts_only_of_the_images_asked_for(world):
    images, _ = read_visual_genome(world / "visual_genome", limit=2)
    assert len(images) == 2
    texts, rejects = read_human_texts(world / "visual_genome", images[1:])
    assert {t.image_id for t in texts} == {images[1].image_id} and not rejects
    with pytest.raises(ValueError, match="'depth' is none of"):
        read_human_texts(world / "visual_genome", images, ("depth",))


def test_text_that_overlaps_no_region_is_about_the_image(edit, world_copy):
    folder = world_copy / "visual_genome"
    edit(
        folder / "region_descriptions.json",
        lambda r: r[0]["regions"][0].update(x=0, y=0, width=320, height=240),
    )
    images, _ = read_visual_genome(folder)
    first = read_human_texts(folder, images)[0][0]
    assert (first.kind, first.region) == ("global", None)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: r.append({"image_id": 7, "objects": []}), "unknown image"),
        (lambda r: r.append(r[0]), "repeated image"),
        (lambda r: r.append({"objects": []}), "missing field"),
        (lambda r: r[1].update(image_id=[3]), "bad image id"),
        (lambda r: r[1].update(objects="none"), "bad list"),
        (lambda r: r[1].update(objects=[]), "no regions"),
        (lambda r: r.pop(), "no objects"),
        (lambda r: r[0]["objects"][0].update(w=0), "box of no area"),
        (lambda r: r[0]["objects"][0].update(x=321), "box of no area"),
        (lambda r: r[0]["objects"][0].update(h=-5), "box of no area"),
        (lambda r: r[0]["objects"][0].update(x="left"), "bad number"),
        (lambda r: r[0]["objects"][0].update(y=float("nan")), "bad number"),
        (lambda r: r[0]["objects"][0].pop("h"), "missing field"),
        (lambda r: r[0]["objects"][0].update(names=[]), "no name"),
        (lambda r: r[0]["objects"].insert(0, "dog"), "bad record"),
    ],
)
def test_bad_objects_are_rejected_and_the_rest_is_read(edit, world_copy, change, reason):
    edit(world_copy / "visual_genome/objects.json", change)
    images, rejects = read_visual_genome(world_copy / "visual_genome")
    assert reason in count_reasons(rejects)
    assert len(images) >= TRAIN - 1
    assert all(
        r.record.startswith(("objects.json", "image_data.json")) and r.detail for r in rejects
    )


def test_boxes_are_cut_to_the_image(edit, world_copy):
    edit(
        world_copy / "visual_genome/objects.json",
        lambda r: r[0]["objects"][0].update(x=-20, y=100, w=60, h=900),
    )
    images, rejects = read_visual_genome(world_copy / "visual_genome", counts=(counts := Counter()))
    assert not rejects and images[0].regions[0].box == (0.0, 100.0, 40.0, 240.0)
    assert counts["clamped"] == 1


def test_pictures_missing_damaged_or_of_another_size(world_copy):
    folder = world_copy / "visual_genome"
    paths = sorted((folder / "VG_100K").iterdir())
    paths[0].unlink()
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[:3000])
    Image.new("RGB", (100, 100)).save(paths[2])
    images, rejects = read_visual_genome(folder)
    assert len(images) == TRAIN - 3
    assert count_reasons(rejects) == {
        "missing image": 1,
        "corrupt image": 1,
        "image size differs": 1,
    }
    assert paths[1].name in rejects[1].detail


def test_damaged_visual_genome_files_are_errors(world_copy):
    folder = world_copy / "visual_genome"
    (folder / "objects.json").write_text((folder / "objects.json").read_text()[:-30])
    with pytest.raises(ValueError, match=r"objects.json, line 1, column \d+: not valid JSON"):
        read_visual_genome(folder)
    (folder / "image_data.json").unlink()
    with pytest.raises(FileNotFoundError, match="image_data.json"):
        read_visual_genome(folder)


def test_bad_texts_are_rejected(edit, world_copy):
    folder = world_copy / "visual_genome"
    images, _ = read_visual_genome(folder)

    def spoil(records: list) -> None:
        records[0]["regions"][0]["phrase"] = "  "
        records[0]["regions"][1]["width"] = 0
        records[1]["id"] = 99

    edit(folder / "region_descriptions.json", spoil)
    edit(folder / "question_answers.json", lambda r: r[0]["qas"][0].pop("answer"))
    edit(folder / "attributes.json", lambda r: r[0]["attributes"][0].update(attributes="red"))
    whole = read_human_texts(folder, images, ("attributes",))[0]
    edit(
        folder / "attributes.json",
        lambda r: r[0]["attributes"][1].update(
            attributes=[*r[0]["attributes"][1]["attributes"], None]
        ),
    )
    assert read_human_texts(folder, images, ("attributes",))[0] == whole  # but for the bad word
    edit(
        folder / "relationships.json",
        lambda r: r[0]["relationships"].insert(0, {"predicate": "on"}),
    )
    rejects = read_human_texts(folder, images, ALL_TEXTS)[1]
    assert [r.reason for r in rejects] == [
        "bad text",
        "box of no area",
        "unknown image",
        "missing field",
        "bad list",
        "bad text",
        "bad record",
    ]


def test_older_visual_genome_keys(edit, world_copy):
    folder = world_copy / "visual_genome"
    new_images, _ = read_visual_genome(folder)
    new_texts, _ = read_human_texts(folder, new_images, ALL_TEXTS)

    def older(records: list) -> None:
        for record in records:
            if "image_id" in record:
                record["id"] = record.pop("image_id")
            for entry in record.get("attributes", []):
                entry["object_names"] = entry.pop("names")
            for entry in [*record.get("objects", []), *record.get("regions", [])]:
                entry["id"] = entry.pop("object_id", None) or entry.pop("region_id")
            for relation in record.get("relationships", []):
                relation["subject"]["names"] = [relation["subject"].pop("name")]

    for name in ("image_data", "objects", "attributes", "region_descriptions", "relationships"):
        edit(folder / f"{name}.json", older)
    images, rejects = read_visual_genome(folder)
    assert images == new_images and not rejects
    assert read_human_texts(folder, images, ALL_TEXTS) == (new_texts, [])


BOXES = st.tuples(
    st.integers(0, 300), st.integers(0, 220), st.integers(1, 320), st.integers(1, 240)
).map(
    lambda b: (float(b[0]), float(b[1]), float(min(b[0] + b[2], 320)), float(min(b[1] + b[3], 240)))
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(BOXES, st.sampled_from(["man", "tree", "dog"])), max_size=14),
    st.integers(1, 6),
)
def test_chosen_regions_are_few_distinct_and_in_order(objects, number):
    given_regions = [Region(i, box, label) for i, (box, label) in enumerate(objects)]
    chosen = _choose(given_regions, 400, 0.5, number)
    assert len(chosen) <= number and [r.id for r in chosen] == list(range(len(chosen)))
    places = [
        next(i for i, g in enumerate(given_regions) if (g.box, g.label) == (r.box, r.label))
        for r in chosen
    ]
    assert places == sorted(places)
    for region in chosen:
        others = [r.box for r in chosen if r is not region]
        assert not others or ious(np.array(region.box), np.array(others)).max() <= 0.5
    wide = [g for g in given_regions if (g.box[2] - g.box[0]) * (g.box[3] - g.box[1]) >= 400]
    assert bool(chosen) == bool(wide)
    if len(chosen) < number:  # whatever was left out is a near copy of what was chosen
        assert all(
            ious(np.array(g.box), np.array([r.box for r in chosen])).max() > 0.5
            or any(g.box == r.box for r in chosen)
            for g in wide
        )
