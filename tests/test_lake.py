"""The lake: what is staged is durable, what is sealed is whole, and a start after a crash puts it right."""

import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import ParamSpec, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy.engine import Connection

from harvester.config import Refresh, Tuning
from harvester.errors import LakeBroken, LakeError, LakeFull, LakeInUse
from harvester.lake import layout, sealing
from harvester.lake.entries import Due, SegmentRecord
from harvester.lake.feeding import Feeding
from harvester.lake.lake import Lake, look_into, open_lake
from harvester.lake.layout import Footer
from harvester.lake.storage.store import Store
from harvester.lake.wide import ScopeStep
from harvester.model import KEY_END, KeyRange, Proof, Send, SliceKey
from tests.lake_rows import message_rows, page
from tests.thorough import STRIDE

NOW = datetime(2026, 11, 1)  # noqa: DTZ001  the lake's times have no zone

TUNING = Tuning(target_bytes=1 << 20)
MESSAGES_OF_7 = SliceKey("messages", 7)


@contextmanager
def lake_with_slice(root: Path, tuning: Tuning = TUNING) -> Iterator[tuple[Lake, int]]:
    with open_lake(root, tuning) as lake:
        run = lake.runs.begin("12345")
        lake.runs.select(run, [Send(7, expected=4)], ["messages"], NOW)
        record = lake.ledger.find(MESSAGES_OF_7)
        assert record is not None
        yield lake, record.id


