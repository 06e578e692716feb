"""What a data file says of itself and what it holds, read back. The ledger plays no part in it.

Nouns: a file's *cover* is what can be read without its data pages: its footer, its schema, its statistics.

Invariant: of a file that is read as a whole, without ``Unreadable``, every page was read and fits its own checksum,
where it has one (files of early versions have none).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from harvester.errors import LakeBroken
from harvester.lake.layout import Footer
from harvester.lake.staging import count_waiting, newest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from harvester.datasets import Dataset

Source: TypeAlias = "str | pa.NativeFile"
_BATCH_ROWS = 16_384


class Unreadable(LakeBroken):
    """A file that is no sound data file of the dataset. The text completes "the file …"."""


class NotOurs(Unreadable):
    """A file of something else than harvester."""


@dataclass(frozen=True, slots=True)
class Cover:
    """A data file's cover.

    Attributes:
        footer: what it says of itself.
        rows: its number of rows.
        first_key: the least key, by its statistics; None if they don't say.
        last_key: the greatest one, likewise.
    """

    footer: Footer
    rows: int
    first_key: int | None
    last_key: int | None


@dataclass(frozen=True, slots=True)
class Contents:
    """What a data file's rows say.

    Attributes:
        first_key: the first row's key.
        last_key: the last row's.
        unsettled: rows that may still change.
        overdue: rows that wait for so long that they count as settled.
        newest: the latest date that they bear, as the ledger writes it; None if they bear none.
        id_message: the one campaign that they name; None if they name none or several.
        before_last: the keys that lie 1, 3, 9, 27 … rows before the last, as far as a batch reaches.
        fault: how they break a rule of the lake; None if they don't. It completes "the file …".
    """

    first_key: int
    last_key: int
    unsettled: int
    overdue: int
    newest: str | None
    id_message: int | None
    before_last: tuple[int, ...]
    fault: str | None


def read_cover(source: Source, dataset: Dataset) -> Cover:
    """Reads a file's cover. Raises Unreadable. Blocking."""
    with _opened(source, dataset) as (file, footer):
        return _cover(file, footer, dataset)


def read_contents(
    source: Source, dataset: Dataset, *, now: datetime, since: datetime | None = None, whole: bool = True
) -> tuple[Cover, Contents]:
    """Reads a file to its end, a batch at a time. Raises Unreadable. Blocking.

    Args:
        source: the file's path, or what to read it from.
        dataset: what it should hold.
        now: the time, without a zone, in UTC: rows that wait for too long before it count as settled.
        since: when rows began to wait that don't say.
        whole: whether to read every column. Else those alone that rules are about, which takes a tenth of the time: for
            a file whose bytes are known to be what they were.
    """
    columns = None if whole else sorted({dataset.key, "id_send", *filter(None, [dataset.status]), *dataset.dates})
    with _opened(source, dataset) as (file, footer):
        cover = _cover(file, footer, dataset)
        reading = _Reading(dataset, footer, now, since)
        rows = 0
        for batch in file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
            if batch.num_rows:
                batch.validate(full=True)
                reading.take(batch)
                rows += batch.num_rows
        if rows != cover.rows:
            raise Unreadable(f"holds {rows:,} rows, not the {cover.rows:,} that it says")
        contents = reading.contents()
        ends = (contents.first_key, contents.last_key)
        if (cover.first_key, cover.last_key) not in {ends, (None, None)}:
            raise Unreadable("has statistics that don't fit its rows")
        return cover, contents


@contextmanager
def _opened(source: Source, dataset: Dataset) -> Iterator[tuple[pq.ParquetFile, Footer]]:
    """The file and its footer. What goes wrong in the block is Unreadable, too: files break in more ways than one."""
    try:
        with pq.ParquetFile(source, page_checksum_verification=True) as file:
            footer = _footer(file.metadata.metadata)
            if not file.schema_arrow.equals(dataset.schema):
                raise Unreadable(f"does not have the columns of {dataset.name}")
            if not file.metadata.num_rows:
                raise Unreadable("holds no rows")
            yield file, footer
    except (OSError, pa.ArrowException, ValueError) as error:
        reason = " ".join(str(error).split())
        raise Unreadable(f"can't be read as Parquet ({reason[:160]})") from error


