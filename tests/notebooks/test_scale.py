"""Notebooks hold no triple as a Python object: what a triple costs them in memory is bounded."""

from pathlib import Path

from lskd_nb.run_folder import find_root

TRIPLES = 200_000
MOST = 1500  # bytes for each, images and what is kept of it included; as dicts, twice as many
WRITES = ("04-17", "04-18", "04-22")  # the corpus, which takes its time


def test_a_triple_costs_notebooks_03_and_04_little_memory(tmp_path: Path, monkeypatch):
    monkeypatch.syspath_prepend(str(find_root() / "tests" / "benchmarks"))
    import paper_scale
    import paper_stages

    paper_scale.write_run(tmp_path, paper_scale.PAPER.part(TRIPLES / paper_scale.PAPER.triples))
    paper_stages.lay_scores(tmp_path)
    for stage in ("03", "04"):
        taken = paper_stages.run_stage(tmp_path, stage, WRITES)
        print(stage, taken)
        assert taken.grown * 2**30 / TRIPLES < MOST, stage
