"""Colours: told apart whatever one's colour vision, dark enough on white, and ids that can be
read on every box.
"""

from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from colorspacious import cspace_convert, deltaE
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from PIL import Image

from lskd_nb.regions import PUBLISHED, Region, highlight_colors, text_color
from lskd_nb.viewing import pictures, plots

VISION = {
    "usual": None,
    "protanopia": "protanomaly",
    "deuteranopia": "deuteranomaly",
    "tritanopia": "tritanomaly",
}  # severity 100: the -opia
SYSTEMS = list(plots.SYSTEM_COLORS.values())
TOGETHER = [*SYSTEMS, *(color for color, _ in plots.OTHER_COLORS)]


def seen(color: str, kind: str | None) -> np.ndarray:
    rgb = np.array(to_rgb(color))
    return (
        rgb
        if kind is None
        else np.clip(
            cspace_convert(rgb, {"name": "sRGB1+CVD", "cvd_type": kind, "severity": 100}, "sRGB1"),
            0,
            1,
        )
    )


def contrast(one, other) -> float:
    """WCAG 2's contrast ratio of two colours."""
    linear = [
        np.where((c := np.array(to_rgb(color))) <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        for color in (one, other)
    ]
    light, dark = sorted((float(c @ (0.2126, 0.7152, 0.0722)) for c in linear), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(
    "colors, least", [(SYSTEMS, 20), (TOGETHER, 12), ([plots.BLUE, plots.ORANGE, plots.GREEN], 12)]
)
def test_colours_used_together_differ(vision, colors, least):
    close = {
        (a, b): round(float(d), 1)
        for a, b in combinations(colors, 2)
        if (d := deltaE(seen(a, VISION[vision]), seen(b, VISION[vision]), input_space="sRGB1"))
        < least
    }
    assert not close, f"hard to tell apart with {vision}: {close}"


def test_the_measure_finds_what_is_known_to_be_confused():
    """Red and green of equal lightness: far apart for most, close for people with deuteranopia."""
    red, green = "#d0604c", "#8f8f3c"
    far, near = (
        deltaE(seen(red, k), seen(green, k), input_space="sRGB1") for k in (None, "deuteranomaly")
    )
    assert far > 30 and near < 20 and near < 0.5 * far


def test_lines_and_texts_stand_out_from_white():
    assert min(contrast(c, "white") for c in TOGETHER) >= 3  # WCAG 1.4.11, graphics
    assert (
        contrast(plots.INK, "white") >= 4.5 and contrast("white", plots.BLUE) >= 4.5
    )  # the pipeline strip's text on its box
    assert len({dash for _, dash in plots.OTHER_COLORS}) == len(plots.OTHER_COLORS)


def test_colours_of_regions_are_the_published_ones():
    assert PUBLISHED == (
        ("ff05cd20", "05ff37ff"),
        ("ff800020", "99ccffff"),
        ("862d2d20", "cc99ffff"),
        ("ff800020", "f5ad42ff"),
        ("862d2d20", "f55d42ff"),
    )


def test_ids_are_readable_on_the_colour_of_every_box():
    for region in range(60):
        color = [c / 255 for c in highlight_colors(region)[1][:3]]
        assert contrast(text_color(color), color) >= 4.5, f"id {region} on {color}"
    assert all(
        text_color([c / 255 for c in highlight_colors(i)[1][:3]]) == "black" for i in range(5)
    )


EDGES = [
    Region(0, (0, 0, 50, 40)),
    Region(1, (2, 1, 60, 50)),
    Region(2, (300, 0, 320, 30)),
    Region(3, (310, 230, 320, 240)),
    Region(12, (0, 236, 9, 240)),
    Region(5, (100, 100, 200, 200)),
]


@pytest.mark.parametrize("columns", [1, 3])
def test_tags_are_inside_the_picture_apart_and_as_large_as_their_ids(columns):
    image = Image.new("RGB", (320, 240), "white")
    figure = (
        pictures.show_regions(image, EDGES, "edges")
        if columns == 1
        else pictures.image_grid([image] * columns, [EDGES] * columns)
    )
    figure.canvas.draw()
    for ax in figure.axes:
        tags = [p for p in ax.patches if isinstance(p, Rectangle)]
        assert [t.get_text() for t in ax.texts] == ["0", "1", "2", "3", "12", "5"] and len(
            tags
        ) == len(EDGES)
        for tag, text in zip(tags, ax.texts, strict=True):
            x0, y0, x1, y1 = (
                *tag.get_xy(),
                tag.get_x() + tag.get_width(),
                tag.get_y() + tag.get_height(),
            )
            assert x0 >= 0 and y0 >= 0 and x1 <= 320 and y1 <= 240
            assert to_rgb(tag.get_edgecolor()) == (0, 0, 0) and tag.get_linewidth() > 0
            inner, outer = text.get_window_extent(), tag.get_window_extent()
            assert (
                outer.x0 - 1 <= inner.x0
                and inner.x1 <= outer.x1 + 1
                and inner.height <= outer.height + 2
            )
        boxes = [
            (t.get_x(), t.get_y(), t.get_x() + t.get_width(), t.get_y() + t.get_height())
            for t in tags
        ]
        assert not [
            (a, b)
            for a, b in combinations(boxes, 2)
            if min(a[2], b[2]) - max(a[0], b[0]) > 0.01 and min(a[3], b[3]) - max(a[1], b[1]) > 0.01
        ]
    plt.close("all")