def _footer(metadata: dict[bytes, bytes] | None) -> Footer:
    try:
        return Footer.decode(metadata or {})
    except (KeyError, ValueError) as error:
        raise NotOurs("was not written by harvester: it does not say what it covers") from error


def _cover(file: pq.ParquetFile, footer: Footer, dataset: Dataset) -> Cover:
    metadata = file.metadata
    place = dataset.schema.get_field_index(dataset.key)
    known = [metadata.row_group(number).column(place).statistics for number in range(metadata.num_row_groups)]
    ends: list[tuple[int, int]] = [
        (found.min, found.max)  # type: ignore[misc]
        for found in known
        if found is not None and found.has_min_max
    ]
    if len(ends) < len(known) or not ends:
        return Cover(footer, metadata.num_rows, None, None)
    if any(before[1] > after[0] for before, after in pairwise(ends)):
        raise Unreadable("has parts that are not in the order of their keys")
    return Cover(footer, metadata.num_rows, ends[0][0], ends[-1][1])


class _Reading:
    """Takes a file's batches, one after the other."""

    def __init__(self, dataset: Dataset, footer: Footer, now: datetime, since: datetime | None) -> None:
        self._dataset = dataset
        self._footer = footer
        self._now = now
        self._since = since
        self._first: int | None = None
        self._last = 0
        self._unsettled = self._overdue = 0
        self._newest: str | None = None
        self._campaigns: set[int] = set()
        self._last_keys: pa.Int64Array = pa.array([], pa.int64())
        self._fault: str | None = None

    def take(self, batch: pa.RecordBatch) -> None:
        keys: Any = batch.column(self._dataset.key)
        self._fault = self._fault or self._broken_rule(batch, keys)
        if self._fault:
            return
        if self._first is None:
            self._first = keys[0].as_py()
        self._last = keys[-1].as_py()
        both = pa.concat_arrays([self._last_keys, keys])
        self._last_keys = both.slice(max(0, len(both) - _BATCH_ROWS))
        waiting = count_waiting(self._dataset, batch, self._now, self._since)
        self._unsettled += waiting.unsettled
        self._overdue += waiting.overdue
        self._newest = max(filter(None, (self._newest, newest(self._dataset, batch))), default=None)
        if "id_message" in batch.schema.names and len(self._campaigns) <= 1:
            self._campaigns |= {one for one in pc.unique(batch.column("id_message")).to_pylist() if one is not None}

    def _broken_rule(self, batch: pa.RecordBatch, keys: pa.Int64Array) -> str | None:
        if keys.null_count:
            return f"holds rows without {self._dataset.key}"
        before = None if self._first is None else self._last
        rule = pc.less if self._dataset.paged else pc.less_equal
        within: Any = rule(keys.slice(0, len(keys) - 1), keys.slice(1))
        follows = before is None or rule(pa.scalar(before, pa.int64()), keys[0]).as_py()
        if not follows or within.false_count:
            return f"holds rows out of the order of {self._dataset.key}, or twice"
        if keys[0].as_py() < self._footer.start or keys[-1].as_py() >= self._footer.stop:
            return "holds rows outside of the keys that it says it covers"
        sends = batch.column("id_send")
        if sends.null_count or pc.not_equal(sends, pa.scalar(self._footer.id_send, pa.int64())).true_count:
            return "holds rows of another send"
        return None

    def contents(self) -> Contents:
        return Contents(
            first_key=self._first or 0,
            last_key=self._last,
            unsettled=self._unsettled,
            overdue=self._overdue,
            newest=self._newest,
            id_message=next(iter(self._campaigns)) if len(self._campaigns) == 1 else None,
            before_last=self._before_last(),
            fault=self._fault,
        )

    def _before_last(self) -> tuple[int, ...]:
        found: list[int] = []
        distance = 1
        while distance < len(self._last_keys):
            found.append(self._last_keys[len(self._last_keys) - 1 - distance].as_py())
            distance *= 3
        return tuple(found)


__all__ = ["Contents", "Cover", "NotOurs", "Unreadable", "read_contents", "read_cover"]
