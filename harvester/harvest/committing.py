"""Pages on their way into the lake: which of them share a commit, and what follows from it.

A commit has a cost of its own, whatever it holds. So a page that brings a few rows waits a moment for others that are
on their way, and a page that brings many does not: its rows weigh more than its commit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from harvester.harvest import keeping

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from anyio.streams.memory import MemoryObjectReceiveStream

    from harvester.harvest.scheduler import Delivery, Scheduler
    from harvester.harvest.sealing import SealSoon
    from harvester.lake.lake import Lake

MOST_PAGES = 32
"""So many pages share a commit at most, and wait for it."""
_FEW_ROWS = 100
_MOMENT_S = 0.05
"""So long a page of few rows waits for others, while there are queries in flight that may bring some."""


@dataclass(frozen=True, slots=True)
class Committing:
    """Makes the pages of a scheduler durable in a lake.

    Attributes:
        lake: the lake.
        scheduler: where the pages come from.
        seal_soon: what is told of slices that are to be sealed.
        out_of_time: whether a drain has no more time for what the next run can do as well.
    """

    lake: Lake
    scheduler: Scheduler
    seal_soon: SealSoon
    out_of_time: Callable[[], bool]

    async def commit_all(
        self, delivered: MemoryObjectReceiveStream[Delivery], after_each: Callable[[], Awaitable[None]]
    ) -> None:
        """Makes pages durable in the order in which they come, until there are no more; tells of each commit."""
        async with delivered:
            async for first in delivered:
                deliveries = [first]
                if _is_small(first):
                    with anyio.move_on_after(_MOMENT_S):
                        await self._gather(deliveries, delivered)
                while len(deliveries) < MOST_PAGES and delivered.statistics().current_buffer_used:
                    deliveries.append(delivered.receive_nowait())
                del first  # or its rows would be held until the next ones come
                while deliveries:
                    if deliveries[0].walk.scope is not None:
                        await self._commit_wide(deliveries.pop(0))
                        continue
                    of_slices = [*takewhile(lambda delivery: delivery.walk.scope is None, deliveries)]
                    del deliveries[: len(of_slices)]
                    await self._commit(of_slices)
                    del of_slices  # likewise
                await after_each()

    async def _gather(self, deliveries: list[Delivery], delivered: MemoryObjectReceiveStream[Delivery]) -> None:
        while len(deliveries) < MOST_PAGES and self.scheduler.queries_in_flight and _is_small(deliveries[-1]):
            try:
                deliveries.append(await delivered.receive())
            except anyio.EndOfStream:
                return

    async def _commit(self, deliveries: Sequence[Delivery]) -> None:
        """Makes pages durable, all of them or none; and then what follows from that."""
        sizes = await to_thread.run_sync(self.lake.stage, [delivery.taken for delivery in deliveries])
        for delivery, size in zip(deliveries, sizes, strict=True):
            await self.scheduler.delivered(delivery, size)
            walk = delivery.walk
            ended = walk.done and not delivery.taken.leaves_nothing_to_seal
            if self.lake.gatherer.shares:
                if self.lake.gatherer.due:
                    self.seal_soon(walk.slice_id, walk.turn)
            elif ended or walk.staged_bytes >= self.lake.full_bytes:
                walk.staged_bytes = 0
                self.seal_soon(walk.slice_id, walk.turn)

    async def _commit_wide(self, delivery: Delivery) -> None:
        """Makes a page of a walk over many sends durable; and then what follows from it."""
        walk, hold = delivery.walk, delivery.hold
        steps = keeping.commit(self.lake, delivery.taken, self.scheduler.settings.limit)
        del delivery  # each page that goes to its slices after it takes the place of its rows in memory
        committed = await take_steps(steps, self.seal_soon, self.out_of_time)
        if self.lake.gatherer.shares and self.lake.gatherer.due:
            self.seal_soon(walk.slice_id, walk.turn)
        await self.scheduler.delivered_wide(walk, hold, committed)


async def take_steps(
    steps: Iterator[keeping.Committed], seal_soon: SealSoon, out_of_time: Callable[[], bool]
) -> keeping.Committed:
    """Takes steps of ``keeping``, one after the other, until all are taken or time is out; what they came to."""
    total = keeping.Committed()
    while (step := await to_thread.run_sync(next, steps, None)) is not None:
        for slice_id in step.seal:
            seal_soon(slice_id, 0)
        total += replace(step, seal=())
        if out_of_time():
            break
    return total


def _is_small(delivery: Delivery) -> bool:
    rows = delivery.taken.rows
    return delivery.walk.scope is None and (rows is None or rows.num_rows <= _FEW_ROWS)


__all__ = ["MOST_PAGES", "Committing", "take_steps"]
