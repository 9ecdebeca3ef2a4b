"""VisualCOMET: the mini world's files, candidates, and records changed at random."""

import copy
import json
import re
import shutil
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd_nb.regions import mentions
from lskd_nb.sources import count_reasons
from lskd_nb.sources.visualcomet import (
    draw_candidates,
    flat_inferences,
    rankings,
    read_candidates,
    read_visualcomet,
    with_mentions,
    write_candidates,
)

# ------------------------------------------------------------------------ records changed at random


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_changed_visualcomet_record_is_read_right_or_rejected(
    check_reject, mutation, small_world, tmp_path_factory, data
):
    records = json.loads((small_world / "visualcomet/val_annots.json").read_text())[:3]
    row_changed, fields = data.draw(mutation(records[1]))
    folder = tmp_path_factory.mktemp("v")
    (folder / "val_annots.json").write_text(json.dumps([records[0], row_changed, records[2]]))
    units, rejects, _ = read_visualcomet(folder, "val", small_world / "vcr", check_images=False)
    events = {u.unit_id.rsplit("|", 1)[0] for u in units}
    assert {f"{r['img_fn']}|{r['event']}" for r in (records[0], records[2])} <= events
    pool = flat_inferences(folder)
    for unit in units:
        assert unit.gold and [pool[i].unit_id for i in unit.gold_indices] == [unit.unit_id] * len(
            unit.gold
        )
    assert len(rejects) <= 2  # a list may have two bad texts
    for reject in rejects:
        check_reject(reject, fields, "val_annots.json", 1)
    if rejects and not re.match(r"(intent|before|after)\b", rejects[0].detail):
        return  # the whole record is lost
    said = {
        r: [" ".join(t.split()) for t in texts if isinstance(t, str) and t.strip()]
        for r in ("intent", "before", "after")
        if isinstance(texts := row_changed.get(r), list)
    }
    said = {r: texts for r, texts in said.items() if texts}
    mine = {
        u.relation: [with_mentions(pool[i].text, set()) for i in u.gold_indices]
        for u in units
        if u.unit_id.startswith(
            f"{' '.join(row_changed['img_fn'].split())}|{' '.join(row_changed['event'].split())}|"
        )
    }
    assert mine == said


# ------------------------------------------------------------------------------------ read as it is


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 is looking at 3", "[0] is looking at [2]"),
        ("2's friends, 1,3 and 2.", "[1]'s friends, [0],[2] and [1]."),
        ("does 1 see 3?", "does [0] see [2]?"),
        ("1 waits 5 minutes for 4", "[0] waits 5 minutes for 4"),  # no such people
        ("at 3:30 the 1st of 2nd", "at 3:30 the 1st of 2nd"),
        ("3.50 dollars, 0 left, 01", "3.50 dollars, 0 left, 01"),
        ("² and ٣ are no ids", "² and ٣ are no ids"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_digits_that_name_people(text, expected):
    assert with_mentions(text, {0, 1, 2}) == expected


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.sampled_from(["1", "2", "4", "17", "to", "dog", "1's", "2,", "4.", "it?"]),
        min_size=1,
        max_size=9,
    )
)
def test_mentions_are_those_of_the_authors_tokenizer(words):
    tokens = (
        " ".join(words)
        .replace(",", " , ")
        .replace("'", " '")
        .replace(".", " .")
        .replace("?", " ?")
        .split()
    )
    people = {0, 1, 3}
    assert mentions(with_mentions(" ".join(words), people)) == list(
        dict.fromkeys(int(t) - 1 for t in tokens if t.isdigit() and int(t) - 1 in people)
    )


def test_visualcomet_of_the_world(small_world):
    records = json.loads((small_world / "visualcomet/val_annots.json").read_text())
    units, rejects, clamped = read_visualcomet(
        small_world / "visualcomet", "val", small_world / "vcr"
    )
    assert not rejects and not clamped and len({u.unit_id for u in units}) == len(units)
    assert (
        sum(len(u.gold) for u in units)
        == len(flat_inferences(small_world / "visualcomet"))
        == sum(len(r.get(k, [])) for r in records for k in ("intent", "before", "after"))
    )
    for unit in units:
        (subject,) = mentions(unit.event)
        assert next(r.label for r in unit.image.regions if r.id == subject) == "person"
        assert f"|{subject + 1} is" in unit.unit_id


