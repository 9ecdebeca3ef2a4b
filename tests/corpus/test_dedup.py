"""Exact and near repeats of texts."""

from pathlib import Path

import numpy as np
import pytest

from lskd_nb.corpus import dedup
from lskd_nb.records import CORPUS, write_parquet

LONG = (
    "the man in the long grey coat waits on the platform because the train to the coast has not"
    " come yet and it is getting late"
)


def corpus_of(folder: Path, questions: list[str], answer: str, rationale: str) -> Path:
    """A corpus of triples t0, t1, … with these questions."""
    rows = [
        dict(
            triple_id=f"t{number}",
            image_id="m",
            family="id",
            question=question,
            answer=answer,
            rationale=rationale,
            regions=[0],
            regions_offered=[0, 1],
            model="w",
            prompt="p",
            request="r",
            score=0.5,
            image="VG_100K/m.jpg",
            width=200,
            height=100,
            source="visual_genome",
            split="train",
            references=[
                dict(id=0, box=[0, 0, 20, 20], label="dog", score=None),
                dict(id=1, box=[0, 0, 200, 100], label="sofa", score=None),
            ],
        )
        for number, question in enumerate(questions)
    ]
    write_parquet(rows, folder / "corpus.parquet", CORPUS)
    return folder / "corpus.parquet"


def test_exact_repeats_are_ids_case_and_spaces_aside(tmp_path):
    questions = [
        "Why is [0] here?",
        "why is  [12] HERE?",
        "Why is [0, 1] here?",
        "Why is [0] there?",
    ]
    corpus = corpus_of(tmp_path, questions, "To rest.", "[0] is tired.")
    exact = dedup.duplicates(corpus)["exact"]
    assert (exact["triples"], exact["distinct"], exact["share"]) == (4, 2, 0.5)
    assert exact["examples"] == [
        dict(wording="why is [] here? to rest. [] is tired.", times=3, first="t0")
    ]


def test_near_wordings_have_the_similarity_that_is_said():
    texts = [
        LONG,
        "nothing of the kind is said here at all by anybody",
        LONG.replace("grey", "brown"),
        LONG.replace("coast", "city").replace("grey", "red"),
        LONG.replace("grey coat waits", "hat sings")
        .replace("late", "dark")
        .replace("train", "ship")
        .replace("come", "gone")
        .replace("platform", "pier"),
    ]
    similar = [dedup.jaccard(dedup.word_pairs(LONG), dedup.word_pairs(t)) for t in texts]
    assert [s >= 0.7 for s in similar] == [True, False, True, True, False]
    assert dedup.near_duplicate_clusters(texts, 0.7) == [[0, 2, 3]]
    assert dedup.near_duplicate_clusters(texts, 0.99) == []
    with pytest.raises(ValueError, match="threshold is 7"):
        dedup.near_duplicate_clusters(texts, 7)


@pytest.mark.parametrize("changes, similarity, found", [(1, 37 / 41, 297), (3, 33 / 45, 270)])
def test_few_near_wordings_are_missed(changes, similarity, found):
    """300 texts of 40 words, and the same with some words changed; 0.7 is the threshold."""
    rng = np.random.default_rng(0)
    first = [[f"w{i}" for i in rng.integers(2000, size=40)] for _ in range(300)]
    changed = [
        ["another" if i in range(5, 5 + 6 * changes, 6) else word for i, word in enumerate(text)]
        for text in first
    ]
    pairs = [dedup.word_pairs(" ".join(t)) for t in (first[0], changed[0])]
    assert dedup.jaccard(*pairs) == pytest.approx(similarity, abs=0.01)
    clusters = {
        tuple(c) for c in dedup.near_duplicate_clusters([" ".join(t) for t in first + changed])
    }
    assert clusters <= {(i, i + 300) for i in range(300)} and len(clusters) >= found


def test_repeats_count_clusters_of_distinct_wordings(tmp_path):
    questions = [LONG, LONG, LONG.replace("grey", "brown"), "who?"]
    near = dedup.duplicates(corpus_of(tmp_path, questions, "Yes.", "So."))["near"]
    assert (near["clusters"], near["wordings"], near["left"], near["largest"]) == (1, 1, 2, 2)
    assert near["examples"][0]["other_triple"] == "t2" and 0.7 <= near["examples"][0]["jaccard"] < 1
