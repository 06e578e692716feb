"""When what is free is given back to the system."""

from __future__ import annotations

from mmap import PAGESIZE, mmap

import anyio
import anyio.lowlevel
import pytest

from harvester.console import resident

MIB = 2**20


class Pool:
    """A memory pool that is asked to give back."""

    def __init__(self) -> None:
        self.asked = 0

    def release_unused(self) -> None:
        self.asked += 1


def given_back(monkeypatch: pytest.MonkeyPatch, memory: int, *seen: int | None) -> int:
    """How often it is given back, where the process is seen to have so many bytes, at its start and then each time."""
    pool, sizes = Pool(), iter(seen)

    async def passes(_: float) -> None:
        await anyio.lowlevel.checkpoint()

    def next_size() -> int | None:
        try:
            return next(sizes)
        except StopIteration:
            raise KeyboardInterrupt from None  # enough seen

    async def until_all_is_seen() -> None:
        with pytest.raises(KeyboardInterrupt):
            await resident.give_back(memory)

    monkeypatch.setattr(resident, "resident_bytes", next_size)
    monkeypatch.setattr("harvester.console.resident.anyio.sleep", passes)
    monkeypatch.setattr("harvester.console.resident.pa.default_memory_pool", lambda: pool)
    anyio.run(until_all_is_seen)
    return pool.asked


def test_a_process_that_has_grown_by_three_eighths_of_the_budget_gives_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before, much = 100 * MIB, 100 * MIB + 192 * MIB
    assert given_back(monkeypatch, 512 * MIB, before, much - 1, much, much + 1, before) == 2


def test_where_nobody_tells_it_is_given_back_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    assert given_back(monkeypatch, 512 * MIB, None, None, None) == 2


def test_what_the_process_has_is_seen() -> None:
    before = resident.resident_bytes()
    if before is None:
        pytest.skip("the system does not tell")
    with mmap(-1, 64 * MIB) as block:  # new to the process, unlike what its allocator may still have
        for at in range(0, len(block), PAGESIZE):
            block[at] = 1
        during = resident.resident_bytes()
        assert during is not None
        assert during - before > len(block) // 2
