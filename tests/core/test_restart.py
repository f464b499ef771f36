"""Restarts: when a daemon is started again, and when not."""

import math
from collections.abc import Iterator

import anyio
import pytest
from chrono_core import Context, DaemonError, RestartPolicy, SimClock, Supervisor
from chrono_core._restart import Retries
from hypothesis import given
from hypothesis import strategies as st

from .probes import Probe, defy, fail

seconds = st.floats(min_value=1e-3, max_value=1e4)


@st.composite
def policies(draw: st.DrawFn) -> RestartPolicy:
    """Draw a policy that waits."""
    base = draw(seconds)
    return RestartPolicy(
        base=base,
        factor=draw(st.floats(min_value=1, max_value=100)),
        cap=draw(st.floats(min_value=base, max_value=1e9) | st.just(math.inf)),
    )


# The policy as a function


def test_the_defaults_are_those_of_the_contract() -> None:
    """A policy without arguments starts at 0.1 s, doubles, and waits 5 s at most."""
    policy = RestartPolicy()
    assert (policy.base, policy.factor, policy.cap) == (0.1, 2.0, 5.0)
    assert policy.max_retries is policy.reset_after is policy.window is None
    assert [policy.delay(n) for n in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


@given(policies(), st.integers(min_value=0, max_value=40))
def test_delays_are_exponential_up_to_the_cap(policy: RestartPolicy, attempt: int) -> None:
    """Restart n comes ``min(cap, base * factor ** n)`` seconds after the failure."""
    expected = min(policy.cap, policy.base * policy.factor**attempt)
    assert policy.delay(attempt) == pytest.approx(expected)


@given(policies(), st.integers(min_value=0, max_value=10**9))
def test_delays_never_shrink_and_stay_within_base_and_cap(
    policy: RestartPolicy, attempt: int
) -> None:
    """No number of attempts overflows, or makes a wait shorter than the one before."""
    delay = policy.delay(attempt)
    assert policy.base <= delay <= policy.cap
    assert delay <= policy.delay(attempt + 1)


@pytest.mark.parametrize(
    "arguments",
    [
        {"base": -1},
        {"base": math.nan},
        {"base": math.inf},
        {"factor": 0.5},
        {"factor": math.nan},
        {"factor": math.inf},
        {"cap": math.nan},
        {"base": 2, "cap": 1},
        {"max_retries": -1},
        {"reset_after": 0},
        {"reset_after": -1},
        {"reset_after": math.nan},
        {"max_retries": 3, "window": 0},
        {"max_retries": 3, "window": -1},
        {"max_retries": 3, "window": math.nan},
        {"window": 10},
        {"base": 0, "cap": 0},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(arguments: dict[str, float]) -> None:
    """Wrong values are a ValueError when the policy is made."""
    with pytest.raises(ValueError):
        RestartPolicy(**arguments)


def test_a_backoff_of_zero_needs_a_limit() -> None:
    """Without a wait there must be a limit, so that nothing spins."""
    with pytest.raises(ValueError, match="max_retries"):
        RestartPolicy(base=0)
    assert RestartPolicy(base=0, max_retries=3).delay(2) == 0


def test_a_limit_that_the_cap_puts_out_of_reach_is_refused() -> None:
    """Five restarts of five seconds each never fall into a window of ten."""
    with pytest.raises(ValueError, match="window"):
        RestartPolicy(base=5, cap=5, max_retries=5, window=10)
    RestartPolicy(base=5, cap=5, max_retries=2, window=10)


def test_a_policy_is_frozen() -> None:
    """A policy can be shared, since nobody can change it."""
    with pytest.raises(AttributeError):
        RestartPolicy().base = 3


@given(policies(), st.integers(min_value=0, max_value=20), seconds)
def test_a_limit_that_was_accepted_is_reached_by_a_daemon_that_fails_at_once(
    policy: RestartPolicy, limit: int, window: float
) -> None:
    """A daemon that never runs for any time is given up after exactly ``max_retries`` restarts."""
    try:
        limited = RestartPolicy(
            policy.base, policy.factor, policy.cap, max_retries=limit, window=window
        )
    except ValueError:
        return
    retries = Retries(limited)
    now, restarts = 0.0, 0
    while (delay := retries.after_failure(now, ran_for=0)) is not None:
        restarts += 1
        now += delay
        assert restarts <= limit
    assert restarts == limit


@given(
    st.integers(min_value=0, max_value=5),
    st.integers(min_value=1, max_value=50),
    st.lists(st.integers(min_value=0, max_value=30), max_size=60),
)
def test_no_window_sees_more_restarts_than_the_limit(
    limit: int, window: int, pauses: list[int]
) -> None:
    """However the failures are spread, at most ``max_retries`` restarts are within a window."""
    retries = Retries(RestartPolicy(base=0, max_retries=limit, window=window))
    now = 0
    granted: list[int] = []
    for pause in pauses:
        now += pause
        recent = [time for time in granted if time >= now - window]
        if retries.after_failure(now, ran_for=pause) is None:
            assert len(recent) == limit
        else:
            assert len(recent) < limit
            granted.append(now)


@given(policies(), st.integers(min_value=1, max_value=20), seconds)
def test_healthy_running_starts_the_backoff_over(
    policy: RestartPolicy, failures: int, reset_after: float
) -> None:
    """After ``reset_after`` seconds of running, the next wait is the first one again."""
    policy = RestartPolicy(policy.base, policy.factor, policy.cap, reset_after=reset_after)
    retries = Retries(policy)
    for attempt in range(failures):
        assert retries.after_failure(0, ran_for=reset_after / 2) == policy.delay(attempt)
    assert retries.after_failure(0, ran_for=reset_after) == policy.base


def test_healthy_running_starts_the_count_over() -> None:
    """After ``reset_after`` seconds of running, ``max_retries`` counts from nothing."""
    retries = Retries(RestartPolicy(max_retries=1, reset_after=10))
    assert retries.after_failure(0, ran_for=0) is not None
    assert retries.after_failure(20, ran_for=10) is not None
    assert retries.after_failure(20, ran_for=0) is None


# Under a supervisor


async def test_restarts_back_off_on_the_clock() -> None:
    """Each restart comes on its instant of simulated time, doubling up to the cap."""
    clock = SimClock()
    starts = []

    async def note(ctx: Context) -> None:
        starts.append(ctx.clock.now())
        raise ValueError("boom")

    policy = RestartPolicy(base=1, factor=2, cap=5)
    async with Supervisor(clock=clock, on_error="restart", restart=policy) as sup:
        handle = sup.add(Probe(note))
        await clock.advance(20)
        assert starts == [0, 1, 3, 7, 12, 17]
        assert handle.health.restart_count == 5
        await sup.stop()


async def test_an_error_in_on_start_is_retried_too() -> None:
    """A daemon that fails to come up is started again, and ``on_start`` is called anew."""
    clock = SimClock()
    left = [ValueError("one"), ValueError("two")]

    async def come_up(ctx: Context) -> None:
        if left:
            raise left.pop()

    probe = Probe(on_start=come_up)
    async with Supervisor(clock=clock, on_error="restart") as sup:
        handle = sup.add(probe)
        await clock.advance(1)
        assert probe.log == ["start", "run", "stop", "stopped"]
        assert handle.health.restart_count == 2
        assert handle.health.started_at == pytest.approx(0.3)


async def test_a_daemon_in_a_backoff_is_seen_as_restarting() -> None:
    """Between a failure and the restart, the state is ``"restarting"`` with the error kept."""
    clock = SimClock()
    policy = RestartPolicy(base=12.5, cap=12.5)
    async with Supervisor(clock=clock, on_error="restart", restart=policy) as sup:
        handle = sup.add(Probe(fail))
        await clock.advance(1)
        health = handle.health
        assert health.state == "restarting"
        assert health.restart_count == 0
        assert isinstance(health.last_error, ValueError)
        assert health.last_error_phase == "run"
        assert health.waiting_on == "clock until 12.5"
        await sup.stop()


async def test_a_return_is_no_reason_to_restart() -> None:
    """A daemon whose ``run`` returns is done, under any policy."""
    probe = Probe()
    async with Supervisor(clock=SimClock(), on_error="restart") as sup:
        handle = sup.add(probe)
    assert probe.log == ["start", "run", "stop", "stopped"]
    assert handle.health.restart_count == 0


async def test_a_cancellation_is_no_reason_to_restart() -> None:
    """A daemon that cancels its own scope is done, under any policy."""

    async def cancel(ctx: Context) -> None:
        ctx.cancel_scope.cancel()
        await anyio.Event().wait()

    async with Supervisor(clock=SimClock(), on_error="restart") as sup:
        handle = sup.add(Probe(cancel))
    assert handle.health.state == "stopped"
    assert handle.health.restart_count == 0


async def test_the_last_failure_is_raised_when_the_retries_are_used_up() -> None:
    """After ``max_retries`` restarts, the next failure shuts everything down."""
    clock = SimClock()
    other = Probe(defy)
    policy = RestartPolicy(max_retries=3)
    with pytest.raises(ExceptionGroup) as caught:
        async with Supervisor(clock=clock, on_error="restart", restart=policy) as sup:
            sup.add(other)
            handle = sup.add(Probe(fail), name="broken")
            await clock.advance(60)
    (error,) = caught.value.exceptions
    assert isinstance(error, DaemonError)
    assert (error.daemon, error.phase) == ("broken", "run")
    assert isinstance(error.__cause__, ValueError)
    assert handle.health.restart_count == 3
    assert handle.health.state == "failed"
    assert other.log[-1] == "stopped"
    assert clock.now() == pytest.approx(0.7)


async def test_no_retries_at_all_is_a_limit_too() -> None:
    """With ``max_retries=0`` the first failure is final."""
    policy = RestartPolicy(max_retries=0)
    with pytest.RaisesGroup(DaemonError):
        async with Supervisor(clock=SimClock(), on_error="restart", restart=policy) as sup:
            handle = sup.add(Probe(fail))
    assert handle.health.restart_count == 0


async def test_a_backoff_of_zero_stops_at_its_limit() -> None:
    """Restarts without a wait take no time, and end."""
    clock = SimClock()
    policy = RestartPolicy(base=0, max_retries=5)
    with pytest.RaisesGroup(DaemonError):
        async with Supervisor(clock=clock, on_error="restart", restart=policy) as sup:
            handle = sup.add(Probe(fail))
            await clock.advance(1)
    assert handle.health.restart_count == 5
    assert handle.health.stopped_at == 0


async def test_the_backoff_starts_over_after_healthy_running() -> None:
    """A daemon that ran for ``reset_after`` seconds waits only ``base`` for its restart."""
    clock = SimClock()
    starts = []
    runs: Iterator[float] = iter([0, 0, 10, 0, math.inf])

    async def run(ctx: Context) -> None:
        starts.append(ctx.clock.now())
        await ctx.clock.sleep(next(runs))
        raise ValueError("boom")

    policy = RestartPolicy(base=1, factor=2, cap=60, reset_after=10)
    async with Supervisor(clock=clock, on_error="restart", restart=policy) as sup:
        sup.add(Probe(run))
        await clock.advance(100)
        assert starts == [0, 1, 3, 14, 16]
        await sup.stop()


async def test_the_limit_counts_only_the_restarts_of_its_window() -> None:
    """Failures that are far apart never use up the retries; a burst does."""
    clock = SimClock()
    runs: Iterator[float] = iter([20, 20, 20, 0, 0, 0])

    async def run(ctx: Context) -> None:
        await ctx.clock.sleep(next(runs))
        raise ValueError("boom")

    policy = RestartPolicy(base=1, factor=1, cap=1, max_retries=2, window=10)
    with pytest.RaisesGroup(DaemonError):
        async with Supervisor(clock=clock, on_error="restart", restart=policy) as sup:
            handle = sup.add(Probe(run))
            await clock.advance(1000)
    assert handle.health.restart_count == 4
    assert clock.now() == 64


async def test_a_restart_does_not_hold_up_those_behind() -> None:
    """Daemons added later start while one waits to be restarted."""
    clock = SimClock()
    behind = Probe(defy)
    async with Supervisor(clock=clock, on_error="restart") as sup:
        sup.add(Probe(on_start=fail))
        sup.add(behind)
        await clock.advance(0)
        assert behind.log == ["start", "run"]
        await sup.stop()


async def test_the_instance_is_the_same_after_a_restart() -> None:
    """The object is started again, with what it has remembered."""
    clock = SimClock()
    seen = []

    async def run(ctx: Context) -> None:
        seen.append(len(probe.log))
        if len(seen) < 3:
            raise ValueError("boom")

    probe = Probe(run)
    async with Supervisor(clock=clock, on_error="restart") as sup:
        sup.add(probe)
        await clock.advance(1)
    assert seen == [2, 6, 10]
