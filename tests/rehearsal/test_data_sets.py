"""The stage's files have the shape of the real ones: every key, every type, nothing of our own."""

import filecmp
import json
from itertools import pairwise

import pytest

from lskd_nb.rehearsal.data_sets import write_data_sets
from lskd_nb.run_folder import find_root
from lskd_nb.runner.data_wanted import files
from lskd_nb.runner.parameters import profile_parameters, read_notebooks

VG = {  # what two real images can't show -> where it is known from
    "image_data": {"[].coco_id": {"int"}, "[].flickr_id": {"int"}},
    "relationships": {  # some ends have a list called names
        f"[].relationships[].{end}.{name}": types
        for end in ("subject", "object")
        for name, types in (
            ("name", {"absent"}),
            ("names", {"list", "absent"}),
            ("names[]", {"str"}),
        )
    },
}


def differences(real: dict, ours: dict, known: dict) -> dict[str, tuple]:
    """Places whose types differ, apart from what is ``known`` of the real files besides."""
    told = {place: (types, ours.get(place)) for place, types in real.items()}
    told |= {place: (real.get(place), types) for place, types in ours.items()}
    return {
        place: (there, here)
        for place, (there, here) in told.items()
        if (there or set()) | known.get(place, set()) != (here or set()) | known.get(place, set())
    }


@pytest.mark.parametrize(
    "name",
    [
        "image_data",
        "objects",
        "attributes",
        "relationships",
        "region_descriptions",
        "question_answers",
    ],
)
def test_visual_genome_has_the_real_shape(sample, content, shape, name):
    real, ours = sample(f"visual_genome/{name}.json"), content(f"visual_genome/{name}.json")
    assert differences(shape(real), shape(ours), VG.get(name, {})) == {}
    assert [*real[0]] == [*ours[0]]


@pytest.mark.parametrize(
    "ours, real, known",
    [
        (
            "sherlock/sherlock_val_with_split_idxs_v1_1.json",
            "sherlock/sherlock_val_subset160.json",
            {},
        ),
        (
            "sherlock/sherlock_train_v1_1.json",
            "sherlock/sherlock_val_subset160.json",
            {"[].split_idx": {"int"}},  # of val alone
        ),
        ("sherlock/val_comparison_instances.json", "sherlock/comparison_instances_one.json", {}),
        ("aokvqa/aokvqa_v1p0_train.json", "aokvqa/aokvqa_v1p0_val.json", {}),
        ("aokvqa/aokvqa_v1p0_val.json", "aokvqa/aokvqa_v1p0_val.json", {}),
        (
            "localized_narratives/coco_val_localized_narratives.jsonl",
            "localized_narratives/coco_val_one_truncated.jsonl",
            {},
        ),
    ],
)
def test_a_set_has_the_real_shape(sample, content, shape, ours, real, known):
    assert differences(shape(sample(real)), shape(content(ours)), known) == {}


@pytest.mark.parametrize("split", ["train", "val"])
def test_lvis_has_the_real_shape(sample, content, shape, split):
    real, ours = sample("lvis/lvis_v0.5_val_100.json"), content(f"lvis/lvis_v1_{split}.json")
    for image in real["images"]:
        del image["file_name"]  # of 0.5, gone in 1.0
    assert differences(shape(real), shape(ours), {}) == {}
    categories = sample("lvis/lvis_v1_categories.json")
    known = {"[].instance_count": {"int"}}  # the excerpt's authors left it out
    assert differences(shape(categories), shape(ours["categories"]), known) == {}


