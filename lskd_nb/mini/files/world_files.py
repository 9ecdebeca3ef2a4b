"""Write the world to disk as the real data sets are: folders, file names, formats, train and val.

    world/
      world.json       what was written: arguments, counts, hashes
      truth.jsonl      the scenes: for the annotator alone
      visual_genome/   train
      vcr/  visualcomet/  sherlock/  aokvqa/  snli_ve/  visual7w/   val, and some of train

Every picture is drawn once; the sets that share it hold hard links.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path

from lskd_nb.mini.drawing.render import render
from lskd_nb.mini.files import benchmark_sets, region_sets
from lskd_nb.mini.files.region_sets import Picture
from lskd_nb.mini.scenes.world import Entity, Scene, sample_scenes
from lskd_nb.records import atomic_path

# added to the seed: no scene of one split occurs in the other
TRAIN_SEED, VAL_SEED = 1_000_000, 2_000_000
TRAIN_ID, VAL_ID = 10_000_000, 20_000_000  # numeric ids, above those of the real sets
TRAIN_SHARE = 100  # scenes of train that the benchmark sets' train files are about
NONLOCALIZED = 600  # items of SNLI-VE and of Visual7W, where there are scenes enough
MARKER = "world.json"


def world_pictures(train: int, val: int, seed: int) -> tuple[list[Picture], list[Picture]]:
    """The scenes of a world and their ids, train and val; nothing is written."""
    return (
        [
            Picture(s, TRAIN_ID + i, i, "train")
            for i, s in enumerate(sample_scenes(train, TRAIN_SEED + seed, "t"))
        ],
        [
            Picture(s, VAL_ID + i, i, "val")
            for i, s in enumerate(sample_scenes(val, VAL_SEED + seed, "v"))
        ],
    )


def write_world(folder: str | Path, train: int, val: int, seed: int, workers: int = 2) -> dict:
    """Write a world of ``train`` and ``val`` scenes into ``folder``.

    Returns what ``world.json`` says of it.

    Does nothing where the same world is there already. The world is built beside its place and
    moved there when whole, so a killed run leaves nothing that could be taken for one. Raises
    ``ValueError`` for counts below 1 or a folder that holds something else.
    """
    folder = Path(folder)
    if train < 1 or val < 1:
        raise ValueError(f"train and val must be at least 1 scene, got {train} and {val}")
    arguments = dict(train=train, val=val, seed=seed, code=_code())
    found = _marker(folder)
    if found and found["arguments"] == arguments and _is_whole(folder, found):
        return found
    if folder.exists() and not found and any(folder.iterdir()):
        raise ValueError(
            f"{folder} is not empty and holds no {MARKER}: choose another folder for the world"
        )
    new = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    written = _write(new, *world_pictures(train, val, seed), seed, workers)
    marker = dict(arguments=arguments, **written)
    (new / MARKER).write_text(json.dumps(marker, indent=1) + "\n")
    _replace(folder, new)
    return marker


def _code() -> str:
    """A hash of the modules that decide what a world looks like."""
    digest = hashlib.sha256()
    for room in ("scenes", "drawing", "files"):
        for module in sorted((Path(__file__).parent.parent / room).glob("*.py")):
            digest.update(module.read_bytes())
    return digest.hexdigest()[:16]


def _marker(folder: Path) -> dict | None:
    try:
        return json.loads((folder / MARKER).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{folder / MARKER}: not valid JSON ({error});"
            " remove the folder to write the world anew"
        ) from error


def _is_whole(folder: Path, marker: dict) -> bool:
    """Whether every annotation file is as it was written, and no picture has gone."""
    for name, digest in marker["files"].items():
        path = folder / name
        if not path.is_file() or _sha256(path) != digest:
            return False
    return _count_pictures(folder) == marker["counts"]["pictures"]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _count_pictures(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("*.jpg"))


def _replace(folder: Path, new: Path) -> None:
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


# ------------------------------------------------------------------------------------------ writing


def _write(folder: Path, train: list[Picture], val: list[Picture], seed: int, workers: int) -> dict:
    """Everything but the marker; counts, and the hash of every annotation file."""
    some = train[:TRAIN_SHARE]
    files = _annotations(train, some, val, seed)
    counts = {name: _length(content) for name, content in files.items()}
    files["truth.jsonl"] = list(_truth_rows(_truth_of(train + val)))
    stills = {p.vcr_id: p for p in [*some, *val]}
    for p in stills.values():
        files[f"vcr/vcr1images/{p.still}.json"] = region_sets.vcr_metadata(p)
    for name, content in files.items():
        _write_json(folder / name, content)
    _draw(folder, train + val, workers)
    for p in some:
        _link(_drawn(folder, p), folder / f"vcr/vcr1images/{p.still}.jpg")
    _link_pictures(folder, {p.number: p for p in [*some, *val]}, files)
    (folder / "vcr/vcr1images/VERSION.txt").write_text("mini world\n")
    counts |= dict(scenes=len(train) + len(val), pictures=_count_pictures(folder))
    return dict(counts=counts, files={name: _sha256(folder / name) for name in sorted(files)})


def _annotations(
    train: list[Picture], some: list[Picture], val: list[Picture], seed: int
) -> dict[str, list | dict]:
    """File name -> content, JSON or (a list in .jsonl) JSON lines."""
    files: dict[str, list | dict] = {}
    for name, rows in region_sets.visual_genome(train, seed).items():
        files[f"visual_genome/{name}.json"] = rows
    instances, key, test_ids = benchmark_sets.sherlock_comparison(val[:50], seed)
    files |= {
        "sherlock/sherlock_train_v1_1.json": benchmark_sets.sherlock(some),
        "sherlock/sherlock_val_with_split_idxs_v1_1.json": benchmark_sets.sherlock(val),
        "sherlock/val_comparison_instances.json": instances,
        "sherlock/val_comparison_answer_key.json": key,
        "sherlock/val_comparison_instance_ids.json": test_ids,
        "visual7w/dataset_v7w_telling.json": dict(
            dataset="v7w_telling",
            images=[
                *benchmark_sets.visual7w(some, len(some), seed),
                *benchmark_sets.visual7w(val, min(NONLOCALIZED, 2 * len(val)), seed),
            ],
        ),
    }
    for pictures, split in ((some, "train"), (val, "val")):
        files[f"vcr/{split}.jsonl"] = region_sets.vcr(pictures, seed)
        files[f"visualcomet/{split}_annots.json"] = benchmark_sets.visualcomet(pictures)
        files[f"aokvqa/aokvqa_v1p0_{split}.json"] = benchmark_sets.aokvqa(pictures, seed)
        number = min(NONLOCALIZED, 2 * len(pictures)) if split == "val" else len(pictures)
        files[f"snli_ve/snli_ve_{'dev' if split == 'val' else split}.jsonl"] = (
            benchmark_sets.snli_ve(pictures, number, seed)
        )
    return files


def _length(content: list | dict) -> int:
    if isinstance(content, list):
        return len(content)
    return len(content.get("images") or content.get("annotations") or ())


def _write_json(path: Path, content: list | dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(row) + "\n" for row in content)
        else:
            json.dump(content, file)


def _drawn(folder: Path, p: Picture) -> Path:
    if p.split == "train":
        return folder / f"visual_genome/VG_100K/{p.number}.jpg"
    return folder / f"vcr/vcr1images/{p.still}.jpg"


def _draw(folder: Path, pictures: Sequence[Picture], workers: int) -> None:
    jobs = [(p.scene, _drawn(folder, p)) for p in pictures]
    for parent in {path.parent for _, path in jobs}:
        parent.mkdir(parents=True, exist_ok=True)
    # spawning would run the caller's script
    if workers <= 1 or len(jobs) < 500 or "fork" not in get_all_start_methods():
        _draw_some(jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        list(pool.map(_draw_some, [jobs[i : i + 250] for i in range(0, len(jobs), 250)]))


def _draw_some(jobs: Sequence[tuple[Scene, Path]]) -> None:
    for scene, path in jobs:
        render(scene).save(path, "JPEG", quality=92, optimize=True)


def _link_pictures(
    folder: Path, pictures: Mapping[int, Picture], files: Mapping[str, list | dict]
) -> None:
    """A-OKVQA's, SNLI-VE's and Visual7W's pictures, under the names that their rows give them."""
    names: dict[str, int] = {}
    for split in ("train", "val"):
        for row in files[f"aokvqa/aokvqa_v1p0_{split}.json"]:
            names[f"aokvqa/{split}2017/{row['image_id']:012}.jpg"] = row["image_id"]
        for row in files[f"snli_ve/snli_ve_{'dev' if split == 'val' else split}.jsonl"]:
            names[f"snli_ve/flickr30k_images/{row['Flickr30K_ID']}.jpg"] = int(row["Flickr30K_ID"])
    for record in files["visual7w/dataset_v7w_telling.json"]["images"]:
        names[f"visual7w/images/{record['filename']}"] = record["image_id"]
    for name, number in names.items():
        _link(_drawn(folder, pictures[number]), folder / name)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


# -------------------------------------------------------------------------------------------- truth


def _truth_of(pictures: Iterable[Picture]) -> dict[str, Scene]:
    """Scenes by every image id that a loader gives them: the numeric one, and VCR's."""
    truth = {}
    for p in pictures:
        truth |= {str(p.number): p.scene, p.vcr_id: p.scene}
    return truth


def _truth_rows(truth: Mapping[str, Scene]) -> Iterable[dict]:
    return (dict(image_id=image_id, **asdict(scene)) for image_id, scene in truth.items())


def write_truth(path: str | Path, truth: Mapping[str, Scene]) -> None:
    """Write scenes by image id, one JSON object in each line."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in _truth_rows(truth))


def read_truth(path: str | Path) -> dict[str, Scene]:
    """Scenes by image id. Raises ``FileNotFoundError`` or ``ValueError`` naming file and line."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there; write_world writes it, real data sets have none"
        )
    truth = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            entities = tuple(Entity(**(e | {"box": tuple(e["box"])})) for e in row.pop("entities"))
            image_id = row.pop("image_id")
            truth[image_id] = Scene(**row, entities=entities)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: not a scene ({error})") from error
    return truth
