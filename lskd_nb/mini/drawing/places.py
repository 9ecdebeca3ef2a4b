"""Where scenes are set: the sky, which tells weather and time, and what is in the background."""

from functools import cache

import numpy as np

from lskd_nb.mini.drawing.canvas import SCALE, Pen
from lskd_nb.mini.scenes.world import HEIGHT, WIDTH, Scene

SKY = {  # top and bottom of the gradient by (time, bad weather)
    ("day", False): ((92, 170, 235), (200, 232, 250)),
    ("day", True): ((138, 152, 168), (198, 206, 214)),
    ("evening", False): ((92, 86, 160), (252, 176, 110)),
    ("evening", True): ((98, 84, 112), (206, 150, 130)),
    ("night", False): ((14, 20, 56), (44, 58, 110)),
    ("night", True): ((22, 26, 42), (58, 64, 86)),
}
GROUND = dict(
    park=(118, 184, 92), beach=(240, 216, 160), street=(150, 150, 158), farm=(176, 186, 96)
)
SHADOW = dict(
    park=(82, 138, 66),
    beach=(206, 178, 120),
    street=(86, 88, 98),
    farm=(134, 144, 70),
    kitchen=(190, 162, 126),
    stage=(140, 98, 64),
)
HOUSES = ((206, 120, 96), (226, 188, 120), (150, 164, 190), (190, 150, 176), (168, 184, 150))
HORIZON = 120  # pixels from the top


@cache
def _gradient(top: tuple, bottom: tuple, height: int) -> np.ndarray:
    ramp = np.linspace(0, 1, height)[:, None]
    row = np.array(top)[None] * (1 - ramp) + np.array(bottom)[None] * ramp
    return np.repeat(row[:, None].astype(np.uint8), WIDTH * SCALE, axis=1)


def backdrop(scene: Scene) -> np.ndarray:
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
        x, y = rng.uniform(34, 286), rng.uniform(31, 40)
        if scene.time == "night":
            pen.ellipse(x - 12, y - 12, x + 12, y + 12, (250, 244, 214))
            pen.ellipse(x - 5, y - 14, x + 15, y + 8, (20, 27, 66))
        else:
            y = y if scene.time == "day" else 92
            if scene.time == "day":
                for angle in np.arange(0, 2 * np.pi, np.pi / 6):
                    dx, dy = np.cos(angle), np.sin(angle)
                    pen.line(
                        [(x + 22 * dx, y + 22 * dy), (x + 29 * dx, y + 29 * dy)],
                        (255, 236, 170),
                        2.2,
                    )
            disc, halo = ((255, 214, 80), 20) if scene.time == "day" else ((255, 140, 70), 24)
            for r, c in ((halo, (255, 236, 170)), (17, disc)):
                pen.ellipse(x - r, y - r, x + r, y + r, c)
    else:
        color = {"cloudy": (232, 236, 242), "rainy": (96, 104, 120), "snowy": (220, 226, 236)}[
            scene.weather
        ]
        for _ in range(6 if scene.weather == "cloudy" else 5):
            x, y, s = rng.uniform(-10, 310), rng.uniform(6, 40), rng.uniform(0.8, 1.3)
            for dy, shade in ((2.5, tuple(int(c * 0.9) for c in color)), (0, color)):
                for dx, up, r in ((-14, 6, 9), (-3, 0, 14), (12, 4, 11)):
                    cx, cy = x + dx * s, y + (up + dy) * s
                    pen.ellipse(cx - r * s, cy - r * s, cx + r * s, cy + r * 0.8 * s, shade)
                pen.box(x - 26 * s, y + (4 + dy) * s, x + 28 * s, y + (15 + dy) * s, shade, 5.5 * s)
    place = {"park": _park, "beach": _beach, "street": _street, "farm": _farm}[scene.place]
    place(pen, scene, rng)
    for _ in range(7 if scene.weather == "rainy" else 0):
        x, y, r = rng.uniform(0, WIDTH), rng.uniform(176, HEIGHT - 4), rng.uniform(12, 20)
        pen.ellipse(x - r, y - r * 0.18, x + r, y + r * 0.18, (140, 170, 196))
        pen.ellipse(x - r * 0.6, y - r * 0.12, x + r * 0.5, y + r * 0.06, (176, 202, 222))


