"""One batch at a time, from a harvest to whoever reads it. This is the back-pressure.

Invariant: a batch counts as held until its reader comes back for another, so that what the reader has in hand is part
of what the harvest may have in memory.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


class Handover:
    """Between one giver and one reader, on one event loop."""

    def __init__(self) -> None:
        self._offered: pa.RecordBatch | None = None
        self._taken = False
        self._ended = False
        self._to_read = asyncio.Event()
        self._read = asyncio.Event()

    async def give(self, batch: pa.RecordBatch) -> None:
        """Returns once the reader has had the batch, and come back."""
        self._offered = batch
        self._read.clear()
        self._to_read.set()
        await self._read.wait()

    def end(self) -> None:
        """There is nothing more; what is offered and not taken is taken back."""
        self._ended = True
        self._offered = None
        self._to_read.set()

    async def take(self) -> pa.RecordBatch | None:
        """The next batch; None at the end."""
        if self._taken:
            self._taken = False
            self._read.set()
        while self._offered is None and not self._ended:
            self._to_read.clear()
            await self._to_read.wait()
        batch, self._offered = self._offered, None
        self._taken = batch is not None
        return batch


__all__ = ["Handover"]
