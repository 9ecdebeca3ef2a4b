"""Corpus texts and highlighted images as HTML that needs no script, for widgets and for files.

A mention in the text has the colour of its box. Point at one, or move to it with the tab key, and
the image goes dark but for the regions it names; point at a box, and its mentions are framed. Style
rules do that (``:has``), so it works in a widget, in a saved notebook, in a built book. Everything
that comes from a corpus is escaped.
"""

import base64
import hashlib
import html
import io
import re
from collections.abc import Mapping, Sequence

from PIL import Image

from lskd_nb.regions import (
    MENTION,
    Region,
    highlight,
    highlight_colors,
    pixel_box,
    resize_regions,
    text_color,
)

# no image has a million regions: longer numbers have no colour
_MENTION = re.compile(MENTION.pattern.replace(r"\d+", r"\d{1,6}"))
TALLEST = 900  # pixels
KEPT_COLOR, DROPPED_COLOR = "#0072b2", "#d55e00"  # told apart with any kind of colour blindness
STYLE = """
.loc-sample{display:flex;flex-wrap:wrap;gap:4px 18px;align-items:flex-start;\
font-family:system-ui,sans-serif}
.loc-texts{flex:1 1 22em;max-width:44em;font-size:14px;line-height:1.5}
.loc-picture{position:relative;flex:none;line-height:0;max-width:100%}
.loc-picture img{max-width:100%;height:auto;margin:0!important}
.loc-picture svg{position:absolute;left:0;top:0;width:100%;height:100%}
.loc-mention{border-radius:3px;padding:0 3px;cursor:default;white-space:nowrap}
.loc-spot{opacity:0;transition:opacity .12s;pointer-events:none}
.loc-tag{pointer-events:none}
.loc-quiet{opacity:.72;font-size:12px}
.loc-line{margin:2px 0;display:flex}.loc-line>span:first-child{opacity:.72;flex:none;width:6em}
.loc-words{white-space:pre-wrap;font:12px/1.5 ui-monospace,monospace;margin:4px 0}
"""


def mention_html(text: str) -> str:
    """Text, escaped, with each mention on the colour of its first region.

    ``picture_html`` beside it lights what is pointed at.

    >>> shown = mention_html("Is [0, 1] < 3?")
    >>> shown[:36], shown[-18:]
    ('Is <b class="loc-mention s0-1 r0 r1"', '[0, 1]</b> &lt; 3?')
    """

    def colored(match: re.Match) -> str:
        ids = [int(i) for i in match[1].split(",")]
        color, ink = _tag_colors(ids[0])
        classes = " ".join(["loc-mention", _spot(ids), *(f"r{i}" for i in ids)])
        return (
            f'<b class="{classes}" tabindex="0" style="background:{color};color:{ink};'
            f'border-radius:3px;padding:0 3px">{match[0]}</b>'
        )

    return _MENTION.sub(colored, html.escape(text))


def triple_html(row: Mapping) -> str:
    """Question, answer and rationale of a row, mentions coloured like their boxes."""
    lines = "".join(
        line_html(name, mention_html(row[name])) for name in ("question", "answer", "rationale")
    )
    return f'<div style="font-size:14px;line-height:1.5">{lines}</div>'


def line_html(name: str, shown: str) -> str:
    """One line of a sample: its name, then ``shown``, which is HTML."""
    return (
        '<div class="loc-line" style="margin:2px 0;display:flex">'
        f'<span style="opacity:.72;flex:none;width:6em">{html.escape(name)}</span>'
        f"<span>{shown}</span></div>"
    )


def picture_html(
    image: Image.Image,
    regions: Sequence[Region],
    alt: str,
    texts: Sequence[str] = (),
    width: int = 420,
) -> str:
    """An image with its regions drawn as models see them, and their ids, which models don't.

    ``width`` is in pixels.

    ``texts`` are those whose mentions light up regions; put them beside this, both inside
    ``sample_html``.
    """
    # a narrow image is shown narrower, not taller than a page
    width = max(min(width, round(TALLEST * image.width / image.height)), 1)
    size = (width, max(round(width * image.height / image.width), 1))
    small = resize_regions(regions, image.size, size)
    drawn = highlight(image.convert("RGB").resize(size, Image.Resampling.LANCZOS), small)
    groups = {
        tuple(int(i) for i in match[1].split(","))
        for text in texts
        for match in _MENTION.finditer(text)
    }
    known = {r.id: pixel_box(r.box, *size) for r in small}
    lit = sorted(ids for ids in groups | {(i,) for i in known} if set(ids) <= set(known))
    name = hashlib.sha256(repr((size, sorted(known.items()), lit)).encode()).hexdigest()[:8]
    boxes = "".join(_box(r, size) for r in sorted(small, key=lambda r: -_area(r)))
    overlay = "".join(_spotlight(name, ids, known, size) for ids in lit) + boxes
    rules = "".join(_rules(ids) for ids in lit)
    return (
        f'<style>{STYLE}{rules}</style><div class="loc-picture" style="width:{size[0]}px"><img'
        f' alt="{html.escape(alt, quote=True)}" width="{size[0]}" src="{data_url(drawn)}"/><svg'
        f' viewBox="0 0 {size[0]} {size[1]}" aria-hidden="true">{overlay}</svg></div>'
    )


