"""The teacher: prompts go to an LLM behind OpenAI's protocol, and come back as triples or as rejects with a reason.

Replies are structured outputs, checked by pydantic and by the rule that every region a triple mentions was offered. Each reply
is kept in an SQLite cache under the hash of its whole request as soon as it arrives: a killed run asks for nothing it already
has. ``base_url`` and ``model`` choose between OpenAI, vLLM, llama.cpp or the mini world's rule-based writer.
"""

import asyncio
import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lskd_nb.prompting import Prompt
from lskd_nb.regions import mentions

LOOPBACK = ("http://127.0.0.1", "http://localhost", "http://[::1]")


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
    return {"type": "json_schema", "json_schema": {"name": "triples", "strict": True, "schema": schema}}


RESPONSE_FORMAT = _response_format()


@dataclass(frozen=True)
class TeacherSettings:
    """Whom to ask, and how. ``budget_requests`` is the most requests sent in one call, None without a limit."""

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


@dataclass
class TeacherReport:
    """What a call of ``generate_triples`` did."""

    requests: int = 0  # sent and answered
    cached: int = 0  # answered from the cache
    failed: int = 0  # not answered after all retries; asked again by the next call
    not_sent: int = 0  # beyond the budget
    prompt_tokens: int = 0
    completion_tokens: int = 0
    triples: int = 0
    rejects: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


class ResponseCache:
    """Replies under the hash of their request, in one SQLite file; a stored reply survives a SIGKILL a moment later."""

    def __init__(self, path: str | Path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS replies (request TEXT PRIMARY KEY, reply TEXT NOT NULL)")
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{path} is not a readable response cache: {error}") from error

    def get(self, request: str) -> dict | None:
        row = self._db.execute("SELECT reply FROM replies WHERE request = ?", (request,)).fetchone()
        return json.loads(row[0]) if row else None

    def put(self, request: str, reply: dict) -> None:
        self._db.execute("INSERT OR REPLACE INTO replies VALUES (?, ?)", (request, json.dumps(reply, ensure_ascii=False)))

    def close(self) -> None:
        self._db.close()


def request_body(prompt: Prompt, settings: TeacherSettings) -> dict:
    """The whole request about a prompt, as it is sent and hashed."""
    body = dict(model=settings.model, messages=list(prompt.messages), temperature=settings.temperature, response_format=RESPONSE_FORMAT)
    if settings.seed is not None:
        body["seed"] = settings.seed
    if settings.max_tokens is not None:
        body["max_tokens"] = settings.max_tokens
    return body


def request_hash(body: dict) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:32]


def generate_triples(
    prompts: Sequence[Prompt],
    settings: TeacherSettings,
    cache_path: str | Path,
    on_progress: Callable[[TeacherReport, int], None] = lambda report, total: None,
) -> tuple[list[dict], list[dict], TeacherReport]:
    """Ask for every prompt that the cache has no reply to; return triple rows, reject rows and a report.

    Raises ``RuntimeError`` naming ``base_url``, the model and the key's variable when the teacher can't be reached or refuses the key.
    """
    begin, cache, report = time.time(), ResponseCache(cache_path), TeacherReport()
    asked = [(p, request_hash(body), body) for p in prompts for body in (request_body(p, settings),)]
    replies: dict[str, dict] = {}
    for _, key, _ in asked:
        if (reply := cache.get(key)) is not None:
            replies[key] = reply
    missing = {key: body for _, key, body in asked if key not in replies}
    report.cached = len(asked) - len(missing)
    if settings.budget_requests is not None and len(missing) > settings.budget_requests:
        report.not_sent = len(missing) - settings.budget_requests
        missing = dict(list(missing.items())[: settings.budget_requests])
    try:
        if missing:
            _run(_ask_all(missing, settings, cache, replies, report, on_progress, len(asked)))
    finally:
        cache.close()
    rows, rejects = [], []
    for prompt, key, _ in asked:
        _sort_reply(prompt, key, replies.get(key), settings, rows, rejects)
    report.triples = len(rows)
    for reject in rejects:
        report.rejects[reject["reason"]] = report.rejects.get(reject["reason"], 0) + 1
    report.seconds = time.time() - begin
    return rows, rejects, report


def _run(coroutine) -> None:
    """Run to the end, also where a loop is running already, as in Jupyter."""
    caught: list[BaseException] = []

    def target() -> None:
        try:
            asyncio.run(coroutine)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    if caught:
        raise caught[0]


