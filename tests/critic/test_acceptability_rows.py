"""Acceptability as prediction rows: what the intervals over images are made of."""

import pytest

from lskd_nb.critic.filtering import acceptability_rows
from lskd_nb.evaluation.choices import summary
from lskd_nb.records import PREDICTIONS, write_parquet

TRIPLES = [dict(triple_id=f"m{n}-id-0", image_id=f"m{n}", family="id") for n in range(4)]


def test_each_triple_is_right_where_it_is_acceptable(tmp_path):
    rows = acceptability_rows(TRIPLES, [True, False, True, True], "raw", seed=3)
    rows += acceptability_rows(TRIPLES[:1], [True], "kept", seed=3)
    table = write_parquet(rows, tmp_path / "acceptability.parquet", PREDICTIONS)
    assert table["correct"].to_pylist() == [1, 0, 1, 1, 1]
    assert set(table["slice"].to_pylist()) == {"id"} and set(table["seed"].to_pylist()) == {3}
    found = summary(table.to_pandas())["acceptability"]
    assert found["raw"]["mean"] == 0.75 and found["kept"]["mean"] == 1.0


def test_as_many_verdicts_as_triples():
    with pytest.raises(ValueError):
        acceptability_rows(TRIPLES, [True], "raw", seed=0)
