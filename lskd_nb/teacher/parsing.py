"""What makes a teacher's reply triples: a schema, and that every region mentioned was offered.

A question of the families "id" and "description" points at a region at least once; a triple of the
family "words" says what it means and has no id at all.

Structured outputs are asked for and not trusted. Whatever comes back, a reply of any shape
(``replies``), with regions in any spelling (``spellings``), ends as triples or as rejects with a
reason.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lskd_nb.teacher.prompts import Prompt
from lskd_nb.teacher.replies import Items, find_items, storable
from lskd_nb.teacher.spellings import normalized

Model = TypeVar("Model", bound=BaseModel)

LONGEST_DETAIL = 2000  # characters kept of what was rejected
UNKNOWN = "mentions a region that was not offered"
UNREADABLE = "mentions a region in a way that can't be read"
NUMBERED = "mentions a region by its id"  # in a family that has none
CUT = "cut off"
AT_THE_LIMIT = "cut off at the token limit"
NOT_READ = "not JSON"
EMPTY = "empty reply"
FILTERED = "ended by the content filter"


class Triple(BaseModel):
    """One question about a pointed region, with its answer and rationale."""

    model_config = ConfigDict(extra="ignore", str_strip_whitespace=True)
    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    rationale: str = Field(min_length=1)


@dataclass(frozen=True)
class ReplyForm:
    """What a reply is to be: a list called ``name`` of objects that have texts called ``fields``.

    ``schema`` is the least that says so: gateways refuse what they don't know of JSON schema, and
    what is not in it is checked here.
    """

    name: str
    fields: Mapping[str, str]  # and the JSON type of each

    @property
    def schema(self) -> dict:
        properties = {name: {"type": kind} for name, kind in self.fields.items()}
        one = {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
        return {
            "type": "object",
            "properties": {self.name: {"type": "array", "items": one}},
            "required": [self.name],
            "additionalProperties": False,
        }

    @property
    def response_format(self) -> dict:
        told = {"name": self.name, "strict": True, "schema": self.schema}
        return {"type": "json_schema", "json_schema": told}

    @property
    def in_words(self) -> str:
        """What a model is told whose server knows no schemas."""
        example = json.dumps({self.name: [dict.fromkeys(self.fields, "…")]}, ensure_ascii=False)
        return f"Answer with JSON alone, without any words around it, of this form: {example}"


TRIPLES_FORM = ReplyForm("triples", dict.fromkeys(Triple.model_fields, "string"))


@dataclass(frozen=True)
class Parsed:
    """The items of a reply, or the ``reason`` why it has none; what of it could not be read.

    A reply that is not ``answered``, for it is empty or breaks off, is asked for again.
    """

    items: tuple = ()
    unreadable: tuple[str, ...] = ()
    reason: str = ""
    answered: bool = True


def parse_reply(reply: dict | None, form: ReplyForm = TRIPLES_FORM) -> Parsed:
    """The items of a reply.

    >>> reply = dict(text='{"triples": [{"question": "Who is [0]?"}]}', finish="stop", refusal=None)
    >>> parse_reply(reply).items
    ({'question': 'Who is [0]?'},)
    >>> parse_reply(reply | {"text": "Sure! Here are three."}).reason
    'not JSON'
    """
    if reply is None:
        return Parsed(reason="not sent: budget used up", answered=False)
    if "unsent" in reply:
        return Parsed(reason=f"not sent: {reply['unsent']}", answered=False)
    if "error" in reply:
        return Parsed(reason=f"no answer: {reply['error']}", answered=False)
    if reply["refusal"]:
        return Parsed(reason="refusal")
    text = reply["text"] or ""
    found = find_items(text, form.fields, form.name) if text.strip() else Items()
    if not found.items and reply.get("reasoning"):
        thought = find_items(reply["reasoning"], form.fields, form.name)
        found = thought if thought.items else found
    limited = reply["finish"] == "length" and (found.open or not found.items)
    if reply["finish"] == "content_filter" and not found.items:
        return Parsed(reason=FILTERED, answered=False)
    cut = AT_THE_LIMIT if limited else CUT if found.cut else ""
    if found.items:
        return Parsed(tuple(found.items), tuple(found.unreadable), cut, not cut)
    if cut:
        return Parsed((), (), cut, False)
    if not text.strip():
        return Parsed(reason=EMPTY, answered=False)
    read = text.lstrip().startswith(("{", "[")) and not found.open
    return Parsed((), (), f"no list of {form.name}" if read else NOT_READ)


def invalid(item: object, offered: Collection[int], family: str = "id") -> str | None:
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


def validated(kind: type[Model], item: object) -> Model | str:
    """An item as a ``kind``, whose fields may be written with capitals and spaces around; or what
    is wrong with its first bad field.
    """
    if isinstance(item, Mapping):
        item = {str(name).strip().lower(): value for name, value in item.items()}
    try:
        return kind.model_validate(item)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = storable(".".join(map(str, first["loc"]))) or kind.__name__.lower()
        return f"bad field {field}: {first['type']}"


@dataclass(frozen=True)
class Valid:
    """A valid triple, the regions that it mentions, and how many mentions had to be respelled."""

    triple: Triple
    regions: tuple[int, ...]
    respelled: int


def _checked(item: object, offered: Collection[int], family: str) -> Valid | str:
    """A valid triple, or why an item is none."""
    triple = validated(Triple, item)
    if isinstance(triple, str):
        return triple
    told = {name: normalized(getattr(triple, name), offered) for name in TRIPLES_FORM.fields}
    mentioned = tuple(dict.fromkeys(r for one in told.values() for r in one.regions))
    unreadable = any(one.unreadable for one in told.values())
    if family == "words":
        return NUMBERED if mentioned or unreadable else Valid(triple, (), 0)
    if set(mentioned) - set(offered):
        return UNKNOWN
    if unreadable:
        return UNREADABLE
    if not told["question"].regions:
        return "question mentions no region"
    spelled = triple.model_copy(update={name: one.text for name, one in told.items()})
    return Valid(spelled, mentioned, sum(one.changed for one in told.values()))


@dataclass(frozen=True)
class Worth:
    """What a reply is worth to a prompt: TRIPLES rows, REJECTS rows, mentions respelled.

    Not ``answered``: it is to be asked for again. ``readable``: it had items, valid or not.
    """

    rows: list[dict]
    rejects: list[dict]
    respelled: int = 0
    answered: bool = True
    readable: bool = True


def triples_and_rejects(prompt: Prompt, key: str, reply: dict | None, model: str) -> Worth:
    """What a reply is worth; ``key``: its request's."""
    record = f"{prompt.image_id}-{prompt.source}"
    parsed = parse_reply(reply)
    rows, rejects, respelled = [], [], 0
    for number, item in enumerate(parsed.items):
        name, checked = f"{record}-{number}", _checked(item, prompt.offered, prompt.family)
        if isinstance(checked, str):
            rejects.append(_reject(name, checked, item))
            continue
        respelled += checked.respelled
        rows.append(
            dict(
                triple_id=name,
                image_id=prompt.image_id,
                family=prompt.family,
                question=checked.triple.question,
                answer=checked.triple.answer,
                rationale=checked.triple.rationale,
                regions=list(checked.regions),
                regions_offered=list(prompt.offered),
                model=model,
                prompt=prompt.name,
                request=key,
            )
        )
    pieces = list(parsed.unreadable)
    if parsed.reason:  # of what was cut, the piece where it was
        last = pieces.pop() if pieces and not parsed.answered else reply or ""
        rejects.append(_reject(f"{record}-end" if parsed.items else record, parsed.reason, last))
    rejects += [_reject(f"{record}-u{n}", NOT_READ, piece) for n, piece in enumerate(pieces)]
    return Worth(rows, rejects, respelled, parsed.answered, bool(parsed.items))


def _reject(record: str, reason: str, detail: object) -> dict:
    said = storable(json.dumps(detail, ensure_ascii=False))[:LONGEST_DETAIL] if detail else ""
    return dict(stage="teacher", record=record, reason=reason, detail=said)