def _park(pen: Pen, scene: Scene, rng: np.random.Generator) -> None:
    white = scene.weather == "snowy"
    for far in (True, False):
        for i in range(5):
            x = i * 80 + rng.uniform(-20, 20) + 40 * far
            r = rng.uniform(36, 56) * (1.5 if far else 1)
            if white:
                color = (206, 218, 228) if far else (218, 228, 236)
            elif far:
                color = (124, 178, 132)
            else:
                color = (84, 148, 84)
            pen.ellipse(x - r, HORIZON - r * 0.55, x + r, HORIZON + r * 0.5, color)
    pen.box(0, HORIZON, WIDTH, HORIZON + 8, (200, 214, 222) if white else (70, 128, 66))
    pen.box(0, HORIZON + 8, WIDTH, HORIZON + 46, (230, 238, 244) if white else (110, 176, 88))
    x = rng.uniform(40, 280)
    pen.polygon(
        [
            (x - 8, HORIZON + 8),
            (x + 8, HORIZON + 8),
            (x + 34, 180),
            (x + 90, HEIGHT),
            (x - 20, HEIGHT),
            (x - 6, 180),
        ],
        (222, 214, 204) if white else (226, 206, 160),
    )
    x = x - 110 if x > 160 else x + 110
    pen.ellipse(
        x - 40, HORIZON + 16, x + 40, HORIZON + 36, (200, 214, 222) if white else (84, 146, 74)
    )
    pen.ellipse(
        x - 38, HORIZON + 17, x + 38, HORIZON + 34, (190, 216, 232) if white else (104, 178, 220)
    )
    pen.line([(x - 14, HORIZON + 24), (x + 6, HORIZON + 24)], (216, 236, 246), 1)
    pen.line([(x - 2, HORIZON + 29), (x + 16, HORIZON + 29)], (216, 236, 246), 1)
    for i in range(30):
        x, y = rng.uniform(0, WIDTH), rng.uniform(HORIZON + 40, HEIGHT)
        for dx in (-1.5, 0, 1.5):
            pen.line([(x, y), (x + dx, y - 4)], (205, 220, 230) if white else (84, 156, 70), 1)
        if i % 4 == 0 and not white:
            pen.ellipse(x + 3, y - 4, x + 5, y - 2, (250, 240, 210))


