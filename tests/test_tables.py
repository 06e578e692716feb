"""Lakes with tables: Delta Lake's and Iceberg's logs hold what the ledger says, a transaction a sealing."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyiceberg.catalog import load_catalog
from pyiceberg.table import Table as IcebergTable

from harvester.config import TableChoice, TableFormat
from harvester.datasets import CATALOGUE, DEFAULT
from harvester.simulator.account import Account
from harvester.simulator.spec import AccountSpec, listed
from harvester.simulator.truth import digest, expected
from tests.harvesting import QUICK, Field, field

pytestmark = pytest.mark.anyio

DELTA, ICEBERG = TableChoice(TableFormat.DELTA), TableChoice(TableFormat.ICEBERG)
SENT = datetime(2026, 11, 1, 9, 0, 0)  # noqa: DTZ001  the API's dates have no zone
SPEC = AccountSpec(
    sends=listed({601: 300, 602: 12, 603: 0, 604: 40}),
    failed=0.2,
    waiting=0.2,
    awkward=True,
    first_date=SENT,
    days_between=0.0,
)
TUNING = replace(QUICK, clock=lambda: SENT + timedelta(days=20), target_bytes=30_000)
both = pytest.mark.parametrize("table", [DELTA, ICEBERG], ids=str)


def iceberg(lake: Path, dataset: str) -> IcebergTable:
    return load_catalog("harvester", type="sql", uri=f"sqlite:///{lake}/_harvest/catalog.sqlite").load_table(
        f"mailkit.{dataset}"
    )


def rows(table: TableChoice, lake: Path, dataset: str) -> pa.Table:
    """All rows of a table, as its own library reads it, without the partition column that only the folder has."""
    if table == DELTA:
        held = DeltaTable(str(lake / dataset)).to_pyarrow_table()
        assert held.column("send").to_pylist() == held.column("id_send").to_pylist()
        return held.drop_columns("send").cast(CATALOGUE[dataset].schema)
    return iceberg(lake, dataset).scan().to_arrow().cast(CATALOGUE[dataset].schema)


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
    return [int(snapshot.summary["harvester.sealing"]) for snapshot in found if snapshot.summary is not None]


def assert_exact(table: TableChoice, account: Account, lake: Path, datasets: Iterable[str] = DEFAULT) -> None:
    """Tables hold exactly what the account sends: each row once, each value right; and their sealings are in order."""
    for dataset in (CATALOGUE[name] for name in datasets):
        held = rows(table, lake, dataset.name)
        sends = [expected(account, dataset, id_send) for id_send in account.spec.sends.ids]
        assert held.num_rows == sum(send.num_rows for send in sends)
        for id_send, true in zip(account.spec.sends.ids, sends, strict=True):
            of_send = held.filter(pa.compute.equal(held.column("id_send"), id_send)).sort_by(dataset.key)
            assert digest(dataset, [in_order(of_send)]) == digest(dataset, [in_order(true)]), (dataset.name, id_send)
        numbers = sealings(table, lake, dataset.name)
        assert numbers == list(range(1, len(numbers) + 1))


def in_order(held: pa.Table) -> pa.Table:
    """By all values: a message can bounce twice, and a table has no order."""
    rows_of = sorted(held.to_pylist(), key=repr)
    return pa.Table.from_pylist(rows_of, schema=held.schema)


@both
async def test_tables_hold_the_account_and_a_refresh_removes_and_adds_in_one_transaction(
    tmp_path: Path, table: TableChoice
) -> None:
    async with field(tmp_path, SPEC, tuning=TUNING, limit=100, table=table) as account:
        assert (await account.run()).complete
        assert_exact(table, account.server.account, tmp_path)
        before = sealings(table, tmp_path, "messages"), files(table, tmp_path, "messages")
        account.server.account.settled = True
        assert (await account.run(table=None, tuning=replace(TUNING, target_bytes=2**27))).complete
        assert_exact(table, account.server.account, tmp_path)
        waiting = rows(table, tmp_path, "messages").column("message_status").to_pylist().count("wait")
        assert waiting == 0
        now = sealings(table, tmp_path, "messages"), files(table, tmp_path, "messages")
        assert len(now[0]) == len(before[0]) + 1
        assert not set(now[1]) & {name for name in before[1] if "send=601" in name}
        assert all((tmp_path / name).exists() for name in before[1])
        assert (await account.run(table=None)).complete
        assert sealings(table, tmp_path, "messages") == now[0]
