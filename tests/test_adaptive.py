"""A harvest of servers that bear less than it was told, over real HTTP: it finds out, remembers, and loses nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from harvester.api.client import Client
from harvester.api.limiter import Permit
from harvester.api.transport import Transport
from harvester.datasets import MESSAGES
from harvester.harvest.learning import faded
from harvester.harvest.status import read_status
from harvester.model import Borne, Query
from harvester.simulator import AccountSpec, Behaviour, equal
from tests.harvesting import QUICK, field
from tests.thorough import thorough

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harvester.api.transport import Answer
    from harvester.harvest.outcome import Snapshot

pytestmark = pytest.mark.anyio

SPEC = AccountSpec(sends=equal(20, 60))
IDS = tuple(SPEC.sends.ids)
ONLY_MESSAGES: dict[str, Any] = {"datasets": ("messages",), "limit": 50}
DAY_S = 86_400.0


class Watched:
    """What a harvest said of itself as each attempt left."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.harvest: Any = None
        self.snapshots: list[Snapshot] = []
        post = Transport.post

        async def noted(transport: Transport, *args: Any) -> Answer:
            self.snapshots.append(self.harvest.snapshot())
            return await post(transport, *args)

        patch.setattr(Transport, "post", noted)

    def rates(self) -> Iterator[float]:
        return (snapshot.paced.rate for snapshot in self.snapshots if snapshot.paced is not None)


async def test_a_server_that_lets_in_a_quarter_of_what_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)
    behaviour = Behaviour(rate=20.0, latency_s=(0.0, 0.1))
    async with field(tmp_path / "lake", SPEC, behaviour, rate=80.0, burst=1, concurrency=8, **ONLY_MESSAGES) as account:
        watched.harvest = account.harvest(IDS[:15])
        result = await watched.harvest.run()
        assert result.complete
        account.assert_exact(*IDS[:15], datasets=["messages"])
        stats = account.server.stats
        assert result.paced is not None
        assert 0 < result.paced.refused == stats.throttled
        assert stats.throttled <= 0.25 * stats.requests  # in the long run it is far less: see test_api_pace
        assert result.paced.rate < 80.0
        assert {snapshot.paused_s for snapshot in watched.snapshots} == {0.0}  # no attempt during a pause

        remembered = read_status(account.lake).remembered
        assert remembered is not None
        assert remembered.borne.rate == pytest.approx(result.paced.rate)
        watched.snapshots.clear()
        watched.harvest = account.harvest(tuning=replace(QUICK, clock=lambda: remembered.at))
        assert (await watched.harvest.run()).complete
        account.assert_exact(datasets=["messages"])
        assert next(watched.rates()) == pytest.approx(remembered.borne.rate)


@pytest.mark.parametrize("status", [pytest.param(503, marks=thorough), 429])
async def test_a_server_that_takes_six_at_once(status: int, tmp_path: Path) -> None:
    spec = AccountSpec(sends=equal(40, 60))
    behaviour = Behaviour(latency_s=(0.1, 0.2), most_in_flight=6, busy_status=status)
    async with field(tmp_path / "lake", spec, behaviour, concurrency=12, **ONLY_MESSAGES) as account:
        result = await account.run()
        assert result.complete
        account.assert_exact(datasets=["messages"])
        remembered = read_status(account.lake).remembered
        assert remembered is not None
        assert remembered.borne.concurrency in {5, 6, 7}  # one more may slip in as an answer is on its way back
        stats = account.server.stats
        assert 0 < stats.busy <= 0.25 * stats.requests  # half of what went out at first, and a few that were tried
        before, stats.busy = stats.requests, 0
        account.server.account.settled = True
        again = await account.run(refresh=account.settings.refresh.ALL)
        assert again.complete
        assert stats.busy <= 0.1 * (stats.requests - before)


async def test_switched_off_nothing_is_learned_and_nothing_remembered(tmp_path: Path) -> None:
    behaviour = Behaviour(latency_s=(0.02, 0.06), most_in_flight=6)
    async with field(tmp_path / "lake", SPEC, behaviour, concurrency=12, adaptive=False, **ONLY_MESSAGES) as account:
        result = await account.run()
        assert result.complete
        account.assert_exact(datasets=["messages"])
        assert result.paced is not None
        assert (result.paced.rate, result.paced.concurrency) == (account.settings.rate, 12)
        assert account.server.stats.busy > 0
        assert read_status(account.lake).remembered is None


async def test_what_took_long_to_connect_leaves_in_another_turn_and_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = iter([True, False, False, True, True])  # confirmed, connected too late; confirmed anew
    async with field(tmp_path / "lake", SPEC) as account, Client.open(account.settings) as client:
        permit = await client.limiter.acquire()
        monkeypatch.setattr(Permit, "still_good", lambda _: next(good))
        page = await client.attempt(Query(MESSAGES, IDS[0], limit=25), permit)
        assert page.batch.num_rows == 25
        assert (account.server.stats.requests, client.attempts, client.limiter.turns) == (1, 1, 2)


def test_what_was_found_is_believed_less_by_the_day() -> None:
    borne = Borne(4.0, 6)
    assert faded(borne, 20.0, 12, 0.0) == borne
    assert faded(borne, 20.0, 12, DAY_S) == Borne(12.0, 9)
    assert faded(borne, 20.0, 12, 2 * DAY_S) == Borne(16.0, 10)
    assert faded(borne, 3.0, 4, DAY_S) == Borne()
    assert faded(borne, 20.0, 12, -timedelta(hours=1).total_seconds()) == borne  # the clock was set back
