"""An image is encoded once for all models that have the same vision encoder, and what they say is
what each says alone, as transformers' own ``generate`` has it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, Blip2ForConditionalGeneration

import lskd_nb
from lskd_nb.mini.files.world_files import write_world
from lskd_nb.rehearsal.checkpoints import PUBLISHED
from lskd_nb.sources.visual_genome import read_visual_genome
from lskd_nb.students.bridge import after_the_image
from lskd_nb.students.views import open_image
from lskd_nb.verbalization import describe as v
from lskd_nb.verbalization.verbalizers import pixel_batch, square

WEIGHTS = Path(lskd_nb.__file__).parent / "mini" / "weights"
CPU = torch.device("cpu")
TINY = SimpleNamespace(**run_path(str(Path(__file__).with_name("tiny_blip2.py"))))
FLAN = "Salesforce/blip2-flan-t5-xl"
ASKED = "Question: {} Answer:"


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    """So that numbers can be compared, also where a processor multiplies bf16."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """BLIP-2 with OPT and with FLAN-T5, tiny and random in the layout of the hub."""
    home = tmp_path_factory.mktemp("blip2")
    found = {kind: TINY.save_blip2(kind, home / kind, taught=False) for kind in ("opt", "t5")}
    found["published"] = home / "published"
    found["published"].mkdir()
    torch.manual_seed(0)
    PUBLISHED[FLAN](found["published"])
    return found | {"mini": WEIGHTS / "vlm"}


def alone(speaker: v.PromptedBlip2, pictures: Sequence[Image.Image], prompts: Sequence[str]):
    """The usual way: the model's own ``generate`` is given the pixels with every prompt."""
    inputs = speaker.tokenizer(list(prompts), padding=True, return_tensors="pt")
    ids, mask = after_the_image(speaker.model, inputs.input_ids, inputs.attention_mask)
    out = speaker.model.generate(
        pixel_values=pixel_batch(pictures, speaker.image_size),
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=8,
        do_sample=False,
        num_beams=1,
        return_dict_in_generate=True,
        output_logits=True,
    )
    new = out.sequences[:, -len(out.logits) :]
    texts = speaker.tokenizer.batch_decode(new, skip_special_tokens=True)
    return [" ".join(text.split()) for text in texts], torch.stack(out.logits, 1)


def listened(speaker: v.PromptedBlip2) -> list[Tensor]:
    """The logits of each call of the language model's ``generate`` from now on."""
    heard, whole = [], speaker.model.language_model.generate

    def generate(**given):
        out = whole(**given)
        heard.append(torch.stack(out.logits, 1))
        return out

    speaker.model.language_model.generate = generate
    return heard


@pytest.mark.parametrize("kind", ["opt", "t5", "published", "mini"])
def test_what_is_said_after_one_look_is_what_generate_says(folders, kind, tmp_path):
    write_world(tmp_path / "world", 4, 1, 3)
    root = tmp_path / "world" / "visual_genome"
    located, _ = read_visual_genome(root)
    pictures = [open_image(root, image.path) for image in located[:4]]
    speaker, settings = v.PromptedBlip2(str(folders[kind]), CPU), v.Settings(max_new_tokens=8)
    heard, looked = listened(speaker), v.Looked(pictures)
    captions = speaker.say(looked.by(speaker), ["caption :"] * 4, settings)
    rows, questions = [0, 0, 1, 2, 3], ["where?", "what is it?", "is it dark?", "who?", "why so?"]
    prompts = [ASKED.format(question) for question in questions]
    answers = speaker.say(looked.by(speaker)[rows], prompts, settings)
    for said, logits, seen, asked in (
        (captions, heard[0], pictures, ["caption :"] * 4),
        (answers, heard[1], [pictures[n] for n in rows], prompts),
    ):
        texts, expected = alone(speaker, seen, asked)
        assert [text for text, _ in said] == texts
        assert (logits - expected).abs().max() < 1e-5 < expected.abs().max()


def with_the_eye_of(first: Path, other: Path, folder: Path, change: Callable = lambda w: w) -> Path:
    """A copy of ``other`` whose vision encoder is that of ``first``, ``change``d."""
    eye = Blip2ForConditionalGeneration.from_pretrained(first).vision_model.state_dict()
    model = Blip2ForConditionalGeneration.from_pretrained(other)
    model.vision_model.load_state_dict({name: change(w) for name, w in eye.items()})
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(other).save_pretrained(folder)
    return folder


