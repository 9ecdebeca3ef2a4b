"""Write every data set of the real run, small, in the form in which it is published.

``folder`` plays the project's ``data/``:

    visual_genome/  vcr/  images/          what notebooks 1 to 5 read; images/ holds links
    sherlock/  visualcomet/  aokvqa/  snli_ve/  visual7w/        notebook 6's
    refcoco/  refcoco+/  refcocog/  train2014/                   notebook 1b's
    lvis/  localized_narratives/           a vocabulary; a narrator's lessons
    train2017/  val2017/  flickr30k_images/                      links: one download, used twice
    training/  validation/  train/         ADE20k's and Open Images' pictures

Pictures that several sets share are shared here too, under each set's name for them.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lskd_nb.mini.scenes.world import PEOPLE, Scene, sample_scenes
from lskd_nb.rehearsal import coco_sets, film_stills, narratives, plain_benchmarks, sherlock
from lskd_nb.rehearsal.film_stills import CLASSES, Still
from lskd_nb.rehearsal.narratives import Narrated
from lskd_nb.rehearsal.photographs import LEFT_OUT, Photograph, photograph, save
from lskd_nb.rehearsal.plain_benchmarks import Numbered
from lskd_nb.rehearsal.visual_genome import VgImage, visual_genome

# added to the seed, a million for each set: no scene of the mini world or of another set comes back
SEEDS = {
    name: 10_000_000 + 1_000_000 * i
    for i, name in enumerate(("vg", "stills", "coco", "flickr", "v7w", "others"))
}
FEWEST = 12  # images of Visual Genome
STILLS = {"train": 10, "val": 8, "test": 3}
COCO = {"train": 16, "val": 10, "test": 5}  # of 2017
FLICKR = {"train": 7, "dev": 7, "test": 5}
VISUAL7W = {"train": 4, "val": 7, "test": 4}
REFERRED = 12  # pictures of train2014: the first of train2017, under their older names
SHAPES = (  # width, height and whether two scenes are stacked
    ((500, 375), False),
    ((500, 333), False),
    ((333, 500), True),
    ((800, 600), False),
    ((640, 480), False),
    ((375, 500), True),
    ((500, 281), False),
)
STILL_SIZES = ((1920, 797), (1920, 1080), (1280, 544), (1920, 804), (1280, 720))
MOVIES = (  # folder, and how its files begin
    (
        "lsmdc_3005_A_RAINY_NIGHT_AT_THE_FARM_2",
        "3005_A_RAINY_NIGHT_AT_THE_FARM_2_00.23.57.935-00.24.00.783",
    ),
    ("movieclips_Whats_Up_With_The_Dog", "-2aWtHX_vbE"),
    (
        "lsmdc_1054_The_Sheep_who_ate_the_park",
        "1054_The_Sheep_who_ate_the_park_00.01.46.736-00.01.50.168",
    ),
    ("movieclips_(500)_Balloons", "yVGkcLZ0BPu"),
)
LINKS = {  # link -> what it leads to, relative to the link's own folder
    "images/VG_100K": "../visual_genome/VG_100K",
    "images/VG_100K_2": "../visual_genome/VG_100K_2",
    "images/vcr1images": "../vcr/vcr1images",
    "train2017": "aokvqa/train2017",
    "val2017": "aokvqa/val2017",
    "flickr30k_images": "snli_ve/flickr30k_images",
}
VCR_README = """Visual commonsense reasoning, in the published layout, about drawn scenes.

