"""Scenes as readers and verbalizers give images, and all of it true: for whoever wants prompts
about the mini world without its pictures and its models.
"""

from collections.abc import Iterable

from lskd_nb.mini.scenes import grammar
from lskd_nb.mini.scenes.world import HEIGHT, WIDTH, Scene
from lskd_nb.regions import LocatedImage, Region


def located(scenes: Iterable[Scene], ending: str = "jpg") -> list[LocatedImage]:
    """Images of scenes with a region for each entity, labelled with its kind."""
    return [
        LocatedImage(
            s.scene_id,
            f"{s.scene_id}.{ending}",
            WIDTH,
            HEIGHT,
            tuple(Region(i, e.box, e.kind) for i, e in enumerate(s.entities)),
            "mini",
            "train",
        )
        for s in scenes
    ]


def captions(scenes: Iterable[Scene]) -> list[dict]:
    """A true caption of each scene, as rows of records.VERBALIZATIONS without model and score."""
    return [_line(s, "global", "captioner", None, grammar.caption(s)) for s in scenes]


def region_lines(scenes: Iterable[Scene], closely: bool = True) -> list[dict]:
    """A true description of each region, likewise; ``closely`` says what it does and holds too."""
    describe = grammar.describe_closely if closely else grammar.describe
    return [
        _line(s, "local", "region-captioner", i, describe(e))
        for s in scenes
        for i, e in enumerate(s.entities)
    ]


def _line(scene: Scene, kind: str, verbalizer: str, region: int | None, text: str) -> dict:
    about = dict(image_id=scene.scene_id, kind=kind, verbalizer=verbalizer, region=region)
    return about | dict(question=None, text=text)
