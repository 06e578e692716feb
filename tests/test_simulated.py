"""Simulated time itself: its clock leaps, its link is shared, and its account is what it says."""

from __future__ import annotations

import asyncio
import time
from itertools import chain
from typing import TYPE_CHECKING

import anyio
import numpy as np
import pytest
from anyio import to_thread

from benchmarks.simulated.account import FIRST_ID_MESSAGE, FIRST_ID_SEND, OneSend, SimulatedAccount
from benchmarks.simulated.bounds import least_queries, least_seconds
from benchmarks.simulated.clock import StuckError, in_simulated_time
from benchmarks.simulated.harvest import Scene, play
from benchmarks.simulated.link import Link
from harvester.datasets import MESSAGES
from harvester.simulator.behaviour import Behaviour

if TYPE_CHECKING:
    from collections.abc import Sequence


class TestClock:
    def test_a_year_passes_in_no_time_to_the_millisecond(self) -> None:
        async def wait() -> float:
            await asyncio.gather(*(asyncio.sleep(day * 86_400.0) for day in range(366)))
            return anyio.current_time()

        began = time.process_time()
        assert in_simulated_time(wait()) == pytest.approx(365 * 86_400, abs=1e-3)
        assert time.process_time() - began < 30  # it does not wait by turning round and round either

    def test_timers_end_in_order(self) -> None:
        async def order() -> list[int]:
            ended: list[int] = []

            async def wait(seconds: int) -> None:
                await anyio.sleep(seconds)
                ended.append(seconds)

            async with anyio.create_task_group() as tasks:
                for seconds in (5, 3, 9, 1):
                    tasks.start_soon(wait, seconds)
            return ended

        assert in_simulated_time(order()) == [1, 3, 5, 9]

    def test_what_would_wait_for_ever_is_stuck(self) -> None:
        with pytest.raises(StuckError):
            in_simulated_time(anyio.Event().wait())

    def test_what_is_for_threads_runs_where_it_stands(self) -> None:
        async def work() -> tuple[int, float]:
            return await to_thread.run_sync(lambda: 7), anyio.current_time()

        result, at = in_simulated_time(work())
        assert result == 7
        assert at < 1e-6


class TestLink:
    @pytest.mark.parametrize(
        ("sizes", "ends"),
        [([100], [1]), ([100, 100], [2, 2]), ([50, 150], [1, 2]), ([30, 60, 90], [0.9, 1.5, 1.8])],
    )
    def test_all_have_the_same_share(self, sizes: Sequence[int], ends: Sequence[float]) -> None:
        async def transfer() -> list[float]:
            link = Link(100.0)

            async def one(size: int) -> float:
                await link.transfer(size)
                return anyio.current_time()

            return await asyncio.gather(*map(one, sizes))

        assert in_simulated_time(transfer()) == pytest.approx(ends, abs=1e-6)

    def test_who_comes_later_shares_what_is_left(self) -> None:
        async def transfer() -> tuple[float, float]:
            link = Link(100.0)

            async def one(size: int, after_s: float) -> float:
                await anyio.sleep(after_s)
                await link.transfer(size)
                return anyio.current_time()

            return await asyncio.gather(one(100, 0), one(100, 0.5))

        assert in_simulated_time(transfer()) == pytest.approx((1.5, 2.0), abs=1e-6)


