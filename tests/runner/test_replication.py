"""Several seeds, and their pooled figures."""

import json

import pytest


def test_replication_pools_seeds(tiny, tmp_path):
    from lskd_nb.runner.replication import replicate

    tiny(
        "02_world",
        'from pathlib import Path\n_ = (Path(run_dir) / "a.txt").write_text("x")',
        writes=["a.txt"],
    )
    tiny(
        "06_evaluate",
        "import json\nfrom pathlib import Path\nimport pyarrow as pa\nfrom lskd_nb import records",
        "home = Path(run_dir)\nrows = [dict(item_id=str(i), image_id=str(i // 2), task=task,"
        " system=s, seed=seed, scores=[0, 1], label=1,\n             correct=float(s == 'lskd' and"
        " seed > 0), slice=(home / 'a.txt').read_text()) for i in range(8) for s in ('base',"
        " 'unfiltered', 'lskd') for task in ('vcr.q_ar', 'grounding', 'sherlock.comparison')]\n"
        "records.write_parquet(rows, home / 'predictions' / 'all.parquet', records.PREDICTIONS)\n"
        "told = dict(critic=dict(auc=0.8 + seed / 10),"
        " scaling=[dict(triples=9 + seed, system='lskd', q_ar={})])\n_ = (home /"
        " '06_evaluate.metrics.json').write_text(json.dumps(told))",
        reads=["a.txt"],
        writes=["predictions"],
    )
    said: list[str] = []
    out = replicate("tiny", tmp_path, 2, say=said.append)
    pooled = json.loads(out.read_text())
    assert out == tmp_path / "outputs" / "tiny" / "metrics.json"
    assert (
        pooled["vcr"]["lskd"]["q_ar"]["mean"] == 0.5
        and pooled["difference"]["vcr"]["q_ar"]["lskd_minus_base"]["n"] == 16
    )
    assert pooled["critic"]["auc"] == pytest.approx(0.85) and pooled["seeds"] == [0, 1]
    assert (tmp_path / "outputs/runs/tiny-seed1/a.txt").is_symlink()

    first, second = pooled["by_seed"]
    assert (first["seed"], second["seed"]) == (0, 1)
    assert second["critic"]["auc"] == pytest.approx(0.9)
    for own, right in ((first, 0.0), (second, 1.0)):
        for other in ("base", "unfiltered"):
            lead = own["difference"]["vcr"]["q_ar"][f"lskd_minus_{other}"]
            assert lead == dict(mean=right, low=right, high=right, n=8, clusters=4)
        assert own["vcr"]["lskd"]["q_ar"]["mean"] == own["grounding"]["lskd"]["mean"] == right
        assert own["scaling"][0]["q_ar"]["mean"] == right and "sherlock" not in own
    assert (first["scaling"][0]["triples"], second["scaling"][0]["triples"]) == (9, 10)

    told = json.loads((tmp_path / "outputs/runs/tiny/manifest.json").read_text())
    entries = told["notebooks"]
    assert pooled["seconds"] == {name: entry["seconds"] for name, entry in entries.items()}
    assert pooled["cpu_seconds"].pop("runner") > 0 and pooled["cpu_seconds"] == {
        name: entry["cpu_seconds"] for name, entry in entries.items()
    }
    assert pooled["cpu"] == told["cpu"] and pooled["cpu"]["cores"] == told["cpus"]

    again: list[str] = []
    replicate("tiny", tmp_path, 2, say=again.append)
    assert sum("nothing it reads has changed" in line for line in again) == 3
