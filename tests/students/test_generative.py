"""Generative students: tiny random BLIP-2s with T5 and LLaMA in the real layouts, against
transformers' own forward.
"""

import json
import os
import pickle
import signal
import string
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizer,
    T5Config,
    T5Tokenizer,
)

from lskd_nb import mini
from lskd_nb.mini.pretraining.base import fresh_student, vocabulary
from lskd_nb.records import CORPUS, write_parquet
from lskd_nb.regions import Region
from lskd_nb.students import generative as g
from lskd_nb.students.loading import load_generative
from lskd_nb.students.minigpt4 import mini_gpt4
from lskd_nb.students.views import View
from lskd_nb.training import generative as training
from lskd_nb.training.batches import Row
from lskd_nb.training.loop import read_config

QUESTIONS = ("What is [0] about to do?", "Why does [1] do this and nothing else?", "Who?")
TARGETS = (
    "Answer: Throw the ball. Rationale: [0] is holding a ball.",
    "Answer: To rest.",
    "Answer: The dog [1].",
)
WEIGHTS = Path(mini.__file__).parent / "weights"
LETTERS = [c for c in string.printable if not c.isspace()]


def t5_tokenizer() -> T5Tokenizer:
    """T5's kind of tokenizer over the mini world's words and single letters."""
    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", -2.0),
        ("▁", -3.0),
        *((c, -9.0) for c in LETTERS),
    ]
    return T5Tokenizer(
        vocab=pieces + [("▁" + w, -5.0) for w in vocabulary() if w.isalpha() and len(w) > 1],
        extra_ids=0,
    )


def llama_tokenizer() -> LlamaTokenizer:
    """LLaMA's kind of tokenizer with no merges: each letter is a token."""
    return LlamaTokenizer(
        vocab={w: i for i, w in enumerate(["<unk>", "<s>", "</s>", "▁", *LETTERS])}, merges=[]
    )


def save_flan_t5(folder: Path, width: int = 32) -> None:
    """The layout of Salesforce/blip2-flan-t5-xxl."""
    torch.manual_seed(0)
    words = t5_tokenizer()
    words.add_tokens(["<image>"], special_tokens=True)
    vision = Blip2VisionConfig(
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        image_size=32,
        patch_size=16,
        initializer_range=0.05,
    )
    qformer = Blip2QFormerConfig(
        vocab_size=8,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        cross_attention_frequency=1,
        encoder_hidden_size=24,
        initializer_range=0.05,
    )
    text = T5Config(
        vocab_size=len(words),
        d_model=width,
        d_kv=8,
        d_ff=64,
        num_layers=1,
        num_heads=4,
        decoder_start_token_id=0,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    model = Blip2ForConditionalGeneration(
        Blip2Config(
            vision_config=vision.to_dict(),
            qformer_config=qformer.to_dict(),
            text_config=text.to_dict(),
            num_query_tokens=4,
            image_token_index=words.convert_tokens_to_ids("<image>"),
        )
    )
    torch.nn.init.normal_(model.query_tokens, std=0.2)
    model.language_model.lm_head.weight = torch.nn.Parameter(
        0.1 * torch.randn(len(words), width)
    )  # FLAN-T5's is its own
    model.save_pretrained(folder)
    words.save_pretrained(folder)


def save_vicuna(folder: Path, width: int = 40) -> None:
    """The layout of a Vicuna."""
    torch.manual_seed(1)
    words = llama_tokenizer()
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=width,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            initializer_range=0.1,
        )
    ).save_pretrained(folder)
    words.save_pretrained(folder)


