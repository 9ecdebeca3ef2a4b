"""Blinded pairs, what annotators make of them, and what that says: the figures against
hand-counted cases.
"""

import threading
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from lskd_nb.critic.agreement import krippendorff_alpha
from lskd_nb.evaluation import preference as p
from lskd_nb.records import write_parquet
from lskd_nb.regions import LocatedImage, Region
from lskd_nb.viewing.widgets import PreferenceAnnotator


def questions(number: int) -> list[p.PointedQuestion]:
    regions = (Region(0, (1.0, 1.0, 15.0, 20.0), "dog"), Region(1, (16.0, 1.0, 38.0, 28.0), "man"))
    images = [LocatedImage(f"m{n}", "m.png", 40, 30, regions, "s", "val") for n in range(number)]
    return [
        p.PointedQuestion(f"q{n:03d}", images[n // 2], f"Why is [{n % 2}] <b>here</b>?")
        for n in range(number)
    ]


def answers(system: str, number: int = 40, missing: tuple[int, ...] = ()) -> pa.Table:
    asked = [q for n, q in enumerate(questions(number)) if n not in missing]
    return p.answers_table(
        asked,
        system,
        [
            f"Answer: {system.upper()} says {q.question_id}. Rationale: [0] is <script>x</script>."
            for q in asked
        ],
    )


@pytest.fixture
def files(tmp_path):
    Image.new("RGB", (40, 30), "white").save(tmp_path / "m.png")
    pairs, key, _ = p.blinded_pairs(answers("lskd", 6), answers("chatgpt", 6), seed=0)
    write_parquet(pairs, tmp_path / "pairs.parquet", p.PAIRS)
    return tmp_path / "pairs.parquet", tmp_path / "judgements.parquet", pairs, key


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Answer: To rest. Rationale: [0] is sitting.", ("To rest.", "[0] is sitting.")),
        ("answer : to rest. rationale : [ 0 ] is sitting.", ("To rest.", "[0] is sitting.")),
        ("answer : because of [ 0 , 1 ] . rationale : it ' s", ("Because of [0, 1].", "It ' s")),
        ("Answer: To rest.", ("To rest.", "")),
        ("To rest.", ("To rest.", "")),
        ("To rest.\nRationale: It\nsits.", ("To rest.", "It sits.")),
        ("", ("", "")),
    ],
)
def test_answers_are_split_whoever_wrote_them(text, expected):
    assert p.split_answer(text) == expected


def test_a_question_must_point_at_what_is_there():
    image = questions(2)[0].image
    with pytest.raises(ValueError, match="question q: 'Why\\?' must mention regions"):
        p.PointedQuestion("q", image, "Why?")
    with pytest.raises(ValueError, match=r"which has \[0, 1\]"):
        p.PointedQuestion("q", image, "Why is [2] here?")


def test_sides_and_order_give_nothing_away():
    pairs, key, alone = p.blinded_pairs(answers("lskd", 400), answers("chatgpt", 400), seed=3)
    assert not alone and len(pairs) == 400
    assert not {"system", "left", "question_id"} & set(pairs.column_names)
    lefts = np.array([r["left"] == "lskd" for r in key.to_pylist()])
    assert 160 < lefts.sum() < 240  # a fair coin, within four standard deviations
    ids = [r["question_id"] for r in key.to_pylist()]
    assert (
        sorted(ids) == [f"q{n:03d}" for n in range(400)]
        and sum(a < b for a, b in pairwise(ids)) < 250
    )
    for pair, told in zip(pairs.to_pylist(), key.to_pylist(), strict=True):  # and the key is right
        assert pair["pair_id"] == told["pair_id"] and pair["image_id"] == told["image_id"]
        for side in ("left", "right"):
            assert pair[f"{side}_answer"] == f"{told[side].upper()} says {told['question_id']}."
    again = p.blinded_pairs(answers("lskd", 400), answers("chatgpt", 400), seed=3)
    assert again[0] == pairs and again[1] == key
    assert p.blinded_pairs(answers("chatgpt", 400), answers("lskd", 400), seed=4)[1] != key


