"""Asking through OpenAI's Batch API: files of requests, answered within a day at half the price.

https://platform.openai.com/docs/guides/batch: a JSONL file of at most 50,000 requests and 200 MB is
uploaded and submitted; when the batch has ended, answers lie in an output file, errors in another.
A batch is written down before it is submitted, with a name that the server keeps with it, and its
id afterwards: a call that was killed, at whatever moment, finds its batches again and submits no
request twice. OpenAI itself has not been asked; the mini teacher's server speaks the same protocol.
"""

import json
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from lskd_nb.teacher.cache import OpenBatch
from lskd_nb.teacher.connection import connection, raise_unreachable
from lskd_nb.teacher.job import SamplingJob, answered
from lskd_nb.teacher.parsing import parse_reply
from lskd_nb.teacher.refusals import Refusal, read_refusal, refused
from lskd_nb.teacher.replies import read_completion
from lskd_nb.teacher.requests import TeacherSettings, redact_key

if TYPE_CHECKING:
    import openai
    from openai.types import Batch

MOST_REQUESTS = 50_000  # in a batch
MOST_BYTES = 200_000_000
ENDPOINT = "/v1/chat/completions"
UNDER_WAY = ("validating", "in_progress", "finalizing", "cancelling")
ENDED = ("completed", "failed", "expired", "cancelled")
PUZZLED = 600.0  # seconds for which a batch may be in a state that the documentation does not have
SPENT = "budget in USD used up"
CLOCKS = 3600.0  # seconds by which the server's clock may differ from ours


def ask_in_batches(job: SamplingJob, keys: Sequence[str]) -> None:
    """Submit these requests, wait for their batches, and store the replies.

    Batches of an earlier call are waited for as well.

    Raises ``RuntimeError`` where the server can't be reached, refuses a batch, or does not know
    one; another call then goes on from there.
    """
    import openai

    settings = job.settings
    with openai.OpenAI(**connection(settings)) as client:
        try:
            _find_again(client, job)
            waiting = _resume(job)
            to_send = [
                key for key in keys if key not in {k for batch in waiting for k in batch.requests}
            ]
            pause, puzzling = min(1.0, settings.poll_seconds), {}
            while True:
                to_send = _submit(client, job, to_send, waiting)
                job.report.in_batches = sum(len(batch.requests) for batch in waiting)
                job.tell(now=True)
                if not waiting:
                    break
                ended = [batch for batch in waiting if _collected(client, job, batch, puzzling)]
                waiting = [batch for batch in waiting if batch not in ended]
                if not ended:
                    time.sleep(pause)
                    pause = min(1.5 * pause, settings.poll_seconds)
            for key in to_send:
                job.arrived(key, {"unsent": SPENT})
        except openai.APIError as error:
            raise_unreachable(error, settings)
            told = redact_key(str(error), settings)
            raise RuntimeError(
                f"the Batch API at {settings.base_url}, model {settings.model!r}, says: {told};"
                " what is submitted is kept: run it again to go on"
            ) from None


def _resume(job: SamplingJob) -> list[OpenBatch]:
    """The batches of earlier calls that hold something that is still missing.

    What they may cost is reserved.
    """
    found = [
        batch
        for batch in job.cache.open_batches(job.settings.asked)
        if batch.id and batch.requests.keys() & job.missing.keys()
    ]
    for batch in found:
        for worst in batch.requests.values():
            job.budget.hold(worst)
    return found


def _find_again(client: "openai.OpenAI", job: SamplingJob) -> None:
    """Learn the id of batches about to be submitted when a call died, or that none were."""
    lost = {
        batch.name: batch
        for batch in job.cache.open_batches(job.settings.asked)
        if batch.id is None
    }
    if not lost:
        return
    for batch in client.batches.list(limit=100):  # newest first; the package turns the pages
        name = (batch.metadata or {}).get("lskd")
        if name in lost:
            job.cache.submitted_batch(name, batch.id)
            del lost[name]
        if not lost or batch.created_at < min(b.at for b in lost.values()) - CLOCKS:
            break
    for name in lost:
        job.cache.forget_batch(name)


def _submit(
    client: "openai.OpenAI", job: SamplingJob, keys: Sequence[str], waiting: list[OpenBatch]
) -> list[str]:
    """Submit what the budget covers, file by file, adding to ``waiting``.

    Returns what it does not cover yet.
    """
    left: list[str] = []
    for lines, worst in _files(job, keys, left):
        name = uuid.uuid4().hex
        with tempfile.TemporaryFile() as file:
            file.writelines(lines)
            file.seek(0)
            uploaded = client.files.create(file=(f"{name}.jsonl", file), purpose="batch")
        job.cache.intend_batch(name, job.settings.asked, worst)
        batch = _create(client, job, uploaded.id, name)
        job.cache.submitted_batch(name, batch.id)
        waiting.append(OpenBatch(name, batch.id, time.time(), worst))
    return left


