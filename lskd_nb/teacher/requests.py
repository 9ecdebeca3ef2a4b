"""What is asked, of whom, on which conditions: settings of a teacher, requests, a call's report.

A request is one thing, and how it is written another. Its *key*, under which the reply is kept, is
of who is asked and of all that is asked; the *body* says the same in the fields that this server
takes (``dialect``). So a cache stays valid when a server learns a new field, and a reply of one
server is never taken for another's.
"""

import hashlib
import ipaddress
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from lskd_nb.teacher.dialect import Dialect
from lskd_nb.teacher.parsing import TRIPLES_FORM, ReplyForm
from lskd_nb.teacher.prompts import Prompt

LOOPBACK = ("127.0.0.1", "localhost", "::1")
OWN_ENDINGS = (".local", ".lan", ".internal", ".home.arpa")  # names of a network of one's own
OPENAI_KEY = "OPENAI_API_KEY"  # also of every server that is not one of these
KEYS = {  # the end of a server's name -> the variable in which its users keep its key
    "azure.com": "AZURE_OPENAI_API_KEY",
    "openrouter.ai": "OPENROUTER_API_KEY",
    "mistral.ai": "MISTRAL_API_KEY",
    "together.xyz": "TOGETHER_API_KEY",
    "deepseek.com": "DEEPSEEK_API_KEY",
    "groq.com": "GROQ_API_KEY",
}
MODES = ("async", "batch")
_PART_OF_A_KEY = re.compile(r"\bsk-[\w-]*\*+[\w-]*")


@dataclass(frozen=True)
class TeacherSettings:
    """Whom to ask, and how.

    ``concurrency`` is the most requests under way at once: how many really are, the server's limits
    decide (rate_limit.RateLimiter). ``budget_requests`` is the most requests sent in one call,
    ``budget_usd`` the most that their prompts may cost in all calls together (at this call's
    prices), None without a limit; ``max_cost_usd`` agrees to an estimate up to it, and limits what
    one call may cost. In mode "batch" requests go through the Batch API, within 24 hours and at
    half the price, and are looked after every ``poll_seconds`` at the latest. ``prices`` is a file
    like teacher/prices.yaml, which is the default.

    Replies are kept by whom they are of: the address, unless ``server`` is its name (a server on
    this machine may have another port each time). ``reasoning_effort`` is sent where it is set and
    the model takes it. What ``takes`` says of the server is not found out by asking
    (``dialect.Dialect``). Raises ``ValueError`` for a mode that there is not, and for what a server
    can't take.
    """

    base_url: str
    model: str
    temperature: float = 1.0
    seed: int | None = None
    concurrency: int = 64
    max_retries: int = 5
    timeout: float = 120.0
    max_tokens: int | None = None
    budget_requests: int | None = None
    mode: str = "async"
    budget_usd: float | None = None
    max_cost_usd: float | None = None
    prices: Path | None = None
    poll_seconds: float = 30.0
    server: str = ""
    reasoning_effort: str = ""
    takes: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"no mode {self.mode!r} of asking; there are {', '.join(MODES)}")
        Dialect().told(self.takes)

    @property
    def key_variable(self) -> str:
        """The environment variable that holds the key: the server's own, if it is set, or else
        OpenAI's.
        """
        host = _host(self.base_url)
        own = next((v for end, v in KEYS.items() if f".{host}".endswith(f".{end}")), OPENAI_KEY)
        return own if os.environ.get(own) else OPENAI_KEY

    @property
    def asked(self) -> str:
        """Whom replies are kept for: ``server``, or else where it is.

        >>> TeacherSettings("HTTP://Box:8000/v1/?api-version=1", "m").asked
        'http://box:8000/v1'
        """
        if self.server:
            return self.server
        parts = urlsplit(self.base_url)
        host = parts.netloc.rpartition("@")[2].lower()
        return f"{parts.scheme.lower()}://{host}{parts.path.rstrip('/')}"


@dataclass
class TeacherReport:
    """What a call of ``generate_triples`` has done so far."""

    requests: int = 0  # sent and answered
    cached: int = 0  # answered from the cache
    failed: int = 0  # not answered after all retries; asked again by the next call
    not_sent: int = 0  # beyond a budget, or not tried any more
    in_batches: int = 0  # submitted to the Batch API and not answered yet
    prompt_tokens: int = 0
    completion_tokens: int = 0
    earlier_tokens: tuple[int, int] = (0, 0)  # input and output, of replies in the cache
    # paid for these prompts, by earlier calls too; attempts of which that is not known count as
    # paid
    usd: float = 0.0
    triples: int = 0
    respelled: int = 0  # mentions of offered regions that were spelled otherwise than "[0]"
    rejects: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def tokens(self) -> list[int]:
        """[input, output] tokens for these prompts, by earlier calls too."""
        return [
            self.prompt_tokens + self.earlier_tokens[0],
            self.completion_tokens + self.earlier_tokens[1],
        ]


