"""The runner, on notebooks of a few lines: what it refuses, skips, reruns, ends, and says."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import nbformat
import psutil
import pytest

from lskd_nb.cli import main
from lskd_nb.publishing import renderings
from lskd_nb.run_folder import RunError
from lskd_nb.runner import manifest
from lskd_nb.runner.execution import MARK
from lskd_nb.runner.parameters import (
    checked,
    parse_overrides,
    profile_parameters,
    read_notebook,
    read_notebooks,
)
from lskd_nb.runner.run import choose, run_profile

KEY = "sk-not-to-be-written"
COPY = (
    'from pathlib import Path\nhome = Path(run_dir)\n_ = (home / "b.txt").write_text((home /'
    ' "a.txt").read_text() + str(seed))'
)
DECLARED = (
    "run_dir: str = ''\nsteps: int = 320  # a comment\nlr: float = 1e-3\nshares: list = [1.0,"
    " 0.5]\nfast: bool = False\nfree = None"
)


def profile_of(tmp_path, say=lambda line: None, **options):
    return run_profile("tiny", tmp_path, tmp_path / "run", say=say, **options)


# --------------------------------------------------------------------------------------- parameters


def test_parameters_cell_is_read_without_running_it(tiny):
    notebook = read_notebook(tiny("03_learn", parameters=DECLARED))
    assert notebook.defaults == dict(
        run_dir="", steps=320, lr=1e-3, shares=[1.0, 0.5], fast=False, free=None
    )


@pytest.mark.parametrize(
    "given, says",
    [
        ({"stesp": 3}, "03_learn has no parameter 'stesp'; did you mean 'steps'?"),
        ({"q": 3}, "03_learn has no parameter 'q'; it has run_dir, steps"),
        ({"steps": "many"}, "03_learn.steps must be int, like 320, not 'many'"),
        ({"steps": 3.5}, "03_learn.steps must be int"),
        ({"steps": True}, "03_learn.steps must be int"),
        ({"steps": None}, "03_learn.steps must be int"),
        (
            {"lr": "1e-5"},
            (
                "03_learn.lr must be float, like 0.001, not '1e-5' (YAML wants a point in it, like"
                " 1.0e-5)"
            ),
        ),
        ({"run_dir": "https://me:secret@host/v1"}, "03_learn.run_dir holds a password"),
    ],
)
def test_a_parameter_that_does_not_fit_is_refused(tiny, given, says):
    notebook = read_notebook(tiny("03_learn", parameters=DECLARED))
    with pytest.raises(RunError) as refused:
        checked(notebook, given, "here")
    assert str(refused.value).startswith(f"here: {says}")
    assert "secret" not in str(refused.value)


def test_what_fits_is_taken(tiny):
    notebook = read_notebook(tiny("03_learn", parameters=DECLARED))
    assert checked(notebook, {"lr": 1, "free": "x", "shares": []}, "") == {
        "lr": 1.0,
        "free": "x",
        "shares": [],
    }
    options = [
        "3.lr=1e-4",
        "03.steps=5",
        "03_learn.run_dir=3",
        "03.fast=true",
        "03.shares=[0.1, 1]",
        "03.free=1e3=x",
    ]
    assert parse_overrides(options, [notebook]) == {
        "03_learn": dict(lr=1e-4, steps=5, run_dir="3", fast=True, shares=[0.1, 1], free="1e3=x")
    }


@pytest.mark.parametrize("option", ["03steps=4", "04.steps=4", "03.steps"])
def test_an_override_of_another_form_is_refused(tiny, option):
    with pytest.raises(RunError, match="expected NN.key=value with NN one of 03"):
        parse_overrides([option], [read_notebook(tiny("03_learn", parameters=DECLARED))])


@pytest.mark.parametrize(
    "source", ["steps: int = 3 * 4", "import os", "steps: int", "steps =", "a.b = 3"]
)
def test_a_parameters_cell_holds_literals_only(tiny, source):
    with pytest.raises(RunError, match="line 1 of the parameters cell must be"):
        read_notebook(tiny("03_learn", parameters=source))


def test_damaged_files_are_named(tiny, tmp_path):
    path = tiny("03_learn")
    notebook = read_notebook(path)
    told = tmp_path / "params" / "tiny" / "03_learn.yaml"
    told.write_text("steps: [")
    with pytest.raises(RunError, match="03_learn.yaml is not valid YAML"):
        profile_parameters(tmp_path, "tiny", notebook)
    told.write_text("- 3")
    with pytest.raises(RunError, match="03_learn.yaml must be a mapping"):
        profile_parameters(tmp_path, "tiny", notebook)
    with pytest.raises(
        RunError, match="the profile 'huge' has no parameters for 03_learn; profiles: tiny"
    ):
        profile_parameters(tmp_path, "huge", notebook)
    path.write_text("{")
    with pytest.raises(RunError, match="03_learn.ipynb is not a notebook"):
        read_notebook(path)


def test_metadata_may_only_name_declared_parameters(tiny):
    with pytest.raises(RunError, match="names 'param:base', but it declares only run_dir, seed"):
        read_notebook(tiny("03_learn", reads=["param:base"]))


def test_notebooks_are_chosen_by_number_or_name(tiny):
    notebooks = [read_notebook(tiny(name)) for name in ("00_one", "01_two", "02_three")]
    assert [n.name for n in choose(notebooks, [], None)] == ["00_one", "01_two", "02_three"]
    assert [n.name for n in choose(notebooks, [], "1")] == ["01_two", "02_three"]
    assert [n.name for n in choose(notebooks, ["02", "00_one"], None)] == ["00_one", "02_three"]
    with pytest.raises(RunError, match="there is no notebook '7'"):
        choose(notebooks, ["7"], None)


def test_optional_notebooks_are_chosen_only_where_they_are_named(tiny):
    path = tiny("01b_more")
    book = nbformat.read(path, as_version=4)
    book.metadata["lskd"]["optional"] = True
    nbformat.write(book, path)
    notebooks = [
        read_notebook(tiny("01_two")),
        read_notebook(path),
        read_notebook(tiny("02_three")),
        replace(read_notebook(tiny("08_last")), optional=True),
    ]
    assert [n.optional for n in notebooks] == [False, True, False, True]
    assert [n.name for n in choose(notebooks, [], None)] == ["01_two", "02_three"]
    assert [n.name for n in choose(notebooks, [], "02")] == ["02_three"]
    assert [n.name for n in choose(notebooks, ["08", "1b"], None)] == ["01b_more", "08_last"]
    assert [n.name for n in choose(notebooks, ["01b_more", "01"], None)] == ["01_two", "01b_more"]


def test_a_number_with_a_letter_is_another_notebooks(tiny, tmp_path):
    """01b is neither 01 nor 1, and its turn is after 01."""
    plain, lettered = read_notebook(tiny("01_two")), read_notebook(tiny("01b_more"))
    assert [n.number for n in read_notebooks(tmp_path)] == ["01", "01b"]
    assert [lettered.is_called(name) for name in ("01b", "1b", "01b_more", "1", "01", "b")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    assert [plain.is_called(name) for name in ("01", "1", "1b", "01b")] == [
        True,
        True,
        False,
        False,
    ]
    assert parse_overrides(["1b.seed=3", "01.seed=4"], [plain, lettered]) == {
        "01b_more": {"seed": 3},
        "01_two": {"seed": 4},
    }


# ------------------------------------------------------------------------------------------ running


def test_a_profile_runs_skips_and_reruns(tiny, tmp_path, monkeypatch):
    """One run looked at from all sides, since every kernel takes seconds to start."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    first = (
        'import json, os\nfrom pathlib import Path\nassert os.environ["OPENAI_API_KEY"]\nhome ='
        ' Path(run_dir)\n_ = (home / "a.txt").write_text(word)\n_ = (home /'
        ' "01_write.metrics.json").write_text(json.dumps({"critic": {"auc": 0.9}, "vcr": {"base":'
        " 1}}))"
    )
    tiny(
        "01_write",
        first,
        parameters='run_dir: str = ""\nword: str = "x"',
        writes=["a.txt"],
        profile={"word": "y"},
    )
    tiny(
        "02_copy",
        COPY,
        'import json\n_ = (home / "02_copy.metrics.json").write_text(json.dumps({"vcr": {"lskd":'
        " 2}}))",
        reads=["a.*"],
        writes=["b.txt"],
    )
    run, said = tmp_path / "run", []
    profile_of(tmp_path, said.append)
    assert (
        said[0].startswith("[1/2] 01_write … ")
        and said[0].endswith(" s (cells 3/3)")
        and len(said) == 2
    )  # one of them injected
    assert (run / "b.txt").read_text() == "y0"
    assert renderings.look_up(json.loads((run / "metrics.json").read_text()), "vcr") == {
        "base": 1,
        "lskd": 2,
    }

    told = json.loads((run / "manifest.json").read_text())
    entry = told["notebooks"]["02_copy"]
    assert (
        told["packages"]["papermill"]
        and told["python"]
        and told["cpus"]
        and told["profile"] == "tiny"
    )
    assert (
        entry["status"] == "done"
        and entry["seed"] == 0
        and entry["seconds"] > 0
        and entry["peak_gib"] > 0
    )
    assert len(entry["inputs"]["a.*"]) == len(entry["outputs"]["b.txt"]) == 64
    files = [p for p in run.rglob("*") if p.is_file()]
    assert not any(KEY.encode() in p.read_bytes() for p in files)
    assert not [p for p in files if p.suffix == ".tmp" or ".running" in p.name]

    def is_current(number: str, **changed) -> bool:
        notebook = next(n for n in read_notebooks(tmp_path) if n.number == number)
        stage = manifest.Stage(
            notebook,
            profile_parameters(tmp_path, "tiny", notebook) | {"run_dir": str(run)} | changed,
            run,
            tmp_path,
        )
        return manifest.is_current(told, stage, manifest.Hashes(run))

    assert is_current("01") and is_current("02")
    assert not is_current("01", word="z") and not is_current("02", seed=3)
    for path in (run / "a.txt", run / "b.txt", run / "01_write.metrics.json"):
        kept = path.read_text()
        path.write_text("1")
        assert (is_current("01"), is_current("02")) == (
            path.name == "b.txt",
            path.name == "01_write.metrics.json",
        )
        path.write_text(kept)
    (run / "a.other").touch()
    assert not is_current("02"), "a further file fits the pattern that it reads"
    (run / "a.other").unlink()
    (run / "notebooks" / "01_write.ipynb").rename(run / "kept")
    assert not is_current("01")
    (run / "kept").rename(run / "notebooks" / "01_write.ipynb")
    tiny("02_copy", COPY, reads=["a.*"], writes=["b.txt"])
    assert is_current("01") and not is_current("02"), "its source has changed"

    for expected in (["01_write", "02_copy"], []):
        lines: list[str] = []
        profile_of(tmp_path, lines.append, overrides=["01.word=z"])
        assert [
            line.split()[1] for line in lines if "nothing it reads has changed" not in line
        ] == expected
        assert (run / "b.txt").read_text() == "z0" and (run / "metrics.json").exists()


