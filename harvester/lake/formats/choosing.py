"""Which tables a lake has: chosen once, remembered by its ledger, and followed by every run from then on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harvester.config import TableChoice, TableFormat
from harvester.datasets import CATALOGUE
from harvester.errors import UsageError
from harvester.lake import layout
from harvester.lake.formats.following import NoTables, Tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from harvester.config import PartitionBy
    from harvester.lake.formats.tablefiles import TableLog
    from harvester.lake.inventory import Inventory
    from harvester.lake.runs import Runs
    from harvester.lake.storage.store import Store


def open_tables(
    store: Store, runs: Runs, inventory: Inventory, wanted: TableChoice | None, full_bytes: int
) -> NoTables:
    """The tables of a lake that this process alone writes to, brought to what its ledger says. Blocking.

    Args:
        store: its files.
        runs: knows whether the lake has tables.
        inventory: knows the data files.
        wanted: which tables it is to have; None for those that it has, if any.
        full_bytes: at this size a sealing is committed.

    Raises:
        UsageError: it has other tables, or a package is missing.
        LakeError: they can't be read or written.
    """
    chosen = choose(runs, wanted)
    if chosen is None:
        return NoTables()
    tables = Tables(store, inventory, logs_of(store, chosen, runs.partition_by, runs.database.option), full_bytes)
    if runs.table() is None:
        for log in tables.logs.values():
            log.look()  # what can't be used is not to be remembered
        runs.begin_table(chosen)  # first: files that are replaced get other names from now on
    tables.catch_up()
    return tables


def choose(runs: Runs, wanted: TableChoice | None) -> TableChoice | None:
    """The tables that a lake has, or is to have. Raises UsageError if those are not the same."""
    known = runs.table()
    if known is None or wanted is None:
        return wanted or known
    if wanted.format is not known.format:
        raise UsageError(
            f"this lake's tables are {known}, not {wanted}: a lake has tables of one format. Leave the format out, and "
            "they are kept in step; or use another folder"
        )
    if wanted.catalog not in {known.catalog, None}:
        theirs = known.catalog or f"one of the lake's own, {layout.CATALOG}"
        raise UsageError(
            f"the catalog of this lake's Iceberg tables is {theirs}, not {wanted.catalog}, and stays it: leave "
            "--catalog out, and they are kept in step; or use another folder"
        )
    return known


def logs_of(store: Store, chosen: TableChoice, by: Callable[[], PartitionBy], option: str = "") -> dict[str, TableLog]:
    """Of each dataset, the log of its table, whether there is one yet or not.

    Args:
        store: the lake's files.
        chosen: which tables it has.
        by: tells what it is partitioned by, once there is anything in it.
        option: how commands have to be told where its ledger is, if that is not beside its data.

    Raises:
        UsageError: a package is missing, or a catalog.
        LakeError: they can't be reached.
    """
    try:
        if chosen.format is TableFormat.DELTA:
            from harvester.lake.formats.deltalog import DeltaLog  # noqa: PLC0415  an extra: only lakes with tables need it

            return {name: DeltaLog(store.root, dataset, by) for name, dataset in CATALOGUE.items()}
        from harvester.lake.formats.iceberglog import IcebergLog, open_catalog  # noqa: PLC0415

        catalog, namespace = open_catalog(store, chosen.catalog)
        own = chosen.catalog is None
        return {
            name: IcebergLog(store, dataset, catalog, namespace, by, own=own, option=option)
            for name, dataset in CATALOGUE.items()
        }
    except ImportError as error:
        extra = chosen.format.value
        raise UsageError(
            f"tables in the format {extra} need a package that is not installed ({error.name}): "
            f"pip install 'mailkit-harvester[{extra}]'"
        ) from error


def found_in(store: Store) -> TableChoice | None:
    """The tables that a lake without a ledger seems to have had, by the folders of its datasets; None if none."""
    folders = {name for dataset in CATALOGUE for name, is_folder in store.entries(dataset) if is_folder}
    for format_, folder in zip(TableFormat, layout.OF_TABLES, strict=True):
        if folder in folders:
            return TableChoice(format_)
    return None


__all__ = ["choose", "found_in", "logs_of", "open_tables"]
