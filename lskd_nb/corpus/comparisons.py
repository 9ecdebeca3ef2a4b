"""Corpora for students that are compared: each differs from another in one thing.

- ``sizes``: smaller parts of the filtered corpus, one within the other;
- ``thresholds``: as many triples each, drawn from the best tenth, fifth, … of the critic's ranking:
  what a stricter filter is worth where quantity is the same (LSKD, section 3.2);
- ``truth``: as many as the filtered corpus has, of those that are acceptable by the truth. No
  critic can do better: the ceiling.

Drawing is by lot: each triple has one, the same in every draw of a seed. What two draws may share
they do share, so two students differ by what the filter changed and by little else.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from lskd_nb.corpus.build import build, is_filtered, load_stage
from lskd_nb.critic.filtering import best_share
from lskd_nb.records import CORPUS, REGIONS, read_parquet, write_parquet
from lskd_nb.training.launch import corpus_subsets

# further trainings that a run may ask for; "lm" and "plain_base" take a corpus that is there
STUDIES = ("sizes", "lm", "thresholds", "truth", "plain_base")
LSKD = "lskd"  # the student of the whole filtered corpus


@dataclass(frozen=True)
class StudyCorpus:
    """The corpus of one student, for the ``study`` that it is part of.

    ``part`` is its size beside that of the filtered corpus; ``share`` is what the study varies: of
    that corpus, or of the critic's ranking.
    """

    corpus: Path
    study: str
    triples: int
    part: float
    share: float = 1.0

    def told(self) -> dict[str, object]:
        """What notebook 6 has to know of the student."""
        return dict(study=self.study, triples=self.triples, share=self.share)


def corpora(
    folder: str | Path,
    studies: Sequence[str],
    shares: Sequence[float],
    threshold_shares: Sequence[float],
    seed: int,
    accepted: Sequence[bool] | None = None,
) -> dict[str, StudyCorpus]:
    """The corpora of all students that learn from chosen triples, by the name of the student.

    ``lskd`` is always there. Files are written into ``student/`` of the run's ``folder``.
    ``accepted`` says which rows of triples.parquet are acceptable by the truth; None where nobody
    knows. Raises ``ValueError`` for a study that there is none of, for ``truth`` without one,
    and for ``thresholds`` where no critic has scored the triples.
    """
    home = Path(folder)
    if unknown := [study for study in studies if study not in STUDIES]:
        raise ValueError(f"studies has {unknown}: expected some of {', '.join(STUDIES)}, or none")
    if "truth" in studies and accepted is None:
        raise ValueError(
            "studies has 'truth', and nothing knows the truth about this run's triples: there is no"
            f" {home / 'world' / 'truth.jsonl'}, which the mini world alone has. Leave it out"
        )
    parts = sorted({1.0, *shares}, reverse=True) if "sizes" in studies else [1.0]
    subsets = corpus_subsets(home / "corpus.parquet", home / "student", parts, seed)
    found = {
        name: StudyCorpus(of.corpus, "sizes", of.triples, of.share, of.share)
        for name, of in subsets.items()
    }
    if {"thresholds", "truth"} & set(studies):
        if "thresholds" in studies and not is_filtered(home / "corpus.parquet"):
            raise ValueError(
                "studies has 'thresholds', and no critic has scored the triples: there is no"
                " ranking to draw from. Leave it out"
            )
        tables = *load_stage(home), read_parquet(home / "regions.parquet", REGIONS)
        whole = found[LSKD].triples
        ranked = threshold_shares if "thresholds" in studies else ()
        drawn = _drawn(tables[0], tables[1], ranked, seed, accepted, whole)
        for name, (study, share, ids) in drawn.items():
            if study in studies:
                path = home / "student" / f"{name}.parquet"
                write_parquet(build(*tables, ids), path, CORPUS)
                found[name] = StudyCorpus(path, study, len(ids), len(ids) / whole, share)
    return found


def _drawn(
    triples: pa.Table,
    scores: pa.Table,
    threshold_shares: Sequence[float],
    seed: int,
    accepted: Sequence[bool] | None,
    whole: int,
) -> dict[str, tuple[str, float, list[str]]]:
    """Ids of the triples by student, with its study and share."""
    ids = triples["triple_id"].to_pylist()
    score_of = dict(
        zip(*(scores[name].to_pylist() for name in ("triple_id", "score")), strict=True)
    )
    ranked = np.array([score_of[name] for name in ids], dtype=float)
    best = from_the_best(ranked, ids, threshold_shares, seed) if threshold_shares else {}
    found = {f"top_{100 * share:g}": ("thresholds", share, some) for share, some in best.items()}
    if accepted is not None:
        found["truth"] = ("truth", 1.0, from_the_acceptable(accepted, ids, whole, seed))
    return found


def from_the_best(
    scores: np.ndarray, triple_ids: Sequence[str], shares: Iterable[float], seed: int
) -> dict[float, list[str]]:
    """As many triples for each of ``shares``, drawn from that share of the best; in their order.

    How many is what the smallest share holds: its triples are all taken. So what is compared is how
    good the triples are, not how many.

    >>> drawn = from_the_best(np.arange(10.0), list("abcdefghij"), [0.2, 0.5], seed=0)
    >>> drawn[0.2], len(drawn[0.5]), set(drawn[0.5]) <= set("fghij")
    (['i', 'j'], 2, True)
    """
    best = {
        share: np.flatnonzero(best_share(scores, triple_ids, share)[0]) for share in sorted(shares)
    }
    number = min(map(len, best.values()))
    return {share: _by_lot(places, triple_ids, number, seed) for share, places in best.items()}


def from_the_acceptable(
    accepted: Sequence[bool], triple_ids: Sequence[str], number: int, seed: int
) -> list[str]:
    """``number`` of the acceptable triples, or all where there are fewer; in their order.

    Raises ``ValueError`` where none is acceptable, or ``accepted`` is of other triples.
    """
    if len(accepted) != len(triple_ids):
        raise ValueError(f"{len(accepted)} judgements of {len(triple_ids)} triples")
    good = np.flatnonzero(accepted)
    if not len(good):
        raise ValueError("by the truth no triple is acceptable: there is nothing to learn from")
    return _by_lot(good, triple_ids, number, seed)


def _by_lot(places: np.ndarray, triple_ids: Sequence[str], number: int, seed: int) -> list[str]:
    """The ``number`` of ``places`` that have the smallest lots."""
    lots = np.random.default_rng([seed, 11]).permutation(len(triple_ids))
    return [triple_ids[i] for i in np.sort(places[np.argsort(lots[places])[:number]])]


def of_study(students: Mapping[str, Mapping], study: str) -> dict[str, Mapping]:
    """Those of ``students`` (as ``StudyCorpus.told``) that a study compares."""
    return {name: of for name, of in students.items() if of["study"] == study}
