"""A notebook is run anew for an edit of what it can reach, and for no other."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lskd_nb.runner import manifest, reach
from lskd_nb.runner.parameters import read_notebook, read_notebooks

PACKAGE = reach.PACKAGE
ALL_BUT_07 = "00 01 01b 02 03 04 05 06 08"


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """A copy that may be edited."""
    copy = tmp_path_factory.mktemp("copy") / "lskd_nb"
    return shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))


@pytest.fixture(scope="module")
def cells(root) -> dict[str, list[str]]:
    return {n.number: manifest.code_cells(n.path) for n in read_notebooks(root)}


def hashes(cells, package) -> dict[str, str]:
    return {n: reach.code_hash(of, package, n in reach.SHOWS) for n, of in cells.items()}


@pytest.fixture(scope="module")
def before(cells, package) -> dict[str, str]:
    return hashes(cells, package)


def run_anew_by(file: str, cells, package, before) -> set[str]:
    """The notebooks that an edit of ``file`` makes run anew; it is undone."""
    path = package / file
    kept = path.read_bytes()
    path.write_bytes(kept + b"\n")
    after = hashes(cells, package)
    path.write_bytes(kept)
    return {number for number in cells if after[number] != before[number]}


@pytest.mark.parametrize(
    "file, anew, kept",
    [
        ("students/views.py", "01 01b 02 03 04 05 06 08", ""),
        ("viewing/widgets/annotator.py", "07", ALL_BUT_07),
        ("viewing/widgets/static/guidelines.html", "07", ALL_BUT_07),
        ("viewing/widgets/threshold.py", "07", ALL_BUT_07),  # 04 shows it
        ("viewing/plots.py", "07", ALL_BUT_07),
        ("teacher/prices.yaml", "", "00 01 01b 02 03 04 05 06 07 08"),
        ("teacher/templates/id.txt", "02", ""),
        ("teacher/generate.py", "00 02 08", "05"),
        ("mini/annotator.py", "00 02 03 04 05 08", "06"),
        ("training/generative.py", "08", "02 04"),  # named in a text
        ("training/distillation.py", "05", "01 02"),  # named in a text of a module
        ("verbalization/captioning.py", "01b", "02 05"),
        ("verbalization/vocabularies/object.txt", "01", "05"),
        ("sources/photograph/objects.json", "00 01", ""),
        ("runner/run.py", "", "00 01 01b 02 03 05"),
        ("cli.py", "", "00 01 01b 02 03 04 05 06 07 08"),
        ("__init__.py", "00 01 01b 02 03 04 05 06 07 08", ""),
    ],
)
def test_an_edit_makes_what_reaches_it_run_anew(cells, package, before, file, anew, kept):
    found = run_anew_by(file, cells, package, before)
    assert set(anew.split()) <= found and not found & set(kept.split())


def test_an_edit_that_is_undone_is_none(cells, package, before):
    run_anew_by("records.py", cells, package, before)
    assert hashes(cells, package) == before


def test_imports_are_found_wherever_they_are(tmp_path):
    package = tmp_path / "lskd_nb"
    sources = {
        "__init__.py": "",
        "a/__init__.py": "",
        "a/one.py": "def f():\n    from lskd_nb.a import two\n",
        "a/two.py": "from ..b.three import g as h\nfrom . import five\n",
        "a/five.py": "",
        "a/words.txt": "",
        "a/lists/words.txt": "",
        "b/__init__.py": "from lskd_nb.b import six",
        "b/three.py": 'call = ["-m", "lskd_nb.c.four"]\n"""lskd_nb.c.never, says a docstring"""',
        "b/six.py": "import os, lskd_nb.d.seven as s",
        "c/__init__.py": "",
        "c/four.py": "",
        "c/never.py": "",
        "c/more/part.py": "",
        "c/more/data.txt": "",
        "d/seven.py": "",
        "e/eight.py": "",
        "e/README.md": "",
    }
    for name, source in sources.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(source)
    never = {"c/never.py", "c/more/part.py", "c/more/data.txt", "e/README.md", "e/eight.py"}

    def found(*cells):
        return {str(p.relative_to(package)) for p in reach.reached(cells, package)}

    assert found("%matplotlib inline\nfrom lskd_nb.a import one") == sources.keys() - never - {
        "d/seven.py"
    }, "d is no package, so that its module can't be imported"
    (package / "d" / "__init__.py").touch()
    assert found("if True:\n    import lskd_nb.a.one") == sources.keys() - never | {"d/__init__.py"}
    assert found("x = lskd_nb.e.eight +") == {"__init__.py"}, "no package either"
    assert found('p = "lskd_nb/c/more"', "1") == {"c/more/data.txt"}
    assert found("import os") == set()


def test_it_takes_no_time(cells):
    hashes(cells, PACKAGE)
    begin = time.process_time()
    hashes(cells, PACKAGE)
    assert time.process_time() - begin < 1


# ------------------------------------------------------------- what parameters name is read as well


def stage(tiny, tmp_path, values: dict) -> manifest.Stage:
    declared = "\n".join(["run_dir: str = ''", *(f"{k} = {v!r}" for k, v in values.items())])
    notebook = read_notebook(tiny("01_one", parameters=declared))
    run_dir = tmp_path / "data" / "run"
    run_dir.mkdir(parents=True, exist_ok=True)
    return manifest.Stage(notebook, {"run_dir": str(run_dir)}, run_dir, tmp_path)


def digest(stage) -> str:
    return manifest.fingerprint(stage, manifest.Hashes(stage.run_dir))["digest"]


def test_what_a_parameter_names_is_read(tiny, tmp_path):
    """A model's folder, a list of files; no hub name, no text, no prices, nothing of the run."""
    (tmp_path / "model").mkdir()
    for name in ("model/config.json", "one.json", "two.json", "prices.yaml"):
        (tmp_path / name).write_text("1")
    values = dict(
        model="model",
        both=["one.json", "two.json", "org/hub"],
        hub="org/model",
        text="a very long text " * 100,
        prices="prices.yaml",
        data="data",
        number=3,
    )
    one = stage(tiny, tmp_path, values)
    told = manifest.fingerprint(one, manifest.Hashes(one.run_dir))["inputs"]
    assert told.keys() == {"param:model", "param:both", "param:data"}
    before = digest(one)
    for name, counts in (
        ("model/config.json", True),
        ("two.json", True),
        ("prices.yaml", False),
        ("data/run/a.txt", False),
        ("data/b.txt", True),
    ):
        path, there = tmp_path / name, (tmp_path / name).exists()
        path.write_text("changed")
        assert (digest(one) != before) == counts, name
        path.write_text("1") if there else path.unlink()
        assert digest(one) == before


