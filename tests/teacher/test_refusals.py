"""A refusal ends with the server's own words: what cannot heal ends the call at once, what is about
one prompt becomes a reject, and the key is in none of it.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import httpx
import openai
import pytest

from lskd_nb.teacher import batch_api, client, generate
from lskd_nb.teacher import job as jobs
from lskd_nb.teacher.cache import OpenBatch, ResponseCache
from lskd_nb.teacher.dialect import Dialect
from lskd_nb.teacher.requests import TeacherSettings

WORLD = SimpleNamespace(**run_path(str(Path(__file__).with_name("test_batch_api.py"))))
KEY = "sk-of-somebody-who-pays"
GOOD = {"question": "Why is [0] here?", "answer": "To play.", "rationale": "[0] has a ball."}
FILTER = {  # as Azure words it
    "error": {
        "message": "The response was filtered due to the prompt triggering Azure OpenAI's content"
        " management policy.",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation"},
    }
}
LONG = {"error": {"message": "maximum context length is 4096", "code": "context_length_exceeded"}}
EMPTY = {
    "error": {
        "message": "You exceeded your current quota, please check your plan and billing details.",
        "type": "insufficient_quota",
        "param": None,
        "code": "insufficient_quota",
    }
}
# what cannot heal: who says so, with which status and body, and what must be in the error
FINAL = {
    "OpenAI, an unknown field": (
        400,
        {
            "error": {
                "message": "Unsupported parameter: 'max_tokens' is not supported with this model."
                " Use 'max_completion_tokens' instead.",
                "type": "invalid_request_error",
                "param": "max_tokens",
                "code": "unsupported_parameter",
            }
        },
        "Use 'max_completion_tokens' instead",
    ),
    "OpenAI, no such format": (
        400,
        {
            "error": {
                "message": "Invalid parameter: 'response_format' of type 'json_schema' is not"
                " supported with this model.",
                "param": None,
            }
        },
        "'response_format' of type 'json_schema' is not supported",
    ),
    "LM Studio, a bare text": (
        400,
        {"error": "'response_format.type' must be 'json_schema' or 'text'"},
        "must be 'json_schema' or 'text'",
    ),
    "Mistral, a list of complaints": (
        422,
        {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]},
        "Extra inputs are not permitted body seed",
    ),
    "vLLM, another model": (
        404,
        {"object": "error", "message": "The model `faulty` does not exist.", "code": 404},
        "The model `faulty` does not exist",
    ),
    "OpenRouter, no such model": (
        400,
        {"error": {"message": "faulty is not a valid model ID", "code": 400}},
        "not a valid model ID",
    ),
    "Google, a list with an object": (
        403,
        [{"error": {"code": 403, "message": "Permission denied on resource project x."}}],
        "Permission denied on resource project x",
    ),
    "a proxy's page": (401, "<html><h1>Log in</h1> first</html>", "Log in first"),
    "an empty account": (429, EMPTY, "You exceeded your current quota"),
}

Answer = Callable[[int, dict], tuple[int, object]]  # how many came before, request -> status, body


@contextmanager
def stranger(answer: Answer, models: object = None) -> Iterator[tuple[str, list[float]]]:
    """A server that answers chat completions so; its base_url, and when requests came. It echoes
    the key wherever a body has "KEY".
    """
    came: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            came.append(time.monotonic())
            self.say(*answer(len(came) - 1, body))

        def do_GET(self) -> None:
            self.say(200, models)

        def say(self, status: int, body: object) -> None:
            text = body if isinstance(body, str) else json.dumps(body)
            data = text.replace("KEY", self.headers["Authorization"][7:]).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", came
    finally:
        server.shutdown()
        server.server_close()


def completion(text: str) -> dict:
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "finish_reason": "stop", "message": message}], "usage": None}


WELL = completion(json.dumps({"triples": [GOOD]}))


def settings(url: str, **changes) -> TeacherSettings:
    given = {"concurrency": 4, "max_retries": 2} | changes
    return TeacherSettings(url, "faulty", **given)


TOLD = asdict(Dialect())  # so that nothing is asked to find it out


def ask(url: str, folder: Path, number: int = 15, **changes):
    given = settings(url, **{"takes": TOLD} | changes)
    return generate.generate_triples(WORLD.prompts(number), given, folder / "c.sqlite")


@pytest.mark.parametrize("who", FINAL)
def test_what_cannot_heal_ends_the_call_at_once_with_the_servers_words(who, tmp_path):
    status, body, words = FINAL[who]
    with stranger(lambda n, _: (status, body)) as (url, came), pytest.raises(RuntimeError) as ended:
        ask(url, tmp_path, takes={})
    told = str(ended.value)
    assert words in told and f"HTTP {status}" in told and url in told and "'faulty'" in told
    assert "To do: " in told and len(came) <= 10


def test_an_account_that_empties_midway_loses_no_reply(tmp_path):
    with stranger(lambda n, _: (429, EMPTY) if n >= 10 else (200, WELL)) as (url, came):
        with pytest.raises(RuntimeError, match="has nothing left for the key in OPENAI_API_KEY"):
            ask(url, tmp_path, server="box")
        assert len(WORLD.kept(tmp_path / "c.sqlite")) == 10 and len(came) <= 14
    with stranger(lambda n, _: (200, WELL)) as (other, _):
        rows, rejects, report = ask(other, tmp_path, server="box")
    assert len(rows) == report.cached + report.requests == 30 and report.cached == 10


def test_a_limit_of_rate_is_still_waited_for(tmp_path):
    """Google words it as OpenAI words an empty account."""
    busy = [{"error": {"code": 429, "message": EMPTY["error"]["message"]}}]
    with stranger(lambda n, _: (429, busy) if n < 2 else (200, WELL)) as (url, _):
        rows, rejects, _ = ask(url, tmp_path, 3)
    assert len(rows) == 6 and not rejects


@pytest.mark.parametrize(("status", "body"), [(400, FILTER), (400, LONG), (403, "was flagged")])
def test_what_is_about_one_prompt_is_a_reject_with_the_words(tmp_path, status, body):
    def answer(n: int, _: dict) -> tuple[int, object]:
        return (status, body) if n % 3 == 2 else (200, WELL)

    with stranger(answer) as (url, came):
        rows, rejects, report = ask(url, tmp_path)
    assert len(came) == 30 and len(rows) == 20 and len(rejects) == report.failed == 10
    words = body if isinstance(body, str) else body["error"]["message"]
    assert all(words in json.loads(r["detail"])["words"] for r in rejects)
    what = f"HTTP {status}" if body is LONG else f"HTTP {status}, content filter"
    assert {r["reason"] for r in rejects} == {f"no answer: {what}"}


def test_a_filter_that_dislikes_every_prompt_does_not_end_the_call(tmp_path):
    with stranger(lambda n, _: (400, FILTER)) as (url, came):
        rows, rejects, _ = ask(url, tmp_path)
    assert not rows and len(rejects) == len(came) == 30
    with pytest.raises(RuntimeError, match=r"30 of 30 rejects are 'no answer: HTTP 400, content f"):
        generate.require_triples(rows, rejects, tmp_path / "r.parquet")


def test_words_that_nobody_understands_end_the_call_when_nothing_else_comes(tmp_path):
    with (
        stranger(lambda n, _: (418, "I'm a teapot, KEY")) as (url, came),
        pytest.raises(RuntimeError, match="HTTP 418: I'm a teapot"),
    ):
        ask(url, tmp_path)
    assert client.PUZZLED <= len(came) < client.PUZZLED + 4


def test_the_key_is_taken_out_of_the_words(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for number, body in enumerate(
        ({"error": {"message": "bad key KEY", "code": "invalid_api_key"}}, "key KEY is no good")
    ):
        with (
            stranger(lambda n, _, body=body: (401, body)) as (url, _),
            pytest.raises(RuntimeError, match="refuses the key in OPENAI_API_KEY") as ended,
        ):
            ask(url, tmp_path)
        assert KEY not in str(ended.value) and "[OPENAI_API_KEY]" in str(ended.value), number
    masked = {"error": {"message": "Incorrect API key provided: sk-of-*********pays."}}
    with stranger(lambda n, _: (401, masked)) as (url, _), pytest.raises(RuntimeError) as ended:
        ask(url, tmp_path)
    assert "provided: [OPENAI_API_KEY]." in str(ended.value) and "pays" not in str(ended.value)
    with stranger(lambda n, _: (400, FILTER | {"message": "of KEY"})) as (url, _):
        rejects = ask(url, tmp_path)[1]
    assert KEY not in json.dumps(rejects) and "of [OPENAI_API_KEY]" in json.dumps(rejects)
    assert all(KEY.encode() not in f.read_bytes() for f in tmp_path.iterdir())


@pytest.mark.parametrize("models", [None, [], [{"id": "m"}], "<html>", {"data": None}, ""])
def test_a_list_of_models_of_any_shape_keeps_nobody_from_asking(tmp_path, models):
    with stranger(lambda n, _: (200, WELL), models) as (url, _):
        assert len(ask(url, tmp_path, 1)[0]) == 2


# -------------------------------------------------------------------------------------- Batch API


def a_batch(told: dict, files: dict[str, str]) -> SimpleNamespace:
    """A client that knows one batch and its files."""
    batch = dict(output_file_id=None, error_file_id=None, errors=None) | told
    return SimpleNamespace(
        batches=SimpleNamespace(retrieve=lambda _: SimpleNamespace(**batch)),
        files=SimpleNamespace(content=lambda f: SimpleNamespace(content=files[f].encode())),
    )


@pytest.fixture
def job(tmp_path):
    cache = ResponseCache(tmp_path / "c.sqlite")
    asked = jobs.SamplingJob(
        WORLD.prompts(2), settings("http://127.0.0.1:9/v1", mode="batch"), cache, lambda *_: None
    )
    asked.look_up()
    yield asked
    cache.close()


def waiting(job: jobs.SamplingJob) -> OpenBatch:
    requests = dict.fromkeys(job.missing, 0.0)
    job.cache.intend_batch("n", job.settings.base_url, requests)
    for worst in requests.values():
        job.budget.hold(worst)
    return OpenBatch("n", "batch_1", time.time(), requests)


def line(key: str, status: int, body: object) -> str:
    return json.dumps({"custom_id": key, "response": {"status_code": status, "body": body}}) + "\n"


def test_a_batchs_refusals_have_their_words(job):
    batch, keys = waiting(job), list(job.missing)
    files = {"o": line(keys[0], 200, WELL), "e": line(keys[1], 400, FILTER)}
    files["e"] += json.dumps({"custom_id": keys[2], "error": {"code": "x", "message": "words"}})
    told = dict(status="completed", output_file_id="o", error_file_id="e")
    assert batch_api._collected(a_batch(told, files), job, batch, {})
    details = [r["detail"] for place in range(4) for r in job.worth[place].rejects]
    assert len(details) == 3 and "content management policy" in details[0]
    assert "words" in details[1] and job.report.requests == 1


def test_a_batch_that_is_refused_for_good_ends_the_call_and_keeps_its_replies(job):
    batch, keys = waiting(job), list(job.missing)
    status, body, words = FINAL["OpenAI, an unknown field"]
    files = {"o": line(keys[0], 200, WELL), "e": line(keys[1], status, body)}
    told = dict(status="completed", output_file_id="o", error_file_id="e")
    with pytest.raises(RuntimeError, match=words):
        batch_api._collected(a_batch(told, files), job, batch, {})
    assert job.cache.get(keys[0]) and not job.cache.open_batches(job.settings.base_url)


def test_a_status_that_is_not_known_is_not_polled_for_ever(job, monkeypatch):
    batch, puzzling = waiting(job), {}
    assert not batch_api._collected(a_batch(dict(status="resting"), {}), job, batch, puzzling)
    assert not batch_api._collected(a_batch(dict(status="in_progress"), {}), job, batch, puzzling)
    assert not puzzling, "it was known in between"
    monkeypatch.setattr(batch_api, "PUZZLED", 0.01)
    assert not batch_api._collected(a_batch(dict(status="resting"), {}), job, batch, puzzling)
    time.sleep(0.02)
    with pytest.raises(RuntimeError, match="batch_1 is 'resting'; expected one of validating, in_"):
        batch_api._collected(a_batch(dict(status="resting"), {}), job, batch, puzzling)
    assert job.cache.open_batches(job.settings.base_url), "it is kept"


def test_a_batch_whose_files_are_gone_is_asked_again(job):
    """They are deleted after a while; the call ends, and the next one submits these requests."""

    def gone(_: str):
        response = httpx.Response(404, request=httpx.Request("GET", "http://x/files/o"))
        raise openai.NotFoundError("No such File object: o", response=response, body=None)

    client_of = a_batch(dict(status="completed", output_file_id="o", error_file_id="e"), {})
    client_of.files.content = gone
    assert batch_api._collected(client_of, job, waiting(job), {})
    reasons = {r["reason"] for place in range(4) for r in job.worth[place].rejects}
    assert reasons == {"no answer: missing in the files of its batch; run it again to ask again"}
    assert not job.cache.open_batches(job.settings.asked) and job.report.failed == 4
    assert not any(job.cache.get(key) for key in job.missing), "it is asked for by the next call"
