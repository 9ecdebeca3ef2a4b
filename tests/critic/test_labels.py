"""Labels of triples: what is refused, what several of one triple come to, and who labels what."""

import math

import pyarrow as pa
import pytest

from lskd_nb.critic import labels as lb
from lskd_nb.critic.agreement import krippendorff_alpha
from lskd_nb.critic.model import critic_example
from lskd_nb.records import LABELS, REJECTS, SCORES, write_parquet

IDS = [f"t{n:03d}" for n in range(100)]


def label(
    triple: str,
    annotator: str = "ada",
    accept: object = True,
    qa: object = 1.0,
    rationale: object = 0.5,
) -> dict:
    return dict(
        triple_id=triple, annotator=annotator, accept=accept, qa_score=qa, rationale_score=rationale
    )


def table(*rows: dict) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=LABELS)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (label("t999"), "row 1: triple 't999' is not among the 100 of this run"),
        (label("t001", qa=1.5), "row 1: qa_score is 1.5, expected a number from 0 to 1"),
        (label("t001", rationale=-0.25), "row 1: rationale_score is -0.25"),
        (label("t001", rationale=math.nan), "row 1: rationale_score is nan"),
        (label("t001", qa=None), "row 1: qa_score is None"),
        (label("t001", accept=None), "row 1: accept is None, expected true or false"),
        (label("t001", annotator="  "), "row 1: no annotator is named"),
        (label("t001", annotator=None), "row 1: no annotator is named"),
        (label("t000", accept=False), "row 1: ada judges triple 't000' a second time"),
    ],
)
def test_what_is_no_label_is_named_with_file_and_row(tmp_path, row, message):
    write_parquet([label("t000"), row], tmp_path / "l.parquet", LABELS)
    with pytest.raises(ValueError, match=rf"l\.parquet, {message}"):
        lb.read_labels(tmp_path / "l.parquet", IDS)
    file = lb.label_file(tmp_path / "new.parquet", IDS)
    file.add(label("t000"))
    with pytest.raises(ValueError, match=rf"new\.parquet, {message}"):
        file.add(row)
    assert file.read().to_pylist() == [label("t000")]


def test_a_file_that_is_not_there_or_of_another_kind_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.parquet is not there: people's labels"):
        lb.read_labels(tmp_path / "none.parquet", IDS)
    write_parquet([], tmp_path / "s.parquet", SCORES)
    with pytest.raises(ValueError, match=r"lacks the columns \['annotator', 'accept'\]"):
        lb.read_labels(tmp_path / "s.parquet", IDS)


def test_one_label_of_each_triple_is_made_of_several():
    rows = [
        label("t1", "bob", False, 0.0, 0.0),
        label("t2", "ada", True),
        label("t1", "ada", True, 1.0, 0.5),
        label("t3", "ada", True, 1.0, 1.0),
        label("t3", "eve", False, 0.25, 0.25),
        label("t3", "bob", True, 0.25, 1.0),
        label("t4", "bob", False, 0.0, 0.0),
    ]
    found = lb.consensus(table(*rows))
    assert found == [
        label("t1", "ada + bob", False, 0.5, 0.25),  # a tie is no accept
        label("t2", "ada", True),
        label("t3", "ada + bob + eve", True, 0.5, 0.75),
        label("t4", "bob", False, 0.0, 0.0),
    ]
    assert lb.consensus(table(*found)) == found and lb.consensus(table()) == []


def test_no_triple_is_both_accept_and_reject_for_the_critic():
    triple = dict(
        question="Why is [0] here?", answer="To rest.", rationale="[0] sits.", regions_offered=[]
    )
    told = [
        critic_example("m.png", (), triple, row)
        for row in lb.consensus(table(*(label("t1", who, who == "ada") for who in ("ada", "bob"))))
    ]
    assert [t.accept for t in told] == [0.0]


