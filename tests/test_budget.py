"""The memory budget: never more than it is, in order, and never a wait for ever."""

from __future__ import annotations

import random

import anyio
import pytest
from anyio.lowlevel import checkpoint

from harvester.budget import Budget, Hold

pytestmark = pytest.mark.anyio


async def settled() -> None:
    """Every task has gone as far as it can."""
    for _ in range(20):
        await checkpoint()


async def test_what_fits_is_had_at_once_and_released_whole() -> None:
    budget = Budget(100)
    with budget.parking() as hold:
        await hold.grow(20)
        assert (budget.held, budget.parked, budget.parked_holds) == (20, 20, 1)
        await hold.work(60)
        assert (hold.size, budget.held, budget.parked, budget.parked_holds) == (80, 80, 0, 0)
        hold.shrink(30)
        hold.shrink(40)
        assert budget.held == 30
        hold.release()
    assert (budget.held, budget.most_held) == (0, 80)


async def test_parked_bytes_take_their_share_but_for_the_senior() -> None:
    budget = Budget(100)
    holds = [budget.parking() for _ in range(3)]
    async with anyio.create_task_group() as tasks:
        for hold in holds:
            await hold.grow(8)
        for hold in reversed(holds):
            tasks.start_soon(hold.grow, 8)
            await settled()
        assert [hold.size for hold in holds] == [8, 8, 16]  # the first to go beyond the share goes on to its end
        assert budget.parked == 32
        holds[2].release()
        await settled()
        assert [hold.size for hold in holds] == [16, 16, 0]  # within the share, and the next senior


async def test_a_lower_rank_goes_first_whatever_was_made_earlier() -> None:
    budget, went = Budget(100), list[int]()

    async def work(rank: int, hold: Hold) -> None:
        await hold.work(60)
        went.append(rank)

    async with anyio.create_task_group() as tasks:
        with budget.working() as first:
            await first.work(60)
            for rank in (3, 1, 2):
                tasks.start_soon(work, rank, budget.parking(rank))
                await settled()
            sealing = budget.working(rank=0)
            tasks.start_soon(work, 0, sealing)
            await settled()
        await settled()
        assert went == [0]
        sealing.release()
        await settled()
        assert went == [0, 1]
        tasks.cancel_scope.cancel()


async def test_work_goes_in_the_order_in_which_queries_were_made() -> None:
    budget, went = Budget(100), list[int]()

    async def work(number: int, hold: Hold) -> None:
        await hold.work(60)
        went.append(number)

    holds = [budget.parking() for _ in range(3)]
    async with anyio.create_task_group() as tasks:
        with budget.working() as first:
            await first.work(60)
            for number in (2, 0, 1):
                tasks.start_soon(work, number, holds[number])
            await settled()
            assert went == []
        for count in (1, 2, 3):
            await settled()
            assert went == list(range(count))
            holds[count - 1].release()
    assert budget.held == 0


async def test_what_does_not_fit_at_all_goes_alone() -> None:
    budget = Budget(100)
    with budget.working() as other, budget.parking() as hold:
        await other.work(10)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold.work, 150)
            await settled()
            assert hold.size == 0
            other.release()
        assert hold.size == 150


async def test_whoever_is_cancelled_while_it_waits_is_in_nobodys_way() -> None:
    budget = Budget(100)
    impatient = anyio.CancelScope()
    with budget.working() as other, budget.parking() as large, budget.parking() as small:
        await other.work(80)

        async def wait() -> None:
            with impatient:
                await large.work(90)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            tasks.start_soon(small.work, 20)
            await settled()
            assert small.size == 0
            impatient.cancel()
        assert (large.size, small.size, budget.held) == (0, 20, 100)


@pytest.mark.parametrize("seed", range(12))
async def test_any_mix_of_queries_ends_and_keeps_within_the_budget(seed: int) -> None:
    dice = random.Random(seed)
    budget, ended = Budget(1000), 0
    cap = budget.most_a_hold // 4  # as answers are capped: packed, and three times as much at work

    async def query(body: int) -> None:
        nonlocal ended
        with budget.parking() as hold:
            while hold.size < body:
                await hold.grow(min(dice.randint(1, 40), body - hold.size))
                for _ in range(dice.randint(0, 2)):
                    await checkpoint()
            await hold.work(3 * body)
            await settled()
            hold.shrink(body)
            await settled()
        ended += 1

    async def seal() -> None:
        nonlocal ended
        with budget.working() as hold:
            await hold.work(dice.randint(1, 250))
            await settled()
        ended += 1

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for _ in range(60):
                tasks.start_soon(query, dice.randint(1, cap))
                if dice.random() < 0.2:
                    tasks.start_soon(seal)
                    ended -= 1
    assert ended == 60
    assert 0 < budget.most_held <= budget.size
    assert budget.held == budget.parked == budget.parked_holds == 0
