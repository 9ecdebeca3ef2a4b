"""How much disk a profile's run takes, on each file system that it writes to.

What counts are the vision encoder's features where they are stored (``store_views``, ``views``):
3 MB a view with ViT-G at 480 pixels, so that a million views are three terabytes. Then students
with their checkpoints, models to be downloaded, and rows.
"""

import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lskd_nb.critic import NONE
from lskd_nb.critic.label_sample import WANTED
from lskd_nb.runner.findings import Finding, Given
from lskd_nb.runner.stops import triples_there
from lskd_nb.sources.image_folder import files_below, is_picture
from lskd_nb.verbalization.images import sources_of

# verbalizations, triples, scores and replies of one image with six triples asked for, measured on
# the mini world and rounded up
BYTES_PER_IMAGE, TRIPLES_OF_THESE = 12_000, 6
# ViT-G and its Q-Former in float32; a checkpoint has the Q-Former and AdamW's two moments
STUDENT_BYTES, CHECKPOINT_SHARE = 5e9, 0.46
STILLS = 61_000  # images of VCR that the paper adds
GENOME = 108_077  # images of Visual Genome
# views of notebook 06 with the published sets: VCR's questions with answers and with rationales,
# Sherlock's, VisualCOMET's, and images of the others
BENCHMARK_VIEWS = 75_000
# what Blip2VisionConfig says where a config says nothing: ViT-G
IMAGE_SIZE, PATCH, WIDTH = 224, 14, 1408


@dataclass(frozen=True)
class Need:
    """Bytes that will be written to a place, and of what."""

    place: Path
    bytes: float
    what: str


def disk(
    given: Given, root: Path, sizes: Mapping[str, float | None], downloads: Collection[str]
) -> list[Finding]:
    """Room on each file system for what a run of all notebooks writes, the optional ones aside.

    ``sizes`` are the bytes of models of the hub, None where nobody knows; ``downloads`` are those
    that its cache lacks.
    """
    needs = list(_needs(given, root, sizes, downloads))
    unknown = [name for name in downloads if sizes.get(name) is None]
    of_device: dict[int, list[Need]] = {}
    for need in needs:
        of_device.setdefault(_device(need.place), []).append(need)
    found = []
    for on_it in of_device.values():
        place, total = on_it[0].place, sum(n.bytes for n in on_it)
        free = shutil.disk_usage(_there(place)).free
        told = ", ".join(f"{_gb(n.bytes)} {n.what}" for n in on_it if n.bytes)
        detail = f"about {_gb(total)} are needed at {place}: {told}; {_gb(free)} are free"
        subject = "disk" if not found else f"disk of {place}"
        found.append(Finding(subject, free > total, detail))
    if optional := _optional(given, root, sizes):
        found.append(Finding("disk, optional notebooks", None, optional))
    if unknown:
        told = f"nobody could say how large {', '.join(unknown)} will be: not counted"
        found.append(Finding("downloads", None, told))
    return found


def _needs(
    given: Given, root: Path, sizes: Mapping[str, float | None], downloads: Collection[str]
) -> Iterator[Need]:
    first = given.get("01", {})
    run_dir = root / str(first.get("run_dir", "outputs"))
    counted, per_image = images(first, root), triples_of_one(given.get("02", {}))
    rows = counted * BYTES_PER_IMAGE * max(per_image / TRIPLES_OF_THESE, 1)
    yield Need(run_dir, rows, f"for rows of {counted:,} images")
    triples = triples_there(run_dir) or counted * per_image
    for number, values in given.items():
        if views := _views_stored(number, values, triples, root):
            base = str(values.get("base") or values.get("student") or _critic_base(given))
            size = views * _view_bytes(base, int(values.get("image_size") or 0), root)
            yield Need(run_dir, size, f"for features of {views:,} views in {number}")
    learned, trainings = 0.0, 0
    if "05" in given:
        trainings = _students(given["05"])
        student = _student_bytes(str(given["05"].get("base", "")), root, sizes)
        learned = trainings * student
        yield Need(run_dir, learned, f"for {trainings} students")
    if "03" in given and given["03"].get("critic") != NONE:
        critic = _student_bytes(_critic_base(given), root, sizes)
        learned, trainings = learned + critic, trainings + 1
        yield Need(run_dir, critic, "for the critic")
    if trainings:
        checkpoints = CHECKPOINT_SHARE * learned
        yield Need(run_dir, checkpoints, f"for checkpoints of {trainings} trainings")
    if known := [size for name in downloads if (size := sizes.get(name))]:
        from huggingface_hub.constants import HF_HUB_CACHE

        yield Need(Path(HF_HUB_CACHE), sum(known), f"for {len(known)} models to be downloaded")


