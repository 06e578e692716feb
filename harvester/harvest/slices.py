"""What the scheduler needs to know of slices, and whom it tells what becomes of them: mostly a lake, but not always.

Every method is blocking: call it from a worker thread. That rows are safe is told apart from this, page by page, by
whoever receives them (``Scheduler.delivered``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from harvester.datasets import CATALOGUE
from harvester.lake.feeding import Feeding

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from harvester.harvest.workload import Workload
    from harvester.lake.entries import SliceRecord
    from harvester.lake.lake import Lake
    from harvester.lake.refreshing import RefreshPlan


class Slices(Protocol):
    """A run's selection of slices."""

    @property
    def splits(self) -> bool:
        """Whether pages of a slice may come in another order than their keys'."""
        ...

    def take(self, sends: int) -> Sequence[SliceRecord]:
        """The slices of the next few sends that are to be asked, at most so many sends; nothing when all are taken.

        In the order in which they are to be begun (``order``). A slice that is under way may be among them again.
        """
        ...

    def give_up(self, slice_id: int, error: str, queries: int, limit: int) -> None:
        """A slice is given up, for what reason, after so many queries; ``limit`` is what its last one asked for."""
        ...

    def note(self, slice_id: int, error: str | None, queries: int) -> None:
        """A slice is left unfinished."""
        ...

    def note_size(self, slice_id: int, expected: int) -> None:
        """How many messages the send of a slice has was found out."""
        ...

    def plan_refresh(self, record: SliceRecord) -> RefreshPlan:
        """What is to be asked again of a slice that is due for that."""
        ...

    def forget_refresh(self, slice_id: int) -> None:
        """A refresh that was begun is given up, since the slice itself goes on."""
        ...

    def failed_keys(self, id_send: int) -> pa.Int64Array | None:
        """The keys of the send's failed messages; None if not all of its messages are known."""
        ...


class LakeSlices:
    """The selection of a run that harvests into a lake; its ledger knows the rest."""

    splits = True

    def __init__(self, lake: Lake, run: int, limit: int) -> None:
        """``run`` is the run's number in that ledger, ``limit`` how many records one query brings."""
        self.give_up = lake.ledger.give_up
        self.note = lake.ledger.note
        self.note_size = lake.ledger.note_size
        self.plan_refresh = lake.plan_refresh
        self.forget_refresh = lake.forget_refresh
        self.failed_keys = lake.failed_keys
        self._feeding = Feeding(lake.ledger, run, limit)
        self.take = self._feeding.take

    def rewind(self) -> None:
        """Begins anew with the first send: slices may have joined those that are to be asked. It does not block."""
        self._feeding.rewind()

    def foretell(self, workload: Workload) -> None:
        """Says what all of the selection will need. Blocking."""
        for dataset, expected, rows, due in self._feeding.sizes():
            workload.expect(CATALOGUE[dataset], expected=expected, rows=rows, due=due)


__all__ = ["LakeSlices", "Slices"]
