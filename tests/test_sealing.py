"""Sealing beside the harvest: slices side by side, one at a time each, within the budget, and a drain ends it."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import anyio
import pytest

from harvester.budget import Budget
from harvester.errors import LakeFull
from harvester.harvest import sealing as sealing_module
from harvester.harvest.sealing import Sealing
from harvester.lake.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from harvester.lake.lake import Lake

pytestmark = pytest.mark.anyio

GROUP = 10
HELD = 2 * GROUP
"""Sealing takes as much as two row groups."""


def lake_with(seal: Callable[[int], None]) -> Lake:
    """A lake of which sealing alone is known."""

    def sealed(slice_id: int, *, everything: bool) -> None:
        assert not everything
        seal(slice_id)

    return cast("Lake", SimpleNamespace(seal=sealed, sealer=SimpleNamespace(row_group_bytes=GROUP)))


@pytest.fixture
def two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing_module, "_AT_ONCE", 2)


@pytest.mark.usefixtures("two_at_once")
async def test_two_slices_are_sealed_side_by_side() -> None:
    together = threading.Barrier(2, timeout=60)

    def wait_for_another(_: int) -> None:
        together.wait()

    budget = Budget(4 * HELD)
    await Sealing(lake_with(wait_for_another), budget).seal([1, 2, 3, 4])
    assert (budget.held, budget.most_held) == (0, 2 * HELD)


@pytest.mark.usefixtures("two_at_once")
async def test_the_budget_wins_over_what_could_go_side_by_side() -> None:
    budget, sealed = Budget(HELD), list[int]()
    async with Sealing(lake_with(sealed.append), budget).beside([1, 2]) as seal_soon:
        seal_soon(3, 7)
    assert sorted(sealed) == [1, 2, 3]
    assert (budget.held, budget.most_held) == (0, HELD)


async def test_after_a_drain_the_rest_is_left_to_the_next_run() -> None:
    sealed = list[int]()
    sealing = Sealing(lake_with(sealed.append), Budget(HELD))
    sealing.drain(anyio.current_time() - 60)
    await sealing.seal([1, 2])
    assert sealed == []


async def test_what_goes_wrong_in_sealing_ends_what_goes_on_beside_it() -> None:
    def fail(_: int) -> None:
        raise LakeFull("no room")

    with pytest.raises(ExceptionGroup) as caught:
        async with Sealing(lake_with(fail), Budget(HELD)).beside([1]):
            await anyio.sleep_forever()
    assert isinstance(caught.value.exceptions[0], LakeFull)


def test_turns_are_one_at_a_time_for_each_slice_and_kept_no_longer_than_wanted() -> None:
    turns, order = Turns(), list[str]()
    first_is_in, second_waits = threading.Event(), threading.Event()

    def first() -> None:
        with turns.of(1):
            first_is_in.set()
            assert second_waits.wait(60)
            with turns.of(2):  # of another slice: no wait
                order.append("first")

    def second() -> None:
        assert first_is_in.wait(60)
        second_waits.set()
        with turns.of(1):
            order.append("second")

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert order == ["first", "second"]
    assert turns._turns == {}
