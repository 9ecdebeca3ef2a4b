"""Runs in folders of any name, and of notebooks that are linked from elsewhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lskd_nb
from lskd_nb.runner.execution import literal, shortened
from lskd_nb.runner.run import run_profile

WRITE = (
    "from pathlib import Path\nimport lskd_nb\nfrom lskd_nb.run_folder import find_root\n"
    "home = Path(run_dir)\n"
    '_ = (home / "a.txt").write_text(f"{find_root()}\\n{lskd_nb.__file__}\\n{Path.cwd()}")'
)
COPY = '_ = (Path(run_dir) / "b.txt").write_text((Path(run_dir) / "a.txt").read_text())'
ODD = "{0} {x} [ab] 50%s ü"


@pytest.fixture
def series(tiny):
    tiny("01_write", WRITE, writes=["a.txt"])
    tiny("02_copy", "from pathlib import Path", COPY, reads=["a.*"], writes=["b.txt"])


def test_folders_may_have_any_name(series, tmp_path):
    """Braces are parameters to papermill, brackets patterns to a search for files."""
    root = tmp_path / f"root {ODD}"
    root.mkdir()
    for part in ("notebooks", "params"):
        (tmp_path / part).rename(root / part)
    run = root / "runs" / ODD
    run_profile("tiny", root, run)
    assert (run / "b.txt").read_text().splitlines()[::2] == [str(root)] * 2
    assert sorted(p.name for p in (run / "notebooks").iterdir()) == [
        "01_write.ipynb",
        "02_copy.ipynb",
    ]
    said: list[str] = []
    run_profile("tiny", root, run, say=said.append)
    assert ["nothing it reads has changed" in line for line in said] == [True, True]
    (run / "a.more").touch()
    run_profile("tiny", root, run, say=said.append)
    assert "(cells 4/4)" in said[-1], "a further file fits the pattern, in a folder with brackets"


def test_notebooks_may_be_linked_from_a_root_that_lacks_the_package(series, tmp_path):
    """As a dress rehearsal has it: the real notebooks, parameters and data of its own. The package
    is the one that runs them, even if it is importable only from where the command was given.
    """
    rehearsal, package = tmp_path / "rehearsal", Path(lskd_nb.__file__).parent
    rehearsal.mkdir()
    (tmp_path / "params").rename(rehearsal / "params")
    (rehearsal / "notebooks").symlink_to(tmp_path / "notebooks")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-m", "lskd_nb.cli", "run", "tiny", "--only=01", f"--out={tmp_path}/out"],
        env=environment | {"LSKD_ROOT": str(rehearsal)},
        cwd=package.parent,
        capture_output=True,
        text=True,
        timeout=600,
    )
    # no figures were measured, which is all the command has to say against it
    told = (tmp_path / "out" / "a.txt").read_text().splitlines()
    assert told == [str(rehearsal), str(package / "__init__.py"), str(rehearsal)], done.stderr
    entry = json.loads((tmp_path / "out" / "manifest.json").read_text())["notebooks"]["01_write"]
    assert entry["status"] == "done"


def test_run_profile_tells_its_root_to_the_notebooks(series, tmp_path, monkeypatch):
    monkeypatch.delenv("LSKD_ROOT", raising=False)
    run_profile("tiny", tmp_path, tmp_path / "run", only=["01"])
    assert (tmp_path / "run" / "a.txt").read_text().splitlines()[0] == str(tmp_path)


def test_a_literal_path_has_no_parameters():
    assert literal("runs/{0}/{x}").format(x=1) == "runs/{0}/{x}"


def test_what_a_server_said_is_not_buried_in_its_reply():
    short = "HTTP 400: 'response_format' of type 'json_schema' is not supported"
    assert shortened(short) == short
    noise = json.dumps({f"key {n}": "x" * 40 for n in range(30)})
    reply = json.dumps({"trace": noise, "error": {"code": 7, "message": short}, "more": noise})
    for text in (f"refused: {reply}", f"refused: {json.loads(reply)}"):
        told = shortened(text)
        assert told.startswith("refused: {") and short in told and len(told) < 900
    assert shortened(f"{noise}\nthe last\nwords").endswith("the last words")
