"""Readers of Sherlock, VisualCOMET and A-OKVQA: real excerpts, the mini world's files, and
records changed at random.
"""

import copy
import json
import math
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd_nb.mini.files.world_files import read_truth, write_world
from lskd_nb.regions import mentions
from lskd_nb.run_folder import find_root
from lskd_nb.sources import BadRecord, count_reasons, finite, image_size, read_json
from lskd_nb.sources.aokvqa import read_aokvqa
from lskd_nb.sources.sherlock import (
    CORPUS,
    picture_path,
    read_comparison,
    read_sherlock,
    read_test_ids,
)
from lskd_nb.sources.visualcomet import (
    draw_candidates,
    flat_inferences,
    rankings,
    read_candidates,
    read_visualcomet,
    with_mentions,
    write_candidates,
)

SAMPLES = find_root().parent / "shared" / "samples"
CORPUS_VAL = CORPUS["val"][0]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks") / "world"
    write_world(folder, 10, 12, 5, workers=1)
    return folder


@pytest.fixture
def changed(world, tmp_path) -> Path:
    return Path(shutil.copytree(world, tmp_path / "world"))


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def sample(name: str) -> list[dict]:
    path = SAMPLES / name
    if not path.exists():
        pytest.skip(f"no sample {name} beside the project")
    return json.loads(path.read_text())


# ------------------------------------------------------------------------ records changed at random

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from([10**400, -1.5, 1e308, math.nan, math.inf, 12**12]),
    st.text(max_size=4),
    st.sampled_from(["3", "\ud800", "a/../../b", "x" * 300]),
    st.just([]),
    st.just({}),
    st.just([[]]),
    st.just(["", 2]),
)


@st.composite
def mutation(draw, record: dict) -> tuple[dict, set[str]]:
    """A record with one place of it removed or replaced, and the fields that lead there or were
    there.
    """
    record = copy.deepcopy(record)
    place, fields = record, set()
    while True:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        fields |= {key} if isinstance(key, str) else set()
        if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
            place = place[key]
            continue
        fields |= fields_of(place[key])
        if draw(st.booleans()):
            del place[key]
        else:
            place[key] = draw(VALUES)
        return record, fields


def fields_of(value: object) -> set[str]:
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set(value if isinstance(value, dict) else ()).union(*map(fields_of, below))


