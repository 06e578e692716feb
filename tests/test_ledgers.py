"""What holds for every ledger, wherever it is: one suite for all databases, run against real ones.

All of it goes through ``open_lake`` and ``look_into``, as runs and ``status`` do.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from harvester.config import Refresh, Tuning
from harvester.datasets import MESSAGES
from harvester.errors import LakeBroken, LakeError, LakeInUse
from harvester.harvest.status import read_status
from harvester.harvest.upkeep import Recovered, recover
from harvester.lake import layout
from harvester.lake.entries import Due, KnownSend, Progress, ScopeStep
from harvester.lake.feeding import Feeding
from harvester.lake.lake import Lake, is_lake, look_into, open_lake
from harvester.lake.snapshots import known_sends, snapshot, snapshots
from harvester.lake.staging import Whole
from harvester.lake.store import Store
from harvester.lake.tables import FORMAT, facts, metadata, versions
from harvester.lake.verify import verifying
from harvester.model import KEY_END, Borne, KeyRange, Proof, Secret, Send, SliceKey
from tests.lake_rows import message_rows, page
from tests.test_lake import Crash, crash_at, keys

NOW = datetime(2026, 11, 1)  # noqa: DTZ001  the lake's times have no zone
TUNING = Tuning(target_bytes=1 << 20)
LARGE = 2**62
"""A key that no float holds, and no number of 32 bits."""
WEEK_S = 7 * 86_400.0


@dataclass(frozen=True)
class Place:
    """A lake's folder, and where its ledger is."""

    root: Path
    ledger: Secret | None

    @contextmanager
    def opened(self) -> Iterator[Lake]:
        with open_lake(self.root, TUNING, ledger=self.ledger) as lake:
            yield lake

    @contextmanager
    def selected(self, *sends: Send, datasets: tuple[str, ...] = ("messages",)) -> Iterator[tuple[Lake, int]]:
        """The lake, opened by a run that has selected these sends; and the run's number."""
        with self.opened() as lake:
            run = lake.runs.begin("12345")
            lake.runs.select(run, sends, datasets, NOW)
            yield lake, run

    def findings(self) -> list[str]:
        with verifying(self.root, quick=False, ledger=self.ledger) as seen:
            return [finding.what for finding in seen.findings()]


@pytest.fixture
def place(tmp_path: Path, ledger: Secret | None) -> Place:
    return Place(tmp_path / "lake", ledger)


def number_of(lake: Lake, id_send: int, dataset: str = "messages") -> int:
    record = lake.ledger.find(SliceKey(dataset, id_send))
    assert record is not None
    return record.id


class TestSelecting:
    def test_a_known_slice_keeps_what_a_new_list_does_not_say(self, place: Place) -> None:
        sent = datetime(2026, 10, 1, 8)  # noqa: DTZ001
        with place.selected(Send(7, id_message=3, sent_at=sent, expected=5), Send(LARGE)) as (lake, _):
            before = lake.ledger.record(number_of(lake, 7))
            run = lake.runs.begin("12345")
            lake.runs.select(run, [Send(7)], ["messages", "bounces"], NOW + timedelta(days=1))
            after = lake.ledger.record(before.id)
            assert (after.expected, after.since) == (before.expected, before.since) == (5, sent)
            assert [row["id_send"] for row in lake.ledger.walked(run)] == [7, 7]
            assert [row["id_send"] for row in lake.ledger.walked(None)] == [7, 7, LARGE]
            assert lake.ledger.find(SliceKey("bounces", LARGE)) is None

    def test_a_slice_that_has_grown_is_complete_no_more(self, place: Place) -> None:
        with place.selected(Send(7, expected=2)) as (lake, _):
            number = number_of(lake, 7)
            lake.stage([page(number, 10, 11, proof=Proof.COUNT)])
            for expected, proof in ((2, Proof.COUNT), (1, Proof.COUNT), (3, None)):
                lake.runs.select(lake.runs.begin("12345"), [Send(7, expected=expected)], ["messages"], NOW)
                assert lake.ledger.record(number).proof is proof

    def test_a_lake_is_of_one_account_unless_it_holds_nothing(self, place: Place) -> None:
        with place.selected(Send(7)) as (lake, _):
            assert lake.runs.begin("54321") == 2
            assert (lake.runs.account(), list(lake.ledger.walked(None))) == ("54321", [])
            lake.runs.select(2, [Send(7)], ["messages"], NOW)
            lake.stage([page(number_of(lake, 7), 10)])
            with pytest.raises(LakeError, match="harvested from the account 54321, not 12345"):
                lake.runs.begin("12345")
            assert lake.runs.last() is not None

    def test_what_a_run_selects_is_tallied_and_what_its_list_lacks_is_told(self, place: Place) -> None:
        day = datetime(2026, 10, 5, 12)  # noqa: DTZ001
        both = ("messages", "bounces")
        sends = [Send(one, id_message=one % 2, sent_at=day, expected=2) for one in (7, 8, 9)]
        with place.selected(*sends, datasets=both) as (lake, run):
            lake.stage([page(number_of(lake, 7), 10, 11, proof=Proof.COUNT)])
            lake.ledger.give_up(number_of(lake, 8), "why", 3, 10)
            tally = lake.runs.tally(run)
            assert {name: (one.slices, one.complete, one.gave_up, one.rows) for name, one in tally.items()} == {
                "messages": (3, 1, 1, 2),
                "bounces": (3, 0, 0, 0),
            }
            assert (tally["messages"].expected, tally["bounces"].expected) == (6, None)
            assert all(isinstance(value, int) for value in (tally["messages"].rows, tally["messages"].expected))
            later = lake.runs.begin("12345")
            lake.runs.select(later, [Send(8)], both, NOW)
            assert lake.runs.unlisted(later, None, "2026-10-01", "2026-10-31") == [7, 9]
            assert lake.runs.unlisted(later, [0], "2026-10-01", "2026-10-31") == []
            assert lake.runs.unlisted(later, [1], "2026-10-05", "2026-10-05") == [7, 9]
            assert lake.runs.unlisted(later, None, "2026-10-06", "2026-10-31") == []


