"""All six benchmarks together: what is read, and what a system gets that knows the answers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lskd_nb.evaluation import choices, zero_shot
from lskd_nb.mini.files.world_files import write_world
from lskd_nb.mini.pretraining.base import fresh_student
from lskd_nb.students.views import FrozenFeatures

GIVEN = dict.fromkeys(zero_shot.SETS, "")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, 3, 4, 5, workers=1)
    return folder


@pytest.fixture(scope="module")
def sets(world) -> zero_shot.Benchmarks:
    places = zero_shot.benchmark_folders(world, world, GIVEN)
    return zero_shot.read_benchmarks(places, world / "candidates.json")


@pytest.fixture(scope="module")
def plain_sets(sets) -> zero_shot.Benchmarks:
    """The sets without what their files say of the teacher's typical answers."""
    return replace(sets, vcr=[replace(q, typical=None) for q in sets.vcr])


def told(sets: zero_shot.Benchmarks, task: str) -> list[Sequence[float]]:
    """The best scores there are, by what is on record about each item."""
    if task == "sherlock":
        return [np.mean([c.annot1, c.annot2], axis=0) for c in sets.sherlock]
    if task == "visualcomet":
        return [np.array(r.gold, float) for r in sets.visualcomet]
    items = zero_shot.benchmark_items(sets)[task]
    if task == "snli_ve_fitted":
        return [np.array([-float(i.label)]) for i in items]
    return [np.eye(len(i.choices))[i.label] for i in items]


def knowing(sets: zero_shot.Benchmarks, tasks: Sequence[str]) -> dict[str, pa.Table]:
    items = zero_shot.benchmark_items(sets)
    return {task: choices.predictions(items[task], told(sets, task), "it", 3) for task in tasks}


def test_an_empty_folder_is_the_mini_worlds_where_the_run_has_one(tmp_path):
    given, world = GIVEN | {"aokvqa": "sets/aokvqa"}, tmp_path / "world"
    assert zero_shot.benchmark_folders("root", world, given).files == {
        "aokvqa": Path("root/sets/aokvqa")
    }
    world.mkdir()
    places = zero_shot.benchmark_folders("root", world, given)
    assert places.files["vcr"] == world / "vcr"
    assert places.files["aokvqa"] == places.images["aokvqa"] == Path("root/sets/aokvqa")
    assert places.images["sherlock"] == places.images["visualcomet"] == places.files["vcr"]
    assert places.files["sherlock"] == world / "sherlock"


def test_sherlocks_images_may_lie_elsewhere_and_must_lie_somewhere():
    given = GIVEN | {"vcr": "vcr", "sherlock": "s", "visualcomet": "c"}
    places = zero_shot.benchmark_folders("root", "w", given, "genome")
    assert places.images["sherlock"] == Path("root/genome")
    assert places.images["visualcomet"] == Path("root/vcr")
    assert zero_shot.benchmark_folders("root", "w", GIVEN | {"vcr": "/v"}).files == {
        "vcr": Path("/v")
    }
    with pytest.raises(ValueError, match="sherlock_folder is given.*vcr_folder or sherlock_images"):
        zero_shot.benchmark_folders("root", "w", GIVEN | {"sherlock": "s"})
    with pytest.raises(ValueError, match="visualcomet_folder is given, its stills are VCR's"):
        zero_shot.benchmark_folders("root", "w", GIVEN | {"visualcomet": "c"}, "genome")


def test_all_sets_are_read_and_candidates_recorded(sets, world):
    assert all(getattr(sets, name) for name in zero_shot.SETS)
    assert sets.snli_ve_train
    assert set(sets.rejected) == {*zero_shot.SETS, "snli_ve_train"}
    assert not any(sets.rejected.values())
    places = zero_shot.benchmark_folders(world, world, GIVEN)
    again = zero_shot.read_benchmarks(
        places, world / "unused.json", world / "candidates.json", ranked_units=2, limit=3
    )
    assert not (world / "unused.json").exists()
    assert len(again.visualcomet) == 2 and len(again.vcr) == 3
    whole = {r.item.item_id: r for r in sets.visualcomet}
    assert all(whole[r.item.item_id].item.choices == r.item.choices for r in again.visualcomet)


