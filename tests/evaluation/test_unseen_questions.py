"""Questions for two systems to answer: about images that no student has been trained on."""

import pyarrow as pa
import pytest

from lskd_nb.evaluation.preference import lines_about, set_aside, unseen_questions
from lskd_nb.records import CORPUS, REGIONS, TRIPLES, VERBALIZATIONS, read_parquet, write_parquet


def write_corpus(folder, taught: set[str]) -> None:
    """A corpus with the first triple about each image of ``taught``."""
    images = {
        r["image_id"]: r for r in read_parquet(folder / "regions.parquet", REGIONS).to_pylist()
    }
    rows = []
    for triple in read_parquet(folder / "triples.parquet", TRIPLES).to_pylist():
        image = images[triple["image_id"]]
        if triple["image_id"] in taught and triple["triple_id"].endswith("-0"):
            more = {k: image[k] for k in ("image", "width", "height", "source", "split")}
            rows.append(triple | more | dict(score=0.9, references=image["regions"]))
    write_parquet(rows, folder / "corpus.parquet", CORPUS)


def test_of_images_that_the_corpus_keeps_nothing_of(small_run):
    write_corpus(small_run, {"m0", "m2"})
    asked = unseen_questions(small_run, 100, seed=0)
    assert {q.image.image_id for q in asked} == {"m1", "m3"} and len(asked) == 6
    assert [r.label for r in asked[0].image.regions] == ["dog", "man"]
    assert unseen_questions(small_run, 4, seed=0) == asked[:4]
    assert unseen_questions(small_run, 100, seed=1) != asked


def test_other_families_and_questions_that_point_at_nothing_are_left_out(small_run):
    write_corpus(small_run, set())
    triples = read_parquet(small_run / "triples.parquet", TRIPLES).to_pylist()
    triples[0]["family"], triples[1]["question"] = "description", "Why?"
    write_parquet(pa.Table.from_pylist(triples, TRIPLES), small_run / "triples.parquet", TRIPLES)
    asked = {q.question_id for q in unseen_questions(small_run, 100, seed=0)}
    assert len(asked) == 10 and not asked & {"m0-0", "m0-1"}


def test_where_none_is_left_it_says_what_is_missing(small_run):
    with pytest.raises(FileNotFoundError, match="corpus.parquet is not there: run notebook 04"):
        unseen_questions(small_run, 10, seed=0)
    write_corpus(small_run, {"m0", "m1", "m2", "m3"})
    message = "no question about an image unseen: of 12 triples 12 are of the id family and point"
    with pytest.raises(ValueError, match=message):
        unseen_questions(small_run, 10, seed=0)
    write_corpus(small_run, {"m0"})
    with pytest.raises(ValueError, match="questions is 0: expected at least 1"):
        unseen_questions(small_run, 0, seed=0)


def test_images_set_aside_are_asked_about_and_not_learned_from(small_run):
    write_corpus(small_run, {"m0", "m1", "m2", "m3"})
    asked = set_aside(small_run, 1, 10, 0, small_run / "rest.parquet")
    rest = set(read_parquet(small_run / "rest.parquet", CORPUS)["image_id"].to_pylist())
    assert len(asked) == 1 and len(rest) == 3
    assert {q.image.image_id for q in asked} | rest == {"m0", "m1", "m2", "m3"}
    assert set_aside(small_run, 1, 10, 0, small_run / "rest.parquet") == asked
    others = {
        set_aside(small_run, 1, 10, n, small_run / "rest.parquet")[0].image.image_id
        for n in range(8)
    }
    assert len(others) > 1  # drawn
    for wrong in (4, 0, 300):
        with pytest.raises(ValueError, match=f"held_out is {wrong} of the corpus' 4 images"):
            set_aside(small_run, wrong, 10, 0, small_run / "rest.parquet")
    rows = read_parquet(small_run / "corpus.parquet", CORPUS).to_pylist()
    write_parquet([r | dict(question="Why?") for r in rows], small_run / "corpus.parquet", CORPUS)
    with pytest.raises(ValueError, match="no triple about the 2 images .* points at a region"):
        set_aside(small_run, 2, 10, 0, small_run / "rest.parquet")


def test_only_what_was_said_of_the_asked_images_is_read(small_run):
    write_corpus(small_run, {"m0"})
    asked = unseen_questions(small_run, 1, seed=0)
    with pytest.raises(FileNotFoundError, match="verbalizations.parquet .* run notebook 01"):
        lines_about(small_run, asked)
    line = dict.fromkeys(VERBALIZATIONS.names) | dict(kind="global", verbalizer="captioner")
    lines = [line | dict(image_id=f"m{n}", text=f"about {n}.{k}") for n in range(4) for k in (0, 1)]
    write_parquet(lines, small_run / "verbalizations.parquet", VERBALIZATIONS)
    number = asked[0].image.image_id.removeprefix("m")
    found = [row["text"] for row in lines_about(small_run, asked)]
    assert found == [f"about {number}.0", f"about {number}.1"]
    write_parquet(lines[:2], small_run / "verbalizations.parquet", VERBALIZATIONS)
    with pytest.raises(ValueError, match="says nothing of the 1 images"):
        lines_about(small_run, asked)
