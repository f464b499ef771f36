"""What likely mistakes are told; docs/mistakes.md has the whole messages."""

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import anyio
import anyio.to_thread
import pytest
from chrono_core import (
    Context,
    Daemon,
    DaemonError,
    SimClock,
    SimulationStalled,
    Supervisor,
    daemon,
    open_channel,
)

from .probes import Probe, obey


async def failure(thing: Any, *args: object) -> str:
    """What the only daemon of a supervisor fails with."""
    with pytest.raises(ExceptionGroup) as caught:
        async with Supervisor() as sup:
            if isinstance(thing, Daemon):
                sup.add(thing)
            else:
                sup.spawn(thing, *args)
    (error,) = caught.value.exceptions
    assert isinstance(error, DaemonError)
    return str(error)


def test_a_class_in_the_place_of_a_clock_is_refused() -> None:
    """It would fail when somebody asks it for the time, which may be at the very end."""
    with pytest.raises(TypeError, match=r"make one, SimClock\(\)"):
        Supervisor(clock=SimClock)


def test_what_has_no_time_is_refused_as_a_clock() -> None:
    """A number of seconds is no clock."""
    with pytest.raises(TypeError, match="clock must be a Clock"):
        Supervisor(clock=3.0)


async def test_a_clock_of_another_event_loop_is_refused_on_entry(anyio_backend: str) -> None:
    """The error comes out of the block as it is, and leaves no task group open."""
    clock = SimClock()
    refused: list[str] = []

    async def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="in use in another event loop") as caught:
            async with Supervisor(clock=clock):
                raise AssertionError("the block does not begin")
        refused.append(str(caught.value))

    async with Supervisor(clock=clock):
        await anyio.to_thread.run_sync(lambda: anyio.run(elsewhere, backend=anyio_backend))
    assert len(refused) == 1


class Synchronous(Daemon):
    def __init__(self, hook: str) -> None:
        setattr(self, hook, lambda ctx: 3)

    async def run(self, ctx: Context) -> None:
        pass


@pytest.mark.parametrize("hook", ["on_start", "run", "on_stop"])
async def test_a_hook_that_is_not_async_is_named(hook: str) -> None:
    """It says which one, and that it must be async."""
    message = await failure(Synchronous(hook))
    assert message.startswith(
        f"daemon 'Synchronous' failed in {hook}: TypeError: Synchronous.{hook}() returned 3, which "
        "cannot be awaited: make it an async function"
    )


async def ticks(ctx: Context) -> AsyncIterator[int]:
    yield 1


async def no_context() -> None: ...


async def two(ctx: Context, first: int) -> None: ...


async def raises_type_error(ctx: Context) -> None:
    two()


def test_a_generator_is_no_function_of_a_daemon() -> None:
    """An async function with `yield` cannot be awaited."""
    with pytest.raises(TypeError, match=r"async def ticks\(ctx, ...\)`, without `yield`"):
        daemon(ticks)


def test_a_daemon_without_a_context_cannot_be_decorated() -> None:
    """The first parameter is missed where the function is written, not where it is called."""
    with pytest.raises(TypeError, match=r"first parameter .* `async def no_context\(ctx, ...\)`"):
        daemon(no_context)


@pytest.mark.parametrize(
    ("function", "args", "reason"),
    [
        (no_context, (), "daemon no_context(): too many positional arguments; the first is the"),
        (two, (), "daemon two(ctx, first): missing a required argument: 'first'; the first is the"),
        (two, (1, 2), "daemon two(ctx, first): too many positional arguments; the first is the"),
    ],
)
async def test_wrong_arguments_of_a_spawned_function_are_explained(
    function: Callable[..., Any], args: tuple[int, ...], reason: str
) -> None:
    """It says what the function takes, and who gives the context."""
    assert reason in await failure(function, *args)


async def test_another_type_error_of_a_function_passes_as_it_is() -> None:
    """Only the call of the function itself is explained."""
    message = await failure(raises_type_error)
    assert message.endswith("two() missing 2 required positional arguments: 'ctx' and 'first'")


@pytest.mark.parametrize("call", ["add", "spawn"])
def test_a_coroutine_is_refused_and_closed(call: str) -> None:
    """It is a coroutine no longer, so that Python has nothing to add about it."""
    with pytest.raises(TypeError, match=rf"{call}\(\) got a coroutine of no_context: .*spawn\("):
        getattr(Supervisor(), call)(no_context())


def test_a_daemon_is_not_spawned() -> None:
    """It says what to do with it instead."""
    with pytest.raises(TypeError, match=r"<daemon 'two'> is a daemon already: pass it to add\(\)"):
        Supervisor().spawn(daemon(two)(1))


def test_a_single_end_is_not_a_list_of_ends() -> None:
    """`owns` takes several, and shows how."""
    with pytest.raises(TypeError, match=r"owns takes a list of ends, such as \[channel.send\]"):
        Supervisor().add(Probe(obey), owns=open_channel[int]().send)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("advance", lambda clock: clock.advance(1)),
        ("advance_to", lambda clock: clock.advance_to(1)),
        ("step", lambda clock: clock.step()),
        ("run_until", lambda clock: clock.run_until(list, limit=1)),
    ],
)
def test_a_drive_that_is_never_awaited_is_named(
    name: str, call: Callable[[SimClock], Coroutine[Any, Any, object]]
) -> None:
    """What Python then warns of is the call that was written."""
    with pytest.warns(RuntimeWarning, match=rf"coroutine 'SimClock\.{name}' was never awaited"):
        call(SimClock())


async def test_daemons_that_no_time_can_help_are_told_apart() -> None:
    """Where nothing sleeps, it is not time that is missing, but the end of a channel."""
    inbox = open_channel[int](name="inbox")

    async def reader(ctx: Context) -> None:
        await inbox.recv.receive()

    async def sleeper(ctx: Context) -> None:
        await ctx.clock.sleep(1)

    for function, advice in ((reader, "close the channels"), (sleeper, "drive the clock")):
        with pytest.raises(SimulationStalled, match=advice):
            async with Supervisor(clock=SimClock()) as sup:
                sup.spawn(function)
