"""What README, guide and glossary refer to is there: links and places of pages, modules, files,
commands, targets of make.
"""

import pkgutil
import re
import shlex
from pathlib import Path

import pytest

from lskd_nb.cli import _parser
from lskd_nb.run_folder import find_root
from lskd_nb.runner.parameters import parse_overrides, read_notebooks

ROOT = find_root()
PAGES = [
    ROOT / "README.md",
    ROOT / "notebooks" / "glossary.md",
    *sorted((ROOT / "notebooks" / "guide").glob("*.md")),
]
PARAMETERS = [ROOT / "Makefile", ROOT / "environment.yml", *sorted(ROOT.glob("params/*/*.yaml"))]
CODE = re.compile(r"^ {4}(\S.*)$|`([^`\n]+)`", re.MULTILINE)  # a line of a block, or within a line
FILE = re.compile(
    r"(?<![\w./:-])((?:lskd_nb|notebooks|params|tests|outputs/mini)/[\w./-]*|outputs/\w+\.json)"
)


def code(path: Path) -> list[str]:
    """What a page shows as code, without the comments beside it."""
    found = (block or inline for block, inline in CODE.findall(path.read_text(encoding="utf-8")))
    return [part.split("  #")[0].strip() for part in found]


def commands(name: str) -> list[tuple[Path, list[str]]]:
    """The words of each shown call of ``name``, by page, without what is set before it."""
    shown = []
    for path in PAGES:
        for line in code(path):
            words = line.split()
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                words = words[1:]
            if words[:1] == [name]:
                shown.append((path, shlex.split(" ".join(words))[1:]))
    return shown


def places(path: Path) -> set[str]:
    """The names of a page's headings in addresses, down to the second level: a site has no more."""
    heads = re.findall(r"^##? (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    for link in links:
        if "://" in link:
            continue
        target, _, place = link.partition("#")
        there = (path.parent / target).resolve() if target else path
        assert there.exists() and there.is_relative_to(ROOT), link
        assert not place or place in places(there), link


@pytest.mark.parametrize("path", [*PAGES, *PARAMETERS], ids=lambda path: path.name)
def test_names_within_the_package_can_be_imported(path):
    text = path.read_text(encoding="utf-8")
    for name in set(re.findall(r"(?<![\w/])lskd_nb(?:\.\w+)+", text)):
        pkgutil.resolve_name(name)
    for module, names in re.findall(r"from (lskd_nb[\w.]*) import ([\w, ]+)", text):
        for name in names.split(","):
            pkgutil.resolve_name(f"{module}:{name.strip()}")


@pytest.mark.parametrize("path", [*PAGES, *PARAMETERS], ids=lambda path: path.name)
def test_files_that_are_named_are_there(path):
    named = set(FILE.findall(path.read_text(encoding="utf-8")))
    assert [name for name in named if not (ROOT / name.rstrip(".")).exists()] == []
    if path in PAGES:
        modules = {p for p in code(path) if re.fullmatch(r"[\w/]+/\w+\.py", p)}
        assert [
            m for m in modules if not any((r / m).exists() for r in (ROOT, ROOT / "lskd_nb"))
        ] == []


def test_commands_can_be_given():
    parser, notebooks = _parser(), read_notebooks(ROOT)
    known = set(parser._subparsers._group_actions[0].choices)
    shown = commands("lskd")
    assert len(shown) > 25 and {words[0] for _, words in shown if words} == known
    for path, words in shown:
        if len(words) < 2 or any("…" in word for word in words):
            continue  # a command's name alone, or one that the reader completes
        try:
            options = parser.parse_args(words)
        except SystemExit:
            pytest.fail(f"{path.name}: lskd {shlex.join(words)}")
        parse_overrides(getattr(options, "overrides", []), notebooks)
        if (profile := getattr(options, "profile", None)) is not None:
            assert (ROOT / "params" / profile).is_dir(), words


def test_targets_of_make_are_there():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    shown = {
        word for _, words in commands("make") for word in words if not re.match(r"[A-Z_]+=", word)
    }
    assert len(shown) > 8 and shown <= targets
    helped = set(re.findall(r'echo "make (\w+)', makefile))
    assert helped == targets - {"help"}