def visible(root: Path) -> list[str]:
    """What a reader's pattern finds."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.parquet"))


def footer(path: Path) -> Footer:
    """What a data file says of itself."""
    return Footer.decode(pq.read_metadata(path).metadata or {})


def keys(root: Path) -> list[int | None]:
    """The keys that a reader finds, file by file in key order."""
    found: list[int | None] = []
    for path in sorted(root.rglob("*.parquet"), key=lambda path: int(path.name.split("-")[1])):
        found += pq.ParquetFile(path).read(["id_send_message"]).column(0).to_pylist()
    return found


class TestStore:
    def test_files_and_folders_are_for_the_owner_alone(self, tmp_path: Path) -> None:
        store = Store(tmp_path / "lake")
        store.make_folder("a/b")
        with store.create("a/b/file") as sink:
            sink.write(b"x")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "lake").rglob("*")}
        assert modes == {"a": 0o700, "b": 0o700, "file": 0o600}

    def test_a_file_whose_writing_fails_is_removed(self, tmp_path: Path) -> None:
        def write_half() -> None:
            with Store(tmp_path).create("file") as sink:
                sink.write(b"half")
                raise RuntimeError

        with pytest.raises(RuntimeError):
            write_half()
        assert list(tmp_path.iterdir()) == []

    def test_a_lack_of_space_is_named_as_such(self, tmp_path: Path) -> None:
        def write_much() -> None:
            with Store(tmp_path).create("file") as sink:
                sink.write(b"x" * 2_000_000)

        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
        try:
            with pytest.raises(LakeFull, match="Free some space"):
                write_much()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert list(tmp_path.iterdir()) == []

    def test_a_file_in_the_place_of_a_folder_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "lake").write_text("")
        with pytest.raises(LakeError, match="could not make the folder"), open_lake(tmp_path / "lake", TUNING):
            pass

    @pytest.mark.parametrize("name", ["lake", "a/b/lake", "./lake", "lake/"])
    def test_a_lake_may_be_named_from_where_one_is(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with open_lake(Path(name), TUNING):
            assert Store(tmp_path / name).is_locked(layout.LOCK)

    def test_a_lake_in_use_is_not_touched(self, tmp_path: Path) -> None:
        with open_lake(tmp_path, TUNING):
            with pytest.raises(LakeInUse, match=str(os.getpid())), open_lake(tmp_path, TUNING):
                pass
            assert Store(tmp_path).is_locked(layout.LOCK)
        assert not Store(tmp_path).is_locked(layout.LOCK)

    def test_a_killed_process_leaves_no_lock(self, tmp_path: Path) -> None:
        code = (
            "import sys, pathlib; from harvester.config import Tuning; from harvester.lake.lake import open_lake\n"
            "with open_lake(pathlib.Path(sys.argv[1]), Tuning()): print('held', flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(LakeInUse), open_lake(tmp_path, TUNING):
                pass
            holder.send_signal(signal.SIGKILL)
        with open_lake(tmp_path, TUNING):
            pass


class TestSealing:
    def test_a_complete_slice_becomes_one_file_that_says_so(self, tmp_path: Path) -> None:
        with lake_with_slice(tmp_path) as (lake, number):
            lake.stage([page(number, 10, 11), page(number, 20, 21, proof=Proof.COUNT)])
            assert visible(tmp_path) == []
            lake.seal(number)
            assert list(Store(tmp_path).names(layout.SEGMENTS)) == []
        assert visible(tmp_path) == ["messages/send=7/part-10-21.parquet"]
        assert keys(tmp_path) == [10, 11, 20, 21]
        says = footer(tmp_path / visible(tmp_path)[0])
        assert (says.dataset, says.id_send, says.start, says.stop) == ("messages", 7, 0, KEY_END)
        assert (says.proof, says.expected, says.generation) == ("count", 4, 0)

    def test_an_incomplete_slice_is_sealed_only_when_it_fills_a_file_or_all_is_asked_for(self, tmp_path: Path) -> None:
        with lake_with_slice(tmp_path) as (lake, number):
            lake.stage([page(number, 10, 11)])
            lake.seal(number)
            assert visible(tmp_path) == []
            lake.seal(number, everything=True)
            assert visible(tmp_path) == ["messages/send=7/part-10-11.parquet"]
            assert footer(tmp_path / visible(tmp_path)[0]).stop == 12

    def test_files_of_a_slice_cover_adjoining_ranges_and_the_last_says_the_proof(self, tmp_path: Path) -> None:
        with lake_with_slice(tmp_path) as (lake, number):
            lake.stage([page(number, 10, 11)])
            lake.seal(number, everything=True)
            lake.stage([page(number, 20, 21, proof=Proof.TAIL)])
            lake.seal(number)
        footers = [footer(tmp_path / name) for name in visible(tmp_path)]
        assert [(says.start, says.stop, says.proof) for says in footers] == [
            (0, 12, None),
            (12, KEY_END, "tail"),
        ]

    def test_a_proof_that_brings_no_rows_is_written_into_the_last_file(self, tmp_path: Path) -> None:
        with lake_with_slice(tmp_path) as (lake, number):
            lake.stage([page(number, 10, 11)])
            lake.seal(number, everything=True)
            lake.stage([page(number, proof=Proof.TAIL)])
            lake.seal(number)
            assert [file.stop for file in lake.inventory.files(number)] == [KEY_END]
        assert footer(tmp_path / visible(tmp_path)[0]).proof == "tail"
        assert keys(tmp_path) == [10, 11]

    def test_every_column_is_there_typed_with_statistics_on_keys_and_dates(self, tmp_path: Path) -> None:
        with lake_with_slice(tmp_path) as (lake, number):
            lake.stage([page(number, 10, 11, proof=Proof.TAIL)])
            lake.seal(number)
        file = pq.ParquetFile(tmp_path / visible(tmp_path)[0])
        assert file.schema_arrow.equals(message_rows().schema)
        group = file.metadata.row_group(0)
        having = {
            group.column(index).path_in_schema for index in range(group.num_columns) if group.column(index).is_stats_set
        }
        assert having == {field.name for field in message_rows().schema if not pa.types.is_string(field.type)}
        assert [column.column_index for column in group.sorting_columns or ()] == [2]
        assert group.column(0).compression == "UNCOMPRESSED"

    def test_large_files_are_compressed_in_row_groups_of_the_size_asked_for(self, tmp_path: Path) -> None:
        rows = message_rows(*range(1, 20_001))
        path = tmp_path / "file"
        with pa.OSFile(str(path), "wb") as sink:
            says = Footer("messages", 7, 0, KEY_END, 0, "now", "0")
            sealing.write_parquet(
                sink,
                page(1).dataset,
                says,
                (rows.slice(at, 1000) for at in range(0, 20_000, 1000)),
                row_group_bytes=rows.nbytes // 4,
            )
        metadata = pq.read_metadata(path)
        assert metadata.num_rows == 20_000
        assert metadata.num_row_groups in {4, 5}
        assert metadata.row_group(0).column(0).compression == "ZSTD"
        assert pq.read_table(path).column("email").to_pylist() == rows.column("email").to_pylist()

    def test_a_dictionary_is_for_columns_that_repeat(self) -> None:
        names = sealing.worth_a_dictionary(pa.Table.from_batches([message_rows(*range(1, 100))]))
        assert "tld" in names
        assert "fax" in names
        assert not {"email", "id_send_message"} & set(names)


class TestPlanFiles:
    @staticmethod
    def plan(sizes: list[int], *, complete: bool = False, everything: bool = False) -> list[list[int]]:
        segments = [
            SegmentRecord(name=f"s{key}", rows=1, bytes=size, unsettled=0, first_key=key, last_key=key)
            for key, size in enumerate(sizes)
        ]
        groups = sealing.plan_files(segments, 100, complete=complete, everything=everything)
        return [[segment.bytes for segment in group] for group in groups]

    def test_full_files_are_made_and_the_last_segment_stays(self) -> None:
        assert self.plan([60, 50, 40]) == [[60, 50]]
        assert self.plan([60, 50]) == []

    def test_a_complete_slice_is_sealed_to_its_end_and_a_small_rest_joins_its_neighbour(self) -> None:
        assert self.plan([60, 50, 40], complete=True) == [[60, 50], [40]]
        assert self.plan([60, 50, 20], complete=True) == [[60, 50, 20]]

    def test_everything_is_sealed_where_asked(self) -> None:
        assert self.plan([10, 20], everything=True) == [[10, 20]]
        assert self.plan([], everything=True, complete=True) == []


Given = ParamSpec("Given")
Returned = TypeVar("Returned")


class Crash(BaseException):
    """Stands for ``kill -9``: nothing in the code under test handles it."""


def no_room(*_: object) -> None:
    raise LakeFull("there is no room")


def test_a_slice_with_a_file_in_doubt_is_left_to_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another file of it would begin where the one in doubt begins: both would cover the same keys."""
    with lake_with_slice(tmp_path) as (lake, number):
        lake.stage([page(number, 1, 2)])
        with monkeypatch.context() as patch:
            patch.setattr(Store, "publish", no_room)
            with pytest.raises(LakeFull):
                lake.seal(number, everything=True)
        lake.stage([page(number, 3, 4, proof=Proof.COUNT)])
        lake.seal(number)
        assert visible(tmp_path) == []
    with lake_with_slice(tmp_path) as (lake, number):
        lake.seal(number)
        assert keys(tmp_path) == [1, 2, 3, 4]
        (file,) = lake.inventory.files(number)
        assert (file.start, file.stop) == (0, KEY_END)


