"""Small corpora to report on, items of a benchmark, and a staged run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lskd_nb.publishing import hub
from lskd_nb.records import CORPUS, TRIPLES, write_parquet
from lskd_nb.regions import LocatedImage
from lskd_nb.sources import MultipleChoice

NAMES = {"dataset": "me/data", "student": "me/student", "critic": "me/critic"}


@pytest.fixture
def staged(finished_run, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return hub.stage(finished_run, tmp_path / "staged", NAMES)


@pytest.fixture(scope="session")
def against() -> Callable[..., list[str]]:
    def make(staged, finished_run, **more) -> list[str]:
        return hub.findings(staged, {"the run's path": str(finished_run)}, **more)

    return make


@pytest.fixture(scope="session")
def corpus_row() -> Callable[..., dict]:
    def make(
        number: int,
        question: str,
        answer: str = "To rest.",
        rationale: str = "[0] is tired.",
        image: str = "m",
        family: str = "id",
        **more,
    ) -> dict:
        return (
            dict(
                triple_id=f"t{number}",
                image_id=image,
                family=family,
                question=question,
                answer=answer,
                rationale=rationale,
                regions=[0],
                regions_offered=[0, 1],
                model="w",
                prompt="p",
                request="r",
                score=0.5,
                image=f"VG_100K/{image}.jpg",
                width=200,
                height=100,
                source="visual_genome",
                split="train",
                references=[
                    dict(id=0, box=[0, 0, 20, 20], label="dog", score=None),
                    dict(id=1, box=[0, 0, 200, 100], label="sofa", score=None),
                ],
            )
            | more
        )

    return make


@pytest.fixture
def written_corpus(tmp_path):
    """Write rows as a run's corpus, and as its raw triples (those of ``raw`` too)."""

    def write(rows: list[dict], raw: list[dict] = ()) -> Path:
        write_parquet(rows, tmp_path / "corpus.parquet", CORPUS)
        write_parquet(
            [{k: r[k] for k in TRIPLES.names} for r in (*rows, *raw)],
            tmp_path / "triples.parquet",
            TRIPLES,
        )
        return tmp_path

    return write


@pytest.fixture(scope="session")
def benchmark_item() -> Callable[..., MultipleChoice]:
    def make(
        number: int,
        path: str,
        question: str = "Who is [0]?",
        choices: tuple = ("A cook.", "A singer."),
        label: int | None = 0,
    ) -> MultipleChoice:
        return MultipleChoice(
            f"i{number}",
            LocatedImage(path, path, 200, 100, (), "s", "val"),
            question,
            choices,
            label,
            "vcr.q_a",
            "who",
        )

    return make
