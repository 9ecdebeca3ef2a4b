"""The learning stages over several seeds, pooled: what one lucky run can't fake. Beside it each
seed's own figures: what no pool may hide.

The world, its verbalizations and triples are those of the profile's own run; critic, filter,
students and evaluation run anew with each seed, in a folder of their own, each as resumable as any
run.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lskd_nb.records import atomic_path
from lskd_nb.runner.manifest import processor
from lskd_nb.runner.parameters import profile_notebooks
from lskd_nb.runner.run import Say, Tick, run_profile, seconds_of

LEARNING = ("03", "04", "05", "06")
EFFECTS = ("vcr", "grounding", "difference", "acceptability")  # that each seed is to show


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
    folders = [runs / profile, *(runs / f"{profile}-seed{seed}" for seed in range(1, seeds))]
    notebooks = profile_notebooks(root, profile)
    shared = [entry for n in notebooks if n.number < LEARNING[0] for entry in n.writes]
    learning = [n for n in notebooks if n.number in LEARNING]
    record = run_profile(profile, root, folders[0], limits=limits, say=say, tick=tick)
    for seed, folder in enumerate(folders[1:], 1):
        say(f"seed {seed}")
        # the vision encoder is frozen: its features are those of any seed
        _link([*shared, "views"], folders[0], folder)
        overrides = [f"{n.number}.seed={seed}" for n in learning if "seed" in n.defaults]
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
    from lskd_nb.evaluation.choices import read_predictions, summary

    runs = [json.loads((f / "metrics.json").read_text(encoding="utf-8")) for f in folders]
    pooled = summary(read_predictions(folders))
    own = [summary(read_predictions([folder])) for folder in folders]
    names = runs[0]["critic"].keys()
    pooled["critic"] = {n: float(np.mean([r["critic"][n] for r in runs])) for n in names}
    pooled["critic_by_seed"] = [r["critic"] for r in runs]
    pooled["scaling"] = _scaling(runs[0], pooled)
    pooled["by_seed"] = [
        dict(seed=seed, critic=run["critic"], scaling=_scaling(run, of_run))
        | {effect: of_run[effect] for effect in EFFECTS if effect in of_run}
        for seed, (run, of_run) in enumerate(zip(runs, own, strict=True))
    ]
    pooled["seeds"] = list(range(len(runs)))
    return pooled


def _scaling(run: Mapping, found: Mapping) -> list[dict]:
    """VCR Q→AR, as ``found``, by the sizes of the corpus that a run tried."""
    return [
        dict(
            triples=point["triples"],
            system=point["system"],
            q_ar=found["vcr"][point["system"]]["q_ar"],
        )
        for point in run["scaling"]
    ]
