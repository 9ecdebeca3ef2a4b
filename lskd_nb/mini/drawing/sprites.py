"""The animals and things of the world, each drawn inside its box; bold enough to be told apart.

A sprite draws in a unit box, x to the right in the direction the entity faces and y down, both from
0 to 1.
"""

from collections.abc import Callable

from lskd_nb.mini.drawing.canvas import RGB, Pen, Unit, dark
from lskd_nb.mini.drawing.people import draw_person
from lskd_nb.mini.scenes.world import PEOPLE, Entity


def draw_entity(pen: Pen, entity: Entity) -> None:
    """Draw ``entity`` in its box."""
    unit = Unit(pen, entity)
    if entity.kind in PEOPLE:
        draw_person(unit, entity)
    else:
        SPRITES[entity.kind](unit, RGB[entity.color], entity.pose)


# ------------------------------------------------------------------------------------------ animals


def _dog(u, color, pose):
    if pose == "sleeping":
        u.ellipse(0.08, 0.5, 0.8, 1.0, color)
        u.ellipse(0.58, 0.6, 0.98, 0.98, color)
        u.ellipse(0.62, 0.58, 0.76, 0.9, dark(color))
        u.line(
            [(0.8, 0.76), (0.87, 0.79)], (20, 20, 20) if sum(color) > 160 else (250, 250, 250), 0.03
        )
        u.circle(0.95, 0.8, 0.03, (20, 20, 20))
        _zz(u)
        return
    spread = 0.16 if pose == "running" else 0.0
    for x, s in ((0.2, -spread), (0.32, -spread), (0.58, spread), (0.68, spread)):
        u.line([(x, 0.62), (x + s, 0.96)], dark(color, 0.85), 0.08)
    u.ellipse(0.12, 0.36, 0.76, 0.76, color)
    u.line([(0.15, 0.5), (0.03, 0.2 if pose == "running" else 0.34)], color, 0.07)
    u.circle(0.78, 0.32, 0.17, color)
    u.ellipse(0.82, 0.3, 1.0, 0.48, color)
    u.circle(0.97, 0.37, 0.035, (20, 20, 20))
    u.ellipse(0.62, 0.14, 0.76, 0.5, dark(color))
    u.circle(0.82, 0.27, 0.03, (20, 20, 20) if sum(color) > 160 else (250, 250, 250))
    if pose == "running":
        u.ellipse(0.88, 0.44, 0.96, 0.58, (240, 90, 110))


def _cat(u, color, pose):
    if pose == "sleeping":
        u.ellipse(0.1, 0.44, 0.9, 1.0, color)
        u.circle(0.7, 0.74, 0.2, dark(color, 0.9))
        u.polygon([(0.54, 0.62), (0.56, 0.4), (0.68, 0.56)], dark(color))
        u.polygon([(0.72, 0.56), (0.86, 0.4), (0.86, 0.64)], dark(color))
        _zz(u)
        return
    spread = 0.14 if pose == "running" else 0.0
    for x, s in ((0.22, -spread), (0.34, -spread), (0.56, spread), (0.66, spread)):
        u.line([(x, 0.66), (x + s, 0.955)], color, 0.07)
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
        u.line([(x, 0.6), (x + s, 0.955)], dark(color, 0.85), 0.075)
    u.ellipse(0.08, 0.36, 0.76, 0.7, color)
    u.line([(0.1, 0.46), (0.05, 0.74)], mane, 0.08)
    if pose == "eating":
        u.line([(0.68, 0.5), (0.86, 0.82)], color, 0.15)
        u.line([(0.68, 0.44), (0.84, 0.7)], mane, 0.06)
        u.ellipse(0.78, 0.74, 1.0, 0.95, color)
        u.circle(0.86, 0.82, 0.025, (20, 20, 20))
        _grass(u)
    else:
        u.line([(0.66, 0.5), (0.8, 0.18)], color, 0.16)
        u.line([(0.6, 0.44), (0.72, 0.08)], mane, 0.07)
        u.ellipse(0.72, 0.07, 1.0, 0.28, color)
        u.ellipse(0.88, 0.12, 1.0, 0.27, dark(color, 0.85))
        u.polygon([(0.74, 0.12), (0.76, 0.0), (0.82, 0.1)], color)
        u.circle(0.84, 0.15, 0.028, (20, 20, 20) if sum(color) > 160 else (250, 250, 250))


def _cow(u, color, pose):
    patch = (250, 248, 244) if sum(color) < 600 else (60, 50, 50)
    for x in (0.16, 0.28, 0.56, 0.68):
        u.line([(x, 0.64), (x, 0.95)], dark(color, 0.85), 0.09)
    u.box(0.06, 0.26, 0.78, 0.74, color, 0.14)
    u.ellipse(0.16, 0.3, 0.38, 0.54, patch)
    u.ellipse(0.46, 0.42, 0.68, 0.66, patch)
    u.ellipse(0.3, 0.68, 0.46, 0.82, (246, 170, 180))
    dy = 0.36 if pose == "eating" else 0.0
    u.box(0.7, 0.14 + dy, 0.98, 0.52 + dy, color, 0.1)
    u.box(0.74, 0.38 + dy, 1.0, 0.56 + dy, (246, 180, 180), 0.08)
    for x in (0.72, 0.94):
        u.line(
            [(x, 0.16 + dy), (x + (0.03 if x > 0.8 else -0.04), 0.04 + dy)], (236, 226, 196), 0.05
        )
    u.circle(0.84, 0.26 + dy, 0.03, (20, 20, 20))
    if pose == "eating":
        _grass(u)


