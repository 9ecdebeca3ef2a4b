"""The people of the world and what they hold, each drawn inside its box in one silhouette per pose.

``head``, ``shoulder``, ``middle`` and ``hip`` are heights in the unit box; ``arm`` draws one from
the shoulder through points.
"""

from collections.abc import Callable

from lskd_nb.mini.drawing.canvas import RGB, Unit, dark
from lskd_nb.mini.scenes.world import Entity

SKIN, HAIR, TROUSERS = (244, 200, 164), (92, 58, 36), (70, 76, 104)
FLUSHED, LIP = (236, 120, 96), (190, 60, 60)
STOOL, SHOE, CAP = (150, 104, 66), (50, 44, 44), (64, 170, 140)


def draw_person(u: Unit, e: Entity) -> None:
    sitting, running = e.pose == "sitting", e.pose == "running"
    top = 0.24 if e.held in ("umbrella", "balloon", "rod") else 0.02
    cx = (
        0.46 if running else 0.5 if e.held in ("", "umbrella", "guitar", "book", "camera") else 0.42
    )
    radius = 0.23 if e.kind == "child" else 0.19
    if e.held in ("suitcase", "broom", "rod", "balloon", "pan", "flowers", "ball"):
        radius *= 0.88
    tall = radius * u.w / u.h  # the radius of the head in shares of the height
    head = top + tall
    neck = head + tall * 0.9
    hip = neck + (1 - neck) * (0.56 if sitting else 0.48)
    lean = 0.08 if running else 0.0
    _legs(u, e, cx, hip)
    if e.kind == "woman":  # long hair falls behind the shoulders
        u.box(
            cx + lean - radius * 1.3,
            head - tall * 0.4,
            cx + lean + radius * 0.35,
            head + tall * 2.5,
            HAIR,
            0.1,
        )
    _torso(u, e, cx, neck, hip, lean)
    _head(u, e.kind, cx + lean, head, radius, tall, e.face)
    _arms_and_held(
        u,
        e,
        cx + lean,
        head,
        neck + 0.03,
        hip,
        dark(RGB[e.color], 0.8) if e.color != "black" else (74, 74, 84),
    )


def _legs(u: Unit, e: Entity, cx: float, hip: float) -> None:
    wears = SKIN if e.kind == "woman" else TROUSERS
    if e.pose == "sitting":
        u.box(cx - 0.24, hip + 0.02, cx + 0.2, hip + 0.075, STOOL, 0.03)
        for x in (cx - 0.18, cx + 0.1):
            u.box(x - 0.03, hip + 0.05, x + 0.03, 0.985, STOOL)
        u.line([(cx - 0.04, hip), (cx + 0.26, hip), (cx + 0.28, 0.93)], wears, 0.15)
        if e.kind == "woman":
            u.box(cx - 0.2, hip - 0.06, cx + 0.37, hip + 0.09, RGB[e.color], 0.08)
        u.ellipse(cx + 0.2, 0.93, cx + 0.44, 0.985, SHOE)
    elif e.pose == "running":
        u.line([(cx, hip), (cx + 0.24, hip + 0.17), (cx + 0.3, 0.94)], wears, 0.13)
        u.ellipse(cx + 0.22, 0.93, cx + 0.46, 0.985, SHOE)
        u.line([(cx, hip), (cx - 0.18, hip + 0.2), (cx - 0.34, hip + 0.24)], wears, 0.13)
        u.ellipse(cx - 0.45, hip + 0.19, cx - 0.32, hip + 0.29, SHOE)
    else:
        for x in (cx - 0.085, cx + 0.085):
            u.line([(x, hip), (x, 0.95)], wears, 0.12)
            u.ellipse(x - 0.09, 0.94, x + 0.13, 0.985, SHOE)


def _torso(u: Unit, e: Entity, cx: float, neck: float, hip: float, lean: float) -> None:
    shirt, half = RGB[e.color], 0.185 if e.kind == "man" else 0.165
    u.box(cx + lean - 0.055, neck - 0.03, cx + lean + 0.055, neck + 0.02, dark(SKIN, 0.9))
    top, waist = neck + 0.03, hip + 0.02
    u.polygon(
        [
            (cx - half + lean, top),
            (cx - half * 0.7 + lean, neck),
            (cx + half * 0.7 + lean, neck),
            (cx + half + lean, top),
            (cx + half, waist),
            (cx - half, waist),
        ],
        shirt,
    )
    if e.kind == "woman" and e.pose != "sitting":
        flare = 0.34 if e.pose == "running" else 0.28
        u.polygon(
            [
                (cx - half * 0.9, hip - 0.08),
                (cx + half * 0.9, hip - 0.08),
                (cx + flare, hip + 0.14),
                (cx - flare, hip + 0.14),
            ],
            shirt,
        )
    elif e.kind == "man":
        u.box(cx - half, hip - 0.005, cx + half, hip + 0.02, dark(TROUSERS, 0.7))


