"""The annotation widget without a browser: keys and clicks, a label at once, and another day."""

import pytest

from lskd_nb.critic.labels import BY_PEOPLE, agreement, label_file, run_triple_ids, shuffled
from lskd_nb.records import LABELS, SCORES, TRIPLES, read_parquet, write_parquet
from lskd_nb.viewing.widgets import Annotator


def written(run, name=BY_PEOPLE) -> list[dict]:
    return label_file(run / name, run_triple_ids(run)).read().to_pylist()


def test_keys_label_and_each_label_is_written_at_once(small_run):
    one = Annotator(small_run, " ada ")
    order = shuffled(run_triple_ids(small_run), 0)
    assert (
        one.shown["triple_id"] == order[0]
        and one.save.disabled
        and one.undo.disabled
        and "0 of 12" in one.progress.value
    )
    for key in "a4":
        one.press(key)
    one.press("Enter")  # the rationale has no score yet
    assert one.save.disabled and not (small_run / BY_PEOPLE).exists()
    assert "both scores" in one.trouble.value
    one.press("1")
    one.press("Enter")
    assert written(small_run) == [
        dict(triple_id=order[0], annotator="ada", accept=True, qa_score=0.75, rationale_score=0.0)
    ]
    assert (
        one.shown["triple_id"] == order[1]
        and one.accept.value is one.qa.value is one.rationale.value is None
        and "1 of 12" in one.progress.value
    )
    one.accept.value, one.qa.value, one.rationale.value = False, 0.0, 1.0  # by mouse
    one.save.click()
    assert written(small_run)[1] == dict(
        triple_id=order[1], annotator="ada", accept=False, qa_score=0.0, rationale_score=1.0
    )


def test_every_key_sets_what_its_hint_says(small_run):
    one = Annotator(small_run, "ada")
    for key, value in zip("12345", [0.0, 0.25, 0.5, 0.75, 1.0], strict=True):
        one.press(key)
        assert (one.qa.value, one.rationale.value) == (value, None)
        one.press("4")
        assert (one.qa.value, one.rationale.value) == (value, 0.75)
    assert [label[0] for label, _ in one.qa.options] == list(
        "12345"
    )  # what is pressed is what is read
    one.press("a")
    one.press("r")
    assert one.accept.value is False
    assert (
        set(one.keyboard.heard) == {*"12345arsun", "Enter"}
        and "1 to 5 the answer, then 1 to 5 the rationale" in one.keyboard.hint
    )


def label_all(widget: Annotator, keys: str) -> None:
    while widget.shown is not None:
        for key in keys:
            widget.press(key)
        widget.press("n")


def test_goes_on_another_day_takes_back_and_skips(small_run):
    one, order = Annotator(small_run, "ada", number=4), shuffled(run_triple_ids(small_run), 0)[:4]
    for key in "a55ns":
        one.press(key)
    assert one.shown["triple_id"] == order[2] and "1 skipped" in one.progress.value
    for key in "r11n":
        one.press(key)
    again = Annotator(small_run, "ada", number=4)
    assert again.shown["triple_id"] == order[1] and "2 of 4" in again.progress.value
    again.press("u")
    assert again.shown["triple_id"] == order[2] and (
        again.accept.value,
        again.qa.value,
        again.rationale.value,
    ) == (False, 0.0, 0.0)
    assert [r["triple_id"] for r in written(small_run)] == order[:1]
    again.press("2")  # begins again
    again.press("1")
    again.press("Enter")
    assert written(small_run)[-1]["qa_score"] == 0.25
    again.press("s")
    again.press("s")  # the last two, round the corner
    assert again.shown["triple_id"] == order[1] and "skipped" not in again.progress.value
    label_all(again, "a55")
    assert (
        again.skip.disabled
        and "every triple is labelled" in again.static().data
        and "4 of 4" in again.progress.value
    )
    for key in "a55ns":  # on their way
        again.press(key)
    assert len(written(small_run)) == 4 and again.accept.value is None
    for _ in range(6):
        again.press("u")
    assert written(small_run) == [] and again.undo.disabled and not again.trouble.value


def test_several_share_triples_and_see_how_far_they_agree(small_run):
    names = ("ada", "bob")
    ada, bob = (Annotator(small_run, who, annotators=names, overlap=0.5) for who in names)
    assert (
        len(set(ada.triple_ids) & set(bob.triple_ids)) == 6
        and len(ada.triple_ids) == len(bob.triple_ids) == 9
    )
    label_all(ada, "a55")
    assert ada.told.value == ""
    for turn in range(9):
        for key in "a55" if turn % 2 else "r11":
            bob.press(key)
        bob.press("Enter")
    found = agreement(label_file(small_run / BY_PEOPLE, run_triple_ids(small_run)).read())
    assert (
        found.triples == 6
        and f"2 annotators, 6 triples in common. Krippendorff's alpha: accept {found.accept:.2f}"
        in bob.told.value
    )
    with pytest.raises(ValueError, match="annotator 'eve' must be among"):
        Annotator(small_run, "eve", annotators=names)