def _sheep(u, color, pose):
    wool = tuple(min(255, int(c * 1.05) + 6) for c in color)
    face = (60, 54, 54) if sum(color) > 300 else (220, 206, 190)
    for x in (0.24, 0.36, 0.56, 0.66):
        u.line([(x, 0.7), (x, 0.955)], face, 0.07)
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
        u.line([(0.8 + k * 0.055, 0.975), (0.78 + k * 0.07, 0.86)], (60, 200, 60), 0.035)


def _bird(u, color, pose):
    if pose == "flying":
        u.ellipse(0.24, 0.46, 0.8, 0.8, color)
        u.polygon([(0.34, 0.56), (0.1, 0.0), (0.62, 0.5)], dark(color))
        u.polygon([(0.44, 0.56), (0.56, 0.0), (0.72, 0.52)], dark(color, 0.85))
        u.polygon([(0.3, 0.6), (0.0, 0.62), (0.1, 0.8)], dark(color))
    else:
        for x in (0.44, 0.56):
            u.line([(x, 0.78), (x, 0.98)], (240, 150, 40), 0.05)
        u.ellipse(0.2, 0.36, 0.76, 0.84, color)
        u.ellipse(0.24, 0.46, 0.56, 0.74, dark(color))
        u.polygon([(0.28, 0.56), (0.0, 0.74), (0.24, 0.74)], dark(color))
    y = 0.5 if pose == "flying" else 0.3
    u.circle(0.74, y, 0.15, color)
    u.polygon([(0.86, y - 0.06), (1.0, y + 0.02), (0.86, y + 0.1)], (250, 160, 30))
    u.circle(0.77, y - 0.03, 0.035, (230, 30, 30))


# ------------------------------------------------------------------------------------------- things


def _car(u, color, pose):
    u.polygon(
        [(0.16, 0.44), (0.26, 0.1), (0.32, 0.04), (0.68, 0.04), (0.76, 0.1), (0.9, 0.44)], color
    )
    u.polygon([(0.25, 0.42), (0.33, 0.13), (0.49, 0.13), (0.49, 0.42)], (190, 224, 240))
    u.polygon([(0.54, 0.42), (0.54, 0.13), (0.68, 0.13), (0.8, 0.42)], (190, 224, 240))
    u.box(0.0, 0.4, 1.0, 0.84, color, 0.18)
    u.box(0.03, 0.68, 0.97, 0.76, dark(color, 0.82))
    u.box(0.52, 0.5, 0.6, 0.54, dark(color, 0.6))
    u.box(0.92, 0.48, 1.0, 0.6, (255, 240, 150), 0.05)
    u.box(0.0, 0.48, 0.05, 0.6, (190, 30, 30), 0.03)
    for x in (0.22, 0.78):
        u.circle(x, 0.79, 0.12, (30, 30, 34))
        u.circle(x, 0.79, 0.055, (210, 210, 216))


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
    u.polygon([(0.5, 0.02), (0.0, 0.98), (1.0, 0.98)], color)
    u.polygon([(0.5, 0.02), (0.0, 0.98), (0.24, 0.98)], dark(color))
    u.polygon([(0.52, 0.28), (0.38, 0.98), (0.7, 0.98)], (50, 44, 56))
    u.polygon([(0.52, 0.28), (0.7, 0.98), (0.8, 0.98)], dark(color, 0.88))
    u.line([(0.5, 0.06), (0.5, 0.02)], (90, 70, 50), 0.03)


def _bench(u, color, pose):
    for y in (0.06, 0.26):
        u.box(0.02, y, 0.98, y + 0.14, color)
    u.box(0.0, 0.52, 1.0, 0.66, dark(color, 0.85))
    for x in (0.14, 0.86):
        u.box(x - 0.03, 0.08, x + 0.03, 0.985, (50, 50, 56))


def _tree(u, color, pose):
    u.polygon([(0.43, 0.5), (0.57, 0.5), (0.66, 0.99), (0.34, 0.99)], (110, 74, 44))
    u.line([(0.5, 0.66), (0.66, 0.54)], (110, 74, 44), 0.06)
    for x, y, r, c in (
        (0.32, 0.42, 0.3, dark(color, 0.86)),
        (0.7, 0.44, 0.28, dark(color, 0.86)),
        (0.5, 0.2, 0.34, color),
        (0.3, 0.34, 0.28, color),
        (0.7, 0.34, 0.28, color),
        (0.5, 0.42, 0.28, color),
    ):
        u.circle(x, y, r, c)
    for x, y, r in ((0.4, 0.2, 0.14), (0.66, 0.3, 0.09), (0.26, 0.36, 0.08)):
        u.circle(x, y, r, (96, 172, 90))


def _lamp(u, color, pose):
    iron = dark(color, 0.52)
    u.line([(0.5, 0.18), (0.5, 0.95)], iron, 0.13)
    u.box(0.38, 0.7, 0.62, 0.97, iron, 0.05)
    u.box(0.18, 0.955, 0.82, 0.99, iron, 0.05)
    u.polygon([(0.12, 0.06), (0.88, 0.06), (0.7, 0.2), (0.3, 0.2)], (255, 236, 140))
    u.polygon([(0.04, 0.065), (0.96, 0.065), (0.5, 0.0)], iron)
    u.box(0.26, 0.19, 0.74, 0.215, iron)


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
