"""A run's folder, opened for looking: its images and what was said of them, read when they are asked for and not before."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import duckdb

from lskd_nb.prompting import context_text
from lskd_nb.records import NUMBERED_PARQUET, PARQUET
from lskd_nb.regions import LocatedImage, located_images


class RunFolder:
    """Files of a run. Raises ``FileNotFoundError`` naming what is not there and which notebook writes it."""

    def __init__(self, folder: str | Path):
        from lskd_nb.run import find_root

        given = Path(folder)
        self.folder = given if given.is_absolute() or given.exists() else find_root() / given
        if not (self.folder / "image_root.txt").exists():
            raise FileNotFoundError(f"{self.folder} is no folder of a run: notebook 01 writes image_root.txt there")
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
        rows = self._db.execute(f"SELECT image_id FROM {NUMBERED_PARQUET} WHERE ?::VARCHAR IS NULL OR source = ? ORDER BY file_row_number",
                                [str(self._regions), source, source]).fetchall()
        return [image_id for image_id, in rows]

    def image(self, image_id: str) -> LocatedImage:
        """An image with all its regions. Raises ``ValueError`` for one that is not of this run."""
        found = self._db.sql(f"SELECT * FROM {PARQUET} WHERE image_id = ?", params=[str(self._regions), image_id]).to_arrow_table()
        if not found.num_rows:
            raise ValueError(f"{self._regions} has no image {image_id!r}")
        return located_images(found)[0]

    def lines(self, image_id: str) -> Sequence[dict]:
        """What was said of an image, rows of records.VERBALIZATIONS in the order of the file."""
        query = f"SELECT * EXCLUDE file_row_number FROM {NUMBERED_PARQUET} WHERE image_id = ? ORDER BY file_row_number"
        return self._db.sql(query, params=[str(self._verbalizations), image_id]).to_arrow_table().to_pylist()

    def told(self, image_id: str) -> str:
        """The words the teacher saw; none where the run has no verbalizations."""
        return context_text(self.image(image_id), self.lines(image_id)) if (self.folder / "verbalizations.parquet").exists() else ""
