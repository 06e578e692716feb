"""The pace against servers with moods, in simulated time: nothing sleeps. See ``tests/paced.py``."""

from __future__ import annotations

import random

import pytest

from harvester.api.aimd import Aimd
from harvester.api.pace import Pace
from harvester.model import Borne
from tests.paced import Run, Server, jittered, run_of


def share_refused(run: Run, since: float = 0.0) -> float:
    refused = sum(at >= since for at in run.refused)
    return refused / sum(at >= since for at in run.sent)


def assert_no_attempt_during_a_pause(run: Run) -> None:
    assert run.pauses
    for begin, end in run.pauses:
        assert not [at for at in run.sent if begin < at < end]


@pytest.mark.parametrize("burst", [1, 5])
@pytest.mark.parametrize("latency", [(0.001, 0.003), (0.2, 0.8), (2.0, 4.0)], ids=str)
@pytest.mark.parametrize(("status", "retry_after_s"), [(429, 1.0), (429, None), (503, 1.0)])
def test_a_server_that_lets_in_five_a_second_is_asked_about_as_often_where_twenty_were_told(
    burst: int, latency: tuple[float, float], status: int, retry_after_s: float | None
) -> None:
    server = Server(jittered(*latency), rate=5.0, burst=burst, status=status, retry_after_s=retry_after_s)
    run = run_of(server, 20.0, 40).until(300)
    assert share_refused(run) <= 0.1
    assert share_refused(run, since=60) <= 0.03
    assert len([at for at in run.answers if at >= 60]) >= 0.8 * 5 * 240
    assert_no_attempt_during_a_pause(run)


@pytest.mark.parametrize(("cap", "told"), [(1.0, 20.0), (0.5, 1.0), (40.0, 50.0), (8.0, 9.0)])
def test_and_so_at_other_rates(cap: float, told: float) -> None:
    run = run_of(Server(jittered(0.2, 0.8), rate=cap), told, 60).until(600)
    assert share_refused(run) <= 0.1
    assert len([at for at in run.answers if at >= 120]) >= 0.8 * cap * 480


@pytest.mark.parametrize(("rate", "burst"), [(20.0, 1), (1000.0, 100)])
@pytest.mark.parametrize(("status", "retry_after_s"), [(503, None), (429, None), (429, 1.0), (503, 1.0)])
def test_a_server_that_takes_six_at_once_gets_six(
    rate: float, burst: int, status: int, retry_after_s: float | None
) -> None:
    server = Server(jittered(0.2, 0.8), most=6, status=status, retry_after_s=retry_after_s)
    run = run_of(server, rate, 12, burst=burst).until(120)
    assert run.pace.borne == Borne(None, 6)
    assert share_refused(run) <= 0.03
    assert share_refused(run, since=60) <= 0.005
    assert len([at for at in run.answers if at >= 60]) >= 0.9 * 12 * 60


def test_both_limits_at_once() -> None:
    run = run_of(Server(jittered(0.8, 1.2), rate=5.0, most=3), 20.0, 12).until(300)
    assert run.pace.concurrency in {3, 4}
    assert share_refused(run) <= 0.1
    assert len([at for at in run.answers if at >= 60]) >= 0.75 * 3 * 240


def test_a_mood_that_passes_is_found_out() -> None:
    server = Server(jittered(0.2, 0.8), rate=5.0, most=6)
    run = run_of(server, 20.0, 12).until(60)
    assert run.pace.rate < 6
    server.rate = server.most = None
    run.until(60 + 720)
    assert run.pace.rate == 20.0
    assert run.pace.concurrency == 12
    assert run.pace.borne == Borne()


def test_latency_that_grows_without_throughput_has_fewer_asked_at_once_and_costs_none() -> None:
    fixed = run_of(Server(jittered(0.2, 0.8), workers=4), 1000.0, 16, burst=100, adaptive=False).until(300)
    run = run_of(Server(jittered(0.2, 0.8), workers=4), 1000.0, 16, burst=100).until(300)
    assert 4 <= (run.pace.borne.concurrency or 16) <= 12
    assert len(run.answers) >= 0.97 * len(fixed.answers)
    run.server.workers = None
    run.until(900)
    assert run.pace.borne == Borne()


