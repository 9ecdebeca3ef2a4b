"""A run stops where a file is missing that somebody else must bring, and says what to do."""

import json
import shutil
from pathlib import Path

import pytest

from lskd_nb.cli import main
from lskd_nb.corpus.imported import import_corpus
from lskd_nb.critic.label_sample import draw_sample
from lskd_nb.records import LABELS, TRIPLES, read_parquet, write_parquet
from lskd_nb.rehearsal.annotating import annotate_tasks
from lskd_nb.run_folder import RunError
from lskd_nb.runner import manifest
from lskd_nb.runner.parameters import Notebook, read_notebook
from lskd_nb.runner.run import run_profile
from lskd_nb.runner.stops import is_hub_name, require_files

LABELS_FILE = 'run_dir: str = "."\nlabels_file: str = ""'


def stage(tiny, name, parameters, profile, *cells):
    reads = [f"param:{line.split(':')[0]}" for line in parameters.splitlines()[1:]]
    tiny(name, *(cells or ("1",)), parameters=parameters, reads=reads, profile=profile)


@pytest.fixture
def unlabelled(tiny, tmp_path, small_run):
    """A run with twelve triples, whose notebook 03 wants labels of them."""
    tiny("02_write", "1")
    file = "outputs/runs/tiny/labels_by_people.parquet"
    stage(tiny, "03_learn", LABELS_FILE, {"labels_file": file})
    run = tmp_path / "outputs" / "runs" / "tiny"
    run.parent.mkdir(parents=True)
    return shutil.copytree(small_run, run)


def test_a_run_stops_for_labels_says_how_and_goes_on(
    unlabelled, tmp_path, lskd, monkeypatch, capsys
):
    run, file = unlabelled, unlabelled / "labels_by_people.parquet"
    measure = "labels_to_measure.parquet"
    done = lskd(tmp_path, "run", "tiny")
    assert done.returncode == 1 and "03_learn" not in done.stdout
    assert done.stderr.splitlines() == [
        "03_learn needs labels_file, which is outputs/runs/tiny/labels_by_people.parquet, and"
        f" {file} is not there",
        f"done so far: 12 triples in {run / 'triples.parquet'}",
        "now label 9 of them, a sample that is drawn and kept in"
        f" {run / 'sample_to_label.parquet'}, in one of two ways:",
        f'  notebook 07\'s label widget, Annotator("{run}", "your name"): it writes {file}',
        "  lskd labels export tiny --out tasks.json  (Label Studio)",
        "  lskd labels import tiny export.json",
        f"and, to measure with, 3 others into {run / measure}, in the same ways: with"
        ' labels="labels_to_measure.parquet", or --labels labels_to_measure.parquet',
        "lskd labels status tiny says how far it is",
        "then run again: what is done is not done again",
    ]
    # what it says to do is done, by its own commands
    exported, imported = (line.split("(")[0].split()[1:] for line in done.stderr.splitlines()[4:6])
    other = ["--labels", "labels_to_measure.parquet"]
    seen, sample = [], (run / "sample_to_label.parquet").read_bytes()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LSKD_ROOT", str(tmp_path))
    assert main(["labels", "status", "tiny"]) == 1
    for more in ([], other):
        assert main([*exported, *more]) == 0
        annotate_tasks(tmp_path / "tasks.json", tmp_path / "export.json")
        assert main([*imported, *more]) == 0
        seen.append({t["data"]["image_id"] for t in json.loads(Path("tasks.json").read_text())})
    assert len(seen[0]) == 3 and len(seen[1]) == 1 and not seen[0] & seen[1]
    assert main(["labels", "status", "tiny"]) == 0
    told = capsys.readouterr().out
    assert "0 of the sample's 9, 9 to go" not in told.split("next:")[1], told
    assert (
        f"{run / 'labels_to_measure.parquet'}: 3 triples labelled, by ada@example.org (3)" in told
    )
    said: list[str] = []
    run_profile("tiny", tmp_path, run, say=said.append)
    assert said[0].endswith("02_write … nothing it reads has changed")
    assert said[1].startswith("[2/2] 03_learn … ") and "cells" in said[1]
    assert (run / "sample_to_label.parquet").read_bytes() == sample


