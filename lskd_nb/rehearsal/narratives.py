"""Localized Narratives' files: what somebody said of a picture, word by word, and the mouse's way.

The pictures are other sets' own: COCO's, Flickr30k's, ADE20k's and Open Images'. The traces leave
the picture now and then, and files of captions have neither times nor traces.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lskd_nb.mini.scenes import grammar
from lskd_nb.rehearsal.photographs import Photograph

SPOKEN = ("dataset_id", "image_id", "annotator_id", "caption")  # what a file of captions has


@dataclass(frozen=True)
class Narrated:
    """A photograph as its own set names it. ``path`` is that of its file below the image root."""

    dataset_id: str
    image_id: str
    path: str
    photograph: Photograph
    form: str = "plain"


def narratives(pictures: Sequence[Narrated], recordings: str, seed: int) -> list[dict]:
    """Rows of a file; the first picture has two narrators."""
    rng = np.random.default_rng([seed, 47])
    told = [*pictures, *pictures[:1]]
    rows = []
    for number, p in enumerate(told):
        sentences, traces, clock = [], [], 0.0
        for part in _parts(p.photograph, number):
            words = part[0].split()
            took = 0.4 * len(words)
            sentences.append((part[0], clock, clock + took))
            traces.append(_stroke(p.photograph, part[1], clock, took, rng))
            clock += took + 0.6
        who = 93 + number
        rows.append(
            dict(
                dataset_id=p.dataset_id,
                image_id=p.image_id,
                annotator_id=who,
                caption=" ".join(text for text, _, _ in sentences),
                timed_caption=_timed(sentences),
                traces=traces,
                voice_recording=f"{recordings}/{recordings}_{p.image_id}_{who}.ogg",
            )
        )
    return rows


def captions(rows: Sequence[dict]) -> list[dict]:
    """Rows of a ``*_captions.jsonl``."""
    return [{name: row[name] for name in SPOKEN} for row in rows]


def _parts(picture: Photograph, number: int) -> list[tuple[str, tuple[float, ...] | None]]:
    """Sentences, and the box that the mouse goes around meanwhile."""
    start = ("In this image", "In the picture")[number % 2]
    said = [
        (f"{start} I can see {grammar.describe(e)}.", e.box) for _, _, e in picture.entities[:3]
    ]
    return [*said, (f"This is {grammar.context(picture.scene)}.", None)]


def _timed(sentences: Sequence[tuple[str, float, float]]) -> list[dict]:
    """Two words at a time, as the transcription was cut."""
    found = []
    for text, start, end in sentences:
        words = text.split()
        pairs = [" ".join(words[i : i + 2]) for i in range(0, len(words), 2)]
        step = (end - start) / len(pairs)
        found += [
            dict(
                utterance=pair,
                start_time=round(start + i * step, 1),
                end_time=round(start + (i + 1) * step, 1),
            )
            for i, pair in enumerate(pairs)
        ]
    return found


def _stroke(
    picture: Photograph,
    box: tuple[float, ...] | None,
    start: float,
    took: float,
    rng: np.random.Generator,
) -> list[dict]:
    """Around a box; without one, across the whole picture and out of it."""
    w, h = picture.size
    x0, y0, x1, y1 = (
        (box[0] / w, box[1] / h, box[2] / w, box[3] / h) if box else (-0.05, -0.05, 1.05, 1.04)
    )
    points = []
    for share in np.linspace(0, 1, 24):
        angle = 2 * np.pi * share
        x = (x0 + x1) / 2 + (x1 - x0) / 2 * np.cos(angle) + rng.normal(0, 0.004)
        y = (y0 + y1) / 2 + (y1 - y0) / 2 * np.sin(angle) + rng.normal(0, 0.004)
        t = start + share * took + 0.022
        points.append(dict(x=round(float(x), 4), y=round(float(y), 4), t=round(float(t), 3)))
    return points
