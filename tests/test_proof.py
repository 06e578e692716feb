"""Continuity and the proofs, as plain functions over keys (DESIGN, "What always holds" 2 to 4)."""

import json
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvester.datasets import BOUNCES, MESSAGES, Dataset
from harvester.errors import CursorAbsent, OutOfOrder, Unproven
from harvester.harvest import proof
from harvester.lake import merging
from harvester.model import KEY_END, KeyRange, Page, Proof, Query
from tests.lake_rows import rows_of


def keys(*values: int) -> pa.Int64Array:
    return pa.array(values, pa.int64())


def page(*values: int | None, dataset: Dataset = MESSAGES, id_send: int | None = 7) -> Page:
    rows = rows_of(dataset, *({dataset.key: value, "id_send": id_send} for value in values))
    return Page(Query(dataset, 7, limit=100), rows, body_bytes=0)


AT_50 = KeyRange(cursor=50, held=50, anchors=(40, 30, 10), limit=4)


class TestKeys:
    @pytest.mark.parametrize("bad", [(1, None), (2, 1), (1, 1), (0, 1), (-5, 1), (1, KEY_END)])
    def test_a_page_whose_keys_do_not_ascend_strictly_is_refused(self, bad: tuple[int | None, ...]) -> None:
        with pytest.raises(OutOfOrder):
            proof.checked_keys(page(*bad))

    def test_an_unpaged_dataset_may_repeat_keys_in_any_order(self) -> None:
        assert proof.checked_keys(page(3, 1, 3, dataset=BOUNCES)).to_pylist() == [3, 1, 3]

    def test_records_of_another_send_are_refused(self) -> None:
        with pytest.raises(OutOfOrder, match="another send"):
            proof.checked_keys(page(1, 2, id_send=8))

    @pytest.mark.parametrize("named", ["000777", "777.0", "another"])
    def test_records_whose_send_is_no_id_are_refused(self, named: str) -> None:
        rows = rows_of(
            MESSAGES, {"id_send_message": 1, "_extra": json.dumps({"ID_send": named}, separators=(",", ":"))}
        )
        with pytest.raises(OutOfOrder, match="another send"):
            proof.checked_keys(Page(Query(MESSAGES, 7, limit=100), rows, body_bytes=0))

    def test_a_send_that_records_do_not_name_is_the_one_asked_for(self) -> None:
        rows = rows_of(MESSAGES, {"id_send_message": 1}, {"id_send_message": 2, "id_send": 7})
        assert len(proof.checked_keys(Page(Query(MESSAGES, 7, limit=100), rows, body_bytes=0))) == 2
        assert proof.of_send(rows, 7)["id_send"].to_pylist() == [7, 7]

    def test_one_record_and_none_are_in_order(self) -> None:
        assert len(proof.checked_keys(page(1))) == 1
        assert len(proof.checked_keys(page())) == 0


