"""Notebooks 3 and 4 on labels by people, without a truth to ask: what is held out measures."""

import json
import shutil
from pathlib import Path

import nbformat
import pytest

from lskd_nb.critic.labels import BY_PEOPLE
from lskd_nb.records import LABELS, PREDICTIONS, REJECTS, read_parquet, write_parquet
from lskd_nb.run_folder import find_root

ROOT = find_root()


def said(run_dir: Path, name: str) -> str:
    """All that a notebook has printed."""
    cells = nbformat.read(run_dir / "notebooks" / f"{name}.ipynb", as_version=4).cells
    outputs = (o for c in cells if c.cell_type == "code" for o in c.outputs)
    return "".join(o.get("text", "") for o in outputs)


@pytest.fixture
def labelled(smoke, tmp_path) -> Path:
    """A copy of the smoke run whose truth is gone; two people have labelled, one of them triples
    of another run as well, and every triple is accepted.
    """
    run_dir = shutil.copytree(smoke, tmp_path / "run", ignore=shutil.ignore_patterns(".lock"))
    (run_dir / "world" / "truth.jsonl").unlink()
    rows = read_parquet(run_dir / "labels.parquet", LABELS).to_pylist()
    people = [row | dict(annotator=who, accept=True) for who in ("ada", "bob") for row in rows]
    people += [people[0] | dict(triple_id=f"gone-{n}") for n in range(2)]
    write_parquet(people, run_dir / BY_PEOPLE, LABELS)
    return run_dir


@pytest.mark.slow
def test_without_a_truth_the_labels_held_out_measure_the_corpus(labelled, lskd):
    told = ("-p", f"03.labels_file={labelled / BY_PEOPLE}", "-p", "03.adapt_steps=0")
    published = ("fresh_shuffles=true", "shuffles=0", "drawn_at_most=5", "mentioned_share=0.6")
    told += tuple(x for p in (*published, "store_views=false") for x in ("-p", f"03.{p}"))
    told += ("-p", "03.steps=1", "-p", "04.store_views=false")
    shutil.rmtree(labelled / "views")
    done = lskd(ROOT, "run", "smoke", "--out", str(labelled), *told, "--only", "03", "--only", "04")
    assert done.returncode == 0, done.stderr[-2000:]
    assert not (labelled / "views").exists()
    assert "labels left out: 2" in said(labelled, "03_critic_training")
    rejects = read_parquet(labelled / "rejects_03.parquet", REJECTS)
    assert rejects["record"].to_pylist() == ["gone-0", "gone-1"]
    critic = json.loads((labelled / "03_critic_training.metrics.json").read_text())["critic"]
    assert critic["auc"] != critic["auc"]  # all are accepted: there is none
    held = read_parquet(labelled / "labels_held_out.parquet", LABELS)["triple_id"].to_pylist()
    rows = read_parquet(labelled / "predictions" / "acceptability.parquet", PREDICTIONS).to_pylist()
    assert held and sorted(r["item_id"] for r in rows if r["system"] == "raw") == sorted(held)
    again = lskd(
        ROOT, "run", "smoke", "--out", str(labelled), *told, "--only", "04",
        "-p", f"04.labels_file={labelled / BY_PEOPLE}",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr[-2000:]
    used = read_parquet(labelled / "labels.parquet", LABELS).num_rows
    assert f"{len(held):,} to measure with, {used - len(held):,} learned from" in said(
        labelled, "04_filtering"
    )
