"""``lskd mini pretrain`` from nothing to a card, in a few steps; and the shipped weights are
what the card says.
"""

import json
from pathlib import Path

import numpy as np

from lskd_nb.mini.pretraining import base, pretrain
from lskd_nb.mini.pretraining.stage1 import example
from lskd_nb.mini.pretraining.vision import View, vision_batch, word_index
from lskd_nb.mini.scenes.world import sample_scenes
from lskd_nb.students.loading import load_student


def test_the_documented_command_makes_all_weights(tmp_path):
    pretrain.main(
        [
            "--scenes",
            "70",
            "--vision-steps",
            "2",
            "--reading-steps",
            "2",
            "--plain-steps",
            "2",
            "2",
            "--verbalizer-scenes",
            "8",
            "--verbalizer-steps",
            "2",
            "2",
            "2",
            "--out",
            str(tmp_path / "w"),
        ]
    )
    assert {p.name for p in (tmp_path / "w").iterdir()} == {
        "student",
        "plain_student",
        "clip",
        "vlm",
        "questions",
        "scores.json",
        "CARD.md",
    }
    parts = json.loads((tmp_path / "w" / "scores.json").read_text())
    assert list(parts) == ["vision", "reading", "plain", "verbalizers"]
    assert set(parts["vision"]["scores"]["vision"]) == {
        "frame",
        "pose",
        "held",
        "face",
        "front",
        "place",
    }
    assert set(parts["reading"]["scores"]["reading"]) == {"caption", "frame", "exchange"} and all(
        0 <= v <= 1 for v in parts["reading"]["scores"]["reading"].values()
    )
    assert "never region ids" in (tmp_path / "w" / "CARD.md").read_text()
    load_student(str(tmp_path / "w" / "student"))


def test_every_scene_can_be_put_into_the_words_to_see():
    words = word_index()
    scenes = sample_scenes(300, 12, "t")
    views = [
        View(s, np.zeros((base.IMAGE_SIZE, base.IMAGE_SIZE, 3), np.uint8), {0: i % 5})
        for i, s in enumerate(scenes)
    ]
    _, _, owner, seen, whole = vision_batch(views, words)
    assert len(seen) == len(owner) == sum(len(s.entities) for s in scenes) and len(whole) == len(
        scenes
    )
    assert bool((seen.sum(1) >= 3).all())  # at least a kind, a colour, and a frame or none


def test_a_wrong_text_is_never_the_right_one():
    rng = np.random.default_rng(0)
    views = [
        View(s, None, {int(e): int(c) for c, e in enumerate(rng.permutation(len(s.entities)))})
        for s in sample_scenes(40, 13, "t")
    ]
    examples = [example(views, int(i), rng) for i in rng.integers(len(views), size=3000)]
    assert all(e.text not in (e.wrong, e.worse) for e in examples)
    assert {e.question[:14] for e in examples} >= {"", "What is framed", "Where is this?"}


def test_shipped_weights_fit_their_limits():
    files = [f for f in pretrain.WEIGHTS.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) <= 15e6
    assert {f.suffix for f in files} <= {".safetensors", ".json", ".md"}
    assert all(
        (Path(pretrain.WEIGHTS) / part / "config.json").exists()
        for part in ("student", "clip", "vlm", "questions")
    )
