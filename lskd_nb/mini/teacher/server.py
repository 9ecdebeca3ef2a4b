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
import time
import uuid
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from aiohttp import web

from lskd_nb.mini.teacher.batches import MOST_BYTES, Batches, failure
from lskd_nb.mini.teacher.eyes import look_at, read_messages
from lskd_nb.mini.teacher.judge import ASKED as VERDICTS
from lskd_nb.mini.teacher.judge import write_verdicts
from lskd_nb.mini.teacher.writer import IMAGINATION, NAME, write_triples
from lskd_nb.records import atomic_path
from lskd_nb.teacher.serving import running

PICTURE_TOKENS = 255  # what a picture of up to 512 pixels counts as


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
    rng, looking = np.random.default_rng(seed), asyncio.Lock()

    async def answer(body: dict) -> tuple[int, dict]:
        try:
            messages, picture = read_messages(body["messages"])
            content = messages[-1]["content"]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            told = "expected a JSON body with a non-empty list of messages"
            return 400, failure(f"{told} ({type(error).__name__}: {error})")
        if body.get("model") != NAME:
            return 404, failure(f"no model {body.get('model')!r} here; there is {NAME!r}")
        if rng.random() < error_rate:
            counts["errors"] += 1
            if rng.random() < 0.5:
                return (429, failure("slow down", "rate_limit_error"))
            return (500, failure("server error", "server_error"))
        counts["completions"] += 1
        counts["distinct"].add(hash(messages[0]["content"] + content))
        if picture is not None:  # the models look at one picture at a time
            async with looking:
                seen = await asyncio.to_thread(look_at, picture, content)
            messages = [*messages[:-1], messages[-1] | {"content": seen}]
        reply = _completion(body | {"messages": messages}, imagination)
        reply["usage"]["prompt_tokens"] += 0 if picture is None else PICTURE_TOKENS
        return 200, reply

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
    seed, temperature = int(body.get("seed") or 0), float(body.get("temperature", 1.0))
    if VERDICTS in messages[-1]["content"]:
        text = write_verdicts(messages, seed, temperature)
    else:
        wanted = re.search(r"Write (\d+) triples", str(messages[0]["content"]))
        number = int(wanted[1]) if wanted else 3
        text = write_triples(messages, number, seed, temperature, imagination)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--port-file", type=Path, required=True, help="where to write the port that was free"
    )
    parser.add_argument("--parent", type=int, default=os.getppid(), help="ends with this process")
    parser.add_argument("--error-rate", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--imagination", type=float, default=IMAGINATION)
    parser.add_argument("--batch-delay", type=float, default=0.0)
    options = parser.parse_args()
    app = application(
        options.error_rate, options.seed, options.delay, options.imagination, options.batch_delay
    )
    asyncio.run(serve_while_wanted(app, options.port_file, options.parent))


if __name__ == "__main__":
    main()