def test_visualcomet_relations_may_be_missing_and_records_may_share_an_event(edit, small_copy):
    folder = small_copy / "visualcomet"

    def change(records: list) -> None:
        first = records[0]
        first["xIntent"] = first.pop("intent")
        first["before"] = []
        first.pop("after", None)
        records.insert(1, first | dict(xIntent=["sit beside 1 for 9 minutes"], after=["leave"]))

    edit(folder / "val_annots.json", change)
    records = json.loads((folder / "val_annots.json").read_text())
    units, rejects, _ = read_visualcomet(folder, "val", small_copy / "vcr")
    one = [
        u for u in units if u.unit_id.startswith(f"{records[0]['img_fn']}|{records[0]['event']}|")
    ]
    assert not rejects and [u.relation for u in one] == ["intent", "after"]
    assert (
        one[0].gold[0] == records[0]["xIntent"][0]
        and one[0].gold[1].endswith("for 9 minutes")
        and one[0].gold_indices == (0, 1)
    )
    assert (
        read_visualcomet(folder, "val", small_copy / "vcr", limit=1)[0][0].gold == one[0].gold
    )  # whole, though the second record is beyond the limit
    shutil.copy(folder / "val_annots.json", folder / "test_annots.json")
    edit(
        folder / "test_annots.json",
        lambda rs: [r.pop(k, None) for r in rs for k in ("intent", "xIntent", "before", "after")],
    )
    hidden = read_visualcomet(folder, "test", small_copy / "vcr")[0]
    assert Counter(u.relation for u in hidden) == dict.fromkeys(
        ("intent", "before", "after"), len(records) - 1
    )
    assert all(u.gold == u.gold_indices == () for u in hidden)
    with pytest.raises(ValueError, match="'dev' is none of"):
        read_visualcomet(folder, "dev", small_copy / "vcr")


def test_visualcomet_pictures_and_people_that_are_missing(edit, small_copy):
    folder = small_copy / "visualcomet"
    units, _, _ = read_visualcomet(folder, "val", small_copy / "vcr")
    path = small_copy / "vcr" / units[0].image.path
    about = [u for u in units if u.image == units[0].image]
    path.unlink()
    left, rejects, _ = read_visualcomet(folder, "val", small_copy / "vcr")
    assert len(left) == len(units) - len(about) and set(count_reasons(rejects)) == {"missing image"}
    assert read_visualcomet(folder, "val", small_copy / "vcr", check_images=False)[0] == units
    subject = mentions(units[0].event)[0]
    edit(path.with_suffix(".json"), lambda m: m["boxes"].__setitem__(subject, [9, 9, 9, 9, 1]))
    _, rejects, _ = read_visualcomet(folder, "val", small_copy / "vcr", check_images=False)
    assert {"box of no area", "unknown region"} == set(count_reasons(rejects))


def test_what_is_good_of_a_record_is_kept(edit, small_copy):
    folder = small_copy / "visualcomet"
    before, _, _ = read_visualcomet(folder, "val", small_copy / "vcr")

    def change(records: list) -> None:
        records[0]["intent"] = [" ", *records[0]["intent"], None]
        records[0]["after"] = "leave"

    edit(folder / "val_annots.json", change)
    units, rejects, _ = read_visualcomet(folder, "val", small_copy / "vcr")
    lost = [u.unit_id for u in before if u.unit_id not in {v.unit_id for v in units}]
    assert len(lost) == 1 and lost[0].endswith("|after")
    assert units[0].gold == before[0].gold and units[0].relation == "intent"
    assert [r.detail for r in rejects] == [
        "intent[0] is ' ', expected a text",
        f"intent[{len(before[0].gold) + 1}] is None, expected a text",
        "after is str, expected a list",
    ]


