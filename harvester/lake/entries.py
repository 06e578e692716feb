"""What the ledger's tables hold, as frozen data."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from enum import IntEnum
from typing import TYPE_CHECKING

from harvester.model import KeyRange, Proof, SliceKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import RowMapping


class Due(IntEnum):
    """What a run is to refresh of a slice that is complete."""

    NOTHING = 0
    UNSETTLED = 1
    """The data files that hold unsettled rows."""
    ALL = 2
    """All of it, and what is new after it."""


@dataclass(frozen=True, slots=True)
class SliceRecord:
    """What the ledger knows of one slice that a harvest needs to go on with it.

    Attributes:
        id: the slice's number in this ledger.
        key: dataset and send.
        proof: why it is complete; None while it is not.
        rows: rows staged and sealed.
        expected: ``SEND_COUNT``, where known.
        key_range: where the walk is, of its first range if it is split; None for an unpaged dataset.
        digest: of the last asking of an unpaged dataset; None if there was none.
        due: what is to be refreshed, if it is complete.
        reopened: whether it was complete before, though it is not now.
        listed: its send's ``SEND_COUNT`` by a proven list; None if there is none.
        since: when its send was sent or first seen: the age of rows that don't say.
        further: the other ranges, in key order, if it is split.
    """

    id: int
    key: SliceKey
    proof: Proof | None
    rows: int
    expected: int | None
    key_range: KeyRange | None
    digest: str | None
    due: Due = Due.NOTHING
    reopened: bool = False
    listed: int | None = None
    since: datetime | None = None
    further: tuple[KeyRange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """A file of so many rows and bytes; keys go from first to last.

    ``unsettled`` of its rows may still change; ``overdue`` ones should have long ago.
    """

    id: int = 0
    name: str
    rows: int
    bytes: int
    unsettled: int
    overdue: int = 0
    first_key: int
    last_key: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRecord(FileRecord):
    """A segment, with the CRC-32 of its bytes; None if an early version wrote it.

    ``partitions`` says where its rows go, with a space between; None where data files are of one send.
    """

    checksum: int | None = None
    partitions: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFileRecord(FileRecord):
    """A data file, with its covered range [start, stop), its generation and its SHA-256.

    Of its last refresh: ``gone`` rows were not brought back, ``changed`` ones were not the same.
    """

    start: int
    stop: int
    generation: int
    checksum: str
    gone: int = 0
    changed: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the refresh of a slice is.

    Attributes:
        key_range: where its walk is; of an unpaged dataset, all keys.
        in_full: whether all of the slice is refreshed, or only the data files that hold unsettled rows.
        brought: rows that it has brought so far.
        ended: whether all has been asked.
    """

    key_range: KeyRange
    in_full: bool
    brought: int
    ended: bool


@dataclass(frozen=True, slots=True)
class Advance:
    """What one accepted page changes in the ledger.

    Attributes:
        slice_id: the slice.
        segment: the page's new rows, made durable; None if it brought none.
        key_ranges: all ranges of a slice that is, or was, split, in key order, in place of ``key_range``; else none.
        file: the data file that this segment is already, but for its name; None if it is no such segment.
        key_range: where the walk is after the page; None for an unpaged dataset, and where that has not changed.
        proof: why the slice is complete now; None while it is not, and in the midst of a refresh.
        erased: keys that are newly known to be erased at the source.
        queries: queries that this run has asked of the slice, so far.
        digest: of this asking of an unpaged dataset, for the next asking to agree with; None for a paged one.
        newest: the latest date that the new rows bear, as the ledger writes it.
        refreshed: rows that were held before, as they are now, made durable; None if there are none.
        refresh: where the slice's refresh is; None where it isn't refreshed.
        reopened: whether the slice is not complete any more: its refresh has ended, what follows it is not proven yet.
    """

    slice_id: int
    segment: SegmentRecord | None
    key_range: KeyRange | None
    proof: Proof | None
    erased: tuple[int, ...]
    queries: int
    digest: str | None = None
    newest: str | None = None
    refreshed: SegmentRecord | None = None
    refresh: Progress | None = None
    reopened: bool = False
    file: DataFileRecord | None = None
    key_ranges: tuple[KeyRange, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """What the lake holds of a slice.

    Attributes:
        rows: how many rows.
        complete: whether they are proven to be all.
        expected: the send's size, if known.
        due: what a run would refresh of it.
        waiting: rows of the data files that hold unsettled ones.
    """

    rows: int
    complete: bool
    expected: int | None
    due: Due = Due.NOTHING
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of a run's selection, of one dataset. ``expected`` is None if any of its sends does not say."""

    slices: int
    complete: int
    gave_up: int
    rows: int
    expected: int | None


def key_range_of(row: RowMapping, prefix: str = "") -> KeyRange:
    """From a row whose columns are those of a key range, each with a prefix."""
    return KeyRange(
        start=row[f"{prefix}start"],
        stop=row[f"{prefix}stop"],
        cursor=row[f"{prefix}cursor"],
        held=row[f"{prefix}held"],
        anchors=tuple(map(int, row[f"{prefix}anchors"].split())),
        limit=row[f"{prefix}limit"],
        short_answers=row[f"{prefix}short_answers"],
        missing=tuple(map(int, row[f"{prefix}missing"].split())),
        first_keys=tuple(map(int, row[f"{prefix}first_keys"].split())),
        rows=row[f"{prefix}rows"],
    )


def slice_record(rows: Sequence[RowMapping]) -> SliceRecord:
    """From the rows of a slice in ``slices`` joined with ``ranges``, whose columns are named ``range_…``, by start."""
    row = rows[0]
    since = row["sent_at"] or row["first_seen"]
    return SliceRecord(
        id=row["id"],
        key=SliceKey(row["dataset"], row["id_send"]),
        proof=Proof(row["proof"]) if row["proof"] else None,
        rows=row["rows"],
        expected=row["expected"],
        key_range=None if row["range_start"] is None else key_range_of(row, "range_"),
        digest=row["digest"],
        due=Due(max(0, row["due"])),
        reopened=row["checked_at"] is not None and not row["proof"],
        listed=row["listed"],
        since=datetime.fromisoformat(since) if since else None,
        further=tuple(key_range_of(other, "range_") for other in rows[1:]),
    )


def segment_record(row: RowMapping) -> SegmentRecord:
    """From a row of ``segments``."""
    return SegmentRecord(**{field.name: row[field.name] for field in fields(SegmentRecord)})


def data_file_record(row: RowMapping) -> DataFileRecord:
    """From a row of ``data_files``."""
    return DataFileRecord(**{field.name: row[field.name] for field in fields(DataFileRecord)})


__all__ = [
    "Advance",
    "DataFileRecord",
    "Due",
    "FileRecord",
    "Held",
    "Progress",
    "SegmentRecord",
    "SliceRecord",
    "Tally",
    "data_file_record",
    "key_range_of",
    "segment_record",
    "slice_record",
]