class TestContinuity:
    def test_the_first_page_is_taken_whole(self) -> None:
        step = proof.step(KeyRange(limit=3), None, 3, keys(5, 6, 9))
        assert (step.first_new, step.key_range.cursor, step.key_range.anchors) == (0, 9, (6,))
        assert (step.short, step.at_end, step.key_range.short_answers) == (False, False, 0)

    @pytest.mark.parametrize("answer", [(50, 60, 61, 62), (49, 50, 60, 61), (40, 45, 50, 60)])
    def test_rows_up_to_the_cursor_are_dropped_whether_the_start_counts_or_not(self, answer: tuple[int, ...]) -> None:
        step = proof.step(AT_50, 50, 4, keys(*answer))
        assert keys(*answer).slice(step.first_new).to_pylist() == [key for key in answer if key > 50]
        assert step.key_range.cursor == step.key_range.held == answer[-1]

    @pytest.mark.parametrize("answer", [(), (60, 61), (60, 61, 62, 63), (48, 49)])
    def test_an_answer_without_the_cursors_record_is_refused(self, answer: tuple[int, ...]) -> None:
        with pytest.raises(CursorAbsent):
            proof.step(AT_50, 50, 4, keys(*answer))

    def test_a_full_page_that_brings_nothing_new_is_refused(self) -> None:
        with pytest.raises(OutOfOrder):
            proof.step(AT_50, 50, 4, keys(30, 40, 45, 50))

    @given(st.sets(st.integers(1, 500), min_size=1, max_size=80), st.integers(3, 30), st.booleans())
    def test_a_walk_over_a_faithful_source_takes_each_row_once_and_ends_by_tail(
        self, source: set[int], limit: int, inclusive: bool
    ) -> None:
        ordered, key_range = sorted(source), KeyRange(limit=limit)
        taken: list[int] = []
        at_end = False
        while not at_end and len(taken) <= len(source):
            start = 0 if key_range.cursor is None else key_range.cursor - 1
            answer = [key for key in ordered if key > start or (inclusive and key == start)][:limit]
            step = proof.step(key_range, key_range.cursor, limit, keys(*answer))
            taken += answer[step.first_new :]
            key_range, at_end = step.key_range, step.at_end
        assert taken == ordered


class TestTail:
    def test_a_short_last_page_counts_as_the_first_answer(self) -> None:
        first = proof.step(AT_50, 50, 4, keys(50, 60))
        assert (first.at_end, first.key_range.short_answers) == (False, 1)
        second = proof.step(first.key_range, 60, 4, keys(60))
        assert proof.walk_proof(second, rows=9, expected=None) is Proof.TAIL

    def test_a_shortened_page_is_no_proof_since_the_next_answer_goes_on(self) -> None:
        first = proof.step(AT_50, 50, 4, keys(50, 60))
        second = proof.step(first.key_range, 60, 4, keys(60, 70, 80, 90))
        assert proof.walk_proof(second, rows=9, expected=None) is None
        assert second.key_range.short_answers == 0

    def test_a_cap_below_the_limit_is_no_proof(self) -> None:
        key_range = KeyRange(limit=100)
        step = proof.step(key_range, None, 100, keys(*range(1, 11)))
        for start in range(10, 50, 9):
            step = proof.step(step.key_range, start, 100, keys(*range(start, start + 10)))
            assert not step.at_end

    def test_a_full_answer_that_ends_there_is_no_proof(self) -> None:
        short = replace(AT_50, short_answers=1)
        assert not proof.step(short, 50, 4, keys(49, 50, 51, 52)).at_end


class TestCount:
    def test_the_count_proves_when_the_page_that_reached_it_was_short(self) -> None:
        step = proof.step(AT_50, 50, 4, keys(50, 60))
        assert proof.walk_proof(step, rows=8, expected=8) is Proof.COUNT

    @pytest.mark.parametrize(("rows", "expected"), [(7, 8), (9, 8), (8, None), (0, 0)])
    def test_another_count_proves_nothing(self, rows: int, expected: int | None) -> None:
        step = proof.step(AT_50, 50, 4, keys(50, 60))
        assert proof.walk_proof(step, rows=rows, expected=expected) is None

    def test_a_full_page_that_reaches_the_count_proves_nothing(self) -> None:
        step = proof.step(AT_50, 50, 4, keys(50, 60, 70, 80))
        assert proof.walk_proof(step, rows=8, expected=8) is None


