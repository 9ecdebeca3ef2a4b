"""The critic: which head learns what, which class means accept, and that it can learn at all."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from lskd_nb.critic.model import (
    Critic,
    CriticExample,
    Drawing,
    as_drawn,
    critic_example,
    critic_loss,
    critic_losses,
    critic_metrics,
    ids_shuffled,
    load_critic,
    region_swapped,
    score,
)
from lskd_nb.mini.pretraining.base import fresh_student
from lskd_nb.regions import Region, mentions
from lskd_nb.students.views import FrozenFeatures, View
from lskd_nb.training.batches import Row, fixed_view


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("critic")
    for name, color in (("red", (250, 10, 10)), ("blue", (10, 10, 250))):
        Image.new("RGB", (40, 40), color).save(folder / f"{name}.png")
    return folder


def fresh() -> Critic:
    return Critic(
        fresh_student(0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32)
    )


def row(
    image: str, answer: str, accept: float, qa: float = 0.0, rationale: float = 0.0
) -> CriticExample:
    return CriticExample(View(image), "What is it?", f"Answer: {answer}", accept, qa, rationale)


def test_each_head_learns_its_own_score(folder):
    critic = fresh()
    image = FrozenFeatures(critic.blip2, folder).encode([View("red.png")]).float()

    def gradient(**changes) -> tuple[torch.Tensor, torch.Tensor]:
        critic.zero_grad()
        told = [row("red.png", "red", 1.0, **changes)]
        critic_loss(critic_losses(critic, image, told)).backward()
        return critic.qa_head.bias.grad.clone(), critic.rationale_head.bias.grad.clone()

    qa_0, rationale_0 = gradient(qa=0.2, rationale=0.7)
    qa_1, rationale_1 = gradient(qa=0.9, rationale=0.7)
    assert not torch.equal(qa_0, qa_1) and torch.equal(rationale_0, rationale_1)
    qa_2, rationale_2 = gradient(qa=0.2, rationale=0.1)
    assert torch.equal(qa_0, qa_2) and not torch.equal(rationale_0, rationale_2)


def test_precision_and_recall_are_not_exchanged():
    accepted = np.array([True, True, True, True, False])
    probability = np.array([0.9, 0.1, 0.1, 0.1, 0.1])
    found = critic_metrics(accepted, probability)
    assert found["precision"] == 1.0 and found["recall"] == 0.25
    assert critic_metrics(accepted, 1 - probability)["auc"] < 0.5


def test_swapped_rows_are_rejects_about_another_region():
    view = View("red.png", (Region(2, (0, 0, 9, 9)), Region(5, (9, 9, 20, 20))))
    told = CriticExample(view, "Why does [2] run?", "Answer: To catch [5].", 1.0, 1.0, 1.0)
    wrong = region_swapped(told, np.random.default_rng(0))
    assert (wrong.question, wrong.text, wrong.accept) == (
        "Why does [5] run?",
        "Answer: To catch [2].",
        0.0,
    )
    assert (
        region_swapped(
            CriticExample(View("red.png"), "Why?", "Answer: x", 1.0), np.random.default_rng(0)
        )
        is None
    )


def test_only_offered_regions_are_drawn():
    regions = [Region(i, (0, 0, 9, 9)) for i in range(4)]
    triple = dict(question="Why does [1] run?", answer="x", rationale="y", regions_offered=[1, 3])
    made = critic_example(
        "red.png", regions, triple, dict(accept=True, qa_score=1.0, rationale_score=0.5)
    )
    assert [r.id for r in made.view.regions] == [1, 3]
    assert made.text == "Answer: x Rationale: y" and (made.accept, made.rationale_score) == (
        1.0,
        0.5,
    )


def test_folder_without_a_critic_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="train the critic first"):
        load_critic(tmp_path)


def test_a_renumbered_triple_still_points_at_the_same_boxes():
    regions = tuple(Region(i, (10.0 * i, 0.0, 10.0 * i + 9, 9.0)) for i in range(4))
    told = CriticExample(
        View("a.png", regions),
        "What is [2] about to do?",
        "Answer: bark at [0]. Rationale: [0] and [2] are near [3].",
        1.0,
        0.9,
        0.8,
    )
    assert ids_shuffled(told, 0) is told
    row = Row(told.view.image, told.question, "", "", told.view.regions, (0,))
    assert ids_shuffled(told, 1).view == fixed_view(row, 0)  # whose features are stored already
    seen = {ids_shuffled(told, which).view for which in (1, 2, 3)}
    assert len(seen) > 1
    for which in (1, 2, 3):
        other = ids_shuffled(told, which)
        box = {r.id: r.box for r in other.view.regions}
        assert set(box) == {0, 1, 2, 3} and other == ids_shuffled(told, which)
        assert [box[i] for i in mentions(other.question)] == [regions[2].box]
        assert [box[i] for i in mentions(other.text)] == [
            regions[i].box for i in mentions(told.text)
        ]
        assert (other.accept, other.qa_score, other.rationale_score) == (1.0, 0.9, 0.8)


def test_triples_about_one_view_are_scored_as_each_would_be_alone(folder, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    critic = fresh().eval()
    torch.nn.init.normal_(critic.qa_head.weight)
    views = FrozenFeatures(critic.blip2, folder)
    rows = [
        row(("red.png", "blue.png")[n % 3 % 2], "red and " * (n % 4) + "round", 1.0)
        for n in range(10)
    ]
    alone = [score(critic, [r], views) for r in rows]
    for batch in (64, 3):
        found = score(critic, rows, views, batch)
        for name in found:
            np.testing.assert_allclose(found[name], [float(a[name][0]) for a in alone], atol=1e-5)


def seven(question: str, text: str = "Answer: x") -> CriticExample:
    regions = tuple(Region(i, (10.0 * i, 0.0, 10.0 * i + 9, 9.0)) for i in range(7))
    return CriticExample(View("a.png", regions), question, text)


def lefts(row: CriticExample) -> list[float]:
    return [r.box[0] for r in row.view.regions]


def test_a_triple_that_mentions_no_region_is_about_the_plain_image():
    regions = [Region(i, (0, 0, 9, 9)) for i in range(3)]
    triple = dict(question="Why does the man run?", answer="x", rationale="y")
    plain = critic_example("red.png", regions, triple | dict(regions_offered=[0, 1]))
    assert plain.view == View("red.png")
    told = triple | dict(rationale="[1] waits.", regions_offered=[0, 1])
    assert [r.id for r in critic_example("red.png", regions, told).view.regions] == [0, 1]


def test_the_mentioned_come_first_and_what_is_mentioned_is_always_drawn():
    row = seven("Why does [6] look at [2]?")
    assert as_drawn(row, Drawing()) is row
    few = as_drawn(row, Drawing(3))
    assert (few.question, lefts(few)) == ("Why does [0] look at [1]?", [60, 20, 0])
    assert [r.id for r in few.view.regions] == [0, 1, 2] and as_drawn(few, Drawing(3)) == few
    alone = as_drawn(row, Drawing(5, 0.6))
    assert lefts(alone) == [60, 20] and as_drawn(alone, Drawing(5, 0.6)) == alone
    crowd = as_drawn(seven("Who are [0, 1, 2, 3, 4, 6]?"), Drawing(5))
    assert lefts(crowd) == [0, 10, 20, 30, 40, 60]
    with pytest.raises(ValueError, match="region 9 is mentioned"):
        as_drawn(seven("Why is [9] here?"), Drawing(5))


@pytest.mark.parametrize(("hidden", "drawing"), [(0, Drawing()), (8, Drawing(5, 0.6))], ids=str)
def test_heads_and_drawing_are_saved_with_the_critic(folder, tmp_path, hidden, drawing):
    blip2 = fresh().blip2
    critic = Critic(blip2, hidden, drawing).eval()
    critic.save(tmp_path)
    again = load_critic(tmp_path)
    assert again.drawing == drawing
    rows = [
        replace(seven(f"Why is [{n}] here?"), view=View("red.png", seven("").view.regions))
        for n in (1, 5)
    ]
    views = FrozenFeatures(blip2, folder)
    found, loaded = (score(c, rows, views) for c in (critic, again))
    for name in found:
        np.testing.assert_allclose(found[name], loaded[name], atol=1e-5)


def test_heads_that_are_no_numbers_are_named(tmp_path):
    critic = fresh()
    with torch.no_grad():
        critic.qa_head.weight.fill_(float("nan"))
    critic.save(tmp_path)
    with pytest.raises(ValueError, match="critic_heads.safetensors.*qa_head.weight"):
        load_critic(tmp_path)


def test_a_hidden_layer_works_on_each_query_output(folder):
    """ReLU and mean don't commute: as published each query output has its own say."""
    critic = Critic(fresh().blip2, 4).eval()
    image = FrozenFeatures(critic.blip2, folder).encode([View("red.png")]).float()
    tokens = critic.blip2.tokenize(["What?"], ["Answer: red"])
    queries = critic.blip2.blip2.query_tokens.shape[1]
    with torch.no_grad():
        seen = critic.blip2.seen_by_queries(image, tokens)
        _, qa, _ = critic(image, ["What?"], ["Answer: red"])
        each = torch.stack([critic.qa_head(seen[0, n]) for n in range(queries)])
    torch.testing.assert_close(qa, each.mean(0), atol=1e-5, rtol=1e-4)
    assert (critic.qa_head(seen.mean(1)) - qa).abs().max() > 1e-6


def test_a_score_that_is_no_number_is_an_error(folder):
    critic = fresh().eval()
    with torch.no_grad():
        critic.rationale_head.bias.fill_(float("nan"))
    rows = [row("red.png", "red", 1.0), row("blue.png", "red", 0.0)]
    with pytest.raises(ValueError, match=r"scores of 2 of 2 triples are no numbers.* red.png"):
        score(critic, rows, FrozenFeatures(critic.blip2, folder))


def test_metrics_of_one_class_have_no_area():
    found = critic_metrics(np.array([True, True]), np.array([0.9, 0.2]))
    assert np.isnan(found["auc"]) and found["recall"] == 0.5
