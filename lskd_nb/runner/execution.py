"""One notebook, executed with papermill in a process that can be watched, timed out and ended.

The kernel, and whatever the notebook starts, run in sessions of their own, where no signal to a
process group reaches them. So everything started here inherits an environment variable that names
the run's folder, and by it is found and ended: after every notebook, at a time-out, and when the
runner was killed (its child sees stdin close; the next run looks for leftovers).
"""

import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from lskd_nb.runner.gpu_use import GpuUse, watched

MARK = "LSKD_EXECUTES_FOR"
# bars leave "0%" in notebooks
QUIET = {
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "TQDM_DISABLE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}
# threads with nothing to do spin for some microseconds, then sleep: if they slept at once, two
# cores would be no faster than one at small networks; if they never did, a quarter of the processor
# time would be spent on waiting. Whoever has set the policy keeps that
PATIENT = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "4000"}
SAID = "papermill: "  # begins the child's own lines in a log that kernels write to as well
LONGEST = 600  # letters of an error's message
# in a reply as JSON, or as Python shows it
SERVERS_WORDS = re.compile(r"""['"](?:message|detail|error)['"]\s*:\s*['"]([^'"].*?)['"]\s*[,}]""")
LOOK = 0.5  # seconds between two looks at a running notebook


@dataclass(frozen=True)
class Outcome:
    """How an execution ended: ``cells`` are (finished, all) code cells, ``peak_gib`` the
    resident memory of all its processes, ``cpu_seconds`` what they used of the processor.
    """

    seconds: float
    cpu_seconds: float  # user and system
    peak_gib: float
    gpus: GpuUse
    cells: tuple[int, int]
    failed: str | None  # the line that says where and why


def execute(
    notebook: Path,
    parameters: Mapping[str, object],
    out: Path,
    limit: float,
    run_dir: Path,
    root: Path,
    tick: Callable[[float, tuple[int, int]], None] | None = None,
) -> Outcome:
    """Execute ``notebook`` to ``out``, working in ``root``, for at most ``limit`` seconds; failed
    or not, ``out`` is there to look at.

    ``tick`` is told the seconds and cells so far, now and then. Nothing that the notebook started
    is left running.
    """
    running, log = out.with_name(f".{out.stem}.running.ipynb"), out.with_name(f".{out.stem}.log")
    out.parent.mkdir(parents=True, exist_ok=True)
    running.unlink(missing_ok=True)
    job = dict(
        source=str(notebook),
        out=str(running),
        parameters=dict(parameters),
        limit=limit,
        root=str(root),
        run_dir=str(run_dir),
    )
    begin, before, late = time.monotonic(), _waited_for(), False
    peak, used = 0, 0.0
    with (
        open(log, "w", encoding="utf-8") as said,
        watched() as gpus,
        _child(job, run_dir, root, said) as process,
    ):
        while process.poll() is None:
            seconds = time.monotonic() - begin
            late = seconds > limit
            if late:
                break
            resident, used_so_far = _usage(process.pid)
            peak, used = max(peak, resident), max(used, used_so_far)
            if tick:
                tick(seconds, cells_done(_read(running)))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LOOK)
    book = _read(running)
    if book:
        os.replace(running, out)
    failed = None
    if late or process.returncode != 0:
        if late:
            why = f"TimeoutError: it took longer than its {limit:.0f} s"
        else:
            why = _last_words(log, process.returncode)
        failed = f"{out.stem}{_where(book, why)}"
    else:
        log.unlink()
    # a process that was killed together with its parent was waited for by nobody
    cpu_seconds = max(_waited_for() - before, used)
    seconds = time.monotonic() - begin
    return Outcome(seconds, cpu_seconds, round(peak / 2**30, 2), gpus, cells_done(book), failed)


