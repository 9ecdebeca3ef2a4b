"""The people, animals and things of the world, each drawn inside its box; bold enough to be told apart at 112 pixels.

A sprite draws in a unit box, x to the right in the direction the entity faces and y down, both from 0 to 1.
"""

from collections.abc import Callable

from lskd_nb.mini.world import PEOPLE, Entity

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
SKIN, HAIR, TROUSERS = (244, 200, 164), (92, 58, 36), (70, 76, 104)


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


def draw_entity(pen, entity: Entity) -> None:
    """Draw ``entity`` in its box."""
    unit = Unit(pen, entity)
    if entity.kind in PEOPLE:
        _person(unit, entity)
    else:
        SPRITES[entity.kind](unit, RGB[entity.color], entity.pose)


# ------------------------------------------------------------------------------------------------ people


def _person(u: Unit, e: Entity) -> None:
    shirt, child = RGB[e.color], e.kind == "child"
    top = 0.24 if e.held in ("umbrella", "balloon", "rod") else 0.02
    cx = 0.5 if e.held in ("", "umbrella", "guitar", "book", "camera") else 0.42
    radius = 0.19 if child else 0.155
    if e.held in ("suitcase", "broom", "rod", "balloon", "pan", "flowers", "ball"):
        radius *= 0.88
    head = top + radius * u.w / u.h
    neck = head + radius * u.w / u.h * 0.9
    sitting, running = e.pose == "sitting", e.pose == "running"
    hip = neck + (1 - neck) * (0.56 if sitting else 0.48)
    half = 0.17
    if running:
        cx = 0.46
    dark = tuple(int(c * 0.8) for c in shirt)
    if sitting:
        u.box(cx - 0.22, hip, cx + 0.24, hip + 0.06, (150, 104, 66), 0.03)
        u.line([(cx - 0.16, hip + 0.05), (cx - 0.16, 0.99)], (150, 104, 66), 0.06)
        u.line([(cx - 0.04, hip), (cx + 0.26, hip), (cx + 0.28, 0.97)], TROUSERS if e.kind != "woman" else dark, 0.15)
        u.ellipse(cx + 0.2, 0.94, cx + 0.42, 1.0, (50, 44, 44))
    elif running:
        u.line([(cx, hip), (cx + 0.24, hip + 0.17), (cx + 0.3, 0.97)], TROUSERS, 0.13)
        u.line([(cx, hip), (cx - 0.2, hip + 0.2), (cx - 0.42, hip + 0.24)], TROUSERS, 0.13)
    else:
        for x in (cx - 0.085, cx + 0.085):
            u.line([(x, hip), (x, 0.97)], SKIN if e.kind == "woman" else TROUSERS, 0.12)
            u.ellipse(x - 0.09, 0.95, x + 0.12, 1.0, (50, 44, 44))
    lean = 0.08 if running else 0.0
    hx = cx + lean
    if e.kind == "woman":
        u.ellipse(hx - radius * 1.25, head - radius * u.w / u.h * 1.2, hx + radius * 0.9, head + radius * u.w / u.h * 2.4, HAIR)
    if e.kind == "woman" and not sitting and not running:
        u.polygon([(cx - half * 0.8, neck), (cx + half * 0.8, neck), (cx + 0.28, hip + 0.14), (cx - 0.28, hip + 0.14)], shirt)
    u.polygon([(cx - half + lean, neck), (cx + half + lean, neck), (cx + half, hip + 0.02), (cx - half, hip + 0.02)], shirt)
    u.circle(hx, head, radius, SKIN)
    if e.kind == "man":
        u.polygon(
            [
                (hx - radius, head),
                (hx - radius, head - radius * u.w / u.h),
                (hx + radius, head - radius * u.w / u.h),
                (hx + radius * 0.9, head - 0.02),
                (hx, head - 0.035),
            ],
            HAIR,
        )
    elif e.kind == "woman":
        u.polygon(
            [
                (hx - radius, head + 0.01),
                (hx - radius * 0.8, head - radius * u.w / u.h * 1.1),
                (hx + radius, head - radius * u.w / u.h),
                (hx + radius * 0.6, head - 0.03),
            ],
            HAIR,
        )
    else:
        u.polygon(
            [
                (hx - radius * 1.05, head - 0.01),
                (hx - radius * 0.8, head - radius * u.w / u.h * 1.05),
                (hx + radius * 0.8, head - radius * u.w / u.h * 1.05),
                (hx + radius * 1.05, head - 0.01),
                (hx + radius * 1.7, head + 0.005),
            ],
            (64, 170, 140),
        )
    u.circle(hx + radius * 0.4, head + 0.005, radius * 0.14, (40, 30, 30))
    shoulder = neck + 0.03
    _arms_and_held(u, e, hx, head, shoulder, hip, dark)


