"""The mini teacher's eyes: a picture in a request is put into words by the world's own models.

They are the ones of notebook 1, with its words for what they are asked, and are loaded at the first
picture. They see what the request holds, and never the truth. But boxes and numbers drawn all over
a picture are new to them: there they misread three regions in four, on a clean picture every second
(outputs/teacher_sees.json). So the marks are rubbed out before they look: fills are taken off, and
what an outline or a number hid becomes like the pixels beside it.
"""

import base64
import io
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_edt

from lskd_nb.regions import LocatedImage, Region, highlight_colors, pixel_box
from lskd_nb.teacher.pictures import tags
from lskd_nb.teacher.prompts import BOXES, context_text

if TYPE_CHECKING:
    from lskd_nb.verbalization.describe import LoadedVerbalizers

OUTLINE = 2  # pixels, of a region's box
HERE = Path(__file__).resolve().parent.parent
_URL = re.compile(r"data:image/\w+;base64,(.*)", re.DOTALL)
_BOX = re.compile(r"^\[(\d+)\] (\d+), (\d+), (\d+), (\d+)$", re.MULTILINE)


def read_messages(messages: Sequence[Mapping]) -> tuple[list[dict], Image.Image | None]:
    """Messages with their content as text, and the last picture among its parts, RGB.

    Raises ``ValueError`` for a picture that is no data URL of an image.
    """
    texts, picture = [], None
    for message in messages:
        content = message["content"]
        if isinstance(content, list):
            for part in content:
                if part.get("type") == "image_url":
                    picture = _picture(part["image_url"]["url"])
            content = "".join(part.get("text", "") for part in content)
        texts.append({**message, "content": content})
    return texts, picture


def _picture(url: str) -> Image.Image:
    data = _URL.match(url)
    if not data:
        raise ValueError("an image_url is not a data URL")
    try:
        with Image.open(io.BytesIO(base64.b64decode(data[1], validate=True))) as image:
            return image.convert("RGB")
    except OSError as error:
        raise ValueError(f"an image_url holds no image: {error}") from None


def look_at(picture: Image.Image, told: str) -> str:
    """What is known of a picture in words (prompts.context_text), from looking at the boxes listed
    in ``told``; and what is told in words beside them, which goes first.
    """
    words, _, boxes = told.partition(BOXES)
    sides = (picture.width, picture.height) * 2
    listed = tuple(
        Region(int(found[1]), tuple(int(found[2 + n]) * sides[n] / 100 for n in range(4)))
        for found in _BOX.finditer(boxes)
    )
    image, regions = rubbed_out(picture, listed)
    with tempfile.TemporaryDirectory() as folder:
        image.save(Path(folder) / "seen.png")
        seen = LocatedImage("seen", "seen.png", *image.size, regions, "mini", "train")
        lines, _ = mini_verbalizers()([seen], folder)
    return _together(words.strip(), context_text(seen, lines))


def rubbed_out(
    image: Image.Image, regions: Sequence[Region]
) -> tuple[Image.Image, tuple[Region, ...]]:
    """A picture (teacher.pictures) without its marks, as well as can be, and the regions' boxes in
    whole pixels, where their outlines are found.

    Of what lies below an outline or a number nothing is left: there the nearest pixel that was not
    drawn over is repeated, one more pixel around for what a JPEG smears.
    """
    seen = np.asarray(image, np.float32)
    found = tuple(replace(r, box=_outlined(seen, r)) for r in regions)
    hidden = np.zeros(seen.shape[:2], bool)
    clean = seen.copy()
    for region in reversed(found):  # the last was drawn over the others
        x0, y0, x1, y1 = (int(side) for side in region.box)
        *fill, alpha = highlight_colors(region.id)[0]
        inside = clean[y0:y1, x0:x1]
        inside[...] = (255 * inside - alpha * np.array(fill, np.float32)) / (255 - alpha)
        outer = np.zeros_like(hidden)
        outer[max(y0 - 1, 0) : y1 + 1, max(x0 - 1, 0) : x1 + 1] = True
        outer[y0 + OUTLINE + 1 : y1 - OUTLINE - 1, x0 + OUTLINE + 1 : x1 - OUTLINE - 1] = False
        hidden |= outer
    for x0, y0, x1, y1 in tags(found, image.size):
        hidden[max(int(y0) - 1, 0) : int(y1) + 2, max(int(x0) - 1, 0) : int(x1) + 2] = True
    if not hidden.all():
        at = distance_transform_edt(hidden, return_distances=False, return_indices=True)
        clean = clean[tuple(at)]
    return Image.fromarray(clean.round().clip(0, 255).astype(np.uint8)), found


def _outlined(seen: np.ndarray, region: Region) -> tuple[float, ...]:
    """The box of a region in whole pixels: as listed, each side moved by up to a hundredth of the
    picture to where most is of the outline's colour. (The list is in whole per cents.)
    """
    height, width = seen.shape[:2]
    far = np.abs(seen - np.array(highlight_colors(region.id)[1][:3], np.float32)).sum(-1)
    unlike = np.minimum(far, 300.0)
    x0, y0, x1, y1 = pixel_box(region.box, width, height)
    columns, rows = unlike[y0:y1].mean(0), unlike[:, x0:x1].mean(1)

    def side(line: np.ndarray, place: int, size: int, last: int) -> int:
        reach = max(size // 100, 2)
        tried = range(max(place - reach, 0), min(place + reach, last) + 1)
        return min(tried, key=lambda p: (line[p : p + OUTLINE].sum(), abs(p - place)))

    left, top = (
        side(line, place, size, size - OUTLINE)
        for line, place, size in ((columns, x0, width), (rows, y0, height))
    )
    right, bottom = (
        OUTLINE + side(line, place - OUTLINE, size, size - OUTLINE)
        for line, place, size in ((columns, x1, width), (rows, y1, height))
    )
    return float(left), float(top), float(max(right, left + 1)), float(max(bottom, top + 1))


def _together(words: str, seen: str) -> str:
    """Two contexts as one: what is said of a region stands on one line, the words first."""
    if not words:
        return seen
    of = dict(re.findall(r"^(\[\d+\]) [^:\n]*: (.*)$", seen, re.MULTILINE))
    told = []
    for line in words.splitlines():
        region = re.match(r"\[\d+\]", line)
        told.append(f"{line}; {of[region[0]]}" if region and region[0] in of else line)
    rest = [line for line in seen.splitlines() if not re.match(r"\[\d+\]", line)]
    return "\n".join([*(line for line in rest if line != "Regions:"), *told])


@cache
def mini_verbalizers() -> "LoadedVerbalizers":
    """The models of the mini profile, loaded once."""
    from lskd_nb.verbalization import describe, verbalizers

    weights = HERE / "weights"
    vlm = str(weights / "vlm")
    models = verbalizers.Verbalizers(
        clip=str(weights / "clip"),
        captioner=vlm,
        region_captioner=vlm,
        question_generator=str(weights / "questions"),
        vqa=vlm,
    )
    prompts = verbalizers.prompt_settings({"caption": "caption :", "region": "region :"})
    settings = verbalizers.Settings(str(HERE / "vocabularies"), questions=2, seed=0, **prompts)
    return describe.LoadedVerbalizers(models, settings)
