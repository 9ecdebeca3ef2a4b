"""The picture at the README's top: three scenes, a question about a region of each, its answer."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from lskd_nb.mini.drawing.render import render
from lskd_nb.mini.scenes import grammar
from lskd_nb.mini.scenes.rules import situation_of
from lskd_nb.mini.scenes.world import PEOPLE, Scene, sample_scenes
from lskd_nb.records import atomic_path
from lskd_nb.regions import Region

SEED = 77
# the situation pointed at, what is asked of it, place, weather, time of day, people at least
SHOWN = (
    ("reader", "next", "park", "sunny", "day", 2),
    ("shelter", "why", "street", None, None, 2),
    ("dog and ball", "next", "beach", "sunny", "day", 1),
)


def chosen_scenes(scenes: Sequence[Scene]) -> list[tuple[Scene, int, str]]:
    """For each of SHOWN the first scene of four regions with it, the region, the kind."""
    found: list[tuple[Scene, int, str]] = []
    for name, kind, place, weather, time, people in SHOWN:
        for scene in scenes:
            fits = (
                scene.place == place
                and weather in (None, scene.weather)
                and time in (None, scene.time)
            )
            if (
                not fits
                or len(scene.entities) != 4
                or sum(e.kind in PEOPLE for e in scene.entities) < people
            ):
                continue
            regions = [i for i in range(4) if situation_of(scene, i)[0].name == name]
            if regions and scene not in [s for s, _, _ in found]:
                found.append((scene, regions[0], kind))
                break
    return found


def draw_teaser(path: str | Path) -> None:
    """Draw it into a PNG of 256 colours."""
    import matplotlib.pyplot as plt

    from lskd_nb.viewing import pictures, plots

    plots.style()
    figure, axes = plt.subplots(1, len(SHOWN), figsize=(14.6, 4.1))
    for ax, (scene, region, kind) in zip(
        axes, chosen_scenes(sample_scenes(900, SEED, "z")), strict=True
    ):
        answer = grammar.answer(kind, situation_of(scene, region)[0])
        pictures.show_regions(
            render(scene),
            [Region(n, e.box) for n, e in enumerate(scene.entities)],
            f"{grammar.question(kind, region)}\n{answer}",
            ax,
        )
        ax.title.set_fontsize(15)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=82, bbox_inches="tight", pad_inches=0.05)
        plt.close(figure)
        with Image.open(temporary) as image:
            image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
                temporary, "PNG", optimize=True
            )
