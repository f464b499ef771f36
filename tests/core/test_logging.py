"""What the records carry that a supervisor and its daemons log."""

import logging

import anyio.to_thread
import pytest
from chrono_core import Clock, Context, SimClock, Supervisor, WallClock

from .probes import Probe, fail, obey


@pytest.fixture(params=["wall", "sim"])
def clock(request: pytest.FixtureRequest) -> Clock:
    return WallClock() if request.param == "wall" else SimClock()


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("chrono_core", "robot"):
        caplog.set_level(logging.DEBUG, logger=name)


async def test_records_are_stamped_with_the_time_of_the_clock(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every record of ``ctx.logger`` has the ``sim_time`` of its instant, whatever its level."""
    clock = SimClock()

    async def log(ctx: Context) -> None:
        ctx.logger.debug("one")
        await ctx.clock.sleep(1.5)
        ctx.logger.warning("two")

    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(log), name="a")
        await clock.advance(2)
    assert [(record.message, record.sim_time) for record in caplog.records] == [
        ("one", 0.0),
        ("two", 1.5),
    ]


async def test_the_logger_is_named_after_the_package(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no logger is given, daemons and supervisor log to ``chrono_core``."""

    async def log(ctx: Context) -> None:
        ctx.logger.info("from the daemon")

    async with Supervisor(clock=clock) as sup:
        sup.logger.info("from the supervisor")
        sup.add(Probe(log))
    assert [record.name for record in caplog.records] == ["chrono_core"] * 2


async def test_a_logger_of_ones_own_is_used_for_everything(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Records of daemons, and what the supervisor says of their errors, go to the one given."""

    async def log(ctx: Context) -> None:
        ctx.logger.info("from the daemon")
        await fail(ctx)

    logger = logging.getLogger("robot")
    async with Supervisor(clock=clock, logger=logger, on_error="ignore") as sup:
        sup.logger.info("from the supervisor")
        sup.add(Probe(log))
    assert len(caplog.records) == 3
    assert {record.name for record in caplog.records} == {"robot"}


async def test_the_callers_own_extra_is_kept(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """``extra`` of a call is in the record, beside the stamp."""

    async def log(ctx: Context) -> None:
        ctx.logger.info("seen", extra={"frame": 7})

    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(log))
    (record,) = caplog.records
    assert record.frame == 7
    assert isinstance(record.sim_time, float)


async def test_the_callers_extra_is_not_changed(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The stamp is not written into the caller's dictionary."""
    extra = {"frame": 7}

    async def log(ctx: Context) -> None:
        ctx.logger.info("seen", extra=extra)

    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(log))
    assert len(caplog.records) == 1
    assert extra == {"frame": 7}


async def test_records_say_where_they_were_logged(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The line is the caller's own, not one of the adapter."""

    async def log(ctx: Context) -> None:
        ctx.logger.info("here")

    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(log))
    (record,) = caplog.records
    assert record.funcName == "log"
    assert record.pathname == __file__


async def test_exceptions_can_be_logged(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """``ctx.logger.exception`` keeps the traceback, and takes arguments to format."""

    async def log(ctx: Context) -> None:
        try:
            await fail(ctx)
        except ValueError:
            ctx.logger.exception("gone %s", "wrong")

    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(log))
    (record,) = caplog.records
    assert record.getMessage() == "gone wrong"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)


async def test_records_from_a_worker_thread_are_stamped_too(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A daemon may hand its logger to a thread."""

    async def log(ctx: Context) -> None:
        await anyio.to_thread.run_sync(ctx.logger.info, "from a thread")

    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(log))
    (record,) = caplog.records
    assert record.getMessage() == "from a thread"
    assert isinstance(record.sim_time, float)


async def test_the_reports_of_the_supervisor_are_stamped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What is logged of an error carries the instant at which it happened."""
    clock = SimClock()

    async def fail_later(ctx: Context) -> None:
        await ctx.clock.sleep(3)
        await fail(ctx)

    async with Supervisor(clock=clock, on_error="ignore") as sup:
        sup.add(Probe(fail_later))
        await clock.advance(5)
    (record,) = caplog.records
    assert record.sim_time == 3


async def test_a_run_without_errors_logs_nothing(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Starting and stopping is not worth a warning."""
    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(obey))
        await sup.wait_all_started()
        await sup.stop()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