def _arms_and_held(u: Unit, e: Entity, cx: float, head: float, shoulder: float, hip: float, sleeve) -> None:
    middle = (shoulder + hip) / 2

    def arm(side: float, *points):
        u.line([(cx + side * 0.16, shoulder), *points], sleeve, 0.1)
        u.circle(*points[-1], 0.055, SKIN)

    if not e.held:
        if e.pose == "waving":
            arm(-1, (cx - 0.24, hip))
            arm(1, (cx + 0.36, shoulder - 0.02), (cx + 0.4, max(head - 0.06, 0.04)))
        elif e.pose == "running":
            arm(-1, (cx - 0.32, middle), (cx - 0.2, hip))
            arm(1, (cx + 0.34, middle + 0.03), (cx + 0.42, shoulder + 0.02))
        elif e.pose == "sitting":
            arm(-1, (cx - 0.1, hip - 0.01))
            arm(1, (cx + 0.24, hip - 0.02))
        else:
            arm(-1, (cx - 0.22, hip))
            arm(1, (cx + 0.22, hip))
        return
    arm(-1, (cx - 0.2, hip - 0.02))
    HELD_SPRITES[e.held](u, arm, cx, head, shoulder, middle, hip)


def _umbrella(u, arm, cx, head, shoulder, middle, hip):
    u.line([(cx + 0.26, middle), (cx + 0.26, 0.04)], (70, 60, 60), 0.04)
    arm(1, (cx + 0.26, middle))
    u.pen.pie(*sorted_box(u, 0.0, 0.0, 1.0, 0.36), 180, 360, (122, 60, 190))
    u.pen.pie(*sorted_box(u, 0.3, 0.0, 0.7, 0.36), 180, 360, (190, 130, 236))


def sorted_box(u: Unit, x0, y0, x1, y1) -> tuple[float, float, float, float]:
    (ax, ay), (bx, by) = u.at(x0, y0), u.at(x1, y1)
    return min(ax, bx), min(ay, by), max(ax, bx), max(ay, by)


def _guitar(u, arm, cx, head, shoulder, middle, hip):
    u.line([(cx - 0.1, hip - 0.03), (cx + 0.46, shoulder - 0.01)], (84, 48, 24), 0.07)
    u.circle(cx - 0.16, hip - 0.005, 0.2, (206, 120, 40))
    u.circle(cx + 0.0, middle + 0.05, 0.15, (206, 120, 40))
    u.circle(cx - 0.1, hip - 0.03, 0.07, (60, 34, 20))
    arm(1, (cx + 0.34, shoulder + 0.04))


def _ball(u, arm, cx, head, shoulder, middle, hip):
    arm(1, (cx + 0.3, middle))
    u.circle(cx + 0.36, middle - 0.02, 0.2, (255, 128, 20))
    u.line([(cx + 0.2, middle - 0.02), (cx + 0.52, middle - 0.02)], (255, 240, 220), 0.04)


def _book(u, arm, cx, head, shoulder, middle, hip):
    arm(1, (cx + 0.18, middle))
    u.polygon(
        [
            (cx - 0.24, middle - 0.05),
            (cx + 0.05, middle - 0.02),
            (cx + 0.34, middle - 0.05),
            (cx + 0.34, middle + 0.1),
            (cx + 0.05, middle + 0.13),
            (cx - 0.24, middle + 0.1),
        ],
        (20, 120, 130),
    )
    u.polygon(
        [
            (cx - 0.2, middle - 0.06),
            (cx + 0.05, middle - 0.03),
            (cx + 0.3, middle - 0.06),
            (cx + 0.3, middle + 0.07),
            (cx + 0.05, middle + 0.1),
            (cx - 0.2, middle + 0.07),
        ],
        (255, 255, 246),
    )
    u.line([(cx + 0.05, middle - 0.03), (cx + 0.05, middle + 0.1)], (20, 120, 130), 0.03)


