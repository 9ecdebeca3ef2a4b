"""``lskd check``: what a profile lacks is found before anything is spent."""

import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow.parquet as pq
import pytest
import yaml

from lskd_nb.records import LABELS, write_parquet
from lskd_nb.runner.readiness import DATA, check, report

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def project(tmp_path, root):
    """The notebooks, the paper's parameters and nothing else."""
    shutil.copytree(root / "notebooks", tmp_path / "notebooks")
    shutil.copytree(root / "params" / "a100", tmp_path / "params" / "a100")
    return tmp_path


def with_parameters(project, notebook, **changes):
    path = project / "params" / "a100" / f"{notebook}.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


def local_models(project):
    """Parameters that name a folder in place of every model of the hub."""
    folder = project / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    for path in (project / "params" / "a100").glob("*.yaml"):
        given = yaml.safe_load(path.read_text())
        names = {
            k: "model"
            for k in (
                "base",
                "clip",
                "captioner",
                "region_captioner",
                "question_generator",
                "vqa",
                "student",
            )
            if k in given
        }
        path.write_text(
            yaml.safe_dump(given | names | ({"baselines": []} if "baselines" in given else {}))
        )
    return folder


def by_subject(findings):
    return {f.subject: f for f in findings}


def test_the_mini_profile_lacks_nothing(root):
    found = check("mini", root)
    assert [f for f in found if f.ok is False] == []
    assert by_subject(found)["03 base, 05 base, 06 base"].ok


