"""How many records are asked for at a time: no more than memory has room for."""

from __future__ import annotations

import pyarrow as pa
import pytest
import structlog.testing

from harvester.datasets import BOUNCES, MESSAGES
from harvester.harvest.fitting import Fitting
from harvester.harvest.retrying import note_success
from harvester.harvest.walks import Walk
from harvester.model import KeyRange, Page, Query


def page(rows: int, body_bytes: int) -> Page:
    keys = pa.array(range(1, rows + 1), pa.int64())
    columns = [keys if field.name == MESSAGES.key else pa.nulls(rows, field.type) for field in MESSAGES.schema]
    batch = pa.RecordBatch.from_arrays(columns, schema=MESSAGES.schema)
    return Page(Query(MESSAGES, 1, limit=rows), batch, body_bytes)


def test_memory_enough_changes_nothing() -> None:
    fitting, walk = Fitting(25_000, cap_bytes=50_000_000, record_bytes=1500), Walk(1, MESSAGES, 1)
    fitting.lower(walk)
    assert (walk.key_range.limit, walk.full_limit, fitting.lowest) == (25_000, 25_000, None)


def test_too_little_lowers_the_limit_and_says_so_once() -> None:
    fitting = Fitting(25_000, cap_bytes=15_000_000, record_bytes=1500)
    with structlog.testing.capture_logs() as said:
        for number in (1, 2):
            walk = Walk(number, MESSAGES, number)
            fitting.lower(walk)
            assert walk.key_range.limit == walk.full_limit == 9000
            note_success(walk)  # which tries larger limits, but no larger ones than fit
            assert walk.key_range.limit == 9000
    assert fitting.lowest == 9000
    assert [(line["log_level"], line["limit"], line["wanted"]) for line in said] == [("warning", 9000, 25_000)]


def test_what_a_record_takes_is_learned_and_forgotten_slowly() -> None:
    fitting = Fitting(25_000, cap_bytes=15_000_000, record_bytes=1500)
    fitting.note(page(1000, 3_000_000))
    assert fitting.fits("messages") == 4500
    fitting.note(page(1000, 500_000))
    assert fitting.fits("messages") == 5000
    assert fitting.fits("raw_responses") == 9000
    fitting.note(page(10, 10_000_000))
    assert fitting.fits("messages") == 5000  # ten records say little


def test_the_limit_is_never_less_than_a_walk_needs_to_go_on() -> None:
    assert Fitting(25_000, cap_bytes=100, record_bytes=1500).fits("messages") == 3


@pytest.mark.parametrize("limit", [3, 100])
def test_walks_that_ask_for_less_or_for_all_are_left_alone(limit: int) -> None:
    fitting = Fitting(25_000, cap_bytes=15_000_000, record_bytes=1500)
    walk, unpaged = Walk(1, MESSAGES, 1, key_range=KeyRange(limit=limit)), Walk(2, BOUNCES, 1)
    fitting.lower(walk)
    fitting.lower(unpaged)
    assert walk.key_range.limit == limit
    assert fitting.lowest is None