def _beach(pen: Pen, scene: Scene, rng: np.random.Generator) -> None:
    sea = (40, 128, 176) if scene.weather == "sunny" else (86, 118, 140)
    light = tuple(int(c + (255 - c) * 0.3) for c in sea)
    pen.box(0, HORIZON - 32, WIDTH, HORIZON + 16, sea)
    pen.box(0, HORIZON + 2, WIDTH, HORIZON + 16, light)
    for k in range(4):
        y = HORIZON - 26 + k * 9
        for i in range(9):
            x = i * 40 + rng.uniform(-8, 8)
            pen.line(
                [(x, y), (x + 4, y - 1.5), (x + 8, y), (x + 12, y - 1.5), (x + 16, y)],
                (190, 224, 238),
                1,
            )
    edge = [(x, HORIZON + 17 + 2.5 * np.sin(x / 16)) for x in range(-8, WIDTH + 16, 8)]
    pen.polygon([(0, HORIZON + 8), *edge, (WIDTH, HORIZON + 8)], light)
    pen.line([(x, y + 3) for x, y in edge], (214, 188, 134), 3)
    pen.line(edge, (250, 250, 250), 2.5)
    side = int(rng.integers(2))
    x, lean = (22.0, 12) if side == 0 else (WIDTH - 22.0, -12)
    pen.line(
        [(x, HORIZON + 40), (x + lean * 0.2, HORIZON), (x + lean, HORIZON - 44)], (150, 108, 70), 5
    )
    for dx, dy in ((-26, 10), (-22, -8), (-4, -18), (16, -14), (27, 0), (22, 14)):
        tip, px = (x + lean + dx, HORIZON - 46 + dy), x + lean
        pen.polygon(
            [
                (px - 2, HORIZON - 47),
                (px + dx * 0.5, HORIZON - 52 + dy * 0.3),
                tip,
                (px + dx * 0.5, HORIZON - 45 + dy * 0.5),
            ],
            (62, 140, 84),
        )
    for i in range(24):
        x, y = rng.uniform(0, WIDTH), rng.uniform(HORIZON + 30, HEIGHT)
        pen.ellipse(x, y, x + 3, y + 1.5, (222, 194, 134))
        if i % 8 == 0:
            pen.pie(x, y - 2, x + 6, y + 5, 180, 360, (250, 226, 214))


def _street(pen: Pen, scene: Scene, rng: np.random.Generator) -> None:
    white, lit, foot, x = scene.weather == "snowy", scene.time != "day", HORIZON + 8, -10.0
    while x < WIDTH:
        w, h = rng.uniform(44, 66), rng.uniform(56, 92)
        color = HOUSES[int(rng.integers(len(HOUSES)))]
        pen.box(x, foot - h, x + w - 2, foot, color)
        pen.box(x + w - 6, foot - h, x + w - 2, foot, tuple(int(c * 0.86) for c in color))
        pen.polygon(
            [(x - 2, foot - h), (x + w / 2, HORIZON - 6 - h), (x + w, foot - h)],
            (240, 244, 248) if white else (136, 74, 66),
        )
        _windows(pen, rng, x, w, h, lit)
        x += w
    pen.box(0, foot, WIDTH, HORIZON + 28, (226, 230, 236) if white else (196, 192, 186))
    pen.box(0, HORIZON + 26, WIDTH, HORIZON + 29, (204, 208, 216) if white else (150, 148, 146))
    pen.box(0, HORIZON + 29, WIDTH, HEIGHT, (214, 220, 228) if white else (112, 114, 124))
    for x in range(10, WIDTH, 56):
        pen.box(x, 182, x + 28, 186, (240, 236, 200))


def _windows(pen: Pen, rng: np.random.Generator, x: float, w: float, h: float, lit: bool) -> None:
    door = int(rng.integers(2))
    for column, wx in enumerate(np.arange(x + 7, x + w - 12, 15)):
        for wy in np.arange(HORIZON + 16 - h, HORIZON - 14, 18):
            bright = lit and rng.random() < 0.6
            pen.box(wx - 1, wy - 1, wx + 9, wy + 11, (244, 236, 222))
            pen.box(wx, wy, wx + 8, wy + 10, (255, 226, 130) if bright else (120, 150, 176))
            pen.line([(wx + 4, wy), (wx + 4, wy + 10)], (244, 236, 222), 1)
        if column == door:
            pen.box(wx - 1, HORIZON - 8, wx + 9, HORIZON + 8, (104, 66, 50), 1)
            pen.ellipse(wx + 6, HORIZON, wx + 7.5, HORIZON + 1.5, (240, 210, 120))


