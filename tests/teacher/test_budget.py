"""What asking costs: said before, agreed to, and never exceeded."""

import asyncio
import json
import shutil
import sqlite3
import urllib.request
from dataclasses import asdict, replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lskd_nb.cli import main
from lskd_nb.mini.scenes import true_words
from lskd_nb.mini.scenes.world import sample_scenes
from lskd_nb.mini.teacher.server import serving
from lskd_nb.mini.teacher.writer import NAME
from lskd_nb.records import REGIONS, VERBALIZATIONS, write_parquet
from lskd_nb.teacher import generate
from lskd_nb.teacher import prompts as prompting
from lskd_nb.teacher.budget import Budget, BudgetExceeded, Price, price_of
from lskd_nb.teacher.cache import ResponseCache
from lskd_nb.teacher.dialect import Dialect
from lskd_nb.teacher.estimate import BYTES_PER_TOKEN, estimate, require_consent
from lskd_nb.teacher.requests import encoded, is_loopback, request_body

SCENES = sample_scenes(12, 5, "p")
KEY = "sk-of-somebody-who-pays"


def prompts() -> list[prompting.Prompt]:
    return prompting.build_prompts(true_words.located(SCENES), lines())


def lines() -> list[dict]:
    return true_words.region_lines(SCENES, closely=False)


@pytest.fixture(scope="module")
def server():
    """The mini teacher, by an address that is not known to be this machine."""
    with serving() as url:
        yield url.replace("127.0.0.1", "0.0.0.0")


