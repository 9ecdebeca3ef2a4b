"""Alt text: every figure becomes an ``<img>`` that says in words what is to be seen.

A figure has the text that ``describe`` gives it. One without gets a text made of its titles, axes,
and where its lines and bars begin and end, so that a figure which somebody draws on the spot has
one too. Pictures are kept small: 256 colours are enough for figures.
"""

import base64
import html
import io
import re
from collections.abc import Iterable

from PIL import Image

PNG_URL = re.compile(r"(?<=data:image/png;base64,)[A-Za-z0-9+/=]+")
MOST = 10  # bars or lines that an automatic text names


def describe(figure, text: str):
    """The figure, with ``text`` in its place for who can't see it (matplotlib's label)."""
    figure.set_label(" ".join(text.split()))
    return figure


def alt_of(figure) -> str:
    """``describe``'s text, or one of titles, axis labels, and the ends of lines and bars."""
    if figure.get_label():
        return figure.get_label()
    panels = [told.removesuffix(".") for ax in figure.axes if (told := _panel(ax))]
    return (
        ". ".join([*filter(None, [figure.get_suptitle()]), *panels])
        or "a figure without titles or labels"
    )


def image_html(figure) -> str | None:
    """A figure as an ``<img>`` with alt text, no wider than the page; None for nothing."""
    from IPython.core.pylabtools import print_figure

    png = print_figure(figure, fmt="png")
    if png is None:
        return None
    png = fewer_colors(png)
    return (
        f'<img alt="{html.escape(alt_of(figure), quote=True)}"'
        f' width="{Image.open(io.BytesIO(png)).width}" style="max-width:100%;height:auto"'
        f' src="data:image/png;base64,{base64.b64encode(png).decode()}"/>'
    )


def fewer_colors(png: bytes) -> bytes:
    """A PNG in 256 colours, where that makes it smaller: a third of the size.

    What is transparent becomes white, as on the page.
    """
    out, image = io.BytesIO(), Image.open(io.BytesIO(png))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return png if out.tell() >= len(png) else out.getvalue()


def fewer_colors_of(encoded: str) -> str:
    """The same of a PNG in base64; what is none stays as it is."""
    try:
        return base64.b64encode(fewer_colors(base64.b64decode(encoded))).decode()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return encoded


def fewer_colors_in(text: str) -> str:
    """The same of all PNGs in the ``data:`` URLs of HTML."""
    return PNG_URL.sub(lambda match: fewer_colors_of(match[0]), text)


def show_with_alt_text() -> None:
    """From now on a notebook shows figures as ``image_html``.

    Does nothing outside of a notebook, or where figures are widgets.
    """
    import matplotlib
    from IPython import get_ipython
    from matplotlib.figure import Figure

    shell = get_ipython()
    if shell is None or "inline" not in matplotlib.get_backend():
        return
    import matplotlib_inline.backend_inline  # noqa: F401 - registers PNG when it is first loaded; afterwards it leaves formats alone
    from IPython.core.pylabtools import select_figure_formats

    select_figure_formats(shell, ())
    shell.display_formatter.formatters["text/html"].for_type(Figure, image_html)


# ----------------------------------------------------------------------------------------- in words


def _panel(ax) -> str:
    title = next((t for loc in ("left", "center", "right") if (t := ax.get_title(loc))), "")
    x, y = ax.get_xlabel(), ax.get_ylabel()
    axes = f"{y} against {x}" if x and y else x or y
    shown = [*_bars(ax), *_lines(ax)]
    more = f"; and {len(shown) - MOST} more" if len(shown) > MOST else ""
    seen = "; ".join(shown[:MOST]) + more
    if ax.get_images():
        title = f"picture: {title}" if title else "a picture"
    return ": ".join(filter(None, [" ".join(title.split()), axes, seen]))


def _lines(ax) -> Iterable[str]:
    for line in ax.get_lines():
        xs, ys = line.get_data(orig=False)
        name = "" if line.get_label().startswith("_") else f"{line.get_label()} "
        # caps of error bars
        if len(ys) == 0 or line.get_linestyle() in ("None", "") and line.get_marker() in ("_", "|"):
            continue
        if len(ys) > 1 and ys[0] != ys[-1]:
            yield f"{name}from {ys[0]:.3g} at {xs[0]:.3g} to {ys[-1]:.3g} at {xs[-1]:.3g}"
        else:
            yield f"{name}at {ys[0]:.3g}"


def _bars(ax) -> Iterable[str]:
    for bars in (c for c in ax.containers if hasattr(c, "orientation")):
        if bars.orientation == "horizontal":
            axis = ax.yaxis
            sizes = [b.get_width() for b in bars]
            places = [(b.get_y(), b.get_height()) for b in bars]
        else:
            axis = ax.xaxis
            sizes = [b.get_height() for b in bars]
            places = [(b.get_x(), b.get_width()) for b in bars]
        middles = [start + width / 2 for start, width in places]
        if len(sizes) > MOST:
            peak = max(range(len(sizes)), key=sizes.__getitem__)
            yield f"{len(sizes)} bars, the highest {sizes[peak]:.3g} at {middles[peak]:.3g}"
            continue
        together = sum(hasattr(c, "orientation") for c in ax.containers)  # bars side by side
        names = [
            _tick_name(axis, start + width / 2, together * abs(width)) for start, width in places
        ]
        yield from (f"{name} {size:.3g}" for name, size in zip(names, sizes, strict=True))


def _tick_name(axis, middle: float, width: float) -> str:
    """What the axis calls a bar: the words at it or at its group of ``width``; where the ticks
    are numbers, its middle.
    """
    from matplotlib.category import StrCategoryFormatter
    from matplotlib.ticker import FixedLocator

    named = isinstance(axis.get_major_formatter(), StrCategoryFormatter)  # categories are 1 apart
    if named or isinstance(axis.get_major_locator(), FixedLocator):
        ticks = [
            (abs(tick - middle), label.get_text())
            for tick, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=False)
        ]
        away, text = min(ticks, default=(float("inf"), ""))
        if text and away < (0.5 if named else 0.49 * width):
            return text
    return f"{middle:.3g}"