TOKENS = {"[]": {"str", "list"}, "[][]": {"int"}}
COCO_INSTANCES = {
    "segmentation[][]": "float",
    "area": "float",
    "iscrowd": "int",
    "image_id": "int",
    "bbox[]": "float",
    "category_id": "int",
    "id": "int",
}
PARSED = [f"sentence{n}{part}" for n in (1, 2) for part in ("", "_parse", "_binary_parse")]
LEAVES = {  # of sets without a sample: every place that holds a text or a number
    "vcr/train.jsonl": {
        **dict.fromkeys(("movie", "objects[]", "answer_likelihood", "img_fn"), "str"),
        **dict.fromkeys(("metadata_fn", "img_id", "annot_id", "match_fold"), "str"),
        **dict.fromkeys(("question_orig", "answer_orig", "rationale_orig", "question[]"), "str"),
        **dict.fromkeys(("answer_choices[][]", "rationale_choices[][]"), "str"),
        **dict.fromkeys(("question[][]", "answer_choices[][][]", "rationale_choices[][][]"), "int"),
        **dict.fromkeys(("interesting_scores[]", "question_number", "match_index"), "int"),
        **dict.fromkeys(("answer_label", "answer_sources[]", "answer_match_iter[]"), "int"),
        **dict.fromkeys(
            ("rationale_label", "rationale_sources[]", "rationale_match_iter[]"), "int"
        ),
    },
    "snli_ve/snli_ve_train.jsonl": {
        name: "str"
        for name in (
            "Flickr30K_ID",
            "annotator_labels[]",
            "captionID",
            "gold_label",
            "pairID",
            *PARSED,
        )
    },
    "visualcomet/val_annots.json": {
        name: "str"
        for name in (
            "img_fn",
            "movie",
            "metadata_fn",
            "place",
            "event",
            "intent[]",
            "before[]",
            "after[]",
        )
    },
    "visual7w/dataset_v7w_telling.json": {
        "dataset": "str",
        "images[].image_id": "int",
        "images[].filename": "str",
        "images[].split": "str",
        "images[].qa_pairs[].qa_id": "int",
        "images[].qa_pairs[].image_id": "int",
        **{
            f"images[].qa_pairs[].{name}": "str"
            for name in ("question", "answer", "multiple_choices[]", "type")
        },
    },
    "refcocog/refs(umd).p": {
        **{n: "int" for n in ("ref_id", "ann_id", "image_id", "category_id", "sent_ids[]")},
        "file_name": "str",
        "split": "str",
        "sentences[].sent_id": "int",
        **{f"sentences[].{n}": "str" for n in ("sent", "raw", "tokens[]")},
    },
    "sherlock/val_comparison_answer_key.json": {
        "annotations[].Input_iid": "str",
        "annotations[].candidates[].source_iid": "str",
        "annotations[].candidates[].prediction": "str",
        "annotations[].candidates[].annot1": "int str",
        "annotations[].candidates[].annot2": "float str",
    },
}


@pytest.mark.parametrize("name", LEAVES)
def test_a_set_without_a_sample_has_the_documented_shape(content, shape, name):
    found = content(name)
    if "answer_key" in name:
        assert {tuple(sorted(v)) for v in found.pop("test_id_map").values()} == {
            ("Input_iid", "candidate")
        }
    leaves = {
        place.removeprefix("[]."): types - {"list", "dict", "absent"}
        for place, types in shape(found).items()
        if types - {"list", "dict", "absent"}
    }
    assert leaves == {place: set(types.split()) for place, types in LEAVES[name].items()}


def test_refcocos_instances_are_cocos(content, shape):
    found = content("refcoco/instances.json")
    assert [*found] == ["info", "images", "licenses", "annotations", "categories"]
    leaves = {
        place.removeprefix("[]."): types
        for place, types in shape(found["annotations"]).items()
        if not types & {"list", "dict"}
    }
    assert leaves == {place: {kind} for place, kind in COCO_INSTANCES.items()}


# ------------------------------------------------------------------------------------------- habits


def test_vcr_rows_hold_what_is_said_of_the_real_ones(content, data):
    for split in ("train", "val"):
        rows = content(f"vcr/{split}.jsonl")
        assert all(len(row) == 23 for row in rows)
        for row in rows:
            metadata = json.loads((data / "vcr/vcr1images" / row["metadata_fn"]).read_text())
            assert row["objects"] == metadata["names"]
            assert {len(box) for box in metadata["boxes"]} == {5}
            for part in ("answer", "rationale"):
                assert sorted(row[f"{part}_match_iter"]) == [0, 1, 2, 3]
                assert row[f"{part}_match_iter"][row[f"{part}_label"]] == 0
                assert row[f"{part}_sources"][row[f"{part}_label"]] == row["match_index"]
        assert {row["answer_label"] for row in rows} == {0, 1, 2, 3}
        assert any(len(row["objects"]) > 10 for row in rows)
        tokens = [row["question"] for row in rows]
        assert any(isinstance(t, list) and len(t) > 1 for said in tokens for t in said)
        assert any(pair == ("'", "s") for said in tokens for pair in pairwise(map(str, said)))
    assert not any("label" in key or "match" in key for key in content("vcr/test.jsonl")[0])
    assert (data / "vcr/vcr1images/VERSION.txt").exists() and (data / "vcr/README.md").exists()


