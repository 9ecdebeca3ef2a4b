"""What a run found, for the terminal and for readers: the result table, and renderings of the
executed notebooks.
"""

import io
import json
import shutil
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path

import nbformat
import pyarrow.parquet as pq

from lskd_nb.critic import NONE, UNFILTERED
from lskd_nb.critic.weak_labels import run_warnings
from lskd_nb.records import PARQUET, atomic_path, database
from lskd_nb.runner.manifest import notebook_source
from lskd_nb.runner.parameters import read_notebooks
from lskd_nb.viewing.alt_text import fewer_colors, fewer_colors_in, fewer_colors_of
from lskd_nb.viewing.drawings_only import is_of_drawings

LARGEST = 500_000  # bytes of a rendering
PLOT = "scaling.png"  # beside the renderings, for the README
TABLE = (
    ("VCR Q→A, base", "vcr.base.q_a"),
    ("VCR Q→A, unfiltered", "vcr.unfiltered.q_a"),
    ("VCR Q→A, LSKD", "vcr.lskd.q_a"),
    ("VCR QA→R, base", "vcr.base.qa_r"),
    ("VCR QA→R, unfiltered", "vcr.unfiltered.qa_r"),
    ("VCR QA→R, LSKD", "vcr.lskd.qa_r"),
    ("VCR Q→AR, base", "vcr.base.q_ar"),
    ("VCR Q→AR, unfiltered", "vcr.unfiltered.q_ar"),
    ("VCR Q→AR, LSKD", "vcr.lskd.q_ar"),
    ("Q→AR, LSKD - base", "difference.vcr.q_ar.lskd_minus_base"),
    ("Q→AR, LSKD - unfiltered", "difference.vcr.q_ar.lskd_minus_unfiltered"),
    ("pointing right, base", "grounding.base"),
    ("pointing right, LSKD", "grounding.lskd"),
    ("typical over true, unfiltered", "typical.unfiltered"),
    ("typical over true, LSKD", "typical.lskd"),
    ("Q→AR, perfect critic", "ceiling.q_ar.truth"),
    ("acceptable, raw", "acceptability.raw"),
    ("acceptable, kept", "acceptability.kept"),
    ("critic AUC, against the truth", "critic.auc_truth"),
    ("critic AUC, against noisy labels", "critic.auc"),
    ("Sherlock, base", "sherlock.base"),
    ("Sherlock, LSKD", "sherlock.lskd"),
    ("VisualCOMET, base", "visualcomet.base"),
    ("VisualCOMET, LSKD", "visualcomet.lskd"),
    ("A-OKVQA, base", "nonlocalized.aokvqa.base"),
    ("A-OKVQA, LSKD", "nonlocalized.aokvqa.lskd"),
    ("SNLI-VE, base", "nonlocalized.snli_ve.base"),
    ("SNLI-VE, LSKD", "nonlocalized.snli_ve.lskd"),
    ("SNLI-VE fitted, base", "nonlocalized.snli_ve_fitted.base"),
    ("SNLI-VE fitted, LSKD", "nonlocalized.snli_ve_fitted.lskd"),
    ("Visual7W, base", "nonlocalized.visual7w.base"),
    ("Visual7W, LSKD", "nonlocalized.visual7w.lskd"),
)

NOT_FILTERED = f"{UNFILTERED}; where LSKD stands above, all triples were learned from"


def look_up(metrics: Mapping, path: str) -> object:
    """The value at a dotted path, None where there is none."""
    for part in path.split("."):
        if not isinstance(metrics, Mapping) or part not in metrics:
            return None
        metrics = metrics[part]
    return metrics


def figure_text(value: object) -> str:
    """A mean in percent with its interval; a plain number with two digits; a dash for nothing."""
    if isinstance(value, Mapping) and {"mean", "low", "high"} <= value.keys():
        return f"{100 * value['mean']:5.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"
    return f"{value:.3f}" if isinstance(value, (int, float)) else "–"


