"""Tables when what their holder knows is not what is there: it was cut off, or the ledger is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harvester.config import PartitionBy, TableChoice
from harvester.datasets import MESSAGES
from harvester.errors import LakeError
from harvester.harvest.upkeep import Recovered, make_tables, recover
from harvester.lake import layout
from harvester.lake.formats.deltalog import DeltaLog
from harvester.lake.formats.following import Tables
from harvester.lake.formats.iceberglog import IcebergLog
from harvester.lake.formats.tablefiles import TableFile, TableState
from harvester.lake.lake import open_lake
from harvester.model import Proof, Secret
from tests.lake_upkeep import found
from tests.tables import DELTA, both, files, rows, sealings
from tests.test_partitions import ALL, SENDS, TUNING, begin, harvest, refresh, taken

Log = DeltaLog | IcebergLog


def held(table: TableChoice, lake: Path) -> list[int]:
    """The keys that a table holds."""
    keys: list[Any] = rows(table, lake, "messages", PartitionBy.MONTH).column(MESSAGES.key).to_pylist()
    return sorted(keys)


def cut_off_in_its_commit(
    root: Path,
    ledger: Secret,
    table: TableChoice,
    patch: pytest.MonkeyPatch,
    meanwhile: Callable[[Callable[[], None]], None],
) -> None:
    """Seals; the holder is cut off when it is about to commit to the table, and wakes up when others say, or after."""
    kind = DeltaLog if table == DELTA else IcebergLog
    commit = kind.commit
    with open_lake(root, TUNING, ledger=ledger, table=table) as first:
        begin(first)
        first.stage([taken(first, id_send, 100 * id_send, 20, Proof.COUNT) for id_send in SENDS])
        woken: list[bool] = []

        def asleep(self: Log, sealing: int, added: Sequence[TableFile], removed: Sequence[str]) -> None:
            patch.setattr(kind, "commit", commit)
            first.ledger.database._holding.release()  # type: ignore[attr-defined]

            def wake() -> None:
                woken.append(True)
                commit(self, sealing, added, removed)  # type: ignore[arg-type]

            meanwhile(wake)
            if not woken:
                wake()

        patch.setattr(kind, "commit", asleep)
        first.seal(0, everything=True)


@both
def test_a_holder_that_was_cut_off_and_comes_late_finds_its_files_in_the_table(
    tmp_path: Path, shared_ledger: Secret, table: TableChoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def others(_wake: Callable[[], None]) -> None:
        with open_lake(tmp_path, TUNING, ledger=shared_ledger):
            assert sealings(table, tmp_path, "messages") == [1]

    cut_off_in_its_commit(tmp_path, shared_ledger, table, monkeypatch, others)
    assert (held(table, tmp_path), sealings(table, tmp_path, "messages")) == (ALL, [1])
    assert found(tmp_path, ledger=shared_ledger) == []


@both
def test_a_holder_that_was_cut_off_brings_nothing_back_that_another_has_replaced(
    tmp_path: Path, shared_ledger: Secret, table: TableChoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LakeError, match="messages"):
        cut_off_in_its_commit(
            tmp_path, shared_ledger, table, monkeypatch, lambda _wake: refresh(tmp_path, shared_ledger)
        )
    assert (held(table, tmp_path), sealings(table, tmp_path, "messages")) == (ALL, [1, 2])
    assert found(tmp_path, ledger=shared_ledger) == []


@both
def test_the_next_holder_looks_again_where_one_that_was_cut_off_came_first(
    tmp_path: Path, shared_ledger: Secret, table: TableChoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = DeltaLog if table == DELTA else IcebergLog
    look = kind.look

    def others(wake: Callable[[], None]) -> None:
        def looked(self: Log) -> TableState:
            monkeypatch.setattr(kind, "look", look)
            state = look(self)  # type: ignore[arg-type]
            wake()
            return state

        monkeypatch.setattr(kind, "look", looked)
        with open_lake(tmp_path, TUNING, ledger=shared_ledger):
            pass

    cut_off_in_its_commit(tmp_path, shared_ledger, table, monkeypatch, others)
    assert (held(table, tmp_path), sealings(table, tmp_path, "messages")) == (ALL, [1])
    assert found(tmp_path, ledger=shared_ledger) == []


def test_what_became_data_files_and_no_table_was_told_of_outlives_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harvest(tmp_path, 7)
    make_tables(tmp_path, DELTA)
    known = files(DELTA, tmp_path, "messages")
    with monkeypatch.context() as patch:
        patch.setattr(Tables, "_commit", lambda *_: None)
        harvest(tmp_path, 8)
    assert files(DELTA, tmp_path, "messages") == known
    (tmp_path / layout.LEDGER).unlink()
    recover(tmp_path, Recovered())
    assert (held(DELTA, tmp_path), sealings(DELTA, tmp_path, "messages")) == (ALL, [1, 2])
    assert found(tmp_path) == []
