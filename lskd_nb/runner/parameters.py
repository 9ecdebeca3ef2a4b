"""The parameters of notebooks, checked strictly.

Papermill itself only warns of a name that a notebook does not have. A notebook declares them in its
cell tagged ``parameters``, as annotated literals. A profile's YAML file and ``-p`` options may
change any of them, to a value of the literal's type.
"""

import ast
import contextlib
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lskd_nb.run_folder import RunError
from lskd_nb.runner.plain_yaml import SPOKEN, load_yaml, read_yaml
from lskd_nb.runner.ranges import what_is_allowed

NUMBERED = re.compile(r"[0-9]+[a-z]*_")
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
        return _means(name, self.name)


def read_notebooks(
    root: Path, named: Sequence[str] = (), say: Callable[[str], None] = lambda _: None
) -> list[Notebook]:
    """The notebooks of the series under ``root``, in order: those that params/ has a file for, and
    those that ``named`` calls by a name no other has.

    What else lies beside them, a copy or somebody's try, is passed over and told to ``say``. Raises
    ``RunError`` where there is none, or for one that is damaged.
    """
    found = sorted(p for p in (root / "notebooks").glob("*.ipynb") if p.name[0] != ".")
    known = {p.stem for p in (root / "params").glob("*/*.yaml")}
    series = [p for p in found if p.stem in known]
    if not known:
        series = [p for p in found if NUMBERED.match(p.stem)]
    for name in named:
        if not any(_means(name, p.stem) for p in series):
            series += [p for p in found if p not in series and _means(name, p.stem)]
    if not series:
        raise RunError(f"{root / 'notebooks'} holds no notebook NN_name.ipynb that params/ knows")
    if beside := [p.name for p in found if p not in series]:
        say(f"passed over, as params/ has no file for it: {', '.join(beside)}")
    return [read_notebook(p) for p in sorted(series, key=lambda p: p.stem)]


def profile_notebooks(
    root: Path, profile: str, named: Sequence[str] = (), say: Callable[[str], None] = lambda _: None
) -> list[Notebook]:
    """The notebooks of the series, one of each number: the one that the profile has parameters
    for, unless another is named in full. Where the profile has none for it, it is optional.

    Raises ``RunError`` where the profile has parameters for two, or for none at all.
    """
    notebooks, chosen = read_notebooks(root, named, say), []
    for notebook in notebooks:
        alike = [n for n in notebooks if n.number == notebook.number]
        told = [n for n in alike if (root / "params" / profile / f"{n.name}.yaml").exists()]
        meant = [n for n in alike if n.name in named] or told
        if len(meant) > 1:
            raise RunError(
                f"{' and '.join(n.name for n in meant)} have the same number, and params/{profile}"
                " has a file for each: give one of them another number"
            )
        if notebook in meant or not meant:
            chosen.append(notebook if told else replace(notebook, optional=True))
    if not any((root / "params" / profile / f"{n.name}.yaml").exists() for n in chosen):
        raise RunError(f"no {root / 'params' / profile} with a file; profiles: {_profiles(root)}")
    return chosen


def choose(notebooks: Sequence[Notebook], only: Sequence[str], start: str | None) -> list[Notebook]:
    """The notebooks that ``only`` names, or those from ``start`` on, or all; optional ones only
    where they are named.

    Raises ``RunError`` for a name that is nobody's.
    """
    for name in (*only, *([start] if start else ())):
        if not any(n.is_called(name) for n in notebooks):
            raise RunError(
                f"there is no notebook {name!r}, only {', '.join(n.name for n in notebooks)}"
            )
    first = next((i for i, n in enumerate(notebooks) if start and n.is_called(start)), 0)
    named = {n.name for n in notebooks if any(n.is_called(name) for name in only)}
    return [n for n in notebooks[first:] if n.name in named or not (only or n.optional)]


def given_values(
    root: Path,
    profile: str,
    notebook: Notebook,
    changed: Mapping[str, Mapping[str, object]] | None = None,
) -> dict[str, object]:
    """All parameters of a notebook: its own values, those of the profile, and what is ``changed``
    of them (``parse_overrides``). Raises as ``profile_parameters``.
    """
    told = profile_parameters(root, profile, notebook)
    return dict(notebook.defaults) | told | dict((changed or {}).get(notebook.name, {}))


def _profiles(root: Path) -> str:
    return ", ".join(sorted(p.name for p in (root / "params").glob("*/"))) or "none"


def _means(name: str, stem: str) -> bool:
    """Whether ``name`` means the notebook called ``stem``: 3, 03 or 03_critic_training."""
    number = stem.split("_")[0]
    return name == stem or name.zfill(len(number)) == number


def read_notebook(path: Path) -> Notebook:
    """Read a notebook and its parameters cell.

    Raises ``RunError`` where it has none or a default is no literal.
    """
    import nbformat

    try:
        book = nbformat.read(path, as_version=4)
    except (ValueError, nbformat.ValidationError, AttributeError, KeyError, TypeError) as error:
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
        value = _fitting(value, default)
        if default is not None and type(value) is not type(default):
            raise RunError(
                f"{where}: {notebook.name}.{name} must be {type(default).__name__},"
                f" like {default!r}, not {value!r}{_hint(value, default)}"
            )
        if isinstance(value, str) and PASSWORD.search(value):
            raise RunError(
                f"{where}: {notebook.name}.{name} holds a password,"
                " and parameters are written to files"
            )
        if allowed := what_is_allowed(notebook.number, name, value):
            raise RunError(f"{where}: {notebook.name}.{name} must be {allowed}, not {value!r}")
        found[name] = value
    return found


def _fitting(value: object, default: object) -> object:
    """A value as the type of its default, where it can mean nothing else."""
    if type(default) is float and type(value) in (int, str):
        with contextlib.suppress(ValueError, OverflowError):
            return float(value)
    if type(default) is bool and isinstance(value, str):
        return SPOKEN.get(value.lower(), value)
    return value


def _hint(value: object, default: object) -> str:
    """What whoever gave ``value`` may have meant."""
    if isinstance(default, str):
        return ' (write "" for none)' if value is None else ' (put it in quotes: "…")'
    if type(default) is int and type(value) is float and value.is_integer():
        return f" (write {int(value)})"
    return " (write true or false)" if isinstance(default, bool) else ""


def profile_parameters(root: Path, profile: str, notebook: Notebook) -> dict[str, object]:
    """What params/PROFILE/NN_name.yaml sets.

    Raises ``RunError`` for a missing or damaged file or a parameter that does not fit.
    """
    path = root / "params" / profile / f"{notebook.name}.yaml"
    try:
        given = read_yaml(path)
    except FileNotFoundError:
        raise RunError(
            f"no {path}: the profile {profile!r} has no parameters"
            f" for {notebook.name}; profiles: {_profiles(root)}"
        ) from None
    except ValueError as error:
        raise RunError(f"{path} is {error}") from None
    given = {} if given is None else given
    if not isinstance(given, dict):
        raise RunError(f"{path} must be a mapping of parameter names to values")
    return checked(notebook, given, str(path))


def parse_overrides(
    overrides: Sequence[str], notebooks: Sequence[Notebook]
) -> dict[str, dict[str, object]]:
    """``NN.key=value`` options by notebook.

    A value is read as YAML unless the parameter is a text.
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
    try:
        return load_yaml(text)
    except ValueError:
        return text