train.jsonl, val.jsonl, test.jsonl: one question in each line; test has no labels.
vcr1images: the stills, each with a JSON file of its detections.
"""


def write_data_sets(folder: Path, images: int = 24, seed: int = 0) -> dict[str, int]:
    """Write all data sets below ``folder``; returns how many records each file has, by its path,
    and how many picture files there are (``pictures``).

    ``images`` is the number of Visual Genome's. Two of them can't be read: the file of one ends
    early, that of another is missing. Raises ``ValueError`` for too few images, or a folder that
    holds anything: real data are never written over.
    """
    folder = Path(folder)
    if images < FEWEST:
        raise ValueError(f"images: {images}, expected {FEWEST} or more")
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty: choose an empty folder for the stage's data sets")
    coco = _coco(seed)
    vg = _visual_genome_images(images, coco, seed)
    stills = _stills(seed)
    flickr = _flickr(seed)
    seven = _visual7w_images(vg, seed)
    told = _narrated(coco, flickr, seed)
    files = {f"visual_genome/{n}.json": rows for n, rows in visual_genome(vg, seed).items()}
    files |= _still_files(stills, seed) | _sherlock_files(vg, stills, seed)
    files |= _plain_files(coco, flickr, seven, seed) | _refcoco_files(coco["train"][:REFERRED])
    files["lvis/lvis_v1_train.json"] = coco_sets.lvis(coco["train"], seed)
    files["lvis/lvis_v1_val.json"] = coco_sets.lvis([*coco["train"][-3:], *coco["val"]], seed)
    files |= {f"localized_narratives/{name}": rows for name, rows in told[1].items()}
    for name, content in files.items():
        _write(folder / name, content)
    for picture, name, form in _pictures(vg, stills, coco, flickr, seven, told[0]):
        save(picture, folder / name, form)
    (folder / "vcr/README.md").write_text(VCR_README)
    (folder / "vcr/vcr1images/VERSION.txt").write_text("1.0\n")
    for link, target in LINKS.items():
        (folder / link).parent.mkdir(exist_ok=True)
        (folder / link).symlink_to(target, target_is_directory=True)
    pictures = sum(n.endswith(".jpg") for _, _, names in os.walk(folder) for n in names)
    return {name: _length(content) for name, content in files.items()} | dict(pictures=pictures)


# ----------------------------------------------------------------------------------------- pictures


def _scenes(name: str, number: int, seed: int, fewest: int = 2) -> list[Scene]:
    """Scenes with at least ``fewest`` things, one of them a person."""
    found = (
        s
        for s in sample_scenes(6 * number, SEEDS[name] + seed, name)
        if len(s.entities) >= fewest and any(e.kind in PEOPLE for e in s.entities)
    )
    return [scene for _, scene in zip(range(number), found, strict=False)]


def _coco(seed: int) -> dict[str, list[Numbered]]:
    """COCO's pictures by split; a train picture is greyscale."""
    scenes = iter(_scenes("coco", sum(COCO.values()), seed, fewest=3))
    rng = np.random.default_rng([seed, 48])
    numbers = iter(sorted({int(n) for n in rng.integers(30, 581_929, size=200)}))
    shapes = ((640, 480), (640, 427), (500, 375), (480, 360))
    return {
        split: [
            Numbered(
                next(numbers),
                split,
                photograph([next(scenes)], shapes[i % len(shapes)]),
                "grey" if (split, i) == ("train", 3) else "plain",
            )
            for i in range(count)
        ]
        for split, count in COCO.items()
    }