class TestAdvancing:
    def test_a_page_and_its_cursor_are_one_transaction(self, place: Place) -> None:
        with place.selected(Send(7)) as (lake, _):
            number = number_of(lake, 7)
            lake.stage([page(number, 10, LARGE)])
            with pytest.raises(LakeError):
                lake.stage([page(number, LARGE + 1), page(number + 1000, 5)])  # no such slice
            record = lake.ledger.record(number)
            assert record.key_range is not None
            assert (record.rows, record.key_range.cursor, record.key_range.stop) == (2, LARGE, KEY_END)
            assert [segment.rows for segment in lake.inventory.staged(number)] == [2]
        with place.opened() as lake:
            assert (lake.repairs.strays, lake.repairs.lost) == (2, 0)

    def test_pages_of_many_slices_count_each_for_itself(self, place: Place) -> None:
        with place.selected(*(Send(one) for one in range(1, 41))) as (lake, _):
            numbers = [number_of(lake, one) for one in range(1, 41)]
            pages = [page(number, 10 * at, 10 * at + 1) for at, number in enumerate(numbers, 1)]
            lake.stage([*pages, replace(page(numbers[0], 900, proof=Proof.TAIL), erased=(10, 11), queries=2)])
            assert [row["rows"] for row in lake.ledger.walked(None)] == [3] + [2] * 39
            first = next(lake.ledger.walked(None))
            assert (first["gone"], first["queries"], first["proof"]) == (2, 2, "tail")
            assert lake.inventory.staged_bytes()[0] == 41

    def test_the_newest_date_is_the_latest_whatever_comes_after_it(self, place: Place) -> None:
        with place.selected(Send(7)) as (lake, _):
            number = number_of(lake, 7)
            for key, day in ((1, None), (2, 3), (3, 12), (4, 5), (5, None)):
                rows = message_rows(key)
                if day is not None:
                    at = rows.schema.get_field_index(MESSAGES.dates[0])
                    dated = rows.schema.field(at)
                    rows = rows.set_column(at, dated, pa.array([datetime(2026, 10, day)], dated.type))  # noqa: DTZ001
                lake.stage([replace(page(number, key), rows=rows)])
            assert next(lake.ledger.walked(None))["newest"].startswith("2026-10-12")

    def test_a_walk_that_is_split_is_told_as_a_whole(self, place: Place) -> None:
        halves = (KeyRange(stop=100, cursor=10, held=10), KeyRange(start=100, cursor=150, held=150, rows=1))
        with place.selected(Send(7)) as (lake, _):
            number = number_of(lake, 7)
            lake.stage([page(number, 10), replace(page(number, 150), key_range=None, key_ranges=halves)])
            record = lake.ledger.record(number)
            assert (record.key_range, record.further) == (halves[0], halves[1:])
            assert [segment.first_key for segment in lake.inventory.sealable(number)] == [10]
            lake.stage([replace(page(number), discards=(100, KEY_END), key_ranges=(KeyRange(cursor=10, held=10),))])
            record = lake.ledger.record(number)
            assert (record.rows, record.further) == (1, ())

    def test_slices_that_come_whole_are_data_files_at_once(self, place: Place) -> None:
        with place.selected(*(Send(one, expected=2) for one in (7, 8, 9))) as (lake, _):
            pages = [
                replace(
                    page(number_of(lake, one), 10 * one, 10 * one + 1, proof=Proof.COUNT, id_send=one),
                    whole=Whole(SliceKey("messages", one), 2),
                )
                for one in (9, 7, 8)
            ]
            assert lake.stage(pages) == [0, 0, 0]
            assert lake.inventory.unsealed_slices() == []
            assert lake.inventory.sealed_bytes()[0] == 3
            for one in (7, 8, 9):
                (file,) = lake.inventory.files(number_of(lake, one))
                assert (file.name, file.first_key) == (
                    f"messages/send={one}/part-{10 * one}-{10 * one + 1}.parquet",
                    10 * one,
                )
        assert place.findings() == []

    @pytest.mark.parametrize("error", ["", "a\0b", "\ud800", "ů" * 10_000, "50% of :them %(x)s"])
    def test_any_reason_can_be_noted(self, place: Place, error: str) -> None:
        with place.selected(Send(7)) as (lake, _):
            lake.ledger.note(number_of(lake, 7), error, 4)
            noted = next(lake.ledger.walked(None))
            assert (len(noted["error"]), noted["queries"]) == (len(error), 4)


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


