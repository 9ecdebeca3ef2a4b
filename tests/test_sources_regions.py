"""LVIS, Localized Narratives, RefCOCO: real excerpts, the traps of the formats, records changed at random, pickles that mean harm."""

import copy
import json
import math
import os
import pickle
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lskd_nb.run import find_root
from lskd_nb.sources.localized_narratives import read_narratives, utterance_box
from lskd_nb.sources.lvis import read_categories, read_lvis
from lskd_nb.sources.refcoco import comprehension, read_plain_pickle, read_refcoco

SAMPLES = find_root().parent / "shared" / "samples"
VALUES = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.sampled_from([10**400, -1.5, 1e308, math.nan, math.inf]), st.text(max_size=3),
                   st.sampled_from(["../../x", "x" * 300, "\ud800"]), st.just([]), st.just({}), st.just([[]]), st.just(["", 2]))


def sample(name: str) -> Path:
    path = SAMPLES / name
    if not path.exists():
        pytest.skip(f"no sample {name} beside the project")
    return path


@st.composite
def changed(draw, content: object) -> object:
    """The content with one place of it removed or replaced."""
    content = copy.deepcopy(content)
    place = content
    while True:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if isinstance(place[key], dict | list) and place[key] and draw(st.integers(0, 3)):
            place = place[key]
            continue
        if draw(st.booleans()):
            del place[key]
        else:
            place[key] = draw(VALUES)
        return content


# ------------------------------------------------------------------------------------------------ LVIS

CATEGORIES = [dict(id=3, name="tank_(storage_vessel)", synonyms=["tank"], frequency="c"), dict(id=4, name="cup", synonyms=["cup"], frequency="f"),
              dict(id=9, name="zebra", synonyms=["zebra"], frequency="r")]
V1 = dict(
    categories=CATEGORIES,
    images=[dict(id=7, width=100, height=80, coco_url="http://images.cocodataset.org/train2017/000000000007.jpg", neg_category_ids=[9], not_exhaustive_category_ids=[4]),
            dict(id=8, width=100, height=80, coco_url="http://images.cocodataset.org/val2017/000000000008.jpg", neg_category_ids=[], not_exhaustive_category_ids=[])],
    annotations=[dict(id=1, image_id=7, category_id=4, bbox=[10.5, 20, 30, 40]), dict(id=2, image_id=7, category_id=3, bbox=[90, 70, 30, 30])],
)


