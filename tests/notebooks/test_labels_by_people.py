"""Notebooks 3 and 4 on labels by people, without a truth to ask: what is held out measures; and
where scores come from elsewhere, or from nowhere.
"""

import json
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest

from lskd_nb.critic import UNFILTERED
from lskd_nb.critic.labels import BY_PEOPLE
from lskd_nb.publishing.card_facts import run_facts
from lskd_nb.publishing.cards import dataset_card, student_card
from lskd_nb.publishing.hub import check_ready
from lskd_nb.publishing.report import report_run
from lskd_nb.publishing.report_text import report_markdown
from lskd_nb.records import (
    CORPUS,
    LABELS,
    PREDICTIONS,
    REJECTS,
    SCORES,
    TRIPLES,
    read_parquet,
    write_parquet,
)
from lskd_nb.run_folder import RunError, find_root

ROOT = find_root()


def said(run_dir: Path, name: str) -> str:
    """All that a notebook has printed."""
    cells = nbformat.read(run_dir / "notebooks" / f"{name}.ipynb", as_version=4).cells
    outputs = (o for c in cells if c.cell_type == "code" for o in c.outputs)
    return "".join(o.get("text", "") for o in outputs)


@pytest.fixture
def labelled(smoke, tmp_path) -> Path:
    """A copy of the smoke run whose truth is gone; two people have labelled five triples, one of
    them triples of another run as well, and every triple is accepted.
    """
    run_dir = shutil.copytree(smoke, tmp_path / "run", ignore=shutil.ignore_patterns(".lock"))
    (run_dir / "world" / "truth.jsonl").unlink()
    rows = read_parquet(run_dir / "labels.parquet", LABELS).to_pylist()[:5]
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
    found = json.loads((labelled / "metrics.json").read_text())
    assert "all 5 labels say accept" in found["warnings"]["03"][1] and len(found["warnings"]) == 2
    assert "mean" not in found["acceptability"]["raw"], "a share of one or two labels is none"
    shown = (labelled / "notebooks" / "03_critic_training.ipynb").read_text()
    assert "AUC is not a number" in shown and "WARNING, notebook 04: how much" in done.stdout
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


def only_3_and_4(lskd, run_dir: Path, *parameters: str) -> dict:
    """Run the two notebooks; returns what was measured."""
    given = [part for p in parameters for part in ("-p", p)]
    command = ("run", "smoke", "--out", str(run_dir), "--only", "03", "--only", "04", *given)
    done = lskd(ROOT, *command)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((run_dir / "metrics.json").read_text())


@pytest.mark.endurance
def test_without_a_critic_all_is_kept_and_everything_says_so(labelled, lskd):
    run_dir = labelled
    (run_dir / BY_PEOPLE).unlink()
    shutil.rmtree(run_dir / "critic")
    file = f"03.labels_file={run_dir / BY_PEOPLE}"  # not there, and nobody stops for it
    measured = only_3_and_4(lskd, run_dir, file, "03.critic=none", "04.critic=none")
    assert not (run_dir / "critic").exists() and measured["acceptability"] == {}
    scores = read_parquet(run_dir / "scores.parquet", SCORES)
    whole = read_parquet(run_dir / "triples.parquet", TRIPLES).num_rows
    assert scores["score"].null_count == scores.num_rows == whole
    for name in ("corpus.parquet", "unfiltered.parquet"):
        assert read_parquet(run_dir / name, CORPUS).num_rows == whole
    assert read_parquet(run_dir / "labels.parquet", LABELS).num_rows == 0
    assert "keep is ignored" in said(run_dir, "04_filtering")
    facts, name = run_facts(run_dir), "ada/student"
    for card in (dataset_card(facts), student_card(facts, name)):
        assert UNFILTERED in card.text and "nothing was filtered" in card.text
        assert "critic kept" not in card.text and "A critic trained" not in card.text
    with pytest.raises(RunError, match="has trained no critic to publish: 03.critic is 'none'"):
        check_ready(run_dir, {"critic": "ada/critic"})
    assert UNFILTERED in report_markdown(report_run(run_dir)).splitlines()[0]


@pytest.mark.endurance
def test_another_critic_scores_and_the_labels_measure_it(smoke, labelled, lskd):
    run_dir, critic = labelled, smoke / "critic"
    shutil.rmtree(run_dir / "critic")
    file = f"03.labels_file={run_dir / BY_PEOPLE}"
    measured = only_3_and_4(lskd, run_dir, file, f"03.critic={critic}", f"04.critic={critic}")
    assert not (run_dir / "critic").exists(), "nothing is trained"
    names = ("triple_id", "score")
    ours, theirs = (
        read_parquet(f / "scores.parquet", SCORES).select(names) for f in (run_dir, smoke)
    )
    assert np.allclose(ours["score"].to_numpy(), theirs["score"].to_numpy(), atol=1e-6)
    assert measured["critic"]["held_out"] == measured["critic"]["labels"] == 5
    assert measured["acceptability"]["raw"]["n"] == 5, "it has learned from none of them"
    text = dataset_card(run_facts(run_dir)).text
    assert "A critic that was not trained here, `critic`, scored each" in text
    assert "Weak labels, notebook 03: 5 labels are few" in text and str(smoke) not in text
