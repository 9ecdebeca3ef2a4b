"""Scoring: each view encoded once and all its texts run against it, beside a model that is given
an image with every text, as is usual.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from measuring import Measured, side_by_side, times_faster
from proportions import images, quarter_student, sentence

from lskd_nb.critic.model import Critic, CriticExample, score
from lskd_nb.evaluation.choices import Item, match_scores
from lskd_nb.students.blip2 import Student
from lskd_nb.students.views import FrozenFeatures, drawn_pixels, normalised

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