def _rod(u, arm, cx, head, shoulder, middle, hip):
    arm(1, (cx + 0.22, middle))
    u.line([(cx + 0.16, middle + 0.06), (0.95, 0.02)], (90, 60, 30), 0.045)
    u.line([(0.95, 0.02), (0.95, 0.62)], (250, 250, 250), 0.02)
    u.ellipse(0.86, 0.6, 1.0, 0.74, (90, 190, 220))
    u.polygon([(0.93, 0.72), (0.86, 0.79), (1.0, 0.79)], (90, 190, 220))


def _broom(u, arm, cx, head, shoulder, middle, hip):
    u.line([(cx + 0.34, head - 0.06), (cx + 0.4, 0.82)], (160, 110, 60), 0.055)
    u.polygon([(cx + 0.33, 0.78), (cx + 0.46, 0.78), (cx + 0.56, 1.0), (cx + 0.24, 1.0)], (250, 200, 50))
    arm(1, (cx + 0.35, middle))


def _balloon(u, arm, cx, head, shoulder, middle, hip):
    u.line([(cx + 0.28, middle), (0.8, 0.3)], (240, 240, 240), 0.025)
    u.ellipse(0.6, 0.0, 1.0, 0.3, (232, 30, 60))
    u.ellipse(0.68, 0.04, 0.78, 0.12, (255, 170, 180))
    arm(1, (cx + 0.28, middle))


def _suitcase(u, arm, cx, head, shoulder, middle, hip):
    arm(1, (cx + 0.32, hip + 0.02))
    u.box(cx + 0.22, hip + 0.03, cx + 0.4, hip + 0.1, (60, 40, 30))
    u.box(cx + 0.1, hip + 0.07, min(cx + 0.56, 1.0), 0.99, (132, 74, 36), 0.06)
    u.box(cx + 0.1, hip + 0.18, min(cx + 0.56, 1.0), hip + 0.22, (236, 196, 120))


def _flowers(u, arm, cx, head, shoulder, middle, hip):
    u.polygon([(cx + 0.34, middle + 0.12), (cx + 0.18, middle - 0.08), (cx + 0.52, middle - 0.08)], (70, 170, 70))
    for dx, dy, color in (
        (0.2, -0.1, (250, 90, 150)),
        (0.35, -0.14, (255, 220, 60)),
        (0.5, -0.1, (250, 90, 150)),
        (0.28, -0.05, (255, 160, 210)),
        (0.43, -0.05, (250, 250, 250)),
    ):
        u.circle(cx + dx, middle + dy, 0.09, color)
    arm(1, (cx + 0.33, middle + 0.09))


def _camera(u, arm, cx, head, shoulder, middle, hip):
    arm(1, (cx + 0.3, middle - 0.02))
    y = middle - 0.03
    u.box(cx - 0.08, y - 0.07, cx + 0.42, y + 0.1, (24, 24, 28), 0.05)
    u.circle(cx + 0.18, y + 0.015, 0.13, (220, 236, 248))
    u.circle(cx + 0.18, y + 0.015, 0.08, (40, 120, 200))
    u.box(cx + 0.3, y - 0.1, cx + 0.4, y - 0.05, (255, 250, 200))


def _pan(u, arm, cx, head, shoulder, middle, hip):
    arm(1, (cx + 0.24, middle + 0.02))
    u.line([(cx + 0.2, middle + 0.02), (cx + 0.32, middle + 0.02)], (60, 60, 66), 0.06)
    u.ellipse(cx + 0.24, middle - 0.06, min(cx + 0.58, 1.0), middle + 0.09, (52, 54, 60))
    u.ellipse(cx + 0.29, middle - 0.045, min(cx + 0.54, 0.97), middle + 0.06, (255, 255, 250))
    u.circle(cx + 0.42, middle + 0.005, 0.065, (255, 196, 20))


