"""What the outcomes of slices, seen one by one, have to say to a person. Bounded, whatever the number of slices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from harvester.datasets import MESSAGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harvester.harvest.outcome import SliceOutcome

COMPLETE = "complete"

_Item = TypeVar("_Item")


@dataclass(slots=True)
class Examples(Generic[_Item]):
    """The first few of many: ``shown`` holds at most ``most`` of ``total``."""

    most: int
    total: int = 0
    shown: list[_Item] = field(default_factory=list)

    def add(self, item: _Item) -> None:
        """Count an item, and keep it if there is room."""
        self.total += 1
        if len(self.shown) < self.most:
            self.shown.append(item)

    @property
    def more(self) -> int:
        """How many are not shown."""
        return self.total - len(self.shown)


class Findings:
    """Counts and examples from slices, which come in the order of their sends.

    Attributes:
        slices: how many there were.
        complete: how many of them are complete, by dataset.
        incomplete: how many are not, by dataset.
        proofs: how many slices each proof holds for.
        unsettled: rows whose status may still change.
        overdue: rows that have been waiting for so long that they count as settled.
        changed: rows that the run's refresh changed.
        gone: rows that the lake holds and the source no longer does.
        failed: slices that are not complete because something failed.
        unfinished: slices that are not complete and have not failed.
        miscounted: complete slices whose rows are not as many as the send is said to have.
        rowless: sends whose messages were asked for, and that have none. Their id may be mistyped.
    """

    def __init__(self, most: int = 10) -> None:
        """``most`` examples of each kind are kept."""
        self.slices = 0
        self.complete: dict[str, int] = {}
        self.incomplete: dict[str, int] = {}
        self.proofs: dict[str, int] = {}
        self.unsettled = 0
        self.overdue = 0
        self.changed = 0
        self.gone = 0
        self.failed: Examples[SliceOutcome] = Examples(most)
        self.unfinished = 0
        self.miscounted: Examples[SliceOutcome] = Examples(most)
        self.rowless: Examples[int] = Examples(most)
        self._send: int | None = None
        self._suspect = False
        self._has_rows = False

    def watch(self, slices: Iterable[SliceOutcome]) -> Iterator[SliceOutcome]:
        """Pass slices through, taking note of each."""
        for one in slices:
            self._see(one)
            yield one
        self._end_send()

    def read(self, slices: Iterable[SliceOutcome]) -> Findings:
        """Take note of all slices."""
        for _ in self.watch(slices):
            pass
        return self

    def _see(self, one: SliceOutcome) -> None:
        if one.id_send != self._send:
            self._end_send()
            self._send = one.id_send
        self.slices += 1
        done = one.state == COMPLETE
        tally = self.complete if done else self.incomplete
        tally[one.dataset] = tally.get(one.dataset, 0) + 1
        self.unsettled += one.unsettled
        self.overdue += one.overdue
        self.changed += one.changed
        self.gone += one.gone
        self._has_rows |= one.rows > 0
        if not done:
            if one.error is None:
                self.unfinished += 1
            else:
                self.failed.add(one)
            return
        if one.proof:
            self.proofs[one.proof] = self.proofs.get(one.proof, 0) + 1
        if one.expected is not None and one.expected != one.rows:
            self.miscounted.add(one)
        # A send that is known to have no messages is no riddle, and one without bounces is what one hopes for.
        self._suspect |= one.dataset == MESSAGES.name and not one.rows and one.expected is None

    def _end_send(self) -> None:
        if self._send is not None and self._suspect and not self._has_rows:
            self.rowless.add(self._send)
        self._send, self._suspect, self._has_rows = None, False, False


__all__ = ["COMPLETE", "Examples", "Findings"]
