"""The interactive side in a real browser: Debian's Chromium, driven by Playwright, against a real
JupyterLab and a real Voilà, on a small finished run.

``LSKD_SCREENSHOTS=FOLDER`` keeps the pictures that are taken on the way.
"""

import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import nbformat
import pytest

from lskd_nb.records import LABELS, read_parquet
from lskd_nb.run_folder import find_root

ROOT = find_root()
BROWSING = SimpleNamespace(**run_path(str(Path(__file__).with_name("browsing.py"))))
CHROMIUM, FLAGS, PATIENCE = BROWSING.CHROMIUM, BROWSING.FLAGS, BROWSING.PATIENCE
served, frame, shows, picture = (BROWSING.served, BROWSING.frame, BROWSING.shows, BROWSING.picture)
SETTINGS = {  # of JupyterLab: every cell is drawn, nobody is asked about news
    "notebook-extension/tracker": '{"windowingMode": "none"}',
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
}
AGAIN = 15_000  # milliseconds
ERROR = (
    ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error'],"
    " .jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']"
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason=(
            "no Chromium on this machine (Debian: apt-get install chromium): the browser tests did"
            " not run"
        ),
    ),
]


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def run(smoke, tmp_path_factory) -> Path:
    """A copy of the finished run, to label in."""
    return shutil.copytree(
        smoke,
        tmp_path_factory.mktemp("browser") / "run",
        ignore=shutil.ignore_patterns("views", "*.parts", "scored", ".lock", "one_image"),
    )


@pytest.fixture(scope="module")
def lab(chromium, run):
    """Notebook 07 on this run, opened in JupyterLab, all of it run."""
    place = run.parent
    book = nbformat.read(ROOT / "notebooks" / "07_corpus_inspection.ipynb", as_version=4)
    (parameters,) = (c for c in book.cells if "parameters" in c.metadata.get("tags", []))
    parameters.source = re.sub(
        r'^run_dir: str = ".*?"', f"run_dir: str = {str(run)!r}", parameters.source
    )
    nbformat.write(book, place / "07.ipynb")
    for name, value in SETTINGS.items():
        path = place / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value)
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--ServerApp.ip=127.0.0.1",
        "--IdentityProvider.token=",
        "--ServerApp.password=",
        f"--ServerApp.root_dir={place}",
        f"--LabApp.user_settings_dir={place / 'settings'}",
        f"--LabApp.workspaces_dir={place / 'workspaces'}",
    ]
    with served(
        command, "api", place / "lab.log", LSKD_ROOT=str(ROOT), HF_HUB_DISABLE_PROGRESS_BARS="1"
    ) as address:
        page = chromium.new_page(viewport=dict(width=1400, height=1000))
        page.goto(f"{address}doc/tree/07.ipynb")
        page.set_default_timeout(PATIENCE)
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        idle = ".jp-Notebook-ExecutionIndicator[data-status='idle']"
        page.wait_for_selector(idle, state="attached")  # before, nobody would run what is asked for
        run_all(page)
        page.wait_for_function(
            f"document.querySelector({ERROR!r}) || [...document.querySelectorAll('.jp-CodeCell"
            " .jp-InputPrompt')].every(p => /\\d/.test(p.textContent))"
        )
        yield page
        page.close()