HELD_SPRITES: dict[str, Callable] = dict(
    umbrella=_umbrella,
    guitar=_guitar,
    ball=_ball,
    book=_book,
    rod=_rod,
    broom=_broom,
    balloon=_balloon,
    suitcase=_suitcase,
    flowers=_flowers,
    camera=_camera,
    pan=_pan,
)


# ----------------------------------------------------------------------------------------------- animals


def _dark(color, share=0.75):
    return tuple(int(c * share) for c in color)


def _dog(u, color, pose):
    if pose == "sleeping":
        u.ellipse(0.08, 0.5, 0.8, 1.0, color)
        u.ellipse(0.58, 0.6, 0.98, 0.98, color)
        u.ellipse(0.62, 0.58, 0.76, 0.9, _dark(color))
        u.line([(0.84, 0.78), (0.92, 0.78)], (20, 20, 20), 0.03)
        _zz(u)
        return
    spread = 0.16 if pose == "running" else 0.0
    for x, s in ((0.2, -spread), (0.32, -spread), (0.58, spread), (0.68, spread)):
        u.line([(x, 0.62), (x + s, 0.96)], _dark(color, 0.85), 0.08)
    u.ellipse(0.12, 0.36, 0.76, 0.76, color)
    u.line([(0.15, 0.5), (0.03, 0.2 if pose == "running" else 0.34)], color, 0.07)
    u.circle(0.78, 0.32, 0.17, color)
    u.ellipse(0.82, 0.3, 1.0, 0.48, color)
    u.circle(0.97, 0.37, 0.035, (20, 20, 20))
    u.ellipse(0.62, 0.14, 0.76, 0.5, _dark(color))
    u.circle(0.82, 0.27, 0.028, (20, 20, 20))
    if pose == "running":
        u.ellipse(0.88, 0.44, 0.96, 0.58, (240, 90, 110))


def _cat(u, color, pose):
    if pose == "sleeping":
        u.ellipse(0.1, 0.44, 0.9, 1.0, color)
        u.circle(0.7, 0.74, 0.2, _dark(color, 0.9))
        u.polygon([(0.54, 0.62), (0.56, 0.4), (0.68, 0.56)], _dark(color))
        u.polygon([(0.72, 0.56), (0.86, 0.4), (0.86, 0.64)], _dark(color))
        _zz(u)
        return
    spread = 0.14 if pose == "running" else 0.0
    for x, s in ((0.22, -spread), (0.34, -spread), (0.56, spread), (0.66, spread)):
        u.line([(x, 0.66), (x + s, 0.97)], color, 0.07)
    u.ellipse(0.14, 0.44, 0.72, 0.8, color)
    u.line([(0.16, 0.6), (0.05, 0.4), (0.1, 0.08)], color, 0.07)
    u.circle(0.76, 0.4, 0.2, color)
    u.polygon([(0.58, 0.3), (0.6, 0.02), (0.74, 0.2)], color)
    u.polygon([(0.78, 0.2), (0.93, 0.02), (0.94, 0.3)], color)
    for x in (0.71, 0.83):
        u.circle(x, 0.38, 0.035, (120, 210, 60))
    u.polygon([(0.75, 0.46), (0.81, 0.46), (0.78, 0.52)], (240, 130, 140))


def _zz(u):
    for x, y, s in ((0.62, 0.3, 0.16), (0.82, 0.06, 0.14)):
        u.line([(x, y), (x + s, y), (x, y + s * 1.1), (x + s, y + s * 1.1)], (90, 110, 230), 0.045)


def _horse(u, color, pose):
    spread = 0.14 if pose == "running" else 0.0
    mane = (240, 214, 150) if sum(color) < 330 else (90, 60, 40)
    for x, s in ((0.16, -spread), (0.28, -spread * 0.4), (0.58, spread * 0.4), (0.68, spread)):
        u.line([(x, 0.6), (x + s, 0.97)], _dark(color, 0.85), 0.075)
    u.ellipse(0.08, 0.36, 0.76, 0.7, color)
    u.line([(0.1, 0.46), (0.02, 0.74)], mane, 0.08)
    if pose == "eating":
        u.line([(0.68, 0.5), (0.86, 0.82)], color, 0.15)
        u.line([(0.68, 0.44), (0.84, 0.7)], mane, 0.06)
        u.ellipse(0.78, 0.74, 1.0, 0.96, color)
        _grass(u)
    else:
        u.line([(0.66, 0.5), (0.8, 0.18)], color, 0.16)
        u.line([(0.6, 0.44), (0.72, 0.08)], mane, 0.07)
        u.ellipse(0.72, 0.08, 1.0, 0.28, color)
        u.polygon([(0.74, 0.12), (0.76, 0.0), (0.82, 0.1)], color)
        u.circle(0.84, 0.15, 0.025, (20, 20, 20))


