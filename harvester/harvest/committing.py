"""Pages on their way into the lake: which of them share a commit, and what follows from it.

A commit has a cost of its own, whatever it holds. So a page that brings a few rows waits a moment for others that are
on their way, and a page that brings many does not: its rows weigh more than its commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from harvester.harvest import widewalks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from anyio.streams.memory import MemoryObjectReceiveStream

    from harvester.harvest.scheduler import Delivery, Scheduler
    from harvester.harvest.sealing import SealSoon
    from harvester.lake.lake import Lake

MOST_PAGES = 32
"""So many pages share a commit at most, and wait for it."""
_FEW_ROWS = 1000
_MOMENT_S = 0.05
"""So long a page of few rows waits for others, while there are queries in flight that may bring some."""


@dataclass(frozen=True, slots=True)
class Committing:
    """Makes the pages of a scheduler durable in a lake.

    Attributes:
        lake: the lake.
        scheduler: where the pages come from.
        seal_soon: what is told of slices that are to be sealed.
    """

    lake: Lake
    scheduler: Scheduler
    seal_soon: SealSoon

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
                for scope, group in groupby(deliveries, lambda delivery: delivery.walk.scope):
                    await (self._commit if scope is None else self._commit_wide)(list(group))
                del first, deliveries  # or their rows would be held until the next ones come
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
            if ended or walk.staged_bytes >= self.lake.full_bytes:
                walk.staged_bytes = 0
                self.seal_soon(walk.slice_id, walk.turn)

    async def _commit_wide(self, deliveries: Sequence[Delivery]) -> None:
        """Makes pages of a walk over many sends durable, one by one; and then what follows from each."""
        for delivery in deliveries:
            committed = await to_thread.run_sync(widewalks.commit, self.lake, delivery.taken)
            for slice_id in committed.seal:
                self.seal_soon(slice_id, 0)
            await self.scheduler.delivered_wide(delivery, committed)


def _is_small(delivery: Delivery) -> bool:
    rows = delivery.taken.rows
    return delivery.walk.scope is None and (rows is None or rows.num_rows <= _FEW_ROWS)


__all__ = ["MOST_PAGES", "Committing"]
