"""The main job: a lake that equals the account, whatever shape the answers have and whatever goes wrong."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from harvester.api.client import Client
from harvester.api.limiter import Permit
from harvester.budget import Hold
from harvester.datasets import BOUNCES, MESSAGES
from harvester.errors import AddressRefused, HarvesterError, LakeInUse, ServerNotReached, Unauthorized
from harvester.harvest import plan
from harvester.lake.lake import open_lake
from harvester.lake.layout import Footer
from harvester.model import KEY_END, Page, Query, Secret, Send
from harvester.simulator.behaviour import Behaviour, Fault
from harvester.simulator.spec import AccountSpec, Case, Nothing, Numbers, Shape, equal, listed, skewed
from harvester.simulator.truth import expected
from tests.harvesting import QUICK, at_attempt, field, lake_table, outcomes, proofs
from tests.thorough import some

pytestmark = pytest.mark.anyio

NASTY = AccountSpec(seed=11, sends=equal(3, 700), gap=5, awkward=True, waiting=0.05)


async def test_four_sends_of_10_000_rows_come_in_exactly(tmp_path: Path) -> None:
    spec = AccountSpec(seed=7, sends=equal(4, 10_000), gap=7, awkward=True)
    async with field(tmp_path, spec) as account:
        result = await account.run()
        assert result.complete
        assert result.rows["messages"] == 40_000
        account.assert_exact()


@pytest.mark.parametrize(
    "shape",
    some(
        [
            Shape(numbers=Numbers.MIXED, shuffle=True, unknown=True),
            Shape(case=Case.LOWER, shuffle=True),
            Shape(missing=("ID_template", "fax", "s_os", "BOUNCE_CAT")),
            Shape(nothing=Nothing.LIST, single_bare=True),
            Shape(pretty=True),
            Shape(ascii=True),
            Shape(numbers=Numbers.BARE),
            Shape(case=Case.UPPER),
            Shape(unknown=True),
        ],
        kept=5,
    ),
    ids=lambda shape: ",".join(name for name in shape.__slots__ if getattr(shape, name) != getattr(Shape(), name)),
)
async def test_every_shape_of_answer_gives_the_same_lake(tmp_path: Path, shape: Shape) -> None:
    sends = listed({601: 300, 602: 1, 603: 0, 604: 41})
    spec = AccountSpec(seed=5, sends=sends, gap=3, awkward=True, shape=shape, failed=0.2)
    async with field(tmp_path, spec, limit=100) as account:
        result = await account.run()
        assert result.complete, [outcome.error for outcome in result.slices()]
        account.assert_exact()


LIMITS = [(3, 25_000), (100, 25_000), (25_000, 90), (100, 99)]


@pytest.mark.parametrize(
    ("inclusive", "gap", "limit", "cap"),
    some(
        [
            *((gap == 1, gap, *limits) for gap in (1, 50) for limits in LIMITS),
            *((gap != 1, gap, *limits) for gap in (1, 50) for limits in LIMITS),
        ],
        kept=8,
    ),
)
async def test_cursors_and_caps(tmp_path: Path, inclusive: bool, gap: int, limit: int, cap: int) -> None:
    rows = 60 if limit == 3 else 700
    spec = AccountSpec(seed=3, sends=equal(2, rows), gap=gap)
    behaviour = Behaviour(inclusive=inclusive, page_cap=cap)
    async with field(tmp_path, spec, behaviour, limit=limit) as account:
        result = await account.run()
        assert result.complete
        account.assert_exact()


class TestProofs:
    async def test_a_known_count_saves_the_query_for_the_tail(self, tmp_path: Path) -> None:
        async with field(tmp_path, AccountSpec(sends=equal(3, 500), failed=0.1)) as account:
            sends = [Send(id_send, expected=500) for id_send in account.server.account.spec.sends.ids]
            result = await account.run(sends)
            assert proofs(result, "messages") == ["count"] * 3
            assert proofs(result, "bounces") == ["covers"] * 3
            assert account.server.stats.functions[MESSAGES.function] == 3
            assert account.server.stats.functions[BOUNCES.function] == 3
            account.assert_exact()

    async def test_without_a_count_a_second_short_answer_proves_the_tail(self, tmp_path: Path) -> None:
        async with field(tmp_path, AccountSpec(sends=equal(3, 500), failed=0.1)) as account:
            result = await account.run()
            assert proofs(result, "messages") == ["tail"] * 3
            assert account.server.stats.functions[MESSAGES.function] == 6

    @pytest.mark.parametrize("said", [499, 501])
    async def test_a_wrong_count_does_not_prove_and_the_tail_does(self, tmp_path: Path, said: int) -> None:
        async with field(tmp_path, AccountSpec(sends=listed({601: 500}))) as account:
            result = await account.run([Send(601, expected=said)])
            outcome = outcomes(result)["messages", 601]
            assert (outcome.proof, outcome.rows, outcome.expected) == ("tail", 500, said)

    async def test_bounces_alone_are_proven_by_two_askings_that_agree(self, tmp_path: Path) -> None:
        async with field(tmp_path, AccountSpec(sends=equal(2, 500), failed=0.1)) as account:
            result = await account.run(datasets=("bounces",))
            assert proofs(result, "bounces") == ["agreed"] * 2
            assert account.server.stats.functions[BOUNCES.function] == 4

    async def test_empty_sends_are_proven_by_two_askings_with_a_witness_between(self, tmp_path: Path) -> None:
        async with field(tmp_path, AccountSpec(sends=listed({601: 0, 602: 0, 603: 50}), failed=0)) as account:
            result = await account.run()
            assert proofs(result, "messages") == ["empty", "empty", "tail"]
            assert proofs(result, "bounces") == ["empty"] * 3
            account.assert_exact()

    async def test_in_an_account_that_brings_nothing_at_all_nothing_is_proven_empty(self, tmp_path: Path) -> None:
        async with field(tmp_path, AccountSpec(sends=listed({601: 0})), patience_s=0.1) as account:
            result = await account.run()
            assert not result.complete
            assert "proves nothing" in str(outcomes(result)["messages", 601].error)

    async def test_a_send_with_a_count_is_never_taken_for_empty(self, tmp_path: Path) -> None:
        async with field(tmp_path, AccountSpec(sends=listed({601: 0, 602: 50})), patience_s=0.1) as account:
            result = await account.run([Send(601, expected=9), Send(602)], datasets=("messages",))
            assert not result.complete
            said, _, asked = str(outcomes(result)["messages", 601].error).partition(" (asked for ")
            assert said == "the answer is empty, though the send is said to have 9 messages"
            assert asked == "messages of send 601 limit 25000)"
            assert outcomes(result)["messages", 602].proof == "tail"

    async def test_a_number_of_the_user_s_own_that_is_wrong_says_nothing_of_the_source_and_can_be_taken_back(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with field(tmp_path, AccountSpec(sends=listed({601: 0, 602: 50})), patience_s=0.1) as account:
            result = await account.run([Send(601, expected=9), Send(602)])
            assert not result.complete
            assert "the source said" not in caplog.text
            assert (await account.run([Send(601, expected=0), Send(602)])).complete
            account.assert_exact()

    @pytest.mark.parametrize("expected", [None, 400])
    async def test_one_record_is_not_taken_for_all_because_two_answers_held_nothing_else(
        self, tmp_path: Path, expected: int | None
    ) -> None:
        behaviour = Behaviour(script=(Fault.BARE, Fault.BARE))
        async with field(tmp_path, AccountSpec(sends=listed({601: 400})), behaviour) as account:
            assert (await account.run([Send(601, expected=expected)])).complete
            account.assert_exact()

    async def test_erased_records_at_the_cursor_are_passed_over_and_counted(self, tmp_path: Path) -> None:
        spec = AccountSpec(seed=2, sends=equal(2, 400), gap=3)
        async with field(tmp_path, spec, Behaviour(vanish=0.4), limit=40) as account:
            result = await account.run(datasets=("messages",))
            assert result.complete
            assert account.server.stats.vanished
            for id_send in spec.sends.ids:
                held = set(lake_table(tmp_path, "messages", id_send)["id_send_message"].to_pylist())
                left = set(expected(account.server.account, MESSAGES, id_send)["id_send_message"].to_pylist())
                assert held > left
                assert 0 < outcomes(result)["messages", id_send].gone <= len(held - left)


class TestProofsRefused:
    """What looks like an end and is none: a shortened page, an empty answer, a cap, at any point of a walk."""

    @pytest.mark.parametrize("fault", [Fault.SHORT, Fault.EMPTY])
    @pytest.mark.parametrize("nothing", [Nothing.OBJECT, Nothing.LIST])
    async def test_by_count(self, tmp_path: Path, fault: Fault, nothing: Nothing) -> None:
        spec = AccountSpec(seed=8, sends=equal(3, 300), gap=4, failed=0.1, shape=Shape(nothing=nothing))
        behaviour = Behaviour(faults={fault: 0.3}, fault_seed=2, page_cap=90)
        async with field(tmp_path, spec, behaviour, limit=100) as account:
            result = await account.run([Send(id_send, expected=300) for id_send in spec.sends.ids])
            assert result.complete
            assert account.server.stats.faults[fault]
            account.assert_exact()

    async def test_by_count_that_a_shortened_page_seems_to_reach(self, tmp_path: Path) -> None:
        async with field(tmp_path, AccountSpec(sends=listed({601: 300})), limit=100) as account:
            result = await account.run([Send(601, expected=199)])  # which a full page reaches in the middle
            assert outcomes(result)["messages", 601].proof == "tail"
            account.assert_exact()

    async def test_by_covers_while_bounces_are_missing(self, tmp_path: Path) -> None:
        spec = AccountSpec(seed=8, sends=equal(4, 300), failed=0.3)
        behaviour = Behaviour(faults={Fault.SHORT: 0.4}, fault_seed=12)
        async with field(tmp_path, spec, behaviour, concurrency=1) as account:
            result = await account.run()
            assert result.complete
            account.assert_exact()

    @pytest.mark.parametrize("nothing", list(Nothing)[:2])
    async def test_by_empty_while_failed_messages_are_known(self, tmp_path: Path, nothing: Nothing) -> None:
        spec = AccountSpec(seed=8, sends=listed({601: 60}), failed=0.3, shape=Shape(nothing=nothing))
        async with field(tmp_path, spec, patience_s=0.2) as account:
            assert (await account.run(datasets=("messages",))).complete
            account.server.behaviour = Behaviour(faults={Fault.EMPTY: 1.0})
            result = await account.run()
            assert not result.complete
            assert "messages of the send failed" in str(outcomes(result)["bounces", 601].error)
            account.server.behaviour = Behaviour()
            assert (await account.run()).complete
            account.assert_exact()

    async def test_by_tail_while_every_answer_holds_half_of_what_is_left(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        attempt = Client.attempt

        async def halved(self: Client, query: Query, permit: Permit, hold: Hold) -> Page:
            page = await attempt(self, query, permit, hold)
            return replace(page, batch=page.batch.slice(0, (page.batch.num_rows + 1) // 2))

        async with field(tmp_path, AccountSpec(sends=listed({601: 500})), limit=400, patience_s=0.2) as account:
            monkeypatch.setattr(Client, "attempt", halved)
            result = await account.run(datasets=("messages",))
            assert outcomes(result)["messages", 601].state == "incomplete"
            monkeypatch.setattr(Client, "attempt", attempt)
            assert (await account.run()).complete
            account.assert_exact()

    async def test_by_anything_while_every_answer_is_empty(self, tmp_path: Path) -> None:
        async with field(tmp_path, AccountSpec(sends=listed({601: 60})), patience_s=0.2) as account:
            account.server.behaviour = Behaviour(faults={Fault.EMPTY: 1.0})
            result = await account.run()
            assert {outcome.state for outcome in result.slices()} == {"incomplete"}


FAULTS = {
    Fault.FAILED: 0.04,
    Fault.BAD_GATEWAY: 0.03,
    Fault.UNAVAILABLE: 0.03,
    Fault.RESET: 0.04,
    Fault.TRUNCATE: 0.03,
    Fault.SHORT: 0.03,
    Fault.HTML: 0.02,
    Fault.EMPTY: 0.02,
    Fault.ERROR: 0.01,
}
FAULTS_ALONE = sorted(FAULTS, key=lambda fault: fault not in {Fault.RESET, Fault.TRUNCATE, Fault.SHORT, Fault.EMPTY})
"""Those first that look most like success."""


class TestFaults:
    @pytest.mark.parametrize("fault", some(FAULTS_ALONE, 4))
    async def test_each_fault_alone_in_a_quarter_of_answers(self, tmp_path: Path, fault: Fault) -> None:
        async with field(
            tmp_path, NASTY, Behaviour(faults={fault: 0.25}, fault_seed=4), limit=100, concurrency=1
        ) as account:
            result = await account.run()
            assert result.complete, [outcome.error for outcome in result.slices()]
            assert account.server.stats.faults[fault]
            account.assert_exact()

    async def test_two_answers_that_are_cut_one_after_the_other_are_no_end(self, tmp_path: Path) -> None:
        """The second of them to one record, the cursor's: as if there were nothing after it."""
        behaviour = Behaviour(script=(None, Fault.SHORT, Fault.SHORT), fault_seed=71)
        spec = AccountSpec(sends=listed({601: 500}), gap=5)
        async with field(tmp_path, spec, behaviour, limit=100, concurrency=1, datasets=("messages",)) as account:
            assert (await account.run([601])).complete
            account.assert_exact(datasets=("messages",))

    async def test_a_quarter_of_all_answers_failing_in_every_way(self, tmp_path: Path) -> None:
        async with field(tmp_path, NASTY, Behaviour(faults=FAULTS, fault_seed=9), limit=100, concurrency=1) as account:
            result = await account.run()
            assert result.complete
            assert len(account.server.stats.faults) > 5
            account.assert_exact()

    async def test_a_server_that_hangs_is_asked_again(self, tmp_path: Path) -> None:
        behaviour = Behaviour(faults={Fault.HANG: 0.2}, fault_seed=1)
        async with field(tmp_path, NASTY, behaviour, limit=200, timeout_s=0.3, concurrency=8) as account:
            assert (await account.run()).complete
            assert account.server.stats.faults[Fault.HANG]
            account.assert_exact()

    async def test_one_failed_send_fails_alone(self, tmp_path: Path) -> None:
        async with field(tmp_path, NASTY, patience_s=0.2) as account:
            first, *others = account.server.account.spec.sends.ids
            account.server.fail_sends.add(first)
            result = await account.run()
            assert not result.complete
            assert not result.interrupted
            assert {key[1] for key, outcome in outcomes(result).items() if outcome.state == "incomplete"} == {first}
            assert "500" in str(outcomes(result)["messages", first].error)
            account.assert_exact(*others)
            account.server.fail_sends.clear()
            assert (await account.run()).complete
            account.assert_exact()

    async def test_a_rate_limit_is_kept_to(self, tmp_path: Path) -> None:
        behaviour = Behaviour(rate=50, burst=3)
        async with field(tmp_path, NASTY, behaviour, limit=200, rate=40.0, burst=1) as account:
            assert (await account.run()).complete
            assert account.server.stats.throttled == 0

    async def test_a_429_pauses_everything_for_as_long_as_it_says(self, tmp_path: Path) -> None:
        behaviour = Behaviour(faults={Fault.THROTTLED: 0.2}, fault_seed=3, retry_after_s=0.05)
        async with field(tmp_path, NASTY, behaviour, limit=200) as account:
            assert (await account.run()).complete
            assert account.server.stats.faults[Fault.THROTTLED]
            account.assert_exact()

    async def test_a_page_too_large_is_asked_for_in_halves_and_what_worked_is_remembered(self, tmp_path: Path) -> None:
        tuning = replace(QUICK, body_cap_bytes=150_000)
        async with field(tmp_path, AccountSpec(sends=equal(1, 600)), limit=400, tuning=tuning) as account:
            result = await account.run()
            assert result.complete
            account.assert_exact()
            messages = outcomes(result)["messages", 601_181]
            assert messages.queries < 20

    async def test_a_server_that_goes_away_is_waited_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async with field(tmp_path, NASTY, limit=50) as account:
            at_attempt(5, lambda: setattr(account.server, "down", True), monkeypatch)
            at_attempt(40, lambda: setattr(account.server, "down", False), monkeypatch)
            assert (await account.run()).complete
            account.assert_exact()