def _cow(u, color, pose):
    patch = (250, 248, 244) if sum(color) < 600 else (60, 50, 50)
    for x in (0.16, 0.28, 0.56, 0.68):
        u.line([(x, 0.64), (x, 0.97)], _dark(color, 0.85), 0.09)
    u.box(0.06, 0.26, 0.78, 0.74, color, 0.14)
    u.ellipse(0.16, 0.3, 0.38, 0.54, patch)
    u.ellipse(0.46, 0.42, 0.68, 0.66, patch)
    u.ellipse(0.3, 0.68, 0.46, 0.82, (246, 170, 180))
    dy = 0.36 if pose == "eating" else 0.0
    u.box(0.7, 0.14 + dy, 0.98, 0.52 + dy, color, 0.1)
    u.box(0.74, 0.38 + dy, 1.0, 0.56 + dy, (246, 180, 180), 0.08)
    for x in (0.72, 0.94):
        u.line([(x, 0.16 + dy), (x + (0.03 if x > 0.8 else -0.04), 0.04 + dy)], (236, 226, 196), 0.05)
    u.circle(0.84, 0.26 + dy, 0.03, (20, 20, 20))
    if pose == "eating":
        _grass(u)


def _sheep(u, color, pose):
    wool = tuple(min(255, int(c * 1.05) + 6) for c in color)
    face = (60, 54, 54) if sum(color) > 300 else (220, 206, 190)
    for x in (0.24, 0.36, 0.56, 0.66):
        u.line([(x, 0.7), (x, 0.97)], face, 0.07)
    for x, y in ((0.22, 0.44), (0.4, 0.34), (0.58, 0.42), (0.24, 0.62), (0.44, 0.62), (0.62, 0.6)):
        u.circle(x, y, 0.19, wool)
    dy = 0.34 if pose == "eating" else 0.0
    u.ellipse(0.7, 0.22 + dy, 0.98, 0.62 + dy, face)
    u.ellipse(0.66, 0.16 + dy, 0.88, 0.34 + dy, wool)
    u.circle(0.87, 0.36 + dy, 0.03, (255, 255, 255))
    if pose == "eating":
        _grass(u)


def _grass(u):
    for k in range(4):
        u.line([(0.8 + k * 0.06, 1.0), (0.78 + k * 0.07, 0.86)], (60, 200, 60), 0.035)


def _bird(u, color, pose):
    if pose == "flying":
        u.ellipse(0.24, 0.46, 0.8, 0.8, color)
        u.polygon([(0.34, 0.56), (0.1, 0.0), (0.62, 0.5)], _dark(color))
        u.polygon([(0.44, 0.56), (0.56, 0.0), (0.72, 0.52)], _dark(color, 0.85))
        u.polygon([(0.3, 0.6), (0.0, 0.62), (0.1, 0.8)], _dark(color))
    else:
        for x in (0.44, 0.56):
            u.line([(x, 0.78), (x, 0.98)], (240, 150, 40), 0.05)
        u.ellipse(0.2, 0.36, 0.76, 0.84, color)
        u.ellipse(0.24, 0.46, 0.56, 0.74, _dark(color))
        u.polygon([(0.28, 0.56), (0.0, 0.74), (0.24, 0.74)], _dark(color))
    y = 0.5 if pose == "flying" else 0.3
    u.circle(0.74, y, 0.15, color)
    u.polygon([(0.86, y - 0.06), (1.0, y + 0.02), (0.86, y + 0.1)], (250, 160, 30))
    u.circle(0.77, y - 0.03, 0.035, (230, 30, 30))


