"""What of Label Studio's exports is no label, and says why."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lskd_nb.critic import label_studio_import as lsi
from lskd_nb.critic.labels import run_triple_ids
from lskd_nb.records import REJECTS, read_parquet


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
def test_what_is_no_label_is_told_with_its_reason(
    exported, label, read_export, tmp_path, change, reason, detail
):
    tasks = exported([label(), label("m0-1")])
    change(tasks[0], tasks[0]["annotations"][0])
    rows, rejects = read_export(tmp_path, tasks)
    assert rows == [label("m0-1")]
    assert [(r["record"], r["reason"]) for r in rejects] == [
        ("task 1, annotation 100", reason)
    ] and detail in rejects[0]["detail"]


@pytest.mark.parametrize("annotations", [dict(annotations=[]), {}])
def test_drafts_are_no_labels_and_are_counted(exported, label, read_export, tmp_path, annotations):
    """A draft is in ``drafts``, as Label Studio exports it where asked to; its task's list of
    annotations is empty.
    """
    tasks = exported([label(), label("m0-1"), label("m1-0")])
    result = tasks[0].pop("annotations")[0]["result"]
    drafts = [
        dict(id=7, user="ada@example.org", result=result, annotation=None, was_postponed=True),
        dict(id=8, user=3, result=[], annotation=None, was_postponed=False),
        None,
    ]
    tasks[0] |= dict(drafts=drafts) | annotations
    tasks[2] |= dict(annotations=[], drafts=[], cancelled_annotations=0)
    rows, rejects = read_export(tmp_path, tasks)
    assert rows == [label("m0-1")]
    assert [(r["record"], r["reason"], r["detail"]) for r in rejects] == [
        (
            "task 1, draft 7",
            "draft",
            "m0-0 was drafted by ada@example.org and postponed, and not submitted",
        ),
        ("task 1, draft 8", "draft", "m0-0 was drafted by user-3, and not submitted"),
        ("task 1, draft 2", "draft", "m0-0 was drafted by somebody, and not submitted"),
        ("task 3", "not annotated", "m1-0 has neither annotation nor draft"),
    ]


def test_a_draft_beside_an_annotation_does_not_replace_it(exported, label, read_export, tmp_path):
    tasks = exported([label()])
    tasks[0] |= dict(drafts=[dict(id=9, user=1, annotation=100, result=[])])
    rows, rejects = read_export(tmp_path, tasks)
    assert rows == [label()] and [r["reason"] for r in rejects] == ["draft"]


def test_an_import_tells_what_was_only_drafted(exported, label, small_run, tmp_path):
    ids = run_triple_ids(small_run)[:2]
    tasks = exported([label(t) for t in ids])
    for item in tasks:
        item |= dict(annotations=[], drafts=[dict(id=1, user=1, result=[])])
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    told = str(lsi.import_labels(tmp_path / "export.json", small_run))
    assert told.startswith("0 labels added") and "2 annotations left out (2 draft; see" in told


def test_who_said_it_and_what_they_said_last(exported, label, read_export, tmp_path):
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
    rows, rejects = read_export(
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
def test_what_was_said_last_is_told_by_times_and_not_by_texts(
    exported, label, read_export, tmp_path, earlier, later
):
    for times in ((earlier, later), (later, earlier)):
        tasks = exported([label(qa=0.0), label(qa=1.0)])
        for item, time in zip(tasks, times, strict=True):
            item["annotations"][0].update(updated_at=time, created_at=None)
        rows, rejects = read_export(tmp_path, tasks)
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
    exported, label, small_run, tmp_path, change, detail
):
    ids = run_triple_ids(small_run)[:2]
    tasks = exported([label(ids[0]), label(ids[1])])
    change(tasks[0]["annotations"][0])
    tasks[0]["id"] = "\udfff"
    (tmp_path / "export.json").write_text("\ufeff" + json.dumps(tasks), encoding="utf-8")
    done = lsi.import_labels(tmp_path / "export.json", small_run)
    (told,) = read_parquet(small_run / "labels_by_people.rejects.parquet", REJECTS).to_pylist()
    assert (
        done.added == 1
        and told["reason"] == "bad value"
        and detail in told["detail"]
        and told["record"] == "task \\udfff, annotation 100"
    )


def test_deep_nesting_is_a_reject_or_no_json(exported, label, tmp_path):
    tasks = exported([label(), label("m0-1")])
    text = json.dumps(tasks).replace('["accept"]', "[" * 900 + "]" * 900, 1)
    (tmp_path / "export.json").write_text(text)
    rows, rejects = lsi.read_export(tmp_path / "export.json", ["m0-0", "m0-1"])
    assert rows == [label("m0-1")] and len(rejects) == 1
    (tmp_path / "export.json").write_text(text.replace("[" * 900, "[" * 99999))
    with pytest.raises(ValueError, match="export.json is no JSON"):
        lsi.read_export(tmp_path / "export.json", ["m0-0"])


def test_stars_stand_for_numbers(exported, label, read_export, tmp_path):
    tasks = exported([label()])
    for place, stars in ((3, 1), (4, 5)):
        tasks[0]["annotations"][0]["result"][place] |= dict(type="rating", value=dict(rating=stars))
    assert read_export(tmp_path, tasks)[0] == [label(qa=0.0, rationale=1.0)]


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
def test_whatever_an_annotation_holds_it_is_a_label_or_a_reject(
    exported, label, read_export, tmp_path, result, who, choices
):
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
    rows, rejects = read_export(tmp_path, tasks)
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
        lsi.read_export(tmp_path / "export.json", ["m0-0"])
