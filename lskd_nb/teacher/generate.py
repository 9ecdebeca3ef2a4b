"""The teacher: prompts go to an LLM behind OpenAI's protocol, and come back as triples or rejects.

Each reply is kept in an SQLite cache (``cache``) under the hash of who was asked and what, as soon
as it arrives: a killed run asks for nothing it already has. ``base_url`` and ``model`` choose
between OpenAI, vLLM, Ollama, llama.cpp or the mini world's rule-based writer; what a server takes
is found out (``dialect``), what it says is read however it is wrapped (``replies``). Requests go
out side by side (``client``) or through the Batch API (``batch_api``), and cost no more than was
agreed to (``estimate``, ``budget``).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lskd_nb.teacher.batch_api import ask_in_batches
from lskd_nb.teacher.budget import Budget, price_of
from lskd_nb.teacher.cache import ResponseCache
from lskd_nb.teacher.client import ask_all, learn_before, run_to_end
from lskd_nb.teacher.estimate import estimate, require_consent
from lskd_nb.teacher.job import Progress, Reader, SamplingJob
from lskd_nb.teacher.parsing import TRIPLES_FORM, ReplyForm, triples_and_rejects
from lskd_nb.teacher.prompts import Prompt
from lskd_nb.teacher.refusals import what_to_change
from lskd_nb.teacher.requests import TeacherReport, TeacherSettings


def generate_triples(
    prompts: Sequence[Prompt],
    settings: TeacherSettings,
    cache_path: str | Path,
    on_progress: Progress = lambda report, total: None,
    ask: Callable[[str], str] = input,
    rejects_file: str | Path | None = None,
    form: ReplyForm = TRIPLES_FORM,
    read: Reader = triples_and_rejects,
) -> tuple[list[dict], list[dict], TeacherReport]:
    """Ask for every prompt that the cache has no reply to.

    Returns triple rows, reject rows and a report. The rejects go to ``rejects_file`` as well, also
    where the call ends early. What is asked for in another ``form`` than triples, ``read`` makes
    rows of.

    ``on_progress`` is told twice a second and at the end, with the report so far and the number of
    requests; ``ask`` is put the question before a paid call. Raises ``RuntimeError`` naming
    ``base_url``, the model and the server's words when the teacher can't be reached or refuses what
    no repetition can heal (``refusals``), and where the cost has not been agreed to; ``ValueError``
    where a cost is not known, or the cache is damaged.
    """
    budget = Budget(price_of(settings))
    cache = ResponseCache(cache_path)
    job = SamplingJob(prompts, settings, cache, on_progress, budget, form, read)
    try:
        job.look_up()
        if job.missing and not budget.price.free:
            require_consent(estimate(prompts, settings, cache, form), ask)
        limits = (
            settings.budget_usd,
            settings.max_cost_usd and budget.paid + settings.max_cost_usd,
        )
        budget.limit = min((limit for limit in limits if limit), default=None)
        _ask(job)
    except RuntimeError as error:
        if rejects_file:
            left = [place for place in range(len(prompts)) if place not in job.worth]
            rest = dict(stage="teacher", record=f"{len(left)} more prompts", detail=str(error))
            told = [rest | {"reason": "not sent: the call ended"}] if left else []
            _write_rejects(job, rejects_file, told)
        raise
    finally:
        cache.close()
    for key in job.missing:
        if job.missing[key] not in job.worth:
            job.arrived(key, {"unsent": "budget used up"})
    job.tell(now=True)
    if rejects_file:
        _write_rejects(job, rejects_file)
    ordered = [job.worth[place] for place in range(len(prompts))]
    return (
        [row for one in ordered for row in one.rows],
        [reject for one in ordered for reject in one.rejects],
        job.report,
    )


def _write_rejects(job: SamplingJob, file: str | Path, more: Sequence[dict] = ()) -> None:
    from lskd_nb.records import REJECTS, write_parquet

    rejects = [reject for _, one in sorted(job.worth.items()) for reject in one.rejects]
    write_parquet([*rejects, *more], file, REJECTS)


def require_triples(rows: Sequence[Mapping], rejects: Sequence[Mapping], kept: Path) -> None:
    """Return where there is a triple. Raises ``RuntimeError`` naming the file of the rejects, the
    most frequent reason and an example of it where there is none.
    """
    if rows:
        return
    if not rejects:
        raise RuntimeError("no triple: there is no prompt, as no image has a region to offer")
    # what was sent tells more than what was not
    sent = [r for r in rejects if not r["reason"].startswith("not sent")] or rejects
    (reason, number), *others = Counter(r["reason"] for r in sent).most_common()
    example = next(r for r in rejects if r["reason"] == reason)
    raise RuntimeError(
        f"no valid triple: {number:,} of {len(sent):,} rejects are {reason!r}"
        + (f", {len(others)} other reasons" if others else "")
        + f"; {example['record']}: {example['detail'][:500] or '(no detail)'}. All are in {kept}."
        f" To do: {what_to_change(reason)}"
    )


def _ask(job: SamplingJob) -> None:
    keys = list(job.missing)[: job.settings.budget_requests]
    if keys and job.settings.mode == "batch":
        run_to_end(learn_before(job))
        ask_in_batches(job, keys)
    elif keys:
        run_to_end(ask_all(job, keys))


def progress_line(report: TeacherReport, total: int) -> str:
    """A call so far in one line: how many of ``total`` requests are done, rejects, the rate,
    what is spent, and the time left.
    """
    done = report.cached + report.requests + report.failed + report.not_sent
    rate = (report.requests + report.failed) / report.seconds if report.seconds > 0 else 0.0
    parts = [
        f"{done:,} of {total:,} done",
        f"{sum(report.rejects.values()):,} rejects",
        f"{rate * 60:,.0f} requests/min",
        f"{report.usd:,.2f} USD spent",
    ]
    if report.in_batches:
        parts.append(f"{report.in_batches:,} in batches")
    elif done < total:
        parts.append(f"{_duration((total - done) / rate)} left" if rate else "time left unknown")
    return " · ".join(parts)


def _duration(seconds: float) -> str:
    minutes, hours = round(seconds / 60), round(seconds / 3600, 1)
    if seconds < 90:
        return f"{round(seconds)} s"
    if minutes < 90:
        return f"{minutes} min"
    return f"{hours:g} h"
