"""Label Studio's tasks, its interface, and its exports: what goes out comes back, and what is no
label says why.
"""

import json
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lskd_nb.cli import main
from lskd_nb.critic import label_studio as ls
from lskd_nb.critic.labels import BY_PEOPLE, label_file, read_labels, run_triple_ids
from lskd_nb.records import LABELS, REGIONS, REJECTS, read_parquet, write_parquet
from lskd_nb.regions import LocatedImage, Region

TRIPLE = dict(
    triple_id="m0-0",
    image_id="m0",
    question="Why is [0] here?",
    answer="To rest.",
    rationale="[1] is near.",
    regions_offered=[0, 1],
)


def label(
    triple: str = "m0-0",
    annotator: str = "ada@example.org",
    accept: bool = True,
    qa: float = 0.75,
    rationale: float = 0.25,
) -> dict:
    return dict(
        triple_id=triple, annotator=annotator, accept=accept, qa_score=qa, rationale_score=rationale
    )


def exported(labels: list[dict], **more) -> list[dict]:
    """Tasks as Label Studio exports them once they are annotated: with ids, times, and the
    rectangles among what the annotator said.
    """
    tasks = []
    for number, one in enumerate(labels):
        image = LocatedImage(
            one["triple_id"].split("-")[0],
            "m 0.png",
            40,
            30,
            (Region(0, (2, 2, 20, 28)), Region(1, (22, 3, 38, 25))),
            "s",
            "train",
        )
        made = ls.task(TRIPLE | dict(triple_id=one["triple_id"]), image, labels=[one])
        annotation = made["annotations"][0]
        annotation |= dict(
            id=100 + number,
            created_at="2026-01-01T10:00:00Z",
            updated_at=f"2026-01-01T10:{number:02d}:00Z",
            lead_time=4.2,
            ground_truth=False,
        )
        annotation["result"] = [*made["predictions"][0]["result"], *annotation["result"]]
        tasks.append(made | dict(id=number + 1, project=1, total_annotations=1) | more)
    return tasks


def read(tmp_path, tasks, ids=("m0-0", "m0-1", "m1-0"), **more):
    (tmp_path / "export.json").write_text(json.dumps(tasks), encoding="utf-8")
    return ls.read_export(tmp_path / "export.json", ids, **more)


def test_the_interface_has_a_rectangle_for_each_region_and_what_a_label_needs():
    view = ET.fromstring(ls.labelling_config([3, 0, 0, 12]))
    assert [(x.get("value"), x.get("background")) for x in view.iter("Label")] == [
        ("[0]", "#05ff37"),
        ("[3]", "#f5ad42"),
        ("[12]", x12 := view.findall(".//Label")[2].get("background")),
    ] and len(x12) == 7
    assert [c.get("value") for c in view.iter("Choice")] == ["accept", "reject"]
    assert [
        (n.get("name"), n.get("min"), n.get("max"), n.get("required")) for n in view.iter("Number")
    ] == [("qa_score", "0", "1", "true"), ("rationale_score", "0", "1", "true")]
    names = [e.get("name") for e in view.iter() if e.get("name")]
    assert len(set(names)) == len(names) and {
        e.get("toName") for e in view.iter() if e.get("toName")
    } == {"image"}
    asked = {e.get("value")[1:] for e in view.iter() if (e.get("value") or "").startswith("$")}
    assert asked <= set(
        ls.task(TRIPLE, LocatedImage("m0", "m.png", 4, 3, (), "s", "train"))["data"]
    )