def test_agreement_is_of_what_several_labelled():
    rows = [
        label("t1", "ada", True, 1.0, 1.0),
        label("t1", "bob", True, 0.75, 1.0),
        label("t2", "bob", False, 0.0, 1.0),
        label("t2", "eve", True, 0.5, 1.0),
        label("t3", "eve", False, 0.0, 0.0),
    ]
    found = lb.agreement(table(*rows))
    assert (found.annotators, found.triples, found.rationale_score) == (3, 2, None)
    assert found.accept == pytest.approx(krippendorff_alpha([[True, True], [False, True]]))
    assert found.qa_score == pytest.approx(
        krippendorff_alpha([[1.0, 0.75], [0.0, 0.5]], "interval")
    )
    assert lb.agreement(table(rows[0])) == lb.Agreement(0, 0, None, None, None)


def test_the_order_is_the_seeds_and_not_the_critics():
    first = lb.shuffled(IDS, 3)
    assert (
        sorted(first) == IDS
        and first != IDS
        and first == lb.shuffled(IDS[::-1], 3) != lb.shuffled(IDS, 4)
    )
    scores = pa.Table.from_pylist(
        [dict(triple_id=t, score=n / 100) for n, t in enumerate(IDS[:90])], schema=SCORES
    )
    near = lb.nearest(first, scores, 0.5)
    assert (
        near[0] == "t050" and set(near[1:3]) == {"t049", "t051"} and set(near[90:]) == set(IDS[90:])
    )  # without a score: last


def test_triples_are_dealt_out_with_an_overlap():
    ordered, names = lb.shuffled(IDS, 0), ("ada", "bob", "eve")
    parts = {who: lb.assign_annotators(ordered, who, names, 0.25, seed=1) for who in names}
    common = set.intersection(*(set(p) for p in parts.values()))
    assert len(common) == 25 and set.union(*(set(p) for p in parts.values())) == set(IDS)
    assert sum(len(p) for p in parts.values()) == 3 * 25 + 75 and {
        len(p) for p in parts.values()
    } == {50}
    for part in parts.values():
        assert [t for t in ordered if t in set(part)] == part
        assert 2 <= sum(t in common for t in part[:20]) <= 18  # not all at one end
    assert (
        lb.assign_annotators(ordered, "ada", names, 0.0)[0] == ordered[0]
        and lb.assign_annotators(ordered, "bob", names, 0.0)[0] == ordered[1]
    )
    assert (
        lb.assign_annotators(ordered, "bob", names, 1.0)
        == ordered
        == lb.assign_annotators(ordered, "who")
        and lb.assign_annotators([], "ada", names) == []
    )
    with pytest.raises(ValueError, match="annotator 'zoe' must be among the annotators"):
        lb.assign_annotators(ordered, "zoe", names)
    with pytest.raises(ValueError, match="each named once"):
        lb.assign_annotators(ordered, "ada", ("ada", "ada"))
    with pytest.raises(ValueError, match="overlap is 20"):
        lb.assign_annotators(ordered, "ada", names, 20)


