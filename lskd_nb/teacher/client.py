"""Asking side by side: as many at once as the server bears.

The ``openai`` package makes the connections (aiohttp) and the retries, with jitter and by
``retry-after``; every attempt waits for its turn and its money (``connection``). Requests are sent
as bytes, and replies read as plain JSON: building typed objects of both would take longer than all
the rest.

What the server takes of a request is found out by a small one before the first (``dialect``). And
until something came back that can be read, only a few are under way: nobody runs against a wall.
"""

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from lskd_nb.teacher.budget import BudgetExceeded
from lskd_nb.teacher.cache import ResponseCache
from lskd_nb.teacher.connection import ask, connected, dialect_of, models_told, refusal_error
from lskd_nb.teacher.dialect import CHOICES, Dialect
from lskd_nb.teacher.job import SamplingJob, answered
from lskd_nb.teacher.parsing import Worth
from lskd_nb.teacher.rate_limit import RateLimiter
from lskd_nb.teacher.refusals import Refusal, what_to_change
from lskd_nb.teacher.requests import TeacherSettings

if TYPE_CHECKING:
    import openai

TOGETHER = 0.005  # seconds in which replies gather to be committed together
# so many requests in a row without an answer: the server has had enough, or the account is empty
GIVE_UP = 100
# so many in a row refused for a reason that may be one prompt's, or answered by what can't be read,
# and nothing better before: then it is not
PUZZLED = 6
PILOTS = 4  # requests under way until one was answered by what can be read


async def ask_all(job: SamplingJob, keys: Sequence[str]) -> None:
    """Ask for the replies to these requests, side by side, and store them as they arrive.

    Raises ``RuntimeError`` with the server's words where it refuses what no repetition can heal,
    and where nothing of what it writes can be read; what is under way then is waited for, and
    nothing else is sent.
    """
    settings = job.settings
    limiter = RateLimiter(settings.concurrency)
    async with connected(settings, job.budget, limiter) as client:
        models = await models_told(client, settings)
        if not await learn_dialect(client, job, models):
            for key in keys:
                job.arrived(key, {"unsent": "budget in USD used up"})
            return
        waiting, store = iter(keys), _Store(job.cache)
        silent, puzzling, ended, last = 0, 0, None, ""
        released = asyncio.Event()  # more than the pilots

        async def worker(number: int) -> None:
            nonlocal silent, puzzling, ended, last
            if number >= PILOTS and not job.readable:
                await released.wait()
            try:
                for key in waiting:
                    if ended:
                        return
                    if silent >= (GIVE_UP if job.readable else PUZZLED):
                        told = f"the last {silent} requests got no answer"
                        job.arrived(key, {"unsent": told, "words": last})
                        continue
                    if (request := job.request(key)) is None:
                        continue
                    reply = await ask(client, request.body, settings, request.tokens)
                    worth = None
                    if isinstance(reply, Refusal):
                        puzzling += reply.puzzling
                        if reply.final or puzzling >= PUZZLED:
                            if reply.field:  # it is another than it was
                                job.cache.forget_dialect(settings.asked, settings.model)
                            ended = ended or await refusal_error(client, reply, settings, models)
                        filtered, reply = reply.filtered, reply.reply
                        silent, last = silent + (not filtered), reply["words"]
                    elif "error" in reply:
                        silent, last = silent + 1, reply.get("words", reply["error"])
                    elif "unsent" not in reply:
                        silent, (worth, kept) = 0, job.weighed(key, reply)
                        await store.put(key, kept, answered(worth))
                        unread = not any(one.readable for one in worth.values())
                        puzzling = puzzling + 1 if unread and not job.readable else 0
                        if puzzling >= PUZZLED:
                            ended = ended or nothing_readable(worth, settings)
                    job.arrived(key, reply, worth)
                    if job.readable:
                        released.set()
            finally:
                released.set()

        async with asyncio.TaskGroup() as group:
            for number in range(min(settings.concurrency, len(keys))):
                group.create_task(worker(number))
        if ended:
            raise ended


async def learn_before(job: SamplingJob) -> None:
    """Find out what the server takes, before requests go out by another way. Raises as ``ask_all``
    does; where the budget does not cover it, nothing is learned.
    """
    async with connected(job.settings, job.budget) as client:
        await learn_dialect(client, job, await models_told(client, job.settings))


def look_at(settings: TeacherSettings) -> tuple[Dialect, dict[str, str]]:
    """What a server takes, by asking it, and the models that it says it has
    (``connection.models_told``).

    Raises ``RuntimeError`` as a call would.
    """
    found = []

    async def look() -> None:
        async with connected(settings) as client:
            models = await models_told(client, settings)
            found.append((await dialect_of(client, settings, models=models), models))

    run_to_end(look())
    return found[0]


def nothing_readable(worth: dict[int, Worth], settings: TeacherSettings) -> RuntimeError:
    """The error that ends a call whose first replies held nothing that can be read."""
    reject = next(reject for one in worth.values() for reject in one.rejects)
    return RuntimeError(
        f"teacher at {settings.base_url}, model {settings.model!r}: of its first {PUZZLED} replies"
        f" none can be read, the last: {reject['reason']!r}: {reject['detail'][:300]}. To do:"
        f" {what_to_change(reject['reason'])}"
    )


async def learn_dialect(
    client: "openai.AsyncOpenAI", job: SamplingJob, models: Iterable[str] = ()
) -> bool:
    """Find out what the server takes, unless the cache knows; False where the budget does not
    cover the asking.

    Raises ``RuntimeError`` with the server's words where it refuses every request there is.
    """
    settings = job.settings
    job.dialect = Dialect().told(settings.takes)
    if settings.takes.keys() >= CHOICES.keys():  # all of it is told
        return True
    known = job.cache.dialect(settings.asked, settings.model)
    if known is not None and not (settings.reasoning_effort and not known["effort_tried"]):
        job.dialect = Dialect(**known["takes"]).told(settings.takes)
        return True
    try:
        job.dialect = await dialect_of(client, settings, job.form, models)
    except BudgetExceeded:
        return False
    told = {"takes": asdict(job.dialect), "effort_tried": bool(settings.reasoning_effort)}
    job.cache.put_dialect(settings.asked, settings.model, told)
    return True


@dataclass
class _Store:
    """Replies that arrive close together are committed together; none counts before it is."""

    cache: ResponseCache
    _waiting: list[tuple[str, dict, bool, asyncio.Future]] = field(default_factory=list)

    async def put(self, key: str, reply: dict, answer: bool) -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self._waiting.append((key, reply, answer, done))
        if len(self._waiting) == 1:
            loop.call_later(TOGETHER, self._commit)
        await done

    def _commit(self) -> None:
        group, self._waiting = self._waiting, []
        failed = None
        try:
            self.cache.put_all(
                [(key, reply) for key, reply, answer, _ in group if answer],
                [(key, reply) for key, reply, answer, _ in group if not answer],
            )
        except Exception as error:  # a full disk, say: it is raised in every worker that waits
            failed = error
        for *_, done in group:
            if not done.done():
                done.set_exception(failed) if failed else done.set_result(None)


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