def _farm(pen: Pen, scene: Scene, rng: np.random.Generator) -> None:
    white = scene.weather == "snowy"
    for k, color in enumerate(((150, 170, 86), (196, 184, 90), (134, 160, 80))):
        y = HORIZON - 12 + k * 9
        pen.ellipse(
            -60 + 60 * k,
            y - 10 + 3 * k,
            WIDTH - 60 + 90 * k,
            y + 40,
            (222 + 6 * k, 230, 236) if white else color,
        )
        pen.box(0, y, WIDTH, y + 16, (222 + 6 * k, 230, 236) if white else color)
    for k in range(12):
        x = k * 30 + rng.uniform(-6, 6)
        pen.line(
            [(x, HORIZON + 4), (x + 8, HORIZON - 2)],
            (236, 242, 246) if white else (214, 202, 110),
            1.5,
        )
    x = rng.uniform(36, 220)
    pen.box(x - 24, HORIZON - 56, x - 6, HORIZON + 8, (188, 192, 198))
    pen.pie(
        x - 24,
        HORIZON - 68,
        x - 6,
        HORIZON - 44,
        180,
        360,
        (236, 240, 244) if white else (146, 152, 162),
    )
    _barn(pen, x, (236, 240, 244) if white else (110, 44, 44))
    for fx in range(4, WIDTH, 22):
        pen.box(fx, HORIZON + 7, fx + 3.5, HORIZON + 30, (150, 106, 66), 1)
    for fy in (HORIZON + 12, HORIZON + 21):
        pen.box(0, fy, WIDTH, fy + 3, (176, 128, 82))
    for _ in range(24):
        x, y = rng.uniform(0, WIDTH), rng.uniform(HORIZON + 36, HEIGHT)
        pen.line(
            [(x - 2, y - 3), (x, y), (x + 2, y - 3)],
            (206, 218, 228) if white else (148, 160, 74),
            1,
        )


def _barn(pen: Pen, x: float, roof: tuple[int, int, int]) -> None:
    pale, red, foot = (240, 228, 214), (176, 52, 48), HORIZON + 8
    pen.polygon(
        [
            (x, foot),
            (x, HORIZON - 46),
            (x + 35, HORIZON - 72),
            (x + 70, HORIZON - 46),
            (x + 70, foot),
        ],
        red,
    )
    for k in range(1, 7):
        pen.line([(x + k * 10, foot), (x + k * 10, HORIZON - 44)], (158, 44, 42), 0.5)
    pen.line([(x - 5, HORIZON - 44), (x + 35, HORIZON - 73), (x + 75, HORIZON - 44)], roof, 5)
    pen.box(x + 28, HORIZON - 54, x + 42, HORIZON - 40, pale)
    pen.box(x + 30, HORIZON - 52, x + 40, HORIZON - 42, (84, 40, 40))
    pen.box(x + 20, HORIZON - 28, x + 50, foot, pale)
    pen.box(x + 22, HORIZON - 26, x + 48, foot, (196, 74, 64))
    for ends in (
        ((x + 22, HORIZON - 26), (x + 48, foot)),
        ((x + 48, HORIZON - 26), (x + 22, foot)),
    ):
        pen.line(ends, pale, 2)


