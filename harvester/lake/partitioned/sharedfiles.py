"""The ledger's record of shared files: data files that hold rows of many slices, and what they hold of each.

Nouns: a *stretch* is a range [start, stop) of a slice's keys, and how many rows it has; its rows are sealed together,
into as many files as there are partitions among them. A *share* is what one file holds of one stretch. A *change* is
the data files that are added, and those that are removed, in one transaction: by sealing, a refresh, or compacting.

Invariants: the stretches of a slice adjoin, from key 0 on, and the last reaches the end if the slice is complete. The
rows of a stretch's shares come to the stretch's total, so that a file that is missing is missed, also without a ledger.

Everything here is blocking: call it from a worker thread.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from harvester.lake.inventory import recount
from harvester.lake.ledgers.tables import (
    changes,
    erased,
    has_table,
    refreshes,
    segments,
    shared_files,
    shares,
    slices,
    supersede,
)
from harvester.model import KEY_END

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from harvester.lake.ledgers.database import Database
    from harvester.lake.storage.store import Store

_BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What a shared file holds of one stretch of a slice.

    Attributes:
        slice_id: the slice's number in the ledger.
        id_send: its send.
        start: the first key of the stretch.
        stop: the first key after it; ``KEY_END`` where the slice ends.
        total: the stretch's rows, in all files together.
        rows: those of them that are here.
        unsettled: those of these that may still change.
        overdue: those that should have long ago.
        first_key: the first of them.
        last_key: the last one.
        gone: those that the last refresh did not bring back.
        file: the number of the file; 0 where it is not in the ledger yet.
    """

    slice_id: int
    id_send: int
    start: int
    stop: int
    total: int
    rows: int = 0
    unsettled: int = 0
    overdue: int = 0
    first_key: int = 0
    last_key: int = 0
    gone: int = 0
    file: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedFile:
    """A shared file; its shares are in the order of its rows: by send, then by key."""

    id: int = 0
    dataset: str
    partition: str
    name: str
    rows: int
    bytes: int
    generation: int
    checksum: str
    shares: tuple[Share, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Data files of a dataset that are added, and those that are removed, in one transaction.

    An added file may have the name of a removed one: then it takes its place.

    Attributes:
        dataset: theirs.
        added: files that are written, and not yet under their names.
        removed: files that are there.
        segments: the numbers of the segments whose rows are in the added files.
        refreshed: of each slice that this is the end of a refresh of, by its number, how many rows are different.
    """

    dataset: str
    added: Sequence[SharedFile]
    removed: Sequence[SharedFile] = ()
    segments: Sequence[int] = ()
    refreshed: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SharedFiles:
    """The shared files that the ledger in a database knows."""

    database: Database

    def intend(self, change: Change) -> int:
        """Notes that a change is about to be made: its files are written. Returns its number."""
        with self.database.writing() as connection:
            number = _number(connection.execute(changes.insert().values(dataset=change.dataset)))
            for file in change.added:
                put_file(connection, file, sealed=0, added_by=number)
            _each(connection, shared_files, [file.id for file in change.removed], removed_by=number)
            _each(connection, segments, change.segments, change=number)
            for slice_id, changed in change.refreshed.items():
                values = {"change": number, "changed": changed}
                connection.execute(refreshes.update().where(refreshes.c.slice_id == slice_id).values(values))
        return number

    def pending(self) -> list[int]:
        """The numbers of changes that are under way."""
        with self.database.reading() as connection:
            return sorted(connection.scalars(sa.select(changes.c.id)))

    def added_by(self, change: int) -> list[SharedFile]:
        """The files that a change is about to add."""
        return self._files(shared_files.c.added_by == change)

    def fulfil(self, change: int) -> list[str]:
        """Makes a change: its files have their names. Returns the names of segments, for removal."""
        with self.database.writing() as connection:
            _forget_erased(connection, refreshes.c.change == change)
            removed = sa.select(shared_files.c.id).where(shared_files.c.removed_by == change)
            asked = _still_to_refresh(connection, removed, change)
            connection.execute(shares.delete().where(shares.c.file_id.in_(removed)))
            _take_leave(connection, shared_files.c.removed_by == change)
            added = sa.select(shared_files.c.id).where(shared_files.c.added_by == change)
            connection.execute(shares.update().where(shares.c.file_id.in_(added)).values(sealed=1))
            there = shared_files.update().where(shared_files.c.added_by == change)
            connection.execute(there.values(added_by=None, sealed=1))
            for slice_id, start in asked:
                same = (shares.c.slice_id == slice_id) & (shares.c.start == start) & (shares.c.sealed == 1)
                connection.execute(shares.update().where(same).values(refresh=1))
            names = _end_refreshes(connection, change)
            mine = segments.c.change == change
            names += connection.scalars(sa.select(segments.c.name).where(mine))
            connection.execute(segments.delete().where(mine))
            connection.execute(changes.delete().where(changes.c.id == change))
        return names

    def forgo(self, change: int) -> None:
        """Notes that a change is not made; what it was to be made of counts as before."""
        with self.database.writing() as connection:
            added = sa.select(shared_files.c.id).where(shared_files.c.added_by == change)
            connection.execute(shares.delete().where(shares.c.file_id.in_(added)))
            connection.execute(shared_files.delete().where(shared_files.c.added_by == change))
            kept = shared_files.update().where(shared_files.c.removed_by == change)
            connection.execute(kept.values(removed_by=None))
            for table in (segments, refreshes):
                connection.execute(table.update().where(table.c.change == change).values(change=None))
            connection.execute(changes.delete().where(changes.c.id == change))

    def leaving(self) -> list[tuple[int, str]]:
        """Files that count no more, by number and name; those whose name another file has now are left out."""
        other = shared_files.alias()
        taken = sa.select(other.c.name).where(other.c.leaving == 0)
        with self.database.writing() as connection:
            out = shared_files.c.leaving == 1
            connection.execute(shared_files.delete().where(out & shared_files.c.name.in_(taken)))
            query = sa.select(shared_files.c.id, shared_files.c.name).where(out)
            return [(row.id, row.name) for row in connection.execute(query)]

    def forget(self, numbers: Sequence[int]) -> None:
        """Takes files out that are removed."""
        with self.database.writing() as connection:
            for some in _batches(numbers):
                connection.execute(shared_files.delete().where(shared_files.c.id.in_(some)))

    # --- what is there

    def any(self) -> bool:
        """Whether there is any shared file, or was to be one."""
        with self.database.reading() as connection:
            return bool(connection.scalar(sa.select(sa.exists().select_from(shared_files))))

    def names(self, *, also_coming: bool = False) -> set[str]:
        """The names of all files that count, or are still to be removed; ``also_coming``: or may soon count."""
        query = sa.select(shared_files.c.name)
        if not also_coming:
            query = query.where(shared_files.c.sealed == 1)
        with self.database.reading() as connection:
            return set(connection.scalars(query))

    def counts(self, number: int) -> bool:
        """Whether a file is there and counts."""
        there = (shared_files.c.id == number) & (shared_files.c.sealed == 1) & (shared_files.c.leaving == 0)
        with self.database.reading() as connection:
            return bool(connection.scalar(sa.select(sa.exists().where(there))))

    def changing(self, number: int) -> bool:
        """Whether a file is about to be removed, or another one to take its name."""
        with self.database.reading() as connection:
            query = sa.select(shared_files.c.removed_by).where(shared_files.c.id == number)
            return connection.scalar(query) is not None

    def files(self, dataset: str | None = None) -> list[SharedFile]:
        """All files that count, without their shares, by dataset, partition and number."""
        there = (shared_files.c.sealed == 1) & (shared_files.c.leaving == 0)
        if dataset is not None:
            there &= shared_files.c.dataset == dataset
        query = sa.select(shared_files).where(there)
        order = (shared_files.c.dataset, shared_files.c.partition, shared_files.c.id)
        with self.database.reading() as connection:
            return [_file(row, ()) for row in connection.execute(query.order_by(*order)).mappings()]

    def with_shares(self, ids: Iterable[int]) -> list[SharedFile]:
        """Files with their shares."""
        return [file for some in _batches(list(ids)) for file in self._files(shared_files.c.id.in_(some))]

    def shares_of(self, slice_ids: Sequence[int]) -> dict[int, list[Share]]:
        """What files that count hold of some slices, in key order; nothing of slices that have none."""
        found = defaultdict[int, list[Share]](list)
        for some in _batches(slice_ids):
            for share in self._shares(shares.c.slice_id.in_(some) & (shares.c.sealed == 1)):
                found[share.slice_id].append(share)
        return found

    def to_refresh(self, slice_ids: Sequence[int]) -> set[tuple[int, int]]:
        """The stretches, by slice and start, that refreshes which have ended are to replace."""
        found: set[tuple[int, int]] = set()
        for some in _batches(slice_ids):
            query = sa.select(shares.c.slice_id, shares.c.start).where(shares.c.slice_id.in_(some))
            with self.database.reading() as connection:
                found.update((row[0], row[1]) for row in connection.execute(query.where(shares.c.refresh == 1)))
        return found

    def _shares(self, which: sa.ColumnElement[bool]) -> list[Share]:
        query = sa.select(shares, slices.c.id_send).join_from(shares, slices).where(which)
        query = query.order_by(slices.c.id_send, shares.c.start, shares.c.first_key, shares.c.id)
        with self.database.reading() as connection:
            return [share_of(row, row["id_send"]) for row in connection.execute(query).mappings()]

    def _files(self, which: sa.ColumnElement[bool]) -> list[SharedFile]:
        with self.database.reading() as connection:
            rows = connection.execute(sa.select(shared_files).where(which).order_by(shared_files.c.id)).mappings().all()
        of_files = defaultdict[int, list[Share]](list)
        for share in self._shares(shares.c.file_id.in_([row["id"] for row in rows])):
            of_files[share.file].append(share)
        return [_file(row, tuple(of_files[row["id"]])) for row in rows]


def remove_leaving(store: Store, files: SharedFiles) -> None:
    """Removes files that count no more."""
    if leaving := files.leaving():
        store.remove_all(name for _, name in leaving)
        files.forget([number for number, _ in leaving])


def put_file(connection: sa.Connection, file: SharedFile, *, sealed: int, added_by: int | None = None) -> int:
    """Writes a file and its shares; returns its number."""
    names = ("dataset", "partition", "name", "rows", "bytes", "generation", "checksum")
    values: dict[str, Any] = {name: getattr(file, name) for name in names}
    values |= {"sealed": sealed, "added_by": added_by}
    number = _number(connection.execute(shared_files.insert().values(values)))
    told = [
        {one.name: getattr(share, one.name) for one in fields(Share) if one.name not in {"id_send", "file"}}
        | {"file_id": number, "sealed": sealed}
        for share in file.shares
    ]
    if told:
        connection.execute(shares.insert(), told)
    return number


def _take_leave(connection: sa.Connection, which: sa.ColumnElement[bool]) -> None:
    """Notes that files count no more: they are still to be removed, or stay for earlier states of a table."""
    if has_table(connection):
        supersede(connection, list(connection.scalars(sa.select(shared_files.c.name).where(which))), None)
        connection.execute(shared_files.delete().where(which))
    else:
        connection.execute(shared_files.update().where(which).values(removed_by=None, leaving=1))


def _still_to_refresh(connection: sa.Connection, removed: sa.Select[tuple[int]], change: int) -> list[tuple[int, int]]:
    """Stretches in files that a change removes, by slice and start, that other refreshes are still to replace."""
    mine = sa.select(refreshes.c.slice_id).where(refreshes.c.change == change)
    query = sa.select(shares.c.slice_id, shares.c.start).where(shares.c.file_id.in_(removed) & (shares.c.refresh == 1))
    return [(row[0], row[1]) for row in connection.execute(query.where(shares.c.slice_id.not_in(mine)))]


def _end_refreshes(connection: sa.Connection, change: int) -> list[str]:
    """Ends the refreshes that a change puts in place. Returns the names of their segments, for removal."""
    query = sa.select(refreshes.c.slice_id, refreshes.c.changed).where(refreshes.c.change == change)
    names: list[str] = []
    for slice_id, changed in connection.execute(query).all():
        names += _end_refresh(connection, slice_id, changed)
    return names


def _forget_erased(connection: sa.Connection, which: sa.ColumnElement[bool]) -> None:
    """What was found to be erased is counted as gone by the refresh now."""
    asked = sa.select(shares.c.slice_id, shares.c.start, shares.c.stop).join(
        refreshes, refreshes.c.slice_id == shares.c.slice_id
    )
    for share in connection.execute(asked.where(which & (shares.c.refresh == 1)).distinct()).all():
        within = (erased.c.slice_id == share.slice_id) & (erased.c.key >= share.start) & (erased.c.key < share.stop)
        connection.execute(erased.delete().where(within))


def _end_refresh(connection: sa.Connection, slice_id: int, changed: int) -> list[str]:
    """Notes that all that a refresh brought is in shared files. Returns the names of its segments, for removal."""
    connection.execute(shares.update().where(shares.c.slice_id == slice_id).values(refresh=0))
    brought = (segments.c.slice_id == slice_id) & (segments.c.refresh == 1)
    names = list(connection.scalars(sa.select(segments.c.name).where(brought)))
    connection.execute(segments.delete().where(brought))
    connection.execute(refreshes.delete().where(refreshes.c.slice_id == slice_id))
    connection.execute(slices.update().where(slices.c.id == slice_id).values(changed=slices.c.changed + changed))
    recount(connection, slice_id)
    return names


def stretches(held: Sequence[Share]) -> dict[tuple[int, int], list[Share]]:
    """A slice's shares by their stretch, in key order."""
    found = defaultdict[tuple[int, int], list[Share]](list)
    for share in sorted(held, key=lambda one: (one.start, one.stop, one.first_key)):
        found[share.start, share.stop].append(share)
    return found


def end_of(held: Sequence[Share]) -> tuple[int, int]:
    """Where the keys end that a slice's shares cover, and the slice's last row; 0 and -1 where there are none."""
    return max((share.stop for share in held), default=0), max((share.last_key for share in held), default=-1)


def reaches_end(held: Sequence[Share]) -> bool:
    """Whether a slice's shares say that the slice ends with them."""
    return end_of(held)[0] == KEY_END


def share_of(row: sa.RowMapping, id_send: int) -> Share:
    """From a row of ``shares``."""
    values = {one.name: row[one.name] for one in fields(Share) if one.name not in {"file", "id_send"}}
    return Share(**values, id_send=id_send, file=row["file_id"])


def _file(row: sa.RowMapping, held: tuple[Share, ...]) -> SharedFile:
    return SharedFile(**{one.name: row[one.name] for one in fields(SharedFile) if one.name != "shares"}, shares=held)


def _each(connection: sa.Connection, table: sa.Table, numbers: Sequence[int], **values: object) -> None:
    for some in _batches(numbers):
        connection.execute(table.update().where(table.c.id.in_(some)).values(values))


def _batches(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    return (numbers[place : place + _BATCH] for place in range(0, len(numbers), _BATCH))


def _number(result: sa.CursorResult[Any]) -> int:
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


__all__ = [
    "Change",
    "Share",
    "SharedFile",
    "SharedFiles",
    "end_of",
    "put_file",
    "reaches_end",
    "remove_leaving",
    "share_of",
    "stretches",
]