def seen_by(vision: torch.nn.Module) -> list[int]:
    """How many images a vision encoder is shown at each call from now on."""
    shown: list[int] = []
    vision.register_forward_hook(lambda _, given, __: shown.append(len(given[0])))
    return shown


def test_an_encoder_that_several_models_have_looks_at_an_image_once(folders, images, tmp_path):
    same = with_the_eye_of(folders["opt"], folders["t5"], tmp_path / "same")
    tuned = with_the_eye_of(folders["opt"], folders["t5"], tmp_path / "tuned", lambda w: w * 1.01)
    models = v.Verbalizers(
        captioner=str(folders["opt"]),
        narrator=str(same),
        region_captioner=str(tuned),
        question_generator=str(WEIGHTS / "questions"),
        vqa=str(same),
    )
    settings = v.Settings(max_new_tokens=8, narrative_tokens=8, questions=3)
    loaded = v.LoadedVerbalizers(models, settings)
    assert loaded.narrator is loaded.vqa is not loaded.captioner
    assert loaded.vqa.vision is loaded.captioner.vision is not loaded.region_captioner.vision
    shown, regions = seen_by(loaded.vqa.vision), seen_by(loaded.region_captioner.vision)
    rows, _ = loaded(images, tmp_path)
    assert shown == [len(images)]
    assert regions == [sum(len(image.regions) for image in images)]
    pictures = {image.image_id: open_image(tmp_path, image.path) for image in images}
    of = {name: [r for r in rows if r["verbalizer"] == name] for name in ("captioner", "vqa")}
    assert len(of["captioner"]) == 3 and len(of["vqa"]) >= 3
    for name, model in (("captioner", models.captioner), ("vqa", models.vqa)):
        told = of[name]
        texts, _ = alone(
            v.PromptedBlip2(model, CPU),
            [pictures[r["image_id"]] for r in told],
            [ASKED.format(r["question"]) if r["question"] else "" for r in told],
        )
        assert [r["text"] for r in told] == texts


def test_another_encoder_looks_for_itself(folders, images, tmp_path):
    """One that was finetuned, and one that makes more of the same weights' heads."""
    tuned = with_the_eye_of(folders["opt"], folders["t5"], tmp_path / "tuned", lambda w: w * 1.01)
    heads = with_the_eye_of(folders["opt"], folders["t5"], tmp_path / "heads")
    told = json.loads((heads / "config.json").read_text())
    told["vision_config"]["num_attention_heads"] *= 2
    (heads / "config.json").write_text(json.dumps(told))
    for other in (tuned, heads):
        models = v.Verbalizers(captioner=str(folders["opt"]), narrator=str(other))
        loaded = v.LoadedVerbalizers(models, v.Settings(max_new_tokens=4))
        assert loaded.captioner.vision is not loaded.narrator.vision
        shown = seen_by(loaded.captioner.vision), seen_by(loaded.narrator.vision)
        loaded(images, tmp_path)
        assert shown == ([3], [3])


def test_one_folder_under_two_names_is_loaded_once(folders, monkeypatch):
    monkeypatch.chdir(folders["opt"].parent)
    models = v.Verbalizers(captioner="opt", narrator="./opt", region_captioner=str(folders["opt"]))
    loaded = v.LoadedVerbalizers(models, v.Settings())
    assert loaded.captioner is loaded.narrator is loaded.region_captioner


def test_regions_are_drawn_on_a_picture_that_is_resized_once(images, tmp_path):
    picture, image = open_image(tmp_path, images[0].path), images[0]
    for how in ("highlight", "crop"):
        drawn = v._region_views(32, how, image, picture)
        single = [v.region_view(picture, region, 32, how) for region in image.regions]
        assert [view.tobytes() for view in drawn] == [view.tobytes() for view in single]
    whole = square(picture, 32)
    assert square(whole, 32) is whole and len(image.regions) == 2
    with pytest.raises(ValueError, match="region_view is 'zoom'"):
        v._region_views(32, "zoom", replace(image), picture)