def check_reject(reject, fields: set[str], file: str, element: int) -> None:
    """A reject names the file, the element and the field."""
    assert reject.record == f"{file}, element {element}"
    assert any(field in reject.detail for field in fields), (fields, reject)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_changed_sherlock_row_is_read_right_or_rejected(tmp_path_factory, data):
    url = "https://cs.stanford.edu/people/rak248/VG_100K_2/7.jpg"
    box = dict(left=30, top=10, width=90, height=20)
    row = dict(
        inputs=dict(
            image=dict(url=url, width=100, height=80),
            bboxes=[box, box | dict(left=2)],
            clue="a cup",
            confidence=2.0,
            obs_idx=0,
        ),
        targets=dict(inference="it is  hot"),
        instance_id="a1",
        split_idx=0,
    )
    row_changed, fields = data.draw(mutation(row))
    folder = tmp_path_factory.mktemp("s")
    (folder / CORPUS_VAL).write_text(json.dumps([row, row_changed, row]))
    clues, rejects, clamped = read_sherlock(folder, "val", check_images=False)
    assert len(clues) + len(rejects) == 3 and clues[0] == clues[-1]
    if rejects:
        check_reject(rejects[0], fields, CORPUS_VAL, 1)
        return
    read, inputs = clues[1], row_changed["inputs"]
    width, height = inputs["image"]["width"], inputs["image"]["height"]
    given_boxes = [
        (b["left"], b["top"], b["left"] + b["width"], b["top"] + b["height"])
        for b in inputs["bboxes"]
    ]
    cut = [
        (max(x0, 0), max(y0, 0), min(x1, int(width)), min(y1, int(height)))
        for x0, y0, x1, y1 in given_boxes
    ]
    assert [r.box for r in read.image.regions] == cut and {r.id for r in read.image.regions} == {0}
    assert clamped == 2 + sum(c != g for c, g in zip(cut, given_boxes, strict=True))
    assert (read.clue, read.confidence, read.split_idx) == (
        " ".join(inputs["clue"].split()),
        inputs["confidence"],
        row_changed.get("split_idx"),
    )
    assert read.inference == " ".join(
        row_changed["targets"]["inference"].split()
    ) and read.instance_id == " ".join(row_changed["instance_id"].split())


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_changed_aokvqa_row_is_read_right_or_rejected(tmp_path_factory, data):
    row = dict(
        split="val",
        image_id=7,
        question_id="q",
        question="What is it?",
        choices=["a", "b", "c", "a"],
        correct_choice_idx=2,
        direct_answers=["c", "c", "d"],
        difficult_direct_answer=False,
        rationales=["r"],
    )
    row_changed, fields = data.draw(mutation(row))
    folder = tmp_path_factory.mktemp("a")
    (folder / "aokvqa_v1p0_val.json").write_text(json.dumps([row, row_changed]))
    questions, rejects = read_aokvqa(folder, "val", check_images=False)
    assert len(questions) + len(rejects) == 2
    if rejects:
        check_reject(rejects[0], fields, "aokvqa_v1p0_val.json", 1)
        return
    read = questions[1]
    assert (
        list(read.item.choices) == row_changed["choices"]
        and read.item.label == row_changed["correct_choice_idx"]
    )
    assert (
        list(read.direct_answers) == row_changed["direct_answers"]
        and read.difficult_direct_answer is row_changed["difficult_direct_answer"]
    )
    assert read.item.image.path == f"val2017/{row_changed['image_id']:012}.jpg"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_changed_visualcomet_record_is_read_right_or_rejected(world, tmp_path_factory, data):
    records = json.loads((world / "visualcomet/val_annots.json").read_text())[:3]
    row_changed, fields = data.draw(mutation(records[1]))
    folder = tmp_path_factory.mktemp("v")
    (folder / "val_annots.json").write_text(json.dumps([records[0], row_changed, records[2]]))
    units, rejects, _ = read_visualcomet(folder, "val", world / "vcr", check_images=False)
    events = {u.unit_id.rsplit("|", 1)[0] for u in units}
    assert {f"{r['img_fn']}|{r['event']}" for r in (records[0], records[2])} <= events
    pool = flat_inferences(folder)
    for unit in units:
        assert unit.gold and [pool[i].unit_id for i in unit.gold_indices] == [unit.unit_id] * len(
            unit.gold
        )
    if rejects:
        assert len(rejects) == 1
        check_reject(rejects[0], fields, "val_annots.json", 1)
        return
    said = {
        r: [" ".join(t.split()) for t in row_changed[r]]
        for r in ("intent", "before", "after")
        if row_changed.get(r)
    }
    mine = {
        u.relation: [with_mentions(pool[i].text, set()) for i in u.gold_indices]
        for u in units
        if u.unit_id.startswith(
            f"{' '.join(row_changed['img_fn'].split())}|{' '.join(row_changed['event'].split())}|"
        )
    }
    assert mine == said


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_changed_vcr_metadata_is_read_right_or_rejected(world, tmp_path_factory, data):
    record = json.loads((world / "visualcomet/val_annots.json").read_text())[0]
    metadata = json.loads((world / "vcr/vcr1images" / record["metadata_fn"]).read_text()) | {
        "segms": []
    }
    wrong, _ = data.draw(mutation(metadata))
    folder = tmp_path_factory.mktemp("m")
    (folder / "val_annots.json").write_text(json.dumps([record]))
    (folder / "vcr1images" / record["metadata_fn"]).parent.mkdir(parents=True)
    (folder / "vcr1images" / record["metadata_fn"]).write_text(json.dumps(wrong))
    units, rejects, clamped = read_visualcomet(folder, "val", folder, check_images=False)
    assert units or rejects
    for unit in units:
        assert all(
            0 <= r.box[0] < r.box[2] <= wrong["width"]
            and 0 <= r.box[1] < r.box[3] <= wrong["height"]
            for r in unit.image.regions
        )
        assert len(unit.image.regions) + sum("box" in r.record for r in rejects) == len(
            wrong["boxes"]
        )
        cut = [r for r in unit.image.regions if list(r.box) != wrong["boxes"][r.id][:4]]
        assert clamped == len(cut)


