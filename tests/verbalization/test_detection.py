"""Regions from tiny random detectors in the layout of the hub's OWL-ViT and OWLv2."""

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import pre_tokenizers
from transformers import (
    AutoTokenizer,
    CLIPTokenizer,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessorPil,
    Owlv2Processor,
    OwlViTConfig,
    OwlViTForObjectDetection,
    OwlViTImageProcessorPil,
    OwlViTProcessor,
)

from lskd_nb.regions import LocatedImage, Region
from lskd_nb.verbalization import detection as d

WORDS = [
    "dog",
    "red umbrella",
    "tank (storage vessel)",
    "bird",
    "a word of so many letters that sixteen tokens do not suffice",
]
SIZES = {"wide.png": (90, 40), "high.png": (30, 70), "square.png": (50, 50)}
CLASSES = {
    "owlvit": (OwlViTConfig, OwlViTForObjectDetection, OwlViTProcessor, OwlViTImageProcessorPil),
    "owlv2": (Owlv2Config, Owlv2ForObjectDetection, Owlv2Processor, Owlv2ImageProcessorPil),
}


def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's: bytes, bytes that end a word, the end mark last; OWL-ViT's pads with "!", its
    first token.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(x + "</w>" for x in letters), "<|startoftext|>", "<|endoftext|>"]
    assert tokens[0] == "!"
    return CLIPTokenizer(vocab={t: i for i, t in enumerate(tokens)}, merges=[], pad_token="!")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Checkpoints of both kinds; their image processors are named as the hub's files name them."""
    torch.set_num_threads(1)
    found = {}
    for kind, (configuration, model, _, _) in CLASSES.items():
        tower = dict(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            initializer_range=0.5,
        )
        tokenizer = clip_tokenizer()
        torch.manual_seed(3)
        detector = model(
            configuration(
                text_config=tower | dict(vocab_size=len(tokenizer), max_position_embeddings=16),
                vision_config=tower | dict(image_size=32, patch_size=8),
                projection_dim=16,
            )
        )
        torch.nn.init.normal_(detector.class_head.logit_shift.weight, std=0.5)
        torch.nn.init.normal_(detector.box_head.dense2.weight, std=0.05)  # boxes near their cells
        found[kind] = tmp_path_factory.mktemp(kind)
        detector.save_pretrained(found[kind])
        tokenizer.save_pretrained(found[kind])
        name = "OwlViTImageProcessor" if kind == "owlvit" else "Owlv2ImageProcessor"
        told = dict(
            image_processor_type=name,
            processor_class=name.replace("Image", ""),
            size=dict(height=32, width=32),
            do_resize=True,
            do_rescale=True,
            do_normalize=True,
        )
        (found[kind] / "preprocessor_config.json").write_text(
            json.dumps(
                told
                | (
                    dict(do_center_crop=False, resample=3)
                    if kind == "owlvit"
                    else dict(do_pad=True, resample=2)
                )
            )
        )
    return found


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name, (width, height) in SIZES.items():
        Image.fromarray(
            np.random.default_rng(width).integers(0, 255, (height, width, 3), dtype=np.uint8)
        ).save(folder / name)
    return folder


def located(names=tuple(SIZES)) -> list[LocatedImage]:
    return [
        LocatedImage(
            Path(n).stem, n, *SIZES[n], (Region(0, (0, 0, 9, 9), "old"),), "photos", "train"
        )
        for n in names
    ]


def everything(**changes) -> d.DetectionSettings:
    return d.DetectionSettings(
        **dict(threshold=0.0, max_iou=1.0, min_area=0.0, max_regions=99, batch=2) | changes
    )


@pytest.mark.parametrize("kind", CLASSES)
def test_the_texts_encoded_once_and_the_image_once_give_what_transformers_gives(
    folders, pictures, kind, monkeypatch
):
    monkeypatch.setattr(
        d, "autocast", lambda device: nullcontext()
    )  # in full precision, to compare
    _, model, processor, images = CLASSES[kind]
    theirs = processor(
        images.from_pretrained(folders[kind]), AutoTokenizer.from_pretrained(folders[kind])
    )
    whole = model.from_pretrained(folders[kind]).eval()
    detector = d.Detector(str(folders[kind]), WORDS, everything())
    opened = [Image.open(pictures / name).convert("RGB") for name in SIZES]
    for picture, regions in zip(opened, detector(opened), strict=True):
        inputs = theirs(
            text=[[f"a photo of a {w}" for w in WORDS]],
            images=picture,
            truncation=True,
            max_length=16,
            return_tensors="pt",
        )
        with torch.no_grad():
            (found,) = theirs.post_process_grounded_object_detection(
                whole(**inputs), 0.0, [(picture.height, picture.width)]
            )
        inside = [
            i
            for i in np.argsort(-found["scores"].numpy(), kind="stable")
            if _cut(found["boxes"][i], picture) is not None
        ]
        assert len(regions) == len(inside) > 3 and [r.id for r in regions] == list(
            range(len(regions))
        )
        assert np.allclose([r.score for r in regions], found["scores"][inside].numpy(), atol=1e-5)
        assert [r.label for r in regions] == [WORDS[i] for i in found["labels"][inside]] and len(
            {r.label for r in regions}
        ) > 1
        assert np.allclose(
            [r.box for r in regions], [_cut(found["boxes"][i], picture) for i in inside], atol=0.01
        )


