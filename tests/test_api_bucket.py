"""The bucket, whatever is asked of it when: no window holds more than burst + rate x T, and no turn is lost."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from harvester.api.bucket import Bucket

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(0, 5)),
        st.tuples(st.just("take"), st.floats(0, 0.3)),
        st.tuples(st.just("unused"), st.just(0.0)),
        st.tuples(st.just("fill"), st.floats(0, 5)),
        st.tuples(st.just("rate"), st.sampled_from([0.25, 0.5, 1.0])),
    ),
    min_size=1,
    max_size=60,
)


@given(rate=st.sampled_from([0.1, 1.0, 8.0, 50.0]), burst=st.integers(1, 5), steps=STEPS)
def test_no_window_holds_more_than_it_may(rate: float, burst: int, steps: list[tuple[str, float]]) -> None:
    bucket, now, taken = Bucket(rate, burst), 100.0, list[float]()
    for what, number in steps:
        if what == "wait":
            now += number
        elif what == "fill":
            bucket.fill(now + number)
            now += number
        elif what == "rate":
            bucket.change_rate(rate * number, now)
        else:
            now = max(now, bucket.ready_at) + number
            bucket.take(now)
            if what == "take":
                taken.append(now)
            else:
                assert bucket.give_back()
    for first, last in itertools.combinations(range(len(taken)), 2):
        assert last - first + 1 <= burst + rate * (taken[last] - taken[first]) + 1e-9


def test_as_long_as_there_is_work_the_rate_is_used_in_full() -> None:
    bucket, now = Bucket(8.0, 1), 0.0
    for _ in range(801):
        now = max(now, bucket.ready_at)
        bucket.take(now)
    assert abs(now - 100) < 1e-9


def test_a_permit_that_was_not_used_costs_no_turn_unless_another_came_after_it() -> None:
    bucket = Bucket(1.0, 1)
    bucket.take(10.0)
    assert bucket.give_back()
    assert bucket.ready_at <= 10.0
    assert not bucket.give_back()
    bucket.take(10.0)
    bucket.fill(12.0)
    assert not bucket.give_back()
    assert bucket.ready_at == 13.0


def test_a_change_of_rate_holds_from_then_on() -> None:
    bucket = Bucket(1.0, 1)
    bucket.take(10.0)
    bucket.change_rate(0.1, 10.5)
    assert abs(bucket.ready_at - 15.5) < 1e-9
    bucket.fill(20.0)
    bucket.change_rate(2.0, 16.0)
    assert abs(bucket.ready_at - 20.5) < 1e-9