def test_labels_elsewhere_are_asked_for_there(unlabelled, tmp_path):
    other = (unlabelled.parent / "my run").absolute()
    unlabelled.rename(other)
    overrides = ["03.labels_file=test labels.parquet"]
    with pytest.raises(RunError) as stopped:
        run_profile("tiny", tmp_path, other, only=["03"], overrides=overrides)
    told, path = str(stopped.value), tmp_path / "test labels.parquet"
    assert f'Annotator("{other}", "your name", labels="{path}"): it writes {path}' in told
    assert f"lskd labels export tiny --run '{other}' --labels '{path}' --out tasks.json" in told
    assert f"lskd labels import tiny --run '{other}' --labels '{path}' export.json" in told


def test_without_triples_there_is_nothing_to_label(unlabelled, tmp_path):
    (unlabelled / "triples.parquet").unlink()
    with pytest.raises(RunError, match="notebook 02 has not written any yet: run it first"):
        run_profile("tiny", tmp_path, unlabelled, only=["03"])


def test_other_files_are_plainly_missed_and_models_of_the_hub_are_not(tiny, tmp_path):
    parameters = 'run_dir: str = ""\ncandidates: str = ""\nbase: str = ""'
    given = {"candidates": "data/ranked.json", "base": "Salesforce/blip2-itm-vit-g"}
    stage(tiny, "06_look", parameters, given)
    with pytest.raises(RunError) as stopped:
        run_profile("tiny", tmp_path, tmp_path / "run")
    assert str(stopped.value) == (
        f"06_look needs candidates, which is data/ranked.json, and {tmp_path}/data/ranked.json is"
        " not there"
    )
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ranked.json").touch()
    run_profile("tiny", tmp_path, tmp_path / "run")
    with pytest.raises(RunError, match="needs base, which is models/deep/student.pth, and"):
        run_profile(
            "tiny", tmp_path, tmp_path / "run", (), None, ["6.base=models/deep/student.pth"]
        )


def test_a_critic_that_is_not_trained_here_needs_no_labels_and_must_be_there(
    unlabelled, tmp_path, tiny
):
    parameters = LABELS_FILE + '\ncritic: str = "train"'
    notebook = read_notebook(tiny("03_learn", parameters=parameters, reads=["param:labels_file"]))
    filtering = read_notebook(tiny("04_keep", parameters=parameters, reads=["critic"]))
    writer = read_notebook(tiny("03_write", parameters=parameters, writes=["critic"]))

    def needs(one: Notebook, critic: str) -> None:
        given = {"labels_file": "gone.parquet", "critic": critic}
        require_files(manifest.Stage(one, given, unlabelled, tmp_path), "tiny", [writer])

    with pytest.raises(RunError, match="03_learn needs labels_file, which is gone.parquet"):
        needs(notebook, "train")
    (tmp_path / "mine.pth").touch()
    for critic in ("none", "mine.pth", "org/critic"):
        needs(notebook, critic)
    needs(filtering, "none")
    for critic in ("train", "mine.pth"):  # which notebook 03 converts
        with pytest.raises(RunError, match="04_keep reads critic, which 03_write writes"):
            needs(filtering, critic)
    with pytest.raises(
        RunError, match="needs critic, which is models/gone.pth, and .* expected 't"
    ):
        needs(filtering, "models/gone.pth")


def test_what_is_gone_of_the_sample_is_drawn_again_and_said(unlabelled, tmp_path, capsys):
    file = unlabelled / "labels_by_people.parquet"
    draw_sample(unlabelled, file)
    triples = read_parquet(unlabelled / "triples.parquet", TRIPLES).slice(2)
    write_parquet(triples, unlabelled / "triples.parquet", TRIPLES)
    label = dict(triple_id="m2-0", annotator="a", accept=True, qa_score=1.0, rationale_score=0.5)
    write_parquet([label], file, LABELS)
    said: list[str] = []
    for _ in range(2):
        notebook = read_notebook(tmp_path / "notebooks" / "03_learn.ipynb")
        given = {"labels_file": str(file)}
        stage = manifest.Stage(notebook, given, unlabelled, tmp_path)
        require_files(stage, "tiny", [], said.append)
    (told,) = said
    assert told.startswith("2 triples of the sample are gone, and 0 drawn in their place; the")


@pytest.mark.parametrize(
    "name, is_one",
    [
        ("Salesforce/blip2-itm-vit-g", True),
        ("openai/clip-vit-large-patch14-336", True),
        ("models/blip2_pretrained.pth", False),
        ("lskd_nb/mini/weights/student", False),
        ("./models/student", False),
        ("/models/student", False),
        ("student", False),
    ],
)
def test_names_of_the_hub(name, is_one):
    assert is_hub_name(name) is is_one


