"""What a run needs, looked at before anything is spent: ``lskd check PROFILE``.

Parameters, data sets, models, keys, GPUs and disk are looked at without loading a model or asking a
paid server. The first run on a new machine fails at its weakest point hours in; this says
beforehand which points are weak.
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lskd_nb.run_folder import RunError
from lskd_nb.runner.parameters import profile_parameters, read_notebooks

# fmt: off
MODELS = (
    "base", "clip", "captioner", "region_captioner", "question_generator", "vqa", "narrator",
    "detector", "baselines", "student", "language_model", "projection",
)
# fmt: on
DATA = {  # parameter -> what its folder must hold
    "visual_genome": (
        "image_data.json",
        "objects.json",
        "region_descriptions.json",
        "question_answers.json",
        "VG_100K",
        "VG_100K_2",
    ),
    "vcr_folder": ("train.jsonl", "val.jsonl", "vcr1images"),
    "sherlock_folder": ("val_comparison_instances.json", "val_comparison_answer_key.json"),
    "visualcomet_folder": ("val_annots.json",),
    "aokvqa_folder": ("aokvqa_v1p0_val.json", "val2017"),
    "snli_ve_folder": ("snli_ve_train.jsonl", "snli_ve_dev.jsonl", "flickr30k_images"),
    "visual7w_folder": ("dataset_v7w_telling.json", "images"),
}
# the same of sets that lie below a notebook's image_root; a pattern stands for any such file
CAPTION_DATA = {
    "visual_genome": (
        "image_data.json",
        "objects.json",
        "region_descriptions.json",
        "VG_100K",
        "VG_100K_2",
    ),
    "sherlock_clues": ("sherlock_train_v1_1.json",),
    "sherlock_images": ("VG_100K", "VG_100K_2", "vcr1images"),
    "narratives": ("*.jsonl",),
}
# at batch 64 and 480 px with ViT-G: what an A100 of 80 GB is for; estimated, not measured
GPU_GIB = {"03": 40, "05": 70}
TEACHER_KEY = "OPENAI_API_KEY"
# verbalizations, triples, scores and replies of one image, measured on the mini world and rounded
# up
BYTES_PER_IMAGE = 12_000
# ViT-G and its Q-Former in float32; a checkpoint, of the Q-Former and AdamW's moments, has half of
# that
STUDENT_BYTES = 5e9


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: ``ok`` is None for what is only to be known."""

    subject: str
    ok: bool | None
    detail: str

    def __str__(self) -> str:
        mark = {True: "ok", False: "MISSING", None: "note"}[self.ok]
        return f"{mark:8}{self.subject}: {self.detail}"


def check(profile: str, root: Path) -> list[Finding]:
    """Everything a profile needs and whether it is here, in the order a run would miss it."""
    given: dict[str, dict[str, object]] = {}
    found = []
    for notebook in read_notebooks(root):
        try:
            given[notebook.number] = dict(notebook.defaults) | profile_parameters(
                root, profile, notebook
            )
        except RunError as error:
            found.append(Finding(f"{notebook.number} parameters", False, str(error)))
    found += [f for number, values in given.items() for f in _files(number, values, root)]
    found += _models(given, root)
    found += _teacher(given.get("02", {}), root)
    base = root / str(given.get("05", {}).get("base", ""))
    small = base.is_dir() and _bytes(base) < 1e9
    found += _gpus(needed=not small)
    found.append(_disk(given, root, _bytes(base) if base.is_dir() else STUDENT_BYTES))
    return found


def _files(number: str, values: Mapping[str, object], root: Path) -> Iterator[Finding]:
    """The data sets and label files that a notebook reads.

    An empty parameter means the mini world's own.
    """
    if "image_root" in values:
        yield from _caption_files(number, values, root)
    else:
        yield from (
            _folder(f"{number} {name}", root / str(values[name]), wanted)
            for name, wanted in DATA.items()
            if values.get(name)
        )
    if values.get("labels_file"):
        yield _labels(number, root / str(values["labels_file"]))


