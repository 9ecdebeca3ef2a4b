"""A triple, its labels, and what Label Studio exports of them."""

import json
from collections.abc import Callable

import pytest

from lskd_nb.critic import label_studio as ls
from lskd_nb.critic import label_studio_import as lsi
from lskd_nb.regions import LocatedImage, Region


@pytest.fixture(scope="session")
def triple() -> dict:
    return dict(
        triple_id="m0-0",
        image_id="m0",
        question="Why is [0] here?",
        answer="To rest.",
        rationale="[1] is near.",
        regions_offered=[0, 1],
    )


@pytest.fixture(scope="session")
def label() -> Callable[..., dict]:
    def make(
        triple: str = "m0-0",
        annotator: str = "ada@example.org",
        accept: bool = True,
        qa: float = 0.75,
        rationale: float = 0.25,
    ) -> dict:
        return dict(
            triple_id=triple,
            annotator=annotator,
            accept=accept,
            qa_score=qa,
            rationale_score=rationale,
        )

    return make


@pytest.fixture(scope="session")
def exported(triple) -> Callable[..., list[dict]]:
    """Tasks as Label Studio exports them once they are annotated: with ids, times, and the
    rectangles among what the annotator said.
    """

    def make(labels: list[dict], **more) -> list[dict]:
        tasks = []
        for number, one in enumerate(labels):
            image = LocatedImage(
                one["triple_id"].split("-")[0],
                "m 0.png",
                40,
                30,
                (Region(0, (2, 2, 20, 28)), Region(1, (22, 3, 38, 25))),
                "s",
                "train",
            )
            made = ls.task(triple | dict(triple_id=one["triple_id"]), image, labels=[one])
            annotation = made["annotations"][0]
            annotation |= dict(
                id=100 + number,
                created_at="2026-01-01T10:00:00Z",
                updated_at=f"2026-01-01T10:{number:02d}:00Z",
                lead_time=4.2,
                ground_truth=False,
            )
            annotation["result"] = [*made["predictions"][0]["result"], *annotation["result"]]
            tasks.append(made | dict(id=number + 1, project=1, total_annotations=1) | more)
        return tasks

    return make


@pytest.fixture(scope="session")
def read_export() -> Callable[..., tuple[list[dict], list[dict]]]:
    """Write tasks as an export, and read it: labels, rejects."""

    def make(tmp_path, tasks, ids=("m0-0", "m0-1", "m1-0"), **more):
        (tmp_path / "export.json").write_text(json.dumps(tasks), encoding="utf-8")
        return lsi.read_export(tmp_path / "export.json", ids, **more)

    return make
