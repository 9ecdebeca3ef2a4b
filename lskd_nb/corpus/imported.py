"""A corpus in the released format as a run: what notebooks 05 to 07 and the widgets read.

The file is read as ``released`` reads it. What a run needs besides is looked up or said plainly:

- **pictures** lie below an image folder, as the file's paths have them. A row whose picture is not
  there, or damaged, is rejected: a training must not end in the middle over it. Sizes are those of
  the pictures, boxes are cut to them, and scaled where the file has the size of a larger copy;
- **regions** of an image are those of all its rows together (``shared_boxes``);
- **scores** are those of the file, null where it has none. Nobody has judged them here, and what
  its makers' filter has dropped is not in it: ``imported.json`` says so to all that tell of the
  run. There is no unfiltered corpus, no label, no truth, and no word of a verbalizer.

    FILE.jsonl -> released.convert_released -> rows, .unboxed, .rejects
        | pictures: sizes
        v
    image_root.txt, regions, triples, scores, corpus, verbalizations (empty),
    corpus.unboxed, rejects_import (.parquet); imported.json is written last
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from lskd_nb.corpus.import_rows import APART, CORRUPT, MISSING, REJECTED, is_whole, make_run
from lskd_nb.corpus.released import convert_released
from lskd_nb.records import REJECTS, atomic_path, place_for, read_parquet
from lskd_nb.run_folder import IMPORTED, RunError, imported_from

# what an import writes beside its record; a notebook that would write one anew is not run
FILES = (
    "image_root.txt", "regions.parquet", "triples.parquet", "scores.parquet", "corpus.parquet",
    "verbalizations.parquet",
)  # fmt: skip


def import_corpus(
    file: str | Path, images: str | Path, run_dir: str | Path, workers: int | None = None
) -> tuple[Mapping, bool]:
    """Make a run's folder of a released JSONL whose pictures lie below ``images``: its record
    (``run_folder.imported_from``), and whether anything was done.

    Nothing is, where the same file was imported there before, from the same folder, and no picture
    that was missing or damaged is there by now. ``workers`` processes read (None: one for each
    core). Raises ``FileNotFoundError`` for a file or folder that is not there, ``RunError`` where
    ``run_dir`` holds anything else, no row can be read, or none of the pictures is there.
    """
    file, root, run_dir = Path(file), Path(images).absolute(), Path(run_dir)
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there; expected a corpus, one JSON object a line")
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder; expected the one that holds the pictures")
    with open(file, "rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if _is_done(run_dir, digest, root, file):
        return imported_from(run_dir), False
    building = run_dir / ".import"
    shutil.rmtree(building, ignore_errors=True)
    try:
        with place_for(run_dir):
            building.mkdir(parents=True)
            _, apart, _ = convert_released(file, building / "read.parquet", workers)
            made = make_run(building, root, file, workers)
            record = dict(
                status="done",
                file=file.name,
                bytes=file.stat().st_size,
                sha256=digest,
                date=date.today().isoformat(),
                apart=apart,
                **made,
            )
            _put(building, run_dir, record)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return record, True


def _is_done(run_dir: Path, digest: str, root: Path, file: Path) -> bool:
    """Whether a folder holds this import already; raises ``RunError`` where it holds another's."""
    path = run_dir / IMPORTED
    there = [p.name for p in run_dir.iterdir() if p.name[0] != "."] if run_dir.is_dir() else []
    if not path.exists():
        if there:
            what = f"{run_dir} is not empty ({', '.join(sorted(there)[:5])})"
            raise RunError(f"{what}: an import makes a run of its own, name another folder")
        return False
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        known, status, name = before["sha256"], before["status"], before["file"]
    except (ValueError, KeyError, TypeError) as error:
        told = f"{path} is damaged ({error!r})"
        raise RunError(f"{told}: delete {run_dir}, or name another folder") from None
    if known != digest:
        raise RunError(
            f"{run_dir} holds the import of {name} (sha256 {known[:12]}), and {file} is another"
            f" file (sha256 {digest[:12]}): name another folder"
        )
    if status != "done" or any(not (run_dir / name).exists() for name in (*FILES, REJECTED)):
        return False
    if (run_dir / "image_root.txt").read_text().strip() != str(root):
        return False
    return not any(is_whole(root, image) for image in _lacked(run_dir / REJECTED))


def _lacked(rejects: Path) -> list[str]:
    """The pictures that were missing or damaged."""
    table = read_parquet(rejects, REJECTS)
    why = pc.is_in(table["reason"], pa.array([MISSING, CORRUPT]))
    return [text.partition(": ")[0] for text in table.filter(why)["detail"].unique().to_pylist()]


def _put(building: Path, run_dir: Path, record: Mapping) -> None:
    """Move what was made to its place. A kill in between is seen: the record says "running"."""
    for status in ("running", "done"):
        with atomic_path(run_dir / IMPORTED) as temporary:
            told = json.dumps(dict(record) | {"status": status}, indent=1)
            temporary.write_text(told + "\n", encoding="utf-8")
        for made in building.iterdir() if status == "running" else ():
            if made.name in (*FILES, APART, REJECTED):
                os.replace(made, run_dir / made.name)


# ------------------------------------------------------------------------------ what is said of it


def told(record: Mapping, image_root: str | Path) -> list[str]:
    """What an import has found and left out, a line each."""
    there, of = record["images_of_file"] - record["lacking"], record["images_of_file"]
    lines = [f"pictures: {there:,} of the file's {of:,} are below {image_root}"]
    if record["lacking"]:
        lines[0] += f"; the first that is not: {record['first_lacking']}"
    if rejects := record["rejects"]:
        what = ", ".join(f"{reason} ({count:,})" for reason, count in rejects.items())
        number = sum(rejects.values())
        lines.append(f"left out: {number:,} rows or regions, see {REJECTED}: {what}")
    apart = record["told_apart"]
    found = {
        f"rows that mention a region without box, kept apart in {APART}": record["apart"],
        "boxes cut to their picture": record["cut"],
        "rows whose boxes were scaled to a picture of another size": record["scaled"],
        "triples without a score": record["unscored"],
        f"images whose rows give an id different boxes; {apart['rows']:,} rows have an image id of"
        " their own (#2, …) therefore": apart["images"],
    }
    return lines + [f"{what}: {number:,}" for what, number in found.items() if number]
