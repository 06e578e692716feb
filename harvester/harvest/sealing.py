"""Sealing beside the harvest: on threads of its own, within the memory budget, and never in the way of asking."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from anyio.streams.memory import MemoryObjectReceiveStream

    from harvester.budget import Budget
    from harvester.lake.lake import Lake

_AT_ONCE = min(4, os.cpu_count() or 1)
"""So many slices are sealed side by side at most: encoding a file keeps one core busy."""
_GROUPS_HELD = 2
"""Sealing takes as much memory as so many row groups: one that is gathered, and is encoded."""
AFTER_DRAIN_S = 5.0
"""So long after a drain has begun, what is left to be done in the lake is left to the next run."""


SealSoon = Callable[[int, int], None]
"""Has a slice sealed: its number, and its rank where it has to wait for memory (see ``Budget.working``)."""


class Sealing:
    """Seals slices of a lake, some at a time."""

    def __init__(self, lake: Lake, budget: Budget) -> None:
        self._lake = lake
        self._budget = budget
        self._until: float | None = None

    def drain(self, began_at: float) -> None:
        """Seals for some seconds after that time, and leaves the rest to the next run, which seals it first."""
        self._until = began_at + AFTER_DRAIN_S

    async def seal(self, slices: Iterable[int], *, everything: bool = False) -> None:
        """Seals what is due of these slices, or ``everything``. Raises LakeError, in an ExceptionGroup."""
        async with self.beside(slices, everything=everything):
            pass

    @asynccontextmanager
    async def beside(self, slices: Iterable[int], *, everything: bool = False) -> AsyncIterator[SealSoon]:
        """As ``seal``, while the block runs: it is given what has one slice more sealed. Ends when all are."""
        soon, waiting = anyio.create_memory_object_stream[tuple[int, int]](float("inf"))

        def seal_soon(slice_id: int, rank: int) -> None:
            soon.send_nowait((slice_id, rank))

        async with waiting, anyio.create_task_group() as tasks:
            for _ in range(_AT_ONCE):
                tasks.start_soon(partial(self._seal, waiting.clone(), everything=everything))
            with soon:
                for slice_id in slices:
                    seal_soon(slice_id, 0)
                yield seal_soon

    async def _seal(self, waiting: MemoryObjectReceiveStream[tuple[int, int]], *, everything: bool) -> None:
        async with waiting:
            async for slice_id, rank in waiting:
                if self._until is not None and anyio.current_time() > self._until:
                    continue
                with self._budget.working(rank) as hold:
                    await hold.work(_GROUPS_HELD * self._lake.sealer.row_group_bytes)
                    await to_thread.run_sync(partial(self._lake.seal, slice_id, everything=everything))


__all__ = ["AFTER_DRAIN_S", "SealSoon", "Sealing"]
