"""Networks by hub name, folder or LAVIS ``.pth`` file, whole or not at all.

What is cut off, of another kind, or lacks weights that would then be random, is refused by name.
LAVIS (BSD-3-Clause) leaves out of its files what it has not trained, the vision encoder mostly, so
what a file lacks is taken from a *base*: a student by hub name or folder, or another ``.pth``
(``eva_vit_g.pth``, ``clip_vit_L.pth``). The COCO student on the hub has another vision encoder than
the frozen one and is no base for LSKD's. To convert a file once, so that everything else finds a
folder:

    python -m lskd_nb.students.loading FILE.pth FOLDER \\
        --base Salesforce/blip2-itm-vit-g --image-size 480

What neither file has of the LM head and the temperature starts fresh, with a warning: the hub's
``Salesforce/blip2-itm-vit-g`` has neither, LAVIS's ``blip2_pretrained.pth`` has both.

Tested on random weights in these layouts; none of the published files has been read yet.
"""

import argparse
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from json import JSONDecodeError
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    PreTrainedTokenizerBase,
)

from lskd_nb.records import hash_of
from lskd_nb.students.blip2 import EXTRA_WEIGHTS, Student, dtype_of
from lskd_nb.students.generative import GenerativeStudent
from lskd_nb.students.lavis_layout import POSITION, from_lavis, lavis_name
from lskd_nb.students.lavis_weights import (
    EPSILON,
    TOKENIZER,
    LavisBlip2,
    check_numbers,
    infer_config,
    network_class,
    read_checkpoint,
    resize_images,
)


def load_student(
    name_or_path: str,
    max_tokens: int = 128,
    dtype: torch.dtype = torch.float32,
    *,
    image_size: int | None = None,
    base: str | None = None,
    ignore: Sequence[str] = (),
    tokenizer: str | None = None,
    backend: str = "hf",
) -> Student:
    """Load a stage-1 BLIP-2 by hub name, folder, or LAVIS ``.pth`` file (see
    ``lavis_weights.load_lavis`` for ``base``, ``ignore``, ``tokenizer``).

    ``image_size`` in pixels, if not the one it was trained with: its position embeddings are
    interpolated. ``backend`` "lavis" runs the same weights in LAVIS's own network. Without stage-1
    extras the LM head and temperature start fresh: ``Student.fresh`` names them, a warning too.
    Raises ``FileNotFoundError`` where a path is
    meant and not there, ``ValueError`` where it holds another kind of model.
    """
    if backend not in ("hf", "lavis"):
        raise ValueError(f"backend {backend!r}: expected 'hf' or 'lavis'")
    if Path(name_or_path).suffix == ".pth":
        student = load_lavis(name_or_path, base, image_size, ignore, tokenizer, max_tokens, dtype)
    else:
        if base or ignore or tokenizer:
            raise ValueError(
                f"base, ignore and tokenizer are for LAVIS .pth files; {name_or_path} is none"
            )
        student = _load_huggingface(name_or_path, max_tokens, dtype)
        if image_size is not None:
            resize_images(student.blip2, image_size)
        if student.fresh:
            warnings.warn(fresh_told(name_or_path, student), stacklevel=2)
    if backend == "lavis":
        from lskd_nb.students.lavis_backend import LavisStudent

        return LavisStudent.of(student)
    return student


def _load_huggingface(name_or_path: str, max_tokens: int, dtype: torch.dtype) -> Student:
    folder = Path(name_or_path)
    if not folder.is_dir() and (
        folder.is_absolute() or str(name_or_path).startswith(".") or len(folder.parts) > 2
    ):
        raise FileNotFoundError(
            f"no student at {name_or_path}:"
            " expected a folder with config.json and model.safetensors"
        )
    with whole_checkpoint(name_or_path):
        config = Blip2Config.from_pretrained(name_or_path)
        if not config.qformer_config.use_qformer_text_input:
            raise ValueError(
                f"{name_or_path} has a Q-Former without text input:"
                " expected a stage-1 (image-text matching) BLIP-2"
            )
        blip2, told = network_class(config).from_pretrained(
            name_or_path, dtype=dtype, output_loading_info=True
        )
        student = Student(blip2, load_tokenizer(name_or_path), max_tokens)
        extra, weights = folder / EXTRA_WEIGHTS, {}
        if extra.exists():
            weights = {k: v.to(dtype) for k, v in load_file(extra).items()}
            left = student.load_state_dict(weights, strict=False).unexpected_keys
            if left:
                raise ValueError(f"{extra} holds weights this student has no place for: {left}")
    held = dict(student.named_parameters())
    if lost := sorted(name for name in held if name.removeprefix("blip2.") in told["missing_keys"]):
        raise ValueError(f"{name_or_path} lacks {_some(lost)}: they would be random")
    student.fresh = tuple(
        name for name in held if not name.startswith("blip2.") and name not in weights
    )
    check_numbers(held, name_or_path)
    return student


