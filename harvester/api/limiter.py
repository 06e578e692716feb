"""The rate: who may make an attempt, and when.

Nouns: a *permit* is the right to make one attempt at one query. It holds one of ``concurrency`` slots until released.

Invariant: over any window of T seconds at most ``burst + rate x T`` permits are issued, by all tasks together, counted
where they are issued. A pause stops all tasks at once, and permits from before it are void.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Self

import anyio
from aiolimiter import AsyncLimiter

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

SECONDS_KEPT = 120
"""How far back the issued permits are remembered, in seconds."""


class Permit:
    """The right to make one attempt. Release it, or use it as a context manager; releasing twice is harmless."""

    __slots__ = ("_era", "_held", "_limiter")

    def __init__(self, limiter: Limiter, era: int) -> None:
        self._limiter = limiter
        self._era = era
        self._held = True

    @property
    def void(self) -> bool:
        """Whether a pause began after the permit was issued."""
        return self._era != self._limiter.era

    async def confirm(self) -> None:
        """Make sure that the permit is not void: returns at once unless a pause began since it was issued.

        Else it waits for another turn, keeping its slot. To be called right before asking.
        """
        if self.void:
            self._era = await self._limiter.turn()

    def release(self) -> None:
        """Give the slot back."""
        if self._held:
            self._held = False
            self._limiter.put_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Limiter:
    """Issues permits at a rate, as many at a time as ``concurrency``. One event loop may use it.

    Args:
        rate: permits per second.
        burst: how many may be issued at once after a quiet time.
        concurrency: how many may be held at a time.
    """

    def __init__(self, rate: float, burst: int, concurrency: int) -> None:
        self.rate = rate
        self.burst = burst
        self.concurrency = concurrency
        self.issued = 0
        """Permits issued so far."""
        self.in_flight = 0
        """Permits held now."""
        self.era = 0
        """The number of pauses so far; a permit of an earlier era is void."""
        self.on_release: Callable[[], None] = _nothing
        """Called whenever a slot becomes free: whoever decides who goes next can decide again."""
        self._slots = anyio.Semaphore(concurrency, fast_acquire=True)
        self._line = anyio.Lock(fast_acquire=True)  # the head of the line waits for the rate, the others for the head
        self._bucket: AsyncLimiter | None = self._smooth()
        self._head: anyio.CancelScope | None = None
        self._paused_until = -math.inf
        self._lately: deque[tuple[int, int]] = deque(maxlen=SECONDS_KEPT)

    async def acquire(self) -> Permit:
        """Wait for a slot, then for the rate. Waiters are served in the order they came."""
        await self._slots.acquire()
        try:
            era = await self.turn()
        except BaseException:
            self._slots.release()
            raise
        self.in_flight += 1
        return Permit(self, era)

    def pause(self, seconds: float) -> None:
        """Issue nothing for so many seconds, from now on; a longer pause that is under way is kept."""
        self.era += 1
        self._paused_until = max(self._paused_until, anyio.current_time() + max(seconds, 0.0))
        self._bucket = None
        if self._head is not None:
            self._head.cancel()

    @property
    def paused_s(self) -> float:
        """How long the pause still lasts, in seconds; 0 if there is none."""
        return max(0.0, self._paused_until - anyio.current_time())

    def rate_used(self, window_s: float = 30.0) -> float:
        """Permits issued per second over the last ``window_s`` seconds (at most 120), or since the first permit."""
        now = anyio.current_time()
        since = now - min(window_s, SECONDS_KEPT)
        recent = [(second, count) for second, count in self._lately if second >= math.floor(since)]
        if not recent:
            return 0.0
        return sum(count for _, count in recent) / max(1.0, now - max(since, self._lately[0][0]))

    async def turn(self) -> int:
        """Wait for the rate alone; returns the era that the turn belongs to."""
        async with self._line:
            while True:
                if self.paused_s:
                    await anyio.sleep_until(self._paused_until)
                    continue
                era = self.era
                with anyio.CancelScope() as scope:
                    self._head = scope
                    try:
                        await self._drip()
                    finally:
                        self._head = None
                if era == self.era:
                    self._count()
                    return era

    async def _drip(self) -> None:
        if self._bucket is None:
            # aiolimiter has no pause of its own: go on with a fresh one, emptied, so that no burst follows a pause.
            self._bucket = self._smooth()
            await self._bucket.acquire(self.burst)
        await self._bucket.acquire()

    def _smooth(self) -> AsyncLimiter:
        """The smooth form; ``AsyncLimiter(n, t)`` would admit n at once and then go on dripping."""
        return AsyncLimiter(self.burst, self.burst / self.rate)

    def _count(self) -> None:
        self.issued += 1
        second = math.floor(anyio.current_time())
        if self._lately and self._lately[-1][0] == second:
            self._lately[-1] = (second, self._lately[-1][1] + 1)
        else:
            self._lately.append((second, 1))

    def put_back(self) -> None:
        """Take a slot back; for permits."""
        self.in_flight -= 1
        self._slots.release()
        self.on_release()


def _nothing() -> None:
    pass


__all__ = ["SECONDS_KEPT", "Limiter", "Permit"]
