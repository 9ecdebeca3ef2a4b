"""The walk's own parts, without walking: what is changed, what stops it, what its table tells."""

import os

import pytest

from lskd_nb.rehearsal import walk
from lskd_nb.run_folder import RunError
from lskd_nb.runner.parameters import read_notebooks


def walking(folder) -> walk.Walk:
    return walk.Walk("a100", folder, dict(os.environ), lambda line: None)


def test_sizes_are_lowered_and_shares_are_left(root):
    notebooks = read_notebooks(root)
    given = {n.number: {} for n in notebooks}
    given |= {"03": {"held_out": 0.1, "batch": 64}, "01b": {"held_out": 2000}, "05": {"batch": 4}}
    given["05"] |= {"steps": 50_000, "image_size": 480}
    changes = walk.smaller(notebooks, given)
    assert changes["01b.held_out"] == 6 and changes["03.batch"] == 8
    assert changes["05.steps"] == 3 and changes["05.image_size"] == 56
    assert "03.held_out" not in changes and "05.batch" not in changes


def test_a_command_that_ends_otherwise_stops_the_walk_with_its_words(tmp_path):
    going = walking(tmp_path)
    with pytest.raises(RunError, match="(?s)no such thing.*ended with status 3, expected 0"):
        going.type("-c", "import sys; print('no such thing'); sys.exit(3)")
    with pytest.raises(RunError, match="does not say 'label'"):
        going.type("-c", "print('all is well')", words=("well", "label"))
    assert [t.status for t in going.typed] == [3, 0]


def test_what_a_check_misses_stops_the_walk_but_for_a_gpu():
    gpu, other = "MISSING GPU: none that torch can use", "MISSING 06 candidates: x is not there"
    walk._only_gpus_are_missing(walk.Typed("lskd check a100", 1, 1.0, (gpu,)))
    with pytest.raises(RunError, match="06 candidates"):
        walk._only_gpus_are_missing(walk.Typed("lskd check a100", 1, 1.0, (gpu, other)))


def test_a_stage_replaces_a_stage_and_nothing_else(root, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match="holds something else than a stage"):
        walk.set_stage("a100", root, tmp_path, {})
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_the_stage_s_environment_has_no_key_but_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://elsewhere.org/v1")
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    found = walk.environment(tmp_path)
    assert "sk-mine" not in found.values() and "hf_mine" not in found.values()
    assert "OPENAI_BASE_URL" not in found and found["HF_HUB_OFFLINE"] == "1"


def test_the_table_has_a_line_for_each_notebook():
    row = dict(seconds=12.3, changed={"steps": 3}, written=["triples.parquet"])
    told = dict(notebooks={"02_prompting": row, "07_x": row | {"changed": {}}}, seconds=99)
    lines = walk.table(told | dict(machine=dict(cpus=2), not_shown=["GPUs"]))
    assert "02_prompting" in lines[1] and "steps 3" in lines[1] and "triples.parquet" in lines[1]
    assert "nothing" in lines[2] and "99 s on 2 cores" in lines[3] and "GPUs" in lines[-1]