class TestFeeding:
    def test_slices_come_in_order_some_at_a_time_and_each_once(self, place: Place) -> None:
        sizes = {1: None, 2: 50, 3: 900, 4: 50, 5: 5000, 6: None, 7: 900, 8: 0}
        both = ("messages", "bounces")
        with place.selected(*(Send(one, expected=size) for one, size in sizes.items()), datasets=both) as (lake, run):
            lake.stage([page(number_of(lake, 4), 10, id_send=4)])
            lake.ledger.give_up(number_of(lake, 6), "why", 1, 100)
            lake.ledger.give_up(number_of(lake, 6, "bounces"), "why", 1, 100)
            feeding, handed = Feeding(lake.ledger, run, 100), list[int]()
            while records := feeding.take(3):
                handed += dict.fromkeys(record.key.id_send for record in records)
            assert list(dict.fromkeys(handed)) == [4, 5, 3, 7, 1, 2, 8]
            wanted = list(feeding.sizes())
            assert sorted(one.expected or 0 for one in wanted if one.dataset == "messages") == [
                0,
                0,
                50,
                50,
                900,
                900,
                5000,
            ]
            assert sum(one.rows for one in wanted) == 1

    def test_a_large_lake_is_read_some_at_a_time(self, place: Place) -> None:
        with place.selected(*(Send(one) for one in range(1, 2502))) as (lake, run):
            assert sum(1 for _ in Feeding(lake.ledger, run, 100).sizes()) == 2501
            assert [row["id_send"] for row in lake.ledger.walked(run)] == list(range(1, 2502))
            assert sum(1 for _ in lake.scopes.sends(run)) == 2501
            assert sum(1 for _ in snapshots(lake.ledger.database)) == 2501


