"""A run's first query goes alone, since it may be refused; not where the run is known to be let in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from harvester.api.client import Client
from harvester.api.limiter import Permit
from harvester.budget import Hold
from harvester.datasets import MESSAGES
from harvester.errors import Unauthorized
from harvester.harvest.finding import Finder
from harvester.harvest.run import Harvest
from harvester.harvest.wanted import Wanted
from harvester.model import Page, Query, Secret
from harvester.simulator import AccountSpec, listed
from tests.harvesting import QUICK, Field, at_attempt, field

pytestmark = pytest.mark.anyio

SENT = datetime(2020, 3, 1, 9, 0, 0)  # noqa: DTZ001  the API's dates have no zone
SPEC = AccountSpec(sends=listed({601: 70, 602: 60, 603: 50, 604: 40}), first_date=SENT)
ONLY_MESSAGES: dict[str, Any] = {"datasets": ("messages",), "limit": 100}
Attempt = Callable[[Client, Query, Permit, Hold | None], Awaitable[Page]]


class Company:
    """Has the first answer of messages come only when so many are asked for: a run that sends it alone would hang.

    Attributes:
        asked: how many were asked for by the time when that answer had come.
    """

    def __init__(self, patch: pytest.MonkeyPatch, at_least: int) -> None:
        self.asked = 0
        self._at_least = at_least
        self._begun = 0
        self._enough = anyio.Event()
        self._attempt: Attempt = Client.attempt

        async def made(client: Client, query: Query, permit: Permit, hold: Hold | None = None) -> Page:
            return await self._made(client, query, permit, hold)

        patch.setattr(Client, "attempt", made)

    async def _made(self, client: Client, query: Query, permit: Permit, hold: Hold | None) -> Page:
        if query.dataset is not MESSAGES or query.id_send is None:
            return await self._attempt(client, query, permit, hold)
        self._begun += 1
        if self._begun == self._at_least:
            self._enough.set()
        await self._enough.wait()
        try:
            return await self._attempt(client, query, permit, hold)
        finally:
            self.asked = self.asked or self._begun


async def cut_off(account: Field) -> None:
    """A run that stops before it came to its end, and after an answer."""
    with pytest.MonkeyPatch.context() as patch:
        harvest = account.harvest()
        at_attempt(2, harvest.drain, patch)
        result = await harvest.run()
    assert result.interrupted
    assert result.rows["messages"]


async def test_a_new_run_sends_its_first_query_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with field(tmp_path, SPEC, **ONLY_MESSAGES) as account:
        company = Company(monkeypatch, 1)
        assert (await account.run()).complete
        assert company.asked == 1


async def test_one_that_goes_on_where_another_was_cut_off_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with field(tmp_path, SPEC, **ONLY_MESSAGES) as account:
        await cut_off(account)
        company = Company(monkeypatch, 2)
        assert (await account.run()).complete
        assert company.asked >= 2
        account.assert_exact(datasets=["messages"])


async def test_nor_does_one_that_has_found_its_sends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuning = replace(QUICK, clock=lambda: SENT + timedelta(days=40))
    async with field(tmp_path, SPEC, **ONLY_MESSAGES, tuning=tuning) as account:
        company = Company(monkeypatch, 2)
        found = Finder(account.settings, Wanted(since=SENT.date()))
        assert (await Harvest(account.settings, found).run()).complete
        assert company.asked >= 2
        account.assert_exact(datasets=["messages"])


async def test_one_that_was_cut_off_once_its_sends_were_found_says_so_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = replace(QUICK, clock=lambda: SENT + timedelta(days=40))
    async with field(tmp_path, SPEC, **ONLY_MESSAGES, tuning=tuning) as account:
        harvest = Harvest(account.settings, Finder(account.settings, Wanted(since=SENT.date())))
        at_attempt(1, harvest.drain, monkeypatch)
        result = await harvest.run()
        assert (result.interrupted, result.rows["messages"]) == (True, 0)
        company = Company(monkeypatch, 2)
        assert (await account.run()).complete
        assert company.asked >= 2


@pytest.mark.parametrize("changed", ["endpoint", "host", "time"])
async def test_what_is_known_is_of_one_way_and_of_minutes(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with field(tmp_path, SPEC, **ONLY_MESSAGES) as account:
        await cut_off(account)
        changes: dict[str, Any] = {}
        if changed == "endpoint":
            changes = {"endpoint": account.settings.endpoint.replace("127.0.0.1", "localhost")}
        elif changed == "host":
            monkeypatch.setattr("socket.gethostname", lambda: "another")
        else:
            later = QUICK.clock() + timedelta(minutes=11)
            changes = {"tuning": replace(QUICK, clock=lambda: later)}
        company = Company(monkeypatch, 1)
        assert (await account.run(**changes)).complete
        assert company.asked == 1


async def test_a_run_that_came_to_its_end_leaves_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with field(tmp_path, SPEC, **ONLY_MESSAGES) as account:
        await cut_off(account)
        assert (await account.run([601])).complete
        company = Company(monkeypatch, 1)
        assert (await account.run()).complete
        assert company.asked == 1


async def test_nor_does_one_that_was_refused_and_it_stops_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with field(tmp_path, SPEC, **ONLY_MESSAGES) as account:
        await cut_off(account)
        wrong = replace(account, settings=replace(account.settings, client_md5=Secret("f" * 32)))
        requests = account.server.stats.requests
        with pytest.raises(Unauthorized):
            await wrong.run()
        refused = account.server.stats.requests
        assert 1 <= refused - requests <= account.settings.concurrency
        with pytest.raises(Unauthorized):
            await wrong.run()
        assert account.server.stats.requests == refused + 1
        company = Company(monkeypatch, 1)
        assert (await account.run()).complete
        assert company.asked == 1
