"""RefCOCO, RefCOCO+, RefCOCOg: splits, bad refs, harmful pickles, records changed at random."""

import copy
import json
import os
import pickle
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lskd_nb.run_folder import find_root
from lskd_nb.sources.refcoco import comprehension, read_plain_pickle, read_refcoco

SAMPLES = find_root().parent / "shared" / "samples"
INSTANCES = dict(
    images=[dict(id=5, width=100, height=80, file_name="COCO_train2014_000000000005.jpg")],
    annotations=[
        dict(id=50, image_id=5, category_id=1, bbox=[10.0, 20.0, 30.0, 40.0]),
        dict(id=51, image_id=5, category_id=1, bbox=[60.0, 20.0, 50.0, 40.0]),
    ],
)
REFS = [
    dict(
        ref_id=1,
        ann_id=50,
        image_id=5,
        category_id=1,
        file_name="COCO_train2014_000000000005_1.jpg",
        split="val",
        sent_ids=[1, 2],
        sentences=[
            dict(sent_id=1, sent="left cup", raw="Left  cup", tokens=["left", "cup"]),
            dict(sent_id=2, sent="the cup at the left", raw="", tokens=[]),
        ],
    ),
    dict(
        ref_id=2,
        ann_id=51,
        image_id=5,
        category_id=1,
        file_name="COCO_train2014_000000000005_2.jpg",
        split="val",
        sent_ids=[3],
        sentences=[dict(sent_id=3, sent="right cup", raw="right cup", tokens=["right", "cup"])],
    ),
    dict(
        ref_id=3,
        ann_id=51,
        image_id=5,
        category_id=1,
        file_name="x",
        split="testA",
        sent_ids=[3],
        sentences=[dict(sent_id=3, sent="cup", raw="cup", tokens=[])],
    ),
]


def refcoco(
    folder: Path,
    refs: object = REFS,
    instances: object = INSTANCES,
    protocol: int = 2,
    name: str = "refcoco",
    by: str = "unc",
) -> Path:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / f"refs({by}).p").write_bytes(
        refs if isinstance(refs, bytes) else pickle.dumps(refs, protocol)
    )
    (folder / name / "instances.json").write_text(json.dumps(instances))
    return folder


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_refs_are_joined_to_their_boxes_and_images(tmp_path, protocol):
    refs, rejects, clamped = read_refcoco(
        refcoco(tmp_path, protocol=protocol), "refcoco", "val", check_images=False
    )
    assert not rejects and clamped == 1 and [r.ref_id for r in refs] == [1, 2]
    assert refs[0].image.path == "train2014/COCO_train2014_000000000005.jpg" and refs[
        0
    ].expressions == ("left cup", "the cup at the left")
    assert [r.image.regions[0].box for r in refs] == [(10, 20, 40, 60), (60, 20, 100, 60)]
    assert comprehension([(10, 20, 40, 45), (0, 0, 50, 50)], refs).tolist() == [True, False]
    assert len(read_refcoco(tmp_path, "refcoco", "testA", check_images=False)[0]) == 1


def test_every_set_has_its_own_splits(tmp_path):
    for name, by in (("refcoco+", "unc"), ("refcocog", "umd"), ("refcocog", "google")):
        assert (
            len(
                read_refcoco(
                    refcoco(tmp_path, name=name, by=by), name, "val", by, check_images=False
                )[0]
            )
            == 2
        )
    with pytest.raises(
        ValueError,
        match=r"refs\(umd\).p has no refs of the split 'test'; it has {'val': 2, 'testA': 1}",
    ):
        read_refcoco(tmp_path, "refcocog", "test", check_images=False)
    for wrong in (("refcoco", "dev", None), ("refclef", "val", None), ("refcoco+", "val", "umd")):
        with pytest.raises(ValueError, match="expected one of"):
            read_refcoco(tmp_path, *wrong)
    with pytest.raises(FileNotFoundError, match=r"refs\(google\).p"):
        read_refcoco(tmp_path, "refcoco", "val", "google")


