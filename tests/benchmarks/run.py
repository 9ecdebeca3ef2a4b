"""``make bench``: every benchmark, or those named. Writes ``outputs/benchmarks.json``, each row
with the machine and the day it was measured on, then what the guide says of it, and prints the
table.

Each part is a module of this folder with ``measure() -> list[Measured]``, run in a process of its
own so that none inherits another's threads or memory. Rows of parts that were not run, or failed,
stay as they are, with the machine they were measured on.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARTS = (
    "drawing", "encoding", "training", "sampling", "corpus", "importing", "browser", "paper_stages",
)  # fmt: skip


def measured(part: str, load: float) -> list[dict] | None:
    """A part's rows from a process of its own, with machine, its load before all of this, and day;
    None where it failed.
    """
    from measuring import machine

    done = subprocess.run(
        [sys.executable, str(HERE / "run.py"), "--child", part], stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        return None
    place = machine() | {"load": round(load, 2), "date": date.today().isoformat()}
    return [row | place for row in json.loads(done.stdout.splitlines()[-1])]


def merged(before: Sequence[Mapping], new: Mapping[str, Sequence[Mapping]]) -> list[Mapping]:
    """All rows in the order of the parts: those measured now in the place of those before."""
    rows = [row for row in before if row["part"] not in new and row["part"] in PARTS]
    rows += [row for part in new.values() for row in part]
    return sorted(rows, key=lambda row: PARTS.index(row["part"]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all without a name")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {sorted(unknown)}; there are {', '.join(PARTS)}")
    sys.path.insert(0, str(HERE))
    if options.child:
        print(json.dumps([asdict(row) for row in import_module(options.parts[0]).measure()]))
        return 0

    from lskd_nb.publishing.figures import renew_pages
    from lskd_nb.publishing.speed_sentences import benchmark_machine, benchmark_table

    root = HERE.parents[1]
    out = root / "outputs" / "benchmarks.json"
    new: dict[str, list[dict]] = {}
    load = os.getloadavg()[0]
    for part in (wanted := options.parts or PARTS):
        begin = time.monotonic()
        if (rows := measured(part, load)) is not None:
            new[part] = rows
            print(f"{part}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    before = json.loads(out.read_text(encoding="utf-8"))["rows"] if out.exists() else []
    rows = merged(before, new)
    out.write_text(json.dumps(dict(rows=rows), indent=1, ensure_ascii=False) + "\n")
    print(benchmark_machine(rows), benchmark_table(rows), sep="\n\n")
    for path in renew_pages(root):
        print(f"written anew: {path}")
    failed = [part for part in wanted if part not in new]
    for part in failed:
        print(f"FAILED {part}: its rows are those of before", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
