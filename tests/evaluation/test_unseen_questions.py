"""Questions for two systems to answer: about images that no student has been trained on."""

import pyarrow as pa

from lskd_nb.evaluation.preference import unseen_questions
from lskd_nb.records import CORPUS, REGIONS, TRIPLES, read_parquet, write_parquet


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
