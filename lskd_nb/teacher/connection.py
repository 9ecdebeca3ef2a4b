"""The connection to a server, through the ``openai`` package: every attempt waits for its turn
and its money, and what a server tells in its own way is told in the package's.

``connected`` makes the client, ``ask`` asks once, ``models_told`` and ``dialect_of`` find out what
a server has and what it takes.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from lskd_nb.teacher.budget import Budget, BudgetExceeded
from lskd_nb.teacher.dialect import Dialect, find_dialect
from lskd_nb.teacher.parsing import TRIPLES_FORM, ReplyForm
from lskd_nb.teacher.prompts import Prompt
from lskd_nb.teacher.rate_limit import RateLimiter
from lskd_nb.teacher.refusals import Refusal, no_completion, read_refusal, refused
from lskd_nb.teacher.replies import read_body, read_completion, told_error
from lskd_nb.teacher.requests import (
    TeacherSettings,
    api_key,
    encoded,
    is_loopback,
    redact_key,
    request_body,
)

if TYPE_CHECKING:
    import openai

ENDPOINT = "/chat/completions"
SMALL = 120  # tokens that the reply may have to the request that finds out what a server takes
ASKED_FIRST = (
    {
        "role": "system",
        "content": "Somebody points at a region of an image, as [0]. Write 1 triple of question,"
        " answer and rationale about it.",
    },
    {"role": "user", "content": "Regions:\n[0] dog: a dog that waits at a door"},
)
# the most tokens of the request that is being sent; a client's own requests count their bytes
_tokens: ContextVar[int] = ContextVar("tokens")


def connection(settings: TeacherSettings) -> dict:
    """What the ``openai`` package's clients are told about the server.

    A query in ``base_url`` goes along with every request, as Azure's ``?api-version=…``; where it
    is Azure's, the key goes into the header that it has there.
    """
    parts, key = urlsplit(settings.base_url), api_key(settings)
    told = dict(
        api_key=key,
        base_url=parts._replace(query="", fragment="").geturl(),
        max_retries=settings.max_retries,
        timeout=settings.timeout,
        default_query=dict(parse_qsl(parts.query)),
    )
    if "api-version" in told["default_query"]:
        told["default_headers"] = {"api-key": key}
    return told


@asynccontextmanager
async def connected(
    settings: TeacherSettings, budget: Budget | None = None, limiter: RateLimiter | None = None
) -> AsyncIterator["openai.AsyncOpenAI"]:
    """The package's client, in which every attempt waits for its turn and its money."""
    import openai

    given = connection(settings)
    http = _paced_client(settings, budget or Budget(), limiter or RateLimiter(1))
    async with openai.AsyncOpenAI(**given, http_client=http) as client:
        yield client


