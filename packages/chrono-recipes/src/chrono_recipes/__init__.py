"""Patterns over chrono-core that lose nothing."""

from ._align import Aligned, align
from ._batcher import Pending, batcher_loop, submit
from ._charge import charge
from ._debounce import debounce
from ._dispatcher import host_async_dispatcher
from ._drops import Drops
from ._exceptions import (
    BatcherStopped,
    ReceiverEnded,
    RecipeError,
    UnknownKey,
    WrongBatchSize,
)
from ._latest import Latest
from ._latest_within import latest_within
from ._load_balance import load_balance
from ._lossy import CoalesceSend, DropNewestSend, DropOldestSend
from ._merge import merge
from ._periodic import Tick, TickStats, cooperative_every, periodic
from ._rate_limit import rate_limit
from ._reorder import reorder
from ._route import route
from ._run_until_signalled import run_until_signalled
from ._select import select
from ._supervisor_host import SupervisorHost
from ._tee import tee
from ._throttle import throttle
from ._timeout_items import timeout_items
from ._window import window
from ._worker_pool import Done, worker_pool

__all__ = [
    "Aligned",
    "BatcherStopped",
    "CoalesceSend",
    "Done",
    "DropNewestSend",
    "DropOldestSend",
    "Drops",
    "Latest",
    "Pending",
    "ReceiverEnded",
    "RecipeError",
    "SupervisorHost",
    "Tick",
    "TickStats",
    "UnknownKey",
    "WrongBatchSize",
    "align",
    "batcher_loop",
    "charge",
    "cooperative_every",
    "debounce",
    "host_async_dispatcher",
    "latest_within",
    "load_balance",
    "merge",
    "periodic",
    "rate_limit",
    "reorder",
    "route",
    "run_until_signalled",
    "select",
    "submit",
    "tee",
    "throttle",
    "timeout_items",
    "window",
    "worker_pool",
]
