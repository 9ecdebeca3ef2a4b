"""The released row that tests read, and its conversion."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lskd_nb.corpus import released
from lskd_nb.records import CORPUS, REJECTS, read_parquet


@pytest.fixture(scope="session")
def released_row() -> dict:
    return {
        "image": "VG_100K/2348412.jpg",
        "source": "chatgpt_region_any_v4_people",
        "split": "train",
        "index": "chatgpt_region_any_v4_people-858297",
        "region": ["4"],
        "region_all": [0, "2", 4],
        "prediction": 0.940065,
        "references": [
            {
                "name": n,
                "boxes": [[1.5, 2.5, 30.0, 40.0, 0.9][: 4 + n % 2]],
                "segms": None,
                "obj_guess": "machine_gun",
                "tag": "region",
            }
            for n in (0, 2, 4)
        ],
        "question": ["What", "does", "the", "lion", "on", [4], "mean", "?"],
        "answer": ["Courage", "."],
        "rationale": [[4], "stands", "beside", [0, 2], "."],
    }


@pytest.fixture(scope="session")
def convert() -> Callable[..., tuple[tuple[int, int, int], list[dict], list[dict], list[dict]]]:
    def make(
        folder: Path, *rows: object
    ) -> tuple[tuple[int, int, int], list[dict], list[dict], list[dict]]:
        lines = [r if isinstance(r, str) else json.dumps(r) for r in rows]
        (folder / "c.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        counts = released.convert_released(folder / "c.jsonl", folder / "c.parquet")
        kept, apart = (
            read_parquet(folder / name, CORPUS).to_pylist()
            for name in ("c.parquet", "c.unboxed.parquet")
        )
        return counts, kept, apart, read_parquet(folder / "c.rejects.parquet", REJECTS).to_pylist()

    return make
