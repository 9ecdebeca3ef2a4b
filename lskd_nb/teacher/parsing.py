"""What makes a teacher's reply triples: a schema, and that every region mentioned was offered.

A question of the families "id" and "description" points at a region at least once; a triple of the
family "words" says what it means and has no id at all.

Structured outputs are asked for and not trusted. Whatever comes back, a reply of any shape ends as
triples or as rejects with a reason.
"""

import json
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lskd_nb.regions import MENTION, mentions
from lskd_nb.teacher.prompts import Prompt

LONGEST_DETAIL = 2000  # characters kept of what was rejected
UNKNOWN = "mentions a region that was not offered"
NUMBERED = "mentions a region by its id"  # in a family that has none


class Triple(BaseModel):
    """One question about a pointed region, with its answer and rationale."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)
    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    rationale: str = Field(min_length=1)


class Triples(BaseModel):
    """What the teacher is asked to return."""

    model_config = ConfigDict(extra="forbid")
    triples: list[Triple]


def _response_format() -> dict:
    schema = Triples.model_json_schema()
    return {
        "type": "json_schema",
        "json_schema": {"name": "triples", "strict": True, "schema": schema},
    }


RESPONSE_FORMAT = _response_format()


def read_completion(body: bytes | str | object) -> dict:
    """A chat completion, as bytes or parsed JSON, as it is kept: text, end, tokens [in, out].

    What is no chat completion becomes ``{"error": reason}``, which is not kept.
    """
    if isinstance(body, bytes | str):
        if not body.strip():
            return {"error": "empty body"}
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            return {"error": "body is not JSON"}
    if not isinstance(body, dict) or not isinstance(body.get("choices"), list):
        return {"error": "body is no chat completion"}
    if not body["choices"]:
        usage = _usage(body.get("usage"))
        return {"text": None, "finish": "empty", "refusal": None, "usage": usage}
    choice = body["choices"][0]
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict) or not isinstance(message.get("content"), str | None):
        return {"error": "body is no chat completion"}
    return {
        "text": _storable(message.get("content")),
        "finish": _storable(choice.get("finish_reason")),
        "refusal": _storable(message.get("refusal")),
        "usage": _usage(body.get("usage")),
    }


def _usage(usage: object) -> list[int]:
    counts = [
        usage.get(name) if isinstance(usage, dict) else 0
        for name in ("prompt_tokens", "completion_tokens")
    ]
    return [n if type(n) is int and 0 <= n < 2**40 else 0 for n in counts]


def _storable(text: object) -> str | None:
    """Text as UTF-8 can hold it: JSON may have half a surrogate pair."""
    return None if text is None else str(text).encode("utf-8", "replace").decode()


def parse_reply(reply: dict | None) -> list | str:
    """The items of a reply, or the reason why it has none.

    >>> reply = dict(text='{"triples": [{"question": "Who is [0]?"}]}', finish="stop", refusal=None)
    >>> parse_reply(reply)
    [{'question': 'Who is [0]?'}]
    >>> parse_reply(reply | {"text": "Sure! Here are three."})
    'not JSON'
    """
    if reply is None:
        return "not sent: budget used up"
    if "unsent" in reply:
        return f"not sent: {reply['unsent']}"
    if "error" in reply:
        return f"no answer: {reply['error']}"
    if reply["refusal"]:
        return "refusal"
    if reply["finish"] == "length":
        return "cut off at the token limit"
    if not (reply["text"] or "").strip():
        return "empty reply"
    try:
        content = json.loads(reply["text"])
    except (ValueError, RecursionError):
        return "not JSON"
    if not isinstance(content, dict) or not isinstance(content.get("triples"), list):
        return "no list of triples"
    return content["triples"] or "no list of triples"


def invalid(item: object, offered: Iterable[int], family: str = "id") -> str | None:
    """Why an item is not a valid triple about the regions offered, or None.

    >>> item = dict(question="Why is [1] here?", answer="To eat.", rationale="[3] is a cafe.")
    >>> invalid(item, offered=[0, 1])
    'mentions a region that was not offered'
    >>> invalid(item, offered=[0, 1, 3]) is None
    True
    >>> invalid(item, offered=[0, 1, 3], family="words")
    'mentions a region by its id'
    """
    checked = _checked(item, offered, family)
    return checked if isinstance(checked, str) else None


def _checked(item: object, offered: Iterable[int], family: str) -> tuple[Triple, list[int]] | str:
    """A triple and the regions that it mentions, or why it is none."""
    try:
        triple = Triple.model_validate(item)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = _storable(".".join(map(str, first["loc"]))) or "triple"
        return f"bad field {field}: {first['type']}"
    texts = " ".join((triple.question, triple.answer, triple.rationale))
    if family == "words":
        return NUMBERED if MENTION.search(texts) else (triple, [])
    try:
        asked, said = mentions(triple.question), mentions(texts)
    except ValueError:  # more digits than Python reads as a number
        return UNKNOWN
    if not asked:
        return "question mentions no region"
    return UNKNOWN if set(said) - set(offered) else (triple, said)


def triples_and_rejects(
    prompt: Prompt, key: str, reply: dict | None, model: str
) -> tuple[list[dict], list[dict]]:
    """The TRIPLES and the REJECTS rows that a reply is worth; ``key``: its request's hash."""
    record = f"{prompt.image_id}-{prompt.source}"
    parsed = parse_reply(reply)
    if isinstance(parsed, str):
        detail = _detail(reply) if reply else ""
        return [], [dict(stage="teacher", record=record, reason=parsed, detail=detail)]
    rows, rejects = [], []
    for number, item in enumerate(parsed):
        name, checked = f"{record}-{number}", _checked(item, prompt.offered, prompt.family)
        if isinstance(checked, str):
            rejects.append(dict(stage="teacher", record=name, reason=checked, detail=_detail(item)))
            continue
        triple, mentioned = checked
        rows.append(
            dict(
                triple_id=name,
                image_id=prompt.image_id,
                family=prompt.family,
                question=triple.question,
                answer=triple.answer,
                rationale=triple.rationale,
                regions=mentioned,
                regions_offered=list(prompt.offered),
                model=model,
                prompt=prompt.name,
                request=key,
            )
        )
    return rows, rejects


def _detail(value: object) -> str:
    return _storable(json.dumps(value, ensure_ascii=False))[:LONGEST_DETAIL]
