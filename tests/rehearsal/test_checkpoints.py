"""Tiny checkpoints under their hub names: layout as published, found offline, read by our loaders.

What a layout is, is told here from the published repositories' file lists, not from what the
rehearsal writes.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from lskd_nb.rehearsal import checkpoints, walk
from lskd_nb.run_folder import RunError
from lskd_nb.students.lavis_weights import read_checkpoint

TOKENIZER = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
T5 = TOKENIZER | {"config.json", "generation_config.json", "model.safetensors.index.json"}
BLIP2 = {"preprocessor_config.json", "processor_config.json", "added_tokens.json"}
FILES = {  # of the published repositories, those that a program reads
    "openai/clip-vit-large-patch14-336": TOKENIZER
    | {"config.json", "preprocessor_config.json", "pytorch_model.bin", "vocab.json", "merges.txt"},
    "Salesforce/blip-itm-large-coco": TOKENIZER
    | {"config.json", "preprocessor_config.json", "model.safetensors", "vocab.txt"},
    "Salesforce/blip2-itm-vit-g": TOKENIZER
    | {"config.json", "preprocessor_config.json", "model.safetensors", "vocab.txt"},
    "Salesforce/blip2-flan-t5-xl": T5 | BLIP2,
    "google/flan-t5-xl": T5,
}
LOADS = """
import sys, torch
from transformers import CLIPModel, T5ForConditionalGeneration
from lskd_nb.evaluation import baselines
from lskd_nb.students import loading
cpu = torch.device("cpu")
loading.load_model(CLIPModel, "openai/clip-vit-large-patch14-336", cpu)
loading.load_model(T5ForConditionalGeneration, "google/flan-t5-xl", cpu)
loading.load_generative("Salesforce/blip2-flan-t5-xxl")
student = loading.load_student("Salesforce/blip2-itm-vit-g", image_size=56)
assert student.blip2.config.vision_config.num_hidden_layers == 39
assert len(student.tokenizer) == 30523 and student.tokenizer.cls_token_id == 101
for name in ("openai/clip-vit-base-patch16", "Salesforce/blip-itm-large-coco"):
    assert baselines._load(name, 8, 128, {}).longest in (77, 512)
for file, base, layers in (
    ("blip2_pretrained", "eva_vit_g", 39), ("blip2_pretrained_vitL", "clip_vit_L", 21)
):
    found = loading.load_student(f"{sys.argv[1]}/{file}.pth", base=f"{sys.argv[1]}/{base}.pth")
    assert found.blip2.config.vision_config.num_hidden_layers == layers
"""


@pytest.fixture(scope="module")
def stage(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stage")
    checkpoints.write_hub(folder / "hub", checkpoints.PUBLISHED)
    words = next((folder / "hub" / "models--bert-base-uncased" / "snapshots").iterdir())
    checkpoints.write_lavis(folder, words)
    return folder


def snapshot(stage: Path, name: str) -> Path:
    home = stage / "hub" / f"models--{name.replace('/', '--')}"
    return home / "snapshots" / (home / "refs" / "main").read_text()


@pytest.mark.parametrize("name", FILES)
def test_a_repository_has_the_files_of_the_published_one(stage, name):
    folder = snapshot(stage, name)
    found = {p.name for p in folder.iterdir()}
    assert all(p.is_symlink() and p.exists() for p in folder.iterdir())
    shards = {f for f in found if f.startswith("model-0000")}
    assert found - shards == FILES[name]
    assert len(shards) == (2 if "t5" in name else 0)
    told = json.loads((folder / "config.json").read_text())
    assert told["torch_dtype"] and "dtype" not in told and told["transformers_version"] < "5"


def test_what_the_hub_s_stage_1_lacks_and_lavis_s_file_has(stage):
    hub = load_file(snapshot(stage, "Salesforce/blip2-itm-vit-g") / "model.safetensors")
    assert not [key for key in hub if "cls." in key or "lm_head" in key or key == "temp"]
    weights, _ = read_checkpoint(stage / "blip2_pretrained.pth")
    assert "temp" in weights and "Qformer.cls.predictions.bias" in weights
    assert not [key for key in weights if key.startswith("visual_encoder.")]
    eye = torch.load(stage / "eva_vit_g.pth", weights_only=True)
    assert {int(k.split(".")[1]) for k in eye if k.startswith("blocks.")} == set(range(40))
    assert not [key for key in eye if key.startswith("visual_encoder.")]


def test_the_end_mark_that_clip_s_configuration_does_not_tell(stage):
    told = json.loads((snapshot(stage, "openai/clip-vit-base-patch16") / "config.json").read_text())
    assert told["text_config"].get("eos_token_id", 2) == 2
    words = json.loads((snapshot(stage, "openai/clip-vit-base-patch16") / "vocab.json").read_text())
    assert len(words) == 49408 and words["<|endoftext|>"] == 49407


def test_all_are_read_offline_by_name(stage, root):
    done = subprocess.run(
        [sys.executable, "-c", LOADS, str(stage)],
        env=walk.environment(stage) | {"LSKD_ROOT": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_every_model_of_the_a100_profile_has_a_stand_in(root):
    given = {
        p.name.split("_")[0]: yaml.safe_load(p.read_text()) or {}
        for p in (root / "params" / "a100").glob("*.yaml")
    }
    made = {command.split()[4] for command in walk.conversions(root)}
    assert set(walk.models_named(given)) - set(checkpoints.PUBLISHED) <= made


def test_a_model_that_nobody_has_described_is_named(tmp_path):
    with pytest.raises(RunError, match="no stand-in for 'somebody/else'"):
        checkpoints.write_hub(tmp_path, ["somebody/else"])