def _head(u: Unit, kind: str, x: float, y: float, radius: float, tall: float, face: str) -> None:
    u.circle(x, y, radius, FLUSHED if face == "angry" else SKIN)
    if kind == "child":
        u.pen.pie(
            *sorted_box(u, x - radius * 1.08, y - tall * 1.08, x + radius * 1.08, y + tall * 0.7),
            180,
            360,
            CAP,
        )
        u.box(x - radius, y - tall * 0.26, x + radius * 1.6, y - tall * 0.06, dark(CAP), 0.02)
    else:
        u.pen.pie(
            *sorted_box(u, x - radius * 1.06, y - tall * 1.08, x + radius * 1.06, y + tall * 0.8),
            180,
            360,
            HAIR,
        )
        u.polygon(
            [
                (x - radius * 1.06, y - tall * 0.2),
                (x - radius * 0.35, y - tall * 0.2),
                (x - radius * 0.5, y + tall * 0.3),
                (x - radius * 0.98, y + tall * (0.7 if kind == "woman" else 0.3)),
            ],
            HAIR,
        )
    u.circle(x + radius * 1.05, y + tall * 0.28, radius * 0.24, dark(SKIN, 0.94))  # the nose
    _face(u, x + radius * 0.42, y, radius, tall, face)


def _face(u: Unit, x: float, y: float, radius: float, tall: float, face: str) -> None:
    """Eyes and mouth, bold enough to be told apart in a small picture; ``x`` is the face's middle,
    which looks to the side that the person faces.
    """
    for dx in (-0.3, 0.36):
        u.circle(x + radius * dx, y + tall * 0.1, radius * 0.15, (40, 30, 30))
    mouth = (x - radius * 0.42, y + tall * 0.3, x + radius * 0.5, y + tall * 0.86)
    if face == "smiling":
        u.pen.pie(*sorted_box(u, *mouth), 0, 180, (255, 255, 255))
        u.pen.pie(*sorted_box(u, mouth[0], mouth[1] + tall * 0.1, mouth[2], mouth[3]), 0, 180, LIP)
        for dx in (-0.6, 0.62):
            u.circle(x + radius * dx, y + tall * 0.42, radius * 0.2, (246, 150, 140))
    elif face == "crying":
        u.pen.pie(
            *sorted_box(u, mouth[0], mouth[1] + tall * 0.2, mouth[2], mouth[3]), 180, 360, LIP
        )
        for dx in (-0.36, 0.42):
            u.box(
                x + radius * (dx - 0.14),
                y + tall * 0.2,
                x + radius * (dx + 0.14),
                y + tall * 0.95,
                (60, 150, 250),
                0.02,
            )
    elif face == "angry":
        for dx, tilt in ((-0.3, 0.16), (0.36, -0.16)):
            u.line(
                [
                    (x + radius * (dx - 0.26), y - tall * (0.16 + tilt)),
                    (x + radius * (dx + 0.26), y - tall * (0.16 - tilt)),
                ],
                (40, 24, 20),
                radius * 0.2,
            )
        u.box(x - radius * 0.34, y + tall * 0.46, x + radius * 0.42, y + tall * 0.66, (90, 20, 20))
    else:
        u.box(x - radius * 0.2, y + tall * 0.5, x + radius * 0.3, y + tall * 0.6, LIP)


