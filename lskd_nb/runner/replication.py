"""The learning stages over several seeds, pooled: what one lucky run can't fake. Beside it each
seed's own figures: what no pool may hide.

The world, its verbalizations and triples are those of the profile's own run; critic, filter,
students and evaluation run anew with each seed, in a folder of their own, each as resumable as any
run. Studies that a profile's own run leaves out, since they take students of their own, are made
here.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lskd_nb.records import atomic_path
from lskd_nb.runner.manifest import processor
from lskd_nb.runner.parameters import Notebook, profile_notebooks, profile_parameters
from lskd_nb.runner.run import Say, Tick, run_profile, seconds_of

LEARNING = ("03", "04", "05", "06")
STUDIES = ("sizes", "thresholds", "truth", "plain_base")  # notebook 5's, made with every seed
EFFECTS = (
    "vcr",
    "grounding",
    "typical",
    "difference",
    "acceptability",
)  # that each seed is to show


def replicate(
    profile: str,
    root: Path,
    seeds: int,
    limits: tuple[float | None, float | None] = (None, None),
    say: Say = print,
    tick: Tick | None = None,
) -> Path:
    """Run ``seeds`` seeds and write their pooled figures.

    Returns the path of outputs/PROFILE/metrics.json.
    """
    runs = root / "outputs" / "runs"
    own = runs / profile
    notebooks = profile_notebooks(root, profile)
    shared = [entry for n in notebooks if n.number < LEARNING[0] for entry in n.writes]
    learning = [n for n in notebooks if n.number in LEARNING]
    record = run_profile(profile, root, own, limits=limits, say=say, tick=tick)
    more = _more_studies(profile, root, notebooks, own)
    folders = [runs / f"{profile}-seed{seed}" for seed in range(seeds)]
    if not more:  # the profile's own run is that of seed 0
        folders[0] = own
    for seed, folder in enumerate(folders):
        if folder == own:
            continue
        say(f"seed {seed}")
        # the vision encoder is frozen: its features are those of any seed
        _link([*shared, "views"], own, folder)
        overrides = [f"{n.number}.seed={seed}" for n in learning if "seed" in n.defaults]
        overrides += more
        run_profile(
            profile, root, folder, [n.name for n in learning], None, overrides, limits, say, tick
        )
    out, pooled = root / "outputs" / profile / "metrics.json", pool(folders)
    # of one run, of which optional notebooks are no part
    pooled |= seconds_of(record, [n.name for n in notebooks if not n.optional])
    pooled["cpu"] = processor()
    with atomic_path(out) as temporary:
        temporary.write_text(json.dumps(pooled, indent=1) + "\n", encoding="utf-8")
    return out


def _more_studies(profile: str, root: Path, notebooks: Sequence[Notebook], own: Path) -> list[str]:
    """The parameters by which a seed's run makes all ``STUDIES`` that can be made, beside those of
    the profile; none where the profile's own run makes them too.
    """
    notebook = next((n for n in notebooks if "studies" in n.defaults), None)
    if notebook is None:
        return []
    given = notebook.defaults | profile_parameters(root, profile, notebook)
    possible = {
        "truth": (own / "world" / "truth.jsonl").exists(),  # who has no mini world, knows none
        "plain_base": bool(given.get("plain_base")),
    }
    missing = [s for s in STUDIES if possible.get(s, True) and s not in given["studies"]]
    if not missing:
        return []
    studies = f"{notebook.number}.studies=[{', '.join([*given['studies'], *missing])}]"
    pooled = [f"{n.number}.pooled=" for n in notebooks if "pooled" in n.defaults]
    return [studies, *pooled]  # a seed's run shows its own figures


def _link(entries: Sequence[str], home: Path, folder: Path) -> None:
    """Make what the first run wrote appear in another run's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        link = folder / entry
        if (home / entry).exists() and not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((home / entry).resolve())


def pool(folders: Sequence[Path]) -> dict:
    """Figures of several runs together: predictions pooled, the critic's metrics averaged; and
    ``by_seed`` each run's effects, computed from its predictions in the same way.
    """
    from lskd_nb.evaluation import studies
    from lskd_nb.evaluation.choices import read_predictions, summary

    runs = [json.loads((f / "metrics.json").read_text(encoding="utf-8")) for f in folders]
    rows = read_predictions(folders)
    pooled = summary(rows) | studies.figures(rows, runs[0].get("students", {}))
    names = runs[0]["critic"].keys()
    pooled["critic"] = {n: float(np.mean([r["critic"][n] for r in runs])) for n in names}
    pooled["critic_by_seed"] = [r["critic"] for r in runs]
    pooled["by_seed"] = []
    for seed, (run, folder) in enumerate(zip(runs, folders, strict=True)):
        rows = read_predictions([folder])
        own = summary(rows)
        pooled["by_seed"].append(
            dict(seed=seed, critic=run["critic"])
            | {effect: own[effect] for effect in EFFECTS if effect in own}
            | studies.figures(rows, run.get("students", {}))
        )
    pooled["seeds"] = list(range(len(runs)))
    return pooled
