"""Triples beside their image, a folded request, and the figures of notebooks 01b and 02."""

from PIL import Image

from lskd_nb.regions import Region
from lskd_nb.viewing import pictures, plots
from lskd_nb.viewing.alt_text import alt_of

IMAGE, REGIONS = Image.new("RGB", (60, 40)), [Region(i, (5, 5, 20, 20), "dog") for i in range(2)]
TRIPLE = dict(question="Why is [0] here?", answer="For [0, 1].", rationale="<b>", family="id")


def test_mentions_of_every_text_light_the_picture():
    shown = pictures.triples_html(IMAGE, REGIONS, [TRIPLE, TRIPLE], what="a portrait")
    assert shown.count("Why is ") == 2 and shown.count("<hr/>") == 1 and "&lt;b&gt;" in shown
    assert "a portrait with dog as [0]" in shown and 'loc-spot s0-1"' in shown
    told = pictures.triples_html(IMAGE, REGIONS, [TRIPLE], ["<i>told</i>"])
    assert "<i>told</i>" in told and "Why is " not in told and 'loc-spot s0-1"' in told


def test_a_request_is_folded_and_escaped():
    messages = [dict(role="system", content="Be <brief>."), dict(role="user", content="[1] a dog")]
    shown = pictures.request_html(messages)
    assert shown.count("<details>") == 2 and "&lt;brief&gt;" in shown and "loc-mention" in shown


def test_figures_say_what_they_show():
    rows = [
        dict(family="id", question="Why is [0] here?", regions=[0]),
        dict(family="id", question="why is [2] here?", regions=[0, 2]),
        dict(family="description", question="Why is the dog [0] here?", regions=[0]),
    ]
    told = alt_of(plots.question_variety(rows))
    assert "“why is … here?” 2 times" in told and "2 mention 1; 1 mention 2" in told
    figure = pictures.side_by_side({"one": IMAGE, "other": IMAGE}, "Twice the same")
    assert alt_of(figure) == "Twice the same" and [a.get_title("left") for a in figure.axes] == [
        "one",
        "other",
    ]
