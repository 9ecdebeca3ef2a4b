"""Replies of any shape are parsed into triples or rejected with a reason."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd_nb.records import REJECTS, TRIPLES, write_parquet
from lskd_nb.regions import mentions
from lskd_nb.teacher import cache as reply_cache
from lskd_nb.teacher import parsing
from lskd_nb.teacher import prompts as prompting
from lskd_nb.teacher.replies import read_completion
from lskd_nb.teacher.spellings import normalized


@given(st.text(max_size=60), st.lists(st.integers(0, 9), max_size=4))
def test_any_text_is_judged_and_nothing_unknown_gets_through(text, offered):
    item = dict(question=text, answer="x", rationale="y")
    wrong = parsing.invalid(item, offered)
    if wrong is None:
        read = normalized(text, offered)
        assert set(mentions(read.text)) == set(read.regions) <= set(offered) and read.regions


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (None, "not sent: budget used up"),
        (dict(error="HTTP 500"), "no answer: HTTP 500"),
        (dict(refusal="no", finish="stop", text=None), "refusal"),
        (dict(refusal=None, finish="length", text='{"tri'), "cut off at the token limit"),
        (dict(refusal=None, finish="stop", text=" "), "empty reply"),
        (dict(refusal=None, finish="stop", text="[1]"), "no list of triples"),
        (dict(refusal=None, finish="stop", text='{"triples": []}'), "no list of triples"),
    ],
)
def test_every_way_to_fail_has_its_name(reply, reason):
    assert parsing.parse_reply(reply).reason == reason


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["[0]", "[0, 9]", "stop", "\ud800", "[" + "1" * 5000 + "]"]),
    lambda child: (
        st.lists(child, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "message",
                    "content",
                    "refusal",
                    "finish_reason",
                    "usage",
                    "prompt_tokens",
                    "triples",
                    "question",
                    "answer",
                    "rationale",
                ]
            ),
            child,
            max_size=4,
        )
    ),
    max_leaves=12,
)
ITEMS = st.fixed_dictionaries(
    {},
    optional={
        name: JSON | st.sampled_from(["Why is [0] here?", "[0]"])
        for name in ("question", "answer", "rationale")
    },
)
CONTENT = st.one_of(
    JSON.map(json.dumps),
    st.lists(ITEMS | JSON, max_size=3).map(lambda t: json.dumps({"triples": t})),
    st.text(max_size=20),
    st.none(),
)
PROMPT = prompting.Prompt("i", "id", (0, 1), (), "id-0")


@settings(deadline=None)
@given(
    st.one_of(
        JSON,
        CONTENT.map(
            lambda text: dict(
                choices=[dict(message=dict(content=text), finish_reason="stop")], usage=None
            )
        ),
    ),
    st.booleans(),
)
def test_a_reply_of_any_shape_is_parsed_or_rejected(tmp_path_factory, body, as_bytes):
    reply = read_completion(json.dumps(body).encode() if as_bytes else body)
    kept = {"text", "finish", "refusal", "usage"}
    assert reply.keys() in ({"error"}, {"error", "words"}, kept, kept | {"reasoning"})
    worth = parsing.triples_and_rejects(PROMPT, "k", reply, "m")
    rows, rejects = worth.rows, worth.rejects
    assert rows or rejects
    names = [r["triple_id"] for r in rows] + [r["record"] for r in rejects]
    assert (
        len(set(names)) == len(names)
        and all(set(r["regions"]) <= {0, 1} for r in rows)
        and all(r["reason"] for r in rejects)
    )
    folder = tmp_path_factory.getbasetemp()
    write_parquet(rows, folder / "any.parquet", TRIPLES)
    write_parquet(rejects, folder / "any_rejects.parquet", REJECTS)
    if "error" not in reply:
        cache = reply_cache.ResponseCache(folder / "any.sqlite")
        cache.put("k", reply)
        assert cache.get("k") == reply
        cache.close()


def test_a_region_of_more_digits_than_a_number_may_have_was_not_offered():
    assert (
        parsing.invalid(
            dict(question="[0] and [" + "1" * 5000 + "]?", answer="x", rationale="y"), [0]
        )
        == parsing.UNREADABLE
    )


@given(st.binary(max_size=60))
def test_a_body_of_any_bytes_is_parsed_or_an_error(body):
    assert "error" in read_completion(body)