def test_links_are_followed_and_circles_end(tiny, tmp_path):
    one = stage(tiny, tmp_path, {"data": "data"})
    (tmp_path / "far").mkdir()
    (tmp_path / "data" / "VG").symlink_to(tmp_path / "far")
    (tmp_path / "data" / "VG_again").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "circle").symlink_to(tmp_path / "data")
    (tmp_path / "far" / "nowhere").symlink_to(tmp_path / "gone")
    before = digest(one)
    (tmp_path / "far" / "1.jpg").write_text("1")
    assert digest(one) != before


def test_a_huge_folder_is_known_by_its_names_sizes_and_times(tiny, tmp_path, monkeypatch):
    one = stage(tiny, tmp_path, {"model": "model"})
    (tmp_path / "model").mkdir()
    for n in range(3):
        (tmp_path / "model" / f"{n}.bin").write_text("1")
        os.utime(tmp_path / "model" / f"{n}.bin", (1, 1))

    def swap(text: str) -> str:
        (tmp_path / "model" / "0.bin").write_text(text)
        os.utime(tmp_path / "model" / "0.bin", (1, 1))
        return digest(one)

    monkeypatch.setattr(manifest, "MOST_FILES", 2)
    assert swap("1") == swap("2") != swap("33"), "the content is not read"
    monkeypatch.setattr(manifest, "MOST_FILES", 3)
    assert swap("1") != swap("2")
    monkeypatch.setattr(manifest, "MOST_BYTES", 2)
    assert swap("1") == swap("2")


def test_the_pictures_beside_a_file_of_boxes_are_read_too(tiny, tmp_path):
    """They are named by nobody; the run itself below them is none of them."""
    home = tmp_path / "data"
    (home / "images").mkdir(parents=True)
    (home / "boxes.json").write_text("{}")
    one = stage(tiny, tmp_path, dict(sources={"coco": "data/boxes.json"}))
    before = digest(one)
    (home / "images" / "new.jpg").write_text("1")
    assert digest(one) != before
    (home / "images" / "new.jpg").unlink()
    assert digest(one) == before
    above = replace(one, run_dir=home / "images" / "run")
    before = digest(above)
    (home / "images" / "new.jpg").write_text("1")
    assert digest(above) == before
