"""Asking side by side, through the ``openai`` package: as many at once as the server bears.

The package makes the connections (aiohttp) and the retries, with jitter and by ``retry-after``.
Every attempt passes through one place here, ``send``: there it waits for its turn, reserves its
price in the budget, and tells the limiter what came back. Requests are sent as the bytes that were
hashed, and replies read as plain JSON: building typed objects of both would take longer than all
the rest.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from time import monotonic, time
from typing import TYPE_CHECKING

from lskd_nb.teacher.budget import Budget, BudgetExceeded
from lskd_nb.teacher.cache import ResponseCache
from lskd_nb.teacher.parsing import read_completion, triples_and_rejects
from lskd_nb.teacher.prompts import Prompt
from lskd_nb.teacher.rate_limit import RateLimiter
from lskd_nb.teacher.refusals import Refusal, read_refusal, refused
from lskd_nb.teacher.requests import (
    TeacherReport,
    TeacherSettings,
    api_key,
    encoded,
    redact_key,
    request_body,
    request_hash,
)

if TYPE_CHECKING:
    import openai

ENDPOINT = "/chat/completions"
TOGETHER = 0.005  # seconds in which replies gather to be committed together
TELL_EVERY = 0.5  # seconds
# so many requests in a row without an answer: the server has had enough, or the account is empty
GIVE_UP = 100
# so many in a row refused for a reason that may be one prompt's: then it is not
PUZZLED = 10

Progress = Callable[[TeacherReport, int], None]


@dataclass
class SamplingJob:
    """A call under way: its prompts, what is missing, what each prompt's reply was worth."""

    prompts: Sequence[Prompt]
    settings: TeacherSettings
    cache: ResponseCache
    on_progress: Progress
    budget: Budget = field(default_factory=Budget)
    report: TeacherReport = field(default_factory=TeacherReport)
    begin: float = field(default_factory=time)
    missing: dict[str, int] = field(default_factory=dict)  # request hash -> a prompt that makes it
    places: dict[str, list[int]] = field(default_factory=dict)  # request hash -> its prompts
    # prompt -> TRIPLES rows, REJECTS rows
    worth: dict[int, tuple[list[dict], list[dict]]] = field(default_factory=dict)
    _told: float = 0.0

    def look_up(self) -> None:
        """Find out what the cache has, and what that has cost."""
        for place, prompt in enumerate(self.prompts):
            self.places.setdefault(request_hash(request_body(prompt, self.settings)), []).append(
                place
            )
        for key, places in self.places.items():
            reply = self.cache.get(key)
            if reply is None:
                self.missing[key] = places[0]
            else:
                self.budget.paid += self.budget.price.of(reply["usage"])
                self.report.cached += 1
                self.sort(key, reply)

    def body(self, key: str) -> bytes:
        return encoded(request_body(self.prompts[self.missing[key]], self.settings))

    def worst(self, size: int) -> float:
        return self.budget.price.worst(size, self.settings.max_tokens)

    def sort(self, key: str, reply: dict | None) -> None:
        """Make of a reply what it is worth to every prompt that asked for it."""
        for place in self.places[key]:
            rows, rejects = self.worth[place] = triples_and_rejects(
                self.prompts[place], key, reply, self.settings.model
            )
            self.report.triples += len(rows)
            for reject in rejects:
                self.report.rejects[reject["reason"]] = (
                    self.report.rejects.get(reject["reason"], 0) + 1
                )

    def arrived(self, key: str, reply: dict) -> None:
        """A request has ended: with a reply that is stored by now, with an error, or unsent."""
        report = self.report
        if "unsent" in reply:
            report.not_sent += 1
        elif "error" in reply:
            report.failed += 1
        else:
            report.requests += 1
            report.prompt_tokens += reply["usage"][0]
            report.completion_tokens += reply["usage"][1]
        self.sort(key, reply)
        self.tell()

    def tell(self, now: bool = False) -> None:
        """Tell ``on_progress`` how far it is, unless that was a moment ago."""
        self.report.usd, self.report.seconds = self.budget.spent, time() - self.begin
        if now or time() - self._told >= TELL_EVERY:
            self._told = time()
            self.on_progress(self.report, len(self.places))


