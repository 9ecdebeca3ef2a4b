"""The table of results after a run, and notebooks promoted for readers."""

import json

import nbformat


def test_the_result_table_and_renderings(tiny, tmp_path, lskd):
    figure = dict(mean=0.5, low=0.4, high=0.625)
    metrics = {
        "vcr": {"base": {"q_a": figure}},
        "critic": {"auc": 0.91},
        "scaling": [{"triples": 300, "q_ar": figure}],
        "benchmarks": {
            "vcr": {"items": 9, "left_out": 0, "why": ""},
            "snli_ve": {"items": 6, "left_out": 12, "why": "missing image: 12"},
        },
    }
    tiny(
        "01_measure",
        "from pathlib import Path\n_ = (Path(run_dir) /"
        f" '01_measure.metrics.json').write_text('''{json.dumps(metrics)}''')",
        "print(run_dir)",
    )
    pooled = tmp_path / "outputs" / "tiny" / "metrics.json"
    pooled.parent.mkdir(parents=True)
    truth = tmp_path / "outputs" / "runs" / "tiny" / "world" / "truth.jsonl"
    truth.parent.mkdir(parents=True)
    truth.touch()  # only a run on the mini world has its figures beside the pooled ones
    pooled.write_text(json.dumps({"critic": {"auc": 0.88}, "seeds": [0, 1, 2]}))
    done = lskd(tmp_path, "run", "tiny")
    assert done.returncode == 0, done.stderr
    lines = {line[:28].strip(): line[28:].split() for line in done.stdout.splitlines()}
    auc = next(line for line in done.stdout.splitlines() if "AUC, against noisy" in line)
    assert lines["VCR Q→A, base"] == ["50.0", "[40.0,", "62.5]", "–"]
    assert lines["pointing right, LSKD"] == lines["SNLI-VE fitted, base"] == ["–", "–"]
    assert "\nsnli_ve: 6 items, 12 records left out (missing image: 12)\n" in done.stdout
    assert "vcr: 9 items" not in done.stdout
    assert auc.split()[-2:] == ["0.910", "0.880"]
    assert lines["VCR Q→AR, 300 triples"] == ["50.0", "[40.0,", "62.5]", "–"]
    assert (
        "pooled, 3 seeds" in done.stdout
        and str(tmp_path / "outputs/runs/tiny/notebooks") in done.stdout
    )

    assert lskd(tmp_path, "renderings", "tiny").returncode == 0
    book = nbformat.read(pooled.parent / "01_measure.ipynb", as_version=4)
    assert (
        book.cells[-1].outputs[0].text.strip() == "outputs/runs/tiny"
        and "papermill" not in book.metadata
    )
    assert str(tmp_path) not in (pooled.parent / "01_measure.ipynb").read_text()
    assert json.loads(pooled.read_text())["critic"]["auc"] == 0.88, "pooled figures are kept"

    tiny("01_measure", "print(run_dir)")
    moved = lskd(tmp_path, "renderings", "tiny")
    assert moved.returncode == 1 and "01_measure changed since" in moved.stderr