def _files(
    job: SamplingJob, keys: Sequence[str], left: list[str]
) -> Iterator[tuple[list[bytes], dict[str, float]]]:
    """The lines of each file and the most that each of its requests may cost, which is reserved;
    ``left`` takes what the budget does not cover.
    """
    lines, worst, size = [], {}, 0
    for key in keys:
        if (request := job.request(key)) is None:
            continue
        body, tokens = request.body, request.tokens
        line = b'{"custom_id": "%s", "method": "POST", "url": "%s", "body": %s}\n' % (
            key.encode(),
            ENDPOINT.encode(),
            body,
        )
        if not job.budget.take(most := job.worst(tokens)):
            left.append(key)
            continue
        if lines and (len(lines) == MOST_REQUESTS or size + len(line) > MOST_BYTES):
            yield lines, worst
            lines, worst, size = [], {}, 0
        lines.append(line)
        worst[key], size = most, size + len(line)
    if lines:
        yield lines, worst


def _create(client: "openai.OpenAI", job: SamplingJob, file_id: str, name: str) -> "Batch":
    """Submit an uploaded file, once: where nobody knows whether the server got it, the next call
    asks the server.
    """
    import openai

    try:
        return client.with_options(max_retries=0).batches.create(
            input_file_id=file_id,
            endpoint=ENDPOINT,
            completion_window="24h",
            metadata={"lskd": name},
        )
    except openai.APIStatusError as error:
        if error.status_code < 500:  # the server has looked at it and refused
            job.cache.forget_batch(name)
        raise


def _collected(
    client: "openai.OpenAI", job: SamplingJob, waiting: OpenBatch, puzzling: dict[str, float]
) -> bool:
    """Whether a batch has ended.

    Its replies are then stored, and its requests have all ended as well. ``puzzling`` remembers
    since when a batch has a status that is not known. Raises ``RuntimeError`` where it keeps that,
    and with the server's words where it has refused what no repetition can heal.
    """
    import openai

    try:
        batch = client.batches.retrieve(waiting.id)
    except openai.NotFoundError:
        raise RuntimeError(
            f"{job.settings.base_url} does not know the batch {waiting.id} that was submitted"
            f" there: is it another account's key? To submit its {len(waiting.requests):,} requests"
            f" again, delete it from the table batches of {job.cache.path}"
        ) from None
    if batch.status not in ENDED:
        if batch.status in UNDER_WAY:
            puzzling.pop(waiting.name, None)
        elif time.monotonic() - puzzling.setdefault(waiting.name, time.monotonic()) > PUZZLED:
            raise RuntimeError(
                f"{job.settings.base_url} says that the batch {waiting.id} is {batch.status!r};"
                f" expected one of {', '.join((*UNDER_WAY, *ENDED))}. It is kept: run it again to"
                " go on waiting, or ask with mode 'async'"
            )
        return False
    replies = _replies(client, batch, job.settings)
    failed = {"error": _failure(batch, job.settings)}
    refusals = [r for r in replies.values() if isinstance(r, Refusal)]
    told = {key: r.reply if isinstance(r, Refusal) else r for key, r in replies.items()}
    ended = {key: told.get(key, failed) for key in waiting.requests}
    worth, kept = {}, ([], [])  # answers, and what is none yet
    for key, reply in ended.items():
        if "error" not in reply:
            if key in job.places:
                worth[key], as_kept = job.weighed(key, reply)
                kept[not answered(worth[key])].append((key, as_kept))
            else:  # another call's prompt, of the same batch
                kept[not parse_reply(reply, job.form).answered].append((key, reply))
    job.cache.collect_batch(waiting.name, *kept)
    for key, reply in ended.items():
        usage = reply.get("usage")
        job.budget.settle(
            waiting.requests[key],
            job.budget.price.of(usage) if usage and any(usage) else None if usage else 0.0,
        )
        if key in job.missing:
            job.arrived(key, reply, worth.get(key))
    final = next((r for r in refusals if r.final), None)
    if final:
        raise refused(final, job.settings)
    return True


def _replies(
    client: "openai.OpenAI", batch: "Batch", settings: TeacherSettings
) -> dict[str, dict | Refusal]:
    """Replies and errors by request, of a batch's output file and error file.

    A file that the server has no more (they are deleted after a while) has none: its requests are
    asked for again.
    """
    import openai

    found: dict[str, dict | Refusal] = {}
    for file_id in (batch.output_file_id, batch.error_file_id):
        text = ""
        if file_id:
            with suppress(openai.NotFoundError):
                told = client.files.content(file_id).content.decode("utf-8", "replace")
                text = redact_key(told, settings)
        for line in text.split("\n"):
            try:
                told = json.loads(line)
                found.setdefault(str(told["custom_id"]), _reply(told, settings))
            except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
                continue  # an empty or damaged line; its request is then told to be missing
    return found


def _reply(told: dict, settings: TeacherSettings) -> dict | Refusal:
    error, response = told.get("error"), told.get("response")
    if error:
        return {
            "error": f"batch: {error.get('code')}",
            "words": redact_key(str(error.get("message"))[:300], settings),
        }
    if response["status_code"] != 200:
        return read_refusal(int(response["status_code"]), response.get("body"), settings)
    return read_completion(response["body"])


def _failure(batch: "Batch", settings: TeacherSettings) -> str:
    """Why a request has neither reply nor error of its own."""
    if batch.status == "completed":
        return "missing in the files of its batch; run it again to ask again"
    told = [f"{e.code}: {e.message}" for e in (batch.errors.data or [] if batch.errors else [])[:3]]
    return redact_key(f"batch {batch.status}{': ' if told else ''}{'; '.join(told)}", settings)[
        :300
    ]
