"""Asking no more often than is polite: a token bucket."""

from __future__ import annotations

import time
from collections.abc import Callable


class TokenBucket:
    """Lets `burst` questions through at once and then `rate` a second.

    Parameters
    ----------
    rate
        Tokens that drop into the bucket each second.
    burst
        Tokens it holds at most; it starts full.
    sleep, clock
        How to wait some seconds, and how to tell the time in seconds.
    """

    def __init__(
        self,
        rate: float,
        burst: int,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate, self._burst = rate, float(burst)
        self._sleep, self._clock = sleep, clock
        self._tokens, self._at = self._burst, clock()

    def take(self) -> None:
        """Take a token, waiting for it if there is none."""
        self._fill()
        if self._tokens < 1:
            self._sleep((1 - self._tokens) / self._rate)
            self._fill()
            # A clock that stands still while sleeping, as in a test, must not make the next one wait twice.
            self._tokens = max(self._tokens, 1.0)
        self._tokens -= 1

    def drain(self) -> None:
        """Empty the bucket, as when the other side says that it was asked too often."""
        self._fill()
        self._tokens = 0.0

    def _fill(self) -> None:
        now = self._clock()
        self._tokens = min(self._tokens + (now - self._at) * self._rate, self._burst)
        self._at = now