def _visual_genome_images(number: int, coco: dict[str, list[Numbered]], seed: int) -> list[VgImage]:
    """Visual Genome's images, some of which are COCO's pictures in another size."""
    scenes = iter(_scenes("vg", 2 * number, seed, fewest=3))
    rng = np.random.default_rng([seed, 49])
    low = {int(n) for n in rng.integers(3, 107_900, size=4 * number)}
    high = {int(n) for n in rng.integers(2_315_352, 2_417_998, size=4 * number)}
    numbers = [*sorted(low)[: number // 3], *sorted(high)[: number - number // 3]]
    forms = {1: "truncated", 4: LEFT_OUT, 6: "grey", 8: "turned"}
    shared = {3: coco["train"][0], 9: coco["train"][1], number - 3: coco["val"][0]}
    found = []
    for i, image_id in enumerate(numbers):
        size, stacked = SHAPES[i % len(SHAPES)]
        if i in shared:
            size, stacked, shown = (500, 375), False, list(shared[i].photograph.drawn)
        else:
            shown = [next(scenes) for _ in range(2 if stacked else 1)]
        found.append(
            VgImage(
                image_id,
                "VG_100K" if rng.random() < 0.6 else "VG_100K_2",
                photograph(shown, size, stacked),
                forms.get(i, "plain"),
                shared[i].number if i in shared else None,
                int(rng.integers(10**8, 2**31)) if i in shared or i % 5 == 2 else None,
                unlabelled=i == number - 1,
            )
        )
    return found


def _stills(seed: int) -> dict[str, list[Still]]:
    """VCR's stills by split; every other one is crowded."""
    number = sum(STILLS.values())
    scenes = _scenes("stills", 6 * number, seed, fewest=4)
    scenes.sort(
        key=lambda s: -sum(1 + (e.held in CLASSES) for e in s.entities if e.kind in CLASSES)
    )
    crowded, others = scenes[:number], scenes[number : 2 * number]
    found: dict[str, list[Still]] = {}
    for split, count in STILLS.items():
        found[split] = []
        for i in range(count):
            pool = crowded if i % 2 == 0 else others
            size = STILL_SIZES[i % len(STILL_SIZES)]
            shown = photograph([pool.pop() for _ in range(2 if size[0] / size[1] > 2 else 1)], size)
            movie, file = MOVIES[i % len(MOVIES)]
            name = f"{file}@{len(split) + 3 * i}"
            found[split].append(film_stills.still(shown, movie, name, split, i, seed))
    return found


def _flickr(seed: int) -> dict[str, list[Numbered]]:
    """Flickr30k's pictures by SNLI-VE's splits; the second of train and of dev is missing."""
    scenes = iter(_scenes("flickr", sum(FLICKR.values()), seed, fewest=3))
    rng = np.random.default_rng([seed, 50])
    shapes = ((500, 375), (500, 333), (500, 400), (480, 320))
    return {
        split: [
            Numbered(
                int(rng.integers(36_979, 8_250_000_000)),
                split,
                photograph([next(scenes)], shapes[i % len(shapes)]),
                LEFT_OUT if split != "test" and i == 1 else "plain",
            )
            for i in range(count)
        ]
        for split, count in FLICKR.items()
    }


def _visual7w_images(vg: Sequence[VgImage], seed: int) -> list[Numbered]:
    """Visual7W's images: of each split the first two are among those of Visual Genome here."""
    scenes = iter(_scenes("v7w", sum(VISUAL7W.values()), seed, fewest=3))
    whole = iter([i for i in vg if i.form == "plain" and not i.photograph.stacked])
    found = []
    for split, count in VISUAL7W.items():
        for i in range(count):
            known = next(whole, None) if i < 2 else None
            if known:
                found.append(Numbered(known.number, split, known.photograph))
            else:
                shown = photograph([next(scenes)], ((500, 375), (500, 333))[i % 2])
                found.append(Numbered(2_417_998 - 10 * len(found), split, shown))
    return found


def _narrated(
    coco: dict[str, list[Numbered]], flickr: dict[str, list[Numbered]], seed: int
) -> tuple[list[Narrated], dict[str, list[dict]]]:
    """Pictures that only narrators have, and the files about them and about others' pictures."""
    scenes = iter(_scenes("others", 8, seed, fewest=3))

    def own(dataset: str, image_id: str, below: str, form: str = "plain") -> Narrated:
        shown = photograph([next(scenes)], (512, 384))
        return Narrated(dataset, image_id, f"{below}/{image_id}.jpg", shown, form)

    def known(dataset: str, p: Numbered, below: str, image_id: str) -> Narrated:
        return Narrated(dataset, image_id, f"{below}/{image_id}.jpg", p.photograph, p.form)

    train, val = (
        [known(f"mscoco_{s}2017", p, f"{s}2017", str(p.number)) for p in coco[s][:5]]
        for s in ("train", "val")
    )
    thirty = [known("Flick30k", p, "flickr30k_images", str(p.number)) for p in flickr["train"][:3]]
    ade = [own("ADE20k", f"ADE_train_{n:08}", "training") for n in (1, 17)]
    ade_val = [own("ADE20k", "ADE_val_00000001", "validation")]
    opened = [own("open_images_train", "000002b66c9c498e", "train")]
    opened.append(own("open_images_train", "0a3f1bd2c9e87765", "train", "cmyk"))
    seen = [own("open_images_validation", "ffd9c8a7b6e50413", "validation", "turned")]
    spoken = "_localized_narratives"
    files = {
        f"coco_train{spoken}-00000-of-00004.jsonl": (train[:3], "coco_train"),
        f"coco_train{spoken}-00001-of-00004.jsonl": (train[3:], "coco_train"),
        f"coco_val{spoken}.jsonl": (val, "coco_val"),
        f"flickr30k_train{spoken}.jsonl": (thirty, "flickr30k_train"),
        f"ade20k_train{spoken}.jsonl": (ade, "ade20k_train"),
        f"ade20k_validation{spoken}.jsonl": (ade_val, "ade20k_validation"),
        f"open_images_train_v6{spoken}-00000-of-00010.jsonl": (opened, "open_images_train"),
        "open_images_validation_captions.jsonl": (seen, "open_images_validation"),
    }
    rows = {
        name: narratives.narratives(shown, recordings, seed)
        for name, (shown, recordings) in files.items()
    }
    name = "open_images_validation_captions.jsonl"
    rows[name] = narratives.captions(rows[name])
    return [*ade, *ade_val, *opened, *seen], rows


def _pictures(
    vg: Sequence[VgImage],
    stills: dict[str, list[Still]],
    coco: dict[str, list[Numbered]],
    flickr: dict[str, list[Numbered]],
    seven: Sequence[Numbered],
    others: Sequence[Narrated],
) -> list[tuple[Photograph, str, str]]:
    """Every picture file: what it shows, its path, its form."""
    found = [(i.photograph, f"visual_genome/{i.path}", i.form) for i in vg]
    found += [
        (s.photograph, f"vcr/vcr1images/{s.path}.jpg", "plain")
        for some in stills.values()
        for s in some
    ]
    found += [
        (p.photograph, f"aokvqa/{split}2017/{p.number:012}.jpg", p.form)
        for split, some in coco.items()
        for p in some
    ]
    found += [
        (p.photograph, f"train2014/{coco_sets.file_name(p.number)}", p.form)
        for p in coco["train"][:REFERRED]
    ]
    found += [
        (p.photograph, f"snli_ve/flickr30k_images/{p.number}.jpg", p.form)
        for some in flickr.values()
        for p in some
    ]
    found += [(p.photograph, f"visual7w/images/v7w_{p.number}.jpg", p.form) for p in seven]
    return found + [(p.photograph, p.path, p.form) for p in others]


# -------------------------------------------------------------------------------------------- files


def _still_files(stills: dict[str, list[Still]], seed: int) -> dict[str, list | dict]:
    files: dict[str, list | dict] = {}
    for split, some in stills.items():
        rows = film_stills.vcr(some, seed + len(split))
        files[f"vcr/{split}.jsonl"] = film_stills.without_labels(rows) if split == "test" else rows
        files[f"visualcomet/{split}_annots.json"] = film_stills.visualcomet(some, split == "test")
        for s in some:
            files[f"vcr/vcr1images/{s.path}.json"] = film_stills.vcr_metadata(s)
    return files


def _sherlock_files(
    vg: Sequence[VgImage], stills: dict[str, list[Still]], seed: int
) -> dict[str, list | dict]:
    """Train knows the first images of Visual Genome, those that can't be read among them."""
    train, val = vg[: 2 * len(vg) // 3], vg[2 * len(vg) // 3 :]
    halved = {
        name: [
            n
            for n, i in enumerate(some)
            if i.photograph.size in ((800, 600), (640, 480)) and i.form == "plain"
        ]
        for name, some in (("train", train), ("val", val))
    }
    chosen = [i for i in val if not i.unlabelled][:3]
    shown, key, test_ids = sherlock.comparison([*chosen, *stills["val"][:3]], seed)
    taught = sherlock.corpus([*train, *stills["train"]], False, halved["train"][:1])
    return {
        "sherlock/sherlock_train_v1_1.json": sherlock.with_empty_box(taught),
        "sherlock/sherlock_val_with_split_idxs_v1_1.json": sherlock.corpus(
            [*val, *stills["val"]], True, halved["val"][:1]
        ),
        "sherlock/val_comparison_instances.json": shown,
        "sherlock/val_comparison_answer_key.json": key,
        "sherlock/val_comparison_instance_ids.json": test_ids,
    }


def _plain_files(
    coco: dict[str, list[Numbered]],
    flickr: dict[str, list[Numbered]],
    seven: Sequence[Numbered],
    seed: int,
) -> dict[str, list | dict]:
    files: dict[str, list | dict] = {
        f"aokvqa/aokvqa_v1p0_{split}.json": plain_benchmarks.aokvqa(some, split, 20, seed)
        for split, some in coco.items()
    }
    for split, some in flickr.items():
        files[f"snli_ve/snli_ve_{split}.jsonl"] = plain_benchmarks.snli_ve(some, 30, seed)
    files["visual7w/dataset_v7w_telling.json"] = plain_benchmarks.visual7w(seven, 20, seed)
    return files


def _refcoco_files(pictures: Sequence[Numbered]) -> dict[str, list | dict]:
    files: dict[str, list | dict] = {}
    sets = {"refcoco": ("unc", "google"), "refcoco+": ("unc",), "refcocog": ("umd", "google")}
    for name, splits in sets.items():
        files[f"{name}/instances.json"] = coco_sets.instances(pictures)
        for split_by in splits:
            files[f"{name}/refs({split_by}).p"] = coco_sets.refs(
                pictures, split_by, located=name == "refcoco"
            )
    return files


def _length(content: list | dict) -> int:
    if isinstance(content, list):
        return len(content)
    return len(next((content[k] for k in ("images", "annotations", "boxes") if k in content), ()))


def _write(path: Path, content: list | dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".p":
        path.write_bytes(coco_sets.python2_pickle(content))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
    else:
        path.write_text(json.dumps(content))
