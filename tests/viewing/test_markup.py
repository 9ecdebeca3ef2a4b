"""Texts and pictures as HTML: escaped, and mentions light their regions."""

import numpy as np
import pytest
from PIL import Image

from lskd_nb.regions import Region
from lskd_nb.students.views import open_image
from lskd_nb.viewing import markup


def test_corpus_text_is_escaped_and_mentions_are_coloured():
    shown = markup.mention_html("[0] says <script>alert(1)</script>")
    assert "<script>" not in shown and "&lt;script&gt;" in shown and "#05ff37" in shown


@pytest.mark.parametrize(
    "mode, values, mean", [("I;16", np.linspace(0, 65535, 100), 127), ("L", np.full(100, 40), 40)]
)
def test_images_of_sixteen_bits_are_seen_as_they_are(tmp_path, mode, values, mean):
    Image.fromarray(values.reshape(10, 10).astype(np.uint16 if mode == "I;16" else np.uint8)).save(
        tmp_path / "x.png"
    )
    assert abs(np.asarray(open_image(tmp_path, "x.png")).mean() - mean) < 1
    Image.fromarray(np.zeros((4, 4), np.float32), "F").save(tmp_path / "f.tiff")
    with pytest.raises(
        ValueError, match="f.tiff is not a readable image: its pixels are numbers without a scale"
    ):
        open_image(tmp_path, "f.tiff")


def test_narrow_images_and_odd_numbers():
    assert 'width="9"' in markup.picture_html(Image.new("RGB", (2, 200)), [], "narrow")
    assert "loc-mention" not in markup.mention_html("[" + "9" * 400 + "]")
    for region, message in (
        (Region(-1, (1, 1, 5, 5)), "region -1: ids begin at 0"),
        (Region(0, (1, float("nan"), 5, 5)), "expected four numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            markup.picture_html(Image.new("RGB", (20, 20)), [region], "")


def test_pointing_lights_what_is_mentioned():
    regions = [Region(0, (2, 2, 20, 20), "dog"), Region(3, (25, 5, 38, 28), "<cat>")]
    shown = markup.sample_html(
        markup.picture_html(
            Image.new("RGB", (40, 30)), regions, 'a "picture"', ["[0, 3] and [0]", "[9]"], width=80
        ),
        markup.mention_html("[0, 3]"),
    )
    assert (
        ".loc-sample:has(.loc-mention.s0-3:is(:hover,:focus)) .loc-spot.s0-3{opacity:1!important}"
        in shown
        and 'class="loc-mention s0-3 r0 r3"' in shown
    )
    assert (
        'alt="a &quot;picture&quot;"' in shown and "&lt;cat&gt;" in shown and "<cat>" not in shown
    )
    assert "s9" not in shown  # no such region
    assert (
        '<rect x="4" y="4" width="36" height="36" fill="black"/><rect x="50" y="10" width="26"'
        ' height="46" fill="black"/>' in shown
    )  # in pixels of the picture
    assert (
        markup.described(regions) == "an image with dog as [0], <cat> as [3] highlighted"
        and markup.described([]) == "an image"
    )
