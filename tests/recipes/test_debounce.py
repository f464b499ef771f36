import math
from itertools import pairwise
from typing import Any

import anyio
import pytest
from chrono_core import SimClock, WallClock, open_channel
from chrono_core.testing import collect
from chrono_recipes._debounce import debounce
from hypothesis import given
from hypothesis import strategies as st

from tests.core.virtual_time import run_virtually

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


def start(quiet: float) -> Start:
    return lambda clock, sources, dest, drop: debounce(
        clock, sources[0], dest, quiet=quiet, on_drop=drop
    )


def test_last_of_a_burst_passes_when_it_is_quiet(anyio_backend: str) -> None:
    """Each item takes the place of the one before, until none comes for long enough."""
    log = fed([(at, 0, at) for at in (0, 1, 2, 9, 10)], start(0.3), anyio_backend)
    assert log.out == [(5, 2), (10, 10)]
    assert log.dropped == [(1, 0, "superseded"), (2, 1, "superseded"), (10, 9, "superseded")]


@given(
    gaps=st.lists(st.integers(0, 4), max_size=20),
    quiet=st.integers(0, 5),
    settle=st.booleans(),
)
def test_what_passes_is_what_the_definition_says(
    gaps: list[int], quiet: int, settle: bool, anyio_backend: str
) -> None:
    """An item passes if and only if none comes for so long after it, the last one at the end."""
    times: list[int] = []
    for gap in gaps:
        times.append(gap + (times[-1] if times else 0))
    expected = [
        (at + quiet, n) for n, (at, after) in enumerate(pairwise(times)) if after >= at + quiet
    ]
    if times:
        expected.append((times[-1], len(times) - 1))
    events = [(at, 0, n) for n, at in enumerate(times)]
    log = fed(events, start(quiet / 10), anyio_backend, settle=settle)
    assert log.out == expected
    passed = {n for _, n in expected}
    assert [n for _, n, _ in log.dropped] == [n for n in range(len(times)) if n not in passed]


@given(story=stories(), quiet=st.sampled_from([0.0, 0.2, math.inf]))
def test_nothing_is_lost_or_invented(story: Story, quiet: float, anyio_backend: str) -> None:
    """However the ends behave, and whenever it is cancelled, what was taken is accounted for."""
    outcome = play(story, start(quiet), anyio_backend)
    outcome.balance()
    assert outcome.reasons <= {"superseded", "destination gone", "cancelled"}
    assert story.cancels or "cancelled" not in outcome.reasons


def test_due_item_is_safe_while_the_destination_is_full(anyio_backend: str) -> None:
    """What has become due cannot be superseded: what comes later waits in the source."""
    story = Story((steady(3, gap=3),), (2,), dest_size=0, pauses=(20,))
    outcome = play(story, start(0.2), anyio_backend)
    assert [number for _, number, _ in outcome.out] == [0, 2]
    assert outcome.dropped == [((0, 1, 1), "superseded")]


async def test_item_is_reported_when_the_destination_goes() -> None:
    """What is held when nobody wants it any more is dropped by name."""
    clock, source, dest = SimClock(), open_channel[int](1), open_channel[int](0)
    dropped: list[tuple[int, str]] = []
    async with anyio.create_task_group() as tasks:
        await source.send.send(1)
        tasks.start_soon(
            lambda: debounce(
                clock,
                source.recv,
                dest.send,
                quiet=1,
                on_drop=lambda item, reason: dropped.append((item, reason)),
            )
        )
        await clock.advance(0.5)
        await dest.recv.aclose()
    assert dropped == [(1, "destination gone")]
    assert not source.recv.statistics().open_receive_streams


async def test_failing_source_raises_and_reports_what_is_held() -> None:
    """An error of the source comes through, nothing is closed, and what was held is named."""
    clock, source, dest = SimClock(), open_channel[int](1), open_channel[int](1)
    dropped: list[tuple[int, str]] = []
    await source.send.send(1)

    async def run() -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await debounce(
                clock,
                Failing(source.recv),
                dest.send,
                quiet=1,
                on_drop=lambda item, reason: dropped.append((item, reason)),
            )

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await clock.advance(0)
        await source.send.send(2)
        await clock.advance(0)
    assert dropped == [(1, "failed")]
    assert dest.send.statistics().open_send_streams == 1
    assert source.send.statistics().open_receive_streams == 1


