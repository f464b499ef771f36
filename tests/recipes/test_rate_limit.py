import math
from fractions import Fraction

import anyio
import pytest
from chrono_core import SimClock, open_channel
from chrono_core.testing import feed
from chrono_recipes._rate_limit import rate_limit
from hypothesis import given
from hypothesis import strategies as st

from .timed import (
    Start,
    Story,
    check_gone_reaches_silent_sources,
    check_one_trace,
    fed,
    play,
    steady,
    stories,
)


def start(rate: float, burst: int = 1) -> Start:
    return lambda clock, sources, dest, drop: rate_limit(
        clock, sources[0], dest, rate=rate, burst=burst
    )


def test_burst_passes_at_once_and_the_rest_at_the_rate(anyio_backend: str) -> None:
    """A full bucket lets a burst through; then one item passes for each token that comes."""
    log = fed([(0, 0, n) for n in range(6)], start(5, 3), anyio_backend)
    assert [at for at, _ in log.out] == [0, 0, 0, 2, 4, 6]


@given(
    gaps=st.lists(st.integers(0, 12), max_size=20),
    period=st.sampled_from([1, 2, 5, 10, 20]),
    burst=st.integers(1, 4),
    settle=st.booleans(),
)
def test_items_pass_as_a_bucket_of_tokens_says(
    gaps: list[int], period: int, burst: int, settle: bool, anyio_backend: str
) -> None:
    """Counting fractions of tokens gives the same instants."""
    tokens = Fraction(burst)
    at = arrival = last = Fraction(0)
    events = []
    expected = []
    for n, gap in enumerate(gaps):
        arrival += gap
        events.append((int(arrival), 0, n))
        at = max(arrival, last)
        tokens = min(Fraction(burst), tokens + (at - last) / period)
        if tokens < 1:
            at += (1 - tokens) * period
            tokens = Fraction(1)
        tokens -= 1
        last = at
        expected.append((at, n))
    assert fed(events, start(10 / period, burst), anyio_backend, settle=settle).out == expected


@given(story=stories(), rate=st.sampled_from([0.7, 5, 1e12]), burst=st.integers(1, 3))
def test_nothing_is_lost_or_invented(
    story: Story, rate: float, burst: int, anyio_backend: str
) -> None:
    """However the ends behave, and whenever it is cancelled, every item that was taken goes on."""
    outcome = play(story, start(rate, burst), anyio_backend)
    assert outcome.out == outcome.taken[0]


async def test_rate_does_not_drift() -> None:
    """Three thousand periods of a third of a microsecond last a thousand microseconds."""
    clock, source, dest = SimClock(), open_channel[int](math.inf), open_channel[int](math.inf)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed, source.send, range(3001))
        tasks.start_soon(lambda: rate_limit(clock, source.recv, dest.send, rate=3e6))
        await clock.run_until(
            lambda: dest.recv.statistics().current_buffer_used == 3001, limit=math.inf
        )
    assert clock.now_ns() == 1_000_000


async def test_closed_destination_reaches_a_silent_source() -> None:
    """Whoever would send learns that nobody wants it, even where the source was silent."""
    await check_gone_reaches_silent_sources(start(1.0))


async def test_closed_destination_is_noticed_while_waiting_for_a_token() -> None:
    """The wait for a token ends when nobody wants the item any more."""
    clock, source, dest = SimClock(), open_channel[int](2), open_channel[int](2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: rate_limit(clock, source.recv, dest.send, rate=1e-9))
        await source.send.send_many([1, 2])
        await clock.advance(0)
        await dest.recv.aclose()
    assert source.send.statistics().discarded == 1


def test_one_trace() -> None:
    """It goes the same way on every run and on both backends."""
    story = Story((steady(12),), (1,), dest_size=0, pauses=(0, 7), cancels=((3, 1), (5, 2)))
    check_one_trace(story, start(3, 2))


def test_bad_input_is_refused_at_the_call() -> None:
    """What makes no sense is said at once, with the name of the argument."""
    clock, channel = SimClock(), open_channel[int](1)
    recv, send = channel.recv, channel.send
    for rate in (-1.0, 0.0, math.nan, math.inf, 5e-324):
        with pytest.raises(ValueError, match="rate"):
            rate_limit(clock, recv, send, rate=rate)
    for burst in (0, 1.5, True):
        with pytest.raises(ValueError, match="burst"):
            rate_limit(clock, recv, send, rate=1, burst=burst)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Context or a Clock"):
        rate_limit(None, recv, send, rate=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="source"):
        rate_limit(clock, send, send, rate=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dest"):
        rate_limit(clock, recv, recv, rate=1)  # type: ignore[arg-type]
