"""What a table format is told of data files: which of them are in a table, and what their footers say of columns.

Nouns: a *table* is one dataset of a lake, as Delta Lake or Iceberg knows it: a log of transactions, each of which adds
and removes data files. A *sealing* is what one transaction of a table adds and removes; sealings are numbered from 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow.parquet as pq

from harvester.lake.segments import broken_if_unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from harvester.lake.storage.store import Store


class Overtaken(Exception):
    """Someone else has committed to the table since it was looked at. Nothing of this transaction is in it."""


@dataclass(frozen=True, slots=True)
class TableState:
    """What a table holds.

    Attributes:
        sealing: the number of its last sealing; 0 where there is no table yet.
        files: its data files, by their names in the lake.
    """

    sealing: int
    files: AbstractSet[str]


@dataclass(frozen=True, slots=True)
class TableFile:
    """A data file that a table is to hold.

    Attributes:
        name: its name in the lake.
        bytes: its size.
        metadata: its footer, as pyarrow reads it.
    """

    name: str
    bytes: int
    metadata: pq.FileMetaData

    @classmethod
    def read(cls, store: Store, name: str, size: int) -> TableFile:
        """From a data file of that name and size. Raises LakeError. Blocking."""
        with broken_if_unreadable(name), store.opened(name) as source, pq.ParquetFile(source) as file:
            return cls(name, size, file.metadata)


class TableLog(Protocol):
    """One table's log. Every method is blocking, and one thread at a time calls them.

    Invariant: a transaction is in the log as a whole, once, with its number; or it is not.
    """

    def look(self) -> TableState:
        """What the table holds now. Raises LakeError."""
        ...

    def commit(self, sealing: int, added: Sequence[TableFile], removed: Sequence[str]) -> None:
        """Commits one transaction to what was looked at last, or committed since; makes the table, if there is none.

        Args:
            sealing: its number, one above the last.
            added: data files that are in the lake and not in the table.
            removed: names of data files that are in the table.

        Raises:
            Overtaken: someone else has committed since.
            LakeError: it failed, and may or may not be in the log.
        """
        ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a data file says of one of its columns: how many nulls, and the least and the greatest other value."""

    nulls: int
    least: int | datetime | None
    greatest: int | datetime | None


def bounds(metadata: pq.FileMetaData) -> dict[str, Bounds]:
    """The bounds of the columns that all row groups have statistics of, which are those of ids and dates."""
    found: dict[str, Bounds] = {}
    for place in range(metadata.num_columns):
        chunks = [metadata.row_group(group).column(place) for group in range(metadata.num_row_groups)]
        of_all: list[Any] = [chunk.statistics for chunk in chunks]
        if not of_all or any(one is None or not one.has_null_count for one in of_all):
            continue
        nulls = sum(one.null_count for one in of_all)
        ends = [(one.min, one.max, one.num_values) for one in of_all if one.has_min_max]
        if nulls + sum(end[2] for end in ends) < metadata.num_rows:
            continue
        least = min((end[0] for end in ends), default=None)
        greatest = max((end[1] for end in ends), default=None)
        found[chunks[0].path_in_schema] = Bounds(nulls, least, greatest)
    return found


__all__ = ["Bounds", "Overtaken", "TableFile", "TableLog", "TableState", "bounds"]
