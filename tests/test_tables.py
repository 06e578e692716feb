"""Lakes with tables: Delta Lake's and Iceberg's logs hold what the ledger says, a transaction a sealing."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable
from pyiceberg.catalog import load_catalog
from pyiceberg.expressions import visitors
from pyiceberg.expressions.visitors import visit
from pyiceberg.utils.config import Config

from harvester.config import PartitionBy, TableChoice, TableFormat
from harvester.console.cli import command_line
from harvester.console.exits import Exit
from harvester.datasets import DEFAULT
from harvester.errors import LakeBroken, LakeError, UsageError
from harvester.harvest.upkeep import Compacted, Finding, Kind, Recovered, compact, make_tables, recover, verifying
from harvester.lake.formats.choosing import logs_of
from harvester.lake.formats.tablefiles import Overtaken
from harvester.lake.lake import open_lake
from harvester.lake.partitioned.sharedfiles import Change
from harvester.lake.partitioned.sharing import Sharing
from harvester.lake.storage.store import Store
from harvester.simulator.spec import AccountSpec, listed
from tests.harvesting import field
from tests.rest_catalog import rest_catalog
from tests.tables import (
    DELTA,
    ICEBERG,
    KINDS,
    SENT,
    SPEC,
    TUNING,
    assert_exact,
    both,
    by_send,
    files,
    iceberg,
    rows,
    sealings,
)
from tests.test_readme import blocks
from tests.thorough import STRIDE, some

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("table", "by"), KINDS if STRIDE == 1 else KINDS[:2], ids=str)
async def test_tables_hold_the_truth_through_a_refresh_a_merging_of_files_and_the_loss_of_the_ledger(
    tmp_path: Path, table: TableChoice, by: PartitionBy, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = counted_changes(monkeypatch)
    small = replace(TUNING, target_bytes=10_000)
    settings: dict[str, Any] = {"tuning": small, "limit": 100, "partition_by": by}
    async with field(tmp_path, SPEC, **settings) as account:

        def exact() -> None:
            assert_exact(table, account.server.account, tmp_path, by=by)

        for id_send in (601, 602, 603, 604):
            assert (await account.run([id_send], table=table if id_send == 601 else None)).complete
        exact()
        before = {name: sealings(table, tmp_path, name) for name in DEFAULT}
        old = files(table, tmp_path, "messages")
        if by is not PartitionBy.SEND:
            assert changes == {name: len(numbers) for name, numbers in before.items()}
        account.server.account.settled = True
        large = replace(TUNING, target_bytes=2**27)
        assert (await account.run(tuning=large)).complete
        exact()
        statuses = rows(table, tmp_path, "messages", by).column("message_status").to_pylist()
        assert "wait" not in statuses
        assert len(statuses) == len(set(rows(table, tmp_path, "messages", by).column("id_send_message").to_pylist()))
        assert sealings(table, tmp_path, "messages") == [*before["messages"], len(before["messages"]) + 1]
        assert all((tmp_path / name).exists() for name in old)
        assert (await account.run()).complete
        assert len(sealings(table, tmp_path, "messages")) == len(before["messages"]) + 1

        before = {name: sealings(table, tmp_path, name) for name in DEFAULT}
        scattered = files(table, tmp_path, "messages")
        compact(tmp_path, large, Compacted())
        exact()
        now = files(table, tmp_path, "messages")
        assert len(now) == len({Path(name).parent for name in now}) < len(scattered)
        assert sealings(table, tmp_path, "messages") == [*before["messages"], len(before["messages"]) + 1]
        assert found(tmp_path) == []

        shutil.rmtree(tmp_path / "_harvest")  # with the catalog of Iceberg tables
        done = Recovered()
        recover(tmp_path, done)
        said = "it covers keys that" if by is PartitionBy.SEND else "it was replaced: later files hold its rows"
        assert [file.why for file in done.aside if said not in file.why] == []
        assert {file.name for file in done.aside} >= set(old)
        assert files(table, tmp_path, "messages") == now
        assert (await account.run()).complete
        exact()
        assert found(tmp_path) == []


async def test_threads_that_look_for_what_is_to_be_removed_share_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What pyiceberg passes manifests over by holds the manifest it is at, so that each needs one of its own."""
    looking = list[Any]()

    def visiting(expression: Any, visitor: Any) -> Any:
        if isinstance(visitor, visitors._ManifestEvalVisitor):
            looking.append(visitor)
        return visit(expression, visitor)

    monkeypatch.setattr(visitors, "visit", visiting)
    async with field(tmp_path, replace(SPEC, sends=listed({601: 20, 602: 20, 603: 20}))) as account:
        for id_send in (601, 602, 603):
            assert (await account.run([id_send], table=ICEBERG)).complete
        assert looking == []
        account.server.account.settled = True
        assert (await account.run([602])).complete
        assert len(looking) >= 6  # three manifests are looked at for what is to be removed, and again for what is not
        assert len(set(map(id, looking))) == len(looking)
        assert (await account.run()).complete
        assert_exact(ICEBERG, account.server.account, tmp_path, by=PartitionBy.SEND)


