"""The ledger's tables. A change here needs a new ``FORMAT``, and a way to bring older ledgers along."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, ForeignKey, Index, Integer, MetaData, String, Table, UniqueConstraint
from sqlalchemy.dialects.sqlite import insert

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from harvester.model import KeyRange

FORMAT = 1
"""The version of this schema, kept in the ledger's ``facts``."""

metadata = MetaData()

facts = Table(
    "facts",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
)
"""What holds for the whole lake: ``format``, ``account`` (the client id), ``last_run`` (UTC, ISO 8601)."""

slices = Table(
    "slices",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("dataset", String, nullable=False),
    Column("id_send", Integer, nullable=False),
    Column("id_message", Integer),
    Column("sent_at", String),
    Column("expected", Integer),
    Column("run", Integer, nullable=False),  # the last run whose selection it was in
    Column("proof", String),  # why it is complete; null while it is not
    Column("rows", Integer, nullable=False, default=0),  # staged and sealed
    Column("unsettled", Integer, nullable=False, default=0),
    Column("changed", Integer, nullable=False, default=0),
    Column("gone", Integer, nullable=False, default=0),
    Column("queries", Integer, nullable=False, default=0),  # asked by that run
    Column("gave_up", Integer, nullable=False, default=0),  # 1 if that run gave up on it
    Column("error", String),
    Column("digest", String),  # of the last asking of an unpaged dataset
    UniqueConstraint("dataset", "id_send"),
    Index("slices_by_run", "run", "id_send", "id"),
    Index("slices_by_send", "id_send", "id"),
)

ranges = Table(
    "ranges",
    metadata,
    Column("slice_id", Integer, ForeignKey("slices.id"), primary_key=True),
    Column("start", Integer, primary_key=True),
    Column("stop", Integer, nullable=False),
    Column("cursor", Integer),
    Column("held", Integer),
    Column("anchors", String, nullable=False),  # keys, newest first, with a space between
    Column("limit", Integer, nullable=False),
    Column("short_answers", Integer, nullable=False),
    Column("missing", String, nullable=False),  # likewise
)


def _file_columns() -> list[Column[Any]]:
    """What the records of all files of rows have: see ``entries.FileRecord``."""
    return [
        Column("id", Integer, primary_key=True),
        Column("slice_id", Integer, ForeignKey("slices.id"), nullable=False),
        Column("name", String, nullable=False),
        Column("rows", Integer, nullable=False),
        Column("bytes", Integer, nullable=False),
        Column("unsettled", Integer, nullable=False),
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
    Index("data_files_by_slice", "slice_id", "first_key"),
    Index("data_files_unsealed", "sealed", sqlite_where=Column("sealed") == 0),
)

segments = Table(
    "segments",
    metadata,
    *_file_columns(),
    Column("data_file_id", Integer, ForeignKey("data_files.id")),  # the data file that its rows are being sealed into
    Index("segments_by_slice", "slice_id", "first_key"),
)


def put_range(connection: Connection, slice_id: int, key_range: KeyRange) -> None:
    """Writes where a walk is, in place of what was there."""
    values = asdict(key_range) | {
        "anchors": " ".join(map(str, key_range.anchors)),
        "missing": " ".join(map(str, key_range.missing)),
    }
    row = insert(ranges).values(slice_id=slice_id, **values)
    connection.execute(row.on_conflict_do_update(index_elements=["slice_id", "start"], set_=values))


__all__ = ["FORMAT", "data_files", "facts", "metadata", "put_range", "ranges", "segments", "slices"]