def run_all(page) -> None:
    """Run all cells. JupyterLab may say that its kernel is idle before it would run anything: what
    nobody has begun some seconds later is asked for again.
    """
    from playwright.sync_api import TimeoutError as NotYet

    begun = (
        "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]"
        ".some(p => /[\\d*]/.test(p.textContent))"
    )
    for _ in range(PATIENCE // AGAIN):
        page.locator(".lm-MenuBar-itemLabel", has_text="Run").click()
        page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Run All Cells$")).click()
        try:
            page.wait_for_function(begun, timeout=AGAIN)
            return
        except NotYet:
            page.keyboard.press("Escape")
    raise AssertionError("no cell has begun")


def test_all_cells_run_in_jupyterlab(lab):
    assert lab.locator(ERROR).all_inner_texts() == []
    for label in (
        "corpus browser",
        "threshold explorer",
        "region pointer",
        "annotator",
        "verbalization inspector",
    ):
        assert frame(lab, label).is_visible()


def number_found(browser) -> int:
    """How many triples fit the filters."""
    return int(
        re.match(r"of ([\d,]+)", browser.get_by_text(re.compile(r"^of [\d,]+")).inner_text())[
            1
        ].replace(",", "")
    )


def until(page, holds: Callable[[], bool]) -> None:
    """Wait until it holds: parts of a widget reach the page one after the other."""
    end = time.monotonic() + PATIENCE / 1000
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        page.wait_for_timeout(50)


def test_stepping_and_filtering(lab):
    browser = frame(lab, "corpus browser")
    first = browser.locator(".loc-texts").inner_text()
    browser.focus()
    lab.keyboard.press("ArrowRight")
    browser.get_by_role("spinbutton").first.wait_for()
    lab.wait_for_function(
        "label => !document.querySelector(`[aria-label='corpus browser']"
        " .loc-texts`).innerText.startsWith(label)",
        arg=first[:200],
    )
    until(lab, lambda: browser.get_by_role("spinbutton").first.input_value() == "2")
    lab.keyboard.press("ArrowLeft")
    shows(browser, first.splitlines()[1])
    browser.get_by_label("show").select_option("dropped")
    shows(browser, re.compile(r"^Dropped: the critic gives it 0\.\d+, it would have needed 0\.\d+"))
    everything = number_found(browser)
    browser.get_by_label("text", exact=True).fill("dog")
    browser.get_by_label("text", exact=True).press("Enter")
    lab.wait_for_function(
        "() => /rationale[^]*\\bdog/i.test(document.querySelector(`[aria-label='corpus browser']"
        " .loc-texts`).innerText.split('Dropped')[0])"
    )
    until(lab, lambda: 0 < number_found(browser) < everything)
    browser.get_by_role("button", name="reset").click()
    shows(browser, re.compile(r"^Kept: the critic gives it"))


def test_a_mention_lights_its_region(lab):
    browser = frame(lab, "corpus browser")
    spots = browser.locator(".loc-spot")
    lit = (
        "() => [...document.querySelectorAll(`[aria-label='corpus browser'] .loc-spot`)].map(s =>"
        " +getComputedStyle(s).opacity)"
    )
    assert set(lab.evaluate(lit)) == {0} and spots.count() >= 1
    before = picture(browser.locator(".loc-picture"), "unlit")
    browser.locator(".loc-mention").first.hover()
    lab.wait_for_function(f"Math.max(...({lit})()) === 1")
    after = picture(browser.locator(".loc-picture"), "lit")
    assert sum(map(sum, after.resize((8, 6)).getdata())) < 0.8 * sum(
        map(sum, before.resize((8, 6)).getdata())
    )  # the rest went dark
    picture(browser, "browser")
    lab.mouse.move(5, 5)
    lab.wait_for_function(f"Math.max(...({lit})()) === 0")
    browser.locator(".loc-box").first.hover()  # and the other way round
    assert "solid" in lab.evaluate(
        "() => [...document.querySelectorAll(`[aria-label='corpus browser'] .loc-mention`)].map(s"
        " => getComputedStyle(s).outlineStyle)"
    )


def test_keys_reach_the_widget_and_not_the_notebook(lab):
    cells, browser = lab.locator(".jp-Cell").count(), frame(lab, "corpus browser")
    browser.focus()
    for key in (
        "i",
        "i",
        "o",
        "b",
        "x",
        "d",
        "d",
        "a",
        "r",
    ):  # b, x, d d, a are JupyterLab's own for cells
        lab.keyboard.press(key)
    shows(browser, re.compile(r"^Kept: the critic gives it"))
    assert lab.locator(".jp-Cell").count() == cells


def test_the_threshold_is_dragged(lab):
    explorer = frame(lab, "threshold explorer")
    told = explorer.get_by_text(re.compile(r"kept [\d,]+ of"))
    before = int(re.search(r"kept ([\d,]+) of", told.inner_text())[1].replace(",", ""))
    track, handle = (
        explorer.locator(".noUi-base").bounding_box(),
        explorer.locator(".noUi-handle").bounding_box(),
    )
    y = handle["y"] + handle["height"] / 2
    lab.mouse.move(handle["x"] + handle["width"] / 2, y)
    lab.mouse.down()
    for share in (0.6, 0.4, 0.2, 0.02):
        lab.mouse.move(track["x"] + share * track["width"], y, steps=4)
    lab.mouse.up()
    lab.wait_for_function(
        "before => { const t = [...document.querySelectorAll(`[aria-label='threshold explorer']"
        " .widget-html-content`)].map(e => e.innerText).find(t => /kept [\\d,]+ of/.test(t));"
        " return +/kept ([\\d,]+) of/.exec(t)[1].replace(',', '') > before; }",
        arg=before,
        timeout=PATIENCE,
    )
    until(lab, lambda: explorer.locator(".loc-picture img").count() >= 3)
    until(lab, lambda: explorer.get_by_text("just below: dropped").count() == 1)
    picture(explorer, "threshold")


def test_a_box_is_drawn_and_gets_an_answer(lab):
    pointer = frame(lab, "region pointer")
    pointer.get_by_role("button", name="clear boxes").click()
    pointer.get_by_label("answers").fill("")
    pointer.get_by_label("answers").press("Tab")
    canvas = pointer.locator(".loc-canvas")
    lab.wait_for_function("() => document.querySelectorAll('.loc-drawn').length === 0")
    box = canvas.bounding_box()
    lab.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.2 * box["height"])
    lab.mouse.down()
    lab.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.9 * box["height"], steps=5)
    lab.mouse.up()
    shows(pointer, "drawn: [0]")
    drawn = pointer.locator(".loc-drawn").bounding_box()
    assert (
        abs(drawn["x"] - box["x"] - 0.1 * box["width"]) < 4
        and abs(drawn["width"] - 0.4 * box["width"]) < 5
    )  # pixels: where the hand drew
    question = pointer.get_by_label("question")
    question.fill("What will [3] do next?")
    question.press("Enter")
    shows(pointer, "the question mentions [3], but the regions drawn are [0]")
    question.fill("What will [0] do next?")
    question.press("Enter")
    shows(pointer, re.compile("in its own words"))
    assert (
        pointer.locator(".loc-answer").count() >= 4
    )  # base and student, own words and the corpus's answers
    pointer.get_by_label("answers").fill("Run away.\nTurn the page.")
    pointer.get_by_role("button", name="ask", exact=True).click()
    shows(pointer, "of your 2 answers")
    until(lab, lambda: pointer.locator(".loc-answer").count() == 4)
    picture(pointer, "pointer")


