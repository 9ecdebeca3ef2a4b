"""The a100 profile, walked from end to end on a stage: published files, hub names, a strict server.

Nothing of the mini world's own conveniences is there: what holds only at home fails here.
"""

import json
from pathlib import Path

import pytest
import yaml

from lskd_nb.rehearsal import server, walk
from lskd_nb.runner.parameters import read_notebooks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def rehearsed(root, lskd, tmp_path_factory) -> tuple[Path, dict]:
    """The stage of a rehearsal of a100, and what came of it."""
    home = tmp_path_factory.mktemp("rehearsal")
    outcome = home / "rehearsal.json"
    done = lskd(root, "rehearse", "a100", "--out", str(home / "stage"), "--outcome", str(outcome))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "not shown by a rehearsal" in done.stdout
    return home / "stage", json.loads(outcome.read_text())


def test_all_notebooks_ran_and_only_sizes_were_changed(rehearsed, root):
    _, told = rehearsed
    assert list(told["notebooks"]) == [n.name for n in read_notebooks(root)]
    for name, row in told["notebooks"].items():
        given = yaml.safe_load((root / "params" / "a100" / f"{name}.yaml").read_text()) or {}
        for parameter, value in row["changed"].items():
            if (name[:2], parameter) == ("05", "processes"):
                assert value == 4 and "batch" not in row["changed"] and given["batch"] == 256
            elif parameter in walk.SMALLER:
                assert value < given.get(parameter, 10**9), (name, parameter)
            else:
                assert parameter in ("base_url", "max_cost_usd"), (name, parameter)


def test_the_recorded_outcome_is_of_this_walk(rehearsed, root):
    """Seconds differ from machine to machine; what was typed, changed and written does not."""
    _, told = rehearsed
    recorded = json.loads((root / "outputs" / "rehearsal.json").read_text())
    for one in (told, recorded):
        one.pop("seconds"), one.pop("machine")
        for row in (*one["commands"], *one["notebooks"].values()):
            row.pop("seconds"), row.pop("peak_gib", None)
    assert recorded == told


def test_the_recorded_walk_took_ten_minutes_at_most(root):
    recorded = json.loads((root / "outputs" / "rehearsal.json").read_text())
    assert recorded["machine"]["cpus"] == 2 and recorded["seconds"] <= 600


def test_six_benchmarks_were_scored_and_what_was_left_out_is_told(rehearsed):
    stage, _ = rehearsed
    run = stage / "outputs" / "runs" / "a100"
    found = json.loads((run / "metrics.json").read_text())
    sets = {"vcr", "sherlock", "visualcomet", *found["nonlocalized"]}
    assert sets >= {"vcr", "sherlock", "visualcomet", "aokvqa", "snli_ve", "visual7w"}
    assert "grounding" not in found  # the published files don't say which choice is a swap
    assert (run / "rejects_06.parquet").exists()


def test_the_key_reaches_no_file(rehearsed):
    stage, _ = rehearsed
    files = [p for p in (stage / "outputs").rglob("*") if p.is_file()]
    assert len(files) > 50
    assert not [p for p in files if server.KEY.encode() in p.read_bytes()]


def test_nothing_is_kept_that_is_read_once(rehearsed):
    stage, _ = rehearsed
    assert not list((stage / "outputs").rglob("views.bf16"))


def test_the_guide_types_what_the_walk_types(rehearsed, root):
    """Every kind of command of the walk is one that the guide's page tells to type, and what the
    walk can't show is listed there.
    """
    _, told = rehearsed
    page = (root / walk.GUIDE).read_text()
    for command in (c["command"].split(" -p ")[0] for c in told["commands"]):
        assert " ".join(command.split()[:3]) in page, command
    assert all(line in page for line in walk.NOT_SHOWN)
