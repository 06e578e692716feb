"""Typing: a value prints back from its typed column, or ``_extra`` holds it as it was sent."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harvester.api.records import RawColumn, RawTable, as_dates, as_integers, nothing, to_batch
from harvester.datasets import BOUNCES, MESSAGES, Kind
from tests.thorough import examples

ODD_INTEGERS = [
    "",
    "0",
    "-0",
    "+5",
    " 1",
    "1 ",
    "00123",
    "0x10",
    "1.0",
    "1e3",
    "٣",
    "1_000",
    "-",
    "n/a",
    str(2**63 - 1),
    str(2**63),
    str(-(2**63)),
    str(-(2**63) - 1),
    "9" * 40,
    "1\n",
    "1\x00",
]
ODD_DATES = [
    "",
    "0000-00-00 00:00:00",
    "0000-01-01 00:00:00",
    "0001-01-01 00:00:00",
    "9999-12-31 23:59:59",
    "2016-01-01",
    "2016-01-01T01:01:01",
    "2016-01-01 01:01",
    "2016-01-01 01:01:01Z",
    "2016-01-01 01:01:01.000",
    "2016-01-01 01:01:60",
    "2016-01-01 24:00:00",
    "2016-02-29 00:00:00",
    "2015-02-29 00:00:00",
    "1969-12-31 23:59:59",
    " 2016-01-01 01:01:01",
    "2016-01-01 01:01:01 ",
    "2016-01-01 01:01:01+00:00",
    "2016-1-1 01:01:01",
    "10000-01-01 00:00:00",
    "-001-01-01 00:00:00",
    "٢٠١٦-01-01 01:01:01",
    "x",
]
FIRST, LAST = datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59)  # noqa: DTZ001  the API's dates have no zone
dates = st.datetimes(FIRST, LAST).map(lambda when: when.replace(microsecond=0).isoformat(" "))


def integer(text: str | None) -> int | None:
    """What an int64 column holds, value by value."""
    if text is None or not re.fullmatch("-?[0-9]+", text, re.ASCII):
        return None
    number = int(text)
    return number if str(number) == text and -(2**63) <= number < 2**63 else None


def date(text: str | None) -> datetime | None:
    """What a date column holds, value by value."""
    try:
        when = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return when if when.tzinfo is None and when.isoformat(" ") == text else None


@settings(max_examples=examples(200))
@given(st.lists(st.none() | st.sampled_from(ODD_INTEGERS) | st.integers(-(2**65), 2**65).map(str) | st.text()))
def test_integers_print_back_or_are_misfits(values: list[str | None]) -> None:
    typed, misfits = as_integers(pa.array(values, pa.string()))
    assert typed.type == pa.int64()
    assert typed.to_pylist() == [integer(value) for value in values]
    assert misfits == [(row, value) for row, value in enumerate(values) if value and integer(value) is None]


@settings(max_examples=examples(200))
@given(st.lists(st.none() | st.sampled_from(ODD_DATES) | dates | st.text()) | st.lists(dates | st.just(ODD_DATES[1])))
def test_dates_print_back_or_are_misfits(values: list[str | None]) -> None:
    typed, misfits = as_dates(pa.array(values, pa.string()))
    assert typed.type == pa.timestamp("us")
    assert typed.to_pylist() == [date(value) for value in values]
    assert misfits == [(row, value) for row, value in enumerate(values) if value and date(value) is None]


@pytest.mark.parametrize("value", ODD_INTEGERS)
def test_each_odd_integer_by_itself_and_among_good_ones(value: str) -> None:
    for values in ([value], ["5", value, None, "6"]):
        typed, misfits = as_integers(pa.array(values, pa.string()))
        assert typed.to_pylist() == [integer(text) for text in values]
        assert [text for _, text in misfits] == ([value] if value and integer(value) is None else [])


@pytest.mark.parametrize("value", ODD_DATES)
def test_each_odd_date_by_itself_and_among_good_ones(value: str) -> None:
    good = "2016-01-01 01:01:01"
    for values in ([value], [good, value, None, ODD_DATES[1]]):
        typed, misfits = as_dates(pa.array(values, pa.string()))
        assert typed.to_pylist() == [date(text) for text in values]
        assert [text for _, text in misfits] == [text for text in values if text and date(text) is None]


def raw_bounces(columns: dict[str, list[str | None]], extras: dict[str, list[str | None]] | None = None) -> RawTable:
    rows = len(next(iter(columns.values())))
    return RawTable(
        rows,
        tuple(
            RawColumn(pa.array(columns.get(c.api_name, [None] * rows), pa.string()), c.api_name) for c in BOUNCES.fields
        ),
        {name: pa.array(pieces, pa.string()) for name, pieces in (extras or {}).items()},
    )


def test_misfits_and_unknown_fields_are_in_extra_under_their_names_as_sent() -> None:
    raw = raw_bounces(
        {"ID_SEND_MESSAGE": ["1", "002", ""], "DATE": ["0000-00-00 00:00:00", "2016-01-01 01:01:01", ""]},
        {"new": ['"ř"', None, None], "A": ["[1, 2]", None, None]},
    )
    batch = to_batch(raw, BOUNCES, id_send=601181)
    assert batch.schema.equals(BOUNCES.schema)
    batch.validate(full=True)
    assert batch["id_send"].to_pylist() == [601181] * 3
    assert batch["id_send_message"].to_pylist() == [1, None, None]
    assert batch["date"].to_pylist() == [None, datetime(2016, 1, 1, 1, 1, 1), None]  # noqa: DTZ001  no zone is sent
    assert batch["_extra"].to_pylist() == [
        '{"A":[1, 2],"DATE":"0000-00-00 00:00:00","new":"ř"}',
        '{"ID_SEND_MESSAGE":"002"}',
        None,
    ]


def test_text_is_verbatim_and_an_empty_string_in_it_stays_one() -> None:
    values: list[str | None] = ["", " 007 ", "null", None, "😀"]
    batch = to_batch(raw_bounces({"REASON": values}), BOUNCES, id_send=1)
    assert batch["reason"].to_pylist() == values
    assert batch["_extra"].null_count == 5


def test_an_implied_column_is_null_where_the_query_names_no_send() -> None:
    batch = to_batch(raw_bounces({"REASON": ["x"]}), BOUNCES, id_send=None)
    assert batch["id_send"].to_pylist() == [None]


def test_names_may_differ_from_record_to_record() -> None:
    raw = raw_bounces({"REASON": ["x", "y"]})
    odd = RawColumn(pa.array(["01", "02"]), ("ID_EMAIL", "id_email"))
    columns = tuple(odd if c.name == "id_email" else col for c, col in zip(BOUNCES.fields, raw.columns, strict=True))
    batch = to_batch(RawTable(2, columns, {}), BOUNCES, id_send=1)
    assert batch["_extra"].to_pylist() == ['{"ID_EMAIL":"01"}', '{"id_email":"02"}']


@settings(max_examples=examples(100))
@given(st.data(), st.sampled_from([1, 3, 300]))
def test_each_column_is_typed_as_if_it_were_the_only_one(data: st.DataObject, rows: int) -> None:
    odd = st.none() | st.sampled_from(["", "7", *ODD_INTEGERS[:4], *ODD_DATES[:4]])
    columns = {field.api_name: data.draw(st.lists(odd, min_size=3, max_size=3)) * 100 for field in BOUNCES.fields}
    columns = {name: values[:rows] for name, values in columns.items()}
    batch = to_batch(raw_bounces(columns), BOUNCES, id_send=7)
    extra: list[dict[str, str]] = [{} for _ in range(rows)]
    for field in BOUNCES.fields:
        if field.kind is Kind.TEXT:
            continue
        value_of = date if field.kind is Kind.DATE else integer
        values = columns[field.api_name]
        assert batch[field.name].to_pylist() == [value_of(text) for text in values]
        for row, text in enumerate(values):
            if text and value_of(text) is None:
                extra[row][field.api_name] = text
    assert [json.loads(text or "{}") for text in batch["_extra"].to_pylist()] == extra


@given(st.dictionaries(st.text(), st.text(), min_size=1))
def test_extra_is_a_json_object_in_sorted_order(fields: dict[str, str]) -> None:
    pieces: dict[str, list[str | None]] = {name: [json.dumps(value)] for name, value in fields.items()}
    text: Any = to_batch(raw_bounces({"REASON": ["x"]}, pieces), BOUNCES, id_send=1)["_extra"][0].as_py()
    assert json.loads(text) == fields
    assert list(json.loads(text)) == sorted(fields)


def test_no_rows_have_the_schema_too() -> None:
    for dataset in (MESSAGES, BOUNCES):
        assert to_batch(nothing(dataset), dataset, id_send=1).schema.equals(dataset.schema)


@pytest.mark.parametrize("start", range(4))
def test_columns_that_are_slices_of_a_longer_text_are_typed_as_if_they_were_not(start: int) -> None:
    """Releases of pyarrow up to 23 had other bytes come out of some functions."""
    sent = ["xxx", "y", "7700031", "", None, "7700001", "", "0123", "7700020"]
    whole = pa.array(sent, pa.string())
    typed, misfits = as_integers(whole.slice(start))
    assert typed.to_pylist() == [int(text) if text in GOOD else None for text in sent[start:]]
    assert misfits == [(row, text) for row, text in enumerate(sent[start:]) if text and text not in GOOD]
    dates = pa.array(["x", "2016-06-20 14:37:47", "", "2016-06-20 14:37:48"]).slice(min(start, 1))
    assert as_dates(dates)[0].to_pylist()[-1] == datetime(2016, 6, 20, 14, 37, 48)  # noqa: DTZ001  no zone is sent


GOOD = {"7700031", "7700001", "7700020"}
