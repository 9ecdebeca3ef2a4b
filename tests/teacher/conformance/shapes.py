"""What was written, as servers and models wrap it; and how much of it a reply still holds.

A reply's triples are judged here by a rule of its own, before they are wrapped, and never by what
the package reads: three texts, a question that points, and no region that was not offered.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

TEXTS = ("question", "answer", "rationale")
Texts = tuple[str, str, str]
DRAFT = {
    "question": "What is [0] up to?",
    "answer": "This is a draft.",
    "rationale": "[0] is only a draft.",
}
MUSING = (
    "Okay, I am to write triples as JSON about the regions [0], [1] and so on. A first try:\n"
    + json.dumps({"triples": [DRAFT]})
    + "\nNo, that does not follow from what is there. I should look again."
)


@dataclass(frozen=True)
class Asked:
    """A request: its body, what the writer wrote for it, the regions that it offers, how often it
    has come (from 1).
    """

    body: dict
    triples: list[dict]
    offered: frozenset[int]
    attempt: int


@dataclass(frozen=True)
class Answer:
    """What the client gets; the valid triples that it holds; whether it is a whole reply, so that
    nobody has a reason to ask again.
    """

    body: object
    status: int = 200
    held: tuple[Texts, ...] = ()
    whole: bool = True


Shape = Callable[[Asked], Answer]


def valid(triples: Sequence[dict], offered: frozenset[int]) -> tuple[Texts, ...]:
    """The texts of those triples that may be kept."""
    kept = []
    for triple in triples:
        texts = tuple(triple[name] for name in TEXTS)
        pointed = [set(map(int, re.findall(r"\[(\d+)\]", text))) for text in texts]
        if all(t.strip() for t in texts) and pointed[0] and set.union(*pointed) <= offered:
            kept.append(texts)
    return tuple(kept)


def completion(
    message: dict, finish: str = "stop", tokens: int = 0, reasoning: int = 0, **more: object
) -> dict:
    """A chat completion as OpenAI has it; ``more`` goes into its only choice."""
    usage = {"prompt_tokens": 900, "completion_tokens": tokens, "total_tokens": 900 + tokens}
    if reasoning:
        usage["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    choice = {"index": 0, "message": {"role": "assistant"} | message, "finish_reason": finish}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "a",
        "choices": [choice | {"logprobs": None} | more],
        "usage": usage,
    }


def whole(asked: Asked, message: dict, held: Sequence[Texts] | None = None) -> Answer:
    """A reply that has ended by itself."""
    told = valid(asked.triples, asked.offered) if held is None else tuple(held)
    return Answer(completion(message, tokens=len(json.dumps(message)) // 4), held=told)


def text(wrap: Callable[[list[dict]], str]) -> Shape:
    """A reply whose content is this text, all of it."""

    def shape(asked: Asked) -> Answer:
        return whole(asked, {"content": wrap(asked.triples)})

    shape.__name__ = wrap.__name__
    return shape


def _pretty(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False)


def _json(triples: list[dict]) -> str:
    return json.dumps({"triples": triples}, ensure_ascii=False)


# ---------------------------------------------------------------------------------- texts, wrapped


@text
def plain(triples: list[dict]) -> str:
    return _json(triples)


@text
def fenced(triples: list[dict]) -> str:
    return f"```json\n{_pretty({'triples': triples})}\n```"


@text
def fenced_in_words(triples: list[dict]) -> str:
    return (
        "Sure! Here are the triples {question, answer, rationale} that you asked for:\n\n"
        f"```\n{_pretty({'triples': triples})}\n```\n\nLet me know if [0] needs more questions!"
    )


@text
def in_words(triples: list[dict]) -> str:
    return f"Here is the JSON:\n{_json(triples)}\nI hope that helps :-}}"


@text
def trailing_commas(triples: list[dict]) -> str:
    return re.sub(r'(["}\]])\n(?= *[}\]])', r"\1,\n", _pretty({"triples": triples}))


@text
def raw_newlines(triples: list[dict]) -> str:
    broken = [t | {"rationale": t["rationale"].replace(" ", "\n", 1)} for t in triples]
    return _json(broken).replace("\\n", "\n")


@text
def single_quotes(triples: list[dict]) -> str:
    return repr({"triples": triples})


@text
def root_list(triples: list[dict]) -> str:
    return _pretty(triples)


def single_object(asked: Asked) -> Answer:
    held = valid(asked.triples[:1], asked.offered)
    return whole(asked, {"content": _pretty(asked.triples[0])}, held)


@text
def json_in_a_string(triples: list[dict]) -> str:
    return json.dumps(_json(triples))


@text
def extra_fields(triples: list[dict]) -> str:
    numbered = [{"id": n, **t, "confidence": 0.9} for n, t in enumerate(triples)]
    return json.dumps({"reasoning": "by the regions", "triples": numbered})


@text
def thinking(triples: list[dict]) -> str:
    return f"<think>\n{MUSING}\n</think>\n\n{_json(triples)}"


@text
def thinking_unopened(triples: list[dict]) -> str:
    return f"{MUSING}\n</think>\n\n{_json(triples)}"


@text
def thinking_fenced(triples: list[dict]) -> str:
    return f"<think>{MUSING}</think>\n```json\n{_pretty({'triples': triples})}\n```"


# ----------------------------------------------------------------------------- regions, in writing

_SPELLED: tuple[Callable[[int], str], ...] = (
    "[person{}]".format,
    "region {}".format,
    "({})".format,
    "［{}］".format,
)
# where a noun goes before, "the bench region 0" would be a spelling of another text
_SPELLED_AFTER_A_NOUN = (_SPELLED[0], "[region {}]".format, *_SPELLED[2:])
_NOBODY = ("[{} and 77]", "[{}-77]", "[-1]", "[person77]", "region 77", "［77］")


def _spelled(triple: dict, spell: Callable[[int], str]) -> dict:
    def of(value: str) -> str:
        told = re.sub(r"\[(\d+)\]", lambda m: spell(int(m[1])), value)
        return told[:1].upper() + told[1:] if value.startswith("[") else told

    return {name: of(value) for name, value in triple.items()}


def regions_spelled(asked: Asked) -> Answer:
    """Regions that were offered, each triple with a spelling of its own."""
    described = "by what they are" in json.dumps(asked.body["messages"])
    spell = _SPELLED_AFTER_A_NOUN if described else _SPELLED
    told = [_spelled(t, spell[n % len(spell)]) for n, t in enumerate(asked.triples)]
    return whole(asked, {"content": _json(told)}, valid(asked.triples, asked.offered))


def regions_of_nobody(asked: Asked) -> Answer:
    """Every second triple mentions a region that was not offered, in all spellings."""
    told = []
    for number, triple in enumerate(asked.triples):
        some = min(asked.offered)
        nobody = _NOBODY[number // 2 % len(_NOBODY)].format(some)
        more = f" It is close to {nobody}."
        told.append(triple | {"rationale": triple["rationale"] + more} if number % 2 else triple)
    held = valid(asked.triples[::2], asked.offered)
    return whole(asked, {"content": _json(told)}, held)


# ------------------------------------------------------------------------------- cut off, and empty


def _cut(triples: list[dict]) -> tuple[str, int]:
    """Two whole triples and the third without its end; how many are whole."""
    number = min(2, len(triples) - 1)
    end = triples[number]["rationale"][:9]
    begun = _pretty({"triples": triples[: number + 1]})
    return begun[: begun.rindex(json.dumps(end, ensure_ascii=False)[:-1]) + 10], number


def cut(finish: str, heals: bool) -> Shape:
    """Cut off, at each attempt or at the first alone."""

    def shape(asked: Asked) -> Answer:
        if heals and asked.attempt > 1:
            return plain(asked)
        content, number = _cut(asked.triples)
        held = valid(asked.triples[:number], asked.offered)
        body = completion({"content": content}, finish, tokens=len(content) // 4)
        return Answer(body, held=held, whole=False)

    shape.__name__ = f"cut_{finish}"
    return shape


def starved(asked: Asked) -> Answer:
    """Reasoning that eats the limit, the first time."""
    limit = asked.body.get("max_completion_tokens") or 10**6
    if asked.attempt > 1 or limit > 3000:
        return plain(asked)
    body = completion({"content": "", "refusal": None}, "length", limit, limit)
    return Answer(body, whole=False)


def filtered_end(content: str) -> Shape:
    """Azure's filter, struck by what the model was writing."""
    results = {"violence": {"filtered": True, "severity": "medium"}}

    def shape(asked: Asked) -> Answer:
        body = completion({"content": content}, "content_filter", content_filter_results=results)
        return Answer(body, whole=False)

    shape.__name__ = "filtered_" + ("early" if content else "empty")
    return shape


