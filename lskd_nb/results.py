"""What a run found, for the terminal and for readers: the result table, and renderings of the executed notebooks."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import nbformat

from lskd_nb.records import atomic_path

LARGEST = 500_000  # bytes of a rendering
TABLE = (
    ("VCR Q→A, base", "vcr.base.q_a"), ("VCR Q→A, unfiltered", "vcr.unfiltered.q_a"), ("VCR Q→A, LSKD", "vcr.lskd.q_a"),
    ("VCR QA→R, base", "vcr.base.qa_r"), ("VCR QA→R, unfiltered", "vcr.unfiltered.qa_r"), ("VCR QA→R, LSKD", "vcr.lskd.qa_r"),
    ("VCR Q→AR, base", "vcr.base.q_ar"), ("VCR Q→AR, unfiltered", "vcr.unfiltered.q_ar"), ("VCR Q→AR, LSKD", "vcr.lskd.q_ar"),
    ("Q→AR, LSKD - base", "difference.vcr.q_ar.lskd_minus_base"), ("Q→AR, LSKD - unfiltered", "difference.vcr.q_ar.lskd_minus_unfiltered"),
    ("pointing right, base", "grounding.base"), ("pointing right, LSKD", "grounding.lskd"),
    ("acceptable, raw", "acceptability.raw"), ("acceptable, kept", "acceptability.kept"), ("critic AUC", "critic.auc"),
    ("SNLI-VE, base", "nonlocalized.snli_ve.base"), ("SNLI-VE, LSKD", "nonlocalized.snli_ve.lskd"),
    ("Visual7W, base", "nonlocalized.visual7w.base"), ("Visual7W, LSKD", "nonlocalized.visual7w.lskd"),
)


def look_up(metrics: Mapping, path: str) -> object:
    """The value at a dotted path, None where there is none."""
    for part in path.split("."):
        if not isinstance(metrics, Mapping) or part not in metrics:
            return None
        metrics = metrics[part]
    return metrics


def figure_text(value: object) -> str:
    """A mean in percent with its interval; a plain number with two digits; a dash for nothing."""
    if isinstance(value, Mapping):
        return f"{100 * value['mean']:5.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"
    return "–" if value is None else f"{value:.3f}"


def result_lines(run_dir: Path, pooled_path: Path) -> list[str]:
    """The run's figures, the pooled ones beside them where there are any, and where to look."""
    metrics = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
    pooled = json.loads(pooled_path.read_text(encoding="utf-8")) if pooled_path.exists() else {}
    rows = [(name, figure_text(look_up(metrics, path)), figure_text(look_up(pooled, path))) for name, path in TABLE]
    lines = []
    if any(own != "–" for _, own, _ in rows):
        seeds = len(pooled.get("seeds", []))
        lines = ["", f"{'':28}{'this run':>22}" + (f"{f'pooled, {seeds} seeds':>24}" if pooled else "")]
        lines += [f"{name:28}{own:>22}" + (f"{other:>24}" if pooled else "") for name, own, other in rows]
    return [*lines, "", f"look at the executed notebooks in {run_dir / 'notebooks'}", f"and at {run_dir / 'metrics.json'}"]


def promote(run_dir: Path, folder: Path) -> None:
    """Copy a finished run's executed notebooks to ``folder``, for readers. Raises ``ValueError`` for an unfinished run."""
    manifest = json.loads((run_dir / "manifest.json").read_text(encoding="utf-8"))
    unfinished = [n for n, entry in manifest["notebooks"].items() if entry["status"] != "done"]
    if unfinished or not manifest["notebooks"]:
        raise ValueError(f"{run_dir} is not finished: {unfinished or 'nothing has run'}")
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(manifest["notebooks"]):
        book = rendering(nbformat.read(run_dir / "notebooks" / f"{name}.ipynb", as_version=4), run_dir)
        text = nbformat.writes(book)
        if len(text.encode()) > LARGEST:
            raise ValueError(f"{name} has {len(text.encode()):,} bytes, more than {LARGEST:,}: make its figures smaller")
        with atomic_path(folder / f"{name}.ipynb") as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    if not (folder / "metrics.json").exists():
        shutil.copyfile(run_dir / "metrics.json", folder / "metrics.json")


def rendering(book: nbformat.NotebookNode, run_dir: Path) -> nbformat.NotebookNode:
    """An executed notebook for readers: without timings, widget views and this machine's paths."""
    book.metadata.pop("papermill", None)
    book.metadata.pop("widgets", None)
    for cell in book.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k in ("tags",)}
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "application/vnd.jupyter.widget-view+json" in data:
                del data["application/vnd.jupyter.widget-view+json"]
                data.setdefault("text/plain", "(an interactive widget: run the notebook to use it)")
    text = nbformat.writes(book)
    for path in (str(run_dir), str(run_dir.parent.parent.parent)):
        text = text.replace(json.dumps(path)[1:-1], "outputs/runs/" + run_dir.name if path == str(run_dir) else ".")
    return nbformat.reads(text, as_version=4)
