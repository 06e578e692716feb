"""Tables of lakes in object stores: as in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import obstore
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable

from harvester.config import TableChoice
from harvester.datasets import MESSAGES
from harvester.errors import UsageError
from harvester.harvest.upkeep import Recovered, recover, verifying
from harvester.lake.formats.choosing import logs_of
from harvester.lake.storage.connecting import connect, options_of
from harvester.lake.storage.store import Store
from harvester.places import ObjectLake
from harvester.simulator.spec import listed
from harvester.simulator.truth import digest, expected
from tests.harvesting import field
from tests.object_stores import BUCKET, environment_of, moto
from tests.tables import DELTA, ICEBERG, SPEC, TUNING, both, by_send, in_order

SMALL = replace(SPEC, sends=listed({601: 40, 602: 12}))


@pytest.fixture(scope="module")
def at_moto() -> Iterator[str]:
    with moto() as url:
        yield url


@pytest.fixture
def lake(at_moto: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectLake:
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    for name, value in environment_of("s3", at_moto).items():
        monkeypatch.setenv(name, value)
    return ObjectLake(f"s3://{BUCKET}/{tmp_path.name}", tmp_path / "state")


def held(lake: ObjectLake, table: TableChoice) -> pa.Table:
    if table == DELTA:
        read = DeltaTable(f"{lake.url}/messages", storage_options=options_of(lake)).to_pyarrow_table()
        return read.drop_columns("send").cast(MESSAGES.schema)
    log = logs_of(Store(lake), ICEBERG, by_send)["messages"]
    assert log.look().sealing
    return log._table.scan().to_arrow().cast(MESSAGES.schema)  # type: ignore[attr-defined, no-any-return]


@pytest.mark.anyio
@both
async def test_tables_in_s3_hold_the_account_before_and_after_a_refresh(lake: ObjectLake, table: TableChoice) -> None:
    async with field(lake, SMALL, tuning=TUNING, limit=100, table=table, datasets=("messages",)) as account:
        for settled in (False, True):
            account.server.account.settled = settled
            assert (await account.run()).complete
            read = held(lake, table)
            for id_send in SMALL.sends.ids:
                of_send = read.filter(pc.equal(read.column("id_send"), pa.scalar(id_send)))
                true = expected(account.server.account, MESSAGES, id_send)
                assert digest(MESSAGES, [in_order(of_send)]) == digest(MESSAGES, [in_order(true)])
            with verifying(lake, quick=True) as seen:
                assert list(seen.findings()) == []


@pytest.mark.anyio
async def test_iceberg_tables_of_a_lake_that_was_copied_are_made_anew_by_recovering(
    lake: ObjectLake, tmp_path: Path
) -> None:
    async with field(lake, SMALL, tuning=TUNING, limit=100, table=ICEBERG, datasets=("messages",)) as account:
        assert (await account.run()).complete
    other = ObjectLake(f"{lake.url}-copy", tmp_path / "other")
    source, target = connect(lake, TUNING), connect(other, TUNING)
    for meta in (meta for batch in obstore.list(source) for meta in batch):
        obstore.put(target, meta["path"], obstore.get(source, meta["path"]).bytes())
    done = Recovered()
    recover(other, done)
    assert (done.rebuilt, done.moved, done.aside) == (True, True, [])
    assert held(other, ICEBERG).num_rows == held(lake, ICEBERG).num_rows == 52
    for one in (lake, other):
        with verifying(one, quick=True) as seen:
            assert list(seen.findings()) == []


def test_iceberg_tables_of_other_stores_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    with pytest.raises(UsageError, match="not in gs://"):
        logs_of(Store(ObjectLake("gs://bucket/lake", tmp_path)), ICEBERG, by_send)
