"""What asking would cost, said before it is done: ``lskd estimate``, the question before a run.

Tokens are counted by what the replies in the cache say of their own requests, as bytes per token
and tokens per reply. Where there are none yet, a token is taken for four bytes (OpenAI's rule for
English text), and a reply to be as long as the longest example in the prompt. A picture counts as
the most it can be until a reply tells what is left when its text is taken off.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lskd_nb.teacher.budget import Price, price_of
from lskd_nb.teacher.cache import ResponseCache
from lskd_nb.teacher.job import spent_tokens
from lskd_nb.teacher.parsing import TRIPLES_FORM, ReplyForm
from lskd_nb.teacher.prompts import WORDS, Prompt, build_prompts, sees_of
from lskd_nb.teacher.requests import TeacherSettings, is_loopback, most_tokens, request_key

MINI = "mini"  # the name under which the mini world's replies are kept
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
        if not self.price.known:
            return f"{asked}: {counted}: what that costs is not known, as no price is"
        per = (
            f"at {self.price.input:g} and {self.price.output:g} USD per million"
            f" tokens ({one.mode}, prices of {self.price.date})"
        )
        return (
            f"{asked}: {counted}: about {self.usd:,.2f} USD {per}, in no case more than"
            f" {self.worst:,.2f} USD without retries"
        )


def estimate(
    prompts: Sequence[Prompt],
    settings: TeacherSettings,
    cache: ResponseCache,
    form: ReplyForm = TRIPLES_FORM,
) -> Estimate:
    """What asking for the prompts would cost that the cache has no reply to, and that are in no
    batch under way. Nothing is sent.
    """
    price, cached, replies, written = price_of(settings), 0, 0, 0
    counted = {False: (0, 0, 0), True: (0, 0, 0)}  # without a picture and with one
    sizes: dict[str, tuple[int, int]] = {}  # bytes of text, tokens of a picture
    paid = 0.0
    if settings.mode == "batch":
        submitted = {
            key
            for batch in cache.open_batches(settings.asked)
            if batch.id
            for key in batch.requests
        }
    else:
        submitted = set()
    for prompt in prompts:
        size = most_tokens(prompt, settings, form=form)
        try:
            key = request_key(prompt, settings, form)
        except ValueError:  # its picture can't be read: it will be a reject
            continue
        reply = cache.get(key)
        if reply is None:
            if key not in submitted:
                sizes[key] = size
            if before := cache.unfinished(key):
                paid += price.of(spent_tokens(before))
            continue
        cached += 1
        paid += price.of(spent_tokens(reply))
        if any(reply["usage"]):
            told, replies = reply["usage"], replies + 1
            before, written = counted[size[1] > 0], written + told[1]
            counted[size[1] > 0] = tuple(map(sum, zip(before, (*size, told[0]), strict=True)))
    ratio, share = _measured(counted[False], counted[True])
    if any(total for *_, total in counted.values()):
        reply_tokens = written / replies
        how = (
            f"by {ratio:.1f} bytes per token and {reply_tokens:.0f} tokens per reply, measured on"
            f" {replies:,} replies in the cache"
        )
    else:
        reply_tokens = _example_tokens(prompts)
        how = (
            f"by a rule, {ratio:g} bytes per token and {reply_tokens:.0f} tokens per reply, as"
            " there is no reply in the cache to measure"
        )
    missing, sizes = len(sizes), dict(list(sizes.items())[: settings.budget_requests])
    texts, shown = (sum(size[part] for size in sizes.values()) for part in (0, 1))
    shown = round(shown * share)
    tokens = (round(texts / ratio) + shown, round(len(sizes) * reply_tokens))
    worst = sum(price.worst(sum(size), settings.max_tokens) for size in sizes.values())
    how += f", and {shown:,} tokens of pictures" if shown else ""
    cost = min(price.of(tokens), worst)
    return Estimate(
        settings, len(sizes), missing - len(sizes), cached, tokens, cost, worst, paid, how, price
    )


def _measured(plain: tuple[int, int, int], pictured: tuple[int, int, int]) -> tuple[float, float]:
    """Bytes per token of text, and what share of the most that they can be pictures count as.

    Of requests without a picture and with one: bytes of text, the most tokens of the pictures,
    tokens of input. A server tells the sum alone. So text is measured without pictures, or else
    taken by the rule, and a picture is the rest, up to the most it can be.
    """
    ratio = plain[0] / plain[2] if plain[2] else BYTES_PER_TOKEN
    size, most, told = pictured
    if not (most and told):
        return ratio, 1.0
    shown = min(max(told - size / ratio, 0.0), most)
    return ratio if plain[2] else size / (told - shown), shown / most


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
    the answer of who is asked; where no price is known, by ``budget_requests``.

    Raises ``RuntimeError`` with the estimate and how to agree to it.
    """
    settings = told.settings
    if told.price.free or not told.requests or is_loopback(settings.base_url):
        return
    if not told.price.known and settings.budget_requests:
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
        if told.price.known:
            how = f"max_cost_usd, for example -p 02.max_cost_usd={_rounded_up(told.usd)}"
        else:
            how = (
                f"budget_requests, for example -p 02.budget_requests={told.requests}, or name the"
                " price in a file like lskd_nb/teacher/prices.yaml (parameter prices)"
            )
        raise RuntimeError(f"not sent: {told}. Agree with the parameter {how}") from None
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
    if values["local"]:
        given["model"] = Path(str(values["local"])).stem
    limits = {
        name: values[name] or None
        for name in ("max_tokens", "budget_requests", "budget_usd", "max_cost_usd")
    }
    sees, root_file = sees_of(str(values["teacher_sees"])), folder / "image_root.txt"
    prices = root / str(values["prices"]) if values["prices"] else None
    settings = TeacherSettings(
        str(values["base_url"]) or "http://localhost",
        **given,
        **limits,
        prices=prices,
        server="" if values["base_url"] else str(values["local"]) or MINI,
        reasoning_effort=str(values["reasoning_effort"]),
        takes=values["takes"],
    )
    cache = ResponseCache(folder / "teacher_cache.sqlite")
    try:
        prompts = build_prompts(
            images,
            lines,
            values["families"],
            int(values["triples"]),
            values["offers"],
            sees,
            root_file.read_text(encoding="utf-8") if sees != (WORDS,) else "",
            int(values["image_bound"]),
        )
        return estimate(prompts, settings, cache)
    finally:
        cache.close()
