"""Real time and chance: the thread of the links has no clock to ask, and sessions are random."""

from __future__ import annotations

import secrets
import time


def now() -> float:
    """Seconds since some moment."""
    return time.monotonic()


def nap(seconds: float) -> None:
    """Wait, and let nothing else run in this thread."""
    time.sleep(seconds)


def random_bytes(count: int) -> bytes:
    """Bytes that nobody guesses."""
    return secrets.token_bytes(count)
