"""Baselines of the paper's table: tiny random CLIP and BLIP in the real layout, against
transformers' own forward called text by text.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForImageTextRetrieval,
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
)

from lskd_nb.evaluation import baselines
from lskd_nb.evaluation.choices import Item, match_scores, predictions
from lskd_nb.mini.pretraining.base import fresh_student, vocabulary
from lskd_nb.regions import Region
from lskd_nb.students.blip2 import pixels
from lskd_nb.students.loading import load_student
from lskd_nb.students.views import FrozenFeatures, View, draw

CHOICES = (
    "Answer: To stay dry.",
    "Answer: To throw the ball.",
    "Answer: To read.",
    "Answer: To sleep.",
)


def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's kind of byte-pair tokenizer, with no merges: each letter is a token."""
    letters = [chr(c) for c in range(33, 127)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={w: i for i, w in enumerate(words)}, merges=[], model_max_length=77)


def save_clip(folder: Path, image_size: int, patch: int) -> None:
    """The layout of openai/clip-vit-base-patch16 and -large-patch14-336, narrow and shallow."""
    torch.manual_seed(image_size)
    words = clip_tokenizer()
    tower = dict(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.05,
        hidden_act="quick_gelu",
    )
    text = tower | dict(
        vocab_size=len(words),
        max_position_embeddings=77,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )
    CLIPModel(
        CLIPConfig(
            text_config=text,
            vision_config=tower | dict(image_size=image_size, patch_size=patch),
            projection_dim=16,
        )
    ).save_pretrained(folder)
    words.save_pretrained(folder)


def save_blip(folder: Path, words: int, image_size: int = 48) -> None:
    """The layout of Salesforce/blip-itm-large-coco: BERT's tokenizer, whose vocabulary may be
    smaller than the word embeddings.
    """
    torch.manual_seed(1)
    text = dict(
        vocab_size=words,
        hidden_size=32,
        encoder_hidden_size=24,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=96,
        initializer_range=0.1,
        bos_token_id=words - 2,
    )
    vision = dict(
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        image_size=image_size,
        patch_size=16,
        initializer_range=0.1,
    )
    BlipForImageTextRetrieval(
        BlipConfig(text_config=text, vision_config=vision, image_text_hidden_size=16)
    ).save_pretrained(folder)
    BertTokenizer(
        vocab={w: i for i, w in enumerate(vocabulary())}, do_lower_case=True
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("systems")
    rng = np.random.default_rng(0)
    for name in "abc":
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(
            folder / f"{name}.png"
        )
    save_clip(folder / "clip-b16", 64, 16)
    save_clip(folder / "clip-l14-336", 56, 14)
    save_blip(folder / "blip", baselines.BLIP_WORDS)
    fresh_student(0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32).save(
        folder / "blip2"
    )
    return folder


def items() -> list[Item]:
    """Five items about four views of three images; one view is looked at twice, by items that
    are not neighbours.
    """
    one, two = Region(0, (2.0, 2.0, 30.0, 40.0)), Region(1, (32.0, 8.0, 60.0, 40.0))
    views = [
        View("a.png", (one,)),
        View("b.png", (one, two)),
        View("a.png", (two,)),
        View("c.png"),
        View("a.png", (one,)),
    ]
    return [
        Item(
            f"i{n}",
            view.image,
            view,
            f"Why is [0] here {n}?" if n < 3 else "",
            CHOICES[: 2 + n % 3],
            0,
            "vcr.q_a",
        )
        for n, view in enumerate(views)
    ]


def seen(item: Item, root: Path, size: int) -> torch.Tensor:
    return torch.from_numpy(pixels(draw(item.view, root, size), size))[None]


@pytest.mark.parametrize(("name", "size"), [("clip-b16", 64), ("clip-l14-336", 56)])
@torch.no_grad()
def test_clip_equals_its_own_forward_text_by_text(world, name, size):
    model, words = CLIPModel.from_pretrained(world / name).eval(), clip_tokenizer()
    scored = baselines.score_items(str(world / name), items(), world, batch=2)
    for item, scores in zip(items(), scored.scores, strict=True):
        theirs = [
            model(
                pixel_values=seen(item, world, size),
                **words([f"{item.question} {c}".strip()], return_tensors="pt"),
            ).logits_per_image.item()
            for c in item.choices
        ]
        assert scores.dtype == np.float32 and np.abs(scores - theirs).max() < 1e-5
    assert (scored.cut, scored.texts) == (0, sum(len(i.choices) for i in items()))


@torch.no_grad()
def test_blip_equals_its_own_forward_text_by_text(world):
    model, words = (
        BlipForImageTextRetrieval.from_pretrained(world / "blip").eval(),
        BertTokenizer.from_pretrained(world / "blip"),
    )
    scored = baselines.score_items(str(world / "blip"), items(), world, batch=3)
    for item, scores in zip(items(), scored.scores, strict=True):
        theirs = []
        for choice in item.choices:
            told = words([f"{item.question} {choice}".strip()], return_tensors="pt")
            told.input_ids[:, 0] = (
                baselines.BLIP_ENC
            )  # as BLIP itself does it; transformers leaves [CLS]
            logits = model(
                pixel_values=seen(item, world, 48),
                input_ids=told.input_ids,
                attention_mask=told.attention_mask,
            ).itm_score[0]
            theirs.append((logits[1] - logits[0]).item())
        assert np.abs(scores - theirs).max() < 1e-5


def test_blips_texts_start_with_enc_where_the_vocabulary_has_it(world, tmp_path):
    blip, words = (
        BlipForImageTextRetrieval.from_pretrained(world / "blip"),
        BertTokenizer.from_pretrained(world / "blip"),
    )
    assert baselines.encoder_start(blip, words) == 30523
    words.add_special_tokens({"additional_special_tokens": ["[ENC]"]})
    assert baselines.encoder_start(blip, words) == len(words) - 1
    save_blip(tmp_path / "small", 2000)
    small, plain = (
        BlipForImageTextRetrieval.from_pretrained(tmp_path / "small"),
        BertTokenizer.from_pretrained(tmp_path / "small"),
    )
    assert baselines.encoder_start(small, plain) == plain.cls_token_id


def test_an_image_is_encoded_once_for_all_that_is_asked_about_it(world, monkeypatch):
    encoded = []
    real = CLIPModel.get_image_features
    monkeypatch.setattr(
        CLIPModel,
        "get_image_features",
        lambda self, pixel_values: (
            encoded.append(len(pixel_values)) or real(self, pixel_values=pixel_values)
        ),
    )
    many = [*items(), *items()]
    baselines.score_items(str(world / "clip-b16"), many, world, batch=3)
    assert encoded == [3, 1]  # four views, however many items and choices


def test_the_boxes_are_seen(world):
    bare = [Item("i", "a.png", View("a.png"), "", CHOICES, 0, "t")]
    for system in ("clip-b16", "blip"):
        with_box, without = (
            baselines.score_items(str(world / system), asked, world).scores[0]
            for asked in ([Item("i", "a.png", items()[0].view, "", CHOICES, 0, "t")], bare)
        )
        assert np.abs(with_box - without).max() > 1e-5


def test_blip2_is_scored_as_the_student_is(world):
    student = load_student(str(world / "blip2")).eval()
    expected = match_scores(student, items(), FrozenFeatures(student, world))
    scored = baselines.score_items(str(world / "blip2"), items(), world)
    assert all(
        np.allclose(a, b, atol=0.02) for a, b in zip(scored.scores, expected, strict=True)
    )  # batches differ, bf16 where the CPU has it
    table = predictions(items(), scored.scores, "BLIP-2", 0)
    assert table.num_rows == 5 and table["scores"].to_pylist()[1] == pytest.approx(
        expected[1].tolist(), abs=0.02
    )


def test_the_size_of_the_image_is_a_blip2s_alone(world):
    """A BLIP-2 of 32 pixels looks at 64 where it is told so; CLIP and BLIP keep their own."""
    told = dict(image_size=64)
    given, own = (
        baselines.score_items(str(world / "blip2"), items(), world, loading=how)
        for how in (told, None)
    )
    assert (given.pixels, own.pixels) == (64, 32)
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(given.scores, own.scores, strict=True))
    for system, size in (("clip-l14-336", 56), ("blip", 48)):
        assert baselines.score_items(str(world / system), items(), world, loading=told).pixels == (
            size
        )


