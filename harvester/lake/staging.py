"""Staging: a page becomes a segment, durable but not yet visible, and is committed together with its cursor.

Invariant: files first, synced, with their folder; then one transaction. A crash before it leaves files that nobody
knows, which the next start removes; a crash after it leaves nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from harvester.datasets import UNSETTLED, Dataset
from harvester.lake import layout, whole
from harvester.lake.entries import Advance, DataFileRecord, Progress, SegmentRecord
from harvester.lake.segments import write_segment
from harvester.model import Proof

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harvester.lake.sealing import Sealer
    from harvester.lake.wide import ScopeStep
    from harvester.model import KeyRange, SliceKey

Partitions = Callable[[str, pa.RecordBatch], str | None]

BELIEVED = timedelta(days=60)
"""A message that waits for longer than this counts as settled: nothing will become of it."""
_UNSETTLED = frozenset(UNSETTLED)
_FEW_ROWS = 64


@dataclass(frozen=True, slots=True)
class Whole:
    """A slice that is wholly in one page: what it is, and its ``SEND_COUNT`` where known."""

    key: SliceKey
    expected: int | None


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
        whole: the slice, if ``rows`` are all that it has; None if there are others, or may be.
        key_ranges: where all walks of a slice are that is, or was, split, in key order; else none.
        discards: a key range, by its start and stop, that is to be walked again, and whose rows go; there are no others
            then.
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
    whole: Whole | None = None
    key_ranges: tuple[KeyRange, ...] = ()
    discards: tuple[int, int] | None = None

    @property
    def leaves_nothing_to_seal(self) -> bool:
        """Whether its slice needs no sealing once this is staged: it came whole, or there is nothing of it."""
        nothing = self.proof is Proof.EMPTY and self.refresh is None
        return nothing or whole.whole_of(self) is not None


def stage(
    sealer: Sealer,
    pages: Sequence[Taken],
    now: datetime,
    scope: ScopeStep | None = None,
    partitions: Partitions = lambda _dataset, _rows: None,
) -> list[int]:
    """Makes pages durable and commits them, in the order given, all of them or none. Blocking.

    Args:
        sealer: knows the lake.
        pages: the pages.
        now: the time, without a zone, in UTC: rows that wait for too long before it count as settled.
        scope: of which scope's walk they are one page's rows, and where that is now.
        partitions: says where rows of a dataset go, as their segments tell it.

    Returns:
        The bytes that wait for sealing of each page: its segment's; 0 for a page without new rows, and for one that is
        a data file already.
    """
    at = next((place for place, page in enumerate(pages) if page.discards is not None), None)
    if at is not None:  # what comes after may bring the same keys again: it has to find them gone
        before = stage(sealer, pages[:at], now, partitions=partitions) if at else []
        _discard(sealer, pages[at])
        after = pages[at + 1 :]
        return [*before, 0, *(stage(sealer, after, now, partitions=partitions) if after else [])]
    store = sealer.store
    whole.make_room(sealer, pages)
    records = [
        None
        if page.rows is None
        else replace(_record(sealer, page, page.rows, now), partitions=partitions(page.dataset.name, page.rows))
        for page in pages
    ]
    wholes = whole.write_wholes(sealer, pages, records)
    advances = [
        _advance(sealer, page, wholes.get(place, (record, None)), now)
        for place, (page, record) in enumerate(zip(pages, records, strict=True))
    ]
    if any(advance.segment or advance.refreshed for advance in advances):
        store.sync_folder(layout.SEGMENTS)
    numbers = sealer.ledger.advance(advances, now, scope)
    whole.publish_whole(sealer, advances, numbers)
    return [step.segment.bytes if step.segment is not None and step.file is None else 0 for step in advances]


def _discard(sealer: Sealer, page: Taken) -> None:
    """Takes a key range's rows out of the lake; none of them is in a data file."""
    assert page.discards is not None
    for name in sealer.inventory.discard(page.slice_id, *page.discards, page.key_ranges):
        sealer.store.remove(name)


def _advance(
    sealer: Sealer, page: Taken, written: tuple[SegmentRecord | None, DataFileRecord | None], now: datetime
) -> Advance:
    """Writes a page's segments, but for one that came whole and is written; what is to be committed of it."""
    segment, file = written
    refreshed = None
    if page.rows is not None and segment is not None and file is None:
        segment = write_segment(sealer.store, segment, page.rows)
    if page.refreshed is not None:
        refreshed = write_segment(
            sealer.store, _record(sealer, page, page.refreshed, now, refresh=True), page.refreshed
        )
    return Advance(
        slice_id=page.slice_id,
        segment=segment,
        key_range=page.key_range,
        proof=page.proof,
        erased=page.erased,
        queries=page.queries,
        digest=page.digest,
        newest=newest(page.dataset, page.rows) if page.rows is not None else None,
        refreshed=refreshed,
        refresh=page.refresh,
        reopened=page.reopened,
        file=file,
        key_ranges=page.key_ranges,
    )


def _record(
    sealer: Sealer, page: Taken, rows: pa.RecordBatch, now: datetime, *, refresh: bool = False
) -> SegmentRecord:
    """A segment's record before it is written."""
    keys = rows.column(page.dataset.key)
    first, last = keys[0].as_py(), keys[-1].as_py()
    waiting = count_waiting(page.dataset, rows, now, page.since)
    return SegmentRecord(
        name=layout.segment(page.slice_id, first, refresh=refresh, epoch=sealer.epoch),
        rows=rows.num_rows,
        bytes=0,
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
    status = rows.column(dataset.status)
    if rows.num_rows <= _FEW_ROWS and _UNSETTLED.isdisjoint(status.to_pylist()):  # at a tenth of the time
        return Waiting(0, 0)
    waits = pc.is_in(status, value_set=pa.array(UNSETTLED))
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
        dates = rows.column(name)
        if rows.num_rows <= _FEW_ROWS:  # a kernel's way there costs more than these
            latest = max((date for date in dates.to_pylist() if date is not None), default=None)
        else:
            latest = pc.max(dates).as_py()
        if latest is not None:
            return str(latest.isoformat(" ", "seconds"))
    return None


__all__ = ["BELIEVED", "Taken", "Waiting", "Whole", "count_waiting", "newest", "stage"]
