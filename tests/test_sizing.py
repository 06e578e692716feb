"""A large send that was named without a number: the list of its campaign's sends says it, as far as it can be had."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import pyarrow as pa
import pytest

from benchmarks.simulated.account import SimulatedAccount
from benchmarks.simulated.harvest import Scene, play
from harvester.api.client import Client
from harvester.api.limiter import Permit
from harvester.budget import Hold
from harvester.datasets import SENDS
from harvester.errors import AddressRefused, ServerFailed, SliceRefused
from harvester.harvest import scheduler
from harvester.harvest.status import read_status
from harvester.model import Page, Query, Send
from harvester.simulator import AccountSpec, Behaviour, listed
from tests.harvesting import Field, at_attempt, field, outcomes

ROWS, LIMIT = 6_000, 200
SPEC = AccountSpec(
    sends=listed({601: ROWS, 602: 5_000, 603: 30}),
    first_date=datetime(2020, 3, 1, 9, 0, 0),  # noqa: DTZ001  the API's dates have no zone
    sends_per_campaign=3,
)
SLOW = Behaviour(latency_s=(0.02, 0.02))
GIVEN: dict[str, Any] = {"limit": LIMIT, "concurrency": 8, "datasets": ("messages",)}
Attempt = Callable[[Client, Query, Permit, Hold | None], Awaitable[Page]]
Answer = Callable[[Page], Page]


class Lists:
    """Counts the lists of sends that are asked for, and has something else come of them.

    Attributes:
        asked: the queries for them.
        awaits: sends of which nothing comes before a list has.
    """

    def __init__(self, patch: pytest.MonkeyPatch, answer: Answer = lambda page: page) -> None:
        self.asked: list[Query] = []
        self.awaits: set[int] = set()
        self._came = anyio.Event()
        self._answer = answer
        self._attempt: Attempt = Client.attempt

        async def made(client: Client, query: Query, permit: Permit, hold: Hold | None = None) -> Page:
            return await self._made(client, query, permit, hold)

        patch.setattr(Client, "attempt", made)

    async def _made(self, client: Client, query: Query, permit: Permit, hold: Hold | None) -> Page:
        page = await self._attempt(client, query, permit, hold)
        if query.id_send in self.awaits:
            await self._came.wait()
        if query.dataset is not SENDS:
            return page
        self.asked.append(query)
        self._came.set()
        return self._answer(page)


async def harvested(account: Field, *ids: int) -> list[tuple[str | None, int | None]]:
    """Harvests sends without numbers and compares them with the truth; each one's proof and number."""
    result = await account.run(ids or (601,))
    assert result.complete
    account.assert_exact(*(ids or (601,)), datasets=["messages"])
    found = outcomes(result)
    return [(found["messages", one].proof, found["messages", one].expected) for one in ids or (601,)]


def fails(error: Exception) -> Answer:
    """An answer that is none."""

    def answer(_: Page) -> Page:
        raise error

    return answer


def says(**columns: Callable[[int], int | None]) -> Answer:
    """A list that says something else."""

    def answer(page: Page) -> Page:
        batch = page.batch
        for name, change in columns.items():
            place = batch.schema.get_field_index(name)
            column = [None if value is None else change(value) for value in batch.column(name).to_pylist()]
            kind = batch.schema.field(place)
            batch = batch.set_column(place, kind, pa.array(column, kind.type))
        return replace(page, batch=batch)

    return answer


