"""Stages 1 and 2 on real Visual Genome files, where a sample of them lies beside the project."""

import pytest

from lskd_nb.records import REGIONS, TRIPLES, VERBALIZATIONS, read_parquet
from lskd_nb.regions import mentions
from lskd_nb.run_folder import find_root

ROOT = find_root()
SAMPLE = ROOT.parent / "shared" / "samples" / "visual_genome"


@pytest.mark.endurance
@pytest.mark.skipif(not SAMPLE.exists(), reason="no sample of Visual Genome beside the project")
def test_two_photographs_become_valid_triples(lskd, tmp_path):
    done = lskd(
        ROOT,
        "run",
        "mini",
        "--only",
        "01",
        "--only",
        "02",
        "--out",
        str(tmp_path / "run"),
        "-p",
        f"01.sources={{visual_genome: {SAMPLE}}}",
        "-p",
        "01.human_texts=true",
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-1000:]
    images = {
        r["image_id"]: r
        for r in read_parquet(tmp_path / "run" / "regions.parquet", REGIONS).to_pylist()
    }
    assert set(images) == {"1", "2"}
    lines = read_parquet(tmp_path / "run" / "verbalizations.parquet", VERBALIZATIONS).to_pylist()
    assert {"human"} < {r["model"] for r in lines} and {r["kind"] for r in lines} == {
        "global",
        "local",
        "dynamic",
    }
    triples = read_parquet(tmp_path / "run" / "triples.parquet", TRIPLES).to_pylist()
    assert {t["image_id"] for t in triples} == {"1", "2"} and {t["family"] for t in triples} == {
        "id",
        "description",
    }
    for t in triples:
        known = {r["id"] for r in images[t["image_id"]]["regions"]}
        assert mentions(t["question"]) and set(t["regions"]) <= set(t["regions_offered"]) <= known
