"""``lskd labels``: what people are asked to label, how far they are, and Label Studio's files."""

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path

Command = Callable[[argparse.Namespace, Path, Path], int]


def add_labels(commands: argparse._SubParsersAction, add_run_folder: Callable[..., None]) -> None:
    """Add the commands; ``add_run_folder`` gives one a profile and the folder of its run."""
    labels = commands.add_parser(
        "labels", help="how far a run's labels are; exchange them with Label Studio"
    ).add_subparsers(required=True, metavar="COMMAND")
    what = (
        "how much of the sample is labelled, by whom, and how far they agree; ends with 0 where"
        " that is enough for notebook 03 to go on, with 1 where it is not"
    )
    add_run_folder(labels.add_parser("status", help=what, description=what), _status)
    out = labels.add_parser(
        "export", help="write the sample's triples as tasks, and the labelling interface"
    )
    out.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    out.add_argument(
        "--images",
        default="/data/local-files/?d=",
        metavar="PREFIX",
        help="of the images' addresses (default %(default)s)",
    )
    out.add_argument("--number", type=int, help="the first so many (default: all of the sample)")
    out.add_argument(
        "--seed", type=int, default=0, help="of the order, where no sample is drawn yet"
    )
    what = "a label file that goes along; another than the run's own gets triples to measure with"
    out.add_argument("--labels", type=Path, help=what)
    add_run_folder(out, _export)
    back = labels.add_parser(
        "import", help="add the labels of a JSON export to labels_by_people.parquet"
    )
    back.add_argument(
        "--user", action="append", default=[], metavar="7=ada", help="name a user; may be repeated"
    )
    back.add_argument("--labels", type=Path, help="the label file, default the run's")
    add_run_folder(back, _import, reads="Label Studio's JSON export")


def _status(options: argparse.Namespace, root: Path, run_dir: Path) -> int:
    from lskd_nb.critic.label_sample import TO_MEASURE, learned_from
    from lskd_nb.critic.label_status import label_status

    told = label_status(run_dir, learned_from(run_dir), run_dir / TO_MEASURE)
    for line in told.lines():
        print(line)
    run = f" --run {shlex.quote(str(options.run))}" if options.run else ""
    where = f" --out {shlex.quote(str(options.run))}" if options.run else ""
    if told.enough:
        print(f"next: lskd run {options.profile}{where}")
    else:
        print(f"next: lskd labels export {options.profile}{run} --out tasks.json, or notebook 07")
    return 0 if told.enough else 1


def _export(options: argparse.Namespace, root: Path, run_dir: Path) -> int:
    from lskd_nb.critic.label_studio import write_tasks

    labels = _label_file(options.labels, run_dir)
    number, config = write_tasks(
        run_dir, options.out, options.images, options.number, options.seed, labels
    )
    print(f"{number:,} tasks in {options.out}, the labelling interface in {config}")
    return 0


def _import(options: argparse.Namespace, root: Path, run_dir: Path) -> int:
    from lskd_nb.critic.label_studio_import import import_labels, named_users

    labels = _label_file(options.labels, run_dir)
    print(import_labels(options.file, run_dir, labels, named_users(options.user)))
    return 0


def _label_file(given: Path | None, run_dir: Path) -> Path | None:
    """A name alone is a file of the run, as in the label widget, unless it is there as it is."""
    if given is not None and given.name == str(given) and not given.exists():
        return run_dir / given
    return given
