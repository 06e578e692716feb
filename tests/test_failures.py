"""Every row of the table of failures, over real HTTP, on both wires: what the client makes of it, and what a run does.

Each test is named by the kind of answer that the server gives.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from harvester.api import meaning
from harvester.api.client import Client
from harvester.api.meaning import FAILURES, Action, Failure
from harvester.config import Wire
from harvester.datasets import DEFAULT, MESSAGES
from harvester.errors import HarvesterError
from harvester.model import Query
from harvester.simulator import AccountSpec, Behaviour, Fault, listed
from tests.harvesting import QUICK, field, outcomes
from tests.thorough import some

if TYPE_CHECKING:
    from pathlib import Path

    from harvester.api.limiter import Permit
    from harvester.budget import Hold
    from harvester.model import Page

pytestmark = pytest.mark.anyio

SPEC = AccountSpec(seed=3, sends=listed({601: 60, 602: 40}), gap=3, failed=0.1)
QUERY = Query(MESSAGES, 601, limit=25)
KINDS = {kind: failure for failure in FAILURES for kind in failure.kinds}
ONE_WIRE = {"fault": Wire.XML}
"""Kinds that only one protocol knows."""
CASES = [(kind, wire) for kind in KINDS for wire in Wire if ONE_WIRE.get(kind, wire) is wire]
ODD, EVEN = CASES[::2], CASES[1::2]
"""Wires take turns: where not everything is tried, each kind is met over one wire at first and over the other later."""
AGAIN = {Action.RETRY: [25, 25, 25, 25], Action.RETRY_LESS: [25, 25, 25, 12], Action.PAUSE: [25, 25, 25, 25]}
"""What is asked for, the fourth time, where three answers were of a kind."""


def named(case: object) -> str:
    """A case's name: that of the kind, and that of the wire."""
    return case.value if isinstance(case, Wire) else str(case)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause that names no length is short, so that no test sits through it."""
    monkeypatch.setattr(meaning, "DEFAULT_PAUSE_S", 0.01)


def test_the_table_and_the_simulator_know_the_same_kinds() -> None:
    assert set(KINDS) == {fault.value for fault in Fault}


def once(kind: str, after: int = 0) -> Behaviour:
    """A server that gives one such answer, after some good ones."""
    return behaviour(*([None] * after), kind)


def behaviour(*kinds: str | None) -> Behaviour:
    """A server that gives these answers first, and good ones for None."""
    script = tuple(Fault(kind) if kind else None for kind in kinds)
    return Behaviour(script=script, retry_after_s=0 if any("-" in str(kind) for kind in kinds) else None)


def impatient(kind: str) -> dict[str, Any]:
    """Settings by which a test does not have to sit through a silence."""
    if kind == "hang":
        return {"timeout_s": 0.5}
    return {"tuning": replace(QUICK, silence_s=0.3)} if kind == "silence" else {}


async def attempt(client: Client) -> Page:
    return await client.attempt(QUERY, await client.limiter.acquire())


@pytest.mark.parametrize(("kind", "wire"), CASES, ids=named)
async def test_what_the_client_makes_of(kind: str, wire: Wire, tmp_path: Path) -> None:
    failure: Failure = KINDS[kind]
    async with (
        field(tmp_path, SPEC, once(kind), wire=wire, **impatient(kind)) as account,
        Client.open(account.settings) as client,
    ):
        whole = 25
        if failure.error is None:
            rows = (await attempt(client)).batch.num_rows
            assert rows == 0 if failure.action is Action.PROVE else 0 < rows <= whole
        else:
            with pytest.raises(HarvesterError) as failed:
                await attempt(client)
            assert type(failed.value) is failure.error
            assert client.limiter.era == (failure.action is Action.PAUSE)
        assert (await attempt(client)).batch.num_rows == whole


@pytest.mark.parametrize(("kind", "wire"), some([*ODD, *EVEN], len(ODD)), ids=named)
async def test_what_a_run_does_first_of_all_about(kind: str, wire: Wire, tmp_path: Path) -> None:
    await run_that_meets(kind, wire, 0, tmp_path)


@pytest.mark.parametrize(("kind", "wire"), some([*EVEN, *ODD], len(EVEN)), ids=named)
async def test_what_a_run_does_in_mid_send_about(kind: str, wire: Wire, tmp_path: Path) -> None:
    await run_that_meets(kind, wire, 3, tmp_path)


async def run_that_meets(kind: str, wire: Wire, after: int, tmp_path: Path) -> None:
    """A run whose query meets the kind once, after so many good answers."""
    failure: Failure = KINDS[kind]
    async with field(
        tmp_path, SPEC, once(kind, after), wire=wire, limit=25, concurrency=1, **impatient(kind)
    ) as account:
        if failure.action is Action.STOP:
            assert failure.error is not None
            with pytest.raises(failure.error):
                await account.run()
            # A run's first query goes alone; later ones may have company.
            assert account.server.stats.requests <= (after + 2 if after else 1)
            return
        result = await account.run()
        assert account.server.stats.faults == {kind: 1}
        lost = [(name, id_send) for (name, id_send), slice_ in outcomes(result).items() if slice_.state != "complete"]
        if failure.action is Action.GIVE_UP:
            assert len(lost) == 1
            assert not result.complete
        else:
            assert not lost
            assert result.complete
        for name in DEFAULT:
            for id_send in SPEC.sends.ids:
                if (name, id_send) not in lost:
                    account.assert_exact(id_send, datasets=[name])


@pytest.mark.parametrize("kind", some([kind for kind, failure in KINDS.items() if failure.action in AGAIN], 12))
async def test_what_is_asked_after_three_times(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[int | None] = []
    ask = Client.attempt

    async def noted(self: Client, query: Query, permit: Permit, hold: Hold) -> Page:
        limits.append(query.limit)
        return await ask(self, query, permit, hold)

    monkeypatch.setattr(Client, "attempt", noted)
    async with field(
        tmp_path,
        SPEC,
        behaviour(kind, kind, kind),
        wire=ONE_WIRE.get(kind, Wire.JSON),
        limit=25,
        concurrency=1,
        datasets=("messages",),
        **impatient(kind),
    ) as account:
        assert (await account.run([601])).complete
    assert limits[:4] == AGAIN[KINDS[kind].action]
