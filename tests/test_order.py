"""Who is begun before whom, and who goes on before whom: decided over plain state; and the ledger keeps to it."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from harvester.config import Tuning
from harvester.datasets import BOUNCES, MESSAGES
from harvester.harvest import order
from harvester.harvest.lineup import Lineup
from harvester.harvest.slices import LakeSlices
from harvester.harvest.walks import Walk
from harvester.harvest.workload import Workload
from harvester.lake.entries import Due
from harvester.lake.lake import Lake, open_lake
from harvester.model import KeyRange, Proof, Send, SliceKey
from harvester.streaming.selection import Selection
from tests.lake_rows import page

LIMIT = 100
NOW = datetime(2026, 11, 1)  # noqa: DTZ001  the lake's times have no zone


def walk(number: int, **state: object) -> Walk:
    made = Walk(number, MESSAGES, number, turn=number, key_range=KeyRange(limit=LIMIT))
    for name, value in state.items():
        setattr(made, name, value)
    return made


def lineup(*walks: Walk) -> Lineup:
    return Lineup({each.slice_id: each for each in walks})


class TestPlace:
    def test_begun_then_large_then_unknown_then_small(self) -> None:
        sends = [(1, True, 5), (2, False, 900), (3, False, 100), (4, False, None), (5, False, 99), (6, False, 0)]
        places = [order.place(number, begun=begun, expected=size, limit=LIMIT) for number, begun, size in sends]
        assert places == sorted(places)

    def test_of_equal_ones_the_lower_id_goes_first(self) -> None:
        for expected in (None, 5, 500):
            first, second = (order.place(number, begun=False, expected=expected, limit=LIMIT) for number in (1, 2))
            assert first < second


class TestLineup:
    def test_what_was_begun_goes_on_before_others_begin(self) -> None:
        first, second, third = walk(1, busy=True), walk(2), walk(3)
        line = lineup(first, second, third)
        assert line.first(0) is second
        first.busy = False
        assert line.first(0) is first

    def test_what_is_left_of_a_send_goes_ahead_of_sends_that_are_not_begun_but_not_of_begun_ones(self) -> None:
        giant, other, rest = walk(1, queries=3), walk(2), walk(3)
        line = lineup(giant, other, rest)
        line.go_ahead(rest)
        assert line.first(0) is giant
        giant.busy = True
        assert line.first(0) is rest
        rest.busy = True
        assert line.first(0) is other

    def test_what_failed_is_looked_at_again_when_its_time_has_come(self) -> None:
        failed, other = walk(1, ready_at=9.0, failing_since=0.0, queries=1), walk(2)
        line = lineup(failed, other)
        assert line.first(0) is other
        assert line.first(8.9) is other
        assert line.first(9) is failed
        assert line.active == 1

    def test_sleepers_wake_in_the_order_of_their_times(self) -> None:
        dice = random.Random(1)
        sleepers = [walk(number, ready_at=float(time)) for number, time in enumerate(dice.sample(range(1, 400), 300))]
        line = lineup(*sleepers)
        assert line.first(0) is None
        for sleeper in sorted(sleepers, key=lambda each: each.ready_at):
            assert line.last(0) is sleeper
            assert line.first(sleeper.ready_at) is sleeper
            del line[sleeper.slice_id]
        assert not line

    def test_a_decision_looks_at_few_however_many_wait(self) -> None:
        looked = 0

        class Watched(Walk):
            def __getattribute__(self, name: str) -> object:
                nonlocal looked
                looked += name == "ready_at"
                return super().__getattribute__(name)

        waiting = [Watched(number, MESSAGES, number, ready_at=100.0) for number in range(4_000)]
        line = lineup(*waiting, walk(5_000))
        assert line.first(0) is line[5_000]
        looked = 0
        for _ in range(100):
            assert line.first(1) is line[5_000]
        assert looked <= 100

    def test_empty_ones_go_last_and_after_the_witness(self) -> None:
        empty, other = walk(1, empty_since=0.0), walk(2, busy=True)
        line = lineup(empty, other)
        assert line.first(5) is None
        assert line.empty == [empty]
        assert line.last(5) is None
        empty.witnessed = True
        assert line.last(5) is empty
        empty.empty_since = None  # it brought something after all
        assert line.first(5) is empty

    def test_who_has_ended_is_nowhere(self) -> None:
        ended = [walk(1), walk(2, ready_at=5.0), walk(3, empty_since=0.0)]
        line = lineup(*ended)
        line.first(0)
        for each in ended:
            line.pop(each.slice_id, None)
        assert (line.first(10), line.last(10), line.empty, len(line), line.active) == (None, None, [], 0, 0)


class TestLedger:
    @pytest.mark.parametrize("seed", range(3))
    def test_it_hands_sends_out_in_this_order_each_once(self, tmp_path: Path, seed: int) -> None:
        dice = random.Random(seed)
        sizes = {
            number: dice.choice([None, 0, 5, 99, 100, 101, 100, 900, dice.randrange(2_000)]) for number in range(1, 200)
        }
        begun = set(dice.sample(range(1, 200), 20))
        with open_lake(tmp_path / "lake", Tuning()) as lake:
            run = select(lake, sizes)
            for number in begun:
                found = lake.ledger.find(SliceKey(MESSAGES.name, number))
                assert found is not None
                lake.stage([page(found.id, 10 * number, 10 * number + 3)])
            slices, handed = LakeSlices(lake, run, LIMIT), list[int]()
            while records := slices.take(7):
                sends = dict.fromkeys(record.key.id_send for record in records)
                assert len(sends) <= 7
                assert len(records) == 2 * len(sends)
                handed += [number for number in sends if number not in handed]
        right = sorted(
            sizes,
            key=lambda number: order.place(number, begun=number in begun, expected=sizes[number], limit=LIMIT),
        )
        assert handed == right

    def test_a_send_whose_messages_are_complete_is_gone_on_with_before_others_begin(self, tmp_path: Path) -> None:
        with open_lake(tmp_path / "lake", Tuning()) as lake:
            run = select(lake, {1: 900, 2: 2})
            found = lake.ledger.find(SliceKey(MESSAGES.name, 2))
            assert found is not None
            lake.stage([page(found.id, 10, 11, proof=Proof.COUNT)])
            assert [record.key for record in LakeSlices(lake, run, LIMIT).take(1)] == [SliceKey(BOUNCES.name, 2)]

    def test_what_is_complete_or_given_up_is_not_handed_out(self, tmp_path: Path) -> None:
        with open_lake(tmp_path / "lake", Tuning()) as lake:
            run = select(lake, {1: 900, 2: None, 3: 4})
            slices = LakeSlices(lake, run, LIMIT)
            while records := slices.take(3):
                for record in records:
                    lake.ledger.give_up(record.id, "why", 1, LIMIT)
            assert not LakeSlices(lake, run, LIMIT).take(3)

    def test_it_foretells_what_all_of_them_need(self, tmp_path: Path) -> None:
        with open_lake(tmp_path / "lake", Tuning()) as lake:
            run = select(lake, {1: 250, 2: None, 3: 4})
            workload = Workload(LIMIT)
            LakeSlices(lake, run, LIMIT).foretell(workload)
        assert workload.waiting is not None
        assert (workload.waiting.queries, workload.waiting.rows) == (3 + 1, 254)
        assert (workload.waiting.unsized, workload.waiting.lists) == (1, 3)


class TestWorkload:
    def test_what_is_begun_is_counted_by_what_is_left_of_it(self) -> None:
        workload, begun = Workload(LIMIT), walk(1, expected=1_000)
        workload.expect(MESSAGES, expected=1_000, rows=0, due=Due.NOTHING)
        workload.expect(MESSAGES, expected=50, rows=0, due=Due.NOTHING)
        assert workload.left([], 1) == (11 + 1, 1_050, 0)
        workload.begin(begun, Due.NOTHING)
        assert workload.left([begun], 1) == (11 + 1, 1_050, 11)
        begun.rows = 703
        assert workload.left([begun], 1) == (4 + 1, 347, 4)

    def test_how_often_lists_are_asked_is_learned(self) -> None:
        workload = Workload(LIMIT)
        for _ in range(100):
            workload.expect(BOUNCES, expected=None, rows=0, due=Due.NOTHING)
        assert workload.left([], 1) == (100, 0, 0)
        assert workload.left([], 2) == (200, 0, 0)
        for number in range(50):
            asked = replace(walk(number), dataset=BOUNCES, queries=2)
            workload.begin(asked, Due.NOTHING)
            workload.complete(asked)
        left = workload.left([], 1)
        assert left is not None
        assert 95 < left[0] < 100

    def test_nothing_is_told_where_nothing_was_expected(self) -> None:
        assert Workload(LIMIT).left([walk(1)], 1) is None


def test_a_stream_begins_its_sends_in_this_order_too() -> None:
    sends = [Send(7, expected=5), Send(3), Send(9, expected=100), Send(2), Send(8, expected=900)]
    taken = Selection(MESSAGES, sends, NOW, LIMIT).take(9)
    assert [record.key.id_send for record in taken] == [8, 9, 3, 2, 7]


def select(lake: Lake, sizes: dict[int, int | None]) -> int:
    run = lake.runs.begin("12345")
    sends = (Send(number, expected=expected) for number, expected in sizes.items())
    lake.runs.select(run, sends, [MESSAGES.name, BOUNCES.name], NOW)
    return run
