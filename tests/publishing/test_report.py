"""The corpus report: counted by hand on small corpora, and nothing of a corpus taken for markup."""

import json

import pytest

from lskd_nb.corpus import dedup
from lskd_nb.publishing import report as reporting
from lskd_nb.publishing import report_figure, report_text
from lskd_nb.records import TRIPLES, write_parquet
from lskd_nb.viewing.alt_text import alt_of

# -------------------------------------------------------------------------------------- composition


def test_composition_counts_what_is_there(corpus_row, written_corpus):
    folder = written_corpus(
        [
            corpus_row(0, "Why is [0] here?"),
            corpus_row(1, "why does [1] look at [0]?", regions=[1, 0]),
            corpus_row(2, "[0] looks up. Why?", family="description"),
            corpus_row(
                3,
                "What is the dog on the sofa [0] doing?",
                rationale="The dog [0] sees [1].",
                image="n",
                family="description",
                regions=[0, 1],
                references=[dict(id=0, box=[0, 0, 100, 100], label="dog", score=None)],
            ),
        ]
    )
    made_of = reporting.composition(folder / "corpus.parquet")
    assert made_of["triples"] == 4 and made_of["images"] == 2
    assert [(t["value"], t["count"]) for t in made_of["question_types"]] == [
        ("why", 2),
        ("looks", 1),
        ("what", 1),
    ]
    assert ("why is", 1) in [(o["value"], o["count"]) for o in made_of["openings"]]
    assert [(r["value"], r["count"]) for r in made_of["regions_per_triple"]] == [(1, 2), (2, 2)]
    sizes = made_of["region_sizes"]  # 20 × 20 three times, all of 200 × 100 once, 100 × 100 once
    assert (sizes["mentioned"], sizes["small"], sizes["medium"], sizes["large"]) == (5, 3, 0, 2)
    assert {b["up_to"]: b["count"] for b in sizes["histogram"] if b["count"]} == {
        0.02: 3,
        0.5: 1,
        1.0: 1,
    }
    assert made_of["lengths"]["question"]["max"] == 9 and made_of["lengths"]["answer"]["mean"] == 2
    assert sum(h["count"] for h in made_of["lengths"]["rationale"]["histogram"]) == 4
    assert reporting.composition(folder / "triples.parquet")["region_sizes"] is None


@pytest.mark.parametrize(
    "text, described",
    [
        ("Why is [0] here?", 0),
        ("the dog looks at [0]", 0),
        ("the dog and [1]", 0),
        ("the reason for what [0] does", 0),
        ("[0] and [1] wait", 0),
        ("the dog [0]", 1),
        ("Is the woman with the red umbrella [2] late?", 1),
        ("a man's hat [0, 1] and his dog [2]", 2),
        ("the mat. [1] sits", 0),
        ("The dog on the mat [1] looks at the half-eaten cake [2] of [0]", 2),
    ],
)
def test_a_mention_is_described_or_alone(corpus_row, written_corpus, text, described):
    folder = written_corpus([corpus_row(0, text, answer="Yes.", rationale="So it is.")])
    (pointing,) = reporting.composition(folder / "corpus.parquet")["pointing"]
    assert pointing["described"] == described and pointing["mentions"] == text.count("[")


def test_sizes_that_a_release_does_not_tell_are_left_out(corpus_row, written_corpus):
    folder = written_corpus([corpus_row(0, "Why is [0] here?", width=None, height=None)])
    sizes = reporting.composition(folder / "corpus.parquet")["region_sizes"]
    assert sizes["small"] == 1 and sizes["share_known"] == 0 and sizes["median_share"] is None
    assert "sizes of the images are unknown" in report_text.composition_markdown(
        reporting.composition(folder / "corpus.parquet")
    )


def test_sizes_that_are_none_and_very_large_ones(corpus_row, written_corpus, tmp_path):
    nan, whole = float("nan"), dict(id=0, box=[0, 0, 60000, 60000], label="", score=None)
    folder = written_corpus(
        [
            corpus_row(0, "Why is [0] here?", width=0, height=0),
            corpus_row(1, "Why is [0] here?", width=60000, height=60000, references=[whole]),
            corpus_row(
                2,
                "Why is [0] here?",
                references=[dict(id=0, box=[nan, 0, 1, 1], label="", score=None)],
            ),
        ]
    )
    sizes = reporting.composition(folder / "corpus.parquet")["region_sizes"]
    assert (
        sizes["mentioned"],
        sizes["unmeasured"],
        sizes["share_known"],
        sizes["median_share"],
    ) == (2, 1, 1, 1.0)
    assert (sizes["small"], sizes["large"]) == (1, 1)
    text = reporting.write_report(reporting.report_run(folder), tmp_path / "out")[1].read_text()
    assert "1 more have boxes that are no numbers." in text


def test_missing_texts_are_no_wordings(benchmark_item, corpus_row, written_corpus, tmp_path):
    folder = written_corpus(
        [
            corpus_row(0, None, rationale=None),
            corpus_row(1, "Why?", answer=None, rationale=None),
            corpus_row(2, "why?", answer=None, rationale=None),
        ]
    )
    assert dedup.distinct_texts(folder / "corpus.parquet") == [
        ("to rest.", 1, "t0"),
        ("why?", 2, "t1"),
    ]
    report = reporting.report_run(
        folder, tmp_path, {"set": ([benchmark_item(0, "x.jpg")], tmp_path)}
    )
    assert (
        reporting.write_report(report, tmp_path / "out")[0].exists()
        and report["repeats"]["exact"]["distinct"] == 2
    )


