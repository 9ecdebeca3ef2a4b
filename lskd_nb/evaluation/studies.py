"""What students of other corpora are trained for: figures that compare them, of one run or several.

``corpus.comparisons`` draws the corpora, notebook 5 trains, notebook 6 asks each student VCR's
questions. All differences are paired: two students answered the same questions, in each seed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from lskd_nb.corpus.comparisons import LSKD, of_study
from lskd_nb.evaluation.choices import accuracy, paired_difference

PARTS = ("q_a", "qa_r", "q_ar")
PLAIN, PLAIN_LSKD = "plain", "plain_lskd"  # another base, and the student that began with it
# what a figure is filed under -> the study of notebook 5 that it is of
STUDY_OF = {
    "scaling": "sizes",
    "thresholds": "thresholds",
    "ceiling": "truth",
    "plain_base": "plain_base",
}


def figures(rows: pd.DataFrame, students: Mapping[str, Mapping]) -> dict:
    """The figures of the studies that ``students`` are of, from prediction rows of any seeds.

    ``students`` are told as ``StudyCorpus.told`` has them. What was not studied is not there:

    - ``scaling``: triples, system and Q→AR for each size, rising;
    - ``thresholds``: share, triples, system and Q→AR, rising; with the ``gain`` over the student of
      the largest share, which is as large;
    - ``ceiling``: Q→AR of unfiltered, LSKD and ``truth``, and truth's differences to both;
    - ``plain_base``: VCR and grounding of two bases and of their LSKD students, and what each
      student has more than its base.
    """
    by = {key: of for key, of in rows.groupby(["task", "system"])}
    q_ar = {system: of for (task, system), of in by.items() if task == "vcr.q_ar"}
    found: dict = {}
    sizes = _evaluated(students, "sizes", q_ar)
    if len(sizes) > 1:
        found["scaling"] = [
            dict(triples=students[s]["triples"], system=s, q_ar=accuracy(q_ar[s])) for s in sizes
        ]
    if ranked := _evaluated(students, "thresholds", q_ar, "share"):
        found["thresholds"] = [_threshold(s, ranked[-1], students[s], q_ar) for s in ranked]
    if "truth" in q_ar and {"unfiltered", LSKD} <= q_ar.keys():
        found["ceiling"] = dict(
            triples=students["truth"]["triples"],
            q_ar={s: accuracy(q_ar[s]) for s in ("unfiltered", LSKD, "truth")},
            difference={
                f"truth_minus_{s}": paired_difference(q_ar["truth"], q_ar[s])
                for s in (LSKD, "unfiltered")
            },
        )
    if {PLAIN, PLAIN_LSKD, "base", LSKD} <= q_ar.keys():
        found["plain_base"] = _bases(by)
    return found


def _evaluated(
    students: Mapping[str, Mapping], study: str, q_ar: Mapping, order: str = "triples"
) -> list[str]:
    """The students of a study that answered VCR's questions, by ``order``."""
    of = of_study(students, study)
    return sorted((name for name in of if name in q_ar), key=lambda name: of[name][order])


def _threshold(system: str, widest: str, told: Mapping, q_ar: Mapping[str, pd.DataFrame]) -> dict:
    found = dict(
        share=told["share"], triples=told["triples"], system=system, q_ar=accuracy(q_ar[system])
    )
    if system != widest:
        found["gain"] = paired_difference(q_ar[system], q_ar[widest])
    return found


def _bases(by: Mapping[tuple[str, str], pd.DataFrame]) -> dict:
    tasks = {part: f"vcr.{part}" for part in PARTS} | {"grounding": "grounding"}
    known = {part: task for part, task in tasks.items() if (task, PLAIN) in by}
    return {
        system: {part: accuracy(by[task, system]) for part, task in known.items()}
        for system in ("base", LSKD, PLAIN, PLAIN_LSKD)
    } | {
        "difference": {
            f"{student}_minus_{base}": {
                part: paired_difference(by[task, student], by[task, base])
                for part, task in known.items()
            }
            for student, base in ((LSKD, "base"), (PLAIN_LSKD, PLAIN))
        }
    }


# -------------------------------------------------------------------------- this run's, or pooled


@dataclass(frozen=True)
class Shown:
    """Figures by what they are filed under (``STUDY_OF``); ``source`` says of whom each is, and
    ``base`` has the base's Q→AR there.
    """

    figures: Mapping[str, object]
    source: Mapping[str, str] = field(default_factory=dict)
    base: Mapping[str, Mapping | None] = field(default_factory=dict)

    def missing(self, name: str) -> str:
        """What to say where there is no such figure."""
        study = STUDY_OF[name]
        return (
            f"{name}: not studied in this run, and no pooled figures are there."
            f" `lskd run PROFILE --from 05 -p '05.studies=[{study}]'` trains the students that it"
            " takes; `lskd replicate` does so over several seeds"
        )


def own_or_pooled(own: Mapping, metrics: Mapping, pooled: str | Path | None) -> Shown:
    """The run's ``own`` figures; those that it lacks from the file of ``pooled`` ones, if there is
    one. ``metrics`` are the run's. Raises ``ValueError`` for a file that is no JSON object.
    """
    several = _read(Path(pooled)) if pooled else {}
    told = f"pooled over {len(several.get('seeds', ()))} seeds, from `lskd replicate`"
    found, source, base = {}, {}, {}
    for name in STUDY_OF:
        for of, whose, all_of in ((own, "this run", metrics), (several, told, several)):
            if of.get(name):
                found[name], source[name] = of[name], whose
                base[name] = all_of.get("vcr", {}).get("base", {}).get("q_ar")
                break
    return Shown(found, source, base)


def _read(path: Path) -> dict:
    """The pooled figures, none where ``lskd replicate`` has not run."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}): remove it, or run `lskd replicate` again"
        ) from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no JSON object: run `lskd replicate` again")
    return found