def fresh_told(name: str | Path, student: Student) -> str:
    """What a student's files lack and begins at random, in a plain line."""
    words = {"lm_head": "LM head", "temperature": "temperature of the contrast"}
    parts = [told for part, told in words.items() if student.origin(part) == "fresh"]
    return (
        f"{name} lacks {_some([lavis_name(n) for n in student.fresh])}: they start fresh. It has no"
        f" {' and no '.join(parts)}, which the published training takes from LAVIS's"
        " blip2_pretrained.pth (notebooks/guide/reproduce-the-paper.md)"
    )


@contextmanager
def whole_checkpoint(name: str | Path) -> Iterator[None]:
    """Read a checkpoint.

    Raises ``ValueError`` naming it where a file is cut off or of another size than its
    configuration tells.
    """
    try:
        yield
    except UnpicklingError:  # torch's words advise to load without care: they are not passed on
        raise ValueError(
            f"{name} can't be read: its pickled weights are damaged, or hold more than weights"
        ) from None
    except (SafetensorError, RuntimeError, JSONDecodeError) as error:
        told = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{name} can't be read: its files are damaged,"
            f" or its weights of another size than its config.json tells ({told})"
        ) from error


def load_tokenizer(name_or_path: str) -> PreTrainedTokenizerBase:
    """A BERT tokenizer by hub name or folder, with [DEC], which starts generation in BLIP-2."""
    tokenizer = AutoTokenizer.from_pretrained(name_or_path)
    if tokenizer.bos_token_id is None:
        tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    return tokenizer


