"""Who is asked next, decided over plain state with no loop running."""

import random
from typing import cast

import pytest

from harvester.api.client import Client
from harvester.config import Tuning
from harvester.datasets import BOUNCES, MESSAGES
from harvester.errors import (
    AttemptFailed,
    CursorAbsent,
    Cut,
    NotData,
    ServerFailed,
    Throttled,
    TurnedAway,
    Unproven,
    UsageError,
)
from harvester.harvest import plan, retrying, walks
from harvester.harvest.lineup import Lineup
from harvester.harvest.plan import Ask, Feed, Finished, State, Wait
from harvester.harvest.reaching import Reach
from harvester.harvest.trust import Trust
from harvester.harvest.walks import Walk
from harvester.model import KeyRange, Query
from tests.harvesting import settings_for_nothing

TUNING = Tuning(backoff_s=1, backoff_cap_s=8)
SETTINGS = settings_for_nothing(patience_s=100, tuning=TUNING)


def walk(number: int = 1, *, cursor: int | None = None, ready_at: float = 0, limit: int = 100) -> Walk:
    key_range = KeyRange(cursor=cursor, held=cursor, anchors=(40, 30), limit=limit)
    return Walk(number, MESSAGES, number, key_range=key_range, ready_at=ready_at, full_limit=100)


def state(*begun: Walk, fed: bool = True, alone: bool = False, concurrency: int = 4, share: int = 1 << 30) -> State:
    return State(
        walks=Lineup({each.slice_id: each for each in begun}),
        witness=walks.witness_walk(),
        concurrency=concurrency,
        share=share,
        body_bytes=1000,
        window=3,
        apart_s=5,
        alone=alone,
        fed=fed,
    )


class TestChoose:
    def test_slices_begun_earlier_go_first(self) -> None:
        first, second = walk(1), walk(2)
        assert plan.choose(state(first, second), 0) == Ask(first)
        first.busy = True
        assert plan.choose(state(first, second), 0) == Ask(second)

    def test_a_failed_one_holds_no_turn_while_it_waits(self) -> None:
        failed, other = walk(1, ready_at=9), walk(2)
        assert plan.choose(state(failed, other), 0) == Ask(other)
        other.busy = True
        assert plan.choose(state(failed, other), 0) == Wait(9)
        assert plan.choose(state(failed, other), 9) == Ask(failed)

    def test_no_more_than_twice_the_concurrency_is_in_flight_or_not_committed(self) -> None:
        waiting = state(walk(1), concurrency=2)
        waiting.busy, waiting.uncommitted = 1, 3
        assert plan.choose(waiting, 0) == Wait()
        waiting.uncommitted = 2
        assert isinstance(plan.choose(waiting, 0), Ask)

    def test_where_answers_are_large_few_more_than_may_be_in_flight_are_asked_for(self) -> None:
        waiting = state(walk(1), concurrency=16)
        waiting.busy, waiting.uncommitted = 5, 15
        assert isinstance(plan.choose(waiting, 0), Ask)
        waiting.body_bytes = waiting.share // 20
        assert plan.choose(waiting, 0) == Wait()
        waiting.uncommitted = 14
        assert isinstance(plan.choose(waiting, 0), Ask)

    def test_no_more_than_the_concurrency_is_in_flight(self) -> None:
        full = state(walk(1), concurrency=2)
        full.in_flight = 2
        assert plan.choose(full, 0) == Wait()

    def test_the_first_query_goes_alone_until_its_answer_is_here(self) -> None:
        first = state(walk(1), alone=True)
        assert isinstance(plan.choose(first, 0), Ask)
        first.busy = 1
        assert plan.choose(first, 0) == Wait()

    def test_memory_wins_over_concurrency_but_one_page_always_goes(self) -> None:
        tight = state(walk(1), share=999)
        assert isinstance(plan.choose(tight, 0), Ask)
        tight.busy = tight.parked = 1
        assert plan.choose(tight, 0) == Wait()
        tight.share = 2000
        assert isinstance(plan.choose(tight, 0), Ask)
        tight.busy, tight.parked = 2, 0  # answers that are being read take none of the room to come in
        assert isinstance(plan.choose(tight, 0), Ask)

    def test_slices_are_taken_a_few_at_a_time(self) -> None:
        assert plan.choose(state(fed=False), 0) == Feed()
        begun = [walk(number) for number in range(3)]
        for each in begun:
            each.busy = True
        assert plan.choose(state(*begun, fed=False), 0) == Wait()
        begun[0].failing_since = 0
        assert plan.choose(state(*begun, fed=False), 0) == Feed()

    def test_it_ends_when_nothing_is_left(self) -> None:
        assert plan.choose(state(), 0) == Finished()

    def test_while_draining_nothing_begins(self) -> None:
        draining = state(walk(1))
        draining.draining, draining.busy = True, 1
        assert plan.choose(draining, 0) == Wait()
        draining.busy = 0
        assert plan.choose(draining, 0) == Finished()

    def test_a_proven_slice_is_not_asked_again_and_not_over_before_its_page_is_in_the_lake(self) -> None:
        proven = walk(1)
        proven.done = True
        assert plan.choose(state(proven), 0) == Wait()


