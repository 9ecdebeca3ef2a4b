"""Notebooks 5 to 7 and the widgets on a corpus that somebody else has published: from a fresh
folder, by the commands, with the mini student.
"""

import json
from pathlib import Path

import nbformat
import pytest

from lskd_nb.critic.labels import BY_PEOPLE
from lskd_nb.mini.files.world_files import write_world
from lskd_nb.publishing.card_facts import run_facts
from lskd_nb.publishing.cards import student_card
from lskd_nb.records import LABELS, read_parquet
from lskd_nb.run_folder import find_root
from lskd_nb.viewing import widgets

ROOT = find_root()
ORIGIN, NAMES = "Imported from `corpus_1M.jsonl`", ("05", "06", "07")


def said(run: Path, number: str) -> str:
    """All that a notebook has shown as text."""
    (path,) = (run / "notebooks").glob(f"{number}_*.ipynb")
    cells = nbformat.read(path, as_version=4).cells
    outputs = [o for c in cells if c.cell_type == "code" for o in c.outputs]
    return "".join(o.get("text") or o.get("data", {}).get("text/plain", "") for o in outputs)


@pytest.fixture(scope="module")
def run(lskd, published, tmp_path_factory) -> Path:
    """An imported run, trained and evaluated on eight questions."""
    folder = tmp_path_factory.mktemp("imported")
    file, vcr = published(folder), folder / "benchmark" / "vcr"
    write_world(folder / "benchmark", 3, 4, 5, workers=1)
    told = ("import-corpus", str(file), "--images", str(folder / "images"))
    for expected in ("8 of the file's 8", "nothing was done"):
        done = lskd(ROOT, *told, "--out", str(folder / "run"))
        assert done.returncode == 0 and expected in done.stdout, done.stdout + done.stderr
    given = ("05.studies=[truth]", "06.limit=8", "06.baselines=[]")
    given += (f"06.vcr_folder={vcr}", f"07.vcr_folder={vcr}")
    options = [x for value in given for x in ("-p", value)]
    command = ("run", "smoke", "--from", "05", "--out", str(folder / "run"), *options)
    done = lskd(ROOT, *command)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    again = lskd(ROOT, *command)
    assert again.stdout.count("nothing it reads has changed") == 3, again.stdout + again.stderr
    return folder / "run"


@pytest.mark.slow
def test_the_notebooks_run_and_say_whose_corpus_it_is_and_what_is_left_out(run, lskd):
    assert all(said(run, number).count(ORIGIN) == 1 for number in NAMES)
    assert all("no critic was trained here" in said(run, number) for number in NAMES)
    assert "no unfiltered student" in said(run, "05") and "'truth' is left out" in said(run, "05")
    assert "no unfiltered student" in said(run, "06") and "no threshold" in said(run, "07")
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert set(metrics["vcr"]) == {"base", "lskd"}
    assert set(metrics["difference"]["vcr"]["q_ar"]) == {"lskd_minus_base"}
    assert not (run / "student" / "unfiltered").exists() and not (run / "critic").exists()
    told = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    assert told["imported"] == json.loads((run / "imported.json").read_text(encoding="utf-8"))
    assert (run / "report.md").read_text(encoding="utf-8").startswith(ORIGIN)
    card = str(student_card(run_facts(run), "somebody/student"))
    assert ORIGIN in card and "chatgpt_region_any_v4_people" in card
    refused = lskd(ROOT, "publish", "smoke", "--run", str(run), "--critic", "a/b")
    assert refused.returncode == 1 and "was not made here" in refused.stderr


@pytest.mark.slow
def test_the_widgets_open_on_it(run):
    browser = widgets.CorpusBrowser(run)
    assert browser.total == 40 and "<img" in browser.static_html()
    assert "corpus_1M.jsonl gives it 0.956" in browser.static_html()
    assert "the teacher saw" not in browser.static_html()
    annotator = widgets.Annotator(run, "ada")
    annotator.accept.value, annotator.qa.value, annotator.rationale.value = True, 1.0, 0.5
    annotator._save()
    (label,) = read_parquet(run / BY_PEOPLE, LABELS).to_pylist()
    browser.named.value = label["triple_id"]
    assert "ada accepts it" in browser.static_html()
    inspector = widgets.VerbalizationInspector(run)
    assert len(inspector.image_ids) == 8 and "thing_0" in inspector.static_html()
    pointer = widgets.RegionPointer.of_run(run)
    pointer.canvas.boxes = [pointer.canvas.offered[0]["box"]]
    pointer.choices.value = "To hold it.\nTo sleep."
    pointer.ask()
    assert {name for name, *_ in pointer.answers} == {"base", "LSKD"}
    with pytest.raises(ValueError, match="imported from corpus_1M.jsonl, .* no threshold to move"):
        widgets.ThresholdExplorer.of_run(run)