def api_key(settings: TeacherSettings) -> str:
    """The key from the environment. Raises ``RuntimeError`` naming the variable where a server elsewhere needs one."""
    key = os.environ.get(settings.api_key_env)
    if key:
        return key
    if settings.base_url.startswith(LOOPBACK):
        return "none-needed"
    raise RuntimeError(f"no API key: set the environment variable {settings.api_key_env} for {settings.base_url}")


async def _ask_all(missing, settings, cache, replies, report, on_progress, total) -> None:
    import openai

    async with openai.AsyncOpenAI(
        api_key=api_key(settings), base_url=settings.base_url, max_retries=settings.max_retries, timeout=settings.timeout,
        http_client=openai.DefaultAioHttpClient(),
    ) as client:
        await _check_reachable(client, settings)
        waiting = iter(missing.items())

        async def worker() -> None:
            for key, body in waiting:
                reply = await _ask(client, body)
                if "error" in reply:
                    report.failed += 1
                else:
                    cache.put(key, reply)
                    report.requests += 1
                    report.prompt_tokens += reply["usage"][0]
                    report.completion_tokens += reply["usage"][1]
                replies[key] = reply
                on_progress(report, total)

        await asyncio.gather(*(worker() for _ in range(min(settings.concurrency, len(missing)))))


async def _check_reachable(client, settings: TeacherSettings) -> None:
    import openai

    try:
        await client.with_options(max_retries=1, timeout=20).models.list()
    except openai.APIConnectionError as error:
        raise RuntimeError(f"teacher at {settings.base_url} can't be reached ({error}); is it running, is base_url right?") from None
    except openai.AuthenticationError:
        raise RuntimeError(f"teacher at {settings.base_url} refuses the key in {settings.api_key_env}") from None
    except openai.APIStatusError:
        pass  # some servers have no list of models: the requests themselves will tell


async def _ask(client, body: dict) -> dict:
    """One reply: its text, why it ended, and its token counts; or the error after all retries."""
    import openai

    try:
        completion = await client.chat.completions.create(**body)
    except openai.APIStatusError as error:
        return {"error": f"HTTP {error.status_code}"}
    except openai.APIError as error:
        return {"error": type(error).__name__}
    if not completion.choices:
        return {"text": None, "finish": "empty", "refusal": None, "usage": [0, 0]}
    choice, usage = completion.choices[0], completion.usage
    return {
        "text": choice.message.content,
        "finish": choice.finish_reason,
        "refusal": choice.message.refusal,
        "usage": [usage.prompt_tokens, usage.completion_tokens] if usage else [0, 0],
    }


# ------------------------------------------------------------------------------------------- replies


def _sort_reply(prompt: Prompt, key: str, reply: dict | None, settings: TeacherSettings, rows: list[dict], rejects: list[dict]) -> None:
    record = f"{prompt.image_id}-{prompt.family}"
    parsed = parse_reply(reply)
    if isinstance(parsed, str):
        detail = json.dumps(reply, ensure_ascii=False)[:2000] if reply else ""
        rejects.append(dict(stage="teacher", record=record, reason=parsed, detail=detail))
        return
    for number, item in enumerate(parsed):
        triple = f"{record}-{number}"
        wrong = invalid(item, prompt.offered)
        if wrong:
            rejects.append(dict(stage="teacher", record=triple, reason=wrong, detail=json.dumps(item, ensure_ascii=False)[:2000]))
            continue
        text = Triple.model_validate(item)
        rows.append(dict(
            triple_id=triple, image_id=prompt.image_id, family=prompt.family, question=text.question, answer=text.answer,
            rationale=text.rationale, regions=mentions(" ".join((text.question, text.answer, text.rationale))),
            regions_offered=list(prompt.offered), model=settings.model, prompt=prompt.name, request=key))


def parse_reply(reply: dict | None) -> list | str:
    """The items of a reply, or the reason why it has none."""
    if reply is None:
        return "not sent: budget used up"
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
    except json.JSONDecodeError:
        return "not JSON"
    if not isinstance(content, dict) or not isinstance(content.get("triples"), list):
        return "no list of triples"
    return content["triples"] or "no list of triples"


def invalid(item: object, offered: Iterable[int]) -> str | None:
    """Why an item is not a valid triple about the regions offered, or None."""
    try:
        triple = Triple.model_validate(item)
    except ValidationError as error:
        first = error.errors()[0]
        return f"bad field {'.'.join(map(str, first['loc'])) or 'triple'}: {first['type']}"
    if not mentions(triple.question):
        return "question mentions no region"
    unknown = set(mentions(" ".join((triple.question, triple.answer, triple.rationale)))) - set(offered)
    return "mentions a region that was not offered" if unknown else None
