"""Migrations: how a ledger of an earlier format becomes one of this version's, with all that it says.

Each step takes a ledger to one format, is safe to repeat, and works on every database that a ledger may be in. The
table ``versions`` says which steps a ledger has been through, when, and by which version of harvester.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from harvester import __version__
from harvester.lake.ledgers.dialects import insert_new
from harvester.lake.ledgers.tables import (
    FORMAT,
    as_text,
    data_files,
    facts,
    metadata,
    ranges,
    refreshes,
    scopes,
    segments,
    slices,
    versions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    _Columns = Mapping[sa.Table, Sequence[str]]

OLDER = tuple(map(str, range(1, FORMAT)))
"""Formats that a run brings along."""

_OF_5: _Columns = {
    slices: ("listed", "first_seen", "newest", "overdue", "due", "checked_run", "checked_at", "scope"),
    data_files: ("overdue", "gone", "changed", "refresh"),
    segments: ("overdue", "refresh", "checksum"),
    ranges: ("first_keys", "rows"),
    refreshes: ("first_keys", "rows"),
    scopes: ("walked",),
}
_OF_7: _Columns = {
    data_files: ("merged_into",),
    segments: ("partitions", "change"),
    refreshes: ("change", "changed"),
}


def set_up(connection: sa.Connection) -> None:
    """Makes a ledger where there is none, and brings one of an earlier format along; of a newer one nothing is touched.

    In a transaction of its own; where the database can't undo all of it, the next call goes on from there.
    """
    facts.create(connection, checkfirst=True)
    found = format_of(connection)
    if found is not None and found not in OLDER:  # it is of this format, or of a newer one
        return
    metadata.create_all(connection)
    for step in sorted(_STEPS):
        if found is not None and step > int(found):
            _STEPS[step](connection)
            _note(connection, step)
    for index in slices.indexes if found is not None else ():  # ``create_all`` makes none of a table that was there
        index.create(connection, checkfirst=True)
    if found is None:
        _note(connection, FORMAT)


def format_of(connection: sa.Connection) -> str | None:
    """The format of the ledger; None if it does not say."""
    return connection.scalar(sa.select(facts.c.value).where(facts.c.name == "format"))


def _note(connection: sa.Connection, reached: int) -> None:
    now = as_text(datetime.now(UTC))
    connection.execute(_NEW_VERSION.on(connection), {"format": reached, "since": now, "harvester": __version__})
    connection.execute(_NEW_FACT.on(connection), {"name": "format", "value": str(reached)})
    connection.execute(facts.update().where(facts.c.name == "format").values(value=str(reached)))


_NEW_VERSION = insert_new(versions)
_NEW_FACT = insert_new(facts)


def _add(connection: sa.Connection, columns: _Columns) -> None:
    """Adds whatever columns are lacking."""
    inspected = sa.inspect(connection)
    name_of = connection.dialect.identifier_preparer.quote
    for table, names in columns.items():
        there = {column["name"] for column in inspected.get_columns(table.name)}
        for name in (name for name in names if name not in there):  # SQLite commits each change of a table by itself
            column = table.c[name]
            nothing = "0" if isinstance(column.type, sa.Integer) else "''"
            rule = "" if column.nullable else f" NOT NULL DEFAULT {nothing}"
            kind = column.type.compile(connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {name_of(table.name)} ADD COLUMN {name_of(name)} {kind}{rule}")


def _to_5(connection: sa.Connection) -> None:
    """From 1, 2, 3 or 4: columns, beside new tables, which are made anyway."""
    _add(connection, _OF_5)


def _to_6(_connection: sa.Connection) -> None:
    """Adds ``versions``, which is made by now."""


def _to_7(connection: sa.Connection) -> None:
    """Adds what data files of several sends need: columns, beside new tables."""
    _add(connection, _OF_7)


def _to_8(_connection: sa.Connection) -> None:
    """Adds ``superseded``, which is made by now: what tables keep for their earlier states."""


_STEPS: Mapping[int, Callable[[sa.Connection], None]] = {5: _to_5, 6: _to_6, 7: _to_7, 8: _to_8}
"""What takes a ledger to a format, from the step before it or anything in between."""

__all__ = ["OLDER", "format_of", "set_up"]