DURABLE = ((os, "fsync"), (os, "replace"), (os, "unlink"), (Connection, "_commit_impl"))
"""A write, sync, rename, removal or ledger commit."""


def crash_at(step: int, monkeypatch: pytest.MonkeyPatch, steps: Sequence[tuple[object, str]] = DURABLE) -> None:
    """Ends the 'process' right after the n-th of these steps, which are functions, each by its owner and its name."""
    left = step

    def counted(function: Callable[Given, Returned]) -> Callable[Given, Returned]:
        def call(*args: Given.args, **kwargs: Given.kwargs) -> Returned:
            nonlocal left
            if left == 0:
                raise Crash
            left -= 1
            result = function(*args, **kwargs)
            if left == 0:
                raise Crash
            return result

        return call

    for owner, name in steps:
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))


def harvest_from_ledger(root: Path, batches: list[tuple[int, ...]]) -> None:
    """A small run: stages what the ledger doesn't have yet, sealing in between, to the proof."""
    with lake_with_slice(root) as (lake, number):
        record = lake.ledger.record(number)
        cursor = (record.key_range and record.key_range.cursor) or 0
        for at, batch in enumerate(batches):
            if batch[0] > cursor:
                lake.stage([page(number, *batch, proof=Proof.TAIL if at == len(batches) - 1 else None)])
            if at == 1:
                lake.seal(number, everything=True)
        lake.seal(number)


