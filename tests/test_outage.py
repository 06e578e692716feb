"""Failures of every kind mixed, and a server that goes away: the lake is exact in the end, or the run says why not."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from harvester.api import meaning
from harvester.api.client import Client
from harvester.api.limiter import Permit
from harvester.api.meaning import FAILURES, Action
from harvester.budget import Hold
from harvester.config import Wire
from harvester.console.exits import Exit, status_of
from harvester.errors import NotConnected, ServerNotReached
from harvester.harvest.outcome import Result
from harvester.harvest.run import Harvest
from harvester.model import Page, Query, Send
from harvester.simulator import AccountSpec, Behaviour, Fault, equal, serve
from tests.harvesting import QUICK, Field, field

pytestmark = pytest.mark.anyio

SPEC = AccountSpec(seed=9, sends=equal(4, 900), gap=3, failed=0.1, awkward=True)
NOT_SURVIVED = {Action.STOP, Action.GIVE_UP}
"""What ends a run at once, or a slice for good, however the rest goes: the API says that asking again won't help."""
SURVIVED = [Fault(kind) for failure in FAILURES if failure.action not in NOT_SURVIVED for kind in failure.kinds]


def test_five_faults_alone_are_not_survived() -> None:
    assert set(Fault) - set(SURVIVED) == {
        Fault.UNAUTHORIZED,
        Fault.DISALLOWED,
        Fault.INVALID_MESSAGE,
        Fault.MISSING_SEND,
        Fault.INVALID_SEND,
    }


@pytest.mark.parametrize("wire", list(Wire), ids=lambda wire: wire.value)
async def test_a_quarter_of_attempts_fails_in_every_way_there_is(
    tmp_path: Path, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the first attempts each fault spoils the same number, in random order; later ones meet them by chance."""
    monkeypatch.setattr(meaning, "DEFAULT_PAUSE_S", 0.01)
    dice = random.Random(7)
    script: list[Fault | None] = [*SURVIVED, *([None] * (3 * len(SURVIVED)))]
    dice.shuffle(script)
    share = 0.25 / len(SURVIVED)
    behaviour = Behaviour(
        script=(None, *script), faults=dict.fromkeys(SURVIVED, share), fault_seed=7, retry_after_s=0.0
    )
    settings: dict[str, Any] = {"limit": 20, "timeout_s": 0.5, "tuning": replace(QUICK, silence_s=0.3)}
    async with field(tmp_path, SPEC, behaviour, wire=wire, **settings) as account:
        sends = [Send(id_send, expected=900 if id_send % 2 else None) for id_send in SPEC.sends.ids]
        result = await account.run(sends)
        assert result.complete, [outcome.error for outcome in result.slices()]
        stats = account.server.stats
        assert set(stats.faults) == set(SURVIVED)
        assert 0.2 < stats.faults.total() / stats.requests < 0.3
        account.assert_exact()


class Outage:
    """A server that nobody listens at from the n-th attempt on, until so many attempts were in vain."""

    def __init__(self, patch: pytest.MonkeyPatch, begins_at: int, lasts: int | None) -> None:
        self.in_vain = 0
        self.url = ""
        self.charged: list[int] = []
        self.harvest: Harvest | None = None
        self._stack = AsyncExitStack()
        self._made = 0
        self._back = False
        attempt = Client.attempt

        async def watched(client: Client, query: Query, permit: Permit, hold: Hold) -> Page:
            self._made += 1
            if self._made == begins_at:
                await self._stack.aclose()
            if self.in_vain == lasts and not self._back:
                self._back = True
                await self.listen()
            try:
                return await attempt(client, query, permit, hold)
            except NotConnected:
                self.in_vain += 1
                assert self.harvest is not None
                self.charged.append(self.harvest.snapshot().waiting)
                raise

        patch.setattr(Client, "attempt", watched)

    async def listen(self) -> None:
        port = int(self.url.rpartition(":")[2]) if self.url else 0
        self.url = (await self._stack.enter_async_context(serve(SPEC, port=port))).url

    async def run(self, account: Field, **changes: Any) -> Result:
        await self.listen()
        self.harvest = account.harvest(endpoint=self.url, limit=100, concurrency=1, **changes)
        try:
            return await self.harvest.run()
        finally:
            await self._stack.aclose()


SHORT = replace(QUICK, backoff_s=0.02, backoff_cap_s=0.1)


async def test_a_server_that_goes_away_is_waited_for_and_no_slice_is_charged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with field(tmp_path, SPEC, tuning=SHORT) as account:
        outage = Outage(monkeypatch, begins_at=9, lasts=15)
        with capture_logs() as logs:
            result = await outage.run(account)
        assert result.complete
        account.assert_exact()
        said = [line for line in logs if line["event"] == "the server can't be reached"]
        assert len(said) == outage.in_vain == 15
        assert "could not be connected to" in said[0]["reason"]
        assert max(line["next_try_s"] for line in said) == 0.1  # as long as a wait gets
        assert max(outage.charged) <= 1, "but the one whose connection ended with the server"
        assert not [line for line in logs if line["event"] == "gave up"]


async def test_patience_bounds_the_wait_for_a_server_that_went_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with field(tmp_path, SPEC, tuning=SHORT) as account:
        with monkeypatch.context() as patch:
            outage = Outage(patch, begins_at=9, lasts=None)
            with pytest.raises(ServerNotReached, match="gave up after") as raised, anyio.fail_after(60):
                await outage.run(account, patience_s=0.5)
        assert status_of(raised.value) is Exit.INCOMPLETE
        assert outage.in_vain > 3
        assert outage.harvest is not None
        assert outage.harvest.result is not None
        assert not outage.harvest.result.complete
        assert 0 < outage.harvest.result.rows["messages"] < 3600, "what was fetched is kept"
        assert (await account.run()).complete
        account.assert_exact()