def result_lines(run_dir: Path, pooled_path: Path) -> list[str]:
    """The run's figures, the mini world's pooled ones beside those of a run on it, what the run has
    of images, regions and triples, and where to look.
    """
    metrics = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
    comparable = pooled_path.exists() and is_of_drawings(run_dir)
    pooled = json.loads(pooled_path.read_text(encoding="utf-8")) if comparable else {}
    rows = [
        (name, figure_text(look_up(metrics, path)), figure_text(look_up(pooled, path)))
        for name, path in TABLE
    ]
    both = zip_longest(metrics.get("scaling", ()), pooled.get("scaling", ()), fillvalue={})
    rows += [
        (
            f"VCR Q→AR, {(own or other).get('triples')} triples",
            figure_text(own.get("q_ar")),
            figure_text(other.get("q_ar")),
        )
        for own, other in both
    ]
    lines = []
    if any(own != "–" for _, own, _ in rows):
        seeds = len(pooled.get("seeds", []))
        lines = [
            "",
            f"{'':30}{'this run':>22}" + (f"{f'pooled, {seeds} seeds':>24}" if pooled else ""),
        ]
        lines += [
            f"{name:30}{own:>22}" + (f"{other:>24}" if pooled else "") for name, own, other in rows
        ]
    left_out = [
        f"{name}: {of['items']:,} items, {of['left_out']:,} records left out ({of['why']})"
        for name, of in metrics.get("benchmarks", {}).items()
        if of["left_out"]
    ]
    return [
        *lines,
        *(["", *left_out] if left_out else []),
        "",
        *count_lines(run_dir),
        *(f"WARNING, notebook {line}" for line in run_warnings(metrics)),
        *([NOT_FILTERED] if metrics.get("corpus", {}).get("critic") == NONE else []),
        *_times(metrics),
        f"look at the executed notebooks in {run_dir / 'notebooks'}",
        f"and at {run_dir / 'metrics.json'}",
    ]


def count_lines(run_dir: Path) -> list[str]:
    """What each stage has made, and what it has left out; nothing of stages that did not run."""
    told = (
        [f"{number:,} {what}" for what, number in stage.items() if number is not None]
        for stage in _counts(run_dir)
    )
    return [", ".join(line) for line in told if line]


def _counts(run_dir: Path) -> list[dict[str, int | None]]:
    """Of each stage the rows of its files, None where a file is not there."""

    def rows(name: str) -> int | None:
        path = run_dir / name
        return pq.ParquetFile(path).metadata.num_rows if path.exists() else None

    regions = run_dir / "regions.parquet"
    boxes = None
    if regions.exists():
        query = f"SELECT coalesce(sum(len(regions)), 0)::BIGINT FROM {PARQUET}"
        with database() as db:
            ((boxes,),) = db.execute(query, [str(regions)]).fetchall()
    triples, kept = rows("triples.parquet"), rows("corpus.parquet")
    dropped = None if triples is None or kept is None else triples - kept
    return [
        {
            "images": rows("regions.parquet"),
            "regions": boxes,
            "records left out": rows("rejects_01.parquet"),
        },
        {"valid triples": triples, "rejected or not answered": rows("rejects_02.parquet")},
        {"kept": kept, "dropped": dropped},
    ]


def _times(metrics: Mapping) -> list[str]:
    """A line of what a run's notebooks took, each as it was last executed."""
    seconds, used = metrics.get("seconds", {}), metrics.get("cpu_seconds", {})
    if not seconds:
        return []
    line = f"{len(seconds)} notebooks took {sum(seconds.values()):.0f} s"
    if unknown := sorted(seconds.keys() - used.keys()):
        return [f"{line}; their processor time is not known, as {unknown[0]} ran before it was"]
    own = f"{used['runner']:.0f} s of it the runner's own"
    return [f"{line}, and of the processor {sum(used.values()):.0f} s, {own}"]