def test_a_stop_after_each_durable_step_loses_and_doubles_nothing(tmp_path: Path) -> None:
    batches = [(10, 11), (12, 15), (20, 21), (30,)]
    crashed, step = True, 1 - STRIDE
    while crashed:
        step += STRIDE
        root = tmp_path / str(step)
        with pytest.MonkeyPatch.context() as patch:
            crash_at(step, patch)
            try:
                harvest_from_ledger(root, batches)
            except Crash:
                pass
            else:
                crashed = False
        harvest_from_ledger(root, batches)
        assert keys(root) == [10, 11, 12, 15, 20, 21, 30], f"after step {step}"
        assert footer(root / visible(root)[-1]).proof == "tail", f"after step {step}"
        assert list(Store(root).names(layout.SEGMENTS)) == list(Store(root).names(layout.WRITING)) == []
        with look_into(root) as seen:
            row = next(seen.ledger.walked(None))
            assert (row["rows"], row["proof"]) == (7, "tail"), f"after step {step}"
    assert step > 30


class TestPuttingRight:
    def test_a_complete_slice_whose_last_file_does_not_say_so_is_sealed_again(self, tmp_path: Path) -> None:
        with lake_with_slice(tmp_path) as (lake, number):
            lake.stage([page(number, 10, 11)])
            lake.seal(number, everything=True)
            assert lake.inventory.unsealed_slices() == []
            lake.stage([page(number, proof=Proof.TAIL)])  # and then the process is killed
        with open_lake(tmp_path, TUNING) as lake:
            assert lake.inventory.unsealed_slices() == [number]
            lake.seal(number)
            assert lake.inventory.unsealed_slices() == []
        assert footer(tmp_path / visible(tmp_path)[0]).proof == "tail"

    def test_a_missing_segment_moves_the_cursor_back_to_before_it(self, tmp_path: Path) -> None:
        with lake_with_slice(tmp_path) as (lake, number):
            lake.stage([page(number, 10, 11), page(number, 20, 21), page(number, 30, 31, proof=Proof.TAIL)])
            missing = lake.inventory.staged(number)[1].name
        (tmp_path / missing).unlink()
        with lake_with_slice(tmp_path) as (lake, number):
            record = lake.ledger.record(number)
            assert lake.repairs.lost == 2
            assert record.key_range is not None
            assert (record.key_range.cursor, record.key_range.held, record.key_range.anchors) == (11, 11, (10,))
            assert (record.rows, record.proof) == (2, None)
            assert [segment.first_key for segment in lake.inventory.staged(number)] == [10]

    @pytest.mark.parametrize("at", [100, -100])
    def test_a_segment_with_a_flipped_byte_counts_as_missing(self, at: int, tmp_path: Path) -> None:
        with lake_with_slice(tmp_path) as (lake, number):
            lake.stage([page(number, 10, 11), page(number, 20, 21)])
            name = lake.inventory.staged(number)[1].name
        content = bytearray((tmp_path / name).read_bytes())
        content[at] ^= 1
        (tmp_path / name).write_bytes(content)
        with lake_with_slice(tmp_path) as (lake, number):
            assert lake.repairs.lost == 1
            record = lake.ledger.record(number)
            assert record.key_range is not None
            assert (record.key_range.cursor, record.rows) == (11, 2)

    def test_a_segment_that_changes_during_a_run_is_not_sealed(self, tmp_path: Path) -> None:
        with lake_with_slice(tmp_path) as (lake, number):
            lake.stage([page(number, 10, 11, proof=Proof.TAIL)])
            path = tmp_path / lake.inventory.staged(number)[0].name
            path.write_bytes(path.read_bytes().replace(b"10@example.com", b"19@example.com"))
            with pytest.raises(LakeBroken, match="has changed since it was written"):
                lake.seal(number)
            assert visible(tmp_path) == []

    def test_a_segment_of_an_early_version_has_no_checksum_and_is_read_as_it_is(self, tmp_path: Path) -> None:
        with lake_with_slice(tmp_path) as (lake, number):
            lake.stage([page(number, 10, 11, proof=Proof.TAIL)])
            with lake.ledger.database.writing() as connection:
                connection.exec_driver_sql("UPDATE segments SET checksum = NULL")
        with lake_with_slice(tmp_path) as (lake, number):
            assert lake.repairs.lost == 0
            lake.seal(number)
        assert keys(tmp_path) == [10, 11]

    def test_a_first_segment_that_is_short_moves_it_to_the_start(self, tmp_path: Path) -> None:
        with lake_with_slice(tmp_path) as (lake, number):
            lake.stage([page(number, 10, 11)])
            name = lake.inventory.staged(number)[0].name
        os.truncate(tmp_path / name, 5)
        with lake_with_slice(tmp_path) as (lake, number):
            record = lake.ledger.record(number)
            assert record.key_range is not None
            assert (record.key_range.cursor, record.rows) == (None, 0)
            assert list(lake.store.names(layout.SEGMENTS)) == []

    def test_unsettled_rows_are_counted(self, tmp_path: Path) -> None:
        with lake_with_slice(tmp_path) as (lake, number):
            lake.stage([page(number, 10, 11, status="wait"), page(number, 12, status="wait_ab"), page(number, 13)])
            assert next(lake.ledger.walked(None))["unsettled"] == 3


