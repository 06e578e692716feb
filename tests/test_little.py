"""Little data files: what a reader finds in them is what it finds in those of a general writer."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harvester.datasets import BOUNCES, MESSAGES, Dataset
from harvester.lake import layout, little
from harvester.lake.sealing import write_parquet
from tests.lake_rows import rows_of

if TYPE_CHECKING:
    from pathlib import Path

FOOTER = layout.Footer("messages", 7, 1, 12, 0, "2026-11-22T00:00:00+00:00", "0.1.0", "count", 3, "ž12345")
TEXTS = ["", "a", "sent", "žluťoučký 🐎", "\t\r\n", "x" * 300, '{"a":[1,null]}']
NUMBERS = [0, 1, -1, 2**31, 2**63 - 1, -(2**63), 42]


def some_rows(dataset: Dataset, count: int, dice: random.Random) -> pa.RecordBatch:
    """So many rows of any values; some columns are null throughout, and some nowhere."""
    kinds: dict[pa.DataType, Any] = {
        pa.string(): lambda: dice.choice(TEXTS),
        pa.int64(): lambda: dice.choice(NUMBERS),
        pa.timestamp("us"): lambda: datetime(1969, 12, 31) + timedelta(microseconds=dice.randrange(2**52)),  # noqa: DTZ001
    }
    nulls = {field.name: dice.choice([0.0, 0.0, 0.5, 1.0]) for field in dataset.schema}
    return rows_of(
        dataset,
        *(
            {field.name: None if dice.random() < nulls[field.name] else kinds[field.type]() for field in dataset.schema}
            for _ in range(count)
        ),
    )


def by_both(dataset: Dataset, rows: pa.RecordBatch) -> tuple[pq.ParquetFile, pq.ParquetFile]:
    """The rows as a little file, and as the general writer's."""
    sink = pa.BufferOutputStream()
    write_parquet(sink, dataset, FOOTER, [rows], row_group_bytes=2**20)
    ours = pa.py_buffer(little.encoded(dataset, [(FOOTER.encode(), rows)])[0])
    read = (pq.ParquetFile(pa.BufferReader(each), page_checksum_verification=True) for each in (ours, sink.getvalue()))
    return next(read), next(read)


@pytest.mark.parametrize("dataset", [MESSAGES, BOUNCES], ids=lambda dataset: dataset.name)
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 16, little.MOST_ROWS])
def test_it_holds_the_rows_and_says_of_them_what_a_general_writer_says(dataset: Dataset, count: int) -> None:
    dice = random.Random(count)
    for _ in range(8):
        rows = some_rows(dataset, count, dice)
        ours, theirs = by_both(dataset, rows)
        held = ours.read()
        held.validate(full=True)
        assert held.schema.equals(dataset.schema)
        assert held.equals(pa.Table.from_batches([rows]))
        assert ours.schema.equals(theirs.schema)
        said, likewise = ours.metadata.metadata, theirs.metadata.metadata
        assert said is not None
        assert likewise is not None
        assert layout.Footer.decode(said) == FOOTER
        assert said.keys() == likewise.keys()
        assert ours.metadata.format_version == theirs.metadata.format_version
        mine, other = ours.metadata.row_group(0), theirs.metadata.row_group(0)
        assert (mine.num_rows, mine.sorting_columns) == (other.num_rows, other.sorting_columns)
        assert mine.total_byte_size == sum(mine.column(n).total_compressed_size for n in range(mine.num_columns))
        for number in range(mine.num_columns):
            chunk, like = mine.column(number), other.column(number)
            assert chunk.path_in_schema == like.path_in_schema
            assert (chunk.num_values, chunk.physical_type) == (like.num_values, like.physical_type)
            assert chunk.is_stats_set == like.is_stats_set
            if chunk.is_stats_set:
                found, expected = chunk.statistics, like.statistics
                assert found is not None
                assert expected is not None
                assert found.null_count == expected.null_count
                assert found.has_min_max == expected.has_min_max
                assert (found.min, found.max) == (expected.min, expected.max)
                assert found.logical_type.to_json() == expected.logical_type.to_json()


def test_rows_that_are_part_of_a_larger_batch_are_taken_alone() -> None:
    dice = random.Random(1)
    rows = some_rows(MESSAGES, 40, dice)
    for start in (0, 1, 7, 8, 13, 30):
        part = rows.slice(start, 10)
        ours, _ = by_both(MESSAGES, part)
        assert ours.read().equals(pa.Table.from_batches([part]))


def test_duckdb_and_polars_read_it(tmp_path: Path) -> None:
    rows = some_rows(MESSAGES, 9, random.Random(5))
    path = tmp_path / "part-1-9.parquet"
    path.write_bytes(little.encoded(MESSAGES, [(FOOTER.encode(), rows)])[0])
    expected = rows.to_pylist()
    assert pl.read_parquet(path).to_dicts() == expected
    with duckdb.connect() as database:
        found = database.execute("SELECT * FROM read_parquet(?)", [str(path)]).fetchall()
        assert found == [tuple(row.values()) for row in expected]
        key = rows.column(MESSAGES.key).drop_null()[0].as_py()
        counted = f'SELECT count(*) FROM read_parquet(?) WHERE "{MESSAGES.key}" = ?'  # by the statistics, too
        expected_count = rows.column(MESSAGES.key).to_pylist().count(key)
        assert database.execute(counted, [str(path), key]).fetchall() == [(expected_count,)]


def test_a_byte_that_flips_is_found() -> None:
    rows = some_rows(MESSAGES, 5, random.Random(2))
    content = bytearray(little.encoded(MESSAGES, [(FOOTER.encode(), rows)])[0])
    chunk = pq.ParquetFile(pa.BufferReader(bytes(content))).metadata.row_group(0).column(0)
    content[chunk.data_page_offset + chunk.total_compressed_size - 1] ^= 1
    with pytest.raises(OSError, match="CRC"):
        pq.ParquetFile(pa.BufferReader(bytes(content)), page_checksum_verification=True).read()
