"""What holds for every ledger, wherever it is: that it is kept, held by one, brought along, and made anew.

The other half of one suite for all databases: see ``test_ledgers``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from harvester.config import Refresh
from harvester.errors import LakeBroken, LakeInUse
from harvester.harvest.upkeep import Recovered, recover
from harvester.lake import layout
from harvester.lake.entries import Due, Progress
from harvester.lake.lake import look_into
from harvester.lake.ledgers.tables import FORMAT, facts, metadata, versions
from harvester.lake.staging import Whole
from harvester.lake.storage.store import Store
from harvester.model import KeyRange, Proof, Send, SliceKey
from tests.lake_places import NOW, WEEK_S, Place, number_of
from tests.lake_rows import message_rows, page
from tests.test_lake import Crash, crash_at, keys
from tests.thorough import STRIDE


class TestSealing:
    def test_what_is_staged_becomes_files_and_a_refresh_replaces_them(self, place: Place) -> None:
        with place.selected(Send(7)) as (lake, run):
            number = number_of(lake, 7)
            lake.stage([page(number, 10, 11, status="wait"), page(number, 20, 21, proof=Proof.TAIL)])
            lake.seal(number)
            assert lake.ledger.record(number).due is Due.NOTHING
            lake.runs.mark_due(run + 1, Refresh.ALL, 0, NOW)
            assert lake.ledger.record(number).due is Due.NOTHING  # it is not of that run's selection
            lake.runs.end(run)
            again = lake.runs.begin("12345")
            lake.runs.select(again, [Send(7)], ["messages"], NOW)
            lake.runs.mark_due(again, Refresh.ALL, 0, NOW + timedelta(days=2))
            record = lake.ledger.record(number)
            assert record.due is Due.ALL
            lake.plan_refresh(record)
            walk = KeyRange(cursor=20, held=20)
            brought = replace(page(number), key_range=None, refreshed=message_rows(10, 11, 20, status="sent"))
            lake.stage([replace(brought, refresh=Progress(walk, in_full=True, brought=3, ended=False))])
            progress = lake.ledger.progress(number)
            assert progress is not None
            assert (progress.key_range.cursor, progress.in_full, progress.brought, progress.ended) == (
                20,
                True,
                3,
                False,
            )
            assert lake.inventory.refreshed_slices() == []
            last = replace(page(number, proof=Proof.TAIL), key_range=None)
            lake.stage([replace(last, refresh=Progress(walk, in_full=True, brought=3, ended=True))])
            assert lake.inventory.refreshed_slices() == [number] == lake.inventory.unsealed_slices()
            lake.seal(number)
            row = next(lake.ledger.walked(None))
            assert (row["rows"], row["unsettled"], row["gone"], row["changed"], row["due"]) == (4, 0, 1, 2, 0)
            assert lake.ledger.progress(number) is None
        assert keys(place.root) == [10, 11, 20, 21]
        assert place.findings() == []

    def test_what_is_due_follows_from_age_and_from_what_waits(self, place: Place) -> None:
        old, young = datetime(2026, 1, 1), datetime(2026, 10, 30)  # noqa: DTZ001
        sends = [Send(1, sent_at=old), Send(2, sent_at=young), Send(3, sent_at=old), Send(4, sent_at=old)]
        with place.selected(*sends) as (lake, run):
            for one, status in ((1, "sent"), (2, "sent"), (3, "wait")):
                number = number_of(lake, one)
                lake.stage([page(number, one, proof=Proof.TAIL, status=status, id_send=one)])
                lake.seal(number)
            lake.runs.end(run)
            held = lake.runs.held([1, 2, 3, 4], Refresh.DUE, WEEK_S, NOW)
            assert {key[1]: (one.rows, one.due) for key, one in held.items()} == {
                1: (1, Due.NOTHING),
                2: (1, Due.ALL),
                3: (1, Due.UNSETTLED),
                4: (0, Due.NOTHING),
            }
            again = lake.runs.begin("12345")
            lake.runs.select(again, sends, ["messages"], NOW)
            lake.runs.mark_due(again, Refresh.DUE, WEEK_S, NOW + timedelta(days=2))
            assert {row["id_send"]: row["due"] for row in lake.ledger.walked(again)} == {1: 0, 2: 2, 3: 1, 4: 0}
            lake.runs.mark_due(again, Refresh.NEVER, WEEK_S, NOW)
            assert [row["due"] for row in lake.ledger.walked(again)] == [0, -2, -1, 0]

    def test_a_lost_segment_moves_the_cursor_back(self, place: Place) -> None:
        with place.selected(Send(7)) as (lake, _):
            number = number_of(lake, 7)
            lake.stage([page(number, 10, 11), page(number, 20, 21), page(number, 30, 31, proof=Proof.TAIL)])
            (place.root / lake.inventory.staged(number)[1].name).unlink()
        with place.opened() as lake:
            record = lake.ledger.record(number)
            assert record.key_range is not None
            assert (lake.repairs.lost, record.rows, record.key_range.cursor, record.proof) == (2, 2, 11, None)


class TestLocks:
    def test_a_second_run_is_refused_and_told_by_whom(self, place: Place) -> None:
        with place.opened(), pytest.raises(LakeInUse, match=str(os.getpid())), place.opened():
            pass
        with place.opened(), look_into(place.root, place.ledger) as glance:
            assert glance.in_use()

    def test_a_killed_process_leaves_no_lock(self, place: Place) -> None:
        code = (
            "import os, sys, pathlib; from harvester.config import Tuning; from harvester.model import Secret\n"
            "from harvester.lake.lake import open_lake\n"
            "ledger = os.environ.get('URL') and Secret(os.environ['URL'])\n"
            "with open_lake(pathlib.Path(sys.argv[1]), Tuning(), ledger=ledger):\n"
            "    print('held', flush=True); sys.stdin.read()"
        )
        environment = os.environ | ({"URL": str(place.ledger)} if place.ledger else {})
        with subprocess.Popen(
            [sys.executable, "-c", code, str(place.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(LakeInUse, match=str(holder.pid)), place.opened():
                pass
            holder.send_signal(signal.SIGKILL)
        with place.opened():
            pass


class TestCrashes:
    @pytest.mark.parametrize("ledger", ["postgresql"], indirect=True)  # the other's are in test_lake and test_whole
    def test_a_stop_after_each_durable_step_loses_and_doubles_nothing(self, place: Place) -> None:
        """Renames and what the ledger's server is told: each time, the next run ends as an undisturbed one would."""

        def harvest(root: Path) -> None:
            with Place(root, place.ledger).selected(Send(7), Send(8, expected=2), datasets=("messages",)) as (lake, _):
                for number in lake.inventory.unsealed_slices():
                    lake.seal(number)
                record = lake.ledger.record(number_of(lake, 7))
                reached = (record.key_range and record.key_range.cursor) or 0
                for at, batch in enumerate([(10, 11), (12, 15), (20,)]):
                    if batch[0] > reached:
                        lake.stage([page(record.id, *batch, proof=Proof.TAIL if at == 2 else None)])
                    if at == 1:
                        lake.seal(record.id, everything=True)
                lake.seal(record.id)
                small = lake.ledger.record(number_of(lake, 8))
                if small.proof is None:
                    whole = Whole(SliceKey("messages", 8), 2)
                    lake.stage([replace(page(small.id, 80, 81, proof=Proof.COUNT, id_send=8), whole=whole)])

        crashed, step = True, 1 - STRIDE
        while crashed:
            step += STRIDE
            root = place.root / str(step)
            place.root.mkdir(exist_ok=True)
            with pytest.MonkeyPatch.context() as patch:
                crash_at(step, patch, [(os, "replace"), (psycopg.Pipeline, "__exit__")])
                try:
                    harvest(root)
                except Crash:
                    pass
                else:
                    crashed = False
            harvest(root)
            assert Place(root, place.ledger).findings() == [], f"after step {step}"
            assert sorted(filter(None, keys(root))) == [10, 11, 12, 15, 20, 80, 81], f"after step {step}"
            assert list(Store(root).names(layout.SEGMENTS)) == list(Store(root).names(layout.WRITING)) == []
        assert step > 15


