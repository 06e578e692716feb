"""Seams between the key ranges of a send that is split: proven, or walked again, whatever was guessed or served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from random import Random

import pyarrow as pa
import pytest

from harvester.datasets import MESSAGES
from harvester.errors import ServerFailed, Unproven
from harvester.harvest import parts, ranges
from harvester.harvest.ranges import Seam
from harvester.harvest.walks import Walk
from harvester.lake.staging import Taken
from harvester.model import KEY_END, KeyRange, Proof, Query
from tests.walking import Committed, Source, Walking


def keys(*values: int) -> pa.Int64Array:
    return pa.array(values, pa.int64())


def split_at(*stops: int) -> list[Walk]:
    """The parts of a slice whose first page has come, split at these keys."""
    lead = Walk(1, MESSAGES, 601, rows=3, key_range=KeyRange(cursor=30, held=30, anchors=(20, 10), limit=3))
    for at in reversed(stops):
        parts.split(lead, at)
    return lead.parts


def opened(part: Walk, *values: int) -> None:
    """A part whose first page brought these keys."""
    part.key_range = ranges.opened(
        part.key_range, keys(*values), ranges.inside(part.key_range, keys(*values)), short=False
    )
    part.of_slice.rows += len(values)


class TestSeam:
    RIGHT = KeyRange(start=50, cursor=70, held=70, first_keys=(55, 60, 70))

    @pytest.mark.parametrize(
        ("met", "expected"),
        [
            (None, Seam.OPEN),
            (55, Seam.PROVEN),
            (51, Seam.RIGHT_LACKS),
            (60, Seam.LEFT_LACKS),
            (99, Seam.LEFT_LACKS),
        ],
    )
    def test_what_the_left_range_met_decides(self, met: int | None, expected: Seam) -> None:
        assert ranges.seam(met, self.RIGHT) is expected

    def test_a_range_without_rows_proves_nothing(self) -> None:
        assert ranges.seam(55, KeyRange(start=50)) is Seam.OPEN

    def test_ranges_that_are_split_adjoin_and_the_right_one_knows_no_record(self) -> None:
        left, right = ranges.split(KeyRange(cursor=30, held=30, anchors=(20,), limit=7), 50)
        assert (left.start, left.stop, left.cursor) == (0, 50, 30)
        assert (right.start, right.stop, right.cursor, right.held, right.rows) == (50, KEY_END, None, None, 0)
        assert (right.anchors, right.first_keys, right.limit) == ((), (), 7)

    def test_a_range_is_opened_by_its_own_keys_alone(self) -> None:
        right = KeyRange(start=50, stop=90)
        page = keys(40, 55, 60, 95)
        own = ranges.inside(right, page)
        assert (own.first, own.past, own.met) == (1, 3, 95)
        now = ranges.opened(right, page, own, short=True)
        assert (now.cursor, now.held, now.first_keys, now.anchors, now.rows) == (60, 60, (55, 60), (55,), 2)
        assert now.short_answers == 0, "the send goes on: it has a key after this range"

    def test_neighbours_that_are_joined_go_on_where_the_right_one_is(self) -> None:
        left = KeyRange(start=9, stop=50, cursor=40, held=40, first_keys=(10,), rows=4)
        one = ranges.joined(left, replace(self.RIGHT, rows=3))
        assert (one.start, one.stop, one.cursor, one.rows, one.first_keys) == (9, KEY_END, 70, 7, (10,))


class TestParts:
    def test_a_query_of_a_part_that_is_not_opened_starts_before_its_first_key(self) -> None:
        first, second = split_at(50)
        assert (first.query().start, second.query().start) == (29, 49)

    def test_an_opened_part_is_joined_once_the_left_one_meets_its_first_key(self) -> None:
        first, second, third = split_at(50, 90)
        opened(second, 55, 60)
        first.met = 55
        parts.settle(first)
        assert parts.of(first) == [second, third]
        assert (second.key_range.start, second.key_range.cursor) == (0, 60)
        assert parts.key_ranges(first) == (second.key_range, third.key_range)
        assert not parts.is_part(first)

    def test_a_part_waits_at_its_stop_until_its_neighbour_is_opened(self) -> None:
        first, second = split_at(50)
        first.met = 55
        parts.settle(first)
        assert parts.waits(first)
        assert not parts.waits(second)
        opened(second, 55, 60)
        parts.settle(second)
        assert [part.key_range.start for part in parts.of(second)] == [0]

    def test_a_neighbour_that_left_keys_out_is_met_at_its_first_one(self) -> None:
        first, second = split_at(50)
        opened(second, 60, 70)
        first.met = 55
        parts.settle(first)
        assert (first.key_range.stop, second.key_range.start) == (60, 60)
        assert not parts.waits(first)

    def test_a_part_without_rows_comes_to_nothing_and_its_neighbour_goes_on_through_its_keys(self) -> None:
        first, second, third = split_at(50, 90)
        opened(third, 95)
        first.met = 55
        parts.withdraw(second)
        assert first.key_range.stop == 90
        assert not parts.waits(first), "a key was met there, so there is something to ask"
        first.met = 95
        parts.settle(first)
        assert parts.of(first) == [third]

    def test_a_part_that_found_later_keys_alone_says_where_its_neighbour_begins(self) -> None:
        first, second, third = split_at(50, 90)
        opened(third, 95)
        parts.found_nothing(second, 95)
        assert [part.key_range.start for part in parts.of(first)] == [0, 50]
        first.met = 70
        parts.settle(first)
        assert not parts.waits(first), (
            "there was something, so the first part goes on up to what the last one begins with"
        )
        assert first.key_range.stop == third.key_range.start == 95

    def test_three_answers_that_lack_the_first_key_have_the_neighbour_walked_again(self) -> None:
        first, second = split_at(50)
        opened(second, 51, 60)
        for _ in range(2):
            with pytest.raises(Unproven, match="lacks the key 51"):
                parts.check_seam(first, 55, at_end=False)
        assert parts.check_seam(first, 55, at_end=False)
        assert parts.discard_right(first) == (50, KEY_END)
        assert first.of_slice.rows == 3
        assert parts.key_ranges(first) == (first.key_range,)
        assert first.key_range.stop == KEY_END

    def test_first_keys_that_are_erased_by_then_are_gone_and_the_seam_is_proven(self) -> None:
        first, second = split_at(50)
        opened(second, 51, 52, 60)
        for _ in range(2):
            with pytest.raises(Unproven):
                parts.check_seam(first, 60, at_end=False)
        assert not parts.check_seam(first, 60, at_end=False)
        assert parts.erased_at_seam(first, 60) == (51, 52)
        first.met = 60
        parts.settle(first)
        assert parts.of(first) == [second]

    def test_a_send_does_not_end_before_a_key_that_came(self) -> None:
        first, second = split_at(50)
        assert not parts.check_seam(first, None, at_end=True)
        opened(second, 51)
        with pytest.raises(Unproven, match="end before the key 51"):
            parts.check_seam(first, None, at_end=True)

    def test_a_part_of_which_no_record_comes_back_any_more_goes_on_from_its_neighbours(self) -> None:
        first, second = split_at(50)
        opened(second, 51)
        second.lost = True
        for _ in range(2):
            with pytest.raises(Unproven, match="end before the key 51"):
                parts.check_seam(first, None, at_end=True)
        assert not parts.check_seam(first, None, at_end=True)
        parts.end_here(first)
        parts.settle(first)
        assert parts.of(first) == [second]
        here = second.key_range
        assert (here.start, here.cursor, here.anchors[0]) == (0, 51, first.key_range.cursor), "it is asked from there"

    def test_the_last_part_waits_at_its_end_while_the_rows_of_all_may_prove_it(self) -> None:
        first, second = split_at(50)
        opened(second, 55)
        second.key_range = replace(second.key_range, short_answers=1)
        first.page_rows = second.page_rows = first.longest = 3
        first.expected = 4
        assert not parts.waits(second), "that is how a server's own cap looks"
        second.page_rows = 1
        assert parts.waits(second)
        assert parts.conclusion(second, 2) is None, "a seam is open"
        first.met = 55
        parts.settle(first)
        assert not parts.waits(second)
        assert parts.conclusion(second, 2) is Proof.COUNT
        first.expected = 5
        assert parts.conclusion(second, 2) is None

    def test_of_a_send_that_is_gone_on_with_it_waits_for_the_first_page_that_tells_how_long_others_are(self) -> None:
        first, second = split_at(50)
        opened(second, 55)
        second.key_range = replace(second.key_range, short_answers=1)
        assert not parts.waits(second), "nothing is on its way"
        first.busy = True
        assert parts.waits(second)
        first.page_rows = first.longest = 3
        assert parts.waits(second) is False, "its own page may be as long, for all that is known"

    def test_a_part_whose_end_is_confirmed_awaits_the_answer_from_beyond_it(self) -> None:
        first, second, third = split_at(50, 90)
        opened(second, 55)
        first.page_rows = first.longest = 3
        second.page_rows = 1
        second.key_range = replace(second.key_range, short_answers=2)
        assert not parts.waits(second), "nothing is on its way"
        third.busy = True
        assert parts.waits(second)
        second.key_range = replace(second.key_range, short_answers=1)
        assert not parts.waits(second), "to be confirmed"
        second.key_range = replace(second.key_range, short_answers=2)
        parts.found_nothing(third, None)
        assert parts.of(first) == [first, second]
        first.met = 55
        parts.settle(first)
        assert parts.conclusion(second, 2) is Proof.TAIL

    def test_a_part_whose_end_is_confirmed_goes_on_where_there_is_more(self) -> None:
        _, second, third = split_at(50, 90)
        opened(second, 55)
        second.key_range = replace(second.key_range, short_answers=2)
        opened(third, 95)
        assert not parts.waits(second)


class Audited(Committed):
    """Looks at what is committed each time: no key twice, ranges that cover all, and no hole in any of them."""

    source: Source

    def take(self, page: Taken) -> None:
        super().take(page)
        assert len(set(self.rows)) == len(self.rows)
        here = self.key_ranges
        if not here:
            return
        assert (here[0].start, here[-1].stop) == (0, KEY_END)
        assert all(left.stop == right.start for left, right in pairwise(here))
        for one in here:
            held = sorted(key for key in self.rows if one.start <= key < one.stop)
            assert (held[-1] if held else None) == one.held
            if one.start and held:
                assert (one.first_keys[0], one.rows) == (held[0], len(held))
            first = held[0] if one.start and held else one.start
            assert held == [key for key in self.source.keys if first <= key <= (one.held or 0)]


def some_keys(dice: Random) -> list[int]:
    """A send's keys: dense, by chance, in bursts, with a hole, or denser in one half than in the other."""
    kind, count, key = dice.randrange(5), dice.choice([3, 30, 200, 1000]), dice.randrange(1, 1000)
    found: list[int] = []
    for number in range(count):
        late = number >= count // 2
        key += {
            0: 1,
            1: dice.randrange(1, 21),
            2: 1 if dice.random() < 0.9 else dice.randrange(1, 5000),
            3: dice.randrange(1, 60) if late else 1,
            4: 1 if late else dice.randrange(1, 60),
        }[kind] + (1_000_000 if number == count // 2 and kind == 2 else 0)
        found.append(key)
    return found


def failing(dice: Random) -> Callable[[Query, list[int]], list[int]]:
    """A source that fails now and then, cuts answers short, leaves first records out, or says nothing at all."""
    kind, share = dice.choice(["fail", "short", "lack", "empty", "never"]), dice.choice([0.05, 0.2])

    def answer(query: Query, found: list[int]) -> list[int]:
        if dice.random() >= share or not query.start:
            return found
        if kind == "fail":
            raise ServerFailed("500")
        cut = int(len(found) * dice.uniform(0.2, 1.0))
        return {"short": found[: max(2, cut)], "lack": found[cut:], "empty": [], "never": found}[kind]

    return answer


@pytest.mark.parametrize("seed", range(60))
def test_whatever_is_guessed_served_or_lost_every_key_comes_once(seed: int) -> None:
    dice = Random(seed)
    found = some_keys(dice)
    source = Source(found, failing(dice), inclusive=dice.random() < 0.5)
    audited = Audited()
    audited.source = source
    walking = Walking(
        source,
        expected=dice.choice([None, len(found), len(found), 2 * len(found), len(found) // 2, len(found) + 1]),
        limit=dice.choice([20, 50, 200]),
        concurrency=dice.choice([2, 5, 12, 30]),
        rate=dice.choice([1000.0, 3.0]),
        latency_s=lambda: dice.uniform(0.2, 2.0),
        lag=dice.choice([0, 3, 8]),
        committed=audited,
    )
    for _ in range(dice.choice([0, 1, 3])):  # each ends with what is committed, as after a kill
        walking.run(until_asked=len(source.asked) + dice.randrange(1, 40))
    assert walking.run()
    assert sorted(walking.committed.rows) == found


def test_what_a_source_made_up_and_does_not_stand_by_is_walked_again() -> None:
    found = list(range(1000, 9000, 4))
    dice, known = Random(3), set(found)

    def answer(query: Query, there: list[int]) -> list[int]:
        opens = query.start is not None and query.start + 1 not in known
        return [key + 1 for key in there] if opens and dice.random() < 0.4 else there

    walking = Walking(Source(found, answer), expected=len(found))
    assert walking.run()
    assert walking.committed.discarded
    assert sorted(walking.committed.rows) == found


def test_first_keys_that_are_erased_before_the_seam_is_proven_stay_and_count_as_gone() -> None:
    dice = Random(3)
    found = [1000 + 4 * number + dice.randrange(4) for number in range(2000)]
    erased: set[int] = set()
    served: set[int] = set()

    def answer(query: Query, there: list[int]) -> list[int]:
        opens = query.start is not None and query.start + 1 not in found
        left = [key for key in there if key not in erased]
        if opens and left:
            erased.update(key for key in left[:2] if key not in served)  # else the left range may have come there
        served.update(left)
        return left

    walking = Walking(Source(found, answer), expected=len(found))
    assert walking.run()
    assert erased
    held = set(walking.committed.rows)
    assert walking.committed.gone == erased & held
    assert len(walking.committed.gone) > 4
    assert held >= set(found) - erased
