"""A stand-in for OpenAI's servers that refuses what they refuse, in their words.

It wants a key, knows the models that there are, takes the request fields that Chat Completions has
and schemas that strict mode allows, tells its limits in headers, and now and then asks to wait.
What it answers comes from the prompt alone: questions about the regions that are listed, some of
them wrong as an LLM's are. ``python -m lskd_nb.rehearsal.server --port-file FILE`` serves until its
parent ends; ``serving()`` does so for a block.
"""

import argparse
import asyncio
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from aiohttp import web

from lskd_nb.mini.teacher.batches import failure
from lskd_nb.mini.teacher.server import serve_while_wanted
from lskd_nb.teacher.serving import running

KEY = "sk-rehearsal-0123456789abcdefghijklmnop"
MODELS = ("gpt-4.1", "gpt-4.1-mini", "gpt-4o-mini", "gpt-5-mini")
REASONING = ("gpt-5-mini",)  # these know max_completion_tokens, and a temperature of 1 alone
# fmt: off
FIELDS = {
    "messages", "model", "audio", "frequency_penalty", "function_call", "functions", "logit_bias",
    "logprobs", "max_completion_tokens", "max_tokens", "metadata", "modalities", "n",
    "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key",
    "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop",
    "store", "stream", "stream_options", "temperature", "tool_choice", "tools", "top_logprobs",
    "top_p", "user", "verbosity", "web_search_options",
}
DOING = (
    ("about to do", "is about to leave", "seems ready to move and nothing holds it back"),
    ("likely to do next", "will rest for a while", "has been busy for long, as one can see"),
    ("here for", "is here to meet somebody", "looks around as if somebody were missing"),
    ("feeling", "feels content", "shows no hurry"),
    ("good for", "makes the work of the others easier", "stands where it is needed"),
)
# fmt: on
WAITS = 25  # of so many requests one is asked to wait


def refusal(
    message: str,
    code: str | None = None,
    parameter: str | None = None,
    kind: str = "invalid_request_error",
) -> dict:
    """The body of an error, as OpenAI's servers write it, with its code and parameter."""
    return {"error": failure(message, kind)["error"] | {"param": parameter, "code": code}}


def refused(body: Mapping) -> tuple[int, dict] | None:
    """Status and words for a request that OpenAI's servers would refuse; None for one they take."""
    model = body.get("model")
    if model not in MODELS:
        told = f"The model `{model}` does not exist or you do not have access to it."
        return 404, refusal(told, "model_not_found")
    if unknown := sorted(set(body) - FIELDS):
        return 400, refusal(
            f"Unrecognized request argument supplied: {unknown[0]}", "unknown_parameter", unknown[0]
        )
    if not isinstance(body.get("messages"), list) or not body["messages"]:
        told = "Invalid 'messages': empty array. Expected an array with minimum length 1."
        return 400, refusal(told, "empty_array", "messages")
    if model in REASONING and "max_tokens" in body:
        told = (
            "Unsupported parameter: 'max_tokens' is not supported with this model."
            " Use 'max_completion_tokens' instead."
        )
        return 400, refusal(told, "unsupported_parameter", "max_tokens")
    if model in REASONING and body.get("temperature", 1) != 1:
        told = (
            f"Unsupported value: 'temperature' does not support {body['temperature']} with this"
            " model. Only the default (1) value is supported."
        )
        return 400, refusal(told, "unsupported_value", "temperature")
    form = body.get("response_format") or {}
    if form.get("type") == "json_schema" and (why := _schema_fault(form.get("json_schema") or {})):
        name = (form.get("json_schema") or {}).get("name")
        told = f"Invalid schema for response_format '{name}': {why}"
        return 400, refusal(told, None, "response_format")
    return None


def _schema_fault(told: Mapping) -> str | None:
    """What strict mode has against a schema: every object closed, every property required."""
    if not told.get("strict"):
        return None
    whole = told.get("schema") or {}
    for place, part in _objects(whole, ()):
        names = sorted(part.get("properties", {}))
        if part.get("additionalProperties") is not False:
            return (
                f"In context={place}, 'additionalProperties' is required to be supplied and to be"
                " false."
            )
        if sorted(part.get("required", [])) != names:
            return (
                f"In context={place}, 'required' is required to be supplied and to be an array"
                " including every key in properties."
            )
    return None


def _objects(part: object, place: tuple) -> Iterator[tuple[tuple, Mapping]]:
    if isinstance(part, Mapping):
        if part.get("type") == "object":
            yield place, part
        for name, inner in part.items():
            yield from _objects(inner, (*place, name))
    elif isinstance(part, list):
        for number, inner in enumerate(part):
            yield from _objects(inner, (*place, number))


# ------------------------------------------------------------------------------------- what it says


def written(messages: list[Mapping], seed: int) -> str:
    """A reply's content: triples about the regions that the last message lists, as the system's
    text wants them, or one about the question at the end.
    """
    system, told = (str(messages[n]["content"]) for n in (0, -1))
    regions = re.findall(r"^\[(\d+)\] ([^:\n]+):", told, re.M)
    digest = hashlib.sha256(f"{seed}{system}{told}".encode()).digest()
    rng = np.random.default_rng(list(digest[:8]))
    asked = re.search(r"^Question: (.+)\Z", told, re.M)
    if asked:
        triples = [_answer(asked[1], regions)]
    else:
        wanted = re.search(r"Write (\d+) triples", system)
        number = int(wanted[1]) if wanted else 3
        triples = [_triple(system, regions, rng) for _ in range(number)] if regions else []
    return json.dumps({"triples": triples})


