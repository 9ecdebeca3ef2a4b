"""The learning stages over several seeds, pooled: what one lucky run can't fake.

The world, its verbalizations and triples are those of the profile's own run; critic, filter, students and evaluation run anew with
each seed, in a folder of their own, each as resumable as any run.
"""

import json
from pathlib import Path

import numpy as np

from lskd_nb.evaluation import read_predictions, summary
from lskd_nb.records import atomic_path
from lskd_nb.run import LIMITS, parse_overrides, read_notebook, run_profile

LEARNING = ("03", "04", "05", "06")


def replicate(profile: str, root: Path, seeds: int, say=print) -> dict:
    """Run ``seeds`` seeds and write their pooled figures to outputs/PROFILE/metrics.json; returns them."""
    runs = root / "outputs" / "runs"
    first = runs / profile
    run_profile(profile, root, first, say=say)
    folders = [first]
    notebooks = [read_notebook(p) for p in sorted((root / "notebooks").glob("[0-9]*.ipynb"))]
    shared = [entry for n in notebooks if n.number in ("01", "02") for entry in n.writes]
    seeded = [n.number for n in notebooks if n.number in LEARNING and "seed" in n.defaults]
    for seed in range(1, seeds):
        folder = runs / f"{profile}-seed{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        for entry in shared:
            if not (folder / entry).exists():
                (folder / entry).symlink_to(first / entry)
        say(f"seed {seed}")
        overrides = [f"{number}.seed={seed}" for number in seeded]
        parse_overrides(overrides, notebooks)
        run_profile(profile, root, folder, only=LEARNING, overrides=overrides, limits=LIMITS.get(profile), say=say)
        folders.append(folder)
    pooled = pool(folders)
    with atomic_path(root / "outputs" / profile / "metrics.json") as temporary:
        temporary.write_text(json.dumps(pooled, indent=1) + "\n", encoding="utf-8")
    return pooled


def pool(folders: list[Path]) -> dict:
    """Figures of several runs together: predictions pooled, the critic's metrics averaged, seconds of the first run."""
    runs = [json.loads((f / "metrics.json").read_text(encoding="utf-8")) for f in folders]
    pooled = summary(read_predictions(folders))
    names = runs[0]["critic"].keys()
    pooled["critic"] = {n: float(np.mean([r["critic"][n] for r in runs])) for n in names}
    pooled["critic_by_seed"] = [r["critic"] for r in runs]
    pooled["scaling"] = [
        dict(triples=point["triples"], system=point["system"], q_ar=pooled["vcr"][point["system"]]["q_ar"]) for point in runs[0]["scaling"]
    ]
    pooled["seconds"] = runs[0]["seconds"]
    pooled["seeds"] = list(range(len(runs)))
    return pooled
