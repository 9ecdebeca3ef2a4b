"""A dress rehearsal: a profile's run from end to end, offline, on two cores, before anybody has its
data, its models or its key.

A *stage* is a project of its own: this one's notebooks and the profile's parameters, beside data
sets in their published form (``data_sets``), tiny random checkpoints under their hub names
(``checkpoints``), and a server that refuses what OpenAI's refuses (``server``). On it the guide's
commands are typed one after the other, the labelling in the middle (``annotating``) too. Of the
profile's parameters only those in ``SMALLER``, the server's address and the number of processes are
changed. What this can't show is ``NOT_SHOWN``.
"""

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lskd_nb.critic.label_sample import FILE as SAMPLE
from lskd_nb.critic.label_sample import TO_MEASURE
from lskd_nb.records import atomic_path
from lskd_nb.rehearsal import server
from lskd_nb.rehearsal.annotating import annotate_tasks
from lskd_nb.rehearsal.checkpoints import write_hub, write_lavis
from lskd_nb.rehearsal.data_sets import write_data_sets
from lskd_nb.run_folder import RunError
from lskd_nb.runner.manifest import processor
from lskd_nb.runner.parameters import Notebook, profile_parameters, read_notebooks
from lskd_nb.runner.stops import MODELS

Say = Callable[[str], None]
GUIDE = "notebooks/guide/reproduce-the-paper.md"
CONVERSION = "python -m lskd_nb.students.loading "  # begins the guide's commands for LAVIS's files
# the most that a parameter may be: steps, batches, image sizes, processes and numbers of images
SMALLER = {
    "steps": 3,
    "adapt_steps": 2,
    "batch": 8,
    "image_size": 56,
    "workers": 1,  # eight for each of four processes are for a machine with GPUs
    "held_out": 6,  # images, where it is a number of them
}
PROCESSES = 4  # notebook 5 learns in as many as the paper has GPUs, with the whole batch
AGREED = 5.0  # USD, to what the teacher may cost
NOT_SHOWN = (
    "published weights: shapes, names and formats are theirs, the numbers are random",
    "GPUs: bf16, memory, several processes over NCCL",
    "OpenAI's own servers, and the hub's: their words and files are imitated",
    "anything learned: three steps on two dozen drawings",
)


@dataclass(frozen=True)
class Typed:
    """A command of the walk: how it ended, in how many seconds, and its last lines."""

    command: str
    status: int
    seconds: float
    said: tuple[str, ...]


@dataclass
class Walk:
    """A rehearsal under way on the stage in ``folder``."""

    profile: str
    folder: Path
    environment: Mapping[str, str]
    say: Say
    typed: list[Typed] = field(default_factory=list)

    def type(self, *arguments: str, ends: Sequence[int] = (0,), words: Sequence[str] = ()) -> Typed:
        """Run ``python`` with these arguments on the stage; the first is "-m" and a module, shown
        as what one would type.

        Raises ``RunError`` with its last lines where it ends with a status that is none of
        ``ends``, or one of ``words`` is not among what it says.
        """
        shown = shlex.join(arguments).replace("-m lskd_nb.cli", "lskd").replace("-m ", "python -m ")
        self.say(f"$ {shown}")
        begin = time.monotonic()
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        lines = tuple(line for line in done.stdout.splitlines() if line.strip())
        typed = Typed(shown, done.returncode, round(time.monotonic() - begin, 1), lines[-40:])
        self.typed.append(typed)
        missing = [word for word in words if word not in done.stdout]
        if done.returncode not in ends or missing:
            told = f"and does not say {missing[0]!r}" if missing else f"expected {ends[0]}"
            raise RunError(
                "\n".join([*lines[-15:], f"`{shown}` ended with status {done.returncode}, {told}"])
            )
        for line in lines[-1:]:
            self.say(f"  {line[:160]}")
        return typed

    def lskd(self, *arguments: str, ends: Sequence[int] = (0,), words: Sequence[str] = ()) -> Typed:
        return self.type("-m", "lskd_nb.cli", *arguments, ends=ends, words=words)


def rehearse(profile: str, root: Path, folder: Path, say: Say = print) -> dict:
    """Walk the profile's whole run on a stage in ``folder``, which is made anew; returns what came
    of it: commands, and for each notebook its seconds, what was changed, what it wrote.

    Raises ``RunError`` at the first command that does not end as it should.
    """
    begin, notebooks = time.monotonic(), read_notebooks(root)
    given = {n.number: profile_parameters(root, profile, n) for n in notebooks}
    set_stage(profile, root, folder, given)
    say(f"the stage is set in {folder}, {time.monotonic() - begin:.0f} s")
    with server.serving() as base_url:
        walk = Walk(profile, folder, environment(folder), say)
        changes = smaller(notebooks, given) | elsewhere(given, base_url)
        consent = {"02.max_cost_usd": AGREED} if "02.base_url" in changes else {}
        run_all(walk, root, given, changes, consent)
    return outcome(walk, notebooks, changes | consent, time.monotonic() - begin)


