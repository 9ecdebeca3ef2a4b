"""``lskd import-corpus``: the command that makes a run of a corpus which others have published."""

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path


def add_command(commands: argparse._SubParsersAction, say: Callable[[str], None]) -> None:
    """The command and its parser; what it has to tell goes to ``say``, a line at a time."""
    parser = commands.add_parser(
        "import-corpus",
        help="make a run of a corpus in the released format, which notebooks 05 to 07 go on from",
        epilog="example: lskd import-corpus 1M.jsonl --images data/images --out outputs/runs/1M",
    )
    parser.add_argument("file", type=Path, metavar="FILE.jsonl", help="one triple in each line")
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="holds VG_100K, VG_100K_2 and vcr1images, or links to them",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="the run's folder")
    parser.set_defaults(command=lambda options, root: _import(options, root, say))


def _import(options: argparse.Namespace, root: Path, say: Callable[[str], None]) -> int:
    from lskd_nb.corpus.imported import import_corpus, told
    from lskd_nb.corpus.provenance import provenance
    from lskd_nb.runner import manifest
    from lskd_nb.runner.run import locked

    run_dir = options.out.resolve()
    with locked(run_dir):
        record, done = import_corpus(options.file, options.images, run_dir)
        if done or not (run_dir / "manifest.json").exists():
            manifest.save(manifest.open_manifest(run_dir, "", root), run_dir)
    say(provenance(record))
    if not done:
        say("nothing was done: this file has been imported there, and no picture has come since")
    for line in told(record, options.images):
        say(line)
    say(f"go on with: lskd run PROFILE --from 05 --out {shlex.quote(str(options.out))}")
    return 0
