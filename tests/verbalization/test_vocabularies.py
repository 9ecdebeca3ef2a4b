"""Vocabularies read from the sets' own files."""

import json

import pytest

from lskd_nb.run_folder import find_root
from lskd_nb.verbalization import retrieval

LVIS = find_root().parent / "shared" / "samples" / "lvis"


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


def test_a_byte_order_mark_is_no_part_of_a_vocabulary(tmp_path):
    (tmp_path / "object.txt").write_bytes("\ufeffcat\ndog\n".encode())
    assert retrieval.read_vocabulary(tmp_path / "object.txt") == ["cat", "dog"]
