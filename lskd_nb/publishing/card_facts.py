"""What cards say of a run: facts of its corpus, manifest, metrics and report."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lskd_nb.corpus.provenance import provenance_of
from lskd_nb.critic import NONE, TRAIN, UNFILTERED
from lskd_nb.publishing.card_texts import NOT_SCORED, SCORED, SCORED_BY
from lskd_nb.publishing.report import report_there
from lskd_nb.publishing.report_text import code, interval
from lskd_nb.publishing.what_it_took import what_it_took
from lskd_nb.records import CORPUS, read_parquet

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")  # USER/NAME


@dataclass(frozen=True)
class RunFacts:
    """What cards say of a run."""

    triples: int
    images: int
    teachers: tuple[str, ...]  # models that wrote the texts
    sources: tuple[str, ...]  # data sets of the images
    parameters: Mapping[str, Mapping]  # of each notebook, by its number
    base: str = ""  # what the student was distilled from, where it has a name on the hub
    metrics: Mapping = field(default_factory=dict)
    report: Mapping | None = None
    # trained_from.json of "student" and "critic", where they are there
    trained: Mapping[str, Mapping] = field(default_factory=dict)
    imported: str = ""  # where the corpus comes from, if it was not made here
    used: tuple[Mapping, ...] = ()  # by stage, as ``what_it_took`` has it

    @property
    def mini(self) -> bool:
        """Whether the run is the mini world's: drawn pictures, texts by a rule-based writer."""
        return all(t.startswith("mini-") for t in self.teachers)

    @property
    def critic(self) -> str:
        """Who scored the triples, as notebook 04's parameter ``critic`` says."""
        return str(self.metrics.get("corpus", {}).get("critic", TRAIN))


def run_facts(folder: str | Path) -> RunFacts:
    """Facts of a finished run's folder: corpus.parquet, manifest.json, metrics.json, how student
    and critic were trained where it is there, and report.json if it is of this corpus.

    Raises ``FileNotFoundError`` or ``ValueError`` naming the file that is missing or damaged.
    """
    folder = Path(folder)
    corpus = read_parquet(folder / "corpus.parquet", CORPUS)
    if not corpus.num_rows:
        raise ValueError(f"{folder / 'corpus.parquet'} has no triples")
    notebooks = run_notebooks(folder)
    found = {
        name: tuple(sorted(v or "unknown" for v in corpus[name].unique().to_pylist()))
        for name in ("model", "source")
    }
    origins = {"student": folder / "student/lskd", "critic": folder / "critic"}
    trained = {
        part: _json(told)
        for part, home in origins.items()
        if (told := home / "trained_from.json").exists()
    }
    # a whole path, where it was a folder
    base = str(trained.get("student", {}).get("student", ""))
    return RunFacts(
        corpus.num_rows,
        len(corpus["image_id"].unique()),
        found["model"],
        found["source"],
        {name.split("_")[0]: entry["parameters"] for name, entry in notebooks.items()},
        base if HUB_NAME.fullmatch(base) else "",
        _json(folder / "metrics.json"),
        report_there(folder),
        trained,
        provenance_of(folder),
        tuple(what_it_took(notebooks, _json(folder / "metrics.json"))),
    )


def filtered(facts: RunFacts) -> str:
    """Who scored the triples, and which were kept."""
    told = facts.metrics.get("corpus", {})
    kept = "the best were kept"
    if "raw" in told and told.get("threshold") is not None:
        kept = (
            f"{told['triples']:,} of {told['raw']:,} were kept,"
            f" those of a probability of at least {told['threshold']:.3f}"
        )
    if facts.critic == NONE:
        return NOT_SCORED
    how = SCORED if facts.critic == TRAIN else SCORED_BY
    return how.format(critic=code(facts.critic), kept=kept)


def chosen(facts: RunFacts) -> str:
    """Which of the triples a student learned from."""
    return f" ({UNFILTERED})" if facts.critic == NONE else " that a critic kept"


def acceptability(facts: RunFacts) -> str:
    """How much of the triples is acceptable, and on how many labels that rests."""
    told = facts.metrics.get("acceptability", {})
    by = "by the mini world's truth" if facts.mini else "by the labels that notebook 04 was given"
    what = {"raw": "of what was written", "kept": "of what was kept"}
    known = {name: told[name] for name in what if "mean" in told.get(name, {})}
    if not known:
        return "How many of the triples are acceptable was not measured."
    shares = ", ".join(
        f"{interval(of)} {what[name]} ({of['n']:,} measured)" for name, of in known.items()
    )
    if "kept" not in known:
        return f"Acceptable, in %, {by}: {shares}. Of what was kept too few were measured."
    return (
        f"Acceptable, in %, {by}: {shares}; 95% intervals over images. So"
        f" {100 - 100 * told['kept']['mean']:.0f} in 100 triples are not acceptable."
    )


def run_notebooks(folder: str | Path) -> dict[str, dict]:
    """What a run's manifest.json tells of each notebook: at least its ``parameters``, and its
    ``status`` ("" where there is none).

    Raises ``FileNotFoundError`` where nothing has run, ``ValueError`` naming the file and what is
    wrong in it.
    """
    path = Path(folder) / "manifest.json"
    notebooks = _json(path).get("notebooks")
    if not isinstance(notebooks, dict):
        raise ValueError(
            f"{path}: `notebooks` is {notebooks!r:.40},"
            " expected an object that tells of each notebook"
        )
    for name, entry in notebooks.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("parameters", {}), dict):
            raise ValueError(
                f"{path}: notebook {name!r} is {entry!r:.40},"
                " expected an object with its status and parameters"
            )
    return {name: {"parameters": {}, "status": ""} | entry for name, entry in notebooks.items()}


def _json(path: Path) -> dict:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is not there: the run is not finished") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(told, dict):
        raise ValueError(f"{path} holds a {type(told).__name__}, expected an object")
    return told
