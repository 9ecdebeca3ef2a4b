"""Requests per second of the teacher's client on one core, beside distilabel and
bespokelabs-curator; by the processor time of the client, the server's own not counted.

A server in a process of its own, on another core, answers every chat completion after 200 ms with
the same valid triples. Each client is a process pinned to one core, sends the same conversations,
as many at once, and is timed without its imports; rounds go in turns. The peers are installed from
PyPI into virtual environments below the folder for temporary files, once.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

LATENCY = 0.2
REQUESTS, AT_ONCE, ROUNDS = 3000, 256, 3
AIM = 400.0
AIMS = {"distilabel": 3.0, "curator": 1.5}  # × their throughput
PEERS = {
    "distilabel": ("distilabel[openai]==1.5.3", "requests"),
    "curator": ("bespokelabs-curator==0.1.31",),
}
VENVS = Path(tempfile.gettempdir()) / "lskd-bench-peers"
CLIENT_CORE, SERVER_CORE = 0, 1


def measure() -> list:
    """Our throughput against its aim, and against each peer's."""
    from measuring import Measured

    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "prompts.json"
        told.write_text(json.dumps([list(p.messages) for p in _prompts()]))
        pythons = {"ours": Path(sys.executable)} | {name: _installed(name) for name in PEERS}
        rates: dict[str, list[tuple[float, float]] | str] = {
            name: [] if isinstance(python, Path) else python for name, python in pythons.items()
        }
        with _server(Path(folder)) as url:
            for _ in range(ROUNDS):
                for name, python in pythons.items():
                    if isinstance(rates[name], list):
                        rate = _timed(name, python, url, told)
                        rates[name] = rate if isinstance(rate, str) else [*rates[name], rate]
    if isinstance(rates["ours"], str):
        raise RuntimeError(rates["ours"])
    ours, own = (median(rate[n] for rate in rates["ours"]) for n in (0, 1))
    setting = f"{REQUESTS:,} requests, {AT_ONCE} at once, {LATENCY * 1000:.0f} ms latency, one core"
    rows = [
        Measured(
            "sampling",
            f"generate_triples: {setting}",
            ours,
            "requests/s",
            f"≥ {AIM:g} requests/s",
            ours >= AIM,
        )
    ]
    for name in PEERS:
        if isinstance(rates[name], str):
            rows.append(
                Measured(
                    "sampling",
                    f"the same beside {name}",
                    ours,
                    "requests/s",
                    f"≥ {AIMS[name]:g} ×",
                    False,
                    None,
                    f"{name} did not run: {rates[name]}",
                )
            )
            continue
        other, beside = (median(rate[n] for rate in rates[name]) for n in (0, 1))
        rows.append(
            Measured(
                "sampling",
                f"the same beside {name}, by the client's processor time",
                own,
                "requests/s",
                f"≥ {AIMS[name]:g} ×",
                own >= AIMS[name] * beside,
                beside,
                PEERS[name][0],
                own / beside,
                note=f"by the clock {ours:.0f} and {other:.0f}, the server's 200 ms in both",
            )
        )
    return rows


def _prompts() -> list:
    """Prompts as the project sends them, about invented images of four regions."""
    from lskd_nb.regions import LocatedImage, Region
    from lskd_nb.teacher.prompts import build_prompts

    regions = tuple(Region(i, (0, 0, 9, 9), "man") for i in range(4))
    images = [
        LocatedImage(str(n), f"{n}.jpg", 320, 240, regions, "bench", "train")
        for n in range(REQUESTS)
    ]
    lines = [
        dict(
            image_id=i.image_id,
            kind="local",
            verbalizer="r",
            region=r,
            question=None,
            text=(
                f"a man, number {i.image_id}, in a red coat with an umbrella, waiting at a bus stop"
                " beside a tree"
            ),
        )
        for i in images
        for r in range(4)
    ]
    return build_prompts(images, lines, ("id",))


def _installed(name: str) -> Path | str:
    """The Python of a peer's environment, made if need be; or why there is none."""
    folder = VENVS / name
    python, done = folder / "bin" / "python", folder / "installed"
    if done.exists() and done.read_text().split() == list(PEERS[name]):
        return python
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "-q", *PEERS[name]],
    ):
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode:
            return (
                "not installed,"
                f" {(made.stderr.strip().splitlines() or ['no reason given'])[-1][:150]}"
            )
    done.write_text(" ".join(PEERS[name]))
    return python


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    port = folder / "port"
    process = subprocess.Popen([sys.executable, __file__, "serve", str(port)])
    try:
        while not port.exists():
            if process.poll() is not None:
                raise RuntimeError("the server did not start")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port.read_text()}/v1"
    finally:
        process.terminate()
        process.wait()


