"""Accounts change with time: sends grow, messages are delivered and opened, and every list and log follows."""

from __future__ import annotations

from datetime import datetime, timedelta

import aiohttp
import pytest

from harvester.datasets import BOUNCES, CATALOGUE, MESSAGES, RAW_BOUNCES, RAW_RESPONSES, SENDS
from harvester.errors import UsageError
from harvester.simulator import Account, AccountSpec, equal, expected, listed, summary, truth
from tests.test_simulator import FIRST, client, keys

GROWING = AccountSpec(sends=equal(3, 40), room=25, gap=3, failed=0.3, opened=0.6)


@pytest.mark.anyio
async def test_a_send_grows_with_higher_keys_and_its_count_follows() -> None:
    async with client(GROWING) as api:
        account = api.server.account
        before = expected(account, MESSAGES, FIRST + 1)
        others = [summary(account, MESSAGES, FIRST + n) for n in (0, 2)]
        await api.control(grow={str(FIRST + 1): 10})
        account.grow(FIRST + 1, 15)
        after = expected(account, MESSAGES, FIRST + 1)
        assert after.slice(0, 40).equals(before)
        grown = (await api.ask(ID_send=FIRST + 1)).keys
        assert len(grown) == 65
        assert max(keys(account, FIRST)) < grown[0]
        assert grown[-1] < min(keys(account, FIRST + 2))
        assert (await api.ask(ID_send_message=grown[50], limit=20)).keys[:15] == grown[50:]
        assert [summary(account, MESSAGES, FIRST + n) for n in (0, 2)] == others
        sends = (await api.ask(SENDS, ID_message=account.id_message(0))).json
        assert [send["SEND_COUNT"] for send in sends] == ["40", "65", "40"]
        assert account.send(1).expected == 65


@pytest.mark.parametrize("dataset", [BOUNCES, RAW_BOUNCES, RAW_RESPONSES])
def test_logs_grow_with_their_send(dataset: object) -> None:
    chosen = next(known for known in CATALOGUE.values() if known is dataset)
    account = Account(GROWING)
    before = set(truth(account, chosen, FIRST)[chosen.key].to_pylist())
    account.grow(FIRST, 25)
    assert before < set(truth(account, chosen, FIRST)[chosen.key].to_pylist())


@pytest.mark.anyio
async def test_a_send_grows_no_further_than_its_room() -> None:
    async with client(GROWING) as api:
        api.server.account.grow(FIRST, 20)
        for id_send, rows in ((FIRST, 6), (FIRST, -1), (999, 1)):
            with pytest.raises(UsageError):
                api.server.account.grow(id_send, rows)
        order = {"grow": {str(FIRST): 6}}
        async with api.session.post(api.server.url + "/control", json=order) as response:
            assert (response.status, "there are 5 left" in await response.text()) == (400, True)
        assert len((await api.ask(ID_send=FIRST)).json) == 60
        with pytest.raises(aiohttp.ContentTypeError):
            await api.control(grow={"1": 1})
    with pytest.raises(UsageError, match="room"):
        AccountSpec(room=-1)


def test_settling_changes_the_messages_that_waited_and_what_follows_from_them() -> None:
    account = Account(AccountSpec(sends=equal(1, 1000), waiting=0.3, failed=0.2, opened=0.3, opened_later=0.3))
    before = truth(account, MESSAGES, FIRST).to_pylist()
    account.settled = True
    after = truth(account, MESSAGES, FIRST).to_pylist()
    changed = {row["id_send_message"] for row, then in zip(after, before, strict=True) if row != then}
    waited = {row["id_send_message"] for row in before if row["message_status"] == "wait"}
    opened = {row["id_send_message"] for row in after if row["s_continent"]}
    assert waited < changed <= waited | opened
    assert changed - waited
    failed = {row["id_send_message"] for row in after if row["message_status"] == "failed"}
    for dataset in (BOUNCES, RAW_BOUNCES):
        assert set(truth(account, dataset, FIRST)["id_send_message"].to_pylist()) == failed
    assert set(truth(account, RAW_RESPONSES, FIRST)["id_send_message"].to_pylist()) < opened


def test_dates_follow_from_the_first_one() -> None:
    first = datetime.fromisoformat("2026-11-01 08:30:15")
    account = Account(AccountSpec(sends=listed({9: 3, 5: 3, 7: 3}), first_date=first, days_between=1.5))
    assert [send.sent_at for send in account.sends] == [first + timedelta(days=days) for days in (0, 1.5, 3)]
    assert set(expected(account, MESSAGES, 5)["message_date"].to_pylist()) == {first + timedelta(days=1.5)}
    assert account.today.isoformat() == "2026-11-05"
    usual = Account(AccountSpec(sends=equal(2, 1)))
    assert [str(send.sent_at) for send in usual.sends] == ["2016-06-20 14:37:47", "2016-06-20 21:37:48"]
    with pytest.raises(UsageError, match="no zone"):
        AccountSpec(first_date=datetime.fromisoformat("2026-11-01T00:00:00+01:00"))
    with pytest.raises(UsageError, match="between the years"):
        AccountSpec(days_between=-1)
