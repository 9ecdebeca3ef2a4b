"""``lskd report``, ``publish``, ``export`` and ``labels``: what of a finished run goes to others, and what comes back from them."""

import argparse
from collections.abc import Callable
from pathlib import Path

from lskd_nb.parameters import RunError

Say = Callable[[str], None]
SETS = ("vcr", "sherlock", "visualcomet", "aokvqa", "snli_ve", "visual7w")  # of notebook 06, whose parameters tell their folders


def add_commands(commands: argparse._SubParsersAction, say: Say) -> None:
    """Add them to ``lskd``."""
    report = commands.add_parser("report", help="what the corpus of a run is made of, what is said again, and what of the benchmarks it has shown")
    report.add_argument("--toxicity", default="", metavar="MODEL", help="a text classifier that finds toxic texts, e.g. unitary/toxic-bert")
    report.add_argument("--toxicity-label", default="", metavar="LABEL", help="which of its labels means toxic")
    publish = commands.add_parser("publish", help="stage corpus, student and critic for the hub, with their cards; nothing is sent without --send")
    for what in ("dataset", "student", "critic"):
        publish.add_argument(f"--{what}", metavar="USER/NAME", help=f"the repository of the {what}")
    publish.add_argument("--licence", default="", help="identifier of the hub, e.g. cc-by-4.0; default: bsd-3-clause for the mini world, else not chosen")
    publish.add_argument("--images", action="store_true", help="include the corpus's images: whoever does needs leave of their owners")
    publish.add_argument("--private", action="store_true", help="create the repositories as private ones")
    publish.add_argument("--send", action="store_true", help="send it to the hub, with the token in HF_TOKEN")
    publish.add_argument("--out", type=Path, metavar="FOLDER", help="where it is staged, default outputs/publish/PROFILE")
    export = commands.add_parser("export", help="write a run's corpus as COCO JSON or as a FiftyOne data set")
    export.add_argument("--format", required=True, choices=("coco", "fiftyone"))
    export.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where it is written")
    tasks, labels = _label_parsers(commands)
    for parser, command in ((report, _report_command), (publish, _publish_command), (export, _export_command),
                            (tasks, _tasks_command), (labels, _labels_command)):
        parser.add_argument("profile")
        if parser is labels:
            parser.add_argument("file", type=Path, help="Label Studio's JSON export")
        parser.add_argument("--run", type=Path, metavar="FOLDER", help="the run's folder, default outputs/runs/PROFILE")
        parser.set_defaults(command=lambda options, root, command=command: command(options, root, _run_dir(options, root), say))


def _label_parsers(commands: argparse._SubParsersAction) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    labels = commands.add_parser("labels", help="exchange labels with Label Studio").add_subparsers(required=True, metavar="COMMAND")
    out = labels.add_parser("export", help="write a run's triples as tasks, and the labelling interface")
    out.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    out.add_argument("--images", default="/data/local-files/?d=", metavar="PREFIX", help="of the images' addresses (default %(default)s)")
    out.add_argument("--number", type=int, help="of triples, drawn by the seed (default: all)")
    out.add_argument("--seed", type=int, default=0)
    out.add_argument("--labels", type=Path, help="a label file that goes along")
    back = labels.add_parser("import", help="add the labels of a JSON export to labels_by_people.parquet")
    back.add_argument("--user", action="append", default=[], metavar="7=ada", help="name a user; may be repeated")
    back.add_argument("--labels", type=Path, help="the label file, default the run's")
    return out, back


def _run_dir(options: argparse.Namespace, root: Path) -> Path:
    run_dir = (options.run or root / "outputs" / "runs" / options.profile).resolve()
    if not any((run_dir / name).exists() for name in ("manifest.json", "triples.parquet")):
        raise RunError(f"nothing has run in {run_dir}")
    return run_dir


