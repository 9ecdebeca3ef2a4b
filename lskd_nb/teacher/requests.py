"""What is asked, of whom, on which conditions: settings of a teacher, requests, a call's report."""

import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from lskd_nb.teacher.parsing import RESPONSE_FORMAT
from lskd_nb.teacher.prompts import Prompt

LOOPBACK = ("127.0.0.1", "localhost", "::1")
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
    like teacher/prices.yaml, which is the default. Raises ``ValueError`` for a mode that there is
    not.
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
    api_key_env: str = "OPENAI_API_KEY"
    mode: str = "async"
    budget_usd: float | None = None
    max_cost_usd: float | None = None
    prices: Path | None = None
    poll_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"no mode {self.mode!r} of asking; there are {', '.join(MODES)}")


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
    # paid for these prompts, by earlier calls too; attempts of which that is not known count as
    # paid
    usd: float = 0.0
    triples: int = 0
    rejects: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def request_body(prompt: Prompt, settings: TeacherSettings) -> dict:
    """The whole request about a prompt, as it is sent and hashed."""
    body = dict(
        model=settings.model,
        messages=list(prompt.messages),
        temperature=settings.temperature,
        response_format=RESPONSE_FORMAT,
    )
    if settings.seed is not None:
        body["seed"] = settings.seed
    if settings.max_tokens is not None:
        body["max_tokens"] = settings.max_tokens
    return body


def encoded(body: dict) -> bytes:
    """The bytes of a request: sent as they are, and hashed."""
    return json.dumps(body, sort_keys=True, ensure_ascii=False).encode()


def request_hash(body: dict | bytes) -> str:
    """The key of a request in the cache, 32 hexadecimal digits."""
    return hashlib.sha256(body if isinstance(body, bytes) else encoded(body)).hexdigest()[:32]


def is_loopback(base_url: str) -> bool:
    """Whether the server is on this machine, and so neither wants a key nor is paid for."""
    return urlsplit(base_url).hostname in LOOPBACK


def api_key(settings: TeacherSettings) -> str:
    """The key from the environment.

    Raises ``RuntimeError`` naming the variable where a server elsewhere needs one.
    """
    key = os.environ.get(settings.api_key_env)
    if key:
        return key
    if is_loopback(settings.base_url):
        return "none-needed"
    raise RuntimeError(
        f"no API key: set the environment variable {settings.api_key_env} for {settings.base_url}"
    )


def redact_key(text: str, settings: TeacherSettings) -> str:
    """``text`` of a server, in which it may have echoed the key, or some of it: "sk-abc***xyz"."""
    key, name = os.environ.get(settings.api_key_env), f"[{settings.api_key_env}]"
    return _PART_OF_A_KEY.sub(name, text.replace(key, name) if key else text)
