import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from chrono_core import Clock, SimClock, WallClock
from chrono_core.testing import Trace, assert_one_trace
from chrono_recipes._latest import Latest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.scheduling import rounds, until

# The value and its age


def test_value_is_the_one_that_was_set_last() -> None:
    """`get` returns the newest value, whatever it is, None included."""
    latest = Latest[int | None](1)
    assert latest.get() == 1
    latest.set(2)
    latest.set(None)
    assert latest.get() is None
    assert latest.get(7) is None


def test_value_that_was_never_set_is_an_error_or_the_default() -> None:
    """Without a value, `get` raises and says what to do, or returns the default, None included."""
    latest = Latest[int]()
    with pytest.raises(LookupError, match="never set"):
        latest.get()
    assert latest.get(3) == 3
    assert latest.get(None) is None


def test_version_counts_how_often_it_was_set() -> None:
    """The version is 0 without a value; an initial value and an equal one count."""
    assert Latest[int]().version == 0
    latest = Latest(5)
    assert latest.version == 1
    latest.set(5)
    assert latest.version == 2


async def test_age_is_on_the_clock() -> None:
    """The age is the time on the clock since the last set, or since the initial value came."""
    clock = SimClock(100.0)
    latest = Latest("a", clock=clock)
    await clock.advance(1.5)
    assert latest.age() == 1.5
    latest.set("b")
    assert latest.age() == 0
    await clock.advance(0.25)
    assert latest.age() == 0.25


async def test_age_on_a_real_clock() -> None:
    """Real time does as well."""
    clock: Clock = WallClock()
    latest = Latest(1, clock=clock)
    assert 0 <= latest.age() < 100


def test_age_needs_a_clock_and_a_value() -> None:
    """Without a clock or without a value, there is no age, and the error says so."""
    with pytest.raises(RuntimeError, match="clock="):
        Latest(1).age()
    with pytest.raises(LookupError, match="never set"):
        Latest[int](clock=SimClock()).age()


@pytest.mark.parametrize("clock", [1.0, "clock", object()])
def test_what_is_no_clock_is_refused(clock: Any) -> None:
    """A clock that is none is refused with what was given."""
    with pytest.raises(TypeError, match="clock must be a Clock"):
        Latest(1, clock=clock)


def test_repr_tells_the_value() -> None:
    """The representation shows the value and its version, or that there is none."""
    assert repr(Latest[int]()) == "<Latest, never set>"
    assert repr(Latest("x")) == "<Latest 'x', version 1>"


# Waiting


async def test_changed_waits_for_the_next_set() -> None:
    """`changed` does not return what was there, and returns what is set next."""
    latest = Latest(1)
    seen: list[int] = []

    async def wait() -> None:
        seen.append(await latest.changed())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await rounds()
        assert seen == []
        latest.set(2)
        await until(lambda: seen)
    assert seen == [2]


async def test_changed_returns_the_newest_of_several() -> None:
    """Of several values that were set before the waiter could run, it gets the newest, once."""
    latest = Latest[int]()
    seen: list[tuple[int, int]] = []

    async def wait() -> None:
        seen.append((await latest.changed(), latest.version))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await rounds()
        latest.set(1)
        latest.set(2)
    assert seen == [(2, 2)]


async def test_changed_returns_at_once_what_is_newer_than_what_was_seen() -> None:
    """With the version that was seen last, what was set meanwhile is not missed."""
    latest = Latest[int]()
    latest.set(1)
    assert await latest.changed(0) == 1
    seen = latest.version
    latest.set(2)
    assert await latest.changed(seen) == 2
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(latest.changed, latest.version)
            await rounds()
            scope.cancel()
    assert scope.cancelled_caught


@pytest.mark.parametrize("since", [-1, 2, 7])
async def test_version_that_never_was_is_refused(since: int) -> None:
    """A version of the future, or below 0, is refused with those that there have been."""
    with pytest.raises(ValueError, match=r"from 0 to 1, got"):
        await Latest("x").changed(since)


