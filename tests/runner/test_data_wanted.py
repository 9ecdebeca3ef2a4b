"""Files that a profile names: sets below an image root, pictures, labels, and all others."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from lskd_nb.records import LABELS, write_parquet


@pytest.fixture
def data(project):
    project.local_models()
    (project.root / "data").mkdir()
    return project.root / "data"


def test_the_sets_of_captioners_lie_below_their_image_root(project, data):
    for name in (
        "visual_genome/VG_100K_2",
        "sherlock",
        "images/VG_100K",
        "images/VG_100K_2",
        "images/vcr1images",
        "refcocog",
    ):
        (data / name).mkdir(parents=True)
    files = (
        "visual_genome/image_data.json",
        "visual_genome/objects.json",
        "visual_genome/region_descriptions.json",
        "sherlock/sherlock_train_v1_1.json",
        "refcocog/instances.json",
        "refcocog/refs(umd).p",
    )
    for name in files:
        (data / name).touch()
    found = project.found()
    assert all(
        found[f"01b {name}"].ok for name in ("sherlock_clues", "sherlock_images", "refcocog")
    )
    assert found["01b refcoco+"].detail == f"{data / 'refcoco+'} lacks instances.json, refs(unc).p"
    assert found["01b RefCOCO's images"].detail == f"{data} lacks train2014"
    assert "01b narratives" not in found, "none are asked for"
    assert not found["01 sources.visual_genome"].ok, "VG_100K is not there"

    project.change(
        "01b_region_captioner", narratives="narratives", sherlock_clues="", refcoco_sets={}
    )
    (data / "narratives").mkdir()
    found = project.found()
    assert found["01b narratives"].detail == f"{data / 'narratives'} lacks *.jsonl"
    assert (
        not {"01b sherlock_clues", "01b sherlock_images", "01b refcocog", "01b RefCOCO's images"}
        & found.keys()
    )
    (data / "narratives" / "coco_train_captions.jsonl").touch()
    assert project.found()["01b narratives"].ok


def test_pictures_that_the_files_name_are_looked_for(project, data):
    """Of each set a few, at the places where its readers look for them."""
    stills = [f"lsmdc_{n}/{n}@1.jpg" for n in range(4)]
    files = {
        "visual_genome/image_data.json": [
            dict(image_id=n, url=f"https://x.org/rak248/VG_100K_2/{n}.jpg") for n in range(4)
        ],
        "vcr/val.jsonl": [dict(img_fn=s, question=["Why", "?"]) for s in stills],
        "visualcomet/val_annots.json": [dict(img_fn=s, event="…") for s in stills],
        "sherlock/val_comparison_instances.json": [
            dict(inputs=dict(image=dict(url=f"http://x.com/VG_100K/{n}.jpg"))) for n in range(2)
        ]
        + [dict(inputs=dict(image=dict(url=f"http://x.com/vcr1images/{s}"))) for s in stills[:2]],
        "aokvqa/aokvqa_v1p0_val.json": [dict(image_id=n, question="…") for n in range(4)],
        "snli_ve/snli_ve_dev.jsonl": [dict(Flickr30K_ID=f"{n}") for n in range(4)],
        "visual7w/dataset_v7w_telling.json": {
            "images": [dict(filename=f"v7w_{n}.jpg", qa_pairs=[]) for n in range(4)]
        },
    }
    pictures = {
        "01 sources.visual_genome": [
            f"visual_genome/VG_100K/{n}.jpg" for n in range(4)
        ],  # the other one
        "06 vcr_folder": [f"vcr/vcr1images/{s}" for s in stills],
        "06 sherlock_folder": ["images/VG_100K/0.jpg", f"images/vcr1images/{stills[0]}"]
        + ["images/VG_100K_2/1.jpg", f"images/vcr1images/{stills[1]}"],
        "06 aokvqa_folder": [f"aokvqa/val2017/{n:012}.jpg" for n in range(4)],
        "06 snli_ve_folder": [f"snli_ve/flickr30k_images/{n}.jpg" for n in range(4)],
        "06 visual7w_folder": [f"visual7w/images/v7w_{n}.jpg" for n in range(4)],
    }
    for name, rows in files.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        lined = name.endswith(".jsonl")
        text = "\n".join(map(json.dumps, rows)) if lined else json.dumps(rows)
        (data / name).write_text(text)
    for lacking in (0, 1, 3):
        for names in pictures.values():
            for name in names[:lacking]:
                (data / name).unlink(missing_ok=True)
            for name in names[lacking:]:
                (data / name).parent.mkdir(parents=True, exist_ok=True)
                (data / name).touch()
        found = project.found()
        for subject, names in pictures.items():
            told = found[f"{subject}, pictures"]
            assert told.ok is {0: True, 1: None, 3: False}[lacking], told
            if lacking:
                assert f"lacks {lacking} of 4 pictures that" in told.detail
                assert names[0].rsplit("/")[-1] in told.detail
            else:
                assert "are all of 4 pictures" in told.detail


def test_a_file_of_many_megabytes_is_not_read_whole(project, data):
    """Names are taken from all over it."""
    (data / "vcr" / "vcr1images").mkdir(parents=True)
    rows = (json.dumps(dict(img_fn=f"m/{n}.jpg", question="x" * 1000)) for n in range(3000))
    (data / "vcr" / "val.jsonl").write_text("\n".join(rows))
    told = project.found()["06 vcr_folder, pictures"]
    assert told.ok is False and "m/0.jpg" in told.detail
    assert 50 <= int(told.detail.split(" pictures")[0].split()[-1]) <= 64


def test_labels_are_made_after_the_triples(project, data, small_run):
    """None are missed before notebook 02 has run; then it is said how they are made."""
    file = "outputs/runs/a100/labels_by_people.parquet"
    project.change("03_critic_training", labels_file=file)
    told = project.found()["03 labels_file"]
    run = project.root / "outputs" / "runs" / "a100"
    assert told.ok is None and told.detail == (
        f"will be labelled after 02: about 20,000 of its triples, into {project.root / file};"
        " the run stops there and says how"
    )
    run.parent.mkdir(parents=True)
    shutil.copytree(small_run, run)
    told = project.found()["03 labels_file"]
    assert told.ok is False and f"{project.root / file} is not there, and 12 triples" in told.detail
    assert "lskd labels export a100 --out tasks.json" in told.detail
    assert not (run / "sample_to_label.parquet").exists(), "a check draws nothing"


def test_labels_must_be_a_table_with_the_columns_of_labels(project, data):
    path = data / "critic_labels.parquet"
    project.change("03_critic_training", labels_file="data/critic_labels.parquet")
    write_parquet(
        [dict(triple_id="t", annotator="a", accept=True, qa_score=1.0, rationale_score=0.5)],
        path,
        LABELS,
    )
    told = project.found()["03 labels_file"]
    assert told.ok and told.detail == f"{path}, 1 labels (the paper has 20,000)"
    pq.write_table(pq.read_table(path).drop(["accept"]), path)
    assert project.found()["03 labels_file"].detail == f"{path} lacks the columns accept"
    path.write_bytes(b"PAR1 and then something else")
    assert not project.found()["03 labels_file"].ok


def test_every_other_file_that_a_parameter_names_is_looked_at(project, data):
    project.change("06_evaluation", candidates="data/candidates.json")
    project.change("01_verbalization", ofa_captions="data/ofa.json", vocabularies="data/words")
    project.change("02_prompting", prices="data/prices.yaml")
    found = project.found()
    assert found["06 candidates"].detail == (
        f"{data}/candidates.json is not there; leave it empty to have them drawn with the seed,"
        " and recorded"
    )
    assert found["01 ofa_captions"].detail == f"{data}/ofa.json is not there"
    assert found["01 vocabularies"].detail == f"{data}/words lacks *.txt"
    subjects = {s for s, f in found.items() if f.ok is False}
    assert {"06 candidates", "01 ofa_captions", "02 prices", "01 vocabularies"} <= subjects
    (data / "candidates.json").touch()
    assert project.found()["06 candidates"].ok
