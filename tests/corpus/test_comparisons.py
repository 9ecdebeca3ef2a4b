"""Corpora that are compared differ in the one thing that is studied."""

from pathlib import Path

import numpy as np
import pytest

from lskd_nb.corpus import comparisons
from lskd_nb.corpus.build import build
from lskd_nb.critic.scoring import no_scores
from lskd_nb.records import CORPUS, REGIONS, SCORES, TRIPLES, read_parquet, write_parquet

SHARES, THRESHOLDS = [0.5, 0.25], [0.25, 0.5, 1.0]


@pytest.fixture
def filtered_run(small_run) -> Path:
    """Its twelve triples scored, the later the better, and the best third kept."""
    triples = read_parquet(small_run / "triples.parquet", TRIPLES)
    ids = triples["triple_id"].to_pylist()
    told = [
        dict(triple_id=name, score=n / 12, qa_score=0.5, rationale_score=0.5)
        for n, name in enumerate(ids)
    ]
    scores = write_parquet(told[::-1], small_run / "scores.parquet", SCORES)  # in another order
    located = read_parquet(small_run / "regions.parquet", REGIONS)
    corpus = build(triples, scores, located, ids[-4:])
    write_parquet(corpus, small_run / "corpus.parquet", CORPUS)
    return small_run


def ids_of(of: comparisons.StudyCorpus) -> list[str]:
    return read_parquet(of.corpus, CORPUS)["triple_id"].to_pylist()


def all_ids(folder: Path) -> list[str]:
    return read_parquet(folder / "triples.parquet", TRIPLES)["triple_id"].to_pylist()


def test_without_studies_there_is_lskd_alone(filtered_run):
    found = comparisons.corpora(filtered_run, [], SHARES, THRESHOLDS, seed=0)
    assert list(found) == ["lskd"] and ids_of(found["lskd"]) == all_ids(filtered_run)[-4:]
    assert found["lskd"].told() == dict(study="sizes", triples=4, share=1.0)


def test_sizes_have_the_whole_corpus_among_them(filtered_run):
    found = comparisons.corpora(filtered_run, ["sizes"], SHARES, THRESHOLDS, seed=0)
    assert [(name, of.triples, of.part) for name, of in found.items()] == [
        ("lskd", 4, 1.0), ("lskd_50", 2, 0.5), ("lskd_25", 1, 0.25)
    ]  # fmt: skip


def test_thresholds_hold_as_many_triples_each_from_their_share_of_the_best(filtered_run):
    ids = all_ids(filtered_run)
    found = comparisons.corpora(filtered_run, ["thresholds"], SHARES, THRESHOLDS, seed=0)
    assert list(found) == ["lskd", "top_25", "top_50", "top_100"]
    del found["lskd"]
    assert {of.triples for of in found.values()} == {3} and {of.part for of in found.values()} == {
        0.75
    }
    assert ids_of(found["top_25"]) == ids[-3:]  # the strictest is taken whole
    assert set(ids_of(found["top_50"])) <= set(ids[-6:])
    rows = read_parquet(found["top_50"].corpus, CORPUS)
    scores = [ids.index(i) / 12 for i in ids_of(found["top_50"])]
    assert rows["score"].to_pylist() == pytest.approx(scores)


def test_draws_share_what_they_can_and_differ_by_seed():
    ids, scores = [f"t{n}" for n in range(400)], np.arange(400.0)
    drawn = comparisons.from_the_best(scores, ids, [0.25, 0.5, 1.0], seed=1)
    half, whole = set(drawn[0.5]), set(drawn[1.0])
    assert len(half) == len(whole) == 100
    # what the draw from all took of the better half is in that half's own draw
    assert {t for t in whole if int(t[1:]) >= 200} <= half
    assert drawn[1.0] == sorted(drawn[1.0], key=ids.index)
    assert abs(np.mean([int(t[1:]) for t in whole]) - 200) < 40  # from all, not from the best
    other = comparisons.from_the_best(scores, ids, [0.25, 1.0], seed=2)
    assert set(other[1.0]) != whole and other[0.25] == drawn[0.25]


def test_truth_draws_from_the_acceptable_as_many_as_the_filter_kept(filtered_run):
    ids = all_ids(filtered_run)
    accepted = np.array([n % 2 == 0 for n in range(12)])
    found = comparisons.corpora(filtered_run, ["truth"], SHARES, THRESHOLDS, 0, accepted)
    assert list(found) == ["lskd", "truth"] and found["truth"].triples == 4
    assert set(ids_of(found["truth"])) <= set(ids[::2]) and found["truth"].part == 1.0
    few = np.arange(12) < 3  # fewer than the filter kept: all of them
    found = comparisons.corpora(filtered_run, ["truth"], SHARES, THRESHOLDS, 0, few)
    assert ids_of(found["truth"]) == ids[:3] and found["truth"].part == 0.75


def test_what_can_not_be_studied_is_refused(filtered_run):
    with pytest.raises(ValueError, match=r"'truth'.*no .*truth.jsonl, which the mini world alone"):
        comparisons.corpora(filtered_run, ["truth"], SHARES, THRESHOLDS, seed=0)
    with pytest.raises(ValueError, match=r"studies has \['size'\]: expected some of sizes, lm"):
        comparisons.corpora(filtered_run, ["size"], SHARES, THRESHOLDS, seed=0)
    with pytest.raises(ValueError, match="no triple is acceptable"):
        comparisons.from_the_acceptable([False], ["a"], 1, seed=0)
    with pytest.raises(ValueError, match="1 judgements of 2 triples"):
        comparisons.from_the_acceptable([True], ["a", "b"], 1, seed=0)


def test_without_a_critic_there_is_a_truth_to_draw_from_and_no_ranking(filtered_run):
    triples = read_parquet(filtered_run / "triples.parquet", TRIPLES)
    scores = no_scores(triples, filtered_run / "scores.parquet")
    located = read_parquet(filtered_run / "regions.parquet", REGIONS)
    write_parquet(build(triples, scores, located), filtered_run / "corpus.parquet", CORPUS)
    with pytest.raises(ValueError, match="no critic has scored the triples: .* Leave it out"):
        comparisons.corpora(filtered_run, ["thresholds"], SHARES, THRESHOLDS, seed=0)
    accepted = [n < 3 for n in range(12)]
    found = comparisons.corpora(filtered_run, ["truth"], SHARES, THRESHOLDS, 0, accepted)
    assert ids_of(found["truth"]) == all_ids(filtered_run)[:3] and found["lskd"].triples == 12
