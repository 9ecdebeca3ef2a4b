"""Generative students: tiny random BLIP-2s with T5 and LLaMA in the real layouts, against
transformers' own forward.
"""

import os
import pickle
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaForCausalLM

from lskd_nb.mini.pretraining.base import fresh_student
from lskd_nb.students import generative as g
from lskd_nb.students.loading import load_generative
from lskd_nb.students.minigpt4 import mini_gpt4
from lskd_nb.training import generative as training

TINY = SimpleNamespace(**run_path(str(Path(__file__).with_name("tiny_generative.py"))))
QUESTIONS, TARGETS, config = TINY.QUESTIONS, TINY.TARGETS, TINY.training_config


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return TINY.save_world(tmp_path_factory.mktemp("generative"))


@pytest.fixture(scope="module")
def students(world) -> dict[str, g.GenerativeStudent]:
    return TINY.load_students(world)


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
        (
            lambda w: w.update({"llama_proj.bias": torch.full((40,), torch.nan)}),
            "40 of 40 values of llama_proj.bias are no numbers",
        ),
    ],
)
def test_a_projection_that_does_not_fit_is_named(world, tmp_path, change, message):
    weights = dict(torch.load(world / "minigpt4.pth", weights_only=True)["model"])
    change(weights)
    torch.save({"model": weights}, tmp_path / "p.pth")
    with pytest.raises(ValueError, match="p.pth.*" + message):
        mini_gpt4(str(world / "flan-t5"), str(world / "vicuna"), tmp_path / "p.pth")


def test_a_projection_from_several_gpus_is_read(world, students, tmp_path):
    weights = torch.load(world / "minigpt4.pth", weights_only=True)["model"]
    torch.save({f"module.{key}": w for key, w in weights.items()}, tmp_path / "p.pth")
    read = mini_gpt4(str(world / "flan-t5"), str(world / "vicuna"), tmp_path / "p.pth")
    assert torch.equal(
        read.blip2.language_projection.weight, students["llama"].blip2.language_projection.weight
    )


def test_weights_that_are_no_numbers_are_refused(world, students, tmp_path):
    for name in ("qformer.layernorm.bias", "language_model.shared.weight"):
        model = load_generative(str(world / "flan-t5")).blip2
        with torch.no_grad():
            model.get_parameter(name).view(-1)[3] = torch.nan
        model.save_pretrained(tmp_path / "m")
        students["t5"].tokenizer.save_pretrained(tmp_path / "m")
        with pytest.raises(ValueError, match=f"{tmp_path / 'm'}: 1 of .* values of {name} are no"):
            load_generative(str(tmp_path / "m"))


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
