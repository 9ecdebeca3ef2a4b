"""What a teacher makes of words, of the picture, and of both: the share of its triples that the
truth accepts, of the same images of the mini world. ``python tests/benchmarks/teacher_sees.py``
writes ``outputs/teacher_sees.json`` (some minutes).

The rule-based writer answers. For words it has notebook 1's; for a picture its server looks at what
the request holds by the world's own models, after it has rubbed out the boxes and numbers drawn on
it. How many regions these models misread is told too: of the clean picture, of the one that is
sent, and of that one rubbed out.
"""

import json
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from lskd_nb.evaluation.choices import bootstrap
from lskd_nb.mini.annotator import acceptable
from lskd_nb.mini.files.world_files import read_truth, write_world
from lskd_nb.mini.pretraining.verbalizers import error_rates
from lskd_nb.mini.teacher.eyes import mini_verbalizers, read_messages, rubbed_out
from lskd_nb.mini.teacher.server import serving
from lskd_nb.mini.teacher.writer import NAME
from lskd_nb.records import TRIPLES, VERBALIZATIONS
from lskd_nb.regions import LocatedImage, resize_regions
from lskd_nb.run_folder import find_root
from lskd_nb.teacher.generate import TeacherSettings, generate_triples
from lskd_nb.teacher.pictures import Picture
from lskd_nb.teacher.prompts import BOUND, SEES, build_prompts, seen_by
from lskd_nb.verbalization.images import read_images, sources_of

IMAGES, TRIPLES_EACH = 200, 8


def measure(folder: Path, number: int = IMAGES) -> dict:
    """Shares by what is seen, each with a 95% interval over images, and seconds a request."""
    write_world(folder / "world", number, 8, 7)
    at = folder / "world" / "visual_genome"
    images = read_images(sources_of({"visual_genome": str(at)}, "."), folder).images
    images = [image for image in images if image.split == "train"][:number]
    said, _ = mini_verbalizers()(images, str(at))
    words = pa.Table.from_pylist(said, VERBALIZATIONS)
    truth = read_truth(folder / "world" / "truth.jsonl")
    misread = {"clean": share_misread(said, truth)} | {
        name: share_misread(
            mini_verbalizers()(drawn(images, at, folder / name), folder / name)[0], truth
        )
        for name in ("as sent", "rubbed out")
    }
    found: dict[str, dict] = {}
    with serving() as url:
        settings = TeacherSettings(url, NAME, 1.0, 0, concurrency=8, timeout=600.0)
        for seen in SEES:
            asked = build_prompts(images, words, ("id",), TRIPLES_EACH, sees=(seen,), image_root=at)
            begin = time.monotonic()
            rows, rejects, _ = generate_triples(asked, settings, folder / "c.sqlite")
            took = time.monotonic() - begin
            assert {seen_by(row["prompt"]) for row in rows} == {seen}
            table = pa.Table.from_pylist(rows, TRIPLES)
            good = acceptable(table, truth).astype(float)
            share = bootstrap(good, table["image_id"].to_pylist())
            found[seen] = dict(
                acceptable=share, rejects=len(rejects), seconds=round(took / len(asked), 3)
            )
    return dict(
        images=len(images), triples_each=TRIPLES_EACH, bound=BOUND, seen=found, misread=misread
    )


def drawn(images: list[LocatedImage], at: Path, folder: Path) -> list[LocatedImage]:
    """The images as they are sent, in ``folder``: marks and all, or "rubbed out" by that name."""
    folder.mkdir()
    sent = []
    for image in images:
        url = Picture(at / image.path, image.regions, BOUND).data_url()
        parts = [{"type": "image_url", "image_url": {"url": url}}]
        picture = read_messages([{"content": parts}])[1]
        regions = resize_regions(image.regions, (image.width, image.height), picture.size)
        if folder.name == "rubbed out":
            picture, regions = rubbed_out(picture, regions)
        picture.save(folder / f"{image.image_id}.png")
        labels = (replace(r, label="") for r in regions)
        width, height = picture.size
        at_bound = dict(width=width, height=height, regions=tuple(labels))
        sent.append(replace(image, path=f"{image.image_id}.png", **at_bound))
    return sent


def share_misread(lines: list[dict], truth: dict) -> float:
    """The share of regions of which something in the description is wrong."""
    return round(error_rates(lines, truth)["region-captioner"]["any"], 3)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        told = measure(Path(place), int(sys.argv[1]) if len(sys.argv) > 1 else IMAGES)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps(told, indent=1), f"{used.ru_utime + used.ru_stime:.0f} s of the processor")
    if len(sys.argv) == 1:
        path = find_root() / "outputs" / "teacher_sees.json"
        path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
