"""What a language model of 135 million weights is worth as a teacher, beside the rule-based writer
on the same prompts. ``python tests/benchmarks/local_teacher.py`` writes
``outputs/local_teacher.json`` (some five minutes on a busy core).

The words are true: they come from the scenes. "Accepted" is what the world's annotator accepts, who
understands the world's language only; what it does not understand counts as not accepted, though
nobody has said that it is false. So each share of valid triples is told as well, and how many are
understood at all. Of what was asked for, what is neither valid nor rejected was never written.
"""

import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from lskd_nb.evaluation.choices import bootstrap
from lskd_nb.mini.annotator import judge
from lskd_nb.mini.scenes import true_words
from lskd_nb.mini.scenes.world import Scene, sample_scenes
from lskd_nb.mini.teacher.server import serving
from lskd_nb.mini.teacher.writer import NAME
from lskd_nb.run_folder import find_root
from lskd_nb.teacher import local_model
from lskd_nb.teacher.generate import TeacherSettings, generate_triples
from lskd_nb.teacher.prompts import Prompts, build_prompts

IMAGES, TRIPLES_EACH, LONGEST = 40, 3, 400


def asked_about(scenes: list[Scene]) -> Prompts:
    """One prompt of the family "id" about each scene, in true words."""
    lines = true_words.captions(scenes) + true_words.region_lines(scenes)
    return build_prompts(true_words.located(scenes), lines, ("id",), TRIPLES_EACH)


def share(happened: np.ndarray, images: list[str]) -> dict[str, float]:
    """A share with its 95% interval. Where nothing or everything happened, resampling knows no
    other: there it is the exact binomial interval, of as many trials as there are images.
    """
    told = bootstrap(happened, images)
    if told["mean"] in (0, 1):
        trials = told["clusters"]
        exact = binomtest(int(told["mean"] * trials), trials).proportion_ci()
        told |= dict(low=float(exact.low), high=float(exact.high))
    return told


def measure(folder: Path, number: int = IMAGES) -> dict:
    """Of each writer: replies, valid triples of those asked for, rejects by reason, the share of
    all asked for that is valid and that is accepted, with 95% intervals over images; how many
    are understood, and how many never written.
    """
    scenes, load = {s.scene_id: s for s in sample_scenes(number, 5, "l")}, os.getloadavg()[0]
    asked = asked_about(list(scenes.values()))
    found = {}
    for name, server in (
        (local_model.SMOLLM2, local_model.serving(local_model.SMOLLM2, threads=1)),
        (NAME, serving()),
    ):
        with server as url:
            settings = TeacherSettings(
                url,
                name,
                1.0,
                0,
                concurrency=local_model.SLOTS,
                max_tokens=LONGEST,
                timeout=local_model.PATIENCE,
            )
            rows, rejects, report = generate_triples(asked, settings, folder / "c.sqlite")
        verdicts = {
            r["triple_id"]: judge(scenes[r["image_id"]], r["question"], r["answer"], r["rationale"])
            for r in rows
        }
        slots = [(image, n) for image in scenes for n in range(TRIPLES_EACH)]
        ids = [f"{image}-id-{n}" for image, n in slots]
        images = [image for image, _ in slots]
        valid = np.array([one in verdicts for one in ids], float)
        good = np.array([one in verdicts and verdicts[one].accept for one in ids], float)
        found[name] = dict(
            replies=report.requests,
            asked_for=len(ids),
            valid=share(valid, images),
            accepted=share(good, images),
            understood=sum(v.understood for one, v in verdicts.items() if one in ids),
            never_written=len(set(ids) - verdicts.keys() - {r["record"] for r in rejects}),
            rejects=dict(Counter(r["reason"] for r in rejects).most_common()),
            seconds=round(report.seconds),
            examples=[r["question"] for r in rows[:3]],
        )
    return dict(
        images=number, triples_each=TRIPLES_EACH, longest_reply=LONGEST, load=load, teachers=found
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        told = measure(Path(place), int(sys.argv[1]) if len(sys.argv) > 1 else IMAGES)
    print(json.dumps(told, indent=1))
    if len(sys.argv) == 1:
        path = find_root() / "outputs" / "local_teacher.json"
        path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
