"""The stream: a dataset's rows as record batches, asynchronously.

The harvest is a task of its own, begun when the first batch is asked for. It holds nothing of the stream that reads it:
so a stream that is dropped, which is what ``break`` does to one that has no other name, ends its harvest too.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import anyio

from harvester.errors import UsageError
from harvester.streaming.handover import Handover
from harvester.streaming.work import Work

if TYPE_CHECKING:
    from types import TracebackType

    import pyarrow as pa

    from harvester.config import Settings
    from harvester.harvest.wanted import Wanted
    from harvester.model import Send
    from harvester.streaming.outcome import Outcome

_under_way: set[asyncio.Task[Outcome]] = set()
"""Event loops forget tasks that nobody else holds, even in the middle of closing what they have open."""


class Stream:
    """Record batches, one after another: ``async for batch in stream``. Each can be gone through once.

    ``async with stream`` makes sure that the harvest has ended, and closed all that it had open, where the block ends.

    Attributes:
        schema: of every batch.
    """

    def __init__(self, settings: Settings, wanted: tuple[Send, ...] | Wanted, schema: pa.Schema) -> None:
        self.schema = schema
        self._task: asyncio.Task[Outcome] | None = None
        self._closed = False
        self._handover = Handover()
        self._work = Work(settings, wanted, self._handover)

    @property
    def outcome(self) -> Outcome:
        """How it went, once every batch is read and all is proven. Raises UsageError before, and if it isn't so."""
        task = self._task
        if task is None or not task.done() or task.cancelled() or task.exception():
            raise UsageError("the stream is not read to its end; what is known of one that failed is in its error")
        return task.result()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> pa.RecordBatch:
        """The next batch; never one without rows.

        Raises:
            AccessRefused: the API refuses the account or the address; at once.
            IncompleteHarvest: after the last batch, if anything could not be had, or be proven to be all.
            ServerNotReached: the server was never reached, or not for longer than ``patience``.
            UsageError: the stream was closed before its end, or the file of certificates can't be read.
        """
        if self._closed:
            raise UsageError("this stream was closed before its end; make another")
        if self._task is None:
            self._task = task = asyncio.create_task(self._work.run(), name="harvester stream")
            _under_way.add(task)
            task.add_done_callback(_done)
        batch = await self._handover.take()
        if batch is not None:
            return batch
        await asyncio.wait([self._task])
        self._task.result()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Ends the harvest, wherever it is: returns when no task, thread or connection of it is left."""
        if self._task is None or not self._task.done():
            self._closed = True
        if self._task is not None:
            self._task.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([self._task])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        task = getattr(self, "_task", None)
        if task is not None and not task.done():
            with suppress(RuntimeError):  # the loop is closed
                task.get_loop().call_soon_threadsafe(task.cancel)


def _done(task: asyncio.Task[Outcome]) -> None:
    _under_way.discard(task)
    if not task.cancelled():
        task.exception()  # it is raised where the stream is read, or nobody reads it any more


__all__ = ["Stream"]
