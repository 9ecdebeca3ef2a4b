"""A step of training beside LAVIS's own ``Blip2Qformer``, at equal weights, images and texts;
and what storing features adds.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from measuring import Measured, side_by_side, times_faster
from proportions import images, quarter_student, sentence

from lskd_nb.students.blip2 import Student
from lskd_nb.students.lavis_backend import LavisStudent
from lskd_nb.students.lavis_compat import one_process_group
from lskd_nb.students.views import drawn_pixels, encode_drawn, normalised
from lskd_nb.training.batches import Sample
from lskd_nb.training.distillation import DistillationConfig, Objectives
from lskd_nb.training.loop import optimizer_of

BATCH = 16


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss_of) -> float:
    loss = loss_of()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def optimizer_for(student: Student) -> torch.optim.Optimizer:
    return optimizer_of(student, student.word_embeddings, 0.05, 1.0)


def measure() -> list[Measured]:
    rng, rows = np.random.default_rng(0), []
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        views = images(root, BATCH)
        drawn = drawn_pixels(views, root, 224)
    batch = [
        Sample(v, sentence(rng, 8), f"Answer: {sentence(rng, 8)} Rationale: {sentence(rng, 10)}")
        for v in views
    ]
    told = DistillationConfig("", "", "", "", steps=1, batch=BATCH, lm=1.0)
    ours, theirs = quarter_student(dropout=0.1), LavisStudent.of(quarter_student(dropout=0.1))
    theirs.blip2.max_txt_len = theirs.max_tokens
    theirs.blip2.visual_encoder.requires_grad_(False).eval()  # as LAVIS's freeze_vit does
    pixels, texts = normalised(drawn), [f"{d.question} {d.text}" for d in batch]
    ours.train(), theirs.blip2.train()
    theirs.blip2.visual_encoder.eval()
    optimizers = (
        optimizer_for(ours),
        torch.optim.AdamW(
            [p for p in theirs.blip2.parameters() if p.requires_grad], lr=1e-5, weight_decay=0.05
        ),
    )

    def mine(seen: torch.Tensor, config: DistillationConfig) -> float:
        return step(
            ours,
            optimizers[0],
            lambda: sum(Objectives(ours, config)(seen, batch, np.random.default_rng(0)).values()),
        )

    with one_process_group():

        def lavis() -> float:
            return step(
                theirs,
                optimizers[1],
                lambda: theirs.blip2({"image": pixels, "text_input": texts}).loss,
            )

        for what, config, aim in (
            ("float32", replace(told, bf16=False), 1.5),
            ("bf16 where the processor has it", told, 1.5),
        ):
            a, b = side_by_side(lambda config=config: mine(drawn, config), lavis, 5)
            rows.append(
                times_faster(
                    "training",
                    f"a step, ITC + ITM + LM, {BATCH} rows, {what}",
                    a,
                    b,
                    "LAVIS's Blip2Qformer, float32",
                    aim,
                )
            )
        features = encode_drawn(ours, drawn)
        a, b = side_by_side(lambda: mine(features, told), lavis, 5)
        rows.append(
            times_faster(
                "training",
                "the same with stored features of fixed views",
                a,
                b,
                "LAVIS's Blip2Qformer, float32",
                1.5,
            )
        )
    return rows
