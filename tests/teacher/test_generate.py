"""The teacher: prompts, requests that are asked once, and what is interrupted or refused."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from dataclasses import asdict

import pytest

from lskd_nb.mini.scenes import grammar, true_words
from lskd_nb.mini.scenes.world import sample_scenes
from lskd_nb.mini.teacher.server import serving
from lskd_nb.mini.teacher.writer import NAME, read_context
from lskd_nb.records import REJECTS, TRIPLES, write_parquet
from lskd_nb.regions import LocatedImage, Region, mentions
from lskd_nb.teacher import cache as reply_cache
from lskd_nb.teacher import generate, parsing
from lskd_nb.teacher import prompts as prompting
from lskd_nb.teacher.dialect import Dialect

SCENES = sample_scenes(30, 5, "s")


def located(scenes=SCENES) -> list[LocatedImage]:
    return true_words.located(scenes)


def truth_lines(scenes=SCENES) -> list[dict]:
    return true_words.captions(scenes) + true_words.region_lines(scenes)


def stats(url: str) -> dict:
    with urllib.request.urlopen(url.removesuffix("/v1") + "/stats") as reply:
        return json.load(reply)


@pytest.fixture(scope="module")
def server():
    with serving(imagination=0.0) as url:
        yield url


def ask(url, prompts, cache, **changes):
    settings = generate.TeacherSettings(url, NAME, takes=asdict(Dialect()), **changes)
    return generate.generate_triples(prompts, settings, cache)


def test_context_says_everything_once_and_reads_back():
    scene, image = SCENES[0], located()[0]
    text = prompting.context_text(image, truth_lines([scene]))
    assert text.count("Regions:") == 1
    for region in image.regions:
        assert f"[{region.id}] {region.label}: " in text
    belief = read_context(text)
    assert belief.scene.place == scene.place and belief.scene.weather == scene.weather
    assert [e.held for e in belief.scene.entities] == [e.held for e in scene.entities]


def test_families_share_context_and_differ_in_instruction():
    one, other = prompting.build_prompts(located()[:1], truth_lines(), number=3)
    assert (one.family, other.family) == ("id", "description")
    assert one.messages[-1] == other.messages[-1] and one.messages[0] != other.messages[0]
    assert "3 triples" in one.messages[0]["content"]
    with pytest.raises(ValueError, match="no prompt family 'poem'"):
        prompting.build_prompt(located()[0], [], "poem")


def test_few_shot_examples_obey_their_own_rules():
    for family in prompting.FAMILIES:
        (_, *turns), _ = prompting._instruction(family, 3)
        assert [t["role"] for t in turns] == ["user", "assistant"] * (len(turns) // 2) and turns
        for asked, replied in zip(turns[::2], turns[1::2], strict=True):
            shown = (line.split(" ")[0] for line in asked["content"].splitlines())
            offered = mentions(" ".join(word for word in shown if word.startswith("[")))
            for triple in json.loads(replied["content"])["triples"]:
                assert parsing.invalid(triple, offered, family) is None


def test_image_without_regions_gets_no_prompt():
    bare = LocatedImage("b", "b.jpg", 9, 9, (), "mini", "train")
    assert list(prompting.build_prompts([bare], [])) == []


def test_triples_are_valid_and_true_when_the_words_are(server, tmp_path):
    rows, rejects, report = ask(
        server,
        prompting.build_prompts(located(), truth_lines()),
        tmp_path / "c.sqlite",
        temperature=0.0,
    )
    assert not rejects and report.triples == len(rows) == 3 * 2 * len(SCENES)
    write_parquet(rows, tmp_path / "t.parquet", TRIPLES)
    truth = {s.scene_id: s for s in SCENES}
    for r in rows:
        right, true = grammar.judge(
            truth[r["image_id"]], r["question"], r["answer"], r["rationale"]
        )
        kinds = [e.kind for e in truth[r["image_id"]].entities]
        # the words tell the kind of what somebody faces, not which of several it is
        unsaid = "facing" in r["rationale"] and len(set(kinds)) < len(kinds)
        assert right and (true == 1.0 or unsaid), r
    assert all(
        set(r["regions"]) <= set(r["regions_offered"]) and mentions(r["question"]) for r in rows
    )
    described = [r["question"] for r in rows if r["family"] == "description"]
    assert all("the " in q.lower() for q in described)


def test_nothing_is_asked_twice(server, tmp_path):
    prompts = prompting.build_prompts(located(), truth_lines())
    first = ask(server, prompts, tmp_path / "c.sqlite", seed=7)
    before = stats(server)["completions"]
    again = ask(server, prompts, tmp_path / "c.sqlite", seed=7)
    assert (
        stats(server)["completions"] == before
        and again[2].cached == len(prompts)
        and again[0] == first[0]
    )
    ask(server, prompts[:2], tmp_path / "c.sqlite", seed=8)
    assert stats(server)["completions"] == before + 2


def test_broken_replies_are_kept_with_their_reason(tmp_path):
    prompts = prompting.build_prompts(
        located(sample_scenes(150, 6, "b")), truth_lines(sample_scenes(150, 6, "b"))
    )
    with serving() as url:
        rows, rejects, report = ask(url, prompts, tmp_path / "c.sqlite", temperature=2.0)
    write_parquet(rejects, tmp_path / "r.parquet", REJECTS)
    assert {"not JSON", "mentions a region that was not offered"} <= set(report.rejects)
    per_prompt = {f"{p.image_id}-{p.family}": 0 for p in prompts}
    for record in [r["triple_id"] for r in rows] + [r["record"] for r in rejects]:
        name = record if record in per_prompt else record.rsplit("-", 1)[0]
        per_prompt[name] += 1 if record != name else 3
    assert set(per_prompt.values()) == {3}  # every triple asked for is somewhere


def test_errors_are_retried(tmp_path):
    with serving(error_rate=0.3) as url:
        rows, rejects, report = ask(
            url,
            prompting.build_prompts(located()[:10], truth_lines()),
            tmp_path / "c.sqlite",
            max_retries=12,
            temperature=0.0,
        )
        assert stats(url)["errors"] > 0
    assert report.failed == 0 and not rejects and len(rows) == 60


def test_budget_is_hard_and_the_rest_is_listed(server, tmp_path):
    prompts = prompting.build_prompts(located(), truth_lines())
    before = stats(server)["completions"]
    _, rejects, report = ask(server, prompts, tmp_path / "c.sqlite", seed=99, budget_requests=5)
    assert stats(server)["completions"] == before + 5 and report.not_sent == len(prompts) - 5
    assert sum(r["reason"].startswith("not sent") for r in rejects) == len(prompts) - 5


def test_unreachable_teacher_and_missing_key_are_named(tmp_path, monkeypatch):
    prompts = prompting.build_prompts(located()[:1], truth_lines())
    with pytest.raises(RuntimeError, match="127.0.0.1:9/v1 can't be reached"):
        ask("http://127.0.0.1:9/v1", prompts, tmp_path / "c.sqlite")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(RuntimeError, match="set the environment variable OPENAI_API_KEY"):
        ask("https://llm.example/v1", prompts, tmp_path / "d.sqlite")


def test_the_key_reaches_no_file(server, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-1234")
    rows, rejects, _ = ask(
        server, prompting.build_prompts(located()[:3], truth_lines()), tmp_path / "c.sqlite"
    )
    assert "sk-very-secret" not in json.dumps([rows, rejects])
    assert all(b"sk-very-secret" not in f.read_bytes() for f in tmp_path.iterdir())


def test_damaged_cache_is_named(server, tmp_path):
    (tmp_path / "c.sqlite").write_bytes(
        b"no database at all, but long enough to be read as one" * 100
    )
    with pytest.raises(ValueError, match="not a readable response cache"):
        ask(server, prompting.build_prompts(located()[:1], truth_lines()), tmp_path / "c.sqlite")


KILLED = """
import sys
sys.path.insert(0, {here!r})
import test_generate as t
from lskd_nb.teacher import prompts as prompting
t.ask({url!r}, prompting.build_prompts(t.located(), t.truth_lines()), {cache!r}, concurrency=4)
"""


def test_killed_sampling_asks_for_nothing_twice(tmp_path):
    prompts = prompting.build_prompts(located(), truth_lines())
    cache = tmp_path / "c.sqlite"
    with serving(delay=0.5) as url:
        here = os.path.dirname(__file__)
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED.format(here=here, url=url, cache=str(cache))]
        )
        while stats(url)["completions"] < 20:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = sqlite3.connect(cache).execute("SELECT count(*) FROM replies").fetchone()[0]
        assert 0 < kept < len(prompts)
        rows, _, report = ask(url, prompts, cache, concurrency=4)
        asked = stats(url)
    assert report.cached == kept and report.requests == len(prompts) - kept
    assert asked["completions"] <= len(prompts) + 4  # only what was under way when it died
    assert {r["triple_id"].rsplit("-", 1)[0] for r in rows} <= {
        f"{p.image_id}-{p.family}" for p in prompts
    }


def test_real_photographs_get_valid_triples_too(server, tmp_path):
    image = LocatedImage(
        "2",
        "2.jpg",
        800,
        600,
        (Region(0, (0, 0, 9, 9), "man"), Region(3, (9, 9, 40, 40), "clock")),
        "visual_genome",
        "train",
    )
    lines = [
        dict(image_id="2", kind="local", verbalizer="dataset", region=r, question=None, text=t)
        for r, t in ((0, "man wearing gray shoes"), (3, "the clock is green in colour"))
    ]
    rows, rejects, _ = ask(
        server, prompting.build_prompts([image], lines), tmp_path / "c.sqlite", temperature=0.0
    )
    assert rows and not rejects and {i for r in rows for i in r["regions"]} <= {0, 3}


def test_replies_are_stored_together_or_not_at_all(tmp_path):
    cache = reply_cache.ResponseCache(tmp_path / "c.sqlite")
    with pytest.raises(TypeError):
        cache.put_all([("a", {}), ("b", {"no": {"json"}})])
    assert cache.get("a") is None
    cache.put_all([("a", {}), ("b", {})])
    assert cache.get("a") == cache.get("b") == {}


def test_identical_requests_are_sent_once_and_answer_every_prompt(server, tmp_path):
    one, other = prompting.build_prompts(located()[:1], truth_lines(), ("id",))[0], located()[0]
    twin = prompting.Prompt("twin", one.family, one.offered, one.messages, one.name)
    before = stats(server)["completions"]
    rows, _, report = ask(server, [one, twin], tmp_path / "c.sqlite", seed=123, temperature=0.0)
    assert stats(server)["completions"] == before + 1 and report.requests == 1
    assert {r["image_id"] for r in rows} == {other.image_id, "twin"} and len(rows) == 6


def test_the_line_tells_how_far_it_is():
    report = generate.TeacherReport(
        requests=300,
        cached=50,
        failed=20,
        not_sent=30,
        rejects={"a": 7, "b": 1},
        usd=1.234,
        seconds=60.0,
    )
    assert (
        generate.progress_line(report, 2000)
        == "400 of 2,000 done · 8 rejects · 320 requests/min · 1.23 USD spent · 5 min left"
    )
    assert (
        generate.progress_line(report, 400)
        == "400 of 400 done · 8 rejects · 320 requests/min · 1.23 USD spent"
    )
    assert generate.progress_line(generate.TeacherReport(), 5).endswith("time left unknown")
    assert generate.progress_line(generate.TeacherReport(requests=1, seconds=1.0), 10**5).endswith(
        "27.8 h left"
    )
    assert generate.progress_line(generate.TeacherReport(in_batches=3), 5).endswith("3 in batches")


def test_progress_is_told_while_it_goes(tmp_path):
    told = []
    with serving(delay=0.2) as url:
        settings = generate.TeacherSettings(url, NAME, concurrency=8)
        generate.generate_triples(
            prompting.build_prompts(located(), truth_lines()),
            settings,
            tmp_path / "c.sqlite",
            lambda r, n: told.append((r.requests, n)),
        )
    assert len(told) >= 3 and told == sorted(told) and told[-1] == (60, 60)


def test_an_interrupt_ends_the_asking(tmp_path):
    cache = tmp_path / "c.sqlite"
    with serving(delay=1.0) as url:
        script = KILLED.format(here=os.path.dirname(__file__), url=url, cache=str(cache))
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # a job in the background is started deaf to it
        while stats(url)["completions"] < 8:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=1800) != 0
        asked = stats(url)["completions"]
        time.sleep(0.5)
        assert stats(url)["completions"] <= asked + 4 < 60


def test_modes_that_there_are_not():
    with pytest.raises(ValueError, match="no mode 'later' of asking; there are async, batch"):
        generate.TeacherSettings("http://localhost", NAME, mode="later")
