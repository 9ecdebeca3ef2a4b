"""A run's folder, opened for looking: images and what was said of them, read when asked for."""

import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import duckdb
import pyarrow as pa

from lskd_nb.records import NUMBERED_PARQUET, PARQUET
from lskd_nb.regions import LocatedImage, located_images
from lskd_nb.teacher.prompts import context_text


class RunError(Exception):
    """A run that can't be done as it was asked for; the message says what is wrong and where."""


def find_root() -> Path:
    """The folder that holds notebooks/ and params/: $LSKD_ROOT, or above the package, or above the
    working directory. Raises ``RunError`` where there is none."""
    if told := os.environ.get("LSKD_ROOT"):
        return Path(told).resolve()
    for start in (Path(__file__).resolve().parent, Path.cwd().resolve()):
        for folder in (start, *start.parents):
            if (folder / "notebooks").is_dir() and (folder / "params").is_dir():
                return folder
    raise RunError(
        "no folder with notebooks/ and params/ above the package or"
        " the working directory; set LSKD_ROOT"
    )


IMPORTED = "imported.json"  # what corpus.imported says of a run that it has made


def imported_from(folder: str | Path) -> Mapping | None:
    """What is on record of a run that was imported, not made here: ``file``, ``sha256``, ``date``,
    counts; None of a run of one's own.

    Raises ``ValueError`` for a damaged record, or an import that has not ended.
    """
    path = Path(folder) / IMPORTED
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["status"] == "done":
            return record
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}): import the corpus again") from None
    raise ValueError(f"{path}: the import has not ended. Do it again with the same command")


class RunFolder:
    """Files of a run.

    Raises ``FileNotFoundError`` naming what is not there and which notebook writes it.
    """

    def __init__(self, folder: str | Path):
        given = Path(folder)
        self.folder = given if given.is_absolute() or given.exists() else find_root() / given
        if not (self.folder / "image_root.txt").exists():
            raise FileNotFoundError(
                f"{self.folder} is no folder of a run: notebook 01 writes image_root.txt there"
            )
        self.image_root = Path((self.folder / "image_root.txt").read_text().strip())
        self._db = duckdb.connect()

    @cached_property
    def _regions(self) -> Path:
        return self._there("regions.parquet", "01")

    @cached_property
    def _verbalizations(self) -> Path:
        return self._there("verbalizations.parquet", "01")

    def _there(self, name: str, notebook: str) -> Path:
        if not (path := self.folder / name).exists():
            raise FileNotFoundError(f"{path} is not there: run notebook {notebook} first")
        return path

    def image_ids(self, source: str | None = None) -> list[str]:
        """All images, in the order of the file."""
        where = "" if source is None else "WHERE source = ?"
        found = self._table(
            f"SELECT image_id FROM {NUMBERED_PARQUET} {where} ORDER BY file_row_number",
            self._regions,
            *([] if source is None else [source]),
        )
        return found["image_id"].to_pylist()

    def image(self, image_id: str) -> LocatedImage:
        """An image with all its regions. Raises ``ValueError`` for one that is not of this run."""
        found = self._table(f"SELECT * FROM {PARQUET} WHERE image_id = ?", self._regions, image_id)
        if not found.num_rows:
            raise ValueError(f"{self._regions} has no image {image_id!r}")
        return located_images(found)[0]

    def lines(self, image_id: str) -> Sequence[dict]:
        """What was said of an image, rows of records.VERBALIZATIONS in the order of the file."""
        query = (
            f"SELECT * EXCLUDE file_row_number FROM {NUMBERED_PARQUET}"
            " WHERE image_id = ? ORDER BY file_row_number"
        )
        return self._table(query, self._verbalizations, image_id).to_pylist()

    def told(self, image_id: str) -> str:
        """The words the teacher saw; none where the run has no verbalizations, or was imported."""
        if not imported_from(self.folder) and (self.folder / "verbalizations.parquet").exists():
            return context_text(self.image(image_id), self.lines(image_id))
        return ""

    def _table(self, query: str, path: Path, *values: str) -> pa.Table:
        try:
            return self._db.sql(query, params=[str(path), *values]).to_arrow_table()
        except duckdb.Error as error:
            raise ValueError(f"{path} can't be read: {str(error).splitlines()[0]}") from error