# ------------------------------------------------------------------------------------------------ things


def _car(u, color, pose):
    u.polygon([(0.2, 0.42), (0.32, 0.08), (0.7, 0.08), (0.84, 0.42)], color)
    u.polygon([(0.27, 0.42), (0.36, 0.15), (0.49, 0.15), (0.49, 0.42)], (190, 224, 240))
    u.polygon([(0.53, 0.42), (0.53, 0.15), (0.67, 0.15), (0.77, 0.42)], (190, 224, 240))
    u.box(0.0, 0.4, 1.0, 0.82, color, 0.12)
    u.box(0.93, 0.48, 1.0, 0.58, (255, 240, 150))
    for x in (0.22, 0.78):
        u.circle(x, 0.82, 0.115, (30, 30, 34))
        u.circle(x, 0.82, 0.05, (200, 200, 206))


def _bicycle(u, color, pose):
    for x in (0.22, 0.78):
        u.circle(x, 0.68, 0.2, None, (30, 30, 34), 2.2)
    u.line([(0.22, 0.68), (0.42, 0.3), (0.7, 0.3), (0.5, 0.68), (0.22, 0.68)], color, 0.055)
    u.line([(0.42, 0.3), (0.5, 0.68)], color, 0.055)
    u.line([(0.78, 0.68), (0.68, 0.14), (0.82, 0.1)], color, 0.055)
    u.line([(0.34, 0.2), (0.5, 0.2)], (40, 30, 30), 0.06)


def _boat(u, color, pose):
    u.line([(0.46, 0.02), (0.46, 0.7)], (110, 74, 44), 0.05)
    u.polygon([(0.5, 0.04), (0.92, 0.6), (0.5, 0.6)], (250, 250, 250))
    u.polygon([(0.42, 0.14), (0.42, 0.6), (0.14, 0.6)], (230, 230, 236))
    u.polygon([(0.0, 0.68), (1.0, 0.68), (0.84, 1.0), (0.16, 1.0)], color)
    u.line([(0.04, 0.74), (0.96, 0.74)], (40, 40, 60), 0.025)


def _tent(u, color, pose):
    u.polygon([(0.5, 0.02), (0.0, 1.0), (1.0, 1.0)], color)
    u.polygon([(0.5, 0.02), (0.0, 1.0), (0.24, 1.0)], _dark(color))
    u.polygon([(0.52, 0.3), (0.38, 1.0), (0.7, 1.0)], (50, 44, 56))


def _bench(u, color, pose):
    for y in (0.06, 0.26):
        u.box(0.02, y, 0.98, y + 0.14, color)
    u.box(0.0, 0.52, 1.0, 0.66, _dark(color, 0.85))
    for x in (0.14, 0.86):
        u.line([(x, 0.1), (x, 0.98)], (50, 50, 56), 0.06)


def _tree(u, color, pose):
    u.polygon([(0.42, 0.5), (0.58, 0.5), (0.64, 1.0), (0.36, 1.0)], (110, 74, 44))
    for x, y, r in ((0.5, 0.2, 0.34), (0.3, 0.36, 0.3), (0.7, 0.36, 0.3), (0.5, 0.46, 0.32)):
        u.circle(x, y if y > 0.2 else 0.2, r, color)
    u.circle(0.4, 0.24, 0.14, (96, 172, 90))


def _lamp(u, color, pose):
    u.line([(0.5, 0.16), (0.5, 0.97)], (70, 74, 84), 0.14)
    u.box(0.2, 0.95, 0.8, 1.0, (70, 74, 84))
    u.polygon([(0.2, 0.04), (0.8, 0.04), (0.7, 0.18), (0.3, 0.18)], (255, 236, 140))
    u.polygon([(0.1, 0.05), (0.9, 0.05), (0.5, 0.0)], (70, 74, 84))


SPRITES: dict[str, Callable] = dict(
    dog=_dog,
    cat=_cat,
    horse=_horse,
    cow=_cow,
    sheep=_sheep,
    bird=_bird,
    car=_car,
    bicycle=_bicycle,
    boat=_boat,
    tent=_tent,
    bench=_bench,
    tree=_tree,
    lamp=_lamp,
)