class TestEmpty:
    def test_an_empty_answer_waits_for_the_witness_and_then_goes_last(self) -> None:
        empty, other = walk(1), walk(2)
        now = state(empty, other)
        now.trust = Trust(answers=1000)
        assert not walks.note_empty(empty, 10, now.trust, now.apart_s)
        assert plan.choose(now, 10) == Ask(other)
        other.busy = True
        assert plan.choose(now, 10) == Wait(15)
        assert plan.choose(now, 15) == Ask(now.witness)
        plan.note_witness(now)
        other.busy = False
        assert plan.choose(now, 15) == Ask(other)
        other.busy = True
        assert plan.choose(now, 15) == Ask(empty)
        assert walks.note_empty(empty, 15, now.trust, now.apart_s)

    def test_records_after_an_empty_answer_show_that_the_source_was_wrong(self) -> None:
        empty = walk(1)
        now = state(empty)
        walks.note_empty(empty, 10, now.trust, now.apart_s)
        walks.note_records(empty, now.trust)
        assert now.trust.false_empties == 1
        assert empty.empty_since is None


class TestTrust:
    def test_two_answers_do_from_a_source_that_is_believed(self) -> None:
        trust = Trust(answers=1000)
        assert (trust.ends_needed, trust.empties_needed) == (2, 2)

    def test_a_source_that_was_caught_is_asked_more_often(self) -> None:
        trust = Trust(answers=98, false_ends=9, false_empties=0)
        assert (trust.ends_needed, trust.empties_needed) == (6, 2)
        assert Trust(answers=10, false_empties=9).empties_needed == 20

    def test_a_source_that_has_answered_little_is_asked_a_few_times_more_whether_it_has_nothing(self) -> None:
        assert Trust(answers=3).empties_needed == 5
        assert Trust(answers=3).ends_needed == 2

    def test_an_end_after_one_record_is_asked_for_more_often_too(self) -> None:
        assert [Trust(answers=answers).lone_ends_needed for answers in (1, 3, 30, 300)] == [7, 5, 2, 2]
        assert Trust(answers=98, false_ends=9).lone_ends_needed == 6

    def test_the_end_of_many_sends_is_asked_for_more_often_from_a_source_that_little_is_known_of(self) -> None:
        assert [Trust(answers=answers).wide_ends_needed for answers in (3, 30, 300, 3000)] == [9, 4, 3, 2]

    def test_a_cap_below_the_limit_is_no_lie(self) -> None:
        trust = Trust()
        for _ in range(5):
            trust.note_page(90)
            trust.note_went_on(90, limit=100)
        assert trust.false_ends == 0
        trust.note_went_on(17, limit=100)
        assert trust.false_ends == 1


