"""The traces of the programs of the corpus, and their hashes."""

from __future__ import annotations

import gc
import hashlib
import logging
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from chrono_core import SimClock, simulate

from .corpus import Program


def trace_of(program: Program, backend: str, seed: int | None = None) -> list[str]:
    """What a program writes down when it is simulated."""
    lines: list[str] = []
    clock = SimClock()
    simulate(
        program.run,
        lambda event: lines.append(str(event)),
        clock,
        clock=clock,
        backend=backend,
        seed=seed,
    )
    return lines


def digest(lines: Iterable[str]) -> str:
    """The SHA-256 of a trace."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


class Heap:
    """Lays out the heap anew, and has the collector run at other moments, whenever asked to."""

    MOST = 2_000  # objects kept

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._kept: list[object] = []

    def perturb(self) -> None:
        chance = self._random
        for _ in range(chance.randrange(400)):
            size = chance.randrange(1, 600)
            self._kept.append(chance.choice([tuple, list, set, dict.fromkeys])(range(size)))
        chance.shuffle(self._kept)
        del self._kept[chance.randrange(self.MOST) :]
        gc.set_threshold(chance.randrange(20, 2_000), chance.randrange(2, 15))
        if chance.random() < 0.25:
            gc.collect()


@contextmanager
def perturbed_heap(seed: int = 0) -> Iterator[Heap]:
    """A heap to perturb between runs; afterwards the collector is as it was."""
    thresholds = gc.get_threshold()
    try:
        yield Heap(seed)
    finally:
        gc.set_threshold(*thresholds)


@contextmanager
def quiet() -> Iterator[None]:
    """Daemons that fail on purpose need not be heard of."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
