"""Checkpoints that strangers wrote: wrapped names, configurations beside the weights, weights that
are no numbers, files cut off; and LAVIS's stage-1 file, which begins everything.
"""

import os
import sys
import traceback
import types
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lskd_nb.mini.pretraining.base import fresh_student
from lskd_nb.students.lavis_weights import read_checkpoint
from lskd_nb.students.loading import load_model, load_student

TINY = dict(hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32)
ADVICE = ("set to `False`", "trusted source", "arbitrary code")  # torch's, to load without care


def told_by(error: BaseException) -> str:
    """All that a reader sees of an error, what caused it included."""
    return "".join(traceback.format_exception(error))


@pytest.fixture
def stage1(write_checkpoint, eva, tmp_path) -> Path:
    """As blip2_pretrained.pth is: Q-Former, LM head and temperature, no vision encoder."""
    path = write_checkpoint(eva, tmp_path / "blip2_pretrained.pth", frozen=("visual_encoder.",))
    keys = read_checkpoint(path)[0].keys()
    begin = ("Qformer.", "ln_vision.", "vision_proj.", "text_proj.", "itm_head.")
    assert {"query_tokens", "temp", "Qformer.bert.embeddings.position_ids"} <= keys
    assert all(key in ("query_tokens", "temp") or key.startswith(begin) for key in keys)
    return path


@pytest.fixture
def hub(write_checkpoint, eva, words, tmp_path) -> Path:
    """As Salesforce/blip2-itm-vit-g is: the network without LM head and temperature."""
    whole = load_student(
        str(write_checkpoint(eva, tmp_path / "whole.pth")), tokenizer=words, image_size=56
    )
    whole.save(tmp_path / "hub")
    (tmp_path / "hub" / "stage1.safetensors").unlink()
    return tmp_path / "hub"