def test_ones_own_photograph_is_pointed_at_with_keys(lab):
    pointer = frame(lab, "region pointer")
    with lab.expect_file_chooser() as chooser:
        pointer.get_by_role("button", name=re.compile("own image")).click()
    chooser.value.set_files(ROOT / "lskd_nb" / "sources" / "photograph" / "astronaut.jpg")
    lab.wait_for_function(
        "() => document.querySelector('.loc-canvas img').alt.startsWith('astronaut.jpg')",
        timeout=PATIENCE,
    )
    pointer.locator(".loc-canvas").focus()
    for key in ("b", "ArrowLeft", "Shift+ArrowDown", "b", "Delete"):
        lab.keyboard.press(key)
    shows(pointer, "drawn: [0]")
    until(lab, lambda: pointer.locator(".loc-drawn").count() == 1)
    drawn, canvas = (
        pointer.locator(".loc-drawn").bounding_box(),
        pointer.locator(".loc-canvas").bounding_box(),
    )
    assert (
        drawn["x"] - canvas["x"] == pytest.approx(0.33 * canvas["width"], abs=4)
        and drawn["height"] > drawn["width"] + 5
    )


def test_five_labels_are_in_the_file(lab, run):
    annotator = frame(lab, "annotator")
    annotator.focus()
    for number, keys in enumerate(["a55", "r11", "a44", "r22", "a55"], 1):
        for key in keys:
            lab.keyboard.press(key)
        lab.keyboard.press("Enter")
        shows(annotator, re.compile(rf"you: {number} of"))
    picture(annotator, "annotator")
    rows = read_parquet(run / "labels_by_people.parquet", LABELS).to_pylist()
    assert [(r["accept"], r["qa_score"], r["rationale_score"]) for r in rows] == [
        (True, 1, 1),
        (False, 0, 0),
        (True, 0.75, 0.75),
        (False, 0.25, 0.25),
        (True, 1, 1),
    ]
    assert len({r["triple_id"] for r in rows}) == 5 and {r["annotator"] for r in rows} == {"you"}
    annotator.focus()
    lab.keyboard.press("u")
    shows(annotator, re.compile("you: 4 of"))
    assert read_parquet(run / "labels_by_people.parquet", LABELS).num_rows == 4


def test_who_said_what_is_stepped_through(lab):
    inspector = frame(lab, "verbalization inspector")
    before = inspector.locator(".loc-sample").inner_text()
    inspector.focus()
    lab.keyboard.press("ArrowRight")
    lab.wait_for_function(
        "before => document.querySelector(`[aria-label='verbalization inspector']"
        " .loc-sample`).innerText !== before",
        arg=before,
        timeout=PATIENCE,
    )
    picture(inspector, "inspector")


def test_the_page_without_jupyter(chromium, run):
    command = [
        sys.executable,
        "-m",
        "voila",
        str(ROOT / "notebooks" / "app" / "point_and_browse.ipynb"),
        "--Voila.ip=127.0.0.1",
        "--strip_sources=True",
        "--no-browser",
    ]
    with served(
        command,
        "voila/static/voila.js",
        run.parent / "voila.log",
        LSKD_ROOT=str(ROOT),
        LSKD_RUN=str(run),
    ) as address:
        page = chromium.new_page(viewport=dict(width=1300, height=900))
        page.set_default_timeout(PATIENCE)
        page.goto(address)
        pointer = frame(page, "region pointer")
        assert (
            "import" not in page.locator("body").inner_text()
            and page.locator(".highlight, .cm-editor").count() == 0
        )  # no code
        box = pointer.locator(".loc-canvas").bounding_box()
        page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.2 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.8 * box["height"], steps=3)
        page.mouse.up()
        shows(pointer, "drawn: [0]")
        pointer.get_by_role("button", name="ask", exact=True).click()
        pointer.locator(".loc-answer").first.wait_for(timeout=PATIENCE)
        picture(page, "page")
        page.get_by_role("tab", name="Look into the corpus").click()
        browser = frame(page, "corpus browser")
        browser.focus()
        page.keyboard.press("k")
        page.keyboard.press("k")
        shows(browser, re.compile("^Dropped: the critic"))
        page.get_by_role("tab", name="Move the threshold").click()
        shows(frame(page, "threshold explorer"), "just above: kept")
        page.close()
