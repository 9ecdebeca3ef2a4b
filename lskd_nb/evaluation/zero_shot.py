"""The six zero-shot benchmarks together: read, put to each system, turned into official metrics.

    folders    --read_benchmarks-->   Benchmarks, the sets' own records
    Benchmarks --benchmark_items-->   {task: items}, what a system is asked
    items      --predict-->           {task: predictions}, of one system
    both       --official_metrics-->  {task: rows}, what each item adds to the figure

Tasks are those of ``benchmark_items``; VCR has two, and two more that are made of these: Q→AR and
grounding.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from lskd_nb.evaluation import metrics
from lskd_nb.evaluation.baselines import score_items
from lskd_nb.evaluation.choices import Item, entailment_by_thresholds, grounding, predictions
from lskd_nb.evaluation.items import hypothesis_items, student_items
from lskd_nb.shards import LOCAL, Engine
from lskd_nb.sources import MultipleChoice, Rejected, aokvqa, sherlock, snli_ve, vcr
from lskd_nb.sources import visual7w as v7w
from lskd_nb.sources import visualcomet as comet
from lskd_nb.students.blip2 import Student
from lskd_nb.students.views import FrozenFeatures

SETS = ("vcr", "sherlock", "visualcomet", "aokvqa", "snli_ve", "visual7w")


# ------------------------------------------------------------------------------------------ reading


@dataclass(frozen=True)
class BenchmarkFolders:
    """Where each set's files are, and its images."""

    files: dict[str, Path]
    images: dict[str, Path]


def benchmark_folders(
    root: str | Path, world: str | Path, given: Mapping[str, str], sherlock_images: str = ""
) -> BenchmarkFolders:
    """The folders that are ``given`` by set, below ``root`` or absolute.

    Where one is empty, it is the set's folder in the mini world at ``world``. Sherlock's images are
    VCR's and Visual Genome's: in ``sherlock_images``, or in VCR's folder where that is empty.
    VisualCOMET's are VCR's.
    """
    root = Path(root)
    files = {name: root / home if home else Path(world) / name for name, home in given.items()}
    stills = files["vcr"]
    images = files | dict(
        sherlock=root / sherlock_images if sherlock_images else stills, visualcomet=stills
    )
    return BenchmarkFolders(files, images)


@dataclass(frozen=True)
class Benchmarks:
    """The sets' own records: all that their official metrics need to know."""

    vcr: list[vcr.VcrQuestion]
    sherlock: list[sherlock.Comparison]
    visualcomet: list[comet.Ranking]
    aokvqa: list[aokvqa.AokvqaQuestion]
    visual7w: list[MultipleChoice]
    snli_ve: list[MultipleChoice]
    snli_ve_fitted: int  # so many of them, the first, are for fitting thresholds
    rejected: dict[str, list[Rejected]]  # what was left out of each set


def read_benchmarks(
    folders: BenchmarkFolders,
    record: str | Path,
    candidates: str | Path | None = None,
    ranked_units: int | None = None,
    limit: int | None = None,
) -> Benchmarks:
    """All six sets' validation splits, ``limit`` items of each; of SNLI-VE also the training split.

    VisualCOMET's ``candidates`` are those of a file, or drawn anew and written to ``record``;
    ``ranked_units`` of its units are drawn (None: all). Raises as the readers do.
    """
    questions, bad_vcr = vcr.read_vcr(folders.files["vcr"], "val", limit)
    fitted, bad_train = snli_ve.read_snli_ve(folders.files["snli_ve"], "train", limit=limit)
    applied, bad_dev = snli_ve.read_snli_ve(folders.files["snli_ve"], "dev", limit=limit)
    told, bad_told = v7w.read_visual7w(folders.files["visual7w"], "val", limit=limit)
    knowledge, bad_knowledge = aokvqa.read_aokvqa(folders.files["aokvqa"], "val", limit=limit)
    compared, bad_compared, _ = sherlock.read_comparison(
        folders.files["sherlock"], "val", folders.images["sherlock"]
    )
    home = folders.files["visualcomet"]
    units, bad_units, _ = comet.read_visualcomet(
        home, "val", folders.images["visualcomet"], limit=limit
    )
    if candidates is None:
        comet.write_candidates(comet.draw_candidates(home), record)
    some = [units[i] for i in np.random.default_rng(0).permutation(len(units))[:ranked_units]]
    drawn = comet.read_candidates(candidates or record, home)
    return Benchmarks(
        vcr=questions,
        sherlock=compared,
        visualcomet=comet.rankings(some, drawn, comet.flat_inferences(home)),
        aokvqa=knowledge,
        visual7w=told,
        snli_ve=fitted + applied,
        snli_ve_fitted=len(fitted),
        rejected=dict(
            vcr=bad_vcr,
            sherlock=bad_compared,
            visualcomet=bad_units,
            aokvqa=bad_knowledge,
            snli_ve=bad_train + bad_dev,
            visual7w=bad_told,
        ),
    )


