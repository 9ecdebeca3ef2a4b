"""BLIP-2 ViT-G in its published sizes on one GPU, with random weights: throughput, memory and bf16,
at the paper's 480 pixels and batch of 64.

Run by hand on a machine with a GPU, ``python tests/benchmarks/gpu.py > gpu.json``; figures are of
that machine alone, which the first line names. FLOPs are counted as 2 for each weight and token,
and 4 · patches · width for attention of each layer; backward counts twice forward.
"""

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from proportions import images, sentence, whole_student

from lskd_nb.critic.model import Critic
from lskd_nb.students.blip2 import Student, autocast
from lskd_nb.students.views import drawn_pixels, encode_drawn
from lskd_nb.training.batches import Sample
from lskd_nb.training.distillation import DistillationConfig, Objectives
from lskd_nb.training.loop import clip_gradients, optimizer_of
from lskd_nb.viewing.pointing import generate_answer, look, rank_candidates, regions_of_boxes

BATCH, SIZE = 64, 480


def seconds(call: Callable[[], object], times: int = 5) -> float:
    """Median, after one call to warm up."""
    call()
    found = []
    for _ in range(times):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        call()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - begin)
    return float(np.median(found))


def told(what: str, **figures: object) -> None:
    print(
        json.dumps(
            {"what": what}
            | {k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()}
        ),
        flush=True,
    )


def peak(call: Callable[[], object]) -> float:
    """GiB at most, what is there already included."""
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / 2**30


def encoder_flops(student: Student) -> float:
    """Of one image's forward."""
    vision = student.blip2.config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2 + 1
    weights = sum(p.numel() for p in student.blip2.vision_model.encoder.parameters())
    return (
        2.0 * weights * patches + 4.0 * vision.num_hidden_layers * patches**2 * vision.hidden_size
    )


def encoding(student: Student, drawn: torch.Tensor) -> None:
    flops = encoder_flops(student) * len(drawn)
    for name, bf16 in (("bf16", True), ("float32", False)):
        took = seconds(lambda bf16=bf16: encode_drawn(student, drawn, bf16), 3)
        told(
            f"encoding {len(drawn)} images, {name}",
            seconds=took,
            images_per_second=len(drawn) / took,
            tflops=flops / took / 1e12,
            peak_gib=peak(lambda bf16=bf16: encode_drawn(student, drawn, bf16)),
        )
    one, other = (encode_drawn(student, drawn[:8], bf16).float() for bf16 in (True, False))
    told(
        "bf16 beside float32, features",
        relative_difference=((one - other).norm() / other.norm()).item(),
    )


def training(student: Student, drawn: torch.Tensor, batch: list[Sample]) -> None:
    config = DistillationConfig("", "", "", "", steps=1, batch=len(batch), lm=1.0)
    student.train()
    optimizer = optimizer_of(student, student.word_embeddings, 0.05, 1.0)

    def step(seen: torch.Tensor, config: DistillationConfig) -> None:
        sum(Objectives(student, config)(seen, batch, np.random.default_rng(0)).values()).backward()
        clip_gradients(optimizer)
        optimizer.step()
        optimizer.zero_grad()

    features = encode_drawn(student, drawn).to(torch.bfloat16)
    kinds = {
        "ITC + ITM + LM, bf16": (drawn, config, False),
        "the same, gradient checkpointing": (drawn, config, True),
        "the same with stored features": (features, config, False),
        "ITC + ITM + LM, float32": (drawn, replace(config, bf16=False), False),
    }
    for name, (seen, kind, checkpointing) in kinds.items():
        student.blip2.qformer.gradient_checkpointing = checkpointing
        took = seconds(lambda seen=seen, kind=kind: step(seen, kind), 3)
        told(
            f"a training step of {len(batch)}, {name}",
            seconds=took,
            rows_per_second=len(batch) / took,
            peak_gib=peak(lambda seen=seen, kind=kind: step(seen, kind)),
        )
    student.blip2.qformer.gradient_checkpointing = False
    student.eval()


@torch.no_grad()
def judging(student: Student, drawn: torch.Tensor, rng: np.random.Generator) -> None:
    critic = Critic(student).to("cuda").eval()
    questions = [sentence(rng, 8) for _ in range(6 * len(drawn))]
    texts = [f"Answer: {sentence(rng, 6)} Rationale: {sentence(rng, 12)}" for _ in questions]

    def score() -> None:
        with autocast(student.device):
            critic(student.image_keys_values(encode_drawn(student, drawn)), questions, texts)

    took = seconds(score, 3)
    told(
        f"critic, {len(drawn)} images with 6 triples each, bf16",
        seconds=took,
        triples_per_second=len(questions) / took,
        hours_per_million=1e6 * took / len(questions) / 3600,
    )


def pointing(student: Student, rng: np.random.Generator) -> None:
    photograph = Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).resize(
        (1280, 960), Image.Resampling.BICUBIC
    )
    regions = regions_of_boxes([[100, 200, 600, 800], [650, 220, 1100, 900]], photograph.size)
    seen, answers = look(student, photograph, regions), [sentence(rng, 5) for _ in range(60)]
    told("pointing: look at one image", seconds=seconds(lambda: look(student, photograph, regions)))
    told(
        "pointing: rank 60 answers",
        seconds=seconds(
            lambda: rank_candidates(student, seen, "what is [0] about to do?", answers, "student")
        ),
    )
    words = generate_answer(student, seen, "what is [0] about to do?", "student", most=20)
    told(
        "pointing: an answer of at most 20 tokens in its own words",
        seconds=seconds(
            lambda: generate_answer(student, seen, "what is [0] about to do?", "student", most=20)
        ),
        tokens=len(words.answer.split()),
    )


def main() -> None:
    rng = np.random.default_rng(0)
    told(
        "machine",
        gpu=torch.cuda.get_device_name(),
        torch=torch.__version__,
        memory_gib=torch.cuda.get_device_properties(0).total_memory / 2**30,
    )
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        drawn = drawn_pixels(images(Path(place), BATCH), Path(place), SIZE)
        batch = [
            Sample(
                v, sentence(rng, 8), f"Answer: {sentence(rng, 8)} Rationale: {sentence(rng, 12)}"
            )
            for v in images(Path(place), BATCH)
        ]
    student = whole_student(SIZE).to("cuda")
    told(
        "student",
        weights=sum(p.numel() for p in student.parameters()),
        trained=sum(p.numel() for p in student.parameters() if p.requires_grad),
        seconds_to_make=time.perf_counter() - begin,
    )
    encoding(student, drawn)
    pointing(student, rng)
    judging(student, drawn, rng)
    training(student, drawn, batch)


if __name__ == "__main__":
    main()
