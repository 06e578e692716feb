"""The end of a send, asked for twice at once: proven sooner, at no more queries, and never by one answer alone."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import anyio
import numpy as np
import pytest

from benchmarks.simulated.account import OneSend
from benchmarks.simulated.harvest import Scene, play
from harvester.api.client import Client
from harvester.api.limiter import Permit
from harvester.budget import Hold
from harvester.datasets import MESSAGES
from harvester.errors import ServerFailed, SliceRefused, Unproven
from harvester.harvest import ending, parts, plan, taking
from harvester.harvest.plan import Confirm, State, Wait
from harvester.harvest.spacing import Spacing
from harvester.harvest.trust import ASKINGS, Trust
from harvester.harvest.walks import Walk
from harvester.lake.staging import Taken
from harvester.model import KEY_END, KeyRange, Page, Proof, Query
from harvester.simulator.behaviour import Behaviour
from harvester.simulator.faults import Fault
from tests.test_splitting import state
from tests.walking import ID_SEND, Source, Walking, at_once, batch

LIMIT = 100
KEYS = range(1, 1051)
"""Ten full pages, and half of one."""
ASKED_FROM, EMPTY_FROM = 1000, 1090
EVEN = Spacing(100, 100, 0.0, 950)


def at_end(**more: object) -> Walk:
    """A walk that asks for what is its last page; a part beyond had no keys, and one further on is asked."""
    here = KeyRange(cursor=ASKED_FROM, held=ASKED_FROM, anchors=(999, 997, 991, 973), limit=LIMIT)
    lead = Walk(1, MESSAGES, ID_SEND, expected=900, rows=ASKED_FROM, key_range=here, full_limit=LIMIT)
    lead.spacing = EVEN
    further = parts.split(lead, EMPTY_FROM + 200)
    parts.found_nothing(parts.split(lead, EMPTY_FROM), None)
    lead.busy = further.busy = True
    for name, value in more.items():
        setattr(lead, name, value)
    return lead


def decided(lead: Walk, **more: object) -> plan.Decision:
    here = state(lead, in_flight=2)
    for name, value in more.items():
        setattr(here, name, value)
    return plan.choose(here, 0)


class TestWhetherToConfirm:
    def test_an_idle_permit_asks_for_the_end_as_well(self) -> None:
        lead = at_end()
        assert decided(lead) == Confirm(lead)
        assert decided(at_end(expected=None)) == Confirm(at_end(expected=None))

    def test_once(self) -> None:
        lead = at_end()
        ending.confirmation(lead)
        assert decided(lead) == Wait()

    def test_not_again_when_it_failed_or_said_nothing(self) -> None:
        lead = at_end()
        ending.note_failure(ending.confirmation(lead))
        assert lead.confirmation is None
        assert decided(lead) == Wait()
        other = at_end()
        answered(state(other, in_flight=2), ending.confirmation(other), range(991, 991 + LIMIT))
        assert other.confirmation is None
        assert decided(other) == Wait()

    def test_it_asks_from_further_back_and_for_as_many(self) -> None:
        lead = at_end()
        walk = plan.asked(Confirm(lead))
        assert walk is not None
        query = walk.query()
        assert (query.start, query.limit) == (990, LIMIT)
        assert lead.query().start == 999
        assert parts.of(lead)[0] is lead
        assert len(parts.of(lead)) == 2, "it is no part"

    @pytest.mark.parametrize(
        "more",
        [
            {"expected": 1050},  # the count will prove it
            {"empty_from": None},  # nobody knows where the end may be
            {"empty_from": 1200},  # more than a page may be left
            {"busy": False},
            {"failures": 1},
            {"anchor": 0},
            {"confirmed_from": 1000},  # it was asked for before
            {"key_range": KeyRange(cursor=1000, held=1000, anchors=(999,), limit=LIMIT, short_answers=1)},
            {"key_range": KeyRange(cursor=1000, held=1000, anchors=(), limit=LIMIT)},
            {"key_range": KeyRange(cursor=1000, held=1000, anchors=(999,), limit=63)},
            {"done": True},
        ],
        ids=str,
    )
    def test_else_it_is_left_alone(self, more: dict[str, object]) -> None:
        assert not isinstance(decided(at_end(**more)), Confirm)

    def test_not_of_a_source_that_was_caught(self) -> None:
        assert decided(at_end(), trust=Trust(answers=50, false_ends=1)) == Wait()

    def test_not_where_no_permit_is_idle(self) -> None:
        assert decided(at_end(), in_flight=4) == Wait()


def answered(state: State, walk: Walk, keys: Sequence[int]) -> Taken | None:
    """What becomes of an answer of these keys to a walk's query."""
    if not ending.is_awaited(walk):
        return None
    return at_once(taking.take(state, walk, Page(walk.query(), batch(keys), 1), lambda _: None))


