"""The heavy steps of a real run on one GPU, in the published sizes with random weights: what they
take in time and memory, at the paper's 480 pixels and its batch of 64 for each GPU.

Run by hand on a machine with a GPU, ``python tests/benchmarks/gpu.py > outputs/gpu.json``, in at
most ten minutes: encoding, pointing, 03's and 05's training steps, 04's and 06's scoring, 08's
step with FlanT5-XXL, then notebooks 01 to 08 of the smoke profile in the time that is left. A
line of JSON for each, written at once; a part that fails says so in its line, and the others go
on. Figures are of that machine alone, which the first line names. ``--tiny`` walks through all of
it but the notebooks with tiny networks, on a CPU too. FLOPs are counted as 2 for each weight and
token, and 4 · patches · width for attention of each layer; backward counts twice forward.

What of all this a GPU has run is what outputs/gpu.json holds; ``make figures`` writes it into the
guide.
"""

import argparse
import datetime
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from proportions import generative_student, images, sentence, tiny_student, whole_student

from lskd_nb.critic.model import Critic, CriticExample, critic_loss, critic_losses
from lskd_nb.evaluation.choices import Item, match_scores
from lskd_nb.run_folder import find_root
from lskd_nb.students.blip2 import Student, autocast
from lskd_nb.students.views import FrozenFeatures, View, drawn_pixels, encode_drawn
from lskd_nb.training.batches import Sample
from lskd_nb.training.distillation import DistillationConfig, Objectives
from lskd_nb.training.loop import clip_gradients, optimizer_of
from lskd_nb.viewing.pointing import generate_answer, look, rank_candidates, regions_of_boxes

SECONDS = 590  # for all of it
CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")


def wait() -> None:
    if CUDA:
        torch.cuda.synchronize()


def seconds(call: Callable[[], object], times: int = 5) -> float:
    """Median, after one call to warm up."""
    call()
    found = []
    for _ in range(times):
        wait()
        begin = time.perf_counter()
        call()
        wait()
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


def peak(call: Callable[[], object]) -> float | None:
    """GiB of the GPU at most, what is there already included; None without one."""
    if not CUDA:
        return None
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
    """05's step as published: ITC, ITM and LM, AdamW, nothing clipped."""
    config = DistillationConfig("", "", "", "", steps=1, batch=len(batch), lm=1.0)
    student.train()
    optimizer = optimizer_of(
        student, student.word_embeddings, config.weight_decay, 1.0, (0.9, config.beta2)
    )

    def step(seen: torch.Tensor, config: DistillationConfig) -> None:
        sum(Objectives(student, config)(seen, batch, np.random.default_rng(0)).values()).backward()
        clip_gradients(optimizer, config.clip_norm)
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
            f"05: a training step of {len(batch)}, {name}",
            seconds=took,
            samples_per_second=len(batch) / took,
            peak_gib=peak(lambda seen=seen, kind=kind: step(seen, kind)),
        )
    student.blip2.qformer.gradient_checkpointing = False
    student.eval()


def critic_training(student: Student, drawn: torch.Tensor, batch: list[Sample]) -> None:
    """03's step: the critic learns from labels, the image encoded anew each time."""
    critic = Critic(student).to(DEVICE).train()
    examples = [
        CriticExample(row.view, row.question, row.text, float(n % 2), 0.5, 0.5)
        for n, row in enumerate(batch)
    ]
    optimizer = optimizer_of(critic, student.word_embeddings, 0.05, 1.0)

    def step() -> None:
        with autocast(DEVICE):
            loss = critic_loss(critic_losses(critic, encode_drawn(student, drawn), examples))
        loss.backward()
        clip_gradients(optimizer)
        optimizer.step()
        optimizer.zero_grad()

    took = seconds(step, 3)
    told(
        f"03: a step of the critic, {len(batch)} labelled triples, bf16",
        seconds=took,
        samples_per_second=len(batch) / took,
        peak_gib=peak(step),
    )
    student.eval()


@torch.no_grad()
def judging(student: Student, drawn: torch.Tensor, rng: np.random.Generator) -> None:
    critic = Critic(student).to(DEVICE).eval()
    questions = [sentence(rng, 8) for _ in range(6 * len(drawn))]
    texts = [f"Answer: {sentence(rng, 6)} Rationale: {sentence(rng, 12)}" for _ in questions]

    def score() -> None:
        with autocast(student.device):
            critic(student.image_keys_values(encode_drawn(student, drawn)), questions, texts)

    took = seconds(score, 3)
    told(
        f"04: critic, {len(drawn)} images with 6 triples each, bf16",
        seconds=took,
        samples_per_second=len(questions) / took,
        hours_per_million=1e6 * took / len(questions) / 3600,
        peak_gib=peak(score),
    )