def test_rows_have_the_real_files_habits(content):
    names = [n for r in content("visual_genome/relationships.json") for n in r["relationships"]]
    spelled = {r["predicate"] for r in names}
    assert {"ON", "on"} <= spelled and {"WEARING", "wears"} & spelled
    sizes = {(r["width"], r["height"]) for r in content("visual_genome/image_data.json")}
    assert len(sizes) > 4 and any(w < h for w, h in sizes)
    clues = [r["inputs"] for r in content("sherlock/sherlock_val_with_split_idxs_v1_1.json")]
    assert {r["image"]["url"].split("/")[2] for r in clues} == {
        "cs.stanford.edu",
        "s3-us-west-2.amazonaws.com",
    }
    assert any(b["left"] + b["width"] > r["image"]["width"] for r in clues for b in r["bboxes"])
    assert any(len(r["bboxes"]) > 2 for r in clues)
    records = content("visualcomet/val_annots.json")
    assert any("after" not in r for r in records) and any(r.get("before") == [] for r in records)
    assert "intent" not in content("visualcomet/test_annots.json")[0]
    assert set(content("aokvqa/aokvqa_v1p0_test.json")[0]) == {
        "split",
        "image_id",
        "question_id",
        "question",
        "choices",
        "difficult_direct_answer",
    }
    assert sum("" in r["choices"] for r in content("aokvqa/aokvqa_v1p0_val.json")) == 1
    rows = content("snli_ve/snli_ve_train.jsonl")
    assert any(r["pairID"][-1] != r["gold_label"][0] for r in rows)
    assert {len(r["annotator_labels"]) for r in rows} == {1, 5}
    told = content("localized_narratives/open_images_validation_captions.jsonl")[0]
    assert set(told) == {"dataset_id", "image_id", "annotator_id", "caption"}


def test_refs_are_pickles_of_python_2(data, content):
    raw = (data / "refcocog/refs(umd).p").read_bytes()
    assert raw.startswith(b"\x80\x02") and b"X" + b"\x09\x00\x00\x00file_name" not in raw
    assert b"U\x09file_name" in raw and "café".encode() in raw
    names = {i["file_name"] for i in content("refcocog/instances.json")["images"]}
    assert all(ref["file_name"] not in names for ref in content("refcocog/refs(umd).p"))


def test_nothing_is_of_our_own(data):
    files = [p for p in data.rglob("*") if p.is_file() and p.suffix not in (".jpg", ".txt", ".md")]
    assert len(files) > 50
    assert [p for p in files if b"lskd" in p.read_bytes()] == []


# ---------------------------------------------------------------------------------------- the stage


def test_every_folder_of_the_a100_profile_is_there(project, data):
    root = find_root()
    given = {
        n.number: dict(n.defaults) | profile_parameters(root, "a100", n)
        for n in read_notebooks(root)
    }
    # without the project's own vocabularies, and labels that people are to make
    aside = ("labels_file", "vocabularies")
    found = [f for f in files("a100", given, project) if not f.subject.endswith(aside)]
    assert len(found) > 15 and [f for f in found if f.ok is False] == []


def test_the_same_seed_gives_the_same_bytes(data, tmp_path):
    assert write_data_sets(tmp_path / "again")["visual_genome/objects.json"] == 24
    names = [str(p.relative_to(data)) for p in data.rglob("*") if p.is_file()]
    _, differ, missing = filecmp.cmpfiles(data, tmp_path / "again", names, shallow=False)
    assert not differ and not missing


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "mine.json").write_text("[]")
    with pytest.raises(ValueError, match="not empty"):
        write_data_sets(tmp_path)
    with pytest.raises(ValueError, match="images: 3, expected 12 or more"):
        write_data_sets(tmp_path / "new", images=3)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.json"]
