"""Publishing: what would be sent, what stands against it, and a real upload to a loopback server
that speaks the hub's endpoints.
"""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard, ModelCard

from lskd_nb.corpus.released import read_released
from lskd_nb.critic.model import load_critic
from lskd_nb.publishing import hub
from lskd_nb.publishing.report import report_run, write_report
from lskd_nb.records import CORPUS, REGIONS, read_parquet, write_parquet
from lskd_nb.run_folder import RunError
from lskd_nb.students.loading import load_student

NAMES = {"dataset": "me/data", "student": "me/student", "critic": "me/critic"}
TOKEN = "hf_" + "T0ken" * 7


def test_what_is_staged_is_whole_and_without_paths(against, staged, finished_run):
    files = {r.what: [str(p.relative_to(r.folder)) for p in r.files()] for r in staged}
    assert files["dataset"] == [
        "README.md",
        "corpus.jsonl",
        "data/corpus.parquet",
        "data/regions.parquet",
        "data/scores.parquet",
        "data/triples.parquet",
    ]
    assert "metrics.jsonl" not in files["student"] and {
        "README.md",
        "config.json",
        "model.safetensors",
        "stage1.safetensors",
        "training.json",
    } <= set(files["student"])
    assert "critic_heads.safetensors" in files["critic"]
    dataset, student, critic = (r.folder for r in staged)
    assert (
        read_parquet(dataset / "data/corpus.parquet", CORPUS).num_rows
        == len(list(read_released(dataset / "corpus.jsonl")))
        == 4
    )
    assert json.loads((student / "training.json").read_text()) == dict(steps=3, lr=0.1)
    load_student(str(student)), load_critic(critic)
    assert DatasetCard.load(dataset / "README.md").data.license == "bsd-3-clause"
    assert ModelCard.load(student / "README.md").data.datasets == ["me/data"]
    assert against(staged, finished_run) == []
    assert [line for line in hub.listing(staged) if line.startswith("dataset")] == [
        f"dataset me/data: 6 files, {sum(p.stat().st_size for p in staged[0].files()):,} bytes"
    ]


def test_extra_columns_and_places_of_models_do_not_go_along(finished_run, tmp_path):
    table = pq.read_table(finished_run / "regions.parquet")
    pq.write_table(
        table.append_column("notes", pa.array(["mine"] * table.num_rows)).replace_schema_metadata(
            {"by": "ada"}
        ),
        finished_run / "regions.parquet",
    )
    config = finished_run / "student/lskd/config.json"
    told = json.loads(config.read_text())
    config.write_text(
        json.dumps(
            told
            | {
                "_name_or_path": "/a/b",
                "nested": {"x": [{"tokenizer_file": "/a/t.json", "kept": 1}], "name_or_path": "/a"},
            }
        )
    )
    dataset, student = (
        r.folder
        for r in hub.stage(
            finished_run, tmp_path / "staged", {"dataset": "me/data", "student": "me/student"}
        )
    )
    made = pq.read_schema(dataset / "data/regions.parquet")
    assert made.names == REGIONS.names and not made.metadata
    assert (
        json.loads((student / "config.json").read_text())["nested"] == {"x": [{"kept": 1}]}
        and "_name_or_path" not in (student / "config.json").read_text()
    )


def test_an_old_report_is_made_anew(publish, finished_run, tmp_path):
    write_report(report_run(finished_run), finished_run)
    write_parquet(
        read_parquet(finished_run / "corpus.parquet", CORPUS).slice(1),
        finished_run / "corpus.parquet",
        CORPUS,
    )
    done = publish(Hub())
    assert (
        done.returncode == 0
        and "report.json is not of the corpus that is there now: the report is made anew"
        in done.stdout
    ), done.stderr
    staged = tmp_path / "staged/dataset"
    assert (
        json.loads((staged / "report.json").read_text())["kept"]["triples"] == 3
        and "3 triples about 3 images." in (staged / "README.md").read_text()
    )


def test_what_others_put_beside_what_was_staged_stays(finished_run, tmp_path):
    out, names = tmp_path / "staged", {"dataset": "me/data"}
    hub.stage(finished_run, out, names)
    (out / "dataset/thesis.txt").write_text("x")
    with pytest.raises(RunError, match=r"not staged by lskd publish \(dataset/thesis.txt\)"):
        hub.stage(finished_run, out, names)
    assert (out / "dataset/thesis.txt").read_text() == "x"
    (out / "dataset/thesis.txt").unlink()
    (out / "staged.json").write_text("[]")
    with pytest.raises(RunError, match="staged.json is damaged"):
        hub.stage(finished_run, out, names)