def report_of(run_dir: Path, root: Path, toxicity: str = "", toxicity_label: str = "") -> dict:
    """The report of a run, leakage into the sets that its notebook 06 was given (the mini world's own where it was given none)."""
    from lskd_nb.cards import run_notebooks
    from lskd_nb.leakage import benchmark_sets
    from lskd_nb.reporting import report_run

    told = next((entry["parameters"] for name, entry in run_notebooks(run_dir).items() if name.startswith("06")), {})
    homes = {name: root / folder if (folder := told.get(f"{name}_folder")) else run_dir / "world" / name for name in SETS}
    images = {"sherlock": root / told["sherlock_images"]} if told.get("sherlock_images") else None
    return report_run(run_dir, benchmarks=benchmark_sets(homes, images), toxicity_model=toxicity, toxicity_label=toxicity_label)


def _report_command(options: argparse.Namespace, root: Path, run_dir: Path, say: Say) -> int:
    from lskd_nb.report_text import report_markdown
    from lskd_nb.reporting import write_report

    report = report_of(run_dir, root, options.toxicity, options.toxicity_label)
    say(report_markdown(report))
    say("\n" + "\n".join(str(path) for path in write_report(report, run_dir)))
    return 0


def _publish_command(options: argparse.Namespace, root: Path, run_dir: Path, say: Say) -> int:
    from lskd_nb.publishing import check_ready, findings, listing, send, stage
    from lskd_nb.reporting import report_there
    from lskd_nb.run import locked

    names = {what: name for what in ("dataset", "student", "critic") if (name := getattr(options, what))}
    check_ready(run_dir, names)
    with locked(run_dir):
        report = report_there(run_dir)
        if report is None:
            if (run_dir / "report.json").exists():
                say(f"{run_dir / 'report.json'} is not of the corpus that is there now: the report is made anew")
            report = report_of(run_dir, root)
        repositories = stage(run_dir, options.out or root / "outputs" / "publish" / options.profile, names, report, options.images, options.licence)
    for line in listing(repositories):
        say(line)
    against = findings(repositories, {"a path of this machine": str(root), "the run's path": str(run_dir), "the path of a home": str(Path.home()) + "/"},
                       options.images)
    if against:
        raise RunError("\n".join([*against, "nothing was sent: the above speaks against it"]))
    if not options.send:
        say(f"staged in {repositories[0].folder.parent}; nothing was sent (--send does that, {'privately' if options.private else 'for all to see'})")
        return 0
    for address in send(repositories, options.private):
        say(f"sent: {address}")
    return 0


def _export_command(options: argparse.Namespace, root: Path, run_dir: Path, say: Say) -> int:
    from lskd_nb.exports import LOAD_FIFTYONE, export_coco, export_fiftyone, images_of
    from lskd_nb.run_folder import RunFolder

    root_of_images = RunFolder(run_dir).image_root if (run_dir / "image_root.txt").exists() else None
    write = {"coco": export_coco, "fiftyone": export_fiftyone}[options.format]
    written = write(run_dir / "corpus.parquet", options.out, root_of_images)
    say(f"written: {written}; image paths are those below {root_of_images or 'the image root'}")
    if left_out := sum(len(image.left_out) for image in images_of(run_dir / "corpus.parquet", root_of_images)):
        say(f"{left_out:,} regions were left out, since their boxes have no area within their image")
    if options.format == "fiftyone":
        say(f"to open it: {LOAD_FIFTYONE.format(out=written)}")
    return 0


def _tasks_command(options: argparse.Namespace, root: Path, run_dir: Path, say: Say) -> int:
    from lskd_nb.label_studio import write_tasks

    number, config = write_tasks(run_dir, options.out, options.images, options.number, options.seed, options.labels)
    say(f"{number:,} tasks in {options.out}, the labelling interface in {config}")
    return 0


def _labels_command(options: argparse.Namespace, root: Path, run_dir: Path, say: Say) -> int:
    from lskd_nb.label_studio import import_labels, named_users

    say(str(import_labels(options.file, run_dir, options.labels, named_users(options.user))))
    return 0
