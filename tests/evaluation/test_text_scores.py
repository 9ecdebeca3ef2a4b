"""Scores of single texts: a match logit, and the log-probability of the words that count."""

import pytest
import torch

from lskd_nb.evaluation.choices import text_scores
from lskd_nb.mini.pretraining.base import fresh_student

TEXTS = [("why is [0] here ?", "Answer: to rest."), ("what is it ?", "Answer: a dog.")]


@pytest.fixture(scope="module")
def student():
    tiny = fresh_student(0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32)
    return tiny.eval()


@pytest.fixture(scope="module")
def image(student) -> torch.Tensor:
    torch.manual_seed(0)
    vision = student.blip2.config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2
    return torch.randn(len(TEXTS), patches + 1, vision.hidden_size)


def test_a_texts_scores_are_its_own(student, image):
    both = text_scores(student, image, TEXTS)
    alone = text_scores(student, image[:1], TEXTS[:1])
    assert both.itm.shape == both.lm.shape == (2,) and not both.lm.requires_grad
    torch.testing.assert_close(both.itm[:1], alone.itm, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(both.lm[:1], alone.lm, atol=1e-4, rtol=1e-4)


def test_the_lm_counts_the_question_only_where_it_has_not_been_seen(student, image):
    conditioned, published = (
        text_scores(student, image, TEXTS, conditioned=how) for how in (True, False)
    )
    torch.testing.assert_close(conditioned.itm, published.itm)
    assert (published.lm < conditioned.lm).all() and (conditioned.lm < 0).all()


def test_a_text_whose_score_is_no_number_is_named(student, image):
    broken = image.clone()
    broken[1] = float("nan")
    with pytest.raises(ValueError, match="text 'what is it [?] Answer: a dog.': scores are"):
        text_scores(student, broken, TEXTS)
