"""LVIS, Localized Narratives, RefCOCO, Visual Genome's versions: real excerpts, traps of the
formats, records changed at random, harmful pickles.
"""

import copy
import json
import math
import os
import pickle
import re
import struct
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lskd_nb.run_folder import find_root
from lskd_nb.sources.localized_narratives import read_narratives, utterance_box
from lskd_nb.sources.lvis import frequency_of, read_categories, read_lvis
from lskd_nb.sources.refcoco import comprehension, read_plain_pickle, read_refcoco
from lskd_nb.sources.visual_genome import HumanText, read_human_texts, read_visual_genome

SAMPLES = find_root().parent / "shared" / "samples"
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from([10**400, -1.5, 1e308, math.nan, math.inf]),
    st.text(max_size=3),
    st.sampled_from(["../../x", "x" * 300, "\ud800"]),
    st.just([]),
    st.just({}),
    st.just([[]]),
    st.just(["", 2]),
)


def sample(name: str) -> Path:
    path = SAMPLES / name
    if not path.exists():
        pytest.skip(f"no sample {name} beside the project")
    return path


@st.composite
def changed(draw, content: object) -> tuple[object, tuple]:
    """The content with one place of it removed or replaced, and the way to that place."""
    content, way = copy.deepcopy(content), []
    place = content
    while True:
        way.append(
            draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        )
        if isinstance(place[way[-1]], dict | list) and place[way[-1]] and draw(st.integers(0, 3)):
            place = place[way[-1]]
            continue
        if draw(st.booleans()):
            del place[way[-1]]
        else:
            place[way[-1]] = draw(VALUES)
        return content, tuple(way)


def cut(xywh: list, width: int, height: int) -> tuple:
    """A box of x, y, width and height as it should come out."""
    x, y, w, h = xywh
    return max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)


# --------------------------------------------------------------------------------------------- LVIS

CATEGORIES = [
    dict(id=3, name="tank_(storage_vessel)", synonyms=["tank"], frequency="c"),
    dict(id=4, name="cup", synonyms=["cup"], frequency="f"),
    dict(id=9, name="zebra", synonyms=["zebra"], frequency="r"),
]
V1 = dict(
    categories=CATEGORIES,
    images=[
        dict(
            id=7,
            width=100,
            height=80,
            neg_category_ids=[9],
            not_exhaustive_category_ids=[4],
            coco_url="http://images.cocodataset.org/train2017/000000000007.jpg",
        ),
        dict(
            id=8,
            width=100,
            height=80,
            neg_category_ids=[],
            not_exhaustive_category_ids=[],
            coco_url="http://images.cocodataset.org/val2017/000000000008.jpg",
        ),
    ],
    annotations=[
        dict(id=1, image_id=7, category_id=4, bbox=[10.5, 20, 30, 40]),
        dict(id=2, image_id=7, category_id=3, bbox=[90, 70, 30, 30]),
    ],
)