@pytest.mark.parametrize(
    "file, content, why",
    [
        ("student/model.safetensors", None, "not whole"),
        ("dataset/data/scores.parquet", None, "not whole"),
        ("student/config.json", b'{"a": ', "not whole"),
        ("dataset/corpus.jsonl", b'{"a": 1}\n{"a"', "its last line has no end"),
        ("critic/model.safetensors.tmp", b"x", "being written"),
        ("dataset/images/1.jpg", b"x", "images were not asked for"),
    ],
)
def test_what_is_half_written_or_not_asked_for_stands_against_it(
    against, staged, finished_run, file, content, why
):
    path = staged[0].folder.parent / file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(path.read_bytes()[:-30] if content is None else content)
    (found,) = against(staged, finished_run)
    assert found.startswith(file) and why in found


@pytest.mark.parametrize("linked", [False, True])
def test_images_come_along_when_asked_for(linked, against, finished_run, tmp_path):
    if linked:  # VG_100K is a link to where the set was unpacked, as the guide lays out data
        folder = Path((finished_run / "image_root.txt").read_text()) / "VG_100K"
        folder.rename(tmp_path / "unpacked")
        folder.symlink_to(tmp_path / "unpacked")
    staged = hub.stage(finished_run, tmp_path / "staged", {"dataset": "me/data"}, images=True)
    assert sorted(p.name for p in (staged[0].folder / "images/VG_100K").iterdir()) == [
        "2.jpg",
        "3.jpg",
        "4.jpg",
        "5.jpg",
    ]
    assert (
        against(staged, finished_run, images=True) == [] and len(against(staged, finished_run)) == 4
    )


@pytest.mark.parametrize(
    "names, complaint",
    [
        ({}, "nothing to publish"),
        ({"dataset": "data"}, "--dataset is 'data', expected USER/NAME"),
        ({"student": "me/a b"}, "--student: "),
    ],
)
def test_names_the_hub_would_refuse(finished_run, tmp_path, names, complaint):
    with pytest.raises(RunError, match=complaint):
        hub.stage(finished_run, tmp_path / "staged", names)
    assert not (tmp_path / "staged").exists()


def test_unfinished_runs_and_foreign_folders_are_refused(finished_run, tmp_path):
    told = json.loads((finished_run / "manifest.json").read_text())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("x")
    with pytest.raises(RunError, match="holds something that was not staged"):
        hub.stage(finished_run, tmp_path / "mine", NAMES)
    assert (tmp_path / "mine/thesis.txt").exists()
    hub.stage(finished_run, tmp_path / "staged", NAMES)
    (finished_run / "student/lskd/config.json").unlink()
    with pytest.raises(RunError, match="student/lskd has no config.json"):
        hub.stage(finished_run, tmp_path / "staged", NAMES)
    assert (tmp_path / "staged/student/config.json").exists() and not list(
        tmp_path.glob(".staged*")
    )  # what was there before is still whole
    hub.stage(finished_run, tmp_path / "staged", {"critic": "me/critic"})
    assert not (tmp_path / "staged/student").exists()
    told["notebooks"]["05_distillation"]["status"] = "failed"
    (finished_run / "manifest.json").write_text(json.dumps(told))
    with pytest.raises(RunError, match="notebook 05 has not ended well"):
        hub.stage(finished_run, tmp_path / "staged", NAMES)