def test_who_knows_the_answers_has_the_best_figures(sets):
    tasks = list(zero_shot.benchmark_items(sets))
    rows = zero_shot.official_metrics(sets, knowing(sets, tasks))
    assert set(rows) - {"typical"} == {*tasks, "vcr.q_ar", "grounding"}
    best = {task: of_task["correct"].astype(float).mean() for task, of_task in rows.items()}
    assert not best.pop("typical", 0.0)
    assert best.pop("sherlock") > 0.5  # people do not agree with each other wholly
    assert best == dict.fromkeys(best, 1.0)
    assert len(rows["snli_ve"]) == len(rows["snli_ve_fitted"]) == len(sets.snli_ve)
    assert {t for t in rows["snli_ve_fitted"]["task"]} == {"snli_ve_fitted"}
    assert {s for of_task in rows.values() for s in of_task["system"]} == {"it"}
    assert {s for of_task in rows.values() for s in of_task["seed"]} == {3}


def test_vcr_alone_has_vcrs_figures_alone(plain_sets):
    rows = zero_shot.official_metrics(plain_sets, knowing(plain_sets, ("vcr.q_a", "vcr.qa_r")))
    assert set(rows) == {"vcr.q_a", "vcr.qa_r", "vcr.q_ar", "grounding"}


def test_typical_is_measured_on_the_questions_that_have_it(plain_sets):
    first, second, *others = plain_sets.vcr
    usual = [replace(q, typical=(q.answer_label + 1) % 4) for q in (first, second)]
    sets = replace(plain_sets, vcr=[*usual, *others])
    knows = knowing(sets, ("vcr.q_a", "vcr.qa_r"))
    rows = zero_shot.official_metrics(sets, knows)["typical"]
    assert rows["item_id"].tolist() == [first.annot_id, second.annot_id]
    assert rows["correct"].tolist() == [0.0, 0.0] and set(rows["task"]) == {"typical"}
    scores = [np.roll(s, 1) for s in told(sets, "vcr.q_a")]  # the next answer is preferred
    fooled = choices.predictions(zero_shot.benchmark_items(sets)["vcr.q_a"], scores, "it", 3)
    rows = zero_shot.official_metrics(sets, knows | {"vcr.q_a": fooled})["typical"]
    assert rows["correct"].tolist() == [1.0, 1.0]


def test_stored_features_score_like_those_made_on_the_way(sets, world, tmp_path):
    student = fresh_student(0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32)
    student.eval().save(tmp_path / "student")
    images = zero_shot.benchmark_folders(world, world, GIVEN).images
    items = {task: of_task[:3] for task, of_task in zero_shot.benchmark_items(sets).items()}
    fresh = zero_shot.Scoring(tmp_path, stored_views=False)
    kept = zero_shot.Scoring(tmp_path / "kept")
    zero_shot.store_features(student, items, images, kept.folder / "views")
    views = [i.view for i in items["sherlock"]]
    store = FrozenFeatures(student, images["sherlock"], kept.folder / "views" / "sherlock")
    assert store.stored(views) is not None
    one, other = (
        zero_shot.predict("tiny", str(tmp_path / "student"), items, images, how)
        for how in (fresh, kept)
    )
    assert not (tmp_path / "views").exists()
    assert list(one.tables) == list(other.tables) == list(items)
    assert (one.pixels, one.cut) == (32, 0)
    assert one.texts == sum(len(i.choices) for of_task in items.values() for i in of_task)
    for task, table in one.tables.items():
        pairs = zip(
            table["scores"].to_pylist(), other.tables[task]["scores"].to_pylist(), strict=True
        )
        assert all(np.allclose(a, b, atol=2e-2) for a, b in pairs)
        assert table["item_id"].to_pylist() == [i.item_id for i in items[task]]