def test_beyond_floats_and_file_systems(tmp_path):
    with pytest.raises(BadRecord, match="bad number: x is 1000"):
        finite(10**400, "x")
    with pytest.raises(BadRecord, match="missing image"):
        image_size(tmp_path / ("x" * 400))
    with pytest.raises(ValueError, match="xxx: can't be read"):
        read_json(tmp_path / ("x" * 400))


# ----------------------------------------------------------------------------------------- Sherlock


def test_real_sherlock_rows(tmp_path):
    rows = sample("sherlock/sherlock_val_subset160.json")
    (tmp_path / CORPUS_VAL).write_text(json.dumps(rows))
    clues, rejects, clamped = read_sherlock(tmp_path, "val", check_images=False)
    assert len(clues) == 160 and not rejects
    overrun = 0
    for row, clue in zip(rows, clues, strict=True):
        image, boxes = row["inputs"]["image"], row["inputs"]["bboxes"]
        assert (clue.image.width, clue.image.height) == (image["width"], image["height"])
        assert image["url"].endswith(clue.image.path) and clue.image.path.startswith(
            "VG_100K" if "VG_" in image["url"] else "vcr1images/"
        )
        for box, region in zip(boxes, clue.image.regions, strict=True):
            x0, y0, x1, y1 = (
                box["left"],
                box["top"],
                box["left"] + box["width"],
                box["top"] + box["height"],
            )
            inside = x0 >= 0 and y0 >= 0 and x1 <= image["width"] and y1 <= image["height"]
            overrun += not inside
            assert not inside or region.box == (x0, y0, x1, y1)
            assert (
                0 <= region.box[0] < region.box[2] <= image["width"]
                and 0 <= region.box[1] < region.box[3] <= image["height"]
            )
        assert (clue.clue, clue.inference, clue.split_idx) == (
            row["inputs"]["clue"].strip(),
            row["targets"]["inference"].strip(),
            row["split_idx"],
        )
    assert clamped == overrun > 20 and max(len(c.image.regions) for c in clues) == 7
    assert len({c.image.image_id for c in clues}) == len(
        {r["inputs"]["image"]["url"] for r in rows}
    )
    missing, rejects, _ = read_sherlock(tmp_path, "val", limit=5)
    assert not missing and count_reasons(rejects) == {"missing image": 5}


def test_real_comparison_instance(tmp_path):
    (tmp_path / "test_comparison_public").mkdir()
    (tmp_path / "test_comparison_public/test_comparison_instances.json").write_text(
        json.dumps(sample("sherlock/comparison_instances_one.json"))
    )
    (comparison,), rejects, clamped = read_comparison(tmp_path, "test", check_images=False)
    assert (comparison.item.choices, comparison.annot1, rejects, clamped) == (
        ("this is a preferred posture",),
        (),
        [],
        0,
    )
    assert (
        comparison.test_ids == ("15cffa7518035ba4bda661d534660395",)
        and comparison.item.image.path == "VG_100K/2371713.jpg"
    )
    assert (
        comparison.item.image.regions[0].box == (201, 154, 371, 240)
        and comparison.item.slice == "visual_genome"
    )