@pytest.mark.parametrize(
    "place, change, reason",
    [
        ("refs", dict(split=None), "bad split"),
        ("refs", dict(split="holdout"), "bad split"),
        ("refs", dict(ann_id=77), "unknown annotation"),
        ("refs", dict(image_id=77), "unknown image"),
        ("refs", dict(sentences=[]), "bad list"),
        ("refs", dict(ref_id="1"), "bad number"),
        ("refs", dict(ann_id=10**5000), "bad record"),
        ("annotations", dict(image_id=6), "images differ"),
        ("annotations", dict(bbox=[1, 2, -3, 4]), "box of no area"),
        ("images", dict(file_name="../x.jpg"), "bad path"),
        ("images", dict(height=0), "bad number"),
    ],
)
def test_bad_refs_are_rejected(tmp_path, place, change, reason):
    refs, instances = copy.deepcopy(REFS), copy.deepcopy(INSTANCES)
    (refs if place == "refs" else instances[place])[0] |= change
    found, rejects, _ = read_refcoco(
        refcoco(tmp_path, refs, instances), "refcoco", "val", check_images=False
    )
    assert rejects[0].record == "refs(unc).p, element 0" and rejects[0].reason == reason
    assert [r.ref_id for r in found] == ([] if place == "images" else [2]), "both are of one image"


def test_an_id_of_two_different_annotations_is_no_ones(tmp_path):
    instances = copy.deepcopy(INSTANCES)
    instances["annotations"] += [
        INSTANCES["annotations"][0],
        INSTANCES["annotations"][1] | dict(bbox=[1, 1, 5, 5]),
    ]
    found, rejects, _ = read_refcoco(
        refcoco(tmp_path, instances=instances), "refcoco", "val", check_images=False
    )
    assert [r.ref_id for r in found] == [1] and [(r.record, r.reason) for r in rejects] == [
        ("refs(unc).p, element 1", "repeated annotation")
    ]


def test_a_bad_sentence_does_not_lose_the_others(tmp_path):
    refs = copy.deepcopy(REFS)
    refs[0]["sentences"][1:1] = [dict(sent=" ", raw=""), "cup", dict(sent=None, raw="a cup")]
    found, rejects, _ = read_refcoco(refcoco(tmp_path, refs), "refcoco", "val", check_images=False)
    assert found[0].expressions == ("left cup", "a cup", "the cup at the left") and len(found) == 2
    assert [(r.record, r.reason, r.detail[:12]) for r in rejects] == [
        ("refs(unc).p, element 0", "bad text", "sentences[1]"),
        ("refs(unc).p, element 0", "bad record", "sentences[2]"),
    ]


def test_the_box_of_a_scaled_picture_is_scaled(tmp_path):
    (tmp_path / "train2014").mkdir()
    Image.new("RGB", (50, 40)).save(tmp_path / "train2014" / "COCO_train2014_000000000005.jpg")
    refs, rejects, _ = read_refcoco(refcoco(tmp_path), "refcoco", "val", counts=(n := Counter()))
    assert not rejects and n["scaled"] == 2
    assert [r.image.regions[0].box for r in refs] == [(5, 10, 20, 30), (30, 10, 50, 30)]
    assert {(r.image.width, r.image.height) for r in refs} == {(50, 40)}


def test_images_of_refs_are_looked_at(tmp_path):
    _, rejects, _ = read_refcoco(refcoco(tmp_path), "refcoco", "val")
    assert [r.reason for r in rejects] == ["missing image"] * 2
    (tmp_path / "train2014").mkdir()
    Image.new("RGB", (100, 80)).save(tmp_path / "train2014" / "COCO_train2014_000000000005.jpg")
    assert len(read_refcoco(tmp_path, "refcoco", "val")[0]) == 2


def test_python_2_texts_are_read(tmp_path):
    (tmp_path / "p.p").write_bytes(b"(lp0\n(dp1\nS'raw'\np2\nS'caf\\xe9'\np3\nsS'n'\nI5\nsa.")
    assert read_plain_pickle(tmp_path / "p.p") == [{"raw": "café", "n": 5}]


class Harm:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def harmful(marker: str) -> list[bytes]:
    return [
        *(pickle.dumps([Harm(os.system, f"touch {marker}")], p) for p in (0, 2, 4)),
        pickle.dumps(Harm(eval, f"open({marker!r}, 'w')"), 2),
        f"cos\nsystem\n(S'touch {marker}'\ntR.".encode(),
        f"(S'touch {marker}'\nios\nsystem\n.".encode(),
        f"(cos\nsystem\nS'touch {marker}'\no.".encode(),
        b"\x80\x02ccopyreg\n_reconstructor\n(c__builtin__\nobject\nc__builtin__\nobject\nNtR.",
        b"\x80\x02U\x01aQ.",
        b"cbuiltins\ngetattr\n.",
        pickle.dumps([np.arange(3)], 2),
        pickle.dumps(np.float64(1), 4),
        b"c__builtin__\nset\n.",
        b"\x80\x02\x82\x01.",
        pickle.dumps(Path("x"), 2),
        b"",
        b"\x80\x02]q\x00(",
        b"not a pickle",
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.",
    ]