def test_a_task_has_its_image_its_texts_and_its_boxes_in_per_cent():
    image = LocatedImage(
        "m0",
        "VG 100K/m#0.png",
        40,
        30,
        (Region(0, (2, 3, 22, 18)), Region(1, (0, 0, 40, 30)), Region(2, (1, 1, 2, 2))),
        "s",
        "train",
    )
    made = ls.task(TRIPLE, image, "https://example.org/")
    assert (
        made["data"]["image"] == "https://example.org/VG%20100K/m%230.png"
        and made["data"]["triple_id"] == "m0-0"
        and "annotations" not in made
    )
    first, second = made["predictions"][0]["result"]  # region 2 was not offered
    assert {k: first["value"][k] for k in ("x", "y", "width", "height")} == pytest.approx(
        dict(x=5, y=10, width=50, height=50)
    )
    assert (
        first["original_width"],
        first["original_height"],
        first["value"]["rectanglelabels"],
    ) == (40, 30, ["[0]"])
    assert second["value"]["width"] == second["value"]["height"] == 100
    assert ls.task(TRIPLE, image)["data"]["image"] == "/data/local-files/?d=VG%20100K/m%230.png"


scores = st.floats(0, 1, width=32)


@given(
    st.lists(
        st.builds(
            label,
            st.sampled_from(["m0-0", "m0-1", "m1-0"]),
            st.sampled_from(["a@x.org", "b@x.org", "ü"]),
            st.booleans(),
            scores,
            scores,
        ),
        unique_by=lambda r: (r["triple_id"], r["annotator"]),
        max_size=9,
    )
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_labels_come_back_as_they_went(tmp_path, labels):
    rows, rejects = read(tmp_path, exported(labels))
    assert rows == labels and rejects == []


sizes, edges = st.integers(1, 3000), st.floats(0, 0.99)


@given(sizes, sizes, edges, edges, edges, edges)
@settings(max_examples=60, deadline=None)
def test_boxes_come_back_as_they_went(width, height, x, y, w, h):
    box = (
        x * width,
        y * height,
        x * width + (1 - x) * width * (w + 0.01),
        y * height + (1 - y) * height * (h + 0.01),
    )
    image = LocatedImage("m0", "m.png", width, height, (Region(0, box),), "s", "train")
    (result,) = ls.task(TRIPLE, image)["predictions"][0]["result"]
    value = result["value"]
    assert (
        value["x"] >= 0
        and value["x"] + value["width"] <= 100 + 1e-9
        and value["y"] >= 0
        and value["y"] + value["height"] <= 100 + 1e-9
    )
    back = (
        value["x"] * result["original_width"] / 100,
        value["y"] * result["original_height"] / 100,
    )
    back += (
        back[0] + value["width"] * result["original_width"] / 100,
        back[1] + value["height"] * result["original_height"] / 100,
    )
    assert back == pytest.approx(box, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "reason", "detail"),
    [
        (lambda t, a: t["data"].pop("triple_id"), "no triple_id", "None"),
        (
            lambda t, a: t["data"].update(triple_id="other"),
            "unknown triple",
            "'other' is not of this run",
        ),
        (lambda t, a: a.update(was_cancelled=True), "cancelled", "m0-0 was skipped"),
        (lambda t, a: a.update(completed_by=None), "no annotator", "completed_by is None"),
        (lambda t, a: a.update(completed_by={"email": " "}), "no annotator", "email"),
        (
            lambda t, a: a.update(
                result=[r for r in a["result"] if r["from_name"] != "rationale_score"]
            ),
            "incomplete",
            "gave m0-0 no rationale_score",
        ),
        (
            lambda t, a: a.update(result=None),
            "incomplete",
            "no accept, no qa_score, no rationale_score",
        ),
        (
            lambda t, a: a["result"][2]["value"].update(choices=["accept", "reject"]),
            "incomplete",
            "no accept",
        ),
        (
            lambda t, a: a["result"][3]["value"].update(number=1.25),
            "bad value",
            "qa_score is 1.25, expected a number from 0 to 1",
        ),
        (
            lambda t, a: a["result"][4]["value"].update(number="half"),
            "bad value",
            "rationale_score is 'half'",
        ),
    ],
)
def test_what_is_no_label_is_told_with_its_reason(tmp_path, change, reason, detail):
    tasks = exported([label(), label("m0-1")])
    change(tasks[0], tasks[0]["annotations"][0])
    rows, rejects = read(tmp_path, tasks)
    assert rows == [label("m0-1")]
    assert [(r["record"], r["reason"]) for r in rejects] == [
        ("task 1, annotation 100", reason)
    ] and detail in rejects[0]["detail"]


