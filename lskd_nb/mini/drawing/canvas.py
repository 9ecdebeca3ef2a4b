"""Pens: one draws in an image's pixels, one in an entity's unit box; and the world's colours."""

import numpy as np
from PIL import Image, ImageDraw

from lskd_nb.mini.scenes.world import Entity

SCALE = 2  # pictures are drawn this much larger and reduced
RGB = dict(
    red=(214, 40, 40),
    yellow=(250, 206, 46),
    blue=(40, 92, 206),
    white=(246, 246, 244),
    black=(38, 38, 44),
    pink=(246, 132, 182),
    brown=(140, 92, 54),
    gray=(146, 150, 158),
    green=(62, 138, 66),
)


class Pen:
    """Draws in the picture's pixels on a canvas twice as large."""

    def __init__(self, canvas: np.ndarray):
        self.image = Image.fromarray(canvas)
        self.draw = ImageDraw.Draw(self.image)

    def box(self, x0, y0, x1, y1, color, radius=0.0):
        x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
        self.draw.rounded_rectangle(
            [x0 * SCALE, y0 * SCALE, x1 * SCALE, y1 * SCALE], radius * SCALE, fill=color
        )

    def ellipse(self, x0, y0, x1, y1, color, outline=None, width=1):
        x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
        self.draw.ellipse(
            [x0 * SCALE, y0 * SCALE, x1 * SCALE, y1 * SCALE],
            fill=color,
            outline=outline,
            width=int(width * SCALE),
        )

    def polygon(self, points, color):
        self.draw.polygon([(x * SCALE, y * SCALE) for x, y in points], fill=color)

    def line(self, points, color, width=1.5):
        flat = [(x * SCALE, y * SCALE) for x, y in points]
        self.draw.line(flat, fill=color, width=max(1, round(width * SCALE)), joint="curve")
        radius = width * SCALE / 2
        if width >= 2:
            for x, y in (flat[0], flat[-1]):
                self.draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=color)

    def pie(self, x0, y0, x1, y1, start, end, color):
        self.draw.pieslice([x0 * SCALE, y0 * SCALE, x1 * SCALE, y1 * SCALE], start, end, fill=color)


class Unit:
    """A pen over the unit box of an entity, mirrored when it faces left."""

    def __init__(self, pen, entity: Entity):
        self.pen, (self.x0, self.y0, x1, y1) = pen, entity.box
        self.w, self.h, self.left = x1 - self.x0, y1 - self.y0, entity.facing < 0

    def at(self, x: float, y: float) -> tuple[float, float]:
        x = 1 - x if self.left else x
        return self.x0 + x * self.w, self.y0 + y * self.h

    def box(self, x0, y0, x1, y1, color, radius=0.0):
        self.pen.box(*self.at(x0, y0), *self.at(x1, y1), color, radius * min(self.w, self.h))

    def ellipse(self, x0, y0, x1, y1, color, outline=None, width=1):
        self.pen.ellipse(*self.at(x0, y0), *self.at(x1, y1), color, outline, width)

    def circle(self, x, y, r, color, outline=None, width=1):
        """``r`` in shares of the width."""
        cx, cy = self.at(x, y)
        r *= self.w
        self.pen.ellipse(cx - r, cy - r, cx + r, cy + r, color, outline, width)

    def polygon(self, points, color):
        self.pen.polygon([self.at(x, y) for x, y in points], color)

    def line(self, points, color, width=0.05):
        self.pen.line([self.at(x, y) for x, y in points], color, width * self.w)


def dark(color, share=0.75):
    return tuple(int(c * share) for c in color)
