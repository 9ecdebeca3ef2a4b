"""What the teacher's server does wrong, in every way there is: each request still ends as
triples or as rejects with a reason, once.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image

from lskd_nb.mini.scenes import true_words
from lskd_nb.mini.scenes.world import sample_scenes
from lskd_nb.records import REGIONS, REJECTS, TRIPLES, VERBALIZATIONS, write_parquet
from lskd_nb.teacher import generate
from lskd_nb.teacher import prompts as prompting
from lskd_nb.teacher.client import PILOTS, PUZZLED
from lskd_nb.teacher.dialect import Dialect
from lskd_nb.teacher.requests import encoded, request_body

HERE = Path(__file__).resolve().parent
KEY = "sk-echoed-by-a-careless-proxy"
TAKES = asdict(Dialect())
REASONS = {  # what the server answered last -> why there are no triples
    "empty body": {"no answer: empty body"},
    "truncated body": {"no answer: body is not JSON"},
    "malformed body": {"no answer: body is not JSON"},
    "malformed content": {"not JSON"},
    "truncated content": {"triple", "cut off at the token limit"},
    "refusal": {"refusal"},
    "wrong ids": {"mentions a region that was not offered"},
    "429": {"no answer: HTTP 429"},
    "429 retry-after": {"no answer: HTTP 429"},
    "500": {"no answer: HTTP 500"},
    "stall": {"no answer: APITimeoutError"},
    "cut": {"no answer: APIConnectionError", "no answer: APITimeoutError"},
    "cut in the body": {"no answer: APIConnectionError", "no answer: APITimeoutError"},
}


def prompts(number: int) -> list[prompting.Prompt]:
    scenes = sample_scenes(number, 5, "f")
    return prompting.build_prompts(
        true_words.located(scenes), true_words.region_lines(scenes, False)
    )


@contextmanager
def failing(
    folder: Path, rate: float = 0.3, seed: int = 0, *faults: str, at_once: int = 1000
) -> Iterator[tuple[str, Path]]:
    """The fault server in a process of its own; its base_url and the file where it writes what
    it answered.
    """
    port, log = folder / f"port-{seed}", folder / f"answered-{seed}.jsonl"
    command = [
        sys.executable,
        str(HERE / "fault_server.py"),
        "--port-file",
        str(port),
        "--log",
        str(log),
        "--rate",
        str(rate),
        "--seed",
        str(seed),
        "--at-once",
        str(at_once),
    ]
    command += ["--faults", *faults] if faults else []
    process = subprocess.Popen(command)
    try:
        end = time.monotonic() + 1800
        while not port.exists():
            assert process.poll() is None and time.monotonic() < end, (
                "the fault server did not start"
            )
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port.read_text()}/v1", log
    finally:
        process.terminate()
        process.wait()


def sent_as(prompt: prompting.Prompt, settings: generate.TeacherSettings) -> str:
    """What the server calls a request: the hash of its bytes."""
    return hashlib.sha256(encoded(request_body(prompt, settings))).hexdigest()[:32]


def answers(log: Path) -> dict[str, list[str]]:
    """What the server answered to each request, in order."""
    found: dict[str, list[str]] = {}
    for line in log.read_text().splitlines():
        told = json.loads(line)
        found.setdefault(told["request"], []).append(told["answered"])
    return found


@pytest.mark.parametrize("retries", [0, 4])
def test_every_request_ends_once_as_triples_or_with_its_reason(tmp_path, monkeypatch, retries):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    asked = prompts(64)
    with failing(tmp_path, seed=2) as (url, log):
        settings = generate.TeacherSettings(
            url,
            "faulty",
            temperature=0.0,
            takes=TAKES,
            concurrency=32,
            max_retries=retries,
            timeout=6.0,
        )
        rows, rejects, report = generate.generate_triples(asked, settings, tmp_path / "c.sqlite")
        said = answers(log)
        again = generate.generate_triples(asked, settings, tmp_path / "c.sqlite")[2]
    write_parquet(rows, tmp_path / "t.parquet", TRIPLES)
    write_parquet(rejects, tmp_path / "r.parquet", REJECTS)
    key_of = {f"{p.image_id}-{p.family}": sent_as(p, settings) for p in asked}
    assert set(said) == set(key_of.values()), "every request was sent"
    names = [r["triple_id"] for r in rows] + [r["record"] for r in rejects]
    assert max(Counter(names).values()) == 1, "nothing ends twice"
    ended: dict[str, list[str]] = {name: [] for name in key_of}
    for name, outcome in zip(
        names, ["triple"] * len(rows) + [r["reason"] for r in rejects], strict=True
    ):
        ended[name if name in key_of else name.rsplit("-", 1)[0]].append(outcome)
    for name, outcomes in ended.items():
        history = said[key_of[name]]
        *before, last = history
        if last == "good":
            assert outcomes == ["triple"] * 3, (history, outcomes)
        else:
            assert outcomes and set(outcomes) <= REASONS[last], (history, outcomes)
        assert len(history) <= retries + 1 and not {
            "good",
            "refusal",
            "malformed content",
            "wrong ids",
        } & set(before), "an answered request was sent again"
    faults = Counter(fault for history in said.values() for fault in history)
    assert 0.2 < 1 - faults["good"] / faults.total() < 0.4 and len(faults) == len(REASONS) + 1, (
        "every fault struck"
    )
    cut = sum(history[-1] == "truncated content" for history in said.values())
    unanswered = sum(r["reason"].startswith("no answer") for r in rejects)
    assert (
        report.failed == unanswered > 0
        and report.requests == len(asked) - unanswered
        and again.cached == report.requests - cut
    )


def test_asked_again_until_all_is_answered(tmp_path):
    """What was not answered is not kept: further calls ask for it alone, and at the end nothing
    is missing.
    """
    asked = prompts(20)
    with failing(tmp_path, seed=3) as (url, log):
        settings = generate.TeacherSettings(
            url, "faulty", temperature=0.0, takes=TAKES, max_retries=0, timeout=6.0
        )
        for _ in range(12):
            rows, rejects, report = generate.generate_triples(
                asked, settings, tmp_path / "c.sqlite"
            )
            if not report.failed:
                break
        said = answers(log)
    assert not [r for r in rejects if r["reason"].startswith("no answer")]
    assert len({r["request"] for r in rows} | {r["record"] for r in rejects}) >= len(asked) - len(
        rejects
    )
    assert all(history.count("good") <= 1 for history in said.values())


def test_a_server_that_only_fails_is_given_up(tmp_path):
    asked = prompts(150)
    with failing(tmp_path, 1.0, 0, "500", "empty body") as (url, log):
        settings = generate.TeacherSettings(
            url, "faulty", temperature=0.0, takes=TAKES, concurrency=8, max_retries=0
        )
        rows, rejects, report = generate.generate_triples(asked, settings, tmp_path / "c.sqlite")
        said = answers(log)
    assert (
        not rows
        and PUZZLED <= len(said) == report.failed < PUZZLED + PILOTS
        and report.not_sent == len(asked) - report.failed
    )
    assert sum("requests got no answer" in r["reason"] for r in rejects) == report.not_sent


def test_more_than_a_server_bears_is_not_asked_for_long(tmp_path):
    """It answers eight at once and 429 to whoever comes beyond: the client finds that out, and
    loses nothing.
    """
    asked = prompts(150)
    with failing(tmp_path, rate=0.0, at_once=8) as (url, log):
        settings = generate.TeacherSettings(
            url, "faulty", temperature=0.0, takes=TAKES, concurrency=200, max_retries=6
        )
        rows, rejects, report = generate.generate_triples(asked, settings, tmp_path / "c.sqlite")
        said = [fault for history in answers(log).values() for fault in history]
    assert (
        not rejects
        and len(rows) == 3 * len(asked)
        and report.requests == len(asked) == said.count("good")
    )
    assert 0 < said.count("busy") < len(asked) / 2, (
        "200 at once would be refused some hundreds of times"
    )


RUN = """
import logging, sys, traceback
logging.basicConfig(level=logging.DEBUG)
sys.path.insert(0, {here!r})
import test_faults as t
from lskd_nb.teacher import generate
settings = generate.TeacherSettings({url!r}, "faulty", max_retries=1, timeout=0.6, takes=t.TAKES)
rows, rejects, report = generate.generate_triples(
    t.prompts(20), settings, {folder!r} + "/c.sqlite",
    lambda r, n: print(generate.progress_line(r, n)),
)
print(rows, rejects, report, settings)
t.write_parquet(rejects, {folder!r} + "/r.parquet", t.REJECTS)
"""


def test_the_key_is_in_nothing_that_a_run_leaves(tmp_path):
    """Not even where the server's errors echo it, with the client library's log at its most
    talkative.
    """
    left = tmp_path / "left"
    left.mkdir()
    with failing(tmp_path, rate=0.6, seed=1) as (url, log):
        script = RUN.format(here=str(HERE), url=url, folder=str(left))
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"OPENAI_API_KEY": KEY},
            capture_output=True,
        )
        echoed = {"429", "429 retry-after", "500"} & {
            f for history in answers(log).values() for f in history
        }
    assert done.returncode == 0, done.stderr[-2000:]
    assert echoed and b"HTTP" in done.stderr and b"done" in done.stdout
    for name, data in [
        ("stdout", done.stdout),
        ("stderr", done.stderr),
        *((p.name, p.read_bytes()) for p in left.iterdir()),
    ]:
        assert KEY.encode() not in data and KEY[3:].encode() not in data, f"the key is in {name}"


@pytest.mark.slow
def test_the_key_is_in_nothing_that_notebook_2_leaves(root, lskd, tmp_path):
    """Notebook, manifest, cache, tables and the terminal, of a run against a server whose errors
    echo the key.
    """
    for path in ("notebooks/02_prompting.ipynb", "params/smoke/02_prompting.yaml"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / path, tmp_path / path)
    scenes, run = sample_scenes(12, 5, "f"), tmp_path / "run"
    regions = [
        dict(
            image_id=s.scene_id,
            image="x.png",
            width=320,
            height=240,
            source="mini",
            split="train",
            regions=[
                dict(id=i, box=list(e.box), label=e.kind, score=1.0)
                for i, e in enumerate(s.entities)
            ],
        )
        for s in scenes
    ]
    write_parquet(regions, run / "regions.parquet", REGIONS)
    write_parquet([], run / "verbalizations.parquet", VERBALIZATIONS)
    (run / "image_root.txt").write_text(str(tmp_path))
    Image.new("RGB", (320, 240)).save(tmp_path / "x.png")
    with failing(
        tmp_path, 0.3, 2, "429 retry-after", "429", "500", "malformed body", "wrong ids", "refusal"
    ) as (url, log):
        options = [
            f"02.{name}={value}"
            for name, value in dict(base_url=url, model="faulty", budget_requests=20).items()
        ]
        done = lskd(
            tmp_path,
            "run",
            "smoke",
            "--out",
            str(run),
            *(part for o in options for part in ("-p", o)),
            OPENAI_API_KEY=KEY,
        )
        assert {"429", "429 retry-after", "500"} & {
            f for history in answers(log).values() for f in history
        }
    assert done.returncode == 0, done.stderr[-2000:]
    left = {str(p.relative_to(run)): p.read_bytes() for p in run.rglob("*") if p.is_file()}
    assert {
        "triples.parquet",
        "rejects_02.parquet",
        "teacher_cache.sqlite",
        "manifest.json",
        "notebooks/02_prompting.ipynb",
    } <= left.keys()
    shown = re.search(rb"(\d+) of \1 done", left["notebooks/02_prompting.ipynb"])
    assert shown and int(shown[1]) >= 36, "the line of its progress, at the end"
    for name, data in [
        *left.items(),
        ("stdout", done.stdout.encode()),
        ("stderr", done.stderr.encode()),
    ]:
        assert KEY.encode() not in data and KEY[3:].encode() not in data, f"the key is in {name}"


def test_the_key_is_in_no_error_of_the_batch_api(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with (
        failing(tmp_path) as (url, _),
        pytest.raises(RuntimeError, match=r"bad luck, Bearer \[OPENAI_API_KEY\]") as refused,
    ):
        generate.generate_triples(
            prompts(1),
            generate.TeacherSettings(url, "faulty", mode="batch", takes=TAKES),
            tmp_path / "c.sqlite",
        )
    assert KEY not in str(refused.value) and refused.value.__suppress_context__
