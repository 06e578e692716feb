"""One lake, five readers: the same rows and the same types, read as the README says.

Spark is large and needs a Java, so it is not among what `make test` installs: its tests are left out where it isn't
there, and say so. `make readers` installs it, and has them fail rather than be left out.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import anyio
import duckdb
import pandas as pd  # type: ignore[import-untyped]
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from harvester.datasets import CATALOGUE
from harvester.simulator.account import Account
from harvester.simulator.spec import AccountSpec, listed
from harvester.simulator.truth import expected
from tests.harvesting import field
from tests.test_readme import blocks

Rows = list[tuple[Any, ...]]
SPEC = AccountSpec(
    sends=listed({601181: 240, 601182: 30, 601183: 0}),
    failed=0.3,
    waiting=0.1,
    awkward=True,
    foul=True,
)
DATASETS = list(CATALOGUE)
SPARK_NEEDED = os.environ.get("READERS") == "all"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds ``lake``, with all datasets of the account."""
    home = tmp_path_factory.mktemp("readers")

    async def harvest() -> None:
        async with field(home / "lake", SPEC, datasets=tuple(DATASETS), limit=100) as account:
            assert (await account.run()).complete

    anyio.run(harvest)
    return home


@pytest.fixture(autouse=True)
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


def truth(name: str) -> tuple[dict[str, str], Rows]:
    """The columns of a dataset and their types, and what the account holds of it."""
    dataset, account = CATALOGUE[name], Account(SPEC)
    types = {field.name: str(field.type) for field in dataset.schema} | {"send": "int64"}
    tables = [expected(account, dataset, id_send) for id_send in SPEC.sends.ids]
    rows = [(*row.values(), row["id_send"]) for table in tables for row in table.to_pylist()]
    assert rows
    return types, in_order(rows)


def test_the_truth_holds_what_readers_may_stumble_over() -> None:
    types, rows = truth("messages")
    columns = dict(zip(types, zip(*rows, strict=True), strict=True))
    for name in ("_extra", "email_date", "id_email"):
        assert None in columns[name]
        assert set(columns[name]) != {None}
    assert min(columns["id_send_message"]) > 2**53
    assert "" in columns["custom_1"]
    assert any("\ufffd" in text for name, kind in types.items() if kind == "string" for text in columns[name] if text)


def in_order(rows: Rows) -> Rows:
    """By values: readers give rows in an order of their own, and a bounce may come twice."""
    return sorted(rows, key=repr)


_SAME = {"large_string": "string", "string_view": "string", "int32": "int64"}
"""Types of Arrow that hold the same."""


def read(table: pa.Table) -> tuple[dict[str, str], Rows]:
    """What a reader found, by names of types that all readers share."""
    types = {}
    for name, kind in zip(table.schema.names, table.schema.types, strict=True):
        value = kind.value_type if isinstance(kind, pa.DictionaryType) else kind  # of the partition, and nothing else
        assert name == "send" or value is kind
        assert name == "send" or str(kind) != "int32"
        types[name] = _SAME.get(str(value), str(value))
    return types, in_order([tuple(row.values()) for row in table.to_pylist()])


def by_pyarrow(name: str) -> pa.Table:
    by_send = ds.partitioning(pa.schema([("send", pa.int64())]), flavor="hive")
    return ds.dataset(f"lake/{name}", partitioning=by_send).to_table()


def by_pyarrow_alone(name: str) -> pa.Table:
    return ds.dataset(f"lake/{name}", partitioning="hive").to_table()


def by_duckdb(name: str) -> pa.Table:
    with duckdb.connect() as database:
        table: pa.Table = database.sql(f"SELECT * FROM read_parquet('lake/{name}/*/*.parquet')").to_arrow_table()
    return table


def by_polars(name: str) -> pa.Table:
    table: pa.Table = pl.scan_parquet(f"lake/{name}/", hive_partitioning=True).collect().to_arrow()
    return table


