"""All personalities on one port of this machine, each below its own name, and what each has seen.

A request is known by its regions' lines and family, whatever else its messages say: the same
question asked with a word more is the same question.
"""

import asyncio
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

from aiohttp import web

from lskd_nb.mini.teacher.writer import write_triples

from .personalities import ALL, Personality
from .refusals import LOADING, Refusal
from .shapes import Answer, Asked, Texts, completion, plain, valid

USED = 23  # the byte of a question's hash by which it gets each shape about equally often
LINE = re.compile(r"^\[(\d+)\] [^:\n]*: .*$", re.MULTILINE)


@dataclass(frozen=True)
class Question:
    """What a request is about: its context, the regions offered, the family and the number of
    triples wanted.
    """

    context: str
    offered: frozenset[int]
    described: bool
    number: int


@dataclass
class Ledger:
    """What a personality has been asked, what it took and what it gave."""

    gets: int = 0
    posts: int = 0
    posted: list[Question | None] = field(default_factory=list)  # None: something else
    taken: Counter[str] = field(default_factory=Counter)  # sets of fields, with the kind of format
    refused: Counter[str] = field(default_factory=Counter)
    last_taken: dict = field(default_factory=dict)
    answers: dict[Question, list[Answer]] = field(default_factory=dict)
    written: dict[Question, tuple[Texts, ...]] = field(default_factory=dict)
    shapes: set[str] = field(default_factory=set)
    healed: bool = False  # its failing set-up has been seen to

    def offered(self) -> list[Texts]:
        """The valid triples of its replies, each question's once: those of its best reply."""
        best = (max((a.held for a in told), key=len) for told in self.answers.values())
        return [texts for held in best for texts in held]

    def pending(self) -> set[Question]:
        """What has been asked, and has no whole reply yet."""
        asked = {question for question in self.posted if question}
        return {q for q in asked if not any(a.whole for a in self.answers.get(q, ()))}

    def stats(self) -> dict:
        return {
            "requests": self.posts,
            "gets": self.gets,
            "taken": self.taken,
            "refused": self.refused,
            "offered": len(self.offered()),
        }


def read_question(messages: list[dict]) -> Question | None:
    """What the messages ask for; None where they name no regions."""
    texts = [m["content"] for m in messages if isinstance(m.get("content"), str)]
    asked = next((t for t in reversed(texts) if "Regions:" in t and LINE.search(t)), None)
    everything = "\n".join(texts)
    wanted = re.search(r"Write (\d+) triples", everything)
    if asked is None or not wanted:
        return None
    lines = list(LINE.finditer(asked))
    context = asked[max(asked.find("Place:"), 0) : lines[-1].end()]
    offered = frozenset(int(line[1]) for line in lines)
    return Question(context, offered, "by what they are" in everything, int(wanted[1]))


@cache
def written(question: Question) -> list[dict]:
    """What the writer writes, without imagination."""
    system = "by what they are" if question.described else ""
    messages = [{"content": system}, {"content": question.context}]
    return json.loads(write_triples(messages, question.number, 0, 0.0, 0.0))["triples"]


def fields(body: dict) -> str:
    """The fields of a request, and the kind of its format."""
    names = sorted(body.keys() - {"model", "messages"})
    kind = (body.get("response_format") or {}).get("type")
    return " ".join(f"{n}={kind}" if n == "response_format" else n for n in names)


class Conformance:
    """The server and its ledgers; ``url`` is the address of all, ``base_url`` of one."""

    def __init__(self) -> None:
        self.url, self.ledgers = "", {name: Ledger() for name in ALL}

    def base_url(self, name: str) -> str:
        return f"{self.url}/{name}{ALL[name].base}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        name, path = request.match_info["name"], f"/{request.match_info['path']}".rstrip("/")
        if name not in ALL:
            return web.json_response({"detail": "Not Found"}, status=404)
        who, ledger = ALL[name], self.ledgers[name]
        if path == "/stats":
            return web.json_response(ledger.stats())
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        key = request.headers.get("api-key", key)
        posted = request.method == "POST"
        body = json.loads(await request.read()) if posted else {}
        ledger.posts, ledger.gets = ledger.posts + posted, ledger.gets + (not posted)
        if posted:
            ledger.posted.append(read_question(body.get("messages", [])))
        refusal = self._closed(who, ledger, request, path)
        if not refusal and not posted:
            told = None if ledger.healed else who.models
            return _said(told or (200, _openai_list(who)), key)
        refusal = refusal or self._refusal(who, ledger, body)
        if refusal:
            ledger.refused[fields(body)] += posted
            return _said(refusal, key)
        answer = self._answer(name, who, ledger, body)
        if answer.status == 200:
            ledger.taken[fields(body)] += 1
            ledger.last_taken = body
        return _said((answer.status, answer.body), key)

    def _closed(
        self, who: Personality, ledger: Ledger, request: web.Request, path: str
    ) -> Refusal | None:
        """What is refused whatever the request says."""
        there = {f"{who.at}/models": "GET", f"{who.at}/chat/completions": "POST"}
        if there.get(path) != request.method:
            return who.elsewhere
        if any(request.query.get(name) != value for name, value in who.query.items()):
            return who.elsewhere
        if who.loading and ledger.gets + ledger.posts <= who.loading:
            return 503, LOADING
        return None

    def _refusal(self, who: Personality, ledger: Ledger, body: dict) -> Refusal | None:
        """What a question is refused for."""
        if who.refuses_all and not ledger.healed:
            return who.refuses_all
        if who.serves and body.get("model") != who.serves and who.unknown_model:
            return who.unknown_model
        return next((found for check in who.refuses if (found := check(body))), None)

    def _answer(self, name: str, who: Personality, ledger: Ledger, body: dict) -> Answer:
        question = read_question(body["messages"])
        if question is None:
            return Answer(completion({"content": "Hello! How can I help you today?"}))
        before, triples = ledger.answers.setdefault(question, []), written(question)
        draw = hashlib.sha256(f"{name}/{question.described}/{question.context}".encode()).digest()
        shape = plain if ledger.healed else who.replies[draw[USED] % len(who.replies)]
        answer = shape(Asked(body, triples, question.offered, len(before) + 1))
        before.append(answer)
        ledger.shapes.add(shape.__name__)
        ledger.written[question] = valid(triples, question.offered)
        return answer


def _openai_list(who: Personality) -> dict:
    model = {"id": who.serves or who.model, "object": "model", "created": 1, "owned_by": "a"}
    return {"object": "list", "data": [model]}


def _said(told: Refusal, key: str) -> web.Response:
    """A text as it is, anything else as JSON; the key where a careless server echoes it."""
    status, body = told
    said = body if isinstance(body, str) else json.dumps(body)
    part = f"{key[:8]}{'*' * 12}{key[-4:]}"
    page = said.startswith("<")
    said = said.replace("KEY", key).replace("PART", part)
    kind = "text/html" if page else "application/json"
    return web.Response(text=said, status=status, content_type=kind)


@contextmanager
def serving() -> Iterator[Conformance]:
    """Serve all personalities from a thread, until the block ends."""
    one, ready, loop = Conformance(), threading.Event(), asyncio.new_event_loop()

    async def start() -> web.AppRunner:
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{name}/{path:.*}", one.handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        one.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
        return runner

    def serve() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert ready.wait(30), "the server did not start"
    try:
        yield one
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