@contextlib.contextmanager
def _child(job: Mapping, run_dir: Path, root: Path, said):
    """The process that runs papermill.

    Nothing of it is left when the block ends, however that is.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "lskd_nb.runner.execution"],
        cwd=root,
        env=({} if "OMP_WAIT_POLICY" in os.environ else PATIENT)
        | os.environ
        | QUIET
        | {MARK: str(run_dir), "LSKD_ROOT": str(root)}
        | _package_path(),
        text=True,
        stdin=subprocess.PIPE,
        stdout=said,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        yield process
    finally:
        end_processes(run_dir)
        process.wait()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _package_path() -> dict[str, str]:
    """PYTHONPATH with which a notebook imports this package, wherever it works."""
    entries = [
        str(Path(p).resolve()) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p
    ]
    home = Path(__file__).resolve().parents[2]
    if home.name not in ("site-packages", "dist-packages"):
        entries = [str(home), *(e for e in entries if e != str(home))]
    return {"PYTHONPATH": os.pathsep.join(entries)} if entries else {}


def end_processes(run_dir: Path) -> int:
    """End all that was started to execute notebooks of ``run_dir``, this process aside.

    Returns how many there were.
    """
    ended: set[int] = set()
    while True:
        found = [
            p for p in psutil.process_iter() if p.pid != os.getpid() and _executes_for(p, run_dir)
        ]
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(found, timeout=5)
        ended |= {p.pid for p in found}
        if not found:
            return len(ended)


def _executes_for(process: psutil.Process, run_dir: Path) -> bool:
    try:
        return (
            process.environ().get(MARK) == str(run_dir) and process.status() != psutil.STATUS_ZOMBIE
        )
    except (psutil.Error, OSError):
        return False


def _usage(pid: int) -> tuple[int, float]:
    """Of a process and all below it: bytes resident (pages they share count for each), and seconds
    of the processor so far, those of ended processes that their parents have waited for included.
    """
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0, 0.0
    resident, used = 0, 0.0
    for member in family:
        with contextlib.suppress(psutil.Error), member.oneshot():
            resident += member.memory_info().rss
            times = member.cpu_times()
            used += times.user + times.system + times.children_user + times.children_system
    return resident, used


def _waited_for() -> float:
    """Seconds of the processor, user and system, of all children that have ended and been waited
    for: of their own, and of those that they have waited for in turn.
    """
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# ------------------------------------------------------------ what a (half-)executed notebook tells


def _read(path: Path) -> dict | None:
    """The notebook at ``path``; None where there is none, or papermill is just writing it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _code_cells(book: Mapping | None) -> list[Mapping]:
    """The code cells of a notebook that have something to run."""
    return [
        c
        for c in (book or {}).get("cells", ())
        if c["cell_type"] == "code" and "".join(c["source"]).strip()
    ]


def _told(cell: Mapping) -> Mapping:
    return cell["metadata"].get("papermill", {})


def cells_done(book: Mapping | None) -> tuple[int, int]:
    """(finished, all) code cells of a notebook that papermill is executing or has executed."""
    cells = _code_cells(book)
    return sum(
        bool(_told(c).get("end_time")) and _told(c).get("status") != "failed" for c in cells
    ), len(cells)


def _where(book: Mapping | None, why: str) -> str:
    """ ", cell [n] (its first line): why": the last code cell that was started, counted as
    Jupyter labels it.
    """
    started = [(n, c) for n, c in enumerate(_code_cells(book), 1) if _told(c).get("start_time")]
    if not started:
        return f": {why}"
    number, cell = started[-1]
    errors = [o for o in cell.get("outputs", ()) if o["output_type"] == "error"]
    if errors:
        why = f"{errors[-1]['ename']}: {shortened(errors[-1]['evalue'])}"
    return (
        f", cell [{number}] (code: {''.join(cell['source']).strip().splitlines()[0][:70]}): {why}"
    )


def shortened(text: str) -> str:
    """An error's message on one line, of a length to be read: its begin, its end, and the words of
    a server, if it holds a reply of one and they are beyond.
    """
    text = " ".join(text.split())
    if len(text) <= LONGEST:
        return text
    begin, end = text[: LONGEST // 2], text[-LONGEST // 4 :]
    told = [m for m in SERVERS_WORDS.findall(text) if m[:200] not in begin and m[:200] not in end]
    return " … ".join([begin, *(words[:200] for words in told[:1]), end])


def _last_words(log: Path, status: int) -> str:
    """Why the child ended with ``status``: what it said, or the signal that ended it."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    said = [line.removeprefix(SAID) for line in lines if line.startswith(SAID)]
    if said:
        return said[-1]
    if status < 0:
        return f"it was ended by {signal.Signals(-status).name}"
    return f"it ended with status {status}, see {log}"


# --------------------------------------------------------------------------- the child


def main() -> int:
    """Read a job from stdin, run papermill; the executed notebook itself says which cell failed."""
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_runner, args=(Path(job["run_dir"]),), daemon=True).start()
    import warnings

    warnings.simplefilter("ignore")
    # a checker of web addresses, which no notebook needs: compiling its grammar takes a second
    sys.modules["rfc3987_syntax"] = None
    import papermill

    try:
        # the runner is stricter, if it lives
        papermill.execute_notebook(
            literal(job["source"]),
            literal(job["out"]),
            parameters=job["parameters"],
            cwd=job["root"],
            progress_bar=False,
            log_output=False,
            store_widget_state=False,
            execution_timeout=int(job["limit"]) + 60,
        )
    except Exception as error:
        print(f"{SAID}{type(error).__name__}: {shortened(str(error))}", flush=True)
        return 1
    return 0


def literal(path: str) -> str:
    """A path for papermill, which takes ``{}`` in one for the place of a parameter."""
    return path.replace("{", "{{").replace("}", "}}")


def _end_with_the_runner(run_dir: Path) -> None:
    """Wait until stdin closes: the runner is dead, nothing should write to its folder any more."""
    os.read(sys.stdin.fileno(), 1)
    end_processes(run_dir)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
