"""What a notebook needs of people or of other places, and what to do where it is not there.

A real run stops once by design: the critic learns from labels by people, of triples that notebook
02 writes. A sample of them is drawn then and kept; the run says what of it is to be labelled and
how, and goes on when it is run again.
"""

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lskd_nb.corpus.imported import FILES as IMPORTED
from lskd_nb.critic import NONE, TRAIN
from lskd_nb.critic.label_sample import (
    FILE,
    LEARN,
    MEASURE,
    TO_MEASURE,
    WANTED,
    Drawn,
    draw_sample,
    learned_from,
    learns_from,
)
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
    return next((e for e in notebook.writes if e in (*IMPORTED, "unfiltered.parquet")), "")


def require_files(
    stage: Stage,
    profile: str,
    notebooks: Sequence[Notebook] = (),
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Return where every file is there that the stage's parameters name and it reads, and that
    another of the ``notebooks`` has to write first. Of an imported run, what an import has written;
    what else came before is not there, and the notebooks do without.

    Where labels are there and the sample that people label has changed with the triples, that is
    told to ``say``. Raises ``RunError`` that says which file is not there, what is done already,
    and what to do now.
    """
    _named_critic(stage)
    writers = {entry: n for n in notebooks if n.name != stage.notebook.name for entry in n.writes}
    imported = imported_from(stage.run_dir)
    for entry in stage.notebook.reads:
        if imported and entry in IMPORTED and not (stage.run_dir / entry).exists():
            raise RunError(f"{stage.run_dir} lacks {entry}: import {imported['file']} again")
        if entry in writers and not (_is_no_use(stage, entry) or (stage.run_dir / entry).exists()):
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
        needs_none = stage.values.get("critic", TRAIN) != TRAIN
        if name == "labels_file" and path is not None and (path.exists() or not needs_none):
            drawn = _sample(stage, path)
            if path.exists() and drawn is not None and drawn.gone:
                say(*_what_changed(drawn))
        if path is None or path.exists():
            continue
        told = str(stage.values[name])
        if name == "labels_file" and needs_none:  # a critic that is not trained here
            continue
        if name in MODELS and is_hub_name(told):
            continue
        what = f"{stage.notebook.name} needs {name}, which is {told}, and {path} is not there"
        if name == "labels_file":
            what = "\n".join([what, *how_to_label(profile, stage.root, stage.run_dir, path, drawn)])
        raise RunError(what)


def _is_no_use(stage: Stage, entry: str) -> bool:
    """Whether a stage can do without the critic that notebook 03 leaves: it has another, or none.
    One of a .pth is left there too, converted.
    """
    critic = str(stage.values.get("critic", TRAIN))
    return entry == "critic" and critic != TRAIN and not critic.endswith(".pth")


def _named_critic(stage: Stage) -> None:
    """Raise ``RunError`` where the ``critic`` is a path and not there, or should be notebook 03's,
    which has trained none.
    """
    critic = str(stage.values.get("critic", TRAIN))
    if critic == TRAIN and "critic" in stage.notebook.reads:
        other = _critic_of_03(stage.run_dir)
        if other != TRAIN:
            raise RunError(
                f"{stage.notebook.name} has critic {TRAIN!r}, and notebook 03 has trained none: its"
                f" critic is {other!r}. Give both the same, -p"
                f" {stage.notebook.number}.critic={shlex.quote(other)}"
            )
    if critic in (TRAIN, NONE) or (stage.root / critic).exists() or is_hub_name(critic):
        return
    raise RunError(
        f"{stage.notebook.name} needs critic, which is {critic}, and {stage.root / critic} is not"
        f" there: expected {TRAIN!r}, {NONE!r}, a critic's folder or hub name, or a LAVIS .pth"
    )


def _critic_of_03(run_dir: Path) -> str:
    """The ``critic`` that notebook 03 was given when it last ran, if it did."""
    try:
        told = json.loads((run_dir / "manifest.json").read_text(encoding="utf-8"))["notebooks"]
    except (OSError, ValueError, KeyError):
        return TRAIN
    found = [e for name, e in told.items() if name.startswith("03")]
    return str(found[0].get("parameters", {}).get("critic", TRAIN)) if found else TRAIN


def _sample(stage: Stage, labels_file: Path) -> Drawn | None:
    """The sample that people label for a stage; drawn where the stage waits for labels, looked
    after where they are there. None where there are no triples.
    """
    if triples_there(stage.run_dir) is None:
        return None
    if labels_file.exists() and not (stage.run_dir / FILE).exists():
        return None
    ours = labels_file if stage.notebook.number == "03" else learned_from(stage.run_dir)
    number, seed = stage.values.get("labels", WANTED), stage.values.get("seed", 0)
    return draw_sample(stage.run_dir, ours, int(number), int(seed))


def how_to_label(
    profile: str, root: Path, run_dir: Path, labels_file: Path, drawn: Drawn | None = None
) -> list[str]:
    """What is to be labelled, of the sample where it is ``drawn``, and how labels come into
    ``labels_file``.
    """
    if (triples := triples_there(run_dir)) is None:
        return ["its labels are of triples, and notebook 02 has not written any yet: run it first"]
    ours, measure = run_dir / BY_PEOPLE, run_dir / TO_MEASURE
    run, widget, into = "", f'Annotator("{run_dir}", "your name")', ""
    if run_dir.resolve() != (root / "outputs" / "runs" / profile).resolve():
        run = f" --run {shlex.quote(str(run_dir))}"
    if labels_file.resolve() != ours.resolve():
        widget = widget[:-1] + f', labels="{labels_file}")'
        into = f" --labels {shlex.quote(str(labels_file))}"
    first = f"now label a sample, {min(WANTED, triples):,} at most, which the run draws:"
    more: list[str] = []
    if drawn is not None:
        learns = learns_from(run_dir, labels_file)
        first = (
            f"now label {drawn.number(LEARN if learns else MEASURE):,} of them, a sample that is"
            f" drawn and kept in {drawn.path}, in one of two ways:"
        )
        if learns and (number := drawn.number(MEASURE)):
            more = [
                f"and, to measure with, {number:,} others into {measure}, in the same ways: with"
                f' labels="{measure.name}", or --labels {measure.name}'
            ]
    return [
        f"done so far: {triples:,} triples in {run_dir / 'triples.parquet'}",
        *(_what_changed(drawn) if drawn is not None else ()),
        first,
        f"  notebook 07's label widget, {widget}: it writes {labels_file}",
        f"  lskd labels export {profile}{run}{into} --out tasks.json  (Label Studio)",
        f"  lskd labels import {profile}{run}{into} export.json",
        *more,
        f"lskd labels status {profile}{run} says how far it is",
        "then run again: what is done is not done again",
    ]


def _what_changed(drawn: Drawn) -> list[str]:
    """What is another in the sample than when it was drawn first; nothing where it is the same."""
    if not drawn.gone:
        return []
    return [
        f"{drawn.gone:,} triples of the sample are gone, and {drawn.new:,} drawn in their place;"
        f" the others stay, with their labels: {drawn.path}"
    ]


def triples_there(run_dir: Path) -> int | None:
    """How many triples a run has so far; None where notebook 02 has written no file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(run_dir / "triples.parquet").metadata.num_rows
    except (OSError, pa.ArrowInvalid):
        return None