class TestLedger:
    def test_a_lake_of_another_account_is_refused(self, tmp_path: Path) -> None:
        with lake_with_slice(tmp_path) as (lake, number):
            lake.stage([page(number, 10)])
        with open_lake(tmp_path, TUNING) as lake, pytest.raises(LakeError, match="12345"):
            lake.runs.begin("54321")

    def test_a_lake_that_holds_nothing_is_nobodys(self, tmp_path: Path) -> None:
        with lake_with_slice(tmp_path) as (lake, number):
            lake.ledger.give_up(number, "unauthorized", 1, 500)
        with open_lake(tmp_path, TUNING) as lake:
            assert lake.runs.begin("54321") > 1
            assert lake.runs.account() == "54321"
            assert list(lake.ledger.walked(None)) == []

    @pytest.mark.parametrize("damage", ["garbage", "truncated", "newer"])
    def test_a_ledger_that_cannot_be_used_is_refused_and_left_alone(self, tmp_path: Path, damage: str) -> None:
        with open_lake(tmp_path, TUNING) as lake:
            lake.runs.begin("12345")
        path = tmp_path / layout.LEDGER
        if damage == "garbage":
            path.write_bytes(b"garbage " * 1000)
        elif damage == "truncated":
            path.write_bytes(path.read_bytes()[:5000])
        else:
            with sqlite3.connect(path) as connection:
                connection.execute("UPDATE facts SET value = '99' WHERE name = 'format'")
            connection.close()
        before = path.read_bytes()
        with pytest.raises(LakeBroken), open_lake(tmp_path, TUNING):
            pass
        assert path.read_bytes() == before

    def test_an_older_ledger_is_brought_up_to_date_by_the_next_run(self, tmp_path: Path) -> None:
        with lake_with_slice(tmp_path) as (lake, number):
            lake.stage([page(number, 10, 11, proof=Proof.COUNT)])
            lake.seal(number)
        older = {
            "slices": ("listed", "first_seen", "newest", "overdue", "due", "checked_run", "checked_at"),
            "data_files": ("overdue", "gone", "changed", "refresh"),
            "segments": ("overdue", "refresh"),
        }
        with sqlite3.connect(tmp_path / layout.LEDGER) as connection:
            for table, columns in older.items():
                for column in columns:
                    connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
            connection.execute("DROP TABLE refreshes")
            connection.execute("DROP TABLE erased")
            connection.execute("DELETE FROM facts WHERE name IN ('since_run', 'ended_run')")
            connection.execute("UPDATE facts SET value = '1' WHERE name = 'format'")
        connection.close()
        with pytest.raises(LakeBroken, match="the next run brings it up to date"), look_into(tmp_path):
            pass
        for _ in range(2):
            with lake_with_slice(tmp_path) as (lake, number):
                assert lake.ledger.record(number).proof is Proof.COUNT
                lake.runs.mark_due(2, Refresh.ALL, 0, NOW)
        with look_into(tmp_path) as seen:
            assert seen.ledger.record(number).due is Due.ALL

    def test_walks_over_many_sends_of_the_format_before_have_one_cursor(self, tmp_path: Path) -> None:
        with open_lake(tmp_path, TUNING) as lake:
            run = lake.runs.begin("12345")
            lake.runs.select(run, [Send(7), Send(8)], ["messages"], NOW)
            lake.scopes.begin(run, None, 50)
        with sqlite3.connect(tmp_path / layout.LEDGER) as connection:
            connection.execute("ALTER TABLE scopes DROP COLUMN walked")
            connection.execute("DROP TABLE scope_ranges")
            connection.execute("DROP TABLE scope_segments")
            connection.execute("UPDATE facts SET value = '4' WHERE name = 'format'")
        connection.close()
        with open_lake(tmp_path, TUNING) as lake:
            (scope,) = lake.scopes.take(0, 9)
            assert (scope.walked, [one.limit for one in scope.key_ranges]) == (0, [50])
            lake.stage((), ScopeStep(scope.id, (KeyRange(stop=9), KeyRange(start=9)), records=5))
            (scope,) = lake.scopes.take(0, 9)
            assert (scope.walked, [one.start for one in scope.key_ranges]) == (5, [0, 9])

    def test_data_without_a_ledger_is_not_harvested_beside(self, tmp_path: Path) -> None:
        with lake_with_slice(tmp_path) as (lake, number):
            lake.stage([page(number, 10, 11, proof=Proof.TAIL)])
            lake.seal(number)
        for path in (tmp_path / "_harvest").glob("ledger*"):
            path.unlink()
        with pytest.raises(LakeBroken, match="holds data"), open_lake(tmp_path, TUNING):
            pass
        with pytest.raises(LakeBroken, match=r"holds data.*harvester recover"), look_into(tmp_path):
            pass
        assert keys(tmp_path) == [10, 11]

    def test_a_ledger_that_was_never_finished_is_not_called_damaged(self, tmp_path: Path) -> None:
        (tmp_path / "_harvest").mkdir()
        (tmp_path / layout.LEDGER).touch()
        with pytest.raises(LakeBroken, match="Run the same command again"), look_into(tmp_path):
            pass
        with open_lake(tmp_path, TUNING) as lake:
            assert lake.runs.account() is None

    def test_a_folder_without_a_ledger_is_no_lake_to_look_into(self, tmp_path: Path) -> None:
        with pytest.raises(LakeBroken, match="is not a lake"), look_into(tmp_path):
            pass

    def test_a_selection_is_read_as_a_stream_and_known_slices_keep_what_they_have(self, tmp_path: Path) -> None:
        with lake_with_slice(tmp_path) as (lake, number):
            lake.stage([page(number, 10, 11, proof=Proof.COUNT)])
            run = lake.runs.begin("12345")
            lake.runs.select(run, (Send(id_send) for id_send in range(1, 2502)), ["messages", "bounces"], NOW)
            tallies = lake.runs.tally(run)
            assert (tallies["messages"].slices, tallies["messages"].complete, tallies["messages"].rows) == (2501, 1, 2)
            assert tallies["messages"].expected is None
            assert lake.ledger.record(number).expected == 4
            feeding, seen = Feeding(lake.ledger, run, 100), set()
            while records := feeding.take(100):
                assert len({record.key.id_send for record in records}) <= 100
                seen |= {record.key for record in records}
            assert len(seen) == 2501 * 2 - 1
            assert MESSAGES_OF_7 not in seen
