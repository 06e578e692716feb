"""How many attempts at once: what the server bears, by its refusals, and by latency that grows without throughput.

A refused attempt says that it was one too many; after many answers one more is tried, ever more rarely where that is
refused again. Where nothing is refused, a server that works on a few at a time has the others stand in line: then each
takes longer, and as many come back as before. As in TCP Vegas (Brakmo and Peterson, 1995) and Netflix's
concurrency-limits (its ``VegasLimit`` and ``Gradient2Limit``), latency is compared with what it is when little is in
flight. Latencies of this API differ by themselves, more than those models allow for; so the comparison only raises a
suspicion, and a trial decides: with fewer at once it stays at fewer if as many answers came in the same time, and with
more at more if more came.

Plain state, changed synchronously; times are in seconds on one steady clock. Nothing is changed while less is in flight
than may be: then it is not this that holds the run up.

Invariant: the limit goes from 1 to ``most``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

_PATIENCE = 8
"""So many answers at the limit, and one more is tried; twice as many each time that it is refused, half as many where
it is not: answers on their way back let one more in now and then."""
_PATIENCE_CAP = 512
_LEAST_WINDOW = 40
"""Throughput is measured over so many answers, or so many times as are in flight."""
_WINDOW_TIMES = 6
_FULL_PART = 0.85
"""An attempt that left with so much of the limit in flight left when it was reached."""
_FULL_ANSWERS = 0.8
"""Such a part of the answers has to be of those."""
_STEP = 0.75
"""A trial changes the limit by this factor."""
_SAME = 0.9
"""Throughput that is left with fewer at once, if more bring nothing."""
_MORE = 1.12
"""Throughput with more at once, if that brings something."""
_STRETCHED = 1.75
"""So many times as long as when little was in flight, and latency is suspicious."""
_FORGET = 1 / 16
_TELLING = 3
_CALM = 2
"""So many windows without a trial after one that failed; twice as many after the next."""
_CALM_CAP = 64


@dataclass(slots=True)
class _Usual:
    """What an attempt of a kind takes while little is in flight: the mean, and of how many."""

    seconds: float = 0.0
    attempts: int = 0

    def note(self, seconds: float) -> None:
        self.attempts += 1
        self.seconds += (seconds - self.seconds) * max(_FORGET, 1 / self.attempts)


@dataclass(slots=True)
class _Window:
    """Answers in a row under one limit; the first ones, which left under another, are skipped."""

    to_skip: int
    since: float = 0.0
    answers: int = 0
    full: int = 0
    stretch: float = 0.0
    compared: int = 0

    @property
    def suspicious(self) -> bool:
        """Whether these took much longer than when little was in flight."""
        return self.compared >= _LEAST_WINDOW // 2 and self.stretch >= _STRETCHED


@dataclass(frozen=True, slots=True)
class _Trial:
    """A limit that is tried: the one before it, and the answers per second that its own are held against."""

    before: int
    per_s: float


@dataclass(slots=True)
class Width:
    """How many attempts may be in flight.

    Attributes:
        most: the most that it may ever be.
        limit: how many it is now; also what it begins with.
        probing: whether it is one more than was borne before.
    """

    most: int
    limit: int
    probing: bool = False
    _patience: int = _PATIENCE
    _refused_at: int = sys.maxsize  # the level that was refused last
    _borne: int = 0  # answers at the limit since it last changed
    _in_line: bool = False  # the limit was lowered since attempts stood in line
    _usual: dict[Hashable, _Usual] = field(default_factory=dict)
    _window: _Window = field(default_factory=lambda: _Window(0))
    _trial: _Trial | None = None
    _calm: int = 0
    _calm_next: int = _CALM

    @property
    def settled(self) -> int:
        """The limit, or what it was before another began to be tried."""
        if self._trial is not None:
            return self._trial.before
        return self.limit - self.probing

    def refused(self, level: int) -> None:
        """An attempt was refused because there were as many as ``level`` in flight, itself included."""
        if level > self.limit:
            return
        if level >= self._refused_at:
            self._patience = min(_PATIENCE_CAP, self._patience * 2)
        self._refused_at = level
        self._in_line, self._trial = False, None
        self._set(max(1, level - 1))

    def answered(self, kind: Hashable, level: int, seconds: float, now: float) -> None:
        """An attempt was answered.

        Args:
            kind: attempts of one kind take about as long as each other.
            level: how many were in flight when it left, itself included.
            seconds: how long it took.
            now: the time.
        """
        usual = self._usual.setdefault(kind, _Usual())
        if level <= max(1, self.limit // 2):
            usual.note(seconds)
        full = level >= self.limit * _FULL_PART
        self._borne += level >= self.limit
        self._measure(usual, seconds, now, full=full)
        if self._borne >= self._patience and not self._in_line and self._trial is None:
            if self.probing:
                self._patience = max(_PATIENCE, self._patience // 2)
            if self.limit < self.most:
                self._set(self.limit + 1)
                self.probing = True
            else:
                self.probing = False

    def interrupted(self) -> None:
        """A pause: what is measured over time begins anew."""
        self._window = _Window(self.limit)

    def _set(self, limit: int) -> None:
        self.limit = limit
        self.probing = False
        self._borne = 0
        self._window = _Window(limit)

    # --- latency that grows without throughput

    def _measure(self, usual: _Usual, seconds: float, now: float, *, full: bool) -> None:
        window = self._window
        if window.to_skip > 0:
            window.to_skip -= 1
            window.since = now
            return
        window.answers += 1
        window.full += full
        if full and usual.attempts >= _TELLING and usual.seconds > 0:
            window.compared += 1
            window.stretch += (seconds / usual.seconds - window.stretch) / window.compared
        if window.answers < max(_LEAST_WINDOW, _WINDOW_TIMES * self.limit) or now <= window.since:
            return
        self._window = _Window(0, now)
        if window.full >= _FULL_ANSWERS * window.answers:
            self._judge(window, window.answers / (now - window.since))
        elif self._trial is not None:  # there is not enough work to tell
            self._set(self._trial.before)
            self._trial = None

    def _judge(self, window: _Window, per_s: float) -> None:
        """A window is over, in which so many answers came per second."""
        trial, self._trial = self._trial, None
        self._calm = max(0, self._calm - 1)
        if trial is not None and trial.before < self.limit:  # more were tried
            if per_s >= _MORE * trial.per_s:
                self._calm_next = _CALM
                self._try(self.limit / _STEP, per_s)
            else:
                self._fail(trial)
        elif trial is not None and per_s < _SAME * trial.per_s:
            self._fail(trial)
        elif window.suspicious and self.limit > 1 and (trial is not None or not self._calm):
            self._in_line = self._in_line or trial is not None
            self._try(self.limit * _STEP, per_s if trial is None else trial.per_s)
        elif trial is not None:
            self._in_line, self._calm_next = True, _CALM
        elif self._in_line and self.limit < self.most and not self._calm:
            self._try(self.limit / _STEP, per_s)

    def _try(self, limit: float, per_s: float) -> None:
        """Tries another limit, if there is one; ``per_s`` is the throughput to hold it against."""
        limit = int(limit) if limit < self.limit else min(self.most, int(limit) + 1)
        if limit == self.limit:
            self._in_line = False
            return
        before = self.limit
        self._set(max(1, limit))
        self._trial = _Trial(before, per_s)

    def _fail(self, trial: _Trial) -> None:
        """Back to where it was, for a while."""
        self._set(trial.before)
        self._calm = self._calm_next
        self._calm_next = min(_CALM_CAP, self._calm_next * 2)


__all__ = ["Width"]
