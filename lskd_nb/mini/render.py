"""Draw a scene as a flat picture-book illustration, 320 × 240 pixels, the same bytes for the same scene.

Everything is drawn at twice the size and reduced. What rules depend on is bold: the sky tells weather and time, a pose is a
silhouette, a held thing has its own shape and colour. An entity stays inside its box.
"""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from lskd_nb.mini.sprites import draw_entity
from lskd_nb.mini.world import HEIGHT, WIDTH, Scene

SCALE = 2
SKY = {  # top and bottom of the gradient by (time, bad weather)
    ("day", False): ((92, 170, 235), (200, 232, 250)),
    ("day", True): ((138, 152, 168), (198, 206, 214)),
    ("evening", False): ((92, 86, 160), (252, 176, 110)),
    ("evening", True): ((98, 84, 112), (206, 150, 130)),
    ("night", False): ((14, 20, 56), (44, 58, 110)),
    ("night", True): ((22, 26, 42), (58, 64, 86)),
}
GROUND = dict(park=(118, 184, 92), beach=(240, 216, 160), street=(150, 150, 158), farm=(176, 186, 96))
SHADOW = dict(park=(82, 138, 66), beach=(206, 178, 120), street=(86, 88, 98), farm=(134, 144, 70), kitchen=(190, 162, 126))
HORIZON = 120  # pixels from the top


@cache
def _gradient(top: tuple, bottom: tuple, height: int) -> np.ndarray:
    ramp = np.linspace(0, 1, height)[:, None]
    row = np.array(top)[None] * (1 - ramp) + np.array(bottom)[None] * ramp
    return np.repeat(row[:, None].astype(np.uint8), WIDTH * SCALE, axis=1)


def render(scene: Scene) -> Image.Image:
    """The picture of a scene, RGB."""
    rng = np.random.default_rng(scene.seed)
    pen = Pen(_backdrop(scene))
    {"kitchen": _kitchen, "stage": _stage}.get(scene.place, _outdoors)(pen, scene, rng)
    for entity in sorted(scene.entities, key=lambda e: e.box[3]):
        x0, _, x1, y1 = entity.box
        if entity.pose != "flying":
            pen.ellipse(x0 + 3, y1 - 3.5, x1 - 3, y1 + 1.5, (198, 208, 218) if scene.weather == "snowy" else SHADOW.get(scene.place, (96, 74, 60)))
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
        image = Image.fromarray(np.clip(np.asarray(image) * np.array([1.03, 0.93, 0.84]), 0, 255).astype(np.uint8))
    return image


class Pen:
    """Draws in the picture's pixels on a canvas twice as large."""

    def __init__(self, canvas: np.ndarray):
        self.image = Image.fromarray(canvas)
        self.draw = ImageDraw.Draw(self.image)

    def box(self, x0, y0, x1, y1, color, radius=0.0):
        x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
        self.draw.rounded_rectangle([x0 * SCALE, y0 * SCALE, x1 * SCALE, y1 * SCALE], radius * SCALE, fill=color)

    def ellipse(self, x0, y0, x1, y1, color, outline=None, width=1):
        x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
        self.draw.ellipse([x0 * SCALE, y0 * SCALE, x1 * SCALE, y1 * SCALE], fill=color, outline=outline, width=int(width * SCALE))

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


def _backdrop(scene: Scene) -> np.ndarray:
    canvas = np.empty((HEIGHT * SCALE, WIDTH * SCALE, 3), np.uint8)
    if scene.place == "kitchen":
        canvas[:] = (250, 236, 208)
    elif scene.place == "stage":
        canvas[:] = _gradient((46, 20, 40), (96, 40, 62), HEIGHT * SCALE)
    else:
        bad = scene.weather in ("rainy", "cloudy", "snowy")
        top, bottom = SKY[scene.time, bad]
        canvas[: HORIZON * SCALE] = _gradient(top, bottom, HORIZON * SCALE)
        base = (236, 242, 248) if scene.weather == "snowy" else GROUND[scene.place]
        shade = tuple(int(c * 0.86) for c in base)
        canvas[HORIZON * SCALE :] = _gradient(shade, base, (HEIGHT - HORIZON) * SCALE)
    return canvas


