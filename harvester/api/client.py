"""The client: one paced attempt at one query. Retries are the scheduler's.

The body arrives on the loop; unpacking, decoding and typing run together in one call on a worker thread, by which time
the permit's slot is free again. All of it is counted in the budget before it is there.

Invariant: the MD5 code is in the request's body and nowhere else.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from harvester.api import meaning
from harvester.api.limiter import Limiter
from harvester.api.line import Line
from harvester.api.pace import Pace
from harvester.api.records import Fault, Words
from harvester.api.shown import LOOKED_AT, field_name, prose, shown, words
from harvester.api.transport import ConnectedLate, Transport
from harvester.api.unpack import counted_size, said_size, unpacked
from harvester.api.wires import speaker
from harvester.budget import Budget
from harvester.errors import (
    AttemptFailed,
    HarvesterError,
    NotConnected,
    NotData,
    OverCap,
    SliceRefused,
    Throttled,
    TurnedAway,
)
from harvester.model import Page

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from harvester.api.limiter import Permit
    from harvester.api.pace import Sent
    from harvester.api.transport import Answer
    from harvester.api.wires import Speaker
    from harvester.budget import Hold
    from harvester.config import Settings
    from harvester.model import Borne, Query


_READING_BYTES = 2**17
"""What reading takes however small an answer is."""
_PAGED_TIMES = 1.5
_LIST_TIMES = 3
"""What a page takes until it is in the lake, for each byte of it: it is encoded, and a list is sorted before."""

_LONGEST_REFUSAL_BYTES = 256 * 1024
"""No sentence that refuses access, and hardly a proxy's page, is longer, as it comes."""
_SMALL_BYTES = 32 * 1024
"""Reading an answer of up to this many bytes takes less than the way to another thread and back."""
_SMALL_S = 0.008
"""… and about so many seconds at most, in which the loop does nothing else."""


