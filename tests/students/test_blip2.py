"""The student: BLIP-2's losses on Hugging Face's class, against that class and against
constructed cases.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from lskd_nb.mini.pretraining.base import QUERIES, fresh_student
from lskd_nb.students.blip2 import Student, Texts, itc_loss, lm_loss, lm_mask, pixels
from lskd_nb.students.loading import load_student
from lskd_nb.students.qformer import ROWS_TOGETHER


@pytest.fixture(scope="module")
def student() -> Student:
    return fresh_student(
        0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32
    ).eval()


@pytest.fixture(scope="module")
def image(student: Student) -> torch.Tensor:
    return student.encode_images(
        torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    )


def texts(student: Student) -> Texts:
    return student.tokenize(
        ["What is [0] about to do?", "Why does [1] do this?", ""],
        ["Answer: Fetch the ball.", "Answer: To stay dry.", "a brown dog running"],
    )


def test_matching_equals_the_class_it_wraps(student, image):
    t = texts(student)
    pixel_values = torch.randn(3, 3, 32, 32)
    ours = student.itm_logits(student.encode_images(pixel_values), t)
    theirs = student.blip2(
        pixel_values=pixel_values,
        input_ids=t.ids,
        attention_mask=t.mask,
        use_image_text_matching_head=True,
    )
    assert torch.allclose(ours, theirs.logits_per_image, atol=1e-6)


def test_padding_changes_nothing(student, image):
    t = texts(student)
    alone = student.tokenize(["What is [0] about to do?"], ["Answer: Fetch the ball."])
    shortest = student.tokenize([""], ["a brown dog running"])
    assert torch.allclose(
        student.itm_logits(image, t)[0], student.itm_logits(image[:1], alone)[0], atol=1e-5
    )
    assert torch.allclose(
        student.text_features(t)[2], student.text_features(shortest)[0], atol=1e-5
    )


def test_save_and_load_give_the_same_numbers(student, image, tmp_path):
    student.save(tmp_path / "s")
    again = load_student(str(tmp_path / "s")).eval()
    t = texts(student)
    assert torch.equal(student.itm_logits(image, t), again.itm_logits(image, t))
    assert torch.equal(
        student.lm_log_probabilities(image, t, True)[0],
        again.lm_log_probabilities(image, t, True)[0],
    )
    assert again.temperature == student.temperature
    assert again.lm_head.decoder.weight is again.blip2.embeddings.word_embeddings.weight


def test_missing_student_is_named():
    with pytest.raises(FileNotFoundError, match="no student at /nowhere/at/all"):
        load_student("/nowhere/at/all")


def test_contrast_without_shared_images_is_the_usual_one():
    torch.manual_seed(0)
    queries, words = (
        F.normalize(torch.randn(5, 4, 8), dim=-1),
        F.normalize(torch.randn(5, 8), dim=-1),
    )
    loss, _ = itc_loss(queries, words, torch.arange(5), torch.tensor(0.1))
    similarity = torch.einsum("iqd,td->itq", queries, words).amax(-1) / 0.1
    target = torch.arange(5)
    usual = (
        sum(F.cross_entropy(s, target, label_smoothing=0.1) for s in (similarity, similarity.T)) / 2
    )
    assert torch.isclose(loss, usual, atol=1e-6)


def test_rows_of_one_image_are_no_negatives_of_each_other():
    torch.manual_seed(0)
    words = F.normalize(torch.randn(4, 8), dim=-1)
    queries = words[:, None].clone()
    same, apart = torch.tensor([7, 7, 8, 9]), torch.arange(4)
    words[1] = words[0]  # two texts that both fit image 7
    masked, similarity = itc_loss(queries, words, same, torch.tensor(0.05))
    unmasked, _ = itc_loss(queries, words, apart, torch.tensor(0.05))
    assert masked < unmasked
    assert (
        similarity[0, 1] == -torch.inf
        and similarity[1, 0] == -torch.inf
        and similarity[0, 0] == -torch.inf
    )
    assert torch.isfinite(similarity[0, 2])


def test_contrast_of_a_batch_of_one_image_is_finite():
    words = F.normalize(torch.randn(3, 8), dim=-1)
    loss, _ = itc_loss(words[:, None], words, torch.zeros(3), torch.tensor(0.1))
    assert torch.isfinite(loss)


def test_who_sees_whom():
    see = (
        lm_mask(torch.tensor([[1, 1, 1, 1, 0]]), torch.tensor([2]), queries=2)[0, 0].int().tolist()
    )
    assert see == [
        # q  q  t  t  t  t  pad: queries see queries and the question (two tokens)
        [1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],  # so does the question itself
        [1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 0],  # the answer sees what came before it
        [1, 1, 1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1, 1, 0],  # padding is never seen
    ]
    published = (
        lm_mask(torch.ones(1, 3, dtype=torch.long), torch.tensor([0]), queries=1)[0, 0]
        .int()
        .tolist()
    )
    assert published == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]


@pytest.mark.parametrize("conditioned", [False, True])
def test_no_token_sees_the_one_it_predicts(student, image, conditioned):
    one = student.tokenize(["What is [0] about to do?"], ["Answer: Fetch the ball."])
    other = student.tokenize(["What is [0] about to do?"], ["Answer: Fetch the umbrella."])
    changed = int((one.ids[0] != other.ids[0]).nonzero()[0])
    a, counted = student.lm_log_probabilities(image[:1], one, conditioned)
    b, _ = student.lm_log_probabilities(image[:1], other, conditioned)
    before = int(counted[0, :changed].sum())  # they are told where the changed one ends, or earlier
    assert torch.allclose(a[:before], b[:before], atol=1e-6)
    assert not torch.allclose(a[before:], b[before:], atol=1e-4)
    expected = int(one.mask.sum()) - (int(one.prefix[0]) if conditioned else 1)
    assert int(counted.sum()) == expected == len(a)


def test_question_reaches_the_queries_only_when_conditioned(student, image):
    one = student.tokenize(["What is [0] about to do?"], ["Answer: Fetch the ball."])
    other = student.tokenize(["What is [1] about to do?"], ["Answer: Fetch the ball."])
    last = [student.lm_log_probabilities(image[:1], t, True)[0][-1] for t in (one, other)]
    assert not torch.allclose(*last, atol=1e-4)


def test_language_loss_counts_only_what_counts():
    log_probability = torch.log_softmax(torch.randn(2, 5), -1)
    ids = torch.tensor([[1, 2, 3], [3, 4, 0]])
    counted = torch.tensor([[True, False, False], [False, True, False]])
    told = torch.tensor([1, 4])
    expected = F.cross_entropy(log_probability, told, label_smoothing=0.1)
    assert torch.isclose(lm_loss(log_probability, counted, ids), expected, atol=1e-6)
    shared = lm_loss(log_probability, counted, ids, tokens=torch.tensor(4.0))
    assert torch.isclose(shared, expected / 2, atol=1e-6)


def test_vision_encoder_stays_frozen(student):
    student.train()
    assert not student.blip2.vision_model.training
    assert not any(p.requires_grad for p in student.blip2.vision_model.parameters())
    student.eval()


def test_only_the_continuation_is_cut(student):
    short = Student(student.blip2, student.tokenizer, max_tokens=10)
    t = short.tokenize(["why ?"], ["answer : to stay dry and warm and fed and happy"])
    assert (
        t.ids.shape[1] == 10
        and t.ids[0, -1] == student.tokenizer.sep_token_id
        and int(t.prefix[0]) == 3
    )


def test_pixels_are_normalised_like_blip2s_own_processor():
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
    theirs = BlipImageProcessorPil(size={"height": 32, "width": 32})(image, return_tensors="np")[
        "pixel_values"
    ][0]
    assert np.abs(pixels(image, 32) - theirs).max() < 1e-5


def test_several_texts_of_an_image_share_it(student, image):
    t = texts(student)
    rows = torch.tensor([0, 1, 1, 2, 2, 0])
    together = student.itm_logits(image, t[rows])  # two texts for each of three images
    apart = student.itm_logits(image.repeat_interleave(2, 0), t[rows])
    assert torch.allclose(together, apart, atol=1e-6)


def test_what_was_seen_once_serves_every_pass(student, image):
    t, seen = texts(student), student.image_keys_values(image)
    assert len(seen) == len(image)
    assert torch.equal(student.query_features(seen), student.query_features(image))
    assert torch.equal(student.itm_logits(seen, t), student.itm_logits(image, t))
    assert torch.equal(
        student.lm_log_probabilities(seen, t, True)[0],
        student.lm_log_probabilities(image, t, True)[0],
    )


def test_features_equal_the_class_it_wraps(student):
    t = texts(student)
    pixel_values = torch.randn(3, 3, 32, 32)
    theirs = student.blip2(
        pixel_values=pixel_values,
        input_ids=t.ids,
        attention_mask=t.mask,
        use_image_text_matching_head=False,
    )
    queries = student.query_features(student.encode_images(pixel_values))
    assert torch.allclose(queries, theirs.image_embeds, atol=1e-6)
    assert torch.allclose(student.text_features(t), theirs.text_embeds, atol=1e-6)


def test_features_kept_in_bf16_serve_a_model_that_computes_in_float32(student):
    image = student.encode_images(torch.rand(2, 3, student.image_size, student.image_size)).to(
        torch.bfloat16
    )
    texts = student.tokenize(["What is [0]?", "Why?"], ["Answer: a dog.", "Answer: rain."])
    with torch.no_grad():
        scores = student.itm_logits(image, texts)
        assert scores.dtype == torch.float32
        torch.testing.assert_close(scores, student.itm_logits(image.float(), texts))


@pytest.fixture
def many(student: Student) -> Texts:
    """Texts of four to 24 tokens, two about each of 30 images: more than go together."""
    rng = np.random.default_rng(0)
    words = [" ".join(["dog"] * int(n)) for n in rng.integers(1, 12, 120)]
    return student.tokenize(words[:60], words[60:])


def test_lengths_of_other_texts_change_neither_a_score_nor_a_gradient(student, many):
    assert len(many.ids) > ROWS_TOGETHER
    image = torch.randn(30, 5, 24, generator=torch.Generator().manual_seed(2))
    heads = (
        student.blip2.itm_head.weight,
        student.blip2.qformer.encoder.layer[0].output.dense.bias,
    )

    def found(image: torch.Tensor, t: Texts) -> list[torch.Tensor]:
        log_probability, counted = student.lm_log_probabilities(image, t, True)
        itm = student.itm_logits(image, t)
        of_text = torch.stack([p.sum() for p in log_probability.split(counted.sum(1).tolist())])
        return [itm, of_text, *torch.autograd.grad(itm[:, 1].sum() + of_text.sum(), heads)]

    each = []
    for row in range(len(many.ids)):
        length = int(many.mask[row].sum())
        alone = Texts(
            *(t[row : row + 1, :length] for t in (many.ids, many.mask)), many.prefix[[row]]
        )
        each.append(found(image[[row // 2]], alone))
    itm, of_text, *gradients = zip(*each, strict=True)
    told = torch.cat(itm), torch.cat(of_text), *(torch.stack(g).sum(0) for g in gradients)
    for ours, expected in zip(found(image, many), told, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


def test_nothing_is_computed_of_padding_and_of_what_nobody_reads(student, many, monkeypatch):
    layers = student.blip2.qformer.encoder.layer
    rows: list[int] = []  # of words, and of queries, that each layer's feed-forward is given
    for layer in layers:
        for part in (layer.intermediate, layer.intermediate_query):
            monkeypatch.setattr(
                part, "forward", lambda x, f=part.forward: rows.append(x.shape[:-1].numel()) or f(x)
            )
    image, words, queries = torch.randn(30, 5, 24), int(many.mask.sum()), 60 * QUERIES
    assert words < 0.7 * many.mask.numel()
    with torch.no_grad():
        student.itm_logits(image, many)
        assert sorted(rows) == sorted([words, queries, queries])  # two layers
        rows.clear()
        student.text_features(many)
        assert rows == [words, len(many.ids)]
        rows.clear()
        log_probability, counted = student.lm_log_probabilities(image, many, True)
    assert sorted(rows) == sorted([words, queries, int(counted.sum())])
    assert len(log_probability) == counted.sum()