def test_sherlock_of_the_world(world):
    truth = read_truth(world / "truth.jsonl")
    clues, rejects, clamped = read_sherlock(world / "sherlock", "train", world / "visual_genome")
    assert not rejects and not clamped and all(c.split_idx is None for c in clues)
    for clue in clues:
        entities = truth[clue.image.image_id].entities
        assert any(
            all(abs(a - b) <= 1 for a, b in zip(clue.image.regions[0].box, e.box, strict=True))
            and e.kind in clue.clue
            for e in entities
        )
    assert {c.split_idx for c in read_sherlock(world / "sherlock", "val", world / "vcr")[0]} == {0}
    with pytest.raises(ValueError, match="'test' is none of"):
        read_sherlock(world / "sherlock", "test")
    with pytest.raises(FileNotFoundError, match="sherlock_train_v1_1.json"):
        read_sherlock(world, "train")


def test_urls_by_the_official_rule():
    assert (
        picture_path("http://s3/ai2-rowanz/vcr1images/movieclips_VG/a@1.jpg")
        == "vcr1images/movieclips_VG/a@1.jpg"
    )
    for url in (
        "http://x/vcr1images/../../etc/a.jpg",
        "http://x/vcr1images/a.jpg",
        "http://x/VG_100K/a.jpg",
        "http://x/VG_100K_3/1.jpg",
        "VG_",
    ):
        with pytest.raises(BadRecord, match="url is"):
            picture_path(url)


def test_comparison_of_the_world(world, changed):
    key = json.loads((world / "sherlock/val_comparison_answer_key.json").read_text())
    comparisons, rejects, _ = read_comparison(world / "sherlock", "val", world / "vcr")
    assert not rejects and len(comparisons) == len(key["annotations"]) == 12
    for comparison, wrote in zip(comparisons, key["annotations"], strict=True):
        assert (
            comparison.item.choices == tuple(c["prediction"] for c in wrote["candidates"])
            and comparison.item.label is None
        )
        assert comparison.annot1 == tuple(c["annot1"] for c in wrote["candidates"])
        for test_id, candidate in zip(comparison.test_ids, wrote["candidates"], strict=True):
            assert key["test_id_map"][test_id] == dict(
                Input_iid=wrote["Input_iid"], candidate=candidate["source_iid"]
            )
    assert sorted(i for c in comparisons for i in c.test_ids) == read_test_ids(
        world / "sherlock", "val"
    )
    folder = changed / "sherlock"
    (folder / "val_comparison").mkdir()
    for part in ("instances", "answer_key"):  # where the archives unpack to
        (folder / f"val_comparison_{part}.json").rename(
            folder / f"val_comparison/val_comparison_{part}.json"
        )
    edit(
        folder / "val_comparison/val_comparison_answer_key.json",
        lambda k: k["annotations"][0]["candidates"][0].update(annot1="3.0"),
    )
    assert read_comparison(folder, "val", changed / "vcr") == (comparisons, [], 0)
    (folder / "val_comparison/val_comparison_instances.json").rename(
        folder / "test_comparison_instances.json"
    )
    hidden = read_comparison(folder, "test", check_images=False)[0]
    assert [c.test_ids for c in hidden] == [c.test_ids for c in comparisons] and not hidden[
        0
    ].annot2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda k: k["annotations"][2].pop("Input_iid"), "missing field"),
        (lambda k: k["annotations"].__setitem__(2, 7), "bad record"),
        (lambda k: k["annotations"][2]["candidates"].__setitem__(0, None), "bad record"),
        (lambda k: k["annotations"][2]["candidates"][0].update(annot2="often"), "bad number"),
        (lambda k: k["annotations"][2]["candidates"][0].pop("annot1"), "bad number"),
        (
            lambda k: k["annotations"][2]["candidates"][0].update(prediction="another"),
            "texts differ",
        ),
        (
            lambda k: k["annotations"][2]["candidates"][0].update(source_iid="nobody"),
            "unknown instance",
        ),
        (
            lambda k: k["annotations"][2].update(
                candidates=k["annotations"][2]["candidates"][:1] * 2
            ),
            "bad candidates",
        ),
        (
            lambda k: k["test_id_map"].__setitem__(
                next(
                    i
                    for i, m in k["test_id_map"].items()
                    if m["Input_iid"] == k["annotations"][2]["Input_iid"]
                ),
                3,
            ),
            "unknown instance",
        ),
    ],
)
def test_bad_comparisons_are_rejected(changed, change, reason):
    edit(changed / "sherlock/val_comparison_answer_key.json", change)
    comparisons, rejects, _ = read_comparison(changed / "sherlock", "val", changed / "vcr")
    assert len(comparisons) == 11 and rejects[-1].reason == reason
    assert rejects[-1].record == "val_comparison_answer_key.json, annotations, element 2"


