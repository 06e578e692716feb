"""When a send is split and where: decided over plain numbers, and what that comes to in simulated time."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate
from random import Random

import pyarrow as pa
import pytest

from harvester.datasets import BOUNCES, MESSAGES
from harvester.harvest import parts, plan, splitting, taking, walks
from harvester.harvest.lineup import Lineup
from harvester.harvest.outlook import Stretch
from harvester.harvest.plan import Ask, Split, State, Wait
from harvester.harvest.spacing import Profile, Spacing, learned
from harvester.harvest.walks import Walk
from harvester.model import KEY_END, KeyRange
from tests.walking import Source, Walking

START = 2**60
EVEN = Spacing(rows=1e9, keys=1e10, spread=0.0, at=0)
"""A record every ten keys."""


def stretch(
    start: int, stop: int = KEY_END, *, cursor: int | None = None, busy: bool = True, ended: bool = False
) -> Stretch:
    return Stretch(start, stop, cursor, EVEN if cursor else None, page_rows=100, in_flight=busy, ended=ended)


def cut(*stretches: Stretch, idle: int, rows: int, expected: int | None, empty_from: int | None = None) -> list[int]:
    """At which keys so many idle permits split, one after the other."""
    found: list[int] = []
    now = list(stretches)
    for left in range(idle, 0, -1):
        where = splitting.cut(now, idle=left, rows=rows, expected=expected, empty_from=empty_from)
        if where is None:
            break
        found.append(where.at)
        split = now[where.place]
        now[where.place] = Stretch(split.start, where.at, split.cursor, split.spacing, 100, in_flight=True)
        now.insert(where.place + 1, Stretch(where.at, split.stop, None, None, 100, in_flight=True))
    return found


def after(hole: int) -> Stretch:
    """The send's last range, from 20,000 on, and so many keys later its first one; a page of it has come."""
    first = 20_000 + hole
    return Stretch(20_000, KEY_END, first + 1000, EVEN, 100, True, False, EVEN, range(first, first + 160, 10))