def _cut(box: torch.Tensor, picture: Image.Image) -> np.ndarray | None:
    cut = np.clip(box.numpy(), 0, [picture.width, picture.height] * 2)
    return cut if (cut[2:] - cut[:2] > 0).all() else None


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("name", SIZES)
def test_boxes_are_in_pixels_of_the_picture_however_it_was_made_square(
    folders, pictures, kind, name
):
    detector = d.Detector(str(folders[kind]), WORDS, everything())
    torch.nn.init.zeros_(
        detector.model.box_head.dense2.weight
    )  # each cell of the 4 x 4 grid then finds a box of its own size at its lower right corner
    torch.nn.init.zeros_(detector.model.box_head.dense2.bias)
    width, height = SIZES[name]
    (regions,) = detector([Image.open(pictures / name).convert("RGB")])
    spread = np.array(
        [width, height] if kind == "owlvit" else [max(width, height)] * 2
    )  # stretched to a square, or padded to one
    expected = [
        np.clip(
            np.concatenate(
                [(np.array(corner) / 4 - 1 / 8) * spread, (np.array(corner) / 4 + 1 / 8) * spread]
            ),
            0,
            [width, height] * 2,
        )
        for corner in np.ndindex(5, 5)
        if min(corner) > 0
    ]
    expected = sorted(tuple(b) for b in expected if b[2] - b[0] > 0.1 and b[3] - b[1] > 0.1)
    assert np.allclose(
        sorted(r.box for r in regions if r.box[2] - r.box[0] > 0.1 and r.box[3] - r.box[1] > 0.1),
        expected,
        atol=0.2,
    )
    assert (
        kind == "owlvit" or width == height or len(expected) < 16
    )  # what lies in padding alone is no region


def test_the_surest_are_chosen_unless_small_or_copies_of_surer_ones(folders):
    detector = d.Detector(
        str(folders["owlvit"]), WORDS, everything(max_iou=0.5, min_area=0.01, max_regions=3)
    )
    boxes = np.array(
        [
            [0, 0, 50, 50],
            [2, 2, 52, 52],
            [60, 0, 100, 50],
            [0, 60, 5, 65],
            [-20, 60, 30, 140],
            [70, 60, 100, 90],
            [120, 0, 150, 50],
        ],
        dtype=np.float32,
    )
    scores = np.array([0.5, 0.9, 0.4, 0.95, 0.6, 0.3, 0.99], dtype=np.float32)
    chosen = detector._choose(
        Image.new("RGB", (100, 100)), boxes, scores, np.array([0, 1, 2, 3, 4, 0, 1])
    )
    assert [(r.id, r.box, r.label) for r in chosen] == [
        (0, (2, 2, 52, 52), WORDS[1]),
        (1, (0, 60, 30, 100), WORDS[4]),
        (2, (60, 0, 100, 50), WORDS[2]),
    ]
    assert [r.score for r in chosen] == pytest.approx([0.9, 0.6, 0.4])


def test_images_keep_all_but_their_regions_and_parts_are_not_done_again(
    folders, pictures, tmp_path, monkeypatch
):
    Image.new("RGB", (20, 20)).save(pictures / "other.png")
    (pictures / "damaged.png").write_bytes(b"no image")
    strange = [
        LocatedImage("other", "other.png", 21, 20, (), "photos", "train"),
        LocatedImage("damaged", "damaged.png", 20, 20, (), "photos", "train"),
    ]
    images, done = [*located(), *strange], []
    run = dict(
        image_root=pictures,
        model=str(folders["owlvit"]),
        vocabulary=WORDS,
        settings=everything(max_iou=0.5, max_regions=4),
        part=2,
    )
    found, rejects = d.detect_regions(
        images, **run, parts=tmp_path, on_progress=lambda n, total: done.append((n, total))
    )
    assert [(i.image_id, i.path, i.width, i.source, i.split) for i in found] == [
        (i.image_id, i.path, i.width, i.source, i.split) for i in located()
    ]
    assert all(
        1 <= len(i.regions) <= 4 and all(r.label in WORDS and 0 < r.score < 1 for r in i.regions)
        for i in found
    ) and done == [(2, 5), (4, 5), (5, 5)]
    assert [(r.record, r.reason) for r in rejects] == [
        ("other", "image size differs"),
        ("damaged", "unreadable image"),
    ]
    assert d.detect_regions(images, **run) == (found, rejects)
    fewer, _ = d.detect_regions(
        images, **run | dict(settings=everything(max_regions=1)), parts=tmp_path
    )
    assert {len(i.regions) for i in fewer} == {1}  # other settings have parts of their own
    monkeypatch.setattr(d.Detector, "__init__", lambda *_: pytest.fail("loaded again"))
    assert d.detect_regions(images, **run, parts=tmp_path) == (found, rejects)


def test_nothing_found_is_a_reject(folders, pictures):
    found, (reject, *_) = d.detect_regions(
        located(), pictures, str(folders["owlvit"]), WORDS, d.DetectionSettings(threshold=1.0)
    )
    assert found == [] and reject.reason == "no regions" and "as sure as 1.0" in reject.detail
    assert d.detect_regions([], pictures, "nothing/there", WORDS) == ([], [])


def test_other_models_and_empty_vocabularies_are_refused(folders, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(dict(model_type="grounding-dino")))
    with pytest.raises(
        ValueError, match="is a grounding-dino; expected a detector of owlvit or owlv2"
    ):
        d.Detector(str(tmp_path), WORDS)
    with pytest.raises(ValueError, match="the vocabulary is empty"):
        d.Detector(str(folders["owlvit"]), [])
