"""The real scheduler, limiter and client in simulated time: whole days pass in a second, and nothing sleeps."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import anyio
import numpy as np
import pytest

from benchmarks.simulated.account import FIRST_ID_SEND, SimulatedAccount
from benchmarks.simulated.bounds import least_queries, least_seconds
from benchmarks.simulated.harvest import Played, Scene, play
from harvester.api.client import Client
from harvester.config import Scope
from harvester.datasets import BOUNCES, MESSAGES
from harvester.errors import AttemptFailed
from harvester.harvest.scheduler import Scheduler
from harvester.model import Query, SliceKey
from harvester.simulator.behaviour import Behaviour
from harvester.simulator.faults import Fault
from harvester.simulator.spec import skewed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harvester.api.limiter import Permit
    from harvester.budget import Hold
    from harvester.model import Page

SLOW = Behaviour(latency_s=(0.5, 1.0))
LIMIT = 2_000
FAULTS = {Fault.FAILED: 0.05, Fault.RESET: 0.03, Fault.EMPTY: 0.02, Fault.SHORT: 0.02}


def even(sends: int, most: int) -> Sequence[int]:
    rows: list[int] = np.random.default_rng(1).integers(1, most, sends).tolist()
    return rows


def scene(rows: Sequence[int], behaviour: Behaviour = SLOW, rate: float = 8.0, **settings: object) -> Scene:
    return Scene(SimulatedAccount(rows), behaviour, settings={"rate": rate, "limit": LIMIT} | settings)


USUAL = even(250, 8_000)
SCENES = {
    "rate-bound": scene(USUAL, rate=4.0),
    "latency-bound": scene(USUAL, Behaviour(latency_s=(1.0, 3.0)), 50.0),
    "bandwidth-bound": replace(scene(USUAL, rate=50.0), bytes_per_s=200_000.0),
    "skewed": scene(skewed(250, 1_000_000).rows, rate=4.0),
    "one giant": scene([400_000, *even(100, 2_000)]),
    "throttling": scene(even(1_000, 8_000), Behaviour(latency_s=(0.5, 1.0), rate=5.0, retry_after_s=2.0), 20.0),
    "flaky": scene(USUAL, Behaviour(latency_s=(0.5, 1.0), faults=FAULTS), 4.0),
}
MOST = {"rate-bound": 1.05, "latency-bound": 1.15, "bandwidth-bound": 1.05, "skewed": 1.05}


def watched(name: str) -> tuple[Played, list[tuple[float, float | None]]]:
    """A scene, and at some instants how long it was said to take still."""
    seen: list[tuple[float, float | None]] = []
    played = play(SCENES[name], (2.0, lambda scheduler: seen.append((anyio.current_time(), scheduler.time_left()))))
    return played, seen


def is_exact(played: Played, sends: int, datasets: int = 2) -> bool:
    return not played.lake.wrong() and not played.lake.gave_up and played.lake.complete == sends * datasets


@pytest.mark.parametrize("name", SCENES)
def test_whatever_binds_every_row_comes_once_and_the_time_left_is_known(name: str) -> None:
    """Within a tenth after the first tenth, or within a fiftieth of the whole run, when there is little left."""
    played, seen = watched(name)
    assert is_exact(played, len(SCENES[name].account.rows))
    assert played.asked.most_in_flight <= 8
    ended = played.seconds
    told = [(at, left) for at, left in seen if at >= 0.1 * ended]
    assert len(told) >= 20
    for at, left in told:
        assert left == pytest.approx(ended - at, rel=0.1, abs=0.02 * ended), f"after {at / ended:.0%}"
    if name in MOST:  # near what no scheduler could beat
        assert 1 <= ended / least_seconds(SCENES[name], played.queries) <= MOST[name]
        least = least_queries(SCENES[name])["send"]
        assert least <= played.queries <= 1.01 * least


def test_the_same_seed_brings_the_same_run_to_the_last_digit() -> None:
    run = scene(even(40, 8_000), Behaviour(latency_s=(0.5, 1.0), faults=FAULTS))
    first, second = play(run), play(run)
    assert first.asked.at == second.asked.at
    assert first.seconds == second.seconds


def test_no_window_holds_more_attempts_than_the_rate_allows() -> None:
    at = list(play(scene(even(60, 8_000), burst=3)).asked.at)
    for place in range(len(at)):
        for later in range(place, min(place + 60, len(at))):
            assert later - place + 1 <= 3 + 8.0 * (at[later] - at[place]) + 1e-6


def test_a_giant_is_begun_first_and_not_left_to_run_alone() -> None:
    """It takes a quarter of the run's queries; begun last, it would run for half as long again."""
    small = [1_000] * 150
    rows = [*small[:75], 100_000, *small[75:]]
    run = scene(rows, rate=4.0, datasets=("messages",))
    unsized = replace(run, sized=False)
    assert play(run).seconds <= 1.05 * least_seconds(run, 10**6)
    assert is_exact(play(unsized), len(rows), 1)