# --------------------------------------------------------------------------------------- the stage


def set_stage(profile: str, root: Path, folder: Path, given: Mapping[str, Mapping]) -> None:
    """Lay out a project: notebooks, the profile, data, models and the hub's cache."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "STAGE").exists():
        raise RunError(
            f"{folder} holds something else than a stage: name another folder with --out"
        )
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "params").mkdir(parents=True)
    (folder / "STAGE").write_text("A dress rehearsal's; it is made anew each time.\n")
    for name in ("notebooks", "lskd_nb"):
        (folder / name).symlink_to(root / name)
    shutil.copytree(root / "params" / profile, folder / "params" / profile)
    write_data_sets(folder / "data")
    made = {shlex.split(command)[4] for command in conversions(root)}
    here = {name for name in models_named(given) if (folder / name).exists()}
    write_hub(folder / "hub", [n for n in models_named(given) if n not in made | here])
    words = next((folder / "hub" / "models--bert-base-uncased" / "snapshots").iterdir())
    write_lavis(folder, words)


def models_named(given: Mapping[str, Mapping]) -> list[str]:
    """Every model that the profile names, once."""
    found: dict[str, None] = {}
    for values in given.values():
        for parameter in MODELS:
            told = values.get(parameter) or []
            found |= dict.fromkeys(told if isinstance(told, list) else [str(told)])
    return list(found)


def environment(folder: Path) -> dict[str, str]:
    """The stage's: offline, with a key of the stand-in server's and no other."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "OPENAI_", "LSKD_"))}
    return kept | {
        "LSKD_ROOT": str(folder),
        "HF_HOME": str(folder / "hub"),
        "HF_HUB_CACHE": str(folder / "hub"),
        "CUDA_VISIBLE_DEVICES": "",  # a rehearsal is for two cores
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TQDM_DISABLE": "1",
        "OPENAI_API_KEY": server.KEY,
    }


# ------------------------------------------------------------------------------------- what changes


def smaller(notebooks: Sequence[Notebook], given: Mapping[str, Mapping]) -> dict[str, object]:
    """The parameters of the profile that are above ``SMALLER``, and what they are lowered to; and
    in how many processes notebook 5 learns, whose batch stays whole.

    A share stays a share.
    """
    found: dict[str, object] = {}
    for notebook in notebooks:
        values = {**notebook.defaults, **given[notebook.number]}
        for name, most in SMALLER.items():
            value = values.get(name)
            if (notebook.number, name) == ("05", "batch") and value and not value % PROCESSES:
                found["05.processes"] = PROCESSES
            elif type(value) is int and value > most:
                found[f"{notebook.number}.{name}"] = most
    return found


def elsewhere(given: Mapping[str, Mapping], base_url: str) -> dict[str, object]:
    """Whom to ask in place of OpenAI."""
    return {f"{n}.base_url": base_url for n, values in given.items() if values.get("base_url")}


def options_of(changes: Mapping[str, object], *numbers: str) -> list[str]:
    """``-p`` options for the changes, of these notebooks or of all."""
    return [
        part
        for place, value in changes.items()
        if not numbers or place.split(".")[0] in numbers
        for part in ("-p", f"{place}={value}")
    ]


# --------------------------------------------------------------------------------------------- walk


def run_all(
    walk: Walk, root: Path, given: Mapping[str, Mapping], changes: Mapping, consent: Mapping
) -> None:
    """The guide's commands, in its order. What the teacher costs is agreed to once."""
    profile, labels = walk.profile, given.get("03", {}).get("labels_file")
    for command in conversions(root):
        walk.type(*shlex.split(command)[1:])
    servers = {place: value for place, value in changes.items() if place.endswith(".base_url")}
    _only_gpus_are_missing(walk.lskd("check", profile, *options_of(servers), ends=(0, 1)))
    walk.lskd("run", profile, "--only", "00", "--only", "01", *options_of(changes, "00", "01"))
    walk.lskd("run", profile, "--only", "01b", *options_of(changes, "01b"))
    if consent:
        walk.lskd("estimate", profile, *options_of(changes, "02"))
    stops = dict(ends=(1,), words=("labels_file", "label", SAMPLE)) if labels else {}
    walk.lskd("run", profile, *options_of({**changes, **consent}), **stops)
    measured = {}
    if labels:
        _label(walk, labels)
        measured = {"04.labels_file": Path(labels).with_name(TO_MEASURE)}
    walk.lskd("run", profile, *options_of({**changes, **measured}))
    walk.lskd("run", profile, "--only", "08", *options_of(changes, "08"))