class TestFormats:
    @pytest.mark.parametrize("older", range(1, FORMAT))
    def test_an_older_ledger_is_brought_along_with_all_that_it_says(self, place: Place, older: int) -> None:
        with place.selected(Send(7)) as (lake, _):
            number = number_of(lake, 7)
            lake.stage([page(number, 10, 11, proof=Proof.COUNT)])
            lake.seal(number)
            with lake.ledger.database.writing() as connection:
                make_older(connection, older)
        with pytest.raises(LakeBroken, match="the next run brings it up to date"), look_into(place.root, place.ledger):
            pass
        for _ in range(2):
            with place.selected(Send(7)) as (lake, run):
                assert (lake.ledger.record(number).proof, lake.ledger.record(number).rows) == (Proof.COUNT, 2)
                lake.runs.mark_due(run, Refresh.ALL, 0, datetime(2100, 1, 1))  # noqa: DTZ001
                assert lake.ledger.record(number).due is Due.ALL
                lake.scopes.begin(run, None, 10)
                with lake.ledger.database.reading() as connection:
                    found = connection.execute(sa.select(versions.c.format).order_by(versions.c.format)).scalars().all()
                    there = {
                        name: {one["name"] for one in sa.inspect(connection).get_columns(name)}
                        for name in metadata.tables
                    }
                    indexes = {one["name"] for one in sa.inspect(connection).get_indexes("slices")}
                assert list(found) == [one for one in (5, 6, 7, 8) if one > older]
                assert all(
                    {column.name for column in table.c} <= there[name] for name, table in metadata.tables.items()
                )
                assert {"slices_by_run", "slices_by_send", "slices_by_size", "slices_by_scope"} <= indexes

    def test_a_newer_ledger_is_refused_and_left_alone(self, place: Place) -> None:
        with place.opened() as lake, lake.ledger.database.writing() as connection:
            connection.execute(facts.update().where(facts.c.name == "format").values(value="99"))
        for opening in (place.opened(), look_into(place.root, place.ledger)):
            with pytest.raises(LakeBroken, match=r"has format 99.*upgrade harvester"), opening:
                pass
        with pytest.raises(LakeBroken, match="upgrade harvester"):
            recover(place.root, Recovered(), ledger=place.ledger)

    def test_a_first_ledger_says_its_format_and_who_made_it(self, place: Place) -> None:
        with place.opened() as lake, lake.ledger.database.reading() as connection:
            (row,) = connection.execute(sa.select(versions)).all()
            assert row.format == FORMAT
            assert datetime.fromisoformat(row.since).year >= 2026