def promote(run_dir: Path, root: Path, folder: Path) -> list[Path]:
    """Write a finished run's executed notebooks to ``folder``, for readers, and a plot of its
    figures where several sizes of the corpus were tried; returns their paths.

    Raises ``ValueError`` for a run that is not finished, or of other sources than notebooks/ holds
    now. Figures that are there already are kept: those of several seeds say more than this run's.
    """
    notebooks = read_notebooks(root)
    _check_finished(
        run_dir,
        root,
        [
            n.name
            for n in notebooks
            if not n.optional or (run_dir / "notebooks" / n.path.name).exists()
        ],
    )
    names = [
        n.name
        for n in notebooks
        if not n.optional or (run_dir / "notebooks" / n.path.name).exists()
    ]
    texts = {}
    for name in names:
        texts[name] = nbformat.writes(
            rendering(
                nbformat.read(run_dir / "notebooks" / f"{name}.ipynb", as_version=4), run_dir, root
            )
        )
        if (size := len(texts[name].encode())) > LARGEST:
            raise ValueError(
                f"{name} has {size:,} bytes, more than {LARGEST:,}: make its figures smaller"
            )
    for name, text in texts.items():
        with atomic_path(folder / f"{name}.ipynb") as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    for old in set(folder.glob("*.ipynb")) - {folder / n.path.name for n in notebooks}:
        old.unlink()
    if not (folder / "metrics.json").exists():
        shutil.copyfile(run_dir / "metrics.json", folder / "metrics.json")
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    drawn = [draw_scaling(metrics, folder / PLOT)] if metrics.get("scaling") else []
    return [*(folder / f"{name}.ipynb" for name in names), *drawn]


def draw_scaling(metrics: Mapping, path: Path) -> Path:
    """Draw VCR Q→AR by the size of the corpus into a PNG of few colours; returns its path."""
    import matplotlib.pyplot as plt

    from lskd_nb.viewing import plots

    plots.style()
    figure = plots.scaling_curve(metrics["scaling"], look_up(metrics, "vcr.base.q_ar"))
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=96)
    plt.close(figure)
    with atomic_path(path) as temporary:
        temporary.write_bytes(fewer_colors(drawn.getvalue()))
    return path


def _check_finished(run_dir: Path, root: Path, names: list[str]) -> None:
    try:
        told = json.loads((run_dir / "manifest.json").read_text(encoding="utf-8"))["notebooks"]
    except FileNotFoundError:
        raise ValueError(f"nothing has run in {run_dir}") from None
    unfinished = [n for n in names if told.get(n, {}).get("status") != "done"]
    if unfinished:
        raise ValueError(f"{run_dir} is not finished: {', '.join(unfinished)}")
    pairs = {
        n: [notebook_source(folder / "notebooks" / f"{n}.ipynb") for folder in (run_dir, root)]
        for n in names
    }
    moved = [n for n, (executed, source) in pairs.items() if executed != source]
    if moved:
        raise ValueError(f"{', '.join(moved)} changed since {run_dir} was made: run it again first")


def rendering(book: nbformat.NotebookNode, run_dir: Path, root: Path) -> nbformat.NotebookNode:
    """An executed notebook for readers: without timings, widget views and this machine's paths."""
    book.metadata.pop("papermill", None)
    book.metadata.pop("widgets", None)
    for cell in book.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k in ("tags",)}
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "application/vnd.jupyter.widget-view+json" in data:
                del data["application/vnd.jupyter.widget-view+json"]
                data["text/plain"] = "(an interactive widget: run the notebook to use it)"
            if "image/png" in data:
                data["image/png"] = fewer_colors_of(data["image/png"])
            if "text/html" in data:
                data["text/html"] = fewer_colors_in(data["text/html"])
    text = nbformat.writes(book)
    for path, shown in ((run_dir, f"outputs/runs/{run_dir.name}"), (root, ".")):
        text = text.replace(json.dumps(str(path))[1:-1], shown)
    return nbformat.reads(text, as_version=4)
