"""The ledger's tables. A change here needs a new ``FORMAT``, and a way to bring older ledgers along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, ForeignKey, Index, Integer, MetaData, String, Table, UniqueConstraint, text
from sqlalchemy.dialects.sqlite import insert

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from harvester.model import KeyRange

FORMAT = 6
"""The version of this schema, kept in the ledger's ``facts``."""

metadata = MetaData()

facts = Table(
    "facts",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
)
"""What holds for the whole lake.

``format``; ``account`` (the client id); ``redaction`` (the label of what is done to people's data; empty where nothing
is, absent in ledgers of early versions, which did nothing); ``run`` (the last run's number) and ``last_run`` (when it
began: UTC, ISO 8601); ``since_run`` (the first of the runs that resume each other, up to the last one); ``ended_run``
(the last run that came to its own end); ``borne`` (what the server was found to bear, as JSON; see ``bearing``);
``table`` (the format of the tables that follow it; absent where there are none) and ``catalog`` (where Iceberg tables
are, if not in the lake's own).
"""

slices = Table(
    "slices",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("dataset", String, nullable=False),
    Column("id_send", Integer, nullable=False),
    Column("id_message", Integer),
    Column("sent_at", String),
    Column("expected", Integer),
    Column("listed", Integer),  # SEND_COUNT by a proven list, for every dataset of the send
    Column("first_seen", String),  # when a run first selected it, in UTC
    Column("newest", String),  # the latest date that its rows bear
    Column("run", Integer, nullable=False),  # the last run whose selection it was in
    Column("proof", String),  # why it is complete; null while it is not
    Column("rows", Integer, nullable=False, default=0),  # staged and sealed
    Column("unsettled", Integer, nullable=False, default=0),
    Column("overdue", Integer, nullable=False, default=0),  # unsettled for so long that it counts as settled
    Column("changed", Integer, nullable=False, default=0),  # rows that that run's refresh changed
    Column("gone", Integer, nullable=False, default=0),
    Column("queries", Integer, nullable=False, default=0),  # asked by that run
    Column("gave_up", Integer, nullable=False, default=0),  # 1 if that run gave up on it
    Column("error", String),
    Column("digest", String),  # of the last asking of an unpaged dataset
    # What that run is to refresh: see entries.Due. Below 0: it was due before, and that run is to leave it alone.
    Column("due", Integer, nullable=False, default=0),
    Column("checked_run", Integer, nullable=False, default=0),  # the run that completed or last refreshed it
    Column("checked_at", String),  # when, in UTC
    Column("scope", Integer),  # the scope that feeds it, beside others; null where it goes by itself
    UniqueConstraint("dataset", "id_send"),
    Index("slices_by_run", "run", "id_send", "id"),
    Index("slices_by_send", "id_send", "id"),
    Index("slices_by_size", "run", Column("expected").desc(), "id_send", sqlite_where=Column("expected").is_not(None)),
    Index("slices_by_scope", "scope", "id_send", sqlite_where=text("scope IS NOT NULL")),
)


def _range_columns() -> list[Column[Any]]:
    """What the records of all key ranges have, but for where they start: see ``model.KeyRange``."""
    return [
        Column("stop", Integer, nullable=False),
        Column("cursor", Integer),
        Column("held", Integer),
        Column("anchors", String, nullable=False),  # keys, newest first, with a space between
        Column("limit", Integer, nullable=False),
        Column("short_answers", Integer, nullable=False),
        Column("missing", String, nullable=False),  # likewise
        Column("first_keys", String, nullable=False, default=""),  # likewise, in order
        Column("rows", Integer, nullable=False, default=0),
    ]


ranges = Table(
    "ranges",
    metadata,
    Column("slice_id", Integer, ForeignKey("slices.id"), primary_key=True),
    Column("start", Integer, primary_key=True),
    *_range_columns(),
)
"""Where the walks of slices are. Mostly a slice has one; those of a slice that is split adjoin, from 0 to the end."""

scopes = Table(
    "scopes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("id_message", Integer, index=True),  # the campaign; null for the whole account
    Column("start", Integer, nullable=False),
    *_range_columns(),
    Column("ended", Integer, nullable=False),  # 1: its walk has ended, and its members are to be seen to
    Column("walked", Integer, nullable=False, default=0),  # about how many records it has brought
)
"""Walks over many sends of messages at once; where the first of their key ranges is."""

scope_ranges = Table(
    "scope_ranges",
    metadata,
    Column("scope_id", Integer, ForeignKey("scopes.id"), primary_key=True),
    Column("start", Integer, primary_key=True),
    *_range_columns(),
)
"""Where the other key ranges are of a walk over many sends that is split; all of them adjoin, from 0 to the end."""

