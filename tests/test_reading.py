"""The reader for programs that do not await: Arrow's own, as Polars, DuckDB and pandas take it."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from itertools import zip_longest
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest

import harvester
from harvester.datasets import MESSAGES
from harvester.simulator.behaviour import Behaviour
from harvester.simulator.server import Server
from harvester.simulator.spec import AccountSpec, equal
from harvester.streaming import options
from harvester.streaming.reading import Batches
from tests.harvesting import QUICK
from tests.serving import asking, assert_exact, served, threads_of_ours

SPEC = AccountSpec(seed=4, sends=equal(3, 300), gap=3, failed=0.1)
FIRST, SECOND, THIRD = SPEC.sends.ids


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(options, "TUNING", QUICK)
    yield
    assert threads_of_ours() == set()


@pytest.fixture
def server() -> Iterator[Server]:
    with served(SPEC) as server:
        yield server


def read(server: Server, dataset: str = "messages", **changes: Any) -> pa.RecordBatchReader:
    given: dict[str, Any] = {"sends": SPEC.sends.ids} | asking(server) | changes
    return harvester.read(dataset, **given)


@pytest.mark.parametrize("dataset", ["messages", "bounces"])
def test_it_reads_all_of_a_dataset(server: Server, dataset: str) -> None:
    reader = read(server, dataset, limit=100)
    assert isinstance(reader, pa.RecordBatchReader)
    assert reader.schema == harvester.schema(dataset)
    assert_exact(server, dataset, list(reader))
    assert list(reader) == []


def test_nothing_is_asked_before_it_is_read(server: Server) -> None:
    reader = read(server)
    assert (server.stats.requests, threads_of_ours()) == (0, set())
    del reader


def test_polars_duckdb_and_pandas_take_it(server: Server) -> None:
    frame = pl.from_arrow(read(server))
    assert isinstance(frame, pl.DataFrame)
    assert (frame.height, frame.width) == (900, len(MESSAGES.schema))
    reader = read(server)
    assert reader is not None  # DuckDB finds it by its name
    counted = "SELECT id_send, count(*), count(DISTINCT id_send_message) FROM reader GROUP BY ALL ORDER BY ALL"
    with duckdb.connect() as database:
        assert database.sql(counted).fetchall() == [(id_send, 300, 300) for id_send in SPEC.sends.ids]
    assert read(server).read_pandas()["id_send"].value_counts().to_dict() == dict.fromkeys(SPEC.sends.ids, 300)


def test_it_works_inside_a_running_loop(server: Server) -> None:
    async def in_a_notebook() -> pa.Table:
        return read(server).read_all()

    assert_exact(server, "messages", asyncio.run(in_a_notebook()).to_batches())


def test_a_failure_is_told_after_the_rows_and_again_to_whoever_asks_again() -> None:
    with served(SPEC, Behaviour(fail_sends=frozenset({SECOND}))) as server:
        reader, batches = read(server, patience=0.2), list[pa.RecordBatch]()
        with pytest.raises(harvester.IncompleteHarvest, match=f"send {SECOND}") as caught:
            batches.extend(iter(reader))
        assert_exact(server, "messages", batches, FIRST, THIRD)
        assert caught.value.outcome.proofs.keys() == {FIRST, THIRD}
        with pytest.raises(harvester.IncompleteHarvest):
            reader.read_all()


def said_by_duckdb(reader: pa.RecordBatchReader) -> str:
    """The error that it raises. Where one is kept, DuckDB complains of leaks of its own at the interpreter's end."""
    assert reader is not None  # it is found by its name
    try:
        with duckdb.connect() as database:
            return str(database.sql("SELECT count(*) FROM reader").fetchall())
    except duckdb.Error as error:
        return str(error)


def test_no_library_takes_a_part_for_the_whole() -> None:
    with served(SPEC, Behaviour(fail_sends=frozenset({SECOND}))) as server:
        with pytest.raises(harvester.IncompleteHarvest):
            pl.from_arrow(read(server, patience=0.1))
        with pytest.raises(harvester.IncompleteHarvest):
            read(server, patience=0.1).read_pandas()
        assert re.search(f"IncompleteHarvest.*send {SECOND}", said_by_duckdb(read(server, patience=0.1)), re.DOTALL)


def test_a_refusal_is_told_at_once() -> None:
    with served(SPEC, Behaviour(disallowed=True)) as server:
        with pytest.raises(harvester.AccessRefused):
            read(server).read_all()
        assert server.stats.requests == 1


def test_dropping_it_ends_the_harvest() -> None:
    with served(SPEC, Behaviour(latency_s=(0.0, 0.01))) as server:
        reader = read(server, limit=10)
        reader.read_next_batch()
        assert threads_of_ours()
        del reader
        assert threads_of_ours() == set()
        assert server.stats.requests < 20


def test_an_interruption_loses_no_batch(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in a notebook, and the cell again."""
    interrupted = 0
    result = Future.result

    def once(self: Future[Any], timeout: float | None = None) -> Any:
        nonlocal interrupted
        found = result(self, timeout)
        if isinstance(found, pa.RecordBatch) and interrupted < 3:
            interrupted += 1
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(Future, "result", once)
    given: dict[str, Any] = asking(server) | {"sends": SPEC.sends.ids, "limit": 100}
    batches = Batches(harvester.stream(**given))
    found: list[pa.RecordBatch] = []
    while True:
        try:
            found += batches
        except KeyboardInterrupt:
            continue
        break
    assert interrupted == 3
    assert_exact(server, "messages", found)


def test_the_interpreter_ends_though_it_is_not_read_to_its_end(server: Server) -> None:
    code = f"""
import harvester
reader = harvester.read(sends={list(SPEC.sends.ids)}, limit=10, **{asking(server)})
print(reader.read_next_batch().num_rows)
"""
    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=False, capture_output=True, text=True, timeout=60
    )
    assert (told.returncode, told.stdout, told.stderr) == (0, "10\n", "")


def test_two_are_read_side_by_side(server: Server) -> None:
    first, second = read(server, sends=FIRST, limit=50), read(server, sends=[SECOND, THIRD], limit=50)
    batches = [batch for pair in zip_longest(first, second) for batch in pair if batch is not None]
    assert_exact(server, "messages", batches)
