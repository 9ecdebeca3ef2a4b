"""Regions: mentions in text, and drawing that shows exactly what it should."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from lskd_nb import regions as r

BOXES = st.tuples(*(st.floats(-10, 70) for _ in range(4)))


def naive(image: Image.Image, drawn: list[r.Region], outline_px: int = 2) -> Image.Image:
    """One full-image overlay a box, composited in order."""
    canvas = np.asarray(image.convert("RGB")).astype(np.uint16)
    height, width = canvas.shape[:2]
    for region in drawn:
        x0, y0, x1, y1 = r.pixel_box(region.box, width, height)
        fill, outline = r.highlight_colors(region.id)
        overlay = Image.new("RGBA", image.size, (0, 0, 0, 0))
        pen = ImageDraw.Draw(overlay)
        pen.rectangle([x0, y0, x1 - 1, y1 - 1], fill=fill)
        for k in range(outline_px):
            if x1 - 1 - k >= x0 + k and y1 - 1 - k >= y0 + k:
                pen.rectangle([x0 + k, y0 + k, x1 - 1 - k, y1 - 1 - k], outline=outline)
        layer = np.asarray(overlay).astype(np.uint16)
        alpha = layer[..., 3:]
        canvas = (canvas * (255 - alpha) + layer[..., :3] * alpha + 127) // 255
    return Image.fromarray(canvas.astype(np.uint8))


@pytest.mark.parametrize("seed", range(12))
def test_drawing_equals_an_overlay_for_each_box(seed):
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8))
    drawn = [
        r.Region(
            int(i),
            (
                x := rng.uniform(0, 60),
                y := rng.uniform(0, 40),
                x + rng.uniform(3, 30),
                y + rng.uniform(3, 30),
            ),
        )
        for i in rng.permutation(8)[:4]
    ]
    assert np.array_equal(np.asarray(r.highlight(image, drawn)), np.asarray(naive(image, drawn)))


def test_published_colours_and_no_two_ids_alike():
    assert (
        bytes(r.highlight_colors(0)[1]).hex() == "05ff37ff"
        and bytes(r.highlight_colors(4)[0]).hex() == "862d2d20"
    )
    outlines = [r.highlight_colors(i)[1][:3] for i in range(50)]
    assert len(set(outlines)) == 50


def test_the_image_given_is_left_alone():
    image = Image.new("RGB", (20, 20), "white")
    r.highlight(image, [r.Region(0, (2, 2, 15, 15))])
    assert np.asarray(image).min() == 255


def test_mentions_and_renumbering():
    assert r.mentions("[2] gives [0, 1] a book, says [2].") == [2, 0, 1]
    assert r.renumber("[2] and [0, 1]", {2: 0, 0: 5, 1: 1}) == "[0] and [5, 1]"
    with pytest.raises(ValueError, match="region 3 is mentioned"):
        r.renumber("[3] waves", {0: 1})


@given(
    st.lists(
        st.one_of(
            st.from_regex(r"[a-z]{1,8}", fullmatch=True),
            st.lists(st.integers(0, 30), min_size=1, max_size=3, unique=True),
        ),
        min_size=1,
    )
)
def test_tokens_survive_the_way_through_text(tokens):
    assert r.text_to_tokens(r.tokens_to_text(tokens)) == tokens


@pytest.mark.parametrize(
    "tokens, text",
    [
        ([[0], "'", "s", "coat", "is", "wet", "."], "[0]'s coat is wet."),
        ([[0, 1], "'s", "dog"], "[0, 1]'s dog"),
        (["do", "n't", "they", "’", "re", "out"], "don't they’re out"),
        (["[1]", "isn", "'", "t", "here", ",", "I", "'m", "."], "[1] isn't here, I'm."),
        (["the", "girls", "'", "mother"], "the girls' mother"),
        (["It", "says", '"', "no", "entry", '"', "."], 'It says "no entry".'),
        (["He", "says", "'", "hi", "'", "to", [2]], "He says 'hi' to [2]"),
        (["a", "sign", "(", "$", "5", ")", "?"], "a sign ($5)?"),
        (["5", "feet", "2", '"', "tall"], '5 feet 2 " tall'),  # half of no pair
        (["'", "s"], "' s"),
    ],
)
def test_tokens_are_joined_as_people_write(tokens, text):
    assert r.tokens_to_text(tokens) == text


@pytest.mark.parametrize(
    "text",
    [
        "Why does [0]'s dog not bark at [1, 2]?",
        "\"Don't go,\" says [1] (the girls' mother) to 'Bob', who isn't well-fed!",
        "It costs $5; that is 20% less: they’re glad.",
    ],
)
def test_texts_survive_the_way_through_tokens(text):
    assert r.tokens_to_text(r.text_to_tokens(text)) == text


@given(BOXES)
def test_clamped_boxes_are_inside_or_refused(box):
    try:
        x0, y0, x1, y1 = r.clamp(box, 60, 40)
    except ValueError as error:
        assert "no area" in str(error)
    else:
        assert 0 <= x0 < x1 <= 60 and 0 <= y0 < y1 <= 40


def test_resizing_moves_boxes_with_the_image():
    (moved,) = r.resize_regions([r.Region(1, (10, 20, 30, 40))], (100, 50), (50, 100))
    assert moved.box == (5, 40, 15, 80) and moved.id == 1


def test_tables_round_trip():
    image = r.LocatedImage(
        "a",
        "a.jpg",
        9,
        8,
        (r.Region(0, (0, 1, 2, 3), "dog", 0.5), r.Region(4, (1, 1, 3, 3), "", None)),
        "s",
        "val",
    )
    assert r.located_images(r.regions_table([image])) == [image]


def test_shuffles_show_the_mentioned_half_the_time():
    regions = [r.Region(i, (i, i, i + 5, i + 5)) for i in range(4)]
    sizes = [len(r.shuffle_ids(regions, [2, 3], np.random.default_rng(t))[0]) for t in range(300)]
    assert set(sizes) == {2, 4} and 0.4 < np.mean(np.array(sizes) == 2) < 0.6
    drawn, mapping = r.shuffle_ids(regions, [2], np.random.default_rng(0))
    assert all(
        drawn[new].box == regions[old].box and drawn[new].id == new for old, new in mapping.items()
    )
