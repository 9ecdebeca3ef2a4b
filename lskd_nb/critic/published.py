"""The published critic beside the one at hand: what is done otherwise, said aloud.

Published is what the paper says (LSKD, section 3.2) and what the reference release has
(jamespark3922/localized-skd, ``blip2_critic.py`` and ``unified_vqa_binary_datasets.py``); it has no
training configuration of the critic, so that steps, batch and warm-up are not known. A
configuration may differ in its numbers; that is computed. The code differs in some ways whatever
the configuration says; that is written down here.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict

from lskd_nb.critic.training import CriticConfig
from lskd_nb.training.published import Difference

BASE = "LAVIS's blip2_pretrained.pth"


def _number(value: object) -> str:
    return f"{value:g}"


# field -> what it is, its published value, and how a value is told
NUMBERS: dict[str, tuple[str, object, Callable[[object], str]]] = {
    "lr": ("learning rate", 1e-5, _number),
    "weight_decay": ("weight decay", 0.05, _number),
    "beta2": ("AdamW's second beta", 0.999, _number),
    "clip_norm": ("gradients clipped to the norm", 0.0, lambda v: _number(v) if v else "not"),
    "bf16": ("arithmetic", False, lambda v: "bf16" if v else "float32"),
    # there the LM head is frozen, and the word embeddings, which are tied to it, with it
    "embedding_lr": (
        "rate of the word embeddings, as a multiple",
        0.0,
        lambda v: _number(v) if v else "frozen",
    ),
    "swaps": ("share of a batch: region swaps, as rejects", 0.0, _number),
    "fresh_shuffles": (
        "order of the regions",
        True,
        lambda v: "new at each step" if v else "fixed ones for each image",
    ),
    "drawn_at_most": ("regions drawn", 5, lambda v: f"{v} at most" if v else "all offered"),
    "mentioned_share": ("share of draws with the mentioned regions alone", 0.6, _number),
    "head_hidden": (
        "hidden layer of the two score heads",
        768,
        lambda v: f"{v} wide, ReLU" if v else "none",
    ),
    "max_tokens": ("tokens of a text at most", 128, _number),
    "image_size": ("pixels of the square image", 480, lambda v: f"{v}" if v else "the base's"),
}

ALWAYS = (  # what the code does, whatever its configuration
    Difference("target of the rationale head", "the score of the answer", "the rationale's own"),
    Difference(
        "regions that a text mentions", "left out where five others came first", "always drawn"
    ),
    Difference(
        "boxes are drawn",
        "before the image is resized, and cropped or flipped where that is configured",
        "after it is resized; nothing is cropped or flipped",
    ),
    Difference("norm after the vision encoder", "trained", "frozen with the encoder"),
)


def differences(config: CriticConfig | Mapping[str, object]) -> list[Difference]:
    """In what a critic's training differs from the published one; what it begins with comes first.

    ``config`` may be the JSON of a configuration (``trained_from.json``), of an older version too:
    what it does not tell is left out.
    """
    told = asdict(config) if isinstance(config, CriticConfig) else dict(config)
    found = [Difference("begins with", BASE, str(told.get("student", "not told")))]
    for field, (what, value, say) in NUMBERS.items():
        if field in told and told[field] != value:
            found.append(Difference(what, say(value), say(told[field])))
    return [*found, *ALWAYS]
