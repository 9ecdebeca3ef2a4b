"""The limiter: never beyond its bounds, slower when told to be, faster again afterwards."""

import asyncio
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lskd_nb.teacher.rate_limit import LONGEST_PAUSE, START, RateLimiter, seconds_of, wait_of

NUMBERS = st.one_of(
    st.integers(-5, 10**6).map(str),
    st.sampled_from(["", "x", "nan", "inf", "1e400", "9" * 400, "-1", "٣", "0.5"]),
)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            f"x-ratelimit-{part}-{kind}"
            for part in ("remaining", "limit", "reset")
            for kind in ("requests", "tokens")
        ]
        + ["retry-after", "retry-after-ms"]
    ),
    NUMBERS | st.sampled_from(["1s", "6m0s", "20ms", "1h2m3.5s"]),
)


@given(
    st.integers(1, 300),
    st.lists(
        st.tuples(st.sampled_from([200, 429, 500, 503, 404]), HEADERS, st.integers(0, 10**6)),
        max_size=40,
    ),
)
def test_whatever_a_server_says_the_bounds_hold(most, said):
    limiter = RateLimiter(most)
    for status, headers, tokens in said:
        limiter.saw(status, headers, monotonic(), tokens)
        assert 1 <= limiter.allowed <= most
        assert limiter.not_before <= monotonic() + LONGEST_PAUSE


@given(
    st.integers(1, 6), st.lists(st.sampled_from([200, 429, 500, "lost"]), min_size=1, max_size=40)
)
def test_no_more_than_allowed_are_under_way(most, fates):
    limiter = RateLimiter(most)
    seen = []

    async def attempt(fate):
        sent = monotonic()
        try:
            async with limiter:
                seen.append(limiter.under_way)
                await asyncio.sleep(0)
                if fate == "lost":
                    raise ConnectionError
            limiter.saw(fate, {}, sent)
        except ConnectionError:
            pass

    async def everything():
        await asyncio.wait_for(asyncio.gather(*(attempt(fate) for fate in fates)), 10)

    asyncio.run(everything())
    assert len(seen) == len(fates) and max(seen) <= most and limiter.under_way == 0


def test_it_doubles_until_the_first_429_and_then_grows_by_one_a_round():
    limiter = RateLimiter(1000)
    for _ in range(100):
        limiter.saw(200, {}, monotonic())
    assert limiter.allowed == START + 100
    sent = monotonic()
    limiter.saw(429, {}, sent)
    half = (START + 100) / 2
    assert limiter.allowed == half
    for _ in range(20):  # sent before the first 429 was heard: one decrease a round
        limiter.saw(429, {}, sent)
    assert limiter.allowed == half and limiter.throttled == 21
    for _ in range(int(half)):
        limiter.saw(200, {}, monotonic())
    assert half + 0.9 < limiter.allowed < half + 1.1


def test_what_remains_of_a_limit_is_not_exceeded():
    limiter = RateLimiter(256)
    limiter.saw(
        200,
        {"x-ratelimit-remaining-requests": "12", "x-ratelimit-remaining-tokens": "900000"},
        monotonic(),
        1000,
    )
    assert limiter.allowed == 12
    limiter.saw(200, {"x-ratelimit-remaining-tokens": "5500"}, monotonic(), 1000)
    assert limiter.allowed == 5
    limiter.saw(
        200,
        {
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-limit-requests": "600",
            "x-ratelimit-reset-requests": "1m0s",
        },
        monotonic(),
    )
    assert (
        limiter.allowed == 1 and 0.05 < limiter.not_before - monotonic() <= 0.1
    )  # one of 600 a minute comes back in a tenth of a second


def test_a_pause_holds_everyone():
    limiter = RateLimiter(8)
    limiter.saw(429, {"retry-after-ms": "150"}, monotonic())
    begin = monotonic()

    async def enter():
        async with limiter:
            return monotonic() - begin

    async def everyone():
        return await asyncio.gather(*(enter() for _ in range(8)))

    assert min(asyncio.run(everyone())) > 0.14


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("1h2m3.5s", 3723.5),
        ("12", 12.0),
        ("1m", 60.0),
        ("", None),
        (None, None),
        ("soon", None),
        ("1s!", None),
    ],
)
def test_durations_as_openai_writes_them(text, seconds):
    assert seconds_of(text) == seconds


def test_dates_are_the_client_librarys_business():
    assert (
        wait_of({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}) is None
        and wait_of({"retry-after": "2"}) == 2.0
    )


def test_no_concurrency_is_no_concurrency():
    with pytest.raises(ValueError, match="concurrency must be at least 1"):
        RateLimiter(0)
