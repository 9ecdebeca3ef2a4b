"""Label Studio's tasks, its interface, and the labels that come back."""

import json
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lskd_nb.cli import main
from lskd_nb.critic import label_studio as ls
from lskd_nb.critic import label_studio_import as lsi
from lskd_nb.critic.labels import BY_PEOPLE, label_file, read_labels, run_triple_ids
from lskd_nb.records import LABELS, REGIONS, REJECTS, read_parquet, write_parquet
from lskd_nb.regions import LocatedImage, Region


def test_the_interface_has_a_rectangle_for_each_region_and_what_a_label_needs(triple):
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
        ls.task(triple, LocatedImage("m0", "m.png", 4, 3, (), "s", "train"))["data"]
    )


def test_a_task_has_its_image_its_texts_and_its_boxes_in_per_cent(triple):
    image = LocatedImage(
        "m0",
        "VG 100K/m#0.png",
        40,
        30,
        (Region(0, (2, 3, 22, 18)), Region(1, (0, 0, 40, 30)), Region(2, (1, 1, 2, 2))),
        "s",
        "train",
    )
    made = ls.task(triple, image, "https://example.org/")
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
    assert ls.task(triple, image)["data"]["image"] == "/data/local-files/?d=VG%20100K/m%230.png"


scores = st.floats(0, 1, width=32)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["m0-0", "m0-1", "m1-0"]),
            st.sampled_from(["a@x.org", "b@x.org", "ü"]),
            st.booleans(),
            scores,
            scores,
        ),
        unique_by=lambda told: told[:2],
        max_size=9,
    )
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_labels_come_back_as_they_went(exported, label, read_export, tmp_path, labels):
    labels = [label(*told) for told in labels]
    rows, rejects = read_export(tmp_path, exported(labels))
    assert rows == labels and rejects == []


sizes, edges = st.integers(1, 3000), st.floats(0, 0.99)


@given(sizes, sizes, edges, edges, edges, edges)
@settings(max_examples=60, deadline=None)
def test_boxes_come_back_as_they_went(triple, width, height, x, y, w, h):
    box = (
        x * width,
        y * height,
        x * width + (1 - x) * width * (w + 0.01),
        y * height + (1 - y) * height * (h + 0.01),
    )
    image = LocatedImage("m0", "m.png", width, height, (Region(0, box),), "s", "train")
    (result,) = ls.task(triple, image)["predictions"][0]["result"]
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


def test_a_run_goes_out_and_its_labels_come_in(label, small_run, tmp_path):
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
        (done := lsi.import_labels(tmp_path / "export.json", small_run)).added == 4
        and done.there == 0
        and done.labels == target
    )
    went = {r["triple_id"]: r for r in read_parquet(tmp_path / "mine.parquet", LABELS).to_pylist()}
    assert all(went[r["triple_id"]] == r for r in read_labels(target, ids).to_pylist())
    tasks[1]["annotations"][0]["result"][1]["value"]["number"] = 0.1
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    done = lsi.import_labels(tmp_path / "export.json", small_run)
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


def test_a_second_file_gets_other_triples_and_plain_images_no_boxes(label, small_run, tmp_path):
    ids = run_triple_ids(small_run)
    write_parquet([label(name) for name in ids[:5]], small_run / BY_PEOPLE, LABELS)
    second = small_run / "labels_to_measure.parquet"
    number, _ = ls.write_tasks(small_run, tmp_path / "second.json", labels=second)
    asked = {
        task["data"]["triple_id"] for task in json.loads((tmp_path / "second.json").read_text())
    }
    assert number == len(ids) - 6 and asked == set(ids[6:])  # nor the sixth, of an image
    assert ls.write_tasks(small_run, tmp_path / "first.json")[0] == len(ids)


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


def test_files_that_are_not_ours_are_not_replaced(exported, label, small_run, tmp_path):
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


def test_commands_write_tasks_and_read_labels(
    exported, label, small_run, tmp_path, monkeypatch, capsys
):
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
