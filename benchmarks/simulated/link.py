"""A link that all transfers share evenly: with k of them under way, each has 1/k of its bytes a second.

Kept by virtual time (fair queueing): it goes on by the bytes that each one gets, so that what is under way need never
be gone through; a transfer ends when virtual time has gone on by its size.
"""

from __future__ import annotations

import asyncio
import heapq
from itertools import count


class Link:
    """So many bytes a second, one way."""

    def __init__(self, bytes_per_s: float) -> None:
        self._rate = bytes_per_s
        self._served = 0.0  # virtual time: bytes that a transfer has had that was there all along
        self._at = 0.0
        self._numbers = count()
        self._ends: list[tuple[float, int, asyncio.Future[None]]] = []
        self._timer: asyncio.TimerHandle | None = None

    async def transfer(self, size: int) -> None:
        """Returns when so many bytes are through."""
        loop = asyncio.get_running_loop()
        self._go_on(loop.time())
        through: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._ends, (self._served + size, next(self._numbers), through))
        self._wake(loop)
        await through

    def _go_on(self, now: float) -> None:
        if self._ends:
            self._served += (now - self._at) * self._rate / len(self._ends)
        self._at = now

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._ends:
            left = max(0.0, self._ends[0][0] - self._served) * len(self._ends) / self._rate
            self._timer = loop.call_later(left, self._end_first, loop)

    def _end_first(self, loop: asyncio.AbstractEventLoop) -> None:
        self._go_on(loop.time())
        self._served = max(self._served, self._ends[0][0])
        while self._ends and self._ends[0][0] <= self._served:
            _, _, through = heapq.heappop(self._ends)
            if not through.done():
                through.set_result(None)
        self._wake(loop)


__all__ = ["Link"]
