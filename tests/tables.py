"""What tests of tables share: what a table holds, and its history, as its own library reads them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable
from pyiceberg.catalog import load_catalog
from pyiceberg.table import Table as IcebergTable

from harvester.config import PartitionBy, TableChoice, TableFormat
from harvester.datasets import CATALOGUE, DEFAULT, Dataset
from harvester.lake.partitioned.partitions import column_of
from harvester.simulator.account import Account
from harvester.simulator.spec import AccountSpec, listed
from harvester.simulator.truth import digest, expected
from tests.harvesting import QUICK

DELTA, ICEBERG = TableChoice(TableFormat.DELTA), TableChoice(TableFormat.ICEBERG)
SENT = datetime(2026, 11, 1, 9, 0, 0)  # noqa: DTZ001  the API's dates have no zone
SPEC = AccountSpec(
    sends=listed({601: 130, 602: 12, 603: 0, 604: 40}),
    failed=0.2,
    waiting=0.2,
    awkward=True,
    first_date=SENT,
    days_between=0.0,
)
TUNING = replace(QUICK, clock=lambda: SENT + timedelta(days=20), target_bytes=30_000)
both = pytest.mark.parametrize("table", [DELTA, ICEBERG], ids=str)


Kind = tuple[TableChoice, PartitionBy]
KINDS: list[Kind] = [
    (DELTA, PartitionBy.MONTH),
    (ICEBERG, PartitionBy.SEND),
    (DELTA, PartitionBy.SEND),
    (ICEBERG, PartitionBy.MONTH),
]
"""All are tried where there is time, as in ``make soak``; else two by one test, and two by another."""


def by_send() -> PartitionBy:
    return PartitionBy.SEND


def iceberg(lake: Path, dataset: str) -> IcebergTable:
    return load_catalog("harvester", type="sql", uri=f"sqlite:///{lake}/_harvest/catalog.sqlite").load_table(
        f"mailkit.{dataset}"
    )


def rows(table: TableChoice, lake: Path, dataset: str, by: PartitionBy = PartitionBy.SEND) -> pa.Table:
    """All rows of a table, as its own library reads it, without the partition column that only the folder has."""
    schema = CATALOGUE[dataset].schema
    if table == DELTA:
        held = DeltaTable(str(lake / dataset)).to_pyarrow_table()
        assert held.column(by.value).to_pylist() == partitions(held, CATALOGUE[dataset], by)
        return held.drop_columns(by.value).cast(schema)
    return iceberg(lake, dataset).scan().to_arrow().cast(schema)


def partitions(held: pa.Table, dataset: Dataset, by: PartitionBy) -> list[Any]:
    """Of each row, the value of the partition column that it should have."""
    if by is PartitionBy.SEND:
        return held.column("id_send").to_pylist()
    column = column_of(by, dataset)
    if column is None:
        return [None] * held.num_rows
    values = held.column(column).to_pylist()
    if by is PartitionBy.CAMPAIGN:
        return values
    return [None if value is None else str(value)[: 7 if by is PartitionBy.MONTH else 10] for value in values]


def files(table: TableChoice, lake: Path, dataset: str) -> list[str]:
    """The data files of a table, from the lake on."""
    if table == DELTA:
        found = [Path(uri.removeprefix("file://")) for uri in DeltaTable(str(lake / dataset)).file_uris()]
    else:
        tasks = iceberg(lake, dataset).scan().plan_files()
        found = [Path(task.file.file_path.removeprefix("file://")) for task in tasks]
    return sorted(str(path.relative_to(lake)) for path in found)


def sealings(table: TableChoice, lake: Path, dataset: str) -> list[int]:
    """The numbers of the transactions of a table, the oldest first."""
    if table == DELTA:
        return [int(commit["harvester.sealing"]) for commit in reversed(DeltaTable(str(lake / dataset)).history())]
    found = sorted(iceberg(lake, dataset).snapshots(), key=lambda snapshot: snapshot.sequence_number or 0)
    return [int(str(snapshot.summary["harvester.sealing"])) for snapshot in found if snapshot.summary is not None]


def assert_exact(
    table: TableChoice,
    account: Account,
    lake: Path,
    datasets: Iterable[str] = DEFAULT,
    by: PartitionBy = PartitionBy.SEND,
) -> None:
    """Tables hold exactly what the account sends: each row once, each value right; and their sealings are in order."""
    for dataset in (CATALOGUE[name] for name in datasets):
        held = rows(table, lake, dataset.name, by)
        sends = [expected(account, dataset, id_send) for id_send in account.spec.sends.ids]
        assert held.num_rows == sum(send.num_rows for send in sends)
        for id_send, true in zip(account.spec.sends.ids, sends, strict=True):
            of_send = held.filter(pc.equal(held.column("id_send"), pa.scalar(id_send))).sort_by(dataset.key)
            assert digest(dataset, [in_order(of_send)]) == digest(dataset, [in_order(true)]), (dataset.name, id_send)
        numbers = sealings(table, lake, dataset.name)
        assert numbers == list(range(1, len(numbers) + 1))


def in_order(held: pa.Table) -> pa.Table:
    """By all values: a message can bounce twice, and a table has no order."""
    rows_of = sorted(held.to_pylist(), key=repr)
    return pa.Table.from_pylist(rows_of, schema=held.schema)
