"""Partitioned lakes in an object store, with a ledger of one machine's and with a shared one: exact, and safe."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import count as from_on
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from anyio import to_thread
from sqlalchemy.engine import Connection

from harvester.config import PartitionBy, Refresh
from harvester.datasets import MESSAGES
from harvester.harvest.status import read_status
from harvester.harvest.upkeep import Compacted, Recovered, compact, recover
from harvester.lake import layout
from harvester.lake.entries import Progress
from harvester.lake.lake import Lake, open_lake
from harvester.lake.ledgers.postgres import PostgresDatabase
from harvester.lake.staging import Taken, Whole
from harvester.lake.storage.objects import Objects
from harvester.lake.upkeep.verify import verifying
from harvester.model import KeyRange, Proof, Secret, SliceKey
from harvester.places import ObjectLake
from harvester.simulator.spec import AccountSpec, listed
from tests.harvesting import QUICK, field
from tests.object_stores import BUCKET, environment_of, mirror
from tests.partitioned import assert_exact
from tests.test_lake import Crash, crash_at
from tests.test_partitions import NOW, SENDS, SENT, TRUTH, TUNING, assert_made_once, begin, keys, messages, taken
from tests.thorough import STRIDE

pytestmark = pytest.mark.anyio
ONE = (MESSAGES.name,)
BY_SEND = {f"send={id_send}": [100 * id_send + number for number in range(20)] for id_send in SENDS}


@pytest.fixture
def bucket(at_moto: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a bucket, without a proxy in front: there are many requests."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in environment_of("s3", at_moto).items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}"


def assert_sound(lake: ObjectLake, ledger: Secret | None) -> None:
    with verifying(lake, quick=False, ledger=ledger) as seen:
        assert list(seen.findings()) == []
        assert (seen.complete, seen.leftovers) == (True, 0)


async def test_the_nasty_account_by_month_is_exact_refreshed_compacted_and_recovered(
    bucket: str, tmp_path: Path, ledger: Secret | None
) -> None:
    lake, copy = ObjectLake(f"{bucket}/{tmp_path.name}", tmp_path / "state"), tmp_path / "copy"
    spec = AccountSpec(
        seed=11,
        sends=listed({601: 150, 602: 20, 603: 0}),
        gap=5,
        awkward=True,
        foul=True,
        failed=0.2,
        waiting=0.1,
        first_date=SENT - timedelta(days=2),
        days_between=1.0,
    )
    tuning = replace(QUICK, clock=lambda: NOW, target_bytes=200_000)
    given: dict[str, Any] = {"limit": 80, "datasets": ONE, "partition_by": PartitionBy.MONTH, "ledger": ledger}
    async with field(lake, spec, tuning=tuning, **given) as account:

        def exact() -> None:
            (mirror(lake, copy) / layout.WRITING).mkdir(parents=True, exist_ok=True)
            assert_exact(copy, account.server.account, ONE)
            assert_sound(lake, ledger)

        for id_send in spec.sends.ids:
            assert (await account.run([id_send])).complete
        await to_thread.run_sync(exact)
        account.server.account.settled = True
        assert (await account.run(refresh=Refresh.UNSETTLED)).complete
        done = Compacted()
        await to_thread.run_sync(compact, lake, tuning, done, lambda: None, ledger)
        assert 0 < done.files < done.files_before
        await to_thread.run_sync(exact)

        held = await to_thread.run_sync(read_status, lake, ledger)
        shutil.rmtree(lake.state)
        if ledger is not None:
            await to_thread.run_sync(_drop, ledger, json.loads((copy / layout.ELSEWHERE).read_text())["schema"])
        recovered = Recovered()
        await to_thread.run_sync(recover, lake, recovered, lambda: None, tuning, ledger)
        assert (recovered.rebuilt, recovered.aside) == (True, [])
        found = await to_thread.run_sync(read_status, lake, ledger)
        assert (found.rows, found.data_files) == (held.rows, held.data_files)
        assert (await account.run(refresh=Refresh.NEVER)).complete
        await to_thread.run_sync(exact)


def _drop(ledger: Secret, schema: str) -> None:
    with psycopg.connect(ledger, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {schema} CASCADE".encode())


# --- at every durable step


class _Commits:
    """Is told of every commit of a shared ledger, when it is done."""

    @staticmethod
    def done() -> None:
        pass


def stop_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """Ends the 'process' right after its n-th durable step, here or in the store, one at a time."""
    writing = PostgresDatabase.writing

    @contextmanager
    def told(self: PostgresDatabase) -> Iterator[Any]:
        with writing(self) as connection:
            yield connection
        _Commits.done()

    patch.setattr("harvester.lake.storage.objects.AT_ONCE", 1)
    patch.setattr(PostgresDatabase, "writing", told)
    in_store = [(Objects, name) for name in ("upload", "_copy", "remove", "write_first")]
    crash_at(step, patch, [*in_store, (_Commits, "done"), (os, "replace"), (Connection, "_commit_impl")])


def harvest(lake: Lake, by: PartitionBy) -> None:
    """A send of two pages, and one that comes whole; they wait. Goes on where a run before was stopped."""
    begin(lake, by)
    for first, count, proof in ((700, 10, None), (710, 10, Proof.COUNT), (800, 20, Proof.COUNT)):
        record = lake.ledger.find(SliceKey(MESSAGES.name, first // 100))
        assert record is not None
        held = record.key_range.held if record.key_range else None
        if held is None or held < first:
            page = taken(lake, first // 100, first, count, proof)
            lake.stage([replace(page, whole=Whole(record.key, 20)) if count == 20 else page])
        lake.seal(record.id, everything=True)


def refresh(lake: Lake, copy: Path) -> None:
    """Asks what waits again, and finds it sent."""
    for id_send in SENDS:
        record = lake.ledger.find(SliceKey(MESSAGES.name, id_send))
        assert record is not None
        last = 100 * id_send + 19
        if lake.plan_refresh(record).progress is None and _statuses(copy, id_send) != {"sent"}:
            brought = messages(id_send, 100 * id_send, 20)
            progress = Progress(KeyRange(cursor=last, held=last), in_full=True, brought=20, ended=True)
            lake.stage([Taken(record.id, MESSAGES, None, None, Proof.COUNT, 1, refreshed=brought, refresh=progress)])
        lake.seal(record.id, everything=True)


def _statuses(copy: Path, id_send: int) -> set[str]:
    read = [pq.ParquetFile(path).read(["id_send", "message_status"]) for path in copy.rglob("*.parquet")]
    return {row["message_status"] for row in pa.concat_tables(read).to_pylist() if row["id_send"] == id_send}


@pytest.mark.parametrize(
    ("by", "ledger", "some"),
    [
        (PartitionBy.MONTH, "sqlite", (40,)),
        (PartitionBy.MONTH, "postgresql", (30, 101)),
        (PartitionBy.SEND, "postgresql", (38,)),
    ],
    indirect=["ledger"],
)
@pytest.mark.timeout(3600 if STRIDE == 1 else 120)
def test_nothing_is_lost_or_doubled_wherever_it_stops(
    bucket: str, tmp_path: Path, ledger: Secret | None, by: PartitionBy, some: tuple[int, ...]
) -> None:
    """Harvesting, refreshing, compacting; where the ledger is shared, what was stopped goes on on another machine.

    It is stopped at some durable steps; at all of them in ``make soak-objects``, which has the time.
    """
    copy = tmp_path / "copy"

    def work(here: ObjectLake) -> None:
        with open_lake(here, TUNING, ledger=ledger) as opened:
            harvest(opened, by)
            mirror(here, copy)
            refresh(opened, copy)
        compact(here, TUNING, Compacted(), ledger=ledger)

    stopped = True
    for step in from_on(1) if STRIDE == 1 else some:
        stopped, url = True, f"{bucket}/{tmp_path.name}-{step}"
        with pytest.MonkeyPatch.context() as patch:
            stop_at(step, patch)
            try:
                work(ObjectLake(url, tmp_path / f"{step}-first"))
            except Crash:
                pass
            else:
                stopped = False
        last = ObjectLake(url, tmp_path / f"{step}-{'second' if ledger else 'first'}")
        work(last)
        mirror(last, copy)
        assert keys(copy) == (TRUTH if by is PartitionBy.MONTH else BY_SEND), f"after step {step}"
        assert {status for id_send in SENDS for status in _statuses(copy, id_send)} == {"sent"}, f"after step {step}"
        assert len(list(copy.rglob("*.parquet"))) == len(keys(copy)), f"after step {step}"
        assert_sound(last, ledger)
        if not stopped:
            break
    assert stopped == (STRIDE != 1)


@pytest.mark.parametrize("named", [0, 1])
def test_a_change_that_another_machine_takes_over_is_made_once(
    bucket: str, tmp_path: Path, shared_ledger: Secret, named: int
) -> None:
    lake = ObjectLake(f"{bucket}/{tmp_path.name}", tmp_path / "first")
    there = replace(lake, state=tmp_path / "second")
    assert_made_once(lake, there, shared_ledger, named, lambda: keys(mirror(lake, tmp_path / "copy")))
    assert_sound(lake, shared_ledger)
