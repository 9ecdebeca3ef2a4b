"""Figures in pages: written anew from their files, found where they stand loose; sentences that
say of an aim what was measured, whichever way it went.
"""

import json
import shutil

import pytest

from lskd_nb.publishing import run_sentences as run
from lskd_nb.publishing.aims import aims, duration, percent, processor
from lskd_nb.publishing.figures import PAGES, loose_figures, read_records, renew_pages, renewed
from lskd_nb.run_folder import find_root

ROOT = find_root()
TOLD = read_records(ROOT)


def figure(mean: float, low: float | None = None, high: float | None = None) -> dict:
    bounds = (mean - 0.02 if low is None else low, mean + 0.02 if high is None else high)
    return dict(mean=mean, low=bounds[0], high=bounds[1], n=300, clusters=100)


def measured(lead: float = 0.1, auc: float = 0.9, pointing: float = 0.9, kept: float = 0.9) -> dict:
    """Figures of three seeds that reach every aim, but for what the caller lowers."""
    minus = dict(lskd_minus_base=figure(0.3), lskd_minus_unfiltered=figure(lead))
    tasks = ("aokvqa", "snli_ve", "snli_ve_fitted", "visual7w")
    return dict(
        vcr={s: dict(q_a=figure(0.5), qa_r=figure(0.5), q_ar=figure(0.4)) for s in run.SYSTEMS},
        difference=dict(vcr=dict(q_ar=minus, q_a=minus, qa_r=minus), grounding=minus),
        grounding={s: figure(pointing) for s in run.SYSTEMS},
        acceptability=dict(raw=figure(0.5), kept=figure(kept) | dict(n=60)),
        critic=dict(auc=0.8, auc_truth=auc, precision=0.8, recall=0.7),
        nonlocalized={t: dict(base=figure(0.5), lskd=figure(0.495)) for t in tasks},
        scaling=[dict(triples=9, system="lskd", q_ar=figure(0.4))],
        seconds={"00_one": 100.0, "01_two": 200.0},
        cpu_seconds={"00_one": 150.0, "01_two": 400.0, "runner": 8.2},
        cpu=dict(model="Quick CPU", cores=2, avx512=False),
        seeds=[0, 1],
        by_seed=[
            dict(
                seed=0, difference=dict(vcr=dict(q_ar=minus)), critic=dict(auc=0.8, auc_truth=auc)
            ),
            dict(
                seed=1, difference=dict(vcr=dict(q_ar=minus)), critic=dict(auc=0.8, auc_truth=auc)
            ),
        ],
    )


def test_an_aim_is_said_to_be_reached_missed_or_unknown_as_it_is():
    told = aims(measured())
    assert [name for name, aim in told.items() if not aim.reached] == []
    assert str(told["critic"]) == "Critic AUC, against the truth 0.900 (0.88 was aimed at)"
    missed = aims(measured(auc=0.78, pointing=0.74, kept=0.8))
    assert {n for n, a in missed.items() if a.reached is False} == {"critic", "pointing", "kept"}
    assert str(missed["critic"]) == "Critic AUC, against the truth 0.780, where 0.88 was aimed at"
    assert str(missed["pointing"]) == "Grounding accuracy 74.0 [72.0, 76.0], where 85 was aimed at"
    assert {aim.reached for aim in aims({}).values()} == {None}
    assert str(aims({})["pointing"]) == "Grounding accuracy: not measured (85 is aimed at)"


def test_what_falls_short_lists_what_does_and_nothing_else():
    whole = run.what_falls_short(measured())
    assert whole.startswith("Nothing that was measured falls short") and "- **" not in whole
    short = run.what_falls_short(measured(auc=0.78))
    assert short.startswith("- **Critic AUC, against the truth** 0.780, where 0.88 was aimed at.")
    assert short.count("- **") == 1 and "Critic" not in short.split("Reached: ")[1]
    metrics = measured()
    metrics["nonlocalized"]["snli_ve"]["lskd"] = figure(0.48)
    assert "**SNLI-VE** 48.0 [46.0, 50.0] after the base's 50.0" in run.what_falls_short(metrics)
    assert run.how_many_reached(metrics) == "Of 13 aims, 12 are reached."
    assert run.how_many_reached({}) == "Of 13 aims, 0 are reached, 13 not measured."


