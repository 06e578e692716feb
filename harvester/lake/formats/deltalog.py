"""A dataset as a Delta table: a log in ``_delta_log/``, beside the partitions ``send=…``.

A sealing is one commit, with an application transaction (``txn``) of the id ``harvester`` and the sealing's number as
its version: Delta lets no two commits that were made side by side have the same one. The folder's ``send=…``, or
``month=…`` and the like, is the partition column of that name, as every reader of the folder has it; null for rows that
don't say.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from harvester.config import PartitionBy
from harvester.errors import LakeBroken, LakeError
from harvester.lake.formats.tablefiles import Overtaken, TableState, bounds
from harvester.lake.partitioned.partitions import NO_VALUE
from harvester.lake.storage.connecting import options_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harvester.datasets import Dataset
    from harvester.lake.formats.tablefiles import TableFile
    from harvester.places import Place

APP_ID = "harvester"
SEALING = "harvester.sealing"
LOG = "_delta_log"


class DeltaLog:
    """The log of one dataset's Delta table; see ``TableLog``."""

    def __init__(self, root: Place, dataset: Dataset, by: Callable[[], PartitionBy]) -> None:
        """``by`` tells what the lake is partitioned by, once there is anything in it."""
        self._root = root
        self._dataset = dataset
        self._by = by
        self._table: DeltaTable | None = None
        self._options: dict[str, str] = {}

    def look(self) -> TableState:
        """What the table holds now. Raises LakeError. Blocking."""
        with self._translated("read"):
            self._open()
            if self._table is None:
                return TableState(0, frozenset())
            paths = pa.table(self._table.get_add_actions()).column("path").to_pylist()
            return TableState(
                self._table.transaction_version(APP_ID) or 0, {f"{self._dataset.name}/{path}" for path in paths}
            )

    def commit(self, sealing: int, added: Sequence[TableFile], removed: Sequence[str]) -> None:
        """Commits one transaction: see ``TableLog.commit``. Blocking."""
        how = CommitProperties(
            custom_metadata={SEALING: str(sealing)},
            max_commit_retries=0,  # what was committed meanwhile is to be looked at first
            app_transactions=[Transaction(APP_ID, sealing)],
        )
        now = int(time.time() * 1000)
        adds = [self._add(file, now) for file in added]
        with self._translated("write"):
            if self._table is None:
                self._create(adds, how)
            else:
                removes = [RemoveAction(self._path(name), True, now, None, _partition(name)) for name in removed]  # noqa: FBT003
                column, schema = self._partitioned()
                try:
                    self._table.create_write_transaction(
                        [*removes, *adds], "append", schema, [column], commit_properties=how
                    )
                except CommitFailedError as error:
                    raise Overtaken(str(error)) from error
            self._open()
            self._sync()

    def _create(self, adds: list[AddAction], how: CommitProperties) -> None:
        url, options = self._where()
        column, schema = self._partitioned()
        try:
            create_table_with_add_actions(
                url,
                schema,
                adds,
                mode="error",
                partition_by=[column],
                name=self._dataset.name,
                description=f"{self._dataset.name} of Mailkit, by harvester",
                storage_options=options,
                commit_properties=how,
            )
        except DeltaError as error:
            if DeltaTable.is_deltatable(url, options):
                raise Overtaken(str(error)) from error
            raise

    def _partitioned(self) -> tuple[str, Schema]:
        """The partition column, and the table's schema with it: ids are numbers, months and days are text."""
        by = self._by()
        kind = pa.int64() if by in {PartitionBy.SEND, PartitionBy.CAMPAIGN} else pa.string()
        return by.value, Schema.from_arrow(self._dataset.schema.append(pa.field(by.value, kind)))

    def _where(self) -> tuple[str, dict[str, str]]:
        """The table's address, and how to get at it."""
        if isinstance(self._root, Path):
            return str(self._root.absolute() / self._dataset.name), {}
        return f"{self._root.url}/{self._dataset.name}", options_of(self._root)

    def _open(self) -> None:
        """Reads what is new in the log; all of it where that is not possible, since credentials have changed."""
        url, options = self._where()
        if self._table is not None and options == self._options:
            self._table.update_incremental()
            return
        try:
            self._table = DeltaTable(url, storage_options=options)
        except TableNotFoundError:
            self._table = None
        self._options = options

    def _sync(self) -> None:
        """Makes a local log's last commit durable, which the library leaves to the system."""
        if not isinstance(self._root, Path) or self._table is None:
            return
        folder = self._root / self._dataset.name / LOG
        for path in (folder / f"{self._table.version():020}.json", folder, folder.parent):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _path(self, name: str) -> str:
        return name.removeprefix(f"{self._dataset.name}/")

    def _add(self, file: TableFile, now: int) -> AddAction:
        return AddAction(
            path=self._path(file.name),
            size=file.bytes,
            partition_values=_partition(file.name),
            modification_time=now,
            data_change=True,
            stats=json.dumps(_statistics(file)),
        )

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (DeltaError, OSError, ValueError) as error:
            where = f"{self._root}/{self._dataset.name}"
            reason = " ".join(str(error).split())[:300]
            if doing == "read":
                raise LakeBroken(f"the Delta table in {where} can't be read: {reason}") from error
            raise LakeError(
                f"could not write the Delta table in {where}: {reason}. The data files are in the lake; the next run "
                "has the table follow"
            ) from error


def _partition(name: str) -> dict[str, str | None]:
    """The partition that a data file is in, by its folder."""
    column, _, value = name.split("/")[1].partition("=")
    return {column: None if value == NO_VALUE else value}


def _statistics(file: TableFile) -> dict[str, Any]:
    """What Delta's readers leave files unread by."""
    columns = bounds(file.metadata)
    known = {name: one for name, one in columns.items() if one.least is not None}
    return {
        "numRecords": file.metadata.num_rows,
        "minValues": {name: _as_json(one.least) for name, one in known.items()},
        "maxValues": {name: _as_json(one.greatest) for name, one in known.items()},
        "nullCount": {name: one.nulls for name, one in columns.items()},
    }


def _as_json(value: int | datetime | None) -> int | str | None:
    return value.isoformat(timespec="microseconds") if isinstance(value, datetime) else value


__all__ = ["APP_ID", "LOG", "SEALING", "DeltaLog"]
