"""Staging: a page becomes a segment, durable but not yet visible, and is committed together with its cursor.

Invariant: files first, synced, with their folder; then one transaction. A crash before it leaves files that nobody
knows, which the next start removes; a crash after it leaves nothing to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from harvester.datasets import UNSETTLED, Dataset
from harvester.lake import layout
from harvester.lake.entries import Advance, Progress, SegmentRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harvester.lake.ledger import Ledger
    from harvester.lake.store import Store
    from harvester.model import KeyRange, Proof

BELIEVED = timedelta(days=60)
"""A message that waits for longer than this counts as settled: nothing will become of it."""

_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


@dataclass(frozen=True, slots=True)
class Taken:
    """An accepted page, on its way into the lake.

    Attributes:
        slice_id: the slice's number in the ledger.
        dataset: its dataset.
        rows: the rows that are new, in key order; None if there are none.
        key_range: where the walk is after the page; None for an unpaged dataset, and where that has not changed.
        proof: why the slice is complete now; None while it is not, and in the midst of a refresh.
        queries: queries that this run has asked of the slice, so far.
        erased: keys that are newly known to be erased at the source.
        digest: of this asking of an unpaged dataset.
        since: how old rows are that don't say: when their send was sent or first seen.
        refreshed: rows that were held before, as they are now, in key order; None if there are none.
        refresh: where the slice's refresh is; None where it isn't refreshed.
        reopened: whether the slice is complete no more, until what follows its refresh is proven.
    """

    slice_id: int
    dataset: Dataset
    rows: pa.RecordBatch | None
    key_range: KeyRange | None
    proof: Proof | None
    queries: int
    erased: tuple[int, ...] = ()
    digest: str | None = None
    since: datetime | None = None
    refreshed: pa.RecordBatch | None = None
    refresh: Progress | None = None
    reopened: bool = False


def stage(store: Store, ledger: Ledger, pages: Sequence[Taken], now: datetime) -> list[int]:
    """Makes pages durable and commits them, in the order given, all of them or none. Blocking.

    Args:
        store: the lake's files.
        ledger: where they are committed.
        pages: the pages.
        now: the time, without a zone, in UTC: rows that wait for too long before it count as settled.

    Returns:
        The bytes that each page's segment takes; 0 for a page without new rows.
    """
    advances = [
        Advance(
            slice_id=page.slice_id,
            segment=_write(store, page, page.rows, now) if page.rows is not None else None,
            key_range=page.key_range,
            proof=page.proof,
            erased=page.erased,
            queries=page.queries,
            digest=page.digest,
            newest=newest(page.dataset, page.rows) if page.rows is not None else None,
            refreshed=_write(store, page, page.refreshed, now, refresh=True) if page.refreshed is not None else None,
            refresh=page.refresh,
            reopened=page.reopened,
        )
        for page in pages
    ]
    if any(advance.segment or advance.refreshed for advance in advances):
        store.sync_folder(layout.SEGMENTS)
    ledger.advance(advances, now)
    return [advance.segment.bytes if advance.segment else 0 for advance in advances]


def _write(store: Store, page: Taken, rows: pa.RecordBatch, now: datetime, *, refresh: bool = False) -> SegmentRecord:
    keys = rows.column(page.dataset.key)
    first, last = keys[0].as_py(), keys[-1].as_py()
    name = layout.segment(page.slice_id, first, refresh=refresh)
    waiting = count_waiting(page.dataset, rows, now, page.since)
    with store.create(name) as sink, pa.ipc.new_file(sink, rows.schema, options=_OPTIONS) as writer:
        writer.write_batch(rows)
    return SegmentRecord(
        name=name,
        rows=rows.num_rows,
        bytes=store.size(name) or 0,
        unsettled=waiting.unsettled,
        overdue=waiting.overdue,
        first_key=first,
        last_key=last,
    )


class Waiting(NamedTuple):
    """How many rows may still change, and how many wait for so long that they count as settled."""

    unsettled: int
    overdue: int


def count_waiting(dataset: Dataset, rows: pa.RecordBatch, now: datetime, since: datetime | None) -> Waiting:
    """How many of the rows wait.

    Args:
        dataset: theirs.
        rows: the rows.
        now: the time, without a zone.
        since: when rows began to wait that don't say.
    """
    if dataset.status is None or not dataset.dates:
        return Waiting(0, 0)
    waits = pc.is_in(rows.column(dataset.status), value_set=pa.array(UNSETTLED))
    if not waits.true_count:
        return Waiting(0, 0)
    dates = rows.column(dataset.dates[0]).filter(waits)
    if since is not None:
        dates = pc.fill_null(dates, pa.scalar(since, dates.type))
    overdue = pc.less(dates, pa.scalar(now - BELIEVED, dates.type)).true_count
    return Waiting(waits.true_count - overdue, overdue)


def newest(dataset: Dataset, rows: pa.RecordBatch) -> str | None:
    """The latest date that the rows bear, as the ledger writes it: of the first column of dates that holds any."""
    for name in dataset.dates:
        if (latest := pc.max(rows.column(name)).as_py()) is not None:
            return str(latest.isoformat(" ", "seconds"))
    return None


__all__ = ["BELIEVED", "Taken", "Waiting", "count_waiting", "newest", "stage"]
