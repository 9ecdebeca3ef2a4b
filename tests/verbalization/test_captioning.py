"""BLIP-2 with OPT and with T5, in the layout of the hub's checkpoints and tiny: how it speaks,
and how it is finetuned.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessor,
    GPT2Tokenizer,
    OPTConfig,
    T5Config,
    T5Tokenizer,
)

from lskd_nb.mini.pretraining.base import fresh_student
from lskd_nb.records import write_parquet
from lskd_nb.regions import LocatedImage, Region
from lskd_nb.run_folder import find_root
from lskd_nb.sources.localized_narratives import Narrative
from lskd_nb.sources.refcoco import Referring
from lskd_nb.sources.sherlock import read_sherlock
from lskd_nb.sources.visual_genome import read_visual_genome
from lskd_nb.students import loading
from lskd_nb.students.bridge import place_image_token
from lskd_nb.students.loading import load_model
from lskd_nb.training.loop import CHECKPOINT, read_config
from lskd_nb.verbalization import captioning as c
from lskd_nb.verbalization import verbalizers as v
from lskd_nb.verbalization.caption_rows import (
    CAPTIONS,
    caption_row,
    narrative_rows,
    refcoco_rows,
    sherlock_rows,
    visual_genome_rows,
)

CPU = torch.device("cpu")
COLORS = {
    "red": (220, 30, 30),
    "green": (30, 200, 60),
    "blue": (40, 60, 220),
    "white": (250, 250, 250),
}
TEXTS = [f"this is a {color} box" for color in COLORS]
PROMPT = "the region shows :"


def opt_tokenizer() -> GPT2Tokenizer:
    """OPT's: bytes and merges, "</s>" before each text and for its end, ids 0 to 3 as in the
    published one.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.train_from_iterator(
        [*TEXTS, PROMPT, "Question: what is it? Answer:"],
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    told = json.loads(bpe.to_str())["model"]
    return GPT2Tokenizer(
        vocab=told["vocab"],
        merges=[tuple(m) for m in told["merges"]],
        bos_token="</s>",
        eos_token="</s>",
        unk_token="</s>",
        pad_token="<pad>",
        add_bos_token=True,
    )


def t5_tokenizer() -> T5Tokenizer:
    """T5's: <pad> 0, </s> 1, <unk> 2, pieces with scores; "</s>" ends each text."""
    words = sorted(
        {w for t in [*TEXTS, PROMPT, "Question: what is it? Answer:"] for w in t.split()}
    )
    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        *((f"▁{w}", -3.0) for w in words),
        ("▁", -4.0),
        *((x, -6.0) for x in "abcdefghijklmnopqrstuvwxyz:?QA"),
    ]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def tiny_blip2(
    kind: str, spare: int = 8
) -> tuple[Blip2ForConditionalGeneration, GPT2Tokenizer | T5Tokenizer]:
    """Random but for its language model, which knows the TEXTS from reading, as frozen ones do."""
    tokenizer = opt_tokenizer() if kind == "opt" else t5_tokenizer()
    size = (
        len(tokenizer) + spare
    )  # the published embeddings have rows to spare behind the last word
    if kind == "opt":
        text = OPTConfig(
            vocab_size=size,
            hidden_size=32,
            ffn_dim=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            word_embed_proj_dim=32,
            dropout=0.0,
            max_position_embeddings=96,
            bos_token_id=2,
            pad_token_id=1,
            eos_token_id=tokenizer.convert_tokens_to_ids("Ċ"),
            init_std=0.1,
        )
    else:
        text = T5Config(
            vocab_size=size,
            d_model=32,
            d_kv=16,
            d_ff=64,
            num_layers=2,
            num_decoder_layers=2,
            num_heads=2,
            dropout_rate=0.0,
            decoder_start_token_id=0,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
        )
    qformer = dict(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        cross_attention_frequency=1,
        initializer_range=0.1,
    )
    vision = dict(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        initializer_range=0.1,
    )
    torch.manual_seed(0)
    model = Blip2ForConditionalGeneration(
        Blip2Config(
            vision_config=vision,
            qformer_config=qformer,
            text_config=text.to_dict(),
            num_query_tokens=4,
        )
    )
    torch.nn.init.normal_(model.query_tokens, std=0.5)
    for embedding in (
        model.vision_model.embeddings.class_embedding,
        model.vision_model.embeddings.position_embedding,
    ):
        torch.nn.init.normal_(embedding, std=0.02)
    place_image_token(model, tokenizer)
    teach_texts(model, tokenizer)
    return model.eval(), tokenizer


