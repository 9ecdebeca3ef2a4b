"""The published recipe beside the one at hand: what was trained otherwise, said aloud.

Published is what the paper says (LSKD, section 3.3) and what the training configuration of the
reference release has (jamespark3922/localized-skd, on LAVIS's runner): 64 rows for each of four
GPUs, 50,000 steps, 480 pixels, float32, BLIP-2's three losses with equal weights. A configuration
may differ from it in its numbers; that is computed. The code differs in some ways whatever the
configuration says; that is written down here.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from lskd_nb.training.distillation import DistillationConfig

BASE = "LAVIS's blip2_pretrained.pth, its LM head with it"
GPUS = 4  # A100 of 80 GB, each with a part of the batch


@dataclass(frozen=True)
class Difference:
    """One thing that was published as one, and is here another."""

    what: str
    published: str
    here: str


def _number(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


# field -> what it is, its published value, and how a value is told
NUMBERS: dict[str, tuple[str, object, Callable[[object], str]]] = {
    "steps": ("steps", 50_000, _number),
    "batch": ("rows of a step, on all GPUs together", 256, _number),
    "lr": ("learning rate", 1e-5, _number),
    "min_lr": ("learning rate at the end", 1e-6, _number),
    "weight_decay": ("weight decay", 0.05, _number),
    "beta2": ("AdamW's second beta", 0.999, _number),
    "clip_norm": ("gradients clipped to the norm", 0.0, lambda v: _number(v) if v else "not"),
    "bf16": ("arithmetic", False, lambda v: "bf16 where fast" if v else "float32"),
    "itc": ("weight of ITC", 1.0, _number),
    "itm": ("weight of ITM", 1.0, _number),
    "lm": ("weight of the LM loss after the image", 1.0, _number),
    "lm_conditioned": ("weight of the question-conditioned LM loss", 0.0, _number),
    "swaps": ("share of ITM's second negatives: region swaps", 0.0, _number),
    "exchanges": ("share of ITM's first negatives: exchanges", 0.0, _number),
    "near_misses": ("share of ITM's second negatives: near misses", 0.0, _number),
    "embedding_lr": ("rate of the word embeddings, as a multiple", 1.0, _number),
    "rehearsal_share": ("share of a batch: plain pairs rehearsed", 0.0, _number),
    "base_share": ("share of the base in what is saved", 0.0, _number),
    "views": ("shuffles of a triple's regions", 0, lambda v: f"{v} fixed" if v else "ever new"),
    "prefix": ("before each question", "question: ", lambda v: repr(v) if v else "nothing"),
    "max_tokens": ("tokens of a text at most", 128, _number),
    "image_size": ("pixels of the square image", 480, lambda v: _number(v) if v else "the base's"),
}

ALWAYS = (  # what the code does, whatever its configuration
    Difference(
        "rows of one image", "each other's negatives in ITC and ITM", "never each other's negatives"
    ),
    Difference(
        "ITM's wrong pairs of a row",
        "a hard text for its image, a hard image for its text",
        "two hard texts for its image",
    ),
    Difference(
        "picture after its boxes are drawn", "cropped, flipped, recoloured at random", "as it is"
    ),
    Difference("norm after the vision encoder", "trained", "frozen with the encoder"),
    Difference(
        "course of the learning rate",
        "warm-up from 1e-7, its steps not known; then down a cosine by LAVIS's epochs",
        "warm-up from 0 in the steps that `warmup` says; then down a cosine by steps",
    ),
)


def differences(
    config: DistillationConfig | Mapping[str, object], lm_head: str = ""
) -> list[Difference]:
    """In what a training differs from the published one; the base it begins with is the first row.

    ``config`` may be the JSON of a configuration (``trained_from.json``), of an older version too:
    what it does not tell is left out. ``lm_head``: "loaded" or "fresh" (``Student.origin``).
    """
    told = asdict(config) if isinstance(config, DistillationConfig) else dict(config)
    head = {"loaded": ", its LM head with it", "fresh": ", its LM head at random"}.get(lm_head, "")
    found = [Difference("begins with", BASE, f"{told.get('student', 'not told')}{head}")]
    for field, (what, value, say) in NUMBERS.items():
        if field in told and told[field] != value:
            found.append(Difference(what, say(value), say(told[field])))
    if (parts := int(told.get("accumulation", 1))) > 1:
        each = int(told["batch"]) // parts
        found.append(Difference("rows that ITC compares", "256", f"{each:,}, a part of a step"))
    return [*found, *ALWAYS]


def other_lm(config: DistillationConfig) -> dict[str, dict[str, float]]:
    """The student to compare with one of ``config`` that differs in its LM loss alone: the name
    of the system, and the weights of its two LM losses.

    It is ``published_lm`` where the queries of ``config`` see the question before they look. Where
    its LM loss is the published one already, it is the other way round: ``conditioned_lm``. Empty
    where ``config`` has no LM loss.
    """
    weight = max(config.lm, config.lm_conditioned)
    if not weight:
        return {}
    if config.lm_conditioned:
        return {"published_lm": {"lm": weight, "lm_conditioned": 0.0}}
    return {"conditioned_lm": {"lm": 0.0, "lm_conditioned": weight}}
