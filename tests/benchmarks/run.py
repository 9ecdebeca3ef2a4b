"""``make bench``: every benchmark, or those named; prints the table and writes
``outputs/benchmarks.json`` with the machine it ran on; rows of parts that were not run keep the
name of their processor.

Each part is a module of this folder with ``measure() -> list[Measured]``, run in a process of its
own so that none inherits another's threads or memory.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARTS = ("drawing", "encoding", "training", "sampling", "corpus", "browser")


def machine() -> dict[str, object]:
    """The processor, cores, memory, and the versions that matter."""
    import torch

    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpus = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    return dict(
        cpu=cpu,
        cores=os.cpu_count(),
        memory_gib=round(gib),
        gpus=gpus,
        python=platform.python_version(),
        torch=torch.__version__,
    )


def table(rows: list[dict]) -> str:
    """The measurements as Markdown."""
    lines = ["| what | here | beside it | ratio | aim | reached |", "|---|---|---|---|---|---|"]
    for r in rows:
        other = (
            f"{r['other']:.3g} {r['unit']} {r['beside']}" if r["other"] is not None else r["beside"]
        )
        ratio = f"{r['ratio']:.1f} ×" if r["ratio"] is not None else ""
        what = f"{r['what']} ({r['note']})" if r["note"] else r["what"]
        lines.append(
            f"| {what} | {r['ours']:.3g} {r['unit']} | {other} | {ratio} | {r['aim']} |"
            f" {'yes' if r['reached'] else '**no**'} |"
        )
    return "\n".join(lines)


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
    out = HERE.parents[1] / "outputs" / "benchmarks.json"
    before = json.loads(out.read_text())["rows"] if out.exists() and options.parts else []
    rows, failed = [r for r in before if r["part"] not in options.parts], []
    for part in options.parts or PARTS:
        begin = time.monotonic()
        done = subprocess.run(
            [sys.executable, str(HERE / "run.py"), "--child", part],
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            failed.append(part)
            continue
        rows += [
            row | {"cpu": machine()["cpu"]} for row in json.loads(done.stdout.splitlines()[-1])
        ]
        print(f"{part}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    rows.sort(key=lambda r: PARTS.index(r["part"]))
    out.write_text(
        json.dumps(dict(machine=machine(), rows=rows), indent=1, ensure_ascii=False) + "\n"
    )
    print(table(rows))
    for part in failed:
        print(f"FAILED {part}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
