"""What a reply says, however it is wrapped: a chat completion as it is kept, and the items in it.

Servers put the text into ``content``, as a string or a list of parts, or leave that empty and put
it where they put the thinking. Models put it between fences, after ``<think>…</think>``, behind
"Sure! Here are three:", with a trailing comma, or break off. All of that is read here, leniently;
whether an item is a triple is decided strictly, in ``parsing``.

Whole objects are read by Python's own decoder wherever they stand. What it can't read is mended by
``json_repair``, object by object, and only where it has an end: what was cut off stays cut off.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

LONGEST_WORDS = 300  # characters of what is no chat completion
ATTEMPTS = 400  # places where an object may begin that are tried in one text
DEEPEST = 12  # how far objects, and texts that hold JSON, are opened
_DECODER = json.JSONDecoder(strict=False)  # takes a raw newline in a string
_BEGINS = re.compile(r"[\[{]")
_THOUGHT = re.compile(r"</(?:think|thinking|thought|reasoning)\s*>|<\|channel\|>final<\|message\|>")
_THINKS = re.compile(r"<(?:think|thinking|thought|reasoning)\s*>")
_COMMENT = re.compile(r"\s*:[^\n]*(?:\n|$)")  # of a stream of events, which some send before


# ---------------------------------------------------------------------------------- the completion


def read_body(body: bytes | str) -> object:
    """The JSON of a body; comment lines of an event stream before it are passed over.

    Raises ``ValueError`` where it is none.
    """
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    while comment := _COMMENT.match(text):
        text = text[comment.end() :]
    text = text.strip().removeprefix("data:")
    if not text:
        raise ValueError("empty body")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("body is not JSON") from None


def told_error(body: object) -> tuple[int, object] | None:
    """The error that a body holds although its status said that all is well: status and words.

    OpenRouter puts the provider's error into the body, or into a choice that ended by "error".
    """
    if not isinstance(body, Mapping):
        return None
    error = body.get("error")
    choices = body.get("choices")
    if not error and isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        error = choices[0].get("error")
        if not error and choices[0].get("finish_reason") == "error":
            error = {"message": "the reply ended by an error"}
    if not error:
        return None
    code = error.get("code", error.get("status")) if isinstance(error, Mapping) else None
    if isinstance(code, str) and code.isdecimal() and len(code) == 3:
        code = int(code)
    if type(code) is int and 400 <= code < 600:
        return code, error
    return (400 if isinstance(error, str) else 502), error  # a bare text is no provider's


def read_completion(body: bytes | str | object) -> dict:
    """A chat completion, as bytes or parsed JSON, as it is kept: text, end, tokens [in, out].

    Where the text has no JSON and the model's thinking may, that is kept as ``reasoning``. What is
    no chat completion becomes ``{"error": reason}``, which is not kept.
    """
    if isinstance(body, bytes | str):
        try:
            body = read_body(body)
        except ValueError as error:
            page = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
            words = " ".join(re.sub(r"<[^>]*>", " ", page[:4000]).split())[:LONGEST_WORDS]
            return {"error": str(error)} | ({"words": storable(words)} if words else {})
    if error := told_error(body):
        return {"error": f"error {error[0]} in the reply", "words": storable(str(error[1])[:600])}
    if not isinstance(body, Mapping) or not isinstance(body.get("choices"), list):
        return {"error": "body is no chat completion"}
    if not body["choices"]:
        usage = _usage(body.get("usage"))
        return {"text": None, "finish": "empty", "refusal": None, "usage": usage}
    choice = body["choices"][0]
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(message, Mapping):
        return {"error": "body is no chat completion"}
    text, thought, refused = _content(message.get("content"))
    reply = {
        "text": storable(text),
        "finish": storable(choice.get("finish_reason")),
        "refusal": storable(message.get("refusal") or refused or None),
        "usage": _usage(body.get("usage")),
    }
    if "{" not in (text or ""):
        for name in ("reasoning_content", "reasoning", "thinking"):
            said = _content(message.get(name))
            thought = thought or said[0] or said[1]
        if thought:
            reply["reasoning"] = storable(thought)
    return reply


def _content(content: object) -> tuple[str | None, str, str]:
    """The text of a message's content, its thinking and its refusal: a string, or a list of parts
    that each say of which type they are.
    """
    if content is None or isinstance(content, str):
        return content, "", ""
    found = {"text": "", "thinking": "", "refusal": ""}
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            found["text"] += part
        elif isinstance(part, Mapping):
            kind = next((name for name in ("thinking", "reasoning", "refusal") if name in part), "")
            said = part.get(kind or "text")
            if isinstance(said, list):
                said = _content(said)[0]
            if isinstance(said, str):
                found["thinking" if kind == "reasoning" else kind or "text"] += said
    return found["text"], found["thinking"], found["refusal"]


def _usage(usage: object) -> list[int]:
    counts = [
        usage.get(name) if isinstance(usage, Mapping) else 0
        for name in ("prompt_tokens", "completion_tokens")
    ]
    return [n if type(n) is int and 0 <= n < 2**40 else 0 for n in counts]


def storable(text: object) -> str | None:
    """Text as UTF-8 can hold it: JSON may have half a surrogate pair."""
    return None if text is None else str(text).encode("utf-8", "replace").decode()


# ------------------------------------------------------------------------------ the items in a text


@dataclass
class Items:
    """What was found in a text: objects as they are, and those that could not be read as written.

    ``cut``: the text breaks off inside of one. ``open``: something in it has no end.
    """

    items: list = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    cut: bool = False
    open: bool = False


def find_items(text: str, fields: Collection[str], list_name: str) -> Items:
    """The objects in a text that have some of ``fields``, and whatever stands in lists called
    ``list_name``; an object that is told twice counts once.

    >>> find_items('Sure! ```json\\n[{"question": "Who?",}]```', ["question"], "triples").items
    [{'question': 'Who?'}]
    >>> find_items('{"triples": [{"question": "Who?"}, {"question', ["question"], "triples")
    Items(items=[{'question': 'Who?'}], unreadable=['{"question'], cut=True, open=True)
    """
    try:  # as it was asked for, nearly always
        told = json.loads(text)
        if isinstance(told, dict) and isinstance(told.get(list_name), list):
            return Items(told[list_name])
    except (ValueError, RecursionError):
        pass
    found = Items()
    _Reader(frozenset(fields), list_name, found).scan(_after_thinking(text), 0)
    once: dict[str, object] = {}
    for item in found.items:
        once.setdefault(json.dumps(item, sort_keys=True, default=str), item)
    found.items = list(once.values())
    return found


def _after_thinking(text: str) -> str:
    """What comes after the thinking, or is it, where nothing comes after it."""
    ends = list(_THOUGHT.finditer(text))
    if ends and text[ends[-1].end() :].strip():
        return text[ends[-1].end() :]
    return _THINKS.sub("", text, count=1)


@dataclass(frozen=True)
class _Reader:
    """Reads texts into ``found``."""

    fields: frozenset[str]
    list_name: str
    found: Items

    def scan(self, text: str, depth: int) -> None:
        """Read objects wherever they begin: whole ones at once, the others from inside."""
        found, place, attempts, last_whole = self.found, 0, 0, 0
        before, cut = len(found.items), False
        opened: list[int] = []  # beginnings of objects that could not be read
        while (begin := _BEGINS.search(text, place)) and attempts < ATTEMPTS:
            start, place = begin.start(), begin.end()
            attempts += 1
            try:
                value, end = _DECODER.raw_decode(text, start)
            except json.JSONDecodeError as error:
                found.open = True
                cut |= _at_the_end(error, text)
                if text[start] == "{":
                    opened.append(start)
                continue
            except (ValueError, RecursionError):  # more digits than a number has, or too deep
                continue
            had = len(found.items)
            self.take(value, depth)
            if len(found.items) > had:
                attempts = 0
            place = last_whole = end
        for start in opened:
            cut |= self.mend(text, start)
        if len(found.items) == before and depth < DEEPEST and '\\"' in text:  # a cut text of JSON
            return self.scan(text.replace('\\"', '"'), DEEPEST)
        if not text[last_whole:].strip(" \n\t`\"'.]}"):  # nothing is missing but brackets
            cut &= bool(opened) and not text.rstrip(" \n\t`\"'.").endswith("}")
        found.cut |= cut

    def mend(self, text: str, start: int) -> bool:
        """Add what ``json_repair`` makes of an object without objects inside, if it has an end and
        nothing but the fields: what it makes of a quotation mark too many may be another text.

        Returns whether the text breaks off in it.
        """
        from json_repair import repair_json

        following = text.find("{", start + 1)
        piece = text[start : following if following >= 0 else len(text)]
        if not any(name in piece.lower() for name in self.fields):
            return False
        end = piece.rfind("}")
        if end < 0:
            if following < 0 or not piece.rstrip().endswith(("[", ":")):
                self.found.unreadable.append(piece.strip())
            return following < 0
        mended = repair_json(piece[: end + 1], return_objects=True, skip_json_loads=True)
        names = [_plain(name) for name in mended] if isinstance(mended, Mapping) else []
        if names and set(names) <= self.fields:
            self.found.items.append(mended)
        else:
            self.found.unreadable.append(piece.strip())
        return False

    def take(self, value: object, depth: int, listed: bool = False) -> None:
        """Add the items in a value: objects with a field, and all that stands in the list."""
        if depth > DEEPEST:
            return
        if isinstance(value, Mapping):
            if listed or self.fields & {_plain(name) for name in value}:
                self.found.items.append(value)
                return
            for name, inner in value.items():
                here = _plain(name) == self.list_name and isinstance(inner, list)
                for one in inner if here else [inner]:
                    self.take(one, depth + 1, here)
        elif isinstance(value, list) and not listed:
            for inner in value:
                self.take(inner, depth + 1)
        elif isinstance(value, str) and _BEGINS.match(value.lstrip()[:1]):
            self.scan(value, depth + 1)
        elif listed:
            self.found.items.append(value)


def _plain(name: object) -> str:
    return str(name).strip().lower()


def _at_the_end(error: json.JSONDecodeError, text: str) -> bool:
    """Whether an object ends where the text does."""
    return error.msg.startswith("Unterminated string") or error.pos >= len(text.rstrip())
