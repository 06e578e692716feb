"""The lake's part in simulated time: which slices there are, what became of them, and whether every row came once.

It remembers of each slice how many rows came and the sum of their keys, so that a billion rows take a few megabytes, in
whatever order their pages come.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from benchmarks.simulated.account import FIRST_ID_SEND
from benchmarks.simulated.wide import SimulatedWide
from harvester.datasets import BOUNCES, CATALOGUE, MESSAGES
from harvester.harvest import order
from harvester.lake.entries import Due, SliceRecord
from harvester.model import SliceKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa
    from anyio.streams.memory import MemoryObjectReceiveStream

    from benchmarks.simulated.account import Integers, SimulatedAccount
    from harvester.harvest.scheduler import Delivery, Scheduler
    from harvester.harvest.workload import Workload
    from harvester.lake.refreshing import RefreshPlan
    from harvester.model import KeyRange


class SimulatedLake:
    """All slices of an account, and where their walks are. What the scheduler calls ``Slices``, and the wing behind.

    Attributes:
        gave_up: slices that were given up, and why.
        complete: slices that are complete.
    """

    splits = True

    def __init__(
        self, account: SimulatedAccount, datasets: Sequence[str], limit: int, *, sized: bool = True, wide: bool = False
    ) -> None:
        """``sized`` is whether the sends say how many messages they have, ``wide`` whether all are walked at once."""
        self.gave_up: dict[SliceKey, str] = {}
        self.complete = 0
        self._account = account
        self._datasets = datasets
        self._sized = sized
        self.wide = SimulatedWide(self, limit) if wide else None
        self._limit = limit
        self._sends: Iterator[tuple[int, int | None]] = iter(())
        self._ranges: dict[int, tuple[KeyRange, ...]] = {}
        self._rows = {name: np.zeros(len(account.rows), np.int64) for name in datasets}
        self._sums = {name: np.zeros(len(account.rows), np.int64) for name in datasets}
        self._proven = {name: np.zeros(len(account.rows), np.bool_) for name in datasets}

    def _in_order(self) -> Iterator[tuple[int, int | None]]:
        """Each send's place in the account, and its size, where known; those that are complete left out."""
        sizes = [rows if self._sized else None for rows in self._account.said.tolist()]
        left = np.flatnonzero(~np.logical_and.reduce([self._proven[name] for name in self._datasets]))
        begun = {self._slice(slice_id)[1] for slice_id in self._ranges}

        def position(place: int) -> order.Place:
            return order.place(place, begun=place in begun, expected=sizes[place], limit=self._limit)

        return ((place, sizes[place]) for place in sorted(left.tolist(), key=position))

    @property
    def sends(self) -> int:
        """How many sends there are."""
        return len(self._account.rows)

    @property
    def expected(self) -> int | None:
        """How many messages the sends say that they have; None if they don't."""
        return int(self._account.said.sum()) if self._sized else None

    def begin(self, workload: Workload) -> None:
        """A run begins: says what all slices will still need, but for those that are walked at once."""
        if self.wide:
            return
        self._sends = self._in_order()
        for place, rows in enumerate(self._account.said.tolist()):
            for name in self._datasets:
                dataset = CATALOGUE[name]
                expected = rows if self._sized and dataset.counted else None
                if not self._proven[name][place]:
                    held = int(self._rows[name][place])
                    workload.expect(dataset, expected=expected, rows=held, due=Due.NOTHING)

    # --- Slices

    def take(self, sends: int) -> Sequence[SliceRecord]:
        """As ``Slices.take``."""
        return [
            self._record(place, number, expected)
            for place, expected in islice(self._sends, sends)
            for number, name in enumerate(self._datasets)
            if not self._proven[name][place]
        ]

    def _record(self, place: int, number: int, expected: int | None) -> SliceRecord:
        name, slice_id = self._datasets[number], 1 + place * len(self._datasets) + number
        first, *further = self._ranges.get(slice_id, (None,))
        return SliceRecord(
            id=slice_id,
            key=SliceKey(name, FIRST_ID_SEND + place),
            proof=None,
            rows=int(self._rows[name][place]),
            expected=expected if CATALOGUE[name].counted else None,
            key_range=first,
            further=tuple(one for one in further if one is not None),
            digest=None,
            listed=expected,
        )

    def _slice(self, slice_id: int) -> tuple[str, int]:
        place, number = divmod(slice_id - 1, len(self._datasets))
        return self._datasets[number], place

    def give_up(self, slice_id: int, error: str, queries: int, limit: int) -> None:  # noqa: ARG002
        """As ``Slices.give_up``."""
        name, place = self._slice(slice_id)
        self.gave_up[SliceKey(name, FIRST_ID_SEND + place)] = error

    def note_size(self, slice_id: int, expected: int) -> None:
        """As ``Slices.note_size``."""

    def note(self, slice_id: int, error: str | None, queries: int) -> None:
        """As ``Slices.note``."""

    def failed_keys(self, id_send: int) -> pa.Int64Array | None:
        """As ``Slices.failed_keys``."""
        place = id_send - FIRST_ID_SEND
        known = MESSAGES.name in self._proven and self._proven[MESSAGES.name][place]
        return self._account.failed(place) if known else None

    def plan_refresh(self, record: SliceRecord) -> RefreshPlan:
        """Nothing is ever refreshed."""
        _never(record.id)

    def forget_refresh(self, slice_id: int) -> None:
        """Nothing is ever refreshed."""
        _never(slice_id)

    # --- the wing

    async def keep(self, scheduler: Scheduler, delivered: MemoryObjectReceiveStream[Delivery]) -> None:
        """Takes pages until there are no more."""
        async with delivered:
            async for delivery in delivered:
                taken = delivery.taken
                if self.wide is not None and delivery.walk.scope is not None:
                    await scheduler.delivered_wide(delivery.walk, delivery.hold, self.wide.commit(taken))
                    continue
                name, place = self._slice(taken.slice_id)
                if taken.rows is not None:
                    keys = taken.rows.column(taken.dataset.key).to_numpy()
                    self._rows[name][place] += len(keys)
                    self._sums[name][place] += keys.sum()
                if ranges := taken.key_ranges or (taken.key_range and (taken.key_range,)):
                    self._ranges[taken.slice_id] = ranges
                if taken.proof is not None:
                    self._ranges.pop(taken.slice_id, None)
                    self._proven[name][place] = True
                    self.complete += 1
                await scheduler.delivered(delivery, 0)

    def add(self, places: Integers, keys: Integers) -> int:
        """Messages of the sends at some places; how many of those are complete by it, since they have all they said."""
        rows, proven = self._rows[MESSAGES.name], self._proven[MESSAGES.name]
        np.add.at(rows, places, 1)
        np.add.at(self._sums[MESSAGES.name], places, keys)
        here = np.unique(places)
        new = here[(rows[here] == self._account.rows[here]) & ~proven[here]] if self._sized else here[:0]
        proven[new] = True
        self.complete += len(new)
        return len(new)

    def settle(self) -> int:
        """All messages have come; how many sends are complete by it."""
        left = np.flatnonzero(~self._proven[MESSAGES.name])
        self._proven[MESSAGES.name][left] = True
        self.complete += len(left)
        return len(left)

    def wrong(self) -> list[str]:
        """What is not as the account has it, of the slices that are complete; at most some of it."""
        found = []
        for name in self._datasets:
            for place in np.flatnonzero(self._proven[name]).tolist():
                rows, keys = self._true(name, place)
                if (self._rows[name][place], self._sums[name][place]) != (rows, keys):
                    found.append(f"{name} of send {FIRST_ID_SEND + place}: {self._rows[name][place]} of {rows} rows")
        return found[:10]

    def _true(self, name: str, place: int) -> tuple[int, int]:
        if name == BOUNCES.name:
            failed = self._account.failed(place)
            return len(failed), int(failed.to_numpy().sum())
        return int(self._account.rows[place]), self._account.key_sum(place)


def _never(slice_id: int) -> NoReturn:
    raise AssertionError(f"slice {slice_id} was never complete before")


__all__ = ["SimulatedLake"]
