"""What is still to be asked: queries and rows, of slices that have been begun and of those that have not.

Sizes say it where they are known, as in ``planning``. What they don't say is learned from the slices that this run has
completed: how many queries a list took (one, or two that agree), how many a slice of unknown size, and how many more
than foreseen one of known size. Plain sums, changed as slices are begun and completed; nothing here asks or waits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harvester.harvest.paging import more_pages, pages
from harvester.lake.entries import Due

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harvester.datasets import Dataset
    from harvester.harvest.walks import Walk

_BELIEF = 3
"""So many slices weighs what is taken to hold before any is complete."""


@dataclass(slots=True)
class Need:
    """What some slices need.

    Attributes:
        queries: of walks whose size is known.
        rows: that those bring.
        unsized: walks whose size is not known.
        lists: slices of unpaged datasets.
    """

    queries: int = 0
    rows: int = 0
    unsized: int = 0
    lists: int = 0

    def add(self, other: Need, times: int = 1) -> None:
        """Adds what others need, so many times; -1 takes it off."""
        self.queries += times * other.queries
        self.rows += times * other.rows
        self.unsized += times * other.unsized
        self.lists += times * other.lists


def need(dataset: Dataset, *, expected: int | None, rows: int, due: Due, limit: int) -> Need:
    """What one slice needs.

    Args:
        dataset: what is asked for.
        expected: how many rows it has, if that is known.
        rows: how many of them are held.
        due: what is to be refreshed; then all else is known.
        limit: records to ask for in one query.
    """
    if not dataset.paged:
        return Need(lists=1)
    if due is not Due.NOTHING:
        whole = due is Due.ALL
        return Need(queries=pages(rows, limit) if whole else 1, rows=rows if whole else min(rows, limit))
    if expected is None:
        return Need(unsized=1)
    left = max(expected - rows, 0)
    return Need(queries=more_pages(left, limit) if rows else pages(left, limit), rows=left)


@dataclass(slots=True)
class _Seen:
    """Of slices of a kind that are complete: how many, what was foreseen, and what they took."""

    slices: int = 0
    foreseen: int = 0
    queries: int = 0
    rows: int = 0


@dataclass(slots=True)
class Workload:
    """The work of a run.

    Attributes:
        limit: records to ask for in one query.
        waiting: what slices need that are not begun; None if that was never counted.
    """

    limit: int
    waiting: Need | None = None
    _sized: _Seen = field(default_factory=_Seen)
    _unsized: _Seen = field(default_factory=_Seen)
    _lists: _Seen = field(default_factory=_Seen)

    def expect(self, dataset: Dataset, *, expected: int | None, rows: int, due: Due) -> None:
        """A slice will have to be asked: see ``need``."""
        self.waiting = self.waiting or Need()
        self.waiting.add(need(dataset, expected=expected, rows=rows, due=due, limit=self.limit))

    def begin(self, walk: Walk, due: Due) -> None:
        """A slice that was expected is begun."""
        its = need(walk.dataset, expected=walk.expected, rows=walk.rows, due=due, limit=self.limit)
        walk.foreseen = its.queries
        if self.waiting is not None:
            self.waiting.add(its, -1)

    def sized(self, walk: Walk, expected: int) -> None:
        """A slice that was begun turns out to have so many rows."""
        walk.expected = expected
        walk.foreseen = pages(expected, self.limit)

    def complete(self, walk: Walk) -> None:
        """A slice is complete."""
        seen = self._kind(walk)
        seen.slices += 1
        seen.foreseen += walk.foreseen
        seen.queries += walk.queries
        seen.rows += walk.rows

    def left(self, walks: Iterable[Walk], askings: int) -> tuple[float, float, float] | None:
        """What is left.

        Args:
            walks: slices under way.
            askings: how many queries a list takes at least.

        Returns:
            Queries; rows; and the most queries that one walk has left, which go one after another. None if not known.
        """
        if self.waiting is None:
            return None
        queries, rows = self._estimate(self.waiting, askings)
        longest = 0.0
        for walk in walks:
            if walk.done:
                continue
            its_queries, its_rows = self._of_walk(walk, askings)
            queries, rows, longest = queries + its_queries, rows + its_rows, max(longest, its_queries)
        return queries, rows, longest

    def _kind(self, walk: Walk) -> _Seen:
        if not walk.dataset.paged:
            return self._lists
        return self._sized if walk.foreseen else self._unsized

    def _of_walk(self, walk: Walk, askings: int) -> tuple[float, float]:
        if walk.refresh is not None:
            left = max(0, walk.rows - walk.refresh.brought) if walk.refresh.in_full else 0
            return float(more_pages(left, self.limit)) if walk.dataset.paged else 1.0, float(left)
        its = need(walk.dataset, expected=walk.expected, rows=walk.rows, due=Due.NOTHING, limit=self.limit)
        queries, rows = self._estimate(its, askings)
        if not walk.foreseen:  # of what such a slice takes, some is asked already
            queries, rows = queries - walk.queries + (walk.busy and walk.asked), rows - walk.rows
        return max(1.0, queries), max(0.0, rows)

    def _estimate(self, of: Need, askings: int) -> tuple[float, float]:
        more = (self._sized.queries + _BELIEF) / (self._sized.foreseen + _BELIEF)
        a_list = (self._lists.queries + _BELIEF) / (self._lists.slices + _BELIEF)
        a_list = max(a_list, askings)
        unsized = (self._unsized.queries + 2 * _BELIEF) / (self._unsized.slices + _BELIEF)
        unsized_rows = self._unsized.rows / max(1, self._unsized.slices)
        return of.queries * more + of.lists * a_list + of.unsized * unsized, of.rows + of.unsized * unsized_rows


__all__ = ["Need", "Workload", "need"]
