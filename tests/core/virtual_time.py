"""Running a coroutine on an event loop whose own time is virtual, on either backend."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop that jumps to its next timer where it would have waited for it."""

    def __init__(self, resolution: float = 1e-9, early: float = 0.0) -> None:
        self._virtual = 1000.0
        self._early = early
        super().__init__()
        self._clock_resolution = resolution
        select = self._selector.select

        def jump(timeout: float | None = None) -> Any:
            if timeout is not None and timeout > 0:
                self._virtual += max(timeout - self._early, 1e-6)
            return select(0 if timeout is not None else None)

        self._selector.select = jump

    def time(self) -> float:
        return self._virtual

    def lose(self, seconds: float) -> None:
        """Let time pass in which the loop did nothing else."""
        self._virtual += seconds


def run_virtually(
    backend: str, main: Callable[[Callable[[float], None]], Awaitable[None]], early: float = 0.0
) -> None:
    """Run `main(lose)`, where `lose(seconds)` lets time pass that the loop did not use."""
    if backend == "trio":
        import trio
        import trio.testing

        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(main, clock.jump, clock=clock)
    else:
        with asyncio.Runner(loop_factory=lambda: VirtualLoop(early=early)) as runner:
            loop = runner.get_loop()
            assert isinstance(loop, VirtualLoop)
            runner.run(_coroutine(main, loop.lose))


async def _coroutine(
    main: Callable[[Callable[[float], None]], Awaitable[None]], lose: Callable[[float], None]
) -> None:
    await main(lose)