def triple(number: int, region: int) -> dict:
    box = [[2.0, 2.0, 20.0, 30.0], [22.0, 4.0, 40.0, 30.0]]
    return dict(
        triple_id=f"t{number}",
        image_id=f"m{number % 3}",
        family="id",
        question=f"What is [{region}] about to do?",
        answer="Throw the ball.",
        rationale=f"[{region}] is holding a ball and [{1 - region}] is a dog.",
        regions=[0, 1],
        regions_offered=[0, 1],
        model="m",
        prompt="p",
        request="r",
        score=0.9,
        image=f"m{number % 3}.png",
        width=64,
        height=48,
        source="mini",
        split="train",
        references=[dict(id=i, box=box[i], label="thing", score=1.0) for i in (0, 1)],
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("generative")
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(
            folder / f"m{i}.png"
        )
    write_parquet([triple(n, n % 2) for n in range(8)], folder / "corpus.parquet", CORPUS)
    save_flan_t5(folder / "flan-t5")
    save_vicuna(folder / "vicuna")
    weights = {"llama_proj.weight": torch.randn(40, 24), "llama_proj.bias": torch.randn(40)}
    torch.save(
        {"model": weights, "optimizer": {"state": {}}, "config": {"run": {"lr": 1e-4}}, "epoch": 3},
        folder / "minigpt4.pth",
    )
    return folder


@pytest.fixture(scope="module")
def students(world) -> dict[str, g.GenerativeStudent]:
    return {
        "t5": load_generative(str(world / "flan-t5")),
        "llama": mini_gpt4(str(world / "flan-t5"), str(world / "vicuna"), world / "minigpt4.pth"),
    }


def config(world: Path, out: Path, **changes) -> training.GenerativeConfig:
    base = training.GenerativeConfig(
        student=str(world / "flan-t5"),
        corpus=str(world / "corpus.parquet"),
        image_root=str(world),
        out=str(out),
        steps=8,
        batch=4,
        lr=3e-3,
        min_lr=1e-3,
        checkpoint_every=3,
        threads=1,
    )
    return replace(base, **changes)


def pixel_values(number: int = 3) -> torch.Tensor:
    return torch.randn(number, 3, 32, 32, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def test_t5_loss_equals_the_class_it_wraps(students):
    student = students["t5"]
    ours = student.loss(student.encode_images(pixel_values()), QUESTIONS, TARGETS)
    words, places = student.tokenizer, "<image>" * 4
    asked = words([places + q for q in QUESTIONS], padding=True, return_tensors="pt")
    told = words(list(TARGETS), padding=True, return_tensors="pt").input_ids
    theirs = student.blip2(
        pixel_values=pixel_values(),
        input_ids=asked.input_ids,
        attention_mask=asked.attention_mask,
        labels=told.masked_fill(told == words.pad_token_id, -100),
    )
    assert torch.isclose(ours, theirs.loss, atol=1e-5)


@torch.no_grad()
def test_llama_loss_is_that_of_the_target_alone(students):
    student = students["llama"]
    image = student.encode_images(pixel_values())
    total = count = 0.0
    for number, (question, target) in enumerate(zip(QUESTIONS, TARGETS, strict=True)):
        prompt, told = student.prompt_ids(question), student.target_ids(target)[0]
        ids = torch.tensor([prompt + told])
        out = student.blip2(
            pixel_values=pixel_values()[number : number + 1],
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
        )
        log_probability = out.logits[0].log_softmax(-1)[len(prompt) - 1 : -1]
        total -= log_probability.gather(1, torch.tensor(told)[:, None]).sum().item()
        count += len(told)
        assert torch.isclose(
            student.loss(image[number : number + 1], [question], [target]),
            -log_probability.gather(1, torch.tensor(told)[:, None]).mean(),
            atol=1e-5,
        )
    assert student.loss(image, QUESTIONS, TARGETS).item() == pytest.approx(
        total / count, abs=1e-5
    )  # padding counts for nothing


def test_mini_gpt4_is_asked_in_its_own_words(students):
    student = students["llama"]
    ids = student.prompt_ids("Why is [0] here?")
    first = ids.index(student.image_token)
    assert (
        ids[0] == student.tokenizer.bos_token_id
        and ids.count(student.image_token) == 4
        and ids[first : first + 4] == [student.image_token] * 4
    )
    said = student.tokenizer.decode(ids[1:first]), student.tokenizer.decode(ids[first + 4 :])
    assert (said[0], said[1].strip()) == (
        "###Human: <Img>",
        "</Img> Why is [0] here? ###Assistant:",
    )
    told, cut = student.target_ids("Answer: To rest.")
    assert student.tokenizer.decode(told) == "Answer: To rest.###</s>" and not cut


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_a_text_brings_no_places_for_images_along(students, kind):
    student = students[kind]
    assert student.image_token not in student.target_ids("Answer: <image>.")[0]
    assert student.prompt_ids("Why <image> is <image> [0] here?").count(student.image_token) == 4
    student.generate(student.encode_images(pixel_values(1)), ["<image><image>?"], max_new_tokens=2)


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_what_is_said_does_not_depend_on_the_others_in_the_batch(students, kind):
    student = students[kind]
    image = student.encode_images(pixel_values())
    together = student.generate(image, QUESTIONS, max_new_tokens=8)
    assert together == [
        student.generate(image[n : n + 1], [q], max_new_tokens=8)[0]
        for n, q in enumerate(QUESTIONS)
    ]
    assert any(together)


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_what_is_said_equals_the_classes_own_generation(students, kind):
    student = students[kind]
    ids = torch.tensor([student.prompt_ids(QUESTIONS[0])])
    theirs = student.blip2.generate(
        pixel_values=pixel_values(1),
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=6,
        do_sample=False,
    )
    new = theirs[:, ids.shape[1] :] if kind == "llama" and theirs.shape[1] > 6 else theirs
    said = student.tokenizer.batch_decode(new, skip_special_tokens=True)[0].split(
        student.end or None
    )
    expected = " ".join(said[0].split()) if student.end else " ".join(said)
    assert student.generate(
        student.encode_images(pixel_values(1)), QUESTIONS[:1], max_new_tokens=6
    ) == [expected]


def test_mini_gpt4_ends_where_its_mark_is(students, monkeypatch):
    student = students["llama"]
    spoken = student.tokenizer("To rest.### ###Human: more", add_special_tokens=False).input_ids
    asked = {}
    monkeypatch.setattr(
        student.blip2.language_model,
        "generate",
        lambda **how: asked.update(how) or torch.tensor([spoken]),
    )
    assert student.generate(student.encode_images(pixel_values(1)), ["Why?"]) == ["To rest."]
    assert asked["stop_strings"] == ["###"]


def test_mini_gpt4_is_made_of_its_parts_and_loads_as_a_whole(world, students, tmp_path):
    base, student = students["t5"], students["llama"]
    published = torch.load(world / "minigpt4.pth", weights_only=True)["model"]
    assert torch.equal(student.blip2.language_projection.weight, published["llama_proj.weight"])
    assert torch.equal(student.blip2.language_projection.bias, published["llama_proj.bias"])
    vicuna = LlamaForCausalLM.from_pretrained(world / "vicuna")
    assert torch.equal(
        student.blip2.language_model.model.layers[1].mlp.up_proj.weight,
        vicuna.model.layers[1].mlp.up_proj.weight,
    )
    for (name, one), other in zip(
        base.blip2.named_parameters(), student.blip2.parameters(), strict=False
    ):
        if name.startswith(("vision_model.", "qformer.")) or name == "query_tokens":
            assert torch.equal(one, other), name
    student.save(tmp_path / "m")
    again = load_generative(str(tmp_path / "m"))
    image = student.encode_images(pixel_values())
    assert torch.equal(
        student.loss(image, QUESTIONS, TARGETS),
        again.loss(again.encode_images(pixel_values()), QUESTIONS, TARGETS),
    )
    assert again.prompt == g.MINI_GPT4_PROMPT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("llama_proj.bias"), r"lacks \['llama_proj.bias'\]"),
        (
            lambda w: w.update({"llama_proj.weight": torch.zeros(5120, 24)}),
            r"llama_proj.weight is \(5120, 24\), expected \(40, 24\)",
        ),
        (
            lambda w: w.update({"Qformer.bert.x": torch.zeros(2)}),
            r"beside Mini-GPT4's projection: \['Qformer.bert.x'\]",
        ),
    ],
)
def test_a_projection_that_does_not_fit_is_named(world, tmp_path, change, message):
    weights = dict(torch.load(world / "minigpt4.pth", weights_only=True)["model"])
    change(weights)
    torch.save({"model": weights}, tmp_path / "p.pth")
    with pytest.raises(ValueError, match="p.pth.*" + message):
        mini_gpt4(str(world / "flan-t5"), str(world / "vicuna"), tmp_path / "p.pth")


