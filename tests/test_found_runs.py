"""Runs whose sends are found first: what the lists prove, and what is told of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harvester.config import Settings
from harvester.harvest.finding import Finder
from harvester.harvest.run import Harvest
from harvester.harvest.wanted import Wanted
from harvester.model import Send
from harvester.simulator.behaviour import Behaviour
from harvester.simulator.spec import AccountSpec, listed
from tests.harvesting import Field, at_attempt, field, outcomes, proofs

pytestmark = pytest.mark.anyio

SENT = datetime(2020, 3, 1, 9, 0, 0)  # noqa: DTZ001  the API's dates have no zone
SPEC = AccountSpec(
    sends=listed({601: 70, 602: 40, 603: 0, 604: 90, 605: 20}),
    first_date=SENT,
    days_between=3,
    sends_per_campaign=2,
    failed=0.1,
    room=500,
)
TODAY = SENT + timedelta(days=40)


def finding(settings: Settings, **wanted: Any) -> Harvest:
    settings = replace(settings, tuning=replace(settings.tuning, clock=lambda: TODAY))
    return Harvest(settings, Finder(settings, Wanted(**wanted)))


def messages_asked(account: Field) -> int:
    """Queries for messages of a send so far."""
    return sum(account.server.stats.sends.values())


async def test_a_send_that_a_proven_list_says_is_empty_costs_one_query(tmp_path: Path) -> None:
    async with field(tmp_path, SPEC) as account:
        result = await finding(account.settings, since=SENT.date()).run()
        assert (result.complete, result.doubts, result.unlisted) == (True, (), ())
        assert proofs(result, "messages") == ["count", "count", "empty", "count", "count"]
        assert (outcomes(result)["messages", 603].queries, outcomes(result)["bounces", 603].queries) == (1, 1)
        assert messages_asked(account) == 5
        account.assert_exact()


async def test_a_send_that_is_known_and_not_listed_is_told_of(tmp_path: Path) -> None:
    async with field(tmp_path, SPEC, Behaviour(hidden_sends=frozenset({602}))) as account:
        assert (await account.run([Send(602, id_message=32_443, sent_at=SENT + timedelta(days=3))])).complete
        result = await finding(account.settings, since=SENT.date()).run()
        assert (result.complete, result.unlisted) == (True, (602,))
        assert ("messages", 602) not in outcomes(result)
        of_campaign = await finding(account.settings, since=SENT.date(), campaigns=(32_444,)).run()
        assert of_campaign.unlisted == ()  # it is of another campaign
        later = await finding(account.settings, since=SENT.date() + timedelta(days=5)).run()
        assert later.unlisted == ()  # it was sent before


async def test_lists_that_are_not_proven_leave_the_run_incomplete_and_everything_found_harvested(
    tmp_path: Path,
) -> None:
    behaviour = Behaviour(unsteady_lists=0.5, total_counts=True, fault_seed=3)
    async with field(tmp_path, SPEC, behaviour, patience_s=0.0) as account:
        result = await finding(account.settings, since=SENT.date()).run()
        assert result.doubts
        assert not result.complete
        assert not result.interrupted
        assert all(outcome.state == "complete" for outcome in result.slices())
        account.assert_exact(*{outcome.id_send for outcome in result.slices()})


async def test_a_send_that_grew_is_noticed_by_the_list_and_only_its_new_part_is_fetched(tmp_path: Path) -> None:
    async with field(tmp_path, SPEC) as account:
        assert (await finding(account.settings, since=SENT.date()).run()).complete
        account.server.account.grow(604, 50)
        account.server.account.grow(603, 5)
        account.server.stats.sends.clear()
        result = await finding(account.settings, since=SENT.date()).run()
        assert (result.complete, outcomes(result)["messages", 604].rows) == (True, 140)
        assert dict(account.server.stats.sends) == {603: 1, 604: 1}
        account.assert_exact(datasets=["messages"])


async def test_the_third_run_asks_for_the_lists_alone(tmp_path: Path) -> None:
    async with field(tmp_path, SPEC) as account:
        for _ in range(2):
            assert (await finding(account.settings, since=SENT.date()).run()).complete
        asked = messages_asked(account)
        assert (await finding(account.settings, since=SENT.date()).run()).complete
        assert messages_asked(account) == asked


async def test_a_run_that_is_stopped_while_it_finds_sends_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with field(tmp_path, SPEC) as account:
        harvest = finding(account.settings, since=SENT.date())
        at_attempt(2, harvest.drain, monkeypatch)
        result = await harvest.run()
        assert (result.complete, result.interrupted) == (False, True)
        assert messages_asked(account) == 0
    assert result.doubts


async def test_names_of_fields_that_are_not_in_the_catalogue_are_told(tmp_path: Path) -> None:
    spec = replace(SPEC, shape=replace(SPEC.shape, unknown=True))
    async with field(tmp_path, spec) as account:
        result = await finding(account.settings, since=SENT.date()).run()
        assert result.met["messages"] == ("X_batch", "X_note")