def _caption_files(number: str, values: Mapping[str, object], root: Path) -> Iterator[Finding]:
    """The sets that captioners are trained on, below ``image_root``; without one, the mini
    world's own, which a run writes.
    """
    if not values["image_root"]:
        return
    home = root / str(values["image_root"])
    wanted = {name: files for name, files in CAPTION_DATA.items() if values.get(name)}
    if not values.get("sherlock_clues"):
        wanted.pop("sherlock_images", None)
    yield from (
        _folder(f"{number} {name}", home / str(values[name]), files)
        for name, files in wanted.items()
    )
    sets = values.get("refcoco_sets") or {}
    yield from (
        _folder(f"{number} {name}", home / name, ("instances.json", f"refs({split_by}).p"))
        for name, split_by in sets.items()
    )
    if sets:
        yield _folder(f"{number} RefCOCO's images", home, ("train2014",))


def _folder(subject: str, folder: Path, wanted: Sequence[str]) -> Finding:
    missing = [
        w for w in wanted if not (any(folder.glob(w)) if "*" in w else (folder / w).exists())
    ]
    return Finding(
        subject, not missing, f"{folder} lacks {', '.join(missing)}" if missing else str(folder)
    )


def _labels(number: str, path: Path) -> Finding:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from lskd_nb.records import LABELS

    subject = f"{number} labels_file"
    try:
        table = pq.ParquetFile(path)
    except FileNotFoundError:
        return Finding(subject, False, f"{path} is not there")
    except (OSError, pa.ArrowInvalid) as error:
        return Finding(subject, False, f"{path}: {error}")
    lacking = [n for n in LABELS.names if n not in table.schema_arrow.names]
    if lacking:
        return Finding(subject, False, f"{path} lacks the columns {', '.join(lacking)}")
    return Finding(subject, True, f"{path}, {table.metadata.num_rows:,} labels")


# ------------------------------------------------------------------------------------------- models


def _models(given: Mapping[str, Mapping[str, object]], root: Path) -> list[Finding]:
    """Every model once, with the notebooks that load it."""
    users: dict[str, list[str]] = {}
    for number, values in given.items():
        for name in MODELS:
            told = values.get(name)
            for model in told if isinstance(told, list) else [told]:
                if model:
                    users.setdefault(str(model), []).append(f"{number} {name}")
    return [_model(model, ", ".join(by), root) for model, by in users.items()]


def _model(name: str, by: str, root: Path) -> Finding:
    path = root / name
    if path.is_file():
        return Finding(by, True, f"{path}, {path.stat().st_size / 1e9:.1f} GB")
    if path.is_dir():
        whole = (path / "config.json").exists() and any(path.glob("*.safetensors"))
        return Finding(
            by, whole, f"{path}" if whole else f"{path} lacks config.json or *.safetensors"
        )
    if name.startswith((".", "/")) or name.count("/") != 1 or name.endswith(".pth"):
        return Finding(
            by, False, f"{name} is not there, and is no name of the hub (organisation/model)"
        )
    return _hub_model(name, by)


def _hub_model(name: str, by: str) -> Finding:
    """A model of the hub: in the cache, or downloadable, with the size that the download has."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        cached = Path(snapshot_download(name, local_files_only=True))
        if any(cached.glob("*.safetensors")) or any(cached.glob("*.bin")):
            return Finding(by, True, f"{name}, in the hub's cache")
    except (LocalEntryNotFoundError, ValueError):
        pass
    try:
        info = HfApi().model_info(name, files_metadata=True, timeout=10)
    except (
        Exception
    ) as error:  # of the hub or of whichever HTTP client it has: here each is a finding
        return Finding(
            by,
            False,
            f"{name} is not in the cache,"
            f" and the hub did not give it: {str(error).splitlines()[0][:120]}",
        )
    weights = sum(
        f.size or 0 for f in info.siblings or [] if f.rfilename.endswith(".safetensors")
    ) or sum(f.size or 0 for f in info.siblings or [] if f.rfilename.endswith(".bin"))
    return Finding(by, True, f"{name}, to be downloaded: {weights / 1e9:.1f} GB")


# ---------------------------------------------------------------------------------- key, GPUs, disk


def _teacher(values: Mapping[str, object], root: Path) -> list[Finding]:
    """The key, where the server is OpenAI's, and the price; what may be sent is only told."""
    if not values.get("base_url"):
        return []
    found = []
    if "api.openai.com" in str(values["base_url"]):
        there = bool(os.environ.get(TEACHER_KEY))
        found.append(
            Finding(
                "02 key",
                there,
                f"{TEACHER_KEY} is {'set' if there else 'not set in the environment'}",
            )
        )
    found.append(_price(values, root))
    requests, usd = values.get("budget_requests"), values.get("budget_usd")
    limits = [f"{requests:,} requests"] if requests else []
    limits += [f"{usd:,.2f} USD"] if usd else []
    if limits:
        told = f"at most {' and '.join(limits)} to {values['base_url']}: see lskd estimate"
    else:
        told = f"NO LIMIT on requests to {values['base_url']}: set budget_requests or budget_usd"
    return [*found, Finding("02 budget", None, told)]


