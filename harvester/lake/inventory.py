"""The inventory: the ledger's record of files, segments and data files alike.

Invariant: a row is counted in exactly one place, in a segment or in a data file; a segment goes only in the
transaction that says that its data file has its name.

Everything here is blocking: call it from a worker thread.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from harvester.lake.entries import DataFileRecord, SegmentRecord, data_file_record, segment_record
from harvester.lake.ledgers.dialects import Number, total
from harvester.lake.ledgers.tables import (
    data_files,
    erased,
    has_table,
    put_ranges,
    ranges,
    refreshes,
    replace_ranges,
    scope_segments,
    segments,
    shared_files,
    shares,
    slices,
    supersede,
    superseded,
)
from harvester.model import KEY_END

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harvester.lake.ledgers.database import Database
    from harvester.model import KeyRange

_BATCH = 1000
_COUNTS = segments.c.refresh == 0
_FREE = segments.c.data_file_id.is_(None) & segments.c.change.is_(None)
_OF_SLICE = sa.bindparam("of_slice", type_=Number)
_NUMBER = sa.bindparam("number", type_=Number)
_SEGMENT_GONE = segments.delete().where((segments.c.slice_id == _OF_SLICE) & (segments.c.data_file_id == _NUMBER))
_FILE_THERE = (
    data_files.update().where((data_files.c.slice_id == _OF_SLICE) & (data_files.c.id == _NUMBER)).values(sealed=1)
)


@dataclass(frozen=True, slots=True)
class Inventory:
    """The files that the ledger in a database knows."""

    database: Database

    def staged(self, slice_id: int) -> list[SegmentRecord]:
        """The slice's segments that no data file is being made of, in key order."""
        return self._segments((segments.c.slice_id == slice_id) & _FREE & _COUNTS)

    def sealable(self, slice_id: int) -> list[SegmentRecord]:
        """Those of them that data files may be made of: of the slice's first range, since no seam is left of it.

        One statement, so that ranges and segments are of one instant.
        """
        end = sa.select(sa.func.min(ranges.c.stop)).where(ranges.c.slice_id == slice_id).scalar_subquery()
        of_slice = (segments.c.slice_id == slice_id) & _FREE & _COUNTS
        return self._segments(of_slice & (segments.c.first_key < sa.func.coalesce(end, KEY_END)))

    def refreshed(self, slice_id: int) -> list[SegmentRecord]:
        """The segments that a refresh of the slice has brought, in key order."""
        return self._segments((segments.c.slice_id == slice_id) & sa.not_(_COUNTS))

    def _segments(self, condition: sa.ColumnElement[bool]) -> list[SegmentRecord]:
        query = sa.select(segments).where(condition).order_by(segments.c.first_key, segments.c.id)
        with self.database.reading() as connection:
            return [segment_record(row) for row in connection.execute(query).mappings()]

    def unsealed_slices(self) -> list[int]:
        """The numbers of all slices that have something to seal.

        Segments; a refresh that has brought all it could; completeness that no last data file says yet.
        """
        ended = sa.select(data_files.c.slice_id).where(data_files.c.stop == KEY_END)
        shared = sa.select(shares.c.slice_id).where(shares.c.stop == KEY_END)
        unmarked = slices.c.proof.is_not(None) & (slices.c.rows > 0) & slices.c.id.not_in(ended)
        unmarked &= slices.c.id.not_in(shared)
        refreshed = sa.select(refreshes.c.slice_id).where(refreshes.c.ended == 1)
        either = sa.union(
            sa.select(segments.c.slice_id).where(_COUNTS), sa.select(slices.c.id).where(unmarked), refreshed
        )
        with self.database.reading() as connection:
            return sorted(connection.scalars(either))

    def refreshed_slices(self) -> list[int]:
        """The numbers of the slices whose refresh has ended, and whose data files are still to be replaced."""
        with self.database.reading() as connection:
            return sorted(connection.scalars(sa.select(refreshes.c.slice_id).where(refreshes.c.ended == 1)))

    def staged_bytes(self) -> tuple[int, int]:
        """How many segments there are, and their bytes; with those of walks over many sends."""
        either = sa.union_all(sa.select(segments.c.bytes), sa.select(scope_segments.c.bytes)).subquery()
        with self.database.reading() as connection:
            count, size = connection.execute(sa.select(sa.func.count(), total(either.c.bytes))).one()
        return count, size or 0

    def sealed_bytes(self) -> tuple[int, int]:
        """How many data files there are, and their bytes."""
        there = (shared_files.c.sealed == 1) & (shared_files.c.leaving == 0)
        either = sa.union_all(
            sa.select(data_files.c.bytes).where(data_files.c.sealed == 1), sa.select(shared_files.c.bytes).where(there)
        ).subquery()
        with self.database.reading() as connection:
            count, size = connection.execute(sa.select(sa.func.count(), total(either.c.bytes))).one()
        return count, size or 0

    def files(self, slice_id: int, *, to_refresh: bool = False) -> list[DataFileRecord]:
        """The slice's data files, in key order; or those alone that a refresh that has ended is to replace."""
        of_slice = (data_files.c.slice_id == slice_id) & (data_files.c.sealed == 1)
        if to_refresh:
            of_slice &= data_files.c.refresh == 1
        query = sa.select(data_files).where(of_slice).order_by(data_files.c.first_key)
        with self.database.reading() as connection:
            return [data_file_record(row) for row in connection.execute(query).mappings()]

    def superseded(self, slice_id: int) -> set[str]:
        """Names of files that were the slice's data files, and stay for earlier states of a table."""
        with self.database.reading() as connection:
            return set(connection.scalars(sa.select(superseded.c.name).where(superseded.c.slice_id == slice_id)))

    def all_superseded(self) -> set[str]:
        """Likewise, of all slices, and of what they share."""
        with self.database.reading() as connection:
            return set(connection.scalars(sa.select(superseded.c.name)))

    def sealed_files(self, dataset: str) -> dict[str, tuple[int | None, int]]:
        """A dataset's data files by their names: of each, its slice's number if it is of one, and its size in bytes."""
        query = sa.select(data_files.c.name, data_files.c.slice_id, data_files.c.bytes).join_from(data_files, slices)
        query = query.where((slices.c.dataset == dataset) & (data_files.c.sealed == 1))
        there = (shared_files.c.dataset == dataset) & (shared_files.c.sealed == 1) & (shared_files.c.leaving == 0)
        shared = sa.select(shared_files.c.name, shared_files.c.bytes).where(there)
        with self.database.reading() as connection:
            found: dict[str, tuple[int | None, int]] = {
                name: (slice_id, size) for name, slice_id, size in connection.execute(query)
            }
            return found | {name: (None, size) for name, size in connection.execute(shared)}

    def intend(
        self,
        slice_id: int,
        file: DataFileRecord,
        sealed: Sequence[SegmentRecord],
        replaces: int | None,
        merges: Sequence[int] = (),
    ) -> int:
        """Notes that a written data file is about to get its name; returns its number.

        Its rows are those of segments, of the data file that it replaces, and of the data files that it ``merges``.
        """
        with self.database.writing() as connection:
            values = asdict(file) | {"slice_id": slice_id, "sealed": 0, "replaces": replaces}
            del values["id"]
            number = connection.execute(data_files.insert().values(values)).inserted_primary_key
            assert number is not None
            ids = [segment.id for segment in sealed]
            connection.execute(segments.update().where(segments.c.id.in_(ids)).values(data_file_id=number[0]))
            if merges:
                into = data_files.update().where(data_files.c.id.in_(merges))
                connection.execute(into.values(merged_into=number[0]))
        return int(number[0])

    def fulfil(self, data_file_id: int) -> list[str]:
        """Notes that the data file has its name. Returns the names of its segments, for removal."""
        with self.database.writing() as connection:
            of_file = data_files.c.id == data_file_id
            file = connection.execute(sa.select(data_files).where(of_file)).mappings().one()
            sealed = segments.c.data_file_id == data_file_id
            names = list(connection.scalars(sa.select(segments.c.name).where(sealed)))
            connection.execute(segments.delete().where(sealed))
            of_old = data_files.c.id == file["replaces"]
            old = connection.execute(sa.select(data_files.c.name, data_files.c.refresh).where(of_old)).first()
            connection.execute(data_files.delete().where(of_old))
            if old is not None and old.name != file["name"]:
                supersede(connection, [old.name], file["slice_id"])
            _take_leave(connection, data_files.c.merged_into == data_file_id)
            connection.execute(data_files.update().where(of_file).values(sealed=1, replaces=None))
            if old is not None and old.refresh:
                _note_refreshed(connection, file["slice_id"], data_file_record(file))
            if file["replaces"] is not None:
                recount(connection, file["slice_id"])
        return names

    def fulfil_whole(self, data_file_ids: Sequence[tuple[int, int]]) -> None:
        """Notes that data files have their names that were a segment each, and take no other's place.

        Of each, the numbers of its slice and its own.
        """
        values = [{"of_slice": slice_id, "number": number} for slice_id, number in data_file_ids]
        with self.database.writing() as connection:
            connection.execute(_SEGMENT_GONE, values)
            connection.execute(_FILE_THERE, values)

    def note_unchanged(self, slice_id: int, file: DataFileRecord) -> None:
        """Notes what a refresh found of a data file that need not be replaced."""
        values = {"refresh": 0, "unsettled": file.unsettled, "overdue": file.overdue, "gone": file.gone}
        with self.database.writing() as connection:
            connection.execute(data_files.update().where(data_files.c.id == file.id).values(values))
            _note_refreshed(connection, slice_id, file)
            recount(connection, slice_id)

    def end_refresh(self, slice_id: int) -> list[str]:
        """Notes that nothing of a refresh is left to do, or that it is given up. Returns its segments, for removal."""
        brought = (segments.c.slice_id == slice_id) & sa.not_(_COUNTS)
        with self.database.writing() as connection:
            names = list(connection.scalars(sa.select(segments.c.name).where(brought)))
            connection.execute(segments.delete().where(brought))
            connection.execute(refreshes.delete().where(refreshes.c.slice_id == slice_id))
            for table in (data_files, shares):
                connection.execute(table.update().where(table.c.slice_id == slice_id).values(refresh=0))
        return names

    def forgo(self, data_file_id: int) -> None:
        """Notes that the data file did not get its name; its segments count as before."""
        with self.database.writing() as connection:
            merged = data_files.c.merged_into == data_file_id
            connection.execute(data_files.update().where(merged).values(merged_into=None))
            made_of = segments.c.data_file_id == data_file_id
            connection.execute(segments.update().where(made_of).values(data_file_id=None))
            connection.execute(data_files.delete().where(data_files.c.id == data_file_id))

    def made_of(self, data_file_id: int) -> list[str]:
        """The names of the segments that a data file is made of that may or may not have got its name."""
        with self.database.reading() as connection:
            return list(connection.scalars(sa.select(segments.c.name).where(segments.c.data_file_id == data_file_id)))

    def intended(self) -> list[DataFileRecord]:
        """Data files that may or may not have got their names."""
        with self.database.reading() as connection:
            rows = connection.execute(sa.select(data_files).where(data_files.c.sealed == 0)).mappings()
            return [data_file_record(row) for row in rows]

    def all_segments(self) -> Iterator[tuple[int, SegmentRecord]]:
        """Every segment with its slice's number, read a thousand at a time."""
        after = 0
        while True:
            query = sa.select(segments).where(segments.c.id > after).order_by(segments.c.id).limit(_BATCH)
            with self.database.reading() as connection:
                rows = connection.execute(query).mappings().all()
            for row in rows:
                yield row["slice_id"], segment_record(row)
            if len(rows) < _BATCH:
                return
            after = rows[-1]["id"]

    def discard(self, slice_id: int, start: int, stop: int, key_ranges: Sequence[KeyRange]) -> list[str]:
        """Takes the segments of a key range out that is walked again. Returns their names, for removal.

        Args:
            slice_id: the slice.
            start: the first key of the range, which is to the right of what is sealed.
            stop: the first key after it.
            key_ranges: where the slice's walks are from now on.
        """
        inside = (segments.c.slice_id == slice_id) & (segments.c.first_key >= start) & (segments.c.first_key < stop)
        with self.database.writing() as connection:
            names = list(connection.scalars(sa.select(segments.c.name).where(inside & _COUNTS)))
            connection.execute(segments.delete().where(inside & _COUNTS))
            within = (erased.c.slice_id == slice_id) & (erased.c.key >= start) & (erased.c.key < stop)
            connection.execute(erased.delete().where(within))
            recount(connection, slice_id)
            replace_ranges(connection, {slice_id: key_ranges})
        return names

    def lose(self, slice_id: int, lost: Sequence[SegmentRecord], key_ranges: Sequence[KeyRange]) -> None:
        """Takes segments out and moves the slice's cursors back; the slice is no longer complete."""
        with self.database.writing() as connection:
            connection.execute(segments.delete().where(segments.c.id.in_([segment.id for segment in lost])))
            connection.execute(
                slices.update().where(slices.c.id == slice_id).values(proof=None, digest=None, scope=None)
            )
            recount(connection, slice_id)
            put_ranges(connection, [(slice_id, key_range) for key_range in key_ranges])


