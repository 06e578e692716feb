"""The rate: who may make an attempt, and when.

Nouns: a *permit* is the right to make one attempt at one query. It holds one of ``concurrency`` slots until released.

Invariant: over any window of T seconds at most ``burst + rate x T`` permits are issued, by all tasks together, counted
where they are issued; and a permit that is used later than ``LATE_S`` after that is issued anew, so that late requests
don't bunch at the server. A pause stops all tasks at once, and permits from before it are void. A permit that turns out
not to be needed is given back, and costs no turn.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Self

import anyio
import anyio.lowlevel

from harvester.api.bucket import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

SECONDS_KEPT = 120
"""How far back the issued permits are remembered, in seconds."""

LATE_S = 0.025
"""How long after its issue a permit may be used, in seconds. Half of what the server's view may differ by: the other
half is left to the way there."""

_COARSE_S = 0.001
"""Event loops wait in whole milliseconds, rounded up (``selectors.EpollSelector``)."""
_LEAST_ROUND_S = 1e-6
"""Going round the loop takes longer, by a real clock."""
_LAG_KEPT = 0.95
"""On a busy machine they wake up later; that is forgotten by so much with each permit."""
_BUSY_PART = 0.5
"""What takes up to such a part of the time between two permits waits for the next one."""
_WATCHED_PART = 0.1
"""For such a part of the time at most between two permits the loop is gone round instead of waited in."""


class Permit:
    """The right to make one attempt. Release it, or use it as a context manager; releasing twice is harmless."""

    __slots__ = ("_at", "_era", "_held", "_limiter", "_number")

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._held = True
        self._note()

    def _note(self) -> None:
        self._era, self._number, self._at = self._limiter.era, self._limiter.turns, anyio.current_time()

    @property
    def void(self) -> bool:
        """Whether a pause began after the permit was issued."""
        return self._era != self._limiter.era

    def still_good(self) -> bool:
        """Whether the attempt may leave now: the permit is neither void nor late."""
        return not self.void and anyio.current_time() - self._at <= LATE_S

    async def confirm(self) -> None:
        """Make sure that the permit is good: returns at once unless a pause began since it was issued, or it is late.

        Else it waits for another turn, keeping its slot. To be called right before asking.
        """
        if not self.still_good():
            self._limiter.give_back(self._number)
            await self._limiter.turn()
            self._note()

    def unused(self) -> None:
        """Give the permit back unused, slot and turn: as if it had not been issued, unless others were since."""
        if self._held:
            self._limiter.give_back(self._number)
            self.release()

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
        self.issued = 0
        """Permits issued so far, without those that were given back unused."""
        self.turns = 0
        """Turns taken so far, also by permits issued anew."""
        self.in_flight = 0
        """Permits held now."""
        self.era = 0
        """The number of pauses so far; a permit of an earlier era is void."""
        self.on_release: Callable[[], None] = _nothing
        """Called whenever a slot becomes free: whoever decides who goes next can decide again."""
        self._concurrency = concurrency
        self._bucket = Bucket(rate, burst)
        self._taken = 0
        self._door = anyio.Lock(fast_acquire=True)  # the first in line waits for a slot, the others for the first
        self._freed = anyio.Event()
        self._line = anyio.Lock(fast_acquire=True)  # likewise for the rate
        self._sooner = anyio.Event()
        self._lag_s = _COARSE_S
        self._due = math.inf  # when whoever is first in line has its turn
        self._turned = anyio.Event()
        self._paused_until = -math.inf
        self._lately: deque[tuple[int, int]] = deque(maxlen=SECONDS_KEPT)

    @property
    def rate(self) -> float:
        """Permits per second."""
        return self._bucket.rate

    @property
    def concurrency(self) -> int:
        """How many permits may be held at a time. Where more are held already, none is taken away."""
        return self._concurrency

    def change(self, rate: float, concurrency: int) -> None:
        """From now on, so many permits per second, and so many at a time."""
        if rate != self._bucket.rate:
            self._bucket.change_rate(rate, anyio.current_time())
            self._sooner.set()
        if concurrency != self._concurrency:
            self._concurrency = concurrency
            self._free()

    async def acquire(self) -> Permit:
        """Wait for a slot, then for the rate. Waiters are served in the order they came."""
        async with self._door:
            while self._taken >= self._concurrency:
                self._freed = anyio.Event()
                await self._freed.wait()
            self._taken += 1
        try:
            await self.turn()
        except BaseException:
            self._taken -= 1
            self._free()
            raise
        self.in_flight += 1
        return Permit(self)

    def pause(self, seconds: float) -> None:
        """Issue nothing for so many seconds, from now on; a longer pause that is under way is kept."""
        self.era += 1
        self._paused_until = max(self._paused_until, anyio.current_time() + max(seconds, 0.0))
        self._bucket.fill(self._paused_until)

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

    async def turn(self) -> None:
        """Wait for the rate alone."""
        async with self._line:
            try:
                while anyio.current_time() < (due := self._bucket.ready_at):  # it may change meanwhile
                    self._due = due
                    await self._until(due)
                self._bucket.take(anyio.current_time())
            finally:
                self._due = math.inf
                self._turned.set()
            self.turns += 1
            self._count(1)

    async def give_way(self, busy_s: float) -> None:
        """To be called before the loop is kept busy for so many seconds: if a turn is due in that time, it goes first.

        Returns at once where turns come so fast that something is always due.
        """
        if self._due - anyio.current_time() < busy_s < _BUSY_PART / self._bucket.rate:
            if self._turned.is_set():
                self._turned = anyio.Event()
            await self._turned.wait()

    async def _until(self, due: float) -> None:
        """Waits until a time and hardly longer, or until it may be sooner.

        The last instants by going round the loop, where its clock runs: for as long as it woke up late lately.
        """
        sooner = self._sooner = anyio.Event()
        wake_at = due - min(self._lag_s, _WATCHED_PART / self._bucket.rate)
        with anyio.move_on_after(wake_at - anyio.current_time()) as slept:
            await sooner.wait()
        if slept.cancelled_caught:
            self._lag_s = max(_COARSE_S, anyio.current_time() - wake_at, self._lag_s * _LAG_KEPT)
        while (now := anyio.current_time()) < due and not sooner.is_set():
            await anyio.lowlevel.checkpoint()
            if anyio.current_time() - now < _LEAST_ROUND_S:  # a clock turned by hand stands still meanwhile
                await anyio.sleep_until(due)

    def give_back(self, number: int) -> None:
        """Undo a turn that was not used, unless there were others since; for permits."""
        if number == self.turns and self._bucket.give_back():
            self._count(-1)
            self._sooner.set()

    def _count(self, permits: int) -> None:
        self.issued += permits
        second = math.floor(anyio.current_time())
        if self._lately and self._lately[-1][0] == second:
            self._lately[-1] = (second, self._lately[-1][1] + permits)
        else:
            self._lately.append((second, permits))

    def put_back(self) -> None:
        """Take a slot back; for permits."""
        self.in_flight -= 1
        self._taken -= 1
        self._free()

    def _free(self) -> None:
        self._freed.set()
        self.on_release()


def _nothing() -> None:
    pass


__all__ = ["LATE_S", "SECONDS_KEPT", "Limiter", "Permit"]
