"""The site's sources: every page there, in order, with links that lead somewhere and pictures
that have words.
"""

import re
from pathlib import Path

import nbformat
import pytest
import yaml

from lskd_nb.cli import main
from lskd_nb.publishing.book import contents, relinked, stage
from lskd_nb.run_folder import find_root

ROOT = find_root()
SHOWN = ROOT / "outputs" / "mini"


@pytest.fixture
def project(tmp_path) -> Path:
    """A small project: a README with links of all kinds, a glossary, three pages of a guide, and
    two executed notebooks, one of them optional.
    """
    guide = tmp_path / "notebooks" / "guide"
    guide.mkdir(parents=True)
    shown = tmp_path / "outputs" / "mini"
    shown.mkdir(parents=True)
    (shown / "teaser.png").write_bytes(b"png")
    (tmp_path / "README.md").write_text(
        "# The series\n\n![Words for a"
        " picture](outputs/mini/teaser.png)\n\n[one](notebooks/01_one.ipynb),"
        " [gone](notebooks/09_gone.ipynb), [tests](tests/test_x.py),"
        " [paper](https://arxiv.org/abs/2312.04837), [below](#what-is-where)\n\n## What is"
        " where\n\n[a](notebooks/guide/b.md), [b](notebooks/guide/a.md#more),"
        " [b](notebooks/guide/b.md)\n"
    )
    (guide / "a.md").write_text(
        "# A\n\n## More\n\n[start](../../README.md#what-is-where), [one](../01_one.ipynb),"
        " [code](../../lskd_nb/)\n\n![Shown](../../outputs/mini/widgets/shown.png)\n"
    )
    (guide / "b.md").write_text("# B\n")
    (guide / "aa.md").write_text("# Nobody links here\n")
    (shown / "widgets").mkdir()
    (shown / "widgets" / "shown.png").write_bytes(b"another png")
    (tmp_path / "notebooks" / "glossary.md").write_text(
        "# Glossary\n\n## Region\nA box. [Triple](#triple) *[Notebook 1](01_one.ipynb)*\n"
    )
    for name, optional in (("01_one", False), ("01b_more", True)):
        book = nbformat.v4.new_notebook(
            metadata={
                "lskd": {"reads": [], "writes": []} | ({"optional": True} if optional else {})
            }
        )
        output = nbformat.v4.new_output(
            "display_data", {"text/html": '<img alt="a dog" src="data:image/png;base64,AAAA"/>'}
        )
        book.cells = [
            nbformat.v4.new_markdown_cell(
                f"# {name} · A title\n\nSee the [glossary](glossary.md#region),"
                " [8](08_missing.ipynb)"
            ),
            nbformat.v4.new_code_cell("a = 1", metadata={"tags": ["injected-parameters"]}),
            nbformat.v4.new_code_cell("a", execution_count=1, outputs=[output]),
        ]
        nbformat.write(book, shown / f"{name}.ipynb")
    return tmp_path


def test_what_is_there_becomes_a_book(project, capsys, monkeypatch):
    folder = project / "build" / "book"
    (folder / "_build").mkdir(parents=True)
    earlier = project / "outputs" / "mini" / "00_old.ipynb"
    earlier.write_bytes((project / "outputs" / "mini" / "01_one.ipynb").read_bytes())
    assert folder / "00_old.ipynb" in stage(project, folder)
    earlier.unlink()
    monkeypatch.setenv("LSKD_ROOT", str(project))
    assert main(["book"]) == 0
    made = {p.name for p in folder.iterdir() if p.is_file()}
    assert made == {
        ".staged.json",
        "_config.yml",
        "_toc.yml",
        "introduction.md",
        "glossary.md",
        "01_one.ipynb",
        "01b_more.ipynb",
        "a.md",
        "aa.md",
        "b.md",
        "shown.png",
        "teaser.png",
    }
    assert {Path(line).name for line in capsys.readouterr().out.split()} == made - {
        ".staged.json"
    } and (folder / "_build").exists()
    config, toc = (
        yaml.safe_load((folder / name).read_text(encoding="utf-8"))
        for name in ("_config.yml", "_toc.yml")
    )
    assert config["execute"]["execute_notebooks"] == "off" and toc["root"] == "introduction"
    series, guide = toc["parts"]
    assert series["chapters"] == [
        {"file": "01_one", "title": "01_one · A title"},
        {"file": "01b_more", "title": "01b_more · A title (optional)"},
        {"file": "glossary"},
    ]
    assert [page["file"] for page in guide["chapters"]] == ["a", "b", "aa"]
    introduction = (folder / "introduction.md").read_text(encoding="utf-8")
    assert (
        "![Words for a picture](teaser.png)" in introduction
        and "[one](01_one.ipynb), gone, tests, [paper](https://arxiv.org" in introduction
    )
    assert "[a](b.md), [b](a.md#more)" in introduction
    told = (folder / "a.md").read_text(encoding="utf-8")
    assert "[start](introduction.md#what-is-where), [one](01_one.ipynb), code" in told
    assert "![Shown](shown.png)" in told and (folder / "shown.png").read_bytes() == b"another png"
    page = nbformat.read(folder / "01_one.ipynb", as_version=4)
    assert "[glossary](glossary.md#region), 8" in page.cells[0].source and page.cells[
        1
    ].metadata.tags == ["injected-parameters", "remove-cell"]
    assert 'alt="a dog"' in page.cells[2].outputs[0].data["text/html"]


