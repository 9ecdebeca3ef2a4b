"""``lskd``: the commands, one function each; nothing imports this module. What they do lives in the
rooms of the package. Imports are inside them, so that asking for help does not load PyTorch.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lskd_nb.critic.label_commands import add_labels
from lskd_nb.run_folder import RunError, find_root
from lskd_nb.runner import import_command
from lskd_nb.runner.ranges import count, seconds

Command = Callable[[argparse.Namespace, Path], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the last line printed says what failed, if anything."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names of files may hold what has no letters
            stream.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:2] == ["mini", "pretrain"]:
        from lskd_nb.mini.pretraining.pretrain import main as pretrain

        pretrain(arguments[2:])
        return 0
    options = _parser().parse_args(arguments)
    try:
        return options.command(options, find_root())
    except (RunError, OSError, ValueError) as error:
        print(_shown(""), error, sep="", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        told = "stopped: run it again to go on from here"
        print(_shown(""), told, sep="", file=sys.stderr, flush=True)
        return 130


# ------------------------------------------------------------------------------------ the parser


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lskd", description="Run the notebooks of Localized Symbolic Knowledge Distillation."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_runs(commands)
    _add_looks_ahead(commands)
    _add_publishing(commands)
    add_labels(commands, _add_run_folder)
    import_command.add_command(commands, _say)
    book = commands.add_parser(
        "book", help="gather what a site of the series is built from; make book builds it"
    )
    book.add_argument("--out", type=Path, metavar="FOLDER", help="default build/book")
    book.set_defaults(command=_book)
    mini = commands.add_parser("mini", help="the mini world")
    mini.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "pretrain", help="make its weights: the base student and the verbalizers"
    )
    return parser


def _add_runs(commands: argparse._SubParsersAction) -> None:
    run = commands.add_parser(
        "run",
        help="run the notebooks of a profile, as far as something has changed",
        epilog="example: lskd run mini --from 05 -p 05.steps=100 -p 05.lr=1e-3",
    )
    run.add_argument("profile", help="smoke, mini, a100, or another folder of params/")
    _add_choice(run)
    _add_overrides(run, "NN.key=value")
    _add_out(run)
    _add_limits(run)
    run.set_defaults(command=_run)
    replicate = commands.add_parser(
        "replicate", help="run the learning stages with several seeds and pool their figures"
    )
    replicate.add_argument("profile")
    replicate.add_argument(
        "--seeds", type=count, default=3, help="how many, the profile's own among them (default 3)"
    )
    _add_limits(replicate)
    replicate.set_defaults(command=_replicate)
    renderings = commands.add_parser(
        "renderings", help="promote a finished run's notebooks to outputs/PROFILE/, for readers"
    )
    renderings.add_argument("profile")
    renderings.set_defaults(command=_renderings)


def _add_looks_ahead(commands: argparse._SubParsersAction) -> None:
    check = commands.add_parser(
        "check",
        help="look at all that a profile needs, and ask its server, before anything is spent",
    )
    check.add_argument("profile")
    _add_choice(check)
    _add_overrides(check, "NN.key=value")
    check.set_defaults(command=_check)
    estimate = commands.add_parser(
        "estimate",
        help="what a run's stages will take, and what its teacher will cost; nothing is sent",
    )
    estimate.add_argument("profile")
    _add_overrides(estimate, "02.key=value")
    _add_out(estimate)
    estimate.set_defaults(command=_estimate)
    rehearse = commands.add_parser(
        "rehearse",
        help="walk a profile's whole run on stand-ins in published forms: offline, on two cores",
    )
    rehearse.add_argument("profile")
    rehearse.add_argument(
        "--out", type=Path, metavar="FOLDER", help="the stage, default outputs/runs/rehearsal"
    )
    rehearse.add_argument("--outcome", type=Path, help="default outputs/rehearsal.json")
    rehearse.set_defaults(command=_rehearse)


def _add_publishing(commands: argparse._SubParsersAction) -> None:
    what = (
        "what the corpus of a run is made of, what is said again,"
        " and what of the benchmarks it has shown"
    )
    report = commands.add_parser("report", help=what)
    report.add_argument(
        "--toxicity",
        default="",
        metavar="MODEL",
        help="a text classifier that finds toxic texts, e.g. unitary/toxic-bert",
    )
    report.add_argument(
        "--toxicity-label", default="", metavar="LABEL", help="which of its labels means toxic"
    )
    _add_run_folder(report, _report)
    what = (
        "stage corpus, student and critic for the hub, with their cards;"
        " nothing is sent without --send"
    )
    publish = commands.add_parser("publish", help=what)
    for what in ("dataset", "student", "critic"):
        publish.add_argument(f"--{what}", metavar="USER/NAME", help=f"the repository of the {what}")
    what = (
        "identifier of the hub, e.g. cc-by-4.0;"
        " default: bsd-3-clause for the mini world, else not chosen"
    )
    publish.add_argument("--licence", default="", help=what)
    publish.add_argument(
        "--images",
        action="store_true",
        help="include the corpus's images: whoever does needs leave of their owners",
    )
    publish.add_argument(
        "--private", action="store_true", help="create the repositories as private ones"
    )
    publish.add_argument(
        "--send", action="store_true", help="send it to the hub, with the token in HF_TOKEN"
    )
    publish.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where it is staged, default outputs/publish/PROFILE",
    )
    _add_run_folder(publish, _publish)
    export = commands.add_parser(
        "export", help="write a run's corpus as COCO JSON or as a FiftyOne data set"
    )
    export.add_argument("--format", required=True, choices=("coco", "fiftyone"))
    export.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="where it is written"
    )
    _add_run_folder(export, _export)


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NN",
        help="this notebook alone; may be repeated",
    )
    parser.add_argument("--from", dest="start", metavar="NN", help="from this notebook on")


def _add_overrides(parser: argparse.ArgumentParser, form: str) -> None:
    parser.add_argument(
        "-p",
        dest="overrides",
        action="append",
        default=[],
        metavar=form,
        help="set a parameter; may be repeated",
    )


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, help="the run's folder, default outputs/runs/PROFILE")


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=seconds, metavar="SECONDS", help="that a notebook may take")
    parser.add_argument(
        "--run-limit", type=seconds, metavar="SECONDS", help="that a whole run may take"
    )


def _add_run_folder(parser: argparse.ArgumentParser, command, reads: str | None = None) -> None:
    """A profile, and the folder of its run: ``command(options, root, run_dir)``."""
    parser.add_argument("profile")
    if reads:
        parser.add_argument("file", type=Path, help=reads)
    parser.add_argument(
        "--run", type=Path, metavar="FOLDER", help="the run's folder, default outputs/runs/PROFILE"
    )
    parser.set_defaults(
        command=lambda options, root: command(options, root, _run_dir(options, root))
    )


def _run_dir(options: argparse.Namespace, root: Path) -> Path:
    run_dir = (options.run or root / "outputs" / "runs" / options.profile).resolve()
    if not any((run_dir / name).exists() for name in ("manifest.json", "triples.parquet")):
        raise RunError(f"nothing has run in {run_dir}")
    return run_dir


# ------------------------------------------------------------------------------------- runs


def _run(options: argparse.Namespace, root: Path) -> int:
    from lskd_nb.publishing.renderings import result_lines
    from lskd_nb.runner.run import run_profile

    run_dir = options.out or root / "outputs" / "runs" / options.profile
    run_profile(
        options.profile,
        root,
        run_dir,
        options.only,
        options.start,
        options.overrides,
        limits=(options.limit, options.run_limit),
        say=_say,
        tick=_tick(),
    )
    pooled = root / "outputs" / options.profile / "metrics.json"
    for line in result_lines(run_dir.resolve(), pooled):
        _say(line)
    return 0


def _replicate(options: argparse.Namespace, root: Path) -> int:
    from lskd_nb.runner.replication import replicate

    limits = (options.limit, options.run_limit)
    out = replicate(options.profile, root, options.seeds, limits, _say, _tick())
    _say(f"the pooled figures are in {out}")
    return 0


def _renderings(options: argparse.Namespace, root: Path) -> int:
    from lskd_nb.publishing import figures, renderings
    from lskd_nb.runner.run import locked

    run_dir = root / "outputs" / "runs" / options.profile
    with locked(run_dir):
        for path in renderings.promote(run_dir, root, root / "outputs" / options.profile):
            _say(str(path))
    if options.profile == "mini":
        from lskd_nb.mini.drawing.teaser import draw_teaser

        draw_teaser(teaser := root / "outputs" / "mini" / "teaser.png")
        _say("\n".join(map(str, (teaser, *figures.renew_pages(root)))))
    return 0


def _check(options: argparse.Namespace, root: Path) -> int:
    from lskd_nb.runner.findings import report
    from lskd_nb.runner.readiness import check

    chosen = options.overrides, options.only, options.start
    findings = check(options.profile, root, *chosen)
    for line in report(findings):
        _say(line)
    return 1 if any(f.ok is False for f in findings) else 0


def _estimate(options: argparse.Namespace, root: Path) -> int:
    from lskd_nb.runner.expected import expected
    from lskd_nb.runner.parameters import choose, given_values, parse_overrides, profile_notebooks
    from lskd_nb.runner.readiness import gpus_there
    from lskd_nb.teacher.estimate import estimate_profile

    notebooks = profile_notebooks(root, options.profile)
    changed = parse_overrides(options.overrides, notebooks)
    chosen = [*choose(notebooks, ["02"], None), *choose(notebooks, [], None)]
    given = {n.number: given_values(root, options.profile, n, changed) for n in chosen}
    values, run_dir = given["02"], options.out or root / "outputs" / "runs" / options.profile
    found = expected(given, root, gpus_there())
    if (run_dir / "verbalizations.parquet").exists():
        _say(str(estimate_profile(values | {"run_dir": str(run_dir.resolve())}, root)))
        found = [finding for finding in found if finding.notebook != "02"]
    else:
        _say("02: the exact number and its price are known when notebook 01 has run; until then")
    for finding in found:
        _say(f"{finding.subject}: {finding.detail}")
    return 0


def _rehearse(options: argparse.Namespace, root: Path) -> int:
    from lskd_nb.rehearsal import walk

    out = (options.out or root / "outputs" / "runs" / "rehearsal").resolve()
    told = walk.rehearse(options.profile, root, out, _say)
    walk.write_outcome(told, path := options.outcome or root / "outputs" / "rehearsal.json")
    for line in walk.table(told):
        _say(line)
    _say(f"all of this: {path}")
    return 0


# ------------------------------------------------------------ what of a finished run goes to others


def _report(options: argparse.Namespace, root: Path, run_dir: Path) -> int:
    from lskd_nb.publishing.report import write_report
    from lskd_nb.publishing.report_text import report_markdown
    from lskd_nb.publishing.run_report import report_of

    left_out: dict[str, str] = {}
    report = report_of(run_dir, root, options.toxicity, options.toxicity_label, left_out)
    _say(report_markdown(report))
    for name, why in left_out.items():
        _say(f"not compared, {name}: {why}")
    _say("\n" + "\n".join(str(path) for path in write_report(report, run_dir)))
    return 0


def _publish(options: argparse.Namespace, root: Path, run_dir: Path) -> int:
    from lskd_nb.publishing.hub import check_ready, findings, listing, send, stage
    from lskd_nb.publishing.report import report_there
    from lskd_nb.publishing.run_report import report_of
    from lskd_nb.runner.run import locked

    given = {what: getattr(options, what) for what in ("dataset", "student", "critic")}
    names = {what: name for what, name in given.items() if name}
    check_ready(run_dir, names)
    out = options.out or root / "outputs" / "publish" / options.profile
    with locked(run_dir):
        report = report_there(run_dir)
        if report is None:
            if (old := run_dir / "report.json").exists():
                _say(f"{old} is not of the corpus that is there now: the report is made anew")
            report = report_of(run_dir, root)
        repositories = stage(run_dir, out, names, report, options.images, options.licence)
    for line in listing(repositories):
        _say(line)
    private_paths = {
        "a path of this machine": str(root),
        "the run's path": str(run_dir),
        "the path of a home": str(Path.home()) + "/",
    }
    if against := findings(repositories, private_paths, options.images):
        raise RunError("\n".join([*against, "nothing was sent: the above speaks against it"]))
    if not options.send:
        how = "privately" if options.private else "for all to see"
        staged = repositories[0].folder.parent
        _say(f"staged in {staged}; nothing was sent (--send does that, {how})")
        return 0
    for address in send(repositories, options.private):
        _say(f"sent: {address}")
    return 0


def _export(options: argparse.Namespace, root: Path, run_dir: Path) -> int:
    from lskd_nb.publishing.exports import LOAD_FIFTYONE, export_coco, export_fiftyone, images_of
    from lskd_nb.run_folder import RunFolder

    known = (run_dir / "image_root.txt").exists()
    image_root = RunFolder(run_dir).image_root if known else None
    write = {"coco": export_coco, "fiftyone": export_fiftyone}[options.format]
    written = write(run_dir / "corpus.parquet", options.out, image_root)
    _say(f"written: {written}; image paths are those below {image_root or 'the image root'}")
    images = images_of(run_dir / "corpus.parquet", image_root)
    if left_out := sum(len(image.left_out) for image in images):
        why = "since their boxes have no area within their image"
        _say(f"{left_out:,} regions were left out, {why}")
    if options.format == "fiftyone":
        _say(f"to open it: {LOAD_FIFTYONE.format(out=written)}")
    return 0


def _book(options: argparse.Namespace, root: Path) -> int:
    from lskd_nb.publishing.book import stage

    for path in stage(root, options.out or root / "build" / "book"):
        _say(str(path))
    return 0


# -------------------------------------------------------------------------------- lines for people


def _shown(line: str) -> str:
    """``line`` in the place of one that ``_tick`` has shown."""
    return f"\r\x1b[K{line}" if sys.stdout.isatty() else line


def _say(line: str) -> None:
    print(_shown(line), flush=True)


def _tick() -> Callable[[str], None] | None:
    if not sys.stdout.isatty():
        return None
    return lambda line: print(_shown(line), end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
