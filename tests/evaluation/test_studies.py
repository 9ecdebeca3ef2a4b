"""Figures that compare students of other corpora: paired, of one run or pooled."""

import json

import pandas as pd
import pytest

from lskd_nb.evaluation import studies

STUDENTS = {
    "lskd": dict(study="sizes", triples=40, share=1.0),
    "lskd_50": dict(study="sizes", triples=20, share=0.5),
    "top_100": dict(study="thresholds", triples=10, share=1.0),
    "top_25": dict(study="thresholds", triples=10, share=0.25),
    "truth": dict(study="truth", triples=40, share=1.0),
    "plain_lskd": dict(study="plain_base", triples=40, share=1.0, base="plain"),
    "published_lm": dict(study="lm", triples=20, share=1.0),  # never asked
}
RIGHT = {  # of eight questions, by system
    "base": 1, "unfiltered": 3, "lskd": 5, "lskd_50": 4, "top_100": 2, "top_25": 6, "truth": 7,
    "plain": 0, "plain_lskd": 2,
}  # fmt: skip


def answers(right: dict[str, int], seeds: int = 1) -> pd.DataFrame:
    return pd.DataFrame(
        [
            dict(item_id=f"i{n}", image_id=f"m{n // 2}", task=task, system=s, seed=seed)
            | dict(correct=float(n < number))
            for s, number in right.items()
            for task in ("vcr.q_a", "vcr.qa_r", "vcr.q_ar", "grounding")
            for n in range(8)
            for seed in range(seeds)
        ]
    )


def test_each_study_has_its_figures():
    found = studies.figures(answers(RIGHT, seeds=2), STUDENTS)
    assert found.keys() == studies.STUDY_OF.keys()
    assert [(p["triples"], p["q_ar"]["mean"]) for p in found["scaling"]] == [(20, 0.5), (40, 0.625)]
    strict, wide = found["thresholds"]
    assert (strict["system"], strict["share"], strict["triples"]) == ("top_25", 0.25, 10)
    assert strict["gain"]["mean"] == 0.5 and strict["gain"]["n"] == 16 and "gain" not in wide
    ceiling = found["ceiling"]
    assert list(ceiling["q_ar"]) == ["unfiltered", "lskd", "truth"] and ceiling["triples"] == 40
    assert ceiling["difference"]["truth_minus_lskd"]["mean"] == 0.25
    assert ceiling["difference"]["truth_minus_unfiltered"]["mean"] == 0.5
    bases = found["plain_base"]
    assert bases["plain_lskd"]["grounding"]["mean"] == 0.25
    assert bases["difference"]["plain_lskd_minus_plain"]["grounding"]["mean"] == 0.25
    assert bases["difference"]["lskd_minus_base"]["q_ar"]["mean"] == 0.5


def test_what_was_not_studied_is_not_there():
    only = {s: RIGHT[s] for s in ("base", "unfiltered", "lskd")}
    assert studies.figures(answers(only), {"lskd": STUDENTS["lskd"]}) == {}
    assert studies.figures(answers(only), {}) == {}
    rows = answers(RIGHT).query("task == 'vcr.q_ar'")  # files that name no swap
    assert set(studies.figures(rows, STUDENTS)["plain_base"]["plain"]) == {"q_ar"}


def test_a_runs_own_figures_go_before_the_pooled_ones(tmp_path):
    one, two = dict(mean=0.1), dict(mean=0.2)
    pooled = tmp_path / "metrics.json"
    several = dict(scaling=["pooled"], thresholds=["pooled"], seeds=[0, 1, 2])
    pooled.write_text(json.dumps(several | dict(vcr=dict(base=dict(q_ar=two)))))
    own, metrics = {"scaling": ["own"]}, dict(vcr=dict(base=dict(q_ar=one)))
    shown = studies.own_or_pooled(own, metrics, pooled)
    assert shown.figures == {"scaling": ["own"], "thresholds": ["pooled"]}
    assert shown.source["scaling"] == "this run"
    assert shown.source["thresholds"] == "pooled over 3 seeds, from `lskd replicate`"
    assert shown.base == {"scaling": one, "thresholds": two}
    assert "05.studies=[truth]" in shown.missing("ceiling")


@pytest.mark.parametrize("there", [None, "nowhere.json"])
def test_without_pooled_figures_only_the_runs_own_are_shown(tmp_path, there):
    shown = studies.own_or_pooled({}, {}, there and tmp_path / there)
    assert shown.figures == {}


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_damaged_pooled_figures_are_an_error_that_names_the_file(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ValueError, match=r"metrics.json (is damaged|holds no JSON object).*again"):
        studies.own_or_pooled({}, {}, tmp_path / "metrics.json")
