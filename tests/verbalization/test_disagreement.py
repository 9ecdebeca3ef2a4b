"""Where verbalizers disagree: on hand-made lines, on planted mistakes in drawn scenes, and as
the inspector shows it.
"""

import numpy as np
import pytest

from lskd_nb.mini.scenes import grammar
from lskd_nb.mini.scenes.world import sample_scenes
from lskd_nb.records import REGIONS, VERBALIZATIONS, write_parquet
from lskd_nb.verbalization.disagreement import Contradiction, Disagreements, marked, plain, said
from lskd_nb.viewing.widgets import VerbalizationInspector


def line(
    image: str,
    verbalizer: str,
    text: str,
    region: int | None = None,
    question: str | None = None,
    score: float | None = 0.5,
) -> dict:
    kind = "dynamic" if question else "global" if region is None else "local"
    return dict(
        image_id=image,
        kind=kind,
        verbalizer=verbalizer,
        region=region,
        question=question,
        text=text,
        score=score,
        model="m",
        version="v",
    )


@pytest.mark.parametrize(
    ("text", "head", "words"),
    [
        ("a brown dog running on the beach", "dog", {"brown", "dog", "running", "beach"}),
        ("The man in a red shirt", "man", {"man", "red", "shirt"}),
        ("two Dogs", "dog", {"2", "dog"}),
        ("red car parked outside", "car", {"red", "car", "parked", "outside"}),
        ("running shoes", "shoe", {"running", "shoe"}),
        ("he is on it", "", set()),
        ("", "", set()),
        ("a grey glass bus", "bus", {"gray", "glass", "bus"}),
    ],
)
def test_content_words_and_the_head_noun(text, head, words):
    assert (said(text).head, set(said(text).words)) == (head, words)


def test_colours_and_numbers_are_known():
    found = said("three people in grey, 12 red umbrellas")
    assert (
        set(found.colors) == {"gray", "red"}
        and set(found.numbers) == {"3", "12"}
        and plain("Umbrellas") == "umbrella"
    )


def told(run, *lines: dict, image: str = "m0"):
    write_parquet(lines, run / "verbalizations.parquet", VERBALIZATIONS)
    return Disagreements(run).of(image)


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ("a brown dog", "a dog running", None),
        ("a brown dog", "a cat asleep", "no word in common"),
        ("a brown dog", "a brown cow", "another thing"),
        ("a man holding a dog", "a brown dog", None),  # one names the other's thing
        ("a brown dog", "a black dog", "colour"),
        ("a black and white dog", "a black dog", None),
        ("two dogs on a sofa", "three dogs on a sofa", "number"),
        ("two dogs", "2 dogs", None),
        ("a brown dog", "it is", None),  # says nothing
    ],
)
def test_two_lines_about_a_region(small_run, one, other, why):
    found = told(
        small_run,
        line("m0", "captioner-a", one, 0),
        line("m0", "captioner-b", other, 0),
        line("m1", "captioner-b", "a cow", 0),
    )
    own = [
        c
        for c in found.contradictions
        if found.lines[c.one]["verbalizer"] != "label" != found.lines[c.other]["verbalizer"]
    ]
    assert own == ([] if why is None else [Contradiction(0, 0, 1, why)])


@pytest.mark.parametrize(
    ("whole", "why"),
    [
        ("a black dog and a man in the park", "colour"),
        ("a brown dog and a black cat", None),
        ("two cats in the park", None),  # it leaves the dog out
        ("a dog in the park", None),
    ],
)
def test_a_line_about_a_region_and_one_about_the_image(small_run, whole, why):
    found = told(
        small_run,
        line("m0", "region-captioner", "a brown dog", 0),
        line("m0", "captioner", whole),
        line("m0", "clip-object", "black dog"),
    )
    assert [c.why for c in found.contradictions] == ([why] if why else [])
    again = told(
        small_run,
        line("m0", "region-captioner", "a brown dog", 0),
        line("m0", "region-captioner", "a white dog", 1),
        line("m0", "captioner", whole),
    )
    assert not [
        c for c in again.contradictions if again.lines[c.other]["region"] is None
    ]  # which dog is meant can't be told


def test_a_line_that_is_missing_says_nothing(small_run):
    found = told(
        small_run, line("m0", "captioner-a", None, 0), line("m0", "captioner-b", "a brown dog", 0)
    )
    assert (
        [row["text"] for row in found.lines[:2]] == ["", "a brown dog"]
        and found.contradictions == []
        and found.lonely == {"brown"}
    )
    assert (
        Disagreements(small_run).images["m0"] == 0.5
        and marked(found.lines[0]["text"], {"dog"}) == []
    )