def test_who_said_it_and_what_they_said_last(tmp_path):
    tasks = exported([label(annotator=str(n), qa=n / 8) for n in range(6)])
    for item, who in zip(
        tasks,
        (
            7,
            {"id": 7, "email": "ada@x.org"},
            {"id": 8, "first_name": "Bob"},
            7,
            9,
            {"email": "ada@x.org"},
        ),
        strict=True,
    ):
        item["annotations"][0]["completed_by"] = who
    tasks[5]["annotations"][0]["updated_at"] = "2026-01-01T09:00:00Z"  # ada's is the older one
    rows, rejects = read(
        tmp_path,
        [tasks[0] | dict(annotations=[t["annotations"][0] for t in tasks])],
        names={9: "eve"},
    )
    assert {r["annotator"]: r["qa_score"] for r in rows} == {
        "user-7": 3 / 8,
        "ada@x.org": 1 / 8,
        "user-8": 2 / 8,
        "eve": 4 / 8,
    }
    assert sorted((r["record"], r["reason"]) for r in rejects) == [
        ("task 1, annotation 100", "annotated again"),
        ("task 1, annotation 105", "annotated again"),
    ]


@pytest.mark.parametrize(
    "earlier, later",
    [
        ("2026-01-01T10:00:00Z", "2026-01-01T10:00:00.500000Z"),
        ("2026-01-01T11:00:00+02:00", "2026-01-01T10:00:00Z"),
        ("2026-01-01T10:00:00", "2026-01-01T10:00:01Z"),
        (None, "2026-01-01T10:00:00Z"),
        ("yesterday", "2026-01-01T10:00:00Z"),
    ],
)
def test_what_was_said_last_is_told_by_times_and_not_by_texts(tmp_path, earlier, later):
    for times in ((earlier, later), (later, earlier)):
        tasks = exported([label(qa=0.0), label(qa=1.0)])
        for item, time in zip(tasks, times, strict=True):
            item["annotations"][0].update(updated_at=time, created_at=None)
        rows, rejects = read(tmp_path, tasks)
        assert [r["qa_score"] for r in rows] == [float(times.index(later))] and [
            r["reason"] for r in rejects
        ] == ["annotated again"]


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (lambda a: a["result"][3]["value"].update(number=10**400), "qa_score is inf, expected"),
        (lambda a: a["result"][3]["value"].update(rating=10**400), "qa_score is inf, expected"),
        (
            lambda a: a.update(completed_by={"email": "a\ud800@x.org"}),
            "the annotator is 'a\\ud800@x.org', which is no text",
        ),
    ],
)
def test_numbers_and_characters_that_can_t_be_stored_are_rejects(
    small_run, tmp_path, change, detail
):
    ids = run_triple_ids(small_run)[:2]
    tasks = exported([label(ids[0]), label(ids[1])])
    change(tasks[0]["annotations"][0])
    tasks[0]["id"] = "\udfff"
    (tmp_path / "export.json").write_text("\ufeff" + json.dumps(tasks), encoding="utf-8")
    done = ls.import_labels(tmp_path / "export.json", small_run)
    (told,) = read_parquet(small_run / "labels_by_people.rejects.parquet", REJECTS).to_pylist()
    assert (
        done.added == 1
        and told["reason"] == "bad value"
        and detail in told["detail"]
        and told["record"] == "task \\udfff, annotation 100"
    )


def test_deep_nesting_is_a_reject_or_no_json(tmp_path):
    tasks = exported([label(), label("m0-1")])
    text = json.dumps(tasks).replace('["accept"]', "[" * 900 + "]" * 900, 1)
    (tmp_path / "export.json").write_text(text)
    rows, rejects = ls.read_export(tmp_path / "export.json", ["m0-0", "m0-1"])
    assert rows == [label("m0-1")] and len(rejects) == 1
    (tmp_path / "export.json").write_text(text.replace("[" * 900, "[" * 99999))
    with pytest.raises(ValueError, match="export.json is no JSON"):
        ls.read_export(tmp_path / "export.json", ["m0-0"])


