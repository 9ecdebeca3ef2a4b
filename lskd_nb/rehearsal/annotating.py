"""Two stand-ins for the people who label: they do in Label Studio's files what people do there.

``lskd labels export`` has written tasks; each annotator says of a share of them accept or reject,
with both scores, and what comes out is a JSON export as Label Studio writes it, drafts and skipped
tasks among its annotations. They judge by the texts, at random where these don't tell: there is no
truth to know, so the labels mean nothing.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

ANNOTATORS = {1: "ada@example.org", 2: "ben@example.org"}
TIMES = "2026-11-{:02d}T10:{:02d}:{:02d}.123456Z"


def annotate_tasks(tasks: Path, export: Path, seed: int = 0) -> int:
    """Label the tasks of a file; returns how many annotations the export holds."""
    rng = np.random.default_rng([seed, 41])
    done = []
    for number, task in enumerate(json.loads(tasks.read_text(encoding="utf-8")), 1):
        annotations = [
            _annotation(100 * number + who, who, task["data"], rng)
            for who in ANNOTATORS
            if rng.random() < 0.75 or who == 1
        ]
        done.append(
            dict(
                id=number,
                annotations=annotations,
                file_upload="tasks.json",
                drafts=[],
                predictions=[],
                data=task["data"],
                meta={},
                created_at=TIMES.format(1, 0, 0),
                updated_at=TIMES.format(1, 0, 1),
                inner_id=number,
                total_annotations=len(annotations),
                cancelled_annotations=sum(a["was_cancelled"] for a in annotations),
                total_predictions=1,
                comment_count=0,
                unresolved_comment_count=0,
                last_comment_updated_at=None,
                project=3,
                updated_by=max(ANNOTATORS),
                comment_authors=[],
            )
        )
    export.write_text(json.dumps(done), encoding="utf-8")
    return sum(len(task["annotations"]) for task in done)


def _annotation(number: int, who: int, data: Mapping, rng: np.random.Generator) -> dict:
    skipped = rng.random() < 0.03
    long = len(str(data["rationale"])) > 45
    accept = bool(rng.random() < (0.75 if long else 0.35))
    scores = {
        name: round(float(rng.integers(1, 5)) / 4, 2) for name in ("qa_score", "rationale_score")
    }
    said = [_control("accept", "choices", dict(choices=["accept" if accept else "reject"]))]
    said += [_control(name, "number", dict(number=value)) for name, value in scores.items()]
    return dict(
        id=number,
        completed_by=dict(id=who, email=ANNOTATORS[who], first_name="", last_name=""),
        result=[] if skipped else said,
        was_cancelled=skipped,
        ground_truth=False,
        created_at=TIMES.format(who, number % 60, 7),
        updated_at=TIMES.format(who, number % 60, 9),
        draft_created_at=None,
        lead_time=round(float(rng.uniform(4, 40)), 3),
        prediction={},
        result_count=0,
        unique_id=f"{number:08x}-0000-4000-8000-{number:012x}",
        import_id=None,
        last_action=None,
        bulk_created=False,
        task=number // 100,
        project=3,
        updated_by=who,
        parent_prediction=None,
        parent_annotation=None,
        last_created_by=None,
    )


def _control(name: str, kind: str, value: Mapping) -> dict:
    return {
        "value": dict(value),
        "id": f"{name[:4]}{kind[:4]}",
        "from_name": name,
        "to_name": "image",
        "type": kind,
        "origin": "manual",
    }