def test_what_others_put_into_the_folder_stays(project):
    folder = project / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("x")
    with pytest.raises(
        ValueError,
        match=r"mine holds files that lskd book has not listed as its own \(thesis.txt\)",
    ):
        stage(project, folder)
    assert [p.name for p in folder.iterdir()] == ["thesis.txt"]
    (folder / "thesis.txt").unlink()
    stage(project, folder)
    (folder / "notes.txt").write_text("mine")
    stage(project, folder)
    assert (folder / "notes.txt").read_text() == "mine"
    (project / "README.md").write_text("![Words](outputs/mini/notes.txt)\n")
    with pytest.raises(ValueError, match=r"has not listed as its own \(notes.txt\)"):
        stage(project, folder)
    (folder / ".staged.json").write_text('["../README.md"]')
    with pytest.raises(ValueError, match="staged.json is damaged, expected a list of files' names"):
        stage(project, folder)


def test_a_damaged_notebook_is_named_and_one_without_a_title_has_its_file_s_name(project):
    shown = project / "outputs" / "mini"
    nbformat.write(nbformat.v4.new_notebook(), shown / "02_bare.ipynb")
    stage(project, project / "book")
    toc = yaml.safe_load((project / "book" / "_toc.yml").read_text(encoding="utf-8"))
    assert {"file": "02_bare", "title": "02_bare"} in toc["parts"][0]["chapters"]
    for damaged in ('{"cells": [', "[]", "{}"):
        (shown / "02_bare.ipynb").write_text(damaged)
        with pytest.raises(ValueError, match="02_bare.ipynb is no readable notebook"):
            stage(project, project / "book")


def test_without_executed_notebooks_there_is_no_book(project, capsys, monkeypatch):
    for path in (project / "outputs" / "mini").glob("*.ipynb"):
        path.unlink()
    monkeypatch.setenv("LSKD_ROOT", str(project))
    assert main(["book"]) == 1
    assert (
        "no executed notebooks in" in capsys.readouterr().err and not (project / "build").exists()
    )


@pytest.mark.parametrize(
    "given, shown",
    [
        ("[a](x/01_one.ipynb#part)", "[a](01_one.ipynb#part)"),
        ("[a](#here)", "[a](#here)"),
        ("[a](../../README.md#here)", "[a](introduction.md#here)"),
        ("[a](LICENSE)", "a"),
        ("[a](outputs/mini/)", "a"),
        ("[a](https://x.org/01_one.ipynb)", "[a](https://x.org/01_one.ipynb)"),
        ("![a](x/y.png) [0]", "![a](y.png) [0]"),
        ("`x[0](1)` [1, 2]", "`x[0](1)` [1, 2]"),
        ("[a](mailto:a@x.org)", "[a](mailto:a@x.org)"),
        ("`[a](b.py)` [a](b.py) ``![`a](x/c.png)``", "`[a](b.py)` a ``![`a](x/c.png)``"),
        ("[`a`](x/01_one.ipynb) and `b`", "[`a`](01_one.ipynb) and `b`"),
        ("```\n[a](b.py)\n```\n[a](b.py)", "```\n[a](b.py)\n```\na"),
    ],
)
def test_links_lead_to_pages_or_out(given, shown):
    pages = {"01_one.ipynb": "01_one.ipynb", "README.md": "introduction.md"}
    assert relinked(given, pages) == shown


@pytest.mark.skipif(not list(SHOWN.glob("*.ipynb")), reason="no renderings yet")
def test_the_series_is_staged_with_links_that_resolve(tmp_path):
    made = {p.name for p in stage(ROOT, tmp_path / "book")}
    notebooks = sorted(p.name for p in SHOWN.glob("*.ipynb"))
    guide = {p.name for p in (ROOT / "notebooks" / "guide").glob("*.md")}
    assert {*notebooks, *guide, "teaser.png", "scaling.png", "browser.png"} <= made
    books = {n: nbformat.read(tmp_path / "book" / n, as_version=4) for n in notebooks}
    series, pages = contents(books, sorted(guide))["parts"]
    listed = series["chapters"]
    assert [c["file"] for c in listed] == [*(Path(n).stem for n in notebooks), "glossary"]
    assert [c["file"][:3] for c in listed if c.get("title", "").endswith("(optional)")] == [
        "01b",
        "08_",
    ]
    assert {f"{page['file']}.md" for page in pages["chapters"]} == guide
    texts = {
        n: "\n".join(c.source for c in b.cells if c.cell_type == "markdown")
        for n, b in books.items()
    }
    texts |= {
        n: (tmp_path / "book" / n).read_text(encoding="utf-8")
        for n in ("introduction.md", "glossary.md", *guide)
    }
    for name, text in texts.items():
        links = [
            link.partition("#")[0]
            for link in re.findall(r"\]\(([^)\s]+)\)", text)
            if "://" not in link
        ]
        assert {link for link in links if link and link not in made} == set(), name