def lvis_file(folder: Path, content: object, name: str = "lvis_v1_val.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def test_lvis_v1_names_its_images_by_their_url_and_is_federated(tmp_path):
    (one, other), rejects, clamped = read_lvis(lvis_file(tmp_path, V1), check_images=False)
    assert not rejects and clamped == 1
    assert (
        one.image.path == "train2017/000000000007.jpg"
        and other.image.path == "val2017/000000000008.jpg"
        and one.image.split == "val"
    )
    assert [(r.id, r.label, r.box) for r in one.image.regions] == [
        (0, "cup", (10.5, 20, 40.5, 60)),
        (1, "tank_(storage_vessel)", (90, 70, 100, 80)),
    ]
    assert one.judged() == {3, 4, 9} and one.exhaustive() == {3, 9} and other.judged() == set()
    assert {c.frequency for c in read_categories(lvis_file(tmp_path, CATEGORIES, "c.json"))} == {
        "r",
        "c",
        "f",
    }


def test_lvis_v0_5_has_names_of_2014_for_images_of_2017(tmp_path):
    old = copy.deepcopy(V1)
    for image in old["images"]:
        image["file_name"] = f"COCO_val2014_{image['id']:012}.jpg"
    images, rejects, _ = read_lvis(lvis_file(tmp_path, old), check_images=False)
    assert not rejects and [i.image.path for i in images] == [
        "train2017/000000000007.jpg",
        "val2017/000000000008.jpg",
    ]
    for image in old["images"]:
        del image["coco_url"]
    assert (
        read_lvis(lvis_file(tmp_path, old), check_images=False)[0][0].image.path
        == "COCO_val2014_000000000007.jpg"
    )


def test_how_frequent_a_category_is():
    assert [frequency_of(n) for n in (0, 10, 11, 100, 101)] == ["r", "r", "c", "c", "f"]
    entries = json.loads(sample("lvis/lvis_v1_categories.json").read_text())
    assert [frequency_of(e["image_count"]) for e in entries] == [
        c.frequency for c in read_categories(SAMPLES / "lvis/lvis_v1_categories.json")
    ]


def test_a_category_that_is_damaged_is_named(tmp_path):
    for change, message in (
        (dict(frequency="often"), "categories 1: bad frequency"),
        (dict(id="4"), "categories 1: bad number"),
        (dict(id=3), "two categories"),
    ):
        content = copy.deepcopy(V1)
        content["categories"][1] |= change
        with pytest.raises(ValueError, match=f"lvis_v1_val.json.*{message}"):
            read_lvis(lvis_file(tmp_path, content), check_images=False)


@pytest.mark.parametrize(
    "where, change, reason",
    [
        ("annotations", dict(category_id=77), "unknown category"),
        ("annotations", dict(image_id=77), "unknown image"),
        ("annotations", dict(bbox=[0, 0, 0, 5]), "box of no area"),
        ("annotations", dict(bbox=[1, 2, 3]), "bad number"),
        ("images", dict(neg_category_ids=[77]), "unknown category"),
        ("images", dict(width=0), "bad number"),
        ("images", dict(coco_url="http://x/../y.jpg"), "bad path"),
        ("images", dict(coco_url=None, file_name="../../etc/passwd"), "bad path"),
    ],
)
def test_bad_lvis_records_are_rejected(tmp_path, where, change, reason):
    content = copy.deepcopy(V1)
    content[where][0] |= change
    images, rejects, _ = read_lvis(lvis_file(tmp_path, content), check_images=False)
    assert [r.reason for r in rejects] == [reason] and rejects[
        0
    ].record == f"lvis_v1_val.json, {where} 0"
    assert len(images) == (1 if where == "images" else 2)


def test_lvis_images_are_looked_at(tmp_path):
    (tmp_path / "train2017").mkdir()
    Image.new("RGB", (100, 80)).save(tmp_path / "train2017" / "000000000007.jpg")
    images, rejects, _ = read_lvis(lvis_file(tmp_path, V1))
    assert [i.image.image_id for i in images] == ["7"] and [r.reason for r in rejects] == [
        "missing image"
    ]


def test_real_lvis_subset():
    path = sample("lvis/lvis_v0.5_val_100.json")
    images, rejects, clamped = read_lvis(path, check_images=False)
    told = json.loads(path.read_text())
    assert len(images) == len(told["images"]) == 100 and not rejects and clamped <= 2
    assert sum(len(i.image.regions) for i in images) == len(told["annotations"]) and {
        i.image.path.split("/")[0] for i in images
    } == {"val2017"}
    assert all(not i.negative & set(i.categories) for i in images), (
        "what was looked for in vain is not there"
    )
    assert (
        len(read_categories(path)) == 1230
        and len(read_categories(sample("lvis/lvis_v1_categories.json"))) == 1203
    )


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_changed_lvis_file_is_read_right_or_named(tmp_path_factory, data):
    content, way = data.draw(changed(V1))
    try:
        images, rejects, _ = read_lvis(
            lvis_file(tmp_path_factory.mktemp("l"), content), check_images=False
        )
    except ValueError as error:
        assert "lvis_v1_val.json" in str(error) and way[0] in str(error)
        return
    assert all(r.record.startswith("lvis_v1_val.json, ") and r.detail for r in rejects)
    kept = {r.record.split(", ")[1] for r in rejects}
    assert sum(f"images {n}" not in kept for n in range(len(content["images"]))) == len(images)
    for found in images:
        raw = next(
            i
            for i in content["images"]
            if isinstance(i, dict) and i.get("id") == int(found.image.image_id)
        )
        assert (found.image.width, found.image.height) == (
            int(raw["width"]),
            int(raw["height"]),
        ) and found.negative == set(raw["neg_category_ids"])
        told = [
            a
            for n, a in enumerate(content["annotations"])
            if f"annotations {n}" not in kept and a["image_id"] == raw["id"]
        ]
        assert [r.box for r in found.image.regions] == [
            cut(a["bbox"], found.image.width, found.image.height) for a in told
        ]
        assert list(found.categories) == [a["category_id"] for a in told]
        if way[0] == "images" and len(way) > 1 and raw in V1["images"]:
            assert len(found.image.regions) == (2 if raw["id"] == 7 else 0), (
                "what was not touched is read"
            )


# ----------------------------------------------------------------------------- Localized Narratives

NARRATIVE = dict(
    dataset_id="mscoco_val2017",
    image_id="137576",
    annotator_id=93,
    caption="In this image there are cows.",
    voice_recording="coco_val/x.ogg",
    timed_caption=[
        dict(utterance="In this image", start_time=0.0, end_time=1.0),
        dict(utterance="cows", start_time=1.2, end_time=2.0),
    ],
    traces=[[dict(x=0.2, y=-0.05, t=0.5), dict(x=0.4, y=0.5, t=1.3)], [dict(x=0.6, y=1.2, t=1.9)]],
)


def narratives_file(
    folder: Path, *rows: object, name: str = "coco_val_localized_narratives.jsonl"
) -> Path:
    (folder / name).write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder / name


def test_a_box_is_what_the_mouse_went_over_while_the_words_were_said(tmp_path):
    (told,), rejects = read_narratives(narratives_file(tmp_path, NARRATIVE))
    assert (
        not rejects
        and told.image == "val2017/000000137576.jpg"
        and told.caption == NARRATIVE["caption"]
    )
    box, cut = utterance_box(told, told.utterances[1], 100, 200)
    assert box == pytest.approx((40, 100, 60, 200)) and cut
    assert utterance_box(told, told.utterances[0], 100, 200) is None, (
        "one point above the image is no box"
    )


def test_captions_have_no_traces_and_images_have_several_narratives(tmp_path):
    captions = {
        k: v
        for k, v in NARRATIVE.items()
        if k not in ("timed_caption", "traces", "voice_recording")
    }
    narratives_file(
        tmp_path,
        NARRATIVE,
        NARRATIVE | dict(annotator_id=4),
        name="coco_val_localized_narratives-00000-of-00002.jsonl",
    )
    narratives_file(
        tmp_path,
        captions,
        captions | dict(dataset_id="of another set", image_id=5),
        name="x_captions.jsonl",
    )
    told, rejects = read_narratives(tmp_path)
    assert (
        not rejects
        and [n.annotator_id for n in told] == [93, 4, 93, 93]
        and told[2].trace == told[2].utterances == ()
    )
    assert told[3].image == "" and told[3].image_id == "5"
    with pytest.raises(FileNotFoundError, match="holds no .jsonl"):
        read_narratives(tmp_path.joinpath("empty").mkdir() or tmp_path / "empty")


def test_captions_alone_can_be_asked_for_and_damaged_files_are_named(tmp_path):
    path = narratives_file(tmp_path, NARRATIVE, NARRATIVE | dict(traces="none"))
    told, rejects = read_narratives(path, traces=False)
    assert (
        not rejects
        and [n.caption for n in told] == [NARRATIVE["caption"]] * 2
        and told[0].trace == told[0].utterances == ()
    )
    assert [r.record for r in read_narratives(path)[1]] == [
        f"{path.name}, line 2"
    ] and not read_narratives(path, limit=1)[1]
    whole = path.read_bytes()
    for number, content in (
        (2, whole[:-40]),
        (3, whole + b"[]\n"),
        (3, whole + b"[" * 5000),
        (3, whole + b"1" * 5000),
        (None, whole + b'"\xff"\n'),
    ):
        path.write_bytes(content)
        with pytest.raises(
            ValueError,
            match=(
                f"{path.name}, line {number}: can't be read"
                if number
                else f"{path.name}, after line .: not a UTF-8 text file"
            ),
        ):
            read_narratives(path)
    for wrong in (tmp_path / "none.jsonl", [tmp_path / "none.jsonl"]):
        with pytest.raises(FileNotFoundError, match="none.jsonl is not there"):
            read_narratives(wrong)


def test_the_real_fragment_of_a_narrative():
    (told,), rejects = read_narratives(sample("localized_narratives/coco_val_one_truncated.jsonl"))
    assert (
        not rejects
        and told.image == "val2017/000000137576.jpg"
        and told.annotator_id == 93
        and len(told.trace) == 1
    )


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_changed_narrative_is_read_right_or_rejected(tmp_path_factory, data):
    row, way = data.draw(changed(NARRATIVE))
    told, rejects = read_narratives(narratives_file(tmp_path_factory.mktemp("n"), NARRATIVE, row))
    assert len(told) + len(rejects) == 2
    fields = dict(
        timed_caption="timed_caption|utterance|start_time|end_time", traces="traces|x|y|t"
    ).get(way[0], way[0])
    for reject in rejects:
        assert reject.record == "coco_val_localized_narratives.jsonl, line 2" and re.search(
            rf"\b({fields})\b", reject.detail
        )
    for narrative, raw in zip(told, (NARRATIVE, row), strict=False):
        points = [(p["x"], p["y"], p["t"]) for stroke in raw.get("traces") or [] for p in stroke]
        assert (
            narrative.caption == " ".join(raw["caption"].split())
            and list(narrative.trace) == points
        )
        assert [(u.start, u.end) for u in narrative.utterances] == [
            (u["start_time"], u["end_time"]) for u in raw.get("timed_caption") or []
        ]
        assert not narrative.image.startswith("/") and ".." not in narrative.image.split("/")
        for utterance in narrative.utterances:
            found = utterance_box(narrative, utterance, 64, 48)
            assert found is None or (
                0 <= found[0][0] < found[0][2] <= 64 and 0 <= found[0][1] < found[0][3] <= 48
            )


# ------------------------------------------------------------------------------------------ RefCOCO

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
def test_a_changed_ref_is_read_right_or_rejected(tmp_path_factory, data):
    content, way = data.draw(changed(dict(refs=REFS[:2], **INSTANCES)))
    refs, instances = content.get("refs"), {k: v for k, v in content.items() if k != "refs"}
    folder = refcoco(tmp_path_factory.mktemp("r"), refs, instances)
    try:
        found, rejects, _ = read_refcoco(folder, "refcoco", "val", check_images=False)
    except ValueError as error:
        assert ("refs(unc).p" if way[0] == "refs" else "instances.json") in str(error)
        return
    assert len(found) + len(rejects) == len(refs), "nothing is lost"
    assert all(r.record.startswith("refs(unc).p, element ") and r.detail for r in rejects)
    if way[0] == "refs":
        assert REFS[1 - way[1]]["ref_id"] in {r.ref_id for r in found}, (
            "what was not touched is read"
        )
    bad = {r.record for r in rejects}
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
            len(ref.expressions) == len(raw["sentences"])
            and raw["split"] == "val"
            and image.path.count("/") == 1
        )


