"""Visual7W: the mini world's files, and the traps of the format."""

import json

import pytest

from lskd_nb.sources import count_reasons
from lskd_nb.sources.visual7w import read_visual7w


def test_visual7w_of_the_world(world):
    items, rejects = read_visual7w(world / "visual7w", "val")
    records = json.loads((world / "visual7w/dataset_v7w_telling.json").read_text())["images"]
    pairs = {str(qa["qa_id"]): qa for r in records if r["split"] == "val" for qa in r["qa_pairs"]}
    assert not rejects and {i.item_id for i in items} == set(pairs)
    for item in items:
        qa = pairs[item.item_id]
        assert item.choices[item.label] == qa["answer"] and set(item.choices) == {
            qa["answer"],
            *qa["multiple_choices"],
        }
        assert item.slice == qa["type"]
    assert len({i.label for i in items}) == 4  # not the file's order
    assert read_visual7w(world / "visual7w", "val")[0] == items


def test_visual7w_traps(world_copy):
    folder = world_copy / "visual7w"
    path = folder / "dataset_v7w_telling.json"
    before = read_visual7w(folder, "val")[0]
    content = json.loads(path.read_text())
    pairs = [qa for r in content["images"] if r["split"] == "val" for qa in r["qa_pairs"]]
    pairs[0]["multiple_choices"][1] = pairs[0]["answer"].upper()
    pairs[1]["multiple_choices"].pop()
    pairs[2].pop("answer")
    path.rename(folder / "dataset.json").write_text(json.dumps(content))
    items, rejects = read_visual7w(folder, "val")
    assert [r.reason for r in rejects] == ["ambiguous choices", "not four choices", "missing field"]
    assert items == before[3:]
    (folder / items[-1].image.path).write_bytes(b"\xff\xd8")
    assert count_reasons(read_visual7w(folder, "val")[1])["corrupt image"] == 1
    (folder / "dataset.json").write_text("[]")
    with pytest.raises(ValueError, match="dataset.json: expected an object with a list of images"):
        read_visual7w(folder, "val")
    (folder / "dataset.json").unlink()
    with pytest.raises(FileNotFoundError, match="dataset_v7w_telling.json"):
        read_visual7w(folder, "val")
