"""``lskd check``: what a profile lacks is found before anything is spent."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lskd_nb.rehearsal.server import KEY, serving
from lskd_nb.runner.data_wanted import SOURCES
from lskd_nb.runner.findings import report
from lskd_nb.runner.readiness import check

NOWHERE = "http://127.0.0.1:9"


def test_the_mini_profile_lacks_nothing(root):
    found = check("mini", root)
    assert [f for f in found if f.ok is False] == []
    assert next(f for f in found if "05 base" in f.subject).ok


def test_what_the_teacher_costs_must_be_known(project):
    project.local_models()
    model = dict(base_url="https://api.openai.com/v1", model="gpt-6-luna")
    project.change("02_prompting", budget_usd=500.0, budget_requests=400_000, **model)
    found = project.found()
    assert (
        found["02 price"].ok
        and "gpt-6-luna: 0.1 USD per million tokens of input" in found["02 price"].detail
    )
    assert (
        "at most 400,000 requests and 500.00 USD to https://api.openai.com/v1"
        in found["02 budget"].detail
    )
    project.change("08_generative_students", **model)
    assert "08 price" not in project.found(), "it asks the same"
    project.change("08_generative_students", base_url="https://llm.example.org/v1", model="mine")
    told = project.found()
    assert told["08 price"].ok is None and "no price is known for mine" in told["08 price"].detail
    assert "08 key" in told and "08 budget" not in told
    project.change("02_prompting", model="gpt-99", budget_usd=0.0, budget_requests=0)
    found = project.found()
    assert (
        found["02 price"].ok is None and "no price is known for gpt-99" in found["02 price"].detail
    )
    assert found["02 budget"].detail.startswith("NO LIMIT on requests")


def test_a_model_that_is_gone_is_refused_and_its_successor_named(project):
    project.local_models()
    url = "https://api.openai.com/v1"
    project.change("02_prompting", base_url=url, model="gpt-3.5-turbo", budget_usd=5.0)
    gone = project.found()["02 price"]
    assert gone.ok is False and "gone since 2026-10-23: set 02.model to 'gpt-4.1-mini'" in str(gone)
    project.change("02_prompting", base_url=url, model="made-up", prices="p.yaml")
    prices = "date: x\nbatch_discount: 0\nmodels: {made-up: {input: 1, output: 1, max_output: 1"
    (project.root / "p.yaml").write_text(f"{prices}, shutdown: '2999-01-01', instead: other}}}}")
    later = project.found()["02 price"]
    assert later.ok and "OpenAI has it until 2999-01-01, and recommends other then" in later.detail


def test_the_server_is_asked_what_it_takes(project, monkeypatch):
    """One that wants max_completion_tokens and no temperature, and one that is not there."""
    project.local_models()
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving() as url:
        project.change("02_prompting", base_url=url, model="gpt-5-mini")
        found = project.found()["02 server"]
        project.change("02_prompting", base_url=url, model="gpt-9")
        wrong = project.found()["02 server"]
    assert found.ok and "takes: json_schema, max_completion_tokens, seed" in found.detail
    assert wrong.ok is False and "it has the models 'gpt-4.1'" in wrong.detail
    project.change("02_prompting", base_url=f"{NOWHERE}/v1", model="m")
    assert "can't be reached" in project.found()["02 server"].detail


def test_a_key_is_missed_and_never_shown(project, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    project.local_models()
    assert not project.found()["02 key"].ok
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    told = project.found()["02 key"]
    assert told.ok and "sk-secret" not in str(told)


def test_a_model_folder_must_hold_a_model(project):
    folder = project.local_models()
    (folder / "model.safetensors").unlink()
    bad = next(f for s, f in project.found().items() if "05 base" in s)
    assert not bad.ok and bad.detail.endswith("lacks config.json or *.safetensors")
    project.change("01_verbalization", narrator="outputs/runs/a100/narrator")
    project.change(
        "08_generative_students",
        language_model="models/vicuna-13b",
        projection="models/pretrained_minigpt4.pth",
    )
    found = project.found()
    assert found["01 narrator"].detail.startswith("outputs/runs/a100/narrator is not there")
    assert found["08 projection"].detail.startswith("models/pretrained_minigpt4.pth is not there")
    assert "08 student" in next(s for s in found if "05 base" in s), (
        "each model is told once, with all who load it"
    )
    assert found["08 language_model"].ok is False
    place = project.root / "models" / "vicuna-13b"
    assert f"{place} is not there either" in found["08 language_model"].detail
    place.mkdir(parents=True)
    (project.root / "models" / "pretrained_minigpt4.pth").write_bytes(b"x")
    found = project.found()
    assert found["08 language_model"].detail.endswith(
        "vicuna-13b lacks config.json or *.safetensors"
    )
    assert found["08 projection"].ok
    project.change("05_distillation", base="models/deep/student.pth")
    bad = project.found()["05 base"]
    assert not bad.ok and bad.detail.startswith("models/deep/student.pth is not there")


def test_parameters_that_do_not_fit_are_found_first(project):
    project.change("05_distillation", stepps=3)
    project.change("04_filtering", keep=20)
    project.local_models()
    (project.root / "notebooks" / "99_mine.ipynb").touch()
    found = check("a100", project.root)
    assert [f.ok for f in found[:3]] == [None, False, False]
    assert found[0].detail.startswith("passed over") and "99_mine.ipynb" in found[0].detail
    assert "04_filtering.keep must be above 0 and no more than 1" in found[1].detail
    assert "did you mean 'steps'?" in found[2].detail
    assert "missing" in report(found)[-1]


def test_what_is_missing_is_told_by_the_notebook_that_needs_it_first(project, lskd):
    """And only for those that are to run."""
    project.local_models()
    lines = lskd(project.root, "check", "a100", "-p", "02.base_url=").stdout.splitlines()
    heads = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert heads == ["for the run:", "to start 01:", "before 03:", "before 06:"]
    start = lines.index("to start 01:")
    assert lines[start + 1].startswith("  MISSING 01 sources.")
    assert " to start 01, " in lines[-1] and "before 06" in lines[-1]
    done = lskd(project.root, "check", "a100", "--only", "04", "--only", "08", "-p", "08.base_url=")
    assert "sources" not in done.stdout and "08 student" in done.stdout
    later = lskd(project.root, "check", "a100", "--from", "03", "-p", "03.base=x/y.pth").stdout
    assert "to start 03:" in later and "01 clip" not in later and "x/y.pth is not there" in later


@pytest.fixture
def hub():
    """A hub that knows one model, and takes its time."""

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            time.sleep(0.5)
            name = self.path.split("?")[0].removeprefix("/api/models/")
            known = name == "org/vit-g"
            files = [
                dict(rfilename="model.safetensors", size=4_700_000_000),
                dict(rfilename="pytorch_model.bin", size=4_700_000_000),
                dict(rfilename="README.md", size=5),
            ]
            body = json.dumps(
                dict(id=name, siblings=files) if known else dict(error="Repository not found")
            ).encode()
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_the_command_asks_the_hub_for_sizes_and_fails_while_something_is_missing(
    project, lskd, tmp_path, hub
):
    for notebook in ("03_critic_training", "05_distillation", "06_evaluation"):
        project.change(notebook, base="org/vit-g")
    project.change("01_verbalization", question_generator="org/unknown")
    home = dict(HF_HOME=str(tmp_path / "cache"), HF_ENDPOINT=hub, HF_HUB_CACHE="")
    done = lskd(project.root, "check", "a100", **home)
    assert done.returncode == 1
    assert "org/vit-g, to be downloaded: 4.7 GB" in done.stdout
    assert "org/unknown is not in the cache, and the hub did not give it" in done.stdout
    assert "4.7 GB for 1 models to be downloaded" in done.stdout, "one of its two formats is"
    note = next(x for x in done.stdout.splitlines() if x.startswith("  note    downloads"))
    assert "org/unknown" in note and "org/vit-g" not in note and "not counted" in note
    assert "things are missing" in done.stdout.splitlines()[-1]
    assert (
        "org/unknown is not in the cache"
        in lskd(project.root, "check", "a100", **home | {"HF_ENDPOINT": NOWHERE}).stdout
    )


def test_data_sets_are_missed_file_by_file(project):
    project.local_models()
    folder = project.root / "data" / "visual_genome"
    annotations, pictures = SOURCES["visual_genome"]
    for name in (*annotations, *pictures):
        (folder / name).mkdir(parents=True)
    assert project.found()["01 sources.visual_genome"].ok
    project.change("01_verbalization", human_texts=True)
    told = project.found()["01 sources.visual_genome"]
    assert told.detail.endswith("lacks region_descriptions.json, question_answers.json")
    project.change("01_verbalization", human_texts=False)
    (folder / "objects.json").rmdir()
    found = project.found()
    told = found["01 sources.visual_genome"]
    assert not told.ok and told.detail.endswith("lacks objects.json")
    assert "train.jsonl, val.jsonl, vcr1images" in found["06 vcr_folder"].detail
    assert "07 vcr_folder" not in found, "it is the same folder"
