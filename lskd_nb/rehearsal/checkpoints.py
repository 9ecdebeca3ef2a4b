"""Tiny random checkpoints in the layout of the published ones, found by their hub names.

A checkpoint of the hub lies in the hub's cache as a download leaves it (``refs``, ``snapshots``,
``blobs``), so that with ``HF_HUB_OFFLINE=1`` its name alone finds it. What is published as
``pytorch_model.bin`` is that here, large ones are cut into shards, configurations are as old as
theirs; depth, width and the words are not. LAVIS's files are written by LAVIS's own network, and
lack what LAVIS leaves out: ``blip2_pretrained.pth`` has no vision encoder, which is
``eva_vit_g.pth``.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2ForImageTextRetrieval,
    Blip2VisionModel,
    BlipConfig,
    BlipForImageTextRetrieval,
    CLIPConfig,
    CLIPModel,
    Owlv2Config,
    Owlv2ForObjectDetection,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from lskd_nb.rehearsal.published_tokenizers import write_bert, write_clip, write_t5
from lskd_nb.run_folder import RunError
from lskd_nb.students.lavis_backend import lavis_network
from lskd_nb.students.loading import load_tokenizer

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
T5_ROWS = 32128  # of the embeddings: some to spare behind the last token
TOXIC = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")
VIT_G_BLOCKS, VIT_L_BLOCKS = 40, 24  # LAVIS keeps 39 and 21 of them


def write_hub(cache: Path, names: Iterable[str]) -> None:
    """Lay out the checkpoints of the hub that ``names`` name, and LAVIS's tokenizer, in the cache
    folder of the hub.

    Raises ``RunError`` for one that nobody has described here.
    """
    for name in dict.fromkeys([*names, "bert-base-uncased"]):
        if name not in PUBLISHED:
            raise RunError(
                f"the rehearsal has no stand-in for {name!r}: describe its layout in"
                f" {Path(__file__).name}; it has {', '.join(PUBLISHED)}"
            )
        with tempfile.TemporaryDirectory() as made:
            torch.manual_seed(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))
            PUBLISHED[name](Path(made))
            _download(cache, name, Path(made))


def _download(cache: Path, name: str, files: Path) -> None:
    """Files as the hub's own client leaves them: blobs by hash, and links of a commit to them."""
    home = cache / f"models--{name.replace('/', '--')}"
    commit = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
    snapshot = home / "snapshots" / commit
    for folder in (home / "blobs", home / "refs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    (home / "refs" / "main").write_text(commit)
    for file in sorted(p for p in files.iterdir() if p.is_file()):
        blob = home / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.move(file, blob)
        (snapshot / file.name).symlink_to(Path("..") / ".." / "blobs" / blob.name)


# ----------------------------------------------------------------------------------------- the hub


def _clip(folder: Path, image_size: int, patch: int) -> None:
    """OpenAI's: pickled weights, and an end mark whose number the configuration does not tell."""
    write_clip(folder)
    tower = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
    tower |= dict(hidden_act="quick_gelu", initializer_range=0.05, layer_norm_eps=1e-5)
    words = dict(vocab_size=49408, max_position_embeddings=77)
    words |= dict(bos_token_id=0, eos_token_id=2, pad_token_id=1)
    picture = dict(image_size=image_size, patch_size=patch)
    config = CLIPConfig(text_config=tower | words, vision_config=tower | picture, projection_dim=24)
    weights = CLIPModel(config).state_dict()
    for part, rows in (("text", 77), ("vision", (image_size // patch) ** 2 + 1)):
        weights[f"{part}_model.embeddings.position_ids"] = torch.arange(rows)[None]
    torch.save(weights, folder / "pytorch_model.bin")
    _write_config(folder, config, "CLIPModel", "4.23.0.dev0")
    _write_json(
        folder / "preprocessor_config.json",
        dict(
            crop_size=image_size,
            do_center_crop=True,
            do_normalize=True,
            do_resize=True,
            feature_extractor_type="CLIPFeatureExtractor",
            image_mean=CLIP_MEAN,
            image_std=CLIP_STD,
            resample=3,
            size=image_size,
        ),
    )


def _blip(folder: Path) -> None:
    """BLIP's matching model: BERT's words with [DEC] and [ENC], and a vision encoder of its own."""
    rows = write_bert(folder, ("[DEC]", "[ENC]"))
    tower = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
    words = tower | dict(vocab_size=rows, encoder_hidden_size=32, max_position_embeddings=512)
    words |= dict(bos_token_id=rows - 2, sep_token_id=102, pad_token_id=0, initializer_range=0.05)
    picture = tower | dict(image_size=384, patch_size=16, initializer_range=0.05)
    config = BlipConfig(
        text_config=words, vision_config=picture, projection_dim=24, image_text_hidden_size=16
    )
    model = BlipForImageTextRetrieval(config)
    _write_shards(folder, model, shards=1)
    _write_config(folder, config, "BlipForImageTextRetrieval", "4.26.0.dev0")
    _write_json(folder / "preprocessor_config.json", _processor("BlipImageProcessor", 384))


def _blip2_generative(folder: Path, half: bool) -> None:
    """BLIP-2 with FLAN-T5: shards, and <image> behind T5's words."""
    write_t5(folder, ("<image>",))
    config = Blip2Config(
        vision_config=_eye(blocks=2),
        qformer_config=_reader(text=False),
        text_config=_t5().to_dict(),
        num_query_tokens=32,
        image_token_index=32100,
    )
    model = Blip2ForConditionalGeneration(config)
    _wake(model)
    with torch.random.fork_rng():  # BLIP-2's second stages share one frozen vision encoder
        torch.manual_seed(VIT_G_BLOCKS)
        model.vision_model = Blip2VisionModel(config.vision_config)
        _wake_eye(model.vision_model)
    _write_shards(folder, model.half() if half else model, shards=2)
    _write_config(folder, config, "Blip2ForConditionalGeneration", "4.27.0.dev0")
    _write_json(folder / "preprocessor_config.json", _processor("BlipImageProcessor", 224))
    _write_json(
        folder / "processor_config.json",
        dict(num_query_tokens=32, processor_class="Blip2Processor", image_token="<image>"),
    )
    _write_generation(folder)


def _blip2_matching(folder: Path) -> None:
    """BLIP-2's first stage as the hub has it: no LM head and no temperature."""
    write_bert(folder, ("[DEC]",))
    config = Blip2Config(
        vision_config=_eye(blocks=VIT_G_BLOCKS - 1),
        qformer_config=_reader(text=True),
        num_query_tokens=32,
        image_text_hidden_size=16,
    )
    model = Blip2ForImageTextRetrieval(config)
    _wake(model)
    _write_shards(folder, model, shards=1)
    _write_config(folder, config, "Blip2ForImageTextRetrieval", "4.38.0.dev0")
    _write_json(folder / "preprocessor_config.json", _processor("BlipImageProcessor", 224))


def _flan_t5(folder: Path) -> None:
    write_t5(folder)
    config = _t5()
    model = T5ForConditionalGeneration(config)
    model.lm_head.weight = nn.Parameter(0.1 * torch.randn_like(model.lm_head.weight))
    _write_shards(folder, model, shards=2)
    _write_config(folder, config, "T5ForConditionalGeneration", "4.23.1")
    _write_generation(folder)


def _owlv2(folder: Path) -> None:
    """Google's detector: CLIP's words, sixteen at most, and a picture padded to a square."""
    write_clip(folder)
    tower = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
    tower |= dict(initializer_range=0.3)
    config = Owlv2Config(
        text_config=tower | dict(vocab_size=49408, max_position_embeddings=16),
        vision_config=tower | dict(image_size=96, patch_size=16),
        projection_dim=32,
    )
    model = Owlv2ForObjectDetection(config)
    nn.init.normal_(model.box_head.dense2.weight, std=0.05)  # boxes near their cells
    _write_shards(folder, model, 1)
    _write_config(folder, config, "Owlv2ForObjectDetection", "4.35.0.dev0")
    told = dict(image_mean=CLIP_MEAN, image_std=CLIP_STD, do_pad=True, do_rescale=True)
    told |= dict(do_normalize=True, do_resize=True, resample=2, rescale_factor=1 / 255)
    told |= dict(processor_class="Owlv2Processor", size=dict(height=96, width=96))
    _write_json(
        folder / "preprocessor_config.json", dict(image_processor_type="Owlv2ImageProcessor") | told
    )


def _toxic_bert(folder: Path) -> None:
    """A classifier of several labels, each with a probability of its own."""
    rows = write_bert(folder)
    config = BertConfig(
        vocab_size=rows,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        problem_type="multi_label_classification",
        id2label=dict(enumerate(TOXIC)),
        label2id={label: number for number, label in enumerate(TOXIC)},
    )
    model = BertForSequenceClassification(config)
    weights = model.state_dict() | {"bert.embeddings.position_ids": torch.arange(512)[None]}
    torch.save(weights, folder / "pytorch_model.bin")
    _write_config(folder, config, "BertForSequenceClassification", "4.6.0")


def _bert_words(folder: Path) -> None:
    """What a program that needs BERT's tokenizer alone has downloaded."""
    write_bert(folder)
    _write_json(folder / "config.json", dict(model_type="bert", vocab_size=30522))


PUBLISHED: Mapping[str, Callable[[Path], None]] = {
    "openai/clip-vit-base-patch16": lambda folder: _clip(folder, 224, 16),
    "openai/clip-vit-large-patch14-336": lambda folder: _clip(folder, 336, 14),
    "Salesforce/blip-itm-large-coco": _blip,
    "Salesforce/blip2-itm-vit-g": _blip2_matching,
    "Salesforce/blip2-flan-t5-xl": lambda folder: _blip2_generative(folder, half=False),
    "Salesforce/blip2-flan-t5-xxl": lambda folder: _blip2_generative(folder, half=True),
    "google/flan-t5-xl": _flan_t5,
    "google/owlv2-base-patch16-ensemble": _owlv2,
    "unitary/toxic-bert": _toxic_bert,
    "bert-base-uncased": _bert_words,
}


# -------------------------------------------------------------------------------- LAVIS's own files


def write_lavis(folder: Path, words: Path) -> None:
    """LAVIS's four files that the guide's commands convert: BLIP-2's first stage with ViT-G and
    with ViT-L, and the two vision encoders.

    ``words``: a folder with BERT's tokenizer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(str(words))
    for name, encoder, clip in (
        ("blip2_pretrained", "eva_vit_g", False),
        ("blip2_pretrained_vitL", "clip_vit_L", True),
    ):
        torch.manual_seed(7 + clip)
        blocks = (VIT_L_BLOCKS if clip else VIT_G_BLOCKS) - 1
        config = Blip2Config(
            vision_config=_eye(blocks, clip), qformer_config=_reader(text=True),
            num_query_tokens=32, image_text_hidden_size=16,
        )  # fmt: skip
        network = lavis_network(config, tokenizer, epsilon=1e-5)
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.dim():
                    parameter.add_(0.02 * torch.randn(parameter.shape))
        whole = network.state_dict()
        eye = "visual_encoder."
        seen = {k.removeprefix(eye): w.half() for k, w in whole.items() if k.startswith(eye)}
        if not clip:  # the published encoder has one block more than LAVIS keeps
            last = f"blocks.{blocks - 1}."
            seen |= {k.replace(last, f"blocks.{blocks}."): w for k, w in seen.items() if last in k}
        torch.save(seen, folder / f"{encoder}.pth")
        rest = {k: w for k, w in whole.items() if not k.startswith(eye)}
        torch.save({"model": rest}, folder / f"{name}.pth")


# -------------------------------------------------------------------------------------- small parts


def _eye(blocks: int, clip: bool = False) -> dict:
    """A vision encoder of as many blocks, with one head as wide as LAVIS's: 88 of EVA's ViT-G, 64
    of CLIP's ViT-L.
    """
    width = 64 if clip else 88
    found = dict(hidden_size=width, intermediate_size=2 * width, num_hidden_layers=blocks)
    found |= dict(num_attention_heads=1, image_size=224, patch_size=14, initializer_range=0.05)
    if clip:
        found |= dict(hidden_act="quick_gelu", layer_norm_eps=1e-5, pre_layernorm=True)
    return found


def _reader(text: bool) -> dict:
    """A Q-Former; the second stage's reads no text."""
    found = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=1)
    found |= dict(cross_attention_frequency=2, encoder_hidden_size=88, initializer_range=0.05)
    return found | dict(vocab_size=30523, use_qformer_text_input=text)


def _t5() -> T5Config:
    return T5Config(
        vocab_size=T5_ROWS,
        d_model=32,
        d_kv=16,
        d_ff=64,
        num_layers=2,
        num_decoder_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )


def _wake(model: PreTrainedModel) -> None:
    """Give random values to what the classes leave at zero, where trained weights are to come."""
    torch.nn.init.normal_(model.query_tokens, std=0.2)
    _wake_eye(model.vision_model)
    if (language := getattr(model, "language_model", None)) is not None:
        head = language.lm_head
        head.weight = nn.Parameter(0.1 * torch.randn_like(head.weight))


def _wake_eye(vision: Blip2VisionModel) -> None:
    for name in ("class_embedding", "position_embedding"):
        torch.nn.init.normal_(getattr(vision.embeddings, name), std=0.02)


def _processor(kind: str, size: int) -> dict:
    return dict(
        do_normalize=True,
        do_rescale=True,
        do_resize=True,
        image_mean=CLIP_MEAN,
        image_processor_type=kind,
        image_std=CLIP_STD,
        resample=3,
        rescale_factor=1 / 255,
        size=dict(height=size, width=size),
    )


def _write_shards(folder: Path, model: PreTrainedModel, shards: int) -> None:
    """Weights alone, in as many files: the configuration is written as an older library would."""
    most = sum(w.numel() * w.element_size() for w in model.state_dict().values()) // shards + 1
    with tempfile.TemporaryDirectory() as made:
        model.save_pretrained(made, max_shard_size=most if shards > 1 else "1GB")
        for file in Path(made).glob("model*.safetensors*"):
            shutil.move(file, folder / file.name)


def _write_config(folder: Path, config, architecture: str, version: str) -> None:
    """A configuration with the keys of its time: ``torch_dtype``, the writer's version."""
    told = json.loads(config.to_json_string(use_diff=True))
    told.pop("dtype", None)
    told |= dict(architectures=[architecture], torch_dtype="float32", transformers_version=version)
    _write_json(folder / "config.json", told)


def _write_generation(folder: Path) -> None:
    told = dict(_from_model_config=True, decoder_start_token_id=0, eos_token_id=1, pad_token_id=0)
    _write_json(folder / "generation_config.json", told | dict(transformers_version="4.27.0.dev0"))


def _write_json(path: Path, content: Mapping) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
