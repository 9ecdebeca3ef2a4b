"""Images with their regions, and triples beside them: each takes data, returns a Figure or HTML.

All texts of a corpus are escaped. Colours of regions are those the models see; what is drawn beside
them, ids and captions, is for people only.
"""

import html
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from lskd_nb.regions import Region, highlight, highlight_colors, mentions, text_color
from lskd_nb.viewing.alt_text import describe
from lskd_nb.viewing.markup import described, mention_html, picture_html, sample_html, triple_html


def show_regions(image: Image.Image, regions: Sequence[Region], title: str = "", ax=None) -> Figure:
    """An image with its regions highlighted, as models see them, and a readable id at a corner
    of each box, always inside the picture.
    """
    if ax is None:
        figure, ax = plt.subplots(figsize=(5.2, 5.2 * image.height / image.width + 0.3))
        describe(
            figure, f"{title}: {described(regions)}" if title else described(regions, "An image")
        )
    ax.imshow(highlight(image, regions))
    figure, (rows, columns) = ax.figure, ax.get_gridspec().get_geometry()
    # in pixels of the image
    point = (
        max(
            image.width * columns / figure.get_figwidth(),
            image.height * rows / figure.get_figheight(),
        )
        / 72
    )
    for region, (x, y, width, height) in zip(
        regions, tag_places(regions, image.size, point), strict=True
    ):
        color = [c / 255 for c in highlight_colors(region.id)[1][:3]]
        ax.add_patch(
            Rectangle((x, y), width, height, facecolor=color, edgecolor="black", lw=0.8, zorder=4)
        )
        ax.text(
            x + width / 2,
            y + height / 2,
            str(region.id),
            fontsize=10,
            fontweight="bold",
            color=text_color(color),
            ha="center",
            va="center_baseline",
            zorder=5,
        )
    ax.set_axis_off()
    if title:
        ax.set_title(title, fontsize=11, loc="left")
    return figure


def tag_places(
    regions: Sequence[Region], size: tuple[int, int], point: float
) -> list[tuple[float, float, float, float]]:
    """Where each region's id goes: x, y, width, height in pixels of an image of ``size``, of which
    ``point`` are a typographic point.

    Above the box's left end, else in the corner; inside the image; and below the tags of other
    regions that are there already.
    """
    placed: list[tuple[float, float, float, float]] = []
    for region in regions:
        width, height = (5 + 7 * len(str(region.id))) * point, 13 * point
        x = min(max(region.box[0], 0), size[0] - width)
        y = min(
            region.box[1] - height if region.box[1] >= height else max(region.box[1], 0),
            size[1] - height,
        )
        while (
            any(abs(x - a) < max(width, w) and abs(y - b) < height for a, b, w, _ in placed)
            and y + 2 * height <= size[1]
        ):
            y += height
        placed.append((x, y, width, height))
    return placed


def image_grid(
    images: Sequence[Image.Image],
    regions: Sequence[Sequence[Region]],
    titles: Sequence[str] = (),
    columns: int = 3,
) -> Figure:
    """Several highlighted images side by side."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.6 * columns, 3.0 * rows), squeeze=False)
    for number, ax in enumerate(axes.flat):
        ax.set_axis_off()
        if number < len(images):
            show_regions(
                images[number], regions[number], titles[number] if number < len(titles) else "", ax
            )
    told = [
        (f"{titles[n]}: " if n < len(titles) else "") + described(r) for n, r in enumerate(regions)
    ]
    return describe(figure, f"{len(images)} images. " + "; ".join(told))


def side_by_side(pictures: Mapping[str, Image.Image], told: str) -> Figure:
    """Pictures beside each other, each under its name; ``told`` says in words what they show."""
    figure, axes = plt.subplots(1, len(pictures), figsize=(3.5 * len(pictures), 3.2), squeeze=False)
    for ax, (name, picture) in zip(axes[0], pictures.items(), strict=True):
        ax.imshow(picture)
        ax.set_title(name, fontsize=11, loc="left")
        ax.set_axis_off()
    return describe(figure, told)


def triples_html(
    image: Image.Image,
    regions: Sequence[Region],
    triples: Sequence[Mapping],
    told: Sequence[str] = (),
    what: str = "an image",
) -> str:
    """Triples beside the image they point into.

    ``told`` is their HTML, one each, where more is to be said than their texts; ``what`` names the
    image for who can't see it.
    """
    texts = [t[part] for t in triples for part in ("question", "answer", "rationale")]
    picture = picture_html(image, regions, described(regions, what), texts, width=360)
    return sample_html(picture, "<hr/>".join(told or map(triple_html, triples)))


def choices_html(
    image: Image.Image,
    regions: Sequence[Region],
    question: str,
    choices: Sequence[str],
    notes: Mapping[int | None, str],
) -> str:
    """A question with its choices beside the image, the regions highlighted that they mention.

    ``notes`` are put beside choices, by their number.
    """
    texts = [question, *choices]
    drawn = [r for r in regions if r.id in mentions(" ".join(texts))]
    lines = [f"<b>{mention_html(question)}</b>"] + [
        f"{mention_html(choice)} <small style='opacity:.7'>{html.escape(notes.get(n, ''))}</small>"
        for n, choice in enumerate(choices)
    ]
    picture = picture_html(image, drawn, described(drawn), texts, width=360)
    return sample_html(picture, "<br/>".join(lines))


def request_html(messages: Sequence[Mapping[str, str]]) -> str:
    """The messages of a request to a teacher, each folded under its role."""
    fold = (
        "<details><summary>{}</summary>"
        "<div style='white-space:pre-wrap;margin:4px 16px'>{}</div></details>"
    )
    return "".join(
        fold.format(html.escape(m["role"]), mention_html(m["content"])) for m in messages
    )