def test_questions_that_one_did_not_answer_are_told():
    pairs, key, alone = p.blinded_pairs(
        answers("lskd", 10, missing=(3,)), answers("chatgpt", 10, missing=(5, 6)), seed=0, number=4
    )
    assert alone == ["q003", "q005", "q006"] and len(pairs) == len(key) == 4


def test_where_nothing_was_answered_by_both_it_is_said():
    with pytest.raises(ValueError, match="answered by both systems, 1 by one and 2 by the other"):
        p.blinded_pairs(
            answers("lskd", 3, missing=(0, 1)), answers("chatgpt", 3, missing=(2,)), seed=0
        )
    with pytest.raises(ValueError, match="no pair to judge"):
        p.blinded_pairs(answers("lskd", 3), p.ANSWERS.empty_table(), seed=0)


def test_answers_to_something_else_are_refused():
    other = answers("chatgpt", 4).to_pylist()
    other[2]["question"] = "How is [0]?"
    with pytest.raises(ValueError, match="question q002 is not the same of lskd and chatgpt"):
        p.blinded_pairs(answers("lskd", 4), pa.Table.from_pylist(other, schema=p.ANSWERS), seed=0)
    with pytest.raises(ValueError, match="of one system, one for each question"):
        p.blinded_pairs(pa.concat_tables([answers("lskd", 4)] * 2), answers("chatgpt", 4), seed=0)


def test_judgements_are_added_and_taken_back(judgement, files):
    _, path, pairs, _ = files
    ids = pairs["pair_id"].to_pylist()
    file = p.judgement_file(path, pairs)
    assert file.read().num_rows == 0 and file.take_back("a") is None
    for row in ((ids[0], "a", "left"), (ids[0], "b", "tie"), (ids[1], "a", "right")):
        file.add(judgement(*row))
    assert file.take_back("a") == judgement(ids[1], "a", "right")
    assert file.read().to_pylist() == [
        judgement(ids[0], "a", "left"),
        judgement(ids[0], "b", "tie"),
    ]
    before = path.read_bytes()
    with pytest.raises(ValueError, match="choice is 'both'"):
        file.add(judgement(ids[2], "a", "left"), judgement(ids[1], "a", "both"))  # all or none
    for bad, message in (
        ((ids[0], "a", "right"), "row 2: a judges pair .* a second time"),
        ((ids[1], "a", "both"), "choice is 'both'"),
        (("nothing", "a", "tie"), "pair 'nothing' is not among the 6"),
        ((ids[1], " ", "tie"), "no annotator"),
    ):
        with pytest.raises(ValueError, match=message):
            file.add(judgement(*bad))
    assert path.read_bytes() == before
    write_parquet([judgement(ids[0], "a", "best")], path, p.JUDGEMENTS)
    with pytest.raises(ValueError, match="judgements.parquet, row 0: choice is 'best'"):
        file.read()


