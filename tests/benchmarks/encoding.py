"""Scoring: each view encoded once and all its texts run against it, beside a model that is given
an image with every text, as is usual. Verbalization: each image encoded once for two models that
have the same vision encoder, beside each of them looking for itself, at every prompt.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from measuring import Measured, side_by_side, times_faster
from proportions import images, quarter_speakers, quarter_student, sentence

from lskd_nb.critic.model import Critic, CriticExample, score
from lskd_nb.evaluation.choices import Item, match_scores
from lskd_nb.students.blip2 import Student
from lskd_nb.students.views import FrozenFeatures, drawn_pixels, normalised, open_image
from lskd_nb.verbalization.verbalizers import Looked, PromptedBlip2, Settings, share_vision

QUESTIONS = 5  # about each image, as params/a100 has it
PAIRS = 16  # images with their text that go through the usual model at a time


@torch.no_grad()
def usual_match_scores(student: Student, items: list[Item], root: Path) -> list[float]:
    """Hugging Face's own class, one image and one text to a row."""
    rows, found = [(item, choice) for item in items for choice in item.choices], []
    for start in range(0, len(rows), PAIRS):
        part = rows[start : start + PAIRS]
        pixels = normalised(drawn_pixels([item.view for item, _ in part], root, student.image_size))
        texts = student.tokenize(
            [item.question for item, _ in part], [choice for _, choice in part]
        )
        logits = student.blip2(
            pixel_values=pixels,
            input_ids=texts.ids,
            attention_mask=texts.mask,
            use_image_text_matching_head=True,
        ).logits_per_image
        found += (logits[:, 1] - logits[:, 0]).tolist()
    return found


@torch.no_grad()
def usual_critic(critic: Critic, rows: list[CriticExample], root: Path) -> list[float]:
    """A triple at a time with its own image."""
    found = []
    for start in range(0, len(rows), PAIRS):
        part = rows[start : start + PAIRS]
        image = critic.blip2.encode_images(
            normalised(drawn_pixels([r.view for r in part], root, critic.blip2.image_size))
        )
        found += (
            critic(image, [r.question for r in part], [r.text for r in part])[0]
            .softmax(-1)[:, 1]
            .tolist()
        )
    return found


def spoken(root: Path) -> Measured:
    """A caption of each image by one model, answers to questions by another."""
    pictures = [open_image(root, view.image) for view in images(root, 8)]
    captions, answers = (PromptedBlip2(str(f), torch.device("cpu")) for f in quarter_speakers(root))
    rng, settings = np.random.default_rng(0), Settings(max_new_tokens=10)
    rows = [n for n in range(len(pictures)) for _ in range(QUESTIONS)]
    asked = [f"Question: {sentence(rng, 6)} Answer:" for _ in rows]
    plain = [""] * len(pictures)

    def apart() -> list[tuple[str, float]]:
        repeated = [pictures[n] for n in rows]
        return captions(pictures, plain, settings) + answers(repeated, asked, settings)

    def once() -> list[tuple[str, float]]:
        looked = Looked(pictures)
        said = captions.say(looked.by(captions), plain, settings)
        return said + answers.say(looked.by(answers)[rows], asked, settings)

    alone = apart()
    share_vision(answers, [captions])
    assert answers.vision is captions.vision and [t for t, _ in once()] == [t for t, _ in alone]
    ours, other = side_by_side(once, apart, 3, time.process_time)
    return times_faster(
        "encoding",
        f"words about an image: a caption, {QUESTIONS} answers by another model",
        ours,
        other,
        "each model encodes it, at every prompt",
        2,
        "processor time, the same words",
    )


def measure() -> list[Measured]:
    torch.cpu._is_avx512_bf16_supported = lambda: (
        False
    )  # both in float32, so that scores can be compared
    rng, student, rows = np.random.default_rng(0), quarter_student(), []
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        views = images(root, 16)
        frozen = FrozenFeatures(student, root)
        for number, choices, aim in ((16, 4, 3), (2, 50, 10)):
            items = [
                Item(
                    str(n),
                    str(n),
                    view,
                    sentence(rng, 8),
                    tuple(
                        f"Answer: {sentence(rng, int(rng.integers(6, 16)))}" for _ in range(choices)
                    ),
                    0,
                    "t",
                )
                for n, view in enumerate(views[:number])
            ]
            difference = np.abs(
                np.concatenate(match_scores(student, items, frozen))
                - usual_match_scores(student, items, root)
            ).max()
            ours, other = side_by_side(
                lambda items=items: match_scores(student, items, frozen),
                lambda items=items: usual_match_scores(student, items, root),
                3,
            )
            rows.append(
                times_faster(
                    "encoding",
                    f"multiple choice, {choices} candidates",
                    ours,
                    other,
                    "an image with every text",
                    aim,
                    f"largest difference of scores {difference:.0e}",
                )
            )
        rows.append(spoken(root))
        critic = Critic(student).eval()
        torch.nn.init.normal_(critic.accept_head.weight, std=0.1)  # so that probabilities differ
        judged = [
            CriticExample(
                view,
                sentence(rng, 8),
                f"Answer: {sentence(rng, 10)} Rationale: {sentence(rng, 12)}",
            )
            for view in views[:8]
            for _ in range(6)
        ]
        difference = np.abs(
            score(critic, judged, frozen)["score"] - usual_critic(critic, judged, root)
        ).max()
        ours, other = side_by_side(
            lambda: score(critic, judged, frozen), lambda: usual_critic(critic, judged, root), 3
        )
        rows.append(
            times_faster(
                "encoding",
                "critic, 6 triples about each image",
                ours,
                other,
                "an image with every triple",
                3,
                f"largest difference of scores {difference:.0e}",
            )
        )
    return rows