def test_sends_that_fail_for_hours_fail_alone() -> None:
    broken = frozenset(range(FIRST_ID_SEND, FIRST_ID_SEND + 5))
    behaviour = replace(SLOW, fail_sends=broken)
    played = play(scene([500] * 100, behaviour, patience_s=3_600.0))
    assert 2 * 3_600 <= played.seconds <= 2 * 3_600 + 120  # messages first, and then bounces
    assert set(played.lake.gave_up) == {
        SliceKey(name, id_send) for name in (MESSAGES.name, BOUNCES.name) for id_send in broken
    }
    assert played.lake.complete == 190
    assert not played.lake.wrong()


@pytest.mark.parametrize("concurrency", [1, 12])
def test_a_failure_among_answers_is_asked_again_at_once_and_any_other_waits(
    concurrency: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one query at a time, hardly an answer can come between a query and its failure."""
    attempt = Client.attempt
    tried: dict[Query, list[float]] = {}
    waits: list[list[float]] = []

    async def timed(self: Client, query: Query, permit: Permit, hold: Hold | None = None) -> Page:
        failed_at = tried.setdefault(query, [])
        if failed_at:
            failed_at[-1] = anyio.current_time() - failed_at[-1]
        try:
            page = await attempt(self, query, permit, hold)
        except AttemptFailed:
            failed_at.append(anyio.current_time())
            raise
        waits.append(tried.pop(query))
        return page

    monkeypatch.setattr(Client, "attempt", timed)
    faults = {Fault.FAILED: 0.15, Fault.RESET: 0.1}
    played = play(scene([20_000] * 20, replace(SLOW, faults=faults), 1000.0, burst=100, concurrency=concurrency))
    assert is_exact(played, 20)
    first, later = [each[0] for each in waits if each], [wait for each in waits for wait in each[1:]]
    assert len(first) > 20 < len(later) * 4
    assert all(wait >= (0.5 if concurrency == 1 else 0.25) for wait in later), (
        "half of what an answer takes, with jitter"
    )
    at_once = sum(wait < 0.5 for wait in first)  # as soon as there is a permit
    assert at_once <= 0.1 * len(first) if concurrency == 1 else at_once >= 0.9 * len(first)


def test_a_source_without_rows_in_some_sends_is_believed_after_its_witness() -> None:
    rows = [0 if place % 3 else 700 for place in range(60)]
    assert is_exact(play(replace(scene(rows), sized=False)), 60)


class TestManySends:
    """A walk over all of an account, for sends of twelve messages."""

    def wide(self, sends: int, rate: float, latency_s: float, *, sized: bool = True) -> Played:
        account = SimulatedAccount([12] * sends)
        settings = {"rate": rate, "limit": LIMIT, "datasets": ("messages",), "scope": Scope.ACCOUNT}
        played = play(Scene(account, Behaviour(latency_s=(latency_s, latency_s)), settings=settings, sized=sized))
        assert is_exact(played, sends, 1)
        return played

    @pytest.mark.parametrize("sends", [7_000, 7_500, 8_000, 9_000])
    def test_where_answers_are_slow_all_permits_are_used_for_a_query_more_at_most(self, sends: int) -> None:
        played = self.wide(sends, 8.0, 10.0)
        least = least_queries(scene([12] * sends, datasets=("messages",)))["account"]
        assert played.queries <= least + 1
        assert played.seconds <= 1.32 * 10.0 * least / 8
        assert played.asked.most_in_flight == 8

    def test_it_is_not_split_where_the_rate_is_the_bound(self) -> None:
        played = self.wide(2_000, 1.0, 0.5)
        assert played.asked.most_in_flight == 1
        assert played.lake.wide is not None
        assert played.lake.wide.most_waiting == 0

    def test_sizes_that_are_not_known_cost_some_queries(self) -> None:
        played = self.wide(8_000, 8.0, 10.0, sized=False)
        assert played.seconds <= 0.4 * 10.0 * 49, "one cursor takes all of that"
        assert played.queries <= 1.4 * 49


class TestMemory:
    def test_what_is_under_way_is_bounded_by_the_window_whatever_the_sends(self) -> None:
        most = 0

        def look(scheduler: Scheduler) -> None:
            nonlocal most
            most = max(most, len(scheduler.state.walks))

        assert is_exact(play(scene([10] * 1_000, rate=200.0, datasets=("messages",)), (0.5, look)), 1_000, 1)
        assert 64 <= most <= 256 + 64

    def test_and_no_more_is_begun_than_there_are_turns(self) -> None:
        """What is nearly complete is finished before much is begun."""
        most = 0

        def look(scheduler: Scheduler) -> None:
            nonlocal most
            begun = [walk for walk in scheduler.state.walks.values() if walk.begun and not walk.done]
            most = max(most, len(begun))

        play(scene(even(70, 20_000), rate=50.0), (0.3, look))
        assert 0 < most <= 8 + 1


class TestTimeLeft:
    def test_it_only_goes_down_while_nothing_is_known_to_change(self) -> None:
        seen: list[float] = []

        def look(scheduler: Scheduler) -> None:
            seen.append(scheduler.time_left() or 0.0)

        play(scene([3_000] * 100, Behaviour(latency_s=(0.5, 0.5))), (5.0, look))
        assert all(later < earlier for earlier, later in pairwise(seen[1:]))

    def test_nothing_is_told_before_something_is_known(self) -> None:
        seen: list[float | None] = []
        play(scene([3_000] * 10), (0.6, lambda scheduler: seen.append(scheduler.time_left())))
        assert seen[0] is None
        assert seen[-1] is not None
