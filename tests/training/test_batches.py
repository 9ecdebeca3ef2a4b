"""What a step of distillation sees: shuffled ids, region swaps, exchanges, plain images."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lskd_nb.records import CORPUS, write_parquet
from lskd_nb.regions import Region, mentions
from lskd_nb.students.views import View
from lskd_nb.training import batches


def test_ids_and_boxes_follow_each_other(world):
    row = batches.corpus_rows(world / "corpus.parquet")[1]
    seen = set()
    for trial in range(40):
        drawn = batches.draw_sample(row, 0, np.random.default_rng(trial))
        subject = mentions(drawn.question)[0]
        box = {r.id: r.box for r in drawn.view.regions}
        assert box[subject] == row.regions[1].box  # whatever its new id, it is the same thing
        assert sorted(box) == list(range(len(box)))
        seen.add((subject, len(box)))
    assert {n for _, n in seen} == {2, 3}  # the mentioned ones only, or all that were offered
    assert {s for s, _ in seen} == {0, 1, 2}


def test_a_swap_tells_the_same_of_another_region(world):
    row = batches.corpus_rows(world / "corpus.parquet")[0]
    for trial in range(30):
        drawn = batches.draw_sample(row, 0, np.random.default_rng(trial))
        question, text = drawn.swapped
        assert (question, text) != (drawn.question, drawn.text)
        assert sorted(mentions(question + text)) == sorted(set(mentions(question + text)))
        assert set(mentions(question)) <= {r.id for r in drawn.view.regions}


def test_one_region_offers_no_swap():
    row = batches.Row("m.png", "Why is [0] here?", "To rest.", "", (Region(0, (0, 0, 9, 9)),), (0,))
    assert batches.draw_sample(row, 0, np.random.default_rng(0)).swapped is None


def test_a_plain_pair_is_denied_with_another_answer_to_its_question(tmp_path):
    pairs = [
        ("a.png", "Where is this?", "on the beach"),
        ("b.png", "Where is this?", "in a kitchen"),
        ("a.png", "", "a dog"),
        ("b.png", "Who?", "he"),
    ]
    pq.write_table(
        pa.Table.from_pylist([dict(image=i, question=q, text=t) for i, q, t in pairs]),
        tmp_path / "r.parquet",
    )
    rows = batches.rehearsal_rows(tmp_path / "r.parquet")
    drawn = [
        [
            batches.draw_sample(r, 2, np.random.default_rng(t), batches.by_question(rows))
            for t in range(9)
        ]
        for r in rows
    ]
    told = [
        {x.exchanged for x in several} - {None} for several in drawn
    ]  # now and then the few draws meet only the row itself
    assert told == [
        {("Where is this?", "Answer: in a kitchen")},
        {("Where is this?", "Answer: on the beach")},
        set(),
        set(),
    ]
    assert drawn[0][0].text == "Answer: on the beach" and drawn[2][0].text == "a dog"
    assert all(x.swapped is None for several in drawn for x in several)


def test_an_exchange_tells_another_answer_or_rationale_of_the_own_regions():
    regions = tuple(Region(i, (10.0 * i, 0.0, 10.0 * i + 9, 9.0)) for i in range(3))
    row = batches.Row(
        "a.png", "Why is [2] here?", "To rest.", "[2] is sitting and [0] is a dog.", regions, (2, 0)
    )
    rival = batches.Row(
        "b.png", "Why is [1] here?", "To swim.", "[1] is wet and [0] is a boat.", regions, (1, 0)
    )
    other = batches.Row("b.png", "Where is [1]?", "Here.", "[1] is here.", regions, (1,))
    asked = batches.by_question([row, rival, other])
    assert sorted(map(len, asked.values())) == [1, 2]
    seen = set()
    for trial in range(80):
        drawn = batches.draw_sample(row, 0, np.random.default_rng(trial), asked)
        if drawn.exchanged is None:
            continue
        question, text = drawn.exchanged
        asked_about, second = (
            mentions(drawn.text.split(" Rationale")[0] + drawn.question)[0],
            mentions(drawn.text)[-1:],
        )
        assert question == drawn.question and text != drawn.text
        answer, _, rationale = text.partition(" Rationale: ")
        assert bool(rationale) == (" Rationale: " in drawn.text)
        seen.add((answer, bool(rationale) and ("wet" in rationale)))
        if rationale:
            assert mentions(rationale) == [asked_about, *second]
    assert seen == {
        ("Answer: To swim.", False),
        ("Answer: To swim.", True),
        ("Answer: To rest.", True),
    }


def test_a_near_miss_is_the_one_of_many_with_the_most_similar_reasons():
    regions = (Region(0, (0.0, 0.0, 9.0, 9.0)), Region(1, (10.0, 0.0, 19.0, 9.0)))

    def row(answer: str, rationale: str) -> batches.Row:
        return batches.Row("a.png", "Why is [0] here?", answer, rationale, regions, (0,))

    own = row("To stay dry.", "[0] is holding an umbrella and it is raining.")
    near = row("To rest in the shade.", "[0] is holding an umbrella and this is in a park.")
    far = [row(f"To swim {n}.", f"[0] is {n} fish in the sea.") for n in range(5)]
    asked = batches.by_question([own, near, *far])
    drawn = [
        batches.draw_sample(own, 0, np.random.default_rng(trial), asked, near_misses=True)
        for trial in range(60)
    ]
    told = {text.partition(" Rationale: ")[0] for _, text in (d.near_miss for d in drawn)}
    assert told == {"Answer: To rest in the shade.", "Answer: To stay dry."}  # or its reasons alone
    assert all("swim" not in d.near_miss[1] and "fish" not in d.near_miss[1] for d in drawn)
    assert any("swim" in d.exchanged[1] or "fish" in d.exchanged[1] for d in drawn)


def test_a_captions_near_miss_says_something_else_than_all_captions_of_its_image():
    told = {
        "a.png": ["a yellow car on the street", "a yellow car", "a red car"],
        "b.png": ["a yellow car", "a yellow bicycle on the street", "a bird flying"],
    }
    rows = [batches.Row(image, "", text, "", (), ()) for image, ts in told.items() for text in ts]
    asked = batches.by_question(rows)
    for trial in range(20):
        drawn = batches.draw_sample(rows[0], 2, np.random.default_rng(trial), asked, True)
        # its own image has a red car as well, and a yellow one is no less true
        assert drawn.near_miss == ("", "a yellow bicycle on the street")
        assert drawn.exchanged is None
        assert batches.draw_sample(
            rows[0], 2, np.random.default_rng(trial), asked
        ) == batches.Sample(View("a.png"), "", "a yellow car on the street")


@pytest.mark.parametrize("views", [0, 2])
def test_a_triple_that_mentions_no_region_is_about_the_plain_image(tmp_path, views, triple):
    words = triple(0, 0) | dict(
        question="What is the man in red about to do?",
        rationale="The man in red is holding a ball.",
        regions=[],
    )
    rival = words | dict(triple_id="t1", answer="Sleep.")
    pointed = triple(2, 1) | dict(question=words["question"])
    write_parquet([words, rival, pointed], tmp_path / "c.parquet", CORPUS)
    rows = batches.corpus_rows(tmp_path / "c.parquet")
    assert len(rows) == 3 and rows[0].mentioned == ()
    asked, texts, exchanged = batches.by_question(rows), set(), set()
    for trial in range(40):
        drawn = batches.draw_sample(rows[0], views, np.random.default_rng(trial), asked)
        assert drawn.view == View("m0.png") == batches.fixed_view(rows[0], 1)
        assert drawn.swapped is None
        texts.add(drawn.text)
        exchanged |= {drawn.exchanged} - {None}
    assert texts == {
        "Answer: Throw the ball for the dog.",
        "Answer: Throw the ball for the dog. Rationale: The man in red is holding a ball.",
    }
    # another row's answer; one that tells of regions is none for an image without them
    assert exchanged and not any(mentions(text) for _, text in exchanged)


def test_what_people_wrote_in_brackets_is_no_region():
    plain = batches.Row("a.png", "Where?", "see note [3]", "", (), ())
    other = batches.Row("b.png", "Where?", "at home", "", (), ())
    asked = batches.by_question([plain, other])
    drawn = [batches.draw_sample(other, 0, np.random.default_rng(t), asked) for t in range(9)]
    assert ("Where?", "Answer: see note [3]") in {x.exchanged for x in drawn}


def test_every_row_is_seen_once_an_epoch():
    seen = [i for step in range(5) for i in batches.epoch_indices(10, 6, step, seed=3)]
    assert sorted(seen[:10]) == sorted(seen[10:20]) == sorted(seen[20:30]) == list(range(10))
    assert seen[:10] != seen[10:20]


def test_fixed_views_are_few_and_fresh_ones_many(world):
    def seen(row: batches.Row, views: int) -> set[str]:
        return {
            batches.draw_sample(row, views, np.random.default_rng(t)).view.key for t in range(40)
        }

    rows = batches.corpus_rows(world / "corpus.parquet")[:6]
    assert {len(seen(r, 2)) for r in rows} <= {1, 2} and any(len(seen(r, 2)) == 2 for r in rows)
    assert all(len(seen(r, 0)) > 4 for r in rows)


def test_unknown_region_names_the_triple(world, tmp_path, triple):
    bad = triple(0, 0) | dict(answer="Give [7] the ball.")
    write_parquet([bad], tmp_path / "c.parquet", CORPUS)
    with pytest.raises(ValueError, match=r"triple t0 mentions the regions \[7\]"):
        batches.corpus_rows(tmp_path / "c.parquet")
