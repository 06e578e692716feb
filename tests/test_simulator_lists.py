"""The simulated lists of campaigns and of their sends: what they show, and how they can mislead."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date, datetime
from typing import Any

import pytest

from harvester.datasets import CAMPAIGNS, MESSAGES, SENDS
from harvester.simulator import Account, AccountSpec, Behaviour, Nothing, Numbers, Shape, equal, listed
from tests.test_simulator import FIRST, Client, client

pytestmark = pytest.mark.anyio

DAILY = AccountSpec(
    sends=equal(6, 10),
    sends_per_campaign=3,
    first_date=datetime.fromisoformat("2020-05-01 12:00:00"),
    days_between=1,
    waiting=0.2,
)
"""Two campaigns of three sends, one a day from the first of May on."""


async def campaigns(api: Client, *days: str) -> list[dict[str, Any]]:
    records = (await api.ask(CAMPAIGNS, **dict(zip(("range_from", "range_to"), days, strict=False)))).json
    assert isinstance(records, list)
    return records


async def sends(api: Client, id_message: object, *days: str) -> list[dict[str, Any]]:
    said = dict(zip(("range_from", "range_to"), days, strict=False))
    records = (await api.ask(SENDS, ID_message=id_message, **said)).json
    return records or []


async def test_campaigns_are_listed_with_what_they_sent_within_the_days() -> None:
    async with client(DAILY) as api:
        first, second = (api.server.account.id_message(ordinal) for ordinal in (0, 3))
        both = await campaigns(api, "2020-05-01", "2020-05-06")
        assert [(row["ID_MESSAGE"], row["SEND_COUNT"]) for row in both] == [(str(first), "30"), (str(second), "30")]
        assert [row["DATE_LAST"] for row in both] == ["2020-05-03 12:00:00", "2020-05-06 12:00:00"]
        some = await campaigns(api, "2020-05-03", "2020-05-04")
        assert [(row["ID_MESSAGE"], row["SEND_COUNT"]) for row in some] == [(str(first), "10"), (str(second), "10")]
        assert [row["ID_MESSAGE"] for row in await campaigns(api, "2020-05-04", "2020-05-04")] == [str(second)]
        assert (await api.ask(CAMPAIGNS, range_from="2020-05-07", range_to="2030-01-01")).body == b"{}"
        assert (await api.ask(CAMPAIGNS, range_from="2020-05-06", range_to="2020-05-01")).body == b"{}"


async def test_a_campaigns_sends_are_listed_with_their_messages_that_are_not_erased() -> None:
    async with client(DAILY) as api:
        account = api.server.account
        account.erase_index(1, 4)
        rows = await sends(api, account.id_message(0), "2020-05-02", "2020-05-03")
        assert [(row["ID_SEND"], row["SEND_COUNT"]) for row in rows] == [(str(FIRST + 1), "9"), (str(FIRST + 2), "10")]
        assert rows[0]["DATE"] == "2020-05-02 12:00:00"
        assert {"SUBJECT", "DELIVERED_COUNT"} < set(rows[0])
        assert len((await api.ask(MESSAGES, ID_send=FIRST + 1)).json) == 9
        assert (await campaigns(api, "2020-05-01", "2020-05-02"))[0]["SEND_COUNT"] == "19"


async def test_without_a_range_lists_go_back_a_month_and_three() -> None:
    spec = AccountSpec(
        sends=equal(8, 1), sends_per_campaign=8, first_date=datetime.fromisoformat("2020-01-01"), days_between=20
    )
    async with client(spec) as api:
        account = api.server.account
        assert account.today == date(2020, 5, 21)
        assert [row["SEND_COUNT"] for row in await campaigns(api)] == ["2"]
        assert len(await sends(api, account.id_message(0))) == 5
        assert len(await sends(api, account.id_message(0), "2020-02-01")) == 6
        assert (await api.ask(SENDS, ID_message=account.id_message(0), range_to="2019-12-01")).body == b"{}"
    assert Account(AccountSpec(today=date(2021, 2, 3))).today == date(2021, 2, 3)


async def test_what_cant_be_listed_is_said_in_the_apis_words() -> None:
    async with client(DAILY) as api:
        said: list[dict[str, Any]] = [{}, {"ID_message": 1}, {"ID_message": "x"}, {"ID_message": ""}]
        for parameters in said:
            assert (await api.ask(SENDS, **parameters)).json == {"error_status": 1, "error": "Invalid ID_message"}
        for day in ("2020-02-30", "1.5.2020", 20200501):
            assert (await api.ask(CAMPAIGNS, range_from=day)).json["error"] == "Invalid range_from"


async def test_an_account_may_not_be_let_near_the_lists() -> None:
    async with client(DAILY, Behaviour(no_reports=True)) as api:
        id_message = api.server.account.id_message(0)
        assert (await api.ask(CAMPAIGNS)).json == {"error_status": 1, "error": "Unauthorized"}
        assert (await api.ask(SENDS, ID_message=id_message)).json == {"error_status": 1, "error": "Unauthorized"}
        assert len((await api.ask(MESSAGES, ID_send=FIRST)).json) == 10
        assert api.server.stats.functions == {CAMPAIGNS.function: 1, SENDS.function: 1, MESSAGES.function: 1}


async def test_unsteady_lists_lack_their_last_entry_as_often_as_told() -> None:
    async with client(DAILY, Behaviour(unsteady_lists=0.5)) as api:
        rows = [len(await campaigns(api, "2020-05-01", "2020-05-06")) for _ in range(40)]
        assert set(rows) == {1, 2}
        assert 10 < Counter(rows)[1] < 30
        api.server.behaviour = Behaviour(unsteady_lists=1.0)
        id_message = api.server.account.id_message(0)
        listed_sends = await sends(api, id_message, "2020-05-01", "2020-05-06")
        assert [row["ID_SEND"] for row in listed_sends] == [str(FIRST), str(FIRST + 1)]
        assert await sends(api, id_message, "2020-05-01", "2020-05-01") == []


async def test_a_campaigns_count_may_be_of_all_its_sends() -> None:
    async with client(DAILY, Behaviour(total_counts=True)) as api:
        assert [row["SEND_COUNT"] for row in await campaigns(api, "2020-05-03", "2020-05-03")] == ["30"]


async def test_hidden_sends_are_in_no_list_and_served_all_the_same() -> None:
    hidden = frozenset({FIRST + 1, FIRST + 3, FIRST + 4, FIRST + 5})
    async with client(DAILY, Behaviour(hidden_sends=hidden)) as api:
        rows = await campaigns(api, "2020-05-01", "2020-05-06")
        assert [row["SEND_COUNT"] for row in rows] == ["20"]
        listed_sends = await sends(api, api.server.account.id_message(0), "2020-05-01", "2020-05-06")
        assert [row["ID_SEND"] for row in listed_sends] == [str(FIRST), str(FIRST + 2)]
        assert len((await api.ask(MESSAGES, ID_send=FIRST + 1)).json) == 10


async def test_shapes_apply_to_lists() -> None:
    shape = Shape(numbers=Numbers.BARE, unknown=True, single_bare=True, nothing=Nothing.LIST, pretty=True)
    async with client(AccountSpec(sends=listed({7: 3, 8: 4}), shape=shape, awkward=True)) as api:
        row = (await api.ask(CAMPAIGNS)).json
        assert (row["SEND_COUNT"], "X_batch" in row) == (7, True)
        two = (await api.ask(SENDS, ID_message=row["ID_MESSAGE"])).json
        assert [send["ID_SEND"] for send in two] == [7, 8]
        assert json.loads((await api.ask(CAMPAIGNS, range_to="2000-01-01")).body) == []
