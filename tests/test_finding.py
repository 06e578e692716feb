"""Finding sends in a simulated account over real HTTP: all of them, and never fewer without a word."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from harvester.api.client import Client
from harvester.config import Settings, Tuning, Wire
from harvester.datasets import CAMPAIGNS, MESSAGES, SENDS
from harvester.errors import AddressRefused, Cut, ServerNotReached, Unauthorized, UsageError
from harvester.harvest.finding import FIRST_DAY, Finder, Found
from harvester.harvest.wanted import Wanted
from harvester.model import Proof, Secret
from harvester.simulator.behaviour import Behaviour, Fault
from harvester.simulator.server import Server, serve
from harvester.simulator.spec import AccountSpec, equal, listed
from tests.harvesting import QUICK, at_attempt

pytestmark = pytest.mark.anyio

NOON = datetime.fromisoformat("2020-05-01 12:00")
MONTHLY = AccountSpec(sends=equal(24, 10), sends_per_campaign=3, first_date=NOON, days_between=30)
"""Eight campaigns of three sends, a send every thirty days from May 2020 on."""
ALL = Wanted()
TUNING = replace(QUICK, clock=lambda: datetime.fromisoformat("2022-08-01"))


@dataclass(frozen=True, slots=True)
class Scene:
    """A served account, and settings to look for its sends."""

    server: Server
    settings: Settings

    async def find(self, wanted: Wanted = ALL) -> Found:
        async with Client.open(self.settings) as client:
            return await Finder(self.settings, wanted).find(client)

    def campaign(self, ordinal: int) -> int:
        return self.server.account.id_message(ordinal)

    def send(self, ordinal: int) -> int:
        return self.server.account.id_send(ordinal)

    @property
    def functions(self) -> dict[str, int]:
        return dict(self.server.stats.functions)


@asynccontextmanager
async def scene(
    spec: AccountSpec = MONTHLY, behaviour: Behaviour | None = None, tuning: Tuning = TUNING, **settings: Any
) -> AsyncIterator[Scene]:
    async with serve(spec, behaviour or Behaviour(), host="127.0.0.1", port=0) as server:
        given: dict[str, Any] = {
            "rate": 1000.0,
            "burst": 100,
            "concurrency": 4,
            "patience_s": 20.0,
            "client_md5": Secret(spec.client_md5),
        }
        told = Settings(
            lake=Path("nowhere"), client_id=spec.client_id, endpoint=server.url, tuning=tuning, **(given | settings)
        )
        yield Scene(server, told)


def ids(found: Found) -> list[int]:
    return [send.id_send for send in found.sends]


@pytest.mark.parametrize("wire", list(Wire))
async def test_every_send_of_an_account_is_found_with_campaign_date_and_size(wire: Wire) -> None:
    async with scene(wire=wire) as seen:
        found = await seen.find()
        assert found.sends == tuple(map(seen.server.account.send, range(24)))
        assert found.proven
        assert (found.campaigns, found.since, found.until) == (None, date(2020, 3, 31), date(2022, 8, 2))
        assert found.queries == found.attempts == seen.server.stats.requests


async def test_lists_of_sends_that_add_up_are_asked_for_once_and_lists_of_campaigns_twice() -> None:
    async with scene() as seen:
        found = await seen.find(Wanted(since=date(2020, 4, 1), until=date(2020, 6, 1)))
        assert ids(found) == [seen.send(0), seen.send(1)]
        assert seen.functions == {CAMPAIGNS.function: 2, SENDS.function: 1}
        assert [one.proof for one in found.lists] == [Proof.AGREED, Proof.COUNT]


async def test_the_days_are_held_to_also_by_lists_that_reach_further() -> None:
    async with scene() as seen:
        found = await seen.find(Wanted(since=date(2020, 5, 31), until=date(2020, 6, 29)))
        assert ids(found) == [seen.send(1)]
        assert (found.since, found.until) == (date(2020, 5, 31), date(2020, 6, 29))


async def test_days_without_sends_are_proven_by_lists_that_name_some() -> None:
    async with scene() as seen:
        found = await seen.find(Wanted(since=date(2010, 1, 1), until=date(2010, 3, 1)))
        assert found.sends == ()
        assert found.proven
        assert [one.proof for one in found.lists] == [Proof.EMPTY]
        assert seen.functions[MESSAGES.function] == 1, "to know of days with sends, so that silence says something"


async def test_an_account_that_holds_nothing_at_all_is_doubted() -> None:
    async with scene(AccountSpec(sends=equal(0, 0))) as seen:
        found = await seen.find()
        assert found.sends == ()
        assert found.since == FIRST_DAY
        assert not found.proven
        assert "it names nothing" in found.doubts[0]


async def test_campaigns_are_looked_into_from_their_own_first_record_on() -> None:
    async with scene() as seen:
        wanted = (seen.campaign(3), seen.campaign(21))
        found = await seen.find(Wanted(campaigns=wanted))
        assert ids(found) == [seen.send(n) for n in (3, 4, 5, 21, 22, 23)]
        assert found.proven
        assert found.campaigns == wanted
        assert found.since == date(2020, 6, 29)
        assert CAMPAIGNS.function not in seen.functions


async def test_a_campaign_that_is_none_is_doubted_and_the_others_are_found() -> None:
    async with scene() as seen:
        for since in (None, date(2020, 1, 1)):
            found = await seen.find(Wanted(campaigns=(999, seen.campaign(0)), since=since))
            assert ids(found) == [seen.send(n) for n in (0, 1, 2)]
            assert found.doubts
            assert all("campaign 999" in doubt and "Invalid ID_message" in doubt for doubt in found.doubts)


async def test_a_list_that_lacks_an_entry_now_and_then_is_asked_until_it_does_not() -> None:
    behaviour = Behaviour(unsteady_lists=0.3, fault_seed=5)
    async with scene(behaviour=behaviour) as seen:
        found = await seen.find()
        assert len(found.sends) == 24
        assert found.proven
        assert seen.functions[CAMPAIGNS.function] > 2 * 11


async def test_lists_that_never_agree_are_used_together_and_doubted() -> None:
    behaviour = Behaviour(unsteady_lists=0.5, fault_seed=5)
    async with scene(behaviour=behaviour, patience_s=0.0) as seen:
        found = await seen.find()
        assert not found.proven
        assert any("don't agree" in doubt for doubt in found.doubts)
        unproven = [one for one in found.lists if one.proof is None]
        assert len(unproven) == len(found.doubts)
        assert all(one.entries for one in unproven)


async def test_counts_that_are_of_all_time_are_no_proof_and_no_obstacle() -> None:
    async with scene(behaviour=Behaviour(total_counts=True)) as seen:
        found = await seen.find(Wanted(since=date(2020, 5, 1), until=date(2020, 6, 1)))
        assert ids(found) == [seen.send(0), seen.send(1)]
        assert found.proven
        assert [one.proof for one in found.lists] == [Proof.AGREED, Proof.AGREED]


async def test_failures_of_every_kind_lose_nothing() -> None:
    kinds = (Fault.FAILED, Fault.RESET, Fault.TRUNCATE, Fault.SHORT, Fault.HTML, Fault.EMPTY, Fault.ERROR)
    async with scene(behaviour=Behaviour(faults=dict.fromkeys(kinds, 0.06), fault_seed=3)) as seen:
        found = await seen.find()
        assert found.sends == tuple(map(seen.server.account.send, range(24)))
        assert found.proven
        assert found.attempts > found.queries
        assert sum(seen.server.stats.faults.values()) > 5


async def test_an_account_without_the_report_functions_is_told_of_the_other_way() -> None:
    async with scene(behaviour=Behaviour(no_reports=True)) as seen:
        for wanted in (ALL, Wanted(since=date(2020, 1, 1)), Wanted(campaigns=(seen.campaign(0),))):
            with pytest.raises(Unauthorized, match="--sends-file"):
                await seen.find(wanted)


async def test_wrong_credentials_are_nothing_more_than_that() -> None:
    async with scene(client_md5=Secret("f" * 32)) as seen:
        with pytest.raises(Unauthorized, match="client id or its MD5 code"):
            await seen.find()
        assert seen.server.stats.requests == 1
        with pytest.raises(Unauthorized, match="client id or its MD5 code"):
            await seen.find(Wanted(since=date(2020, 1, 1)))
        assert seen.server.stats.requests == 3, "one more, to see whether it is the account or the function"
    async with scene(behaviour=Behaviour(disallowed=True)) as refused:
        with pytest.raises(AddressRefused):
            await refused.find(Wanted(since=date(2020, 1, 1)))
        assert refused.server.stats.requests == 1


async def test_a_server_that_is_never_reached_ends_it() -> None:
    async with scene(tuning=replace(TUNING, never_reached_s=0.05)) as seen:
        closed = replace(seen.settings, endpoint="http://127.0.0.1:9")
        with pytest.raises(ServerNotReached, match="gave up after"):
            await Scene(seen.server, closed).find()


async def test_a_server_that_goes_away_for_a_moment_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene() as seen:
        at_attempt(5, lambda: setattr(seen.server, "down", True), monkeypatch)
        at_attempt(9, lambda: setattr(seen.server, "down", False), monkeypatch)
        found = await seen.find()
        assert len(found.sends) == 24
        assert found.proven


async def test_no_more_are_in_flight_than_told_and_the_first_goes_alone() -> None:
    behaviour = Behaviour(latency_s=(0.01, 0.01), most_in_flight=3)
    async with scene(behaviour=behaviour, concurrency=3) as seen:
        found = await seen.find(Wanted(since=date(2015, 1, 1)))
        assert len(found.sends) == 24
        assert seen.server.stats.busy == 0


async def test_what_is_too_big_to_serve_is_asked_for_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the server could list a month and no more."""
    async with scene() as seen:
        attempt = Client.attempt
        lengths: list[int] = []

        async def capped(self: Client, query: Any, permit: Any) -> Any:
            page = await attempt(self, query, permit)
            if query.dataset is CAMPAIGNS:
                lengths.append((query.until - query.since).days)
                if lengths[-1] > 31:
                    raise _too_big()
            return page

        monkeypatch.setattr(Client, "attempt", capped)
        found = await seen.find(Wanted(since=date(2020, 4, 1), until=date(2020, 9, 30)))
        assert ids(found) == [seen.send(n) for n in range(6)]
        assert found.proven
        assert sum(length > 31 for length in lengths) == 3 * 3, "three parts of two months, each three times"


