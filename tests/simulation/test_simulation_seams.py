"""The private names that a simulation stands on, one by one."""

import asyncio
import builtins
import warnings
from typing import Any

import anyio
import anyio._backends._asyncio as anyio_asyncio
import pytest
from anyio._backends._asyncio import AsyncIOBackend, CancelScope, TaskGroup
from chrono_core import simulate
from chrono_core._backends import _anyio_asyncio
from chrono_core._backends._shim import Backward, Ordered, OrderedSet, Patch, Shim, ordered
from chrono_core.testing import available_backends

with_trio = pytest.mark.skipif("trio" not in available_backends(), reason="trio is not installed")


def shims() -> list[Shim]:
    found = [_anyio_asyncio.shim]
    if "trio" in available_backends():
        from chrono_core._backends import _virtual_trio

        found.append(_virtual_trio._shim)
    return found


def patches() -> list[Patch]:
    return [patch for shim in shims() for patch in shim._patches]


def values() -> list[object]:
    return [vars(patch.owner).get(patch.name) for patch in patches()]


async def nap() -> None:
    await anyio.sleep(1)


async def fail() -> None:
    raise ValueError


@pytest.mark.parametrize("number", range(len(patches())))
def test_each_name_is_where_it_is_looked_for(number: int) -> None:
    """A new version of a library that has moved it fails here first."""
    assert patches()[number].possible, patches()[number].name


@pytest.mark.parametrize("backend", available_backends())
def test_names_are_replaced_while_a_simulation_runs_and_no_longer(backend: Any) -> None:
    """However it ends."""
    before = values()

    async def look() -> None:
        own = _anyio_asyncio.shim if backend == "asyncio" else shims()[1]
        for patch in own._patches:
            assert vars(patch.owner)[patch.name] is not before[patches().index(patch)]

    simulate(look, backend=backend)
    assert values() == before
    with pytest.raises(ValueError):
        simulate(fail, backend=backend)
    assert values() == before
    with pytest.raises(TimeoutError):
        simulate(nap, limit=0.5, backend=backend)
    assert values() == before
    assert "set" not in vars(anyio_asyncio)
    assert anyio_asyncio.__builtins__["set"] is builtins.set  # type: ignore[index]


@pytest.mark.parametrize("number", range(len(patches())))
def test_a_missing_name_is_warned_of(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Loudly, and the simulation runs without it."""
    patch = patches()[number]
    shim = next(shim for shim in shims() if patch in shim._patches)
    gone = Patch(None, patch.name, patch.replace, patch.promise)
    left = tuple(gone if one is patch else one for one in shim._patches)
    monkeypatch.setattr(shim, "_patches", left)
    backend: Any = "asyncio" if shim is _anyio_asyncio.shim else "trio"
    with pytest.warns(RuntimeWarning, match=f"no '{patch.name}' any more") as caught:
        simulate(nap, backend=backend)
    assert patch.promise in str(caught[0].message)


def test_a_shim_holds_until_its_last_user_has_gone() -> None:
    """Two simulations at once share it."""

    class Owner:
        name = 1

    shim = Shim("nobody", [Patch(Owner, "name", lambda before: before + 1, "nothing")])
    shim.begin()
    shim.begin()
    assert Owner.name == 2
    shim.end()
    assert Owner.name == 2
    shim.end()
    assert Owner.name == 1


def test_other_event_loops_are_left_alone_meanwhile() -> None:
    """What is put in place does there what was there before."""
    _anyio_asyncio.shim.begin()
    try:

        async def main() -> list[int]:
            done = []

            async def work(n: int) -> None:
                await anyio.lowlevel.checkpoint()
                await anyio.sleep(0)
                with anyio.move_on_after(0.001):
                    await anyio.sleep_forever()
                done.append(await anyio.to_thread.run_sync(lambda: n))

            async with anyio.create_task_group() as tasks:
                for n in range(5):
                    tasks.start_soon(work, n)
            with anyio.CancelScope() as scope:
                scope.cancel()
                await anyio.lowlevel.checkpoint_if_cancelled()
                raise AssertionError
            await anyio.wait_all_tasks_blocked()
            return sorted(done)

        assert anyio.run(main) == list(range(5))
    finally:
        _anyio_asyncio.shim.end()


def test_the_callbacks_of_anyio_are_known() -> None:
    """By these, the rounds of asyncio are made equal to those of trio."""
    assert _anyio_asyncio.TASK_DONE is not None
    assert _anyio_asyncio.DELIVER is CancelScope._deliver_cancellation
    assert "self" in _anyio_asyncio.TASK_DONE.co_freevars
    assert vars(TaskGroup())["_on_completed_fut"] is None
    assert isinstance(vars(AsyncIOBackend)["checkpoint"], classmethod)


def test_the_event_loop_of_asyncio_is_as_expected() -> None:
    """Its queue, its selector, and the fields of its handles."""
    loop = asyncio.SelectorEventLoop()
    try:
        for name in ("_ready", "_selector", "_process_events", "_run_once", "_stopping", "_closed"):
            assert hasattr(loop, name), name
        handle = loop.call_soon(int)
        for name in ("_callback", "_args", "_context", "_cancelled", "_loop", "_repr"):
            assert hasattr(handle, name), name
        assert loop._selector._fd_to_key  # type: ignore[attr-defined]
    finally:
        loop.close()


@with_trio
def test_the_runner_of_trio_is_as_expected() -> None:
    """Its queue, its deadlines, and how it counts threads."""
    import trio
    from chrono_core._backends import _virtual_trio

    async def main() -> None:
        task = trio.lowlevel.current_task()
        runner = task._runner
        for name in ("runq", "deadlines", "clock", "waiting_for_idle", "entry_queue", "is_guest"):
            assert hasattr(runner, name), name
        for name in ("add", "remove", "next_deadline", "expire"):
            assert hasattr(runner.deadlines, name), name
        assert hasattr(task, "_abort_func")
        assert hasattr(task, "_attempt_abort")
        await trio.to_thread.run_sync(int)
        assert runner._locals[_virtual_trio._THREADS].count == 0

    trio.run(main)


def test_ordered_sets_are_in_order() -> None:
    """They do what sets do, in the order in which things came."""
    numbers = [5, 3, 9, 1]
    for kind in (OrderedSet, ordered):
        found = kind(numbers)
        found.add(7)
        found.add(5)
        found.remove(3)
        found.discard(100)
        assert list(found) == [5, 9, 1, 7]
        assert 9 in found
        assert 3 not in found
        assert len(found) == 4
        with pytest.raises(KeyError):
            found.remove(3)
    backward = Backward()
    for number in numbers:
        backward.add(number)
    assert list(backward) == numbers[::-1]
    assert not Ordered()
    real = OrderedSet(numbers)
    assert isinstance(real, set)
    assert real == set(numbers)
    assert real | {2} == {1, 2, 3, 5, 9}
    real.update([8], [6])
    real.difference_update([5])
    assert list(real.copy()) == [3, 9, 1, 8, 6]
    assert real.pop() == 3
    real.clear()
    with pytest.raises(KeyError):
        real.pop()


def test_no_simulation_warns_for_nothing() -> None:
    """With the libraries as they are, nothing is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for backend in available_backends():
            simulate(nap, backend=backend)  # type: ignore[arg-type]
