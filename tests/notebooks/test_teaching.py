"""What helps a learner: exercises with solutions, a glossary that is linked, a first notebook of
ten minutes.
"""

import re
from pathlib import Path

import nbformat
import pytest

from lskd_nb.run_folder import find_root

ROOT = find_root()
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
GLOSSARY = (ROOT / "notebooks" / "glossary.md").read_text(encoding="utf-8")
KEY_TERMS = {
    "region",
    "mention",
    "verbalization",
    "verbalizer",
    "triple",
    "rationale",
    "critic",
    "student",
    "teacher",
    "q-former",
    "itc",
    "itm",
    "lm",
    "threshold",
    "acceptability",
    "calibration",
    "bootstrap",
    "precision",
    "recall",
    "distillation",
    "grounding",
    "hard negative",
    "zero-shot",
    "highlight",
    "label",
}
EXERCISE = re.compile(r"^\d+\. .+?(?=^\d+\. |\Z)", re.MULTILINE | re.DOTALL)
SOLUTION = re.compile(r"<details><summary>Solution</summary>\n\n(.+?)\n\n</details>", re.DOTALL)
MARKUP = re.compile(r"<svg.*?</svg>|<[^>]+>", re.DOTALL)
WORDS_A_MINUTE = 200


def entries() -> dict[str, str]:
    """Terms of the glossary, in its order, with what is said of them."""
    parts = re.split(r"^## (.+)\n", GLOSSARY, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def anchor(heading: str) -> str:
    """A heading's anchor, as GitHub and MyST make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def by_name(paths) -> dict:
    return dict(argnames="path", argvalues=paths, ids=[p.stem for p in paths])


@pytest.mark.parametrize(**by_name(NOTEBOOKS))
def test_two_exercises_with_hidden_solutions(path):
    last = nbformat.read(path, as_version=4).cells[-1].source
    assert last.startswith("## Exercises\n")
    asked = EXERCISE.findall(last)
    assert len(asked) == 2
    for number, text in enumerate(asked, 1):
        assert text.startswith(f"{number}. ")
        (solution,) = SOLUTION.findall(text)
        assert len(solution.split()) >= 25 and solution not in MARKUP.sub(
            "", text.split("<details>")[0]
        )


@pytest.mark.parametrize(**by_name(NOTEBOOKS))
def test_links_to_the_glossary_near_the_top_and_only_to_what_is_there(path):
    told = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown"]
    assert sum(text.count("[glossary](glossary.md)") for text in told[:3]) == 1
    for link in re.findall(r"\]\(([^)\s]+)\)", "\n".join(told)):
        file, _, place = link.partition("#")
        assert "://" in link or (path.parent / file).exists(), link
        assert not place or place in map(anchor, entries()), link


def test_the_glossary_is_sorted_and_whole():
    terms = list(entries())
    assert 35 <= len(terms) <= 50
    assert terms == sorted(terms, key=str.casefold) and len(set(map(anchor, terms))) == len(terms)
    assert KEY_TERMS - {t.casefold() for t in terms} == set()
    for term, said in entries().items():
        plain = re.sub(r"\*\[Notebook.*", "", said.strip())
        assert re.fullmatch(r".*\*\[Notebook \w+\]\(\w+\.ipynb\)\*", said.strip()), (
            f"{term} names no notebook"
        )
        assert 5 <= len(plain.split()) <= 60 and "\n" not in plain.strip(), term


def test_links_of_the_glossary_lead_somewhere():
    links = re.findall(r"\]\(([^)]+)\)", GLOSSARY)
    assert len(links) > 35
    known = {f"#{anchor(term)}" for term in entries()}
    assert [
        link for link in links if link not in known and not (ROOT / "notebooks" / link).exists()
    ] == []
    named = {
        Path(link).stem: re.search(rf"\[Notebook (\w+)\]\({re.escape(link)}\)", GLOSSARY)[1]
        for link in links
        if link.endswith(".ipynb")
    }
    assert {stem: stem.split("_")[0].lstrip("0") or "0" for stem in named} == named


def test_a_term_is_met_in_the_notebook_that_is_named():
    for term, said in entries().items():
        (name,) = re.findall(r"\((\w+\.ipynb)\)\*", said)
        cells = nbformat.read(ROOT / "notebooks" / name, as_version=4).cells
        text = MARKUP.sub("", "\n".join(c.source for c in cells)).casefold()
        assert term.casefold() in text, f"{term!r} does not occur in {name}"


def test_the_first_notebook_takes_about_ten_minutes_to_read():
    cells = nbformat.read(NOTEBOOKS[0], as_version=4).cells
    words = sum(
        len(
            SOLUTION.sub(
                "", MARKUP.sub("", c.source) if c.cell_type == "code" else c.source
            ).split()
        )
        for c in cells
        if "<svg" not in c.source
    )
    assert 8 <= words / WORDS_A_MINUTE <= 12, f"{words} words"
    assert any("photograph" in c.source for c in cells if c.cell_type == "code")