class TestReasons:
    async def test_what_gives_up_says_which_query_and_what_came_back(self, tmp_path: Path) -> None:
        behaviour = Behaviour(faults={Fault.SHORT: 1.0})
        spec = AccountSpec(sends=equal(1, 300), failed=0.2)
        async with field(tmp_path, spec, behaviour, patience_s=0.2) as account:
            result = await account.run(datasets=("messages",))
            assert not result.complete
            error = str(outcomes(result)["messages", 601_181].error)
            assert "; what came: " in error
            assert "(asked for messages of send 601181 from " in error
            assert "@" not in error


class TestRuns:
    async def test_a_second_run_asks_nothing(self, tmp_path: Path) -> None:
        async with field(tmp_path, AccountSpec(sends=listed({601: 90, 602: 0, 603: 10}), failed=0.1)) as account:
            sends = list(account.server.account.sends)
            first = await account.run(sends)
            assert first.complete
            asked = account.server.stats.requests
            second = await account.run(sends)
            assert (second.complete, second.queries, second.attempts) == (True, 0, 0)
            assert account.server.stats.requests == asked
            assert second.rows == first.rows

    async def test_a_large_send_becomes_files_of_the_target_size_that_adjoin(self, tmp_path: Path) -> None:
        target = 400_000
        spec = AccountSpec(seed=6, sends=equal(1, 40_000), gap=3, awkward=True)
        async with field(tmp_path, spec, limit=1000, tuning=replace(QUICK, target_bytes=target)) as account:
            assert (await account.run(datasets=("messages",))).complete
        files = sorted(tmp_path.glob("messages/*/*.parquet"))
        assert len(files) > 2
        assert all(target / 3 < path.stat().st_size < target * 2 for path in files[:-1])
        footers = [Footer.decode(pq.read_metadata(path).metadata or {}) for path in files]
        assert [footer.start for footer in footers] == [0, *(footer.stop for footer in footers[:-1])]
        assert [footer.proof for footer in footers] == [None] * (len(files) - 1) + ["count"]
        assert footers[-1].stop == KEY_END
        keys = lake_table(tmp_path, "messages", 601_181)["id_send_message"].combine_chunks()
        assert len(keys) == 40_000
        assert pc.all(pc.less(keys[:-1], keys[1:])).as_py(), "ascending across files"

    async def test_a_drained_run_goes_on_where_it_stopped(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with field(tmp_path, NASTY, limit=50) as account:
            harvest = account.harvest()
            at_attempt(12, harvest.drain, monkeypatch)
            first = await harvest.run()
            assert first.interrupted
            assert not first.complete
            assert 12 <= account.server.stats.requests <= 12 + 4
            assert 0 < first.rows["messages"] < 3 * 700
            assert (await account.run()).complete
            account.assert_exact()
            asked = account.server.stats.functions[MESSAGES.function]
            assert asked <= 3 * (700 // 48 + 5), "pages that were committed are not asked for again"

    async def test_concurrency_is_used_and_not_exceeded(self, tmp_path: Path) -> None:
        spec = AccountSpec(sends=equal(24, 100))
        async with field(tmp_path, spec, Behaviour(latency_s=(0.4, 0.4)), concurrency=12) as account:
            assert (await account.run(datasets=("messages",))).complete
            assert account.server.stats.max_in_flight == 12

    async def test_many_sends_are_under_way_a_few_at_a_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tuning = replace(QUICK, window=10)
        async with field(tmp_path, AccountSpec(sends=equal(120, 2)), tuning=tuning) as account:
            sizes: list[int] = []
            choose = plan.choose

            def watched(state: plan.State, now: float) -> plan.Decision:
                sizes.append(len(state.walks))
                return choose(state, now)

            monkeypatch.setattr(plan, "choose", watched)
            assert (await account.run(datasets=("messages",))).complete
            assert 10 <= max(sizes) <= 10 + 64

    @pytest.mark.parametrize(("rows", "asked"), [(4000, 4), (40, 1)])
    async def test_others_go_once_the_first_answer_is_here_if_it_is_too_long_to_be_a_refusal(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, asked: int
    ) -> None:
        read = Client._read
        async with field(tmp_path, AccountSpec(sends=equal(4, rows)), datasets=("messages",)) as account:
            stats = account.server.stats
            before: list[int] = []

            async def read_late(*args: Any) -> Page | HarvesterError:
                if not before:
                    with anyio.fail_after(20):
                        while stats.requests < asked:
                            await anyio.lowlevel.checkpoint()
                    before.append(stats.requests)
                return await read(*args)

            monkeypatch.setattr(Client, "_read", read_late)
            assert (await account.run()).complete
            assert before == [asked]

    async def test_wrong_credentials_stop_the_run_after_one_attempt(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        wrong = Secret("ffffffffffffffffffffffffffffffff")
        async with field(tmp_path, NASTY, client_md5=wrong) as account:
            harvest = account.harvest()
            with pytest.raises(Unauthorized) as refused:
                await harvest.run()
            assert account.server.stats.requests == 1
            assert wrong not in str(refused.value) + caplog.text + repr(account.settings)
            assert harvest.result is not None
            assert not harvest.result.complete
            for path in tmp_path.rglob("*"):
                assert not path.is_file() or wrong.encode() not in path.read_bytes()

    async def test_a_refused_address_stops_the_run_and_says_what_to_do(self, tmp_path: Path) -> None:
        async with field(tmp_path, NASTY, Behaviour(disallowed=True)) as account:
            with pytest.raises(AddressRefused, match=r"127\.0\.0\.1"):
                await account.run()
            assert account.server.stats.requests == 1

    async def test_nobody_listening_ends_the_run_in_time(self, tmp_path: Path) -> None:
        async with field(tmp_path, NASTY) as account:
            with pytest.raises(ServerNotReached, match="could not be connected to"):
                await account.run(endpoint="http://127.0.0.1:1")

    async def test_a_lake_in_use_is_left_alone(self, tmp_path: Path) -> None:
        async with field(tmp_path, NASTY) as account:
            with open_lake(tmp_path, QUICK), pytest.raises(LakeInUse):
                await account.run()
            assert account.server.stats.requests == 0
            assert (await account.run()).complete
            account.assert_exact()

    async def test_large_and_small_sends_together(self, tmp_path: Path) -> None:
        async with field(tmp_path, AccountSpec(seed=1, sends=skewed(40, 8_000), gap=2), limit=500) as account:
            assert (await account.run()).complete
            account.assert_exact()
