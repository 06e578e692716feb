"""A line: so many go at a time, and of those that wait, the one with the lowest ticket goes first."""

from __future__ import annotations

import heapq
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from harvester.budget import Ticket


class Line:
    """Who waits for a turn. One event loop may use it."""

    def __init__(self, at_once: int) -> None:
        """``at_once`` turns are had at a time, at most."""
        self._free = at_once
        self._waiting: list[tuple[Ticket, anyio.Event]] = []

    @asynccontextmanager
    async def turn(self, ticket: Ticket) -> AsyncIterator[None]:
        """Waits for a turn, and has it while the block runs. No two that wait may have the same ticket."""
        called = anyio.Event()
        waiting = (ticket, called)
        heapq.heappush(self._waiting, waiting)
        self._call()
        try:
            await called.wait()
            yield
        finally:
            if called.is_set():
                self._free += 1
            else:
                self._waiting.remove(waiting)
                heapq.heapify(self._waiting)
            self._call()

    def _call(self) -> None:
        while self._free and self._waiting:
            self._free -= 1
            heapq.heappop(self._waiting)[1].set()


__all__ = ["Line"]
