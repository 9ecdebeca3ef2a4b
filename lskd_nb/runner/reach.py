"""The code and the data of the package that a notebook can reach: what its result may depend on.

A notebook reaches the modules that it imports, anywhere in its cells, and those that these import,
in functions too; a module named in a text (``train_alone("lskd_nb.training.generative", …)``) is
reached as well. So are the data files beside a module, and a path of the package in a text. What a
notebook can't reach may be edited without its being run anew. Nor does the wing ``viewing`` count:
it draws and shows, and no file that a stage reads comes from it. Notebook 07 alone, whose work is
to show, counts it.
"""

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent
DOTTED = re.compile(r"lskd_nb(?:\.\w+)+")
SLASHED = re.compile(r"lskd_nb(?:/[\w.-]+)+")
MAGIC = re.compile(r"^\s*[%!].*$", re.MULTILINE)
SHOWN = "lskd_nb.viewing"
SHOWS = {"07"}  # notebooks
NO_INPUT = {"prices.yaml"}  # has no say in a result
NO_DATA = {".py", ".pyc", ".md"}


def code_hash(cells: Iterable[str], package: Path = PACKAGE, shows: bool = False) -> str:
    """Hash of all that notebook cells of this source can reach in the package; of what only shows
    things, where the notebook ``shows``.
    """
    digest = hashlib.sha256()
    for file in reached(cells, package, shows):
        digest.update(f"{file.relative_to(package)}\0".encode() + _content(file, *_state(file)))
    return digest.hexdigest()


def reached(cells: Iterable[str], package: Path = PACKAGE, shows: bool = False) -> list[Path]:
    """The files of ``package`` that notebook cells of this source can reach, sorted."""
    waiting = [name for cell in cells for name in _named(cell, ())]
    known: set[str] = set()
    modules: set[Path] = set()
    files: set[Path] = set()
    while waiting:
        if (name := waiting.pop()) in known:
            continue
        known.add(name)
        if not shows and f"{name}.".startswith(f"{SHOWN}."):
            continue
        if "/" in name:
            files.update(_data(package.parent / name))
            continue
        for module in _modules(name, package):
            if module not in modules:
                modules.add(module)
                inside = (package.name, *module.parent.relative_to(package).parts)
                waiting += _named_in(module, inside, *_state(module))
    for folder in {module.parent for module in modules}:
        files.update(_beside(folder))
    return sorted(modules | files)


def _modules(name: str, package: Path) -> Iterator[Path]:
    """The module that a dotted name means (or is a part of), and the packages that it lies in."""
    place = package
    yield place / "__init__.py"
    for part in name.split(".")[1:]:
        if (place / part / "__init__.py").exists():
            place = place / part
            yield place / "__init__.py"
        elif (place / f"{part}.py").exists():
            yield place / f"{part}.py"
            return
        else:
            return


@lru_cache(maxsize=4096)
def _named_in(module: Path, inside: tuple[str, ...], size: int, changed: int) -> tuple[str, ...]:
    return tuple(_named(module.read_text(encoding="utf-8"), inside))


def _named(source: str, inside: tuple[str, ...]) -> set[str]:
    """What a source in the package ``inside`` names of all: imports, modules and paths in texts.

    A source that is no Python, such as a cell with magic commands, names what its letters do.
    """
    try:
        tree = ast.parse(MAGIC.sub("", source))
    except (SyntaxError, ValueError):
        return {*DOTTED.findall(source), *SLASHED.findall(source)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = inside[: len(inside) + 1 - node.level] if node.level else ()
            home = ".".join((*above, *((node.module,) if node.module else ())))
            found |= {home, *(f"{home}.{a.name}" for a in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {node.value for form in (DOTTED, SLASHED) if form.fullmatch(node.value)}
    return {name for name in found if name.partition("/")[0].partition(".")[0] == "lskd_nb"}


def _beside(folder: Path) -> Iterator[Path]:
    """The data files in a folder of modules, and in folders there that hold no modules."""
    for path in folder.iterdir():
        if path.is_file() or path.name != "__pycache__" and not any(path.rglob("*.py")):
            yield from _data(path)


def _data(path: Path) -> Iterator[Path]:
    """A data file, or those below a folder."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file() and file.suffix not in NO_DATA and file.name not in NO_INPUT:
            yield file


def _state(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=4096)
def _content(file: Path, size: int, changed: int) -> bytes:
    return hashlib.sha256(file.read_bytes()).digest()
