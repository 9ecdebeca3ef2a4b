"""The page for people without Jupyter: pointer, browser and threshold of one run, in tabs."""

import html
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import ipywidgets as w

from lskd_nb.regions import LocatedImage
from lskd_nb.viewing.widgets.browser import CorpusBrowser
from lskd_nb.viewing.widgets.pointer import RegionPointer
from lskd_nb.viewing.widgets.threshold import ThresholdExplorer

TITLES = ("Point and ask", "Look into the corpus", "Move the threshold")


def page(
    folder: str | Path,
    base: str | Path,
    unseen: Sequence[LocatedImage] = (),
    image_root: str | Path = "",
) -> w.Tab:
    """The tabs; what a run does not have yet says so in its tab.

    Without a finished run, the pointer asks the student ``base`` alone.

    ``unseen`` images are pointed at, the run's own where there are none: of those, the student has
    learned by heart what it could.
    """
    pointer = _panel(lambda: RegionPointer.of_run(folder, unseen or None, image_root))
    if not isinstance(pointer, RegionPointer):
        pointer = w.VBox([pointer, RegionPointer({"base": base})])
    browser = _panel(lambda: CorpusBrowser(folder))
    explorer = _panel(
        lambda: ThresholdExplorer.of_run(folder, index=getattr(browser, "index", None))
    )
    tabs = w.Tab([pointer, browser, explorer], titles=TITLES)
    tabs.add_class("loc-page")
    return tabs


def _panel(make: Callable[[], w.Widget]) -> w.Widget:
    try:
        return make()
    except (OSError, ValueError, duckdb.Error) as error:
        how = "The page shows a finished run: <code>make mini</code> makes one in some ten minutes."
        return w.HTML(f'<p class="loc-error">{html.escape(str(error))}.</p><p>{how}</p>')
