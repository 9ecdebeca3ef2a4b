"""The run of a tiny profile, and a project that has the notebooks and the paper's parameters."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from lskd_nb.runner.findings import Finding
from lskd_nb.runner.readiness import check
from lskd_nb.runner.run import run_profile


@pytest.fixture(scope="session")
def run_tiny() -> Callable:
    def make(tmp_path, say=lambda line: None, **options):
        return run_profile("tiny", tmp_path, tmp_path / "run", say=say, **options)

    return make


@dataclass(frozen=True)
class Project:
    """A root with notebooks and the profile a100, whose parameters may be changed."""

    root: Path

    def change(self, notebook: str, **changes) -> None:
        path = self.root / "params" / "a100" / f"{notebook}.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))

    def local_models(self) -> Path:
        """Name a folder in place of every model of the hub."""
        folder = self.root / "model"
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"")
        names = ("base", "clip", "captioner", "region_captioner", "question_generator", "vqa")
        for path in (self.root / "params" / "a100").glob("*.yaml"):
            given = yaml.safe_load(path.read_text())
            told = {k: "model" for k in (*names, "student", "toxicity_model") if k in given}
            none = {"baselines": []} if "baselines" in given else {}
            path.write_text(yaml.safe_dump(given | told | none))
        return folder

    def found(self) -> dict[str, Finding]:
        numbers = [p.name.split("_")[0] for p in self.root.glob("notebooks/[0-9]*.ipynb")]
        return {f.subject: f for f in check("a100", self.root, only=numbers)}


@pytest.fixture
def project(tmp_path, root) -> Project:
    """The notebooks, the paper's parameters and nothing else."""
    for part in ("notebooks", "params/a100"):
        shutil.copytree(root / part, tmp_path / part)
    return Project(tmp_path)