def benchmark_items(sets: Benchmarks) -> dict[str, list[Item]]:
    """What a system is asked, by task: VCR's two, then a task for each of the other sets."""
    return {
        "vcr.q_a": student_items(map(vcr.q_a, sets.vcr)),
        "vcr.qa_r": student_items(map(vcr.qa_r, sets.vcr)),
        "sherlock": student_items(c.item for c in sets.sherlock),
        "visualcomet": student_items(r.item for r in sets.visualcomet),
        "aokvqa": student_items(q.item for q in sets.aokvqa),
        "visual7w": student_items(sets.visual7w),
        "snli_ve": hypothesis_items(sets.snli_ve),
    }


def set_of(task: str) -> str:
    """The set that a task belongs to: "vcr" for "vcr.q_a"."""
    return task.split(".")[0]


# ------------------------------------------------------------------------------------------ scoring


@dataclass(frozen=True)
class Scoring:
    """How systems are asked, the same for all.

    ``prefix`` goes before each question, ``seed`` is on record, ``engine`` does the work. In the
    run's ``folder`` lie features of views (``views/SET``) and the shards of Ray's workers
    (``scored``).
    """

    folder: Path
    prefix: str = ""
    seed: int = 0
    engine: Engine = LOCAL
    batch: int = 96


def store_features(
    student: Student,
    items: Mapping[str, Iterable[Item]],
    images: Mapping[str, Path],
    views: str | Path,
) -> None:
    """Compute features of all views once, by the vision encoder that the students share.

    They lie in ``views``, a folder for each set.
    """
    for task, of_task in items.items():
        name = set_of(task)
        frozen = FrozenFeatures(student, images[name], Path(views) / name)
        frozen.prepare(item.view for item in of_task)


def predict(
    system: str,
    weights: str,
    items: Mapping[str, list[Item]],
    images: Mapping[str, Path],
    scoring: Scoring,
    loading: Mapping[str, object] | None = None,
) -> dict[str, pa.Table]:
    """PREDICTIONS of one system by task: every item's choices scored, the best one taken.

    ``weights`` are a hub name, a folder or a checkpoint; ``loading`` is said to ``load_student``.
    """
    found = {}
    for task, of_task in items.items():
        name = set_of(task)
        scored = score_items(
            weights,
            of_task,
            images[name],
            scoring.prefix,
            batch=scoring.batch,
            view_store=scoring.folder / "views" / name,
            loading=loading,
            engine=scoring.engine,
            parts=scoring.folder / "scored",
        )
        found[task] = predictions(of_task, scored.scores, system, scoring.seed)
    return found


# ------------------------------------------------------------------------------------------ metrics


def official_metrics(
    sets: Benchmarks, predicted: Mapping[str, pa.Table]
) -> dict[str, pd.DataFrame]:
    """Rows by task, whose ``correct`` is what an item adds to its set's official metric.

    ``predicted`` has VCR's two tasks, and the others or not.
    """
    rows = metrics.vcr(predicted["vcr.q_a"], predicted["vcr.qa_r"])
    swaps = {q.annot_id: q.swap for q in sets.vcr if q.swap is not None}
    rows["grounding"] = grounding(rows["vcr.q_a"], swaps)
    official = {
        "snli_ve": lambda found: entailment_by_thresholds(found, sets.snli_ve_fitted),
        "visual7w": lambda found: metrics.visual7w(
            sets.visual7w, metrics.chosen_texts(sets.visual7w, found), *_system_and_seed(found)
        ),
        "sherlock": lambda found: metrics.sherlock_comparison(sets.sherlock, found),
        "visualcomet": lambda found: metrics.visualcomet_acc_at_50(sets.visualcomet, found),
        "aokvqa": lambda found: metrics.aokvqa_multiple_choice(
            sets.aokvqa,
            metrics.chosen_texts([q.item for q in sets.aokvqa], found),
            *_system_and_seed(found),
        ),
    }
    return rows | {task: of(predicted[task]) for task, of in official.items() if task in predicted}


def _system_and_seed(found: pa.Table) -> tuple[str, int]:
    return found["system"][0].as_py(), found["seed"][0].as_py()
