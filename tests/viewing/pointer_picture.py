"""The picture of the pointer in the README: a box that makes a difference.

    python tests/viewing/pointer_picture.py outputs/runs/mini outputs/mini/widgets/pointer.png

The question is chosen: of VCR's unseen ones, in the order of the file, the first that points at one
region, of which the base then prefers a wrong answer and the LSKD student the right one.
"""

import json
import sys
from pathlib import Path
from runpy import run_path
from tempfile import TemporaryDirectory

import nbformat

from lskd_nb.regions import mentions, renumber
from lskd_nb.run_folder import find_root
from lskd_nb.sources.vcr import VcrQuestion, read_vcr
from lskd_nb.students.views import open_image
from lskd_nb.viewing.widgets import RegionPointer

BROWSING = run_path(str(Path(__file__).with_name("browsing.py")))


def put(pointer: RegionPointer, question: VcrQuestion, folder: Path) -> None:
    """Draw the one region that a question mentions, and ask."""
    (pointed,) = (r for r in question.image.regions if r.id in mentions(question.question))
    shown = open_image(folder, question.image.path)
    pointer.show(shown, f"image {question.img_id}", question.image.regions)
    pointer.canvas.boxes = [list(map(float, pointed.box))]
    pointer.question.value = renumber(question.question, {pointed.id: 0})
    others = {r.id: r.id for r in question.image.regions} | {pointed.id: 0}
    pointer.choices.value = "\n".join(renumber(c, others) for c in question.answer_choices)
    pointer.ask()


def makes_a_difference(pointer: RegionPointer, question: VcrQuestion, folder: Path) -> bool:
    """Whether the base prefers a wrong answer, and the student the right one."""
    texts = " ".join((question.question, *question.answer_choices))
    if len(set(mentions(texts))) != 1 or not mentions(question.question):
        return False
    put(pointer, question, folder)
    right = pointer.choices.value.splitlines()[question.answer_label]
    best = {said[0].system: said[0].answer for _, _, said in pointer.answers}
    return best["LSKD"] == right != best["base"]


def chosen_question(run_dir: Path) -> int:
    """Its place in the file. Raises ``StopIteration`` where no question makes a difference."""
    pointer, folder = RegionPointer.of_run(run_dir), run_dir / "world" / "vcr"
    asked = enumerate(read_vcr(folder, "val")[0])
    return next(n for n, question in asked if makes_a_difference(pointer, question, folder))


def draw(run_dir: Path, out: Path) -> None:
    """Show the pointer in Voilà, and take its picture with Chromium."""
    from playwright.sync_api import sync_playwright

    number = chosen_question(run_dir)
    here, run_dir = str(Path(__file__).parent), run_dir.resolve()
    source = f"""\
import sys; sys.path.insert(0, {here!r})
from pathlib import Path
import pointer_picture as p
run, folder = Path({str(run_dir)!r}), Path({str(run_dir / "world" / "vcr")!r})
pointer = p.RegionPointer.of_run(run)
p.put(pointer, p.read_vcr(folder, "val")[0][{number}], folder)
pointer"""
    with TemporaryDirectory() as folder:
        page_file, log = Path(folder) / "pointer.ipynb", Path(folder) / "voila.log"
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        nbformat.write(book, page_file)
        command = [sys.executable, "-m", "voila", str(page_file), "--Voila.ip=127.0.0.1"]
        command += ["--no-browser", "--strip_sources=True"]
        with (
            BROWSING["served"](
                command, "voila/static/voila.js", log, LSKD_ROOT=str(find_root())
            ) as address,
            sync_playwright() as playwright,
        ):
            browser = playwright.chromium.launch(
                executable_path=BROWSING["CHROMIUM"], args=BROWSING["FLAGS"]
            )
            page = browser.new_page(viewport=dict(width=1100, height=900))
            page.set_default_timeout(BROWSING["PATIENCE"])
            page.goto(address)
            widget = BROWSING["frame"](page, "region pointer")
            widget.locator(".loc-drawn").first.wait_for()
            widget.locator(".loc-answer").nth(7).wait_for()
            out.parent.mkdir(parents=True, exist_ok=True)
            widget.screenshot(path=str(out))
            browser.close()
    print(json.dumps(dict(question=number, picture=str(out))))


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
