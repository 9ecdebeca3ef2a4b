"""The files that a profile's parameters name: data sets, their pictures, labels, all others.

Nothing is read whole: whether a set's pictures are there is seen from some that its files name.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lskd_nb.critic import TRAIN
from lskd_nb.critic.label_sample import WANTED
from lskd_nb.runner.findings import Finding, Given
from lskd_nb.runner.stops import A_FILE, MODELS, how_to_label, triples_there
from lskd_nb.sources import BadRecord
from lskd_nb.sources.coco import PicturesByName
from lskd_nb.sources.image_folder import FOREIGN, files_below, is_picture
from lskd_nb.verbalization.images import TEXTS, sources_of

DATA = {  # parameter -> what its folder must hold
    "vcr_folder": ("train.jsonl", "val.jsonl", "vcr1images"),
    "sherlock_folder": ("val_comparison_instances.json", "val_comparison_answer_key.json"),
    "sherlock_images": ("VG_100K", "VG_100K_2", "vcr1images"),
    "visualcomet_folder": ("val_annots.json",),
    "aokvqa_folder": ("aokvqa_v1p0_val.json", "val2017"),
    "snli_ve_folder": ("snli_ve_train.jsonl", "snli_ve_dev.jsonl", "flickr30k_images"),
    "visual7w_folder": ("dataset_v7w_telling.json", "images"),
    "vocabularies": ("*.txt",),
}
# the same of notebook 1's sources: of their annotations, and of their pictures
SOURCES = {
    "visual_genome": (("image_data.json", "objects.json"), ("VG_100K",)),
    "vcr": (("train.jsonl",), ("vcr1images",)),
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
NO_DETECTOR = "pictures of a folder come without boxes: name a detector in 01.detector"
A_PATH = re.compile(r"_(file|folder|images|captions|root)$|^(candidates|prices|vocabularies)$")
LEFT_EMPTY = {"candidates": "; leave it empty to have them drawn with the seed, and recorded"}


def files(profile: str, given: Given, root: Path) -> Iterator[Finding]:
    """What the notebooks read besides models. An empty parameter means the mini world's own."""
    looked_at: set[tuple[str, str]] = set()
    for number, values in given.items():
        if "sherlock_clues" in values:
            yield from _caption_files(number, values, root)
            continue
        if values.get("sources"):
            yield from _source_files(number, given, root)
        for name, value in values.items():
            if not value or not isinstance(value, str):
                continue
            if (name, value) in looked_at:  # notebook 07 looks at what 06 does
                continue
            if name in DATA:
                looked_at.add((name, value))
                folder = _folder(values, name, root)
                yield _holds(f"{number} {name}", folder, DATA[name])
                yield from _pictures(number, name, values, root)
            elif name == "labels_file":
                run_dir = root / str(values["run_dir"])
                if values.get("critic", TRAIN) != TRAIN and not (root / value).exists():
                    continue  # it learns from none
                yield _labels(number, profile, root, run_dir, root / value)
            elif name not in (*MODELS, "critic") and (A_PATH.search(name) or A_FILE.search(value)):
                path, told = root / value, LEFT_EMPTY.get(name, "")
                there = path.exists()
                detail = str(path) if there else f"{path} is not there{told}"
                yield Finding(f"{number} {name}", there, detail)


def _source_files(number: str, given: Given, root: Path) -> Iterator[Finding]:
    """The images that a corpus is to be about: their annotations, some of their pictures, and what
    people wrote, where a notebook reads that.
    """
    values = given[number]
    texts = values.get("human_texts") or given.get("05", {}).get("rehearsal_share")
    for source in sources_of(values["sources"], root):
        subject = f"{number} sources.{source.name}"
        if source.name in SOURCES:
            wanted, pictures = SOURCES[source.name]
            if texts and source.name == "visual_genome":
                wanted = (*wanted, *(f"{name}.json" for name in TEXTS))
            if source.annotations == source.pictures:
                yield _holds(subject, source.annotations, (*wanted, *pictures))
            else:
                yield _holds(subject, source.annotations, wanted)
                yield _holds(f"{subject}, images", source.pictures, pictures)
        elif source.name == "folder":
            yield _photographs(subject, source.annotations, bool(values.get("detector")))
        else:
            there = source.annotations.is_file()
            told = str(source.annotations) if there else f"{source.annotations} is not there"
            if source.annotations.is_dir():
                told = f"{source.annotations} is a folder; expected a JSON file of boxes"
            yield Finding(subject, there, told)
        if (how := PICTURES.get(source.name)) and source.name != "folder":
            file = source.annotations / how.file if how.file else source.annotations
            yield from _pictures_found(f"{subject}, pictures", file, how, source.pictures)


