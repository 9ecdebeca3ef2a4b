"""The data sets' readers: real excerpts, the mini world's files, and all that can be wrong with
a file or a record.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lskd_nb import sources
from lskd_nb.mini.files.vcr_questions import vcr_questions
from lskd_nb.mini.files.world_files import read_truth, world_pictures, write_world
from lskd_nb.mini.scenes import grammar
from lskd_nb.records import REJECTS
from lskd_nb.regions import Region, located_images, mentions, regions_table, tokens_to_text
from lskd_nb.run_folder import find_root
from lskd_nb.sources import (
    BadRecord,
    Rejected,
    count_reasons,
    image_size,
    read_json,
    read_jsonl,
    read_records,
    reject_rows,
)
from lskd_nb.sources.snli_ve import LABELS, read_snli_ve
from lskd_nb.sources.vcr import _text, images_of, q_a, qa_r, read_vcr
from lskd_nb.sources.visual7w import read_visual7w
from lskd_nb.sources.visual_genome import _choose, ious, read_human_texts, read_visual_genome

REAL = find_root().parent / "shared" / "samples" / "visual_genome"
TRAIN, VAL, SEED = 20, 12, 5
ALL_TEXTS = ("region_descriptions", "question_answers", "attributes", "relationships")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sources") / "world"
    write_world(folder, TRAIN, VAL, SEED, workers=1)
    return folder


@pytest.fixture
def copy(world, tmp_path) -> Path:
    return Path(shutil.copytree(world, tmp_path / "world"))


def _edit(path: Path, change: Callable[[list], None]) -> None:
    """Change the records of a JSON or JSONL file."""
    lines = path.suffix == ".jsonl"
    text = path.read_text()
    records = [json.loads(x) for x in text.splitlines()] if lines else json.loads(text)
    change(records)
    path.write_text("\n".join(map(json.dumps, records)) if lines else json.dumps(records))


# ------------------------------------------------------------------------------------------- shared


def test_damaged_files_are_named_with_the_place(tmp_path):
    path = tmp_path / "objects.json"
    with pytest.raises(FileNotFoundError, match="objects.json is not there"):
        read_json(path)
    path.write_text('[{"a": 1},\n {"b": }]')
    with pytest.raises(ValueError, match=r"objects.json, line 2, column 8: not valid JSON"):
        read_json(path)
    path.write_bytes(b'["\xff\xfe"]')
    with pytest.raises(ValueError, match="objects.json: not a UTF-8 text file"):
        read_json(path)
    path.write_text('{"a": 1}')
    with pytest.raises(ValueError, match="objects.json: expected a list of records, found dict"):
        read_records(path)
    path.write_text('[{"a": 1}, 7]')
    with pytest.raises(ValueError, match="objects.json, element 1: expected an object, found int"):
        read_records(path)
    path.write_text('{"a": 1}\n\n{"a": \n')
    with pytest.raises(ValueError, match="objects.json, line 3: not valid JSON"):
        read_jsonl(path)
    path.write_text('{"a": 1}\n\n[2]\n')
    with pytest.raises(ValueError, match="objects.json, line 3: expected an object, found list"):
        read_jsonl(path)
    path.write_text('{"a": "line\u2028separator"}\n\n')  # str.splitlines would cut this row in two
    assert read_jsonl(path) == [{"a": "line\u2028separator"}]


@pytest.mark.parametrize("content", ["[" * 100_000, "1" * 5000])
def test_json_beyond_what_python_reads_is_named(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    (tmp_path / "a.jsonl").write_text("{}\n" + content)
    with pytest.raises(ValueError, match="a.json: not valid JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(ValueError, match="a.jsonl, line 2: not valid JSON"):
        read_jsonl(tmp_path / "a.jsonl")


def test_images_that_cannot_be_read(tmp_path):
    good = tmp_path / "good.jpg"
    Image.effect_noise((200, 100), 50).save(good)
    assert image_size(good) == (200, 100)
    Image.effect_noise((20, 10), 50).save(tmp_path / "small.png")
    assert image_size(tmp_path / "small.png") == (20, 10)
    with pytest.raises(BadRecord, match="missing image"):
        image_size(tmp_path / "none.jpg")
    for name, content in (
        ("cut.jpg", good.read_bytes()[:2000]),
        ("text.jpg", b"not an image"),
        ("empty.jpg", b""),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadRecord, match="corrupt image") as error:
            image_size(tmp_path / name)
        assert name in error.value.detail


def test_rejects_fit_their_schema_and_are_counted():
    rejects = [
        Rejected("a", "no box", "x"),
        Rejected("b", "no name", "y"),
        Rejected("c", "no box", "z"),
    ]
    assert count_reasons(rejects) == {"no box": 2, "no name": 1}
    table = pa.Table.from_pylist(reject_rows(rejects, "regions"), schema=REJECTS)
    assert table["record"].to_pylist() == ["a", "b", "c"] and set(table["stage"].to_pylist()) == {
        "regions"
    }


# ------------------------------------------------------------------------------------ Visual Genome


@pytest.mark.skipif(
    not REAL.exists(), reason="the real excerpt of Visual Genome is not on this machine"
)
def test_real_visual_genome():
    images, rejects = read_visual_genome(REAL)
    assert not rejects
    assert [(i.image_id, i.path, i.width, i.height) for i in images] == [
        ("1", "VG_100K_2/1.jpg", 800, 600),
        ("2", "VG_100K/2.jpg", 800, 600),
    ]
    for image in images:
        assert 5 <= len(image.regions) <= 10 and [r.id for r in image.regions] == list(
            range(len(image.regions))
        )
        assert "man" in [r.label for r in image.regions]
    texts, rejects = read_human_texts(REAL, images, ALL_TEXTS)
    assert not rejects
    assert Counter(t.origin for t in texts)["region_descriptions"] == 518
    assert Counter(t.origin for t in texts)["question_answers"] == 256
    man = next(r.id for r in images[1].regions if r.label == "man")
    assert any("man" in t.text for t in texts if t.image_id == "2" and t.region == man)
    assert located_images(regions_table(images)) == images


def test_visual_genome_of_the_world_has_its_scenes_entities(world):
    truth = read_truth(world / "truth.jsonl")
    images, rejects = read_visual_genome(world / "visual_genome")
    assert len(images) == TRAIN and not rejects
    for image in images:
        entities = truth[image.image_id].entities
        assert [r.label for r in image.regions] == [e.kind for e in entities]
        assert np.allclose([r.box for r in image.regions], [e.box for e in entities], atol=1.01)
        assert (world / "visual_genome" / image.path).is_file() and image.split == "train"


def test_human_texts_of_the_world_are_about_the_right_regions(world):
    truth = read_truth(world / "truth.jsonl")
    images, _ = read_visual_genome(world / "visual_genome")
    texts, rejects = read_human_texts(world / "visual_genome", images, ALL_TEXTS)
    assert not rejects
    for text in texts:
        entities = truth[text.image_id].entities
        assert text.kind == ("dynamic" if text.question else "local")
        if text.origin == "region_descriptions":
            said, entity = grammar.read_entity(text.text), entities[text.region]
            assert (
                said.kind == entity.kind
                and said.color in ("", entity.color)
                and said.held == entity.held
            )
        elif text.origin != "question_answers":
            assert entities[text.region].kind in text.text.split()
    assert {grammar.describe(e) for e in truth[images[0].image_id].entities} <= {
        t.text for t in texts
    }


def test_human_texts_only_of_the_images_asked_for(world):
    images, _ = read_visual_genome(world / "visual_genome", limit=2)
    assert len(images) == 2
    texts, rejects = read_human_texts(world / "visual_genome", images[1:])
    assert {t.image_id for t in texts} == {images[1].image_id} and not rejects
    with pytest.raises(ValueError, match="'depth' is none of"):
        read_human_texts(world / "visual_genome", images, ("depth",))


def test_text_that_overlaps_no_region_is_about_the_image(copy):
    folder = copy / "visual_genome"
    _edit(
        folder / "region_descriptions.json",
        lambda r: r[0]["regions"][0].update(x=0, y=0, width=320, height=240),
    )
    images, _ = read_visual_genome(folder)
    first = read_human_texts(folder, images)[0][0]
    assert (first.kind, first.region) == ("global", None)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: r.append({"image_id": 7, "objects": []}), "unknown image"),
        (lambda r: r.append(r[0]), "repeated image"),
        (lambda r: r.append({"objects": []}), "missing field"),
        (lambda r: r[1].update(image_id=[3]), "bad image id"),
        (lambda r: r[1].update(objects="none"), "bad list"),
        (lambda r: r[1].update(objects=[]), "no regions"),
        (lambda r: r.pop(), "no objects"),
        (lambda r: r[0]["objects"][0].update(w=0), "box of no area"),
        (lambda r: r[0]["objects"][0].update(x=321), "box of no area"),
        (lambda r: r[0]["objects"][0].update(h=-5), "box of no area"),
        (lambda r: r[0]["objects"][0].update(x="left"), "bad number"),
        (lambda r: r[0]["objects"][0].update(y=float("nan")), "bad number"),
        (lambda r: r[0]["objects"][0].pop("h"), "missing field"),
        (lambda r: r[0]["objects"][0].update(names=[]), "no name"),
        (lambda r: r[0]["objects"].insert(0, "dog"), "bad record"),
    ],
)
def test_bad_objects_are_rejected_and_the_rest_is_read(copy, change, reason):
    _edit(copy / "visual_genome/objects.json", change)
    images, rejects = read_visual_genome(copy / "visual_genome")
    assert reason in count_reasons(rejects)
    assert len(images) >= TRAIN - 1
    assert all(
        r.record.startswith(("objects.json", "image_data.json")) and r.detail for r in rejects
    )


def test_boxes_are_cut_to_the_image(copy):
    _edit(
        copy / "visual_genome/objects.json",
        lambda r: r[0]["objects"][0].update(x=-20, y=100, w=60, h=900),
    )
    images, rejects = read_visual_genome(copy / "visual_genome", counts=(counts := Counter()))
    assert not rejects and images[0].regions[0].box == (0.0, 100.0, 40.0, 240.0)
    assert counts["clamped"] == 1


def test_pictures_missing_damaged_or_of_another_size(copy):
    folder = copy / "visual_genome"
    paths = sorted((folder / "VG_100K").iterdir())
    paths[0].unlink()
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[:3000])
    Image.new("RGB", (100, 100)).save(paths[2])
    images, rejects = read_visual_genome(folder)
    assert len(images) == TRAIN - 3
    assert count_reasons(rejects) == {
        "missing image": 1,
        "corrupt image": 1,
        "image size differs": 1,
    }
    assert paths[1].name in rejects[1].detail


def test_damaged_visual_genome_files_are_errors(copy):
    folder = copy / "visual_genome"
    (folder / "objects.json").write_text((folder / "objects.json").read_text()[:-30])
    with pytest.raises(ValueError, match=r"objects.json, line 1, column \d+: not valid JSON"):
        read_visual_genome(folder)
    (folder / "image_data.json").unlink()
    with pytest.raises(FileNotFoundError, match="image_data.json"):
        read_visual_genome(folder)


def test_bad_texts_are_rejected(copy):
    folder = copy / "visual_genome"
    images, _ = read_visual_genome(folder)

    def spoil(records: list) -> None:
        records[0]["regions"][0]["phrase"] = "  "
        records[0]["regions"][1]["width"] = 0
        records[1]["id"] = 99

    _edit(folder / "region_descriptions.json", spoil)
    _edit(folder / "question_answers.json", lambda r: r[0]["qas"][0].pop("answer"))
    _edit(folder / "attributes.json", lambda r: r[0]["attributes"][0].update(attributes="red"))
    _edit(
        folder / "relationships.json",
        lambda r: r[0]["relationships"].insert(0, {"predicate": "on"}),
    )
    rejects = read_human_texts(folder, images, ALL_TEXTS)[1]
    assert [r.reason for r in rejects] == [
        "bad text",
        "box of no area",
        "unknown image",
        "missing field",
        "bad list",
        "bad record",
    ]


def test_older_visual_genome_keys(copy):
    folder = copy / "visual_genome"
    new_images, _ = read_visual_genome(folder)
    new_texts, _ = read_human_texts(folder, new_images, ALL_TEXTS)

    def older(records: list) -> None:
        for record in records:
            if "image_id" in record:
                record["id"] = record.pop("image_id")
            for entry in record.get("attributes", []):
                entry["object_names"] = entry.pop("names")
            for entry in [*record.get("objects", []), *record.get("regions", [])]:
                entry["id"] = entry.pop("object_id", None) or entry.pop("region_id")
            for relation in record.get("relationships", []):
                relation["subject"]["names"] = [relation["subject"].pop("name")]

    for name in ("image_data", "objects", "attributes", "region_descriptions", "relationships"):
        _edit(folder / f"{name}.json", older)
    images, rejects = read_visual_genome(folder)
    assert images == new_images and not rejects
    assert read_human_texts(folder, images, ALL_TEXTS) == (new_texts, [])


BOXES = st.tuples(
    st.integers(0, 300), st.integers(0, 220), st.integers(1, 320), st.integers(1, 240)
).map(
    lambda b: (float(b[0]), float(b[1]), float(min(b[0] + b[2], 320)), float(min(b[1] + b[3], 240)))
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(BOXES, st.sampled_from(["man", "tree", "dog"])), max_size=14),
    st.integers(1, 6),
)
def test_chosen_regions_are_few_distinct_and_in_order(objects, number):
    given_regions = [Region(i, box, label) for i, (box, label) in enumerate(objects)]
    chosen = _choose(given_regions, 400, 0.5, number)
    assert len(chosen) <= number and [r.id for r in chosen] == list(range(len(chosen)))
    places = [
        next(i for i, g in enumerate(given_regions) if (g.box, g.label) == (r.box, r.label))
        for r in chosen
    ]
    assert places == sorted(places)
    for region in chosen:
        others = [r.box for r in chosen if r is not region]
        assert not others or ious(np.array(region.box), np.array(others)).max() <= 0.5
    wide = [g for g in given_regions if (g.box[2] - g.box[0]) * (g.box[3] - g.box[1]) >= 400]
    assert bool(chosen) == bool(wide)
    if len(chosen) < number:  # whatever was left out is a near copy of what was chosen
        assert all(
            ious(np.array(g.box), np.array([r.box for r in chosen])).max() > 0.5
            or any(g.box == r.box for r in chosen)
            for g in wide
        )


# ---------------------------------------------------------------------------------------------- VCR


def test_vcr_of_the_world_is_what_was_written(world):
    _, pictures = world_pictures(TRAIN, VAL, SEED)
    expected = vcr_questions([p.scene for p in pictures], SEED)
    questions, rejects = read_vcr(world / "vcr", "val")
    assert not rejects and len(questions) == len(expected) > VAL
    for found, wrote in zip(questions, expected, strict=True):
        assert (found.question, found.answer_choices, found.answer_label) == (
            wrote.question,
            wrote.answers,
            wrote.answer_label,
        )
        assert (found.rationale_choices, found.rationale_label) == (
            wrote.rationales,
            wrote.rationale_label,
        )
        assert (found.slice, found.swap, found.rationale_swap) == (
            wrote.kind,
            wrote.swap,
            wrote.rationale_swap,
        )
        scene = pictures[wrote.scene].scene
        assert found.image.image_id == found.img_id == pictures[wrote.scene].vcr_id
        assert [r.box for r in found.image.regions] == [e.box for e in scene.entities]
        assert mentions(found.question) == [wrote.region]
    assert len(images_of(questions)) == len({q.img_id for q in questions})
    assert {q.image.split for q in read_vcr(world / "vcr", "train")[0]} == {"train"}


def test_vcr_items(world):
    question = read_vcr(world / "vcr", "val", limit=1)[0][0]
    answer = q_a(question)
    assert (answer.choices, answer.label, answer.task) == (
        question.answer_choices,
        question.answer_label,
        "vcr.q_a",
    )
    reason = qa_r(question)
    assert (
        reason.question
        == f"{question.question} Answer: {question.answer_choices[question.answer_label]}"
    )
    assert reason.item_id == answer.item_id  # answers and rationales are joined by it
    assert (reason.choices, reason.label) == (question.rationale_choices, question.rationale_label)
    assert qa_r(question, 2).question.endswith(question.answer_choices[2]) and qa_r(
        question, 2
    ).item_id.endswith("/2")


def test_vcr_test_split_has_no_labels(copy):
    def hide(rows: list) -> None:
        for row in rows:
            for key in [
                k
                for k in row
                if "label" in k or "match" in k or "sources" in k or "orig" in k or "lskd" in k
            ]:
                del row[key]

    shutil.copy(copy / "vcr/val.jsonl", copy / "vcr/test.jsonl")
    _edit(copy / "vcr/test.jsonl", hide)
    questions, rejects = read_vcr(copy / "vcr", "test")
    assert questions and not rejects
    assert all(q.answer_label is q.rationale_label is q.swap is None for q in questions)
    assert {q.slice for q in questions} <= {"why", "what", "how"}
    with pytest.raises(ValueError, match="has no answer label"):
        qa_r(questions[0])
    assert qa_r(questions[0], 1).label is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: r["question"].append([9]), "unknown region"),
        (lambda r: r["answer_choices"][0].append([-1]), "unknown region"),
        (lambda r: r["rationale_choices"][3].append([0, 5]), "unknown region"),
        (lambda r: r["question"].append(["0"]), "bad tokens"),
        (lambda r: r["question"].append([]), "bad tokens"),
        (lambda r: r.update(question="What is 1 doing?"), "bad list"),
        (lambda r: r.update(question=[]), "bad tokens"),
        (lambda r: r["objects"].append("dog"), "objects differ"),
        (lambda r: r["objects"].__setitem__(0, "zebra"), "objects differ"),
        (lambda r: r["answer_choices"].pop(), "not four choices"),
        (lambda r: r.update(answer_label=4), "bad label"),
        (lambda r: r.update(rationale_label="1"), "bad label"),
        (lambda r: r.update(answer_label=(r["answer_label"] + 1) % 4), "label disagrees"),
        (lambda r: r.update(img_fn="nowhere/1.jpg"), "missing image"),
        (lambda r: r.update(metadata_fn="nowhere/1.json"), "missing metadata"),
        (lambda r: r.pop("rationale_choices"), "missing field"),
    ],
)
def test_bad_vcr_rows_are_rejected(copy, change, reason):
    before = len(read_vcr(copy / "vcr", "val")[0])
    _edit(copy / "vcr/val.jsonl", lambda rows: change(rows[1]))
    questions, rejects = read_vcr(copy / "vcr", "val")
    assert [r.reason for r in rejects] == [reason] and len(questions) == before - 1
    assert rejects[0].record == "val.jsonl, val-1"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.pop("boxes"), "missing field"),
        (lambda m: m["names"].pop(), "damaged metadata"),
        (lambda m: m.update(width=100), "image size differs"),
        (lambda m: m.update(height=0), "bad number"),
    ],
)
def test_bad_vcr_metadata_rejects_every_row_about_it(copy, change, reason):
    questions, _ = read_vcr(copy / "vcr", "val")
    path = copy / "vcr" / questions[0].image.path.replace(".jpg", ".json")
    metadata = json.loads(path.read_text())
    change(metadata)
    path.write_text(json.dumps(metadata))
    left, rejects = read_vcr(copy / "vcr", "val")
    about = [q for q in questions if q.img_id == questions[0].img_id]
    assert [r.reason for r in rejects] == [reason] * len(about) and len(left) == len(
        questions
    ) - len(about)
    path.write_text("{")
    assert {r.reason for r in read_vcr(copy / "vcr", "val")[1]} == {"damaged metadata"}


def test_vcr_box_of_no_area_loses_its_mentions_only(copy):
    questions, _ = read_vcr(copy / "vcr", "val")
    image = questions[0].image
    region = mentions(questions[0].question)[0]
    path = copy / "vcr" / image.path.replace(".jpg", ".json")
    metadata = json.loads(path.read_text())
    metadata["boxes"][region] = [50, 50, 50, 90, 0.75]
    path.write_text(json.dumps(metadata))
    left, rejects = read_vcr(copy / "vcr", "val")
    reasons = count_reasons(rejects)
    assert reasons["box of no area"] == 1 and reasons["unknown region"] >= 1
    assert len(left) == len(questions) - reasons["unknown region"]
    for question in left:
        if question.img_id == image.image_id:  # ids stay the metadata's indices
            assert region not in [r.id for r in question.image.regions]
            assert question.image.regions == tuple(r for r in image.regions if r.id != region)


def test_vcr_tolerates_boxes_without_score_and_prefixed_paths(copy):
    questions, _ = read_vcr(copy / "vcr", "val")
    path = copy / "vcr" / questions[0].image.path.replace(".jpg", ".json")
    metadata = json.loads(path.read_text())
    metadata["boxes"] = [
        [*metadata["boxes"][0][:4], 0.75],
        *(box[:4] for box in metadata["boxes"][1:]),
    ]
    path.write_text(json.dumps(metadata))
    _edit(
        copy / "vcr/val.jsonl",
        lambda rows: rows[0].update(img_fn="vcr1images/" + rows[0]["img_fn"]),
    )
    found, rejects = read_vcr(copy / "vcr", "val")
    assert not rejects and found[0].image.path == questions[0].image.path
    assert [r.score for r in found[0].image.regions] == [0.75] + [None] * (
        len(metadata["boxes"]) - 1
    )


def test_damaged_vcr_files_are_errors(copy):
    with pytest.raises(ValueError, match="'dev' is none of"):
        read_vcr(copy / "vcr", "dev")
    with pytest.raises(FileNotFoundError, match="test.jsonl"):
        read_vcr(copy / "vcr", "test")
    text = (copy / "vcr/val.jsonl").read_text()
    (copy / "vcr/val.jsonl").write_text(text[:-40])
    with pytest.raises(
        ValueError, match=rf"val.jsonl, line {len(text.splitlines())}: not valid JSON"
    ):
        read_vcr(copy / "vcr", "val")


TOKENS = st.lists(
    st.one_of(
        st.sampled_from(["What", "is", "holding", "and", "the", "?", ",", "."]),
        st.lists(st.integers(0, 4), min_size=1, max_size=3, unique=True),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(TOKENS)
def test_mentions_survive_from_tokens_to_text(tokens):
    ids = [i for t in tokens if isinstance(t, list) for i in t]
    assert mentions(_text(tokens, set(range(5)))) == list(dict.fromkeys(ids))
    if 4 in ids:
        with pytest.raises(BadRecord, match="unknown region: 4"):
            _text(tokens, {0, 1, 2, 3})
    assert _text(tokens, set(range(5))) == tokens_to_text(tokens)


# -------------------------------------------------------------------------------- SNLI-VE, Visual7W


def test_snli_ve_of_the_world(world):
    items, rejects = read_snli_ve(world / "snli_ve", "dev")
    assert not rejects and len({i.item_id for i in items}) == len(items)
    assert len(items) == sum(1 for _ in (world / "snli_ve/snli_ve_dev.jsonl").open())
    counts = Counter(LABELS[i.label] for i in items)
    assert set(counts) == set(LABELS) and all(
        i.choices == LABELS and LABELS[i.label] == i.slice for i in items
    )
    truth = read_truth(world / "truth.jsonl")
    entailed = next(i for i in items if i.slice == "entailment")
    assert grammar.IN_PLACE[truth[entailed.image.image_id].place] in entailed.question.lower()
    assert (world / "snli_ve" / items[0].image.path).is_file() and (
        items[0].image.width,
        items[0].image.height,
    ) == (320, 240)
    assert {i.image.split for i in read_snli_ve(world / "snli_ve", "train")[0]} == {"train"}


def test_snli_ve_traps(copy):
    folder = copy / "snli_ve"
    before = read_snli_ve(folder, "dev")[0]

    def spoil(rows: list) -> None:
        rows[0].update(gold_label="-")
        rows[1].update(pairID="vg_1.jpg#0r1e")
        rows[2].update(gold_label="maybe")
        rows[3].update(sentence2="")
        rows[4]["Flikr30kID"] = rows[4].pop("Flickr30K_ID") + ".jpg"
        rows[5]["Flickr30kID"] = rows[5].pop("Flickr30K_ID")
        rows[6].pop("Flickr30K_ID")
        rows[7].update(pairID=rows[7]["pairID"][:-1] + "e", gold_label="neutral")

    _edit(folder / "snli_ve_dev.jsonl", spoil)
    items, rejects = read_snli_ve(folder, "dev")
    assert [r.reason for r in rejects] == [
        "no gold label",
        "pair of another set",
        "bad label",
        "bad text",
        "missing field",
    ]
    assert [i.image for i in items[:2]] == [before[4].image, before[5].image]
    assert LABELS[items[2].label] == "neutral"  # the label is the annotators', not the writer's
    (folder / items[-1].image.path).unlink()
    again, rejects = read_snli_ve(folder, "dev")
    assert len(again) < len(items) and count_reasons(rejects)["missing image"] == len(items) - len(
        again
    )
    with pytest.raises(ValueError, match="'val' is none of"):
        read_snli_ve(folder, "val")


def test_visual7w_of_the_world(world):
    items, rejects = read_visual7w(world / "visual7w", "val")
    records = json.loads((world / "visual7w/dataset_v7w_telling.json").read_text())["images"]
    pairs = {str(qa["qa_id"]): qa for r in records if r["split"] == "val" for qa in r["qa_pairs"]}
    assert not rejects and {i.item_id for i in items} == set(pairs)
    for item in items:
        qa = pairs[item.item_id]
        assert item.choices[item.label] == qa["answer"] and set(item.choices) == {
            qa["answer"],
            *qa["multiple_choices"],
        }
        assert item.slice == qa["type"]
    assert len({i.label for i in items}) == 4  # not the file's order
    assert read_visual7w(world / "visual7w", "val")[0] == items


def test_visual7w_traps(copy):
    folder = copy / "visual7w"
    path = folder / "dataset_v7w_telling.json"
    before = read_visual7w(folder, "val")[0]
    content = json.loads(path.read_text())
    pairs = [qa for r in content["images"] if r["split"] == "val" for qa in r["qa_pairs"]]
    pairs[0]["multiple_choices"][1] = pairs[0]["answer"].upper()
    pairs[1]["multiple_choices"].pop()
    pairs[2].pop("answer")
    path.rename(folder / "dataset.json").write_text(json.dumps(content))
    items, rejects = read_visual7w(folder, "val")
    assert [r.reason for r in rejects] == ["ambiguous choices", "not four choices", "missing field"]
    assert items == before[3:]
    (folder / items[-1].image.path).write_bytes(b"\xff\xd8")
    assert count_reasons(read_visual7w(folder, "val")[1])["corrupt image"] == 1
    (folder / "dataset.json").write_text("[]")
    with pytest.raises(ValueError, match="dataset.json: expected an object with a list of images"):
        read_visual7w(folder, "val")
    (folder / "dataset.json").unlink()
    with pytest.raises(FileNotFoundError, match="dataset_v7w_telling.json"):
        read_visual7w(folder, "val")


def test_no_reader_imports_a_model():
    for path in Path(sources.__file__).parent.glob("*.py"):
        assert "torch" not in path.read_text() and "lskd_nb.mini" not in path.read_text(), path
