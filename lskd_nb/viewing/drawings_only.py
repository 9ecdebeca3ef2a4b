"""What the mini world's models are worth elsewhere: nothing, said where it may be forgotten.

Its verbalizers, students and its teacher know some thirty kinds of drawn things. Of a photograph
they speak as confidently, in the words of their small world: an astronaut "is holding a ball".
"""

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lskd_nb.viewing.markup import warnings_html

WEIGHTS, WRITER = "lskd_nb/mini/weights", "mini-rule-based-writer"
WORLD, TRUTH = "world", "truth.jsonl"  # in the folder of a run on the mini world


def of_drawings(models: Iterable[str | None]) -> list[str]:
    """Those of the models, hub names or folders, that are the mini world's, each once.

    >>> of_drawings(["/home/ada/lskd_nb/mini/weights/vlm", "Salesforce/blip2-opt-2.7b", ""])
    ['lskd_nb/mini/weights/vlm']
    """
    told = (str(model or "").replace("\\", "/") for model in models)
    known = (m[m.find(WEIGHTS) :] if WEIGHTS in m else m for m in told)
    return list(dict.fromkeys(m for m in known if m.startswith((WEIGHTS, WRITER))))


def is_of_drawings(run: str | Path) -> bool:
    """Whether a run is about the mini world."""
    return (Path(run) / WORLD / TRUTH).exists()


def are_drawings(image_root: str | Path) -> bool:
    """Whether the images below a root are those of a mini world, in whichever set's form."""
    return bool(str(image_root)) and (Path(image_root).parent / TRUTH).exists()


def learned_from_drawings(student: str | Path) -> bool:
    """Whether a student is one of the mini world's, or was trained from one."""
    told = [str(student)]
    with suppress(OSError, ValueError, KeyError, TypeError):
        text = (Path(student) / "trained_from.json").read_text(encoding="utf-8")
        told.append(json.loads(text)["student"])
    return bool(of_drawings(told))


def warning(run: str | Path, models: Iterable[str | None], instead: str) -> str:
    """What to say of models of drawings in a run about other images, and what to do ``instead``;
    empty where there is nothing to warn of.
    """
    known = of_drawings(models)
    if not known or is_of_drawings(run):
        return ""
    return (
        "These images are not the mini world's, and these models know its drawings only:"
        f" {', '.join(known)}. What they say here is nonsense, said with confidence. {instead}"
    )


def warn(run: str | Path, models: Iterable[str | None], instead: str) -> None:
    """Show ``warning`` in a notebook, where there is one."""
    from IPython.display import HTML, display

    if told := warning(run, models, instead):
        display(HTML(warnings_html([told])))
