"""Asks questions to their ends, a few at a time, under the one limiter. What an answer means is the question's matter.

A question that waits, after a failure or because askings have to be apart in time, holds no turn and no permit.
"""

from __future__ import annotations

import random
from heapq import heappop, heappush
from typing import TYPE_CHECKING

import anyio

from harvester.errors import AttemptFailed, SliceRefused, first_of
from harvester.events import log
from harvester.harvest.reaching import Reach

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harvester.api.client import Client
    from harvester.api.limiter import Permit
    from harvester.config import Settings
    from harvester.harvest.questions import Asking, Source


class Asker:
    """Asks ``Asking`` after ``Asking``.

    Attributes:
        source: what the answers tell of the source.
        queries: queries asked, retries not counted.
        draining: whether nothing more is begun.
        trouble: the last failure, in one line, and when it was; None if there was none.
    """

    def __init__(self, settings: Settings, client: Client, source: Source) -> None:
        self.source = source
        self.queries = 0
        self.draining = False
        self._ends = False
        self.trouble: tuple[float, str] | None = None
        self._settings = settings
        self._client = client
        self._reach = Reach(settings, client)
        self._dice = random.Random(settings.tuning.seed)  # noqa: S311 - jitter, not secrecy
        self._waiting: list[tuple[float, int, Asking]] = []
        self._silent: list[Asking] = []
        self._pushed = 0
        self._busy = 0
        self._changed = anyio.Event()
        self._permit_wait: anyio.CancelScope | None = None

    def drain(self) -> None:
        """Begins nothing more; ``ask`` returns when what is in flight has been taken."""
        self.draining = True
        if self._permit_wait is not None:
            self._permit_wait.cancel()
        self._changed.set()

    async def ask(self, askings: Iterable[Asking]) -> list[Asking]:
        """Asks until all are done, or it is drained.

        Returns:
            Those that can't go on, because the function has named nothing at all since they were silent.

        Raises:
            AccessRefused: the account or the address is refused.
            ServerNotReached: there is no point in going on.
        """
        for asking in askings:
            self._push(asking)
        self._ends = False
        try:
            async with anyio.create_task_group() as group:
                await self._ask_all(group)
        except BaseExceptionGroup as raised:
            raise first_of(raised) from None
        finally:
            silent, self._silent, self._waiting = self._silent, [], []
        return silent

    async def _ask_all(self, group: anyio.abc.TaskGroup) -> None:
        while True:
            self._changed = anyio.Event()
            begins = bool(self._waiting) and not (self.draining or self._ends)
            if not begins and not self._busy:
                return
            until: float | None = None
            if begins and self._busy < (self._client.limiter.concurrency if self._client.admitted else 1):
                until = self._waiting[0][0]
                if until <= anyio.current_time():
                    await self._begin(group)
                    continue
            with anyio.move_on_after(None if until is None else until - anyio.current_time()):
                await self._changed.wait()

    async def _begin(self, group: anyio.abc.TaskGroup) -> None:
        """Takes a permit, and then sees who is first: things may have changed while waiting for it."""
        permit: Permit | None = None
        with anyio.CancelScope() as self._permit_wait:
            permit = await self._client.limiter.acquire()
        self._permit_wait = None
        if permit is None:
            return
        if self.draining or self._ends or self._waiting[0][0] > anyio.current_time():
            permit.unused()
            return
        asking = heappop(self._waiting)[2]
        if not asking.counted:
            asking.counted = True
            self.queries += 1
        self._busy += 1
        group.start_soon(self._ask, asking, permit)

    async def _ask(self, asking: Asking, permit: Permit) -> None:
        try:
            await self._ask_once(asking, permit)
        except BaseException:
            self._ends = True  # no query goes out before that has come round
            raise
        finally:
            permit.release()
            self._busy -= 1
            self._changed.set()
        if not asking.done:
            self._push(asking)
        self._let_go_on(anyio.current_time())

    async def _ask_once(self, asking: Asking, permit: Permit) -> None:
        try:
            page = await self._client.attempt(asking.query, permit)
            self._reach.answered()
            asking.take(page, anyio.current_time(), self.source)
            asking.succeeded()
        except AttemptFailed as error:
            self._failed(asking, error)
        except SliceRefused as error:
            self._reach.answered()
            asking.refuse(str(error))

    def _failed(self, asking: Asking, error: AttemptFailed) -> None:
        now = anyio.current_time()
        self.trouble = (now, str(error))
        log.info("attempt failed", query=str(asking.query), kind=type(error).__name__, reason=str(error))
        if not self._reach.failed(error, now, asking.failures):
            return
        asking.failed(error, now, self._settings, self._dice)
        if asking.too_big and not asking.done and (halves := asking.halves()):
            asking.done = True
            for half in halves:
                self._push(half)

    def _push(self, asking: Asking) -> None:
        if asking.silent:
            self._silent.append(asking)
            return
        self._pushed += 1
        heappush(self._waiting, (asking.ready_at, self._pushed, asking))
        self._changed.set()

    def _let_go_on(self, now: float) -> None:
        """Whoever was silent may go on once the function has named something since."""
        silent, self._silent = self._silent, []
        for asking in silent:
            asking.hear(self.source)
            asking.ready_at = max(asking.ready_at, now)
            self._push(asking)


__all__ = ["Asker"]
