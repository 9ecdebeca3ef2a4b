"""What a student is shown and asked: the mentioned regions, numbered in order of mention."""

import pytest

from lskd_nb.evaluation.items import hypothesis_items, numbered_by_mention, student_items
from lskd_nb.regions import LocatedImage, Region
from lskd_nb.sources import MultipleChoice
from lskd_nb.sources.snli_ve import LABELS

CROWD = tuple(Region(i, (float(i), 0.0, i + 1.0, 9.0), "person") for i in range(30))


def asked(question: str, *choices: str, task: str = "vcr.q_a", regions=CROWD, slice: str = "why"):
    image = LocatedImage("m", "m.jpg", 40, 10, regions, "vcr", "val")
    item = MultipleChoice("i", image, question, choices, 0, task, slice)
    return student_items([item])[0]


def boxes(item) -> list[tuple[int, float]]:
    return [(r.id, r.box[0]) for r in item.view.regions]


def test_answers_are_about_what_question_and_choices_mention_in_that_order():
    item = asked("Why does [12] look at [3]?", "[3] called [12].", "[25, 3] fell.", "No idea.")
    assert boxes(item) == [(0, 12.0), (1, 3.0), (2, 25.0)]
    assert item.question == "Why does [0] look at [1]?"
    assert item.choices == ("Answer: [1] called [0].", "Answer: [2, 1] fell.", "Answer: No idea.")


def test_rationales_are_about_question_then_answer_then_rationales():
    item = asked(
        "Why is [20] here? Answer: [9] asked [20].", "[2] and [9] met.", "x", task="vcr.qa_r"
    )
    assert boxes(item) == [(0, 20.0), (1, 9.0), (2, 2.0)]
    assert item.question == "Why is [0] here? Answer: [1] asked [0]."
    assert item.choices == ("Rationale: [2] and [1] met.", "Rationale: x")


def test_texts_without_mentions_draw_nothing():
    item = asked("What time is it?", "Noon.", "Night.")
    assert item.view.regions == () and item.question == "What time is it?"


def test_everyone_in_a_crowd_is_drawn():
    every = f"[{', '.join(map(str, range(29, -1, -1)))}]"
    item = asked(f"Where are {every}?", "Here.", "There.")
    assert [r.id for r in item.view.regions] == list(range(30))
    assert item.view.regions[0].box == CROWD[29].box and item.question.startswith("Where are [0, 1")


def test_all_boxes_of_a_clue_are_drawn_under_zero():
    clue = tuple(Region(0, (float(x), 0.0, x + 5.0, 9.0)) for x in (30, 2))
    item = asked("", "They wait [3].", "b", task="sherlock.comparison", regions=clue)
    assert boxes(item) == [(0, 30.0), (0, 2.0)]
    assert item.question == "What can be inferred from [0]?"
    assert item.choices[0] == "Answer: They wait [3]."  # a person's brackets are no mention


def test_an_events_subject_comes_first():
    item = asked(
        "[4] greets [1], in a bar.", "drink", "wave to [7]", task="visualcomet", slice="intent"
    )
    assert boxes(item) == [(0, 4.0), (1, 1.0), (2, 7.0)]
    assert item.question == "[0] greets [1], in a bar. What does [0] want to do?"
    assert item.choices == ("Answer: drink", "Answer: wave to [2]")


def test_numbers_of_sets_that_do_not_point_stay():
    item = asked("What is in box [3]?", "[1]", "2", task="visual7w", regions=())
    assert item.view.regions == () and item.question == "What is in box [3]?"
    assert item.choices == ("Answer: [1]", "Answer: 2")


def test_a_text_is_renumbered_once():
    drawn, texts = numbered_by_mention(CROWD[:2], ["[1] sees [0]", "[0] sees [1]"])
    assert [r.box[0] for r in drawn] == [1.0, 0.0] and texts == ["[0] sees [1]", "[1] sees [0]"]


@pytest.mark.parametrize("label", range(3))
def test_snli_ve_is_asked_by_three_texts_and_fitted_by_one(label):
    image = LocatedImage("m", "m.jpg", 40, 10, (), "snli_ve", "dev")
    item = MultipleChoice("p", image, "A man sleeps.", LABELS, label, "snli_ve", LABELS[label])
    (asked,), (alone,) = student_items([item]), hypothesis_items([item])
    assert [f"{asked.question} {choice}" for choice in asked.choices] == [
        f"Does the image describe A man sleeps? Answer: {name}"
        for name in ("entailment", "neutral", "contradiction")
    ]
    assert (asked.task, asked.label) == ("snli_ve", label)
    assert (alone.task, alone.question, alone.choices) == ("snli_ve_fitted", "", ("A man sleeps.",))