class TestCut:
    def test_permits_that_are_idle_together_share_what_is_left_in_whole_pages(self) -> None:
        first = stretch(0, cursor=1000)  # 100 rows are taken, 100 are under way
        found = cut(first, idle=3, rows=100, expected=1700)
        # 16 pages are left, and 4 walks: 4 for each. Two rows less, so that each passes its stop.
        assert found == pytest.approx([1000 + 10 * (pages * 100 - 2) for pages in (12, 8, 4)], abs=1)

    def test_what_whole_pages_leave_over_at_the_end_is_a_piece_of_its_own_and_the_first_to_be_asked_for(self) -> None:
        first, *others = cut(stretch(0, cursor=1000), idle=4, rows=100, expected=1750)  # 16 and a half pages
        assert 1000 + 10 * 1500 < first < 1000 + 10 * 1598
        assert len(others) == 3
        assert max(others) < first
        whole = cut(stretch(0, cursor=1000), idle=1, rows=100, expected=1700)
        assert whole == pytest.approx([1000 + 10 * (8 * 100 - 2)], abs=1), "nothing is left over of 16 pages"

    def test_where_it_is_not_known_how_much_is_left_the_end_is_not_looked_for(self) -> None:
        def opened(spread: float) -> Stretch:
            return Stretch(20_000, KEY_END, 30_000, Spacing(1e9, 1e10, spread, at=29_500), 100, in_flight=True)

        sure, unsure = (cut(opened(spread), idle=3, rows=3000, expected=7050)[0] for spread in (0.1, 1.0))
        assert (sure > 69_000, unsure < 60_000) == (True, True)

    def test_the_range_with_most_left_is_split(self) -> None:
        short, long = stretch(0, 3000, cursor=1000), stretch(3000, 20_000, cursor=4000)
        where = splitting.cut([short, long], idle=1, rows=200, expected=2000, empty_from=None)
        assert where is not None
        assert where.place == 1

    @pytest.mark.parametrize("expected", [100, 150, 200, 240])
    def test_what_the_next_page_may_hold_is_left_alone(self, expected: int) -> None:
        assert cut(stretch(0, cursor=1000), idle=5, rows=100, expected=expected) == []

    def test_a_split_that_would_cost_a_query_needs_something_to_gain(self) -> None:
        # One page is left after the one under way; a split has two rows come twice, and there is no room for them.
        assert cut(stretch(0, cursor=1000), idle=1, rows=100, expected=299) == []
        # Three queries have room for ten rows more, of which the first two leave their share.
        assert cut(stretch(0, cursor=1000), idle=1, rows=100, expected=390) == pytest.approx([2933], abs=1)

    def test_nothing_is_taken_from_a_range_that_is_not_opened_or_waits(self) -> None:
        assert cut(stretch(0), idle=1, rows=100, expected=9000) == []
        assert cut(stretch(0, cursor=1000, busy=False), idle=1, rows=100, expected=9000) == []

    def test_where_others_have_more_that_can_be_split_soon_nothing_is(self) -> None:
        known, unopened = stretch(0, 6000, cursor=1000), stretch(6000, 60_000)
        assert cut(known, unopened, idle=2, rows=100, expected=6000) == []

    def test_keys_that_seemed_to_be_empty_are_not_looked_at_again(self) -> None:
        found = cut(stretch(0, cursor=1000), idle=3, rows=100, expected=10_000, empty_from=20_000)
        assert found
        assert max(found) < 20_000

    def test_without_a_count_few_look_where_perhaps_nothing_is(self) -> None:
        assert len(cut(stretch(0, cursor=10_000), idle=11, rows=1000, expected=None)) == 2
        assert len(cut(stretch(0, cursor=40_000), idle=11, rows=4000, expected=None)) == 10
        assert cut(stretch(0, cursor=2000), idle=11, rows=200, expected=None) == []

    def test_where_a_send_is_large_an_idle_permit_reads_the_page_that_comes_next(self) -> None:
        known, unopened = stretch(0, 4500, cursor=1000), stretch(6000, 60_000)
        assert cut(known, unopened, idle=1, rows=3100, expected=7800) == []
        (at,) = cut(known, unopened, idle=1, rows=3200, expected=7800)
        assert 1500 < at < 2000, "after the page that is under way, and with room for a guess that is off"

    def test_what_would_cost_one_more_wait_is_asked_for_at_once_if_nothing_else_does(self) -> None:
        known, other = stretch(0, 2970, cursor=1000), stretch(2970, 3900, cursor=3000)
        ended = stretch(3900, cursor=5000, ended=True)
        (at,) = cut(known, other, ended, idle=1, rows=3200, expected=3500)
        assert 1000 < at < 2000
        as_long = stretch(2970, 4970, cursor=3000)
        assert cut(known, as_long, ended, idle=1, rows=3200, expected=3600) == []

    def test_uneven_keys_leave_more_to_the_right(self) -> None:
        uneven = Stretch(0, KEY_END, 1000, Spacing(100, 1000, spread=1.0, at=500), 100, in_flight=True)
        where = splitting.cut([uneven], idle=1, rows=100, expected=2000, empty_from=None)
        assert where is not None
        assert where.at < cut(stretch(0, cursor=1000), idle=1, rows=100, expected=2000)[0]

    def test_one_page_of_irregular_keys_foretells_little(self) -> None:
        def first(spread: float) -> Stretch:
            return Stretch(0, KEY_END, 1000, Spacing(1e9, 1e10, spread, at=500), 100, in_flight=True)

        regular, irregular = ([*cut(first(spread), idle=11, rows=100, expected=6000)] for spread in (0.0, 0.5))
        assert (len(regular), max(regular) > 54_000) == (11, True), "all of it is cut up evenly"
        assert (len(irregular), 36_000 < max(irregular) < 44_000) == (11, True), "or most of it, and what comes next is"
        assert sum(at <= 6000 for at in irregular) > sum(at <= 6000 for at in regular)

    def test_where_more_seem_to_come_than_were_said_they_are_looked_for(self) -> None:
        first, last = stretch(0, 15_000, cursor=10_000), stretch(15_000, cursor=20_000)
        for expected, place in ((3600, 0), (3000, 1)):  # 2,900 rows came, and 500 are left of the first range
            where = splitting.cut([first, last], idle=1, rows=2900, expected=expected, empty_from=None)
            assert where is not None
            assert where.place == place

    def test_beyond_what_was_said_every_second_page_is_looked_at(self) -> None:
        first, last = stretch(0, 15_000, cursor=14_500), stretch(15_000, cursor=40_000)
        # 3,900 rows came, and 50 are left of the first range: 350 more than said, and a share of all are looked for.
        found = cut(first, last, idle=6, rows=3900, expected=3600)
        assert found == pytest.approx([40_000 + 10 * (pages * 100 - 2) for pages in (2, 4, 6, 8)], abs=100)
        assert cut(first, last, idle=6, rows=3900, expected=3600, empty_from=42_500)[0] == found[0]
        assert cut(first, last, idle=2, rows=3900, expected=3600) == found[:2], "by half of the permits at most"
        assert cut(first, stretch(15_000, cursor=40_000, ended=True), idle=11, rows=3900, expected=3600) == []

    def test_what_is_larger_than_what_may_come_beyond_is_split_first(self) -> None:
        first, last = stretch(0, 50_000, cursor=14_500), stretch(50_000, cursor=60_000)
        where = splitting.cut([first, last], idle=1, rows=3900, expected=7000, empty_from=None)
        assert where is not None
        assert where.place == 0

    def test_a_range_that_is_about_to_be_opened_is_split_if_it_is_known_what_lies_around_it(self) -> None:
        left, opened = stretch(0, 2000, cursor=1500), stretch(4000, cursor=5000, ended=True)
        (at,) = cut(left, stretch(2000, 3900), opened, idle=1, rows=3500, expected=4000)
        assert 2000 < at <= 3000, "after the page that is under way"
        unopened = [left, stretch(2000, 3900), stretch(3900, 4000), opened]
        assert cut(*unopened, idle=1, rows=3500, expected=4000) == []

    def test_a_hole_that_a_range_begins_in_goes_on_before_it(self) -> None:
        left = stretch(0, 20_000, cursor=1000)
        (at,) = cut(left, after(0), idle=1, rows=200, expected=2000)
        (short,) = cut(left, after(9_000), idle=1, rows=200, expected=2000)
        assert at > 8_000
        assert 3_000 < short < 7_000, "half of what is left, if as much of the hole is before the range as in it"
        (elsewhere,) = cut(left, after(18_500), idle=1, rows=200, expected=2000)
        assert elsewhere > 20_000, "nothing is left before it"

    @pytest.mark.parametrize(("keys", "hole"), [(0, 0), (320, 0), (330, 330)])
    def test_a_hole_is_where_many_records_would_have_found_room(self, keys: int, hole: int) -> None:
        assert after(keys).hole == hole

    def test_where_keys_lie_far_apart_at_first_there_is_no_hole(self) -> None:
        far = range(29_000, 29_000 + 16 * 300, 300)
        assert Stretch(20_000, KEY_END, 40_000, EVEN, 100, True, False, EVEN, far).hole == 0

    def test_where_there_is_a_hole_ranges_are_cut_into_few_pieces(self) -> None:
        even, among_holes = (cut(after(hole), idle=9, rows=200, expected=10_000) for hole in (0, 9_000))
        assert [len(among_holes), len(even)] == [8, 9], "they are cut again, as long as permits are idle"
        assert max(among_holes) - 9_000 < max(even)

    def test_a_stop_that_is_near_has_fewer_rows_asked_for(self) -> None:
        assert splitting.near_stop(stretch(0, 1300, cursor=1000)) == 30 * 1.1 + 8
        assert splitting.near_stop(stretch(0, 2000, cursor=1000)) is None
        assert splitting.near_stop(stretch(0, cursor=1000)) is None
        assert splitting.near_stop(stretch(0, 1300, cursor=1000), 0.2) == 60 * 1.1 + 8, "keys lie closer from there on"


