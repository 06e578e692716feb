"""How long a run still takes, by what is left and by what answers have taken so far.

Two things bound a harvest from within: the rate (queries ÷ rate), and the turns (the time that answers take, all
together, ÷ concurrency). Which of them binds is seen from how much of each is used. The one that binds goes on as it
did, retries and pauses included; the other is taken at its most. And one walk's pages go one after another, however
free the others.

An answer takes a latency and so much more a row; both are learned, by least squares over the latest answers, since
large sends go first, and the answers that are left are smaller than those that came.
"""

from __future__ import annotations

from dataclasses import dataclass

_LATEST = 500
"""So many answers, more or less, is the memory of a pace."""
_LEAST_ANSWERS = 5
_FLAT_ROWS = 100.0
"""Answers whose sizes differ by no more than this say nothing of what a row takes."""


@dataclass(slots=True)
class Tempo:
    """What answers have taken lately. Sums in which each earlier one weighs a little less.

    Attributes:
        answers: answers that came.
        attempts: attempts, failed ones included.
        seconds: the time in which they came.
        busy_s: the time that all attempts took, together.
        answered_s: that of those that brought an answer.
    """

    answers: float = 0.0
    attempts: float = 0.0
    seconds: float = 0.0
    busy_s: float = 0.0
    answered_s: float = 0.0
    _rows: float = 0.0
    _rows_rows: float = 0.0
    _rows_s: float = 0.0
    _last_at: float | None = None

    def note_answer(self, now: float, rows: int, took_s: float) -> None:
        """An answer of so many rows came, after so many seconds."""
        self._forget()
        self.answers += 1
        self._note(now, took_s)
        self.answered_s += took_s
        self._rows += rows
        self._rows_rows += rows * rows
        self._rows_s += rows * took_s

    def note_failure(self, now: float, took_s: float) -> None:
        """An attempt failed, after so many seconds."""
        self._note(now, took_s)

    def _note(self, now: float, took_s: float) -> None:
        self.attempts += 1
        self.busy_s += took_s
        self.seconds += 0.0 if self._last_at is None else now - self._last_at
        self._last_at = now

    def _forget(self) -> None:
        keep = 1 - 1 / _LATEST
        self.answers *= keep
        self.attempts *= keep
        self.seconds *= keep
        self.busy_s *= keep
        self.answered_s *= keep
        self._rows *= keep
        self._rows_rows *= keep
        self._rows_s *= keep

    def until(self, now: float) -> float:
        """The time in which the answers came, up to now."""
        return self.seconds + (0.0 if self._last_at is None else now - self._last_at)

    def answer_s(self, queries: float, rows: float) -> float:
        """What so many queries would take that bring so many rows, one after another, in seconds."""
        mean_s, mean_rows = self.answered_s / self.answers, self._rows / self.answers
        variance = self._rows_rows / self.answers - mean_rows**2
        a_row = 0.0
        if variance > _FLAT_ROWS**2:
            a_row = max(0.0, (self._rows_s / self.answers - mean_rows * mean_s) / variance)
        a_query = max(0.0, mean_s - a_row * mean_rows)
        return a_query * queries + a_row * rows


def time_left(
    tempo: Tempo, now: float, *, queries: float, rows: float, longest: float, page_rows: float, rate: float, turns: int
) -> float | None:
    """How long a run still takes, in seconds; None while too little is known.

    Args:
        tempo: what answers have taken lately.
        now: the time on the same clock.
        queries: queries that are left, retries not counted.
        rows: rows that they bring.
        longest: the most of them that belong to one walk, and so go one after another.
        page_rows: rows that each of those brings.
        rate: attempts a second that are allowed.
        turns: attempts that may be in flight at once.
    """
    if queries <= 0:
        return 0.0
    seconds = tempo.until(now)
    if tempo.answers < _LEAST_ANSWERS or seconds <= 0 or tempo.answered_s <= 0:
        return None
    asked_per_s, in_flight = tempo.attempts / seconds, tempo.busy_s / seconds
    if asked_per_s / rate >= in_flight / turns:
        by_rate, by_turns = min(rate, asked_per_s), float(turns)
    else:
        by_rate, by_turns = rate, min(turns, in_flight)
    attempts = queries * tempo.attempts / tempo.answers
    busy_s = tempo.answer_s(queries, rows) * tempo.busy_s / tempo.answered_s
    alone_s = tempo.answer_s(longest, longest * page_rows)
    return max(attempts / by_rate, busy_s / by_turns, alone_s)


__all__ = ["Tempo", "time_left"]
