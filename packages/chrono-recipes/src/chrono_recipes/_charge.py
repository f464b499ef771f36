"""Real compute that costs simulated time."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Literal, TypeVar, TypeVarTuple, overload

import anyio.to_thread
from chrono_core import Clock, Context, SimClock
from chrono_core.lowlevel import finite

from ._common import check_seconds, clock_of

T = TypeVar("T")
Args = TypeVarTuple("Args")

Cost = Literal["measured"] | float | Callable[[], float]
"""What a computation costs: seconds, or who knows."""


@overload
def charge(
    ctx: Context | Clock,
    fn: Callable[[*Args], Coroutine[Any, Any, T]],
    *args: *Args,
    cost: Cost = "measured",
) -> Coroutine[Any, Any, T]: ...


@overload
def charge(
    ctx: Context | Clock, fn: Callable[[*Args], T], *args: *Args, cost: Cost = "measured"
) -> Coroutine[Any, Any, T]: ...


def charge(
    ctx: Context | Clock, fn: Callable[[*Args], Any], *args: *Args, cost: Cost = "measured"
) -> Coroutine[Any, Any, Any]:
    """Compute something for real, and let that cost simulated time.

    While ``fn`` runs, simulated time is held; then the caller sleeps for the cost, on the clock.
    So a daemon that computes is late for as long as it would be, however fast this machine is.

    A synchronous function runs in a worker thread of anyio's, an asynchronous one in the event
    loop, where it must not wait for simulated time, directly or through another daemon: that is
    held, and it would wait for ever.

    With a cost that is given or drawn, and above 0, a run is reproducible, also where several
    daemons compute at once: the order in which they go on is that of their calls. With
    ``"measured"``, no two runs are the same.

    On any clock but a `SimClock`, the same program runs for real and costs what it costs: nothing
    is added, and a sampler is not called.

    When ``fn`` fails, its error is raised at once, and costs nothing. Cancelled, the call waits for
    a worker thread to finish, and the result is lost.

    Args:
        ctx: the daemon's context, or a clock.
        fn: what to compute.
        args: its arguments.
        cost: what it costs: ``"measured"``, the real seconds that it takes; or so many simulated
            seconds; or a function that is called before ``fn``, and returns them.

    Returns:
        What ``fn`` has returned.

    Raises:
        ValueError: the cost is negative, infinite or NaN, or a misspelt word.
        TypeError: ``fn`` cannot be called; the cost is none of these; ``ctx`` has no clock.
    """
    clock = clock_of(ctx)
    if not callable(fn):
        raise TypeError(f"fn must be a function, got {fn!r}")
    if isinstance(cost, str):
        if cost != "measured":
            raise ValueError(f'cost must be "measured", seconds or a function, got {cost!r}')
    elif not callable(cost):
        _seconds(cost, "cost")
    return _charge(clock, partial(fn, *args), _is_async(fn), cost)


async def _charge(clock: Clock, compute: Callable[[], Any], is_async: bool, cost: Cost) -> Any:
    measure = _measure_async if is_async else _measure
    if not isinstance(clock, SimClock):
        return (await measure(compute))[0]
    with clock.hold():
        if cost == "measured":
            result, seconds = await measure(compute)
            cost_paid = clock.sleep(seconds)
        else:
            # Called now: sleepers that are due at one instant wake in the order of these calls,
            # and not in that in which threads happen to finish.
            cost_paid = clock.sleep(_drawn(cost))
            try:
                result, _ = await measure(compute)
            except BaseException:
                cost_paid.close()
                raise
    # Without an `await` in between, so that time has not moved.
    await cost_paid
    return result


async def _measure(compute: Callable[[], Any]) -> tuple[Any, float]:
    """The result, and the real seconds, without those spent waiting for a thread."""

    def measured() -> tuple[Any, float]:
        began = time.perf_counter()
        result = compute()
        return result, time.perf_counter() - began

    return await anyio.to_thread.run_sync(measured)


async def _measure_async(compute: Callable[[], Awaitable[Any]]) -> tuple[Any, float]:
    began = time.perf_counter()
    result = await compute()
    return result, time.perf_counter() - began


def _is_async(fn: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(
        getattr(fn, "__call__", None)  # noqa: B004 - an object may have an asynchronous one
    )


def _drawn(cost: float | Callable[[], float]) -> float:
    if callable(cost):
        return _seconds(cost(), "what the function for the cost returns")
    return cost


def _seconds(cost: float, what: str) -> float:
    return check_seconds(finite(cost, what), what)
