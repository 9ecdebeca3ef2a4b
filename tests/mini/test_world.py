"""The embedded world on disk: real formats, whole or absent."""

import json
from pathlib import Path

import pytest
from PIL import Image

from lskd_nb.mini.files import world_files
from lskd_nb.mini.files.world_files import read_truth, world_pictures, write_truth, write_world
from lskd_nb.mini.scenes.world import sample_scenes
from lskd_nb.run_folder import find_root

SAMPLES = find_root().parent / "shared" / "samples"
TRAIN, VAL = 24, 12
SCENES = sample_scenes(560, 77, "s")
HELD_OUT = sample_scenes(560, 78, "h")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mini") / "world"
    write_world(folder, TRAIN, VAL, seed=3, workers=1)
    return folder


def _json(path: Path):
    return json.loads(path.read_text())


def _jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# ------------------------------------------------------------------------------------------ on disk


def test_second_call_writes_nothing(world):
    before = {p: p.stat().st_mtime_ns for p in world.rglob("*") if p.is_file()}
    marker = write_world(world, TRAIN, VAL, seed=3, workers=1)
    assert {p: p.stat().st_mtime_ns for p in world.rglob("*") if p.is_file()} == before
    assert marker["counts"]["scenes"] == TRAIN + VAL
    assert marker["counts"]["pictures"] == len(list(world.rglob("*.jpg")))


