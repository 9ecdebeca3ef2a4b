"""The corpus on disk: our Parquet, the released JSONL, and what neither may hold."""


import pyarrow as pa
import pytest

from lskd_nb import corpus as lck
from lskd_nb.records import CORPUS, REGIONS, SCORES, TRIPLES, read_parquet, write_parquet


def triple(number: int, text: str = "What is [1] about to do?") -> dict:
    return dict(triple_id=f"t{number}", image_id="m", family="id", question=text, answer="Throw [0, 1] a ball.", rationale="[0]'s hands are empty.",
                regions=[1, 0], regions_offered=[0, 1], model="m", prompt="p", request="r")


def tables(number: int = 3) -> tuple[pa.Table, pa.Table, pa.Table]:
    regions = [dict(id=i, box=[i, 1, 20 + i, 30], label="person", score=None) for i in range(3)]
    image = dict(image_id="m", image="VG_100K/m.jpg", width=40, height=30, source="visual_genome", split="train", regions=regions)
    scores = [dict(triple_id=f"t{i}", score=i / 10, qa_score=0.5, rationale_score=0.5) for i in range(number)]
    return (pa.Table.from_pylist([triple(i) for i in range(number)], TRIPLES), pa.Table.from_pylist(scores, SCORES), pa.Table.from_pylist([image], REGIONS))


def test_build_joins_and_keeps_only_offered_regions():
    built = lck.build(*tables(), ["t2", "t0"])
    assert built.schema == CORPUS and built["triple_id"].to_pylist() == ["t0", "t2"]
    assert [r["id"] for r in built["references"].to_pylist()[0]] == [0, 1]
    with pytest.raises(ValueError, match="'t9' the first"):
        lck.build(*tables(), ["t9"])


def test_search_filters_sorts_and_pages(tmp_path):
    write_parquet(lck.build(*tables(5)), tmp_path / "c.parquet", CORPUS)
    total, page = lck.find(tmp_path / "c.parquet", low=0.15, limit=2)
    assert total == 3 and [r["triple_id"] for r in page] == ["t4", "t3"]
    assert lck.find(tmp_path / "c.parquet", low=0.15, limit=2, offset=2)[1][0]["triple_id"] == "t2"
    assert lck.find(tmp_path / "c.parquet", text="BALL")[0] == 5 and lck.find(tmp_path / "c.parquet", text="%")[0] == 0
    assert lck.find(tmp_path / "c.parquet", family="description")[0] == 0
    with pytest.raises(ValueError, match="no order"):
        lck.find(tmp_path / "c.parquet", order="score; DROP TABLE")


def test_truncated_parquet_and_misfits_are_named(tmp_path):
    path = tmp_path / "c.parquet"
    write_parquet(lck.build(*tables()), path, CORPUS)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match="c.parquet is not a readable Parquet file"):
        read_parquet(path, CORPUS)
    with pytest.raises(FileNotFoundError, match="run the notebook that writes it first"):
        read_parquet(tmp_path / "none.parquet", CORPUS)
    with pytest.raises(ValueError, match="row 1, field 'regions'"):
        write_parquet([triple(0), triple(1) | {"regions": ["x"]}], tmp_path / "t.parquet", TRIPLES)
    assert not (tmp_path / "t.parquet").exists()
