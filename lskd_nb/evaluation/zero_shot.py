"""The six zero-shot benchmarks together: read, put to each system, turned into official metrics.

    folders    --read_benchmarks-->   Benchmarks, the sets' own records
    Benchmarks --benchmark_items-->   {task: items}, what a system is asked
    items      --predict-->           Predicted: {task: predictions}, of one system
    both       --official_metrics-->  {task: rows}, what each item adds to the figure

Tasks are those of ``benchmark_items``; VCR has two, and more that are made of these: Q→AR and,
where the files say which wrong answer is true of another region, grounding; where they say which is
the teacher's typical one, typical. SNLI-VE has two as well: ``snli_ve`` is zero-shot,
``snli_ve_fitted`` is not. A set that has no folder, or nothing that
can be read, is left out; ``coverage`` says so.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from lskd_nb.evaluation import metrics
from lskd_nb.evaluation.baselines import score_tasks
from lskd_nb.evaluation.choices import (
    Item,
    entailment_by_thresholds,
    grounding,
    predictions,
    typical,
)
from lskd_nb.evaluation.items import hypothesis_items, student_items
from lskd_nb.regions import mentions
from lskd_nb.shards import LOCAL, Engine
from lskd_nb.sources import (
    MultipleChoice,
    Rejected,
    aokvqa,
    count_reasons,
    reject_rows,
    sherlock,
    snli_ve,
    vcr,
)
from lskd_nb.sources import visual7w as v7w
from lskd_nb.sources import visualcomet as comet
from lskd_nb.students.blip2 import Student
from lskd_nb.students.views import FrozenFeatures

SETS = ("vcr", "sherlock", "visualcomet", "aokvqa", "snli_ve", "visual7w")
FITTED = 10_000  # rows of SNLI-VE's training file: two thresholds need no more


# ------------------------------------------------------------------------------------------ reading


@dataclass(frozen=True)
class BenchmarkFolders:
    """Where each set's files are, and its images. A set that is not here is not evaluated."""

    files: dict[str, Path]
    images: dict[str, Path]


def benchmark_folders(
    root: str | Path, world: str | Path, given: Mapping[str, str], sherlock_images: str = ""
) -> BenchmarkFolders:
    """The folders that are ``given`` by set, below ``root`` or absolute.

    Where one is empty, it is the set's folder in the run's own mini world, if there is one at
    ``world``; in any other run the set is left out. Sherlock's images are VCR's and Visual
    Genome's: in ``sherlock_images``, or in VCR's folder where that is empty. VisualCOMET's are
    VCR's. Raises ``ValueError`` where these two are given and their images are nowhere.
    """
    root, mini = Path(root), Path(world).is_dir()
    files = {
        name: root / home if home else Path(world) / name
        for name, home in given.items()
        if home or mini
    }
    images = dict(files)
    for name in {"sherlock", "visualcomet"} & files.keys():
        if name == "sherlock" and sherlock_images:
            images[name] = root / sherlock_images
        elif "vcr" in files:
            images[name] = files["vcr"]
        else:
            also = " or sherlock_images" if name == "sherlock" else ""
            raise ValueError(f"{name}_folder is given, its stills are VCR's: give vcr_folder{also}")
    return BenchmarkFolders(files, images)


@dataclass(frozen=True)
class Benchmarks:
    """The sets' own records: all that their official metrics need to know. Any may be empty."""

    vcr: Sequence[vcr.VcrQuestion]
    sherlock: Sequence[sherlock.Comparison]
    visualcomet: Sequence[comet.Ranking]
    aokvqa: Sequence[aokvqa.AokvqaQuestion]
    snli_ve: Sequence[MultipleChoice]
    visual7w: Sequence[MultipleChoice]
    snli_ve_train: Sequence[MultipleChoice]  # for fitting thresholds
    rejected: dict[str, list[Rejected]]  # what was left out of each set that was read