class TestSpacing:
    def test_even_keys_have_no_spread_and_chance_has_about_one(self) -> None:
        even = learned(None, pa.array(range(0, 10_000, 5), pa.int64()))
        assert even is not None
        assert (even.density, even.spread < 0.1) == (0.2, True)
        dice = Random(1)
        chance = learned(None, pa.array(sorted(dice.sample(range(1_000_000), 4000)), pa.int64()))
        assert chance is not None
        assert 0.5 < chance.spread < 1.6

    def test_what_a_few_records_tell_of_many_is_off_by_more(self) -> None:
        chance = Spacing(rows=100, keys=1000, spread=1.0, at=0)
        assert chance.off_by(100) == pytest.approx(math.sqrt(100 + 100), abs=1)
        assert chance.off_by(900) == pytest.approx(math.sqrt(900 + 9 * 900), abs=5)
        assert EVEN.off_by(900) < 0.01

    def test_a_hole_does_not_tell_how_far_apart_keys_lie(self) -> None:
        with_hole = learned(None, pa.array([*range(0, 2000, 5), *range(9_000_000, 9_002_000, 5)], pa.int64()))
        assert with_hole is not None
        assert with_hole.density == pytest.approx(0.2)

    def test_several_holes_tell_that_there_will_be_more(self) -> None:
        keys = [start + key for start in (0, 10_000, 20_000) for key in range(0, 2000, 5)]
        with_holes = learned(None, pa.array(keys, pa.int64()))
        assert with_holes is not None
        assert with_holes.density == pytest.approx(1200 / 22_000, rel=0.01)

    def test_one_key_tells_nothing(self) -> None:
        assert learned(None, pa.array([7], pa.int64())) is None
        assert learned(EVEN, pa.array([7], pa.int64())) is EVEN

    def test_what_came_last_counts_most(self) -> None:
        now = learned(Spacing(100, 1000, 0.0, 500), pa.array(range(100), pa.int64()))
        assert now is not None
        assert now.rows / now.keys == now.density > 0.2

    def test_a_profile_goes_from_one_density_to_the_next_evenly_and_stays_beyond(self) -> None:
        to_and_fro = Profile([(START - 1000, 0.1), (START, 0.5), (START + 1000, 0.1)])
        assert to_and_fro.rows(START, START + 1000) == pytest.approx(300)
        assert to_and_fro.rows(START, START + 500) == pytest.approx(200)
        assert to_and_fro.rows(START + 1000, START + 2000) == pytest.approx(100)
        assert to_and_fro.rows(START - 2000, START - 1000) == pytest.approx(100)
        self.check_ways_back(to_and_fro)

    def test_where_densities_only_fall_the_distance_of_neighbours_rises_evenly(self) -> None:
        keys = list(accumulate(range(10, 40), initial=START))
        falling = Profile([(keys[0], 1 / 10), (keys[10], 1 / 20), (keys[30], 1 / 40)])
        for number, key in enumerate(keys):
            assert falling.rows(START, key) == pytest.approx(number, rel=0.05)
        assert falling.rows(keys[30], keys[30] + 1000) == pytest.approx(25)
        self.check_ways_back(falling)

    @staticmethod
    def check_ways_back(profile: Profile) -> None:
        for key in (START - 3000, START - 70, START, START + 333, START + 5000):
            assert profile.key_after(START - 5000, profile.rows(START - 5000, key)) == pytest.approx(key, abs=2)