def lvis_file(folder: Path, content: object, name: str = "lvis_v1_val.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def test_lvis_v1_names_its_images_by_their_url_and_is_federated(tmp_path):
    (one, other), rejects, clamped = read_lvis(lvis_file(tmp_path, V1), check_images=False)
    assert not rejects and clamped == 1
    assert one.image.path == "train2017/000000000007.jpg" and other.image.path == "val2017/000000000008.jpg" and one.image.split == "val"
    assert [(r.id, r.label, r.box) for r in one.image.regions] == [(0, "cup", (10.5, 20, 40.5, 60)), (1, "tank_(storage_vessel)", (90, 70, 100, 80))]
    assert one.judged() == {3, 4, 9} and one.exhaustive() == {3, 9} and other.judged() == set()
    assert {c.frequency for c in read_categories(lvis_file(tmp_path, CATEGORIES, "c.json"))} == {"r", "c", "f"}


@pytest.mark.parametrize("where, change, reason", [
    ("annotations", dict(category_id=77), "unknown category"), ("annotations", dict(image_id=77), "unknown image"),
    ("annotations", dict(bbox=[0, 0, 0, 5]), "box of no area"), ("annotations", dict(bbox=[1, 2, 3]), "bad number"),
    ("images", dict(neg_category_ids=[77]), "unknown category"), ("images", dict(width=0), "bad number"),
    ("images", dict(coco_url="http://x/../../y.jpg", file_name="../../etc/passwd"), "bad path"),
])
def test_bad_lvis_records_are_rejected(tmp_path, where, change, reason):
    content = copy.deepcopy(V1)
    content[where][0] |= change
    images, rejects, _ = read_lvis(lvis_file(tmp_path, content), check_images=False)
    assert [r.reason for r in rejects] == [reason] and rejects[0].record == f"lvis_v1_val.json, {where} 0"
    assert len(images) == (1 if where == "images" else 2)


def test_lvis_images_are_looked_at(tmp_path):
    (tmp_path / "train2017").mkdir()
    Image.new("RGB", (100, 80)).save(tmp_path / "train2017" / "000000000007.jpg")
    images, rejects, _ = read_lvis(lvis_file(tmp_path, V1))
    assert [i.image.image_id for i in images] == ["7"] and [r.reason for r in rejects] == ["missing image"]


def test_real_lvis_subset():
    path = sample("lvis/lvis_v0.5_val_100.json")
    images, rejects, clamped = read_lvis(path, check_images=False)
    told = json.loads(path.read_text())
    assert len(images) == len(told["images"]) == 100 and not rejects and clamped <= 2
    assert sum(len(i.image.regions) for i in images) == len(told["annotations"])
    assert all(not i.negative & set(i.categories) for i in images), "what was looked for in vain is not there"
    assert len(read_categories(path)) == 1230 and len(read_categories(sample("lvis/lvis_v1_categories.json"))) == 1203


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_changed_lvis_file_is_read_right_or_named(tmp_path_factory, data):
    content = data.draw(changed(V1))
    try:
        images, rejects, _ = read_lvis(lvis_file(tmp_path_factory.mktemp("l"), content), check_images=False)
    except ValueError as error:
        assert "lvis_v1_val.json" in str(error)
        return
    assert all(r.record.startswith("lvis_v1_val.json, ") and r.detail for r in rejects)
    for found in images:
        for x0, y0, x1, y1 in (r.box for r in found.image.regions):
            assert 0 <= x0 < x1 <= found.image.width and 0 <= y0 < y1 <= found.image.height


# ------------------------------------------------------------------------------------------------ Localized Narratives

NARRATIVE = dict(
    dataset_id="mscoco_val2017", image_id="137576", annotator_id=93, caption="In this image there are cows.", voice_recording="coco_val/x.ogg",
    timed_caption=[dict(utterance="In this image", start_time=0.0, end_time=1.0), dict(utterance="cows", start_time=1.2, end_time=2.0)],
    traces=[[dict(x=0.2, y=-0.05, t=0.5), dict(x=0.4, y=0.5, t=1.3)], [dict(x=0.6, y=1.2, t=1.9)]],
)


def narratives_file(folder: Path, *rows: object, name: str = "coco_val_localized_narratives.jsonl") -> Path:
    (folder / name).write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder / name


def test_a_box_is_what_the_mouse_went_over_while_the_words_were_said(tmp_path):
    (told,), rejects = read_narratives(narratives_file(tmp_path, NARRATIVE))
    assert not rejects and told.image == "val2017/000000137576.jpg" and told.caption == NARRATIVE["caption"]
    box, cut = utterance_box(told, told.utterances[1], 100, 200)
    assert box == pytest.approx((40, 100, 60, 200)) and cut
    assert utterance_box(told, told.utterances[0], 100, 200) is None, "one point above the image is no box"


def test_captions_have_no_traces_and_images_have_several_narratives(tmp_path):
    captions = {k: v for k, v in NARRATIVE.items() if k not in ("timed_caption", "traces", "voice_recording")}
    narratives_file(tmp_path, NARRATIVE, NARRATIVE | dict(annotator_id=4), name="coco_val_localized_narratives-00000-of-00002.jsonl")
    narratives_file(tmp_path, captions, captions | dict(dataset_id="of another set", image_id=5), name="x_captions.jsonl")
    told, rejects = read_narratives(tmp_path)
    assert not rejects and [n.annotator_id for n in told] == [93, 4, 93, 93] and told[2].trace == told[2].utterances == ()
    assert told[3].image == "" and told[3].image_id == "5"
    with pytest.raises(FileNotFoundError, match="holds no .jsonl"):
        read_narratives(tmp_path.joinpath("empty").mkdir() or tmp_path / "empty")


def test_the_real_fragment_of_a_narrative():
    (told,), rejects = read_narratives(sample("localized_narratives/coco_val_one_truncated.jsonl"))
    assert not rejects and told.image == "val2017/000000137576.jpg" and told.annotator_id == 93 and len(told.trace) == 1


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_changed_narrative_is_read_right_or_rejected(tmp_path_factory, data):
    row = data.draw(changed(NARRATIVE))
    told, rejects = read_narratives(narratives_file(tmp_path_factory.mktemp("n"), NARRATIVE, row))
    assert len(told) + len(rejects) == 2
    for reject in rejects:
        assert reject.record == "coco_val_localized_narratives.jsonl, row 2" and reject.detail
    for narrative in told:
        assert not narrative.image.startswith("/") and ".." not in narrative.image
        for utterance in narrative.utterances:
            found = utterance_box(narrative, utterance, 64, 48)
            assert found is None or (0 <= found[0][0] < found[0][2] <= 64 and 0 <= found[0][1] < found[0][3] <= 48)


# ------------------------------------------------------------------------------------------------ RefCOCO

INSTANCES = dict(
    images=[dict(id=5, width=100, height=80, file_name="COCO_train2014_000000000005.jpg")],
    annotations=[dict(id=50, image_id=5, category_id=1, bbox=[10.0, 20.0, 30.0, 40.0]), dict(id=51, image_id=5, category_id=1, bbox=[60.0, 20.0, 50.0, 40.0])],
)
REFS = [
    dict(ref_id=1, ann_id=50, image_id=5, category_id=1, file_name="COCO_train2014_000000000005_1.jpg", split="val", sent_ids=[1, 2],
         sentences=[dict(sent_id=1, sent="left cup", raw="Left  cup", tokens=["left", "cup"]), dict(sent_id=2, sent="the cup at the left", raw="", tokens=[])]),
    dict(ref_id=2, ann_id=51, image_id=5, category_id=1, file_name="COCO_train2014_000000000005_2.jpg", split="val", sent_ids=[3],
         sentences=[dict(sent_id=3, sent="right cup", raw="right cup", tokens=["right", "cup"])]),
    dict(ref_id=3, ann_id=51, image_id=5, category_id=1, file_name="x", split="testA", sent_ids=[3], sentences=[dict(sent_id=3, sent="cup", raw="cup", tokens=[])]),
]


def refcoco(folder: Path, refs: object = REFS, instances: object = INSTANCES, protocol: int = 2, name: str = "refcoco", by: str = "unc") -> Path:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / f"refs({by}).p").write_bytes(refs if isinstance(refs, bytes) else pickle.dumps(refs, protocol))
    (folder / name / "instances.json").write_text(json.dumps(instances))
    return folder


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_refs_are_joined_to_their_boxes_and_images(tmp_path, protocol):
    refs, rejects, clamped = read_refcoco(refcoco(tmp_path, protocol=protocol), "refcoco", "val", check_images=False)
    assert not rejects and clamped == 1 and [r.ref_id for r in refs] == [1, 2]
    assert refs[0].image.path == "train2014/COCO_train2014_000000000005.jpg" and refs[0].expressions == ("left cup", "the cup at the left")
    assert [r.image.regions[0].box for r in refs] == [(10, 20, 40, 60), (60, 20, 100, 60)]
    assert comprehension([(10, 20, 40, 45), (0, 0, 50, 50)], refs).tolist() == [True, False]
    assert len(read_refcoco(tmp_path, "refcoco", "testA", check_images=False)[0]) == 1


