"""Slices under way, in the order in which they are served: whoever may go first is found at once, however many wait.

A decision looks at walks that are being asked, and at the first one that may be; not at those that wait after a
failure, which are set aside until it is their time, and not at those behind. Plain state, changed synchronously.

Invariant: every walk is in one place: in line, ahead of the line, asleep until its ``ready_at``, or empty. Where it is
follows from the walk, and is looked at anew whenever a decision comes upon it; but what is asleep is not looked at.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, MutableMapping
from itertools import chain, count
from typing import TYPE_CHECKING

from harvester.harvest import parts

if TYPE_CHECKING:
    from harvester.harvest.walks import Walk


class Lineup(MutableMapping[int, "Walk"]):
    """Walks by the number of their slice, in order. What is put in later goes later, unless it goes ahead."""

    def __init__(self, walks: Mapping[int, Walk] | None = None) -> None:
        self._all: dict[int, Walk] = {}
        self._ahead: dict[int, Walk] = {}
        self._line: dict[int, Walk] = {}
        self._empty: dict[int, Walk] = {}
        self._asleep: dict[int, Walk] = {}
        self._places = (self._ahead, self._line, self._empty, self._asleep)
        self._alarms: list[tuple[float, int, Walk]] = []
        self._numbers = count()
        self.update(walks or {})

    def __getitem__(self, slice_id: int) -> Walk:
        return self._all[slice_id]

    def __setitem__(self, slice_id: int, walk: Walk) -> None:
        self._all[slice_id] = walk
        self._place(walk, self._line)

    def __delitem__(self, slice_id: int) -> None:
        del self._all[slice_id]
        for place in self._places:
            place.pop(slice_id, None)

    def __iter__(self) -> Iterator[int]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def go_ahead(self, walk: Walk) -> None:
        """Has a walk go before all that are in line: it is what is left of something that is nearly complete."""
        self._place(walk, self._ahead)

    def first(self, now: float) -> Walk | None:
        """Whose turn it is: of the walks that may be asked now, the one begun earliest, and else the first in line.

        Those that bring nothing are not among them.
        """
        self._wake(now)
        ahead, in_line = self._first_of(self._ahead, now), self._first_of(self._line, now)
        if ahead is None or in_line is None:
            return ahead or in_line
        return in_line if in_line.of_slice.begun and in_line.of_slice.turn < ahead.of_slice.turn else ahead

    def _first_of(self, place: Mapping[int, Walk], now: float) -> Walk | None:
        found, aside = None, []
        for walk in place.values():
            found = next((part for part in _idle(walk) if part.ready_at <= now and part.empty_since is None), None)
            if found is not None:
                break
            if not (walk.parts or walk.busy or walk.done or walk.stays):  # what is split is never set aside
                aside.append(walk)
        for walk in aside:
            self._set_aside(walk)
        return found

    def last(self, now: float) -> Walk | None:
        """Who goes when nobody is first: the walk that may be asked the soonest, now or later; None for nobody."""
        may_go = [walk for walk in self._empty.values() if not walk.awaits_witness]
        for walk in chain(self._ahead.values(), self._line.values()):
            may_go += [part for part in _idle(walk) if not part.awaits_witness]
        if (sleeper := self._sleeper) is not None:
            may_go.append(sleeper)
        soonest = min(may_go, key=lambda walk: walk.ready_at, default=None)
        if soonest is not None and soonest.ready_at <= now and soonest.slice_id in self._empty:
            self._place(soonest, self._ahead)
        return soonest

    @property
    def active(self) -> int:
        """How many do not wait after a failure; to be asked when nobody is first."""
        return sum(walk.failing_since is None for walk in self.values())

    @property
    def empty(self) -> list[Walk]:
        """Those that brought nothing when they were asked last, as far as a decision has come upon them."""
        return list(self._empty.values())

    def _place(self, walk: Walk, place: dict[int, Walk]) -> None:
        for other in self._places:
            other.pop(walk.slice_id, None)
        place[walk.slice_id] = walk

    def _set_aside(self, walk: Walk) -> None:
        if walk.empty_since is not None:
            self._place(walk, self._empty)
            return
        self._place(walk, self._asleep)
        heapq.heappush(self._alarms, (walk.ready_at, next(self._numbers), walk))

    @property
    def _sleeper(self) -> Walk | None:
        """Who wakes first."""
        while self._alarms and self._alarms[0][2].slice_id not in self._asleep:
            heapq.heappop(self._alarms)
        return self._alarms[0][2] if self._alarms else None

    def _wake(self, now: float) -> None:
        while (walk := self._sleeper) is not None and self._alarms[0][0] <= now:
            heapq.heappop(self._alarms)
            self._place(walk, self._ahead)


def _idle(walk: Walk) -> list[Walk]:
    """What of a slice is not being asked, and waits for nothing but its time."""
    if walk.done:
        return []
    if not walk.parts:
        return [] if walk.busy or walk.stays else [walk]
    return [part for part in walk.parts if not (part.busy or parts.waits(part))]


__all__ = ["Lineup"]