def read_benchmarks(
    folders: BenchmarkFolders,
    record: str | Path,
    candidates: str | Path | None = None,
    ranked_units: int | None = None,
    limit: int | None = None,
) -> Benchmarks:
    """The validation splits of the sets that have a folder, ``limit`` items of each; of SNLI-VE
    also the training split, where it is there.

    VisualCOMET's ``candidates`` are those of a file, or drawn anew and written to ``record``;
    ``ranked_units`` of its units are drawn (None: all). An item without a label, or whose id was
    there before, is rejected. Raises ``FileNotFoundError`` for ``candidates`` that are not there,
    ``ValueError`` where no set has an item, and as the readers do.
    """
    if candidates is not None and not Path(candidates).is_file():
        raise FileNotFoundError(
            f"candidates: {candidates} is not there. Leave the parameter empty to have them drawn"
            " and recorded, or name a file that a run has recorded or VisualCOMET's authors' own"
        )
    readers: dict[str, Callable] = {
        "vcr": lambda home, _: vcr.read_vcr(home, "val", limit),
        "sherlock": lambda home, pictures: sherlock.read_comparison(home, "val", pictures),
        "visualcomet": lambda home, pictures: comet.read_visualcomet(
            home, "val", pictures, limit=limit
        ),
        "aokvqa": lambda home, _: aokvqa.read_aokvqa(home, "val", limit=limit),
        "snli_ve": lambda home, _: snli_ve.read_snli_ve(home, "dev", limit=limit),
        "visual7w": lambda home, _: v7w.read_visual7w(home, "val", limit=limit),
    }
    found: dict[str, list] = {name: [] for name in (*SETS, "snli_ve_train")}
    rejected: dict[str, list[Rejected]] = {}
    for name, home in folders.files.items():
        read, bad = readers[name](home, folders.images[name])[:2]
        if name == "visualcomet":
            read = _ranked(read, home, record, candidates, ranked_units)
        found[name], more = _usable(read[:limit])
        rejected[name] = [*bad, *more]
    training = folders.files.get("snli_ve", Path()) / "snli_ve_train.jsonl"
    if "snli_ve" in folders.files and training.exists():
        most = min(limit or FITTED, FITTED)
        found["snli_ve_train"], bad = snli_ve.read_snli_ve(training.parent, "train", limit=most)
        rejected["snli_ve_train"] = bad
    sets = Benchmarks(**found, rejected=rejected)
    if not any(found[name] for name in SETS):
        told = "; ".join(f"{name}: {_why(sets, name)}" for name in SETS)
        raise ValueError(f"no benchmark has an item to evaluate on. {told}")
    return sets


def _ranked(
    units: Sequence[comet.Unit],
    home: Path,
    record: str | Path,
    candidates: str | Path | None,
    number: int | None,
) -> list[comet.Ranking]:
    if candidates is None:
        comet.write_candidates(comet.draw_candidates(home), record)
    drawn = comet.read_candidates(candidates or record, home)
    some = [units[i] for i in np.random.default_rng(0).permutation(len(units))[:number]]
    return comet.rankings(some, drawn, comet.flat_inferences(home))


def _usable(records: Iterable) -> tuple[list, list[Rejected]]:
    """Records that a figure can be made of, and the others: an id that was there before, or no
    label (a test split in the place of the validation split). Else it would be found after hours.
    """
    found: dict[str, object] = {}
    rejected = []
    for record in records:
        name, labelled = _name_and_label(record)
        if name in found:
            rejected.append(Rejected(name, "repeated id", "an item before it has the same id"))
        elif not labelled:
            rejected.append(Rejected(name, "no label", "nothing says what is right"))
        else:
            found[name] = record
    return list(found.values()), rejected


def _name_and_label(record: object) -> tuple[str, bool]:
    if isinstance(record, vcr.VcrQuestion):
        return record.annot_id, None not in (record.answer_label, record.rationale_label)
    if isinstance(record, sherlock.Comparison):
        return record.item.item_id, bool(record.annot1 and record.annot2)
    if isinstance(record, comet.Ranking):
        return record.item.item_id, any(record.gold)
    item = getattr(record, "item", record)
    return item.item_id, item.label is not None


def coverage(sets: Benchmarks) -> dict[str, dict]:
    """How much of each set a figure rests on: ``items``, how many records (or boxes of them) were
    ``left_out``, and ``why``, in words. Of VisualCOMET some ``items`` may be drawn.
    """
    return {
        name: dict(
            items=len(getattr(sets, name)),
            left_out=len(sets.rejected.get(name, ())),
            why=_why(sets, name),
        )
        for name in (*SETS, "snli_ve_train")
    }


def _why(sets: Benchmarks, name: str) -> str:
    if name not in sets.rejected:
        if name == "snli_ve_train":
            return "snli_ve_train.jsonl is not there: no thresholds are fitted"
        return f"{name}_folder is empty: not evaluated"
    bad = sets.rejected[name]
    told = ", ".join(f"{reason}: {n:,}" for reason, n in count_reasons(bad).items())
    if not getattr(sets, name):
        first = f" (the first: {bad[0].detail})" if bad else ""
        return f"NOTHING LEFT, not evaluated. {told or 'the file has no rows'}{first}"
    return told


def rejects_of(sets: Benchmarks) -> list[dict]:
    """What was left out, as rows of records.REJECTS, the stage being "evaluation.SET"."""
    return [
        row for name, bad in sets.rejected.items() for row in reject_rows(bad, f"evaluation.{name}")
    ]


