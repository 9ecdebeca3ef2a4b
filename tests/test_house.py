"""The house as it is told: imports go one way, tests lie as the package does, and files stay
short.
"""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRACTS = [contract["name"] for contract in PROJECT["tool"]["importlinter"]["contracts"]]
PACKAGE, TESTS = ROOT / "lskd_nb", ROOT / "tests"
WINGS = {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
OTHERS = {"notebooks", "documents", "benchmarks"}  # test folders of what is no wing
TEST_LINES, MODULE_LINES = 400, 450


def contracts(folder: Path) -> subprocess.CompletedProcess:
    """Check the contracts of a folder's pyproject.toml on the package that lies beside it."""
    command = "from importlinter.cli import lint_imports_command as c; c()"
    return subprocess.run(
        [
            sys.executable,
            "-P",
            "-c",
            f"import sys; sys.path.insert(0, '.'); {command}",
            "--no-cache",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def too_long(folder: Path, limit: int) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}: {number} lines"
        for path in sorted(folder.rglob("*.py"))
        if (number := lines(path)) > limit
    ]


def test_imports_go_one_way():
    done = contracts(ROOT)
    assert done.returncode == 0 and " 0 broken" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    "module, forbidden, broken",
    [
        ("students/blip2.py", "lskd_nb.runner.manifest", "the house, from the roof down"),
        ("teacher/parsing.py", "lskd_nb.teacher.generate", "no circles"),
        ("corpus/build.py", "lskd_nb.mini.annotator", "the method never uses the mini world"),
        ("mini/annotator.py", "lskd_nb.runner.run", "the mini world uses what is below"),
        ("students/qformer.py", "lskd_nb.students.loading", "loading knows the networks"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path, module, forbidden, broken):
    shutil.copytree(
        PACKAGE, tmp_path / "lskd_nb", ignore=shutil.ignore_patterns("__pycache__", "weights")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with open(tmp_path / "lskd_nb" / module, "a") as file:
        file.write(f"\nimport {forbidden}\n")
    done = contracts(tmp_path)
    told = " ".join(done.stdout.split())
    name = next(name for name in CONTRACTS if name.startswith(broken))
    assert done.returncode == 1 and f"{name} BROKEN" in told, done.stdout + done.stderr


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_ruff_finds_nothing(command):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_tests_lie_as_the_package_does():
    folders = {p.parent.name for p in TESTS.glob("*/*.py")}
    assert folders - OTHERS <= WINGS, "a test folder has the name of a wing"
    assert folders >= WINGS, "every wing has its tests"


def test_files_are_short():
    assert too_long(TESTS, TEST_LINES) == []
    assert too_long(PACKAGE, MODULE_LINES) == []