class TestFailures:
    def test_waits_grow_are_jittered_and_capped(self) -> None:
        failing, dice = walk(), random.Random(1)
        waits = []
        for _ in range(6):
            retrying.note_failure(failing, NotData(""), 0, SETTINGS, dice)
            waits.append(failing.ready_at)
        for wait, whole in zip(waits, [1, 2, 4, 8, 8, 8], strict=True):
            assert whole / 2 <= wait <= whole

    @pytest.mark.parametrize(("answer_s", "then"), [(0.01, 0.25), (0.4, 0.4), (30.0, 1.0)])
    def test_one_among_answers_is_tried_again_at_once_and_then_as_soon_as_they_come(
        self, answer_s: float, then: float
    ) -> None:
        failing, dice = walk(), random.Random(1)
        for whole in (0.0, then, 2 * then, 4 * then):
            retrying.note_failure(failing, Cut(""), 0, SETTINGS, dice, answer_s=answer_s)
            assert whole / 2 <= failing.ready_at <= whole

    def test_what_was_its_own_bad_luck_does_not_lengthen_other_waits(self) -> None:
        failing, dice = walk(), random.Random(1)
        for answer_s, whole in ((1.0, 0.0), (1.0, 1.0), (None, 1.0), (None, 2.0)):
            retrying.note_failure(failing, Cut(""), 0, SETTINGS, dice, answer_s=answer_s)
            assert whole / 2 <= failing.ready_at <= whole
        retrying.note_success(failing)
        retrying.note_failure(failing, Cut(""), 0, SETTINGS, dice, answer_s=1.0)
        assert failing.ready_at == 0

    @pytest.mark.parametrize("error", [Unproven(""), TurnedAway("")], ids=repr)
    def test_not_so_what_an_answer_held_or_where_the_server_may_have_too_much_to_do(self, error: AttemptFailed) -> None:
        waiting = walk()
        retrying.note_failure(waiting, error, 0, SETTINGS, random.Random(1), answer_s=1.0)
        assert waiting.ready_at > 0

    def test_the_last_try_is_when_patience_ends(self) -> None:
        failing = walk()
        retrying.note_failure(failing, NotData("why"), 0, SETTINGS, random.Random(1))
        for now in (95, 99.9):
            assert not retrying.out_of_patience(failing, now, SETTINGS)
            retrying.note_failure(failing, NotData("why"), now, SETTINGS, random.Random(1))
            assert failing.ready_at <= 100
        assert retrying.out_of_patience(failing, 100, SETTINGS)
        assert failing.error == "why"

    def test_three_failures_that_size_can_explain_halve_the_limit_down_to_3(self) -> None:
        failing = walk(limit=100)
        limits = []
        for number in range(21):
            retrying.note_failure(failing, Cut("") if number % 2 else ServerFailed(""), 0, SETTINGS, random.Random(1))
            limits.append(failing.key_range.limit)
        assert limits == [100, 100, 50, 50, 50, 25, 25, 25, 12, 12, 12, 6, 6, 6] + [3] * 7

    def test_other_failures_do_not(self) -> None:
        failing = walk(limit=100)
        for _ in range(9):
            retrying.note_failure(failing, NotData(""), 0, SETTINGS, random.Random(1))
        assert failing.key_range.limit == 100

    def test_what_worked_is_kept_and_a_larger_limit_tried_more_and_more_rarely(self) -> None:
        bounded, asked = walk(limit=100), []
        for _ in range(60):
            limit = bounded.key_range.limit
            asked.append(limit)
            if limit > 30:
                retrying.note_failure(bounded, Cut(""), 0, SETTINGS, random.Random(1))
            else:
                retrying.note_success(bounded)
        assert asked[:10] == [100, 100, 100, 50, 50, 50, 25, 50, 50, 50]
        assert sum(limit > 30 for limit in asked[-40:]) <= 6
        assert bounded.key_range.limit >= 25

    def test_a_pause_by_the_server_is_held_against_no_walk(self) -> None:
        reach = Reach(SETTINGS, cast(Client, None))
        assert not reach.failed(Throttled("", 3), 0, failures=0)
        assert reach.failed(ServerFailed(""), 0, failures=0)

    def test_after_three_absences_an_anchor_is_asked_for_then_the_next_then_the_cursor_again(self) -> None:
        lost, asked = walk(cursor=50), []
        for _ in range(10):
            asked.append(lost.asked_from)
            retrying.note_failure(lost, CursorAbsent(""), 0, SETTINGS, random.Random(1))
        assert asked == [50] * 3 + [40] * 3 + [30] * 3 + [50]
        retrying.note_success(lost)
        assert lost.asked_from == 50


class TestQuery:
    def test_a_walk_asks_from_one_before_its_cursor(self) -> None:
        assert walk(cursor=50).query() == Query(MESSAGES, 1, start=49, limit=100)
        assert walk().query() == Query(MESSAGES, 1, start=None, limit=100)

    def test_an_unpaged_dataset_is_asked_whole(self) -> None:
        assert Walk(1, BOUNCES, 7).query() == Query(BOUNCES, 7)

    def test_the_witness_asks_the_account_for_a_few(self) -> None:
        assert walks.witness_walk().query() == Query(MESSAGES, None, limit=3)


@pytest.mark.parametrize("bad", [{"limit": 2}, {"rate": 0}, {"concurrency": 0}, {"client_id": "12x"}, {"datasets": ()}])
def test_settings_that_cannot_be_meant_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        settings_for_nothing(**bad)