def counted_changes(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many changes of shared files are made from now on, by dataset."""
    counted = Counter[str]()
    commit = Sharing.commit

    def count(self: Sharing, change: Change) -> None:
        counted[change.dataset] += 1
        commit(self, change)

    monkeypatch.setattr(Sharing, "commit", count)
    return counted


@pytest.mark.parametrize("by", [PartitionBy.CAMPAIGN, PartitionBy.DAY], ids=str)
async def test_a_partitioned_lake_that_is_there_gets_tables_that_are_partitioned_alike(
    tmp_path: Path, by: PartitionBy
) -> None:
    spec = AccountSpec(sends=listed({601: 30, 602: 12}), failed=0.3, first_date=SENT, days_between=1.0)
    names = ("messages", "bounces", "raw_bounces")
    lakes = {DELTA: tmp_path / "delta", ICEBERG: tmp_path / "iceberg"}
    async with field(lakes[DELTA], spec, tuning=TUNING, partition_by=by, datasets=names) as account:
        assert (await account.run()).complete
        shutil.copytree(lakes[DELTA], lakes[ICEBERG])
        for table, lake in lakes.items():
            assert make_tables(lake, table).sealings == dict.fromkeys(names, 1)
            assert_exact(table, account.server.account, lake, names, by)
            assert found(lake) == []
    specs = {name: [one.name for one in iceberg(lakes[ICEBERG], name).spec().fields] for name in names}
    if by is PartitionBy.DAY:
        assert specs == {"messages": ["message_date_day"], "bounces": ["date_day"], "raw_bounces": []}
    else:
        assert specs == {"messages": ["id_message"], "bounces": [], "raw_bounces": ["id_message"]}
    assert {name: DeltaTable(str(lakes[DELTA] / name)).metadata().partition_columns for name in names} == (
        {name: [by.value] for name in names}
    )


async def test_other_engines_read_the_tables_of_a_partitioned_lake(tmp_path: Path) -> None:
    by, lakes = PartitionBy.MONTH, {DELTA: tmp_path / "delta", ICEBERG: tmp_path / "iceberg"}
    spec = AccountSpec(sends=listed({601: 30, 602: 12}), first_date=SENT - timedelta(days=1), days_between=1.0)
    async with field(lakes[DELTA], spec, tuning=TUNING, partition_by=by, datasets=("messages",)) as account:
        assert (await account.run()).complete
    shutil.copytree(lakes[DELTA], lakes[ICEBERG])
    for table, lake in lakes.items():
        make_tables(lake, table)
    true = Counter(
        str(date)[:7] for date in rows(ICEBERG, lakes[ICEBERG], "messages").column("message_date").to_pylist()
    )
    assert len(true) == 2
    delta = pl.scan_delta(str(lakes[DELTA] / "messages")).group_by("month").len().collect()
    assert dict(delta.rows()) == true
    with duckdb.connect() as engine:
        engine.register("messages", DeltaTable(str(lakes[DELTA] / "messages")).to_pyarrow_dataset())
        query = "SELECT month, count(*) FROM messages WHERE id_send > 0 GROUP BY ALL"
        assert dict(engine.execute(query).fetchall()) == true
    held = iceberg(lakes[ICEBERG], "messages")
    assert pl.scan_iceberg(held, reader_override="pyiceberg").select(pl.len()).collect().item() == 42
    one = held.scan(row_filter="message_date >= '2026-11-01T00:00:00'")
    assert one.to_arrow().num_rows == true["2026-11"]
    assert len(list(one.plan_files())) == len(files(ICEBERG, lakes[ICEBERG], "messages")) - 1


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


def test_the_option_that_is_to_be_left_out_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_lake(tmp_path, TUNING, table=ICEBERG):
        pass

    def told(*words: str) -> tuple[int, str]:
        status = command_line(["table", str(tmp_path), *words])
        said = capsys.readouterr()
        return status, said.out + said.err

    status, text = told("--format", "iceberg", "--catalog", "nope")
    assert status == Exit.USAGE
    assert "is one of the lake's own, _harvest/catalog.sqlite, not nope" in text
    assert "leave --catalog out" in text
    status, text = told("--catalog", "nope")
    assert status == Exit.USAGE
    assert "--catalog goes with --format iceberg. Of a lake that has tables already, leave both out" in text
    status, text = told("--format", "delta", "--catalog", "nope")
    assert (status, "not delta: leave it out" in text) == (Exit.USAGE, True)
    status, text = told()
    assert status == Exit.COMPLETE
    assert "There are no data files yet" in text
    assert "Read the tables" not in text


@pytest.mark.parametrize("how", some(["moved", "by month, without its ledger", "copied", "without its ledger"], 2))
async def test_iceberg_tables_of_a_lake_that_was_moved_are_made_anew_by_recovering(
    tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    by = PartitionBy.MONTH if how.startswith("by month") else PartitionBy.SEND
    settings: dict[str, Any] = {"tuning": TUNING, "limit": 100, "partition_by": by}
    async with field(there, SPEC, table=ICEBERG, **settings) as account:
        assert (await account.run()).complete
        account.server.account.settled = True
        assert (await account.run()).complete  # so that some files are there for earlier states alone
        held = {name: files(ICEBERG, there, name) for name in DEFAULT}
        if how == "copied":
            shutil.copytree(there, here)
        else:
            there.rename(here)
        if how.endswith("without its ledger"):
            shutil.rmtree(here / "_harvest")
        else:
            for command in (["table", str(here)], ["compact", str(here)]):
                assert command_line(command) == Exit.LAKE
                assert f"harvester recover {here}" in capsys.readouterr().err
            assert [(one.kind, f"harvester recover {here}" in one.remedy) for one in found(here)] == [
                (Kind.TABLE, True)
            ]
        assert command_line(["recover", str(here)]) == Exit.COMPLETE
        assert "its Iceberg tables were made anew" in " ".join(capsys.readouterr().out.split())
        assert {name: files(ICEBERG, here, name) for name in DEFAULT} == held
        assert_exact(ICEBERG, account.server.account, here, by=by)
        assert found(here) == []
        assert list((here / "_harvest" / "set-aside").rglob("*.metadata.json.aside"))
        assert command_line(["recover", str(here)]) == Exit.COMPLETE
        assert "nothing was changed" in capsys.readouterr().out
    if how == "copied":
        assert found(there) == []


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


def test_a_package_that_is_not_there_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for table, ours, theirs in ((DELTA, "deltalog", "deltalake"), (ICEBERG, "iceberglog", "pyiceberg.catalog")):
        monkeypatch.delitem(sys.modules, f"harvester.lake.formats.{ours}", raising=False)
        monkeypatch.setitem(sys.modules, theirs, None)
        with pytest.raises(UsageError, match=rf"pip install 'mailkit-harvester\[{table}\]'"):
            logs_of(Store(tmp_path), table, by_send)


async def test_a_rest_catalog_is_found_by_its_name_in_the_settings_and_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, other = tmp_path / "lake", tmp_path / "other"
    spec = AccountSpec(sends=listed({602: 12}))
    async with field(lake, spec, tuning=TUNING, limit=100, datasets=("messages",)) as account:
        assert (await account.run()).complete
    shutil.copytree(lake, other)
    with rest_catalog(tmp_path / "shared.sqlite") as uri:
        monkeypatch.setenv("PYICEBERG_CATALOG__SHARED__TYPE", "rest")
        monkeypatch.setenv("PYICEBERG_CATALOG__SHARED__URI", uri)
        monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG", Config())  # which is read once, when it is imported
        made = make_tables(lake, TableChoice(TableFormat.ICEBERG, "shared.mine"))
        assert made.files == {"messages": 1}
        table = load_catalog("shared", type="rest", uri=uri).load_table("mine.messages")
        assert table.scan().to_arrow().num_rows == 12
        assert make_tables(lake, None) == made
        with pytest.raises(LakeError, match=r"that of another lake: .*/lake/messages, not .*/other/messages"):
            make_tables(other, TableChoice(TableFormat.ICEBERG, "shared.mine"))
        assert make_tables(other, TableChoice(TableFormat.ICEBERG, "shared.theirs")).files == made.files
    assert not (lake / "_harvest" / "catalog.sqlite").exists()
    monkeypatch.delenv("PYICEBERG_CATALOG__SHARED__URI")
    monkeypatch.delenv("PYICEBERG_CATALOG__SHARED__TYPE")
    monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG", Config())
    with pytest.raises(UsageError, match="PYICEBERG_CATALOG__SHARED__URI"):
        make_tables(lake, None)


async def test_many_tiny_sends_share_a_sealing(tmp_path: Path) -> None:
    spec = AccountSpec(sends=listed(dict.fromkeys(range(601, 611), 3)))
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