def _take_leave(connection: sa.Connection, which: sa.ColumnElement[bool]) -> None:
    """Takes data files out whose rows another one holds; they are still to be removed (see ``sharedfiles``).

    Or they stay, for earlier states of a table.
    """
    if has_table(connection):
        for name, slice_id in connection.execute(
            sa.select(data_files.c.name, data_files.c.slice_id).where(which)
        ).all():
            supersede(connection, [name], slice_id)
        connection.execute(data_files.delete().where(which))
        return
    names = ("name", "rows", "bytes", "generation", "checksum")
    query = sa.select(slices.c.dataset, *(data_files.c[name] for name in names)).join_from(data_files, slices)
    for row in connection.execute(query.where(which)).mappings().all():
        values = dict(row) | {"partition": "", "sealed": 1, "leaving": 1}
        connection.execute(shared_files.insert().values(values))
    connection.execute(data_files.delete().where(which))


def _note_refreshed(connection: sa.Connection, slice_id: int, file: DataFileRecord) -> None:
    # What was found to be erased is counted as gone by the refresh now.
    within = (erased.c.slice_id == slice_id) & (erased.c.key >= file.start) & (erased.c.key < file.stop)
    connection.execute(erased.delete().where(within))
    changed = slices.c.changed + file.changed
    connection.execute(slices.update().where(slices.c.id == slice_id).values(changed=changed))


def recount(connection: sa.Connection, slice_id: int) -> None:
    """Counts a slice's rows anew, in segments and in data files."""
    sealed = data_files.c.sealed == 1
    totals = {
        name: _total(segments, segments.c[name], slice_id, _COUNTS)
        + _total(data_files, data_files.c[name], slice_id, sealed)
        + _total(shares, shares.c[name], slice_id, shares.c.sealed == 1)
        for name in ("rows", "unsettled", "overdue")
    }
    gone = _total(data_files, data_files.c.gone, slice_id, sealed)
    of_shares = _total(shares, shares.c.gone, slice_id, shares.c.sealed == 1)
    totals["gone"] = gone + of_shares + _total(erased, sa.literal(1), slice_id, sa.true())
    connection.execute(slices.update().where(slices.c.id == slice_id).values(totals))


def _total(
    table: sa.Table, column: sa.ColumnElement[int], slice_id: int, live: sa.ColumnElement[bool]
) -> sa.ScalarSelect[int]:
    summed = sa.select(sa.func.coalesce(total(column), 0))
    return summed.select_from(table).where((table.c.slice_id == slice_id) & live).scalar_subquery()


__all__ = ["Inventory", "recount"]