# ------------------------------------------------------------------------- Visual Genome's versions

BOX, THING = (
    dict(x=2, y=3, w=10, h=20),
    dict(x=14, y=4, w=30, h=12),
)  # the second overruns an image of 40 x 30
URL = "https://cs.stanford.edu/people/rak248/VG_100K_2/1.jpg"
VERSIONS = {
    "1.0": dict(
        image_data=[dict(id=1, width=40, height=30, url=URL, coco_id=None, flickr_id=None)],
        objects=[
            dict(
                id=1,
                objects=[
                    dict(id=5, names=["man"], **BOX),
                    dict(id=6, names=["surf board"], **THING),
                ],
            )
        ],
        attributes=[
            dict(
                id=1,
                attributes=[
                    dict(id=5, object_names=["man"], attributes=["tall", "wet"], **BOX),
                    dict(id=6, object_names=["surf board"], **THING),
                ],
            )
        ],
        relationships=[
            dict(
                id=1,
                relationships=[
                    dict(
                        id=8,
                        predicate="HOLDS",
                        subject=dict(id=5, name="man", **BOX),
                        object=dict(id=6, name="surf board", **THING),
                    )
                ],
            )
        ],
        region_descriptions=[
            dict(
                id=1,
                regions=[dict(id=9, image=1, phrase="a wet man", x=2, y=3, width=10, height=20)],
            )
        ],
        question_answers=[
            dict(
                id=1,
                qas=[
                    dict(
                        id=3,
                        image=1,
                        question="Who is wet?",
                        answer="A man.",
                        a_objects=[],
                        q_objects=[],
                    )
                ],
            )
        ],
    ),
    "1.4": dict(
        image_data=[dict(image_id=1, width=40, height=30, url=URL, coco_id=7, flickr_id=8)],
        objects=[
            dict(
                image_id=1,
                image_url=URL,
                objects=[
                    dict(
                        object_id=5,
                        names=["man"],
                        synsets=["man.n.01"],
                        merged_object_ids=[11],
                        **BOX,
                    ),
                    dict(
                        object_id=6, names=["surf board"], synsets=[], merged_object_ids=[], **THING
                    ),
                ],
            )
        ],
        attributes=[
            dict(
                image_id=1,
                attributes=[
                    dict(
                        object_id=5,
                        names=["man"],
                        synsets=["man.n.01"],
                        attributes=["tall", "wet"],
                        **BOX,
                    ),
                    dict(object_id=6, names=["surf board"], synsets=[], **THING),
                ],
            )
        ],
        relationships=[
            dict(
                image_id=1,
                relationships=[
                    dict(
                        relationship_id=8,
                        predicate="holds",
                        synsets=["hold.v.02"],
                        subject=dict(
                            object_id=5, names=["man"], synsets=[], merged_object_ids=[11], **BOX
                        ),
                        object=dict(
                            object_id=6,
                            name="surf board",
                            synsets=[],
                            merged_object_ids=[],
                            **THING,
                        ),
                    )
                ],
            )
        ],
        region_descriptions=[
            dict(
                id=1,
                regions=[
                    dict(region_id=9, image_id=1, phrase="a wet man", x=2, y=3, width=10, height=20)
                ],
            )
        ],
        question_answers=[
            dict(
                id=1,
                qas=[
                    dict(
                        qa_id=3,
                        image_id=1,
                        question="Who is wet?",
                        answer="A man.",
                        a_objects=[dict(object_id=5)],
                        q_objects=[],
                    )
                ],
            )
        ],
    ),
}
TEXTS = ("region_descriptions", "question_answers", "attributes", "relationships")