@pytest.mark.parametrize("damage", ["edit", "delete", "picture"])
def test_damaged_world_is_written_anew(tmp_path, damage):
    marker = write_world(tmp_path / "w", 3, 3, seed=0)
    path = tmp_path / "w" / "vcr/val.jsonl"
    good = path.read_bytes()
    if damage == "edit":
        path.write_bytes(good[: len(good) // 2])
    elif damage == "delete":
        path.unlink()
    else:
        next((tmp_path / "w/visual_genome/VG_100K").glob("*.jpg")).unlink()
    assert write_world(tmp_path / "w", 3, 3, seed=0) == marker
    assert path.read_bytes() == good
    assert len(list((tmp_path / "w/visual_genome/VG_100K").glob("*.jpg"))) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["w"]


def test_other_arguments_replace_the_world(tmp_path):
    one = write_world(tmp_path / "w", 3, 3, seed=0)
    two = write_world(tmp_path / "w", 4, 3, seed=0)
    assert one["files"] != two["files"] and two["counts"]["visual_genome/objects.json"] == 4
    assert len(list((tmp_path / "w/visual_genome/VG_100K").iterdir())) == 4


def test_killed_write_leaves_no_world(tmp_path, monkeypatch):
    drawn = []

    def die(scene):
        drawn.append(scene)
        if len(drawn) == 4:
            raise KeyboardInterrupt
        return Image.new("RGB", (320, 240))

    monkeypatch.setattr(world_files, "render", die)
    with pytest.raises(KeyboardInterrupt):
        write_world(tmp_path / "w", 3, 3, seed=0)
    assert not (tmp_path / "w").exists()
    monkeypatch.undo()
    assert write_world(tmp_path / "w", 3, 3, seed=0)["counts"]["scenes"] == 6
    assert [p.name for p in tmp_path.iterdir()] == ["w"]


def test_refuses_a_folder_with_something_else(tmp_path):
    (tmp_path / "thesis.txt").write_text("do not lose")
    with pytest.raises(ValueError, match="is not empty and holds no world.json"):
        write_world(tmp_path, 3, 3, seed=0)
    assert (tmp_path / "thesis.txt").read_text() == "do not lose"
    with pytest.raises(ValueError, match="at least 1"):
        write_world(tmp_path / "w", 0, 3, seed=0)
    with pytest.raises(ValueError, match="not valid JSON"):
        (tmp_path / "world.json").write_text("{")
        write_world(tmp_path, 3, 3, seed=0)


def test_splits_share_no_scene_and_do_not_depend_on_size():
    train, val = world_pictures(40, 40, seed=0)
    assert len({repr((p.scene.entities, p.scene.seed)) for p in train + val}) == 80
    assert len({p.number for p in train + val}) == 80
    assert world_pictures(10, 5, seed=0) == (train[:10], val[:5])
    assert world_pictures(10, 5, seed=1)[0][0].scene.entities != train[0].scene.entities


def test_truth_round_trip_and_errors(tmp_path, world):
    train, val = world_pictures(TRAIN, VAL, seed=3)
    truth = read_truth(world / "truth.jsonl")
    assert truth[str(train[5].number)] == train[5].scene
    assert truth["val-2"] == val[2].scene == truth[str(val[2].number)]
    write_truth(tmp_path / "t.jsonl", truth)
    assert read_truth(tmp_path / "t.jsonl") == truth
    (tmp_path / "t.jsonl").write_text(
        (world / "truth.jsonl").read_text().splitlines()[0] + '\n{"image_id": "7"}\n'
    )
    with pytest.raises(ValueError, match=r"t.jsonl, line 2: not a scene"):
        read_truth(tmp_path / "t.jsonl")
    with pytest.raises(FileNotFoundError, match="nowhere.jsonl"):
        read_truth(tmp_path / "nowhere.jsonl")


def test_pictures_are_shared_and_all_that_rows_name_exist(world):
    for split in ("train", "val"):
        for row in _json(world / f"aokvqa/aokvqa_v1p0_{split}.json"):
            assert (world / f"aokvqa/{split}2017/{row['image_id']:012}.jpg").is_file()
        for row in _json(world / f"visualcomet/{split}_annots.json"):
            assert (world / "vcr/vcr1images" / row["img_fn"]).is_file()
            people = len(_json(world / "vcr/vcr1images" / row["metadata_fn"])["names"])
            assert 1 <= int(row["event"].split()[0]) <= people
    for name in ("train_v1_1", "val_with_split_idxs_v1_1"):
        for row in _json(world / f"sherlock/sherlock_{name}.json"):
            root = world / (
                "visual_genome" if "VG_" in row["inputs"]["image"]["url"] else "vcr/vcr1images"
            )
            assert (root / "/".join(row["inputs"]["image"]["url"].split("/")[-2:])).is_file()
    some = next((world / "visual7w/images").iterdir())
    assert some.stat().st_nlink > 1


def test_vcr_rows_keep_the_published_invariants(world):
    rows = _jsonl(world / "vcr/val.jsonl")
    assert len(rows) >= VAL
    for row in rows:
        metadata = _json(world / "vcr/vcr1images" / row["metadata_fn"])
        assert row["objects"] == metadata["names"] and len(metadata["boxes"]) == len(
            metadata["segms"]
        )
        for part in ("answer", "rationale"):
            assert row[f"{part}_match_iter"][row[f"{part}_label"]] == 0
            assert sorted(row[f"{part}_match_iter"]) == [0, 1, 2, 3]
            assert row[f"{part}_sources"][row[f"{part}_label"]] == row["match_index"]
            assert all(0 <= s < len(rows) for s in row[f"{part}_sources"])
        mentioned = next(t for t in row["question"] if isinstance(t, list))
        assert str(mentioned[0] + 1) in row["question_orig"] and "[" not in row["rationale_orig"]


def test_comparison_key_matches_its_instances(world):
    instances, key = (
        _json(world / f"sherlock/val_comparison_{n}.json") for n in ("instances", "answer_key")
    )
    assert [i["test_id"] for i in sorted(instances, key=lambda i: i["test_id"])] == _json(
        world / "sherlock/val_comparison_instance_ids.json"
    )
    rated = {
        (a["Input_iid"], c["source_iid"]): c for a in key["annotations"] for c in a["candidates"]
    }
    assert len(rated) == len(instances) == len(key["test_id_map"])
    for instance in instances:
        place = key["test_id_map"][instance["test_id"]]
        assert rated[place["Input_iid"], place["candidate"]]["prediction"] == instance["inference"]


def _keys(row: object) -> object:
    if isinstance(row, dict):
        return {k: _keys(v) for k, v in row.items()}
    if isinstance(row, list):
        return [_keys(row[0])] if row else []
    return (
        "number"
        if isinstance(row, int | float) and not isinstance(row, bool)
        else type(row).__name__
    )


@pytest.mark.skipif(not SAMPLES.exists(), reason="real excerpts are not on this machine")
@pytest.mark.parametrize(
    ("ours", "real"),
    [
        ("sherlock/sherlock_val_with_split_idxs_v1_1.json", "sherlock/sherlock_val_subset160.json"),
        ("sherlock/val_comparison_instances.json", "sherlock/comparison_instances_one.json"),
        ("aokvqa/aokvqa_v1p0_val.json", "aokvqa/aokvqa_v1p0_val.json"),
        ("visual_genome/objects.json", "visual_genome/objects.json"),
        ("visual_genome/attributes.json", "visual_genome/attributes.json"),
        ("visual_genome/region_descriptions.json", "visual_genome/region_descriptions.json"),
        ("visual_genome/question_answers.json", "visual_genome/question_answers.json"),
    ],
)
def test_files_have_the_real_files_fields(world, ours, real):
    found, expected = _keys(_json(world / ours)[0]), _keys(_json(SAMPLES / real)[0])
    for row in (found, expected):  # lists that may be empty in one record and not in the other
        for qa in row.get("qas", []) if isinstance(row, dict) else []:
            qa.pop("q_objects")
    assert found == expected