def test_every_set_has_its_own_splits(tmp_path):
    for name, by in (("refcoco+", "unc"), ("refcocog", "umd"), ("refcocog", "google")):
        assert len(read_refcoco(refcoco(tmp_path, name=name, by=by), name, "val", by, check_images=False)[0]) == 2
    for wrong in (("refcoco", "dev", None), ("refclef", "val", None), ("refcoco+", "val", "umd")):
        with pytest.raises(ValueError, match="expected one of"):
            read_refcoco(tmp_path, *wrong)
    with pytest.raises(FileNotFoundError, match=r"refs\(google\).p"):
        read_refcoco(tmp_path, "refcoco", "val", "google")


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
        *(pickle.dumps([Harm(os.system, f"touch {marker}")], p) for p in (0, 2, 4)), pickle.dumps(Harm(eval, f"open({marker!r}, 'w')"), 2),
        f"cos\nsystem\n(S'touch {marker}'\ntR.".encode(), f"(S'touch {marker}'\nios\nsystem\n.".encode(), f"(cos\nsystem\nS'touch {marker}'\no.".encode(),
        b"\x80\x02ccopyreg\n_reconstructor\n(c__builtin__\nobject\nc__builtin__\nobject\nNtR.", b"\x80\x02U\x01aQ.", b"cbuiltins\ngetattr\n.",
        b"\x80\x02\x82\x01.", pickle.dumps(Path("x"), 2), b"", b"\x80\x02]q\x00(", b"not a pickle", b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.",
    ]


def test_pickles_that_would_run_something_are_refused(tmp_path):
    marker = tmp_path / "ran"
    for number, content in enumerate(harmful(str(marker))):
        with pytest.raises(ValueError, match=r"refs\(unc\).p is not a pickle of plain data") as refused:
            read_refcoco(refcoco(tmp_path, content), "refcoco", "val", check_images=False)
        assert not marker.exists(), number
        if number < 3:
            assert "system" in str(refused.value)
    assert pickle.loads(harmful(str(marker))[0]) == [0] and marker.exists(), "they do mean harm"


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_changed_ref_is_read_right_or_rejected(tmp_path_factory, data):
    refs, instances = data.draw(st.one_of(st.tuples(changed(REFS[:2]), st.just(INSTANCES)), st.tuples(st.just(REFS[:2]), changed(INSTANCES))))
    folder = refcoco(tmp_path_factory.mktemp("r"), refs, instances)
    try:
        found, rejects, _ = read_refcoco(folder, "refcoco", "val", check_images=False)
    except ValueError as error:
        assert "refs(unc).p" in str(error) or "instances.json" in str(error)
        return
    assert len(found) + len(rejects) <= 2
    assert all(r.record.startswith("refs(unc).p, element ") and r.detail for r in rejects)
    for ref in found:
        (x0, y0, x1, y1), image = ref.image.regions[0].box, ref.image
        assert 0 <= x0 < x1 <= image.width and 0 <= y0 < y1 <= image.height and ref.expressions and image.path.count("/") == 1