def test_one_loading_serves_all_tasks(world, monkeypatch):
    """Tasks of other roots and of other stores, as those of the six sets."""
    loaded = []
    real = baselines.load_student
    monkeypatch.setattr(
        baselines, "load_student", lambda *told, **how: loaded.append(told[0]) or real(*told, **how)
    )
    (world / "deeper").mkdir(exist_ok=True)
    for name in "abc":
        (world / "deeper" / f"{name}.png").write_bytes((world / f"{name}.png").read_bytes())
    by_task = {"one": items(), "other": items()[::-1]}
    found = baselines.score_tasks(
        str(world / "blip2"), by_task, {"one": world, "other": world / "deeper"}
    )
    assert len(loaded) == 1 and list(found) == ["one", "other"]
    for one, other in zip(found["one"].scores, found["other"].scores[::-1], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_texts_that_lose_their_end_are_counted(world):
    long = [
        Item(
            "i",
            "a.png",
            View("a.png"),
            "Why is [0] " + "really " * 9 + "here?",
            CHOICES[:2],
            0,
            "t",
        ),
        items()[3],
    ]
    scored = baselines.score_items(str(world / "clip-b16"), long, world)
    assert (scored.cut, scored.texts) == (2, 4) and all(np.isfinite(s).all() for s in scored.scores)
    assert baselines.score_items(str(world / "blip2"), long, world, max_tokens=12).cut == 2


def test_a_prefix_goes_before_questions_alone(world):
    asked = items()
    plain, prefixed = (
        baselines.score_items(str(world / "blip"), asked, world, prefix=p).scores
        for p in ("", "question: ")
    )
    by_hand = baselines.score_items(
        str(world / "blip"),
        [
            Item(
                asked[0].item_id,
                "a",
                asked[0].view,
                "question: " + asked[0].question,
                asked[0].choices,
                0,
                "t",
            )
        ],
        world,
    )
    assert (
        np.allclose(prefixed[0], by_hand.scores[0], atol=1e-5)
        and np.abs(prefixed[0] - plain[0]).max() > 1e-4
    )
    assert np.allclose(prefixed[3], plain[3], atol=1e-5)  # it asks nothing


def test_what_is_no_system_is_named(world, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="is a 'bert' model; expected clip, blip or blip-2"):
        baselines.score_items(str(tmp_path), items(), world)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="no config.json with a model_type"):
        baselines.score_items(str(tmp_path), items(), world)
    assert baselines.model_type("somewhere/blip2_pretrained.pth") == "blip-2"


@pytest.mark.parametrize("name", ["clip-b16", "blip"])
def test_weights_that_are_no_numbers_are_named(world, tmp_path, name):
    shutil.copytree(world / name, tmp_path / "sick")
    weights = load_file(tmp_path / "sick" / "model.safetensors")
    next(w for w in weights.values() if w.is_floating_point()).fill_(float("nan"))
    save_file(weights, tmp_path / "sick" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="sick.* no number"):
        baselines.score_items(str(tmp_path / "sick"), items(), world)