def _triple(system: str, regions: list[tuple[str, str]], rng: np.random.Generator) -> dict:
    one, other = (regions[int(rng.integers(len(regions)))] for _ in range(2))
    asked, answer, reason = DOING[int(rng.integers(len(DOING)))]
    if "by their id alone" in system:
        first, second = f"[{one[0]}]", f"[{other[0]}]"
    elif "followed by their id" in system:
        first, second = f"the {one[1]} [{one[0]}]", f"the {other[1]} [{other[0]}]"
    else:
        first, second = f"the {one[1]}", f"the {other[1]}"
    if rng.random() < 0.06:  # a region that nobody listed
        second = f"[{len(regions) + 5}]"
    rationale = f"{first} {reason}"
    if rng.random() < 0.7:
        rationale += f", and {second} is close by"
    return {
        "question": f"What is {first} {asked}?",
        "answer": f"{first.capitalize()} {answer}.",
        "rationale": f"{rationale}.",
    }


def _answer(question: str, regions: list[tuple[str, str]]) -> dict:
    pointed = re.search(r"\[\d+\]", question)
    name = pointed[0] if pointed else f"The {regions[0][1]}" if regions else "Somebody"
    _, answer, reason = DOING[len(question) % len(DOING)]
    return {"question": question, "answer": f"{name} {answer}.", "rationale": f"{name} {reason}."}


# ------------------------------------------------------------------------------------------ serving


def application() -> web.Application:
    counts = {"asked": 0}

    async def completions(request: web.Request) -> web.Response:
        if found := _key_fault(request):
            return found
        try:
            body = await request.json()
        except json.JSONDecodeError:
            told = "We could not parse the JSON body of your request."
            return web.json_response(refusal(told), status=400)
        counts["asked"] += 1
        if (found := refused(body)) is not None:
            return web.json_response(found[1], status=found[0])
        if counts["asked"] % WAITS == 0:
            told = (
                f"Rate limit reached for {body['model']} in organization org-rehearsal on requests"
                " per min (RPM): Limit 10000, Used 10000, Requested 1. Please try again in 6ms."
            )
            return web.json_response(
                refusal(told, "rate_limit_exceeded", kind="requests"),
                status=429,
                headers=_limits() | {"retry-after-ms": "6", "retry-after": "1"},
            )
        return web.json_response(_completion(body, counts["asked"]), headers=_limits())

    async def models(request: web.Request) -> web.Response:
        if found := _key_fault(request):
            return found
        data = [dict(id=m, object="model", created=1744316542, owned_by="system") for m in MODELS]
        return web.json_response({"object": "list", "data": data})

    app = web.Application(client_max_size=2**26)
    app.add_routes([web.post("/v1/chat/completions", completions), web.get("/v1/models", models)])
    return app


def _key_fault(request: web.Request) -> web.Response | None:
    given = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
    if given == KEY:
        return None
    if not given:
        told = "You didn't provide an API key. You need to provide your API key in an Authorization"
        return web.json_response(refusal(f"{told} header using Bearer auth."), status=401)
    told = f"Incorrect API key provided: {given[:7]}***{given[-4:]}. You can find your API key at"
    told += " https://platform.openai.com/account/api-keys."
    return web.json_response(refusal(told, "invalid_api_key"), status=401)


def _limits() -> dict[str, str]:
    return {
        "x-ratelimit-limit-requests": "10000",
        "x-ratelimit-limit-tokens": "10000000",
        "x-ratelimit-remaining-requests": "9999",
        "x-ratelimit-remaining-tokens": "9998550",
        "x-ratelimit-reset-requests": "6ms",
        "x-ratelimit-reset-tokens": "8ms",
    }


def _completion(body: Mapping, number: int) -> dict:
    text = written(body["messages"], int(body.get("seed") or 0))
    used = sum(len(str(m["content"])) for m in body["messages"]) // 4
    details = {"audio_tokens": 0, "reasoning_tokens": 0}
    details |= {"accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
    return {
        "id": f"chatcmpl-{number:029x}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": f"{body['model']}-2025-04-14",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": text,
                    "refusal": None,
                    "annotations": [],
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": used,
            "completion_tokens": len(text) // 4,
            "total_tokens": used + len(text) // 4,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": details,
        },
        "service_tier": "default",
        "system_fingerprint": "fp_rehearsal",
    }


def serving() -> AbstractContextManager[str]:
    """Start the server as a process of its own; yields its base_url, ends it with the block.

    Raises ``RuntimeError`` when it does not start.
    """
    return running("lskd_nb.rehearsal.server", "the stand-in server")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port-file", type=Path, required=True, help="gets the port's number")
    parser.add_argument("--parent", type=int, default=os.getppid(), help="ends with this process")
    options = parser.parse_args()
    asyncio.run(serve_while_wanted(application(), options.port_file, options.parent))


if __name__ == "__main__":
    main()
