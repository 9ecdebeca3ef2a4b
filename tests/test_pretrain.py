"""``lskd mini pretrain`` from nothing to a card, in a few steps; and the shipped weights are what the card says."""

import json
from pathlib import Path

from lskd_nb.mini import pretrain
from lskd_nb.student import load_student


def test_the_documented_command_makes_all_weights(tmp_path):
    pretrain.main(["--scenes", "70", "--vision-steps", "2", "--reading-steps", "2", "--verbalizer-scenes", "8", "--verbalizer-steps", "2", "2", "2",
                   "--out", str(tmp_path / "w")])
    assert {p.name for p in (tmp_path / "w").iterdir()} == {"student", "clip", "vlm", "questions", "scores.json", "CARD.md"}
    scores = json.loads((tmp_path / "w" / "scores.json").read_text())["student"]["scores"]
    assert set(scores["vision"]) == {"frame", "pose", "held", "place"} and all(0 <= v <= 1 for v in scores["reading"].values())
    assert "never region ids" in (tmp_path / "w" / "CARD.md").read_text()
    load_student(str(tmp_path / "w" / "student"))


def test_shipped_weights_fit_their_limits():
    files = [f for f in pretrain.WEIGHTS.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) <= 15e6
    assert {f.suffix for f in files} <= {".safetensors", ".json", ".md"}
    assert all((Path(pretrain.WEIGHTS) / part / "config.json").exists() for part in ("student", "clip", "vlm", "questions"))
