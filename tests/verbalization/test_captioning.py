"""BLIP-2 with OPT and with T5, in the layout of the hub's checkpoints and tiny: how it speaks,
and how it is finetuned.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoTokenizer,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessor,
)

from lskd_nb.mini.pretraining.base import fresh_student
from lskd_nb.records import read_parquet, write_parquet
from lskd_nb.run_folder import find_root
from lskd_nb.students import loading
from lskd_nb.students.bridge import place_image_token
from lskd_nb.students.loading import load_model
from lskd_nb.training import launch
from lskd_nb.training.batches import epoch_indices
from lskd_nb.training.loop import CHECKPOINT, read_config
from lskd_nb.verbalization import captioning as c
from lskd_nb.verbalization import verbalizers as v
from lskd_nb.verbalization.caption_rows import CAPTIONS

CPU = torch.device("cpu")
TINY = SimpleNamespace(**run_path(str(Path(__file__).with_name("tiny_blip2.py"))))
COLORS, TEXTS, PROMPT = TINY.COLORS, TINY.TEXTS, TINY.PROMPT
opt_tokenizer, t5_tokenizer, tiny_blip2 = TINY.opt_tokenizer, TINY.t5_tokenizer, TINY.tiny_blip2


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    torch.set_num_threads(1)
    return {kind: TINY.save_blip2(kind, tmp_path_factory.mktemp(kind)) for kind in ("opt", "t5")}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return TINY.save_boxes(tmp_path_factory.mktemp("boxes"))


def config(
    folders: dict[str, Path], world: Path, kind: str, out: Path, **changes
) -> c.CaptioningConfig:
    return TINY.training_config(folders[kind], world, out, **changes)


def losses(folder: Path) -> list[float]:
    return [
        json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]


@pytest.mark.parametrize("kind", ["opt", "t5"])
def test_it_learns_to_tell_the_boxes_apart_and_speaks_as_it_learned(folders, world, tmp_path, kind):
    told = config(folders, world, kind, tmp_path / "captioner")
    out = c.train(told)
    found = losses(out)
    blind = (
        np.log(4) / 7
    )  # of a text's tokens, some seven, only the colour is unknown to one who sees nothing
    assert len(found) == 50 and np.mean(found[:3]) > blind and np.mean(found[-10:]) < 0.5 * blind
    speaker = v.PromptedBlip2(str(out), CPU)
    pictures = [Image.new("RGB", (30, 20), color) for color in COLORS.values()]
    said = speaker(pictures, [PROMPT] * 4, v.Settings(max_new_tokens=24))
    assert [text for text, _ in said] == TEXTS and all(0.5 < p <= 1.0001 for _, p in said)
    unlearned = v.PromptedBlip2(str(folders[kind]), CPU)(
        pictures, [PROMPT] * 4, v.Settings(max_new_tokens=24)
    )
    assert [text for text, _ in unlearned] != TEXTS
    before, after = (Blip2ForConditionalGeneration.from_pretrained(f) for f in (folders[kind], out))
    moved = {
        n.split(".")[0]
        for (n, a), b in zip(before.named_parameters(), after.parameters(), strict=True)
        if not torch.equal(a, b)
    }
    assert moved == {"query_tokens", "qformer", "language_projection"}


def test_a_killed_run_ends_like_an_unbroken_one(folders, world, tmp_path, kill_midway):
    whole, killed = (
        config(folders, world, "opt", tmp_path / n / "captioner", steps=40, checkpoint_every=3)
        for n in ("whole", "killed")
    )
    c.train(whole)
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "config.json").write_text(json.dumps(asdict(killed)))
    command = [
        sys.executable,
        "-m",
        "lskd_nb.verbalization.captioning",
        str(tmp_path / "killed" / "config.json"),
    ]
    work = Path(killed.out + ".training")
    kill_midway(
        lambda: subprocess.Popen(command, stderr=subprocess.DEVNULL),
        (work / CHECKPOINT).exists,
        Path(killed.out),
    )
    done = torch.load(work / CHECKPOINT, weights_only=True)["step"]
    c.train(killed)
    assert 0 < done < 40 and losses(Path(killed.out)) == losses(Path(whole.out))
    weights = [
        Blip2ForConditionalGeneration.from_pretrained(f).state_dict()
        for f in (whole.out, killed.out)
    ]
    assert all(torch.equal(weights[0][n], weights[1][n]) for n in weights[0])
    stamp = (Path(whole.out) / "model.safetensors").stat().st_mtime_ns
    c.train(whole)  # finished: nothing to do
    assert (Path(whole.out) / "model.safetensors").stat().st_mtime_ns == stamp


def test_what_counts_is_the_text_and_its_end(folders):
    for kind in ("opt", "t5"):
        speaker = v.PromptedBlip2(str(folders[kind]), CPU)
        model, tokenizer, shown = speaker.model, speaker.tokenizer, torch.zeros(2, 3, 28, 28)
        seen = []
        forward = model.forward
        model.forward = lambda seen=seen, forward=forward, **given: (
            seen.append(given) or forward(**given)
        )
        c.caption_loss(model, tokenizer, shown, PROMPT, ["this is a red box", "this"], 24)
        c.caption_loss(model, tokenizer, shown, PROMPT, ["this is a red box", "this"], 3)
        end = model.language_model.generation_config.eos_token_id
        for given, limit in zip(seen, (24, 3), strict=True):
            counted = [row[row != -100] for row in given["labels"]]
            whole = limit == 24
            assert [int(t[-1]) == end for t in counted] == [whole, True] and max(
                map(len, counted)
            ) <= limit
            if whole:
                assert [tokenizer.decode(t[:-1]).strip() for t in counted] == [
                    "this is a red box",
                    "this",
                ]
            assert (given["input_ids"][:, :4] == model.config.image_token_id).all() and (
                given["input_ids"][:, 4:] != model.config.image_token_id
            ).all()
            if kind == "opt":
                ids = torch.where(given["labels"] != -100, given["labels"], given["input_ids"])
                assert torch.equal(ids, given["input_ids"])  # a label is the token at its own place
                assert torch.equal(
                    given["attention_mask"] == 0, given["input_ids"] == tokenizer.pad_token_id
                )


@pytest.mark.parametrize("kind", ["opt", "t5"])
def test_an_answer_does_not_depend_on_the_others_of_its_batch(folders, kind):
    speaker, settings = v.PromptedBlip2(str(folders[kind]), CPU), v.Settings(max_new_tokens=8)
    rng = np.random.default_rng(1)
    pictures = [
        Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)) for _ in range(3)
    ]
    prompts = [
        "Question: what is it? Answer:",
        "this",
        "Question: it? it? what is it? what? Answer:",
    ]
    together = speaker(pictures, prompts, settings)
    alone = [speaker([i], [p], settings)[0] for i, p in zip(pictures, prompts, strict=True)]
    assert [t for t, _ in together] == [t for t, _ in alone]
    assert np.allclose(
        [p for _, p in together], [p for _, p in alone], rtol=0.05
    )  # bf16, where the processor has it
    sampled = [
        speaker(pictures, prompts, replace(settings, temperature=1.5, seed=s)) for s in (1, 1, 2)
    ]
    assert sampled[0] == sampled[1] != sampled[2]


@pytest.mark.parametrize("kind", ["opt", "t5"])
@pytest.mark.parametrize("spare", [8, 0])
def test_a_checkpoint_that_names_no_image_token_gets_the_one_that_transformers_gives(
    folders, tmp_path, kind, spare
):
    model, tokenizer = (
        tiny_blip2(kind)
        if not spare
        else (Blip2ForConditionalGeneration.from_pretrained(folders[kind]), None)
    )
    tokenizer = (
        opt_tokenizer() if kind == "opt" else t5_tokenizer()
    )  # as published: no "<image>" in it
    if not spare:
        model.resize_token_embeddings(len(tokenizer))
    model.config.image_token_index = None
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()).get("image_token_index") is None
    speaker = v.PromptedBlip2(str(tmp_path), CPU)
    processor = Blip2Processor(
        BlipImageProcessor(size={"height": 28, "width": 28}),
        AutoTokenizer.from_pretrained(tmp_path),
        num_query_tokens=4,
    )
    assert (
        speaker.model.config.image_token_id
        == len(tokenizer)
        == processor.tokenizer.convert_tokens_to_ids("<image>")
    )
    assert speaker.model.get_input_embeddings().num_embeddings == len(tokenizer) + (spare or 1)
    picture = Image.fromarray(
        np.random.default_rng(2).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    )
    inputs = processor(images=picture, text=PROMPT, return_tensors="pt")
    theirs = speaker.model.generate(**inputs, max_new_tokens=8, num_beams=1, do_sample=False)
    ((text, _),) = speaker([picture], [PROMPT], v.Settings(max_new_tokens=8))
    new = theirs[0, inputs["input_ids"].shape[1] :] if kind == "opt" else theirs[0]
    assert text == " ".join(speaker.tokenizer.decode(new, skip_special_tokens=True).split()) != ""


@pytest.mark.parametrize("kind", ["opt", "t5"])
def test_frozen_parts_may_be_in_half_precision_as_on_a_gpu(
    folders, world, tmp_path, kind, monkeypatch
):
    monkeypatch.setattr(loading, "dtype_of", lambda device: torch.bfloat16)
    monkeypatch.setattr(c, "autocast", lambda device: torch.autocast("cpu", dtype=torch.bfloat16))
    model, _ = c.load_trainable(str(folders[kind]), CPU)
    trained = {n: p.dtype for n, p in model.named_parameters() if p.requires_grad}
    assert set(trained.values()) == {torch.float32} and {n.split(".")[0] for n in trained} == {
        "query_tokens",
        "qformer",
        "language_projection",
    }
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {torch.bfloat16}
    found = losses(c.train(config(folders, world, kind, tmp_path / "captioner", steps=25)))
    assert np.mean(found[-5:]) < 0.5 * np.mean(found[:3])


def test_a_model_of_another_kind_or_another_tokenizer_is_told(folders, tmp_path):
    fresh_student(0, hidden=32, layers=1, vision_width=24, vision_layers=1, image_size=32).save(
        tmp_path
    )  # a BLIP-2 for matching: it has no language model
    with pytest.raises(
        ValueError, match="is no Blip2ForConditionalGeneration: .* of its weights are missing"
    ):
        load_model(Blip2ForConditionalGeneration, str(tmp_path), CPU)
    model = Blip2ForConditionalGeneration.from_pretrained(folders["opt"])
    model.config.image_token_id = 70
    with pytest.raises(ValueError, match="image_token_index 70 is the word .* expected '<image>'"):
        place_image_token(model, opt_tokenizer())


def test_bad_configurations_rows_and_images_are_named(folders, world, tmp_path):
    good = asdict(config(folders, world, "opt", tmp_path / "x", steps=1))
    for changes, message in (
        (dict(stepz=3), "stepz: "),
        (dict(view="zoom"), "view: Input should be 'highlight' or 'crop'"),
        (dict(steps="many"), "steps: "),
    ):
        (tmp_path / "c.json").write_text(json.dumps(good | changes))
        with pytest.raises(ValueError, match=f"c.json: {message}"):
            read_config(tmp_path / "c.json", c.CaptioningConfig)
    (tmp_path / "c.json").write_text(json.dumps(good))
    assert asdict(read_config(tmp_path / "c.json", c.CaptioningConfig)) == good
    row = dict(image="0.png", width=80, height=40, boxes=[], text="two boxes", origin="boxes")
    nor = "; nor could 8 other pictures of .*rows.parquet be read: is image_root, "
    for rows, message in (
        ([], "holds no rows"),
        ([row | dict(width=81)], "0.png has \\(80, 40\\) pixels.*" + nor),
        ([row | dict(image="none.png")], "no image 'none.png'.*" + nor),
    ):
        write_parquet(rows, tmp_path / "rows.parquet", CAPTIONS)
        with pytest.raises(ValueError, match=message):
            c.train(
                replace(
                    config(folders, world, "opt", tmp_path / "x"),
                    rows=str(tmp_path / "rows.parquet"),
                )
            )


def steps_of(told: c.CaptioningConfig, place: tuple[int, int] = (0, 1)) -> c.Steps:
    table = read_parquet(told.rows, CAPTIONS).drop_columns(["origin"]).combine_chunks()
    return c.Steps(table, told, 28, place)


def test_a_picture_that_has_gone_is_told_and_another_row_stands_in(folders, world, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(world, home)
    (home / "3.png").unlink()
    (home / "7.png").write_bytes((home / "7.png").read_bytes()[:60])
    told = config(folders, home, "opt", tmp_path / "captioner", steps=4)
    c.train(told)
    lines = launch.loss_curve(told)
    assert sum(line["unreadable"] for line in lines) == 4  # two rows each, in an epoch of 48
    told_of = [t for step in range(4) for _, _, troubles in steps_of(told)[step] for t in troubles]
    assert len(told_of) == 4 and {"3.png" in t or "7.png" in t for t in told_of} == {True}
    again = replace(told, out=str(tmp_path / "again"))
    c.train(again)
    assert losses(Path(told.out)) == losses(Path(again.out))


def test_steps_have_the_rows_of_an_epoch_once_however_they_are_parted(folders, world, tmp_path):
    told = config(folders, world, "opt", tmp_path / "x", batch=8, seed=3)
    rows = read_parquet(told.rows, CAPTIONS)["text"].to_pylist()
    for step in (0, 5, 6):
        expected = [rows[i] for i in epoch_indices(len(rows), 8, step, 3)]
        (part,) = steps_of(told)[step]
        assert part[1] == expected and part[0].shape == (8, 28, 28, 3)
        parted = steps_of(replace(told, accumulation=2), (1, 2))[step]
        assert [texts for _, texts, _ in parted] == [expected[2:4], expected[6:8]]


def test_parts_and_processes_learn_what_one_learns(folders, world, tmp_path):
    still = tmp_path / "still"
    shutil.copytree(folders["opt"], still)
    model = json.loads((still / "config.json").read_text())
    model["qformer_config"] |= dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    (still / "config.json").write_text(json.dumps(model))
    plain = TINY.training_config(still, world, tmp_path / "plain", steps=4, lr=2e-4, warmup=0)
    c.train(plain)
    parted = replace(plain, out=str(tmp_path / "parted"), accumulation=3, workers=1)
    launch.train_one(parted, processes=2)
    one, two = losses(Path(plain.out)), losses(Path(parted.out))
    np.testing.assert_allclose(one, two, atol=2e-3)  # bf16, where the processor has it
    assert np.ptp(one) > 0.05


def test_a_loss_that_is_no_number_ends_the_training(folders, world, tmp_path):
    told = config(folders, world, "opt", tmp_path / "x", steps=3, lr=1e36, min_lr=1e36, warmup=0)
    with pytest.raises(FloatingPointError, match="step 2: the loss is .*lower lr"):
        c.train(told)


def test_a_captioner_whose_weights_are_no_numbers_is_refused(folders, tmp_path):
    model = Blip2ForConditionalGeneration.from_pretrained(folders["t5"])
    with torch.no_grad():
        model.query_tokens[0, 0, 0] = torch.inf
    model.save_pretrained(tmp_path)
    t5_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="1 of .* values of query_tokens are no numbers"):
        c.load_trainable(str(tmp_path), CPU)


def test_only_the_bridge_is_counted_as_trained_and_boxes_are_described(tmp_path):
    parts = c.parts(str(find_root() / "lskd_nb" / "mini" / "weights" / "vlm"))
    assert [trained for _, trained in parts.values()] == [False, True, False] and all(
        number > 1000 for number, _ in parts.values()
    )
    loaded, _ = c.load_trainable(str(find_root() / "lskd_nb/mini/weights/vlm"), CPU)
    assert sum(number for number, _ in parts.values()) == sum(
        weight.numel() for weight in loaded.parameters()
    )
    shown = [Image.new("RGB", (224, 224), color) for color in ("red", "blue", "green")]
    said = c.describe(
        str(find_root() / "lskd_nb" / "mini" / "weights" / "vlm"), shown, "region :", batch=2
    )
    assert len(said) == 3 and all(isinstance(text, str) and text for text in said)