def test_lonely_words_and_the_number_for_a_region(small_run):
    found = told(
        small_run,
        line("m0", "region-captioner", "a brown dog running", 0),
        line("m0", "captioner", "a man with a brown dog"),
        line("m0", "vqa", "white", question="what color is the dog?"),
        line("m0", "region-captioner", "a dog", 1),
    )
    assert found.lonely == {"running", "white", "color"}
    assert found.disagreement[0] == pytest.approx(0 + 1 / 3)  # brown, dog; running
    assert [(c.region, c.why) for c in found.contradictions] == [
        (1, "no word in common")
    ]  # a dog, where the label says man
    assert found.disagreement[1] == pytest.approx(1 + 0.0)
    assert [x["verbalizer"] for x in found.lines[-2:]] == ["label", "label"] and found.lines[-1][
        "text"
    ] == "man"
    assert (
        marked("Running dogs, <run>", found.lonely) == [("Running", True), (" dogs, <run>", False)]
        and marked("", ["a"]) == []
    )


def test_images_with_most_disagreement_come_first_and_equals_as_written(small_run):
    told(
        small_run,
        line("m2", "region-captioner", "a white cat", 0),
        line("m1", "region-captioner", "a big dog", 0),
        line("m3", "captioner", "a dog and a man"),
    )
    found = Disagreements(small_run).images
    assert list(found) == ["m2", "m1", "m0", "m3"] and list(found.values()) == pytest.approx(
        [2, 0.5, 0, 0]
    )
    (small_run / "verbalizations.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="run notebook 01 first"):
        Disagreements(small_run)


def test_planted_mistakes_are_found_in_drawn_scenes(small_run):
    scenes, rng = sample_scenes(120, 5, "d"), np.random.default_rng(0)
    regions, lines, planted = [], [], set()
    for scene in scenes:
        boxes = [
            dict(id=n, box=[0.0, 0.0, 9.0, 9.0], label=e.kind, score=None)
            for n, e in enumerate(scene.entities)
        ]
        regions.append(
            dict(
                image_id=scene.scene_id,
                image="x.png",
                width=10,
                height=10,
                source="s",
                split="train",
                regions=boxes,
            )
        )
        lines.append(line(scene.scene_id, "captioner", grammar.caption(scene)))
        for n, entity in enumerate(scene.entities):
            text = grammar.describe(entity)
            if rng.random() < 0.1:
                donor = scenes[rng.integers(len(scenes))].entities[0]
                if donor.kind != entity.kind:
                    text = grammar.describe(donor)
                    planted.add(scene.scene_id)
            lines.append(line(scene.scene_id, "region-captioner", text, n))
    write_parquet(regions, small_run / "regions.parquet", REGIONS)
    write_parquet(lines, small_run / "verbalizations.parquet", VERBALIZATIONS)
    order = list(Disagreements(small_run).images)
    assert 20 < len(planted) < 80 and set(order[: len(planted)]) == planted


def press(widget, *keys: str) -> None:
    for key in keys:
        widget.press(key)


def test_the_inspector_shows_who_said_what_and_what_contradicts(small_run):
    told(
        small_run,
        line("m2", "region-captioner", "a white <b>cat</b>", 0, score=0.25),
        line("m2", "clip-place", "park"),
        line("m2", "clip-place", "beach"),
        line("m1", "captioner", "a dog and a man"),
        line("m2", "vqa", "day", question="what time is it?"),
    )
    one = VerbalizationInspector(small_run)
    assert (
        one.image.image_id == "m2"
        and one.regions.value == 0
        and one.regions.options[0] == ("[0] dog ≠", 0)
        and "of 4" in one.count.value
    )
    page = one.static().data
    assert (
        "no word in common" in page
        and "<b>cat" not in page
        and "&lt;" in page
        and '<mark class="loc-lonely">white</mark>' in page
    )
    assert (
        "0.25" in page
        and "what <mark" in page
        and "park" in page
        and ".loc-lit0 .loc-spot.s0{opacity:1!important}" in page
    )
    assert 'alt="an image with dog as [0], man as [1] highlighted"' in page
    press(one, "ArrowDown")
    assert (
        one.regions.value == 1
        and "no contradiction" in one.body.value
        and "<b>[1] man</b>" in one.body.value
    )
    press(one, "ArrowDown", "ArrowUp")
    assert one.regions.value == 1
    press(one, "ArrowRight")
    assert one.image.image_id == list(one.disagreements.images)[1]
    press(one, "ArrowLeft", "ArrowLeft")
    assert one.place.value == 4
    one.order.value = "written"
    assert (
        one.image_ids == ["m0", "m1", "m2", "m3"]
        and one.image.image_id == "m0"
        and "nothing was said" in one.body.value
    )
    plain_order = VerbalizationInspector(small_run, order="written")
    assert "images" not in vars(
        plain_order.disagreements
    )  # nothing is ordered before it is asked for
    for picture in (small_run / "images").iterdir():
        picture.unlink()
    press(one, "ArrowRight")
    assert "no picture" in one.body.value and one.image.image_id == "m1"
    (small_run / "verbalizations.parquet").write_bytes(b"nothing")
    press(one, "ArrowRight")
    assert "verbalizations.parquet" in one.trouble.value and "t be read: " in one.trouble.value
    with pytest.raises(ValueError, match="verbalizations.parquet.*can't be read"):
        VerbalizationInspector(small_run)
