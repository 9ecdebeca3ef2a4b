"""The command line is frozen: its help texts as a file, and nothing heavy loaded to show them.

Where a change is meant, renew the file: ``LSKD_RENEW_HELP=1 pytest tests/test_cli.py``.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path

import pytest

from lskd_nb.cli import _parser, main

HELP = Path(__file__).parent / "runner" / "help.txt"
RENEW = "LSKD_RENEW_HELP"
HEAVY = ("torch", "transformers", "ray", "lavis", "matplotlib", "papermill", "openai")


def commands(parser: argparse.ArgumentParser, *path: str) -> Iterator[tuple[str, ...]]:
    """The words that lead to the parser, and to each below it."""
    yield path
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from commands(below, *path, name)


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="argparse of 3.11 laid out the file")
def test_help_texts_are_those_of_the_file(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    found = ""
    for path in commands(_parser()):
        with pytest.raises(SystemExit) as ended:
            main([*path, "--help"])
        assert not ended.value.code
        found += f"$ {' '.join(['lskd', *path, '--help'])}\n{capsys.readouterr().out}\n"
    if os.environ.get(RENEW):
        HELP.write_text(found)
    changed = unified_diff(
        HELP.read_text().splitlines(), found.splitlines(), HELP.name, "lskd", lineterm=""
    )
    shown = "\n".join(changed)
    assert not shown, f"the command line changed; if this is meant: {RENEW}=1 pytest\n{shown}"


def test_nothing_heavy_is_loaded_to_ask_for_help():
    call = f"import sys, lskd_nb.cli; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "mini", "--limit", "0"],
        ["run", "mini", "--run-limit", "nan"],
        ["run", "mini", "--limit", "soon"],
        ["replicate", "mini", "--seeds", "0"],
    ],
)
def test_numbers_out_of_range_are_refused(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert f"argument {arguments[2]}: " in capsys.readouterr().err


def test_help_tells_of_all_commands(capsys):
    with pytest.raises(SystemExit):
        main(["-h"])
    told = capsys.readouterr().out
    assert all(command in told for command in ("run", "replicate", "renderings", "mini"))
    with pytest.raises(SystemExit):
        main(["mini"])