def evaluating(student: Student, root: Path, views: Sequence[View], rng) -> None:
    """06's scoring, from files on: four choices as VCR has, fifty as VisualCOMET."""
    features = FrozenFeatures(student, root)
    for many, shown in ((4, views), (50, views[: max(len(views) // 4, 1)])):
        items = [
            Item(
                str(n),
                view.image,
                view,
                sentence(rng, 8),
                tuple(f"Answer: {sentence(rng, 8)}" for _ in range(many)),
                0,
                "vcr.q_a",
            )
            for n, view in enumerate(shown)
        ]
        took = seconds(lambda items=items: match_scores(student, items, features), 2)
        told(
            f"06: {len(items)} questions about as many images, {many} choices each, bf16",
            seconds=took,
            samples_per_second=len(items) / took,
            peak_gib=peak(lambda items=items: match_scores(student, items, features)),
        )


def generative(root: Path, views: Sequence[View], tiny: bool, rng: np.random.Generator) -> None:
    """08's step and its answers; with half the batch, and half of that, where it does not fit."""
    begin = time.perf_counter()
    student = generative_student(DEVICE, tiny, 56 if tiny else 224)
    told(
        "08: BLIP-2 FlanT5-XXL",
        weights=sum(p.numel() for p in student.parameters()),
        trained=sum(p.numel() for p in student.parameters() if p.requires_grad),
        seconds_to_make=time.perf_counter() - begin,
    )
    optimizer = optimizer_of(student, student.blip2.query_tokens, 0.05, 1.0)
    questions = [sentence(rng, 8) for _ in views]
    texts = [f"Answer: {sentence(rng, 8)} Rationale: {sentence(rng, 12)}" for _ in views]
    drawn = drawn_pixels(views, root, student.image_size)
    batch = len(views)

    def step() -> None:
        student.train()
        image = encode_drawn(student, drawn[:batch])
        with autocast(DEVICE):
            loss = student.loss(image, questions[:batch], texts[:batch])
        loss.backward()
        clip_gradients(optimizer)
        optimizer.step()
        optimizer.zero_grad()

    while True:
        try:
            took = seconds(step, 3)
            break
        except torch.OutOfMemoryError:
            told(f"08: a training step of {batch}", error="does not fit into memory")
            optimizer.zero_grad()
            torch.cuda.empty_cache()
            if (batch := batch // 2) == 0:
                raise
    told(
        f"08: a training step of {batch}",
        seconds=took,
        samples_per_second=batch / took,
        peak_gib=peak(step),
    )
    student.eval()

    def answer() -> None:
        with autocast(DEVICE):
            image = encode_drawn(student, drawn[:batch])
            student.generate(image, questions[:batch], max_new_tokens=40)

    took = seconds(answer, 1)
    told(f"08: {batch} answers of at most 40 tokens", seconds=took, samples_per_second=batch / took)


def smoke(left: float) -> None:
    """Notebooks 01 to 06 of the smoke profile, then 08; what is done already is not done again."""
    root, until = find_root(), time.perf_counter() + left
    for named in ([], ["--only", "08"]):
        begin = time.perf_counter()
        limit = max(until - begin, 1.0)
        done = subprocess.run(
            [sys.executable, "-m", "lskd_nb.cli", "run", "smoke", *named]
            + ["--run-limit", str(round(limit))],
            cwd=root,
            capture_output=True,
            text=True,
        )
        told(
            " ".join(["lskd run smoke", *named]),
            seconds=time.perf_counter() - begin,
            status=done.returncode,
            said=[line for line in done.stdout.splitlines() if line.startswith("[")],
            error=done.stderr[-800:] if done.returncode else None,
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


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--tiny", action="store_true", help="tiny networks, no notebooks")
    parser.add_argument("--no-smoke", action="store_true", help="no notebooks")
    options = parser.parse_args(arguments)
    begin, rng = time.perf_counter(), np.random.default_rng(0)
    batch, size = (4, 56) if options.tiny else (64, 480)
    if not CUDA and not options.tiny:
        parser.error("there is no GPU here; --tiny walks through on a CPU")
    told(
        "machine",
        device=torch.cuda.get_device_name() if CUDA else "CPU",
        torch=torch.__version__,
        date=datetime.date.today().isoformat(),
        memory_gib=torch.cuda.get_device_properties(0).total_memory / 2**30 if CUDA else None,
    )
    failed = []

    def part(name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # the other parts are worth their time all the same
            failed.append(name)
            told(name, error=f"{type(error).__name__}: {str(error)[:400]}")
        gc.collect()
        torch.cuda.empty_cache()

    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        views = images(root, batch)
        drawn = drawn_pixels(views, root, size)
        rows = [
            Sample(
                v, sentence(rng, 8), f"Answer: {sentence(rng, 8)} Rationale: {sentence(rng, 12)}"
            )
            for v in views
        ]
        student = (tiny_student if options.tiny else whole_student)(size).to(DEVICE)
        told(
            "student",
            weights=sum(p.numel() for p in student.parameters()),
            trained=sum(p.numel() for p in student.parameters() if p.requires_grad),
            seconds_to_make=time.perf_counter() - begin,
        )
        part("encoding", lambda: encoding(student, drawn))
        part("pointing", lambda: pointing(student, rng))
        part("04", lambda: judging(student, drawn, rng))
        part("06", lambda: evaluating(student, root, views, rng))
        part("03", lambda: critic_training(student, drawn, rows))
        part("05", lambda: training(student, drawn, rows))
        student = None
        part("08", lambda: generative(root, views, options.tiny, rng))
    if not (options.tiny or options.no_smoke):
        part("smoke", lambda: smoke(SECONDS - (time.perf_counter() - begin)))
    told("end", seconds=time.perf_counter() - begin, failed=failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
