"""Which days a long range is asked in, and what lists of campaigns and sends say, on answers made by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvester.api import discovery
from harvester.api.discovery import Campaign, Days
from harvester.api.json import JsonCodec
from harvester.api.records import RawTable, to_batch
from harvester.datasets import CAMPAIGNS, MESSAGES, SENDS, Dataset
from harvester.errors import OutOfOrder
from harvester.model import Page, Query, Send

at = datetime.fromisoformat
FIRST = date(2005, 1, 1)
DAYS = st.builds(
    lambda first, length: Days(FIRST + timedelta(days=first), FIRST + timedelta(days=first + length)),
    st.integers(0, 5000),
    st.integers(0, 9000),
)


def page(dataset: Dataset, rows: Sequence[Mapping[str, Any]], id_message: int | None = None) -> Page:
    raw = JsonCodec(dataset).decode(json.dumps(rows).encode())
    assert isinstance(raw, RawTable)
    return Page(Query(dataset, id_message=id_message), to_batch(raw, dataset, id_send=None), 0)


@given(DAYS, st.integers(2, 400))
def test_parts_cover_every_day_and_share_the_days_between_them(days: Days, most: int) -> None:
    parts = discovery.parts(days, most)
    assert (parts[0].since, parts[-1].until) == (days.since, days.until)
    assert all(len(part) <= most for part in parts)
    assert all(earlier.until == later.since for earlier, later in pairwise(parts))


def test_a_part_is_at_most_a_quarter_of_a_year_and_four_of_them_join_to_a_year() -> None:
    year = Days(date(2023, 1, 1), date(2023, 12, 31))
    parts = discovery.parts(year)
    assert len(parts) == 4
    assert discovery.joined(parts) == [list(parts)]


@given(DAYS, st.sets(st.integers(0, 60)))
def test_only_parts_that_adjoin_are_joined_and_up_to_a_year(days: Days, chosen: set[int]) -> None:
    parts = [part for number, part in enumerate(discovery.parts(days)) if number in chosen]
    groups = discovery.joined(reversed(parts))
    assert [part for group in groups for part in group] == parts
    for group in groups:
        assert len(Days(group[0].since, group[-1].until)) <= discovery.JOINED_DAYS
        assert all(earlier.until == later.since for earlier, later in pairwise(group))


@given(DAYS)
def test_halves_are_smaller_and_lose_no_day(days: Days) -> None:
    halves = days.halves()
    if halves is None:
        assert len(days) <= 2
        return
    first, second = halves
    assert (first.since, second.until) == (days.since, days.until)
    assert first.until == second.since
    assert max(len(first), len(second)) < len(days)


def test_a_list_of_campaigns_names_each_once_with_its_count() -> None:
    rows: list[dict[str, Any]] = [
        {"ID_MESSAGE": "7", "NAME": "Spring", "SEND_COUNT": "1200", "OPENS": "3"},
        {"ID_MESSAGE": 8, "NAME": None, "SEND_COUNT": 5},
        {"ID_MESSAGE": "9", "NAME": "", "SEND_COUNT": "many"},
        {"ID_MESSAGE": "10", "NAME": "n", "SEND_COUNT": "-1"},
        {"ID_MESSAGE": "7", "NAME": "Spring", "SEND_COUNT": "1200"},
        {"ID_MESSAGE": "8", "NAME": "again", "SEND_COUNT": "6"},
    ]
    found = discovery.campaigns(page(CAMPAIGNS, rows))
    assert list(found.values()) == [
        Campaign(7, "Spring", 1200),
        Campaign(8, None, None),
        Campaign(9, "", None),
        Campaign(10, "n", None),
    ]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("2024-05-31 08:00:00", at("2024-05-31 08:00")),
        ("2024-05-31", at("2024-05-31")),
        ("2024-05-31 08:00", at("2024-05-31 08:00")),
        ("0000-00-00 00:00:00", None),
        ("2024-05-31T08:00:00+02:00", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_a_sends_date_is_read_as_a_time_or_as_a_day_and_never_guessed(said: str | None, meant: datetime | None) -> None:
    rows = [{"ID_SEND": "1", "SUBJECT": "s", "DATE": said, "SEND_COUNT": "3"}]
    assert discovery.sends(page(SENDS, rows, id_message=7)) == {1: Send(1, 7, meant, 3)}


def test_of_a_send_that_is_named_twice_only_what_agrees_is_known() -> None:
    rows = [
        {"ID_SEND": "1", "DATE": "2024-05-31 08:00:00", "SEND_COUNT": "3"},
        {"ID_SEND": "1", "DATE": "2024-05-31 08:00:00", "SEND_COUNT": "4"},
        {"ID_SEND": "2", "DATE": "", "SEND_COUNT": "5"},
        {"ID_SEND": "2", "DATE": "2024-06-01 08:00:00", "SEND_COUNT": "5"},
    ]
    assert discovery.sends(page(SENDS, rows, id_message=7)) == {
        1: Send(1, 7, at("2024-05-31 08:00"), None),
        2: Send(2, 7, at("2024-06-01 08:00"), 5),
    }


@pytest.mark.parametrize("bad", ["", None, "00123", "x", "0", "-5", str(2**63)])
def test_an_entry_that_cant_be_named_refuses_the_list(bad: str | None) -> None:
    with pytest.raises(OutOfOrder, match="no usable id_send"):
        discovery.sends(page(SENDS, [{"ID_SEND": "1"}, {"ID_SEND": bad}], id_message=7))
    with pytest.raises(OutOfOrder, match="no usable id_message"):
        discovery.campaigns(page(CAMPAIGNS, [{"ID_MESSAGE": "1"}, {"ID_MESSAGE": bad}]))


def test_the_first_day_is_the_earliest_that_a_message_was_made_or_sent_on() -> None:
    rows = [
        {"ID_send_message": "1", "message_date": "0000-00-00 00:00:00", "date_sent": "2012-03-05 10:00:00"},
        {"ID_send_message": "2", "message_date": "2012-03-04 23:59:59", "email_date": "2008-01-01 00:00:00"},
        {"ID_send_message": "3", "message_date": "1970-01-01 00:00:00", "date_sent": ""},
    ]
    assert discovery.first_day(page(MESSAGES, rows)) == date(2012, 3, 4)
    assert discovery.first_day(page(MESSAGES, rows[2:])) is None
    assert discovery.first_day(page(MESSAGES, [])) is None


def test_a_total_is_known_only_if_each_part_is() -> None:
    assert discovery.total([]) == 0
    assert discovery.total([1, 2, 3]) == 6
    assert discovery.total([1, None]) is None
