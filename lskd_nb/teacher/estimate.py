"""What asking would cost, said before it is done: ``lskd estimate``, the question before a run.

Tokens are counted by what the replies in the cache say of their own requests, as bytes per token
and tokens per reply. Where there are none yet, a token is taken for four bytes (OpenAI's rule for
English text), and a reply to be as long as the longest example in the prompt.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lskd_nb.teacher.budget import Price, price_of
from lskd_nb.teacher.cache import ResponseCache
from lskd_nb.teacher.prompts import Prompt, build_prompts
from lskd_nb.teacher.requests import (
    TeacherSettings,
    encoded,
    is_loopback,
    request_body,
    request_hash,
)

BYTES_PER_TOKEN = 4.0
TOKENS_PER_REPLY = 200  # where a prompt has no example


@dataclass(frozen=True)
class Estimate:
    """What is still to be asked, and what it is likely to cost, by ``how``; ``paid`` is what the
    cached replies have cost. In USD.
    """

    settings: TeacherSettings
    requests: int
    beyond: int  # more that are missing, beyond budget_requests
    cached: int
    tokens: tuple[int, int]  # input, output
    usd: float
    worst: float
    paid: float
    how: str
    price: Price

    def __str__(self) -> str:
        one = self.settings
        asked = (
            f"{self.requests:,} requests to {one.model} at {one.base_url} ({self.cached:,} are"
            " answered in the cache"
        )
        asked += f", {self.beyond:,} are beyond budget_requests)" if self.beyond else ")"
        counted = (
            f"about {self.tokens[0]:,} tokens of input and {self.tokens[1]:,} of output, {self.how}"
        )
        if self.price.free:
            return f"{asked}: {counted}: costs nothing"
        per = (
            f"at {self.price.input:g} and {self.price.output:g} USD per million"
            f" tokens ({one.mode}, prices of {self.price.date})"
        )
        return (
            f"{asked}: {counted}: about {self.usd:,.2f} USD {per}, in no case more than"
            f" {self.worst:,.2f} USD without retries"
        )


def estimate(
    prompts: Sequence[Prompt], settings: TeacherSettings, cache: ResponseCache
) -> Estimate:
    """What asking for the prompts would cost that the cache has no reply to, and that are in no
    batch under way. Nothing is sent.
    """
    price, sizes, cached, known, usage = price_of(settings), {}, 0, 0, [0, 0, 0]
    if settings.mode == "batch":
        submitted = {
            key
            for batch in cache.open_batches(settings.base_url)
            if batch.id
            for key in batch.requests
        }
    else:
        submitted = set()
    for prompt in prompts:
        body = encoded(request_body(prompt, settings))
        reply = cache.get(key := request_hash(body))
        if reply is None:
            if key not in submitted:
                sizes[key] = len(body)
            continue
        cached += 1
        if any(reply["usage"]):
            known += len(body)
            usage = [usage[0] + reply["usage"][0], usage[1] + reply["usage"][1], usage[2] + 1]
    if usage[0] and usage[2]:
        ratio, reply_tokens = known / usage[0], usage[1] / usage[2]
        how = (
            f"by {ratio:.1f} bytes per token and {reply_tokens:.0f} tokens per reply, measured on"
            f" {usage[2]:,} replies in the cache"
        )
    else:
        ratio, reply_tokens = BYTES_PER_TOKEN, _example_tokens(prompts)
        how = (
            f"by a rule, {ratio:g} bytes per token and {reply_tokens:.0f} tokens per reply, as"
            " there is no reply in the cache to measure"
        )
    missing, sizes = len(sizes), dict(list(sizes.items())[: settings.budget_requests])
    tokens = (round(sum(sizes.values()) / ratio), round(len(sizes) * reply_tokens))
    worst = sum(price.worst(size, settings.max_tokens) for size in sizes.values())
    cost = min(price.of(tokens), worst)
    return Estimate(
        settings,
        len(sizes),
        missing - len(sizes),
        cached,
        tokens,
        cost,
        worst,
        price.of(usage),
        how,
        price,
    )


def _example_tokens(prompts: Sequence[Prompt]) -> float:
    examples = [
        len(m["content"].encode())
        for p in prompts[:1]
        for m in p.messages
        if m["role"] == "assistant"
    ]
    return max(examples) / BYTES_PER_TOKEN if examples else TOKENS_PER_REPLY


def require_consent(told: Estimate, ask: Callable[[str], str] = input) -> None:
    """Return where a call costs nothing, or its cost has been agreed to: by ``max_cost_usd``, or by
    the answer of who is asked.

    Raises ``RuntimeError`` with the estimate and how to agree to it.
    """
    settings = told.settings
    if told.price.free or not told.requests or is_loopback(settings.base_url):
        return
    limits = [limit for limit in (settings.budget_usd, settings.max_cost_usd) if limit]
    if settings.max_cost_usd:
        left = settings.budget_usd - told.paid if settings.budget_usd else told.usd
        if min(told.usd, max(left, 0.0)) <= settings.max_cost_usd:
            return
        raise RuntimeError(
            f"not sent: {told}. That is beyond max_cost_usd = {settings.max_cost_usd:g}: raise it"
            " to agree, or set budget_usd to stop at an amount"
        )
    stop = f"; it stops at {min(limits):g} USD" if limits else ""
    try:
        answer = ask(f"{told}{stop}. Send them? [y/N] ")
    except (EOFError, OSError, NotImplementedError):
        # nobody there to ask: no terminal, or a notebook that runs headless
        raise RuntimeError(
            f"not sent: {told}. Agree with the parameter max_cost_usd,"
            f" for example -p 02.max_cost_usd={_rounded_up(told.usd)}"
        ) from None
    if answer.strip().lower() not in ("y", "yes"):
        raise RuntimeError("not sent: not agreed to")


def _rounded_up(usd: float) -> str:
    return f"{usd * 1.1 + 0.01:.2f}"


def estimate_profile(values: Mapping[str, object], root: Path) -> Estimate:
    """The estimate for notebook 02 with these parameters, from the files of its run's folder.

    Raises ``FileNotFoundError`` where notebook 1 has not written them yet.
    """
    from lskd_nb.records import REGIONS, VERBALIZATIONS, read_parquet
    from lskd_nb.regions import located_images

    folder = root / str(values["run_dir"])
    images = located_images(read_parquet(folder / "regions.parquet", REGIONS))
    lines = read_parquet(folder / "verbalizations.parquet", VERBALIZATIONS)
    given = {name: values[name] for name in ("model", "temperature", "seed", "mode")}
    limits = {
        name: values[name] or None
        for name in ("max_tokens", "budget_requests", "budget_usd", "max_cost_usd")
    }
    prices = root / str(values["prices"]) if values["prices"] else None
    settings = TeacherSettings(
        str(values["base_url"]) or "http://localhost", **given, **limits, prices=prices
    )
    cache = ResponseCache(folder / "teacher_cache.sqlite")
    try:
        prompts = build_prompts(
            images, lines, values["families"], int(values["triples"]), values["offers"]
        )
        return estimate(prompts, settings, cache)
    finally:
        cache.close()
