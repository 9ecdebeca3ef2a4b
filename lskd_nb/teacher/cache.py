"""Replies, kept as soon as they arrive, batches under way, and what servers take of a request: one
SQLite file, SIGKILL-proof.
"""

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TABLES = (
    "CREATE TABLE IF NOT EXISTS replies (request TEXT PRIMARY KEY, reply TEXT NOT NULL)",
    # what came of requests that are not answered yet: broken off, or empty, and paid for
    "CREATE TABLE IF NOT EXISTS unfinished (request TEXT PRIMARY KEY, reply TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS dialects (server TEXT, model TEXT, takes TEXT NOT NULL,"
    " PRIMARY KEY (server, model))",
    # a batch is written down before it is submitted: id is null until the server has told it
    (
        "CREATE TABLE IF NOT EXISTS batches (name TEXT PRIMARY KEY, server TEXT, id TEXT, at REAL,"
        " collected INTEGER DEFAULT 0)"
    ),
    (
        "CREATE TABLE IF NOT EXISTS batched (name TEXT, request TEXT, worst_usd REAL, PRIMARY KEY"
        " (name, request)) WITHOUT ROWID"
    ),
)


@dataclass(frozen=True)
class OpenBatch:
    """A batch that is not collected yet; ``requests`` are the hashes of its requests with the
    most that each may cost in USD.
    """

    name: str
    id: str | None
    at: float  # seconds since 1970
    requests: dict[str, float]


class ResponseCache:
    """Replies under the hash of their request, and batches by server.

    A stored reply survives a SIGKILL a moment later.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            for table in TABLES:
                self._db.execute(table)
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{path} is not a readable response cache: {error}") from error

    def get(self, request: str) -> dict | None:
        return self._found("SELECT reply FROM replies WHERE request = ?", request)

    def put(self, request: str, reply: dict) -> None:
        self.put_all([(request, reply)])

    def put_all(
        self, replies: Iterable[tuple[str, dict]], unfinished: Iterable[tuple[str, dict]] = ()
    ) -> None:
        """Store replies together: all of them, or none where the process dies.

        Those that are ``unfinished`` are no answers; they are kept for what they hold and cost.
        """
        with self._transaction():
            self._insert(replies)
            self._insert(unfinished, "unfinished")

    def unfinished(self, request: str) -> dict | None:
        """What came the last time of a request that is not answered yet."""
        return self._found("SELECT reply FROM unfinished WHERE request = ?", request)

    def dialect(self, server: str, model: str) -> dict | None:
        """What a server takes for a model, where that is known."""
        query = "SELECT takes FROM dialects WHERE server = ? AND model = ?"
        return self._found(query, server, model)

    def put_dialect(self, server: str, model: str, takes: dict) -> None:
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO dialects VALUES (?, ?, ?)",
                (server, model, json.dumps(takes)),
            )

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of what is written in the block, or none.

        Raises ``OSError`` naming the file where it can't be written.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            raise OSError(
                f"{self.path} can't be written, is the disk full?"
                f" ({error}) Replies stored before are kept"
            ) from error

    def forget_dialect(self, server: str, model: str) -> None:
        with self._transaction():
            self._db.execute("DELETE FROM dialects WHERE server = ? AND model = ?", (server, model))

    def _found(self, query: str, *values: str) -> dict | None:
        """The JSON that a query has one of, if it has."""
        row = self._db.execute(query, values).fetchone()
        return json.loads(row[0]) if row else None

    def _insert(self, replies: Iterable[tuple[str, dict]], table: str = "replies") -> None:
        rows = ((request, json.dumps(reply, ensure_ascii=False)) for request, reply in replies)
        self._db.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", rows)

    # -------------------------------------------------------------------------------------- batches

    def intend_batch(self, name: str, server: str, requests: dict[str, float]) -> None:
        """Write down a batch that is about to be submitted."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO batches (name, server, at) VALUES (?, ?, ?)",
                (name, server, time.time()),
            )
            self._db.executemany(
                "INSERT INTO batched VALUES (?, ?, ?)",
                ((name, request, worst) for request, worst in requests.items()),
            )

    def submitted_batch(self, name: str, batch_id: str) -> None:
        self._db.execute("UPDATE batches SET id = ? WHERE name = ?", (batch_id, name))

    def forget_batch(self, name: str) -> None:
        """Of a batch that the server never took."""
        with self._transaction():
            for table in ("batches", "batched"):
                self._db.execute(f"DELETE FROM {table} WHERE name = ?", (name,))

    def collect_batch(
        self,
        name: str,
        replies: Sequence[tuple[str, dict]],
        unfinished: Iterable[tuple[str, dict]] = (),
    ) -> None:
        """Store a batch's replies and that it is collected, both or neither."""
        with self._transaction():
            self._insert(replies)
            self._insert(unfinished, "unfinished")
            self._db.execute("UPDATE batches SET collected = 1 WHERE name = ?", (name,))
            self._db.execute("DELETE FROM batched WHERE name = ?", (name,))

    def open_batches(self, server: str) -> list[OpenBatch]:
        """The batches at a server that are not collected yet, oldest first."""
        rows = self._db.execute(
            "SELECT name, id, at FROM batches WHERE server = ? AND NOT collected ORDER BY at",
            (server,),
        ).fetchall()
        return [
            OpenBatch(
                name,
                batch_id,
                at,
                dict(
                    self._db.execute(
                        "SELECT request, worst_usd FROM batched WHERE name = ?", (name,)
                    )
                ),
            )
            for name, batch_id, at in rows
        ]