def test_what_is_no_corpus_is_named(corpus_row, written_corpus, tmp_path):
    with pytest.raises(FileNotFoundError, match="corpus.parquet is not there"):
        reporting.report_run(tmp_path / "nowhere")
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="x.parquet is not a readable Parquet file"):
        reporting.composition(tmp_path / "x.parquet")
    folder = written_corpus([corpus_row(0, "Why?")])
    write_parquet([], folder / "triples.parquet", TRIPLES)
    with pytest.raises(ValueError, match="'t0', which .*triples.parquet lacks"):
        reporting.report_run(folder)


# -------------------------------------------------------------------------------- person attributes


def test_shares_before_and_after_the_filter(corpus_row, written_corpus):
    kept = [
        corpus_row(
            n, "Why is the woman [0] here?" if n % 4 == 0 else "Why is [0] here?", image=f"m{n}"
        )
        for n in range(40)
    ]
    raw = [corpus_row(n, "Who is the woman [0]?", image=f"m{n % 40}") for n in range(40, 80)]
    told = reporting.raw_and_kept(
        *(written_corpus(kept, raw) / f"{name}.parquet" for name in ("triples", "corpus"))
    )
    women = told["attributes"]["feminine"]
    assert (
        women["count"] == dict(raw=50, kept=10)
        and women["raw"]["mean"] == 50 / 80
        and women["kept"]["mean"] == 0.25
    )
    assert women["difference"]["mean"] == 0.25 - 50 / 80 and women["difference"]["high"] < 0
    assert women["kept"]["low"] < 0.25 < women["kept"]["high"] and women["kept"]["low"] > 0.05
    assert told["attributes"]["religion"]["difference"] == dict(mean=0.0, low=0.0, high=0.0)
    assert (
        told["question_types"]["why"]["kept"]["mean"] == 1
        and told["question_types"]["who"]["kept"]["mean"] == 0
    )
    again = reporting.raw_and_kept(
        *(written_corpus(kept, raw) / f"{name}.parquet" for name in ("triples", "corpus"))
    )
    assert told == again


# ---------------------------------------------------------------------------------------- the whole


def test_the_report_says_what_was_not_measured_and_shows_no_markup(
    corpus_row, written_corpus, tmp_path
):
    folder = written_corpus(
        [
            corpus_row(n, "Why is <b>[0]</b> ![x](http://x) a|b `here`?", image=f"m{n}")
            for n in range(3)
        ]
    )
    report = reporting.report_run(folder)
    paths = reporting.write_report(report, tmp_path / "out")
    assert json.loads(paths[0].read_text()) == json.loads(json.dumps(report))
    text = paths[1].read_text()
    assert (
        "Not measured: no benchmark was given." in text
        and "Not measured: no classifier was named." in text
    )
    line = next(line for line in text.splitlines() if "![x]" in line)
    assert line.count("|") == 3 and line.count("`") == 2 and "a¦b 'here'?" in line
    tables = report_text.report_tables(report)
    assert (
        tables["lengths"].query("text == 'answer'")["count"].sum() == 3
        and tables["contamination"].empty
    )
    assert set(tables) == {
        "question_types",
        "attributes",
        "regions_per_triple",
        "region_sizes",
        "lengths",
        "pointing",
        "contamination",
    }


def test_an_empty_corpus_has_a_report(benchmark_item, corpus_row, written_corpus, tmp_path):
    folder = written_corpus(
        [], [corpus_row(n, "Why is the woman [0] here?", image=f"m{n}") for n in range(3)]
    )
    report = reporting.report_run(
        folder, tmp_path, {"set": ([benchmark_item(0, "x.jpg")], tmp_path)}
    )
    assert (
        reporting.write_report(report, tmp_path / "out")[1]
        .read_text()
        .startswith("## What it is made of\n\n0 triples about 0 images.")
    )
    women = report["raw_and_kept"]["attributes"]["feminine"]
    assert (
        women["raw"]["mean"] == 1
        and women["kept"]["mean"] is None
        and report["repeats"]["exact"]["share"] == 0
    )
    assert report_text.report_tables(report)["contamination"].iloc[0]["same_text"] == 0
    nothing = reporting.report_run(written_corpus([]), toxicity_model="no/model is asked")
    assert nothing["toxicity"] == {}
    figure = report_figure.report_figure(report_text.report_tables(nothing))
    figure.canvas.draw()
    assert "Questions that begin with: none." in alt_of(figure)


def test_the_command_looks_for_the_sets_that_the_run_was_evaluated_on(
    lskd, root, finished_run, tmp_path
):
    from lskd_nb.mini.files.world_files import write_world

    write_world(tmp_path / "elsewhere", 6, 4, seed=0)
    told = json.loads((finished_run / "manifest.json").read_text())
    told["notebooks"]["06_evaluation"]["parameters"] = dict(
        vcr_folder=str(tmp_path / "elsewhere/vcr"), snli_ve_folder="", sherlock_images=""
    )
    (finished_run / "manifest.json").write_text(json.dumps(told))
    done = lskd(root, "report", "tiny", "--run", str(finished_run))
    assert done.returncode == 0 and "## Contamination of benchmarks" in done.stdout, done.stderr
    report = json.loads((finished_run / "report.json").read_text())
    assert (
        report["contamination"].keys() == {"vcr"}
        and report["contamination"]["vcr"]["items"] > 0
        and report["toxicity"] is None
    )
    assert (finished_run / "report.md").read_text().strip() in done.stdout
