"""``lskd mini pretrain``: make the mini world's base student and verbalizers from nothing.

Once, and seeded. Writes ``lskd_nb/mini/weights/{student,plain_student,clip,vlm,questions}`` in
Hugging Face's layout, half precision, and ``CARD.md`` that says how they were made and what they
score on scenes they have not seen. No region id, no commonsense text and none of the scenes of a
run is among the training data: a run samples its scenes from other streams of the generator.
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from lskd_nb.mini.pretraining import base
from lskd_nb.mini.pretraining.stage1 import reading_scores, train_reading
from lskd_nb.mini.pretraining.verbalizers import train_verbalizers
from lskd_nb.mini.pretraining.vision import (
    FRAMED,
    make_pool,
    train_vision,
    vision_scores,
    word_index,
)
from lskd_nb.students.blip2 import Student
from lskd_nb.students.loading import load_student

WEIGHTS = Path(__file__).parent.parent / "weights"
TRAINING_STREAM, HELD_OUT_STREAM = 90_001, 90_002
PARTS = {
    "vision": "the base student's vision encoder",
    "reading": "the base student's Q-Former: BLIP-2, stage 1",
    "plain": "a second base, which has seen no frames",
    "verbalizers": "CLIP, BLIP-2 with T5, T5",
}
say = partial(print, flush=True)


def pretrain_vision(
    folder: Path, seed: int, scenes: int, steps: int, log: Callable, framed: float = FRAMED
) -> dict:
    """Train a fresh student's vision encoder and save all of it.

    Returns what is read from its features on held-out scenes.
    """
    student = base.fresh_student(seed)
    pool = make_pool(scenes, TRAINING_STREAM + seed, "p")
    head = train_vision(student, pool, steps, 1.5e-3, seed, log, framed)
    save_half(student, folder)
    held_out = make_pool(min(600, scenes), HELD_OUT_STREAM + seed, "q")
    return {"vision": vision_scores(student, head, held_out, word_index(), seed, framed)}


def pretrain_reading(
    folder: Path, seed: int, scenes: int, steps: int, log: Callable, framed: float = FRAMED
) -> dict:
    """Train the Q-Former of the student in ``folder``.

    Returns what it tells apart on held-out scenes.
    """
    student = load_student(str(folder))
    pool = make_pool(scenes, TRAINING_STREAM + seed, "p")
    train_reading(student, pool, steps, 1.5e-3, seed, log, framed)
    save_half(student, folder)
    held_out = make_pool(min(600, scenes), HELD_OUT_STREAM + seed, "q")
    return {"reading": reading_scores(student, held_out, seed, framed=framed)}


def pretrain_plain(
    folder: Path, seed: int, scenes: int, steps: Sequence[int], log: Callable
) -> dict:
    """A second base, of the same kind, that has seen no frame and no word about one."""
    seen = pretrain_vision(folder, seed, scenes, steps[0], log, framed=0.0)
    return seen | pretrain_reading(folder, seed, scenes, steps[1], log, framed=0.0)


def save_half(student: Student, folder: Path) -> None:
    """Save in half precision, complete or not at all."""
    temporary = folder.with_name(folder.name + ".new")
    shutil.rmtree(temporary, ignore_errors=True)
    student.blip2.set_attn_implementation("sdpa")
    student.to(torch.float16).save(temporary)
    student.to(torch.float32)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def write_card(folder: Path) -> None:
    """``CARD.md`` from the scores that the parts left in ``scores.json``."""
    scores = json.loads((folder / "scores.json").read_text())
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6
    lines = [
        "# Weights of the mini world",
        "",
        (
            f"{size:.1f} MB, half precision. Made by `lskd mini pretrain`: random initial weights,"
            " trained on synthetic scenes only."
        ),
        (
            "They know the mini world's drawings and words, and nothing else; their use is to run"
            " the whole method in minutes."
        ),
        "",
        "| part | what it is | seed | minutes | held-out scores |",
        "|---|---|---|---|---|",
    ]
    for part, entry in scores.items():
        told = "; ".join(
            f"{group}: " + ", ".join(f"{k} {v:.3f}" for k, v in values.items())
            for group, values in entry["scores"].items()
        )
        lines.append(
            f"| {part} | {entry['what']} | {entry['seed']} | {entry['minutes']:.0f} | {told} |"
        )
    lines += [
        "",
        "Minutes are by the clock, whatever else the machine had to do.",
        (
            "Scores are shares of right predictions on scenes that no training saw: for the"
            " student's vision encoder, of framed"
        ),
        (
            "entities (frame colour, pose, held thing) and pictures (place), read by a linear head;"
            " for its Q-Former, of pairs where"
        ),
        (
            "ITM prefers the right caption, or the right statement about a frame, to a wrong one."
            " For the verbalizers, see notebook 01."
        ),
        "",
        (
            "The student has seen frames in colours and captions that say so,"
            " never region ids, and no commonsense question."
        ),
    ]
    (folder / "CARD.md").write_text("\n".join(lines) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="lskd mini pretrain", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=list(PARTS),
        help="each goes on from what the one before it saved",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", type=int, default=12_000, help="training scenes of the student")
    parser.add_argument("--vision-steps", type=int, default=4000)
    parser.add_argument("--reading-steps", type=int, default=3000)
    parser.add_argument(
        "--plain-steps", type=int, nargs=2, metavar=("VISION", "READING"), default=(1500, 1500)
    )
    parser.add_argument("--verbalizer-scenes", type=int, default=4_000)
    parser.add_argument(
        "--verbalizer-steps",
        type=int,
        nargs=3,
        metavar=("CLIP", "VLM", "QUESTIONS"),
        default=(1200, 1800, 300),
    )
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    told = options.out / "scores.json"
    student, seed = options.out / "student", options.seed
    for part in options.parts:
        begin = time.time()
        if part == "vision":
            scores = pretrain_vision(student, seed, options.scenes, options.vision_steps, say)
        elif part == "reading":
            scores = pretrain_reading(student, seed, options.scenes, options.reading_steps, say)
        elif part == "plain":
            folder = options.out / "plain_student"
            scores = pretrain_plain(folder, seed, options.scenes // 2, options.plain_steps, say)
        else:
            steps = dict(zip(("clip", "vlm", "questions"), options.verbalizer_steps, strict=True))
            scores = train_verbalizers(options.out, seed, options.verbalizer_scenes, steps, say)
        known = json.loads(told.read_text()) if told.exists() else {}
        known[part] = dict(
            what=PARTS[part], seed=seed, minutes=(time.time() - begin) / 60, scores=scores
        )
        told.write_text(json.dumps(known, indent=1))
    write_card(options.out)
    print(f"weights and card are in {options.out}")


if __name__ == "__main__":
    main()
