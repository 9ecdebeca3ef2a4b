"""The Batch API of the mini world's teacher: /v1/files and /v1/batches as OpenAI's.

So the client's own code is what runs. Files and batches live in memory and end with the server.
https://platform.openai.com/docs/api-reference/batch
"""

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable

from aiohttp import web

# a request's body to a status and a reply's body
Answer = Callable[[dict], Awaitable[tuple[int, dict]]]

MOST_REQUESTS = 50_000
MOST_BYTES = 200_000_000


def failure(message: str, kind: str = "invalid_request_error") -> dict:
    """The body of an error, as OpenAI's servers write it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


class Batches:
    """Files and batches.

    ``answer`` makes the reply to one request, and a batch takes at least ``delay`` seconds.
    """

    def __init__(self, answer: Answer, delay: float = 0.0):
        self.answer, self.delay = answer, delay
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict] = {}
        self._tasks: set[asyncio.Task] = set()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/files", self.upload),
            web.get("/v1/files/{id}/content", self.content),
            web.post("/v1/batches", self.create),
            web.get("/v1/batches", self.list),
            web.get("/v1/batches/{id}", self.retrieve),
        ]

    async def upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form.get("purpose") != "batch" or not isinstance(form.get("file"), web.FileField):
            return web.json_response(failure("expected a file, and purpose 'batch'"), status=400)
        data = form["file"].file.read()
        if len(data) > MOST_BYTES:
            return web.json_response(failure(f"a file may have {MOST_BYTES:,} bytes"), status=400)
        return web.json_response(
            {
                "id": self._keep(data),
                "object": "file",
                "bytes": len(data),
                "created_at": int(time.time()),
                "filename": form["file"].filename,
                "purpose": "batch",
                "status": "processed",
            }
        )

    async def content(self, request: web.Request) -> web.Response:
        data = self.files.get(request.match_info["id"])
        if data is None:
            return web.json_response(failure("no such file"), status=404)
        return web.Response(body=data)

    async def create(self, request: web.Request) -> web.Response:
        told = await request.json()
        if (
            told.get("input_file_id") not in self.files
            or told.get("endpoint") != "/v1/chat/completions"
            or told.get("completion_window") != "24h"
        ):
            return web.json_response(
                failure(
                    "expected an uploaded input_file_id,"
                    " endpoint /v1/chat/completions, completion_window 24h"
                ),
                status=400,
            )
        batch = {
            "id": f"batch_{uuid.uuid4().hex}",
            "object": "batch",
            "endpoint": told["endpoint"],
            "errors": None,
            "status": "validating",
            "input_file_id": told["input_file_id"],
            "completion_window": "24h",
            "created_at": int(time.time()),
            "metadata": told.get("metadata"),
            "output_file_id": None,
            "error_file_id": None,
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
        }
        self.batches[batch["id"]] = batch
        task = asyncio.create_task(self._work(batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return web.json_response(batch)

    async def list(self, request: web.Request) -> web.Response:
        newest = list(self.batches.values())[::-1]
        ids = [batch["id"] for batch in newest]
        start = ids.index(request.query["after"]) + 1 if request.query.get("after") in ids else 0
        page = newest[start : start + int(request.query.get("limit", 20))]
        return web.json_response(
            {
                "object": "list",
                "data": page,
                "has_more": start + len(page) < len(newest),
                "first_id": page[0]["id"] if page else None,
                "last_id": page[-1]["id"] if page else None,
            }
        )

    async def retrieve(self, request: web.Request) -> web.Response:
        batch = self.batches.get(request.match_info["id"])
        if batch is None:
            return web.json_response(failure("no such batch"), status=404)
        return web.json_response(batch)

    def _keep(self, data: bytes) -> str:
        name = f"file-{uuid.uuid4().hex}"
        self.files[name] = data
        return name

    async def _work(self, batch: dict) -> None:
        """Validate, answer one request after the other, and write the output and the error file."""
        try:
            lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
            requests = {
                line["custom_id"]: line["body"]
                for line in lines
                if (line["method"], line["url"]) == ("POST", batch["endpoint"])
            }
        except (ValueError, KeyError, TypeError):
            lines, requests = [], {}
        if not lines or len(requests) < len(lines) or len(lines) > MOST_REQUESTS:
            told = {
                "code": "invalid_file",
                "message": (
                    f"expected up to {MOST_REQUESTS:,} requests, each with a custom_id of its own"
                ),
            }
            batch.update(
                status="failed",
                errors={"object": "list", "data": [told | {"line": None, "param": None}]},
                failed_at=int(time.time()),
            )
            return
        batch.update(
            status="in_progress", request_counts={"total": len(lines), "completed": 0, "failed": 0}
        )
        await asyncio.sleep(self.delay)
        out: dict[bool, list[str]] = {True: [], False: []}
        for custom_id, body in requests.items():
            await asyncio.sleep(0)  # others want to be served as well
            status, reply = await self.answer(body)
            response = {"status_code": status, "request_id": uuid.uuid4().hex, "body": reply}
            line = {
                "id": f"batch_req_{uuid.uuid4().hex}",
                "custom_id": custom_id,
                "response": response,
                "error": None,
            }
            out[status == 200].append(json.dumps(line, ensure_ascii=False))
            batch["request_counts"]["completed" if status == 200 else "failed"] += 1
        for well, name in ((True, "output_file_id"), (False, "error_file_id")):
            if out[well]:
                # in no order that could be relied on
                batch[name] = self._keep("".join(f"{line}\n" for line in out[well][::-1]).encode())
        batch.update(status="completed", completed_at=int(time.time()))
