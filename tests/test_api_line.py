"""The line: so many at a time, the lowest ticket first, and nobody is forgotten who goes away."""

from __future__ import annotations

import random

import anyio
import pytest
from anyio.lowlevel import checkpoint

from harvester.api.line import Line

pytestmark = pytest.mark.anyio


async def settled() -> None:
    for _ in range(20):
        await checkpoint()


async def test_the_lowest_ticket_goes_first_whoever_came_first() -> None:
    line, went = Line(1), list[int]()
    free = anyio.Event()

    async def first() -> None:
        async with line.turn((9, 0)):
            await free.wait()

    async def go(rank: int) -> None:
        async with line.turn((rank, rank)):
            went.append(rank)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first)
        await settled()
        for rank in (5, 3, 8, 1):
            tasks.start_soon(go, rank)
            await settled()
        assert went == []
        free.set()
    assert went == [1, 3, 5, 8]


async def test_never_more_than_so_many_and_none_is_lost_when_some_are_cancelled() -> None:
    dice, line = random.Random(7), Line(3)
    within = most = done = 0
    stay = [anyio.Event() for _ in range(60)]

    async def go(number: int, scope: anyio.CancelScope) -> None:
        nonlocal within, most, done
        with scope:
            async with line.turn((dice.randrange(5), number)):
                within += 1
                most = max(most, within)
                try:
                    await stay[number].wait()
                finally:
                    within -= 1
            done += 1

    scopes = [anyio.CancelScope() for _ in stay]
    cancelled = set(dice.sample(range(60), 25))  # some of them have a turn, and some wait
    async with anyio.create_task_group() as tasks:
        for number, scope in enumerate(scopes):
            tasks.start_soon(go, number, scope)
        await settled()
        for number in sorted(cancelled):
            scopes[number].cancel()
            await settled()
        for event in stay:
            event.set()
    assert (within, most, done) == (0, 3, 60 - len(cancelled))
    async with line.turn((0, 0)):
        pass