def test_a_person_without_box_loses_the_relations_that_name_them(edit, small_copy):
    folder, stills = small_copy / "visualcomet", small_copy / "vcr"
    units, _, _ = read_visualcomet(folder, "val", stills)
    subject = mentions(units[0].event)[0]
    path = (stills / units[0].image.path).with_suffix(".json")
    metadata = json.loads(path.read_text())
    extra = len(metadata["names"])  # one more person, whose box has no area
    metadata["names"].append("person")
    metadata["boxes"].append([5, 5, 5, 9, 1])
    path.write_text(json.dumps(metadata))
    edit(
        folder / "val_annots.json",
        lambda records: records[0]["before"].append(f"see {extra + 1} and {subject + 1}"),
    )
    left, rejects, _ = read_visualcomet(folder, "val", stills)
    lost = {u.unit_id for u in units} - {u.unit_id for u in left}
    assert [i.rsplit("|")[-1] for i in lost] == ["before"]
    assert [r.reason for r in rejects] == ["box of no area", "unknown region"]
    assert rejects[1].detail.startswith("before: 'see ")


def test_candidates_are_recorded_and_read_back(edit, small_world, small_copy, tmp_path):
    folder, path = small_copy / "visualcomet", tmp_path / "candidates.json"
    drawn = draw_candidates(folder, number=12, seed=3)
    write_candidates(drawn, path)
    assert read_candidates(path, folder) == drawn == draw_candidates(folder, number=12, seed=3)
    assert drawn != draw_candidates(folder, number=12, seed=4)
    pool, units = flat_inferences(folder), read_visualcomet(folder, "val", small_copy / "vcr")[0]
    assert {len(i) for i in drawn.indices.values()} == {12}
    for ranking, unit in zip(rankings(units, drawn, pool), units, strict=True):
        assert [
            t for t, right in zip(ranking.item.choices, ranking.gold, strict=True) if right
        ] == list(unit.gold)
        assert ranking.item.label is None and ranking.item.slice == unit.relation
    content = json.loads(path.read_text())
    name = next(iter(content["units"]))
    for spoil, message in (
        (lambda c: c["units"][name].append(len(pool)), "expected indices from 0"),
        (lambda c: c["units"][name].append(True), "expected indices from 0"),
        (
            lambda c: c["units"].update({name: c["units"][name][:1] * 2}),
            "expected different indices",
        ),
        (lambda c: c["units"].update(nobody=[0]), "nobody: expected different"),
        (lambda c: c.update(units=3), "expected an object with units"),
    ):
        wrong = copy.deepcopy(content)
        spoil(wrong)
        path.write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match=message):
            read_candidates(path, folder)
    write_candidates(drawn, path)
    edit(folder / "val_annots.json", lambda records: records.pop())
    with pytest.raises(ValueError, match="drawn from other annotations"):
        read_candidates(path, folder)


def test_candidates_as_their_authors_published_them(small_world, tmp_path):
    folder, path = small_world / "visualcomet", tmp_path / "val_rank_random_50.json"
    pool, results = flat_inferences(folder), []
    for unit in read_visualcomet(folder, "val", small_world / "vcr")[0]:
        img_fn, event, relation = unit.unit_id.split("|")
        indices = [
            *unit.gold_indices,
            *(i for i in range(len(pool) - 1, -1, -1) if i not in unit.gold_indices),
        ][:9]  # theirs come first
        results.append(
            dict(
                img_fn=img_fn,
                event=event,
                inference_relation=relation,
                inference_text=pool[indices[0]].text,
                inference_candidate_indices=indices,
                rank=list(range(9)),
                num_gt=len(unit.gold),
                recall=1.0,
            )
        )
    path.write_text(json.dumps(dict(mean_recall=1.0, results=results)))
    found = read_candidates(path, folder)
    assert found.seed is None and [list(i) for i in found.indices.values()] == [
        r["inference_candidate_indices"] for r in results
    ]
    for key, value, message in (
        ("inference_text", "another", "texts differ"),
        ("inference_candidate_indices", None, "bad list"),
        ("event", 3, "event is 3"),
    ):
        path.write_text(json.dumps(dict(results=[results[0], results[1] | {key: value}])))
        with pytest.raises(ValueError, match=f"element 1: .*{message}"):
            read_candidates(path, folder)