def test_a_projection_that_would_run_code_is_refused(world, tmp_path):
    class Payload:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'ran'}",))

    (tmp_path / "p.pth").write_bytes(pickle.dumps({"model": {"llama_proj.weight": Payload()}}))
    with pytest.raises(ValueError, match="p.pth"):
        mini_gpt4(str(world / "flan-t5"), str(world / "vicuna"), tmp_path / "p.pth")
    assert not (tmp_path / "ran").exists()


def test_models_of_another_kind_are_refused(world, tmp_path):
    fresh_student(0, hidden=32, layers=1, vision_width=24, vision_layers=1, image_size=32).save(
        tmp_path / "stage1"
    )
    with pytest.raises(ValueError, match="stage1"):
        load_generative(str(tmp_path / "stage1"))
    with pytest.raises(ValueError, match="is a 'blip-2' model; expected llama"):
        mini_gpt4(str(world / "flan-t5"), str(world / "flan-t5"), None)
    with pytest.raises(ValueError, match="needs a language_model"):
        training.train(config(world, tmp_path / "s", projection=str(world / "minigpt4.pth")))


def test_saving_changes_no_number(students, tmp_path):
    student = students["t5"]
    student.save(tmp_path / "s")
    again = load_generative(str(tmp_path / "s"))
    image = student.encode_images(pixel_values())
    assert torch.equal(
        student.loss(image, QUESTIONS, TARGETS),
        again.loss(again.encode_images(pixel_values()), QUESTIONS, TARGETS),
    )