def state(*begun: Walk, in_flight: int, concurrency: int = 4, splits: bool = True) -> State:
    return State(
        walks=Lineup({each.slice_id: each for each in begun}),
        witness=walks.witness_walk(),
        concurrency=concurrency,
        share=1 << 30,
        body_bytes=1000,
        window=3,
        apart_s=5,
        alone=False,
        fed=True,
        in_flight=in_flight,
        splits=splits,
        rate=100.0,
    )


def giant(**more: object) -> Walk:
    """A walk of 10,000 rows whose first page has come, and whose second is under way."""
    key_range = KeyRange(cursor=1000, held=1000, limit=101, rows=100)
    walk = Walk(1, MESSAGES, 601, expected=10_000, rows=100, key_range=key_range, full_limit=101, spacing=EVEN)
    walk.busy = True
    for name, value in more.items():
        setattr(walk, name, value)
    return walk


class TestChoose:
    def test_a_permit_that_nobody_is_ready_for_splits(self) -> None:
        walk = giant()
        decision = plan.choose(state(walk, in_flight=1), 0)
        assert isinstance(decision, Split)
        assert decision.walk is walk

    def test_whoever_is_ready_goes_first(self) -> None:
        ready = Walk(2, MESSAGES, 602)
        assert plan.choose(state(giant(), ready, in_flight=1), 0) == Ask(ready)

    def test_parts_of_a_send_go_in_the_order_of_their_keys(self) -> None:
        walk = giant()
        right = parts.split(walk, 50_000)
        assert plan.choose(state(walk, in_flight=1), 0) == Ask(right)
        walk.busy = False
        assert plan.choose(state(walk, in_flight=0), 0) == Ask(walk)

    def test_keys_are_taken_from_a_part_that_waits_after_failures_of_its_own(self) -> None:
        waiting = giant(failures=2, lone=2, busy=False, ready_at=9.0)
        assert isinstance(plan.choose(state(waiting, in_flight=0), 0), Split)
        waiting.lone = 0
        assert plan.choose(state(waiting, in_flight=0), 0) == Wait(9.0)

    @pytest.mark.parametrize(
        "more",
        [{"reopened": True}, {"done": True}, {"failures": 2}, {"rows": 0}, {"dataset": BOUNCES}, {"anchor": 0}],
        ids=str,
    )
    def test_what_is_no_first_harvest_or_in_trouble_is_not_split(self, more: dict[str, object]) -> None:
        assert plan.choose(state(giant(**more), in_flight=1), 0) == Wait()

    def test_what_failed_once_and_is_asked_again_is(self) -> None:
        assert isinstance(plan.choose(state(giant(failures=1), in_flight=1), 0), Split)

    def test_where_rows_have_to_come_in_order_nothing_is(self) -> None:
        assert plan.choose(state(giant(), in_flight=1, splits=False), 0) == Wait()

    def test_the_concurrency_is_not_exceeded(self) -> None:
        assert plan.choose(state(giant(), in_flight=4), 0) == Wait()

    def test_permits_that_the_rate_will_not_give_are_not_counted_on(self) -> None:
        walk = giant()
        few = state(walk, in_flight=1, concurrency=100)
        few.rate, few.answer_s = 2.0, 1.0  # two are under way at most
        decision = plan.choose(few, 0)
        assert isinstance(decision, Split)
        assert decision.at > 1000 + 10 * 100 * 45, "half of what is left, not a hundredth"