def test_the_critics_score_orders_only_where_asked_and_is_never_shown(small_run):
    ids = run_triple_ids(small_run)
    write_parquet(
        [
            dict(triple_id=t, score=0.61 + n / 100, qa_score=0.77, rationale_score=0.77)
            for n, t in enumerate(ids)
        ],
        small_run / "scores.parquet",
        SCORES,
    )
    plain, near = Annotator(small_run, "ada"), Annotator(small_run, "ada", near=0.65)
    assert (
        plain.triple_ids == shuffled(ids, 0)
        and near.triple_ids[0] == ids[4]
        and near.triple_ids[-1] == ids[-1]
    )
    assert (
        "0.65" not in near.static().data
        and "0.77" not in near.static().data
        and "critic" not in near.static().data
    )
    chosen = Annotator(
        small_run, "ada", triple_ids=["m3-0", "m1-1", "m3-0"], labels=small_run / "mine.parquet"
    )
    assert chosen.triple_ids == ["m3-0", "m1-1"]
    label_all(chosen, "a55")
    assert [r["triple_id"] for r in written(small_run, "mine.parquet")] == [
        "m3-0",
        "m1-1",
    ] and not (small_run / BY_PEOPLE).exists()


def test_nothing_is_shown_unescaped_and_what_others_said_is_not_shown(small_run):
    label_file(small_run / BY_PEOPLE, run_triple_ids(small_run)).add(
        *(
            dict(
                triple_id=t,
                annotator="bob-the-first",
                accept=True,
                qa_score=1.0,
                rationale_score=1.0,
            )
            for t in run_triple_ids(small_run)
        )
    )
    page = Annotator(small_run, "<i>ada</i>").static().data
    assert (
        "<script>" not in page
        and "&lt;script&gt;" in page
        and "<b>here" not in page
        and "<i>ada" not in page
        and "bob" not in page
    )
    assert (
        "data:image/jpeg" in page
        and "#05ff37" in page
        and 'alt="an image with dog as [0], man as [1] highlighted"' in page
    )
    assert "<summary>what to look for" in page and "pointed region" in page


def test_what_goes_wrong_is_said(small_run):
    one, two = (Annotator(small_run, "ada") for _ in range(2))  # in two windows
    for widget in (one, two):
        for key in "a55n":
            widget.press(key)
    assert (
        one.trouble.value == ""
        and "a second time" in two.trouble.value
        and two.shown["triple_id"] == one.shown["triple_id"]
    )
    for missing in (small_run / "images").iterdir():
        missing.unlink()
    one.press("s")
    assert "no picture: " in one.body.value and one.shown is not None and one.accept.disabled
    for key in "a55n":  # what is not seen is not labelled
        one.press(key)
    assert len(written(small_run)) == 1
    two.press("s")
    before = read_parquet(small_run / "triples.parquet", TRIPLES)
    write_parquet(before.slice(0, 3), small_run / "triples.parquet", TRIPLES)
    two._seen = True
    for key in "a55n":
        two.press(key)
    assert (
        "other triples by now" in two.trouble.value
        and read_parquet(small_run / BY_PEOPLE, LABELS).num_rows == 1
    )
    write_parquet(before, small_run / "triples.parquet", TRIPLES)
    with pytest.raises(ValueError, match="needs a name"):
        Annotator(small_run, " ")
    with pytest.raises(ValueError, match="triple 'x' is not among the 12"):
        Annotator(small_run, "ada", triple_ids=["m0-0", "x"])
    with pytest.raises(FileNotFoundError, match="scores.parquet"):
        Annotator(small_run, "ada", near=0.5)
    write_parquet(
        [dict(triple_id="other", annotator="ada", accept=True, qa_score=1.0, rationale_score=1.0)],
        small_run / BY_PEOPLE,
        one.file.schema,
    )
    with pytest.raises(ValueError, match="labels_by_people.parquet, row 0: triple 'other'"):
        Annotator(small_run, "ada")


def test_a_file_of_its_own_gets_triples_that_no_other_has(small_run):
    first = Annotator(small_run, "ada", number=2)
    label_all(first, "a55")
    second = small_run / "labels_to_measure.parquet"
    more = Annotator(small_run, "ada", labels=second.name, number=4)  # a name is a file of the run
    assert len(more.triple_ids) == 4
    images = [{name.split("-")[0] for name in one.triple_ids} for one in (first, more)]
    assert not images[0] & images[1], "nor another triple about an image that is learned from"
    label_all(more, "r11")
    again = Annotator(small_run, "ada", labels=second, number=5)
    assert again.triple_ids[:4] == more.triple_ids and "4 of 5" in again.progress.value
    assert Annotator(small_run, "ada", number=2).triple_ids == first.triple_ids
    asked = Annotator(small_run, "ada", triple_ids=first.triple_ids[:1], labels=second)
    assert asked.triple_ids == first.triple_ids[:1]  # by name, by all means


def test_what_points_at_nothing_is_shown_on_the_plain_image(small_run):
    rows = read_parquet(small_run / "triples.parquet", TRIPLES).to_pylist()
    plain = dict(question="Why is the man here?", answer="To rest.", rationale="He sits.")
    rows[0] |= plain
    write_parquet(rows, small_run / "triples.parquet", TRIPLES)
    told = Annotator(small_run, "ada", triple_ids=[rows[0]["triple_id"], rows[1]["triple_id"]])
    assert "highlighted" not in told.body.value and not told.accept.disabled
    for key in "a55n":
        told.press(key)
    assert "highlighted" in told.body.value