def visual_genome(folder: Path, files: dict) -> Path:
    (folder / "VG_100K_2").mkdir(exist_ok=True)
    Image.new("RGB", (40, 30)).save(folder / "VG_100K_2" / "1.jpg")
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_of_visual_genome_says_the_same(tmp_path, version):
    folder = visual_genome(tmp_path, VERSIONS[version])
    (image,), rejects = read_visual_genome(folder, counts=(counts := Counter()))
    assert not rejects and counts == {"clamped": 1} and image.path == "VG_100K_2/1.jpg"
    assert [(r.label, r.box) for r in image.regions] == [
        ("man", (2, 3, 12, 23)),
        ("surf board", (14, 4, 40, 16)),
    ]
    told, rejects = read_human_texts(folder, [image], TEXTS)
    assert not rejects and told == [
        HumanText("1", "local", 0, None, "a wet man", "region_descriptions"),
        HumanText("1", "dynamic", None, "Who is wet?", "A man.", "question_answers"),
        HumanText("1", "local", 0, None, "tall, wet man", "attributes"),
        HumanText("1", "local", 0, None, "man holds surf board", "relationships"),
    ]
    bare = replace(image, regions=())
    assert {t.kind for t in read_human_texts(folder, [bare], TEXTS)[0]} == {"global", "dynamic"}, (
        "a text about no region is about the image"
    )


def box_of(entry: object) -> tuple | None:
    """The box of an object that has four numbers."""
    try:
        xywh = [entry[k] for k in "xywh"]
        return cut(xywh, 40, 30) if all(map(math.isfinite, xywh)) else None
    except (KeyError, TypeError, OverflowError):
        return None


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_changed_visual_genome_file_is_read_right_or_named(tmp_path_factory, data):
    content, way = data.draw(changed(VERSIONS[data.draw(st.sampled_from(sorted(VERSIONS)))]))
    folder = visual_genome(tmp_path_factory.mktemp("v"), content)
    try:
        images, rejects = read_visual_genome(folder)
        told, more = read_human_texts(folder, images, TEXTS)
    except (FileNotFoundError, ValueError) as error:
        assert f"{way[0]}.json" in str(error)
        return
    assert all(".json, " in r.record and r.detail for r in [*rejects, *more])
    if not images:
        assert rejects or not content[way[0]], "an image is lost for a reason"
    for image in images:
        boxes = [box_of(o) for o in content["objects"][0]["objects"]]
        assert {r.box for r in image.regions} <= set(boxes)
    if images and way[0] in TEXTS:
        assert len(told) + len(more) >= 3, "the other files are read as they are"
