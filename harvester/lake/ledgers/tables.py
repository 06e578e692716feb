"""The ledger's tables. A change here needs a new ``FORMAT``, and a way to bring older ledgers along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, ForeignKey, Index, MetaData, Table, UniqueConstraint, exists, select, text

from harvester.lake.ledgers.dialects import Number, Words, upsert

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from harvester.model import KeyRange

FORMAT = 8
"""The version of this schema. ``facts`` say which one a ledger has: there every version of harvester looks for it."""

metadata = MetaData()


def _where(condition: str) -> dict[str, Any]:
    """The rows that an index holds, if not all; for any other database, see ``make_indexes_partial``."""
    return {"sqlite_where": text(condition)}


versions = Table(
    "versions",
    metadata,
    Column("format", Number, primary_key=True, autoincrement=False),
    Column("since", Words, nullable=False),  # in UTC
    Column("harvester", Words, nullable=False),  # the version that made it so
)
"""The formats that this ledger has had since it was made, or since there is this table; see ``migrations``."""

facts = Table(
    "facts",
    metadata,
    Column("name", Words, primary_key=True),
    Column("value", Words, nullable=False),
)
"""What holds for the whole lake.

``format``; ``account`` (the client id); ``redaction`` (the label of what is done to people's data; empty where nothing
is, absent in ledgers of early versions, which did nothing); ``partition_by`` (absent in those, which knew ``send``
alone); ``run`` (the last run's number) and ``last_run`` (when it began: UTC, ISO 8601); ``since_run`` (the first of the
runs that resume each other, up to the last one); ``ended_run`` (the last run that came to its own end); ``borne`` (what
the server was found to bear, as JSON) and ``admitted`` (when it let a run in that has not come to its own end;
likewise, see ``bearing`` for both); ``table`` (the format of the tables that follow it; absent where there are none)
and ``catalog`` (where Iceberg tables are, if not in the lake's own).
"""

PUT_FACT = upsert(facts, ["name"], lambda new: {"value": new["value"]})
"""Says a fact, in place of what was said before."""

slices = Table(
    "slices",
    metadata,
    Column("id", Number, primary_key=True),
    Column("dataset", Words, nullable=False),
    Column("id_send", Number, nullable=False),
    Column("id_message", Number),
    Column("sent_at", Words),
    Column("expected", Number),
    Column("listed", Number),  # SEND_COUNT by a proven list, for every dataset of the send
    Column("first_seen", Words),  # when a run first selected it, in UTC
    Column("newest", Words),  # the latest date that its rows bear
    Column("run", Number, nullable=False),  # the last run whose selection it was in
    Column("proof", Words),  # why it is complete; null while it is not
    Column("rows", Number, nullable=False, default=0),  # staged and sealed
    Column("unsettled", Number, nullable=False, default=0),
    Column("overdue", Number, nullable=False, default=0),  # unsettled for so long that it counts as settled
    Column("changed", Number, nullable=False, default=0),  # rows that that run's refresh changed
    Column("gone", Number, nullable=False, default=0),
    Column("queries", Number, nullable=False, default=0),  # asked by that run
    Column("gave_up", Number, nullable=False, default=0),  # 1 if that run gave up on it
    Column("error", Words),
    Column("digest", Words),  # of the last asking of an unpaged dataset
    # What that run is to refresh: see entries.Due. Below 0: it was due before, and that run is to leave it alone.
    Column("due", Number, nullable=False, default=0),
    Column("checked_run", Number, nullable=False, default=0),  # the run that completed or last refreshed it
    Column("checked_at", Words),  # when, in UTC
    Column("scope", Number),  # the scope that feeds it, beside others; null where it goes by itself
    UniqueConstraint("dataset", "id_send"),
    Index("slices_by_run", "run", "id_send", "id"),
    Index("slices_by_send", "id_send", "id"),
    Index("slices_by_size", "run", Column("expected").desc(), "id_send", **_where("expected IS NOT NULL")),
    Index("slices_by_scope", "scope", "id_send", **_where("scope IS NOT NULL")),
)


def _range_columns() -> list[Column[Any]]:
    """What the records of all key ranges have, but for where they start: see ``model.KeyRange``."""
    return [
        Column("stop", Number, nullable=False),
        Column("cursor", Number),
        Column("held", Number),
        Column("anchors", Words, nullable=False),  # keys, newest first, with a space between
        Column("limit", Number, nullable=False),
        Column("short_answers", Number, nullable=False),
        Column("missing", Words, nullable=False),  # likewise
        Column("first_keys", Words, nullable=False, default=""),  # likewise, in order
        Column("rows", Number, nullable=False, default=0),
    ]


ranges = Table(
    "ranges",
    metadata,
    Column("slice_id", Number, ForeignKey("slices.id"), primary_key=True),
    Column("start", Number, primary_key=True),
    *_range_columns(),
)
"""Where the walks of slices are. Mostly a slice has one; those of a slice that is split adjoin, from 0 to the end."""

scopes = Table(
    "scopes",
    metadata,
    Column("id", Number, primary_key=True),
    Column("id_message", Number, index=True),  # the campaign; null for the whole account
    Column("start", Number, nullable=False),
    *_range_columns(),
    Column("ended", Number, nullable=False),  # 1: its walk has ended, and its members are to be seen to
    Column("walked", Number, nullable=False, default=0),  # about how many records it has brought
)
"""Walks over many sends of messages at once; where the first of their key ranges is."""

scope_ranges = Table(
    "scope_ranges",
    metadata,
    Column("scope_id", Number, ForeignKey("scopes.id"), primary_key=True),
    Column("start", Number, primary_key=True),
    *_range_columns(),
)
"""Where the other key ranges are of a walk over many sends that is split; all of them adjoin, from 0 to the end."""

scope_segments = Table(
    "scope_segments",
    metadata,
    Column("id", Number, primary_key=True),
    Column("scope_id", Number, ForeignKey("scopes.id"), nullable=False),
    Column("name", Words, nullable=False),
    Column("rows", Number, nullable=False),
    Column("bytes", Number, nullable=False),
    Column("first_key", Number, nullable=False),
    Column("last_key", Number, nullable=False),
    Column("page_end", Number, nullable=False),  # the last key of the page that the rows were in
    Column("checksum", Number, nullable=False),  # CRC-32 of its bytes
    Index("scope_segments_by_scope", "scope_id", "first_key"),
)
"""Pages of walks over many sends that wait for a seam to be proven, before their rows go to their slices."""

refreshes = Table(
    "refreshes",
    metadata,
    Column("slice_id", Number, ForeignKey("slices.id"), primary_key=True),
    Column("start", Number, nullable=False),
    *_range_columns(),
    Column("in_full", Number, nullable=False),  # 0: only files that hold unsettled rows
    Column("brought", Number, nullable=False),  # rows that it has brought so far
    Column("ended", Number, nullable=False),  # 1: all has been asked, and the files are to be replaced
    Column("change", Number),  # the change of shared files that puts in place what it brought
    Column("changed", Number, nullable=False, default=0),  # rows that it changed, once there is such a change
)
"""Where the refresh of a slice is that has been begun."""

erased = Table(
    "erased",
    metadata,
    Column("slice_id", Number, ForeignKey("slices.id"), primary_key=True),
    Column("key", Number, primary_key=True),
)
"""Keys whose rows the lake holds and that a walk found to be erased at the source."""


def _file_columns() -> list[Column[Any]]:
    """What the records of all files of rows have: see ``entries.FileRecord``."""
    return [
        Column("id", Number, primary_key=True),
        Column("slice_id", Number, ForeignKey("slices.id"), nullable=False),
        Column("name", Words, nullable=False),
        Column("rows", Number, nullable=False),
        Column("bytes", Number, nullable=False),
        Column("unsettled", Number, nullable=False),
        Column("overdue", Number, nullable=False, default=0),
        Column("first_key", Number, nullable=False),
        Column("last_key", Number, nullable=False),
    ]


data_files = Table(
    "data_files",
    metadata,
    *_file_columns(),
    Column("start", Number, nullable=False),
    Column("stop", Number, nullable=False),
    Column("generation", Number, nullable=False),
    Column("checksum", Words, nullable=False),
    Column("sealed", Number, nullable=False),  # 0: written, but perhaps not yet under its name
    Column("replaces", Number),  # the id of the data file whose name it takes
    Column("gone", Number, nullable=False, default=0),  # rows that its last refresh did not bring back
    Column("changed", Number, nullable=False, default=0),  # rows that its last refresh changed
    Column("refresh", Number, nullable=False, default=0),  # 1: to be replaced by what a refresh that ended brought
    Column("merged_into", Number),  # the id of the data file that is about to take its place, beside others
    Index("data_files_by_slice", "slice_id", "first_key"),
    Index("data_files_unsealed", "sealed", **_where("sealed = 0")),
)

superseded = Table(
    "superseded",
    metadata,
    Column("name", Words, primary_key=True),
    Column("slice_id", Number, ForeignKey("slices.id"), index=True),  # null where it held rows of many slices
)
"""Files that were data files, and were replaced by others of other names: earlier states of a table still name them."""

segments = Table(
    "segments",
    metadata,
    *_file_columns(),
    Column("data_file_id", Number, ForeignKey("data_files.id")),  # the data file that its rows are being sealed into
    Column("refresh", Number, nullable=False, default=0),  # 1: its rows replace those of data files, and don't count
    Column("checksum", Number),  # CRC-32 of its bytes; null if an early version wrote it
    Column("partitions", Words),  # where its rows go, with a space between; null where data files are of one send
    Column("change", Number),  # the change of shared files that its rows are in
    Index("segments_by_slice", "slice_id", "first_key"),
)


changes = Table(
    "changes",
    metadata,
    Column("id", Number, primary_key=True),
    Column("dataset", Words, nullable=False),
)
"""Changes of shared files that are under way: see ``sharedfiles``."""

shared_files = Table(
    "shared_files",
    metadata,
    Column("id", Number, primary_key=True),
    Column("dataset", Words, nullable=False),
    Column("partition", Words, nullable=False),
    Column("name", Words, nullable=False),
    Column("rows", Number, nullable=False),
    Column("bytes", Number, nullable=False),
    Column("generation", Number, nullable=False),
    Column("checksum", Words, nullable=False),
    Column("sealed", Number, nullable=False),  # 0: written, but perhaps not yet under its name
    Column("added_by", Number),  # the change that is about to give it its name
    Column("removed_by", Number),  # the change that is about to take it away
    Column("leaving", Number, nullable=False, default=0),  # 1: it counts no more, and is still to be removed
    Index("shared_files_by_partition", "dataset", "partition"),
)
"""Data files that hold rows of many slices: where a lake is partitioned by anything else than sends."""

shares = Table(
    "shares",
    metadata,
    Column("id", Number, primary_key=True),
    Column("file_id", Number, ForeignKey("shared_files.id"), nullable=False),
    Column("slice_id", Number, ForeignKey("slices.id"), nullable=False),
    Column("start", Number, nullable=False),
    Column("stop", Number, nullable=False),
    Column("total", Number, nullable=False),  # rows of the slice within, in all files together
    Column("rows", Number, nullable=False),
    Column("unsettled", Number, nullable=False),
    Column("overdue", Number, nullable=False, default=0),
    Column("first_key", Number, nullable=False),
    Column("last_key", Number, nullable=False),
    Column("gone", Number, nullable=False, default=0),
    Column("sealed", Number, nullable=False),  # as that of its file
    Column("refresh", Number, nullable=False, default=0),  # 1: to be replaced by what a refresh that ended brought
    Index("shares_by_slice", "slice_id", "start"),
    Index("shares_by_file", "file_id"),
)
"""What shared files hold of each slice, one stretch of its keys at a time."""


def make_indexes_partial(dialect: str) -> None:
    """Has indexes hold the same rows in another database; for whoever uses it, since this loads its dialect."""
    for index in (index for table in metadata.tables.values() for index in table.indexes):
        if (condition := index.dialect_kwargs.get("sqlite_where")) is not None:
            index.dialect_kwargs[f"{dialect}_where"] = condition


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


_PUT_RANGE = upsert(
    ranges,
    ["slice_id", "start"],
    lambda new: {column.name: new[column.name] for column in ranges.c if not column.primary_key},
)


def put_ranges(connection: Connection, walks: Sequence[tuple[int, KeyRange]]) -> None:
    """Writes where the walks of slices are, in place of what was there."""
    if walks:
        rows = [{"slice_id": slice_id} | range_values(key_range) for slice_id, key_range in walks]
        connection.execute(_PUT_RANGE.on(connection), rows)


def replace_ranges(connection: Connection, split: Mapping[int, Sequence[KeyRange]]) -> None:
    """Writes where the walks of slices are that are, or were, split: all ranges of each, in place of all before."""
    if split:
        connection.execute(ranges.delete().where(ranges.c.slice_id.in_(split)))
        put_ranges(connection, [(slice_id, key_range) for slice_id, many in split.items() for key_range in many])


def supersede(connection: Connection, names: Sequence[str], slice_id: int | None) -> None:
    """Notes that files count no more, and stay for earlier states of a table; of which slice they were, if of one."""
    if names:
        connection.execute(superseded.delete().where(superseded.c.name.in_(names)))
        connection.execute(superseded.insert(), [{"name": name, "slice_id": slice_id} for name in names])


def has_table(connection: Connection) -> bool:
    """Whether tables follow this ledger."""
    return bool(connection.scalar(select(exists().where(facts.c.name == "table"))))


def as_text(time: datetime) -> str:
    """A time as the ledger writes it: text that sorts as the times do."""
    return time.replace(tzinfo=None).isoformat(" ", "seconds")


__all__ = [
    "FORMAT",
    "PUT_FACT",
    "as_text",
    "changes",
    "data_files",
    "erased",
    "facts",
    "has_table",
    "make_indexes_partial",
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
    "shared_files",
    "shares",
    "slices",
    "supersede",
    "superseded",
    "versions",
]