def test_a_failing_cell_is_named_in_the_last_line(tiny, tmp_path, lskd):
    tiny("01_fail", "x = 1", "# of a comment\nprint(undefined)", "y = 2")
    done = lskd(tmp_path, "run", "tiny")
    assert done.returncode == 1 and done.stdout == ""
    assert (
        done.stderr.splitlines()[-1]
        == "FAILED 01_fail, cell [4] (code: # of a comment): NameError: name 'undefined' is not"
        " defined"
    )
    run = tmp_path / "outputs" / "runs" / "tiny"
    executed = nbformat.read(run / "notebooks" / "01_fail.ipynb", as_version=4)
    assert any(o.output_type == "error" for c in executed.cells for o in c.get("outputs", []))
    assert (
        json.loads((run / "manifest.json").read_text())["notebooks"]["01_fail"]["status"]
        == "failed"
    )
    assert not (run / "metrics.json").exists()


def test_nothing_runs_with_a_wrong_parameter_further_on(tiny, tmp_path, lskd):
    tiny("01_good", "1")
    tiny("02_bad", "1", profile={"sede": 1})
    done = lskd(tmp_path, "run", "tiny")
    assert done.returncode == 1 and not (tmp_path / "outputs").exists()
    assert "02_bad.yaml: 02_bad has no parameter 'sede'; did you mean 'seed'?" in done.stderr


