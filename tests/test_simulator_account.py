"""What an account holds follows from its recipe: keys, records, and the truth about them."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvester import simulator
from harvester.config import Wire
from harvester.datasets import BOUNCES, EXTRA, MESSAGES, Dataset
from harvester.errors import UsageError
from harvester.simulator import (
    Account,
    AccountSpec,
    Behaviour,
    Fault,
    NoSuchSendError,
    Numbers,
    Sends,
    Shape,
    digest,
    equal,
    expected,
    expected_batches,
    listed,
    parse_faults,
    parse_latency,
    parse_sends,
    skewed,
    summary,
    truth,
)
from harvester.simulator.account import Run
from harvester.simulator.banks import banks_of
from harvester.simulator.behaviour import Chance, RateLimit
from harvester.simulator.body import record_list
from harvester.simulator.draws import BLOCK_ROWS
from harvester.simulator.hashing import mix, mix_column
from harvester.simulator.parts import Bank
from harvester.simulator.records import blocks, messages
from harvester.simulator.server import _prepare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harvester.simulator.styles import Style

FIRST = 601_181


def numbers(table: pa.Table, column: str) -> list[int]:
    return [int(value) for value in table[column].to_pylist() if value is not None]


def test_exports_are_sorted() -> None:
    assert simulator.__all__ == sorted(simulator.__all__)
    assert all(hasattr(simulator, name) for name in simulator.__all__)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20))
def test_one_word_and_a_column_of_words_are_mixed_alike(words: list[int]) -> None:
    assert mix_column(pa.array(words, pa.uint64())).to_pylist() == [mix(word) for word in words]


@given(
    seed=st.integers(0, 10),
    gap=st.integers(1, 2**31),
    rows=st.lists(st.integers(0, 50), min_size=1, max_size=8),
    start=st.integers(-(2**40), 2**40),
)
def test_runs_start_at_the_first_key_that_is_not_below(seed: int, gap: int, rows: list[int], start: int) -> None:
    account = Account(AccountSpec(seed=seed, sends=listed(dict(enumerate(rows, 1))), gap=gap))
    keys = [account.key(ordinal, index) for ordinal, count in enumerate(rows) for index in range(count)]
    assert all(low < high for low, high in pairwise(keys))
    for wanted in (start, *(key + step for key in keys[:: max(1, len(keys) // 5)] for step in (-1, 0, 1))):
        runs = account.runs(range(len(account)), wanted, 10)
        served = [account.key(run.ordinal, run.first + n) for run in runs for n in range(run.count)]
        assert served == [key for key in keys if key >= wanted][:10]


@given(erased=st.sets(st.integers(0, 29)), first=st.integers(0, 30), limit=st.integers(1, 40), most=st.integers(0, 40))
def test_runs_leave_erased_records_out(erased: set[int], first: int, limit: int, most: int) -> None:
    account = Account(AccountSpec(sends=equal(1, 30)))
    for index in erased:
        assert account.erase_index(0, index)
        assert not account.erase_index(0, index)
    start = account.key(0, first) if first < 30 else account.key(0, 29) + 1
    runs = account.runs(range(1), start, limit)
    indices = [run.first + n for run in runs for n in range(run.count)]
    assert indices == [index for index in range(first, 30) if index not in erased][:limit]
    split = [run.first + n for block in blocks(runs, most=most) for run in block for n in range(run.count)]
    assert split == indices[:most]


@pytest.mark.parametrize(
    "spec", [AccountSpec(sends=equal(3, 400), gap=3), AccountSpec(sends=equal(3, 400), awkward=True)]
)
def test_a_record_is_the_same_on_whatever_page_it_comes(spec: AccountSpec) -> None:
    account = Account(spec)
    whole = [messages(account, (Run(ordinal, 0, 400),)).columns() for ordinal in range(3)]
    mixed = messages(account, (Run(0, 390, 10), Run(1, 0, 400), Run(2, 5, 1))).columns()
    for name, column in mixed.items():
        together = pa.concat_arrays([whole[0][name].slice(390), whole[1][name], whole[2][name].slice(5, 1)])
        assert column.equals(together), name
    assert mixed["ID_send_message"].to_pylist()[:2] == [str(account.key(0, 390)), str(account.key(0, 391))]


def test_a_billion_rows_need_no_memory() -> None:
    account = Account(AccountSpec(sends=skewed(100_000, 1_000_000_000), gap=50))
    assert sum(account.spec.sends.rows) == 1_000_000_000
    largest = max(range(len(account)), key=account.rows)
    index = account.rows(largest) - 10
    page = account.runs(range(len(account)), account.key(largest, index), 25_000)
    assert page[0] == Run(largest, index, 10)
    assert sum(run.count for run in page) == 25_000
    before = pa.total_allocated_bytes()
    for block in blocks(page):
        assert messages(account, block).count <= BLOCK_ROWS
    assert pa.total_allocated_bytes() - before < 2**22


def test_seeds_make_different_accounts_and_one_seed_the_same() -> None:
    def value(seed: int) -> str:
        return summary(Account(AccountSpec(seed=seed, sends=equal(1, 100))), MESSAGES, FIRST).digest

    assert value(1) == value(1) != value(2)


def test_keys_of_awkward_accounts_are_beyond_what_a_float_holds() -> None:
    keys = numbers(truth(Account(AccountSpec(sends=equal(1, 10), awkward=True)), MESSAGES, FIRST), "id_send_message")
    assert all(2**53 < key < 2**63 for key in keys)
    assert any(int(float(key)) != key for key in keys)


def test_sends_are_equal_listed_or_skewed() -> None:
    assert (list(equal(2, 7).ids), equal(2, 7).rows) == ([FIRST, FIRST + 1], (7, 7))
    assert listed({9: 1, 3: 2}) == Sends((9, 3), (1, 2))
    sizes = sorted(skewed(24, 1_000_000).rows, reverse=True)
    assert sum(sizes) == 1_000_000
    assert sizes[0] == pytest.approx(10 * sizes[9], rel=0.01)
    sends = list(Account(AccountSpec(sends=equal(3, 7), sends_per_campaign=2)).sends)
    assert [send.expected for send in sends] == [7, 7, 7]
    assert sends[0].id_message == sends[1].id_message != sends[2].id_message
    assert all(send.sent_at for send in sends)


@pytest.mark.parametrize("dataset", [MESSAGES, BOUNCES])
@pytest.mark.parametrize(
    "shape", [Shape(), Shape(numbers=Numbers.MIXED, unknown=True, missing=("ID_email", "EMAIL"))], ids=["plain", "odd"]
)
def test_nothing_that_was_sent_is_missing_from_what_is_expected(dataset: Dataset, shape: Shape) -> None:
    account = Account(AccountSpec(sends=equal(2, 300), awkward=True, failed=0.4, shape=shape))
    true = truth(account, dataset, FIRST).to_pylist()
    table = expected(account, dataset, FIRST)
    assert table.schema == dataset.schema
    rows = table.to_pylist()
    assert all(row["id_send"] == FIRST for row in rows)
    told = sorted(json.dumps(as_sent(row, dataset), sort_keys=True) for row in rows)
    assert told == sorted(
        json.dumps({name: text for name, text in row.items() if text}, sort_keys=True) for row in true
    )
    extras = [json.loads(row[EXTRA]) for row in rows if row[EXTRA]]
    assert extras
    assert all(list(extra) == sorted(extra) for extra in extras)
    if dataset is MESSAGES:
        assert {type(row["email_date"]).__name__ for row in rows} == {"datetime", "NoneType"}


def as_sent(row: dict[str, object], dataset: Dataset) -> dict[str, str]:
    """A row of the lake as the texts it was sent as; empty ones left out."""
    implied = {column.name for column in dataset.implied}
    texts = {name: str(value) for name, value in row.items() if value not in {None, ""} and name not in implied}
    extra = json.loads(texts.pop(EXTRA, "{}"))
    return texts | {name.lower(): value for name, value in extra.items()}


@pytest.mark.parametrize(
    ("column", "text", "typed"),
    [
        ("id_email", "", True),
        ("id_email", "9007199254740993", True),
        ("id_email", "-5", True),
        ("id_email", "00123", False),
        ("id_email", "18446744073709551617", False),
        ("id_email", "9223372036854775808", False),
        ("id_email", "+7", False),
        ("id_email", "0x10", False),
        ("email_date", "0000-00-00 00:00:00", False),
        ("email_date", "2016-02-30 00:00:00", False),
        ("email_date", "2016-02-16", False),
        ("email_date", "2016-02-16 4:30:15", False),
    ],
)
def test_a_value_is_typed_only_if_it_prints_back(column: str, text: str, *, typed: bool) -> None:
    account = Account(AccountSpec(sends=equal(1, 8000), awkward=True))
    true = truth(account, MESSAGES, FIRST)[column].to_pylist()
    row = expected(account, MESSAGES, FIRST).slice(true.index(text), 1).to_pylist()[0]
    value = row[column]
    assert (value is not None) == (typed and text != "")
    if value is not None:
        assert str(value) == text
    sent_as = next(field.api_name for field in MESSAGES.fields if field.name == column)
    assert json.loads(row[EXTRA] or "{}").get(sent_as) == (None if typed else text)


def test_bounces_are_expected_by_key_and_then_by_all_columns() -> None:
    account = Account(AccountSpec(sends=equal(1, 3000), failed=0.5))
    rows = [tuple(row.values())[1:-1] for row in expected(account, BOUNCES, FIRST).to_pylist()]
    assert rows == sorted(rows)
    assert len({row[0] for row in rows}) < len(rows)


def test_a_digest_depends_on_values_and_order_alone() -> None:
    account = Account(AccountSpec(sends=equal(1, 300), awkward=True))
    table = expected(account, MESSAGES, FIRST)
    value = summary(account, MESSAGES, FIRST).digest
    assert value == digest(MESSAGES, [table]) == digest(MESSAGES, table.to_batches(max_chunksize=7))
    spaced = [None if text is None else json.dumps(json.loads(text), indent=1) for text in table[EXTRA].to_pylist()]
    place = table.schema.get_field_index(EXTRA)
    assert value == digest(MESSAGES, [table.set_column(place, EXTRA, pa.array(spaced, pa.string()))])
    assert value != digest(MESSAGES, [table.slice(1), table.slice(0, 1)])
    assert value != digest(MESSAGES, [table.slice(1)])
    place = table.schema.get_field_index("custom_1")
    nulls = pa.array([text or None for text in table["custom_1"].to_pylist()], pa.string())
    assert value != digest(MESSAGES, [table.set_column(place, "custom_1", nulls)])


def test_large_sends_are_summed_up_by_blocks() -> None:
    account = Account(AccountSpec(sends=equal(1, 2 * BLOCK_ROWS + 5)))
    sizes = [batch.num_rows for batch in expected_batches(account, MESSAGES, FIRST)]
    assert sizes == [BLOCK_ROWS, BLOCK_ROWS, 5]
    account.erase_index(0, 3)
    assert summary(account, MESSAGES, FIRST).rows == 2 * BLOCK_ROWS + 4
    assert summary(account, MESSAGES, FIRST, erased=True).rows == 2 * BLOCK_ROWS + 5


def test_a_send_that_is_not_there_has_no_truth() -> None:
    account = Account(AccountSpec())
    with pytest.raises(NoSuchSendError):
        truth(account, MESSAGES, 1)
    with pytest.raises(NoSuchSendError):
        summary(account, BOUNCES, 1)
    assert not account.erase(1, 1)


def test_an_empty_send_is_expected_to_be_an_empty_table() -> None:
    account = Account(AccountSpec(sends=listed({5: 0})))
    for dataset in (MESSAGES, BOUNCES):
        assert expected(account, dataset, 5).equals(dataset.schema.empty_table())
        assert truth(account, dataset, 5).num_rows == 0


def test_the_rate_is_a_bucket_that_fills() -> None:
    limit = RateLimit(rate=2.0, burst=2, now_s=0.0)
    assert [limit.wait_s(0.0) for _ in range(3)] == [0.0, 0.0, 0.5]
    assert limit.wait_s(0.25) == 0.25
    assert limit.wait_s(0.5) == 0.0
    assert [limit.wait_s(100.0) for _ in range(3)] == [0.0, 0.0, 0.5]


def test_faults_come_as_often_as_told() -> None:
    chance = Chance(Behaviour(faults={Fault.FAILED: 0.1, Fault.HANG: 0.3}))
    drawn = [chance.fault() for _ in range(5000)]
    assert drawn.count(Fault.FAILED) / 5000 == pytest.approx(0.1, abs=0.02)
    assert drawn.count(Fault.HANG) / 5000 == pytest.approx(0.3, abs=0.02)
    assert drawn.count(None) / 5000 == pytest.approx(0.6, abs=0.02)


def test_options_are_read_from_text() -> None:
    assert parse_sends(" 6x2_000 ") == equal(6, 2000)
    assert parse_sends("skewed:24:1000000") == skewed(24, 1_000_000)
    assert parse_sends("601181=12, 601182=30000") == listed({601_181: 12, 601_182: 30_000})
    assert parse_faults("500=0.05, reset=0.02") == {Fault.FAILED: 0.05, Fault.RESET: 0.02}
    assert parse_faults("") == {}
    assert parse_latency("0.4") == (0.4, 0.4)
    assert parse_latency("200ms..0.8") == (0.2, 0.8)


@pytest.mark.parametrize("text", ["", "6", "6x", "x5", "1=2,1=3", "1=2,", "skewed:3", "-1x3"])
def test_sends_that_cannot_be_meant(text: str) -> None:
    with pytest.raises(UsageError, match="write 6x2000"):
        parse_sends(text)


@pytest.mark.parametrize("text", ["500", "500=x", "418=0.1", "=0.1"])
def test_faults_that_cannot_be_meant(text: str) -> None:
    with pytest.raises(UsageError, match="write 500=0"):
        parse_faults(text)


@pytest.mark.parametrize("text", ["", "fast", "0.1..", "..1"])
def test_latencies_that_cannot_be_meant(text: str) -> None:
    with pytest.raises(UsageError, match="not a latency"):
        parse_latency(text)


def test_recipes_that_cannot_be_meant() -> None:
    for make in (
        lambda: AccountSpec(gap=0),
        lambda: AccountSpec(failed=0.7, waiting=0.7),
        lambda: AccountSpec(opened=2.0),
        lambda: AccountSpec(first_key=0),
        lambda: AccountSpec(first_key=2**63 - 100),
        lambda: AccountSpec(sends_per_campaign=0),
        lambda: Sends((1, 1), (2, 2)),
        lambda: Sends((1,), (2, 2)),
        lambda: Sends((0,), (2,)),
        lambda: Sends((1,), (-2,)),
        lambda: Behaviour(page_cap=0),
        lambda: Behaviour(latency_s=(1.0, 0.5)),
        lambda: Behaviour(rate=0.0),
        lambda: Behaviour(burst=0),
        lambda: Behaviour(most_in_flight=0),
        lambda: Behaviour(vanish=1.5),
        lambda: Behaviour(faults={Fault.FAILED: 0.6, Fault.HANG: 0.6}),
        lambda: Behaviour(faults={Fault.FAILED: -0.1}),
    ):
        with pytest.raises(UsageError):
            make()


def test_how_texts_are_written_is_made_before_the_first_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    render = Bank._render

    def counted(self: Bank, row: Sequence[str], style: Style) -> str:
        made.append(row[0])
        return render(self, row, style)

    monkeypatch.setattr(Bank, "_render", counted)
    banks_of.cache_clear()
    account = Account(AccountSpec())
    _prepare(account)
    assert made
    made.clear()
    (first, *_) = account.sends
    runs = account.runs(range(1), None, 100)
    body = b"".join(record_list(account, [messages(account, runs)], Wire.JSON))
    assert str(first.id_send).encode() in body
    assert not made