@pytest.fixture
def paid(server, tmp_path, monkeypatch) -> generate.TeacherSettings:
    """A teacher elsewhere that costs 10 USD per million tokens of input and 20 of output."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    prices = tmp_path / "prices.yaml"
    prices.write_text(
        yaml.safe_dump(
            dict(
                date="2026-05",
                batch_discount=0.5,
                models={NAME: dict(input=10, output=20, max_output=1000)},
            )
        )
    )
    return generate.TeacherSettings(server, NAME, prices=prices, takes=asdict(Dialect()))


def nobody(question: str) -> str:
    raise EOFError


def completions(url: str) -> int:
    with urllib.request.urlopen(url.removesuffix("/v1") + "/stats") as reply:
        return json.load(reply)["completions"]


def cost(rows: dict, price: Price) -> float:
    return sum(price.of(reply["usage"]) for reply in rows)


def kept(cache) -> list[dict]:
    return [
        json.loads(reply)
        for (reply,) in sqlite3.connect(cache).execute("SELECT reply FROM replies")
    ]


# -------------------------------------------------------------------------- prices and the estimate


def test_prices_of_the_package():
    settings = generate.TeacherSettings("https://api.openai.com/v1", "gpt-4o-mini")
    whole, half = price_of(settings), price_of(replace(settings, mode="batch"))
    assert half.of((10**6, 10**6)) == whole.of((10**6, 10**6)) / 2 > 0 and whole.date
    assert price_of(replace(settings, base_url="http://localhost:8000/v1", model="my-llama")).free
    assert price_of(replace(settings, model=NAME)).free
    with pytest.raises(ValueError, match="has no price for the model 'gpt-99': add it there"):
        price_of(replace(settings, model="gpt-99", budget_usd=5.0))
    elsewhere = price_of(replace(settings, model="gpt-99"))
    assert not (elsewhere.known or elsewhere.free)
    own = replace(settings, base_url="http://gpu-box:8000/v1", model="gpt-99")
    assert price_of(own).free and not price_of(replace(own, model="gpt-4.1-mini")).free


def test_without_a_known_price_the_number_of_requests_is_agreed_to(tmp_path):
    """A provider that nobody has written prices down for."""
    settings = generate.TeacherSettings("https://llm.example/v1", "m", takes=asdict(Dialect()))
    asked, cache = prompts(), ResponseCache(tmp_path / "c.sqlite")
    told = estimate(asked, settings, cache)
    cache.close()
    assert "what that costs is not known" in str(told)
    with pytest.raises(RuntimeError, match="for example -p 02.budget_requests=24"):
        require_consent(told, nobody)
    questions = []
    require_consent(told, lambda question: questions.append(question) or "y")
    assert "not known" in questions[0] and "Send them?" in questions[0]
    require_consent(replace(told, settings=replace(settings, budget_requests=4)), nobody)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models: [", "expected date, batch_discount and models"),
        ("", "expected date, batch_discount and models"),
        (
            "date: 1\nbatch_discount: 2\nmodels: {m: {input: 1, output: 1, max_output: 1}}",
            "batch_discount must be 0 or more",
        ),
        (
            "date: 1\nbatch_discount: 0.5\nmodels: {m: {input: 1}}",
            "model m: expected input and output in USD",
        ),
        (
            "date: 1\nbatch_discount: 0.5\nmodels: {m: {input: -1, output: 1, max_output: 1}}",
            "model m: expected input and output in USD",
        ),
        (
            "date: 1\nbatch_discount: 0.5\nmodels: {m: 3}",
            "model m: expected input and output in USD",
        ),
    ],
)
def test_a_damaged_price_file_is_named(tmp_path, text, says):
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=says) as error:
        price_of(generate.TeacherSettings("https://llm.example/v1", "m", prices=path))
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:80/v1", True),
        ("http://localhost/v1", True),
        ("http://[::1]:8/v1", True),
        ("http://localhost.example/v1", False),
        ("http://127.0.0.1.example/v1", False),
        ("https://api.openai.com/v1", False),
    ],
)
def test_only_this_machine_is_free_without_a_price(url, here):
    assert is_loopback(url) is here


def test_the_estimate_says_how_it_was_made_and_is_measured_where_it_can_be(paid, tmp_path):
    cache = ResponseCache(tmp_path / "c.sqlite")
    by_rule = estimate(prompts(), paid, cache)
    size = sum(len(encoded(request_body(p, paid))) for p in prompts())
    assert (by_rule.requests, by_rule.cached) == (24, 0) and by_rule.tokens[0] == round(
        size / BYTES_PER_TOKEN
    )
    assert (
        "by a rule, 4 bytes per token" in str(by_rule)
        and "prices of 2026-05" in str(by_rule)
        and by_rule.usd < by_rule.worst
    )
    generate.generate_triples(prompts()[:8], replace(paid, max_cost_usd=5.0), tmp_path / "c.sqlite")
    measured = estimate(prompts(), paid, cache)
    assert (measured.requests, measured.cached) == (
        16,
        8,
    ) and "measured on 8 replies in the cache" in str(measured)
    rest = generate.generate_triples(
        prompts(), replace(paid, max_cost_usd=5.0), tmp_path / "c.sqlite"
    )[2]
    assert measured.tokens[0] == pytest.approx(rest.prompt_tokens, rel=0.02) and measured.tokens[
        1
    ] == pytest.approx(rest.completion_tokens, rel=0.2)
    part = estimate(prompts(), replace(paid, seed=1, budget_requests=5), cache)
    assert (part.requests, part.beyond) == (5, 19)
    cache.close()


def test_a_paid_call_wants_agreement(paid, tmp_path):
    before = completions(paid.base_url)
    with pytest.raises(
        RuntimeError, match=r"not sent: 24 requests to .* about 0\.\d\d USD .* -p 02.max_cost_usd="
    ) as refused:
        generate.generate_triples(prompts(), paid, tmp_path / "c.sqlite", ask=nobody)
    assert KEY not in str(refused.value)
    with pytest.raises(RuntimeError, match="beyond max_cost_usd = 0.001: raise it to agree"):
        generate.generate_triples(
            prompts(), replace(paid, max_cost_usd=0.001), tmp_path / "c.sqlite", ask=nobody
        )
    questions = []
    with pytest.raises(RuntimeError, match="not agreed to"):
        generate.generate_triples(
            prompts(),
            paid,
            tmp_path / "c.sqlite",
            ask=lambda question: questions.append(question) or "no",
        )
    assert completions(paid.base_url) == before and "Send them? [y/N]" in questions[0]
    assert (
        generate.generate_triples(prompts(), paid, tmp_path / "c.sqlite", ask=lambda _: "y")[
            2
        ].requests
        == 24
    )
    assert (
        generate.generate_triples(prompts(), paid, tmp_path / "c.sqlite", ask=nobody)[2].cached
        == 24
    ), "what is cached costs nothing"


def test_what_costs_nothing_needs_no_agreement(paid, tmp_path):
    here = replace(paid, base_url=paid.base_url.replace("0.0.0.0", "127.0.0.1"))
    assert (
        generate.generate_triples(prompts()[:2], here, tmp_path / "c.sqlite", ask=nobody)[
            2
        ].requests
        == 2
    )
    free = replace(paid, prices=None, seed=1)
    assert (
        generate.generate_triples(prompts()[:2], free, tmp_path / "c.sqlite", ask=nobody)[
            2
        ].requests
        == 2
    )


def test_a_stated_budget_bounds_what_is_agreed_to(paid, tmp_path):
    cache = ResponseCache(tmp_path / "c.sqlite")
    told = estimate(prompts(), replace(paid, budget_usd=0.05, max_cost_usd=0.05), cache)
    cache.close()
    assert told.usd > 0.05
    require_consent(told, nobody)
    with pytest.raises(RuntimeError, match="beyond max_cost_usd"):
        require_consent(replace(told, settings=replace(told.settings, budget_usd=None)), nobody)


# --------------------------------------------------------------------------------------- the budget


def test_a_budget_that_does_not_cover_finding_out_what_is_taken_sends_nothing(paid, tmp_path):
    poor = replace(paid, takes={}, budget_usd=0.0001, max_cost_usd=9.0)
    rows, rejects, report = generate.generate_triples(prompts(), poor, tmp_path / "c.sqlite")
    assert not rows and report.usd == 0 and report.not_sent == len(rejects) == 24
    assert {r["reason"] for r in rejects} == {"not sent: budget in USD used up"}


def test_the_budget_is_hard_and_earlier_calls_count(paid, tmp_path):
    price, cache = price_of(paid), tmp_path / "c.sqlite"
    one = max(price.worst(len(encoded(request_body(p, paid))), None) for p in prompts())
    limited = replace(paid, budget_usd=3 * one, max_cost_usd=10.0)
    _, rejects, report = generate.generate_triples(prompts(), limited, cache)
    spent = cost(kept(cache), price)
    assert (
        3 <= report.requests < 24
        and report.usd == pytest.approx(spent)
        and 2 * one < spent <= 3 * one
    )
    unsent = [r for r in rejects if r["reason"] == "not sent: budget in USD used up"]
    assert len(unsent) == report.not_sent == 24 - report.requests
    before = completions(paid.base_url)
    again = generate.generate_triples(prompts(), limited, cache)[2]
    assert (
        completions(paid.base_url) == before
        and again.cached == report.requests
        and again.usd == pytest.approx(spent)
    ), "killed or not, it was paid"
    more = generate.generate_triples(prompts(), replace(limited, budget_usd=4 * one), cache)[2]
    assert more.requests >= 1 and cost(kept(cache), price) <= 4 * one


def test_max_cost_is_a_limit_of_one_call(paid, tmp_path):
    cache = ResponseCache(tmp_path / "c.sqlite")
    told = estimate(prompts(), paid, cache)
    cache.close()
    spent = []
    for _ in range(8):
        report = generate.generate_triples(
            prompts(), replace(paid, max_cost_usd=told.usd * 1.05), tmp_path / "c.sqlite"
        )[2]
        spent.append(report.usd)
        if not report.not_sent:
            break
    assert (
        all(b - a <= told.usd * 1.05 for a, b in zip([0.0, *spent], spent, strict=False))
        and not report.not_sent
    )


@given(
    st.floats(0, 2),
    st.lists(
        st.tuples(st.floats(0, 1), st.one_of(st.none(), st.floats(0, 1)), st.integers(0, 3)),
        max_size=25,
    ),
)
def test_a_budget_is_never_overdrawn(limit, requests):
    """Whatever requests cost, up to their worst case, known or not, in whichever order they end."""
    budget = Budget(limit=limit)

    async def request(worst, share, steps):
        try:
            await budget.reserve(worst)
        except BudgetExceeded:
            return "unsent"
        assert budget.spent + budget.reserved <= limit + 1e-9
        for _ in range(steps):
            await asyncio.sleep(0)
        budget.settle(worst, None if share is None else worst * share)
        return "sent"

    async def everything():
        return await asyncio.wait_for(asyncio.gather(*(request(*r) for r in requests)), 10)

    ended = asyncio.run(everything())
    assert budget.spent <= limit + 1e-9 and budget.reserved == 0
    if sum(worst for worst, _, _ in requests) <= limit:
        assert "unsent" not in ended


# ------------------------------------------------------------------------------------ lskd estimate


def test_the_command_estimates_and_sends_nothing(root, lskd, tmp_path, monkeypatch, capsys):
    for folder in ("notebooks", "params/a100", "params/mini"):
        shutil.copytree(root / folder, tmp_path / folder)
    run = tmp_path / "run"
    monkeypatch.setenv("LSKD_ROOT", str(tmp_path))
    told = ("estimate", "a100", "--out", str(run))

    def said(*arguments: str) -> tuple[str, str]:
        main(arguments)
        return capsys.readouterr()

    plan = said(*told)[0]
    assert "02 takes: about 1,521,693 requests" in plan and "when notebook 01 has run" in plan
    regions = [
        dict(
            image_id=s.scene_id,
            image="x.jpg",
            width=320,
            height=240,
            source="mini",
            split="train",
            regions=[
                dict(id=i, box=list(e.box), label=e.kind, score=1.0)
                for i, e in enumerate(s.entities)
            ],
        )
        for s in SCENES
    ]
    write_parquet(regions, run / "regions.parquet", REGIONS)
    write_parquet(
        [dict(line, score=None, model="m", version="v") for line in lines()],
        run / "verbalizations.parquet",
        VERBALIZATIONS,
    )
    done = lskd(tmp_path, *told)
    assert done.returncode == 0, done.stderr
    # 12 images, three families, and three offers where they are of different regions
    assert done.stdout.startswith("102 requests to gpt-4.1-mini at https://api.openai.com/v1")
    assert "by a rule" in done.stdout
    assert (
        "at 0.075 and 0.3 USD per million tokens (batch, prices of"
        in said(*told, "-p", "02.mode=batch", "-p", "02.model=gpt-4o-mini")[0]
    )
    assert "costs nothing" in said("estimate", "mini", "--out", str(run))[0]
    assert "has no price for the model 'gpt-99'" in said(*told, "-p", "02.model=gpt-99")[1]
    assert "02_prompting has no parameter 'modle'" in said(*told, "-p", "02.modle=x")[1]
