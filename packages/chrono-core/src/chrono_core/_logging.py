"""Log records that carry the clock's time."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

from ._clock import Clock

DEFAULT = "chrono_core"


class ClockLogger(logging.LoggerAdapter[logging.Logger]):
    """Stamps every record with ``sim_time`` and ``daemon``; the caller's own ``extra`` wins."""

    def __init__(self, logger: logging.Logger, clock: Clock, daemon: str | None = None) -> None:
        super().__init__(logger, {})
        self._clock = clock
        self._daemon = daemon

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the stamp to a record."""
        stamp = {"sim_time": self._now(), "daemon": self._daemon}
        kwargs["extra"] = stamp | dict(kwargs.get("extra") or {})
        return msg, kwargs

    def _now(self) -> float | None:
        try:
            return self._clock.now()
        except Exception:  # whatever anyio raises, by version, where no event loop runs
            # Real time is that of the event loop, which a worker thread has to ask for it. Few
            # do, and everybody would have to wait for the import.
            from anyio import from_thread

            with suppress(RuntimeError):
                return from_thread.run_sync(self._clock.now)
            return None
