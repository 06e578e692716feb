"""A send's bounces, asked for while the last of its messages are under way: a round trip sooner, and judged as ever."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from harvester.api.client import Client
from harvester.api.limiter import Permit
from harvester.budget import Hold
from harvester.datasets import BOUNCES, MESSAGES
from harvester.errors import ServerFailed, SliceRefused
from harvester.harvest import ending, parts, plan
from harvester.harvest.intake import Intake
from harvester.harvest.plan import Ask, Follow, State, Wait
from harvester.harvest.walks import Walk
from harvester.lake.entries import SliceRecord
from harvester.model import KeyRange, Page, Query, Send, SliceKey
from harvester.simulator import AccountSpec, listed
from tests.harvesting import field, outcomes
from tests.test_splitting import state

ROWS, LIMIT = 300, 200
"""Two pages: the first goes alone, the second is the last one."""
SPEC = AccountSpec(sends=listed({601: ROWS}), failed=0.1)
Attempt = Callable[[Client, Query, Permit, Hold], Awaitable[Page]]


class Order:
    """Has the last page of messages come only once the list of bounces came: one that is never asked for hangs the run.

    Attributes:
        lists: how many times the list came.
        after: what is done with it when it comes for the first time.
        last_page: a failure that comes instead of the last page, once.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.lists = 0
        self.after: Callable[[Client, Page, Hold], Page] = lambda _client, page, _hold: page
        self.last_page: Exception | None = None
        self._came = anyio.Event()
        self._attempt: Attempt = Client.attempt

        async def made(client: Client, query: Query, permit: Permit, hold: Hold) -> Page:
            return await self._made(client, query, permit, hold)

        patch.setattr(Client, "attempt", made)

    async def _made(self, client: Client, query: Query, permit: Permit, hold: Hold) -> Page:
        page = await self._attempt(client, query, permit, hold)
        if query.dataset is BOUNCES:
            self.lists += 1
            if self.lists == 1:
                page = self.after(client, page, hold)
            self._came.set()
        elif query.start:
            await self._came.wait()
            if self.last_page is not None:
                error, self.last_page = self.last_page, None
                raise error
        return page


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> Order:
    return Order(monkeypatch)


SENDS = [Send(601, expected=ROWS)]


