"""Benchmarks in words: rows of another machine say so, whoever put them together."""

import json
import sys
from runpy import run_path

import pytest

from lskd_nb.publishing.speed_sentences import benchmark_machine, benchmark_table, benchmarks_short
from lskd_nb.run_folder import find_root

BENCHMARKS = find_root() / "tests" / "benchmarks"


@pytest.fixture
def bench(monkeypatch) -> dict:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    return run_path(str(BENCHMARKS / "run.py"))


def row(part: str, what: str, **changed: object) -> dict:
    told = dict(part=part, what=what, ours=0.5, unit="s", aim="≥ 3 ×", reached=True, other=2.0)
    told |= dict(beside="the usual way", ratio=4.0, note="", why="", cpu="A", cores=2)
    return told | dict(avx512=True, gpu=None, torch="2.1", date="2026-01-02") | changed


def test_rows_of_one_machine_need_no_column_for_it():
    rows = [row("drawing", "one"), row("corpus", "two", date="2026-01-03")]
    assert benchmark_machine(rows) == (
        "`make bench`, each row measured beside the other in one run, 2026-01-02 to 2026-01-03:"
        " all rows on 2 cores of A, with AVX-512, no GPU; PyTorch 2.1."
    )
    assert "| one | 0.5 s | 2 s the usual way | 4.0 × | ≥ 3 × | yes |" in benchmark_table(rows)


@pytest.mark.parametrize(
    "other", [{"cpu": "B"}, {"cores": 8}, {"avx512": False}, {"avx512": None}, {"gpu": "Big"}]
)
def test_a_row_of_another_machine_says_so(other):
    rows = [row("drawing", "one"), row("drawing", "two"), row("corpus", "three", **other)]
    assert "2 of 3 rows on 2 cores of A, with AVX-512, no GPU" in benchmark_machine(rows)
    assert "**1 is of another machine, or" in benchmark_machine(rows)
    lines = benchmark_table(rows).splitlines()
    assert [("**another**" in line) for line in lines[2:]] == [False, False, True]
    assert {line.count("|") for line in lines} == {8}


def test_a_machine_that_was_not_quiet_is_told():
    rows = [row("drawing", "one", load=0.3), row("corpus", "two")]
    assert "something else" not in benchmark_machine(rows)
    rows.append(row("corpus", "three", load=2.34))
    assert benchmark_machine(rows).endswith(
        " **1 of 3 were measured while the machine did something else**: its load was up to 2.3"
        " before."
    )


def test_what_misses_its_aim_is_listed_with_its_reason():
    rows = [row("drawing", "one")]
    assert benchmarks_short(rows) == "1 of 1 rows reach their aim."
    rows += [
        row("drawing", "two", reached=False, ratio=1.26, why="There is less to save."),
        row("corpus", "three", reached=False, ratio=None, other=None, aim="≤ 0.3 s", ours=0.41),
        row("sampling", "four", reached=False, ratio=None, other=None, beside="it did not run"),
    ]
    assert benchmarks_short(rows).splitlines() == [
        "1 of 4 rows reach their aim. The others:",
        "",
        "- **two**: 1.3 ×, where ≥ 3 × was aimed at. There is less to save.",
        "- **three**: 0.41 s, where ≤ 0.3 s was aimed at.",
        "- **four**: it did not run, where ≥ 3 × was aimed at.",
    ]


def test_a_part_that_was_not_measured_keeps_its_rows_and_their_machine(bench):
    before = [row("drawing", "old"), row("corpus", "kept", cpu="B"), row("gone", "no such part")]
    rows = bench["merged"](before, {"drawing": [row("drawing", "new")]})
    assert [(r["what"], r["cpu"]) for r in rows] == [("new", "A"), ("kept", "B")]
    assert "**another**" in benchmark_table(rows)


def test_a_row_has_the_machine_and_the_day_it_was_measured(bench, tmp_path):
    (tmp_path / "run.py").write_text("print('noise')\nprint('[{\"what\": \"a line\"}]')\n")
    measured = bench["measured"]
    measured.__globals__["HERE"] = tmp_path
    (told,) = measured("drawing", 0.123)
    assert told["load"] == 0.12
    assert told["what"] == "a line" and told["cpu"] and told["cores"] >= 1
    assert told["avx512"] in (True, False, None) and "gpu" in told and len(told["date"]) == 10
    json.dumps(told)
    (tmp_path / "run.py").write_text("raise SystemExit(3)\n")
    assert measured("drawing", 0.0) is None
