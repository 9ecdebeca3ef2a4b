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
        " students={s: dict(study='sizes', triples=n + seed, share=1.0)"
        " for s, n in (('unfiltered', 5), ('lskd', 9))})\n_ = (home /"
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
        assert own["scaling"][1]["q_ar"]["mean"] == right and "sherlock" not in own
    assert [point["triples"] for point in first["scaling"]] == [5, 9]
    assert [point["triples"] for point in second["scaling"]] == [6, 10]

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


@pytest.mark.parametrize("world", [True, False])
def test_studies_that_the_own_run_leaves_out_are_made_with_every_seed(tiny, tmp_path, world):
    """And the truth where there is one. The own run stays as it is, and tells the seconds."""
    from lskd_nb.runner.replication import replicate

    tiny(
        "01_world",
        f'from pathlib import Path\n(Path(run_dir) / "world").mkdir(exist_ok=True)\nif {world}:\n'
        '    (Path(run_dir) / "world/truth.jsonl").touch()',
        writes=["world"],
    )
    tiny(
        "05_distill",
        "import json\nfrom pathlib import Path\nnames = {'sizes': 'lskd_50', 'truth': 'truth',"
        " 'thresholds': 'top_20'}\nstudents = {'lskd': dict(study='sizes', triples=8, share=1.0)}\n"
        "for s in studies:\n    students[names.get(s, s)] = dict(study=s, triples=4, share=0.5)\n"
        "_ = (Path(run_dir) / '05_distill.metrics.json').write_text(json.dumps(dict("
        "students=students, critic=dict(auc=0.5))))",
        parameters='run_dir: str = "."\nseed: int = 0\nstudies: list = ["lm"]\n'
        'plain_base: str = ""\nshares: list = [1.0]',
        writes=["05_distill.metrics.json"],
    )
    tiny(
        "06_evaluate",
        "import json\nfrom pathlib import Path\nfrom lskd_nb import records\nhome = Path(run_dir)\n"
        "told = json.loads((home / '05_distill.metrics.json').read_text())['students']",
        "rows = [dict(item_id=str(i), image_id=str(i // 2), task='vcr.q_ar', system=s, seed=seed,"
        " scores=[0, 1], label=1, correct=float(i % 2), slice=pooled)"
        " for i in range(8) for s in ('base', 'unfiltered', *told)]\n"
        "_ = records.write_parquet(rows, home / 'predictions/all.parquet', records.PREDICTIONS)",
        parameters='run_dir: str = "."\nseed: int = 0\npooled: str = "there"',
        reads=["05_distill.metrics.json"],
        writes=["predictions"],
    )
    pooled = json.loads(replicate("tiny", tmp_path, 2, say=lambda _: None).read_text())
    runs = tmp_path / "outputs" / "runs"
    made = {
        name: json.loads((runs / name / "metrics.json").read_text())["students"].keys()
        for name in ("tiny", "tiny-seed0", "tiny-seed1")
    }
    studied = {"lskd", "lm", "lskd_50", "top_20", *(["truth"] if world else [])}
    assert made == {"tiny": {"lskd", "lm"}, "tiny-seed0": studied, "tiny-seed1": studied}
    assert [p["triples"] for p in pooled["scaling"]] == [4, 8]
    assert pooled["thresholds"][0]["q_ar"]["n"] == 16 and "plain_base" not in pooled
    assert ("ceiling" in pooled) == world and pooled["seeds"] == [0, 1]
    assert set(pooled["seconds"]) == {"01_world", "05_distill", "06_evaluate"}
    manifest = json.loads((runs / "tiny-seed1" / "manifest.json").read_text())["notebooks"]
    assert manifest["06_evaluate"]["parameters"]["pooled"] == ""
    assert manifest["06_evaluate"]["parameters"]["seed"] == 1
