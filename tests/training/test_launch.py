"""What trainings read, made before they start; and one that is waited for."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from lskd_nb.mini.pretraining.base import fresh_student
from lskd_nb.records import CORPUS, read_parquet, write_parquet
from lskd_nb.students.views import FrozenFeatures
from lskd_nb.training import batches, launch

MODULE = """
import json, pathlib, sys
told = json.loads(pathlib.Path(sys.argv[1]).read_text())
assert told["steps"], "nothing to do"
out = pathlib.Path(told["out"])
out.mkdir()
lines = (json.dumps({"step": n, "lm": 1 / (n + 1)}) for n in range(told["steps"]))
(out / "metrics.jsonl").write_text("".join(line + chr(10) for line in lines))
"""


@dataclass(frozen=True)
class Told:
    module: ClassVar[str] = "tiny_training"

    out: str
    steps: int
    threads: int = 1

    def identity(self) -> str:
        return json.dumps(asdict(self))


@pytest.fixture
def corpus(tmp_path) -> Path:
    rows = [
        dict(
            triple_id=f"t{n}",
            image_id=f"m{n % 4}",
            family="id",
            question="What is [1] about to do?",
            answer="Throw the ball.",
            rationale="[1] is holding a ball.",
            regions=[1],
            regions_offered=[0, 1],
            model="m",
            prompt="p",
            request="r",
            score=0.9,
            image=f"m{n % 4}.png",
            width=64,
            height=48,
            source="mini",
            split="train",
            references=[
                dict(id=i, box=[2.0 + 9 * i, 2, 20 + 9 * i, 30], label="x", score=1.0)
                for i in (0, 1)
            ],
        )
        for n in range(12)
    ]
    write_parquet(rows, tmp_path / "corpus.parquet", CORPUS)
    return tmp_path / "corpus.parquet"


def test_subsets_are_nested_and_keep_the_order(corpus, tmp_path):
    subsets = launch.corpus_subsets(corpus, tmp_path / "student", [1.0, 0.5, 0.25, 0.01], seed=3)
    assert list(subsets) == ["lskd", "lskd_50", "lskd_25", "lskd_1"]
    assert [subset.triples for subset in subsets.values()] == [12, 6, 3, 1]
    ids = [
        read_parquet(subset.corpus, CORPUS)["triple_id"].to_pylist() for subset in subsets.values()
    ]
    assert ids[0] == [f"t{n}" for n in range(12)]
    for larger, smaller in zip(ids, ids[1:], strict=False):
        assert smaller == [name for name in larger if name in smaller] and smaller
    other = launch.corpus_subsets(corpus, tmp_path / "other", [0.5], seed=4)["lskd_50"]
    assert read_parquet(other.corpus, CORPUS)["triple_id"].to_pylist() != ids[1]


def test_shares_too_small_for_whole_hundredths_have_names_of_their_own(corpus, tmp_path):
    subsets = launch.corpus_subsets(corpus, tmp_path, [0.29, 0.004, 0.001], seed=3)
    assert list(subsets) == ["lskd_29", "lskd_0.4", "lskd_0.1"]
    assert all(subset.corpus.exists() for subset in subsets.values())


@pytest.mark.parametrize("shares", [[], [1.0, 0.0], [1.5]])
def test_shares_that_are_none_are_refused(corpus, tmp_path, shares):
    with pytest.raises(ValueError, match="shares is .*: expected some above 0, up to 1"):
        launch.corpus_subsets(corpus, tmp_path, shares, seed=3)


def test_subsets_of_an_empty_corpus_are_refused(tmp_path):
    write_parquet([], tmp_path / "c.parquet", CORPUS)
    with pytest.raises(ValueError, match="c.parquet holds no triples"):
        launch.corpus_subsets(tmp_path / "c.parquet", tmp_path, [1.0], seed=3)


def test_features_of_all_that_trainings_will_see_are_stored(corpus, tmp_path):
    for n in range(5):
        Image.new("RGB", (64, 48), (40 * n, 90, 120)).save(tmp_path / f"m{n}.png")
    plain = [dict(image="m4.png", question="", text="a ball")]
    write_parquet(plain, tmp_path / "rehearsal.parquet", batches.REHEARSAL)
    student = fresh_student(0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32)
    store = tmp_path / "views"
    launch.store_features(
        student.eval(), tmp_path, store, [corpus, corpus], 2, tmp_path / "rehearsal.parquet"
    )
    frozen = FrozenFeatures(student, tmp_path, store)
    seen = [batches.fixed_view(r, k) for r in batches.corpus_rows(corpus) for k in range(2)]
    seen += [
        batches.fixed_view(r, 0)
        for r in batches.rehearsal_rows(corpus.parent / "rehearsal.parquet")
    ]
    assert frozen.stored(seen) is not None
    third = [batches.fixed_view(r, 2) for r in batches.corpus_rows(corpus)]
    known = {view.key for view in seen}
    assert all((frozen.stored([view]) is None) == (view.key not in known) for view in third)


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU accelerate launch starts it")
def test_one_process_on_a_cpu_has_no_launcher_above_it(tmp_path, monkeypatch):
    told = "import os; print('threads', os.environ['OMP_NUM_THREADS'], 'of', os.getppid())"
    (tmp_path / "tiny_training.py").write_text(told + MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    launch.train_one(Told(str(tmp_path / "student"), 1, threads=3))
    assert (tmp_path / "student.log").read_text() == f"threads 3 of {os.getpid()}\n"


def test_a_training_that_is_waited_for(tmp_path, monkeypatch):
    (tmp_path / "tiny_training.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    config = Told(str(tmp_path / "runs" / "student"), 3)
    lines = launch.train_one(config)
    assert np.allclose([line["lm"] for line in lines], [1, 1 / 2, 1 / 3])
    assert json.loads((tmp_path / "runs" / "student.json").read_text()) == asdict(config)
    with pytest.raises(RuntimeError, match="'other' ended with status 1: .*nothing to do"):
        launch.train_one(Told(str(tmp_path / "runs" / "other"), 0))