def request_key(prompt: Prompt, settings: TeacherSettings, form: ReplyForm = TRIPLES_FORM) -> str:
    """The key of a request in the cache, 32 hexadecimal digits."""
    asked = dict(
        server=settings.asked,
        model=settings.model,
        messages=list(prompt.messages),
        form=form.schema,
        temperature=settings.temperature,
        seed=settings.seed,
        max_tokens=settings.max_tokens,
        reasoning_effort=settings.reasoning_effort,
    )
    if prompt.picture:
        asked["picture"] = prompt.picture.identity()
    told = json.dumps(asked, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def request_body(
    prompt: Prompt,
    settings: TeacherSettings,
    dialect: Dialect | None = None,
    form: ReplyForm = TRIPLES_FORM,
) -> dict:
    """The whole request about a prompt, in the fields that a server takes (all, unless told)."""
    dialect = dialect or Dialect().told(settings.takes)
    messages = list(prompt.messages)
    if dialect.response_format != "json_schema":
        messages = _told_the_form(messages, form)
    if prompt.picture:
        *before, last = messages
        shown = {"type": "image_url", "image_url": {"url": prompt.picture.data_url()}}
        messages = [*before, last | {"content": [{"type": "text", "text": last["content"]}, shown]}]
    body = dict(model=settings.model, messages=messages)
    if dialect.temperature:
        body["temperature"] = settings.temperature
    if dialect.response_format == "json_schema":
        body["response_format"] = form.response_format
    elif dialect.response_format == "json_object":
        body["response_format"] = {"type": "json_object"}
    if dialect.seed and settings.seed is not None:
        body[dialect.seed] = settings.seed
    if dialect.limit and settings.max_tokens is not None:
        body[dialect.limit] = settings.max_tokens
    if dialect.reasoning_effort and settings.reasoning_effort:
        body["reasoning_effort"] = settings.reasoning_effort
    return body


def _told_the_form(messages: list[dict], form: ReplyForm) -> list[dict]:
    """The messages, of which the first says as well what a reply must look like."""
    first, *others = messages
    return [first | {"content": f"{first['content']}\n\n{form.in_words}"}, *others]


def most_tokens(
    prompt: Prompt,
    settings: TeacherSettings,
    dialect: Dialect | None = None,
    form: ReplyForm = TRIPLES_FORM,
) -> tuple[int, int]:
    """The most tokens that a request's text can be, one for each byte, and those of its picture
    (``Picture.tokens``), which is not drawn for it.
    """
    text = encoded(request_body(replace(prompt, picture=None), settings, dialect, form))
    return len(text), prompt.picture.tokens(settings.model) if prompt.picture else 0


def encoded(body: dict) -> bytes:
    """The bytes of a request, its fields in their order: where a schema is enforced, a model writes
    the parts of a triple in the schema's, and has to ask before it answers.
    """
    return json.dumps(body, ensure_ascii=False).encode()


def _host(base_url: str) -> str:
    return (urlsplit(base_url).hostname or "").lower()


def is_loopback(base_url: str) -> bool:
    """Whether the server is on this machine."""
    return _host(base_url) in LOOPBACK


def is_own(base_url: str) -> bool:
    """Whether the server is on this machine or in a network of one's own, and so neither wants a
    key nor is paid for.

    >>> addresses = "http://box:8000/v1", "http://10.0.0.7:11434/v1", "https://api.openai.com/v1"
    >>> [is_own(address) for address in addresses]
    [True, True, False]
    """
    host = _host(base_url)
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith(OWN_ENDINGS)


def api_key(settings: TeacherSettings) -> str:
    """The key from the environment.

    Raises ``RuntimeError`` naming the variable where a server elsewhere needs one.
    """
    key = os.environ.get(settings.key_variable)
    if key:
        return key
    if is_own(settings.base_url):
        return "none-needed"
    raise RuntimeError(
        f"no API key: set the environment variable {settings.key_variable} for {settings.base_url}"
    )


def redact_key(text: str, settings: TeacherSettings) -> str:
    """``text`` of a server, in which it may have echoed the key, or some of it: "sk-abc***xyz"."""
    key, name = os.environ.get(settings.key_variable), f"[{settings.key_variable}]"
    return _PART_OF_A_KEY.sub(name, text.replace(key, name) if key else text)