def test_lavis_stage_1_over_the_hubs_student_is_whole(stage1, hub, eva, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing starts fresh, so nothing is said of it
        student = load_student(str(stage1), base=str(hub), image_size=56)
    assert student.fresh == () and student.origin("lm_head") == "loaded"
    assert student.temperature == eva.temp and student.image_size == 56
    head = student.lm_head.transform.dense.weight
    assert torch.equal(head, eva.Qformer.cls.predictions.transform.dense.weight)
    student.save(tmp_path / "blip2-vit-g")
    assert load_student(str(tmp_path / "blip2-vit-g")).fresh == ()


def test_the_hubs_student_alone_has_no_lm_head_and_says_so(hub):
    with pytest.warns(UserWarning, match="hub lacks temp, Qformer.cls.*they start fresh") as told:
        student = load_student(str(hub))
    assert "no LM head and no temperature" in str(told[0].message)
    assert student.origin("lm_head") == student.origin("temperature") == "fresh"
    assert {name.split(".")[0] for name in student.fresh} == {"lm_head", "temperature"}
    with pytest.warns(UserWarning):
        assert load_student(str(hub), backend="lavis").fresh == student.fresh


def test_names_of_wrappers_are_taken_off(stage1, tmp_path):
    held = torch.load(stage1, weights_only=True)
    plain = read_checkpoint(stage1)[0]
    for number, before in enumerate(("module.", "_orig_mod.", "module._orig_mod.")):
        path = tmp_path / f"{number}.pth"
        torch.save(held | {"model": {before + k: w for k, w in held["model"].items()}}, path)
        found = read_checkpoint(path)[0]
        assert found.keys() == plain.keys()
        assert all(torch.equal(found[key], plain[key]) for key in plain)
    torch.save({"temp": held["model"]["temp"], "module.temp": held["model"]["temp"]}, path)
    with pytest.raises(ValueError, match=r"2.pth holds temp twice, once as module.temp"):
        read_checkpoint(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_named(stage1, tmp_path, value):
    held = torch.load(stage1, weights_only=True)
    held["model"]["itm_head.weight"][0, 3] = value
    torch.save(held, tmp_path / "gone.pth")
    with pytest.raises(
        ValueError, match=r"gone.pth: 1 of \d+ values of itm_head.weight are no num"
    ):
        load_student(str(tmp_path / "gone.pth"))


@pytest.mark.parametrize(
    ("file", "key"),
    [("model.safetensors", "itm_head.weight"), ("stage1.safetensors", "temperature")],
)
def test_a_folder_whose_weights_are_no_numbers_is_named(tmp_path, file, key):
    fresh_student(0, **TINY).save(tmp_path / "s")
    weights = load_file(tmp_path / "s" / file)
    weights[key].fill_(float("nan"))
    save_file(weights, tmp_path / "s" / file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"/s: \d+ of \d+ values of (blip2\.)?{key} are no num"):
        load_student(str(tmp_path / "s"))
    if file == "model.safetensors":
        kind = type(fresh_student(0, **TINY).blip2)
        with pytest.raises(ValueError, match=rf"values of {key} are no numbers"):
            load_model(kind, str(tmp_path / "s"), torch.device("cpu"))


def test_a_folder_that_lacks_a_weight_is_refused(tmp_path):
    fresh_student(0, **TINY).save(tmp_path / "s")
    weights = load_file(tmp_path / "s" / "model.safetensors")
    del weights["itm_head.weight"]
    save_file(weights, tmp_path / "s" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"/s lacks blip2.itm_head.weight: they would be random"):
        load_student(str(tmp_path / "s"))


@pytest.mark.parametrize("damage", ["cut", "text", "pickle"])
def test_damaged_files_are_named_without_torchs_advice(stage1, tmp_path, damage):
    path = tmp_path / "bad.pth"
    content = stage1.read_bytes()
    broken = {"cut": content[: len(content) // 2], "text": b"<html>404</html>"}
    path.write_bytes(broken.get(damage, b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R."))
    with pytest.raises(ValueError, match="bad.pth is not a checkpoint of tensors alone") as told:
        read_checkpoint(path)
    assert not [words for words in ADVICE if words in told_by(told.value)]


@pytest.mark.parametrize("damage", ["cut", "pickle"])
def test_a_folder_of_damaged_pickled_weights_is_named_without_torchs_advice(tmp_path, damage):
    student = fresh_student(0, **TINY)
    student.save(tmp_path / "s")
    (tmp_path / "s" / "model.safetensors").unlink()
    path = tmp_path / "s" / "pytorch_model.bin"
    torch.save(student.blip2.state_dict(), path)
    assert torch.equal(load_student(str(tmp_path / "s")).word_embeddings, student.word_embeddings)
    if damage == "cut":
        os.truncate(path, path.stat().st_size // 2)
    else:
        path.write_bytes(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.")
    with pytest.raises(ValueError, match="/s can't be read: its .*damaged") as told:
        load_student(str(tmp_path / "s"))
    assert not [words for words in ADVICE if words in told_by(told.value)]


def test_a_configuration_of_omegaconf_is_passed_over_and_other_classes_are_not(
    stage1, tmp_path, monkeypatch
):
    """As trainers leave it that forget to make plain dictionaries of it; here by classes of the
    same names, whose code must not run when they are read.
    """
    ran = []
    module = types.ModuleType("omegaconf.dictconfig")

    class DictConfig:
        def __init__(self, content):
            self.content = content

        def __setstate__(self, state):
            ran.append(state)

    DictConfig.__module__, DictConfig.__qualname__ = module.__name__, "DictConfig"
    module.DictConfig = DictConfig
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    held = torch.load(stage1, weights_only=True)
    torch.save(held | {"config": DictConfig({"model": {"image_size": 56}})}, tmp_path / "o.pth")
    weights, size = read_checkpoint(tmp_path / "o.pth")
    assert weights.keys() == held["model"].keys() and size is None and not ran
    torch.save(held | {"config": [DictConfig({}), Path("x")]}, tmp_path / "p.pth")
    with pytest.raises(
        ValueError, match=r"p.pth is not .* nothing else is unpickled: it has pathl"
    ):
        read_checkpoint(tmp_path / "p.pth")
