"""The sample that people label: drawn once, in two parts that share no image."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lskd_nb.critic import label_sample as ls
from lskd_nb.critic.label_status import label_status
from lskd_nb.critic.labels import BY_PEOPLE, with_gone
from lskd_nb.records import LABELS, write_parquet

PARTS = ("learn", "measure")
SMALL = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def write_triples(run: Path, sizes: dict[str, int]) -> None:
    """As many triples about each image."""
    rows = [(f"{image}-{n}", image) for image, number in sizes.items() for n in range(number)]
    names = zip(("triple_id", "image_id"), zip(*rows, strict=True), strict=True)
    pq.write_table(pa.table(dict(names)), run / "triples.parquet")


def label_them(run: Path, name: str, triples: list[str]) -> None:
    said = dict(annotator="ada", qa_score=1.0, rationale_score=0.5)
    rows = [dict(triple_id=t, accept=n % 2 == 0, **said) for n, t in enumerate(triples)]
    write_parquet(rows, run / name, LABELS)


def images(triples) -> set[str]:
    return {triple.rsplit("-", 1)[0] for triple in triples}


sizes = st.dictionaries(
    st.sampled_from([f"m{n}" for n in range(12)]), st.integers(1, 6), min_size=1
)
some = st.lists(st.integers(0, 80), max_size=12, unique=True)


@given(sizes, sizes, some, some, st.integers(1, 40), st.integers(0, 3))
@SMALL
def test_parts_share_no_image_whatever_is_labelled_and_whatever_goes(
    tmp_path, first, then, learned, measured, number, seed
):
    for path in tmp_path.glob("*.parquet"):
        path.unlink()
    ours, other = tmp_path / BY_PEOPLE, tmp_path / ls.TO_MEASURE
    write_triples(tmp_path, first)
    before = ls.draw_sample(tmp_path, ours, number, seed)
    parts = {p: before.sample.filter(pa.compute.equal(before.sample["part"], p)) for p in PARTS}
    learn, measure = (parts[p]["triple_id"].to_pylist() for p in PARTS)
    assert not images(learn) & images(measure) and len({*learn, *measure}) <= number
    assert (len(first) > 2 and number > 1) == bool(measure), "none where there are few images"
    assert (ls.to_label(tmp_path), ls.to_label(tmp_path, other)) == (learn, measure)
    again = ls.draw_sample(tmp_path, ours, number, seed)
    assert (again.new, again.gone) == (0, 0) and again.sample.equals(before.sample)
    # some are labelled, of the sample and besides; then there are other triples
    everything = pq.read_table(tmp_path / "triples.parquet")["triple_id"].to_pylist()
    chosen = [everything[n] for n in learned if n < len(everything)]
    label_them(tmp_path, BY_PEOPLE, chosen)
    label_them(tmp_path, other.name, measured := [measure[n] for n in measured if n < len(measure)])
    asked = ls.to_label(tmp_path, other)
    assert not images(asked) & images(chosen), "an image of the first file is in the second"
    assert not images(ls.to_label(tmp_path)) & images(measured)
    write_triples(tmp_path, then)
    left = set(pq.read_table(tmp_path / "triples.parquet")["triple_id"].to_pylist())
    after = ls.draw_sample(tmp_path, ours, number, seed)
    rows = after.sample.to_pydict()
    part = dict(zip(rows["triple_id"], rows["part"], strict=True))
    assert after.gone == len({*learn, *measure} - left) and part.keys() <= left
    assert not images(t for t in part if part[t] == "learn") & images(
        t for t in part if part[t] == "measure"
    )
    assert {t for t in learn if t in left} <= {t for t in part if part[t] == "learn"}
    assert {t: part[t] for t in chosen if t in left} == {t: "learn" for t in chosen if t in left}
    kept = [t for t in measured if t in left and t.rsplit("-", 1)[0] not in images(chosen)]
    assert all(part[t] == "measure" for t in kept), "what is labelled stays"


def test_a_larger_run_fills_the_sample_up_and_the_seed_decides(tmp_path):
    ours = tmp_path / BY_PEOPLE
    write_triples(tmp_path, {f"m{n}": 3 for n in range(10)})
    small = ls.draw_sample(tmp_path, ours, 40)
    assert (small.number("learn"), small.number("measure"), small.gone) == (27, 3, 0)
    write_triples(tmp_path, {f"m{n}": 3 for n in range(400)})
    large = ls.draw_sample(tmp_path, ours, 40)
    assert (large.number("learn"), large.number("measure"), large.gone) == (36, 4, 0)
    assert large.new == 10 and set(small.sample["triple_id"].to_pylist()) < set(
        large.sample["triple_id"].to_pylist()
    )
    drawn = []
    for seed in (0, 0, 1):
        (tmp_path / ls.FILE).unlink()
        drawn.append(ls.draw_sample(tmp_path, ours, 40, seed).sample.to_pylist())
    assert drawn[0] == drawn[1] != drawn[2] and len(images(t["triple_id"] for t in drawn[0])) > 30


def test_the_file_that_is_learned_from_may_be_any(tmp_path):
    write_triples(tmp_path, {f"m{n}": 2 for n in range(8)})
    mine = tmp_path / "elsewhere" / "mine.parquet"
    drawn = ls.draw_sample(tmp_path, mine, 100)
    assert ls.learned_from(tmp_path).resolve() == mine and ls.learns_from(tmp_path, mine)
    assert len(ls.to_label(tmp_path, mine)) == drawn.number("learn") == 14
    assert len(ls.to_label(tmp_path, tmp_path / "labels_two.parquet")) == 2
    mine.parent.mkdir()
    label_them(mine.parent, mine.name, [ls.to_label(tmp_path, tmp_path / "labels_two.parquet")[0]])
    assert ls.to_label(tmp_path, tmp_path / "labels_two.parquet") == []
    with pytest.raises(FileNotFoundError, match="run notebook 02 first"):
        ls.draw_sample(mine.parent, mine, 100)


def test_labels_of_triples_that_are_gone_stay_in_their_file(tmp_path):
    """Of some a file may tell; of none but others it is the file of another run."""
    label_them(tmp_path, BY_PEOPLE, ["m0-0", "gone-0"])
    assert with_gone(tmp_path / BY_PEOPLE, ["m0-0", "m0-1"]) == {"m0-0", "m0-1", "gone-0"}
    assert with_gone(tmp_path / BY_PEOPLE, ["m1-0"]) == {"m1-0"}
    write_triples(tmp_path, {"m0": 2, "m1": 1})
    told = label_status(tmp_path, tmp_path / BY_PEOPLE, tmp_path / ls.TO_MEASURE)
    assert (told.learn.images, told.learn.left_out, told.enough) == (1, 1, False)
    assert "1 labels are of triples that the run does not have" in "\n".join(told.lines())
    assert "`lskd run` draws it" in told.lines()[0]


def test_the_status_says_who_how_much_and_what_is_wanted(tmp_path):
    write_triples(tmp_path, {f"m{n}": 3 for n in range(10)})
    ls.draw_sample(tmp_path, tmp_path / BY_PEOPLE, 30)
    asked = ls.to_label(tmp_path)
    row = dict(qa_score=1.0, rationale_score=0.5)
    said = [("ada", 0, True), ("ada", 1, False), ("bob", 0, True), ("bob", 1, True)]
    rows = [dict(triple_id=asked[n], annotator=who, accept=yes, **row) for who, n, yes in said]
    write_parquet(rows, tmp_path / BY_PEOPLE, LABELS)
    told = label_status(tmp_path, tmp_path / BY_PEOPLE, tmp_path / ls.TO_MEASURE)
    lines = "\n".join(told.lines())
    assert "2 triples labelled, by ada (2), bob (2); 1 accepted (50%)" in lines
    assert "2 of the sample's 27, 25 to go" in lines and "0 of the sample's 3, 3 to go" in lines
    assert "2 people labelled 2 of them in common: Krippendorff's alpha accept 0.00" in lines
    assert "warning: 2 labels are few: below 300" in lines and told.enough
