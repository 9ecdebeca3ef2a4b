"""The disk that a run takes: what is stored of every view outweighs all else."""

import json
import re
from collections import namedtuple

import pytest

from lskd_nb.runner import disk
from lskd_nb.runner.readiness import check

VIT_G = 1157 * 1408 * 2  # bytes of a view at 480 pixels
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def plain(project):
    """The paper's run with nothing stored, of a thousand images."""
    project.local_models()
    project.change("01_verbalization", limit=1_000)
    project.change("03_critic_training", store_views=False, adapt_steps=0)
    project.change("05_distillation", views=0, shares=[1.0, 0.5])
    project.change("06_evaluation", store_views=False)
    return project


def size_of(project, what: str) -> float:
    """GB that the finding tells for ``what``."""
    return float(re.search(rf"([\d.]+) GB for {what}", project.found()["disk"].detail)[1])


def test_stored_features_count_by_views_patches_and_width(plain):
    assert "for features" not in plain.found()["disk"].detail
    triples = 1_000 * disk.triples_of_one({"triples": 3, "families": ["id"], "offers": ["all"]})
    assert triples == 3_000
    plain.change("05_distillation", views=2, image_size=480)
    given = {"05": dict(views=2, keep=0.2, base="model", image_size=480)}
    assert disk._views_stored("05", given["05"], triples, plain.root) == 2 * 2 * triples // 5
    assert disk._view_bytes("model", 480, plain.root) == VIT_G
    assert "views in 05" in plain.found()["disk"].detail
    # half the width, a smaller picture
    (plain.root / "model" / "config.json").write_text(
        json.dumps(dict(vision_config=dict(hidden_size=704, patch_size=16, image_size=224)))
    )
    assert disk._view_bytes("model", 0, plain.root) == (14 * 14 + 1) * 704 * 2
    assert disk._view_bytes("model", 480, plain.root) == 901 * 704 * 2


def test_the_critic_of_a_whole_corpus_would_not_fit(plain):
    """352 GB for the views of 108,077 triples, as they are."""
    views = disk._views_stored("04", {"store_views": True}, 108_077, plain.root)
    assert round(views * VIT_G / 1e9) == 352
    values = dict(store_views=True, labels_file="x", shuffles=2, adapt_steps=0)
    assert disk._views_stored("03", values, 10**6, plain.root) == 60_000
    assert disk._views_stored(
        "03", values | {"adapt_steps": 9, "keep": 0.1}, 10**6, plain.root
    ) == (260_000)
    assert disk._views_stored("03", values | {"store_views": False}, 10**6, plain.root) == 0
    assert disk._views_stored("06", {"store_views": True, "vcr_folder": "x"}, 9, plain.root) > 5e4


def test_students_and_checkpoints_count(plain):
    with open(plain.root / "model" / "model.safetensors", "wb") as weights:
        weights.truncate(10_000_000_000)  # of no size on the disk
    assert size_of(plain, "4 students") == 40  # unfiltered, LSKD, a smaller size, the other LM loss
    assert size_of(plain, "the critic") == 10
    assert size_of(plain, "checkpoints of 5 trainings") == 23
    told = plain.found()["disk, optional notebooks"]
    assert told.ok is None and told.detail == "01b writes 10 GB more, 08 writes 10 GB more"


def test_a_small_disk_is_missed_and_each_file_system_counts_for_itself(plain, monkeypatch):
    places = []

    def usage(place):
        places.append(str(place))
        return Usage(0, 0, 10_000_000_000)

    monkeypatch.setattr(disk.shutil, "disk_usage", usage)
    monkeypatch.setattr(disk, "_device", lambda place: 1 if "hub" in str(place) else 0)
    sizes, given = {"org/a": 9e9, "org/b": 2e9, "org/c": None, "org/d": 5e9}, {"05": {}, "03": {}}
    own, hub, unknown = disk.disk(given, plain.root, sizes, ["org/a", "org/b", "org/c"])
    assert (own.subject, own.ok) == ("disk", False) and "5.0 GB for the critic" in own.detail
    assert hub.ok is False and "about 11 GB are needed" in hub.detail
    assert "11 GB for 2 models to be downloaded; 10 GB are free" in hub.detail
    assert unknown.ok is None and "org/c" in unknown.detail and len(places) == 2
    monkeypatch.setattr(disk, "_device", lambda place: 0)
    (whole, _) = disk.disk(given, plain.root, sizes, ["org/a", "org/c"])
    assert "9.0 GB for 1 models" in whole.detail and "for the critic" in whole.detail


def test_disk_grows_with_the_images_and_what_is_asked_of_each(plain):
    plain.change("01_verbalization", sources={}, world=[9_999_999, 1])
    plain.change("02_prompting", triples=30)
    few = size_of(plain, "rows of 10,000,000 images")
    assert few >= 1_200
    plain.change("02_prompting", triples=300)
    assert size_of(plain, "rows of 10,000,000 images") == 10 * few
    assert plain.found()["disk"].ok is False


def test_the_mini_run_is_counted_too(root):
    told = next(f for f in check("mini", root) if f.subject == "disk")
    assert told.ok and "features of" in told.detail and "rows of 2,360 images" in told.detail


def test_students_are_counted_by_what_is_studied():
    given = dict(shares=[1.0, 0.5, 0.25], threshold_shares=[0.1, 1.0])
    assert disk._students(given) == 2  # unfiltered and LSKD
    assert disk._students(given | dict(studies=["sizes"])) == 4
    assert disk._students(given | dict(studies=["thresholds", "truth", "lm"])) == 6