def _price(values: Mapping[str, object], root: Path) -> Finding:
    """Whether what the teacher costs is known: without that, nothing is sent."""
    from lskd_nb.teacher.budget import price_of
    from lskd_nb.teacher.requests import TeacherSettings

    prices = root / str(values["prices"]) if values.get("prices") else None
    try:
        price = price_of(
            TeacherSettings(
                str(values["base_url"]),
                str(values["model"]),
                mode=str(values["mode"]),
                prices=prices,
            )
        )
    except ValueError as error:
        return Finding("02 price", False, str(error))
    if price.free:
        told = "costs nothing"
    else:
        told = (
            f"{price.input:g} USD per million tokens of input and {price.output:g}"
            f" of output, prices of {price.date}"
        )
    return Finding("02 price", True, f"{values['model']}: {told}")


def _bytes(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def _gpus(needed: bool) -> list[Finding]:
    """The GPUs; a student that takes less than a gigabyte needs none."""
    import torch

    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    if not found:
        return [
            Finding(
                "GPU",
                False if needed else None,
                "none that torch can use" + ("" if needed else ", and none is needed"),
            )
        ]
    smallest = min(p.total_memory for p in found) / 2**30
    detail = f"{len(found)} × {found[0].name}, {smallest:.0f} GiB"
    short = [n for n, gib in GPU_GIB.items() if gib > smallest]
    if short:
        detail += (
            f"; notebooks {', '.join(short)} were sized for"
            f" {max(GPU_GIB.values())} GiB: lower `batch`"
        )
    return [Finding("GPU", not short, detail)]


def _disk(given: Mapping[str, Mapping[str, object]], root: Path, student: float) -> Finding:
    """Room for what the run writes: rows by image, notebook 05's students, a checkpoint.

    A student is ``student`` bytes.
    """
    images = _images(given.get("01", {}), root)
    # unfiltered, the other LM loss, the critic
    students = len(given.get("05", {}).get("shares", ())) + 3
    needed = images * BYTES_PER_IMAGE + (students + 0.5) * student
    run_dir = root / str(given.get("01", {}).get("run_dir", "outputs"))
    free = shutil.disk_usage(next(p for p in (run_dir, *run_dir.parents) if p.exists())).free
    return Finding(
        "disk",
        free > needed,
        f"about {needed / 1e9:.0f} GB for {images:,} images and {students} models, {free / 1e9:.0f}"
        f" GB are free at {run_dir}",
    )


def _images(values: Mapping[str, object], root: Path) -> int:
    """How many images a run is about: the limit, or the files in Visual Genome's folders;
    108,077 where they are not there yet.
    """
    if not values.get("visual_genome"):
        return sum(values.get("world") or ())
    folder = root / str(values.get("visual_genome", ""))
    there = sum(
        1
        for name in ("VG_100K", "VG_100K_2")
        if (folder / name).is_dir()
        for _ in os.scandir(folder / name)
    )
    return int(values.get("limit") or 0) or there or 108_077


def report(findings: Sequence[Finding]) -> list[str]:
    """The findings, what is missing last, and a line that counts."""
    missing = [f for f in findings if f.ok is False]
    lines = [str(f) for f in findings if f.ok is not False] + [str(f) for f in missing]
    told = "nothing is missing"
    if missing:
        told = f"{len(missing)} of {sum(f.ok is not None for f in findings)} things are missing"
    return [*lines, "", told]
