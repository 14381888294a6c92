"""How often a user may do something: a bucket of tokens each, with bounded memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

_MOST = 100_000


class Limiter:
    """Lets each user do `burst` things at once, and one more every `seconds` after that.

    Args:
        burst: The size of a bucket.
        seconds: How long one token takes to come back.
        clock: Tells the time in seconds.
    """

    def __init__(
        self, burst: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst = burst
        self._seconds = seconds
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()  # when a user's bucket is full again

    def wait(self, user: str) -> float:
        """Take a token; return 0, or how many seconds there will be none."""
        now = self._clock()
        full_at = max(self._full_at.get(user, now), now)
        over = full_at + self._seconds - now - self._burst * self._seconds
        if over > 1e-9:
            return over
        self._full_at[user] = full_at + self._seconds
        self._full_at.move_to_end(user)
        while len(self._full_at) > _MOST:
            self._full_at.popitem(last=False)
        return 0.0