TABLES_SINCE = {
    8: ("superseded",),
    7: ("shares", "shared_files", "changes"),
    6: ("versions",),
    5: ("scope_segments", "scope_ranges"),
    4: ("scopes",),
    2: ("refreshes", "erased"),
}
"""Tables of a ledger, by the format that brought them; those that others refer to come last."""


def make_older(connection: Connection, older: int) -> None:
    """Takes out of a ledger what later formats added to it."""
    dropped: dict[str, tuple[str, ...]] = {}
    for table in [table for since, tables in TABLES_SINCE.items() if older < since for table in tables]:
        connection.execute(sa.text(f"DROP TABLE {table}"))
    if older < 7:
        dropped |= {
            "data_files": ("merged_into",),
            "segments": ("partitions", "change"),
            "refreshes": ("change", "changed"),
        }
    if older < 5:
        dropped["scopes"] = ("walked",)
    if older < 4:
        del dropped["scopes"]
        dropped |= {"slices": ("scope",), "ranges": ("first_keys", "rows")}
        dropped["segments"] += ("checksum",)
        connection.execute(sa.text("DROP INDEX slices_by_scope"))
    if older < 2:
        dropped["slices"] += ("listed", "first_seen", "newest", "overdue", "due", "checked_run", "checked_at")
        dropped |= {
            "data_files": ("overdue", "gone", "changed", "refresh", "merged_into"),
            "segments": ("overdue", "refresh", "checksum", "partitions", "change"),
        }
        del dropped["refreshes"]
        connection.execute(facts.delete().where(facts.c.name.in_(["since_run", "ended_run"])))
    for table, columns in dropped.items():
        for column in columns:
            connection.execute(sa.text(f'ALTER TABLE {table} DROP COLUMN "{column}"'))
    connection.execute(facts.update().where(facts.c.name == "format").values(value=str(older)))


class TestRecovering:
    def harvested(self, place: Place) -> None:
        with place.selected(Send(7, id_message=3), Send(8), datasets=("messages", "bounces")) as (lake, _):
            for one in (7, 8):
                number = number_of(lake, one)
                lake.stage([page(number, 10 * one, 10 * one + 1, proof=Proof.TAIL, id_send=one)])
                lake.seal(number)

    def test_a_lost_ledger_is_made_anew(self, place: Place) -> None:
        self.harvested(place)
        for path in (place.root / layout.HOME).glob("ledger*"):
            path.unlink()
        with pytest.raises(LakeBroken, match=r"holds data.*harvester recover"), place.opened():
            pass
        done = Recovered()
        recover(place.root, done, ledger=place.ledger)
        assert (done.rebuilt, done.slices, done.complete, done.rows) == (True, 2, 2, 4)
        assert place.findings() == []
        with place.selected(Send(7)) as (lake, _):
            assert lake.ledger.record(number_of(lake, 7)).proof is Proof.TAIL

    def test_a_sound_ledger_is_mended_where_a_file_is_gone(self, place: Place) -> None:
        self.harvested(place)
        (place.root / "messages/send=8/part-80-81.parquet").unlink()
        assert place.findings() == ["The file is not there; it held 2 rows."]
        done = Recovered()
        recover(place.root, done, ledger=place.ledger)
        assert (done.rebuilt, done.slices, done.complete) == (False, 1, 0)
        assert place.findings() == []
        with place.opened() as lake:
            assert [
                (row["rows"], row["proof"]) for row in lake.ledger.walked(None) if row["dataset"] == "messages"
            ] == [
                (2, "tail"),
                (0, None),
            ]
