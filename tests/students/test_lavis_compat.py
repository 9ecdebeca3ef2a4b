"""LAVIS beside other packages: imported only when asked for, and nothing of it left behind."""

import subprocess
import sys

import pytest

from lskd_nb.students import lavis_compat
from lskd_nb.students.lavis_compat import import_lavis


def test_lavis_is_imported_only_when_asked_for_and_leaves_nothing_behind():
    code = """
import importlib.util, sys
import lskd_nb.students.blip2, lskd_nb.training.distillation, lskd_nb.evaluation.choices
assert "lskd_nb.students.loading" in sys.modules
assert not [name for name in sys.modules if name.split(".")[0] == "lavis"]
import transformers.modeling_utils
from transformers import PreTrainedConfig, PreTrainedModel
def state():
    things = transformers.modeling_utils, PreTrainedModel, PreTrainedConfig
    names = [set(dir(thing)) for thing in things]
    return *names, list(sys.meta_path), importlib.util.find_spec("torchvision")
before = state()
from lskd_nb.students.lavis_compat import DONE_WITHOUT, import_lavis
import_lavis()
from transformers.utils import is_torchvision_available
assert state() == before and is_torchvision_available() == (before[-1] is not None)
absent = [package for package in DONE_WITHOUT if importlib.util.find_spec(package) is None]
assert not [name for name in sys.modules if name.split(".")[0] in absent]
assert "lavis" not in sys.modules
if "timm" in absent:
    download = sys.modules["lavis.common.dist_utils"].download_cached_file
    try:
        download("https://example.org/eva_vit_g.pth")
    except ImportError as error:
        assert "timm.models.hub.download_cached_file" in str(error)
    else:
        raise AssertionError("a placeholder was used in silence")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_where_lavis_is_absent_its_backend_says_what_to_install(monkeypatch):
    monkeypatch.setattr(lavis_compat, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install --no-deps salesforce-lavis==1.0.2"):
        import_lavis.__wrapped__()