def keys_from(walk: Walk, end: int = 1050) -> list[int]:
    """The right answer to a walk's query, cut after a key."""
    query = walk.query()
    first = bisect_left(KEYS, query.start or 0)
    return [key for key in KEYS[first : first + LIMIT] if key <= end]


class TestAnswers:
    """The part's own answer and the confirmation's, in either order; what is beyond has come to nothing by then."""

    def ended(self, own: int, told: int, *, first: bool) -> tuple[Walk, Proof | None]:
        """The walk, and why it is complete, once both said where they end; ``first`` if the confirmation did first."""
        lead = at_end()
        further, here = parts.of(lead)[1], state(lead, in_flight=3)
        confirmation = ending.confirmation(lead)
        answers = [(lead, keys_from(lead, own)), (confirmation, keys_from(confirmation, told))]
        answers = [(further, []), *(reversed(answers) if first else answers)]
        found = [answered(here, walk, keys) for walk, keys in answers]
        return lead, next((one.proof for one in found if one is not None and one.proof), None)

    @pytest.mark.parametrize("first", [True, False])
    def test_that_agree_prove_it(self, first: bool) -> None:
        lead, proof = self.ended(1050, 1050, first=first)
        assert proof is Proof.TAIL
        assert lead.rows == len(KEYS)

    @pytest.mark.parametrize("first", [True, False])
    @pytest.mark.parametrize(("own", "told"), [(1050, 1049), (1040, 1050), (1050, 1000), (1050, 991)])
    def test_that_differ_prove_nothing_and_the_walk_goes_on(self, own: int, told: int, first: bool) -> None:
        lead, proof = self.ended(own, told, first=first)
        assert proof is None
        assert lead.key_range.cursor == own
        assert lead.key_range.short_answers == 1
        lead.busy = False
        assert isinstance(decided(lead, in_flight=0), plan.Ask)

    def test_until_it_has_come_the_walk_waits_for_it(self) -> None:
        lead = at_end()
        here, confirmation = state(lead, in_flight=2), ending.confirmation(lead)
        answered(here, lead, keys_from(lead))
        lead.busy = False
        assert decided(lead) == Wait()
        ending.note_failure(confirmation)
        assert decided(lead) == plan.Ask(lead), "it failed: the walk asks by itself"

    def test_where_the_walk_goes_on_after_all_nobody_waits_for_it(self) -> None:
        lead = at_end()
        here, confirmation = state(lead, in_flight=2), ending.confirmation(lead)
        answered(here, lead, range(1000, 1000 + LIMIT))
        assert not ending.is_awaited(confirmation)
        lead.busy = False
        assert isinstance(decided(lead), plan.Ask)

    def test_a_full_answer_says_nothing(self) -> None:
        lead = at_end()
        here, confirmation = state(lead, in_flight=2), ending.confirmation(lead)
        answered(here, confirmation, range(991, 991 + LIMIT))
        assert lead.ends_at is None

    @pytest.mark.parametrize("first", [True, False])
    def test_it_ends_nothing_before_what_the_source_brought_further_on(self, first: bool) -> None:
        lead = at_end()
        further, here = parts.of(lead)[1], state(lead, in_flight=3)
        answered(here, further, [1400, 1500])
        confirmation = ending.confirmation(lead)
        one, other = (confirmation, lead) if first else (lead, confirmation)
        answered(here, one, keys_from(one))
        with pytest.raises(Unproven, match="before the key 1400"):
            answered(here, other, keys_from(other))

    def test_what_waits_to_be_asked_again_beyond_comes_to_nothing(self) -> None:
        lead = at_end()
        further, here = parts.of(lead)[1], state(lead, in_flight=2)
        further.busy, further.ready_at = False, 9.0
        confirmation = ending.confirmation(lead)
        answered(here, lead, keys_from(lead))
        taken = answered(here, confirmation, keys_from(confirmation))
        assert taken is not None
        assert taken.proof is Proof.TAIL
        assert parts.of(lead) == [lead]

    def test_a_full_page_is_no_end_though_nothing_may_follow_it(self) -> None:
        lead = at_end()
        here, confirmation = state(lead, in_flight=2), ending.confirmation(lead)
        answered(here, confirmation, range(991, 1090))
        answered(here, lead, range(1000, 1090))
        assert lead.key_range.short_answers == ASKINGS
        other = at_end(fewer=90)
        here, confirmation = state(other, in_flight=2), ending.confirmation(other)
        answered(here, confirmation, range(991, 1090))
        answered(here, other, range(1000, 1090))
        assert other.key_range.short_answers == 0

    def test_an_empty_one_is_held_against_the_source(self) -> None:
        lead = at_end()
        here, confirmation = state(lead, in_flight=2), ending.confirmation(lead)
        assert answered(here, confirmation, []) is None
        assert (here.trust.answers, here.trust.false_empties) == (0, 1)
        assert lead.ends_at is None

    def test_a_source_that_was_caught_meanwhile_has_to_say_it_more_often(self) -> None:
        lead = at_end()
        further, here = parts.of(lead)[1], state(lead, in_flight=2)
        confirmation = ending.confirmation(lead)
        answered(here, lead, keys_from(lead))
        here.trust.false_ends = 1
        further.busy = False
        assert answered(here, confirmation, keys_from(confirmation)) is None
        assert lead.key_range.short_answers == ASKINGS
        assert parts.of(lead) == [lead, further], "it is not proven, so nothing comes to nothing"

    def test_it_is_of_no_use_to_a_send_that_is_complete(self) -> None:
        lead = at_end()
        confirmation = ending.confirmation(lead)
        lead.done = True
        assert not ending.is_awaited(confirmation)

    @pytest.mark.parametrize("lacking", [991, 1000])
    def test_a_confirmation_that_lacks_a_known_record_says_nothing(self, lacking: int) -> None:
        lead = at_end()
        here, confirmation = state(lead, in_flight=2), ending.confirmation(lead)
        answered(here, confirmation, [key for key in keys_from(confirmation) if key != lacking])
        assert lead.ends_at is None


