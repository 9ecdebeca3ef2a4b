"""What a server says when it refuses a request: its own words, and whether they can heal.

Servers of OpenAI's protocol word their errors in many ways: an object in an object, a bare text, a
list of complaints, a page of HTML. Some refusals are about one prompt, one that a content filter
dislikes or that is too long, and the others go on. Some are about every request there will be: a
wrong key, an unknown model, an empty account, a field that is not known. Those end the call at
once, with the server's words.
"""

import json
import re
from collections.abc import Iterable, Mapping
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
    r"unsupported_(parameter|value)|\b(response_format|json_schema|json_object|max_tokens"
    r"|max_completion_tokens|temperature|seed)\b"
)


@dataclass(frozen=True)
class Refusal:
    """An answer that is none: HTTP status, the server's words, what to call it among the rejects.

    ``final``: every other request will be refused alike.
    """

    status: int
    words: str
    filtered: bool = False
    final: bool = False

    @property
    def puzzling(self) -> bool:
        """Nobody knows whom it is about: some in a row, and no answer between, are final."""
        known = self.filtered or self.final or _TOO_LONG.search(self.words)
        return 400 <= self.status < 500 and self.status not in (408, 409, 429) and not known

    @property
    def reply(self) -> dict:
        """As a reply that is not kept: its reason is counted, its words become a detail."""
        what = f"HTTP {self.status}" + (", content filter" if self.filtered else "")
        return {"error": what, "words": self.words}


def read_refusal(status: int, body: bytes | str | object, settings: TeacherSettings) -> Refusal:
    """A refusal from its status and body, in whatever shape that is; the key taken out.

    >>> settings = TeacherSettings("http://localhost", "m")
    >>> read_refusal(400, '{"error": "\\'response_format.type\\' must be \\'text\\'"}', settings)
    Refusal(status=400, words="'response_format.type' must be 'text'", filtered=False, final=True)
    """
    told = " ".join(redact_key(" ".join(_said(_parsed(body))), settings).split())
    filtered = bool(_FILTERED.search(told))
    final = not filtered and (
        status in (401, 402, 403, 404, 405, 410)
        or bool(_SPENT.search(told))
        or (400 <= status < 500 and status != 429 and _of_every_request(told))
    )
    return Refusal(status, told[:LONGEST_WORDS] or "(no words)", filtered, final)


def _of_every_request(told: str) -> bool:
    if _TOO_LONG.search(told):
        return False
    return bool(_MODEL.search(told) or _FIELD.search(told))


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
    if depth > 4 or told is None:
        return
    if isinstance(told, list):
        for one in told[:3]:
            yield from _said(one, depth + 1)
    elif isinstance(told, Mapping):
        found: list[str] = []
        for key in ("error", "message", "msg", "detail", "loc", "innererror"):
            found += _said(told.get(key), depth + 1)
        text = " ".join(found)
        more = (str(told[k]) for k in ("code", "type", "param") if told.get(k))
        yield from found
        yield from (f"({word})" for word in more if word not in text)
    else:
        yield str(told).encode("utf-8", "replace").decode()


def refused(refusal: Refusal, settings: TeacherSettings) -> RuntimeError:
    """The error that ends a call: whom was asked, what it said, what to do."""
    key = settings.api_key_env
    if refusal.status in (401, 403):
        what, to_do = f"refuses the key in {key}", f"is {key} a key that may use this model?"
    elif _SPENT.search(refusal.words) or refusal.status == 402:
        what, to_do = f"has nothing left for the key in {key}", "see to the account, then run again"
    elif refusal.status in (404, 405, 410) or _MODEL.search(refusal.words):
        what = "does not know the model, or the address"
        to_do = f"are base_url and model right? {settings.base_url}/models may list what it has"
    else:
        what = "does not take these requests"
        to_do = "another model or server may; its words say which field it refuses"
    return RuntimeError(
        f"teacher at {settings.base_url}, model {settings.model!r}, {what}: HTTP {refusal.status}:"
        f" {refusal.words}. To do: {to_do}. Replies so far are kept"
    )
