"""Checkpoints of LAVIS: whole ones, ones without a vision encoder, LSKD's critic, and files that
are none.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from lskd_nb.critic.model import Critic
from lskd_nb.mini.pretraining.base import fresh_student, tokenizer
from lskd_nb.students import loading
from lskd_nb.students.lavis_weights import CRITIC_HEADS, read_checkpoint
from lskd_nb.students.loading import load_lavis, load_student
from lskd_nb.students.views import FrozenFeatures


def test_temperature_and_lm_head_come_along(write_checkpoint, eva, words, tmp_path):
    student = load_student(str(write_checkpoint(eva, tmp_path / "p.pth")), tokenizer=words)
    assert student.temperature == eva.temp == torch.tensor(0.05)
    assert torch.equal(
        student.lm_head.transform.dense.weight, eva.Qformer.cls.predictions.transform.dense.weight
    )
    assert (
        torch.equal(student.lm_head.decoder.bias, eva.Qformer.cls.predictions.bias)
        and student.lm_head.decoder.bias.any()
    )
    assert student.lm_head.decoder.weight is student.word_embeddings
    assert student.blip2.vision_model.post_layernorm.eps == 1e-5 and student.image_size == 28


def test_plain_dictionaries_and_half_precision_are_read(
    same_scores, eva, words, random_pixels, tmp_path
):
    torch.save(
        {
            name: w.half() if name.startswith("visual_encoder.") else w
            for name, w in eva.state_dict().items()
        },
        tmp_path / "plain.pth",
    )
    student = load_student(str(tmp_path / "plain.pth"), tokenizer=words).eval()
    assert {p.dtype for p in student.parameters()} == {torch.float32}
    assert same_scores(eva, student, random_pixels, atol=0.05)


@pytest.mark.parametrize("vision", ["eva", "clip"])
def test_without_its_vision_encoder_a_file_needs_a_base(
    lavis_model, same_scores, write_checkpoint, vision, words, random_pixels, tmp_path
):
    network = lavis_model(vision)
    whole = load_lavis(write_checkpoint(network, tmp_path / "whole.pth"), tokenizer=words)
    whole.save(tmp_path / "folder")
    part = write_checkpoint(network, tmp_path / "part.pth", frozen=("visual_encoder.",))
    assert not [key for key in read_checkpoint(part)[0] if key.startswith("visual_encoder.")]
    with pytest.raises(
        ValueError, match=r"part.pth has no visual_encoder.pos_embed: .* name a base that has it"
    ):
        load_student(str(part), tokenizer=words)
    torch.save(
        network.visual_encoder.state_dict(), tmp_path / "encoder.pth"
    )  # as eva_vit_g.pth and clip_vit_L.pth are
    for base in ("folder", "whole.pth", "encoder.pth"):
        student = load_student(str(part), base=str(tmp_path / base), tokenizer=words).eval()
        assert same_scores(network, student, random_pixels), base
    assert (
        load_student(str(part), base=str(tmp_path / "folder")).tokenizer.get_vocab()
        == tokenizer().get_vocab()
    )


def test_vit_l_is_saved_and_loaded_as_what_it_is(
    lavis_model, same_scores, write_checkpoint, words, random_pixels, tmp_path
):
    network = lavis_model("clip")
    student = load_student(
        str(write_checkpoint(network, tmp_path / "vitL.pth")), tokenizer=words
    ).eval()
    assert same_scores(network, student, random_pixels)
    student.save(tmp_path / "saved")
    again = load_student(str(tmp_path / "saved")).eval()
    assert torch.equal(student.encode_images(random_pixels), again.encode_images(random_pixels))
    assert (
        again.temperature == student.temperature
        and student.state_dict().keys() == again.state_dict().keys()
    )
    in_lavis = load_student(str(tmp_path / "saved"), backend="lavis").eval()
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            network.state_dict().values(), in_lavis.blip2.state_dict().values(), strict=True
        )
    )
    in_lavis.save(tmp_path / "back")
    assert torch.equal(
        load_student(str(tmp_path / "back")).eval().encode_images(random_pixels),
        again.encode_images(random_pixels),
    )
    shape = FrozenFeatures(again, tmp_path).shape
    assert (
        shape
        == FrozenFeatures(in_lavis, tmp_path).shape
        == (5, student.blip2.config.vision_config.hidden_size)
    )


@pytest.fixture(scope="session")
def critic_checkpoint(write_checkpoint) -> Callable[..., Path]:
    """As LSKD's ``Blip2Critic`` is written: two heads more, no contrast, and the tied word
    embeddings under their second name alone, because freezing the LM head freezes them too.
    """

    def make(network: nn.Module, path: Path) -> Path:
        hidden = network.Qformer.config.hidden_size
        for name in ("qa_head", "r_head"):
            setattr(
                network,
                name,
                nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)),
            )
        del network.vision_proj, network.text_proj, network.temp
        frozen = ("visual_encoder.", "Qformer.cls.", "Qformer.bert.embeddings.word_embeddings.")
        return write_checkpoint(
            network, path, frozen, config={"model": {"arch": "blip2_critic", "image_size": 28}}
        )

    return make


def test_lskds_critic_is_read_over_a_base(
    critic_checkpoint, lavis_model, sentences, write_checkpoint, eva, words, random_pixels, tmp_path
):
    base = write_checkpoint(eva, tmp_path / "base.pth")
    network = lavis_model(seed=1)
    path = critic_checkpoint(network, tmp_path / "critic.pth")
    keys = read_checkpoint(path)[0].keys()
    assert (
        "Qformer.cls.predictions.decoder.weight" in keys
        and "Qformer.bert.embeddings.word_embeddings.weight" not in keys
    )
    with pytest.raises(ValueError, match=r"critic.pth holds weights .*qa_head.0.weight.* ignore"):
        load_student(str(path), base=str(base), tokenizer=words)
    network.visual_encoder.load_state_dict(eva.visual_encoder.state_dict())
    student = load_student(str(path), base=str(base), ignore=CRITIC_HEADS, tokenizer=words).eval()
    assert torch.equal(student.word_embeddings, network.Qformer.cls.predictions.decoder.weight)
    assert (
        torch.equal(student.blip2.vision_projection.weight, eva.vision_proj.weight)
        and student.temperature == eva.temp
    )
    texts = student.tokenize([""] * 3, sentences)
    with torch.no_grad():
        _, image = network.forward_image(random_pixels)
        expected = network.compute_itm(image, texts.ids, texts.mask)
        found = Critic(student)(student.encode_images(random_pixels), [""] * 3, sentences)[0][:, 1]
    assert torch.allclose(expected, found, atol=1e-5)


def test_what_no_file_has_starts_fresh_and_says_so(eva, words, tmp_path):
    lacking = {
        key: w
        for key, w in eva.state_dict().items()
        if key != "temp" and not key.startswith("Qformer.cls.")
    }
    torch.save({"model": lacking}, tmp_path / "lacking.pth")
    with pytest.warns(UserWarning, match=r"lacking.pth lacks temp, Qformer.cls.* start fresh"):
        student = load_student(str(tmp_path / "lacking.pth"), tokenizer=words)
    assert student.temperature == torch.tensor(0.07)
    student.blip2.save_pretrained(tmp_path / "hub")  # the hub's folders hold no more than this
    student.tokenizer.save_pretrained(tmp_path / "hub")
    torch.save(
        {key: w for key, w in lacking.items() if not key.startswith("visual_encoder.")},
        tmp_path / "part.pth",
    )
    with pytest.warns(
        UserWarning, match=r"part.pth with base .*hub lacks temp, Qformer.cls.* start fresh"
    ):
        load_student(str(tmp_path / "part.pth"), base=str(tmp_path / "hub"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"Qformer.bert.encoder.layer.1.output.dense.weight": torch.zeros(128, 63)},
            (
                r"bad.pth: Qformer.bert.encoder.layer.1.output.dense.weight has shape \(128, 63\),"
                r" expected \(128, 64\)"
            ),
        ),
        (
            {
                "visual_encoder.blocks.1.attn.q_bias": torch.zeros(3),
                "visual_encoder.blocks.1.attn.v_bias": torch.zeros(3),
            },
            r"bad.pth: visual_encoder.blocks.1.attn.qkv.bias has shape \(9,\), expected \(528,\)",
        ),
        (
            {"query_tokens": torch.zeros(5, 128)},
            r"bad.pth: query_tokens has shape \(5, 128\), expected 3 dimensions",
        ),
        (
            {"itm_head.weight": None, "text_proj.bias": None},
            r"bad.pth lacks text_proj.bias, itm_head.weight: name a base",
        ),
        (
            {"visual_encoder.blocks.0.attn.v_bias": None},
            r"bad.pth holds weights .* visual_encoder.blocks.0.attn.q_bias",
        ),
        (
            {"opt_proj.weight": torch.zeros(2)},
            (
                r"bad.pth holds weights that a student has no place for: opt_proj.weight; name them"
                r" in ignore"
            ),
        ),
        (
            {"Qformer.bert.encoder.layer.0.gate.bias": torch.zeros(2)},
            r"bad.pth holds weights .*: Qformer.bert.encoder.layer.0.gate.bias;",
        ),
        (
            {"Qformer.cls.predictions.decoder.weight": torch.zeros(3, 128)},
            (
                r"bad.pth: Qformer.bert.embeddings.word_embeddings.weight and"
                r" Qformer.cls.predictions.decoder.weight should be one weight"
            ),
        ),
    ],
)
def test_wrong_weights_are_named(eva, words, tmp_path, change, message):
    weights = {key: w for key, w in (eva.state_dict() | change).items() if w is not None}
    torch.save({"model": weights}, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match=message):
        load_student(str(tmp_path / "bad.pth"), tokenizer=words)


def test_a_base_of_other_sizes_is_refused(write_checkpoint, eva, words, tmp_path):
    part = write_checkpoint(eva, tmp_path / "part.pth", frozen=("visual_encoder.",))
    fresh_student(0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32).save(
        tmp_path / "mini"
    )
    with pytest.raises(
        ValueError,
        match=(
            r"part.pth: .* has shape .*, expected .* beside the other weights of .*part.pth with"
            r" base .*mini"
        ),
    ):
        load_student(str(part), base=str(tmp_path / "mini"))
    other = tokenizer()
    other.add_tokens([f"word{n}" for n in range(3)])
    other.save_pretrained(tmp_path / "more")
    weights = eva.state_dict()
    torch.save(
        {
            "model": (
                weights
                | {
                    key: torch.cat([w, w[:9]])
                    for key, w in weights.items()
                    if len(w.shape) and len(w) == len(tokenizer())
                }
            )
        },
        tmp_path / "larger.pth",
    )
    with pytest.raises(
        ValueError,
        match=(
            r"the tokenizer has \d+ tokens, \[DEC\] being number 5; .*larger.pth has \d+ word"
            r" embeddings"
        ),
    ):
        load_student(str(tmp_path / "larger.pth"), tokenizer=str(tmp_path / "more"))


class Malicious:
    def __reduce__(self):
        return Path.touch, (Path("owned"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"model": {"temp": torch.tensor(0.07)}, "config": Malicious()},
            "evil.pth is not a checkpoint of tensors alone",
        ),
        ({"model": {"temp": 0.07}}, r"evil.pth: 'temp' is float, expected a tensor"),
        ([torch.zeros(2)], r"evil.pth holds no weights"),
        ({"model": {}}, r"evil.pth holds no weights"),
        (b"not a checkpoint", "evil.pth is not a checkpoint of tensors alone"),
    ],
)
def test_files_that_are_no_checkpoints_are_refused(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        load_student(str(path))
    assert not (tmp_path / "owned").exists()


def test_a_file_is_converted_once(
    same_scores, write_checkpoint, eva, words, random_pixels, tmp_path, monkeypatch, capsys
):
    path = write_checkpoint(eva, tmp_path / "p.pth")
    monkeypatch.setattr(
        sys, "argv", ["loading", str(path), str(tmp_path / "folder"), "--tokenizer", words]
    )
    loading.main()
    assert "folder: 28 pixels; LM head loaded, temperature loaded" in capsys.readouterr().out
    assert same_scores(eva, load_student(str(tmp_path / "folder")).eval(), random_pixels)