def _timed(name: str, python: Path, url: str, told: Path) -> tuple[float, float] | str:
    """Requests per second of a client in a process of its own, by the clock and of the processor,
    or why there are none.
    """
    with tempfile.TemporaryDirectory() as home:
        quiet = dict(
            OPENAI_API_KEY="none-needed",
            HF_HUB_OFFLINE="1",
            HOME=home,
            CURATOR_CACHE_DIR=home,
            TELEMETRY_ENABLED="0",
            CURATOR_VIEWER="0",
        )
        encodings = next(
            VENVS.glob("curator/lib/python*/site-packages/litellm/litellm_core_utils/tokenizers"),
            None,
        )
        if encodings:  # tiktoken's file, which it would download
            quiet["TIKTOKEN_CACHE_DIR"] = str(encodings)
        try:
            done = subprocess.run(
                [str(python), __file__, name, str(told), url],
                env=os.environ | quiet,
                cwd=home,
                capture_output=True,
                text=True,
                timeout=300,
            )
        except subprocess.TimeoutExpired:
            return "it took more than 300 s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no reason given"])[-1][:200]
    clock, processor = map(float, done.stdout.strip().splitlines()[-1].split())
    return clock, processor


# --------------------------------------------------------------------- each in a process of its own


def serve(port_file: Path) -> None:
    from aiohttp import web

    triples = [
        dict(
            question=f"Why is [{i}] there?",
            answer="He waits for the bus.",
            rationale=f"[{i}] is a man at a bus stop.",
        )
        for i in range(3)
    ]
    message = dict(role="assistant", content=json.dumps(dict(triples=triples)), refusal=None)
    body = json.dumps(
        dict(
            id="c",
            object="chat.completion",
            created=1,
            model="m",
            choices=[dict(index=0, finish_reason="stop", logprobs=None, message=message)],
            usage=dict(prompt_tokens=800, completion_tokens=120, total_tokens=920),
        )
    ).encode()

    async def completion(request: web.Request) -> web.Response:
        import asyncio

        await request.read()
        await asyncio.sleep(LATENCY)
        return web.Response(body=body, content_type="application/json")

    async def models(_: web.Request) -> web.Response:
        return web.json_response(dict(object="list", data=[]))

    async def started(_: web.Application) -> None:
        port_file.with_suffix(".tmp").write_text(str(listening.getsockname()[1]))
        port_file.with_suffix(".tmp").rename(port_file)

    import socket

    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    app = web.Application()
    app.add_routes([web.post("/v1/chat/completions", completion), web.get("/v1/models", models)])
    app.on_startup.append(started)
    web.run_app(app, sock=listening, access_log=None, print=None)


def ours(conversations: list, url: str) -> Callable[[], int]:
    import openai  # noqa: F401  the others' imports are not timed either

    from lskd_nb.teacher.generate import TeacherSettings, generate_triples
    from lskd_nb.teacher.prompts import Prompt

    prompts = [
        Prompt(str(n), "id", (0, 1, 2, 3), tuple(messages), "id")
        for n, messages in enumerate(conversations)
    ]

    def run() -> int:
        with tempfile.TemporaryDirectory() as folder:
            rows, _, report = generate_triples(
                prompts,
                TeacherSettings(url, "m", concurrency=AT_ONCE),
                Path(folder) / "cache.sqlite",
            )
        assert len(rows) == 3 * len(prompts)
        return report.requests

    return run


def distilabel(conversations: list, url: str) -> Callable[[], int]:
    """Its task alone, which is faster than its pipeline of processes."""
    from distilabel.models import OpenAILLM
    from distilabel.steps.tasks import ChatGeneration

    task = ChatGeneration(
        llm=OpenAILLM(model="m", base_url=url, api_key="none-needed"), input_batch_size=AT_ONCE
    )
    task.load()

    def run() -> int:
        inputs = [dict(messages=messages) for messages in conversations]
        answered = [
            row
            for start in range(0, len(inputs), AT_ONCE)
            for row in next(task.process(inputs[start : start + AT_ONCE]))
        ]
        return sum(row["generation"] is not None for row in answered)

    return run


def curator(conversations: list, url: str) -> Callable[[], int]:
    from bespokelabs import curator as package

    limits = dict(
        max_requests_per_minute=10**7, max_tokens_per_minute=10**10, max_concurrent_requests=AT_ONCE
    )
    llm = package.LLM(model_name="m", backend="openai", backend_params=dict(base_url=url, **limits))
    return lambda: len(llm(conversations).dataset)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("serve", "ours", *PEERS))
    parser.add_argument("path", type=Path)
    parser.add_argument("url", nargs="?")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(
        0, {cores[(SERVER_CORE if options.what == "serve" else CLIENT_CORE) % len(cores)]}
    )
    if options.what == "serve":
        return serve(options.path)
    run = {"ours": ours, "distilabel": distilabel, "curator": curator}[options.what](
        json.loads(options.path.read_text()), options.url
    )
    begin, used = time.perf_counter(), sum(os.times()[:4])
    answered = run()
    seconds = time.perf_counter() - begin
    if answered != REQUESTS:
        raise SystemExit(f"{answered} of {REQUESTS} requests were answered")
    print(REQUESTS / seconds, REQUESTS / (sum(os.times()[:4]) - used))


if __name__ == "__main__":
    # what lies beside this file must not hide what the peers import
    sys.path[:] = [
        entry
        for entry in sys.path
        if Path(entry or ".").resolve() != Path(__file__).resolve().parent
    ]
    main()