@pytest.mark.parametrize("told", [(1000.0, 100), (8.0, 1)])
def test_latency_that_is_only_unsteady_changes_nothing(told: tuple[float, int]) -> None:
    rate, burst = told
    run = run_of(Server(jittered(0.2, 0.8)), rate, 12, burst=burst).until(300)
    assert (run.pace.rate, run.pace.concurrency) == (rate, 12)
    assert len(run.answers) >= 0.97 * min(rate, 24) * 300


def test_latency_with_a_long_tail_costs_little() -> None:
    dice = random.Random(5)
    run = run_of(Server(lambda: dice.lognormvariate(-1, 1)), 1000.0, 12, burst=100).until(600)
    assert len(run.answers) >= 0.9 * 12 / 0.6065 * 600


def test_failures_by_chance_are_no_refusals() -> None:
    server = Server(jittered(0.2, 0.8), chance=0.05, status=503, retry_after_s=None)
    run = run_of(server, 1000.0, 12, burst=100).until(300)
    assert len(run.answers) >= 0.9 * 24 * 0.95 * 300


def test_without_a_header_pauses_grow_until_an_answer_comes() -> None:
    pace = Pace(1.0, 4, adaptive=True, backoff_s=1.0, backoff_cap_s=60.0)
    now, pauses = 0.0, list[float]()
    for _ in range(8):
        pauses.append(pace.throttled(pace.sent("page", now), now, None))
        now += pauses[-1]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert pace.throttled(pace.sent("page", now), now, 7.0) == 7.0
    assert (pace.refused, pace.pauses) == (9, 9)
    pace.answered(pace.sent("page", 500.0), 500.5)
    assert pace.throttled(pace.sent("page", 501.0), 501.0, None) == 1.0


def test_refusals_of_what_had_left_already_make_no_pause_longer_and_cut_nothing_twice() -> None:
    pace = Pace(8.0, 8, adaptive=True, backoff_s=1.0, backoff_cap_s=60.0)
    left = [pace.sent("page", number / 8) for number in range(5)]
    assert [pace.throttled(sent, 0.7, None) for sent in left] == [1.0] * 5
    assert (pace.refused, pace.pauses) == (5, 1)
    assert pace.rate == 4.0


def test_a_server_that_refuses_everything_is_asked_again_as_soon_as_it_lets_in() -> None:
    run = run_of(Server(jittered(0.2, 0.8), rate=1e-9, burst=1, retry_after_s=None), 8.0, 8).until(3600)
    run.server.rate = None
    before = len(run.answers)
    run.until(3600 + 60 + 120)
    assert len(run.answers) - before >= 0.3 * 8 * 120


def test_switched_off_rate_and_concurrency_are_fixed_and_pauses_are_kept() -> None:
    server = Server(jittered(0.2, 0.8), rate=5.0, most=3)
    run = run_of(server, 20.0, 12, adaptive=False, borne=Borne(1.0, 1)).until(60)
    assert (run.pace.rate, run.pace.concurrency, run.pace.borne) == (20.0, 12, Borne())
    assert run.pace.refused == len(run.refused) > 0
    assert_no_attempt_during_a_pause(run)


def test_what_was_learned_starts_the_next_run_which_is_refused_little() -> None:
    first = run_of(Server(jittered(0.2, 0.8), rate=5.0, most=6), 20.0, 12).until(120)
    borne = first.pace.borne
    assert borne.rate is not None
    again = run_of(Server(jittered(0.2, 0.8), rate=5.0, most=6), 20.0, 12, borne=borne).until(20)
    assert len(again.refused) <= 3
    assert run_of(Server(jittered(0.2, 0.8)), 2.0, 3, borne=borne).pace.borne == Borne()  # told less than it bore


def test_a_rate_that_is_not_used_does_not_grow() -> None:
    aimd = Aimd(10.0)
    aimd.refused(gap=0.1)
    for number in range(100):
        aimd.answered(gap=1.0, now=float(number))
    assert aimd.rate == 5.0
    aimd.answered(gap=0.2, now=100.0)
    assert aimd.rate > 5.0