def empty(asked: Asked) -> Answer:
    return Answer(completion({"content": ""}), whole=False)


PROSE = "I'm sorry, but I can't see the image. Could you describe it in more detail?"


def prose(asked: Asked) -> Answer:
    return Answer(completion({"content": PROSE}, tokens=20))


# -------------------------------------------------------------------- where else the text may stand


def beside(field: str) -> Shape:
    """What was thought in a field of its own, a draft among it."""

    def shape(asked: Asked) -> Answer:
        return whole(asked, {field: MUSING, "content": "\n\n" + _json(asked.triples)})

    shape.__name__ = f"beside_{field}"
    return shape


def instead(field: str, content: str | None) -> Shape:
    """The JSON in the field of thoughts, where a grammar and thinking meet, and no content."""

    def shape(asked: Asked) -> Answer:
        return whole(asked, {"content": content, field: _json(asked.triples)})

    shape.__name__ = f"instead_{field}"
    return shape


def parts(number: int, thoughts: bool) -> Shape:
    """Content as a list: thoughts, then the text in so many parts."""

    def shape(asked: Asked) -> Answer:
        said = _json(asked.triples)
        size = -(-len(said) // number)
        content: list[dict] = [
            {"type": "text", "text": said[at : at + size]} for at in range(0, len(said), size)
        ]
        if thoughts:
            thought = {"type": "thinking", "thinking": [{"type": "text", "text": MUSING}]}
            content.insert(0, thought)
        return whole(asked, {"content": content})

    shape.__name__ = f"parts_{number}"
    return shape


def kept_alive(asked: Asked) -> Answer:
    """OpenRouter's comments before the body."""
    answer = plain(asked)
    said = "\n         \n: OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n"
    return Answer(said + json.dumps(answer.body), held=answer.held)


UPSTREAM = {
    "code": 502,
    "message": "Provider returned error",
    "metadata": {"raw": "upstream connect error or disconnect", "provider_name": "Somebody"},
}


def error_for_answer(asked: Asked) -> Answer:
    """HTTP 200, and an error is all there is; the first time."""
    if asked.attempt > 1:
        return plain(asked)
    return Answer({"error": UPSTREAM, "user_id": "user_1"}, whole=False)


def error_midway(asked: Asked) -> Answer:
    """A choice that ends with an error, in the middle of its first triple; the first time."""
    if asked.attempt > 1:
        return plain(asked)
    begun = _json(asked.triples)[:40]
    body = completion({"content": begun}, "error", error=UPSTREAM, native_finish_reason="error")
    return Answer(body, whole=False)