# ------------------------------------------------------------------------------------------- ending


SLEEPER = (
    "import subprocess, sys, time\nhelper = subprocess.Popen([sys.executable, '-c', 'import time;"
    " time.sleep(300)'])"
)


def executing(run_dir) -> list[psutil.Process]:
    """The processes that execute a notebook for ``run_dir``: papermill, the kernel and what it
    started.
    """
    found = []
    for process in psutil.process_iter():
        try:
            if (
                process.environ().get(MARK) == str(run_dir)
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for(condition, seconds: float = 60):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
    return found


def test_a_time_limit_ends_the_notebook_and_all_it_started(tiny, tmp_path):
    tiny("01_sleep", SLEEPER, "time.sleep(300)")
    begin = time.monotonic()
    with pytest.raises(RunError) as failed:
        profile_of(tmp_path, limits=(15, 100))
    assert str(failed.value).endswith(
        "FAILED 01_sleep, cell [4] (code: time.sleep(300)): TimeoutError: it took longer than its"
        " 15 s"
    )
    assert time.monotonic() - begin < 25
    assert executing(tmp_path / "run") == []


def test_a_run_that_is_out_of_time_starts_nothing_more(tiny, tmp_path):
    tiny("01_one", "1")
    with pytest.raises(RunError, match="FAILED 01_one: not started, the run has used up its 0 s"):
        profile_of(tmp_path, limits=(10, 1e-9))


def test_a_kernel_that_dies_is_reported(tiny, tmp_path):
    tiny("01_die", "import os\nos.kill(os.getpid(), 9)")
    with pytest.raises(
        RunError, match=r"FAILED 01_die, cell \[3\] \(code: import os\): DeadKernelError"
    ):
        profile_of(tmp_path)


def test_a_killed_run_leaves_nothing_running_and_goes_on(tiny, tmp_path):
    """SIGKILL of the runner ends its kernels; the next run keeps what was finished and runs the
    rest.
    """
    tiny(
        "01_write",
        'from pathlib import Path\n_ = (Path(run_dir) / "a.txt").write_text("x")',
        writes=["a.txt"],
    )
    wait = (
        'from pathlib import Path\nwhile not (Path(run_dir) / "go").exists():\n    time.sleep(0.1)'
    )
    tiny("02_copy", SLEEPER, wait, COPY, "helper.kill()", reads=["a.txt"], writes=["b.txt"])
    run = tmp_path / "run"
    command = [sys.executable, "-m", "lskd_nb.cli", "run", "tiny", "--out", str(run)]
    runner = subprocess.Popen(
        command,
        env=os.environ | {"LSKD_ROOT": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: len(executing(run)) == 3 and (run / "a.txt").exists())
        with pytest.raises(RunError, match="another run is writing to"):
            profile_of(tmp_path)
        assert len(executing(run)) == 3
    finally:
        os.killpg(runner.pid, signal.SIGKILL)
        runner.wait()
    wait_for(lambda: executing(run) == [], 10)
    entries = json.loads((run / "manifest.json").read_text())["notebooks"]
    assert (entries["01_write"]["status"], entries["02_copy"]["status"]) == ("done", "running")

    (run / "go").touch()
    leftover = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(300)"], env=os.environ | {MARK: str(run)}
    )
    said: list[str] = []
    profile_of(tmp_path, said.append)
    assert "nothing it reads has changed" in said[0] and "cells" in said[1]
    assert (run / "b.txt").read_text() == "x0"
    leftover.wait(5)  # what a killed run left running is ended before anything else


# ------------------------------------------------------------------------------------------ results


def test_the_result_table_and_renderings(tiny, tmp_path, lskd):
    figure = dict(mean=0.5, low=0.4, high=0.625)
    metrics = {
        "vcr": {"base": {"q_a": figure}},
        "critic": {"auc": 0.91},
        "scaling": [{"triples": 300, "q_ar": figure}],
    }
    tiny(
        "01_measure",
        "from pathlib import Path\n_ = (Path(run_dir) /"
        f" '01_measure.metrics.json').write_text('''{json.dumps(metrics)}''')",
        "print(run_dir)",
    )
    pooled = tmp_path / "outputs" / "tiny" / "metrics.json"
    pooled.parent.mkdir(parents=True)
    pooled.write_text(json.dumps({"critic": {"auc": 0.88}, "seeds": [0, 1, 2]}))
    done = lskd(tmp_path, "run", "tiny")
    assert done.returncode == 0, done.stderr
    lines = {line[:28].strip(): line[28:].split() for line in done.stdout.splitlines()}
    assert lines["VCR Q→A, base"] == ["50.0", "[40.0,", "62.5]", "–"]
    assert lines["critic AUC"] == ["0.910", "0.880"]
    assert lines["VCR Q→AR, 300 triples"] == ["50.0", "[40.0,", "62.5]", "–"]
    assert (
        "pooled, 3 seeds" in done.stdout
        and str(tmp_path / "outputs/runs/tiny/notebooks") in done.stdout
    )

    assert lskd(tmp_path, "renderings", "tiny").returncode == 0
    book = nbformat.read(pooled.parent / "01_measure.ipynb", as_version=4)
    assert (
        book.cells[-1].outputs[0].text.strip() == "outputs/runs/tiny"
        and "papermill" not in book.metadata
    )
    assert str(tmp_path) not in (pooled.parent / "01_measure.ipynb").read_text()
    assert json.loads(pooled.read_text())["critic"]["auc"] == 0.88, "pooled figures are kept"

    tiny("01_measure", "print(run_dir)")
    moved = lskd(tmp_path, "renderings", "tiny")
    assert moved.returncode == 1 and "01_measure changed since" in moved.stderr


def test_replication_pools_seeds(tiny, tmp_path):
    from lskd_nb.runner.replication import replicate

    tiny(
        "02_world",
        'from pathlib import Path\n_ = (Path(run_dir) / "a.txt").write_text("x")',
        writes=["a.txt"],
    )
    tiny(
        "06_evaluate",
        "import json\nfrom pathlib import Path\nimport pyarrow as pa\nfrom lskd_nb import records",
        "home = Path(run_dir)\nrows = [dict(item_id=str(i), image_id=str(i // 2), task='vcr.q_ar',"
        " system=s, seed=seed, scores=[0, 1], label=1,\n             correct=float(s == 'lskd' and"
        " seed > 0), slice=(home / 'a.txt').read_text()) for i in range(8) for s in ('base',"
        " 'lskd')]\nrecords.write_parquet(rows, home / 'predictions' / 'all.parquet',"
        " records.PREDICTIONS)\ntold = dict(critic=dict(auc=0.8 + seed / 10),"
        " scaling=[dict(triples=9, system='lskd', q_ar={})])\n_ = (home /"
        " '06_evaluate.metrics.json').write_text(json.dumps(told))",
        reads=["a.txt"],
        writes=["predictions"],
    )
    said: list[str] = []
    out = replicate("tiny", tmp_path, 2, say=said.append)
    pooled = json.loads(out.read_text())
    assert out == tmp_path / "outputs" / "tiny" / "metrics.json"
    assert (
        pooled["vcr"]["lskd"]["q_ar"]["mean"] == 0.5
        and pooled["difference"]["vcr"]["q_ar"]["lskd_minus_base"]["n"] == 16
    )
    assert pooled["critic"]["auc"] == pytest.approx(0.85) and pooled["seeds"] == [0, 1]
    assert (tmp_path / "outputs/runs/tiny-seed1/a.txt").is_symlink()

    again: list[str] = []
    replicate("tiny", tmp_path, 2, say=again.append)
    assert sum("nothing it reads has changed" in line for line in again) == 3


def test_help_tells_of_all_commands(capsys):
    with pytest.raises(SystemExit):
        main(["-h"])
    told = capsys.readouterr().out
    assert all(command in told for command in ("run", "replicate", "renderings", "mini"))
    with pytest.raises(SystemExit):
        main(["mini"])