ROWS, LIMIT = 120_000, 2_000


def walked(keys: list[int], expected: int | None) -> tuple[float, int, int]:
    """Simulated seconds, where an answer takes one; queries; and the least there could be."""
    walking = Walking(Source(keys), expected=expected, limit=LIMIT)
    assert walking.run()
    assert sorted(walking.committed.rows) == keys
    return walking.now, len(walking.source.asked), 1 + -(-(len(keys) - LIMIT) // (LIMIT - 1))


def spaced(count: int, gap: int, seed: int = 1) -> list[int]:
    dice = Random(seed)
    return [1000 + number * gap + dice.randrange(gap) for number in range(count)]


def uneven(gap: Callable[[float], float], seed: int = 1) -> list[int]:
    """Keys whose distance depends on how much of the send, as a share, is before them."""
    dice = Random(seed)
    gaps = (1 + 10 * gap(number / ROWS) * dice.uniform(0.2, 1.8) for number in range(ROWS))
    return [int(key) for key in accumulate(gaps, initial=1000)][1:]


UNEVEN: dict[str, tuple[Callable[[float], float], float, float]] = {
    "further and further apart": (lambda at: 1 + 9 * at, 7.1, 1.15),
    "closer and closer": (lambda at: 10 - 9 * at, 7.3, 1.17),
    "far apart later": (lambda at: 1 if at < 0.5 else 10, 7.1, 1.11),
    "close later": (lambda at: 10 if at < 0.5 else 1, 7.1, 1.14),
    "to and fro": (lambda at: 6 + 5 * math.sin(12 * at), 8.8, 1.35),
    "fewer near the end": (lambda at: (1 - min(at, 0.99)) ** -1.2, 8.1, 1.19),
    "one hole": (lambda at: 1 + 200_000 * (abs(at - 0.5) < 1 / ROWS), 7.1, 1.09),
    "ten holes": (lambda at: 1 + 20_000 * (int(at * ROWS) % (ROWS // 10) == 7), 10.1, 1.32),
    "bursts": (lambda at: 0.2 if int(at * 40) % 4 else 40, 11.8, 1.77),
}
"""How keys lie; the most simulated seconds, and queries to the least there could be, on average of four sends."""


class TestSimulated:
    """60 pages, 12 permits, and answers that take a second: 61 seconds one after the other."""

    @pytest.fixture(autouse=True)
    def no_threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """There is no event loop here, and so no way to other threads, where large pages are looked over."""
        monkeypatch.setattr(taking, "_FEW_ROWS", LIMIT)

    @pytest.mark.parametrize("gap", [1, 2, 10, 1000])
    def test_one_send_takes_an_eighth_of_the_time_and_next_to_no_more_queries(self, gap: int) -> None:
        seconds, queries, least = walked(spaced(ROWS, gap), ROWS)
        assert seconds <= 60 / 8
        assert queries <= least * 1.05

    @pytest.mark.parametrize("how", UNEVEN)
    def test_uneven_keys_cost_little(self, how: str) -> None:
        gap, most_seconds, most_queries = UNEVEN[how]
        seconds, queries, least = zip(*(walked(uneven(gap, seed), ROWS) for seed in (1, 2, 3, 4)), strict=True)
        assert sum(seconds) / 4 <= most_seconds
        assert sum(queries) <= sum(least) * most_queries

    @pytest.mark.parametrize("share", [0.25, 0.5, 0.9, 1.001, 1.1, 1.5, 4])
    def test_a_wrong_count_costs_little(self, share: float) -> None:
        seconds, queries, least = walked(spaced(ROWS, 10), int(ROWS * share))
        assert seconds <= 60 / 6.6
        assert queries <= least * 1.17

    @pytest.mark.parametrize(
        ("share", "most_seconds", "most_queries"),
        [
            (0.25, 9.1, 1.14),
            (0.5, 8.1, 1.14),
            (0.6, 8.1, 1.12),
            (0.7, 7.1, 1.15),
            (0.8, 7.1, 1.14),
            (0.9, 7.1, 1.15),
            (0.95, 7.1, 1.03),
            (0.99, 7.1, 1.03),
        ],
    )
    def test_where_more_comes_than_was_said_it_is_seen_early_and_looked_for(
        self, share: float, most_seconds: float, most_queries: float
    ) -> None:
        seconds, queries, least = walked(spaced(ROWS, 10), int(ROWS * share))
        assert seconds <= most_seconds
        assert queries <= least * most_queries

    def test_without_a_count_it_is_still_faster(self) -> None:
        seconds, queries, least = walked(spaced(ROWS, 10), None)
        assert seconds <= 60 / 4.8
        assert queries <= least * 1.15

    def test_where_the_rate_is_the_bound_nothing_is_split(self) -> None:
        walking = Walking(Source(spaced(ROWS, 10)), expected=ROWS, limit=LIMIT, rate=0.99)
        assert walking.run()
        assert (walking.splits, walking.most_parts, len(walking.source.asked)) == (0, 1, 61)

    def test_as_many_cursors_as_the_rate_needs_are_enough(self) -> None:
        walking = Walking(Source(spaced(ROWS, 10)), expected=ROWS, limit=LIMIT, rate=3.9, concurrency=100)
        assert walking.run()
        assert walking.splits <= 8
        assert walking.now <= 61 / 3.9 + 3
