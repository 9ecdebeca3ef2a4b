"""What a server says when it refuses a request: its own words, and whether they can heal.

Servers of OpenAI's protocol word their errors in many ways: an object in an object, a bare text, a
list of complaints, a page of HTML. Some refusals are about one prompt, one that a content filter
dislikes or that is too long, and the others go on. Some are about every request there will be: a
wrong key, an unknown model, an empty account, a field that is not known. Those end the call at
once, with the server's words.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lskd_nb.teacher.requests import TeacherSettings, redact_key

LONGEST_WORDS = 600  # characters
# of one prompt: Azure's and OpenAI's codes, and what OpenRouter and others write
_FILTERED = re.compile(
    r"content_filter|content_policy|content management policy|ResponsibleAIPolicy|\bflagged\b",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(
    r"context[_ ]length|context window|too long|string_above_max_length", re.IGNORECASE
)
# of every prompt: the account, the model, the fields that all requests have (requests.request_body)
_SPENT = re.compile(r"insufficient_quota|billing_(hard_limit|not_active)|insufficient_balance")
_MODEL = re.compile(
    r"model_not_found|(unknown|invalid|no such) model|not a valid model"
    r"|model .{0,80}(not found|does not exist|not supported|not available)",
    re.IGNORECASE,
)
_FIELD = re.compile(
    r"unsupported_(parameter|value)|unknown_parameter|[Ii]nvalid schema|structured output"
    r"|\b(response_format|json_schema|json_object|max_tokens|max_completion_tokens|temperature"
    r"|seed|random_seed|reasoning_effort)\b"
)


@dataclass(frozen=True)
class Refusal:
    """An answer that is none: HTTP status, the server's words, what to call it among the rejects.

    ``final``: every other request will be refused alike; ``field``: but one that says less may not.
    """

    status: int
    words: str
    filtered: bool = False
    final: bool = False
    field: bool = False

    @property
    def puzzling(self) -> bool:
        """Nobody knows whom it is about: some in a row, and no answer between, are final."""
        known = self.of_one_prompt or self.final
        return 400 <= self.status < 500 and self.status not in (408, 409, 429) and not known

    @property
    def of_one_prompt(self) -> bool:
        """Another prompt may be answered."""
        return self.filtered or bool(_TOO_LONG.search(self.words))

    @property
    def may_be_a_field(self) -> bool:
        """A request with fewer fields may be answered."""
        return self.field or self.puzzling

    @property
    def reply(self) -> dict:
        """As a reply that is not kept: its reason is counted, its words become a detail."""
        what = f"HTTP {self.status}" + (", content filter" if self.filtered else "")
        return {"error": what, "words": self.words}


def read_refusal(status: int, body: bytes | str | object, settings: TeacherSettings) -> Refusal:
    """A refusal from its status and body, in whatever shape that is; the key taken out.

    >>> settings = TeacherSettings("http://localhost", "m")
    >>> body = '{"error": "\\'response_format.type\\' must be \\'text\\'"}'
    >>> refusal = read_refusal(400, body, settings)
    >>> refusal.words, refusal.final, refusal.field
    ("'response_format.type' must be 'text'", True, True)
    """
    told = " ".join(redact_key(" ".join(_said(_parsed(body))), settings).split())
    filtered = bool(_FILTERED.search(told))
    wall = status in (401, 402, 403, 404, 405, 410) or bool(_SPENT.search(told))
    asked = 400 <= status < 500 and status != 429 and not _TOO_LONG.search(told)
    field = not filtered and not wall and bool(_FIELD.search(told)) and (asked or status >= 500)
    final = not filtered and (wall or (asked and (field or bool(_MODEL.search(told)))))
    return Refusal(status, told[:LONGEST_WORDS] or "(no words)", filtered, final, field)


def _parsed(body: bytes | str | object) -> object:
    if isinstance(body, bytes):
        body = body.decode("utf-8", "replace")
    if isinstance(body, str):
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            return re.sub(r"<[^>]*>", " ", body)
    return body


def _said(told: object, depth: int = 0) -> Iterable[str]:
    """The words of an error: its message first, then code, type and field where that lacks them."""
    if depth > 7 or told is None:
        return
    if isinstance(told, list):
        for one in told[:3]:
            yield from _said(one, depth + 1)
    elif isinstance(told, Mapping):
        found: list[str] = []
        for key in ("error", "message", "msg", "detail", "loc", "innererror"):
            found += _said(told.get(key), depth + 1)
        text = " ".join(found)
        more = dict.fromkeys(str(told[k]) for k in ("code", "type", "param") if told.get(k))
        yield from found
        yield from (f"({word})" for word in more if word not in text)
    else:
        yield str(told).encode("utf-8", "replace").decode()


def refused(
    refusal: Refusal, settings: TeacherSettings, models: Iterable[str] = (), with_v1: bool = False
) -> RuntimeError:
    """The error that ends a call: whom was asked, what it said, what to do.

    ``models`` are those that the server says it has; ``with_v1``: it has them at ``base_url``/v1.
    """
    key, offered = settings.key_variable, list(models)
    if refusal.status in (401, 403):
        what, to_do = f"refuses the key in {key}", f"is {key} a key that may use this model?"
    elif _SPENT.search(refusal.words) or refusal.status == 402:
        what, to_do = f"has nothing left for the key in {key}", "see to the account, then run again"
    elif with_v1:
        what = "has nothing at this address"
        to_do = f'set base_url to "{settings.base_url.rstrip("/")}/v1"'
    elif refusal.status in (404, 405, 410) or (_MODEL.search(refusal.words) and not refusal.field):
        what = "does not know the model, or the address"
        to_do = "are base_url and model right? " + (
            f"it has the models {_nearest(settings.model, offered)}: set model to one of them"
            if offered and settings.model not in offered
            else f"{settings.base_url}/models may list what it has"
        )
    else:
        what = "does not take these requests"
        to_do = "another model or server may; its words say which field it refuses"
    return RuntimeError(
        f"teacher at {settings.base_url}, model {settings.model!r}, {what}: HTTP {refusal.status}:"
        f" {refusal.words}. To do: {to_do} (replies so far are kept)"
    )


def _nearest(model: str, offered: Sequence[str]) -> str:
    return ", ".join(map(repr, difflib.get_close_matches(model, offered, 12, 0.0)))


def no_completion(told: str) -> str:
    """What to do where a server answers, and not as Chat Completions does."""
    return (
        f"{told}. To do: is base_url the address of an API of OpenAI's protocol? It mostly ends in"
        " /v1"
    )


def what_to_change(reason: str) -> str:
    """What to do where replies are rejects for a ``reason`` of parsing's."""
    if reason.startswith("empty"):
        return (
            "a model that thinks may have spent all of max_tokens on it: raise it, or set"
            ' reasoning_effort to "low"'
        )
    if reason.startswith("cut off"):
        return "raise max_tokens, ask for fewer triples, or give the server a longer context"
    if reason.startswith(("not JSON", "no list", "bad field")):
        return (
            "this model does not keep to the form: take a larger one, or a server that enforces a"
            " schema (see `lskd check`)"
        )
    if "region" in reason:
        return "this model does not point as it is asked to: take a larger one"
    if reason.startswith("refusal") or "content filter" in reason:
        return "the model won't write about these images: take another"
    return "see whether the server is well, then run it again: what is answered is kept"
