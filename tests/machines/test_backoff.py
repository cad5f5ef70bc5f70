"""How long to wait, and how often."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controller.machines.backoff import Backoff, TokenBucket


def test_delay_doubles_with_each_failure_up_to_the_cap() -> None:
    """The first failure costs `base`, each further one twice as much, never more than `cap`."""
    backoff = Backoff(base=0.05, cap=1.0)

    assert [backoff.delay(n, 1.0) for n in range(6)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0]


def test_delay_is_finite_after_any_number_of_failures() -> None:
    """A key that fails for years does not overflow."""
    assert Backoff().delay(10**9, 1.0) == 30.0


def test_jitter_is_a_factor_also_at_the_cap() -> None:
    """Many keys at the cap still do not come back at once."""
    assert Backoff(cap=30.0).delay(100, 0.8) == 24.0


def test_bucket_gives_the_burst_at_once_and_then_the_rate() -> None:
    """Three at once, then one each half second."""
    bucket = TokenBucket(rate=2.0, burst=3)

    assert [bucket.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.wait(10.0) == 0.5
    assert bucket.take(10.5)
    assert not bucket.take(10.5)


def test_bucket_fills_up_to_its_burst_only() -> None:
    """A long silence buys no more than the burst."""
    bucket = TokenBucket(rate=1.0, burst=2)
    bucket.take(0.0)

    assert [bucket.take(1000.0) for _ in range(3)] == [True, True, False]


def test_refused_take_costs_nothing() -> None:
    """Asking in vain does not push the next token away."""
    bucket = TokenBucket(rate=1.0, burst=1)
    bucket.take(0.0)
    for _ in range(100):
        assert not bucket.take(0.5)

    assert bucket.take(1.0)


@given(st.floats(0.1, 1000.0), st.integers(1, 20), st.lists(st.floats(0.0, 5.0), max_size=60))
def test_waiting_what_wait_says_is_always_enough(rate: float, burst: int, gaps: list[float]) -> None:
    """take(now + wait(now)) succeeds, and no window holds more than burst plus rate times its length."""
    bucket, now, taken = TokenBucket(rate, burst), 1e6, list[float]()
    for gap in gaps:
        now += gap
        now += bucket.wait(now)
        assert bucket.take(now)
        taken.append(now)

    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + rate * (taken[last] - taken[first]) + 0.01
