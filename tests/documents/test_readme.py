"""The README: short, its figures those that were measured, its tree the package's."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from lskd_nb.publishing.figures import BLOCK, PAGES, loose_figures, read_records, renewed
from lskd_nb.publishing.renderings import draw_scaling, look_up
from lskd_nb.run_folder import find_root
from lskd_nb.viewing import plots
from lskd_nb.viewing.alt_text import alt_of
from lskd_nb.viewing.plots import COLUMNS, PAPER
from lskd_nb.viewing.result_table import FITTED

ROOT = find_root()
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "notebooks" / "guide" / "results.md").read_text(encoding="utf-8")
PLACES = COLUMNS | FITTED | {"grounding accuracy": "grounding.{}"}  # where a column's figures are
SYSTEMS = {
    "mini CLIP (a verbalizer)": "clip",
    "mini BLIP-2": "base",
    "mini + unfiltered triples, same number": "unfiltered",
    "**mini + LSKD**": "lskd",
}


def test_a_stranger_reads_it_in_five_minutes():
    assert len(README.encode()) <= 12_000 and len(README.split()) <= 1_800
    assert re.findall(r"^## (.+)$", README, re.MULTILINE)[-2:] == ["Licence", "Versions"]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().removesuffix("|").removeprefix("|").split("|")]


def figure(metrics: dict, place: str) -> str:
    mean, low, high = (100 * look_up(metrics, f"{place}.{end}") for end in ("mean", "low", "high"))
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"


@pytest.mark.parametrize("text, least", [(README, 5), (RESULTS, 7)], ids=["README", "guide"])
def test_the_table_of_results_is_what_was_measured_and_what_the_paper_says(text, least):
    metrics = json.loads((ROOT / "outputs" / "mini" / "metrics.json").read_text(encoding="utf-8"))
    block = dict(BLOCK.findall(text))["results"]
    table = [line for line in block.splitlines() if line.startswith("|")]
    head, rows = cells(table[0])[1:], [cells(line) for line in table[2:]]
    assert len(rows) >= least and {"VCR Q→A", "QA→R", "Q→AR", "grounding accuracy"} <= {*head}
    for name, *shown in rows:
        if name in SYSTEMS:
            expected = [figure(metrics, PLACES[column].format(SYSTEMS[name])) for column in head]
        else:
            paper = dict(zip(COLUMNS, PAPER[name.removeprefix("paper: ")], strict=True))
            expected = [str(paper.get(column, "")) for column in head]
        assert shown == expected, name
    assert f"{len(metrics['seeds'])} seeds" in text


def test_what_is_said_of_differences_and_sizes_is_what_was_measured():
    metrics = json.loads((ROOT / "outputs" / "mini" / "metrics.json").read_text(encoding="utf-8"))
    for other in ("base", "unfiltered"):
        found = f"minus {other} {figure(metrics, f'difference.vcr.q_ar.lskd_minus_{other}')}"
        assert found in README and found in RESULTS
    for point in metrics["scaling"]:
        assert f"{point['triples']:,} triples {figure(point, 'q_ar')}" in RESULTS
        assert f"with {point['triples']:,} triples" in README  # in the words of the plot
    for name in ("raw", "kept"):
        assert figure(metrics, f"acceptability.{name}") in RESULTS


@pytest.mark.parametrize("page", PAGES)
def test_every_figure_is_of_the_file_it_comes_from(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert text == renewed(page, text, read_records(ROOT)), "make figures"


PROSE = ["README.md", "notebooks/glossary.md"]
PROSE += sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("notebooks/guide/*.md"))


@pytest.mark.parametrize("page", PROSE)
def test_no_figure_stands_where_it_can_go_stale(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert loose_figures(text) == [], "put it into a block: PAGES in lskd_nb.publishing.figures"
    assert page in PAGES or not BLOCK.search(text)


def test_the_plot_shows_what_was_measured_and_has_its_words(tmp_path):
    metrics = json.loads((ROOT / "outputs" / "mini" / "metrics.json").read_text(encoding="utf-8"))
    figure = plots.scaling_curve(metrics["scaling"], look_up(metrics, "vcr.base.q_ar"))
    assert f"![{alt_of(figure)}](outputs/mini/scaling.png)" in README
    with (
        Image.open(draw_scaling(metrics, tmp_path / "drawn.png")) as drawn,
        Image.open(ROOT / "outputs" / "mini" / "scaling.png") as shown,
    ):
        assert drawn.size == shown.size
        apart = np.abs(np.subtract(drawn.convert("L"), shown.convert("L"), dtype=float))
        assert (apart > 64).mean() < 0.003  # but for the smoothing of letters and lines


def test_the_series_lists_every_notebook():
    table = README.split("## The series")[1].split("\n## ")[0]
    listed = re.findall(r"\((notebooks/\w+\.ipynb)\)", table)
    there = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "notebooks").glob("*.ipynb"))
    assert listed == there


def test_the_tree_lists_every_wing_and_names_the_module_to_read_first():
    tree = README.split("## What is where")[1].split("\n## ")[0]
    wings = re.findall(r"^ {6}(\w+)/ .*→ ([\w/]+\.py)$", tree, re.MULTILINE)
    there = {p.parent.name for p in (ROOT / "lskd_nb").glob("*/__init__.py")}
    assert {wing for wing, _ in wings} == there
    assert [w for w, first in wings if not (ROOT / "lskd_nb" / w / first).exists()] == []
    ground = set(re.findall(r"^ {6}(\w+\.py) ", tree, re.MULTILINE))
    assert ground == {p.name for p in (ROOT / "lskd_nb").glob("*.py")} - {"__init__.py"}


def test_the_project_speaks_of_itself_alone():
    told = [
        p
        for folder in ("lskd_nb", "notebooks", "params", "tests")
        for p in (ROOT / folder).rglob("*")
        if p.suffix in (".py", ".ipynb", ".yaml", ".md", ".txt")
    ]
    assert len(told) > 80
    assert not [
        p
        for p in (ROOT / "README.md", *told)
        if re.search(r"/work/(main|shared)", p.read_text(encoding="utf-8"))
        and p.name != "test_readme.py"
    ]
