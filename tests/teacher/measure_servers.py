"""What notebook 02 keeps of what each imitated server offers, with only ``base_url`` and ``model``
given: ``python tests/teacher/measure_servers.py --write`` writes outputs/servers.json, from which
the guide's table is made (``make figures``).
"""

import argparse
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from conformance import notebook, server
from conformance.personalities import ALL, Personality
from IPython.core.interactiveshell import InteractiveShell

from lskd_nb.records import atomic_path
from lskd_nb.run_folder import find_root

RECORD = find_root() / "outputs" / "servers.json"
COMPARED = ("server", "offered", "kept")
KEY = "sk-Konform-of-somebody-who-pays-ZQ7w"  # nobody's own: some servers echo it
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
FORMATS = {"json_schema": "JSON schema", "json_object": "JSON object", "text": "text"}


@dataclass(frozen=True)
class Met:
    """A server after the notebook's first run against it, and what it saw then."""

    name: str
    who: Personality
    folder: Path
    ran: notebook.Ran
    ledger: server.Ledger
    row: dict


def meet_all(one: InteractiveShell, servers: server.Conformance, folder: Path) -> dict[str, Met]:
    """Run the notebook against every server, each in a run's folder of its own."""
    notebook.make_world(folder / "world")
    return {name: _meet(one, servers, folder, name) for name in ALL}


def _meet(one: InteractiveShell, servers: server.Conformance, folder: Path, name: str) -> Met:
    who, ledger, run_dir = ALL[name], servers.ledgers[name], folder / name
    shutil.copytree(folder / "world", run_dir)
    ran = ask(one, servers, name, run_dir)
    row = dict(
        server=who.title,
        sent=_sent(ledger.last_taken),
        offered=len(ledger.offered()),
        kept=len(ran.kept),
        requests=ledger.posts,
        message=re.sub(r"(127\.0\.0\.1):\d+", r"\1", ran.message).replace(str(run_dir), "run_dir"),
    )
    return Met(name, who, run_dir, ran, ledger, row)


def ask(
    one: InteractiveShell, servers: server.Conformance, name: str, run_dir: Path
) -> notebook.Ran:
    """One run of the notebook, which is told base_url and model, in a folder that may have seen
    others.
    """
    who = ALL[name]
    given = {"base_url": servers.base_url(name), "model": who.model}
    return notebook.run(one, run_dir, **given, **who.parameters)


def _sent(body: dict) -> str:
    """A request that was taken, in words: its format, its limit, what else it had."""
    if not body:
        return ""
    kind = (body.get("response_format") or {}).get("type")
    others = sorted(body.keys() - {"model", "messages", "response_format"})
    return ", ".join([FORMATS.get(kind, "words alone"), *others])


@contextmanager
def environment() -> Iterator[None]:
    """A key that is nobody's, and no proxy, whatever this machine has."""
    before = dict(os.environ)
    for name in before:
        if name.upper() in PROXIES:
            del os.environ[name]
    os.environ["OPENAI_API_KEY"] = KEY
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def measure(folder: Path) -> list[dict]:
    """A row for each server: what was finally sent, the valid triples that its replies offered,
    those that were kept, the requests, and how the run ended ("" where all went well).
    """
    with environment(), server.serving() as servers, notebook.shell() as one:
        return [met.row for met in meet_all(one, servers, folder).values()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"write {RECORD}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder))
    for row in rows:
        print(f"{row['server']:60} {row['kept']:4} of {row['offered']:4}  {row['message'][:100]}")
    if options.write:
        with atomic_path(RECORD) as temporary:
            temporary.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