def test_the_lead_is_told_seed_by_seed():
    assert run.differences(measured()).endswith("above 0 in every seed: 10.0 and 10.0.")
    metrics, chance = measured(), figure(0.01, -0.02, 0.04)
    metrics["by_seed"][1]["difference"]["vcr"]["q_ar"] = dict(lskd_minus_unfiltered=chance)
    assert run.differences(metrics).endswith("above 0 not in every seed (not in 1): 10.0 and 1.0.")
    assert aims(metrics)["seeds"].reached is False
    assert "1.0 [-2.0, 4.0] (seed 1: not above chance)" in run.what_falls_short(metrics)
    by_name = {str(s["seed"]): dict(difference=s["difference"]["vcr"]) for s in metrics["by_seed"]}
    assert run.differences(metrics | dict(by_seed=by_name)) == run.differences(metrics)
    del metrics["by_seed"][0]
    assert run.differences(metrics).endswith("Seed by seed they were not recorded.")
    table = run.seed_table(measured()).splitlines()
    assert len(table) == 4 and table[2].startswith("| 0 | ") and table[2].endswith("| 0.900 |")
    assert {line.count("|") for line in table} == {table[0].count("|")}
    assert "not recorded" in run.seed_table({})


def test_filtered_and_unfiltered_differ_where_the_interval_says_so():
    metrics = measured()
    metrics["difference"]["vcr"] |= dict(
        q_a=dict(lskd_minus_unfiltered=figure(-0.05)), qa_r=dict(lskd_minus_unfiltered=figure(0.01))
    )
    assert run.beside_unfiltered(metrics, figures=False) == (
        "Beside unfiltered triples, LSKD is ahead in grounding accuracy, behind in Q→A,"
        " not different beyond chance in QA→R."
    )
    assert "behind in Q→A (-5.0 [-7.0, -3.0])" in run.beside_unfiltered(metrics, figures=True)


def test_time_is_that_of_the_processor_where_it_is_known_of_every_notebook():
    assert run.took(measured()) == (
        "The last `make mini` took 9 min 18 s of processor time (at most 10 minutes) and"
        " 5 min 0 s of the clock, on 2 cores of Quick CPU, without AVX-512."
    )
    assert "By notebook: 00 150 s, 01 400 s, runner 8 s." in run.took_by_notebook(measured())
    slow = measured() | dict(cpu_seconds={"00_one": 400.0, "01_two": 400.0})
    assert "13 min 20 s of processor time (aimed at: at most 10 minutes)" in run.took(slow)
    del slow["cpu_seconds"]["00_one"], slow["cpu"]
    assert run.took(slow) == (
        "The last `make mini` took 5 min 0 s of the clock, on a processor that was not recorded."
    )
    assert aims(slow)["time"].reached is None
    assert (
        duration(47.4) == "47 s" and processor("A", 1, None) == "1 core of A, AVX-512 not recorded"
    )
    assert percent(0.5) == "50.0" and percent(None) == "not measured"


# ---------------------------------------------------------------------------------------- the pages


@pytest.fixture
def project(tmp_path):
    """The pages and the records, in a folder of their own."""
    kinds = ("mini/metrics", "benchmarks", "servers", "teacher_sees", "local_teacher")
    records = (f"outputs/{kind}.json" for kind in kinds)
    for name in (*PAGES, *records):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_other_figures_make_other_pages_and_the_same_ones_none(project):
    (project / "outputs" / "mini" / "metrics.json").write_text(json.dumps(measured(auc=0.78)))
    row = dict(server="A server", sent="words alone", offered=9, kept=8, requests=3, message="")
    (project / "outputs" / "servers.json").write_text(json.dumps([row]))
    changed = renew_pages(project)
    assert {p.name for p in changed} == {p.rsplit("/")[-1] for p in PAGES}  # no GPU's record here
    readme = (project / "README.md").read_text(encoding="utf-8")
    assert "| **mini + LSKD** | 50.0 [48.0, 52.0] |" in readme and "Of 13 aims, 12 are" in readme
    assert len(readme.encode()) <= 12_000 and len(readme.split()) <= 1_800
    assert readme.split("## The series")[1] in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "0.780, where 0.88 was aimed at" in changed[1].read_text(encoding="utf-8")
    teachers = (project / "notebooks/guide/teachers-and-prices.md").read_text(encoding="utf-8")
    assert "| A server | words alone | 8 of 9 |" in teachers
    assert renew_pages(project) == []


