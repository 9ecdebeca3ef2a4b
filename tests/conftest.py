"""Small notebooks to run, and the smoke run that the tests of the real notebooks share."""

import json
import os

# One thread for each process, those that are started here too: the networks of the tests are too
# small for two, which would only wait for each other, and long on a machine that has other work.
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import nbformat
import pytest
import yaml
from PIL import Image

from lskd_nb.records import REGIONS, TRIPLES, write_parquet
from lskd_nb.run_folder import find_root
from lskd_nb.runner.parameters import read_notebooks

ROOT = find_root()
PATIENCE = 1800  # seconds after which something hangs: no outcome depends on how fast a machine is


# Modules whose tests look at the smoke run, and those that walk the rehearsal, have two hosts, walk
# an imported run or somebody's own images: a minute and more each.
OF_THE_SMOKE_RUN = (
    "test_smoke_run.py", "test_labels_by_people.py", "test_browser.py", "test_alt_text.py",
)  # fmt: skip
LONG = (
    *OF_THE_SMOKE_RUN, "test_walk.py", "test_two_hosts.py", "test_imported_run.py",
    "test_own_images.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first."""
    for item in items:
        if "smoke" in getattr(item, "fixturenames", ()):
            assert item.path.name in OF_THE_SMOKE_RUN, f"name {item.path.name} in tests/conftest.py"
    items.sort(key=lambda i: LONG.index(i.path.name) if i.path.name in LONG else len(LONG))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """With several workers (``-n``) each takes whole modules, and one of them takes all that share
    the smoke run.
    """
    from xdist.scheduler import LoadFileScheduling

    class ByModuleOrRun(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module = Path(super()._split_scope(nodeid))
            return "the smoke run" if module.name in OF_THE_SMOKE_RUN else str(module)

    return ByModuleOrRun(config, log)


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder that holds the notebooks under test."""
    return ROOT


@pytest.fixture(scope="session")
def lskd() -> Callable[..., subprocess.CompletedProcess]:
    """Call ``lskd`` on the notebooks under a root, in a process of its own."""

    def call(
        root: Path, *arguments: str, timeout: float = PATIENCE, **environment: str
    ) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "lskd_nb.cli", *arguments],
            env=os.environ | {"LSKD_ROOT": str(root)} | environment,
            cwd=root,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return call


@pytest.fixture(scope="session")
def kill_midway() -> Callable[..., None]:
    """Start a process and kill it with SIGKILL once ``midway`` holds. Where it has ended before the
    kill came, so that all of ``ends_with`` are there, these are deleted and it is started again:
    what follows does not depend on how fast anybody was.
    """

    def kill(start: Callable[[], subprocess.Popen], midway: Callable[[], bool], *ends_with: Path):
        for _ in range(10):
            process, end = start(), time.monotonic() + PATIENCE
            while not midway() and process.poll() is None:
                assert time.monotonic() < end, "waited in vain"
                time.sleep(0.005)
            process.kill()
            assert process.wait() in (0, -signal.SIGKILL), "it failed by itself"
            if not all(path.exists() for path in ends_with):
                return
            for path in ends_with:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise AssertionError("every kill came too late to prove anything")

    return kill


@pytest.fixture
def tiny(tmp_path) -> Callable[..., Path]:
    """Write a notebook NN_name of given code cells under ``tmp_path``, with the parameters file
    of a profile "tiny".
    """

    def write(
        name: str,
        *cells: str,
        parameters: str = 'run_dir: str = "."\nseed: int = 0',
        reads: Sequence[str] = (),
        writes: Sequence[str] = (),
        profile: dict | None = None,
    ) -> Path:
        book = nbformat.v4.new_notebook(
            metadata={
                "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
                "lskd": {"reads": list(reads), "writes": list(writes)},
            }
        )
        declared = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
        book.cells = [
            nbformat.v4.new_markdown_cell(f"# {name}"),
            declared,
            *(nbformat.v4.new_code_cell(c) for c in cells),
        ]
        path = tmp_path / "notebooks" / f"{name}.ipynb"
        told = tmp_path / "params" / "tiny" / f"{name}.yaml"
        for place in (path, told):
            place.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(book, path)
        told.write_text(yaml.safe_dump(profile or {}))
        return path

    return write


@pytest.fixture
def small_run(tmp_path) -> Path:
    """A run's folder with four images of two regions each, and three triples about each: m0-0,
    m0-1, …
    """
    folder = tmp_path / "run"
    (folder / "images").mkdir(parents=True)
    (folder / "image_root.txt").write_text(str(folder / "images"))
    boxes = [
        dict(id=0, box=[2.0, 2.0, 20.0, 28.0], label="dog", score=None),
        dict(id=1, box=[22.0, 3.0, 38.0, 25.0], label="man", score=None),
    ]
    for number in range(4):
        Image.new("RGB", (40, 30), (60 * number, 120, 90)).save(
            folder / "images" / f"m {number}.png"
        )
    write_parquet(
        [
            dict(
                image_id=f"m{n}",
                image=f"m {n}.png",
                width=40,
                height=30,
                source="s",
                split="train",
                regions=boxes,
            )
            for n in range(4)
        ],
        folder / "regions.parquet",
        REGIONS,
    )
    write_parquet(
        [
            dict(
                triple_id=f"m{n}-{k}",
                image_id=f"m{n}",
                family="id",
                question=f"Why is [{k % 2}] <b>here</b>?",
                answer="To rest & play.",
                rationale="[0] is <script>x</script> near [1].",
                regions=[0, 1],
                regions_offered=[0, 1],
                model="w",
                prompt="p",
                request="r",
            )
            for n in range(4)
            for k in range(3)
        ],
        folder / "triples.parquet",
        TRIPLES,
    )
    return folder


@pytest.fixture(scope="session")
def published() -> Callable[[Path, Sequence[dict]], Path]:
    """Write a corpus as its makers publish it, by ``json.dumps`` alone, with its pictures in
    ``images/``: forty rows about eight pictures, each about some of their four regions, and
    ``more``. Returns the file.
    """

    def row(number: int, image: str, at: Sequence[int]) -> dict:
        boxes = {i: [5.5 + 40 * i, 8, 38.25 + 40 * i, 100 + i] for i in range(4)}
        references = [
            dict(name=str(i), boxes=[boxes[i]], segms=None, obj_guess=f"thing_{i}", tag="region")
            for i in at
        ]
        verb = ("hold", "watch", "lift", "guard", "carry")[number % 5]
        told = dict(
            image=image,
            source=f"chatgpt_region_any_v4{('', '_people', '_description')[number % 3]}",
            split="train",
            region=[str(at[0])],
            region_all=list(at),
            references=references,
            question=["Why", "does", [at[0]], verb, "the", "rope", "?"],
            answer=["It", "is", "about", "to", verb, [at[1]], "."],
            rationale=[[at[0]], "leans", "over", ",", "and", [at[1]], "is", "tied", "."],
            prediction=0.8 + number / 250,
        )
        return told | dict(index=f"{told['source']}-{number}")

    def write(folder: Path, more: Sequence[dict] = ()) -> Path:
        names = [f"VG_100K/{n}.jpg" for n in range(4)] + ["VG_100K_2/9.jpg"]
        names += [f"vcr1images/lsmdc_A/{n}.jpg" for n in range(3)]
        for n, name in enumerate(names):
            (path := folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.effect_noise((200, 120), 20 + 5 * n).convert("RGB").save(path)
        offers = ([0, 1], [1, 2, 3], [3, 0], [2, 0, 1], [0, 1, 2, 3])
        rows = [row(n, names[n % 8], offers[n % 5]) for n in range(40)]
        rows += [row(40, names[0], [0, 1]) | told for told in more]
        file = folder / "corpus_1M.jsonl"
        file.write_text("".join(json.dumps(told) + "\n" for told in rows), encoding="utf-8")
        return file

    return write


@pytest.fixture(scope="session")
def smoke(lskd, tmp_path_factory) -> Path:
    """The folder of a finished smoke run of the real notebooks, the optional ones too."""
    run_dir = tmp_path_factory.mktemp("smoke") / "run"
    optional = [f"--only={n.number}" for n in read_notebooks(ROOT) if n.optional]
    for named in ([], optional) if optional else ([],):
        limits = f"--limit={PATIENCE}", f"--run-limit={4 * PATIENCE}"
        command = ("run", "smoke", "--out", str(run_dir), *limits, *named)
        done = lskd(ROOT, *command, timeout=4 * PATIENCE)
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return run_dir


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory) -> Path:
    """A student and a critic of a few thousand random weights, as trainings leave them:
    ``student/lskd``, ``critic``.
    """
    from lskd_nb.critic.model import Critic
    from lskd_nb.mini.pretraining.base import fresh_student

    folder = tmp_path_factory.mktemp("models")
    student = fresh_student(0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32)
    student.save(folder / "student/lskd")
    Critic(student).save(folder / "critic")
    (folder / "student/lskd/metrics.jsonl").write_text("{}\n")
    (folder / "student/lskd/trained_from.json").write_text(
        json.dumps(
            dict(
                student="org/base",
                corpus=str(folder / "corpus.parquet"),
                steps=3,
                lr=0.1,
                backend="hf",
            )
        )
    )
    return folder


@pytest.fixture
def finished_run(tmp_path, tiny_models) -> Path:
    """The folder of a run that has ended: four of six triples kept, figures of every kind, tiny
    models, one image of each triple.
    """
    from PIL import Image

    from lskd_nb import records
    from lskd_nb.corpus import build

    run, interval = tmp_path / "run", dict(mean=0.5, low=0.4, high=0.6, n=10, clusters=5)
    boxes = [
        dict(
            id=i,
            box=[2.0 * i, 3.0, 20.0 + i, 28.0],
            label=("dog", "")[i % 2],
            score=(None, 0.5)[i % 2],
        )
        for i in range(3)
    ]
    images = [
        dict(
            image_id=f"m{n}",
            image=f"VG_100K/{n}.jpg",
            width=40,
            height=30,
            source="visual_genome",
            split="train",
            regions=boxes,
        )
        for n in range(6)
    ]
    triples = [
        dict(
            triple_id=f"t{n}",
            image_id=f"m{n}",
            family=("id", "description")[n % 2],
            question=("Why is [0] here?", "What is the dog [0] doing?")[n % 2],
            answer="To rest.",
            rationale="[1] is near.",
            regions=[0, 1],
            regions_offered=[0, 1],
            model="mini-rule-based-writer",
            prompt="p",
            request="r",
        )
        for n in range(6)
    ]
    scores = [
        dict(triple_id=f"t{n}", score=n / 10, qa_score=0.5, rationale_score=0.5) for n in range(6)
    ]
    tables = [
        records.write_parquet(rows, run / name, schema)
        for rows, name, schema in (
            (triples, "triples.parquet", records.TRIPLES),
            (scores, "scores.parquet", records.SCORES),
            (images, "regions.parquet", records.REGIONS),
        )
    ]
    records.write_parquet(
        build.build(*tables, ["t2", "t3", "t4", "t5"]), run / "corpus.parquet", records.CORPUS
    )
    (run / "world/VG_100K").mkdir(parents=True)
    for n in range(6):
        Image.new("RGB", (40, 30), (40 * n, 90, 90)).save(run / f"world/VG_100K/{n}.jpg")
    (run / "image_root.txt").write_text(str(run / "world"))
    parameters = {
        "03_critic_training": dict(base="lskd_nb/mini/weights/student", noise=0.05, steps=2),
        "05_distillation": dict(base="org/base", steps=3, lr=0.1),
    }
    names = [
        "01_verbalization",
        "02_prompting",
        "03_critic_training",
        "04_filtering",
        "05_distillation",
        "06_evaluation",
    ]
    (run / "manifest.json").write_text(
        json.dumps(
            {"notebooks": {n: dict(status="done", parameters=parameters.get(n, {})) for n in names}}
        )
    )
    systems = {s: interval for s in ("base", "unfiltered", "lskd")}
    (run / "metrics.json").write_text(
        json.dumps(
            dict(
                vcr={s: dict(q_a=interval, qa_r=interval, q_ar=interval) for s in systems},
                grounding=systems,
                nonlocalized=dict(aokvqa=systems),
                critic=dict(precision=0.7, recall=0.6, f1=0.65, auc=0.8, labels=6, held_out=2),
                acceptability=dict(raw=interval, kept=interval),
                corpus=dict(triples=4, raw=6, threshold=0.2),
            )
        )
    )
    for part in ("student", "critic"):
        shutil.copytree(tiny_models / part, run / part)
    return run