def _arms_and_held(
    u: Unit, e: Entity, cx: float, head: float, shoulder: float, hip: float, sleeve
) -> None:
    middle = (shoulder + hip) / 2

    def arm(side: float, *points):
        u.line([(cx + side * 0.16, shoulder), *points], sleeve, 0.1)
        u.circle(*points[-1], 0.055, SKIN)

    if not e.held:
        if e.pose == "waving":
            arm(-1, (cx - 0.24, hip))
            arm(1, (cx + 0.36, shoulder - 0.02), (cx + 0.4, max(head - 0.07, 0.035)))
        elif e.pose == "running":
            arm(-1, (cx - 0.38, middle), (cx - 0.26, hip))
            arm(1, (cx + 0.28, middle + 0.03), (cx + 0.36, shoulder + 0.02))
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
    u.line([(cx + 0.26, middle), (cx + 0.26, 0.06)], (70, 60, 60), 0.04)
    arm(1, (cx + 0.26, middle))
    for x0, x1, color in (
        (0.0, 1.0, (122, 60, 190)),
        (0.17, 0.83, (240, 120, 170)),
        (0.34, 0.66, (122, 60, 190)),
    ):
        u.pen.pie(*sorted_box(u, x0, 0.0, x1, 0.38), 180, 360, color)
    for k, color in enumerate(
        ((122, 60, 190), (240, 120, 170), (122, 60, 190), (240, 120, 170), (122, 60, 190))
    ):
        x0, x1 = ((0.0, 0.17), (0.17, 0.34), (0.34, 0.66), (0.66, 0.83), (0.83, 1.0))[k]
        u.pen.pie(*sorted_box(u, x0, 0.165, x1, 0.215), 0, 180, color)


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
    u.line([(cx + 0.18, middle - 0.02), (cx + 0.54, middle - 0.02)], (255, 240, 220), 0.035)
    u.line(
        [
            (cx + 0.36, middle - 0.02 - 0.18 * u.w / u.h),
            (cx + 0.36, middle - 0.02 + 0.18 * u.w / u.h),
        ],
        (255, 240, 220),
        0.035,
    )


def _book(u, arm, cx, head, shoulder, middle, hip):
    arm(1, (cx + 0.18, middle))
    cover = [(cx - 0.24, middle - 0.05), (cx + 0.05, middle - 0.02), (cx + 0.34, middle - 0.05)]
    cover += [(x, y + 0.15) for x, y in reversed(cover)]
    u.polygon(cover, (24, 84, 170))
    pages = [(cx - 0.2, middle - 0.06), (cx + 0.05, middle - 0.03), (cx + 0.3, middle - 0.06)]
    u.polygon(pages + [(x, y + 0.13) for x, y in reversed(pages)], (255, 255, 246))
    u.line([(cx + 0.05, middle - 0.03), (cx + 0.05, middle + 0.1)], (24, 84, 170), 0.03)


def _rod(u, arm, cx, head, shoulder, middle, hip):
    arm(1, (cx + 0.22, middle))
    u.line([(cx + 0.16, middle + 0.06), (0.95, 0.02)], (90, 60, 30), 0.045)
    u.line([(0.95, 0.02), (0.95, 0.62)], (250, 250, 250), 0.025)
    u.ellipse(0.86, 0.6, 1.0, 0.74, (90, 190, 220))
    u.polygon([(0.93, 0.72), (0.86, 0.79), (1.0, 0.79)], (90, 190, 220))


def _broom(u, arm, cx, head, shoulder, middle, hip):
    u.line([(cx + 0.34, head - 0.06), (cx + 0.4, 0.82)], (160, 110, 60), 0.055)
    u.polygon(
        [(cx + 0.33, 0.78), (cx + 0.46, 0.78), (cx + 0.56, 1.0), (cx + 0.24, 1.0)], (250, 200, 50)
    )
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
    u.polygon(
        [(cx + 0.34, middle + 0.12), (cx + 0.18, middle - 0.08), (cx + 0.52, middle - 0.08)],
        (70, 170, 70),
    )
    blooms = (
        (0.2, -0.1, (250, 90, 150)),
        (0.35, -0.14, (255, 220, 60)),
        (0.5, -0.1, (250, 90, 150)),
        (0.28, -0.05, (255, 160, 210)),
        (0.43, -0.05, (255, 220, 60)),
    )
    for dx, dy, color in blooms:
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
    arm(1, (cx + 0.2, middle + 0.02))
    u.line([(cx + 0.14, middle + 0.02), (cx + 0.3, middle + 0.01)], (30, 30, 34), 0.08)
    u.ellipse(cx + 0.2, middle - 0.07, 0.99, middle + 0.1, (44, 46, 52))
    u.ellipse(cx + 0.25, middle - 0.05, 0.95, middle + 0.075, (255, 255, 250))
    u.circle(cx + 0.39, middle + 0.01, 0.075, (255, 186, 20))


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
