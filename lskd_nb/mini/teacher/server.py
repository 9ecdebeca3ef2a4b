"""The mini world's teacher: the rule-based writer behind a server that speaks OpenAI's protocol.

``python -m lskd_nb.mini.teacher.server --port-file FILE`` serves until its parent process ends;
``serving()`` does so for a block. Point ``base_url`` elsewhere and the client talks to an LLM
instead, with the same code.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
from aiohttp import web

from lskd_nb.mini.teacher.batches import MOST_BYTES, Batches, failure
from lskd_nb.mini.teacher.writer import IMAGINATION, NAME, write_triples
from lskd_nb.records import atomic_path


def application(
    error_rate: float = 0.0,
    seed: int = 0,
    delay: float = 0.0,
    imagination: float = IMAGINATION,
    batch_delay: float = 0.0,
) -> web.Application:
    """The server.

    ``error_rate`` of requests end as 500 or 429, ``delay`` seconds pass before each reply,
    ``batch_delay`` before a batch's.
    """
    counts = {"completions": 0, "errors": 0, "distinct": set()}
    rng = np.random.default_rng(seed)

    async def answer(body: dict) -> tuple[int, dict]:
        try:
            messages = body["messages"]
            content = messages[-1]["content"]
        except (KeyError, IndexError, TypeError):
            return 400, failure("expected a JSON body with a non-empty list of messages")
        if body.get("model") != NAME:
            return 404, failure(f"no model {body.get('model')!r} here; there is {NAME!r}")
        if rng.random() < error_rate:
            counts["errors"] += 1
            if rng.random() < 0.5:
                return (429, failure("slow down", "rate_limit_error"))
            return (500, failure("server error", "server_error"))
        counts["completions"] += 1
        counts["distinct"].add(hash(messages[0]["content"] + content))
        return 200, _completion(body, imagination)

    async def completions(request: web.Request) -> web.Response:
        try:
            body = await request.json()
        except json.JSONDecodeError:
            return web.json_response(failure("expected a JSON body"), status=400)
        if delay:
            await asyncio.sleep(delay)
        status, reply = await answer(body)
        return web.json_response(reply, status=status)

    async def models(_: web.Request) -> web.Response:
        return web.json_response(
            {
                "object": "list",
                "data": [{"id": NAME, "object": "model", "created": 0, "owned_by": "mini world"}],
            }
        )

    batches = Batches(answer, batch_delay)

    async def stats(_: web.Request) -> web.Response:
        told = {
            "distinct": len(counts["distinct"]),
            "files": len(batches.files),
            "batches": len(batches.batches),
        }
        return web.json_response(counts | told)

    app = web.Application(client_max_size=MOST_BYTES + 2**20)
    app.add_routes(
        [
            web.post("/v1/chat/completions", completions),
            web.get("/v1/models", models),
            web.get("/stats", stats),
            *batches.routes(),
        ]
    )
    return app


def _completion(body: dict, imagination: float) -> dict:
    """The writer's reply to a request, as a chat completion."""
    messages = body["messages"]
    wanted = re.search(r"Write (\d+) triples", str(messages[0]["content"]))
    text = write_triples(
        messages,
        int(wanted[1]) if wanted else 3,
        int(body.get("seed") or 0),
        float(body.get("temperature", 1.0)),
        imagination,
    )
    used = {
        "prompt_tokens": sum(len(m["content"]) for m in messages) // 4,
        "completion_tokens": len(text) // 4,
    }
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": NAME,
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "logprobs": None,
                "message": {"role": "assistant", "content": text, "refusal": None},
            }
        ],
        "usage": used | {"total_tokens": sum(used.values())},
    }


async def serve_while_wanted(app: web.Application, port_file: Path, parent: int) -> None:
    """Serve on a free port, whose number goes to ``port_file``, until the ``parent`` has ended."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    with atomic_path(port_file) as temporary:
        temporary.write_text(str(site._server.sockets[0].getsockname()[1]))
    while os.getppid() == parent:  # an orphan has no one to serve
        await asyncio.sleep(0.5)
    await runner.cleanup()


def serving(**options: float) -> AbstractContextManager[str]:
    """Start the server as a process of its own; yields its base_url, ends it with the block.

    ``options`` are those of ``application``. Raises ``RuntimeError`` when it does not start.
    """
    told = [
        part
        for name, value in options.items()
        for part in (f"--{name.replace('_', '-')}", str(value))
    ]
    return running("lskd_nb.mini.teacher.server", "the mini teacher", told, patience=30)


@contextmanager
def running(
    module: str, name: str, options: Sequence[str] = (), patience: float = 120
) -> Iterator[str]:
    """Run ``python -m module --port-file …``, which serves; yields its base_url, ends it with the
    block.

    Raises ``RuntimeError`` where it does not start in ``patience`` seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder) / "port"
        command = [sys.executable, "-m", module, "--port-file", str(port_file), *options]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        try:
            deadline = time.monotonic() + patience
            while not port_file.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    raise RuntimeError(f"{name} did not start: {process.stderr.read()[-500:]}")
                time.sleep(0.02)
            yield f"http://127.0.0.1:{port_file.read_text()}/v1"
        finally:
            process.terminate()
            process.wait()
            process.stderr.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--port-file", type=Path, required=True, help="where to write the port that was free"
    )
    parser.add_argument("--error-rate", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--imagination", type=float, default=IMAGINATION)
    parser.add_argument("--batch-delay", type=float, default=0.0)
    options = parser.parse_args()
    app = application(
        options.error_rate, options.seed, options.delay, options.imagination, options.batch_delay
    )
    asyncio.run(serve_while_wanted(app, options.port_file, os.getppid()))


if __name__ == "__main__":
    main()