def test_pickles_that_would_run_something_are_refused(tmp_path):
    marker = tmp_path / "ran"
    for number, content in enumerate(harmful(str(marker))):
        with pytest.raises(
            ValueError, match=r"refs\(unc\).p is not a pickle of plain data"
        ) as refused:
            read_refcoco(refcoco(tmp_path, content), "refcoco", "val", check_images=False)
        assert not marker.exists(), number
        if number < 3:
            assert "asks for posix.system" in str(refused.value) or "asks for nt.system" in str(
                refused.value
            )
    assert pickle.loads(harmful(str(marker))[0]) == [0] and marker.exists(), "they do mean harm"


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_no_beginning_of_a_pickle_is_read(tmp_path, protocol):
    whole = pickle.dumps(REFS, protocol)
    for length in range(len(whole)):
        (tmp_path / "p.p").write_bytes(whole[:length])
        with pytest.raises(ValueError, match="p.p is not a pickle of plain data"):
            read_plain_pickle(tmp_path / "p.p")


def test_lists_a_hundred_thousand_deep_are_rejected(tmp_path):
    depth = 100_000
    deep = b"]" * depth + b"a" * (depth - 1)
    other = pickle.dumps(REFS[1], 2)[2:-1]
    for field in (b"ref_id", b"sentences", b"split"):
        ref = (
            b"}("
            + b"".join(
                b"U" + bytes([len(k)]) + k + v
                for k, v in {
                    b"split": b"U\x03val",
                    b"ann_id": b"K2",
                    b"image_id": b"K\x05",
                    b"ref_id": b"K\x01",
                    field: deep,
                }.items()
            )
            + b"u"
        )
        found, rejects, _ = read_refcoco(
            refcoco(tmp_path, b"\x80\x02](" + ref + other + b"e."),
            "refcoco",
            "val",
            check_images=False,
        )
        assert [r.ref_id for r in found] == [2] and [r.record for r in rejects] == [
            "refs(unc).p, element 0"
        ]
    with pytest.raises(ValueError, match="expected a list of refs"):
        read_refcoco(
            refcoco(tmp_path, b"\x80\x02" + deep + b"."), "refcoco", "val", check_images=False
        )


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_changed_ref_is_read_right_or_rejected(changed_content, cut, tmp_path_factory, data):
    content, way = data.draw(changed_content(dict(refs=REFS[:2], **INSTANCES)))
    refs, instances = content.get("refs"), {k: v for k, v in content.items() if k != "refs"}
    folder = refcoco(tmp_path_factory.mktemp("r"), refs, instances)
    try:
        found, rejects, _ = read_refcoco(folder, "refcoco", "val", check_images=False)
    except ValueError as error:
        assert ("refs(unc).p" if way[0] == "refs" else "instances.json") in str(error)
        return
    parts = [r for r in rejects if r.detail.startswith("sentences[") and len(found) == len(refs)]
    assert len(found) + len(rejects) - len(parts) == len(refs), "nothing is lost"
    assert all(r.record.startswith("refs(unc).p, element ") and r.detail for r in rejects)
    if way[0] == "refs":
        assert REFS[1 - way[1]]["ref_id"] in {r.ref_id for r in found}, (
            "what was not touched is read"
        )
    bad = {r.record for r in rejects if r not in parts}
    for ref, raw in zip(
        found,
        (r for n, r in enumerate(refs) if f"refs(unc).p, element {n}" not in bad),
        strict=True,
    ):
        image = ref.image
        annotation = next(a for a in instances["annotations"] if a.get("id") == raw["ann_id"])
        assert image.regions[0].box == cut(
            annotation["bbox"], image.width, image.height
        ) and annotation["image_id"] == raw["image_id"] == int(image.image_id)
        assert (
            len(ref.expressions)
            == len(raw["sentences"]) - (len(parts) if raw["ref_id"] == 1 else 0)
            and raw["split"] == "val"
            and image.path.count("/") == 1
        )