class Client:
    """Asks queries, one attempt at a time: ``async with Client.open(settings) as client``.

    Attributes:
        limiter: where permits come from.
        pace: what the server bears, as far as it is known.
        budget: what answers may take in memory, all together.
        attempts: attempts made so far.
        reached: whether the server was connected to at least once.
        admitted: whether the API is known to let this account in. Until then one query goes at a time, since it may be
            refused.
        earnest_bytes: the size, as it came, of the first answer that is too long to be a refusal; 0 before that.
    """

    def __init__(
        self, settings: Settings, transport: Transport, limiter: Limiter, speaks: Speaker | None = None
    ) -> None:
        """``speaks`` reads the answers; if not given, who speaks the wire of the settings."""
        self.limiter = limiter
        self.pace = self._pace(settings, None)
        self.budget = Budget(settings.memory)
        self.attempts = 0
        self.reached = False
        self.admitted = False
        self.earnest_bytes = 0
        self._settings = settings
        self._hide = settings.client_md5.hidden_in
        self._transport = transport
        self._line = Line(os.cpu_count() or 1)
        self._speaker = speaks or speaker(settings)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator[Client]:
        """A client with a transport and a limiter of its own."""
        async with Transport(settings) as transport:
            yield cls(settings, transport, Limiter(settings.rate, settings.burst, settings.concurrency))

    def begin_with(self, borne: Borne) -> None:
        """Begins with what an earlier run found that the server bears. To be called before anything is asked."""
        self.pace = self._pace(self._settings, borne)
        self._follow()

    @staticmethod
    def _pace(settings: Settings, borne: Borne | None) -> Pace:
        return Pace(
            settings.rate,
            settings.concurrency,
            adaptive=settings.adaptive,
            borne=borne,
            backoff_s=settings.tuning.backoff_s,
            backoff_cap_s=settings.tuning.backoff_cap_s,
        )

    def _follow(self) -> None:
        self.limiter.change(self.pace.rate, self.pace.concurrency)

    @property
    def answer_cap_bytes(self) -> int:
        """The largest body of an answer that is read, unpacked."""
        return self._speaker.cap_bytes

    @property
    def record_bytes(self) -> int:
        """What a record is taken to need of that, before one has come."""
        return self._speaker.record_bytes

    async def attempt(self, query: Query, permit: Permit, hold: Hold | None = None) -> Page:
        """Ask ``query`` once. The MD5 code is in no error's text, whatever the server said.

        Args:
            query: what to ask.
            permit: the right to ask, from ``limiter``. Its slot is free again as soon as the body is here.
            hold: of the budget, parked. It stays with the page, and whoever is done with that releases it. If there is
                none, the page counts for nothing.

        Returns:
            The records in the order served, not yet checked for continuity. An empty answer is a page without rows.

        Raises:
            AttemptFailed: asking again may help. After ``Throttled`` the limiter is paused already.
            AccessRefused: the account or the address is refused.
            SliceRefused: the API says that it can't be had.
        """
        try:
            with self.budget.parking() if hold is None else nullcontext(hold) as held:
                page = await self._attempt(query, permit, held)
        except HarvesterError as error:
            if not isinstance(error, AttemptFailed):
                self.admitted = isinstance(error, SliceRefused)
            error.args = (self._hide(str(error)),)
            raise
        self.admitted = True
        return page

    async def _attempt(self, query: Query, permit: Permit, hold: Hold) -> Page:
        with permit:
            answer, failure, took_s = await self._ask(query, permit, hold)
        if isinstance(failure, Throttled):
            raise failure
        async with self._line.turn(hold.ticket):
            page = await self._read(query, answer, failure, hold)
        if isinstance(page, HarvesterError):
            raise page
        size = page.batch.get_total_buffer_size()  # at a tenth of the time that nbytes takes, with so many columns
        hold.shrink(int(size * (_PAGED_TIMES if query.dataset.paged else _LIST_TIMES)))
        return replace(page, seconds=took_s)

    async def _ask(self, query: Query, permit: Permit, hold: Hold) -> tuple[Answer, HarvesterError | None, float]:
        """Ask once, when it is the permit's turn, and learn from the answer; with it, how many seconds it took."""
        wire, leaving = self._speaker, _Leaving(self.pace, permit, query)
        self.attempts += 1
        while True:
            await permit.confirm()
            try:
                answer = await self._transport.post(wire.path, wire.call(query), wire.content_type, hold, leaving.leave)
                break
            except ConnectedLate:
                continue
            except BaseException as error:
                if leaving.sent is not None:
                    self.pace.lost(leaving.sent)
                if isinstance(error, AttemptFailed) and not isinstance(error, NotConnected):
                    self.reached = True
                raise
        self.reached = True
        failure = meaning.of_status(answer.status, answer.retry_after)
        assert leaving.sent is not None
        now = anyio.current_time()
        self._learn(leaving.sent, now, failure)
        if failure is None and not self.earnest_bytes and answer.wire_bytes > _LONGEST_REFUSAL_BYTES:
            self.earnest_bytes = answer.wire_bytes
            self.admitted = True  # reading so long an answer takes its time
        return answer, failure, now - leaving.sent.at

    def _learn(self, sent: Sent, now: float, failure: HarvesterError | None) -> None:
        """Learns from an answer how much the server bears, and pauses if it asks for that."""
        if isinstance(failure, Throttled):
            self.limiter.pause(self.pace.throttled(sent, now, failure.retry_after_s))
        elif failure is None:
            self.pace.answered(sent, now)
        elif isinstance(failure, TurnedAway):
            self.pace.turned_away(sent, now)
        else:
            self.pace.lost(sent)
        self._follow()

    async def _read(
        self, query: Query, answer: Answer, failure: HarvesterError | None, hold: Hold
    ) -> Page | HarvesterError:
        """The answer's page or error; it is read once there is room for what that takes."""
        cap = self._speaker.cap_bytes
        size = said_size(answer.chunks, answer.content_encoding)
        if size is None:
            size = await anyio.to_thread.run_sync(counted_size, answer.chunks, answer.content_encoding, cap)
        size = min(size, cap)
        while True:
            await hold.work(int(self._speaker.needs * size) + _READING_BYTES)
            if size <= _SMALL_BYTES:
                await self.limiter.give_way(_SMALL_S)
                page = self._page_or_error(query, answer, failure, size)
            else:
                page = await anyio.to_thread.run_sync(self._page_or_error, query, answer, failure, size)
            if not isinstance(page, OverCap) or size == cap:
                return page
            hold.shrink(answer.wire_bytes)
            hold.park()
            if await anyio.to_thread.run_sync(counted_size, answer.chunks, answer.content_encoding, cap) <= size:
                return page
            size = cap  # the body is larger than it said

    def _page_or_error(
        self, query: Query, answer: Answer, failure: HarvesterError | None, size: int
    ) -> Page | HarvesterError:
        """As ``_page``, its errors as values: with their tracebacks they would keep the body in memory, too."""
        try:
            return self._page(query, answer, failure, size)
        except HarvesterError as error:
            error.__cause__ = error.__context__ = None
            return error.with_traceback(None)
        except MemoryError:
            return OverCap("there is not enough memory for the answer")
        except Exception as error:  # noqa: BLE001  whatever an answer does to a decoder, the other sends go on
            return NotData(f"the answer can't be read ({type(error).__name__})")

    def _page(self, query: Query, answer: Answer, failure: HarvesterError | None, size: int) -> Page:
        """Unpack, decode and type an answer; on a worker thread."""
        try:
            decoded = self._speaker.read(query.dataset, answer, size)
        except AttemptFailed as error:
            raise self._told(failure or error, answer) from None
        if isinstance(decoded, Words):
            text = words(decoded.text, self._hide)
            if self._speaker.redacts:
                text = prose(text, self._speaker.redacts)
            said = meaning.of_fault(text) if isinstance(decoded, Fault) else meaning.of_words(text)
            raise said if failure is None or meaning.decides(said) else self._told(failure, answer)
        if failure is not None and not (decoded.rows and meaning.rows_count(answer.status)):
            raise self._told(failure, answer)
        batch = self._speaker.typed(decoded, query)
        return Page(query, batch, size, frozenset(map(field_name, decoded.met)), answer.wire_bytes)

    def _told(self, error: HarvesterError, answer: Answer) -> HarvesterError:
        """The error with how the answer begins in its text, as far as that can be read at all."""
        head = bytearray()
        with suppress(AttemptFailed):
            for piece in unpacked(answer.chunks, answer.content_encoding, self._settings.answer_cap_bytes):
                head += piece[: LOOKED_AT + 1]
                if len(head) > LOOKED_AT:
                    break
        begins = shown(head, self._hide, self._speaker.redacts)
        return type(error)(f"{error}; it begins: {begins}") if begins else error


class _Leaving:
    """An attempt before it leaves, and as it does."""

    def __init__(self, pace: Pace, permit: Permit, query: Query) -> None:
        self.sent: Sent | None = None
        self._pace = pace
        self._permit = permit
        self._kind = (query.dataset.name, (query.limit or 0).bit_length())

    def leave(self) -> bool:
        """There is a connection: it leaves, unless its turn is over."""
        if self._permit.still_good():
            self.sent = self._pace.sent(self._kind, anyio.current_time())
        return self.sent is not None


__all__ = ["Client"]