def load_generative(
    name_or_path: str, max_tokens: int = 128, device: torch.device | None = None
) -> GenerativeStudent:
    """Load a BLIP-2 with a language model by hub name or folder.

    Its frozen parts are bf16 on a GPU, float32 elsewhere.

    Raises ``ValueError`` where it holds another kind of model, a stage-1 BLIP-2 for one.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(Blip2ForConditionalGeneration, name_or_path, device)
    return GenerativeStudent(model, AutoTokenizer.from_pretrained(name_or_path), max_tokens).eval()


# -------------------------------------------------------------------------------- LAVIS's files


def load_lavis(
    path: str | Path,
    base: str | None = None,
    image_size: int | None = None,
    ignore: Sequence[str] = (),
    tokenizer: str | None = None,
    max_tokens: int = 128,
    dtype: torch.dtype = torch.float32,
) -> Student:
    """A student from a LAVIS ``.pth`` file; what the file lacks is taken from ``base``.

    ``image_size`` in pixels: as given, else as the file's configuration tells, else as the position
    embeddings were trained. ``ignore``: beginnings of keys to leave out (``CRITIC_HEADS`` for
    LSKD's critic). ``tokenizer``: folder or hub name; the base's own if it has one, else LAVIS's.
    Raises ``ValueError`` naming file and key for unknown, missing or wrongly shaped weights; a
    temperature or LM head that neither file has starts fresh (``Student.fresh``).
    """
    weights, told_size = read_checkpoint(path)
    found, unknown = from_lavis(weights, path)
    other, old = _read_base(base, max_tokens)
    if POSITION in found:  # its own vision encoder: nothing of another's
        other = {
            name: weight
            for name, weight in other.items()
            if not name.startswith("blip2.vision_model.")
        }
    merged = other | found
    where = f"{path} with base {base}" if base else str(path)
    config = (
        deepcopy(old.blip2.config) if old and POSITION not in found else infer_config(merged, where)
    )
    vision = config.vision_config
    vision.post_layernorm_eps = EPSILON
    vision.pre_layernorm = getattr(vision, "pre_layernorm", False)
    words = old.tokenizer if old and tokenizer is None else load_tokenizer(tokenizer or TOKENIZER)
    _check_tokenizer(words, config, where)
    student = Student(LavisBlip2(config), words, max_tokens)
    expected = student.state_dict()
    _check_shapes(
        merged,
        expected,
        {name: path if name in found else base for name in merged},
        where,
        vision.pre_layernorm,
    )
    unknown += [lavis_name(name, vision.pre_layernorm) for name in found if name not in expected]
    if left := [key for key in unknown if not key.startswith(tuple(ignore))]:
        raise ValueError(
            f"{path} holds weights that a student has no place for: {_some(left)}; name them in"
            " ignore to leave them out"
        )
    missing = [name for name in expected if name not in merged]
    student.fresh = _check_missing(missing, where, vision.pre_layernorm)
    if student.fresh:
        warnings.warn(fresh_told(where, student), stacklevel=2)
    student.load_state_dict(
        {name: merged[name] for name in expected if name in merged}, strict=False
    )
    student.blip2.to(dtype)
    if size := image_size or told_size:
        resize_images(student.blip2, size)
    return student


def _read_base(base: str | None, max_tokens: int) -> tuple[dict[str, Tensor], Student | None]:
    """The base's weights by our names, and the student itself where it is one."""
    if base is None:
        return {}, None
    if Path(base).suffix != ".pth":
        student = _load_huggingface(base, max_tokens, torch.float32)
        # what starts fresh, as from the hub, is not the base's
        held = {n: w for n, w in student.state_dict().items() if n not in student.fresh}
        return held, student
    found, unknown = from_lavis(read_checkpoint(base)[0], base)
    if unknown:
        warnings.warn(
            f"{base} holds weights that a student has no place for,"
            f" left out as LAVIS does: {_some(unknown)}",
            stacklevel=3,
        )
    return found, None


def _check_tokenizer(words: PreTrainedTokenizerBase, config: Blip2Config, where: str) -> None:
    rows = config.qformer_config.vocab_size
    if len(words) < rows or words.bos_token_id >= rows:
        raise ValueError(
            f"the tokenizer has {len(words)} tokens, {words.bos_token} being number"
            f" {words.bos_token_id}; {where} has {rows} word embeddings"
        )


def _check_shapes(
    weights: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    files: Mapping[str, str | Path | None],
    where: str,
    clip: bool,
) -> None:
    for name in (n for n in expected if n in weights):
        found, wanted = tuple(weights[name].shape), tuple(expected[name].shape)
        if found != wanted:
            raise ValueError(
                f"{files[name]}: {lavis_name(name, clip)} has shape {found}, expected {wanted}"
                f" beside the other weights of {where}"
            )


def _check_missing(missing: Sequence[str], where: str, clip: bool) -> tuple[str, ...]:
    """Only what the contrast and the LM head can learn anew may be missing: returns what is."""
    fresh = [name for name in missing if name == "temperature" or name.startswith("lm_head.")]
    if lost := [lavis_name(name, clip) for name in missing if name not in fresh]:
        raise ValueError(f"{where} lacks {_some(lost)}: name a base that has them")
    return tuple(name for name in fresh if name != "lm_head.decoder.weight")


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")


# -------------------------------------------------------------------------------- any network


def load_model(kind, name: str, device: torch.device, dtype: torch.dtype | None = None):
    """A model of Hugging Face's class ``kind``, by hub name or folder, in evaluation mode: bf16 on
    a GPU, else float32, unless told.

    Raises ``ValueError`` where a hundredth of the weights or more is not in the checkpoint: it is
    of another kind, and they would be random; and where files are damaged, or weights no numbers.
    """
    with whole_checkpoint(name):
        model, told = kind.from_pretrained(
            name, dtype=dtype or dtype_of(device), output_loading_info=True
        )
    missing = set(told["missing_keys"])
    share = sum(p.numel() for n, p in model.named_parameters() if n in missing) / sum(
        p.numel() for p in model.parameters()
    )
    if share > 0.01:
        raise ValueError(
            f"{name} is no {kind.__name__}:"
            f" {share:.0%} of its weights are missing, {min(missing)} for one"
        )
    check_numbers(dict(model.named_parameters()), name)
    return model.eval().to(device)


def image_processor(name: str):
    """How a checkpoint's own ``preprocessor_config.json`` has images prepared; None for a folder
    that has none.

    Always by Pillow: where torchvision is installed, transformers would take its resizing, and
    pixels would differ by up to 0.015.
    """
    from transformers import AutoImageProcessor

    if Path(name).is_dir() and not any(
        (Path(name) / f).exists() for f in ("preprocessor_config.json", "processor_config.json")
    ):
        return None
    return AutoImageProcessor.from_pretrained(name, backend="pil")


def version_of(name: str, model) -> str:
    """The hub commit a model was loaded from, or a hash of the weights in its folder."""
    commit = getattr(model.config, "_commit_hash", None)
    if commit:
        return commit[:12]
    return hash_of(sorted(Path(name).glob("*.safetensors")) or sorted(Path(name).glob("*.bin")))[
        :12
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(
            "Convert a LAVIS checkpoint of a stage-1 BLIP-2 into a folder that load_student reads."
        )
    )
    parser.add_argument("checkpoint", help="LAVIS .pth file")
    parser.add_argument("folder", help="where the student is written")
    parser.add_argument("--base", help="hub name, folder or .pth of what the file lacks")
    parser.add_argument(
        "--image-size", type=int, help="pixels; default: as the checkpoint was trained"
    )
    parser.add_argument("--ignore", nargs="*", default=(), help="beginnings of keys to leave out")
    parser.add_argument(
        "--tokenizer", help=f"hub name or folder; default: the base's, or {TOKENIZER}"
    )
    told = parser.parse_args()
    student = load_lavis(told.checkpoint, told.base, told.image_size, told.ignore, told.tokenizer)
    student.save(told.folder)
    print(
        f"{told.folder}: {student.image_size} pixels; LM head {student.origin('lm_head')},"
        f" temperature {student.origin('temperature')}"
    )


if __name__ == "__main__":
    main()
