"""The parameters of notebooks, checked strictly.

Papermill itself only warns of a name that a notebook does not have. A notebook declares them in its
cell tagged ``parameters``, as annotated literals. A profile's YAML file and ``-p`` options may
change any of them, to a value of the literal's type.
"""

import ast
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from lskd_nb.run_folder import RunError

PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]*@")


@dataclass(frozen=True)
class Notebook:
    """A notebook of the series: file, declared parameters and defaults, what it reads and writes.

    An ``optional`` one runs only when it is named.
    """

    path: Path
    defaults: Mapping[str, object]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    optional: bool = False

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def number(self) -> str:
        return self.name.split("_")[0]

    def is_called(self, name: str) -> bool:
        """Whether ``name`` means this notebook: 3, 03 or 03_critic_training."""
        return name == self.name or name.zfill(len(self.number)) == self.number


def read_notebooks(root: Path) -> list[Notebook]:
    """The numbered notebooks under ``root``, in order.

    Raises ``RunError`` where there is none, or for one that is damaged.
    """
    found = [read_notebook(p) for p in sorted((root / "notebooks").glob("[0-9]*_*.ipynb"))]
    if not found:
        raise RunError(f"{root / 'notebooks'} holds no notebook named NN_name.ipynb")
    return found


def read_notebook(path: Path) -> Notebook:
    """Read a notebook and its parameters cell.

    Raises ``RunError`` where it has none or a default is no literal.
    """
    import nbformat

    try:
        book = nbformat.read(path, as_version=4)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
        raise RunError(f"{path} is not a notebook: {str(error).splitlines()[0][:200]}") from None
    cells = [c for c in book.cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise RunError(f"{path} has {len(cells)} cells tagged 'parameters', expected one")
    told, defaults = book.metadata.get("lskd", {}), _literals(cells[0].source, path)
    for entry in (*told.get("reads", ()), *told.get("writes", ())):
        if entry.startswith("param:") and entry.removeprefix("param:") not in defaults:
            raise RunError(
                f"{path}: its metadata names {entry!r}, but it declares only {', '.join(defaults)}"
            )
    return Notebook(
        path,
        defaults,
        tuple(told.get("reads", ())),
        tuple(told.get("writes", ())),
        bool(told.get("optional", False)),
    )


def _literals(source: str, path: Path) -> dict[str, object]:
    """The assignments of a parameters cell."""
    found: dict[str, object] = {}
    try:
        for node in ast.parse(source).body:
            (target,) = node.targets if isinstance(node, ast.Assign) else (node.target,)
            found[target.id] = ast.literal_eval(node.value)
    except (SyntaxError, ValueError, AttributeError, TypeError) as error:
        line = error.lineno if isinstance(error, SyntaxError) else node.lineno
        raise RunError(
            f"{path}: line {line} of the parameters cell must be 'name: type = literal'"
        ) from None
    return found


def checked(notebook: Notebook, given: Mapping[str, object], where: str) -> dict[str, object]:
    """``given``, if the notebook declares every name with a default of that type.

    Raises ``RunError`` naming what is wrong.
    """
    found = {}
    for name, value in given.items():
        if name not in notebook.defaults:
            close = difflib.get_close_matches(str(name), notebook.defaults, 1)
            if close:
                hint = f"; did you mean {close[0]!r}?"
            else:
                hint = f"; it has {', '.join(notebook.defaults)}"
            raise RunError(f"{where}: {notebook.name} has no parameter {name!r}{hint}")
        default = notebook.defaults[name]
        if type(default) is float and type(value) is int:
            value = float(value)
        if default is not None and type(value) is not type(default):
            if type(default) is float and _is_float(value):
                hint = " (YAML wants a point in it, like 1.0e-5)"
            else:
                hint = ""
            raise RunError(
                f"{where}: {notebook.name}.{name} must be {type(default).__name__},"
                f" like {default!r}, not {value!r}{hint}"
            )
        if isinstance(value, str) and PASSWORD.search(value):
            raise RunError(
                f"{where}: {notebook.name}.{name} holds a password,"
                " and parameters are written to files"
            )
        found[name] = value
    return found


def _is_float(value: object) -> bool:
    try:
        return float(str(value)) is not None
    except ValueError:
        return False


def profile_parameters(root: Path, profile: str, notebook: Notebook) -> dict[str, object]:
    """What params/PROFILE/NN_name.yaml sets.

    Raises ``RunError`` for a missing or damaged file or a parameter that does not fit.
    """
    path = root / "params" / profile / f"{notebook.name}.yaml"
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        profiles = ", ".join(sorted(p.name for p in (root / "params").glob("*/"))) or "none"
        raise RunError(
            f"no {path}: the profile {profile!r} has no parameters"
            f" for {notebook.name}; profiles: {profiles}"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(given, dict):
        raise RunError(f"{path} must be a mapping of parameter names to values")
    return checked(notebook, given, str(path))


def parse_overrides(
    overrides: Sequence[str], notebooks: Sequence[Notebook]
) -> dict[str, dict[str, object]]:
    """``NN.key=value`` options by notebook.

    A value is read as YAML unless the parameter is a text or a number.
    """
    found: dict[str, dict[str, object]] = {}
    for option in overrides:
        place, equals, text = option.partition("=")
        number, dot, key = place.partition(".")
        matching = [n for n in notebooks if n.is_called(number)]
        if not equals or not dot or not matching:
            raise RunError(
                f"-p {option}: expected NN.key=value with NN one of"
                f" {', '.join(n.number for n in notebooks)}"
            )
        value = _value(text, matching[0].defaults.get(key))
        found.setdefault(matching[0].name, {}).update(
            checked(matching[0], {key: value}, f"-p {option}")
        )
    return found


def _value(text: str, default: object) -> object:
    if isinstance(default, str):
        return text
    if isinstance(default, float) and _is_float(text):
        return float(text)  # YAML takes 1e-5 for a text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
