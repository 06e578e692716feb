"""What the ledger's tables hold, as frozen data."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from harvester.model import KeyRange, Proof, SliceKey

if TYPE_CHECKING:
    from sqlalchemy import RowMapping


@dataclass(frozen=True, slots=True)
class SliceRecord:
    """What the ledger knows of one slice that a harvest needs to go on with it.

    Attributes:
        id: the slice's number in this ledger.
        key: dataset and send.
        proof: why it is complete; None while it is not.
        rows: rows staged and sealed.
        expected: ``SEND_COUNT``, where known.
        gone: rows that the source no longer has.
        key_range: where the walk is; None for an unpaged dataset.
        digest: of the last asking of an unpaged dataset; None if there was none.
    """

    id: int
    key: SliceKey
    proof: Proof | None
    rows: int
    expected: int | None
    gone: int
    key_range: KeyRange | None
    digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """A file of so many rows, ``unsettled`` of which may still change, and bytes; keys go from first to last."""

    id: int = 0
    name: str
    rows: int
    bytes: int
    unsettled: int
    first_key: int
    last_key: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRecord(FileRecord):
    """A segment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFileRecord(FileRecord):
    """A data file, with its covered range [start, stop), its generation and its SHA-256."""

    start: int
    stop: int
    generation: int
    checksum: str


@dataclass(frozen=True, slots=True)
class Advance:
    """What one accepted page changes in the ledger.

    Attributes:
        slice_id: the slice.
        segment: the page's new rows, made durable; None if it brought none.
        key_range: where the walk is after the page; None for an unpaged dataset.
        proof: why the slice is complete now; None while it is not.
        gone: rows that the source no longer has, so far.
        queries: queries that this run has asked of the slice, so far.
        digest: of this asking of an unpaged dataset, for the next asking to agree with; None for a paged one.
    """

    slice_id: int
    segment: SegmentRecord | None
    key_range: KeyRange | None
    proof: Proof | None
    gone: int
    queries: int
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of a run's selection, of one dataset. ``expected`` is None if any of its sends does not say."""

    slices: int
    complete: int
    gave_up: int
    rows: int
    expected: int | None


def slice_record(row: RowMapping) -> SliceRecord:
    """From a row of ``slices`` joined with ``ranges``, whose columns are named ``range_…``."""
    key_range = None
    if row["range_start"] is not None:
        key_range = KeyRange(
            start=row["range_start"],
            stop=row["range_stop"],
            cursor=row["range_cursor"],
            held=row["range_held"],
            anchors=tuple(map(int, row["range_anchors"].split())),
            limit=row["range_limit"],
            short_answers=row["range_short_answers"],
            missing=tuple(map(int, row["range_missing"].split())),
        )
    return SliceRecord(
        id=row["id"],
        key=SliceKey(row["dataset"], row["id_send"]),
        proof=Proof(row["proof"]) if row["proof"] else None,
        rows=row["rows"],
        expected=row["expected"],
        gone=row["gone"],
        key_range=key_range,
        digest=row["digest"],
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
    "FileRecord",
    "SegmentRecord",
    "SliceRecord",
    "Tally",
    "data_file_record",
    "segment_record",
    "slice_record",
]
