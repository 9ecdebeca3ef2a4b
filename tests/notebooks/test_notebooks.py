"""The notebooks: stored clean, built by one plan, run small for real, and equal to what readers
are shown in outputs/mini/.
"""

import re
from pathlib import Path

import nbformat
import pytest

from lskd_nb.publishing.renderings import LARGEST
from lskd_nb.run_folder import find_root
from lskd_nb.runner.manifest import notebook_source
from lskd_nb.runner.parameters import profile_parameters, read_notebook, read_notebooks

ROOT = find_root()
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SHOWN = ROOT / "outputs" / "mini"
SERIES = {p.stem for p in NOTEBOOKS if not read_notebook(p).optional}
PROFILES = ("smoke", "mini", "a100")
FORBIDDEN = re.compile(r"\bpip3? install\b|^[!%]\s*pip\b|\bsys\.path\b|autoreload", re.MULTILINE)
MARKUP = re.compile(r"<svg.*?</svg>|<[^>]+>", re.DOTALL)  # pictures and tags are no prose
INTERVAL = ("mean", "low", "high")


def by_name(paths) -> dict:
    return dict(argnames="path", argvalues=paths, ids=[p.stem for p in paths])


def cells(path: Path, tag: str) -> list:
    return [c for c in nbformat.read(path, as_version=4).cells if tag in c.metadata.get("tags", [])]


# ---------------------------------------------------------------------------------------- as stored


@pytest.mark.parametrize(**by_name(NOTEBOOKS))
def test_stored_without_traces_of_a_run(path):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert not {"papermill", "widgets"} & book.metadata.keys()
    for cell in book.cells:
        assert (
            not cell.get("outputs")
            and cell.get("execution_count") is None
            and not {"papermill", "execution"} & cell.metadata.keys()
        )
    assert not cells(path, "injected-parameters")


@pytest.mark.parametrize(**by_name(NOTEBOOKS))
def test_built_by_the_plan(path):
    book = nbformat.read(path, as_version=4)
    code = [c.source for c in book.cells if c.cell_type == "code"]
    prose = sum(len(MARKUP.sub("", c.source)) for c in book.cells if c.cell_type == "markdown")
    assert 18 <= len(book.cells) <= 30
    long = [source for source in code if len(source.splitlines()) > 20]
    (declared,) = cells(path, "parameters")  # a table, a line each
    assert set(long) <= {declared.source} and len(declared.source.splitlines()) <= 34
    assert prose >= sum(map(len, code)), (
        f"{prose:,} characters of prose explain {sum(map(len, code)):,} of code"
    )
    assert not [source for source in code if FORBIDDEN.search(source)]
    assert book.cells[0].cell_type == "markdown" and book.cells[0].source.startswith("# ")
    assert cells(path, "nbval-check-output"), "no cell states facts that nbval can check"


@pytest.mark.parametrize(**by_name(NOTEBOOKS))
def test_says_what_it_reads_and_writes(path):
    told = nbformat.read(path, as_version=4).metadata.get("lskd", {})
    assert told.keys() - {"optional"} == {"reads", "writes"} and all(
        isinstance(entry, str) for entry in told["reads"] + told["writes"]
    )
    read_notebook(path)  # and every param:NAME is declared


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(**by_name(NOTEBOOKS))
def test_profiles_fit(path, profile):
    """Also under plain papermill, which knows no run folder but the one in the file."""
    notebook = read_notebook(path)
    given = profile_parameters(ROOT, profile, notebook)
    if profile == "mini":
        assert {k: notebook.defaults[k] for k in given} == given, (
            "the notebook's own values are those of mini"
        )
        assert notebook.defaults.keys() - given.keys() <= {"run_dir"}
    if "run_dir" in notebook.defaults:
        assert (notebook.defaults | given)["run_dir"] == f"outputs/runs/{profile}"


def test_the_a100_profile_is_the_papers_method():
    """What silently makes another method of it: each of these once was otherwise."""
    given = {n.number: profile_parameters(ROOT, "a100", n) for n in read_notebooks(ROOT)}
    assert given["01"]["human_texts"] is False
    assert given["01"]["sources"].keys() == {"visual_genome", "vcr"}
    assert given["02"]["families"] == ["id", "description", "words"]
    assert given["02"]["model"] != "gpt-3.5-turbo"  # gone since 2026-10-23
    student = given["05"]
    assert student["batch"] == 4 * 64 and student["steps"] == 50_000
    assert student["prefix"] == "question: " and "prefix" not in given["06"]
    assert (student["lm"], student["lm_conditioned"], student["clip_norm"]) == (1.0, 0.0, 0.0)
    assert student["beta2"] == 0.999 and student["base"] == given["06"]["base"]
    assert given["06"]["candidates"] == "" and given["03"]["drawn_at_most"] == 5
    assert not any(values.get("store_views") for values in given.values())


def test_profiles_have_no_other_files():
    known = {f"{path.stem}.yaml" for path in NOTEBOOKS}
    for profile in PROFILES:
        files = {p.name for p in (ROOT / "params" / profile).iterdir()}
        assert files == known or (profile == "own" and files < known)


# ------------------------------------------------------------------------------ as shown to readers


RENDERINGS = sorted(SHOWN.glob("*.ipynb"))


@pytest.mark.parametrize(**by_name(NOTEBOOKS if RENDERINGS else []))
def test_rendering_is_of_this_source(path):
    rendering = SHOWN / path.name
    assert rendering.exists(), "make renderings"
    assert notebook_source(rendering) == notebook_source(path), (
        f"{path.name} has moved on: make mini renderings"
    )


@pytest.mark.parametrize(**by_name(RENDERINGS))
def test_rendering_is_fit_to_read(path):
    assert path.stat().st_size <= LARGEST and (ROOT / "notebooks" / path.name).exists()
    book = nbformat.read(path, as_version=4)
    assert not {"papermill", "widgets"} & book.metadata.keys()
    assert str(ROOT) not in path.read_text(encoding="utf-8")
    ran = [c for c in book.cells if c.cell_type == "code" and c.source.strip()]
    assert all(c.execution_count for c in ran)
    assert not [o for c in ran for o in c.outputs if o.output_type == "error"]
    for cell in cells(path, "nbval-check-output"):
        assert cell.outputs and all(
            o.output_type == "stream" or set(o.data) == {"text/plain"} for o in cell.outputs
        )
