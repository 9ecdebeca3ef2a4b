"""Draw a scene as a flat picture-book illustration, 320 × 240 pixels, always the same bytes.

What rules depend on is bold: the sky tells weather and time, a pose is a silhouette, a held thing
has its own shape and colour. An entity stays inside its box.
"""

import numpy as np
from PIL import Image

from lskd_nb.mini.drawing.canvas import Pen
from lskd_nb.mini.drawing.places import SHADOW, backdrop, draw_place
from lskd_nb.mini.drawing.sprites import draw_entity
from lskd_nb.mini.scenes.world import HEIGHT, WIDTH, Scene


def render(scene: Scene) -> Image.Image:
    """The picture of a scene, RGB."""
    rng = np.random.default_rng(scene.seed)
    pen = Pen(backdrop(scene))
    draw_place(pen, scene, rng)
    shadow = (198, 208, 218) if scene.weather == "snowy" else SHADOW[scene.place]
    for entity in sorted(scene.entities, key=lambda e: e.box[3]):
        x0, _, x1, y1 = entity.box
        if entity.pose != "flying":
            pen.ellipse(x0 + 2, y1 - 3.5, x1 - 2, y1 + 0.5, shadow)
        draw_entity(pen, entity)
    image = pen.image
    if scene.weather == "rainy":
        _rain(pen, rng)
    elif scene.weather == "snowy":
        _snow(pen, rng)
    image = image.resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    if scene.time == "night":
        image = Image.fromarray((np.asarray(image) * np.array([0.72, 0.76, 0.92])).astype(np.uint8))
    elif scene.time == "evening":
        image = Image.fromarray(
            np.clip(np.asarray(image) * np.array([1.02, 0.95, 0.88]), 0, 255).astype(np.uint8)
        )
    return image


def _rain(pen: Pen, rng: np.random.Generator) -> None:
    for _ in range(110):
        x, y = rng.uniform(0, WIDTH + 20), rng.uniform(-10, HEIGHT)
        pen.line([(x, y), (x - 4, y + 12)], (190, 214, 240), 0.8)


def _snow(pen: Pen, rng: np.random.Generator) -> None:
    for _ in range(130):
        x, y, r = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT), rng.uniform(0.9, 2.0)
        pen.ellipse(x - r, y - r, x + r, y + r, (255, 255, 255))


def contact_sheet(scenes: list[Scene], columns: int = 4) -> Image.Image:
    """Several pictures side by side, for looking."""
    rows = -(-len(scenes) // columns)
    sheet = Image.new("RGB", (columns * (WIDTH + 4), rows * (HEIGHT + 4)), "white")
    for i, scene in enumerate(scenes):
        sheet.paste(render(scene), ((i % columns) * (WIDTH + 4), (i // columns) * (HEIGHT + 4)))
    return sheet