def _photographs(subject: str, folder: Path, detected: bool) -> Finding:
    if not folder.is_dir():
        return Finding(subject, False, f"{folder} is not there; expected a folder of pictures")
    pictures = [file for file in files_below(folder) if is_picture(file)]
    if not pictures:
        return Finding(subject, False, f"{folder} holds no picture")
    if all(file.suffix.lower() in FOREIGN for file in pictures):
        return Finding(subject, False, f"{folder}: convert its pictures to JPEG or PNG")
    return Finding(subject, detected, str(folder) if detected else f"{folder}: {NO_DETECTOR}")


def _folder(values: Mapping[str, object], name: str, root: Path) -> Path:
    """The folder that a parameter names: below the notebook's image root, if it is there."""
    below = root / str(values.get("image_root") or "") / str(values[name])
    return below if below.is_dir() else root / str(values[name])


def _holds(subject: str, folder: Path, wanted: Sequence[str]) -> Finding:
    missing = [
        w for w in wanted if not (any(folder.glob(w)) if "*" in w else (folder / w).exists())
    ]
    return Finding(
        subject, not missing, f"{folder} lacks {', '.join(missing)}" if missing else str(folder)
    )


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
        _holds(f"{number} {name}", home / str(values[name]), files)
        for name, files in wanted.items()
    )
    sets = values.get("refcoco_sets") or {}
    yield from (
        _holds(f"{number} {name}", home / name, ("instances.json", f"refs({split_by}).p"))
        for name, split_by in sets.items()
    )
    if sets:
        yield _holds(f"{number} RefCOCO's images", home, ("train2014",))


# ----------------------------------------------------------------------------------------- pictures


@dataclass(frozen=True)
class Named:
    """How a set's file names its pictures, and where in which folder each is then."""

    file: str
    picture: str  # a pattern whose group is the name
    folder: str  # the parameter of the folder that has them
    places: tuple[str, ...] = ("{}",)


_STILLS = ("{}", "vcr1images/{}")
_FILE_NAME = r'"file_name"\s*:\s*"((?:[^"\\]|\\.)+)"'
_COCO_URL = r'"coco_url":\s*"[^"]*?([^/"]+/[^/"]+\.jpg)"'
_GENOME = r'"url":\s*"[^"]*?(VG_100K(?:_2)?/\d+\.jpg)"'
PICTURES = {
    "visual_genome": Named("image_data.json", _GENOME, "visual_genome"),
    "vcr": Named("train.jsonl", r'"img_fn":\s*"([^"]+)"', "vcr", _STILLS),
    "coco": Named("", _FILE_NAME, "coco"),
    "lvis": Named("", f"{_COCO_URL}|{_FILE_NAME}", "lvis"),
    "vcr_folder": Named("val.jsonl", r'"img_fn":\s*"([^"]+)"', "vcr_folder", _STILLS),
    "visualcomet_folder": Named("val_annots.json", r'"img_fn":\s*"([^"]+)"', "vcr_folder", _STILLS),
    "sherlock_folder": Named(
        "val_comparison_instances.json",
        r'"url":\s*"[^"]*?((?:VG_100K(?:_2)?|vcr1images)/[^"]+\.jpg)"',
        "sherlock_images",
    ),
    "aokvqa_folder": Named(
        "aokvqa_v1p0_val.json",
        r'"image_id":\s*(\d+)\s*[,}]',
        "aokvqa_folder",
        ("val2017/{:0>12}.jpg",),
    ),
    "snli_ve_folder": Named(
        "snli_ve_dev.jsonl",
        r'"Flic?kr30[kK]_?ID":\s*"?(\d+)',
        "snli_ve_folder",
        ("flickr30k_images/{}.jpg",),
    ),
    "visual7w_folder": Named(
        "dataset_v7w_telling.json", r'"filename":\s*"([^"]+)"', "visual7w_folder", ("images/{}",)
    ),
}
# places of a file that are looked at, their bytes, and the most names that are taken of each
SPOTS, SPOT, EACH = 8, 1 << 15, 8