async def test_what_fails_for_as_long_as_one_is_patient_is_doubted_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(patience_s=0.0) as seen:
        attempt = Client.attempt
        bad = seen.campaign(0)

        async def failing(self: Client, query: Any, permit: Any) -> Any:
            page = await attempt(self, query, permit)
            if query.id_message == bad:
                raise _too_big()
            return page

        monkeypatch.setattr(Client, "attempt", failing)
        found = await seen.find()
        assert ids(found) == [seen.send(n) for n in range(3, 24)]
        assert found.doubts
        assert all(f"sends of campaign {bad} from " in doubt and "cut" in doubt for doubt in found.doubts)


@pytest.mark.parametrize("at", [1, 2, 12, 26])
async def test_a_stop_finishes_what_is_in_flight_and_says_so(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene() as seen, Client.open(seen.settings) as client:
        finder = Finder(seen.settings, ALL)
        at_attempt(at, finder.drain, monkeypatch)
        found = await finder.find(client)
        assert found.interrupted
        assert not found.proven
        assert "stopped before" in found.doubts[-1]
        assert at <= seen.server.stats.requests <= at + seen.settings.concurrency


async def test_a_finder_that_is_stopped_before_it_begins_asks_nothing() -> None:
    async with scene() as seen, Client.open(seen.settings) as client:
        finder = Finder(seen.settings, ALL)
        finder.drain()
        found = await finder.find(client)
        assert (found.interrupted, found.sends, seen.server.stats.requests) == (True, (), 0)


async def test_how_far_it_is_can_be_seen_at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene() as seen, Client.open(seen.settings) as client:
        finder = Finder(seen.settings, ALL)
        assert (finder.search.lists, finder.queries) == (0, 0)
        at_attempt(30, lambda: halfway.append(finder.search), monkeypatch)
        halfway: list[Any] = []
        await finder.find(client)
        assert 0 < halfway[0].lists_done < halfway[0].lists <= finder.search.lists
        assert finder.search.lists_done == finder.search.lists
        assert finder.search.sends >= 24


async def test_a_campaign_whose_sends_are_not_listed_though_it_has_messages_is_doubted() -> None:
    """The list of its sends is empty each time, as an error would be."""
    async with scene(patience_s=0.0) as seen:
        hidden = frozenset(seen.send(n) for n in range(3))
        attempt = Client.attempt

        async def hiding(self: Client, query: Any, permit: Any) -> Any:
            if query.dataset is SENDS:
                seen.server.behaviour = Behaviour(hidden_sends=hidden)
            return await attempt(self, query, permit)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Client, "attempt", hiding)
            found = await seen.find(Wanted(until=date(2021, 1, 1)))
        assert ids(found) == [seen.send(n) for n in range(3, 9)]
        assert any(f"campaign {seen.campaign(0)} " in doubt and "30 messages" in doubt for doubt in found.doubts)


