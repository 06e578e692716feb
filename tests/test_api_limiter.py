"""The rate: never more than burst + rate x T over any window, by all tasks together, whatever pauses begin when.

Time is turned by hand: a loop that jumps to the next timer where it would wait.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harvester.api.limiter import Limiter, Permit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class TurnedByHand(asyncio.SelectorEventLoop):
    """A loop whose clock stands still while anything is left to do, and jumps to the next timer then."""

    _now = 1000.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        loop: Any = self
        timers = [timer.when() for timer in loop._scheduled if not timer.cancelled()]
        if timers and not loop._ready:
            self._now = max(self._now, min(timers)) + 1e-9
        above: Any = super()
        above._run_once()


def run(main: Callable[[], Awaitable[T]]) -> T:
    async def awaited() -> T:
        return await main()

    with asyncio.Runner(loop_factory=TurnedByHand) as runner:
        return runner.run(awaited())


def most_over_any_window(times: list[float], rate: float, burst: int) -> None:
    """Checks every window that begins and ends with a permit: no other holds more."""
    for first, last in itertools.combinations(range(len(times)), 2):
        assert last - first + 1 <= burst + rate * (times[last] - times[first]) + 1e-3


@settings(max_examples=60)
@given(
    rate=st.sampled_from([0.1, 1.0, 8.0, 50.0]),
    burst=st.integers(1, 5),
    concurrency=st.integers(1, 6),
    waits=st.lists(st.floats(0, 3), min_size=1, max_size=12),
    pauses=st.lists(st.tuples(st.floats(0, 20), st.floats(0, 10)), max_size=4),
)
def test_the_rate_holds_over_any_window_and_pauses_stop_all(
    rate: float, burst: int, concurrency: int, waits: list[float], pauses: list[tuple[float, float]]
) -> None:
    times: list[float] = []
    paused: list[tuple[float, float]] = []

    async def main() -> None:
        limiter = Limiter(rate, burst, concurrency)

        async def task(wait: float) -> None:
            await anyio.sleep(wait)
            for _ in range(4):
                with await limiter.acquire():
                    times.append(anyio.current_time())
                    assert limiter.in_flight <= concurrency
                    await anyio.sleep(wait)

        async def pause(after: float, seconds: float) -> None:
            await anyio.sleep(after)
            paused.append((anyio.current_time(), anyio.current_time() + seconds))
            limiter.pause(seconds)

        async with anyio.create_task_group() as tasks:
            for wait in waits:
                tasks.start_soon(task, wait)
            for after, seconds in pauses:
                tasks.start_soon(pause, after, seconds)
        assert limiter.issued == len(times) == 4 * len(waits)
        assert limiter.in_flight == 0

    run(main)
    most_over_any_window(sorted(times), rate, burst)
    for begin, end in paused:
        assert not [when for when in times if begin < when < end]


def test_the_full_rate_is_reached() -> None:
    async def main() -> float:
        limiter = Limiter(8.0, 1, 4)
        began = anyio.current_time()
        for _ in range(81):
            (await limiter.acquire()).release()
        return anyio.current_time() - began

    assert run(main) == pytest.approx(10.0, rel=0.01)


def test_a_burst_is_admitted_at_once_after_a_quiet_time_and_none_after_a_pause() -> None:
    async def main() -> list[float]:
        limiter = Limiter(2.0, 3, 10)
        began = anyio.current_time()
        times = []
        for number in range(8):
            if number == 4:
                limiter.pause(10.0)
            await limiter.acquire()
            times.append(round(anyio.current_time() - began, 2))
        return times

    assert run(main) == [0, 0, 0, 0.5, 11.0, 11.5, 12.0, 12.5]


def test_waiters_of_a_pause_do_not_wait_out_the_old_turn_as_well() -> None:
    async def main() -> float:
        limiter = Limiter(0.01, 1, 4)
        await limiter.acquire()
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(limiter.acquire)
            await anyio.sleep(90.0)
            limiter.pause(1.0)
        return anyio.current_time() - began

    assert run(main) == pytest.approx(90 + 1 + 100, abs=0.1)


def test_a_longer_pause_under_way_is_kept_and_a_shorter_one_extends_nothing() -> None:
    async def main() -> None:
        limiter = Limiter(1000.0, 1, 4)
        assert limiter.paused_s == 0
        limiter.pause(60.0)
        limiter.pause(5.0)
        assert limiter.paused_s == pytest.approx(60.0, abs=0.01)
        began = anyio.current_time()
        await limiter.acquire()
        assert anyio.current_time() - began == pytest.approx(60.0, abs=0.01)
        assert limiter.paused_s == 0

    run(main)


def test_a_permit_from_before_a_pause_is_void_and_gets_another_turn() -> None:
    async def main() -> None:
        limiter = Limiter(1.0, 1, 1)
        permit = await limiter.acquire()
        began = anyio.current_time()
        await permit.confirm()
        assert anyio.current_time() == pytest.approx(began, abs=1e-6)
        limiter.pause(5.0)
        void = [permit.void]
        await permit.confirm()
        void.append(permit.void)
        assert void == [True, False]
        assert anyio.current_time() - began == pytest.approx(6.0, abs=0.01)
        assert limiter.issued == 2
        assert limiter.in_flight == 1

    run(main)


def test_slots_are_given_back_once_by_any_way_out() -> None:
    async def main() -> None:
        limiter = Limiter(1000.0, 10, 2)
        first, second = await limiter.acquire(), await limiter.acquire()
        assert limiter.in_flight == 2
        with anyio.move_on_after(5) as scope:
            await limiter.acquire()
        assert scope.cancelled_caught
        first.release()
        first.release()
        with second:
            pass
        assert limiter.in_flight == 0
        for _ in range(3):
            with pytest.raises(ZeroDivisionError), await limiter.acquire():
                raise ZeroDivisionError
        assert limiter.in_flight == 0

    run(main)


def test_a_cancelled_waiter_loses_neither_slot_nor_turn() -> None:
    async def main() -> None:
        limiter = Limiter(1.0, 1, 3)
        await limiter.acquire()
        for _ in range(5):
            with anyio.move_on_after(0.1):
                await limiter.acquire()
        began = anyio.current_time()
        permits: list[Permit] = [await limiter.acquire(), await limiter.acquire()]
        assert anyio.current_time() - began == pytest.approx(1.5, abs=0.01)
        assert limiter.in_flight == len(permits) + 1

    run(main)


def test_the_rate_used_is_of_late() -> None:
    async def main() -> None:
        limiter = Limiter(4.0, 1, 1)
        assert limiter.rate_used() == 0
        for _ in range(200):
            (await limiter.acquire()).release()
        assert limiter.rate_used() == pytest.approx(4.0, rel=0.1)
        assert limiter.rate_used(5.0) == pytest.approx(4.0, rel=0.25)
        await anyio.sleep(15)
        assert limiter.rate_used() == pytest.approx(2.0, rel=0.1)
        await anyio.sleep(1000)
        assert limiter.rate_used() == 0

    run(main)
