"""What a reply says is read however it is wrapped, and what breaks off is asked for again."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lskd_nb.teacher import parsing
from lskd_nb.teacher.cache import ResponseCache
from lskd_nb.teacher.job import SamplingJob, spent_tokens
from lskd_nb.teacher.prompts import Prompt
from lskd_nb.teacher.replies import find_items, read_completion, told_error
from lskd_nb.teacher.requests import TeacherSettings

FIELDS = parsing.TRIPLES_FORM.fields
ONE, OTHER = (
    dict(question=f"Why is [{n}] here?", answer="To play.", rationale=f"[{n}] has a ball.")
    for n in (0, 1)
)
WHOLE = json.dumps({"triples": [ONE, OTHER]})
LIST = WHOLE.removeprefix('{"triples": ').removesuffix("}")


def read(text: str):
    return find_items(text, FIELDS, "triples")


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{WHOLE}\n```",
        f"Sure! Here are [2] triples, as {{asked}}:\n{WHOLE}\nI hope that helps.",
        f"<think>First {json.dumps(ONE | {'answer': 'A draft.'})}</think>\n{WHOLE}",
        f"thinking aloud {{x}} </think>{WHOLE}",
        f"<think>{WHOLE}</think>",
        WHOLE.replace("]}", ",]}"),
        WHOLE.replace('"', "'"),
        WHOLE.replace('"question"', "question"),
        WHOLE.replace("}, {", "} {"),
        WHOLE.removesuffix("]}"),
        LIST,
        f"{json.dumps(ONE)}\n{json.dumps(OTHER)}",
        f"1. {json.dumps(ONE)}\n2. {json.dumps(OTHER)}",
        json.dumps(WHOLE),
        json.dumps({"data": {"Triples": [ONE, OTHER]}}),
        json.dumps({"triples": {"first": ONE, "second": OTHER}}),
        f"{WHOLE}\n{WHOLE}",
    ],
)
def test_two_triples_are_two_triples_however_they_are_wrapped(text):
    found = read(text)
    assert [dict(item) for item in found.items] == [ONE, OTHER]
    assert not found.unreadable and not found.cut


def test_a_raw_newline_and_a_quotation_inside_are_read():
    assert read(WHOLE.replace("To play.", "To\nplay.")).items[0]["answer"] == "To\nplay."
    assert read(WHOLE.replace("To play.", 'To say "hi" now.')).items[0]["answer"] == (
        'To say "hi" now.'
    )


@given(st.integers(len(json.dumps({"triples": [ONE]})), len(WHOLE) - 3))
def test_what_is_cut_anywhere_keeps_its_whole_triples_and_no_half_one(end):
    found = read(WHOLE[:end])
    assert found.items == [ONE] and (found.cut or WHOLE[:end].endswith("}"))


@given(st.text(alphabet="{}[]\"':,\\ aquestionr0\n", max_size=200) | st.text(max_size=80))
def test_any_text_is_read_or_not_and_never_fails(text):
    found = read(text)
    assert isinstance(found.items, list) and isinstance(found.cut, bool)


@pytest.mark.parametrize("text", ["[" * 10**5, '{"question":' * 10**4, '{"question": "' * 3000])
def test_hostile_texts_take_no_time(text):
    assert not read(text).items


def test_a_quotation_mark_too_many_makes_no_other_text():
    """What could be mended into another text is left unreadable."""
    text = '{"triples": [{"question": "Is [0] "here", "answer": "x": "y", "rationale": "[0] is."}]}'
    found = read(text)
    for item in found.items:
        assert set(item) <= set(FIELDS)


@pytest.mark.parametrize(
    ("message", "text", "reasoning"),
    [
        ({"content": [{"type": "text", "text": "a {"}, {"type": "text", "text": "}"}]}, "a {}", 0),
        ({"content": None, "reasoning_content": WHOLE}, None, WHOLE),
        ({"content": "", "reasoning": WHOLE}, "", WHOLE),
        ({"content": WHOLE, "reasoning": "long thoughts"}, WHOLE, 0),
        ({"content": [{"type": "thinking", "thinking": [{"text": "hm"}]}, "x"]}, "x", "hm"),
    ],
)
def test_where_servers_put_the_text(message, text, reasoning):
    body = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": None}
    reply = read_completion(body)
    assert reply["text"] == text and reply.get("reasoning", 0) == reasoning
    if reasoning == WHOLE:
        assert [dict(i) for i in parsing.parse_reply(reply).items] == [ONE, OTHER]


def test_errors_that_come_as_successes():
    assert told_error({"error": {"code": 429, "message": "slow down"}})[0] == 429
    assert told_error({"error": {"code": "503"}})[0] == 503
    assert told_error({"error": "Unexpected endpoint"})[0] == 400
    assert told_error({"choices": [{"finish_reason": "error", "message": {}}]})[0] == 502
    assert told_error({"choices": [{"finish_reason": "stop"}], "error": None}) is None
    commented = b": OPENROUTER PROCESSING\n\n: again\n" + json.dumps({"choices": []}).encode()
    assert read_completion(commented)["finish"] == "empty"


# --------------------------------------------------------------------------------- asked for again

PROMPT = Prompt("i", "id", (0, 1), ({"role": "user", "content": "x"},), "id-0")


def reply(text: str | None, finish: str = "stop", used: int = 10) -> dict:
    return dict(text=text, finish=finish, refusal=None, usage=[used, used])


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_what_was_cut_is_used_and_asked_for_again_and_all_of_it_is_paid(tmp_path, finish):
    settings = TeacherSettings("http://127.0.0.1:9/v1", "m")

    def job() -> SamplingJob:
        made = SamplingJob([PROMPT], settings, ResponseCache(tmp_path / "c.sqlite"), lambda *_: 0)
        made.look_up()
        return made

    first = job()
    (key,) = first.missing
    for text, used in ((WHOLE[:-30], 10), ("", 5)):  # cut, and then nothing at all
        this = job()
        worth, kept = this.weighed(key, reply(text, finish, used))
        assert [r["question"] for r in worth[0].rows] == [ONE["question"]], "nothing is lost"
        assert not worth[0].answered and "cut off" in worth[0].rejects[-1]["reason"]
        this.cache.put_all([], [(key, kept)])
    third = job()
    assert key in third.missing and third.cache.get(key) is None, "it is no answer"
    assert spent_tokens(third.unfinished[key]) == [15, 15]
    worth, _ = third.weighed(key, {"error": "HTTP 500"})
    assert len(worth[0].rows) == 1, "an error takes away nothing"
    worth, kept = third.weighed(key, reply(WHOLE))
    assert len(worth[0].rows) == 2 and worth[0].answered and spent_tokens(kept) == [25, 25]
    assert parsing.parse_reply(reply("", finish)).answered is False


def test_a_whole_reply_that_ends_at_the_limit_is_whole():
    parsed = parsing.parse_reply(reply(WHOLE, "length"))
    assert parsed.answered and len(parsed.items) == 2
