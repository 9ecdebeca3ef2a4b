"""Notebooks hold no triple as a Python object: what a triple costs them in memory is bounded."""

from pathlib import Path

from lskd_nb.run_folder import find_root

TRIPLES = 200_000
MOST = 4_000  # bytes for each in both, images and all that works included; as dicts 7,000
WRITES = ("04-17", "04-18", "04-22")  # the corpus, which takes its time


def test_a_triple_costs_notebooks_03_and_04_little_memory(tmp_path: Path, monkeypatch):
    monkeypatch.syspath_prepend(str(find_root() / "tests" / "benchmarks"))
    import paper_scale
    import paper_stages

    paper_scale.write_run(tmp_path, paper_scale.PAPER.part(TRIPLES / paper_scale.PAPER.triples))
    paper_stages.lay_scores(tmp_path)
    taken = paper_stages.run_stage(tmp_path, "03+04", WRITES)
    assert taken.grown * 2**30 / TRIPLES < MOST
