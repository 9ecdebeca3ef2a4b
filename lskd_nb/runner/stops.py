"""What a notebook needs of people or of other places, and what to do where it is not there.

A real run stops once by design: the critic learns from labels by people, of triples that notebook
02 writes. The run says then what is to be labelled and how, and goes on when it is run again.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from lskd_nb.corpus.imported import FILES
from lskd_nb.critic.labels import BY_PEOPLE
from lskd_nb.run_folder import RunError, imported_from
from lskd_nb.runner.manifest import Stage
from lskd_nb.runner.parameters import Notebook

# fmt: off
MODELS = (
    "base", "clip", "captioner", "region_captioner", "question_generator", "vqa", "narrator",
    "detector", "baselines", "student", "language_model", "projection", "toxicity_model",
    "plain_base",
)
# fmt: on
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
A_FILE = re.compile(r"\.(pth?|bin|ckpt|safetensors|json|parquet)$")
LABELS_WANTED = 20_000  # the paper's


def is_hub_name(name: str) -> bool:
    """Whether a model of that name can only be one of the hub: organisation/model."""
    return HUB_NAME.fullmatch(name) is not None and not A_FILE.search(name)


def keep_what_was_imported(
    notebooks: Sequence[Notebook], given: Mapping[str, Mapping], run_dir: Path
) -> None:
    """Raise ``RunError``, before anything is run, where one of the ``notebooks`` would write anew
    what an import has written, or make an unfiltered corpus of triples that were filtered; or
    where it evaluates and none of its folders is ``given``: no mini world is there instead.
    """
    if (record := imported_from(run_dir)) is None:
        return
    for notebook in notebooks:
        values = {**notebook.defaults, **given[notebook.name]}
        folders = [name for name in values if name.endswith("_folder")]
        if "predictions" in notebook.writes and folders and not any(values[f] for f in folders):
            number = notebook.number
            raise RunError(
                f"{notebook.name} has nothing to evaluate on: an imported run has no mini world."
                f" Set one of {', '.join(folders)} (-p {number}.{folders[0]}=FOLDER)"
            )
        if entry := _imported(notebook):
            raise RunError(
                f"{run_dir} was imported from {record['file']}, and {notebook.name} would write"
                f" {entry} anew: run what comes after it (--from 05), or name another folder"
            )


def _imported(notebook: Notebook) -> str:
    """What a notebook writes that is an import's to write, or can't be made of one; "" if none."""
    return next((e for e in notebook.writes if e in (*FILES, "unfiltered.parquet")), "")


def require_files(stage: Stage, profile: str, notebooks: Sequence[Notebook] = ()) -> None:
    """Return where every file is there that the stage's parameters name and it reads, and that
    another of the ``notebooks`` has to write first. Of an imported run, what an import has written;
    what else came before is not there, and the notebooks do without.

    Raises ``RunError`` that says which is not, what is done already, and what to do now.
    """
    writers = {entry: n for n in notebooks if n.name != stage.notebook.name for entry in n.writes}
    imported = imported_from(stage.run_dir)
    for entry in stage.notebook.reads:
        if imported and entry in FILES and not (stage.run_dir / entry).exists():
            raise RunError(f"{stage.run_dir} lacks {entry}: import {imported['file']} again")
        if entry in writers and not (stage.run_dir / entry).exists():
            first = writers[entry]
            if imported and _imported(first):
                continue
            raise RunError(
                f"{stage.notebook.name} reads {entry}, which {first.name} writes, and it is not in"
                f" {stage.run_dir}: run that first (--only {first.number} goes before"
                f" --only {stage.notebook.number})"
            )
        name = entry.removeprefix("param:")
        path = stage.resolve(entry) if name != entry else None
        if path is None or path.exists():
            continue
        told = str(stage.values[name])
        if name in MODELS and is_hub_name(told):
            continue
        what = f"{stage.notebook.name} needs {name}, which is {told}, and {path} is not there"
        if name == "labels_file":
            what = "\n".join([what, *how_to_label(profile, stage.root, stage.run_dir, path)])
        raise RunError(what)


def how_to_label(profile: str, root: Path, run_dir: Path, labels_file: Path) -> list[str]:
    """What is to be labelled, and how labels come into ``labels_file``."""
    if (triples := triples_there(run_dir)) is None:
        return ["its labels are of triples, and notebook 02 has not written any yet: run it first"]
    number, ours = min(LABELS_WANTED, triples), run_dir / BY_PEOPLE
    run, widget, into = "", f'Annotator("{run_dir}", "your name")', ""
    if run_dir.resolve() != (root / "outputs" / "runs" / profile).resolve():
        run = f" --run {shlex.quote(str(run_dir))}"
    if labels_file.resolve() != ours.resolve():
        widget = widget[:-1] + f', labels="{labels_file}")'
        into = f" --labels {shlex.quote(str(labels_file))}"
    return [
        f"done so far: {triples:,} triples in {run_dir / 'triples.parquet'}",
        f"now label some of them, {number:,} for results like the paper's, in one of two ways:",
        f"  notebook 07's label widget, {widget}: it writes {labels_file}",
        f"  lskd labels export {profile}{run} --out tasks.json --number {number}  (Label Studio)",
        f"  lskd labels import {profile}{run}{into} export.json",
        "then run again: what is done is not done again",
    ]


def triples_there(run_dir: Path) -> int | None:
    """How many triples a run has so far; None where notebook 02 has written no file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(run_dir / "triples.parquet").metadata.num_rows
    except (OSError, pa.ArrowInvalid):
        return None
