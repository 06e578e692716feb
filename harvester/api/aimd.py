"""A rate that finds what the server lets in: additive up, multiplicative down. Plain state, changed synchronously.

After a refusal the rate is cut; then each answer raises it a little. The source is TCP's congestion control (Chiu and
Jain, "Analysis of the increase and decrease algorithms", 1989; RFC 5681, of which is the threshold below which it grows
faster; and that it grows only while it is used is of RFC 7661), with answers in place of acknowledgements.

Invariant: the rate is never above ``most``.
"""

from __future__ import annotations

import math

_GENTLE = 0.9
"""What is left of the rate after a refusal that came after many answers: it was nearly right."""
_STERN = 0.5
"""… and after one that came soon: it was far off."""
_SOON = 20
"""So many answers since the last refusal are not many."""
_RISE_S = 600.0
"""In so many seconds the rate rises from nothing to all that it may be."""
_LEAST_STEPS = 500
"""… but it takes so many answers to double: so that of a low rate no larger part is refused than of a high one."""
_FAST_STEPS = 16
"""It doubles in so many as long as it is below what was let in a moment ago."""
_ABOUT = 1.5
"""An attempt that left within so many of its turns of the one before has used the rate."""
_LEAST_PART = 0.001
_LONGEST_TURN_S = 60.0
"""The rate does not go below one attempt in this time, nor below that part of what it may be."""


class Aimd:
    """A rate in permits per second, of at most ``most``; it begins at ``rate``. Times are in seconds on one clock."""

    def __init__(self, most: float, rate: float | None = None) -> None:
        self.most = most
        self._least = max(most * _LEAST_PART, min(most, 1 / _LONGEST_TURN_S))
        self.rate = min(most, max(most if rate is None else rate, self._least))
        self._threshold = self.rate
        self._answers = 0
        self._answered_at = -math.inf

    def answered(self, gap: float, now: float) -> None:
        """An attempt was answered that left a ``gap`` after the one before."""
        self._answers += 1
        passed_s, self._answered_at = now - self._answered_at, now
        if self.rate == self.most or not self._used(gap):
            return
        if self.rate < self._threshold:
            self.rate = min(self._threshold, self.rate * (1 + 1 / _FAST_STEPS))
            return
        passed_s = min(passed_s, _ABOUT / self.rate)
        self.rate = min(self.most, self.rate + min(self.most * passed_s / _RISE_S, self.rate / _LEAST_STEPS))

    def refused(self, gap: float) -> bool:
        """An attempt was refused that left a ``gap`` after the one before, and since the rate was last cut.

        Returns:
            Whether the rate is cut: where nothing was let in since then, and it stood alone, it says nothing of that.
        """
        if not self._answers and not self._used(gap):
            return False
        self._threshold = self.rate * _GENTLE
        self.rate = max(self._least, self.rate * (_GENTLE if self._answers >= _SOON else _STERN))
        self._answers = 0
        return True

    def _used(self, gap: float) -> bool:
        return gap <= _ABOUT / self.rate


__all__ = ["Aimd"]
