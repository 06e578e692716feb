"""The rate: never more than burst + rate x T over any window, by all tasks together, whatever pauses begin when.

Time is turned by hand: a loop that jumps to the next timer where it would wait.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harvester.api.limiter import LATE_S, Limiter, Permit
from tests.thorough import examples

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


class Coarse(TurnedByHand):
    """A loop as real ones are: it wakes up at whole milliseconds, rounded up, and going round once takes a while."""

    def _run_once(self) -> None:
        loop: Any = self
        timers = [timer.when() for timer in loop._scheduled if not timer.cancelled()]
        if timers and not loop._ready and min(timers) > self._now:
            self._now += math.ceil((min(timers) - self._now) * 1e3) / 1e3
        self._now += 2e-5
        super()._run_once()


def run(main: Callable[[], Awaitable[T]], loop: type[TurnedByHand] = TurnedByHand) -> T:
    async def awaited() -> T:
        return await main()

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(awaited())


def most_over_any_window(times: list[float], rate: float, burst: int) -> None:
    """Checks every window that begins and ends with a permit: no other holds more."""
    for first, last in itertools.combinations(range(len(times)), 2):
        assert last - first + 1 <= burst + rate * (times[last] - times[first]) + 1e-3


@settings(max_examples=examples(60))
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


@pytest.mark.parametrize(("rate", "least"), [(8.0, 0.99), (10.0, 0.99), (50.0, 0.97)])
def test_on_a_clock_of_milliseconds_too_and_whatever_the_latency(rate: float, least: float) -> None:
    async def main() -> float:
        limiter = Limiter(rate, 1, 1000)
        dice = random.Random(1)
        began, times = anyio.current_time(), list[float]()

        async def attempt(permit: Permit) -> None:
            with permit:
                await anyio.sleep(dice.uniform(0.2, 3.0))

        async with anyio.create_task_group() as tasks:
            for _ in range(int(8 * rate) + 1):
                permit = await limiter.acquire()
                times.append(anyio.current_time())
                tasks.start_soon(attempt, permit)
        return 8 / (times[-1] - began)

    assert least <= run(main, Coarse) <= 1.0


@pytest.mark.parametrize(("rate", "burst"), [(8.0, 1), (50.0, 3)])
def test_what_leaves_late_waits_for_another_turn_so_that_nothing_bunches_at_the_server(rate: float, burst: int) -> None:
    left: list[float] = []

    async def main() -> None:
        limiter = Limiter(rate, burst, 40)
        dice = random.Random(2)

        async def attempt(permit: Permit) -> None:
            with permit:
                while True:
                    await permit.confirm()
                    await anyio.sleep(dice.choice([0.0, 0.0, 0.0, 0.01, 0.3, 0.7]))  # it may have to connect
                    if permit.still_good():
                        break
                left.append(anyio.current_time())
                await anyio.sleep(dice.uniform(0.0, 1.0))

        async with anyio.create_task_group() as tasks:
            for _ in range(400):
                tasks.start_soon(attempt, await limiter.acquire())
        assert len(left) == 400
        assert limiter.in_flight == 0

    run(main)
    left.sort()
    for first, last in itertools.combinations(range(len(left)), 2):
        assert last - first + 1 <= burst + rate * (left[last] - left[first] + 2 * LATE_S)


def test_a_permit_that_was_not_needed_costs_no_turn() -> None:
    async def main() -> None:
        limiter = Limiter(1.0, 1, 2)
        began = anyio.current_time()
        for _ in range(5):
            (await limiter.acquire()).unused()
        first = await limiter.acquire()
        assert anyio.current_time() - began == pytest.approx(0.0, abs=1e-3)
        second = await limiter.acquire()
        first.unused()  # another came after it
        first.unused()
        assert (limiter.issued, limiter.in_flight) == (2, 1)
        third = await limiter.acquire()
        assert anyio.current_time() - began == pytest.approx(2.0, abs=1e-3)
        second.release()
        third.release()
        assert limiter.in_flight == 0

    run(main)


def test_whoever_waits_goes_sooner_where_a_turn_is_given_back_or_the_rate_rises() -> None:
    async def main() -> list[float]:
        limiter = Limiter(0.1, 1, 5)
        began, times = anyio.current_time(), list[float]()

        async def acquire() -> None:
            await limiter.acquire()
            times.append(round(anyio.current_time() - began, 3))

        async with anyio.create_task_group() as tasks:
            permit = await limiter.acquire()
            for _ in range(3):
                tasks.start_soon(acquire)
            await anyio.sleep(1.0)
            permit.unused()
            await anyio.sleep(2.0)
            limiter.change(1.0, 5)
        return times

    assert run(main) == [1.0, 3.8, 4.8]


def test_what_keeps_the_loop_busy_lets_a_turn_go_first_that_is_due() -> None:
    async def main() -> list[tuple[str, float]]:
        limiter = Limiter(10.0, 1, 9)
        began, order = anyio.current_time(), list[tuple[str, float]]()

        async def acquire() -> None:
            await limiter.acquire()
            order.append(("permit", round(anyio.current_time() - began, 3)))

        async def busy(name: str, seconds: float) -> None:
            await limiter.give_way(seconds)
            order.append((name, round(anyio.current_time() - began, 3)))

        await busy("nobody waits", 0.03)
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(acquire)
            await anyio.sleep(0.05)
            await busy("none is due", 0.03)
            await anyio.sleep(0.03)
            await busy("too long to wait with", 0.06)
            await busy("waits", 0.03)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(acquire)
            await anyio.sleep(0.08)
            tasks.start_soon(busy, "the turn is called off", 0.03)
            await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
        return order

    assert run(main) == [
        ("nobody waits", 0.0),
        ("permit", 0.0),
        ("none is due", 0.05),
        ("too long to wait with", 0.08),
        ("permit", 0.1),
        ("waits", 0.1),
    ]


def test_as_many_at_a_time_as_it_is_told_from_then_on() -> None:
    async def main() -> None:
        limiter = Limiter(1000.0, 100, 4)
        freed: list[int] = []
        limiter.on_release = lambda: freed.append(limiter.in_flight)
        held = [await limiter.acquire() for _ in range(4)]
        limiter.change(1000.0, 2)
        with anyio.move_on_after(1):
            await limiter.acquire()
        held.pop().release()
        held.pop().release()
        with anyio.move_on_after(1) as scope:
            await limiter.acquire()
        assert scope.cancelled_caught
        assert limiter.in_flight == limiter.concurrency == 2
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(limiter.acquire)
            await anyio.sleep(1)
            limiter.change(0.5, 3)
        assert (limiter.in_flight, limiter.rate) == (3, 0.5)
        assert len(freed) == 4

    run(main)


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
