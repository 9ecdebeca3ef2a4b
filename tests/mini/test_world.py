"""The embedded world on disk: real formats, whole or absent, and questions that only a look at
the picture answers.
"""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lskd_nb.mini.files import world_files
from lskd_nb.mini.files.plain_questions import facts, hypotheses, visual7w_questions
from lskd_nb.mini.files.vcr_questions import draw_distractors, premises, supports, vcr_questions
from lskd_nb.mini.files.world_files import read_truth, world_pictures, write_truth, write_world
from lskd_nb.mini.scenes import grammar
from lskd_nb.mini.scenes.rules import conclusions
from lskd_nb.mini.scenes.world import sample_scenes
from lskd_nb.run_folder import find_root

SAMPLES = find_root().parent / "shared" / "samples"
TRAIN, VAL = 24, 12
SCENES = sample_scenes(560, 77, "s")
HELD_OUT = sample_scenes(560, 78, "h")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mini") / "world"
    write_world(folder, TRAIN, VAL, seed=3, workers=1)
    return folder


def _json(path: Path):
    return json.loads(path.read_text())


def _jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# ------------------------------------------------------------------------------------------ on disk


def test_second_call_writes_nothing(world):
    before = {p: p.stat().st_mtime_ns for p in world.rglob("*") if p.is_file()}
    marker = write_world(world, TRAIN, VAL, seed=3, workers=1)
    assert {p: p.stat().st_mtime_ns for p in world.rglob("*") if p.is_file()} == before
    assert marker["counts"]["scenes"] == TRAIN + VAL
    assert marker["counts"]["pictures"] == len(list(world.rglob("*.jpg")))