class Hub(ThreadingHTTPServer):
    """Speaks as much of the hub as an upload needs, and keeps what arrived: files by repository,
    and every request's token.
    """

    def __init__(self, refuse: str = ""):
        super().__init__(("127.0.0.1", 0), _HubHandler)
        self.repositories, self.files, self.tokens, self.refuse = {}, {}, set(), refuse
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _HubHandler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        chunked, body = self.headers.get("Transfer-Encoding") == "chunked", b""
        while chunked and (size := int(self.rfile.readline(), 16)):
            body += self.rfile.read(size)
            self.rfile.readline()
        if not chunked:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.tokens.add(self.headers.get("Authorization"))
        self._reply(*self._answer(self.path.split("?")[0].strip("/").split("/")[1:], body))

    def _answer(self, parts: list[str], body: bytes) -> tuple[int, dict]:
        if parts == ["validate-yaml"]:
            return 200, {"errors": [], "warnings": []}
        if parts == ["repos", "create"]:
            told = json.loads(body)
            name = f"{told['organization']}/{told['name']}"
            if name == self.server.refuse:
                return 403, {"error": "you may not write here"}
            self.server.repositories[name] = told
            kind = "datasets/" if told.get("type") == "dataset" else ""
            return 200, {"url": f"{self.server.address}/{kind}{name}", "name": name, "id": "1"}
        kind, name, what = parts[0], "/".join(parts[1:3]), parts[3]
        if what == "preupload":
            return 200, {
                "files": [
                    dict(path=f["path"], uploadMode="regular", shouldIgnore=False)
                    for f in json.loads(body)["files"]
                ]
            }
        if what == "commit":
            lines = [json.loads(line) for line in body.splitlines() if line]
            held = self.server.files.setdefault(f"{kind}/{name}", {})
            held |= {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            return 200, dict(
                commitUrl=f"{self.server.address}/{name}/commit/{'0' * 40}",
                commitOid="0" * 40,
                success=True,
            )
        return 404, {"error": f"not spoken here: {self.path}"}

    def do_GET(self) -> None:
        self._reply(404, {"error": f"not spoken here: {self.path}"})

    def _reply(self, status: int, told: dict) -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def publish(lskd, root, finished_run, tmp_path):
    """``lskd publish`` of the finished run, against a hub."""

    def call(hub: Hub, *more: str, **environment: str):
        offline = dict(
            HF_ENDPOINT=hub.address,
            HF_HUB_DISABLE_XET="1",
            HF_TOKEN="",
            HF_HOME=str(tmp_path / "hf"),
            OPENAI_API_KEY="",
            NO_PROXY="127.0.0.1",
        )
        named = [f"--{what}={name}" for what, name in NAMES.items()]
        return lskd(
            root,
            "publish",
            "tiny",
            "--run",
            str(finished_run),
            "--out",
            str(tmp_path / "staged"),
            *named,
            *more,
            **offline | environment,
        )

    return call


def test_without_send_nothing_is_sent(publish, tmp_path):
    hub = Hub()
    done = publish(hub, HF_TOKEN=TOKEN)
    assert (
        done.returncode == 0
        and "nothing was sent" in done.stdout
        and TOKEN not in done.stdout + done.stderr
    ), done.stderr
    assert (
        "model me/critic: " in done.stdout
        and "  data/corpus.parquet" in done.stdout
        and "report.json" in done.stdout
    )
    assert not hub.repositories and not hub.tokens


def test_send_uploads_what_was_staged(publish, tmp_path):
    hub = Hub()
    done = publish(hub, "--send", "--private", HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == [
        f"sent: {hub.address}/{p}" for p in ("datasets/me/data", "me/student", "me/critic")
    ]
    assert {n: r["visibility"] for n, r in hub.repositories.items()} == dict.fromkeys(
        NAMES.values(), "private"
    ) and hub.tokens == {f"Bearer {TOKEN}"}
    for what, kind in (("dataset", "datasets"), ("student", "models"), ("critic", "models")):
        folder = tmp_path / "staged" / what
        assert hub.files[f"{kind}/{NAMES[what]}"] == {
            str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()
        }


def test_without_a_token_of_the_environment_nothing_is_sent(staged):
    with pytest.raises(RunError, match="HF_TOKEN is not set in the environment: nothing was sent"):
        hub.send(staged)


def test_a_refusal_and_a_finding_send_nothing_more(publish, finished_run):
    hub = Hub(refuse="me/student")
    done = publish(hub, "--send", HF_TOKEN=TOKEN)
    assert (
        done.returncode == 1
        and "model me/student was not sent" in done.stderr
        and f"sent before: {hub.address}/datasets/me/data" in done.stderr
    )
    assert list(hub.files) == ["datasets/me/data"] and TOKEN not in done.stderr + done.stdout
    clean = Hub()
    rows = read_parquet(finished_run / "corpus.parquet", CORPUS).to_pylist()
    rows[0]["rationale"] = f"[0] holds {TOKEN}."
    write_parquet(rows, finished_run / "corpus.parquet", CORPUS)
    done = publish(clean, "--send", HF_TOKEN=TOKEN)
    assert (
        done.returncode == 1
        and "dataset/corpus.jsonl: holds the value of HF_TOKEN" in done.stderr
        and "dataset/data/corpus.parquet: holds" in done.stderr
    )
    assert not clean.repositories and TOKEN not in done.stderr + done.stdout
