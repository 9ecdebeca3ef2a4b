"""The Batch API: the same replies as side by side, whatever dies in between, and nothing
submitted twice.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lskd_nb.mini.scenes import true_words
from lskd_nb.mini.scenes.world import sample_scenes
from lskd_nb.mini.teacher.server import serving
from lskd_nb.mini.teacher.writer import NAME
from lskd_nb.teacher import batch_api, generate
from lskd_nb.teacher import prompts as prompting
from lskd_nb.teacher.budget import price_of
from lskd_nb.teacher.cache import ResponseCache
from lskd_nb.teacher.dialect import Dialect
from lskd_nb.teacher.refusals import Refusal

KEY = "sk-not-to-be-written"


def prompts(number: int = 15) -> list[prompting.Prompt]:
    scenes = sample_scenes(number, 5, "q")
    return prompting.build_prompts(
        true_words.located(scenes), true_words.region_lines(scenes, False)
    )


@pytest.fixture(scope="module")
def server():
    with serving(batch_delay=0.1) as url:
        yield url


def in_batches(url: str, **changes) -> generate.TeacherSettings:
    return generate.TeacherSettings(
        url, NAME, mode="batch", poll_seconds=0.05, takes=asdict(Dialect()), **changes
    )


def get(url: str, path: str) -> bytes:
    with urllib.request.urlopen(f"{url.removesuffix('/v1')}{path}") as reply:
        return reply.read()


def stats(url: str) -> dict:
    return json.loads(get(url, "/stats"))


def kept(cache: Path) -> dict[str, str]:
    return dict(sqlite3.connect(cache).execute("SELECT request, reply FROM replies"))


def open_ones(cache: Path) -> int:
    return (
        sqlite3.connect(cache)
        .execute("SELECT count(*) FROM batches WHERE NOT collected")
        .fetchone()[0]
    )


def test_the_same_replies_in_the_same_cache(server, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(batch_api, "MOST_REQUESTS", 8)
    before, shown = stats(server)["batches"], []
    rows, rejects, report = generate.generate_triples(
        prompts(),
        in_batches(server),
        tmp_path / "b.sqlite",
        lambda r, n: shown.append(generate.progress_line(r, n)),
    )
    beside = generate.generate_triples(
        prompts(), generate.TeacherSettings(server, NAME), tmp_path / "a.sqlite"
    )
    assert (
        (rows, rejects) == beside[:2]
        and rows
        and kept(tmp_path / "b.sqlite") == kept(tmp_path / "a.sqlite")
    )
    assert (
        report.requests == 30
        and report.completion_tokens == beside[2].completion_tokens
        and stats(server)["batches"] == before + 4
    )
    assert any("30 in batches" in line for line in shown) and shown[-1].startswith("30 of 30 done")
    again = generate.generate_triples(
        prompts(), generate.TeacherSettings(server, NAME), tmp_path / "b.sqlite"
    )
    assert again[2].cached == 30 and again[0] == rows, "the other mode asks for nothing again"
    told = json.loads(get(server, "/v1/batches?limit=4"))["data"]
    files = [
        get(server, f"/v1/files/{batch[name]}/content")
        for batch in told
        for name in ("input_file_id", "output_file_id")
    ]
    for data in (
        *files,
        *(p.read_bytes() for p in tmp_path.iterdir()),
        *("".join(shown).encode(),),
    ):
        assert KEY.encode() not in data


def test_files_are_of_limited_size(server, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_api, "MOST_BYTES", 20_000)
    before = stats(server)["batches"]
    generate.generate_triples(prompts(), in_batches(server, seed=2), tmp_path / "c.sqlite")
    told = json.loads(get(server, "/v1/batches?limit=100"))["data"][
        : stats(server)["batches"] - before
    ]
    sizes = [len(get(server, f"/v1/files/{batch['input_file_id']}/content")) for batch in told]
    assert (
        len(sizes) > 3
        and max(sizes) <= 20_000
        and sum(batch["request_counts"]["completed"] for batch in told) == 30
    )


RUN = """
import sys
sys.path.insert(0, {here!r})
import test_batch_api as t
t.generate.generate_triples(t.prompts(), t.in_batches({url!r}), {cache!r})
"""


def test_a_killed_call_goes_on_polling_and_submits_nothing_twice(tmp_path):
    cache = tmp_path / "c.sqlite"
    with serving(batch_delay=2.0) as url:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                RUN.format(here=os.path.dirname(__file__), url=url, cache=str(cache)),
            ]
        )
        while not stats(url)["batches"]:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not kept(cache)
        rows, _, report = generate.generate_triples(prompts(), in_batches(url), cache)
        assert stats(url)["batches"] == 1 and stats(url)["completions"] == 30
    assert rows and report.requests == 30 and not open_ones(cache)


@pytest.mark.parametrize("died", ["before it was submitted", "before its id was written down"])
def test_a_call_that_dies_around_the_submission(server, tmp_path, monkeypatch, died):
    before, seed = stats(server), len(died)
    with monkeypatch.context() as patched:

        def dies(*_):
            raise KeyboardInterrupt

        patched.setattr(
            *(
                (batch_api, "_create")
                if "submitted" in died
                else (ResponseCache, "submitted_batch")
            ),
            dies,
        )
        with pytest.raises(KeyboardInterrupt):
            generate.generate_triples(
                prompts(), in_batches(server, seed=seed), tmp_path / "c.sqlite"
            )
    assert open_ones(tmp_path / "c.sqlite") == 1
    assert (
        generate.generate_triples(prompts(), in_batches(server, seed=seed), tmp_path / "c.sqlite")[
            2
        ].requests
        == 30
    )
    assert (
        stats(server)["batches"] == before["batches"] + 1
        and stats(server)["completions"] == before["completions"] + 30
    )


def test_errors_come_from_the_error_file_and_are_submitted_again_by_the_next_call(tmp_path):
    with serving(error_rate=0.4, seed=1) as url:
        rows, rejects, report = generate.generate_triples(
            prompts(), in_batches(url), tmp_path / "c.sqlite"
        )
        assert 5 < report.failed < 20 and {r["reason"] for r in rejects} >= {
            "no answer: HTTP 429",
            "no answer: HTTP 500",
        }
        assert len(kept(tmp_path / "c.sqlite")) == report.requests == 30 - report.failed
        again = generate.generate_triples(prompts(), in_batches(url), tmp_path / "c.sqlite")[2]
        assert again.cached == report.requests and again.requests + again.failed == report.failed
        assert stats(url)["completions"] == report.requests + again.requests


def test_a_batch_that_is_refused_as_a_whole_says_why(server, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_api, "ENDPOINT", "/v1/chat/completions")
    real = batch_api._files

    def damaged(*arguments):
        for _, worst in real(*arguments):
            yield [b"no JSON\n"], worst

    monkeypatch.setattr(batch_api, "_files", damaged)
    rejects, report = generate.generate_triples(
        prompts(2), in_batches(server, seed=40), tmp_path / "c.sqlite"
    )[1:]
    assert report.failed == 4 and {r["reason"] for r in rejects} == {
        "no answer: batch failed: invalid_file: expected up to 50,000 requests, each with a"
        " custom_id of its own"
    }
    monkeypatch.setattr(batch_api, "ENDPOINT", "/v1/embeddings")
    monkeypatch.setattr(batch_api, "_files", real)
    with pytest.raises(
        RuntimeError,
        match=(
            "the Batch API at .* says: .*expected an uploaded input_file_id.*what is submitted is"
            " kept"
        ),
    ):
        generate.generate_triples(prompts(2), in_batches(server, seed=41), tmp_path / "c.sqlite")
    assert not open_ones(tmp_path / "c.sqlite"), "it was never taken"


def test_a_batch_that_the_server_does_not_know_is_named(server, tmp_path):
    settings = in_batches(server, seed=50)
    key = generate.generate_triples(prompts(1)[:1], settings, tmp_path / "other.sqlite")[0][0][
        "request"
    ]
    cache = ResponseCache(tmp_path / "c.sqlite")
    cache.intend_batch("n", server, {key: 0.0})
    cache.submitted_batch("n", "batch_of_somebody_else")
    cache.close()
    with pytest.raises(
        RuntimeError,
        match=(
            "does not know the batch batch_of_somebody_else.*delete it from the table batches of"
            " .*c.sqlite"
        ),
    ):
        generate.generate_triples(prompts(1), settings, tmp_path / "c.sqlite")


def test_the_budget_goes_round_by_round(server, tmp_path, monkeypatch):
    """What a batch did not use of its worst case buys the next one; nothing is spent beyond."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    prices = tmp_path / "prices.yaml"
    prices.write_text(
        yaml.safe_dump(
            dict(
                date="2026-05",
                batch_discount=0.5,
                models={NAME: dict(input=10, output=20, max_output=1000)},
            )
        )
    )
    settings = replace(
        in_batches(server, seed=60, prices=prices, budget_usd=0.08),
        base_url=server.replace("127.0.0.1", "0.0.0.0"),
        max_cost_usd=9.0,
    )
    before, price = stats(server)["batches"], price_of(settings)
    _, rejects, report = generate.generate_triples(prompts(), settings, tmp_path / "c.sqlite")
    spent = sum(
        price.of(json.loads(reply)["usage"]) for reply in kept(tmp_path / "c.sqlite").values()
    )
    assert (
        0.04 < spent <= 0.08
        and report.usd == pytest.approx(spent)
        and stats(server)["batches"] > before + 1
    )
    assert (
        report.not_sent
        == 30 - report.requests
        == sum(r["reason"] == "not sent: budget in USD used up" for r in rejects)
        > 0
    )


@given(
    st.lists(
        st.one_of(
            st.text(max_size=40),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                lambda c: (
                    st.lists(c, max_size=3)
                    | st.dictionaries(
                        st.sampled_from(
                            [
                                "custom_id",
                                "response",
                                "error",
                                "body",
                                "status_code",
                                "code",
                                "choices",
                                "message",
                                "content",
                            ]
                        ),
                        c,
                        max_size=4,
                    )
                ),
                max_leaves=8,
            ).map(json.dumps),
        ),
        max_size=5,
    )
)
def test_whatever_is_in_the_files_of_a_batch_is_a_reply_or_an_error(lines):
    client = SimpleNamespace(
        files=SimpleNamespace(
            content=lambda file_id: SimpleNamespace(
                content="\n".join(lines).encode("utf-8", "replace")
            )
        )
    )
    told = batch_api._replies(
        client,
        SimpleNamespace(output_file_id="o", error_file_id="e"),
        in_batches("http://localhost"),
    )
    found = [reply.reply if isinstance(reply, Refusal) else reply for reply in told.values()]
    assert all(
        "error" in reply or reply.keys() == {"text", "finish", "refusal", "usage"}
        for reply in found
    )