def test_several_annotators_write_one_file(judgement, files):
    _, path, pairs, _ = files
    ids = pairs["pair_id"].to_pylist()
    file = p.judgement_file(path, pairs)
    threads = [
        threading.Thread(target=lambda who=who: [file.add(judgement(i, who, "tie")) for i in ids])
        for who in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.read().num_rows == 4 * len(ids)


def test_choices_are_counted_for_the_system_wherever_it_stood(judged):
    key = pa.Table.from_pylist(
        [
            dict(
                pair_id=f"p{n}", question_id=f"q{n}", image_id=f"m{n // 2}", left=left, right=right
            )
            for n, (left, right) in enumerate(
                [("lskd", "chatgpt"), ("chatgpt", "lskd"), ("lskd", "chatgpt"), ("lskd", "base")]
            )
        ],
        schema=p.KEY,
    )
    rows = [
        ("p0", "a", "left"),
        ("p0", "b", "left"),
        ("p1", "a", "right"),
        ("p1", "b", "tie"),
        ("p2", "a", "right"),
        ("p3", "a", "left"),
    ]
    found = p.preference(judged(rows), key, "lskd")
    chatgpt = found["chatgpt"]
    assert [chatgpt[o]["mean"] for o in p.OUTCOMES] == pytest.approx([3 / 5, 1 / 5, 1 / 5])
    assert (
        chatgpt["pairs"],
        chatgpt["annotators"],
        chatgpt["win"]["n"],
        chatgpt["win"]["clusters"],
    ) == (3, 2, 5, 2)
    assert chatgpt["win"]["low"] <= 0.6 <= chatgpt["win"]["high"] and chatgpt["lose"]["low"] == 0.0
    assert chatgpt["alpha"] == pytest.approx(krippendorff_alpha([["win", "win"], ["win", "tie"]]))
    assert found["base"]["win"]["mean"] == 1.0 and found["base"]["alpha"] is None
    reverse = p.preference(judged(rows), key, "chatgpt")["lskd"]
    assert reverse["win"]["mean"] == chatgpt["lose"]["mean"] and reverse["alpha"] == pytest.approx(
        chatgpt["alpha"]
    )
    with pytest.raises(ValueError, match="pair 'p9' is judged but not in the key"):
        p.preference(judged([("p9", "a", "tie")]), key, "lskd")
    with pytest.raises(ValueError, match="no pair has an answer of 'gpt'"):
        p.preference(judged(rows), key, "gpt")


def test_the_annotator_judges_goes_on_and_takes_back(files):
    pairs_path, path, pairs, key = files
    ids = pairs["pair_id"].to_pylist()
    one = PreferenceAnnotator(pairs_path, path, pairs_path.parent, "Ann")
    assert one.shown["pair_id"] == ids[0] and one.undo.disabled and "0 of 6" in one.progress.value
    one.left.click()
    one.tie.click()
    assert one.shown["pair_id"] == ids[2] and not one.undo.disabled
    other = PreferenceAnnotator(pairs_path, path, pairs_path.parent, "Bob")
    assert other.shown["pair_id"] == ids[0]
    other.right.click()
    again = PreferenceAnnotator(pairs_path, path, pairs_path.parent, "Ann")  # another day
    assert again.shown["pair_id"] == ids[2] and "2 of 6" in again.progress.value
    again.press("u")
    assert again.shown["pair_id"] == ids[1]
    for _ in range(5):
        again.press("ArrowRight")
    assert (
        again.shown is None
        and again.left.disabled
        and "every pair is judged" in again.static().data
    )
    again.press("ArrowLeft")  # a key that was on its way
    judged_now = p.judgement_file(path, pairs).read()
    chosen = [tuple(r.values()) for r in judged_now.to_pylist()]
    assert chosen == [
        (ids[0], "Ann", "left"),
        (ids[0], "Bob", "right"),
        *((i, "Ann", "right") for i in ids[1:]),
    ]
    assert p.preference(judged_now, key, "lskd")["chatgpt"]["annotators"] == 2
    with pytest.raises(ValueError, match="needs a name"):
        PreferenceAnnotator(pairs_path, path, pairs_path.parent, " ")


def test_what_cannot_be_written_is_said_and_nothing_is_skipped(files):
    pairs_path, path, pairs, _ = files
    one = PreferenceAnnotator(pairs_path, path, pairs_path.parent, "Ann")
    two = PreferenceAnnotator(pairs_path, path, pairs_path.parent, "Ann")  # in another window
    one.left.click()
    two.press("ArrowDown")
    assert (
        "Ann judges pair" in two.trouble.value
        and two.shown["pair_id"] == pairs["pair_id"][1].as_py()
    )
    two.press("ArrowDown")
    assert two.trouble.value == "" and p.judgement_file(path, pairs).read()[
        "choice"
    ].to_pylist() == ["left", "tie"]


def test_nothing_shown_is_unescaped_or_says_whose_it_is(files):
    pairs_path, path, _, _ = files
    shown = PreferenceAnnotator(pairs_path, path, pairs_path.parent, "<i>Ann</i>")
    page = shown.static().data
    assert (
        "<script>" not in page
        and "&lt;script&gt;" in page
        and "<b>here" not in page
        and "<i>Ann" not in page
    )
    assert "data:image/jpeg" in page and "#05ff37" in page  # the mention has its region's colour
    assert "lskd" not in page.replace("LSKD says", "") and "chatgpt" not in page