def sample_html(picture: str, texts: str) -> str:
    """A picture and the HTML about it, side by side where there is room.

    Pointing in one lights the other.
    """
    return f'<div class="loc-sample">{picture}<div class="loc-texts">{texts}</div></div>'


def described(image_regions: Sequence[Region], what: str = "an image") -> str:
    """Words in place of a highlighted picture, for who can't see it.

    >>> described([Region(0, (5, 5, 60, 90), "dog")])
    'an image with dog as [0] highlighted'
    """
    told = ", ".join(f"{r.label or 'a region'} as [{r.id}]" for r in image_regions)
    return f"{what} with {told} highlighted" if told else what


def data_url(image: Image.Image) -> str:
    """An image as a data: URL (JPEG, colours not thinned out, so outlines stay as they are)."""
    out = io.BytesIO()
    image.convert("RGB").save(out, "JPEG", quality=90, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _spot(ids: Sequence[int]) -> str:
    return "s" + "-".join(map(str, ids))


def _area(region: Region) -> float:
    return (region.box[2] - region.box[0]) * (region.box[3] - region.box[1])


def _rect(box: tuple[int, int, int, int], more: str) -> str:
    return (
        f'<rect x="{box[0]}" y="{box[1]}" width="{box[2] - box[0]}" height="{box[3] - box[1]}"'
        f" {more}/>"
    )


def _spotlight(
    name: str,
    ids: Sequence[int],
    boxes: Mapping[int, tuple[int, int, int, int]],
    size: tuple[int, int],
) -> str:
    """A shade over everything but these regions, unseen until a mention is pointed at."""
    mask, whole = f"loc-{name}-{_spot(ids)}", (0, 0, *size)
    cut = _rect(whole, 'fill="white"') + "".join(_rect(boxes[i], 'fill="black"') for i in ids)
    return f'<mask id="{mask}">{cut}</mask>' + _rect(
        whole,
        f'class="loc-spot {_spot(ids)}" style="opacity:0" fill="black" fill-opacity=".62"'
        f' mask="url(#{mask})"',
    )


def _box(region: Region, size: tuple[int, int]) -> str:
    """A box to point at, and its id at a corner, on the colour of its outline."""
    box, (color, ink) = pixel_box(region.box, *size), _tag_colors(region.id)
    x, y, width = box[0], max(box[1] - 16, 0), 8 + 8 * len(str(region.id))
    title = f"<title>{html.escape(f'[{region.id}] {region.label}'.strip())}</title>"
    inside = _rect(box, 'fill="transparent"')
    return (
        f'<g class="loc-box r{region.id}">{title}{inside}<g class="loc-tag"><rect x="{x}" y="{y}"'
        f' width="{width}" height="16" fill="{color}" stroke="#111" stroke-width=".8"/><text'
        f' x="{x + width / 2}" y="{y + 12.5}" font-size="13" font-weight="700"'
        f' font-family="sans-serif" text-anchor="middle" fill="{ink}">{region.id}</text></g></g>'
    )


def _tag_colors(region: int) -> tuple[str, str]:
    """The colour of a region's outline, and what is read on it."""
    outline = highlight_colors(region)[1][:3]
    return "#" + bytes(outline).hex(), text_color([c / 255 for c in outline])


def _rules(ids: Sequence[int]) -> str:
    spot = _spot(ids)
    rules = (
        f".loc-sample:has(.loc-mention.{spot}:is(:hover,:focus))"
        f" .loc-spot.{spot}{{opacity:1!important}}"
    )
    if len(ids) == 1:
        rules += (
            f".loc-sample:has(.loc-box.r{ids[0]}:hover) .loc-mention.r{ids[0]}{{outline:2px"
            " solid currentColor;outline-offset:1px}"
        )
    return rules


def warnings_html(lines: Sequence[str]) -> str:
    """Warnings in a box that is not overlooked; nothing where there are none."""
    if not lines:
        return ""
    told = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return (
        f'<div role="alert" style="border:2px solid {DROPPED_COLOR};border-radius:4px;'
        f'padding:6px 12px;margin:6px 0;font-family:system-ui,sans-serif"><b>Warning</b>'
        f'<ul style="margin:4px 0">{told}</ul></div>'
    )
