"""Widgets to look at a corpus, move its threshold, point at regions, and label: one line each.

Everything one can do with the mouse, one can do with keys; what a widget shows, its ``static()``
shows in a file that is only read.
"""

from lskd_nb.viewing.widgets.annotator import Annotator as Annotator
from lskd_nb.viewing.widgets.browser import CorpusBrowser as CorpusBrowser
from lskd_nb.viewing.widgets.inspector import VerbalizationInspector as VerbalizationInspector
from lskd_nb.viewing.widgets.pointer import RegionPointer as RegionPointer
from lskd_nb.viewing.widgets.preference import PreferenceAnnotator as PreferenceAnnotator
from lskd_nb.viewing.widgets.threshold import ThresholdExplorer as ThresholdExplorer
