"""A teacher that fails in every way there is, by a seeded choice, and writes down what it answered:
``python fault_server.py --port-file F --log L``.

What is not at fault is written by the mini world's writer. The choice depends on the request and on
how often it has been asked, not on the order in which requests arrive, so the same faults strike in
every run.
"""

import argparse
import asyncio
import hashlib
import json
import os
import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from lskd_nb.mini.teacher.writer import write_triples
from lskd_nb.records import atomic_path

AGAIN = (
    "429 retry-after",
    "429",
    "500",
    "stall",
    "cut",
    "cut in the body",
)  # the client asks again
FINAL = (
    "empty body",
    "truncated body",
    "malformed body",
    "malformed content",
    "truncated content",
    "wrong ids",
    "refusal",
)
WORK = 0.03  # seconds, what a reply takes
STALL = 30.0  # seconds, longer than any test's timeout


def completion(text: str | None, finish: str = "stop", refusal: str | None = None) -> dict:
    message = {"role": "assistant", "content": text, "refusal": refusal}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "faulty",
        "choices": [{"index": 0, "finish_reason": finish, "message": message}],
        "usage": {"prompt_tokens": 800, "completion_tokens": 100, "total_tokens": 900},
    }


def application(
    log: Path, rate: float, seed: int, faults: Sequence[str], at_once: int
) -> web.Application:
    asked, under_way = Counter(), 0
    out = log.open("a", buffering=1, encoding="utf-8")

    async def completions(request: web.Request) -> web.StreamResponse:
        nonlocal under_way
        raw = await request.read()
        key = hashlib.sha256(raw).hexdigest()[:32]
        asked[key] += 1
        draw = random.Random(f"{seed}/{key}/{asked[key]}")
        fault = draw.choice(faults) if draw.random() < rate else "good"
        if under_way >= at_once:
            fault = "busy"
        out.write(json.dumps(dict(request=key, answered=fault)) + "\n")
        under_way += 1
        try:
            return await answer(request, json.loads(raw), fault)
        finally:
            under_way -= 1

    async def refused(request: web.Request) -> web.Response:
        await request.read()
        return web.json_response(echo(request), status=400)

    app = web.Application(client_max_size=2**24)
    app.add_routes(
        [
            web.post("/v1/files", refused),
            web.post("/v1/chat/completions", completions),
            web.get("/v1/models", lambda _: _json({"object": "list", "data": []})),
        ]
    )
    return app


async def _json(body: dict) -> web.Response:
    return web.json_response(body)


def echo(request: web.Request) -> dict:
    return {
        "error": {
            "message": f"bad luck, {request.headers.get('Authorization')}",
            "type": "x",
            "param": None,
            "code": None,
        }
    }


async def answer(request: web.Request, body: dict, fault: str) -> web.StreamResponse:
    """What the client gets. An error echoes the key, as a careless proxy's may."""
    if fault == "busy":
        return web.json_response({"error": {"message": "too many at once"}}, status=429)
    await asyncio.sleep(WORK)
    text = write_triples(body["messages"], 3, 0, 0.0, 0.0)
    whole = json.dumps(completion(text)).encode()
    if fault.startswith("429") or fault == "500":
        headers = {"retry-after-ms": "60"} if fault == "429 retry-after" else {}
        return web.json_response(echo(request), status=int(fault[:3]), headers=headers)
    if fault == "stall":
        await asyncio.sleep(STALL)
    if fault == "cut":
        request.transport.abort()
    if fault == "cut in the body":
        reply = web.StreamResponse(
            headers={"Content-Length": str(len(whole)), "Content-Type": "application/json"}
        )
        await reply.prepare(request)
        await reply.write(whole[: len(whole) // 2])
        request.transport.abort()
        return reply
    triples = json.loads(text)["triples"]
    wrong = [dict(t, question=re.sub(r"\[\d+\]", "[77]", t["question"])) for t in triples]
    bodies = {
        "empty body": b"",
        "truncated body": whole[: len(whole) // 2],
        "malformed body": b"<html>502 Bad Gateway</html>",
    }
    contents = {
        "malformed content": completion("Sure! Here you are: 1. Why"),
        "truncated content": completion(text[: len(text) // 2], "length"),
        "wrong ids": completion(json.dumps({"triples": wrong})),
        "refusal": completion(None, refusal="I can't help with that."),
    }
    if fault in bodies:
        return web.Response(body=bodies[fault], content_type="application/json")
    return web.json_response(contents.get(fault) or json.loads(whole))


async def serve(app: web.Application, port_file: Path, parent: int) -> None:
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    with atomic_path(port_file) as temporary:
        temporary.write_text(str(site._server.sockets[0].getsockname()[1]))
    while os.getppid() == parent:
        await asyncio.sleep(0.2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port-file", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", nargs="+", default=AGAIN + FINAL, choices=AGAIN + FINAL)
    parser.add_argument("--at-once", type=int, default=1000)
    options = parser.parse_args()
    asyncio.run(
        serve(
            application(options.log, options.rate, options.seed, options.faults, options.at_once),
            options.port_file,
            os.getppid(),
        )
    )
