"""The series as a site: what Jupyter Book builds pages from, gathered in one folder. Nothing is
executed.

``lskd book`` takes the executed notebooks that are in outputs/mini/, the glossary, the pages of
notebooks/guide/, and the README as an introduction. ``make book`` then builds them, with a Jupyter
Book in an environment of its own, since its version 1 wants older packages than this project.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from lskd_nb.records import atomic_path

if TYPE_CHECKING:
    from nbformat import NotebookNode

INTRODUCTION = "introduction.md"
STAGED = ".staged.json"  # names of the files that an earlier call wrote
CODE = r"```.*?```|(?<!`)(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)"  # fenced, or within a line
LINK = re.compile(rf"{CODE}|(?<![!\w])\[(?P<words>[^\]]+)\]\((?P<target>[^)\s]+)\)", re.DOTALL)
PICTURE = re.compile(rf"{CODE}|!\[(?P<words>[^\]]*)\]\((?P<target>[^)\s]+)\)", re.DOTALL)
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)  # https:, mailto:
CONFIG = {
    "title": "Localized Symbolic Knowledge Distillation, in notebooks",
    "author": "the authors of lskd_nb",
    "logo": "",
    "only_build_toc_files": True,
    "execute": {"execute_notebooks": "off", "stderr_output": "remove"},
    "html": {
        "use_issues_button": False,
        "use_repository_button": False,
        "home_page_in_navbar": True,
    },
    "sphinx": {"config": {"myst_heading_anchors": 2}},
}


def stage(root: Path, folder: Path, shown: Path | None = None) -> list[Path]:
    """Write the book's sources to ``folder`` and return their paths: configuration, table of
    contents, introduction, glossary, notebooks, the guide, and the pictures of its pages.

    ``shown`` holds the executed notebooks (default: outputs/mini/ under ``root``), whichever are
    there. Sources of an earlier call that are no longer wanted are deleted, and nothing else.
    Raises ``ValueError`` where there is no executed notebook, one is damaged, or ``folder`` holds
    other files.
    """
    import nbformat

    shown = shown or root / "outputs" / "mini"
    staged = _staged(folder)
    notebooks = {path.name: _read(path) for path in sorted(shown.glob("*.ipynb"))}
    if not notebooks:
        raise ValueError(f"no executed notebooks in {shown}: make mini renderings")
    guide = _guide(root)
    sources = {"README.md": root / "README.md", "glossary.md": root / "notebooks" / "glossary.md"}
    sources |= {path.name: path for path in guide}
    pages = {name: name for name in (*sources, *notebooks)} | {"README.md": INTRODUCTION}
    written = {name: path.read_text(encoding="utf-8") for name, path in sources.items()}
    toc = contents(notebooks, [path.name for path in guide])
    texts = {
        "_config.yml": yaml.safe_dump(CONFIG, sort_keys=False),
        "_toc.yml": yaml.safe_dump(toc, sort_keys=False, allow_unicode=True),
    }
    texts |= {pages[name]: relinked(text, pages) for name, text in written.items()}
    texts |= {name: nbformat.writes(_page(book, pages)) for name, book in notebooks.items()}
    pictures = {
        Path(m["target"]).name: sources[name].parent / m["target"]
        for name, text in written.items()
        for m in PICTURE.finditer(text)
        if m["target"] and not ADDRESS.match(m["target"])
    }
    made = [*texts, *pictures]
    _check_none([name for name in made if name not in staged and (folder / name).exists()], folder)
    with atomic_path(folder / STAGED) as temporary:
        temporary.write_text(
            json.dumps(sorted({*made, *staged}), indent=1) + "\n", encoding="utf-8"
        )
    for name, text in texts.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    for name, path in pictures.items():
        with atomic_path(folder / name) as temporary:
            shutil.copyfile(path, temporary)
    for old in staged - set(made):
        (folder / old).unlink(missing_ok=True)
    return [folder / name for name in made]


def _guide(root: Path) -> list[Path]:
    """The pages of the guide, in the order in which the README last names them; others after."""
    readme = (root / "README.md").read_text(encoding="utf-8")
    last = {path: readme.rfind(f"/{path.name}") for path in (root / "notebooks/guide").glob("*.md")}
    return sorted(last, key=lambda path: (last[path] < 0, last[path], path.name))


def _staged(folder: Path) -> set[str]:
    """Names of the files that earlier calls wrote to a folder. Raises ``ValueError`` where it
    has files and no list of them.
    """
    try:
        told = json.loads((folder / STAGED).read_text(encoding="utf-8"))
    except FileNotFoundError:
        _check_none(
            sorted(p.name for p in folder.iterdir() if p.is_file()) if folder.exists() else [],
            folder,
        )
        return set()
    except ValueError as error:
        raise ValueError(
            f"{folder / STAGED} is damaged ({error}): delete the folder, or name another"
        ) from error
    if not isinstance(told, list) or not all(
        isinstance(name, str) and name == Path(name).name for name in told
    ):
        raise ValueError(
            f"{folder / STAGED} is damaged, expected a list of files' names: delete the folder, or"
            " name another"
        )
    return set(told)


def _check_none(others: list[str], folder: Path) -> None:
    if others:
        raise ValueError(
            f"{folder} holds files that lskd book has not listed as its own"
            f" ({', '.join(others[:5])}): delete them, or name another folder"
        )


def _read(path: Path) -> "NotebookNode":
    """A notebook. Raises ``ValueError`` naming it where it is damaged."""
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except (
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
        nbformat.ValidationError,
    ) as error:  # nbformat catches few of its own
        raise ValueError(f"{path} is no readable notebook: {str(error)[:200]}") from error


def contents(notebooks: Mapping[str, "NotebookNode"], guide: Sequence[str] = ()) -> dict:
    """Jupyter Book's table of contents: notebooks in the order of their names, optional ones
    marked, and the glossary; then the guide's pages in the order given.
    """
    chapters = []
    for name, book in notebooks.items():
        first = next(iter(book.cells[0].source.splitlines()), "") if book.cells else ""
        title = first.removeprefix("# ").strip() or Path(name).stem
        optional = book.metadata.get("lskd", {}).get("optional", False)
        chapters.append(
            {"file": Path(name).stem, "title": f"{title} (optional)" if optional else title}
        )
    parts = [{"caption": "The series", "chapters": [*chapters, {"file": "glossary"}]}]
    if guide:
        pages = [{"file": Path(name).stem} for name in guide]
        parts.append({"caption": "Guide", "chapters": pages})
    return {"format": "jb-book", "root": Path(INTRODUCTION).stem, "parts": parts}


def relinked(text: str, pages: Mapping[str, str]) -> str:
    """Markdown whose links lead to pages of the book or out of it; of links to other files only
    the words remain. Code stays as it is. ``pages`` has the page that a file becomes, by name.
    """

    def link(match: re.Match) -> str:
        if match["target"] is None or ADDRESS.match(match["target"]):  # code, or out of the book
            return match[0]
        target, _, place = match["target"].partition("#")
        page = pages.get(Path(target).name) if target else ""  # a place of the same page
        if page is None:
            return match["words"]
        return f"[{match['words']}]({page}{'#' + place if place else ''})"

    def picture(match: re.Match) -> str:
        if match["target"] is None or ADDRESS.match(match["target"]):
            return match[0]
        return f"![{match['words']}]({Path(match['target']).name})"

    return LINK.sub(link, PICTURE.sub(picture, text))


def _page(book: "NotebookNode", pages: Mapping[str, str]) -> "NotebookNode":
    """An executed notebook as a page: links led right, and without the cell of parameters that
    the run put in, which says again what is above it.
    """
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = relinked(cell.source, pages)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata.tags = [*cell.metadata.tags, "remove-cell"]
    return book