async def test_waiters_are_woken_in_order() -> None:
    """Those who wait run in the order in which they came, every time."""
    await SimClock().advance(0)  # from now on, trio has an order
    latest = Latest[int]()
    log: list[tuple[int, int]] = []

    async def wait(n: int) -> None:
        seen = 0
        while seen < 3:
            value = await latest.changed(seen)
            seen = latest.version
            log.append((value, n))

    async with anyio.create_task_group() as tasks:
        for n in range(5):
            tasks.start_soon(wait, n)
            await rounds(2)
        for value in range(3):
            latest.set(value)
            await until(lambda: len(log) % 5 == 0)
            await rounds()
    assert log == [(value, n) for value in range(3) for n in range(5)]


async def test_changed_gives_way_where_it_need_not_wait() -> None:
    """A loop over values that are always newer does not keep others from running."""
    latest = Latest(0)
    others = 0

    async def other() -> None:
        nonlocal others
        while True:
            others += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        for n in range(100):
            latest.set(n)
            await latest.changed(latest.version - 1)
        tasks.cancel_scope.cancel()
    assert others >= 90


@pytest.mark.parametrize("order", ["set first", "cancel first"])
async def test_cancelled_wait_loses_nothing(order: str) -> None:
    """What was set in the round of a cancellation is there for the next call."""
    latest = Latest(0)
    got: list[int] = []
    scope = anyio.CancelScope()

    async def wait() -> None:
        seen = latest.version
        with scope:
            got.append(await latest.changed(seen))
        if not got:
            got.append(await latest.changed(seen))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await rounds()
        actions: list[Callable[[], object]] = [lambda: latest.set(1), scope.cancel]
        for action in actions if order == "set first" else reversed(actions):
            action()
    assert got == [1]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_natively_cancelled_wait_leaves_nothing_behind() -> None:
    """`task.cancel` ends the wait, and the next set wakes nobody who has gone."""
    latest = Latest(0)
    task = asyncio.create_task(latest.changed())
    await rounds()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not latest._pulse._waiters
    latest.set(1)
    assert await latest.changed(1) == 1


@given(
    sets=st.lists(st.integers(0, 5), max_size=20),
    work=st.lists(st.integers(0, 5), min_size=1, max_size=5),
    timeouts=st.lists(st.integers(0, 3), min_size=1, max_size=5),
)
async def test_follower_sees_every_value_that_stays_and_the_last(
    sets: list[int], work: list[int], timeouts: list[int]
) -> None:
    """Whoever hands in the version sees versions rise, and the newest in the end."""
    timeouts = [*timeouts, 1]  # one at least that is no cancellation from the start
    clock = SimClock()
    latest = Latest[int](clock=clock)
    seen: list[tuple[int, int]] = []

    async def follow() -> None:
        version = turn = 0
        while version < len(sets):
            with clock.move_on_after(timeouts[turn % len(timeouts)]):
                value = await latest.changed(version)
                version = latest.version
                seen.append((version, value))
            await clock.sleep(work[turn % len(work)] + 0.5)
            turn += 1

    async def change() -> None:
        for n, pause in enumerate(sets):
            await clock.sleep(pause)
            latest.set(n + 1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow)
        tasks.start_soon(change)
        await clock.advance(1000)
        tasks.cancel_scope.cancel()
    assert all(version == value for version, value in seen)
    versions = [version for version, _ in seen]
    assert versions == sorted(set(versions))
    assert versions[-1:] == [len(sets)][: len(sets)]


def test_one_trace() -> None:
    """Several followers, some of whom time out, give one trace on every run and backend."""

    async def program(trace: Trace) -> None:
        clock = SimClock()
        latest = Latest[int](clock=clock)

        async def follow(name: str, work: float) -> None:
            seen = 0
            while seen < 20:
                with clock.move_on_after(0.3) as scope:
                    value = await latest.changed(seen)
                    seen = latest.version
                    trace.write(f"{clock.now()} {name} {value} {latest.age()}")
                if scope.cancelled_caught:
                    trace.write(f"{clock.now()} {name} timed out")
                await clock.sleep(work)

        async def change() -> None:
            for n in range(20):
                await clock.sleep(0.1 * (n % 5))
                latest.set(n)

        async with anyio.create_task_group() as tasks:
            for name, work in {"a": 0.0, "b": 0.1, "c": 0.25}.items():
                tasks.start_soon(follow, name, work)
            tasks.start_soon(change)
            await clock.advance(100)

    assert len(assert_one_trace(program).lines) > 30