@pytest.mark.parametrize("damage", ["edit", "delete", "picture"])
def test_damaged_world_is_written_anew(tmp_path, damage):
    marker = write_world(tmp_path / "w", 3, 3, seed=0)
    path = tmp_path / "w" / "vcr/val.jsonl"
    good = path.read_bytes()
    if damage == "edit":
        path.write_bytes(good[: len(good) // 2])
    elif damage == "delete":
        path.unlink()
    else:
        next((tmp_path / "w/visual_genome/VG_100K").glob("*.jpg")).unlink()
    assert write_world(tmp_path / "w", 3, 3, seed=0) == marker
    assert path.read_bytes() == good
    assert len(list((tmp_path / "w/visual_genome/VG_100K").glob("*.jpg"))) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["w"]


def test_other_arguments_replace_the_world(tmp_path):
    one = write_world(tmp_path / "w", 3, 3, seed=0)
    two = write_world(tmp_path / "w", 4, 3, seed=0)
    assert one["files"] != two["files"] and two["counts"]["visual_genome/objects.json"] == 4
    assert len(list((tmp_path / "w/visual_genome/VG_100K").iterdir())) == 4


def test_killed_write_leaves_no_world(tmp_path, monkeypatch):
    drawn = []

    def die(scene):
        drawn.append(scene)
        if len(drawn) == 4:
            raise KeyboardInterrupt
        return Image.new("RGB", (320, 240))

    monkeypatch.setattr(world_files, "render", die)
    with pytest.raises(KeyboardInterrupt):
        write_world(tmp_path / "w", 3, 3, seed=0)
    assert not (tmp_path / "w").exists()
    monkeypatch.undo()
    assert write_world(tmp_path / "w", 3, 3, seed=0)["counts"]["scenes"] == 6
    assert [p.name for p in tmp_path.iterdir()] == ["w"]


def test_refuses_a_folder_with_something_else(tmp_path):
    (tmp_path / "thesis.txt").write_text("do not lose")
    with pytest.raises(ValueError, match="is not empty and holds no world.json"):
        write_world(tmp_path, 3, 3, seed=0)
    assert (tmp_path / "thesis.txt").read_text() == "do not lose"
    with pytest.raises(ValueError, match="at least 1"):
        write_world(tmp_path / "w", 0, 3, seed=0)
    with pytest.raises(ValueError, match="not valid JSON"):
        (tmp_path / "world.json").write_text("{")
        write_world(tmp_path, 3, 3, seed=0)


def test_splits_share_no_scene_and_do_not_depend_on_size():
    train, val = world_pictures(40, 40, seed=0)
    assert len({repr((p.scene.entities, p.scene.seed)) for p in train + val}) == 80
    assert len({p.number for p in train + val}) == 80
    assert world_pictures(10, 5, seed=0) == (train[:10], val[:5])
    assert world_pictures(10, 5, seed=1)[0][0].scene.entities != train[0].scene.entities


def test_truth_round_trip_and_errors(tmp_path, world):
    train, val = world_pictures(TRAIN, VAL, seed=3)
    truth = read_truth(world / "truth.jsonl")
    assert truth[str(train[5].number)] == train[5].scene
    assert truth["val-2"] == val[2].scene == truth[str(val[2].number)]
    write_truth(tmp_path / "t.jsonl", truth)
    assert read_truth(tmp_path / "t.jsonl") == truth
    (tmp_path / "t.jsonl").write_text(
        (world / "truth.jsonl").read_text().splitlines()[0] + '\n{"image_id": "7"}\n'
    )
    with pytest.raises(ValueError, match=r"t.jsonl, line 2: not a scene"):
        read_truth(tmp_path / "t.jsonl")
    with pytest.raises(FileNotFoundError, match="nowhere.jsonl"):
        read_truth(tmp_path / "nowhere.jsonl")


def test_pictures_are_shared_and_all_that_rows_name_exist(world):
    for split in ("train", "val"):
        for row in _json(world / f"aokvqa/aokvqa_v1p0_{split}.json"):
            assert (world / f"aokvqa/{split}2017/{row['image_id']:012}.jpg").is_file()
        for row in _json(world / f"visualcomet/{split}_annots.json"):
            assert (world / "vcr/vcr1images" / row["img_fn"]).is_file()
            people = len(_json(world / "vcr/vcr1images" / row["metadata_fn"])["names"])
            assert 1 <= int(row["event"].split()[0]) <= people
    for name in ("train_v1_1", "val_with_split_idxs_v1_1"):
        for row in _json(world / f"sherlock/sherlock_{name}.json"):
            root = world / (
                "visual_genome" if "VG_" in row["inputs"]["image"]["url"] else "vcr/vcr1images"
            )
            assert (root / "/".join(row["inputs"]["image"]["url"].split("/")[-2:])).is_file()
    some = next((world / "visual7w/images").iterdir())
    assert some.stat().st_nlink > 1


def test_vcr_rows_keep_the_published_invariants(world):
    rows = _jsonl(world / "vcr/val.jsonl")
    assert len(rows) >= VAL
    for row in rows:
        metadata = _json(world / "vcr/vcr1images" / row["metadata_fn"])
        assert row["objects"] == metadata["names"] and len(metadata["boxes"]) == len(
            metadata["segms"]
        )
        for part in ("answer", "rationale"):
            assert row[f"{part}_match_iter"][row[f"{part}_label"]] == 0
            assert sorted(row[f"{part}_match_iter"]) == [0, 1, 2, 3]
            assert row[f"{part}_sources"][row[f"{part}_label"]] == row["match_index"]
            assert all(0 <= s < len(rows) for s in row[f"{part}_sources"])
        mentioned = next(t for t in row["question"] if isinstance(t, list))
        assert str(mentioned[0] + 1) in row["question_orig"] and "[" not in row["rationale_orig"]


def test_comparison_key_matches_its_instances(world):
    instances, key = (
        _json(world / f"sherlock/val_comparison_{n}.json") for n in ("instances", "answer_key")
    )
    assert [i["test_id"] for i in sorted(instances, key=lambda i: i["test_id"])] == _json(
        world / "sherlock/val_comparison_instance_ids.json"
    )
    rated = {
        (a["Input_iid"], c["source_iid"]): c for a in key["annotations"] for c in a["candidates"]
    }
    assert len(rated) == len(instances) == len(key["test_id_map"])
    for instance in instances:
        place = key["test_id_map"][instance["test_id"]]
        assert rated[place["Input_iid"], place["candidate"]]["prediction"] == instance["inference"]


def _keys(row: object) -> object:
    if isinstance(row, dict):
        return {k: _keys(v) for k, v in row.items()}
    if isinstance(row, list):
        return [_keys(row[0])] if row else []
    return (
        "number"
        if isinstance(row, int | float) and not isinstance(row, bool)
        else type(row).__name__
    )


@pytest.mark.skipif(not SAMPLES.exists(), reason="real excerpts are not on this machine")
@pytest.mark.parametrize(
    ("ours", "real"),
    [
        ("sherlock/sherlock_val_with_split_idxs_v1_1.json", "sherlock/sherlock_val_subset160.json"),
        ("sherlock/val_comparison_instances.json", "sherlock/comparison_instances_one.json"),
        ("aokvqa/aokvqa_v1p0_val.json", "aokvqa/aokvqa_v1p0_val.json"),
        ("visual_genome/objects.json", "visual_genome/objects.json"),
        ("visual_genome/attributes.json", "visual_genome/attributes.json"),
        ("visual_genome/region_descriptions.json", "visual_genome/region_descriptions.json"),
        ("visual_genome/question_answers.json", "visual_genome/question_answers.json"),
    ],
)
def test_files_have_the_real_files_fields(world, ours, real):
    found, expected = _keys(_json(world / ours)[0]), _keys(_json(SAMPLES / real)[0])
    for row in (found, expected):  # lists that may be empty in one record and not in the other
        for qa in row.get("qas", []) if isinstance(row, dict) else []:
            qa.pop("q_objects")
    assert found == expected


# ------------------------------------------------------------------------------------ VCR questions


QUESTIONS = vcr_questions(SCENES, seed=0)


def test_enough_questions_and_the_same_ones_each_time():
    assert len(QUESTIONS) >= 1050
    assert vcr_questions(SCENES, seed=0) == QUESTIONS != vcr_questions(SCENES, seed=1)
    asked = [(q.scene, q.region, q.kind) for q in QUESTIONS]
    assert len(set(asked)) == len(asked)


def test_exactly_one_answer_is_right_and_one_is_true_of_another_region():
    for q in QUESTIONS:
        scene = SCENES[q.scene]
        claimed = [grammar.read_answer(q.kind, a) for a in q.answers]
        found = [conclusions(scene, r).get(q.kind) for r in range(len(scene.entities))]
        truths = [f and f[0] for f in found]
        assert None not in claimed and len(set(q.answers)) == 4
        assert [c is truths[q.region] for c in claimed] == [i == q.answer_label for i in range(4)]
        assert q.swap != q.answer_label
        assert any(claimed[q.swap] is t for r, t in enumerate(truths) if r != q.region)
        assert grammar.read_question(q.question) == (q.kind, q.region)


def test_either_of_two_regions_is_the_pointed_one():
    """Neither the one further left nor the other: pictures of two show it."""
    left = [q.region == 0 for q in QUESTIONS if len(SCENES[q.scene].entities) == 2]
    assert len(left) > 100 and 0.35 < np.mean(left) < 0.65


def test_exactly_one_rationale_is_true_and_enough():
    for q in QUESTIONS:
        scene = SCENES[q.scene]
        assert len(set(q.rationales)) == 4
        assert [supports(scene, q.region, q.kind, r) for r in q.rationales] == [
            i == q.rationale_label for i in range(4)
        ]
        right, share = grammar.judge(
            scene, q.question, q.answers[q.answer_label], q.rationales[q.rationale_label]
        )
        assert right and share == 1.0
        swap = q.rationales[q.rationale_swap]
        others = [r for r in range(len(scene.entities)) if r != q.region]
        said = _plain(swap.split(" and ")[0].rstrip("."))
        assert said in {
            _plain(premises(scene, r, q.kind)[0]) for r in others if q.kind in conclusions(scene, r)
        }
        assert grammar.clause_holds(scene, swap.split(" and ")[0]) is False


def _plain(text: str) -> str:
    return re.sub(r"\[\d+\]", "[]", text)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+|\[\d+\]", text.lower()))


def _guess(questions, choices, score) -> float:
    """Accuracy of taking the choice with the highest score, ties shared."""
    hits = 0.0
    for q in questions:
        shown, label = choices(q)
        scores = np.array(score(q, shown), dtype=float)
        best = np.flatnonzero(scores >= scores.max() - 1e-9)
        hits += (label in best) / len(best)
    return hits / len(questions)


CHOICES = {
    "answers": lambda q: (q.answers, q.answer_label),
    "rationales": lambda q: (q.rationales, q.rationale_label),
}


@pytest.mark.parametrize("part", CHOICES)
def test_words_alone_do_not_answer(part):
    choices = CHOICES[part]
    gold, shown = Counter(), Counter()
    for q in vcr_questions(HELD_OUT, seed=0):  # what a guesser could learn from other scenes
        texts, label = choices(q)
        gold[q.kind, _plain(texts[label])] += 1
        shown.update((q.kind, _plain(t)) for t in texts)
    guessers = {
        "most often right": lambda q, ts: [gold[q.kind, _plain(t)] for t in ts],
        "right most often when shown": lambda q, ts: [
            (gold[q.kind, _plain(t)] + 1) / (shown[q.kind, _plain(t)] + 4) for t in ts
        ],
        "longest": lambda q, ts: [len(t) for t in ts],
        "shortest": lambda q, ts: [-len(t) for t in ts],
        "overlap with the question": lambda q, ts: [
            len(_words(t) & _words(q.question)) for t in ts
        ],
        "nearest to the rest": lambda q, ts: [
            sum(len(_words(t) & _words(u)) / len(_words(t) | _words(u)) for u in ts) for t in ts
        ],
    }
    if part == "rationales":
        guessers["overlap with the answer"] = lambda q, ts: [
            len(_words(t) & _words(q.question + q.answers[q.answer_label])) for t in ts
        ]
    found = {name: _guess(QUESTIONS, choices, score) for name, score in guessers.items()}
    assert all(0.17 <= accuracy <= 0.34 for accuracy in found.values()), found
    assert max(Counter(choices(q)[1] for q in QUESTIONS).values()) < 0.3 * len(QUESTIONS)


def test_answers_are_as_common_right_as_wrong():
    """Where there are answers enough to draw from; of four, none is right much more than a third."""
    gold = Counter((q.kind, q.answers[q.answer_label]) for q in QUESTIONS)
    shown = Counter((q.kind, a) for q in QUESTIONS for a in q.answers)
    asked = Counter(q.kind for q in QUESTIONS)
    few = {kind for kind in asked if len({a for k, a in shown if k == kind}) <= 5}
    shares = {key: gold[key] / n for key, n in shown.items() if n >= 30 and key[0] not in few}
    assert few == {"count", "face", "who"} and len(shares) > 30
    assert min(shares.values()) > 0.1 and max(shares.values()) < 0.45, shares
    assert max(n / asked[kind] for (kind, _), n in gold.items() if kind in few) < 0.5


def test_distractors_need_a_pool():
    with pytest.raises(ValueError, match="no wrong choice is left beside 'a'"):
        draw_distractors(["a"], [["b"]], [[["a", "b"]]], np.random.default_rng(0))


# ------------------------------------------------------------------------------- nothing pointed at


def test_visual7w_questions_have_one_right_answer_and_even_classes():
    items = visual7w_questions(SCENES, 600, seed=0)
    assert len(items) == 600 and set(Counter(i.fact.type for i in items).values()) == {120}
    assert len({i.scene for i in items}) > 250
    for item in items:
        assert len({item.fact.answer, *item.wrong}) == 4
        replies = {f.answer for f in facts(SCENES[item.scene]) if f.question == item.fact.question}
        assert replies == {item.fact.answer}
    gold = Counter((i.fact.form, i.fact.answer) for i in items)
    assert (
        _guess(
            items,
            lambda i: ((i.fact.answer, *i.wrong), 0),
            lambda i, ts: [gold[i.fact.form, t] for t in ts],
        )
        < 0.33
    )


def test_facts_are_true_of_the_scene():
    scene = next(
        s
        for s in SCENES
        if sum(e.kind in ("man", "woman", "child") for e in s.entities) == 2 and s.weather
    )
    found = {f.question: f.answer for f in facts(scene)}
    assert found["How many people are there?"] == "Two."
    assert found["Where is this?"] == f"{grammar.IN_PLACE[scene.place]}.".capitalize()
    for scene, f in ((s, f) for s in SCENES for f in facts(s)):
        if f.type == "who":
            asked = f.question.removeprefix("Who is ").rstrip("?")
            doing = [
                e
                for e in scene.entities
                if asked == e.pose or (e.held and asked == f"holding {grammar.A_HELD[e.held]}")
            ]
            assert len(doing) == 1 and f.answer.lower() == f"{grammar.the(doing[0])}."
        if f.form == "held" and f.type == "what":
            assert grammar.A_HELD[scene.entities[f.regions[0]].held] == f.answer.rstrip(".").lower()


def _claims(text: str) -> tuple:
    described = re.split(r" with ", text.rstrip("."))[-1]
    return grammar.read_context(text), grammar.read_entity(described)


def test_hypotheses_are_balanced_and_labelled_rightly():
    found = hypotheses(SCENES, 600, seed=0)
    assert Counter(h.label for h in found) == dict.fromkeys(
        ("entailment", "neutral", "contradiction"), 200
    )
    for h in found:
        if h.label == "neutral":
            continue
        scene = SCENES[h.scene]
        (place, weather, time), entity = _claims(h.text)
        true = place == scene.place and weather in ("", scene.weather) and time in ("", scene.time)
        true &= any(
            (e.kind, e.pose, e.held) == (entity.kind, entity.pose, entity.held)
            and entity.color in ("", e.color)
            for e in scene.entities
        )
        assert true == (h.label == "entailment"), (h, grammar.caption(scene))