def test_data_sets_are_missed_file_by_file(project, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    local_models(project)
    folder = project / "data" / "visual_genome"
    for name in DATA["visual_genome"]:
        (folder / name).mkdir(parents=True)
    found = by_subject(check("a100", project))
    assert found["01 visual_genome"].ok
    (folder / "objects.json").rmdir()
    found = by_subject(check("a100", project))
    assert not found["01 visual_genome"].ok and found["01 visual_genome"].detail.endswith(
        "lacks objects.json"
    )
    assert "train.jsonl, val.jsonl, vcr1images" in found["06 vcr_folder"].detail
    assert not found["02 key"].ok
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    told = by_subject(check("a100", project))["02 key"]
    assert told.ok and "sk-secret" not in str(told)


def test_the_sets_of_captioners_lie_below_their_image_root(project):
    local_models(project)
    data = project / "data"
    for name in (
        "visual_genome/VG_100K",
        "visual_genome/VG_100K_2",
        "sherlock",
        "images/VG_100K",
        "images/VG_100K_2",
        "images/vcr1images",
        "refcocog",
    ):
        (data / name).mkdir(parents=True)
    files = (
        "visual_genome/image_data.json",
        "visual_genome/objects.json",
        "visual_genome/region_descriptions.json",
        "sherlock/sherlock_train_v1_1.json",
        "refcocog/instances.json",
        "refcocog/refs(umd).p",
    )
    for name in files:
        (data / name).touch()
    found = by_subject(check("a100", project))
    assert all(
        found[f"01b {name}"].ok
        for name in ("visual_genome", "sherlock_clues", "sherlock_images", "refcocog")
    )
    assert found["01b refcoco+"].detail == f"{data / 'refcoco+'} lacks instances.json, refs(unc).p"
    assert found["01b RefCOCO's images"].detail == f"{data} lacks train2014"
    assert "01b narratives" not in found, "none are asked for"
    assert not found["01 visual_genome"].ok, "notebook 01 reads the questions and answers as well"

    with_parameters(
        project, "01b_region_captioner", narratives="narratives", sherlock_clues="", refcoco_sets={}
    )
    (data / "narratives").mkdir()
    found = by_subject(check("a100", project))
    assert found["01b narratives"].detail == f"{data / 'narratives'} lacks *.jsonl"
    assert (
        not {"01b sherlock_clues", "01b sherlock_images", "01b refcocog", "01b RefCOCO's images"}
        & found.keys()
    )
    (data / "narratives" / "coco_train_captions.jsonl").touch()
    assert by_subject(check("a100", project))["01b narratives"].ok


def test_what_the_teacher_costs_must_be_known(project):
    local_models(project)
    found = by_subject(check("a100", project))
    assert (
        found["02 price"].ok
        and "gpt-3.5-turbo: 0.5 USD per million tokens of input" in found["02 price"].detail
    )
    assert (
        "at most 400,000 requests and 500.00 USD to https://api.openai.com/v1"
        in found["02 budget"].detail
    )
    with_parameters(project, "02_prompting", model="gpt-99", budget_usd=0.0, budget_requests=0)
    found = by_subject(check("a100", project))
    assert (
        found["02 price"].ok is False
        and "no price for the model 'gpt-99'" in found["02 price"].detail
    )
    assert found["02 budget"].detail.startswith("NO LIMIT on requests")


def test_labels_must_be_a_table_with_the_columns_of_labels(project):
    local_models(project)
    path = project / "data" / "critic_labels.parquet"
    assert by_subject(check("a100", project))["03 labels_file"].detail == f"{path} is not there"
    write_parquet(
        [dict(triple_id="t", annotator="a", accept=True, qa_score=1.0, rationale_score=0.5)],
        path,
        LABELS,
    )
    assert by_subject(check("a100", project))["03 labels_file"].detail == f"{path}, 1 labels"
    pq.write_table(pq.read_table(path).drop(["accept"]), path)
    assert (
        by_subject(check("a100", project))["03 labels_file"].detail
        == f"{path} lacks the columns accept"
    )
    path.write_bytes(b"PAR1 and then something else")
    assert not by_subject(check("a100", project))["03 labels_file"].ok


def test_a_model_folder_must_hold_a_model(project):
    folder = local_models(project)
    (folder / "model.safetensors").unlink()
    bad = next(f for f in check("a100", project) if "05 base" in f.subject)
    assert not bad.ok and bad.detail.endswith("lacks config.json or *.safetensors")
    with_parameters(project, "01_verbalization", narrator="outputs/runs/a100/narrator")
    with_parameters(
        project,
        "08_generative_students",
        language_model="models/vicuna-13b",
        projection="models/pretrained_minigpt4.pth",
    )
    found = by_subject(check("a100", project))
    assert found["01 narrator"].detail.startswith("outputs/runs/a100/narrator is not there")
    assert found["08 projection"].detail.startswith("models/pretrained_minigpt4.pth is not there")
    assert "08 student" in next(s for s in found if "05 base" in s), (
        "each model is told once, with all who load it"
    )
    assert found["08 language_model"].ok is False
    (project / "models" / "vicuna-13b").mkdir(parents=True)
    (project / "models" / "pretrained_minigpt4.pth").write_bytes(b"x")
    found = by_subject(check("a100", project))
    assert found["08 language_model"].detail.endswith(
        "vicuna-13b lacks config.json or *.safetensors"
    )
    assert found["08 projection"].ok
    with_parameters(project, "05_distillation", base="models/deep/student.pth")
    bad = by_subject(check("a100", project))["05 base"]
    assert not bad.ok and bad.detail.startswith("models/deep/student.pth is not there")


def test_disk_grows_with_the_images(project):
    local_models(project)
    needed = []
    for limit in (1_000, 10_000_000):
        with_parameters(project, "01_verbalization", limit=limit)
        needed.append(by_subject(check("a100", project))["disk"])
    assert needed[0].ok and "1,000 images" in needed[0].detail
    assert "10,000,000 images" in needed[1].detail and "about 120 GB" in needed[1].detail


def test_parameters_that_do_not_fit_are_found_first(project):
    with_parameters(project, "05_distillation", stepps=3)
    local_models(project)
    found = check("a100", project)
    assert found[0].ok is False and "did you mean 'steps'?" in found[0].detail
    assert "missing" in report(found)[-1]


def test_the_command_asks_the_hub_for_sizes_and_fails_while_something_is_missing(
    project, lskd, tmp_path
):
    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.split("?")[0].removeprefix("/api/models/")
            known = name == "Salesforce/blip2-itm-vit-g"
            files = [
                dict(rfilename="model.safetensors", size=4_700_000_000),
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
    home = dict(
        HF_HOME=str(tmp_path / "cache"), HF_ENDPOINT=f"http://127.0.0.1:{server.server_port}"
    )
    done = lskd(project, "check", "a100", **home)
    server.shutdown()
    assert done.returncode == 1
    assert "Salesforce/blip2-itm-vit-g, to be downloaded: 4.7 GB" in done.stdout
    assert "google/flan-t5-xl is not in the cache, and the hub did not give it" in done.stdout
    assert "things are missing" in done.stdout.splitlines()[-1]
    assert (
        "google/flan-t5-xl is not in the cache"
        in lskd(project, "check", "a100", **home | {"HF_ENDPOINT": NOWHERE}).stdout
    )