def test_stars_stand_for_numbers(tmp_path):
    tasks = exported([label()])
    for place, stars in ((3, 1), (4, 5)):
        tasks[0]["annotations"][0]["result"][place] |= dict(type="rating", value=dict(rating=stars))
    assert read(tmp_path, tasks)[0] == [label(qa=0.0, rationale=1.0)]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "from_name",
                    "value",
                    "choices",
                    "number",
                    "rating",
                    "accept",
                    "qa_score",
                    "email",
                    "id",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(json_values, json_values, json_values)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_an_annotation_holds_it_is_a_label_or_a_reject(tmp_path, result, who, choices):
    said = exported([label()])[0]["annotations"][0]["result"]
    said[2]["value"]["choices"] = choices
    tasks = [
        dict(
            data=dict(triple_id="m0-0"),
            annotations=[
                who,
                dict(result=result, completed_by=who),
                dict(result=result, completed_by=1, was_cancelled=False),
                dict(result=said, completed_by=2),
            ],
        )
    ]
    rows, rejects = read(tmp_path, tasks)
    assert len(rows) + len(rejects) == 4 and all(r["reason"] for r in rejects)
    assert any(r["annotator"] == "user-2" for r in rows) == (choices in (["accept"], ["reject"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{", "export.json is no JSON"),
        ("[" + "9" * 5000 + "]", "export.json is no JSON"),
        ("{}", "holds a dict, expected Label Studio's JSON export"),
        (
            '[{"id": 1, "image": "x.png", "accept": "accept"}]',
            "task 0: expected an object with `data`.*not as JSON-MIN",
        ),
        ("[3]", "task 0: expected"),
    ],
)
def test_what_is_no_export_is_refused(tmp_path, text, message):
    (tmp_path / "export.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        ls.read_export(tmp_path / "export.json", ["m0-0"])


def test_a_run_goes_out_and_its_labels_come_in(small_run, tmp_path):
    ids = run_triple_ids(small_run)
    label_file(tmp_path / "mine.parquet", ids).add(
        *(label(t, accept=n % 2 == 0, qa=0.7) for n, t in enumerate(ids))
    )
    number, config = ls.write_tasks(
        small_run, tmp_path / "tasks.json", number=5, labels=tmp_path / "mine.parquet"
    )
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert number == len(tasks) == 5 and ET.parse(config).getroot().tag == "View"
    assert all(
        ids[ids.index(t["data"]["triple_id"])].startswith(t["data"]["image_id"])
        and "m%20" in t["data"]["image"]
        for t in tasks
    )
    tasks[0]["annotations"][0]["was_cancelled"] = True
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    target = small_run / BY_PEOPLE
    assert (
        (done := ls.import_labels(tmp_path / "export.json", small_run)).added == 4
        and done.there == 0
        and done.labels == target
    )
    went = {r["triple_id"]: r for r in read_parquet(tmp_path / "mine.parquet", LABELS).to_pylist()}
    assert all(went[r["triple_id"]] == r for r in read_labels(target, ids).to_pylist())
    tasks[1]["annotations"][0]["result"][1]["value"]["number"] = 0.1
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    done = ls.import_labels(tmp_path / "export.json", small_run)
    assert (done.added, done.there, [r["reason"] for r in done.rejects]) == (
        0,
        3,
        ["cancelled", "labelled otherwise before"],
    )
    assert (
        read_parquet(small_run / "labels_by_people.rejects.parquet", REJECTS).to_pylist()
        == done.rejects
        and read_labels(target, ids).num_rows == 4
    )
    with pytest.raises(ValueError, match="expected a file that ends in .json"):
        ls.write_tasks(small_run, tmp_path / "tasks.xml")


def test_boxes_images_and_numbers_that_are_none_are_named(small_run, tmp_path):
    out = tmp_path / "t.json"
    for number in (0, -1):
        with pytest.raises(ValueError, match=f"--number is {number}, expected 1 or more"):
            ls.write_tasks(small_run, out, number=number)
    rows = read_parquet(small_run / "regions.parquet", REGIONS).to_pylist()
    rows[2]["regions"][1]["box"][0] = float("nan")
    write_parquet(rows, small_run / "regions.parquet", REGIONS)
    with pytest.raises(ValueError, match=r"triple m2-\d: the box of region \[1\] is \(nan, "):
        ls.write_tasks(small_run, out)
    write_parquet(rows[:2] + rows[3:], small_run / "regions.parquet", REGIONS)
    with pytest.raises(
        ValueError, match=r"triple m2-\d is about image 'm2', which .*regions.parquet does not have"
    ):
        ls.write_tasks(small_run, out)
    assert not out.exists()


def test_files_that_are_not_ours_are_not_replaced(small_run, tmp_path):
    out, config = tmp_path / "t.json", tmp_path / "t.xml"
    ls.write_tasks(small_run, out, number=2)
    ls.write_tasks(small_run, out, number=3)  # what was written here may be written again
    ours = out.read_text(), config.read_text()
    config.write_text(ours[1].replace("Rectangle", "rectangle"))
    with pytest.raises(
        ValueError, match="t.xml is there and was not written by lskd labels export"
    ):
        ls.write_tasks(small_run, out)
    config.write_text(ours[1])
    out.write_text(json.dumps(exported([label()])))
    with pytest.raises(
        ValueError, match="t.json is there and was not written by lskd labels export"
    ):
        ls.write_tasks(small_run, out)
    assert json.loads(out.read_text())[0]["annotations"]


def test_commands_write_tasks_and_read_labels(small_run, tmp_path, monkeypatch, capsys):
    root = tmp_path / "root"
    (root / "outputs" / "runs").mkdir(parents=True)
    small_run.rename(root / "outputs" / "runs" / "tiny")
    (root / "outputs" / "runs" / "tiny" / "image_root.txt").write_text(
        str(root / "outputs" / "runs" / "tiny" / "images")
    )
    monkeypatch.setenv("LSKD_ROOT", str(root))
    out = tmp_path / "t.json"
    assert (
        main(
            [
                "labels",
                "export",
                "tiny",
                "--out",
                str(out),
                "--number",
                "3",
                "--images",
                "http://x/",
            ]
        )
        == 0
    )
    assert "3 tasks in" in capsys.readouterr().out and json.loads(out.read_text())[0]["data"][
        "image"
    ].startswith("http://x/m%20")
    tasks = json.loads(out.read_text())
    for item, one in zip(
        tasks, exported([label(t["data"]["triple_id"]) for t in tasks]), strict=True
    ):
        item["annotations"] = one["annotations"]
    tasks[1]["annotations"][0]["completed_by"], tasks[2]["annotations"][0]["completed_by"] = 7, None
    out.write_text(json.dumps(tasks))
    assert main(["labels", "import", "tiny", str(out), "--user", "ada"]) == 1
    assert "--user is 'ada', expected a user's number" in capsys.readouterr().err
    assert main(["labels", "import", "tiny", str(out), "--user", "7=bob"]) == 0
    assert (
        "2 labels added to" in (told := capsys.readouterr().out)
        and "1 annotations left out (1 no annotator; see labels_by_people.rejects.parquet)" in told
    )
    run = root / "outputs" / "runs" / "tiny"
    assert read_labels(run / BY_PEOPLE, run_triple_ids(run))["annotator"].to_pylist() == [
        "ada@example.org",
        "bob",
    ]
    assert main(["labels", "import", "tiny", str(tmp_path / "none.json")]) == 1
    assert "none.json" in capsys.readouterr().err
