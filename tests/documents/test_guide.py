"""The guide: each page for somebody who wants something; what it lists is there, and whole."""

import json
import re
import sys
from runpy import run_path

import pytest

from lskd_nb.run_folder import find_root

ROOT = find_root()
GUIDE = ROOT / "notebooks" / "guide"
PAGES = sorted(GUIDE.glob("*.md"))


def page(name: str) -> str:
    return (GUIDE / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_opens_with_what_the_reader_wants(path):
    title, empty, opening = path.read_text(encoding="utf-8").split("\n")[:3]
    assert title.startswith("# ") and not empty and opening.startswith("You want to ")
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("## Where to go on")[1]
    assert f"(notebooks/guide/{path.name})" in table.split("\n## ")[0]


def test_every_row_of_the_systems_names_tests_that_exist():
    lines = page("systems-and-tests.md").splitlines()
    heads = ("| data set |", "| model |", "| benchmark |")
    rows = [line for line in lines if line.startswith("| ") and not line.startswith(heads)]
    assert len(rows) >= 34
    for row in rows:
        groups = re.findall(r"\]\(\.\./\.\./(tests/[\w/]+(?:\.py)?)\)([^\[]*)", row)
        assert groups, f"no test: {row}"
        for place, named in groups:
            at = ROOT / place
            files = [at] if at.is_file() else sorted(at.rglob("test_*.py"))
            written = "".join(f.read_text(encoding="utf-8") for f in files)
            names = re.findall(r"`(test_\w+)`", named)
            assert names and [t for t in names if f"def {t}(" not in written] == [], (place, row)


def test_tests_named_elsewhere_exist():
    written = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "tests").rglob("test_*.py"))
    named = {t for p in PAGES for t in re.findall(r"`(test_\w+)`", p.read_text(encoding="utf-8"))}
    assert len(named) > 40 and [t for t in named if f"def {t}(" not in written] == []


def test_the_house_lists_every_module_under_its_wing():
    package = ROOT / "lskd_nb"
    there = {
        p.relative_to(package).as_posix() for p in package.rglob("*.py") if p.name != "__init__.py"
    }
    text = page("the-house.md").split("## What was called otherwise")[0]
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert len(sections) == 1 + len(list(package.glob("*/__init__.py")))
    listed = []
    for section in sections:
        wing, rows = section.split("\n")[0], re.findall(r"^\| `([\w/]+\.py)`", section, re.M)
        listed += rows
        if wing != "Ground floor":
            assert {row.split("/")[0] for row in rows} == {wing}
            assert re.search(rf"Read `({wing}/[\w/]+\.py)` first", section)[1] in rows
    assert sorted(listed) == sorted(there)


def test_the_house_and_the_readme_begin_each_wing_with_the_same_module():
    tree = (ROOT / "README.md").read_text(encoding="utf-8").split("## What is where")[1]
    first = {f"{w}/{m}" for w, m in re.findall(r"^ {6}(\w+)/ .*→ ([\w/]+\.py)$", tree, re.M)}
    assert first == set(re.findall(r"Read `([\w/]+\.py)` first", page("the-house.md")))


def test_the_record_of_benchmarks_has_every_part_and_each_row_its_machine(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "tests" / "benchmarks"), *sys.path])
    parts = run_path(str(ROOT / "tests" / "benchmarks" / "run.py"))["PARTS"]
    rows = json.loads((ROOT / "outputs" / "benchmarks.json").read_text(encoding="utf-8"))["rows"]
    assert {row["part"] for row in rows} == set(parts)
    wanted = {"cpu", "cores", "avx512", "gpu", "torch", "date"}
    assert [row["what"] for row in rows if wanted - row.keys() or not row["cpu"]] == []
    shown = page("speed.md")
    assert [row["what"] for row in rows if f"| {row['what']}" not in shown] == []
    assert [row["cpu"] for row in rows if row["cpu"] not in shown] == []
