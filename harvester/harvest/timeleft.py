"""How long a run still takes, by what is left and by what answers have taken so far.

Two things bound a harvest from within: the rate (queries ÷ rate), and the turns (the time that answers take, all
together, ÷ concurrency). Which of them binds is seen from how much of each is used. The one that binds goes on as it
did, retries and pauses included; the other is taken at its most. And one walk's pages go one after another, however
free the others.

An answer takes a latency and so much more a row; both are learned, by least squares over the latest answers, since
large sends go first, and the answers that are left are smaller than those that came.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

_LATEST = 500
"""So many answers, more or less, is the memory of a pace."""
_LEAST_ANSWERS = 5
_FLAT_ROWS = 100.0
"""Answers whose sizes differ by no more than this say nothing of what a row takes."""


@dataclass(slots=True)
class Tempo:
    """What has been asked and answered lately. Sums in which each earlier answer weighs a little less.

    Attributes:
        attempts: attempts that were made.
        seconds: the time in which they were.
        turns_s: the turns that were used in that time, times how long each was.
        answers: answers that came.
        answered_s: the time that those took, together.
        rows: rows that they brought.
        failures: attempts that failed.
        failed_s: the time that those took, together.
        at: when something was noted last; None if nothing was.
        in_flight: attempts in flight then.
    """

    attempts: float = 0.0
    seconds: float = 0.0
    turns_s: float = 0.0
    answers: float = 0.0
    answered_s: float = 0.0
    rows: float = 0.0
    failures: float = 0.0
    failed_s: float = 0.0
    at: float | None = None
    in_flight: int = 0
    _rows_rows: float = 0.0
    _rows_s: float = 0.0
    _young: float = 1.0

    def note_attempt(self, now: float, in_flight: int) -> None:
        """An attempt begins; so many are in flight from now on."""
        self._note(now, in_flight)
        self.attempts += 1

    def note_answer(self, now: float, in_flight: int, rows: int, took_s: float) -> None:
        """An answer of so many rows came, after so many seconds."""
        self._note(now, in_flight)
        if not self.answers:  # until the first answer one query goes alone, which says nothing of the pace
            self.attempts = self.seconds = self.turns_s = 0.0
        self._forget()
        self.answers += 1
        self.answered_s += took_s
        self.rows += rows
        self._rows_rows += rows * rows
        self._rows_s += rows * took_s

    def note_failure(self, now: float, in_flight: int, took_s: float) -> None:
        """An attempt failed, after so many seconds."""
        self._note(now, in_flight)
        self.failures += 1
        self.failed_s += took_s

    def _note(self, now: float, in_flight: int) -> None:
        passed = 0.0 if self.at is None else now - self.at
        self.seconds += passed
        self.turns_s += passed * self.in_flight
        self.at, self.in_flight = now, in_flight

    def _forget(self) -> None:
        keep = 1 - 1 / _LATEST
        self.attempts *= keep
        self.seconds *= keep
        self.turns_s *= keep
        self.answers *= keep
        self.answered_s *= keep
        self.failures *= keep
        self.failed_s *= keep
        self.rows *= keep
        self._rows_rows *= keep
        self._rows_s *= keep
        self._young *= keep

    def up_to(self, now: float) -> Tempo:
        """What it would be at ``now``, had nothing more come; this one is left as it is."""
        later = replace(self)
        later._note(now, self.in_flight)  # noqa: SLF001 - its own
        return later

    @property
    def a_row_s(self) -> float:
        """By how much longer an answer takes for each row, in seconds."""
        mean_rows = self.rows / self.answers
        variance = self._rows_rows / self.answers - mean_rows**2
        if variance <= _FLAT_ROWS**2:
            return 0.0
        return max(0.0, (self._rows_s - mean_rows * self.answered_s) / self.answers / variance)

    @property
    def rows_per_s(self) -> float:
        """Rows that come in a second. Of what is in flight half has come, on average, or its like came at first."""
        in_flight = self._young * self.in_flight / 2
        return self.rows * (1 + in_flight / self.answers) / self.seconds

    def answer_s(self, queries: float, rows: float) -> float:
        """What so many queries would take that bring so many rows, one after another, in seconds."""
        a_query_s = max(0.0, (self.answered_s - self.a_row_s * self.rows) / self.answers)
        return a_query_s * queries + self.a_row_s * rows


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
    seen = tempo.up_to(now)
    if seen.answers < _LEAST_ANSWERS or seen.turns_s <= 0 or seen.answered_s <= 0:
        return None
    attempts = queries * (1 + seen.failures / seen.answers)
    turns_s = seen.answer_s(queries, rows) * (1 + seen.failed_s / seen.answered_s)
    last_s = seen.answer_s(1, rows / queries)  # by then all else is asked, or has its turn
    alone_s = seen.answer_s(longest, longest * page_rows)
    asked_per_s, in_flight = seen.attempts / seen.seconds, seen.turns_s / seen.seconds
    if asked_per_s / rate >= in_flight / turns:
        return max(attempts / min(rate, asked_per_s) + last_s, turns_s / turns + last_s, alone_s)
    # What rows take may be the link's doing, whose turns overlap, or the server's: so far as rows take the time, rows
    # go on as they did.
    by_rows = min(1.0, seen.a_row_s * seen.rows / seen.answered_s)
    by_turns_s = turns_s / min(turns, in_flight)
    if by_rows:
        by_turns_s += by_rows * (rows / seen.rows_per_s - by_turns_s)
    return max(attempts / rate + last_s, by_turns_s + last_s, alone_s)


__all__ = ["Tempo", "time_left"]
