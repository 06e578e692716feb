"""What holds for every ledger, wherever it is: one suite for all databases, run against real ones.

All of it goes through ``open_lake`` and ``look_into``, as runs and ``status`` do.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pyarrow as pa
import pytest

from harvester.datasets import MESSAGES
from harvester.errors import LakeError
from harvester.harvest.status import read_status
from harvester.lake.feeding import Feeding
from harvester.lake.lake import is_lake
from harvester.lake.staging import Whole
from harvester.lake.upkeep.snapshots import known_sends, snapshot, snapshots
from harvester.lake.upkeep.verify import verifying
from harvester.lake.wide import KnownSend, ScopeStep
from harvester.model import KEY_END, Borne, KeyRange, Proof, Send, SliceKey
from tests.lake_places import LARGE, NOW, Place, number_of
from tests.lake_rows import message_rows, page


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
            assert (scope.id_message, scope.key_ranges[0].limit, scope.ended) == (1, 100, False)
            assert (scope.walked, scope.expected) == (0, 7)
            members = lake.scopes.members(scope.id, [1, 3, 5, LARGE])
            assert sorted(members) == [1, 3]
            assert [record.key.id_send for record in Feeding(lake.ledger, run, 100).take(9)] == [5, 5]
            pages = [page(members[one].slice_id, 10 * one, 10 * one + 1, id_send=one) for one in (1, 3)]
            lake.stage(
                pages, ScopeStep(scope.id, (KeyRange(cursor=31, held=31),), records=9, left=(number_of(lake, 4),))
            )
            assert lake.scopes.members(scope.id, [1])[1].held == 11
            assert lake.scopes.members(scope.id, list(range(60_000)))[3].rows == 2
            assert sorted(lake.scopes.full([one.slice_id for one in members.values()], 1)) == sorted(
                one.slice_id for one in members.values()
            )
            assert lake.scopes.full([one.slice_id for one in members.values()], 1e9) == []
            assert lake.scopes.has_open(scope.id, beside_empty=True)
            lake.scopes.end(scope.id)
            assert lake.scopes.numbers() == [(scope.id, True)]
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

    def test_pages_beyond_a_seam_wait_and_go_to_their_slices_in_order(self, place: Place) -> None:
        first, further = KeyRange(stop=100, cursor=31, held=31), KeyRange(start=100, cursor=150, held=150, rows=2)
        with place.selected(Send(1), Send(2)) as (lake, run):
            lake.scopes.begin(run, None, 100)
            (scope,) = lake.scopes.take(0, 9)
            pages = [lake.waiting.write(scope.id, message_rows(key, key + 1), key + 9) for key in (120, 150)]
            for waits in pages:
                lake.stage([], ScopeStep(scope.id, (first, further), records=5, waits=waits))
            (split,) = lake.scopes.take(0, 9)
            assert (split.key_ranges, split.walked) == ((first, further), 10)
            assert lake.waiting.next(scope.id) is None  # a seam is left of it
            assert lake.waiting.has_any(scope.id)
            assert not lake.waiting.has_any(scope.id, 120)
            joined = KeyRange(cursor=150, held=150)
            lake.stage([], ScopeStep(scope.id, (joined,)))
            page_ = lake.waiting.next(scope.id)
            assert page_ is not None
            assert (page_.first_key, page_.page_end) == (120, 129)
            assert lake.waiting.read(page_).num_rows == 2
            lake.stage([page(number_of(lake, 1), 120, 121)], ScopeStep(scope.id, routed=page_.id))
            lake.waiting.discard(scope.id, 150, KEY_END, (KeyRange(cursor=121, held=121),))
            assert not lake.waiting.has_any(scope.id)
            lake.stage([], ScopeStep(scope.id, (first, further), waits=pages[0]))
            lake.store.remove(pages[0].name)
        with place.opened() as lake:  # its file is gone
            (again,) = lake.scopes.take(0, 9)
            assert (lake.repairs.lost, again.key_ranges[1].cursor) == (1, None)
            lake.waiting.remove(lake.scopes.give_up(scope.id))
            lake.stage([], ScopeStep(scope.id, (first, further)))  # of a scope that is given up, nothing is kept
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