def test_bad_comparison_files(changed):
    folder = changed / "sherlock"
    edit(
        folder / "val_comparison_instances.json",
        lambda rows: (
            rows[0]["region"][0].update(width=-4),
            rows[10].update(test_id=rows[11]["test_id"]),
        ),
    )
    comparisons, rejects, _ = read_comparison(folder, "val", changed / "vcr")
    assert len(comparisons) == 10 and [r.reason for r in rejects] == [
        "box of no area",
        "repeated test id",
        "unknown instance",
        "unknown instance",
    ]
    assert "region[0]: box" in rejects[0].detail
    (folder / "val_comparison_answer_key.json").write_text("[]")
    with pytest.raises(ValueError, match="answer_key.json: expected an object with test_id_map"):
        read_comparison(folder, "val", changed / "vcr")
    edit(folder / "val_comparison_instance_ids.json", lambda ids: ids.reverse())
    with pytest.raises(ValueError, match="expected a sorted list"):
        read_test_ids(folder, "val")


# -------------------------------------------------------------------------------------- VisualCOMET


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


def test_visualcomet_of_the_world(world):
    records = json.loads((world / "visualcomet/val_annots.json").read_text())
    units, rejects, clamped = read_visualcomet(world / "visualcomet", "val", world / "vcr")
    assert not rejects and not clamped and len({u.unit_id for u in units}) == len(units)
    assert (
        sum(len(u.gold) for u in units)
        == len(flat_inferences(world / "visualcomet"))
        == sum(len(r.get(k, [])) for r in records for k in ("intent", "before", "after"))
    )
    for unit in units:
        (subject,) = mentions(unit.event)
        assert next(r.label for r in unit.image.regions if r.id == subject) == "person"
        assert f"|{subject + 1} is" in unit.unit_id


def test_visualcomet_relations_may_be_missing_and_records_may_share_an_event(changed):
    folder = changed / "visualcomet"

    def change(records: list) -> None:
        first = records[0]
        first["xIntent"] = first.pop("intent")
        first["before"] = []
        first.pop("after", None)
        records.insert(1, first | dict(xIntent=["sit beside 1 for 9 minutes"], after=["leave"]))

    edit(folder / "val_annots.json", change)
    records = json.loads((folder / "val_annots.json").read_text())
    units, rejects, _ = read_visualcomet(folder, "val", changed / "vcr")
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
        read_visualcomet(folder, "val", changed / "vcr", limit=1)[0][0].gold == one[0].gold
    )  # whole, though the second record is beyond the limit
    shutil.copy(folder / "val_annots.json", folder / "test_annots.json")
    edit(
        folder / "test_annots.json",
        lambda rs: [r.pop(k, None) for r in rs for k in ("intent", "xIntent", "before", "after")],
    )
    hidden = read_visualcomet(folder, "test", changed / "vcr")[0]
    assert Counter(u.relation for u in hidden) == dict.fromkeys(
        ("intent", "before", "after"), len(records) - 1
    )
    assert all(u.gold == u.gold_indices == () for u in hidden)
    with pytest.raises(ValueError, match="'dev' is none of"):
        read_visualcomet(folder, "dev", changed / "vcr")


