"""The pace: what the server bears, learned from how it answers: a rate, how many at once, and when not to ask at all.

Nouns: a *refusal* is an answer that says that there was too much: status 429, or 503. One that asks for a pause (429,
or 503 with ``Retry-After``) pauses every task. An attempt's *level* is how many were in flight when it left, itself
included; its *gap* is the time since the one before left.

A refusal does not say whether attempts came too fast or were too many at once. So it is held against the last attempts:
where those at its level or above were mostly refused, and those below were mostly not, there were too many (``width``).
Else, or where attempts as close to each other were refused, too, they came too fast (``aimd``); unless one more at once
was just being tried.

Plain state, changed synchronously; times are in seconds on one steady clock, and are given to it. Nothing here waits.

Invariant: rate and concurrency are never above what the run may use.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from harvester.api.aimd import Aimd
from harvester.api.width import Width
from harvester.model import Borne

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

_REMEMBERED = 64
"""Refusals are explained from so many attempts."""
_CLEAR = 3
"""So many times as many answers as refusals, and there were not too many in flight."""
_NO_CHANCE = 2
"""So many refusals without a pause are not by chance, where nothing new was tried."""
_ABOUT = 1.5
"""Gaps up to so many times as long are about as long."""
_LEAST_GAP_S = 0.005
"""Shorter gaps are not told apart."""


class _Fate(Enum):
    PENDING = 0
    ANSWERED = 1
    REFUSED = 2
    UNKNOWN = 3


@dataclass(slots=True, eq=False)
class Sent:
    """An attempt that has left.

    Attributes:
        number: of its kind: the attempts before it have lower ones.
        kind: attempts of one kind take about as long as each other.
        at: when it left.
        gap: the time since the one before left.
        level: how many were in flight, itself included.
    """

    number: int
    kind: Hashable
    at: float
    gap: float
    level: int
    fate: _Fate = _Fate.PENDING


class Pace:
    """What a run may ask of the server now.

    Args:
        rate: the most permits per second.
        concurrency: the most attempts at once.
        adaptive: whether less than that may be used. A pause that is asked for is kept either way.
        borne: what an earlier run learned.
        backoff_s: the pause after a first refusal that names none; it doubles with each further one in a row.
        backoff_cap_s: the longest such pause.

    Attributes:
        refused: attempts refused so far.
        pauses: pauses so far, those that began within another one not counted.
    """

    def __init__(
        self,
        rate: float,
        concurrency: int,
        *,
        adaptive: bool,
        borne: Borne | None = None,
        backoff_s: float,
        backoff_cap_s: float,
    ) -> None:
        learned = borne if adaptive and borne is not None else Borne()
        self.refused = 0
        self.pauses = 0
        self._adaptive = adaptive
        self._aimd = Aimd(rate, learned.rate)
        self._width = Width(concurrency, max(1, min(concurrency, learned.concurrency or concurrency)))
        self._backoff_s = backoff_s
        self._backoff_cap_s = backoff_cap_s
        self._in_row = 0
        self._paused_until = -math.inf
        self._cut_at = -math.inf
        self._last_at = -math.inf
        self._numbers = 0
        self._in_flight = 0
        self._lately: deque[Sent] = deque(maxlen=_REMEMBERED)

    @property
    def rate(self) -> float:
        """Permits per second, now."""
        return self._aimd.rate

    @property
    def concurrency(self) -> int:
        """Attempts at once, now."""
        return self._width.limit

    @property
    def borne(self) -> Borne:
        """What was learned: where the server bears less than the run may use."""
        aimd, width = self._aimd, self._width
        return Borne(
            rate=aimd.rate if aimd.rate < aimd.most else None,
            concurrency=width.settled if width.settled < width.most else None,
        )

    # --- what becomes of attempts

    def sent(self, kind: Hashable, now: float) -> Sent:
        """An attempt leaves. Exactly one of the following is to be called for it later."""
        self._in_flight += 1
        self._numbers += 1
        sent = Sent(self._numbers, kind, now, now - self._last_at, self._in_flight)
        self._last_at = now
        self._lately.append(sent)
        return sent

    def answered(self, sent: Sent, now: float) -> None:
        """It was let in, and answered."""
        self._end(sent, _Fate.ANSWERED)
        self._in_row = 0
        if self._adaptive:
            self._aimd.answered(sent.gap, now)
            self._width.answered(sent.kind, sent.level, now - sent.at, now)

    def lost(self, sent: Sent) -> None:
        """It failed in a way that says nothing of how much the server bears."""
        self._end(sent, _Fate.UNKNOWN)

    def turned_away(self, sent: Sent, now: float) -> None:
        """It was refused, and no pause was asked for (503): there may have been too many, or the server just failed."""
        self._end(sent, _Fate.REFUSED)
        too_many = self._too_many(sent, 1 if self._width.probing else _NO_CHANCE)
        if too_many is not None:
            self.refused += 1
            self._narrow(too_many, now)

    def throttled(self, sent: Sent, now: float, retry_after_s: float | None) -> float:
        """It was refused, and a pause was asked for; of so many seconds, if that was said.

        Returns:
            How long every task is to pause from now on, in seconds.
        """
        self._end(sent, _Fate.REFUSED)
        self.refused += 1
        self._slow_down(sent, now)
        if now >= self._paused_until:
            self.pauses += 1
            self._in_row += 1
            self._width.interrupted()
        pause_s = retry_after_s
        if pause_s is None:
            pause_s = min(self._backoff_cap_s, self._backoff_s * 2.0 ** min(self._in_row - 1, 30))
        self._paused_until = max(self._paused_until, now + pause_s)
        return pause_s

    def _end(self, sent: Sent, fate: _Fate) -> None:
        self._in_flight -= 1
        sent.fate = fate

    # --- why one was refused

    def _slow_down(self, sent: Sent, now: float) -> None:
        too_many = self._too_many(sent, 1)
        if too_many is not None and (self._width.probing or not self._too_fast(sent)):
            self._narrow(too_many, now)
        elif self._adaptive and sent.at >= self._cut_at and self._aimd.refused(sent.gap):
            self._cut_at = now  # what left before says nothing of how it is since

    def _narrow(self, level: int, now: float) -> None:
        if self._adaptive:
            self._width.refused(level)
            self._cut_at = now

    def _too_many(self, refused: Sent, least: int) -> int | None:
        """The lowest level that explains it: from there on most were refused, so many at least; below it few were."""
        levels = sorted(
            {one.level for one in self._lately if one.fate is _Fate.REFUSED and 1 < one.level <= refused.level}
        )
        for level in levels:
            above = [one for one in self._lately if one.level >= level]
            below = [one for one in self._lately if one.level < level]
            if sum(_refused(above)) < max(least, sum(self._let_in(above, refused))):
                continue
            if sum(self._let_in(below, refused)) >= max(1, _CLEAR * sum(_refused(below))):
                return level
        return None

    def _too_fast(self, refused: Sent) -> bool:
        """Whether its gap may explain it: none so close to the one before was let in more often than refused."""
        about = max(refused.gap, _LEAST_GAP_S) * _ABOUT
        close = [one for one in self._lately if one.gap <= about]
        return sum(self._let_in(close, refused)) < sum(_refused(close))

    @staticmethod
    def _let_in(sents: list[Sent], refused: Sent) -> Iterator[bool]:
        """Those that were answered; and that left earlier and would be refused by now, since refusals come at once."""
        for one in sents:
            earlier = one.fate is _Fate.PENDING and one.number < refused.number
            yield earlier or one.fate is _Fate.ANSWERED


def _refused(sents: list[Sent]) -> Iterator[bool]:
    for one in sents:
        yield one.fate is _Fate.REFUSED


__all__ = ["Pace", "Sent"]
