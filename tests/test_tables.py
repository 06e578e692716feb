"""Lakes with tables: Delta Lake's and Iceberg's logs hold what the ledger says, a transaction a sealing."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
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
from harvester.datasets import CATALOGUE, DEFAULT
from harvester.errors import LakeBroken, UsageError
from harvester.harvest.upkeep import Finding, Kind, Recovered, make_tables, recover, verifying
from harvester.lake.choosing import logs_of
from harvester.lake.store import Store
from harvester.lake.tablefiles import Overtaken
from harvester.simulator.account import Account
from harvester.simulator.spec import AccountSpec, listed
from harvester.simulator.truth import digest, expected
from tests.harvesting import QUICK, field
from tests.rest_catalog import rest_catalog
from tests.test_readme import blocks

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


def by_send() -> PartitionBy:
    return PartitionBy.SEND


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
    return [int(str(snapshot.summary["harvester.sealing"])) for snapshot in found if snapshot.summary is not None]


def assert_exact(table: TableChoice, account: Account, lake: Path, datasets: Iterable[str] = DEFAULT) -> None:
    """Tables hold exactly what the account sends: each row once, each value right; and their sealings are in order."""
    for dataset in (CATALOGUE[name] for name in datasets):
        held = rows(table, lake, dataset.name)
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


async def test_a_lake_that_is_there_gets_tables_and_other_ones_are_refused(tmp_path: Path) -> None:
    async with field(tmp_path, SPEC, tuning=TUNING, limit=100) as account:
        assert (await account.run()).complete
        with pytest.raises(UsageError, match="no tables yet"):
            make_tables(tmp_path, None)
        made = make_tables(tmp_path, DELTA)
        assert made.sealings == dict.fromkeys(DEFAULT, 1)
        assert make_tables(tmp_path, None) == made
        assert_exact(DELTA, account.server.account, tmp_path)
        with pytest.raises(UsageError, match="tables are delta, not iceberg"):
            await account.run(table=ICEBERG)
        with pytest.raises(LakeBroken, match="is not a lake"):
            make_tables(tmp_path / "nowhere", DELTA)


@both
async def test_what_a_table_lacks_or_has_too_much_is_found_and_put_right(tmp_path: Path, table: TableChoice) -> None:
    async with field(tmp_path, SPEC, tuning=TUNING, limit=100, table=table, datasets=("messages",)) as account:
        assert (await account.run()).complete
        held = files(table, tmp_path, "messages")
        with closing(sqlite3.connect(tmp_path / "_harvest" / "ledger.sqlite")) as ledger, ledger:
            ledger.execute("UPDATE data_files SET sealed = 0 WHERE name = ?", (held[0],))
        assert [finding.kind for finding in found(tmp_path) if finding.kind is Kind.TABLE] == [Kind.TABLE]
        with closing(sqlite3.connect(tmp_path / "_harvest" / "ledger.sqlite")) as ledger, ledger:
            ledger.execute("UPDATE data_files SET sealed = 1")
        assert found(tmp_path) == []
        log = logs_of(Store(tmp_path), table, by_send)["messages"]
        log.commit(log.look().sealing + 1, [], [held[0]])
        told = found(tmp_path)
        assert [finding.kind for finding in told] == [Kind.TABLE]
        assert held[0] in told[0].what
        make_tables(tmp_path, None)
        assert found(tmp_path) == []
        assert_exact(table, account.server.account, tmp_path, ["messages"])


@both
async def test_a_ledger_that_is_lost_is_made_anew_of_the_files_that_the_tables_hold(
    tmp_path: Path, table: TableChoice
) -> None:
    async with field(tmp_path, SPEC, tuning=TUNING, limit=100, table=table) as account:
        assert (await account.run()).complete
        account.server.account.settled = True
        assert (await account.run()).complete
        held = files(table, tmp_path, "messages")
        shutil.rmtree(tmp_path / "_harvest")  # with the catalog of Iceberg tables
        recover(tmp_path, Recovered())
        assert files(table, tmp_path, "messages") == held
        assert (await account.run(table=None)).complete
        assert_exact(table, account.server.account, tmp_path)
        assert found(tmp_path) == []


def test_a_package_that_is_not_there_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for table, ours, theirs in ((DELTA, "deltalog", "deltalake"), (ICEBERG, "iceberglog", "pyiceberg.catalog")):
        monkeypatch.delitem(sys.modules, f"harvester.lake.{ours}", raising=False)
        monkeypatch.setitem(sys.modules, theirs, None)
        with pytest.raises(UsageError, match=rf"pip install 'mailkit-harvester\[{table}\]'"):
            logs_of(Store(tmp_path), table, by_send)


async def test_a_rest_catalog_is_found_by_its_name_in_the_settings_and_remembered(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    async with field(lake, SPEC, tuning=TUNING, limit=100, datasets=("messages",)) as account:
        assert (await account.run()).complete
    with rest_catalog(tmp_path / "shared.sqlite") as uri:
        settings = {"PYICEBERG_CATALOG__SHARED__TYPE": "rest", "PYICEBERG_CATALOG__SHARED__URI": uri}
        done = make_by_command(lake, settings, "--format", "iceberg", "--catalog", "shared.mine")
        assert done.returncode == 0, done.stderr
        table = load_catalog("shared", type="rest", uri=uri).load_table("mine.messages")
        assert table.scan().to_arrow().num_rows == 352
    assert not (lake / "_harvest" / "catalog.sqlite").exists()
    done = make_by_command(lake, {})
    assert done.returncode == 2
    assert "PYICEBERG_CATALOG__SHARED__URI" in done.stderr


def make_by_command(lake: Path, settings: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harvester", "table", str(lake), *options]
    return subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)


async def test_many_tiny_sends_share_a_sealing(tmp_path: Path) -> None:
    spec = AccountSpec(sends=listed(dict.fromkeys(range(601, 661), 3)))
    async with field(tmp_path, spec, table=DELTA, datasets=("messages",)) as account:
        assert (await account.run()).complete
        assert_exact(DELTA, account.server.account, tmp_path, ["messages"])
    assert sealings(DELTA, tmp_path, "messages") == [1]


async def test_an_application_transaction_is_taken_once(tmp_path: Path) -> None:
    async with field(tmp_path, SPEC, tuning=TUNING, table=DELTA, datasets=("messages",)) as account:
        assert (await account.run()).complete
    one, other = (logs_of(Store(tmp_path), DELTA, by_send)["messages"] for _ in range(2))
    number = one.look().sealing + 1
    gone = files(DELTA, tmp_path, "messages")
    other.look()
    one.commit(number, [], [gone[0]])
    with pytest.raises(Overtaken):
        other.commit(number, [], [gone[1]])
    assert one.look().files == other.look().files == set(gone[1:])


@both
async def test_the_python_of_the_readme_runs(
    tmp_path: Path, table: TableChoice, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = AccountSpec(sends=listed({601181: 40, 601182: 5}))
    async with field(tmp_path / "lake", spec, table=table) as account:
        assert (await account.run()).complete
    monkeypatch.chdir(tmp_path)
    needed = "DeltaTable(" if table == DELTA else "load_table("
    (text,) = [text for text in blocks("python") if needed in text]
    names: dict[str, Any] = {}
    exec(compile(text, "README.md", "exec"), names)
    assert "40" in capsys.readouterr().out


def found(lake: Path) -> list[Finding]:
    with verifying(lake, quick=True) as seen:
        return list(seen.findings())
