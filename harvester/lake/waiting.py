"""Pages of walks over many sends that wait: what is to the right of a seam goes to no slice before that is proven.

Where such a walk is split, its first range is what is proven: from the first key up to its cursor, nothing is left out.
What further ranges bring is made durable as it comes, the rows of members alone. Once their seam is proven, they are
the first range's, and go to their slices in the order of keys, page by page.

Invariant: of a member, the lake holds every row of the first range up to the first page that waits in it, or up to its
cursor where none does. So what waits to the right of a seam can be thrown away, and asked for again, at any time.

Everything here is blocking: call it from a worker thread.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from harvester.datasets import MESSAGES
from harvester.lake import layout
from harvester.lake.entries import key_range_of
from harvester.lake.ledgers.tables import range_values, ranges, scope_ranges, scope_segments, scopes, slices
from harvester.lake.segments import is_sound, read_segment, write_segment
from harvester.lake.wide import WaitingPage
from harvester.model import KEY_END, MOST_ANCHORS, KeyRange

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow as pa

    from harvester.lake.ledgers.database import Database
    from harvester.lake.storage.store import Store

_BATCH = 1000


@dataclass(frozen=True, slots=True)
class WaitingPages:
    """Pages that wait, in the ledger and as files."""

    store: Store
    database: Database

    def write(self, scope: int, rows: pa.RecordBatch, page_end: int) -> WaitingPage:
        """Makes rows durable that are to wait; the ledger does not know of them yet.

        Args:
            scope: the scope.
            rows: those of its members, in the order of keys; one at least.
            page_end: the last key of the page that they were in.
        """
        keys = rows.column(MESSAGES.key)
        first, last = keys[0].as_py(), keys[-1].as_py()
        page = WaitingPage(
            name=layout.waiting_page(scope, first, epoch=self.database.epoch),
            rows=rows.num_rows,
            bytes=0,
            unsettled=0,
            first_key=first,
            last_key=last,
            page_end=page_end,
        )
        page = write_segment(self.store, page, rows)
        self.store.bring_in([page.name])
        self.store.sync_folder(layout.SEGMENTS)
        return page

    def next(self, scope: int) -> WaitingPage | None:
        """The page that goes to its slices next, since no seam is left of it; None if there is none."""
        proven = sa.select(scopes.c.stop).where(scopes.c.id == scope).scalar_subquery()
        mine = (scope_segments.c.scope_id == scope) & (scope_segments.c.first_key < proven)
        query = sa.select(scope_segments).where(mine).order_by(scope_segments.c.first_key).limit(1)
        with self.database.reading() as connection:
            return next((_page(row) for row in connection.execute(query).mappings()), None)

    def has_any(self, scope: int, before: int = KEY_END) -> bool:
        """Whether any page of a scope waits whose rows begin before a key."""
        mine = (scope_segments.c.scope_id == scope) & (scope_segments.c.first_key < before)
        with self.database.reading() as connection:
            return bool(connection.scalar(sa.select(sa.exists().where(mine))))

    def read(self, page: WaitingPage) -> pa.RecordBatch:
        """A page's rows. Raises LakeBroken if they are not what was written."""
        return read_segment(self.store, page)

    def remove(self, names: Iterable[str]) -> None:
        """Removes files that the ledger does not know any more."""
        self.store.remove_all(names)

    def discard(self, scope: int, start: int, stop: int, key_ranges: Sequence[KeyRange]) -> None:
        """Throws away what waits of a key range, which is to be walked again; and says where all cursors are then."""
        inside = (scope_segments.c.first_key >= start) & (scope_segments.c.first_key < stop)
        with self.database.writing() as connection:
            names = _forget(connection, (scope_segments.c.scope_id == scope) & inside)
            put_ranges_of(connection, scope, key_ranges)
        self.remove(names)

    # --- after a crash

    def put_right(self) -> int:
        """Has walks go back to before pages that are missing or damaged; how many are to be asked for again."""
        lost = defaultdict[int, list[WaitingPage]](list)

        def look(waiting: tuple[int, WaitingPage]) -> None:
            if not is_sound(self.store, waiting[1]):
                lost[waiting[0]].append(waiting[1])

        self.store.each(look, all_waiting(self.database))
        return sum(self._lose(scope, pages) for scope, pages in lost.items())

    def _lose(self, scope: int, lost: Sequence[WaitingPage]) -> int:
        with self.database.writing() as connection:
            row = connection.execute(sa.select(scopes).where(scopes.c.id == scope)).mappings().one()
            further = sa.select(scope_ranges).where(scope_ranges.c.scope_id == scope).order_by(scope_ranges.c.start)
            here = [key_range_of(each) for each in (row, *connection.execute(further).mappings())]
            names: list[str] = []
            for place, one in enumerate(here):
                if not any(one.start <= page.first_key < one.stop for page in lost):
                    continue
                inside = (scope_segments.c.first_key >= one.start) & (scope_segments.c.first_key < one.stop)
                names += _forget(connection, (scope_segments.c.scope_id == scope) & inside)
                known = [] if one.start else _known(connection, scope)
                here[place] = one.again_after(known)
            put_ranges_of(connection, scope, here)
            connection.execute(scopes.update().where(scopes.c.id == scope).values(ended=0))
        self.remove(names)
        return len(names)