class Failing:
    """A receiving end that fails at its second item."""

    def __new__(cls, inner: Any) -> Any:
        class End(type(inner)):  # type: ignore[misc]
            __slots__ = ("calls",)

            def receive_nowait(self) -> Any:
                self.calls += 1
                if self.calls == 2:
                    raise anyio.ClosedResourceError
                return super().receive_nowait()

        end = End(inner._state)
        end.calls = 0
        return end


def test_it_works_on_the_wall_clock(anyio_backend: str) -> None:
    """Real time does as well as simulated time."""
    clock, source, dest = WallClock(), open_channel[int](9), open_channel[int](9)
    times: list[float] = []

    async def main(_: object) -> None:
        begun = clock.now()

        async def consume() -> None:
            async for _ in dest.recv:
                times.append(clock.now() - begun)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: debounce(clock, source.recv, dest.send, quiet=0.3))
            tasks.start_soon(consume)
            for n, pause in enumerate((0.1, 0.1, 1.0, 0.1)):
                await source.send.send(n)
                await clock.sleep(pause)
            await source.send.aclose()

    run_virtually(anyio_backend, main)
    assert times == [pytest.approx(0.5, abs=1e-3), pytest.approx(1.3, abs=1e-3)]


class Coarse(SimClock):
    """A clock that shows whole seconds only, and so never shows most deadlines."""

    __slots__ = ()

    def now(self) -> float:
        return math.floor(super().now())

    def now_ns(self) -> int:
        return super().now_ns() // 10**9 * 10**9


async def test_clock_that_never_shows_the_deadline_does_not_hang_it() -> None:
    """When the clock says that the time is over, it is over."""
    clock, source, dest = Coarse(), open_channel[int](9), open_channel[int](9)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: debounce(clock, source.recv, dest.send, quiet=0.25))
        await source.send.send(1)
        await clock.advance(0.25)
        assert dest.recv.receive_nowait() == 1
        tasks.cancel_scope.cancel()


async def test_item_at_the_deadline_is_late_at_the_size_of_unix_time() -> None:
    """Instants are exact where floats of seconds are not."""
    clock, source, dest = SimClock(1.7e9 + 0.1), open_channel[int](9), open_channel[int](9)

    async def produce() -> None:
        for n in range(50):
            await source.send.send(n)
            await clock.sleep(0.1)
        await source.send.aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        tasks.start_soon(lambda: debounce(clock, source.recv, dest.send, quiet=0.1))
        got = await clock.run_until(collect(dest.recv), limit=100)
    assert got == list(range(50))


async def test_closed_destination_reaches_a_silent_source() -> None:
    """Whoever would send learns that nobody wants it, even where the source was silent."""
    await check_gone_reaches_silent_sources(start(1.0))


def test_one_trace() -> None:
    """It goes the same way on every run and on both backends."""
    script = tuple((wait, (0, n, n)) for n, wait in enumerate((0, 1, 4, 1, 2, 2, 5, 1, 0, 3, 2, 2)))
    check_one_trace(
        Story((script,), (1,), dest_size=0, pauses=(0, 7), cancels=((3, 1), (5, 2))), start(0.2)
    )


def test_bad_input_is_refused_at_the_call() -> None:
    """What makes no sense is said at once, with the name of the argument."""
    clock, channel = SimClock(), open_channel[int](1)
    recv, send = channel.recv, channel.send
    for quiet in (-1.0, math.nan):
        with pytest.raises(ValueError, match="quiet"):
            debounce(clock, recv, send, quiet=quiet)
    with pytest.raises(TypeError, match="quiet"):
        debounce(clock, recv, send, quiet=None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Context or a Clock"):
        debounce(3, recv, send, quiet=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="source"):
        debounce(clock, send, send, quiet=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dest"):
        debounce(clock, recv, recv, quiet=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="on_drop"):
        debounce(clock, recv, send, quiet=1, on_drop="no")  # type: ignore[arg-type]