def _outdoors(pen: Pen, scene: Scene, rng: np.random.Generator) -> None:
    if scene.time == "night" and scene.weather != "rainy":
        for _ in range(36):
            x, y = rng.uniform(0, WIDTH), rng.uniform(0, 80)
            pen.ellipse(x, y, x + 1.3, y + 1.3, (255, 250, 210))
    if scene.weather == "sunny":
        x, y = rng.uniform(30, 290), rng.uniform(14, 34)
        if scene.time == "night":
            pen.ellipse(x - 12, y - 12, x + 12, y + 12, (250, 244, 214))
            pen.ellipse(x - 5, y - 14, x + 15, y + 8, (20, 27, 66))
        else:
            y = y if scene.time == "day" else 92
            for r, c in ((24, (255, 236, 170)), (17, (255, 214, 80) if scene.time == "day" else (255, 140, 70))):
                pen.ellipse(x - r, y - r, x + r, y + r, c)
    else:
        color = {"cloudy": (232, 236, 242), "rainy": (96, 104, 120), "snowy": (220, 226, 236)}[scene.weather]
        for _ in range(6 if scene.weather == "cloudy" else 5):
            x, y, s = rng.uniform(-10, 310), rng.uniform(6, 40), rng.uniform(0.8, 1.3)
            for dx, dy, r in ((-16, 4, 10), (-4, -2, 14), (12, 2, 12), (24, 6, 8)):
                pen.ellipse(x + (dx - r) * s, y + (dy - r) * s, x + (dx + r) * s, y + (dy + r * 0.8) * s, color)
    {"park": _park, "beach": _beach, "street": _street, "farm": _farm}[scene.place](pen, scene, rng)


def _park(pen, scene, rng):
    white = scene.weather == "snowy"
    for i in range(5):
        x, r = i * 80 + rng.uniform(-20, 20), rng.uniform(36, 56)
        pen.ellipse(x - r, HORIZON - r * 0.55, x + r, HORIZON + r * 0.5, (214, 226, 232) if white else (84, 148, 84))
    pen.box(0, HORIZON, WIDTH, HORIZON + 14, (228, 236, 242) if white else (110, 176, 88))
    x = rng.uniform(60, 260)
    pen.polygon([(x - 8, HORIZON + 2), (x + 8, HORIZON + 2), (x + 70, HEIGHT), (x - 40, HEIGHT)], (226, 206, 160))
    for _ in range(26):
        x, y = rng.uniform(0, WIDTH), rng.uniform(HORIZON + 12, HEIGHT)
        pen.line([(x, y), (x + 1.5, y - 4)], (205, 220, 230) if white else (84, 156, 70), 1)


def _beach(pen, scene, rng):
    sea = (40, 128, 176) if scene.weather == "sunny" else (86, 118, 140)
    pen.box(0, HORIZON - 32, WIDTH, HORIZON + 16, sea)
    for k in range(4):
        y = HORIZON - 26 + k * 10
        for i in range(9):
            x = i * 40 + rng.uniform(-8, 8)
            pen.line([(x, y), (x + 16, y)], (190, 224, 238), 1)
    pen.line([(x, HORIZON + 16 + 2 * np.sin(x / 14)) for x in range(0, WIDTH + 8, 8)], (250, 250, 250), 2)
    for _ in range(20):
        x, y = rng.uniform(0, WIDTH), rng.uniform(HORIZON + 26, HEIGHT)
        pen.ellipse(x, y, x + 3, y + 1.5, (222, 194, 134))


def _street(pen, scene, rng):
    x = -10.0
    lit = scene.time != "day"
    while x < WIDTH:
        w, h = rng.uniform(44, 66), rng.uniform(56, 92)
        color = [(206, 120, 96), (226, 188, 120), (150, 164, 190), (190, 150, 176), (168, 184, 150)][int(rng.integers(5))]
        pen.box(x, HORIZON + 8 - h, x + w - 2, HORIZON + 8, color)
        pen.polygon([(x - 2, HORIZON + 8 - h), (x + w / 2, HORIZON - 6 - h), (x + w, HORIZON + 8 - h)], (136, 74, 66))
        for wx in np.arange(x + 7, x + w - 12, 15):
            for wy in np.arange(HORIZON + 16 - h, HORIZON - 14, 18):
                pen.box(wx, wy, wx + 8, wy + 10, (255, 226, 130) if lit and rng.random() < 0.6 else (120, 150, 176))
        x += w
    white = scene.weather == "snowy"
    pen.box(0, HORIZON + 8, WIDTH, HORIZON + 28, (226, 230, 236) if white else (196, 192, 186))
    pen.box(0, HORIZON + 28, WIDTH, HEIGHT, (214, 220, 228) if white else (112, 114, 124))
    for x in range(10, WIDTH, 56):
        pen.box(x, 182, x + 28, 186, (240, 236, 200))