@pytest.mark.anyio
class TestRuns:
    async def test_it_is_asked_for_once_and_proves_the_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lists = Lists(monkeypatch)
        async with field(tmp_path, SPEC, SLOW, **GIVEN) as account:
            assert await harvested(account) == [("count", ROWS)]
            (query,) = lists.asked
            assert query.since is not None
            assert query.until is not None
            assert query.since.isoformat() < "2020-03-01" < query.until.isoformat()
            assert account.server.stats.requests <= 1.15 * (ROWS / (LIMIT - 1)) + 1
        status = read_status(tmp_path)
        assert status.rows["messages"] == ROWS

    async def test_one_list_serves_all_sends_of_a_campaign(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lists = Lists(monkeypatch)
        async with field(tmp_path, SPEC, SLOW, **GIVEN) as account:
            assert await harvested(account, 601, 602) == [("count", ROWS), ("count", 5_000)]
        assert len(lists.asked) == 1

    async def test_it_serves_a_send_that_begins_later_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lists = Lists(monkeypatch)
        lists.awaits = {602}
        async with field(tmp_path, SPEC, SLOW, **GIVEN) as account:
            assert await harvested(account, 601, 602) == [("count", ROWS), ("count", 5_000)]
        assert len(lists.asked) == 1

    async def test_what_is_known_is_not_asked_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        lists = Lists(monkeypatch)
        async with field(tmp_path, SPEC, SLOW, **GIVEN) as account:
            assert (await account.run([Send(601, expected=ROWS)])).complete
            assert await harvested(account, 603) == [("tail", None)]  # it is less than a page
        assert lists.asked == []

    async def test_what_was_found_out_is_known_to_the_run_that_goes_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with field(tmp_path, SPEC, SLOW, **GIVEN) as account:
            with pytest.MonkeyPatch.context() as patch:
                harvest = account.harvest([601])
                at_attempt(20, harvest.drain, patch)
                assert (await harvest.run()).interrupted
            lists = Lists(monkeypatch)
            assert await harvested(account) == [("count", ROWS)]
        assert lists.asked == []

    async def test_where_nobody_says_how_large_it_is_it_comes_all_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lists = Lists(monkeypatch)
        for name, behaviour, askings in (
            ("reports are not permitted", replace(SLOW, no_reports=True), 0),
            ("the list lacks it", replace(SLOW, hidden_sends=frozenset({601})), 1),
            ("the list names nothing", replace(SLOW, hidden_sends=frozenset({601, 602, 603})), 3),
        ):
            lists.asked.clear()
            async with field(tmp_path / name, SPEC, behaviour, **GIVEN) as account:
                assert await harvested(account) == [("tail", None)]
            assert len(lists.asked) == askings, name

    @pytest.mark.parametrize(("error", "askings"), [(ServerFailed("busy"), 3), (SliceRefused("Invalid ID_message"), 1)])
    async def test_a_list_that_fails_is_asked_for_three_times_if_that_may_help(
        self, tmp_path: Path, error: Exception, askings: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lists = Lists(monkeypatch, fails(error))
        async with field(tmp_path, SPEC, SLOW, **GIVEN) as account:
            assert await harvested(account) == [("tail", None)]
        assert len(lists.asked) == askings

    async def test_a_list_that_hangs_is_let_go(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scheduler, "_LEAST_PATIENCE_S", 0.01)
        monkeypatch.setattr(scheduler, "_PATIENCE", 0.0)
        given = GIVEN | {"concurrency": 2}
        async with field(tmp_path, SPEC, SLOW, **given) as account:
            begun = 0
            attempt: Attempt = Client.attempt

            async def made(client: Client, query: Query, permit: Permit, hold: Hold | None = None) -> Page:
                nonlocal begun
                if query.dataset is SENDS:
                    begun += 1
                    await anyio.sleep_forever()
                return await attempt(client, query, permit, hold)

            monkeypatch.setattr(Client, "attempt", made)
            assert await harvested(account) == [("tail", None)]
            assert begun == 3, "each time it gave its permit back"

    @pytest.mark.parametrize("drained", [False, True])
    async def test_nobody_waits_for_a_list_that_is_of_no_use_any_more(
        self, tmp_path: Path, drained: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        attempt: Attempt = Client.attempt
        begun = 0
        async with field(tmp_path, SPEC, SLOW, **GIVEN) as account:
            harvest = account.harvest([601])

            async def made(client: Client, query: Query, permit: Permit, hold: Hold | None = None) -> Page:
                nonlocal begun
                if query.dataset is SENDS:
                    begun += 1
                    if drained:
                        harvest.drain()
                    await anyio.sleep_forever()
                return await attempt(client, query, permit, hold)

            monkeypatch.setattr(Client, "attempt", made)
            result = await harvest.run()
            assert (result.complete, result.interrupted, begun) == (not drained, drained, 1)

    async def test_an_address_that_is_refused_ends_the_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Lists(monkeypatch, fails(AddressRefused("Disallowed IP 127.0.0.1")))
        async with field(tmp_path, SPEC, SLOW, **GIVEN) as account:
            with pytest.raises(AddressRefused):
                await account.run([601])

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.1, 3.0])
    async def test_a_wrong_number_costs_queries_and_no_row(
        self, tmp_path: Path, share: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lists = Lists(monkeypatch, says(send_count=lambda count: int(share * count)))
        async with field(tmp_path, SPEC, SLOW, **GIVEN) as account:
            assert await harvested(account) == [("tail", int(share * ROWS) or None)]
        assert len(lists.asked) == 1

    async def test_a_list_with_an_entry_that_has_no_id_is_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lists = Lists(monkeypatch, says(id_send=lambda _: None))
        async with field(tmp_path, SPEC, SLOW, **GIVEN) as account:
            assert await harvested(account) == [("tail", None)]
        assert len(lists.asked) == 3


def scene(account: SimulatedAccount, **settings: object) -> Scene:
    given: dict[str, object] = {"rate": 1000.0, "concurrency": 12, "limit": 2_000, "datasets": ("messages",)}
    return Scene(account, Behaviour(latency_s=(0.5, 0.5)), settings=given | settings, sized=False)


class TestSimulated:
    def test_where_the_end_was_seen_it_is_not_asked_for(self) -> None:
        """At a rate at which permits are idle now and then, and at the very end."""
        played = play(scene(SimulatedAccount([14_000] * 4, campaign_sends=1), rate=2.0))
        assert played.queries == 4 * 9, "eight pages each, and the end once more"

    def test_where_the_server_caps_pages_it_is_asked_for_too(self) -> None:
        capped = replace(scene(SimulatedAccount([60_000])), behaviour=Behaviour(latency_s=(0.5, 0.5), page_cap=1_000))
        played = play(capped)
        assert not played.lake.wrong()
        assert played.seconds <= 0.5 * 61 / 6, "it is split as soon as it is known"

    def test_many_cursors_wait_one_answer_longer_than_where_the_number_was_given(self) -> None:
        account = SimulatedAccount([120_000], stride=7)
        without = play(scene(account))
        given = play(replace(scene(account), sized=True))
        assert without.queries == given.queries + 1 == 62
        assert without.seconds <= given.seconds + 0.5 + 1e-6
        assert not without.lake.wrong()

    def test_where_the_rate_is_the_bound_it_is_not_asked_for(self) -> None:
        played = play(scene(SimulatedAccount([120_000]), rate=1.0))
        assert played.queries == 62, "61, and one more to prove the end"

    def test_half_of_the_permits_and_six_at_most_look_where_perhaps_nothing_is(self) -> None:
        for concurrency, looking in ((4, 2), (12, 6), (100, 6)):
            played = play(scene(SimulatedAccount([2_100]), concurrency=concurrency))
            assert played.queries <= 2 + 1 + looking + 1, "pages, the list, those, the end once more"
            assert not played.lake.wrong()
