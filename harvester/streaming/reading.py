"""The stream for programs that do not await: read on a thread of its own, which has an event loop of its own.

So it works wherever it is called, in the middle of a running loop too (which then stands still until a batch is there).
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import pyarrow as pa

    from harvester.streaming.stream import Stream

_LOOKS_S = 0.2
_CLOSING_S = 10.0


class Batches:
    """The batches of a stream, one after another. Ends the harvest when it is dropped, or the interpreter ends.

    An error is raised again by everyone who asks again, and an interruption (Ctrl-C) loses no batch.
    """

    def __init__(self, stream: Stream) -> None:
        self._aside: _Aside | None = None
        self._stream = stream
        self._next: Future[pa.RecordBatch | None] | None = None
        self._ended = False
        self._error: BaseException | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> pa.RecordBatch:
        if self._error is not None:
            raise self._error
        if self._ended:
            raise StopIteration
        if self._aside is None:
            self._aside = _Aside(self._stream)
        if self._next is None:
            self._next = self._aside.ask()
        try:
            batch = self._next.result()
        except BaseException as error:
            asked = self._next
            if asked.done() and (asked.cancelled() or asked.exception() is error):  # else it is an interruption
                self._error = error
                self._aside.close()
            raise
        self._next = None
        if batch is None:
            self._ended = True
            self._aside.close()
            raise StopIteration
        return batch

    def __del__(self) -> None:
        aside = getattr(self, "_aside", None)
        if aside is not None:
            aside.close()


class _Aside:
    """A thread on which a stream is read."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._began: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._run, name="harvester reader")
        self._left = asyncio.Event()
        self._thread.start()

    def ask(self) -> Future[pa.RecordBatch | None]:
        """Asks for the next batch; None at the end."""
        return asyncio.run_coroutine_threadsafe(self._batch(), self._began.result())

    def close(self) -> None:
        """Ends the harvest, and the thread."""
        with suppress(RuntimeError):  # the loop is closed already
            self._began.result().call_soon_threadsafe(self._left.set)
        if self._thread is not threading.current_thread():  # a garbage collector calls from anywhere
            self._thread.join(_CLOSING_S)

    def _run(self) -> None:
        asyncio.run(self._stay())

    async def _stay(self) -> None:
        self._began.set_result(asyncio.get_running_loop())
        async with self._stream:
            # The interpreter waits for threads before it drops what is left: nobody else would end this one.
            while not self._left.is_set() and threading.main_thread().is_alive():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._left.wait(), _LOOKS_S)

    async def _batch(self) -> pa.RecordBatch | None:
        return await anext(self._stream, None)


__all__ = ["Batches"]