def _pictures(
    number: str, name: str, values: Mapping[str, object], root: Path
) -> Iterator[Finding]:
    """Whether some pictures that the set's file names are there; nothing where it names none."""
    how = PICTURES.get(name)
    if how is None:
        return
    owner = how.folder if values.get(how.folder) else "vcr_folder"
    if values.get(owner):
        file, home = _folder(values, name, root) / how.file, _folder(values, owner, root)
        yield from _pictures_found(f"{number} {name}, pictures", file, how, home)


def _pictures_found(subject: str, file: Path, how: Named, home: Path) -> Iterator[Finding]:
    """The same of a file's pictures, below ``home``."""
    names = _some_named(file, how)
    lacking = [n for n in names if not any(os.path.exists(p) for p in _places(home, n, how.places))]
    if not how.file:  # COCO JSON: as its reader finds them
        lacking = _not_found(names if how is PICTURES["coco"] else lacking, home)
        if not names and file.is_file():
            told = f"{file} names no picture ('file_name'): expected COCO JSON, in UTF-8"
            yield Finding(subject, False, told)
    if names:
        ok = not lacking
        if lacking and len(lacking) <= len(names) / 2:
            ok = None  # they are left out, and counted
        told = f"in {home} are all of {len(names)} pictures that {file.name} names and that were"
        if lacking:
            told = f"{home} lacks {len(lacking)} of {len(names)} pictures that {file.name} names"
            told += (
                f" and that were looked for, such as {_places(home, lacking[0], how.places)[-1]}"
            )
        yield Finding(subject, ok, told if lacking else f"{told} looked for")


def _not_found(names: Sequence[str], home: Path) -> list[str]:
    """Those that the reader of COCO JSON would leave out: not there, or one of several."""
    pictures, lacking = PicturesByName(home), []
    for name in names:
        try:
            pictures.named(name)
        except BadRecord:
            lacking.append(name)
    return lacking


def _places(home: Path, name: str, places: Sequence[str]) -> list[Path]:
    """Where a picture may be; one of Visual Genome in the other of its two folders as well."""
    found = [home / place.format(name) for place in places]
    if name.startswith("VG_100K"):
        folder, _, file = name.partition("/")
        found.append(home / ("VG_100K" if folder == "VG_100K_2" else "VG_100K_2") / file)
    return found


def _some_named(path: Path, how: Named) -> list[str]:
    """Pictures that a set's file names, from several places of it."""
    found: dict[str, None] = {}
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            for spot in range(SPOTS):
                file.seek(max(size - SPOT, 0) * spot // (SPOTS - 1))
                text = file.read(SPOT).decode("utf-8", errors="replace")
                names = [_plain(next(filter(None, m.groups()))) for m in _matches(how, text)]
                found |= dict.fromkeys(names[:: len(names) // EACH + 1])
    except OSError:  # that the file is not there is another finding
        return []
    return list(found)


def _matches(how: Named, text: str) -> Iterator[re.Match]:
    return (match for match in re.finditer(how.picture, text) if any(match.groups()))


def _plain(name: str) -> str:
    """A name as JSON spells it, as it is."""
    try:
        return str(json.loads(f'"{name}"'))
    except ValueError:
        return name


# ------------------------------------------------------------------------------------------- labels


def _labels(number: str, profile: str, root: Path, run_dir: Path, path: Path) -> Finding:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from lskd_nb.records import LABELS

    subject = f"{number} labels_file"
    try:
        table = pq.ParquetFile(path)
    except FileNotFoundError:
        return _no_labels(subject, profile, root, run_dir, path)
    except (OSError, pa.ArrowInvalid) as error:
        return Finding(subject, False, f"{path}: {error}")
    lacking = [n for n in LABELS.names if n not in table.schema_arrow.names]
    if lacking:
        return Finding(subject, False, f"{path} lacks the columns {', '.join(lacking)}")
    told = f"{path}, {table.metadata.num_rows:,} labels (the paper has {WANTED:,})"
    return Finding(subject, True, told)


def _no_labels(subject: str, profile: str, root: Path, run_dir: Path, path: Path) -> Finding:
    """Labels can only be made when there are triples: until then nobody misses them."""
    if (triples := triples_there(run_dir)) is None:
        told = f"about {WANTED:,} of its triples, into {path}; the run stops there and says"
        return Finding(subject, None, f"will be labelled after 02: {told} how")
    told = "\n".join(f"        {line}" for line in how_to_label(profile, root, run_dir, path)[1:-1])
    return Finding(subject, False, f"{path} is not there, and {triples:,} triples are:\n{told}")