def teach_texts(model: Blip2ForConditionalGeneration, tokenizer) -> None:
    """The language model learns to go on with the colour whose word stands at the image's
    places.
    """
    optimizer = torch.optim.Adam(model.language_model.parameters(), lr=5e-3)
    words = torch.tensor(
        [tokenizer(f" {color}", add_special_tokens=False).input_ids[-1] for color in COLORS]
    )
    for step in range(80):
        read = model.get_input_embeddings()(words)[:, None].expand(-1, 4, -1)
        model.get_image_features = lambda *_, read=read, **__: SimpleNamespace(
            pooler_output=read, qformer_outputs=None, vision_outputs=None
        )
        loss = c.caption_loss(
            model, tokenizer, torch.zeros(4, 3, 28, 28), PROMPT if step % 2 else "", TEXTS, 32
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    del model.get_image_features
    model.zero_grad()


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    torch.set_num_threads(1)
    found = {}
    for kind in ("opt", "t5"):
        model, tokenizer = tiny_blip2(kind)
        found[kind] = tmp_path_factory.mktemp(kind)
        model.save_pretrained(found[kind])
        tokenizer.save_pretrained(found[kind])
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Pictures with two boxes of different colours, and a text about each."""
    folder, rng, rows = tmp_path_factory.mktemp("boxes"), np.random.default_rng(0), []
    for number in range(24):
        canvas = np.full((40, 80, 3), 120, dtype=np.uint8)
        image = LocatedImage(str(number), f"{number}.png", 80, 40, (), "boxes", "train")
        for box, index in zip(
            ((4, 6, 34, 36), (46, 4, 76, 34)), rng.permutation(4)[:2], strict=True
        ):
            canvas[box[1] : box[3], box[0] : box[2]] = list(COLORS.values())[index]
            rows.append(caption_row(image, [box], TEXTS[index], "boxes"))
        Image.fromarray(canvas).save(folder / image.path)
    write_parquet(rows, folder / "rows.parquet", CAPTIONS)
    return folder


def config(
    folders: dict[str, Path], world: Path, kind: str, out: Path, **changes
) -> c.CaptioningConfig:
    base = c.CaptioningConfig(
        model=str(folders[kind]),
        rows=str(world / "rows.parquet"),
        image_root=str(world),
        out=str(out),
        steps=50,
        batch=12,
        prompt=PROMPT,
        view="crop",
        lr=6e-3,
        min_lr=1e-3,
        warmup=5,
        max_tokens=24,
        checkpoint_every=4,
        readers=2,
        threads=1,
    )
    return replace(base, **changes)


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


def test_a_killed_run_ends_like_an_unbroken_one(folders, world, tmp_path):
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
    process = subprocess.Popen(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL
    )
    end = time.time() + 60
    while not (work / CHECKPOINT).exists() and time.time() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (work / CHECKPOINT).exists() and not Path(killed.out).exists()
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
    for rows, message in (
        ([], "holds no rows"),
        ([row | dict(width=81)], "0.png has \\(80, 40\\) pixels"),
        ([row | dict(image="none.png")], "no image 'none.png'"),
    ):
        write_parquet(rows, tmp_path / "rows.parquet", CAPTIONS)
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            next(
                c.batches(
                    replace(
                        config(folders, world, "opt", tmp_path / "x"),
                        rows=str(tmp_path / "rows.parquet"),
                    ),
                    28,
                    0,
                )
            )


def test_visual_genome_descriptions_keep_their_own_boxes(tmp_path):
    (tmp_path / "VG_100K").mkdir()
    Image.new("RGB", (60, 40)).save(tmp_path / "VG_100K" / "7.jpg")
    (tmp_path / "image_data.json").write_text(
        json.dumps([dict(image_id=7, width=60, height=40, url="https://x/VG_100K/7.jpg")])
    )
    (tmp_path / "objects.json").write_text(
        json.dumps(
            [dict(image_id=7, objects=[dict(object_id=1, x=0, y=0, w=30, h=30, names=["dog"])])]
        )
    )
    regions = [
        dict(region_id=1, image_id=7, phrase=" a wet  nose", x=3, y=4, width=5, height=6),
        dict(region_id=2, image_id=7, phrase="grass", x=50, y=30, width=20, height=20),
        dict(region_id=3, image_id=7, phrase="far away", x=90, y=4, width=5, height=6),
        dict(region_id=4, image_id=7, phrase="", x=3, y=4, width=5, height=6),
        "no region",
    ]
    (tmp_path / "region_descriptions.json").write_text(
        json.dumps([dict(id=7, regions=regions), dict(id=8, regions="elsewhere"), dict(regions=[])])
    )
    images, _ = read_visual_genome(tmp_path)
    rows, rejects, clamped = visual_genome_rows(tmp_path, images, below="vg")
    assert [(r["image"], r["boxes"], r["text"]) for r in rows] == [
        ("vg/VG_100K/7.jpg", [[3, 4, 8, 10]], "a wet nose"),
        ("vg/VG_100K/7.jpg", [[50, 30, 60, 40]], "grass"),
    ]
    assert clamped == 1 and [r.reason for r in rejects] == [
        "box of no area",
        "bad text",
        "bad record",
        "missing field",
    ]
    assert rejects[0].record == "region_descriptions.json, element 0, region 2"
    assert write_parquet(rows, tmp_path / "rows.parquet", CAPTIONS).num_rows == 2


SHERLOCK = find_root().parent / "shared" / "samples" / "sherlock"


@pytest.mark.skipif(not SHERLOCK.exists(), reason="no sample of Sherlock beside the project")
def test_sherlock_clues_have_all_their_boxes(tmp_path):
    shutil.copy(SHERLOCK / "sherlock_val_subset160.json", tmp_path / "sherlock_val_v1_1.json")
    clues, _, _ = read_sherlock(tmp_path, "val", check_images=False)
    rows = sherlock_rows(clues, below="pictures/")
    assert len(rows) == len(clues) == 160 and max(len(r["boxes"]) for r in rows) > 1
    assert all(
        r["text"] == k.clue and r["image"] == f"pictures/{k.image.path}"
        for r, k in zip(rows, clues, strict=True)
    )
    table = write_parquet(rows, tmp_path / "rows.parquet", CAPTIONS)
    assert all(
        0 <= x0 < x1 <= r["width"] and 0 <= y0 < y1 <= r["height"]
        for r in table.to_pylist()
        for x0, y0, x1, y1 in r["boxes"]
    )


def test_referring_expressions_and_narratives_become_rows(tmp_path):
    one = Referring(
        1,
        LocatedImage(
            "5",
            "train2014/a.jpg",
            100,
            80,
            (Region(0, (1.0, 2.0, 30.0, 40.0)),),
            "refcoco+",
            "train",
        ),
        ("left cup", "the cup"),
    )
    rows = refcoco_rows([one], below="coco")
    assert [r["text"] for r in rows] == ["left cup", "the cup"] and {r["origin"] for r in rows} == {
        "refcoco+"
    }
    assert (
        rows[0]["boxes"] == [[1.0, 2.0, 30.0, 40.0]] and rows[0]["image"] == "coco/train2014/a.jpg"
    )
    (tmp_path / "coco").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "coco" / "a.jpg")
    told = [
        Narrative(str(n), "mscoco_val2017", path, 3, "In this image there are cows.", (), ())
        for n, path in enumerate(("a.jpg", "gone.jpg", "a.jpg"))
    ]
    rows, rejects = narrative_rows(told, tmp_path, "coco")
    assert [(r["width"], r["height"], r["boxes"], r["image"]) for r in rows] == [
        (64, 48, [], "coco/a.jpg")
    ] * 2
    assert [r.reason for r in rejects] == ["missing image"]
    assert len(write_parquet(rows + refcoco_rows([one]), tmp_path / "c.parquet", CAPTIONS)) == 4


def test_only_the_bridge_is_counted_as_trained_and_boxes_are_described(tmp_path):
    parts = c.parts(str(find_root() / "lskd_nb" / "mini" / "weights" / "vlm"))
    assert [trained for _, trained in parts.values()] == [False, True, False] and all(
        number > 1000 for number, _ in parts.values()
    )
    shown = [Image.new("RGB", (224, 224), color) for color in ("red", "blue", "green")]
    said = c.describe(
        str(find_root() / "lskd_nb" / "mini" / "weights" / "vlm"), shown, "region :", batch=2
    )
    assert len(said) == 3 and all(isinstance(text, str) and text for text in said)