class TestErased:
    def test_an_anchor_that_comes_back_without_the_cursor_shows_that_it_was_erased(self) -> None:
        step = proof.step(AT_50, 40, 4, keys(40, 45, 60, 70))
        assert (len(step.erased), step.first_new, step.key_range.cursor) == (1, 2, 70)
        assert 50 not in step.key_range.anchors

    def test_a_nearer_anchor_that_is_absent_too_is_gone_too(self) -> None:
        assert proof.step(AT_50, 30, 4, keys(30, 31, 60, 70)).erased == (40, 50)

    def test_an_anchors_answer_that_does_hold_the_cursor_counts_nothing_as_gone(self) -> None:
        step = proof.step(AT_50, 40, 4, keys(40, 45, 50, 60))
        assert (len(step.erased), step.first_new, step.key_range.missing) == (0, 3, ())

    def test_an_erased_last_record_is_gone_once_the_end_is_proven_before_it(self) -> None:
        first = proof.step(AT_50, 40, 4, keys(40, 45))
        assert (len(first.erased), first.key_range.cursor, first.key_range.held, first.key_range.missing) == (
            0,
            45,
            50,
            (50,),
        )
        second = proof.step(first.key_range, 45, 4, keys(45))
        assert (len(second.erased), second.at_end, second.first_new) == (1, True, 1)

    def test_a_record_that_was_only_cut_off_comes_back_and_is_not_taken_twice(self) -> None:
        first = proof.step(AT_50, 40, 4, keys(40, 45))
        second = proof.step(first.key_range, 45, 4, keys(45, 50, 55, 60))
        assert (len(second.erased), second.first_new, second.key_range.missing) == (0, 2, ())


class TestLists:
    def test_keys_that_cover_every_failed_message_prove(self) -> None:
        assert (
            proof.unpaged_proof(keys(3, 1, 3, 5), failed=keys(1, 3), asking="a", earlier=None, believed=True)
            is Proof.COVERS
        )

    def test_keys_that_miss_one_do_not(self) -> None:
        assert proof.unpaged_proof(keys(3), failed=keys(1, 3), asking="a", earlier=None, believed=True) is None

    @pytest.mark.parametrize("failed", [None, keys()])
    def test_without_failed_messages_to_cover_two_askings_have_to_agree(self, failed: pa.Int64Array | None) -> None:
        assert proof.unpaged_proof(keys(3), failed=failed, asking="a", earlier=None, believed=True) is None
        assert proof.unpaged_proof(keys(3), failed=failed, asking="a", earlier="a", believed=True) is Proof.AGREED

    def test_a_source_that_was_caught_has_to_say_twice_what_covers(self) -> None:
        assert proof.unpaged_proof(keys(3), failed=keys(3), asking="a", earlier=None, believed=False) is None
        again = proof.unpaged_proof(keys(3), failed=keys(3), asking="a", earlier="a", believed=False)
        assert again is Proof.COVERS

    def test_askings_that_differ_prove_nothing(self) -> None:
        with pytest.raises(Unproven):
            proof.unpaged_proof(keys(3), failed=None, asking="a", earlier="b", believed=True)

    def test_a_list_shorter_than_another_asking_brought_is_refused(self) -> None:
        proof.check_not_shorter(9, longest=9)
        with pytest.raises(Unproven):
            proof.check_not_shorter(8, longest=9)

    def test_the_digest_depends_on_every_value_and_not_on_the_order_served(self) -> None:
        served, turned = page(3, 1, dataset=BOUNCES).batch, page(1, 3, dataset=BOUNCES).batch
        other = page(1, 4, dataset=BOUNCES).batch
        one, two, three = (proof.digest(merging.in_lake_order(BOUNCES, batch)) for batch in (served, turned, other))
        assert one == two != three


class TestEmpty:
    @pytest.mark.parametrize(
        ("rows", "expected", "failed"),
        [(1, None, None), (0, 5, None), (0, None, keys(1))],
        ids=["rows", "count", "failed"],
    )
    def test_no_answer_makes_a_slice_empty_that_should_have_rows(
        self, rows: int, expected: int | None, failed: pa.Int64Array | None
    ) -> None:
        with pytest.raises(Unproven):
            proof.check_may_be_empty(rows=rows, expected=expected, failed=failed)

    def test_otherwise_it_may_be(self) -> None:
        proof.check_may_be_empty(rows=0, expected=0, failed=keys())
