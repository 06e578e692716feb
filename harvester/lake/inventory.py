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
from harvester.lake.tables import data_files, put_range, segments, slices
from harvester.model import KEY_END

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harvester.lake.database import Database
    from harvester.model import KeyRange

_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Inventory:
    """The files that the ledger in a database knows."""

    database: Database

    def staged(self, slice_id: int) -> list[SegmentRecord]:
        """The slice's segments that no data file is being made of, in key order."""
        query = (
            sa.select(segments)
            .where((segments.c.slice_id == slice_id) & segments.c.data_file_id.is_(None))
            .order_by(segments.c.first_key, segments.c.id)
        )
        with self.database.reading() as connection:
            return [segment_record(row) for row in connection.execute(query).mappings()]

    def unsealed_slices(self) -> list[int]:
        """The numbers of all slices that have segments, or are complete without a last data file that says so."""
        ended = sa.select(data_files.c.slice_id).where(data_files.c.stop == KEY_END)
        unmarked = slices.c.proof.is_not(None) & (slices.c.rows > 0) & slices.c.id.not_in(ended)
        either = sa.union(sa.select(segments.c.slice_id), sa.select(slices.c.id).where(unmarked))
        with self.database.reading() as connection:
            return sorted(connection.scalars(either))

    def staged_bytes(self) -> tuple[int, int]:
        """How many segments there are, and their bytes."""
        with self.database.reading() as connection:
            count, size = connection.execute(sa.select(sa.func.count(), sa.func.sum(segments.c.bytes))).one()
        return count, size or 0

    def sealed_bytes(self) -> tuple[int, int]:
        """How many data files there are, and their bytes."""
        query = sa.select(sa.func.count(), sa.func.sum(data_files.c.bytes)).where(data_files.c.sealed == 1)
        with self.database.reading() as connection:
            count, size = connection.execute(query).one()
        return count, size or 0

    def files(self, slice_id: int) -> list[DataFileRecord]:
        """The slice's data files, in key order."""
        query = (
            sa.select(data_files)
            .where((data_files.c.slice_id == slice_id) & (data_files.c.sealed == 1))
            .order_by(data_files.c.first_key)
        )
        with self.database.reading() as connection:
            return [data_file_record(row) for row in connection.execute(query).mappings()]

    def intend(self, slice_id: int, file: DataFileRecord, sealed: Sequence[SegmentRecord], replaces: int | None) -> int:
        """Notes that a written data file is about to get its name; returns its number."""
        with self.database.writing() as connection:
            values = asdict(file) | {"slice_id": slice_id, "sealed": 0, "replaces": replaces}
            del values["id"]
            number = connection.execute(data_files.insert().values(values)).inserted_primary_key
            assert number is not None
            ids = [segment.id for segment in sealed]
            connection.execute(segments.update().where(segments.c.id.in_(ids)).values(data_file_id=number[0]))
        return int(number[0])

    def fulfil(self, data_file_id: int) -> list[str]:
        """Notes that the data file has its name. Returns the names of its segments, for removal."""
        with self.database.writing() as connection:
            of_file = data_files.c.id == data_file_id
            replaced = connection.scalar(sa.select(data_files.c.replaces).where(of_file))
            sealed = segments.c.data_file_id == data_file_id
            names = list(connection.scalars(sa.select(segments.c.name).where(sealed)))
            connection.execute(segments.delete().where(sealed))
            connection.execute(data_files.delete().where(data_files.c.id == replaced))
            connection.execute(data_files.update().where(of_file).values(sealed=1, replaces=None))
        return names

    def forgo(self, data_file_id: int) -> None:
        """Notes that the data file did not get its name; its segments count as before."""
        with self.database.writing() as connection:
            made_of = segments.c.data_file_id == data_file_id
            connection.execute(segments.update().where(made_of).values(data_file_id=None))
            connection.execute(data_files.delete().where(data_files.c.id == data_file_id))

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

    def lose(self, slice_id: int, lost: Sequence[SegmentRecord], key_range: KeyRange | None) -> None:
        """Takes segments out and moves the slice's cursor back; the slice is no longer complete."""
        with self.database.writing() as connection:
            connection.execute(segments.delete().where(segments.c.id.in_([segment.id for segment in lost])))
            connection.execute(slices.update().where(slices.c.id == slice_id).values(proof=None, digest=None))
            _recount(connection, slice_id)
            if key_range is not None:
                put_range(connection, slice_id, key_range)


def _recount(connection: sa.Connection, slice_id: int) -> None:
    totals = {
        name: sum(
            sa.select(sa.func.coalesce(sa.func.sum(table.c[name]), 0))
            .where((table.c.slice_id == slice_id) & live)
            .scalar_subquery()
            for table, live in ((segments, sa.true()), (data_files, data_files.c.sealed == 1))
        )
        for name in ("rows", "unsettled")
    }
    connection.execute(slices.update().where(slices.c.id == slice_id).values(totals))


__all__ = ["Inventory"]