def test_what_was_agreed_to_is_not_asked_again_unless_there_is_more_to_pay(tiny):
    """A run that has paid its teacher goes on without the option that agreed to it."""
    notebook = read_notebook(tiny("02_ask", parameters="max_cost_usd: float = 0.0"))

    def cost_of(record: dict, given: dict) -> float:
        stage = manifest.Stage(notebook, given, Path("run"), Path())
        return manifest.agreed(record, stage).parameters.get("max_cost_usd", 0.0)

    paid = dict(status="done", parameters={"max_cost_usd": 350.0})
    done = {"notebooks": {"02_ask": paid}}
    assert cost_of(done, {}) == 350.0 and cost_of(done, {"max_cost_usd": 100.0}) == 350.0
    assert cost_of(done, {"max_cost_usd": 400.0}) == 400.0, "more may be sent"
    assert cost_of({"notebooks": {}}, {"max_cost_usd": 1.0}) == 1.0
    failed = {"notebooks": {"02_ask": paid | {"status": "failed"}}}
    assert cost_of(failed, {}) == 0.0


def test_what_an_earlier_notebook_writes_is_missed_by_name(tiny, tmp_path, lskd):
    tiny("01_first", "1", writes=["made.txt"])
    tiny("02_second", "open('made.txt').read()", reads=["made.txt"])
    done = lskd(tmp_path, "run", "tiny", "--only", "02")
    told = "02_second reads made.txt, which 01_first writes, and it is not in"
    assert done.returncode == 1 and told in done.stderr and "--only 01 goes before" in done.stderr


@pytest.fixture
def imported(tiny, tmp_path, published) -> Path:
    """A run that was imported, and notebooks that would write over it, learn, and evaluate."""
    tiny("01_look", "1", writes=["regions.parquet"])
    tiny("03_judge", "1", writes=["unfiltered.parquet", "critic"])
    reads = ["corpus.parquet", "unfiltered.parquet"]
    tiny("05_learn", "open('made.txt', 'w').write('x')", reads=reads, writes=["made.txt"])
    vcr = 'run_dir: str = "."\nvcr_folder: str = ""'
    tiny("06_ask", "1", parameters=vcr, reads=["made.txt"], writes=["predictions"])
    import_corpus(published(tmp_path), tmp_path / "images", tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("number, wrote", [("01", "regions.parquet"), ("03", "unfiltered.parquet")])
def test_what_was_imported_is_not_written_over(imported, tmp_path, number, wrote):
    for only in ([number], []):
        with pytest.raises(RunError, match=r"was imported from corpus_1M.jsonl, and 0\d_"):
            run_profile("tiny", tmp_path, imported, only=only)
    with pytest.raises(RunError, match=f"would write {wrote} anew: .*--from 05"):
        run_profile("tiny", tmp_path, imported, only=[number])
    assert json.loads((imported / "imported.json").read_text())["status"] == "done"
    assert not (imported / "notebooks").exists()


def test_an_imported_run_does_without_what_came_before_and_is_looked_at_strictly(
    imported, tmp_path
):
    with pytest.raises(RunError, match="nothing to evaluate on: .*-p 06.vcr_folder=FOLDER"):
        run_profile("tiny", tmp_path, imported, start="05")
    said: list[str] = []

    def go() -> str:
        record = run_profile("tiny", tmp_path, imported, only=["05"], say=said.append)
        assert record["imported"]["file"] == "corpus_1M.jsonl"
        assert record["notebooks"]["05_learn"]["inputs"]["unfiltered.parquet"] is None
        return said[-1]

    assert "cells" in go() and "nothing it reads has changed" in go()
    (imported / "corpus.parquet").unlink()
    with pytest.raises(RunError, match="lacks corpus.parquet: import corpus_1M.jsonl again"):
        go()
    import_corpus(tmp_path / "corpus_1M.jsonl", tmp_path / "images", imported)
    assert "nothing it reads has changed" in go(), "the same again"
    (tmp_path / "images" / "VG_100K" / "1.jpg").unlink()
    (imported / "corpus.parquet").unlink()
    import_corpus(tmp_path / "corpus_1M.jsonl", tmp_path / "images", imported)
    assert "cells" in go(), "it has lost a picture's triples"