def test_a_runs_triples_are_read_one_at_a_time(small_run):
    assert (
        lb.run_triple_ids(small_run)[:2] == ["m0-0", "m0-1"]
        and lb.run_triple(small_run, "m2-1")["image_id"] == "m2"
    )
    with pytest.raises(ValueError, match="triples.parquet has no triple 'x'"):
        lb.run_triple(small_run, "x")
    (small_run / "triples.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="run notebook 02 first"):
        lb.run_triple_ids(small_run)


# --------------------------------------------------------- what is learned from, and what measures


def test_labels_of_other_triples_are_counted_and_left_out(tmp_path):
    path = tmp_path / "l.parquet"
    write_parquet([label("t001"), label("gone", "bob"), label("t002")], path, LABELS)
    found = lb.labels_of_run(path, IDS, "03")
    assert found.labels["triple_id"].to_pylist() == ["t001", "t002"]
    (reject,) = write_parquet(found.rejects, tmp_path / "r.parquet", REJECTS).to_pylist()
    assert (reject["record"], reject["detail"]) == ("gone", "l.parquet, by bob")
    with pytest.raises(ValueError, match=r"l.parquet: none of its 3 labels is of this run's 1 tri"):
        lb.labels_of_run(path, ["other"], "03")
    write_parquet([label("gone"), label("t001", qa=7.0)], path, LABELS)
    with pytest.raises(ValueError, match="row 1: qa_score is 7.0"):
        lb.labels_of_run(path, IDS, "03")
    write_parquet([], path, LABELS)
    with pytest.raises(ValueError, match="it has no labels yet; label them with the annotation w"):
        lb.labels_of_run(path, IDS, "03")


def test_labels_of_another_kind_of_file_are_named(tmp_path):
    (tmp_path / "l.csv").write_text("triple_id,accept\nt001,1\n")
    with pytest.raises(ValueError, match=r"l.csv: labels are read from Parquet with the columns"):
        lb.labels_of_run(tmp_path / "l.csv", IDS, "03")
    with pytest.raises(FileNotFoundError, match="none.parquet is not there: people's labels"):
        lb.labels_of_run(tmp_path / "none.parquet", IDS, "03")
    (tmp_path / "l.parquet").write_text("triple_id,accept\nt001,1\n")
    with pytest.raises(ValueError, match="l.parquet is not a readable Parquet file"):
        lb.labels_of_run(tmp_path / "l.parquet", IDS, "03")


def test_some_images_are_held_out_and_never_all():
    images = [f"m{n // 3}" for n in range(30)]
    held = lb.images_held_out(images, 0.2, 0)
    assert len(held) == 2 and held < set(images)
    assert held == lb.images_held_out(images[::-1], 0.2, 0) != lb.images_held_out(images, 0.2, 1)
    assert len(lb.images_held_out(["a", "b", "a"], 0.01, 0)) == 1
    assert len(lb.images_held_out(["a", "b", "a"], 0.99, 0)) == 1
    for few, share in ((["a", "a"], 0.2), (["a", "b"], 0.0), (["a", "b"], 1.0), ([], 0.5)):
        with pytest.raises(
            ValueError, match=f"{len(set(few))} labelled images, a share of {share}"
        ):
            lb.images_held_out(few, share, 0)


def test_what_is_measured_is_nothing_that_was_learned_from(tmp_path):
    used = [label("t000"), label("t001", accept=False), label("t002")]
    write_parquet(used, tmp_path / "labels.parquet", LABELS)
    write_parquet(used[1:2], tmp_path / "labels_held_out.parquet", LABELS)
    known = lb.known_labels(tmp_path)
    assert known.learned == {"t000", "t002"} and known.held_out == {"t001": False}
    assert known.fresh({"t000": True, "t001": False, "t009": True}) == {"t001": False, "t009": True}
    with pytest.raises(ValueError, match=r"of 2 labels none is left .*labels_to_measure.parquet"):
        known.fresh({"t000": True, "t002": True})


def test_labels_of_other_files_of_the_folder_are_known(tmp_path):
    for name, triple in (
        ("labels.parquet", "t000"),
        (lb.BY_PEOPLE, "t001"),
        ("mine.parquet", "t2"),
    ):
        write_parquet([label(triple)], tmp_path / name, LABELS)
    write_parquet([], tmp_path / "labels_by_people.rejects.parquet", REJECTS)
    own = tmp_path / "labels_to_measure.parquet"
    write_parquet([label("t003")], own, LABELS)
    assert lb.labelled_elsewhere(tmp_path, own) == {"t000", "t001"}
    assert lb.labelled_elsewhere(tmp_path, tmp_path / lb.BY_PEOPLE) == {"t000", "t003"}
    assert lb.labelled_elsewhere(tmp_path, tmp_path / "mine.parquet") == {"t000", "t001", "t003"}
