"""The rate as a bucket: when a permit may be issued, exactly. Plain state; whoever uses it brings the time.

It is the leaky bucket as a meter, also known as the generic cell rate algorithm (ITU-T I.371, annex A): each permit
pours one unit in, units leak out at the rate, and a permit may go if the bucket then holds ``burst`` at most.

Invariant: over any window of T seconds at most ``burst + rate x T`` permits are taken, where the rate is the highest
that held in it. A permit that was given back was never taken.
"""

from __future__ import annotations


class Bucket:
    """A bucket that leaks. Times are in seconds on one steady clock.

    Attributes:
        rate: permits per second.
        burst: how many may go at once after a quiet time.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self.rate = rate
        self.burst = burst
        self._holds = 0.0
        self._at = 0.0
        self._before: tuple[float, float] | None = None

    @property
    def ready_at(self) -> float:
        """From when on the next permit may be taken; a time that is past if that is now."""
        return self._at + (self._holds - (self.burst - 1)) / self.rate

    def take(self, now: float) -> None:
        """Takes a permit; not to be called before ``ready_at``."""
        self._before = self._holds, self._at
        self._holds = self._left(now) + 1
        self._at = now

    def give_back(self) -> bool:
        """Undoes the last ``take``, as its permit was not used; whether that can be done, since nothing came after."""
        if self._before is None:
            return False
        self._holds, self._at = self._before
        self._before = None
        return True

    def fill(self, at: float) -> None:
        """Has the bucket full at a time, now or to come: no burst follows, and the first permit waits for its turn."""
        self._holds, self._at, self._before = float(self.burst), at, None

    def change_rate(self, rate: float, now: float) -> None:
        """Leaks at another rate from now on."""
        if now > self._at:
            self._holds, self._at = self._left(now), now
        self._before = None
        self.rate = rate

    def _left(self, now: float) -> float:
        return max(0.0, self._holds - (now - self._at) * self.rate)


__all__ = ["Bucket"]
