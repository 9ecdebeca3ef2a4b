"""A model that sees, behind a server as Ollama answers: no key, pictures in data URLs, replies in a
fence. It looks at the picture that it is sent: who sends none, or none with a box in it, gets no
triples.
"""

import asyncio
import base64
import io
import json
import queue
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from aiohttp import web
from PIL import Image

MODEL = "qwen3-vl:8b"


def triples(messages: list[dict]) -> list[dict]:
    """About the first two regions that the words list, if the picture has drawn boxes."""
    parts = messages[-1]["content"]
    if isinstance(parts, str):
        return []
    words = "\n".join(p["text"] for p in parts if p["type"] == "text")
    sent = [p["image_url"]["url"] for p in parts if p["type"] == "image_url"]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(sent[0].split(",")[1]))))
    drawn = (pixels[..., 1].astype(int) > 200) & (pixels[..., 0] < 80) & (pixels[..., 2] < 120)
    ids = re.findall(r"\[(\d+)\]", words)
    if not drawn.any() or not ids:
        return []
    one, other = ids[0], ids[-1]
    return [
        dict(
            question=f"What is the thing [{one}] for?" if n else f"Why is [{one}] red?",
            answer=f"It is there for [{other}].",
            rationale=f"[{one}] lies in the middle of the picture.",
        )
        for n in range(2)
    ]


async def chat(request: web.Request) -> web.Response:
    body = await request.json()
    if body["model"] != MODEL:
        told = {"message": f'model "{body["model"]}" not found, try pulling it first'}
        return web.json_response({"error": told}, status=404)
    text = "```json\n" + json.dumps({"triples": triples(body["messages"])}) + "\n```"
    message = dict(role="assistant", content=text)
    usage = dict(prompt_tokens=900, completion_tokens=120, total_tokens=1020)
    return web.json_response(
        dict(id="chatcmpl-1", object="chat.completion", created=int(time.time()), model=MODEL)
        | dict(choices=[dict(index=0, message=message, finish_reason="stop")], usage=usage)
    )


async def models(_: web.Request) -> web.Response:
    return web.json_response(dict(object="list", data=[dict(id=MODEL, object="model")]))


@contextmanager
def serving() -> Iterator[str]:
    """The server in a thread; yields its base_url."""
    app = web.Application(client_max_size=2**26)
    app.add_routes([web.post("/v1/chat/completions", chat), web.get("/v1/models", models)])
    loop, started = asyncio.new_event_loop(), queue.Queue()

    async def start() -> None:
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        started.put(site._server.sockets[0].getsockname()[1])

    def run() -> None:
        loop.run_until_complete(start())
        loop.run_forever()

    threading.Thread(target=run, daemon=True).start()
    yield f"http://127.0.0.1:{started.get(timeout=60)}/v1"
    loop.call_soon_threadsafe(loop.stop)
