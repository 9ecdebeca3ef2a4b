"""The README names files, notebooks and tests: they are there."""

import json
import re
import sys
from pathlib import Path

from lskd_nb.run_folder import find_root

ROOT = find_root()
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", README)
    assert len(links) > 20
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_every_row_of_the_systems_names_tests_that_exist():
    section = README.split("## Models, data sets, benchmarks")[1].split("\n## ")[0]
    rows = [
        line
        for line in section.splitlines()
        if line.startswith("| ") and not re.match(r"\| (data set|model|benchmark) \|", line)
    ]
    assert len(rows) >= 34
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        files = [ROOT / f for f in re.findall(r"\((tests/\w+\.py)\)", row)]
        assert named and files, f"no test: {row}"
        written = "".join(f.read_text(encoding="utf-8") for f in files)
        assert [t for t in named if f"def {t}(" not in written] == [], row
        assert [
            m for m in re.findall(r"`([\w/]+\.py)`", row) if not (ROOT / "lskd_nb" / m).exists()
        ] == [], row


def test_the_tree_lists_every_module():
    tree = README.split("## What is where")[1].split("## ")[0]
    modules = {p.name for p in (ROOT / "lskd_nb").glob("*.py")} - {"__init__.py"}
    assert {m for m in modules if not re.search(rf"(?<![\w]){re.escape(m)}", tree)} == set()


def test_the_table_of_benchmarks_is_what_was_measured():
    told = json.loads((ROOT / "outputs" / "benchmarks.json").read_text(encoding="utf-8"))
    sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))
    try:
        from run import PARTS, table
    finally:
        sys.path.pop(0)
    shown = README.split("<!-- benchmarks -->")[1].split("<!-- /benchmarks -->")[0]
    assert (
        table(told["rows"]) in shown
        and [row["cpu"] for row in told["rows"] if row["cpu"] not in shown] == []
    )
    assert {row["part"] for row in told["rows"]} == set(PARTS)


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
        for p in map(Path, told)
        if re.search(r"/work/(main|shared)", p.read_text(encoding="utf-8"))
        and p.name != "test_readme.py"
    ]