def test_no_gpu_is_said_where_none_has_run_it_and_nowhere_else(project):
    def said() -> int:
        texts = (project / f"notebooks/guide/{n}.md" for n in ("speed", "reproduce-the-paper"))
        return sum("o GPU has run" in path.read_text(encoding="utf-8") for path in texts)

    renew_pages(project)
    assert said() == 2  # once on each
    lines = [dict(what="machine", device="Big GPU", torch="2", memory_gib=80.0)]
    lines += [dict(what="03: a step", seconds=0.5), dict(what="08: FlanT5", error="no\nmemory")]
    path = project / "outputs" / "gpu.json"
    path.write_text("\n".join(map(json.dumps, lines)))
    renew_pages(project)
    speed = (project / "notebooks" / "guide" / "speed.md").read_text(encoding="utf-8")
    assert said() == 0 and "On one Big GPU of 80 GiB" in speed and "| 03: a step | 0.5 |" in speed
    assert "Failed: 08: FlanT5 (no memory)" in speed
    lacking = speed.split("Not in this record, though the script measures them: ")[1]
    assert "a step of FlanT5-XXL" in lacking and "a step of the critic" not in lacking
    whole = path.read_text()
    path.write_text(json.dumps(lines))  # as one list
    assert renew_pages(project) == []
    for broken, told in (
        (whole[:-9], "is no record of a GPU"),
        ('[{"seconds": 1}]', "lines without"),
        ('{"what": "machine", "device": "CPU"}', "does not begin with the GPU"),
    ):
        path.write_text(broken)
        with pytest.raises(ValueError, match=f"gpu.json.*{told}"):
            renew_pages(project)


def test_a_page_has_the_blocks_that_are_made_for_it(project):
    page = "notebooks/guide/speed.md"
    text = (ROOT / page).read_text(encoding="utf-8")
    assert renewed(page, text, TOLD) == text
    with pytest.raises(ValueError, match=r"speed\.md has the blocks benchmarks, spede, gpu"):
        renewed(page, text.replace("figures: short", "figures: spede"), TOLD)
    for lost in ("<!-- figures: gpu -->\n", "<!-- /figures -->\n"):
        with pytest.raises(ValueError, match=r"speed\.md"):
            renewed(page, text.replace(lost, "", 1), TOLD)
    (project / "outputs" / "benchmarks.json").unlink()
    with pytest.raises(ValueError, match=r"benchmarks\.json is not there: make bench writes it"):
        read_records(project)


@pytest.mark.parametrize(
    "line",
    [
        "LSKD minus base 33.5 [30.8, 36.4], paired.",
        "Pointing reached 74% where more was aimed at.",
        "![Curve: 37% with 595](outputs/mini/scaling.png)",
        "It is 4.8 × as fast.",
        "One `make mini` took 16 min 19 s.",
        "an area of 0.78",
        "Nobody had a GPU: these have not been run on a GPU.",
        "There was no GPU at hand.",
        "| 05, 64 rows | 19 GiB |",
    ],
)
def test_a_figure_that_stands_loose_is_found(line):
    assert len(loose_figures(f"# A page\n\n{line}\n\nAnd more.\n")) == 1
    block = f"<!-- figures: x -->\n{line}\n<!-- /figures -->"
    by_hand = f"<!-- by hand: the paper's -->\n{line}\n<!-- /by hand -->"
    assert loose_figures(f"{block}\n\n{by_hand}\n") == []
    assert loose_figures(f"{block}\n{line}\n{block}") != [], "between two blocks it is loose"


@pytest.mark.parametrize(
    "line",
    [
        "Regions such as `[0, 1]` on 640 × 480 pixels, in four A100s of 80 GB.",
        "    lskd run mini -p 03.noise=0.05   # 5% of them",
        "Version 0.2.0 of [the paper](https://arxiv.org/abs/2312.04837) on Python 3.11.",
    ],
)
def test_what_is_no_figure_is_left_alone(line):
    assert loose_figures(line) == []
