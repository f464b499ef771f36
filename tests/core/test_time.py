import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from chrono_core._time import NANOSECONDS, Ticks, finite, number, to_ns, to_seconds
from hypothesis import given
from hypothesis import strategies as st

PERIODS = st.one_of(
    st.sampled_from([1e-9, 1 / 3, 0.1, 1, 0.02, 1e-9 * 1.5, 3600.0]),
    st.floats(1e-9, 1e6, allow_subnormal=False),
    st.integers(1, 10**6),
)


@given(st.integers(-(10**15), 10**15))
def test_nanoseconds_survive_seconds(nanoseconds: int) -> None:
    """A count of nanoseconds below a fortnight comes back from seconds as it was."""
    assert to_ns(to_seconds(nanoseconds)) == nanoseconds


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_seconds_are_rounded_to_the_nearest_nanosecond(seconds: float) -> None:
    """The nanoseconds are the nearest to the exact value, but for one float's rounding."""
    error = abs(to_ns(seconds) - Fraction(seconds) * NANOSECONDS)
    assert error <= Fraction(1, 2) + abs(Fraction(seconds)) * NANOSECONDS * Fraction(1, 2**53)


@given(st.integers())
def test_whole_seconds_are_exact(seconds: int) -> None:
    """Whole seconds of any size are exact."""
    assert to_ns(seconds) == seconds * NANOSECONDS


def test_time_of_a_unix_clock_keeps_its_nanoseconds() -> None:
    """A float of today's size becomes the nanoseconds that it stands for exactly."""
    seconds = 1.7e9 + 0.123456789
    assert to_ns(seconds) == round(Fraction(seconds) * NANOSECONDS)


@pytest.mark.parametrize("value", [1, 1.5, Fraction(1, 3), Decimal("0.25"), True, -2])
def test_numbers_are_numbers(value: Any) -> None:
    """Whatever can be a float is taken for its value."""
    assert number(value, "seconds") == float(value)


@pytest.mark.parametrize("value", [None, "1", [1], object()])
def test_what_is_no_number_is_refused(value: Any) -> None:
    """What is no number is refused, naming the argument and the value."""
    with pytest.raises(TypeError, match="seconds") as caught:
        number(value, "seconds")
    assert repr(value) in str(caught.value)


def test_nan_is_refused() -> None:
    """NaN is refused, naming the argument."""
    with pytest.raises(ValueError, match=r"period.*NaN"):
        number(math.nan, "period")


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_must_be_finite_is(value: float) -> None:
    """Infinity is refused where it makes no sense, naming the argument."""
    with pytest.raises(ValueError, match="dt"):
        finite(value, "dt")


def test_million_periods_of_a_third_do_not_drift() -> None:
    """The tick after three million thirds of a second is where a million seconds are."""
    ticks = Ticks(0, 1 / 3)
    assert abs(ticks.at(3_000_000) - 1_000_000 * NANOSECONDS) <= 1
    assert ticks.at(3_000_000) == round(3_000_000 * Fraction(1 / 3) * NANOSECONDS)


@given(start=st.integers(-(10**18), 10**19), period=PERIODS, n=st.integers(0, 10**9))
def test_tick_is_computed_and_not_accumulated(start: int, period: float, n: int) -> None:
    """Tick n is at start + n periods, exactly rounded, however large n is."""
    error = Ticks(start, period).at(n) - start - n * Fraction(period) * NANOSECONDS
    assert abs(error) <= Fraction(1, 2)


@given(start=st.integers(0, 10**12), period=PERIODS, n=st.integers(0, 10**6))
def test_ticks_are_never_the_same(start: int, period: float, n: int) -> None:
    """Each tick is later than the one before."""
    ticks = Ticks(start, period)
    assert ticks.at(n) < ticks.at(n + 1)


@given(
    start=st.integers(-1000, 1000),
    period=st.floats(1e-9, 1e-7),
    n=st.integers(0, 20),
    late=st.integers(-50, 1000),
)
def test_first_tick_from_now_is_that_of_a_search(
    start: int, period: float, n: int, late: int
) -> None:
    """The first tick that is not past is the one that counting them all would find."""
    ticks = Ticks(start, period)
    now = start + late
    expected = n
    while ticks.at(expected) < now:
        expected += 1
    assert ticks.first_from(now, n) == expected


@given(start=st.integers(0, 10**19), period=PERIODS, behind=st.integers(0, 10**19))
def test_first_tick_from_now_is_the_first(start: int, period: float, behind: int) -> None:
    """However far behind, the tick found is not past and the one before it is."""
    ticks = Ticks(start, period)
    n = ticks.first_from(start + behind, 1)
    assert ticks.at(n) >= start + behind
    assert n == 1 or ticks.at(n - 1) < start + behind


def test_nanosecond_period_after_a_year_is_found_at_once() -> None:
    """Finding the next tick takes no loop over those that were missed."""
    year = 365 * 24 * 3600 * NANOSECONDS
    ticks = Ticks(0, 1e-9)
    n = ticks.first_from(year, 1)
    assert ticks.at(n) >= year > ticks.at(n - 1)