def _students(values: Mapping[str, object]) -> int:
    """How many notebook 5 trains: unfiltered, LSKD, and those of the ``studies`` that it makes."""
    more = {
        "sizes": len({1.0, *values.get("shares", ())}) - 1,
        "thresholds": len(values.get("threshold_shares", ())),
    }
    return 2 + sum(more.get(study, 1) for study in values.get("studies", ()))


def _optional(given: Given, root: Path, sizes: Mapping[str, float | None]) -> str:
    """What notebooks write that run only where they are named: the model that each has trained."""
    more = {
        number: str(given[number][name])
        for number, name in (("01b", "base"), ("08", "student"))
        if number in given and given[number].get(name)
    }
    known = {
        number: bytes_below(root / base) if (root / base).is_dir() else sizes.get(base)
        for number, base in more.items()
    }
    told = [f"{number} writes {_gb(size)} more" for number, size in known.items() if size]
    return ", ".join(told)


def images(values: Mapping[str, object], root: Path) -> int:
    """How many images a run is about: the pictures that lie in the folders of its sources, or as
    many as the published sets have where they are not there yet; at most the limit of each.
    """
    if not values.get("sources"):
        return sum(values.get("world") or ())
    limit = int(values.get("limit") or 0)
    total = 0
    for source in sources_of(values["sources"], root):
        if source.name == "vcr":  # its stills are many more than those that it asks about
            there = STILLS
        else:
            homes = source.links().values()
            there = sum(is_picture(f) for home in homes if home.is_dir() for f in files_below(home))
        if source.name == "visual_genome":
            there = there or GENOME
        total += min(there, limit) if limit else there
    return total


def requests_of_one(values: Mapping[str, object]) -> int:
    """Requests about one image: families of prompts times offers of regions."""
    return len(values.get("families") or "12") * len(values.get("offers") or "1")


def triples_of_one(values: Mapping[str, object]) -> int:
    """Triples asked for about one image."""
    return int(values.get("triples") or 3) * requests_of_one(values)


def _views_stored(number: str, values: Mapping[str, object], triples: int, root: Path) -> int:
    """How many views a notebook keeps the features of."""
    if values.get("critic") == NONE:
        return 0
    keep = float(values.get("keep") or 0.2)
    if number == "03" and values.get("store_views"):
        labels = int(values.get("labels") or WANTED)
        read = 2 * keep * triples if values.get("adapt_steps") else 0
        return round(min(labels, triples) * (1 + int(values.get("shuffles") or 0)) + read)
    if number == "04" and values.get("store_views"):
        return triples
    if number == "05" and values.get("views"):  # of the corpus, and of the unfiltered one
        return round(2 * keep * triples * int(values["views"]))
    if number == "06" and values.get("store_views") and values.get("vcr_folder"):
        return min(int(values.get("limit") or BENCHMARK_VIEWS) * 8, BENCHMARK_VIEWS)
    return 0


def _critic_base(given: Given) -> str:
    return str(given.get("03", {}).get("base", ""))


def _view_bytes(base: str, image_size: int, root: Path) -> int:
    """Bytes of one view's features, bf16: patches and one more, as wide as the encoder."""
    told = _config(base, root).get("vision_config", {})
    size, patch = image_size or told.get("image_size", IMAGE_SIZE), told.get("patch_size", PATCH)
    return ((size // patch) ** 2 + 1) * told.get("hidden_size", WIDTH) * 2


def _config(base: str, root: Path) -> dict:
    """A model's config.json, of its folder or of the hub's cache; empty where there is none."""
    path: object = root / base / "config.json"
    if not (root / base / "config.json").exists():
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            path = try_to_load_from_cache(base, "config.json")
        except HFValidationError:
            return {}
    if not isinstance(path, str | Path):
        return {}
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _student_bytes(base: str, root: Path, sizes: Mapping[str, float | None]) -> float:
    """Bytes of a student that starts from ``base``: as many as that has, if it is known."""
    folder = root / base
    known = bytes_below(folder) if base and folder.is_dir() else sizes.get(base)
    return known or STUDENT_BYTES


def bytes_below(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def _there(place: Path) -> Path:
    return next(p for p in (place, *place.parents) if p.exists())


def _device(place: Path) -> int:
    return _there(place).stat().st_dev


def _gb(size: float) -> str:
    """Gigabytes; below a tenth of one, megabytes."""
    return f"{size / 1e9:.{size < 1e10:d}f} GB" if size >= 1e8 else f"{size / 1e6:.0f} MB"