async def test_two_sends_in_one_list_that_lose_one_do_not_add_up() -> None:
    """A list that is cut short each time is believed only after more askings than elsewhere, since others add up."""
    spec = AccountSpec(sends=listed({1: 5, 2: 6, 3: 7, 4: 8}), sends_per_campaign=2, first_date=NOON, days_between=1)
    async with scene(spec) as seen:
        cut = seen.campaign(0)
        attempt = Client.attempt

        async def cutting(self: Client, query: Any, permit: Any) -> Any:
            page = await attempt(self, query, permit)
            if query.dataset is SENDS and query.id_message == cut and seen.functions[SENDS.function] <= 4:
                return replace(page, batch=page.batch.slice(0, 1))
            return page

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Client, "attempt", cutting)
            found = await seen.find(Wanted(since=date(2020, 4, 30), until=date(2020, 5, 10)))
        assert ids(found) == [1, 2, 3, 4]
        assert found.proven


def test_days_that_end_before_they_begin_cant_be_meant() -> None:
    with pytest.raises(UsageError, match="--since 2024-02-01 is later than --until 2024-01-01"):
        Wanted(since=date(2024, 2, 1), until=date(2024, 1, 1))


async def test_finding_waits_for_nobody_when_the_run_is_cancelled() -> None:
    async with scene(behaviour=Behaviour(latency_s=(60.0, 60.0))) as seen:
        with anyio.move_on_after(0.05) as scope:
            await seen.find()
        assert scope.cancelled_caught


def _too_big() -> Exception:
    return Cut("the answer was cut")
