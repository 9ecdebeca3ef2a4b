"""What the mini world's models are worth elsewhere: nothing, said where it may be forgotten.

Its verbalizers, students and its teacher know some thirty kinds of drawn things. Of a photograph
they speak as confidently, in the words of their small world: an astronaut "is holding a ball".
"""

from collections.abc import Iterable
from pathlib import Path

from lskd_nb.viewing.markup import warning_html

WEIGHTS = "lskd_nb/mini/weights"
TRUTH = "world/truth.jsonl"  # in the folder of a run on the mini world


def of_drawings(models: Iterable[str | None]) -> list[str]:
    """Those of the models, hub names or folders, that are the mini world's, each once.

    >>> of_drawings(["lskd_nb/mini/weights/vlm", "Salesforce/blip2-opt-2.7b", ""])
    ['lskd_nb/mini/weights/vlm']
    """
    told = (str(model or "").replace("\\", "/") for model in models)
    return list(dict.fromkeys(model for model in told if WEIGHTS in model))


def is_of_drawings(run: str | Path) -> bool:
    """Whether a run is about the mini world."""
    return (Path(run) / TRUTH).exists()


def warning(run: str | Path, models: Iterable[str | None], instead: str) -> str:
    """What to say of models of drawings in a run about other images, and what to do ``instead``;
    empty where there is nothing to warn of.
    """
    known = of_drawings(models)
    if not known or is_of_drawings(run):
        return ""
    names = ", ".join(model[model.index(WEIGHTS) :] for model in known)
    return (
        f"These images are not the mini world's, and these models know its drawings only: {names}."
        f" What they say here is nonsense, said with confidence. {instead}"
    )


def warn(run: str | Path, models: Iterable[str | None], instead: str) -> None:
    """Show ``warning`` in a notebook, where there is one."""
    from IPython.display import HTML, display

    if told := warning(run, models, instead):
        display(HTML(warning_html(told)))
