"""The report of a run as a command makes it: against the benchmarks that this run was given."""

from pathlib import Path

from lskd_nb.publishing.card_facts import run_notebooks
from lskd_nb.publishing.contamination import benchmark_sets
from lskd_nb.publishing.report import report_run

BENCHMARKS = ("vcr", "sherlock", "visualcomet", "aokvqa", "snli_ve", "visual7w")  # of notebook 06


def report_of(
    run_dir: Path,
    root: Path,
    toxicity: str = "",
    toxicity_label: str = "",
    left_out: dict[str, str] | None = None,
) -> dict:
    """A run's report, with contamination of the benchmarks that its notebook 06 was given (the mini
    world's own where it was given none and the run has one); ``left_out`` learns of which there is
    nothing to compare, and why.
    """
    entries = run_notebooks(run_dir).items()
    told = next((entry["parameters"] for name, entry in entries if name.startswith("06")), {})
    homes = {
        name: root / folder if (folder := told.get(f"{name}_folder")) else run_dir / "world" / name
        for name in BENCHMARKS
    }
    images = {"sherlock": root / told["sherlock_images"]} if told.get("sherlock_images") else None
    return report_run(
        run_dir,
        benchmarks=benchmark_sets(homes, images, left_out={} if left_out is None else left_out),
        toxicity_model=toxicity,
        toxicity_label=toxicity_label,
    )