@pytest.mark.anyio
class TestInARun:
    async def test_its_bounces_are_asked_for_before_the_last_messages_are_here(
        self, tmp_path: Path, order: Order
    ) -> None:
        async with field(tmp_path, SPEC, limit=LIMIT) as account:
            result = await account.run(SENDS)
            account.assert_exact()
            assert account.server.stats.requests == 3, "two pages, and one list"
        assert outcomes(result)["bounces", 601].proof == "covers", "judged by all messages, so after them"
        assert order.lists == 1

    @pytest.mark.parametrize("earlier", [slice(1, None), slice(0, 0)], ids=["one", "all"])
    async def test_a_list_that_lacks_who_failed_since_is_asked_for_again(
        self, tmp_path: Path, order: Order, earlier: slice
    ) -> None:
        order.after = lambda _client, page, _hold: replace(page, batch=page.batch[earlier])
        async with field(tmp_path, SPEC, limit=LIMIT) as account:
            result = await account.run(SENDS)
            account.assert_exact()
        assert outcomes(result)["bounces", 601].proof == "covers"
        assert order.lists == 2, "and the source is not distrusted"

    async def test_a_list_without_room_to_wait_is_asked_for_again(self, tmp_path: Path, order: Order) -> None:
        def swell(client: Client, page: Page, hold: Hold) -> Page:
            client.budget.change(hold, client.budget.share // 2 + 1)
            return page

        order.after = swell
        async with field(tmp_path, SPEC, limit=LIMIT) as account:
            result = await account.run(SENDS)
            account.assert_exact()
        assert outcomes(result)["bounces", 601].proof == "covers"
        assert order.lists == 2
        assert result.queries == 3, "asking again is no further query"

    @pytest.mark.parametrize("fails", [False, True])
    async def test_a_drain_waits_with_it_for_what_is_in_flight_and_no_longer(
        self, tmp_path: Path, order: Order, fails: bool
    ) -> None:
        order.last_page = ServerFailed("on purpose") if fails else None
        async with field(tmp_path, SPEC, limit=LIMIT) as account:
            harvest = account.harvest(SENDS)

            def drain(_client: Client, page: Page, _hold: Hold) -> Page:
                harvest.drain()
                return page

            order.after = drain
            assert (await harvest.run()).complete is not fails
            assert account.server.stats.requests == 3
            assert (await account.run(SENDS)).complete
            account.assert_exact()
            assert account.server.stats.requests == (5 if fails else 3)

    async def test_a_drain_keeps_a_list_whose_messages_are_complete(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        attempt, ended, over = Client.attempt, Intake.ended, anyio.Event()

        async def told(intake: Intake, slice_id: int) -> None:
            await ended(intake, slice_id)
            over.set()

        monkeypatch.setattr(Intake, "ended", told)
        async with field(tmp_path, SPEC, limit=LIMIT) as account:
            harvest = account.harvest(SENDS)

            async def late(client: Client, query: Query, permit: Permit, hold: Hold) -> Page:
                page = await attempt(client, query, permit, hold)
                if query.dataset is BOUNCES:
                    await over.wait()
                    harvest.drain()
                return page

            monkeypatch.setattr(Client, "attempt", late)
            assert (await harvest.run()).complete
            account.assert_exact()
            assert account.server.stats.requests == 3

    async def test_where_the_last_messages_fail_it_waits_for_the_next_attempt(
        self, tmp_path: Path, order: Order
    ) -> None:
        order.last_page = ServerFailed("on purpose")
        async with field(tmp_path, SPEC, limit=LIMIT) as account:
            result = await account.run(SENDS)
            account.assert_exact()
            assert account.server.stats.requests == 4
        assert outcomes(result)["bounces", 601].proof == "covers"

    async def test_where_the_messages_are_given_up_it_has_to_come_twice(self, tmp_path: Path, order: Order) -> None:
        order.last_page = SliceRefused("on purpose")
        async with field(tmp_path, SPEC, limit=LIMIT) as account:
            result = await account.run(SENDS)
            account.assert_exact(datasets=("bounces",))
        assert outcomes(result)["messages", 601].error
        assert outcomes(result)["bounces", 601].proof == "agreed"
        assert order.lists == 2


def messages(*, rows: int, expected: int | None = 1000, busy: bool = True, short: int = 0) -> Walk:
    here = KeyRange(cursor=rows, held=rows, anchors=(), limit=100, short_answers=short)
    return Walk(1, MESSAGES, 601, expected=expected, rows=rows, key_range=here, busy=busy)


def followed(walk: Walk) -> State:
    here = state(walk, in_flight=1)
    here.followers[walk.slice_id] = SliceRecord(2, SliceKey("bounces", 601), None, 0, None, None, None)
    return here


class TestWhen:
    @pytest.mark.parametrize(
        ("walk", "ends"),
        [
            (messages(rows=900), True),
            (messages(rows=899), False),
            (messages(rows=950, busy=False), False),
            (messages(rows=900, expected=None), False),
            (messages(rows=900, expected=None, short=1), True),
        ],
        ids=["the last page", "the last but one", "nothing under way", "who knows", "its end is asked for again"],
    )
    def test_once_all_of_the_messages_are_under_way(self, walk: Walk, ends: bool) -> None:
        assert ending.is_in_sight(walk) is ends

    def test_not_while_they_are_asked_for_again(self) -> None:
        walk = messages(rows=900)
        walk.reopened = True
        assert not ending.is_in_sight(walk)

    def test_each_part_counts(self) -> None:
        walk = messages(rows=800)
        parts.split(walk, 900)
        assert not ending.is_in_sight(walk), "one of them is still to be asked"
        walk.parts[1].busy = True
        assert ending.is_in_sight(walk)

    def test_with_a_permit_that_nobody_else_can_use(self) -> None:
        walk = messages(rows=950)
        here = followed(walk)
        assert plan.choose(here, 0) == Follow(walk)
        other = Walk(3, MESSAGES, 602, turn=3)
        here.walks[3] = other
        assert plan.choose(here, 0) == Ask(other)

    def test_with_no_permit_that_an_answer_will_want(self) -> None:
        here = followed(messages(rows=950))
        here.busy = here.concurrency
        assert plan.choose(here, 0) == Wait()

    def test_not_where_rows_have_to_come_in_order(self) -> None:
        here = followed(messages(rows=950))
        here.splits = False
        assert plan.choose(here, 0) == Wait()