def by_pandas(name: str) -> pa.Table:
    frame = pd.read_parquet(f"lake/{name}", dtype_backend="pyarrow")
    table: pa.Table = pa.Table.from_pandas(frame, preserve_index=False)
    return table


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("reader", [by_pyarrow, by_pyarrow_alone, by_duckdb, by_polars, by_pandas])
def test_every_reader_finds_the_same_rows_and_types(reader: Callable[[str], pa.Table], name: str) -> None:
    assert read(reader(name)) == truth(name)


@pytest.mark.parametrize("name", DATASETS)
def test_a_pattern_finds_the_same_without_the_partition(name: str) -> None:
    types, rows = truth(name)
    found = read(pl.scan_parquet(f"lake/{name}/*/*.parquet").drop("send", strict=False).collect().to_arrow())
    assert found == ({one: kind for one, kind in types.items() if one != "send"}, in_order([row[:-1] for row in rows]))


def test_the_partition_leaves_files_unread(home: Path) -> None:
    """A file that can't be read harms nobody who asks for another send."""
    (home / "lake/messages/send=601999").mkdir()
    broken = home / "lake/messages/send=601999/part-1-2.parquet"
    broken.write_bytes(b"no Parquet")
    try:
        by_send = ds.partitioning(pa.schema([("send", pa.int64())]), flavor="hive")
        lake = ds.dataset("lake/messages", partitioning=by_send)
        assert lake.count_rows(filter=ds.field("send") == 601182) == 30
        with duckdb.connect() as database:
            counted = "SELECT count(*) FROM read_parquet('lake/messages/*/*.parquet') WHERE send = 601182"
            assert database.execute(counted).fetchall() == [(30,)]
    finally:
        broken.unlink()
        broken.parent.rmdir()


# --- Spark


def missing() -> str | None:
    """What Spark lacks here; None if it can run."""
    if importlib.util.find_spec("pyspark") is None:
        return "pyspark is not installed: make readers installs it"
    return None if shutil.which("java") else "there is no Java, which Spark needs"


@pytest.fixture(scope="module")
def spark(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    lacks = missing()
    if lacks is not None and SPARK_NEEDED:
        pytest.fail(lacks)
    if lacks is not None:
        pytest.skip(lacks)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Spark warns of other libraries' versions, and leaves sockets to be collected
        session_class: Any = importlib.import_module("pyspark.sql").SparkSession  # it is large, and may not be there

        settings = {
            "spark.ui.enabled": "false",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.sql.shuffle.partitions": "1",
            "spark.sql.session.timeZone": "America/Los_Angeles",  # of which nothing may be seen
            "spark.local.dir": str(tmp_path_factory.mktemp("spark")),
        }
        builder = session_class.builder.master("local[1]")
        for name, value in settings.items():
            builder = builder.config(name, value)
        with chdir(home):  # what is relative is so to where its Java was started
            session = builder.getOrCreate()
        yield session
        session.stop()


_OF_SPARK = {"bigint": "int64", "int": "int64", "timestamp_ntz": "timestamp[us]", "string": "string"}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.filterwarnings("ignore")
def test_spark_finds_the_same_rows_and_types(spark: Any, name: str) -> None:
    frame = spark.read.parquet(f"lake/{name}")
    kinds = {field.name: field.dataType.simpleString() for field in frame.schema.fields}
    assert [one for one, kind in kinds.items() if kind == "int"] == ["send"]
    types = {one: _OF_SPARK[kind] for one, kind in kinds.items()}
    assert (types, in_order([tuple(row) for row in frame.collect()])) == truth(name)


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")
def test_the_readme_s_python_runs_on_spark(spark: Any, capfd: pytest.CaptureFixture[str]) -> None:
    (text,) = [text for text in blocks("python") if "spark" in text]
    exec(compile(text, "README.md", "exec"), {"spark": spark})
    assert "bounce_cat" in capfd.readouterr().out