class TestScopes:
    def test_members_are_fed_and_settled_and_what_is_left_goes_on_by_itself(self, place: Place) -> None:
        sends = [
            Send(one, id_message=1 if one < 5 else 2, expected=size, proven=True)
            for one, size in ((1, 2), (2, 0), (3, 5), (4, None), (5, 2))
        ]
        with place.selected(*sends, datasets=("messages", "bounces")) as (lake, run):
            sizes = list(lake.scopes.sends(run))
            assert sorted(sizes, key=str) == sorted(
                [
                    KnownSend(1, 2, True),
                    KnownSend(1, 0, True),
                    KnownSend(1, 5, True),
                    KnownSend(1, None, True),
                    KnownSend(2, 2, True),
                ],
                key=str,
            )
            lake.scopes.begin(run, [1], 100)
            (scope,) = lake.scopes.take(0, 9)
            assert (scope.id_message, scope.key_range.limit, scope.ended) == (1, 100, False)
            members = lake.scopes.members(scope.id, [1, 3, 5, LARGE])
            assert sorted(members) == [1, 3]
            assert [record.key.id_send for record in Feeding(lake.ledger, run, 100).take(9)] == [5, 5]
            pages = [page(members[one].slice_id, 10 * one, 10 * one + 1, id_send=one) for one in (1, 3)]
            lake.stage(
                pages, ScopeStep(scope.id, KeyRange(cursor=31, held=31), ended=False, left=(number_of(lake, 4),))
            )
            assert lake.scopes.members(scope.id, [1])[1].held == 11
            assert lake.scopes.members(scope.id, list(range(60_000)))[3].rows == 2
            assert sorted(lake.scopes.full([one.slice_id for one in members.values()], 1)) == sorted(
                one.slice_id for one in members.values()
            )
            assert lake.scopes.full([one.slice_id for one in members.values()], 1e9) == []
            assert lake.scopes.has_open(scope.id, beside_empty=True)
            lake.scopes.end(scope.id)
            assert [one.id for one in lake.scopes.ended()] == [scope.id]
            assert lake.scopes.settle(scope.id, NOW) == [members[1].slice_id, number_of(lake, 2)]
            assert lake.scopes.settle(scope.id, NOW) is None
            assert not lake.scopes.has_any()
            proofs = {row["id_send"]: row["proof"] for row in lake.ledger.walked(None) if row["dataset"] == "messages"}
            assert proofs == {1: "count", 2: "empty", 3: None, 4: None, 5: None}

    def test_a_scope_of_the_account_is_resumed_or_given_up(self, place: Place) -> None:
        sends = [Send(one, expected=2) for one in (1, 2)]
        with place.selected(*sends) as (lake, run):
            lake.scopes.begin(run, None, 100)
            (scope,) = lake.scopes.take(0, 9)
            again = lake.runs.begin("12345")
            lake.runs.select(again, sends[:1], ["messages"], NOW)
            lake.scopes.resume(again, keep=True)
            assert sorted(lake.scopes.members(scope.id, [1, 2])) == [1]
            lake.scopes.give_up(scope.id)
            assert not lake.scopes.has_any()
            lake.scopes.begin(again, None, 100)
            lake.scopes.resume(again, keep=False)
            assert not lake.scopes.has_any()


class TestRemembering:
    def test_what_the_server_bears_is_kept_until_it_bears_all(self, place: Place) -> None:
        with place.opened() as lake:
            assert lake.bearing.remembered() is None
            for borne in (Borne(1.25, 3), Borne(None, 2)):
                lake.bearing.remember(borne, NOW)
                remembered = lake.bearing.remembered()
                assert remembered is not None
                assert (remembered.borne, remembered.at) == (borne, NOW)
            lake.bearing.remember(Borne(), NOW)
            assert lake.bearing.remembered() is None

    def test_snapshots_status_and_verify_tell_the_same(self, place: Place) -> None:
        with place.selected(Send(7), Send(8), Send(9)) as (lake, _):
            lake.stage([page(number_of(lake, 7), 10, 11, proof=Proof.TAIL), page(number_of(lake, 8), 20, id_send=8)])
            lake.seal(number_of(lake, 7))
            seen = snapshot(lake.ledger.database, SliceKey("messages", 7))
            assert seen is not None
            assert (seen.proven, seen.rows, len(seen.files), seen.staged) == (Proof.TAIL, 2, 1, ())
            assert known_sends(lake.ledger.database, "messages", [7, 9, 77]) == {7, 9}
            with verifying(place.root, quick=True, ledger=place.ledger) as verification:
                assert verification.in_use
            assert read_status(place.root, place.ledger).in_use
        status = read_status(place.root, place.ledger)
        assert (status.rows["messages"], status.data_files, status.staged_segments, status.in_use) == (3, 1, 1, False)
        assert status.slices_by_state["messages"] == {"complete": 1, "incomplete": 2}
        assert [outcome.rows for outcome in status.slices()] == [2, 1, 0]
        assert place.findings() == []
        assert is_lake(place.root, place.ledger)
        assert not is_lake(place.root / "none", place.ledger)


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

        crashed, step = True, 0
        while crashed:
            step += 1
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
                assert list(found) == [one for one in (4, 5) if one > older]
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


def make_older(connection: Connection, older: int) -> None:
    """Takes out of a ledger what later formats added to it."""
    connection.execute(sa.text("DROP TABLE versions"))
    dropped: dict[str, tuple[str, ...]] = {}
    if older < 4:
        dropped |= {"slices": ("scope",), "segments": ("checksum",), "ranges": ("first_keys", "rows")}
        connection.execute(sa.text("DROP INDEX slices_by_scope"))
        connection.execute(sa.text("DROP TABLE scopes"))
    if older < 2:
        dropped["slices"] += ("listed", "first_seen", "newest", "overdue", "due", "checked_run", "checked_at")
        dropped |= {
            "data_files": ("overdue", "gone", "changed", "refresh"),
            "segments": ("overdue", "refresh", "checksum"),
        }
        for table in ("refreshes", "erased"):
            connection.execute(sa.text(f"DROP TABLE {table}"))
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