def test_visualcomet_pictures_and_people_that_are_missing(changed):
    folder = changed / "visualcomet"
    units, _, _ = read_visualcomet(folder, "val", changed / "vcr")
    path = changed / "vcr" / units[0].image.path
    about = [u for u in units if u.image == units[0].image]
    path.unlink()
    left, rejects, _ = read_visualcomet(folder, "val", changed / "vcr")
    assert len(left) == len(units) - len(about) and set(count_reasons(rejects)) == {"missing image"}
    assert read_visualcomet(folder, "val", changed / "vcr", check_images=False)[0] == units
    subject = mentions(units[0].event)[0]
    edit(path.with_suffix(".json"), lambda m: m["boxes"].__setitem__(subject, [9, 9, 9, 9, 1]))
    _, rejects, _ = read_visualcomet(folder, "val", changed / "vcr", check_images=False)
    assert {"box of no area", "unknown region"} == set(count_reasons(rejects))


def test_candidates_are_recorded_and_read_back(world, changed, tmp_path):
    folder, path = changed / "visualcomet", tmp_path / "candidates.json"
    drawn = draw_candidates(folder, number=12, seed=3)
    write_candidates(drawn, path)
    assert read_candidates(path, folder) == drawn == draw_candidates(folder, number=12, seed=3)
    assert drawn != draw_candidates(folder, number=12, seed=4)
    pool, units = flat_inferences(folder), read_visualcomet(folder, "val", changed / "vcr")[0]
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


def test_candidates_as_their_authors_published_them(world, tmp_path):
    folder, path = world / "visualcomet", tmp_path / "val_rank_random_50.json"
    pool, results = flat_inferences(folder), []
    for unit in read_visualcomet(folder, "val", world / "vcr")[0]:
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


# ------------------------------------------------------------------------------------------ A-OKVQA


def test_real_aokvqa_rows():
    rows = sample("aokvqa/aokvqa_v1p0_val.json")
    questions, rejects = read_aokvqa(SAMPLES / "aokvqa", "val", check_images=False)
    assert len(questions) == 100 and not rejects
    for row, question in zip(rows, questions, strict=True):
        assert (
            question.item.choices[question.item.label] == row["choices"][row["correct_choice_idx"]]
        )
        assert (
            question.direct_answers == tuple(row["direct_answers"])
            and len(question.rationales) == 3
        )
        assert question.difficult_direct_answer is row["difficult_direct_answer"]
    assert (
        sum(len(set(q.item.choices)) < 4 for q in questions) == 2
    )  # real questions offer a choice twice
    assert {q.item.slice for q in questions} >= {"what", "why", "where", "other"}


def test_aokvqa_of_the_world(world, changed):
    questions, rejects = read_aokvqa(world / "aokvqa", "val")
    assert (
        questions
        and not rejects
        and all((q.item.image.width, q.item.image.height) == (320, 240) for q in questions)
    )
    folder = changed / "aokvqa"
    shutil.copy(folder / "aokvqa_v1p0_val.json", folder / "aokvqa_v1p0_test.json")
    hidden = ("correct_choice_idx", "direct_answers", "rationales")
    edit(
        folder / "aokvqa_v1p0_test.json",
        lambda rows: [(row.update(split="test"), [row.pop(k) for k in hidden]) for row in rows],
    )
    test, rejects = read_aokvqa(folder, "test", check_images=False)
    assert len(test) == len(questions) and not rejects
    assert all(q.item.label is None and q.direct_answers == () == q.rationales for q in test)
    edit(folder / "aokvqa_v1p0_val.json", lambda rows: rows[0].pop("correct_choice_idx"))
    (folder / questions[1].item.image.path).unlink()
    left, rejects = read_aokvqa(folder, "val")
    assert len(left) == len(questions) - 2 and count_reasons(rejects) == {
        "missing field": 1,
        "missing image": 1,
    }
    with pytest.raises(ValueError, match="'dev' is none of"):
        read_aokvqa(folder, "dev")