def _kitchen(pen: Pen, scene: Scene, rng: np.random.Generator) -> None:
    for x in range(0, WIDTH, 20):
        for y in range(60, 120, 20):
            pen.box(
                x + 0.7,
                y + 0.7,
                x + 19.3,
                y + 19.3,
                (214, 232, 228) if (x + y) // 20 % 2 else (240, 244, 238),
            )
    pen.box(0, 120, WIDTH, 154, (150, 102, 68))
    for x in range(-20, WIDTH, 52):
        pen.box(x + 2, 127, x + 48, 150, (190, 136, 92), 2)
        pen.line([(x + 20, 131), (x + 30, 131)], (240, 226, 200), 1.5)
    pen.box(0, 115, WIDTH, 124, (232, 228, 222))
    pen.box(0, 122, WIDTH, 124, (196, 190, 184))
    x = rng.uniform(20, 240)
    pen.box(x, 116, x + 54, 153, (74, 80, 90), 3)
    pen.box(x + 8, 131, x + 46, 147, (232, 150, 70), 2)
    pen.line([(x + 9, 127), (x + 45, 127)], (200, 206, 214), 1.5)
    for k in range(4):
        pen.ellipse(x + 10 + k * 10, 119, x + 14 + k * 10, 123, (214, 218, 224))
    wx = rng.uniform(112, 150)
    for x in (rng.uniform(0, 40), rng.uniform(wx + 62, 250)):
        pen.box(x, 14, x + 64, 52, (166, 116, 78), 2)
        for dx in (2, 33):
            pen.box(x + dx, 16, x + dx + 29, 50, (190, 136, 92), 2)
        for dx in (28, 34):
            pen.ellipse(x + dx, 42, x + dx + 2.5, 45, (240, 226, 200))
    pen.box(wx, 10, wx + 56, 54, (250, 250, 250), 1)
    pen.box(wx + 4, 14, wx + 52, 50, (150, 206, 240))
    pen.pie(wx + 4, 36, wx + 52, 64, 180, 360, (130, 190, 120))
    pen.box(wx, 50, wx + 56, 56, (250, 250, 250))
    pen.line([(wx + 28, 12), (wx + 28, 52)], (250, 250, 250), 2)
    for x in (wx + 2, wx + 54):
        pen.polygon([(wx + 28 + (x - wx - 28) * 0.45, 11), (x, 11), (x, 42)], (236, 120, 104))
    pen.box(0, 154, WIDTH, HEIGHT, (224, 196, 160))
    for x in range(-40, WIDTH + 40, 32):
        pen.line([(x + (x - 160) * 0.5, HEIGHT), (x, 154)], (208, 178, 142), 1)
    for y in (164, 180, 204):
        pen.line([(0, y), (WIDTH, y)], (208, 178, 142), 1)


def _stage(pen: Pen, scene: Scene, rng: np.random.Generator) -> None:
    spots = [x + rng.uniform(-20, 20) for x in (60, 160, 260)]
    for x in spots:
        pen.polygon([(x - 6, 0), (x + 6, 0), (x + 48, 166), (x - 48, 166)], (116, 60, 80))
        pen.polygon([(x - 3, 0), (x + 3, 0), (x + 30, 166), (x - 30, 166)], (136, 78, 92))
    pen.box(0, 160, WIDTH, HEIGHT, (190, 138, 92))
    for x in range(-60, WIDTH + 60, 24):
        pen.line([(x, 160), (x + (x - 160) * 0.5, HEIGHT)], (164, 114, 72), 1)
    for x in spots:
        pen.ellipse(x - 52, 176, x + 52, 216, (208, 160, 110))
    pen.box(0, 158, WIDTH, 162, (120, 76, 48))
    for side in (0, 1):
        for k in range(3):
            x = k * 13 if side == 0 else WIDTH - (k + 1) * 13
            pen.box(x, 0, x + 13, 176 - k * 4, (176, 30, 48) if k % 2 == 0 else (148, 20, 40), 2)
            pen.line(
                [(x + 4, 0), (x + 4, 170 - k * 4)],
                (198, 52, 66) if k % 2 == 0 else (166, 28, 46),
                1,
            )
        x = 2 if side == 0 else WIDTH - 38
        pen.box(x, 104, x + 36, 109, (240, 200, 90), 2)
    for x in spots:
        pen.ellipse(x - 9, 14, x + 9, 30, (255, 240, 180))
    pen.box(0, 0, WIDTH, 12, (148, 20, 40))
    for x in range(0, WIDTH, 32):
        pen.ellipse(x, 2, x + 32, 24, (240, 200, 90))
        pen.ellipse(x, 0, x + 32, 22, (176, 30, 48))


def draw_place(pen: Pen, scene: Scene, rng: np.random.Generator) -> None:
    """The background of a scene on its backdrop."""
    {"kitchen": _kitchen, "stage": _stage}.get(scene.place, _outdoors)(pen, scene, rng)
