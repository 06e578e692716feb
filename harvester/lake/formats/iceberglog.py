"""A dataset as an Iceberg table: metadata in ``_iceberg/`` beside the partitions, and a catalog that names it.

A sealing is one snapshot, with the sealing's number among its properties. Iceberg knows nothing of folders, so tables
are partitioned by what every file holds, and whose value the file's statistics tell: by the column ``id_send``; or, as
the lake's folders are, by ``id_message``, or by the month or the day of the dataset's first date. A dataset that lacks
such a column is not partitioned.

The catalog is SQLite in ``_harvest/``, or one of pyiceberg's own settings by its name, such as a REST catalog.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, TableAlreadyExistsError
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import TableProperties
from pyiceberg.transforms import DayTransform, IdentityTransform, MonthTransform, Transform
from pyiceberg.types import LongType, NestedField, StringType, TimestampType

from harvester.config import PartitionBy
from harvester.datasets import EXTRA, Kind
from harvester.errors import HarvesterError, LakeBroken, LakeError, UsageError
from harvester.lake import layout
from harvester.lake.formats.moved import (
    FOLDER,
    TablesMoved,
    data_files,
    io_properties,
    made_elsewhere,
    newest_metadata,
    url_of,
)
from harvester.lake.formats.tablefiles import Overtaken, TableState
from harvester.lake.partitioned.partitions import column_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pyiceberg.catalog import Catalog
    from pyiceberg.manifest import ManifestFile
    from pyiceberg.table import Table
    from pyiceberg.table.update.snapshot import _OverwriteFiles

    from harvester.datasets import Dataset
    from harvester.lake.formats.tablefiles import TableFile
    from harvester.lake.storage.store import Store

SEALING = "harvester.sealing"
NAMESPACE = "mailkit"
_SEND = "id_send"
_TRANSFORMS: dict[PartitionBy, tuple[Transform[Any, Any], str]] = {
    PartitionBy.MONTH: (MonthTransform(), "_month"),
    PartitionBy.DAY: (DayTransform(), "_day"),
}


def open_catalog(store: Store, named: str | None) -> tuple[Catalog, str]:
    """The catalog of a lake's tables, and their namespace in it. Raises UsageError, LakeError. Blocking.

    Args:
        store: the lake's files.
        named: a catalog of pyiceberg's settings, perhaps with a namespace: ``NAME`` or ``NAME.NAMESPACE``; None for the
            lake's own.
    """
    if named is None and store.shares:
        raise UsageError(
            "the Iceberg catalog that a lake has of its own is a file, and machines that share a lake in an object "
            "store have no folder in common for it: name a catalog that they reach with --catalog"
        )
    files = io_properties(store.root)
    name, _, namespace = (named or "harvester").partition(".")
    namespace = namespace or NAMESPACE
    try:
        if named is None:
            path = Path(store.local(layout.CATALOG)).absolute()
            own = {"type": "sql", "uri": f"sqlite:///{path}", "warehouse": str(store.root)}
            catalog = load_catalog(name, **own, **files)
        else:
            catalog = load_catalog(name, **files)
    except HarvesterError:
        raise
    except Exception as error:
        if named is None:
            raise LakeBroken(f"the catalog {layout.CATALOG} can't be used: {_in_a_line(error)}") from error
        raise UsageError(
            f"the Iceberg catalog {name} can't be used: {_in_a_line(error)}. It is looked for in pyiceberg's settings: "
            f"~/.pyiceberg.yaml, or PYICEBERG_CATALOG__{name.upper()}__URI and the like"
        ) from error
    return catalog, namespace


class IcebergLog:
    """The log of one dataset's Iceberg table; see ``TableLog``."""

    def __init__(
        self,
        store: Store,
        dataset: Dataset,
        catalog: Catalog,
        namespace: str,
        by: Callable[[], PartitionBy],
        *,
        own: bool = True,
        option: str = "",
    ) -> None:
        """With ``own``, the catalog is the lake's: what it lacks it has lost. Others: see ``choosing.logs_of``."""
        self._by = by
        self._option = option
        self._own = own
        self._dataset = dataset
        self._catalog = catalog
        self._namespace = namespace
        self._identifier = f"{namespace}.{dataset.name}"
        self._store = store
        self._root = url_of(store.root)
        self._table: Table | None = None
        # Text has no statistics, on purpose; pyiceberg warns of it for each column of each file.
        logging.getLogger("pyiceberg.io.pyarrow").setLevel(logging.ERROR)

    def look(self) -> TableState:
        """What the table holds now. Raises LakeError. Blocking."""
        with self._translated("read"):
            try:
                self._table = self._catalog.load_table(self._identifier)
            except NoSuchTableError:
                self._table = self._registered()
                if self._table is None:
                    return TableState(0, frozenset())
            except Exception:  # of a lake that was moved, whatever fails is for that: which says what to do
                self._refuse_moved()
                raise
            self._refuse_another(self._table)
            snapshot = self._table.current_snapshot()
            files = {self._name(file.file_path) for file in self._files()}
            sealing = 0
            while snapshot is not None and not sealing:  # others may have committed since, to rewrite manifests perhaps
                summary = snapshot.summary
                sealing = int(summary[SEALING] or 0) if summary is not None and SEALING in summary else 0
                parent = snapshot.parent_snapshot_id
                snapshot = self._table.snapshot_by_id(parent) if parent is not None else None
            return TableState(sealing, files)

    def commit(self, sealing: int, added: Sequence[TableFile], removed: Sequence[str]) -> None:
        """Commits one transaction: see ``TableLog.commit``. Blocking."""
        with self._translated("write"):
            table = self._table = self._table or self._create()
            gone = set(removed)
            old = [file for file in self._files() if self._name(file.file_path) in gone] if gone else []
            if len(old) < len(gone):
                raise Overtaken(f"{len(gone) - len(old)} files to be removed are not in the table")
            try:
                with table.transaction() as transaction:
                    update = transaction.update_snapshot(snapshot_properties={SEALING: str(sealing)})
                    with _one_at_a_time(update.overwrite()) if old else update.merge_append() as snapshot:
                        for file in added:
                            snapshot.append_data_file(self._data_file(table, file))
                        for entry in old:
                            snapshot.delete_data_file(entry)
            except CommitFailedException as error:
                raise Overtaken(str(error)) from error

    def _create(self) -> Table:
        """Makes the table, empty; a crash right after that leaves it so, and the next sealing is its first."""
        properties = {
            TableProperties.WRITE_METADATA_PATH: f"{self._root}/{self._dataset.name}/{FOLDER}",
            TableProperties.MANIFEST_MERGE_ENABLED: "true",
            # What was committed meanwhile is to be looked at first.
            TableProperties.COMMIT_NUM_RETRIES: "0",
            # Each commit writes all that is known of snapshots again; older such files say nothing more.
            TableProperties.METADATA_DELETE_AFTER_COMMIT_ENABLED: "true",
            TableProperties.DEFAULT_WRITE_METRICS_MODE: "none",
        }
        for column in self._dataset.columns:
            if column.kind is not Kind.TEXT:
                properties[f"{TableProperties.METRICS_MODE_COLUMN_CONF_PREFIX}.{column.name}"] = "full"
        types = {Kind.DATE: TimestampType()}
        fields = [
            NestedField(
                number, column.name, LongType() if column.kind is Kind.ID else types.get(column.kind, StringType())
            )
            for number, column in enumerate(self._dataset.columns, start=1)
        ]
        schema = Schema(*fields, NestedField(len(fields) + 1, EXTRA, StringType()))
        # Data files have no ids of columns: readers find these by their names.
        properties[TableProperties.DEFAULT_NAME_MAPPING] = schema.name_mapping.model_dump_json()
        self._catalog.create_namespace_if_not_exists(self._namespace)
        try:
            return self._catalog.create_table(
                self._identifier,
                schema=schema,
                location=f"{self._root}/{self._dataset.name}",
                partition_spec=self._spec(schema),
                properties=properties,
            )
        except TableAlreadyExistsError as error:
            raise Overtaken(str(error)) from error

    def _spec(self, schema: Schema) -> PartitionSpec:
        by = self._by()
        column = _SEND if by is PartitionBy.SEND else column_of(by, self._dataset)
        if column is None:
            return UNPARTITIONED_PARTITION_SPEC
        transform, ending = _TRANSFORMS.get(by, (IdentityTransform(), ""))
        return PartitionSpec(PartitionField(schema.find_field(column).field_id, 1000, transform, f"{column}{ending}"))

    def _registered(self) -> Table | None:
        """The table, as its newest metadata say, where the lake's own catalog was lost; None where there is none."""
        newest = newest_metadata(self._store, self._dataset.name) if self._own else None
        if newest is None:
            return None
        self._refuse_moved()
        self._catalog.create_namespace_if_not_exists(self._namespace)
        return self._catalog.register_table(self._identifier, f"{self._root}/{newest}")

    def _refuse_moved(self) -> None:
        there = made_elsewhere(self._store, self._dataset.name) if self._own else None
        if there is not None:
            raise TablesMoved(self._store, there, f"{self._root}/{self._dataset.name}", self._option)

    def _refuse_another(self, table: Table) -> None:
        here, there = f"{self._root}/{self._dataset.name}", table.location().rstrip("/")
        if there == here:
            return
        if self._own:
            raise TablesMoved(self._store, there, here, self._option)
        raise LakeError(
            f"the Iceberg table {self._identifier} of the catalog {self._catalog.name} is that of another lake: "
            f"{there}, not {here}. For a lake that gets its tables now, say --catalog NAME.NAMESPACE with a namespace "
            "of its own. If this lake was moved, put it back; or drop its tables from the catalog, without purging "
            "their files: the next run makes them anew"
        )

    def _files(self) -> Iterator[DataFile]:
        """The data files of the current snapshot."""
        assert self._table is not None
        return data_files(self._table.current_snapshot(), self._table.io)

    def _name(self, path: str) -> str:
        """A data file's name in the lake; its path as it is, if it is not in the lake."""
        return path.removeprefix(f"{self._root}/")

    def _data_file(self, table: Table, file: TableFile) -> DataFile:
        statistics = data_file_statistics_from_parquet_metadata(
            parquet_metadata=file.metadata,
            stats_columns=compute_statistics_plan(table.schema(), table.properties),
            parquet_column_mapping=parquet_path_to_id_mapping(table.schema()),
        )
        made = DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=f"{self._root}/{file.name}",
            file_format=FileFormat.PARQUET,
            partition=statistics.partition(table.spec(), table.schema()),
            file_size_in_bytes=file.bytes,
            sort_order_id=None,
            spec_id=table.spec().spec_id,
            equality_ids=None,
            key_metadata=None,
            **statistics.to_serialized_dict(),
        )
        made.spec_id = table.spec().spec_id
        return made

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (HarvesterError, Overtaken):
            raise
        except Exception as error:
            reason = _in_a_line(error)
            if doing == "read":
                raise LakeBroken(f"the Iceberg table {self._identifier} can't be read: {reason}") from error
            raise LakeError(
                f"could not write the Iceberg table {self._identifier}: {reason}. The data files are in the lake; the "
                "next run has the table follow"
            ) from error


def _one_at_a_time(update: _OverwriteFiles) -> _OverwriteFiles:
    """An update whose threads don't share what looks at manifests.

    pyiceberg 0.12 passes over the manifests that can't hold what is to be removed, in several threads, which share one
    visitor, and that holds the manifest it is at: one thread may judge by another's, and a file is then said to be
    "missing". Here each manifest gets a visitor of its own.
    """
    build = update._build_manifest_evaluator  # noqa: SLF001 -- nothing that is public stands between the two

    def build_each(spec: int) -> Callable[[ManifestFile], bool]:
        def evaluate(manifest: ManifestFile) -> bool:
            return build(spec)(manifest)

        return evaluate

    update._build_manifest_evaluator = build_each  # type: ignore[method-assign, assignment]  # noqa: SLF001
    return update


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


__all__ = ["FOLDER", "NAMESPACE", "SEALING", "IcebergLog", "open_catalog"]