def test_it_learns_and_leaves_vision_and_language_alone(world, tmp_path):
    told = config(world, tmp_path / "s", student=str(WEIGHTS / "vlm"), steps=30, lr=1e-2, views=2)
    out = training.train(told)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 30 and np.mean([x["lm"] for x in lines[-5:]]) < 0.8 * np.mean(
        [x["lm"] for x in lines[:5]]
    )
    base, trained = load_generative(told.student), load_generative(str(out))
    changed = {
        n.split(".")[1]
        for (n, a), b in zip(base.named_parameters(), trained.parameters(), strict=True)
        if not torch.equal(a, b)
    }
    assert changed == {"query_tokens", "qformer", "language_projection"}
    before = (out / "metrics.jsonl").stat().st_mtime_ns
    assert (
        training.train(told) == out and (out / "metrics.jsonl").stat().st_mtime_ns == before
    )  # finished: not done again
    views = [View("m0.png", (Region(0, (2.0, 2.0, 20.0, 30.0)),)), View("m1.png")]
    texts = g.answer(trained, world, views, list(QUESTIONS[:2]), max_new_tokens=6)
    assert len(texts) == 2 and all(isinstance(t, str) for t in texts)
    with pytest.raises(ValueError, match="2 views and 1 questions"):
        g.answer(trained, world, views, ["Why?"])


def test_mini_gpt4_is_trained_from_its_parts(world, tmp_path):
    told = config(
        world,
        tmp_path / "s",
        steps=3,
        language_model=str(world / "vicuna"),
        projection=str(world / "minigpt4.pth"),
        max_tokens=40,
    )
    out = training.train(told)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [x["cut"] for x in lines] == [4, 4, 4]  # of letters there are more than forty
    trained = load_generative(str(out))
    assert trained.prompt == g.MINI_GPT4_PROMPT
    published = torch.load(world / "minigpt4.pth", weights_only=True)["model"]["llama_proj.weight"]
    assert not torch.equal(trained.blip2.language_projection.weight, published)


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_adapters_are_trained_and_merged(world, tmp_path, kind):
    pytest.importorskip("peft", reason="LoRA needs peft")
    parts = (
        dict(language_model=str(world / "vicuna"), projection=str(world / "minigpt4.pth"))
        if kind == "llama"
        else {}
    )
    told = config(world, tmp_path / "s", steps=4, lora_rank=4, **parts)
    trained = load_generative(str(training.train(told)))
    assert not any("lora" in n for n, _ in trained.named_parameters())
    torch.manual_seed(told.seed)  # the place of images in LLaMA's vocabulary is a new word
    base = training.base_of(told)
    changed = {
        n
        for (n, a), b in zip(
            base.blip2.language_model.named_parameters(),
            trained.blip2.language_model.parameters(),
            strict=True,
        )
        if not torch.equal(a, b)
    }
    linear = (".q", ".k", ".v", ".o", "wi_", "wo", "gate_proj", "up_proj", "down_proj")
    assert len(changed) > 6 and all(
        any(part in n for part in linear) for n in changed
    )  # not embeddings, norms and head


def test_without_peft_it_is_named(students, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match="pip install peft"):
        g.add_lora(students["t5"], 4, 16)


def test_killed_training_ends_like_an_unbroken_one(world, tmp_path):
    whole = training.train(config(world, tmp_path / "whole", steps=12))
    told = config(world, tmp_path / "killed", steps=12)
    (tmp_path / "c.json").write_text(json.dumps(asdict(told)))
    log = tmp_path / "killed.training" / "metrics.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "lskd_nb.training.generative", str(tmp_path / "c.json")],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    while not (log.exists() and len(log.read_text().splitlines()) >= 5):
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not Path(told.out).exists()
    training.train(told)
    losses = [
        [json.loads(line)["lm"] for line in (f / "metrics.jsonl").read_text().splitlines()]
        for f in (whole, Path(told.out))
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 12
    for one, other in zip(
        load_generative(str(whole)).parameters(),
        load_generative(told.out).parameters(),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_the_rationale_is_always_taught():
    row = Row("a.png", "Why?", "To rest.", "[0] is sitting.", (Region(0, (0, 0, 9, 9)),), (0,))
    assert (
        training.whole(row).answer == "To rest. Rationale: [0] is sitting."
        and training.whole(row).rationale == ""
    )
    assert training.whole(replace(row, rationale="")) == replace(row, rationale="")


def test_config_errors_name_the_key(tmp_path):
    given = dict(student="s", corpus="c", image_root="i", out="o", steps=3)
    (tmp_path / "c.json").write_text(json.dumps(given | dict(lora=3, batch="many")))
    with pytest.raises(ValueError, match="c.json: .*(batch.*lora|lora.*batch)"):
        read_config(tmp_path / "c.json", training.GenerativeConfig)
    (tmp_path / "c.json").write_text(json.dumps(given))
    assert read_config(tmp_path / "c.json", training.GenerativeConfig) == training.GenerativeConfig(
        **given
    )