def question_to_show(questions: Sequence[vcr.VcrQuestion]) -> vcr.VcrQuestion | None:
    """A question that says which answer is true of another region; where the files say that of
    none (the published ones don't), the first that mentions a region; None where there is none.
    """
    swapped = (q for q in questions if q.swap is not None)
    pointing = (q for q in questions if mentions(q.question))
    return next(swapped, next(pointing, next(iter(questions), None)))


def benchmark_items(sets: Benchmarks) -> dict[str, list[Item]]:
    """What a system is asked, by task; of tasks that have items."""
    fitted = [*sets.snli_ve_train, *sets.snli_ve] if sets.snli_ve_train and sets.snli_ve else []
    found = {
        "vcr.q_a": student_items(map(vcr.q_a, sets.vcr)),
        "vcr.qa_r": student_items(map(vcr.qa_r, sets.vcr)),
        "sherlock": student_items(c.item for c in sets.sherlock),
        "visualcomet": student_items(r.item for r in sets.visualcomet),
        "aokvqa": student_items(q.item for q in sets.aokvqa),
        "visual7w": student_items(sets.visual7w),
        "snli_ve": student_items(sets.snli_ve),
        "snli_ve_fitted": hypothesis_items(fitted),
    }
    return {task: of_task for task, of_task in found.items() if of_task}


def set_of(task: str) -> str:
    """The set that a task belongs to: "vcr" for "vcr.q_a", "snli_ve" for "snli_ve_fitted"."""
    return task.split(".")[0].removesuffix("_fitted")


# ------------------------------------------------------------------------------------------ scoring


@dataclass(frozen=True)
class Scoring:
    """How systems are asked, the same for all.

    ``prefix`` goes before each question, as in training; ``seed`` is on record, ``engine`` does the
    work. In the run's ``folder`` lie features of views, where they are kept (``views/SET``), and
    the parts of other processes (``scored``).
    """

    folder: Path
    prefix: str = ""
    seed: int = 0
    engine: Engine = LOCAL
    batch: int = 96
    stored_views: bool = True  # look for features in ``views``; without, nothing is looked up


@dataclass(frozen=True)
class Predicted:
    """PREDICTIONS of one system by task, the side of the square it saw in pixels, and how many of
    its ``texts`` were ``cut``: longer than it reads.
    """

    tables: dict[str, pa.Table]
    pixels: int
    texts: int
    cut: int


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
) -> Predicted:
    """One system on all tasks: every item's choices scored, the best one taken.

    ``weights`` are a hub name, a folder or a checkpoint, loaded once; ``loading`` is said to
    ``load_student``. Raises ``ValueError`` naming the system and an item whose scores are no finite
    numbers.
    """
    stores = {task: scoring.folder / "views" / set_of(task) for task in items}
    scored = score_tasks(
        weights,
        items,
        {task: images[set_of(task)] for task in items},
        scoring.prefix,
        batch=scoring.batch,
        view_stores=stores if scoring.stored_views else None,
        loading=loading,
        engine=scoring.engine,
        parts=scoring.folder / "scored",
    )
    tables = {
        task: predictions(of_task, scored[task].scores, system, scoring.seed)
        for task, of_task in items.items()
    }
    texts, cut = (sum(getattr(s, name) for s in scored.values()) for name in ("texts", "cut"))
    return Predicted(tables, max((s.pixels for s in scored.values()), default=0), texts, cut)


# ------------------------------------------------------------------------------------------ metrics


def official_metrics(
    sets: Benchmarks, predicted: Mapping[str, pa.Table]
) -> dict[str, pd.DataFrame]:
    """Rows by task, whose ``correct`` is what an item adds to its set's official metric.

    ``predicted`` has VCR's two tasks or neither, and the others or not. Grounding is there where
    the files say which wrong answer is true of another region, typical where they say which the
    teacher would give.
    """
    rows: dict[str, pd.DataFrame] = {}
    if "vcr.q_a" in predicted:
        rows |= metrics.vcr(predicted["vcr.q_a"], predicted["vcr.qa_r"])
        if swaps := {q.annot_id: q.swap for q in sets.vcr if q.swap is not None}:
            rows["grounding"] = grounding(rows["vcr.q_a"], swaps)
        if usual := {q.annot_id: q.typical for q in sets.vcr if q.typical is not None}:
            rows["typical"] = typical(rows["vcr.q_a"], usual)
    official = {
        "snli_ve": lambda found: metrics.snli_ve(
            sets.snli_ve, metrics.chosen_texts(sets.snli_ve, found), *_system_and_seed(found)
        ),
        "snli_ve_fitted": lambda found: entailment_by_thresholds(found, len(sets.snli_ve_train)),
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
