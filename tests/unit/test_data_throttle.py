"""Questions are never more frequent than the bucket allows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qtrade.data.throttle import TokenBucket


class Clock:
    """Time that passes by sleeping, and by as much as a test says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def bucket(self, rate: float, burst: int) -> TokenBucket:
        return TokenBucket(rate, burst, sleep=self.sleep, clock=lambda: self.now)


def test_a_burst_goes_through_and_then_the_rate_holds() -> None:
    clock = Clock()
    bucket = clock.bucket(rate=2.0, burst=3)
    for _ in range(3):
        bucket.take()
    assert clock.slept == []
    for _ in range(4):
        bucket.take()
    assert clock.now == 2.0


def test_a_drained_bucket_makes_the_next_one_wait() -> None:
    clock = Clock()
    bucket = clock.bucket(rate=0.5, burst=5)
    bucket.drain()
    bucket.take()
    assert clock.slept == [2.0]


@given(st.floats(0.1, 10), st.integers(1, 6), st.lists(st.floats(0, 3, allow_subnormal=False), min_size=1, max_size=40))
def test_no_stretch_of_time_sees_more_than_the_bucket_allows(rate: float, burst: int, pauses: list[float]) -> None:
    clock = Clock()
    bucket = clock.bucket(rate, burst)
    taken = []
    for pause in pauses:
        clock.now += pause
        bucket.take()
        taken.append(clock.now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + rate * (taken[last] - taken[first]) + 1e-6