def _farm(pen, scene, rng):
    white = scene.weather == "snowy"
    for k, color in enumerate(((150, 170, 86), (196, 184, 90), (134, 160, 80))):
        pen.box(0, HORIZON - 12 + k * 9, WIDTH, HORIZON + 4 + k * 9, (222 + 6 * k, 230, 236) if white else color)
    x = rng.uniform(20, 220)
    pen.box(x, HORIZON - 46, x + 70, HORIZON + 8, (176, 52, 48))
    pen.polygon([(x - 6, HORIZON - 46), (x + 35, HORIZON - 74), (x + 76, HORIZON - 46)], (236, 240, 244) if white else (110, 44, 44))
    pen.box(x + 22, HORIZON - 26, x + 48, HORIZON + 8, (240, 228, 214))
    pen.line([(x + 22, HORIZON - 26), (x + 48, HORIZON + 8)], (176, 52, 48), 2)
    pen.line([(x + 48, HORIZON - 26), (x + 22, HORIZON + 8)], (176, 52, 48), 2)
    for fx in range(0, WIDTH, 22):
        pen.box(fx, HORIZON + 8, fx + 3, HORIZON + 30, (150, 106, 66))
    for fy in (HORIZON + 13, HORIZON + 22):
        pen.box(0, fy, WIDTH, fy + 3, (168, 120, 76))


def _kitchen(pen, scene, rng):
    for x in range(0, WIDTH, 20):
        for y in range(60, 120, 20):
            if (x + y) // 20 % 2:
                pen.box(x, y, x + 20, y + 20, (214, 232, 228))
    pen.box(0, 120, WIDTH, 150, (166, 114, 76))
    pen.box(0, 116, WIDTH, 124, (228, 222, 214))
    for x in range(6, WIDTH, 52):
        pen.box(x, 127, x + 46, 147, (190, 136, 92), 2)
    ox = rng.uniform(20, 240)
    pen.box(ox, 122, ox + 54, 152, (74, 80, 90), 3)
    pen.box(ox + 8, 130, ox + 46, 146, (232, 150, 70), 2)
    for x in (rng.uniform(0, 60), rng.uniform(200, 250)):
        pen.box(x, 14, x + 64, 50, (190, 136, 92), 2)
        pen.line([(x + 32, 16), (x + 32, 48)], (150, 100, 66), 1)
    wx = rng.uniform(100, 150)
    pen.box(wx, 12, wx + 56, 54, (250, 250, 250))
    pen.box(wx + 4, 16, wx + 52, 50, (150, 206, 240))
    pen.line([(wx + 28, 14), (wx + 28, 52)], (250, 250, 250), 2)
    pen.box(0, 152, WIDTH, HEIGHT, (224, 196, 160))
    for x in range(-40, WIDTH, 40):
        pen.line([(x, HEIGHT), (x + 50, 152)], (206, 176, 140), 1)


def _stage(pen, scene, rng):
    for x in (60, 160, 260):
        x += rng.uniform(-20, 20)
        pen.polygon([(x - 6, 0), (x + 6, 0), (x + 46, 190), (x - 46, 190)], (128, 70, 86))
        pen.ellipse(x - 9, -4, x + 9, 10, (255, 240, 180))
    pen.box(0, 160, WIDTH, HEIGHT, (148, 92, 56))
    for x in range(0, WIDTH, 26):
        pen.line([(x, 160), (x - 30 + (x / WIDTH) * 60, HEIGHT)], (120, 72, 44), 1)
    for side in (0, 1):
        for k in range(3):
            x = k * 13 if side == 0 else WIDTH - (k + 1) * 13
            pen.box(x, 0, x + 13, 176 - k * 4, (176, 30, 48) if k % 2 == 0 else (148, 20, 40))
    pen.box(0, 0, WIDTH, 12, (148, 20, 40))
    for x in range(0, WIDTH, 32):
        pen.ellipse(x, 2, x + 32, 24, (176, 30, 48))


def _rain(pen, rng):
    for _ in range(110):
        x, y = rng.uniform(0, WIDTH + 20), rng.uniform(-10, HEIGHT)
        pen.line([(x, y), (x - 4, y + 12)], (190, 214, 240), 0.8)
    for _ in range(6):
        x, y = rng.uniform(0, WIDTH), rng.uniform(190, HEIGHT - 4)
        pen.ellipse(x - 14, y - 2, x + 14, y + 2, (150, 180, 206))


def _snow(pen, rng):
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
