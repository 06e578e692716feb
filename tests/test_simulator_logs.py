"""The simulated logs, every bounce and every response: consistent with the messages, and paged like them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvester.datasets import BOUNCES, CATALOGUE, EXTRA, MESSAGES, RAW_BOUNCES, RAW_RESPONSES, Dataset
from harvester.simulator import (
    Account,
    AccountSpec,
    Behaviour,
    Case,
    Fault,
    Numbers,
    Shape,
    equal,
    expected,
    listed,
    summary,
    truth,
)
from harvester.simulator.draws import BLOCK_ROWS
from harvester.simulator.logs import entries
from tests.test_simulator import FIRST, Client, as_text, client

RAW = (RAW_BOUNCES, RAW_RESPONSES)
LIVELY = AccountSpec(sends=equal(3, 300), failed=0.3, opened=0.8, gap=5)


def names(dataset: Dataset) -> list[str]:
    return [column.api_name for column in dataset.fields]


def key_name(dataset: Dataset) -> str:
    return next(column.api_name for column in dataset.fields if column.name == dataset.key)


def true_keys(account: Account, dataset: Dataset, *ids: int) -> list[int]:
    columns = (expected(account, dataset, id_send)[dataset.key] for id_send in ids)
    return [int(str(key)) for column in columns for key in column.to_pylist()]


async def keys(api: Client, dataset: Dataset, **parameters: Any) -> list[int]:
    reply = (await api.ask(dataset, **parameters)).json
    return [int(record[key_name(dataset)]) for record in reply or []]


def test_there_is_one_logged_bounce_for_each_bounce() -> None:
    account = Account(AccountSpec(sends=equal(2, 2000), failed=0.3, awkward=True))
    shared = ("id_send_message", "status", "bounce_cat", "email", "id_email", "id_user_list")

    def told(dataset: Dataset) -> Counter[tuple[object, ...]]:
        return Counter(tuple(row[name] for name in shared) for row in truth(account, dataset, FIRST).to_pylist())

    assert told(BOUNCES) == told(RAW_BOUNCES)
    assert len(set(true_keys(account, RAW_BOUNCES, FIRST))) == told(BOUNCES).total() > 600


def test_responses_are_those_of_opened_messages_and_begin_with_the_opening() -> None:
    account = Account(AccountSpec(sends=equal(1, 2000), opened=0.5, failed=0.1))
    opened = {
        row["id_send_message"]: row["email"]
        for row in truth(account, MESSAGES, FIRST).to_pylist()
        if row["s_continent"]
    }
    responses = truth(account, RAW_RESPONSES, FIRST).to_pylist()
    per_message = Counter(row["id_send_message"] for row in responses)
    assert set(per_message) < set(opened)
    assert set(per_message.values()) == {1, 2, 3}
    assert all(opened[row["id_send_message"]] == row["email"] for row in responses)
    seen: set[str | None] = set()
    for row in responses:
        assert row["id_send_message"] in seen or row["type"] == "open"
        seen.add(row["id_send_message"])
    assert {row["type"] for row in responses} == {"open", "click", "unsubscribe"}


@pytest.mark.parametrize("dataset", RAW)
def test_log_keys_ascend_over_the_account_with_the_messages(dataset: Dataset) -> None:
    account = Account(LIVELY)
    every = true_keys(account, dataset, FIRST, FIRST + 1, FIRST + 2)
    assert all(low < high for low, high in pairwise(every))
    tables = [expected(account, dataset, FIRST + n) for n in range(3)]
    messages = [int(str(key)) for table in tables for key in table["id_send_message"].to_pylist()]
    assert messages == sorted(messages)


@pytest.mark.anyio
@pytest.mark.parametrize("dataset", RAW)
@pytest.mark.parametrize("inclusive", [True, False])
async def test_logs_are_served_page_by_page_from_the_cursor_on(dataset: Dataset, inclusive: bool) -> None:
    assert dataset.cursor is not None
    async with client(LIVELY, Behaviour(page_cap=50, inclusive=inclusive)) as api:
        account = api.server.account
        every = true_keys(account, dataset, FIRST, FIRST + 1, FIRST + 2)
        seen = await keys(api, dataset)
        while page := await keys(api, dataset, **{dataset.cursor: seen[-1]}, limit=40):
            assert len(page) <= 40
            assert (page[0] == seen[-1]) == inclusive
            seen += page[inclusive:]
            if len(page) == inclusive:
                break
        assert seen == every
        mine = true_keys(account, dataset, FIRST + 1)
        assert await keys(api, dataset, ID_send=FIRST + 1) == mine[:50]
        assert (
            await keys(api, dataset, ID_message=account.id_message(1), **{dataset.cursor: mine[-1] + 1})
            == [key for key in every if key > mine[-1]][:50]
        )
        assert (await api.ask(dataset, ID_send=999)).body == b"{}"
        assert (await api.ask(dataset, ID_message=1)).json["error"] == "Invalid ID_message"
        assert api.server.stats.functions[dataset.function] > len(every) // 50


@given(start=st.integers(-(2**70), 2**70) | st.integers(-10, 9000), limit=st.integers(1, 60))
def test_any_number_is_a_start_of_a_log(start: int, limit: int) -> None:
    account = Account(LIVELY)
    start += account.spec.lowest_key if abs(start) < 10_000 else 0
    for dataset in RAW:
        every = true_keys(account, dataset, FIRST, FIRST + 1, FIRST + 2)
        found = entries(account, dataset, range(3), start=start, limit=limit)
        got = [
            account.log_key(account.key(ordinal, index), line)
            for ordinal, index, line in zip(
                found.ordinal.to_pylist(), found.index.to_pylist(), found.line.to_pylist(), strict=True
            )
            if ordinal is not None and index is not None and line is not None
        ]
        assert got == [key for key in every if key >= start][:limit]


@pytest.mark.anyio
async def test_responses_of_one_message_can_be_asked_for() -> None:
    async with client(LIVELY) as api:
        rows = truth(api.server.account, RAW_RESPONSES, FIRST + 1).to_pylist()
        wanted = rows[7]["id_send_message"]
        mine = [int(row["id_log"]) for row in rows if row["id_send_message"] == wanted]
        assert await keys(api, RAW_RESPONSES, ID_send_message=wanted) == mine
        assert await keys(api, RAW_RESPONSES, ID_send_message=wanted, ID_log=mine[0] + 1) == mine[1:]


@pytest.mark.anyio
async def test_logs_are_served_as_the_truth_tells_in_every_shape() -> None:
    shapes = [
        Shape(),
        Shape(ascii=True),
        Shape(numbers=Numbers.MIXED, case=Case.UPPER, unknown=True, shuffle=True, missing=("SUBJECT", "city")),
    ]
    for shape in shapes:
        spec = AccountSpec(sends=equal(2, 300), failed=0.3, waiting=0.1, awkward=True, shape=shape)
        async with client(spec) as api:
            for dataset in RAW:
                reply = await api.ask(dataset, ID_send=FIRST)
                records = json.loads(reply.body, parse_int=str, parse_float=str)
                true = truth(api.server.account, dataset, FIRST).to_pylist()
                assert [as_named(dataset, as_text(record)) for record in records] == [
                    {name: text for name, text in row.items() if text is not None} for row in true
                ]
                if shape == Shape():
                    assert list(records[0]) == names(dataset)


def as_named(dataset: Dataset, record: Mapping[str, object]) -> dict[str, str]:
    named = {spelling: column.name for column in dataset.fields for spelling in column.spellings}
    return {named.get(name, name): str(value) for name, value in record.items()}


@pytest.mark.parametrize("dataset", RAW)
def test_the_misspelt_field_has_its_right_column_and_all_are_filled(dataset: Dataset) -> None:
    table = expected(Account(LIVELY), dataset, FIRST)
    assert table.schema == dataset.schema
    for name in table.schema.names:
        filled = any(value not in {None, ""} for value in table[name].to_pylist())
        assert filled or name in {EXTRA, "ab_version"}, name


@pytest.mark.anyio
async def test_logs_may_come_short() -> None:
    async with client(LIVELY) as api:
        whole = await keys(api, RAW_BOUNCES, ID_send=FIRST)
        api.server.behaviour = Behaviour(faults={Fault.SHORT: 1.0})
        short = await keys(api, RAW_BOUNCES, ID_send=FIRST)
        assert 0 < len(short) < len(whole)
        assert whole[: len(short)] == short


@pytest.mark.anyio
async def test_a_lone_entry_is_bare_only_if_it_is_alone() -> None:
    """Entries are rare among messages: a page's first may come from another block than the rest."""
    spec = AccountSpec(sends=equal(1, 3 * BLOCK_ROWS), failed=0.0002, opened=0, shape=Shape(single_bare=True))
    async with client(spec) as api:
        assert len(await keys(api, RAW_BOUNCES)) > 1
        assert (await api.ask(RAW_BOUNCES, limit=1)).json["ID_SEND"] == str(FIRST)


@pytest.mark.anyio
async def test_truth_of_all_datasets_is_told_over_http() -> None:
    async with client(AccountSpec(sends=listed({5: 100, 6: 0}), failed=0.5, opened=1)) as api:
        for id_send in (5, 6):
            told = await api.get(f"/truth?id_send={id_send}")
            for name, dataset in CATALOGUE.items():
                found = summary(api.server.account, dataset, id_send)
                assert told[name] == {"rows": found.rows, "digest": found.digest}
                assert bool(found.rows) == (id_send == 5)


def test_settling_adds_bounces_to_both_and_late_openings_add_responses() -> None:
    account = Account(AccountSpec(sends=equal(1, 2000), failed=0.1, waiting=0.2, opened=0.2, opened_later=0.3))
    before = {dataset.name: set(true_keys(account, dataset, FIRST)) for dataset in (BOUNCES, *RAW)}
    account.settled = True
    for dataset in (BOUNCES, *RAW):
        assert before[dataset.name] < set(true_keys(account, dataset, FIRST)), dataset.name
    assert summary(account, BOUNCES, FIRST).rows == summary(account, RAW_BOUNCES, FIRST).rows