def _label(walk: Walk, labels: str) -> None:
    """What people do before the critic can learn: both parts of the sample, each into its file."""
    tasks, export = walk.folder / "tasks.json", walk.folder / "export.json"
    walk.lskd("labels", "status", walk.profile, ends=(1,), words=("no labels yet", "next: "))
    for to_measure in ((), ("--labels", TO_MEASURE)):
        out = ("--out", str(tasks), "--number", "120")
        walk.lskd("labels", "export", walk.profile, *to_measure, *out)
        walk.say(f"  two annotators made {annotate_tasks(tasks, export)} annotations")
        walk.lskd("labels", "import", walk.profile, *to_measure, str(export))
    walk.lskd("labels", "status", walk.profile, words=("Krippendorff", "warning: ", "next: "))
    if not (walk.folder / labels).exists():
        raise RunError(f"labels_file is {labels}, and that is not where labels were imported to")


def conversions(root: Path) -> list[str]:
    """The commands of the guide that make folders of LAVIS's files."""
    lines = (root / GUIDE).read_text(encoding="utf-8").splitlines()
    found = [line.strip().split("  #")[0] for line in lines if line.strip().startswith(CONVERSION)]
    if not found:
        raise RunError(f"{root / GUIDE} has no line that begins with {CONVERSION!r}")
    return found


def _only_gpus_are_missing(checked: Typed) -> None:
    missing = [line for line in checked.said if line.strip().startswith("MISSING")]
    if others := [line for line in missing if not line.strip().startswith("MISSING GPU")]:
        raise RunError("\n".join(["on a stage where everything is laid out:", *others]))


# ---------------------------------------------------------------------------------- what came of it


def outcome(
    walk: Walk, notebooks: Sequence[Notebook], changes: Mapping[str, object], seconds: float
) -> dict:
    """The walk as JSON: commands, and for each notebook seconds, changes, and what was written."""
    run_dir = walk.folder / "outputs" / "runs" / walk.profile
    entries = json.loads((run_dir / "manifest.json").read_text(encoding="utf-8"))["notebooks"]
    metrics = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
    rows = {}
    for notebook in notebooks:
        entry = entries.get(notebook.name, {"status": "not run", "outputs": {}})
        if entry["status"] != "done":
            raise RunError(f"{notebook.name} is {entry['status']}: the rehearsal has not walked it")
        number = notebook.number
        rows[notebook.name] = dict(
            seconds=entry["seconds"],
            peak_gib=entry["peak_gib"],
            changed={p.split(".")[1]: v for p, v in changes.items() if p.split(".")[0] == number},
            written=sorted(name for name, digest in entry["outputs"].items() if digest),
        )
    return dict(
        profile=walk.profile,
        seconds=round(seconds),
        machine=dict(cpus=os.cpu_count(), processor=processor()["model"], system=platform.system()),
        commands=[
            dict(command=_placeless(t.command, walk), status=t.status, seconds=t.seconds)
            for t in walk.typed
        ],
        notebooks=rows,
        measured=sorted(metrics),
        not_shown=list(NOT_SHOWN),
    )


def _placeless(command: str, walk: Walk) -> str:
    """A command without this machine's folders and the server's port."""
    shown = command.replace(f"{walk.folder}/", "")
    return " ".join(
        part.split("=")[0] + "=…" if "base_url=" in part else part for part in shown.split(" ")
    )


def table(told: Mapping) -> list[str]:
    """The outcome as lines: notebook, seconds, what was changed, what was written."""
    lines = [f"{'notebook':26}{'s':>5}  {'changed':54}written"]
    for name, row in told["notebooks"].items():
        changed = ", ".join(f"{k} {_short(v)}" for k, v in row["changed"].items()) or "nothing"
        written = ", ".join(f for f in row["written"] if not f.endswith(".metrics.json"))
        lines.append(f"{name[:25]:26}{row['seconds']:5.0f}  {changed:54}{written}")
    total = f"all of it in {told['seconds']} s on {told['machine']['cpus']} cores"
    shown = [f"  - {line}" for line in told["not_shown"]]
    return [*lines, total, "not shown by a rehearsal:", *shown]


def _short(value: object) -> str:
    return "the stand-in's" if str(value).startswith("http") else str(value)


def write_outcome(told: Mapping, path: Path) -> None:
    """The outcome as JSON, the server's port left out."""
    for row in told["notebooks"].values():
        row["changed"] = {k: _short(v) if k == "base_url" else v for k, v in row["changed"].items()}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", "utf-8")