def latencies(seed: int) -> Callable[[], float]:
    dice = Random(seed)
    return lambda: dice.uniform(0.7, 1.3)


class TestWalks:
    @pytest.mark.parametrize("share", [0.6, 0.9])
    def test_a_send_that_has_more_than_it_says_is_proven_sooner_at_as_many_queries(
        self, share: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def walked() -> tuple[float, int, int]:
            seconds, queries, confirmations = 0.0, 0, 0
            for seed in range(16):
                keys = range(1000, 1000 + 12_000 + 97 * seed)
                walking = Walking(Source(keys), round(share * len(keys)), 200, latency_s=latencies(seed))
                assert walking.run()
                assert walking.committed.proof is Proof.TAIL
                assert sorted(walking.committed.rows) == list(keys)
                seconds, queries = seconds + walking.now, queries + len(walking.source.asked)
                confirmations += walking.confirmations
            return seconds, queries, confirmations

        with_it = walked()
        monkeypatch.setattr(ending, "part_at_end", lambda _: None)
        without = walked()
        assert with_it[2] >= 4
        assert with_it[0] < 0.98 * without[0]
        assert with_it[1] <= without[1]

    def test_answers_that_are_cut_alike_do_not_agree(self) -> None:
        both = 0
        for seed in range(16):
            cuts, keys = [0, 0], range(1000, 1000 + 12_000 + 97 * seed)

            def cut(query: Query, found: list[int], cuts: list[int] = cuts) -> list[int]:
                if not 60 < len(found) < (query.limit or 0) or not cuts:
                    return found
                cuts.pop()
                return found[:40]

            walking = Walking(Source(keys, cut), 7_000, 200, latency_s=latencies(seed))
            assert walking.run()
            assert sorted(walking.committed.rows) == list(keys)
            both += bool(walking.confirmations and not cuts)
        assert both >= 4

    def test_one_that_fails_is_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        failed: list[Walk] = []
        note_failure = ending.note_failure

        def noted(walk: Walk) -> None:
            failed.extend([walk] if walk.confirms is not None else [])
            note_failure(walk)

        monkeypatch.setattr(ending, "note_failure", noted)
        settings = {"rate": 1000.0, "burst": 12, "concurrency": 12, "limit": 200, "datasets": ("messages",)}
        for seed in range(60):
            keys = 1000 + np.arange(12_000 + 97 * seed)
            behaviour = Behaviour(latency_s=(0.35, 0.65), faults={Fault.FAILED: 0.2}, fault_seed=seed)
            played = play(Scene(OneSend(keys, 7_000), behaviour, settings=settings))
            assert played.lake.complete == 1
            assert not played.lake.wrong()
            if failed:
                return
        raise AssertionError("none failed")

    def test_one_that_is_refused_once_the_send_is_complete_harms_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        attempt, asked = Client.attempt, list[Query]()

        def any_part(lead: Walk) -> Walk | None:
            able = [part for part in lead.parts if part.busy and part.key_range.cursor and part.confirmed_from is None]
            return able[-1] if able else None

        async def late(self: Client, query: Query, permit: Permit, hold: Hold | None = None) -> Page:
            if query.limit == 77:
                asked.append(query)
                await anyio.sleep(60)  # in simulated time
                raise SliceRefused("Invalid ID_send")
            return await attempt(self, query, permit, hold)

        def marked(part: Walk, confirmation: Callable[[Walk], Walk] = ending.confirmation) -> Walk:
            found = confirmation(part)
            found.key_range = replace(found.key_range, limit=77)
            return found

        monkeypatch.setattr(ending, "part_at_end", any_part)
        monkeypatch.setattr(ending, "confirmation", marked)
        monkeypatch.setattr(Client, "attempt", late)
        settings = {"rate": 1000.0, "burst": 12, "concurrency": 12, "limit": 200, "datasets": ("messages",)}
        account = OneSend(1000 + np.arange(12_000), 12_000)
        played = play(Scene(account, Behaviour(latency_s=(0.5, 0.5)), settings=settings))
        assert asked
        assert played.lake.complete == 1
        assert not played.lake.gave_up

    @pytest.mark.parametrize("seed", range(20))
    def test_a_source_that_cuts_answers_and_fails_is_harvested_whole(self, seed: int) -> None:
        dice = Random(seed)

        def cut(_: Query, keys: list[int]) -> list[int]:
            if dice.random() < 0.08:
                raise ServerFailed("HTTP 503")
            return keys[: max(1, dice.randrange(len(keys)))] if keys and dice.random() < 0.08 else keys

        keys = sorted(dice.sample(range(1000, 40_000), 6_000))
        walking = Walking(
            Source(keys, cut), round(dice.uniform(0.5, 0.95) * len(keys)), LIMIT, latency_s=latencies(seed)
        )
        assert walking.run()
        assert sorted(walking.committed.rows) == keys
        assert walking.committed.key_ranges[-1].stop == KEY_END
