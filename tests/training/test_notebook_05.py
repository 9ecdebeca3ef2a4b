"""Notebook 05 on corpora that are not the mini world's: its cells run here, one after the other,
and its trainings in this process.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import nbformat
import numpy as np
import pytest
from PIL import Image

from lskd_nb.mini.pretraining.base import fresh_student
from lskd_nb.records import CORPUS, REGIONS, SCORES, TRIPLES, write_parquet
from lskd_nb.run_folder import find_root
from lskd_nb.training import distillation, launch

BOOK = find_root() / "notebooks" / "05_distillation.ipynb"
LABELS = ("person", "dog")


def triple(number: int, regions: int, words: bool) -> dict:
    """About an image of its own; ``words``: its texts describe the regions and mention none."""
    names = ["the person", "the dog"] if words else ["[0]", f"[{regions - 1}]"]
    return dict(
        triple_id=f"t{number}",
        image_id=f"m{number}",
        family="words" if words else "id",
        question=f"What is {names[0]} about to do?",
        answer=f"Throw ball {number}.",
        rationale=f"{names[0]} is near {names[1]}.",
        regions=[] if words else [0],
        regions_offered=list(range(regions)),
        model="m",
        prompt="p",
        request="r",
        score=0.9,
        image=f"m{number}.png",
        width=64,
        height=48,
        source="vg",
        split="train",
        references=[
            dict(id=i, box=[2.0 + 30 * i, 2.0, 28.0 + 30 * i, 30.0], label=LABELS[i], score=None)
            for i in range(regions)
        ],
    )


def _write_ranking(folder: Path, rows: list[dict]) -> None:
    """What notebooks 1 to 4 leave of all triples: here the corpus has all of them."""
    triples = [{name: row[name] for name in TRIPLES.names} for row in rows]
    write_parquet(triples, folder / "triples.parquet", TRIPLES)
    scores = [
        dict(triple_id=row["triple_id"], score=n / 10, qa_score=0.5, rationale_score=0.5)
        for n, row in enumerate(rows)
    ]
    write_parquet(scores, folder / "scores.parquet", SCORES)
    located = [
        {name: row[name] for name in REGIONS.names if name != "regions"}
        | dict(regions=row["references"])
        for row in rows
    ]
    write_parquet(located, folder / "regions.parquet", REGIONS)


@pytest.fixture
def run_notebook(tmp_path, monkeypatch, capsys) -> Callable[..., SimpleNamespace]:
    """Run it on a corpus of ten triples; what is left: its names, its prints, its metrics."""
    matplotlib.use("Agg")
    folder = tmp_path / "run"
    (folder / "images").mkdir(parents=True)
    (folder / "image_root.txt").write_text(str(folder / "images"))
    rng = np.random.default_rng(0)
    for n in range(10):
        noise = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "images" / f"m{n}.png")
    base = fresh_student(0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32)
    base.save(folder / "base")

    def trained_here(systems, jobs, processes, on_steps, look):
        curves = {}
        for name, config in systems.items():
            distillation.train(replace(config, threads=1))
            curves[name] = launch.loss_curve(config)
        on_steps(curves)
        return curves

    monkeypatch.setattr(launch, "train_all", trained_here)

    def run(regions: int = 2, words: bool = False, kept: int = 10, **parameters) -> SimpleNamespace:
        rows = [triple(n, regions, words) for n in range(10)]
        for name, of_it in (("corpus", rows[:kept]), ("unfiltered", rows)):
            write_parquet(of_it, folder / f"{name}.parquet", CORPUS)
        _write_ranking(folder, rows)
        given = dict(
            run_dir=str(folder), base=str(folder / "base"), steps=1, batch=4, rehearsal_share=0.0
        )
        shown: list = []

        def display(what, **_):
            shown.append(what)
            return SimpleNamespace(update=shown.append)

        names = {"display": display}
        for cell in nbformat.read(BOOK, as_version=4).cells:
            if cell.cell_type == "code":
                exec(compile(cell.source, cell.id, "exec"), names)
                if "parameters" in cell.metadata.get("tags", []):
                    names |= given | parameters
        told = json.loads((folder / "05_distillation.metrics.json").read_text())
        return SimpleNamespace(
            names=names, said=capsys.readouterr().out, told=told, shown=shown, folder=folder
        )

    return run


def test_the_published_recipe_on_ten_triples(run_notebook):
    """No rehearsal file is there, and none is asked for."""
    found = run_notebook(
        lm=1.0, lm_conditioned=0.0, swaps=0.0, prefix="question: ", views=0,
        studies=["sizes", "lm"],
    )  # fmt: skip
    assert found.told["prefix"] == "question: " and found.told["lm_head"] == "loaded"
    assert list(found.told["trained_steps"]) == [
        "unfiltered", "lskd", "lskd_50", "lskd_25", "conditioned_lm"
    ]  # fmt: skip
    table = found.names["table"]
    assert table["words follow"].to_dict() == {
        "base": "the image", "lskd_25": "the image", "conditioned_lm": "image and question"
    }  # fmt: skip
    assert len(found.names["drawn"]) == 8 and table[["by ITM", "by LM"]].notna().all(None)
    assert all(d.question.startswith("question: What") for d in found.names["drawn"])
    assert "true:  question: What is [" in found.said
    assert not (found.folder / "views").exists()  # nothing is stored, nor hashed for it
    differing = found.shown[-1]
    assert differing.loc["steps", "here"] == "1" and "before each question" not in differing.index


def test_texts_that_describe_and_mention_nothing(run_notebook):
    found = run_notebook(words=True, studies=["sizes", "lm"])
    assert not found.names["drawn"] and "0 triples with a swap" in found.said
    assert "there is no second region" in found.said
    assert {row.regions for row in found.names["rows"]} == {()}
    assert "published_lm" in found.told["trained_steps"]


def test_one_region_and_every_image_trained_on(run_notebook):
    found = run_notebook(regions=1)
    assert list(found.told["trained_steps"]) == ["unfiltered", "lskd"]
    assert "0 triples with a swap, not seen by lskd" in found.said and not found.names["drawn"]


def test_a_base_without_an_lm_head_is_told_of(run_notebook, tmp_path):
    whole = tmp_path / "run" / "base"
    shutil.copytree(whole, tmp_path / "hub")
    (tmp_path / "hub" / "stage1.safetensors").unlink()
    with pytest.warns(UserWarning, match="hub lacks .*they start fresh. It has no LM head"):
        found = run_notebook(base=str(tmp_path / "hub"))
    assert found.told["lm_head"] == found.told["temperature"] == "fresh"
    assert "It has no LM head and no temperature of the contrast" in found.said
    assert found.shown[-1].loc["begins with", "here"].endswith("hub, its LM head at random")


def test_students_of_the_ranking_and_of_another_base(run_notebook, tmp_path):
    """As many triples from the best fifth as from all; the whole corpus into a second base."""
    plain = fresh_student(5, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32)
    plain.save(tmp_path / "plain")
    found = run_notebook(
        studies=["thresholds", "plain_base"], threshold_shares=[0.2, 1.0], steps=4,
        plain_base=str(tmp_path / "plain"),
    )  # fmt: skip
    steps = found.told["trained_steps"]
    assert steps == dict(unfiltered=4, lskd=4, top_20=2, top_100=2, plain_lskd=4)
    students = found.told["students"]
    assert students["top_20"] == dict(study="thresholds", triples=2, share=0.2)
    assert students["plain_lskd"]["base"] == str(tmp_path / "plain")
    origin = json.loads((found.folder / "student/plain_lskd/trained_from.json").read_text())
    assert origin["student"] == str(tmp_path / "plain")
    assert origin["corpus"].endswith("student/lskd.parquet")
    assert len(list((found.folder / "views").iterdir())) == 2  # each base has its own features


def test_the_triples_that_nobody_filtered_are_asked_where_the_corpus_has_been_seen(run_notebook):
    found = run_notebook(kept=6)
    assert {d.view.image for d in found.names["drawn"]} == {f"m{n}.png" for n in range(6, 10)}


def test_no_truth_no_perfect_critic(run_notebook):
    with pytest.raises(ValueError, match="studies has 'truth', and nothing knows the truth"):
        run_notebook(studies=["truth"])