scope_segments = Table(
    "scope_segments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("scope_id", Integer, ForeignKey("scopes.id"), nullable=False),
    Column("name", String, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("first_key", Integer, nullable=False),
    Column("last_key", Integer, nullable=False),
    Column("page_end", Integer, nullable=False),  # the last key of the page that the rows were in
    Column("checksum", Integer, nullable=False),  # CRC-32 of its bytes
    Index("scope_segments_by_scope", "scope_id", "first_key"),
)
"""Pages of walks over many sends that wait for a seam to be proven, before their rows go to their slices."""

refreshes = Table(
    "refreshes",
    metadata,
    Column("slice_id", Integer, ForeignKey("slices.id"), primary_key=True),
    Column("start", Integer, nullable=False),
    *_range_columns(),
    Column("in_full", Integer, nullable=False),  # 0: only files that hold unsettled rows
    Column("brought", Integer, nullable=False),  # rows that it has brought so far
    Column("ended", Integer, nullable=False),  # 1: all has been asked, and the files are to be replaced
)
"""Where the refresh of a slice is that has been begun."""

erased = Table(
    "erased",
    metadata,
    Column("slice_id", Integer, ForeignKey("slices.id"), primary_key=True),
    Column("key", Integer, primary_key=True),
)
"""Keys whose rows the lake holds and that a walk found to be erased at the source."""


def _file_columns() -> list[Column[Any]]:
    """What the records of all files of rows have: see ``entries.FileRecord``."""
    return [
        Column("id", Integer, primary_key=True),
        Column("slice_id", Integer, ForeignKey("slices.id"), nullable=False),
        Column("name", String, nullable=False),
        Column("rows", Integer, nullable=False),
        Column("bytes", Integer, nullable=False),
        Column("unsettled", Integer, nullable=False),
        Column("overdue", Integer, nullable=False, default=0),
        Column("first_key", Integer, nullable=False),
        Column("last_key", Integer, nullable=False),
    ]


data_files = Table(
    "data_files",
    metadata,
    *_file_columns(),
    Column("start", Integer, nullable=False),
    Column("stop", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("checksum", String, nullable=False),
    Column("sealed", Integer, nullable=False),  # 0: written, but perhaps not yet under its name
    Column("replaces", Integer),  # the id of the data file whose name it takes
    Column("gone", Integer, nullable=False, default=0),  # rows that its last refresh did not bring back
    Column("changed", Integer, nullable=False, default=0),  # rows that its last refresh changed
    Column("refresh", Integer, nullable=False, default=0),  # 1: to be replaced by what a refresh that ended brought
    Index("data_files_by_slice", "slice_id", "first_key"),
    Index("data_files_unsealed", "sealed", sqlite_where=Column("sealed") == 0),
)

superseded = Table(
    "superseded",
    metadata,
    Column("name", String, primary_key=True),
    Column("slice_id", Integer, ForeignKey("slices.id"), nullable=False, index=True),
)
"""Files that were data files, and were replaced by others of other names: earlier states of a table still name them."""

segments = Table(
    "segments",
    metadata,
    *_file_columns(),
    Column("data_file_id", Integer, ForeignKey("data_files.id")),  # the data file that its rows are being sealed into
    Column("refresh", Integer, nullable=False, default=0),  # 1: its rows replace those of data files, and don't count
    Column("checksum", Integer),  # CRC-32 of its bytes; null if an early version wrote it
    Index("segments_by_slice", "slice_id", "first_key"),
)


def range_values(key_range: KeyRange) -> dict[str, Any]:
    """A key range as the columns of ``ranges`` and ``refreshes`` hold it."""
    return {
        "start": key_range.start,
        "stop": key_range.stop,
        "cursor": key_range.cursor,
        "held": key_range.held,
        "anchors": " ".join(map(str, key_range.anchors)),
        "limit": key_range.limit,
        "short_answers": key_range.short_answers,
        "missing": " ".join(map(str, key_range.missing)),
        "first_keys": " ".join(map(str, key_range.first_keys)),
        "rows": key_range.rows,
    }


_RANGE = insert(ranges)
_PUT_RANGE = _RANGE.on_conflict_do_update(
    index_elements=["slice_id", "start"],
    set_={column.name: _RANGE.excluded[column.name] for column in ranges.c if not column.primary_key},
)


def put_ranges(connection: Connection, walks: Sequence[tuple[int, KeyRange]]) -> None:
    """Writes where the walks of slices are, in place of what was there."""
    if walks:
        rows = [{"slice_id": slice_id} | range_values(key_range) for slice_id, key_range in walks]
        connection.execute(_PUT_RANGE, rows)


def replace_ranges(connection: Connection, split: Mapping[int, Sequence[KeyRange]]) -> None:
    """Writes where the walks of slices are that are, or were, split: all ranges of each, in place of all before."""
    if split:
        connection.execute(ranges.delete().where(ranges.c.slice_id.in_(split)))
        put_ranges(connection, [(slice_id, key_range) for slice_id, many in split.items() for key_range in many])


def as_text(time: datetime) -> str:
    """A time as the ledger writes it: text that sorts as the times do."""
    return time.replace(tzinfo=None).isoformat(" ", "seconds")


OLDER = ("1", "2", "3", "4", "5")
"""Formats that a run brings along."""

_ADDED = {
    slices: ("listed", "first_seen", "newest", "overdue", "due", "checked_run", "checked_at", "scope"),
    data_files: ("overdue", "gone", "changed", "refresh"),
    segments: ("overdue", "refresh", "checksum"),
    ranges: ("first_keys", "rows"),
    refreshes: ("first_keys", "rows"),
    scopes: ("walked",),
}


def bring_along(connection: Connection) -> None:
    """Turns an older ledger into one of this format: new columns, beside the new tables that are made anyway."""
    for table, names in _ADDED.items():
        there = {row[1] for row in connection.exec_driver_sql(f"PRAGMA table_info({table.name})")}
        for name in (name for name in names if name not in there):  # SQLite commits each change of a table by itself
            column = table.c[name]
            nothing = "0" if isinstance(column.type, Integer) else "''"
            rule = "" if column.nullable else f" NOT NULL DEFAULT {nothing}"
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {name} {column.type}{rule}")
    for index in slices.indexes:
        index.create(connection, checkfirst=True)
    connection.execute(facts.update().where(facts.c.name == "format").values(value=str(FORMAT)))


__all__ = [
    "FORMAT",
    "OLDER",
    "as_text",
    "bring_along",
    "data_files",
    "erased",
    "facts",
    "metadata",
    "put_ranges",
    "range_values",
    "ranges",
    "refreshes",
    "replace_ranges",
    "scope_ranges",
    "scope_segments",
    "scopes",
    "segments",
    "slices",
    "superseded",
]
