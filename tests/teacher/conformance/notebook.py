"""Notebook 02 against a server, all of it, in this process: what it kept, said and ended with."""

import ast
import contextlib
import io
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pyarrow.parquet as pq
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from lskd_nb.mini.drawing.render import render
from lskd_nb.mini.scenes import true_words
from lskd_nb.mini.scenes.world import sample_scenes
from lskd_nb.records import REGIONS, VERBALIZATIONS, write_parquet
from lskd_nb.regions import regions_table
from lskd_nb.run_folder import find_root

NOTEBOOK = find_root() / "notebooks" / "02_prompting.ipynb"
IMAGES = 8
TEXTS = ("question", "answer", "rationale")


@dataclass(frozen=True)
class Ran:
    """How the notebook ended: the triples' texts, what it printed, the error of the cell that
    failed, with its traceback.
    """

    kept: list[tuple[str, str, str]]
    printed: str
    error: BaseException | None
    told: str

    @property
    def message(self) -> str:
        """The last line of what it ended with, "" where it went to its end."""
        return self.told.rstrip().rpartition("\n")[2] if self.error else ""


def make_world(folder: Path) -> None:
    """Notebook 1's files about a few drawn images, from the truth about their scenes."""
    scenes = sample_scenes(IMAGES, 11, "c")
    (folder / "images").mkdir(parents=True)
    for scene in scenes:
        render(scene).save(folder / "images" / f"{scene.scene_id}.png")
    located = regions_table(true_words.located(scenes, "png"))
    write_parquet(located, folder / "regions.parquet", REGIONS)
    of_place = dict(kind="global", verbalizer="clip-place", region=None, question=None)
    lines = [of_place | dict(image_id=s.scene_id, text=s.place) for s in scenes]
    lines += true_words.captions(scenes) + true_words.region_lines(scenes)
    whole = [dict(score=None, model="truth", version="1") | line for line in lines]
    write_parquet(whole, folder / "verbalizations.parquet", VERBALIZATIONS)
    (folder / "image_root.txt").write_text(str(folder / "images"))


@contextlib.contextmanager
def shell() -> Iterator[InteractiveShell]:
    """A kernel's insides without a kernel; nothing of it is left when the block ends."""
    plt.switch_backend("agg")
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    one = InteractiveShell.instance(config=config)
    try:
        yield one
    finally:
        one.restore_sys_module_state()
        InteractiveShell.clear_instance()


def cells(parameters: Mapping[str, object]) -> Iterator[str]:
    """The notebook's code cells, the parameters' with these values in a cell behind it."""
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            yield cell.source
            if "parameters" in cell.metadata.get("tags", []):
                names = [n.target.id for n in ast.parse(cell.source).body]
                assert parameters.keys() <= set(names), "no such parameter"
                yield "\n".join(f"{name} = {value!r}" for name, value in parameters.items())


def run(one: InteractiveShell, run_dir: Path, **parameters: object) -> Ran:
    """Execute the notebook in a run's folder, to its end or its first error."""
    one.user_ns.clear()
    one.init_user_ns()
    (run_dir / "triples.parquet").unlink(missing_ok=True)
    printed, error, told = io.StringIO(), None, ""
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        for source in cells({"run_dir": str(run_dir), "concurrency": 4} | parameters):
            result = one.run_cell(source, store_history=False)
            error = result.error_before_exec or result.error_in_exec
            if error:
                told = "".join(traceback.format_exception_only(error))
                break
    plt.close("all")
    found = run_dir / "triples.parquet"
    rows = pq.read_table(found, columns=list(TEXTS)).to_pylist() if found.exists() else []
    return Ran([tuple(r[t] for t in TEXTS) for r in rows], printed.getvalue(), error, told)
