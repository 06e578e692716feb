"""The short form of ``make soak``: see ``tests/soak.py``."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from harvester.api.client import Client
from harvester.datasets import MESSAGES
from harvester.errors import AttemptFailed
from harvester.model import Query
from harvester.simulator import AccountSpec, Behaviour, Fault, listed
from tests.harvesting import field
from tests.soak import Plan, lines, soak
from tests.thorough import THOROUGH

KILLS, ROWS = (5, 20_000) if THOROUGH else (2, 10_000)
FAULTS = "500=0.03,reset=0.03,truncate=0.02,bad-gzip=0.01,html=0.01"


@pytest.mark.timeout(300)
def test_a_run_killed_at_random_instants_ends_exact_and_asks_again_only_what_was_in_flight(tmp_path: Path) -> None:
    plan = Plan(kills=KILLS, rows=ROWS, sends=6, limit=ROWS // 40, latency="0.01..0.05", faults=FAULTS, seed=3)
    figures = soak(plan, tmp_path)
    assert figures.kills == KILLS
    assert figures.again <= KILLS * 2 * 6, "in flight, or on their way into the lake"
    assert figures.verified
    assert figures.rows > ROWS
    assert "asked again" in "\n".join(lines(plan, figures))


@pytest.mark.anyio
async def test_a_full_page_that_was_served_whole_before_is_counted(tmp_path: Path) -> None:
    async with (
        field(tmp_path, AccountSpec(sends=listed({601: 60})), Behaviour(script=(Fault.FAILED,))) as account,
        Client.open(account.settings) as client,
    ):
        for start, limit in ((None, 25), (None, 25), (723043606, 25), (None, 25), (None, 61), (None, 61)):
            permit = await client.limiter.acquire()
            with suppress(AttemptFailed):
                await client.attempt(Query(MESSAGES, 601, start=start, limit=limit), permit)
            permit.release()
        assert account.server.stats.again == 1