class TestAccount:
    ACCOUNT = SimulatedAccount([5, 0, 3, 7, 1], campaign_sends=2, stride=3)

    def every(self, scope: tuple[int, int]) -> list[tuple[int, int]]:
        first, rows = self.ACCOUNT.part(scope, None, 25_000)
        batch = self.ACCOUNT.messages(first, rows)
        sends, keys = (batch[name].to_numpy().tolist() for name in ("id_send", MESSAGES.key))
        return list(zip(sends, keys, strict=True))

    def test_the_account_is_its_sends_one_after_another(self) -> None:
        whole = self.every(self.ACCOUNT.scope(None, None))
        of_sends = [self.every(self.ACCOUNT.scope(FIRST_ID_SEND + place, None)) for place in range(5)]
        assert whole == sorted(whole, key=lambda record: record[1]) == list(chain(*of_sends))
        assert [len(records) for records in of_sends] == [5, 0, 3, 7, 1]
        for place, records in enumerate(of_sends):
            assert sum(key for _, key in records) == self.ACCOUNT.key_sum(place)
            assert all(id_send == FIRST_ID_SEND + place for id_send, _ in records)
        campaigns = [self.every(self.ACCOUNT.scope(None, FIRST_ID_MESSAGE + place)) for place in range(3)]
        assert list(chain(*campaigns)) == whole

    @pytest.mark.parametrize("scope", [(0, 5), (0, 1), (1, 2), (2, 4), (3, 4)])
    def test_a_query_starts_at_its_key_and_brings_no_more_than_its_limit(self, scope: tuple[int, int]) -> None:
        all_of_it = self.every((0, 5))
        inside = self.every(scope)
        for start in range(all_of_it[0][1] - 2, all_of_it[-1][1] + 3):
            for limit in (1, 3, 100):
                first, rows = self.ACCOUNT.part(scope, start, limit)
                keys = self.ACCOUNT.messages(first, rows)[MESSAGES.key].to_pylist()
                assert keys == [key for _, key in inside if key >= start][:limit]


class TestBounds:
    def test_the_least_queries_are_counted_by_scope(self) -> None:
        scene = Scene(SimulatedAccount([10] * 100), settings={"limit": 100, "datasets": ("messages",)})
        assert least_queries(scene) == {"send": 100, "campaign": 5 * 3, "account": 2 + 900 // 99}

    def test_the_largest_of_three_bounds_counts(self) -> None:
        def least(latency_s: float, bytes_per_s: float | None) -> float:
            scene = Scene(
                SimulatedAccount([10] * 100),
                Behaviour(latency_s=(latency_s, latency_s)),
                bytes_per_s,
                {"limit": 100, "rate": 10.0, "datasets": ("messages",), "concurrency": 4},
            )
            return least_seconds(scene, 100)

        assert least(0.1, None) == pytest.approx(99 / 10 + 0.1)
        assert least(2.0, None) == pytest.approx(100 * 2 / 4)
        assert least(0.1, 1_000.0) == pytest.approx(125, rel=0.01)


class TestKills:
    SLOW = Behaviour(latency_s=(0.4, 0.6))

    @pytest.mark.parametrize("killed_after", [0.2, 0.7, 1.2, 1.7, 99.0])
    def test_a_large_send_goes_on_with_all_of_its_parts(self, killed_after: float) -> None:
        settings = {"rate": 1000.0, "burst": 6, "concurrency": 6, "limit": 200, "datasets": ("messages",)}
        scene = Scene(OneSend(1000 + 3 * np.arange(6000), 6000), self.SLOW, settings=settings, kills=(killed_after,))
        played = play(scene)
        assert played.lake.complete == 1
        assert not played.lake.wrong()
        lost = 0 if killed_after > 90 else 1 if killed_after < 0.4 else 6
        assert 31 + lost <= played.queries <= 31 + lost + 4
        assert played.queries == len(played.asked.at)

    @pytest.mark.parametrize("killed_after", [0.9, 1.2, 1.9, 2.4])
    def test_what_was_in_flight_is_asked_again_and_nothing_else(self, killed_after: float) -> None:
        settings = {"rate": 1000.0, "burst": 12, "concurrency": 12, "limit": 2000, "datasets": ("messages",)}
        account, steady = SimulatedAccount([120_000], stride=7), Behaviour(latency_s=(0.5, 0.5))
        played = play(Scene(account, steady, settings=settings, kills=(killed_after,)))
        assert (played.queries, played.asked.lost) == (61 + 12, 12)
        assert played.seconds <= 0.5 * 7 + 0.5, "what was in flight is lost, and no more time than that"

    def test_what_is_complete_is_not_asked_again(self) -> None:
        account = SimulatedAccount([30, 0, 450, 12, 220, 90] * 4)
        settings = {"rate": 1000.0, "burst": 4, "concurrency": 4, "limit": 100, "datasets": ("messages", "bounces")}
        undisturbed = play(Scene(account, self.SLOW, settings=settings))
        killed = play(Scene(account, self.SLOW, settings=settings, kills=(3.0, 3.0)))
        for played in (undisturbed, killed):
            assert played.lake.complete == 48
            assert not played.lake.wrong()
        assert undisturbed.queries < killed.queries <= undisturbed.queries + 2 * (4 + 4)
