"""Snapshots: all that the ledger says of some slices, at one instant. Two that are equal say that nothing has moved."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from harvester.lake.entries import data_file_record, key_range_of, segment_record
from harvester.lake.ledgers.tables import data_files, ranges, segments, shares, slices, superseded
from harvester.lake.partitioned.sharedfiles import share_of
from harvester.model import Proof, SliceKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harvester.lake.entries import DataFileRecord, SegmentRecord
    from harvester.lake.ledgers.database import Database
    from harvester.lake.partitioned.sharedfiles import Share
    from harvester.model import KeyRange

_BATCH = 500


@dataclass(frozen=True, slots=True)
class SliceSnapshot:
    """What the ledger says of a slice.

    Attributes:
        id: its number in the ledger.
        key: dataset and send.
        proof: why it is complete; None if it is not. A text that is no proof is left as it is.
        due: whether it is to be refreshed.
        expected: ``SEND_COUNT``, where known.
        rows: rows, staged and sealed, as the slice counts them.
        unsettled: rows that may still change, likewise.
        overdue: rows that have waited for too long, likewise.
        files: its data files, in the order of their ranges.
        intended: data files that may or may not have got their names.
        staged: its segments.
        refreshed: segments that a refresh brought, whose rows do not count yet.
        shares: what shared files hold of it, in key order.
        superseded: names of files that were its data files, and stay for earlier states of a table.
        ranges: where its walks are, in key order: mostly one; none for an unpaged dataset and before the first row.
    """

    id: int
    key: SliceKey
    proof: str | None
    due: bool
    expected: int | None
    rows: int
    unsettled: int
    overdue: int
    files: tuple[DataFileRecord, ...]
    intended: tuple[DataFileRecord, ...]
    staged: tuple[SegmentRecord, ...]
    refreshed: tuple[SegmentRecord, ...]
    ranges: tuple[KeyRange, ...]
    shares: tuple[Share, ...] = ()
    superseded: frozenset[str] = frozenset()

    @property
    def complete(self) -> bool:
        """Whether the ledger calls it complete."""
        return self.proof is not None and not self.due

    @property
    def proven(self) -> Proof | None:
        """The proof; None if there is none, or it is none that is known."""
        return next((proof for proof in Proof if proof == self.proof), None)

    def at(self, name: str) -> list[DataFileRecord]:
        """The records of data files that may be under a name, the one that counts first."""
        return [file for file in (*self.files, *self.intended) if file.name == name]


def snapshots(database: Database) -> Iterator[SliceSnapshot]:
    """Every slice, by send and dataset, some hundreds at a time, each batch of one instant."""
    after = (-1, -1)
    position = sa.tuple_(slices.c.id_send, slices.c.id)
    while True:
        query = sa.select(slices).where(position > sa.tuple_(*after)).order_by(slices.c.id_send, slices.c.id)
        found = _read(database, query.limit(_BATCH))
        yield from found
        if len(found) < _BATCH:
            return
        after = (found[-1].key.id_send, found[-1].id)


def snapshot(database: Database, key: SliceKey) -> SliceSnapshot | None:
    """One slice, if the ledger knows it."""
    query = sa.select(slices).where((slices.c.dataset == key.dataset) & (slices.c.id_send == key.id_send))
    return next(iter(_read(database, query)), None)


def known_sends(database: Database, dataset: str, sends: Sequence[int]) -> set[int]:
    """Which of these sends the ledger knows in a dataset; at most some hundreds at once."""
    query = sa.select(slices.c.id_send).where((slices.c.dataset == dataset) & slices.c.id_send.in_(sends))
    with database.reading() as connection:
        return set(connection.scalars(query))


def _read(database: Database, query: sa.Select[Any]) -> list[SliceSnapshot]:
    with database.instant() as connection:
        rows = connection.execute(query).mappings().all()
        ids = [row["id"] for row in rows]
        of_files = _of_slices(connection, data_files, ids, data_files.c.start)
        of_segments = _of_slices(connection, segments, ids, segments.c.first_key)
        of_ranges = _of_slices(connection, ranges, ids, ranges.c.start)
        of_shares = _of_slices(connection, shares, ids, shares.c.start)
        replaced = _of_slices(connection, superseded, ids, superseded.c.name)
        return [
            SliceSnapshot(
                id=row["id"],
                key=SliceKey(row["dataset"], row["id_send"]),
                proof=row["proof"],
                due=row["due"] > 0,
                expected=row["expected"],
                rows=row["rows"],
                unsettled=row["unsettled"],
                overdue=row["overdue"],
                files=tuple(data_file_record(file) for file in of_files[row["id"]] if file["sealed"]),
                intended=tuple(data_file_record(file) for file in of_files[row["id"]] if not file["sealed"]),
                staged=tuple(segment_record(part) for part in of_segments[row["id"]] if not part["refresh"]),
                refreshed=tuple(segment_record(part) for part in of_segments[row["id"]] if part["refresh"]),
                ranges=tuple(key_range_of(where) for where in of_ranges[row["id"]]),
                shares=tuple(share_of(share, row["id_send"]) for share in of_shares[row["id"]] if share["sealed"]),
                superseded=frozenset(file["name"] for file in replaced[row["id"]]),
            )
            for row in rows
        ]


def _of_slices(
    connection: sa.Connection, table: sa.Table, ids: Sequence[int], order: sa.Column[Any]
) -> dict[int, list[sa.RowMapping]]:
    found = defaultdict[int, list[sa.RowMapping]](list)
    for row in connection.execute(sa.select(table).where(table.c.slice_id.in_(ids)).order_by(order)).mappings():
        found[row["slice_id"]].append(row)
    return found


__all__ = ["SliceSnapshot", "known_sends", "snapshot", "snapshots"]
