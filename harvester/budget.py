"""The memory budget: how many bytes may be held at a time, by whom, and who has to wait.

Nouns: a *hold* is what one holder has of the budget: a query and what becomes of its answer, or the making of a file.
It is *parked* while it takes in an answer and waits for its turn to be worked on, and *at work* from then on. What is
at work ends by itself, whatever else waits; what is parked needs more before it can end.

Invariants: the bytes held never exceed the budget, unless a hold can't do with all that is left when nothing else is
at work. Parked answers take a share of the budget and no more, but for one of them, the *senior*, which may go on
beyond it; so the rest is there for work. And nothing waits for ever: when nothing is at work, the first in line goes.

One event loop may use it. Refuses to measure: holders say what they hold.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Self

import anyio

if TYPE_CHECKING:
    from types import TracebackType

_PARKED_PART = 4

Ticket = tuple[int, int]
"""A hold's place in line, which no other has: its rank, and its number. The lowest goes first."""
_NOBODY: Ticket = (-1, -1)


class Hold:
    """Bytes of a budget: made by it, released by whoever is done with them. A context manager that releases.

    Attributes:
        size: the bytes held.
    """

    __slots__ = ("_budget", "size", "ticket")

    def __init__(self, budget: Budget, ticket: Ticket) -> None:
        self.size = 0
        self.ticket = ticket
        self._budget = budget

    async def grow(self, by: int) -> None:
        """Has so many bytes more, and stays parked. Waits while there is no room: that is the back-pressure."""
        await self._budget.wait(self, by, to_work=False)

    async def work(self, by: int) -> None:
        """Has so many bytes more and is at work from now on, which ends by itself. Waits while there is no room."""
        await self._budget.wait(self, by, to_work=True)

    def park(self) -> None:
        """Is parked again: it was not enough, and more is to be asked for."""
        self._budget.enter(self)

    def shrink(self, to: int) -> None:
        """Has so many bytes from now on, or fewer if it has fewer."""
        if to < self.size:
            self._budget.change(self, to - self.size)
            self._budget.admit_waiting()

    def release(self) -> None:
        """Has nothing from now on. Doing so twice is harmless."""
        self._budget.leave(self)
        self.shrink(0)
        self._budget.admit_waiting()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


_Waiting = tuple[Ticket, Hold, int, anyio.Event]
"""Its ticket; itself; how many bytes more; and the event that it has them."""


class Budget:
    """So many bytes, and who holds them.

    Attributes:
        size: the budget, in bytes.
        held: bytes held, at work or parked.
        most_held: the most bytes that were held at a time.
        parked: those of them that are parked.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.held = 0
        self.most_held = 0
        self.parked = 0
        self._tickets = count()
        self._parked: set[Ticket] = set()
        self._senior = _NOBODY
        self._to_work: list[_Waiting] = []
        self._to_grow: list[_Waiting] = []

    @property
    def share(self) -> int:
        """How many bytes may be parked, the senior's aside: a quarter."""
        return self.size // _PARKED_PART

    @property
    def most_a_hold(self) -> int:
        """The most bytes that a hold can be sure of, at work and parked before, whatever others have parked."""
        return self.size - self.share

    @property
    def parked_holds(self) -> int:
        """How many holds are parked."""
        return len(self._parked)

    def parking(self, rank: int = 0) -> Hold:
        """A hold of nothing yet that is parked: for a query that is about to be asked.

        Those of the lowest rank go first, and of the same rank those made earlier.
        """
        hold = Hold(self, (rank, next(self._tickets)))
        self.enter(hold)
        return hold

    def working(self, rank: int = 0) -> Hold:
        """A hold of nothing yet that will be at work; ``rank`` as of those that are parked."""
        return Hold(self, (rank, next(self._tickets)))

    # --- for Hold alone

    def change(self, hold: Hold, by: int) -> None:
        """``hold`` has so many bytes more, whatever the budget says."""
        hold.size += by
        self.held += by
        if hold.ticket in self._parked:
            self.parked += by
        self.most_held = max(self.most_held, self.held)

    def enter(self, hold: Hold) -> None:
        """``hold`` is parked."""
        if hold.ticket not in self._parked:
            self._parked.add(hold.ticket)
            self.parked += hold.size

    def leave(self, hold: Hold) -> None:
        """``hold`` is parked no more."""
        if hold.ticket in self._parked:
            self._parked.remove(hold.ticket)
            self.parked -= hold.size
        if self._senior == hold.ticket:
            self._senior = _NOBODY

    async def wait(self, hold: Hold, by: int, *, to_work: bool) -> None:
        """Waits until ``hold`` may have so many bytes more, and has them."""
        line = self._to_work if to_work else self._to_grow
        admitted = anyio.Event()
        waiting = (hold.ticket, hold, by, admitted)
        line.append(waiting)
        self.admit_waiting()
        if admitted.is_set():
            return
        try:
            await admitted.wait()
        except BaseException:
            if not admitted.is_set():
                line.remove(waiting)
                self.admit_waiting()
            raise

    def admit_waiting(self) -> None:
        """Lets those go that may, in the order of their tickets."""
        while self._to_work:
            _, hold, by, admitted = waiting = min(self._to_work)
            if not (self._fits(by) or self._idle):
                break
            self._to_work.remove(waiting)
            self.leave(hold)
            self.change(hold, by)
            admitted.set()
        while self._to_grow and self._grows(min(self._to_grow)):
            pass
        for waiting in self._to_grow:  # the senior need not be the first in line
            if waiting[0] == self._senior:
                self._grows(waiting)
                break

    @property
    def _idle(self) -> bool:
        """Whether nothing is at work, so that nobody but the first in line would ever make room."""
        return self.held == self.parked

    def _fits(self, by: int) -> bool:
        return self.held + by <= self.size

    def _grows(self, waiting: _Waiting) -> bool:
        """Lets one that waits to grow do so, if it may."""
        _, hold, by, admitted = waiting
        if self.parked + by > self.share:
            if self._senior == _NOBODY:
                self._senior = hold.ticket
            if self._senior != hold.ticket:
                return False
        if not (self._fits(by) or self._idle):
            return False
        self._to_grow.remove(waiting)
        self.change(hold, by)
        admitted.set()
        return True


__all__ = ["Budget", "Hold"]