def _known(connection: sa.Connection, scope: int) -> list[int]:
    """The last keys that members hold, the latest first: up to each of them, nothing of any member is left out."""
    query = sa.select(ranges.c.held).join_from(ranges, slices).where(slices.c.scope == scope)
    query = query.where(ranges.c.held.is_not(None)).order_by(ranges.c.held.desc()).limit(1 + MOST_ANCHORS)
    return [int(key) for key in connection.scalars(query)]


def all_waiting(database: Database) -> Iterator[tuple[int, WaitingPage]]:
    """Every page that waits, with its scope's number, read a thousand at a time."""
    after = 0
    while True:
        query = sa.select(scope_segments).where(scope_segments.c.id > after).order_by(scope_segments.c.id)
        with database.reading() as connection:
            rows = connection.execute(query.limit(_BATCH)).mappings().all()
        for row in rows:
            yield row["scope_id"], _page(row)
        if len(rows) < _BATCH:
            return
        after = rows[-1]["id"]


def put_ranges_of(connection: sa.Connection, scope: int, key_ranges: Sequence[KeyRange]) -> None:
    """Writes where a scope's cursors are, in place of what was there; nothing of a scope that is not there."""
    first, *further = key_ranges
    connection.execute(scopes.update().where(scopes.c.id == scope).values(range_values(first)))
    connection.execute(scope_ranges.delete().where(scope_ranges.c.scope_id == scope))
    if further and connection.scalar(sa.select(sa.exists().where(scopes.c.id == scope))):
        connection.execute(scope_ranges.insert(), [range_values(one) | {"scope_id": scope} for one in further])


def put_page(connection: sa.Connection, scope: int, page: WaitingPage) -> None:
    """Notes that a page waits."""
    names = ("name", "rows", "bytes", "first_key", "last_key", "page_end", "checksum")
    connection.execute(
        scope_segments.insert().values({name: getattr(page, name) for name in names} | {"scope_id": scope})
    )


def take_page(connection: sa.Connection, number: int) -> None:
    """Notes that a page has gone to its slices."""
    connection.execute(scope_segments.delete().where(scope_segments.c.id == number))


def drop_scopes(connection: sa.Connection, which: sa.ColumnElement[bool]) -> list[str]:
    """Takes scopes out, with all that waits of them. Returns the names of files, for removal."""
    dropped = sa.select(scopes.c.id).where(which)
    names = _forget(connection, scope_segments.c.scope_id.in_(dropped))
    connection.execute(scope_ranges.delete().where(scope_ranges.c.scope_id.in_(dropped)))
    connection.execute(scopes.delete().where(which))
    return names


def _forget(connection: sa.Connection, which: sa.ColumnElement[bool]) -> list[str]:
    names = list(connection.scalars(sa.select(scope_segments.c.name).where(which)))
    connection.execute(scope_segments.delete().where(which))
    return names


def _page(row: sa.RowMapping) -> WaitingPage:
    values: dict[str, Any] = {name: row[name] for name in row if name != "scope_id"}
    return WaitingPage(**values, unsettled=0)


__all__ = ["WaitingPages", "all_waiting", "drop_scopes", "put_page", "put_ranges_of", "take_page"]