def _paced_client(
    settings: TeacherSettings, budget: Budget, limiter: RateLimiter
) -> "openai.DefaultAioHttpClient":
    import openai

    class PacedClient(openai.DefaultAioHttpClient):
        async def send(self, request, **options):
            if "api-key" in request.headers:  # Azure's, which does not take two
                request.headers.pop("Authorization", None)
            if request.method != "POST":
                return await super().send(request, **options)
            tokens = _tokens.get(len(request.content))
            worst, cost = budget.price.worst(tokens, settings.max_tokens), None
            await budget.reserve(worst)
            try:
                async with limiter:
                    sent = monotonic()
                    response = await super().send(request, **options)
                status = _told_status(response)
                limiter.saw(status, response.headers, sent, tokens // 4)
                if status == 429:  # too many, or an account that is empty?
                    told = read_refusal(429, await response.aread(), settings)
                    if told.final:
                        response.headers["x-should-retry"] = "false"  # the package obeys
                response.status_code = status
                cost = 0.0
                if status < 300 and not budget.price.free:
                    usage = read_completion(response.content).get("usage")
                    cost = budget.price.of(usage) if usage and any(usage) else None
            finally:
                budget.settle(worst, cost)
            return response

    # a server on this machine is no matter of a proxy's
    return PacedClient(trust_env=not is_loopback(settings.base_url))


def _told_status(response) -> int:
    """The status that a response would have if its server told errors by it."""
    if response.status_code < 300 and b'"error"' in response.content:
        try:
            told = told_error(read_body(response.content))
        except ValueError:
            return response.status_code
        return told[0] if told else response.status_code
    return response.status_code


async def ask(
    client: "openai.AsyncOpenAI", body: bytes, settings: TeacherSettings, tokens: int = 0
) -> dict | Refusal:
    """A reply as it is kept; or the error after all retries, or why it was not sent."""
    import openai

    _tokens.set(tokens or len(body))
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


def raise_unreachable(error: Exception, settings: TeacherSettings) -> None:
    """Raise ``RuntimeError`` for an error that says that nothing will come of asking; others
    pass: some servers have no list of models.
    """
    import openai

    # the package calls a connection that is refused a timeout as well
    why = error.__cause__ or error
    if isinstance(error, openai.APITimeoutError) and "Connect" not in type(why).__name__:
        return
    if isinstance(error, openai.APIConnectionError):
        raise RuntimeError(
            f"teacher at {settings.base_url} can't be reached ({why});"
            " is it running, is base_url right?"
        ) from None
    if isinstance(error, openai.AuthenticationError):
        raise refused(read_refusal(401, error.response.text, settings), settings) from None


async def models_told(
    client: "openai.AsyncOpenAI", settings: TeacherSettings, path: str = "/models"
) -> dict[str, str]:
    """The models that a server says it has, and when it will have one no more (OpenAI's
    ``shutdown_date``), else ""; none where it does not say, as not every server does.

    Raises ``RuntimeError`` where it can't be reached, or refuses the key.
    """
    import openai

    try:
        asked = client.with_options(max_retries=1, timeout=20)
        told = await asked.get(path, cast_to=openai.HttpxBinaryResponseContent)
        listed = read_body(told.content)
    except ValueError:
        return {}
    except openai.APIError as error:
        raise_unreachable(error, settings)
        return {}
    listed = listed.get("data", listed.get("models")) if isinstance(listed, dict) else listed
    found = {}
    for one in listed if isinstance(listed, list) else []:
        told = one if isinstance(one, dict) else {"id": one}
        if isinstance(name := told.get("id", told.get("name")), str):
            found[redact_key(name, settings)] = str(told.get("shutdown_date") or "")
    return found


async def refusal_error(
    client: "openai.AsyncOpenAI", told: Refusal, settings: TeacherSettings, models: Iterable[str]
) -> RuntimeError:
    """The error for a refusal; where the address may lack /v1, it is looked at there."""
    with_v1 = False
    if not (told.field or models or settings.base_url.rstrip("/").endswith("/v1")):
        with_v1 = bool(await models_told(client, settings, "/v1/models"))
    return refused(told, settings, models, with_v1)


async def dialect_of(
    client: "openai.AsyncOpenAI",
    settings: TeacherSettings,
    form: ReplyForm = TRIPLES_FORM,
    models: Iterable[str] = (),
) -> Dialect:
    """What the server takes of a request like those that will be sent, by asking it.

    Every field is tried that a later call may send; a temperature of 1 is what a model has by
    itself, so another is tried.

    Raises ``RuntimeError`` with its words where it takes none, ``BudgetExceeded`` where asking is
    not covered.
    """
    small = Prompt("", "id", (0,), ASKED_FIRST, "dialect")
    limited = replace(
        settings,
        max_tokens=settings.max_tokens or SMALL,
        seed=settings.seed or 0,
        temperature=0.9 if settings.temperature == 1 else settings.temperature,
    )

    async def asked(dialect: Dialect) -> Refusal | None:
        body = encoded(request_body(small, limited, dialect, form))
        reply = await ask(client, body, settings)
        if isinstance(reply, Refusal):
            return reply
        if "unsent" in reply:
            raise BudgetExceeded
        if "error" in reply:
            told = f"teacher at {settings.base_url}, model {settings.model!r}: {reply['error']}"
            words = f" ({reply['words']})" if reply.get("words") else ""
            raise RuntimeError(no_completion(told + words))
        return None

    sent = ["limit", "temperature", "seed"]
    sent += ["reasoning_effort"] if settings.reasoning_effort else []
    found = await find_dialect(asked, settings.takes, sent)
    if isinstance(found, Refusal):
        raise await refusal_error(client, found, settings, models)
    return found
