"""Runs of tiny notebooks: chosen, skipped, run again, and stopped where something fails."""

import json
from dataclasses import replace

import nbformat
import pytest

from lskd_nb.publishing import renderings
from lskd_nb.run_folder import RunError
from lskd_nb.runner import manifest
from lskd_nb.runner.parameters import (
    choose,
    parse_overrides,
    profile_parameters,
    read_notebook,
    read_notebooks,
)
from lskd_nb.runner.run import run_profile

KEY = "sk-not-to-be-written"
COPY = (
    'from pathlib import Path\nhome = Path(run_dir)\n_ = (home / "b.txt").write_text((home /'
    ' "a.txt").read_text() + str(seed))'
)


# ---------------------------------------------------------------------------------- which notebooks


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


def test_a_profile_runs_skips_and_reruns(run_tiny, tiny, tmp_path, monkeypatch):
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
    run_tiny(tmp_path, said.append)
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
        hashes = manifest.Hashes(run)
        return manifest.is_current(told, stage, hashes, manifest.fingerprint(stage, hashes))

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
        run_tiny(tmp_path, lines.append, overrides=["01.word=z"])
        assert [
            line.split()[1] for line in lines if "nothing it reads has changed" not in line
        ] == expected
        assert (run / "b.txt").read_text() == "z0" and (run / "metrics.json").exists()


def test_a_run_closes_with_what_it_took(tmp_path):
    pooled = tmp_path / "none.json"

    def closing(**metrics) -> str:
        (tmp_path / "metrics.json").write_text(json.dumps(metrics))
        return "\n".join(renderings.result_lines(tmp_path, pooled))

    seconds = {"01_a": 10.2, "02_b": 20.1}
    used = {"01_a": 15.0, "02_b": 25.4, "runner": 1.2}
    assert (
        "2 notebooks took 30 s, and of the processor 42 s, 1 s of it the runner's own"
        in closing(seconds=seconds, cpu_seconds=used).splitlines()
    )
    del used["01_a"]  # executed when nobody measured that
    assert (
        "2 notebooks took 30 s; their processor time is not known, as 01_a ran before it was"
        in closing(seconds=seconds, cpu_seconds=used).splitlines()
    )
    assert "took" not in closing()


def test_a_processor_is_known_by_name_and_cores(monkeypatch):
    known = manifest.processor()
    assert known["model"] and known["cores"] >= 1 and known["avx512"] in (True, False, None)

    def told(text: str | None) -> dict:
        def read_text(*_, **__):
            if text is None:
                raise FileNotFoundError
            return text

        monkeypatch.setattr(manifest.Path, "read_text", read_text)
        return manifest.processor()

    for flags, wide in (("fpu sse avx2", False), ("fpu avx2 avx512f avx512bw", True)):
        text = f"processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t\t: {flags}\n\n"
        assert told(text * 2) == known | {"model": "Some CPU @ 2 GHz", "avx512": wide}
    elsewhere = told(None)  # no Linux
    assert elsewhere["model"] and elsewhere["avx512"] is None


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


def test_what_later_notebooks_lack_is_said_at_the_start_and_stops_them_then(
    tiny, tmp_path, run_tiny
):
    """Named in `tiny`'s parameters; each notebook that starts is looked at once more."""
    tiny("01_first", "1")
    tiny("02_second", "1", parameters='run_dir: str = "."\nclip: str = ""', profile={"clip": "m"})
    said: list[str] = []
    with pytest.raises(RunError) as stopped:
        run_tiny(tmp_path, said.append)
    assert said[0].startswith("before 02 you will need: m is not there, and is no name of the hub")
    assert said[1].startswith("[1/2] 01_first … ") and "cells" in said[1]
    assert str(stopped.value).startswith(
        "FAILED 02_second: not started, it needs what is not there:\n  02 clip: m is not there"
    )
    (tmp_path / "m").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "m" / name).write_text("{}")
    said.clear()
    run_tiny(tmp_path, said.append)
    assert "nothing it reads has changed" in said[0] and "[2/2] 02_second" in said[1]


def test_a_run_has_the_notebooks_that_its_profile_has_files_for(tiny, tmp_path, run_tiny):
    tiny("01_first", "1")
    other = tiny("02_second", "1")
    (tmp_path / "params" / "other").mkdir()
    (tmp_path / "params" / "tiny" / f"{other.stem}.yaml").rename(
        tmp_path / "params" / "other" / f"{other.stem}.yaml"
    )
    assert list(run_tiny(tmp_path)["notebooks"]) == ["01_first"]
    with pytest.raises(RunError, match="the profile 'tiny' has no parameters for 02_second"):
        run_tiny(tmp_path, only=["02"])
    with pytest.raises(RunError, match="nobody with a file; profiles: other, tiny"):
        run_profile("nobody", tmp_path, tmp_path / "run")