async def ask_all(job: SamplingJob, keys: Sequence[str]) -> None:
    """Ask for the replies to these requests, side by side, and store them as they arrive.

    Raises ``RuntimeError`` with the server's words where it refuses what no repetition can heal;
    what is under way then is waited for, and nothing else is sent.
    """
    import openai

    settings = job.settings
    limiter = RateLimiter(settings.concurrency)
    async with openai.AsyncOpenAI(
        api_key=api_key(settings),
        base_url=settings.base_url,
        max_retries=settings.max_retries,
        timeout=settings.timeout,
        http_client=_paced_client(job, limiter),
    ) as client:
        await _check_reachable(client, settings)
        waiting, store = iter(keys), _Store(job.cache)
        silent, puzzling, ended, last = 0, 0, None, ""

        async def worker() -> None:
            nonlocal silent, puzzling, ended, last
            for key in waiting:
                if ended:
                    return
                if silent >= GIVE_UP:
                    told = f"the last {GIVE_UP} requests got no answer"
                    job.arrived(key, {"unsent": told, "words": last})
                    continue
                reply = await _ask(client, job.body(key), settings)
                if isinstance(reply, Refusal):
                    puzzling += reply.puzzling
                    if reply.final or puzzling >= PUZZLED:
                        ended = ended or reply
                    filtered, reply = reply.filtered, reply.reply
                    silent, last = silent + (not filtered), reply["words"]
                elif "error" in reply:
                    silent += 1
                elif "unsent" not in reply:
                    silent = puzzling = 0
                    await store.put(key, reply)
                job.arrived(key, reply)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(settings.concurrency, len(keys))):
                group.create_task(worker())
        if ended:
            raise refused(ended, settings)


def _paced_client(job: SamplingJob, limiter: RateLimiter) -> "openai.DefaultAioHttpClient":
    """The package's HTTP client, in which every attempt waits for its turn and its money."""
    import openai

    budget = job.budget

    class PacedClient(openai.DefaultAioHttpClient):
        async def send(self, request, **options):
            if request.method != "POST":
                return await super().send(request, **options)
            size = len(request.content)
            worst, cost = job.worst(size), None
            await budget.reserve(worst)
            try:
                async with limiter:
                    sent = monotonic()
                    response = await super().send(request, **options)
                limiter.saw(response.status_code, response.headers, sent, size // 4)
                if response.status_code == 429:  # too many, or an account that is empty?
                    told = read_refusal(429, await response.aread(), job.settings)
                    if told.final:
                        response.headers["x-should-retry"] = "false"  # the package obeys
                cost = 0.0
                if response.status_code < 300 and not budget.price.free:
                    usage = read_completion(response.content).get("usage")
                    cost = budget.price.of(usage) if usage and any(usage) else None
            finally:
                budget.settle(worst, cost)
            return response

    return PacedClient()


@dataclass
class _Store:
    """Replies that arrive close together are committed together; none counts before it is."""

    cache: ResponseCache
    _waiting: list[tuple[str, dict, asyncio.Future]] = field(default_factory=list)

    async def put(self, key: str, reply: dict) -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self._waiting.append((key, reply, done))
        if len(self._waiting) == 1:
            loop.call_later(TOGETHER, self._commit)
        await done

    def _commit(self) -> None:
        group, self._waiting = self._waiting, []
        failed = None
        try:
            self.cache.put_all([(key, reply) for key, reply, _ in group])
        except Exception as error:  # a full disk, say: it is raised in every worker that waits
            failed = error
        for _, _, done in group:
            if not done.done():
                done.set_exception(failed) if failed else done.set_result(None)


async def _check_reachable(client: "openai.AsyncOpenAI", settings: TeacherSettings) -> None:
    import openai

    try:
        asked = client.with_options(max_retries=1, timeout=20)
        # whatever is told: not every server has OpenAI's list of models
        await asked.get("/models", cast_to=openai.HttpxBinaryResponseContent)
    except openai.APIError as error:
        raise_unreachable(error, settings)


def raise_unreachable(error: Exception, settings: TeacherSettings) -> None:
    """Raise ``RuntimeError`` for an error that says that nothing will come of asking; others
    pass: some servers have no list of models.
    """
    import openai

    if isinstance(error, openai.APIConnectionError):
        raise RuntimeError(
            f"teacher at {settings.base_url} can't be reached ({error});"
            " is it running, is base_url right?"
        ) from None
    if isinstance(error, openai.AuthenticationError):
        raise refused(read_refusal(401, error.response.text, settings), settings) from None


async def _ask(
    client: "openai.AsyncOpenAI", body: bytes, settings: TeacherSettings
) -> dict | Refusal:
    """A reply as it is kept; or the error after all retries, or why it was not sent."""
    import openai

    try:
        response = await client.post(
            ENDPOINT, cast_to=openai.HttpxBinaryResponseContent, content=body
        )
    except BudgetExceeded:
        return {"unsent": "budget in USD used up"}
    except openai.APIStatusError as error:
        return read_refusal(error.status_code, error.response.text, settings)
    except openai.APIError as error:
        return {"error": type(error).__name__}
    return read_completion(redact_key(response.content.decode("utf-8", "replace"), settings))


def run_to_end(coroutine: Coroutine) -> None:
    """Run to the end, also where a loop is running already, as in Jupyter; an interrupt ends it."""
    caught: list[BaseException] = []
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task]] = []

    async def run() -> None:
        running.append((asyncio.get_running_loop(), asyncio.current_task()))
        await coroutine

    def target() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        for loop, task in running:
            loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise
    if caught:
        error = caught[0]
        raise error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error
