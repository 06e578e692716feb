"""Many small sends, harvested for real by one walk: exact, in a handful of queries, and nothing that is not wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from harvester.api.client import Client
from harvester.api.limiter import Permit
from harvester.budget import Hold
from harvester.config import Scope, Settings
from harvester.datasets import MESSAGES
from harvester.errors import ServerFailed
from harvester.harvest import keeping
from harvester.harvest.finding import Finder
from harvester.harvest.outcome import Result
from harvester.harvest.run import Harvest
from harvester.harvest.status import read_status
from harvester.harvest.upkeep import Recovered, recover
from harvester.harvest.wanted import Wanted
from harvester.lake.feeding import Feeding
from harvester.lake.lake import look_into, open_lake
from harvester.lake.scopes import Scopes
from harvester.lake.staging import Taken
from harvester.lake.upkeep.findings import Kind
from harvester.lake.upkeep.verify import verifying
from harvester.model import KeyRange, Page, Proof, Query, Send
from harvester.simulator import AccountSpec, Behaviour, Fault, Shape, equal, listed
from tests.harvesting import QUICK, Field, at_attempt, field, lake_table, outcomes, proofs
from tests.soak import Plan, Soak, served
from tests.test_scoping import batch
from tests.thorough import some

pytestmark = pytest.mark.anyio
SPEC = AccountSpec(sends=equal(100, 12), sends_per_campaign=20, failed=0.1)
SMALL = AccountSpec(sends=equal(40, 12), sends_per_campaign=10)
ACCOUNT: dict[str, Any] = {"limit": 1000, "datasets": ("messages",), "scope": Scope.ACCOUNT}


def given(**changes: Any) -> dict[str, Any]:
    return ACCOUNT | changes


def said(account: Field, expected: int | None = 12, **odd: int | None) -> list[Send]:
    """All sends, with so many messages each, but for the odd ones: ``s3=7``."""
    sends = [replace(send, expected=expected) for send in account.server.account.sends]
    return [
        replace(send, expected=odd[f"s{number}"]) if f"s{number}" in odd else send for number, send in enumerate(sends)
    ]


def assert_sound(account: Field) -> None:
    account.assert_exact(datasets=("messages",))
    assert_verified(account)


def assert_verified(account: Field) -> None:
    with verifying(account.lake, quick=False) as seen:
        assert list(seen.findings()) == []
    with look_into(account.lake) as seen:
        assert not Scopes(seen.ledger.database).has_any()


def counted(patch: pytest.MonkeyPatch, failing: Callable[[Query], bool] | None = None) -> Counter[int | None]:
    """Attempts at messages, by send; None for those of many. Those that are ``failing`` fail."""
    attempts: Counter[int | None] = Counter()
    attempt = Client.attempt

    async def counting(self: Client, query: Query, permit: Permit, hold: Hold | None = None) -> Page:
        if query.dataset is MESSAGES:
            attempts[query.id_send] += 1
            if failing is not None and failing(query):
                raise ServerFailed(f"{query}: not today")
        return await attempt(self, query, permit, hold)

    patch.setattr(Client, "attempt", counting)
    return attempts


async def drained(account: Field, sends: list[Send], number: int, patch: pytest.MonkeyPatch) -> Result:
    """A harvest that is drained at its n-th attempt."""
    harvest = account.harvest(sends)
    at_attempt(number, harvest.drain, patch)
    return await harvest.run()


class TestQueries:
    @pytest.mark.parametrize(("inclusive", "gap"), some([(False, 7), (True, 1)], 1))
    async def test_100_sends_of_12_rows_take_a_handful(self, tmp_path: Path, inclusive: bool, gap: int) -> None:
        async with field(
            tmp_path, replace(SPEC, gap=gap), Behaviour(inclusive=inclusive), **given(limit=400)
        ) as account:
            result = await account.run(said(account))
            assert (result.complete, result.rows["messages"], result.queries) == (True, 1200, 4)
            assert account.server.stats.requests == 4
            assert set(proofs(result, "messages")) == {"count"}
            assert_sound(account)
            again = await account.run(said(account))
            assert (again.complete, again.queries) == (True, 0)

    async def test_campaigns_are_walked_side_by_side(self, tmp_path: Path) -> None:
        async with field(tmp_path, SPEC, **given(scope=Scope.CAMPAIGN)) as account:
            result = await account.run(said(account))
            assert (result.complete, result.queries, account.server.stats.requests) == (True, 5, 5)
            assert_sound(account)

    async def test_one_by_one_as_before(self, tmp_path: Path) -> None:
        async with field(tmp_path, SMALL, **given(scope=Scope.SEND)) as account:
            result = await account.run(said(account))
            assert (result.complete, result.queries) == (True, 40)
            assert_sound(account)

    async def test_sends_that_are_named_are_not_guessed_about(self, tmp_path: Path) -> None:
        async with field(tmp_path, SMALL, **given(scope=Scope.AUTO)) as account:
            assert (await account.run(said(account))).queries == 40

    async def test_all_of_an_account_is_walked_at_once_where_lists_say_that_sends_are_small(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        attempts = counted(monkeypatch)
        async with field(tmp_path, replace(SMALL, failed=0.6), limit=1000) as account:
            result = await of_account(account.settings).run()
            assert result.complete
            # One is for the first day of the account, one brings all messages.
            assert (attempts.total(), attempts[None]) == (2, 2)
            assert not account.server.stats.sends, "no messages were asked for send by send"
            assert set(proofs(result, "bounces")) <= {"covers", "empty", "agreed"}
            account.assert_exact()
            assert_verified(account)

    async def test_large_sends_are_not(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        attempts = counted(monkeypatch)
        async with field(tmp_path, SMALL, limit=40, datasets=("messages",)) as account:
            assert (await of_account(account.settings).run()).complete
            assert attempts[None] == 1
            account.assert_exact(datasets=("messages",))


def of_account(settings: Settings) -> Harvest:
    return Harvest(settings, Finder(settings, Wanted()))


class TestRows:
    async def test_what_was_not_asked_for_is_not_kept(self, tmp_path: Path) -> None:
        async with field(tmp_path, SPEC, **ACCOUNT) as account:
            wanted = said(account)[::7]
            result = await account.run(wanted)
            assert (result.complete, result.rows["messages"]) == (True, 12 * len(wanted))
            names = {f"send={send.id_send}" for send in wanted}
            assert {path.name for path in (tmp_path / "messages").iterdir()} == names
            account.assert_exact(*(send.id_send for send in wanted), datasets=("messages",))
            assert not list((tmp_path / "_harvest" / "segments").iterdir())
            assert_verified(account)

    async def test_a_walk_whose_sends_are_complete_ends_with_a_page_of_others(self, tmp_path: Path) -> None:
        async with field(tmp_path, SPEC, **given(limit=100, concurrency=1)) as account:
            result = await account.run(said(account)[:5])
            assert result.complete
            assert result.queries <= 3, "one may be on its way when the lake says that there is no need"
            assert_verified(account)

    async def test_sends_of_more_than_a_page_come_in_parts(self, tmp_path: Path) -> None:
        spec = AccountSpec(sends=listed({601: 500, 602: 30, 603: 0, 604: 777, 605: 1}))
        tuning = replace(QUICK, target_bytes=60_000)
        async with field(tmp_path, spec, **given(limit=100), tuning=tuning) as account:
            result = await account.run()  # and no size is known
            assert result.complete
            assert proofs(result, "messages") == ["tail", "tail", "empty", "tail", "tail"]
            assert len(list((tmp_path / "messages" / "send=604").iterdir())) > 1
            assert_sound(account)

    @pytest.mark.parametrize("limit", [50, 1000])
    async def test_a_count_that_lies_costs_that_send_alone(
        self, tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        attempts = counted(monkeypatch)
        async with field(tmp_path, SMALL, **given(limit=limit)) as account:
            sends = said(account, s3=11, s4=2, s10=13, s20=None)
            result = await account.run(sends)
            assert result.complete
            found = proofs(result, "messages")
            assert [number for number, why in enumerate(found) if why != "count"] == [3, 4, 10, 20]
            assert set(attempts) == {None, *(sends[number].id_send for number in (3, 4, 10))}
            assert_sound(account)

    async def test_records_that_do_not_say_their_send_are_asked_one_by_one(self, tmp_path: Path) -> None:
        spec = replace(SMALL, shape=Shape(missing=("ID_send",)))
        async with field(tmp_path, spec, **ACCOUNT) as account:
            result = await account.run(said(account))
            assert (result.complete, result.queries) == (True, 41)
            assert_verified(account)
        assert lake_table(tmp_path, "messages", 601_185).column("id_send").to_pylist() == [601_185] * 12

    async def test_more_of_a_complete_send_reopens_it(self, tmp_path: Path) -> None:
        """Pages made by hand, of sends whose keys interleave, into a real lake."""
        with open_lake(tmp_path, QUICK) as lake:
            run = lake.runs.begin("12345")
            sends = [Send(7, expected=2), Send(8, expected=3)]
            lake.runs.select(run, sends, ("messages",), QUICK.clock())
            lake.scopes.begin(run, None, 5)
            (scope,) = lake.scopes.take(0, 9)

            def page(*rows: tuple[int, int], short: int = 0, proof: Proof | None = None) -> keeping.Committed:
                here = KeyRange(cursor=rows[-1][0], held=rows[-1][0], limit=5, short_answers=short)
                taken = Taken(-scope.id, MESSAGES, rows=batch(*rows), key_range=here, proof=proof, queries=0)
                return sum(keeping.commit(lake, taken, 5), keeping.Committed())

            first = page((1, 7), (2, 8), (3, 7), (4, 8), (5, 9))
            assert (first.rows, first.complete, first.ended) == (4, 1, False)
            assert lake_table(tmp_path, "messages", 7).column(MESSAGES.key).to_pylist() == [1, 3]
            second = page((6, 7), (7, 8), short=1)
            assert (second.rows, second.complete, second.ended) == (1, 0, True)
            (alone,) = Feeding(lake.ledger, run, 5).take(9)
            assert (alone.key.id_send, alone.proof, alone.reopened, alone.rows) == (7, None, True, 2)
            assert alone.key_range is not None
            assert alone.key_range.cursor == 3
            assert not lake.scopes.has_any()


MANY = AccountSpec(sends=equal(30, 60), sends_per_campaign=10, gap=5)
SLOW = Behaviour(latency_s=(0.1, 0.1))
ROWS = 30 * 60
SPLIT: dict[str, Any] = {"limit": 60, "concurrency": 8, "datasets": ("messages",), "scope": Scope.ACCOUNT}


def of_60(account: Field, expected: int | None = 60, **odd: int | None) -> list[Send]:
    """All sends of ``MANY``: few of them, since what is to be seen is how the walk is split."""
    return said(account, expected, **odd)


def waiting(lake: Path) -> list[Path]:
    """Pages that wait for a seam."""
    return sorted((lake / "_harvest" / "segments").glob("scope-*"))


class TestSplit:
    """Answers are slow, so that permits would go unused: the walk has several cursors."""

    @pytest.mark.parametrize("inclusive", [True, False])
    async def test_all_permits_are_used_and_hardly_a_record_comes_twice(self, tmp_path: Path, inclusive: bool) -> None:
        async with field(tmp_path, MANY, replace(SLOW, inclusive=inclusive), **SPLIT) as account:
            result = await account.run(of_60(account))
            assert result.complete
            assert set(proofs(result, "messages")) == {"count"}
            assert 4 < account.server.stats.max_in_flight <= 8
            assert account.server.stats.messages <= 1.25 * ROWS, "how many queries hangs on when answers come"
            assert_sound(account)

    async def test_counts_that_lie_cost_those_sends_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        attempts = counted(monkeypatch)
        async with field(tmp_path, MANY, SLOW, **SPLIT) as account:
            sends = of_60(account, s3=59, s10=2, s20=1300, s25=None)
            result = await account.run(sends)
            assert result.complete
            found = proofs(result, "messages")
            assert [number for number, why in enumerate(found) if why != "count"] == [3, 10, 20, 25]
            assert set(attempts) == {None, *(sends[number].id_send for number in (3, 10, 20))}
            assert_sound(account)

    @pytest.mark.parametrize("fault", [Fault.SHORT, Fault.EMPTY])
    async def test_faults(self, tmp_path: Path, fault: Fault) -> None:
        behaviour = Behaviour(latency_s=(0.0, 0.05), faults={fault: 0.15}, fault_seed=5)
        async with field(tmp_path, MANY, behaviour, **SPLIT) as account:
            assert (await account.run(of_60(account, expected=None))).complete
            assert account.server.stats.faults[fault]
            assert_sound(account)

    async def test_what_always_fails_to_the_right_is_given_up_with_all_that_waits(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def late(query: Query) -> bool:
            return query.id_send is None and (query.start or 0) > middle

        async with field(tmp_path, MANY, SLOW, **SPLIT) as account:
            middle = account.server.account.first_key(15)
            attempts = counted(monkeypatch, late)
            assert (await account.run(of_60(account))).complete
            assert 1 + 10 <= len(attempts) <= 1 + 30
            assert_sound(account)
            assert not waiting(tmp_path)

    async def test_a_drained_run_keeps_its_ranges_and_what_waits(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wanted = slice(2, 28)
        async with field(tmp_path, MANY, SLOW, **SPLIT) as account:
            before = await drained(account, of_60(account)[wanted], 16, monkeypatch)
            assert before.interrupted
            kept = waiting(tmp_path)
            assert len(kept) > 3
            ids = {send.id_send for send in of_60(account)[wanted]}
            for path in kept:
                with pa.ipc.open_file(str(path)) as file:
                    assert set(file.read_all().column("id_send").to_pylist()) <= ids
            assert read_status(tmp_path).staged_segments >= len(kept)
            with verifying(tmp_path, quick=False) as seen:
                assert list(seen.findings()) == []
                assert seen.segments >= len(kept)
            with look_into(tmp_path) as seen:
                (scope,) = Scopes(seen.ledger.database).take(0, 9)
            assert len(scope.key_ranges) > 4
            result = await account.run(of_60(account)[wanted])
            assert result.complete
            assert account.server.stats.messages <= 1.25 * ROWS, "what waits is not asked for again"
            account.assert_exact(*ids, datasets=("messages",))
            assert_verified(account)

    async def test_pages_that_wait_and_are_lost_or_damaged_are_asked_for_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with field(tmp_path, MANY, SLOW, **SPLIT) as account:
            await drained(account, of_60(account), 16, monkeypatch)
            lost, damaged, *others = waiting(tmp_path)
            assert others
            lost.unlink()
            damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
            with verifying(tmp_path, quick=False) as seen:
                found = {finding.file: finding.kind for finding in seen.findings()}
            assert found == {
                f"_harvest/segments/{lost.name}": Kind.MISSING,
                f"_harvest/segments/{damaged.name}": Kind.DAMAGED,
            }
            result = await account.run(of_60(account))
            assert result.complete
            assert account.server.stats.messages <= 1.25 * ROWS + 2 * 60, "those two, and not all that waits"
            assert_sound(account)

    async def test_what_waits_goes_with_a_walk_that_does_not_go_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with field(tmp_path, MANY, SLOW, **SPLIT) as account:
            assert (await drained(account, of_60(account), 16, monkeypatch)).interrupted
            assert waiting(tmp_path)
            assert (await account.run(of_60(account), scope=Scope.SEND)).complete
            assert not waiting(tmp_path)
            assert_sound(account)

    def test_a_slice_that_is_mended_leaves_its_walk(self, tmp_path: Path) -> None:
        """The walk has passed rows that are not there any more: nothing of it may prove that slice."""
        with open_lake(tmp_path, QUICK) as lake:
            run = lake.runs.begin("12345")
            lake.runs.select(run, [Send(7), Send(8)], ("messages",), QUICK.clock())
            lake.scopes.begin(run, None, 5)
            (scope,) = lake.scopes.take(0, 9)
            rows, here = batch((1, 7), (2, 8), (3, 7)), KeyRange(cursor=3, held=3, limit=5)
            (done,) = keeping.commit(lake, Taken(-scope.id, MESSAGES, rows, here, proof=None, queries=0), 5)
            assert done.rows == 3
            member = lake.scopes.members(scope.id, [7, 8])[7]
            lake.seal(member.slice_id, everything=True)
        (sealed,) = (tmp_path / "messages" / "send=7").iterdir()
        sealed.unlink()
        recover(tmp_path, Recovered())
        with open_lake(tmp_path, QUICK) as lake:
            assert set(lake.scopes.members(scope.id, [7, 8])) == {8}

    @pytest.mark.timeout(240)
    def test_kill_9_while_it_is_split_loses_and_doubles_nothing(self, tmp_path: Path) -> None:
        faults = "500=0.02,reset=0.02,truncate=0.02,short=0.01"
        plan = Plan(rows=4_800, sends=12, limit=120, concurrency=8, latency="0.05..0.1", faults=faults, seed=4)
        scope = ("--scope", "account")
        with served(plan) as account:
            soaked = Soak(plan, account, tmp_path)

            def is_split() -> bool:
                with look_into(soaked.lake) as seen:
                    return any(len(walk.key_ranges) > 2 for walk in Scopes(seen.ledger.database).take(0, 9))

            for requests in (15, 28):  # of some 45 for messages
                soaked.kill_once(requests, is_split, *scope)
            soaked._half(0, *scope)
            assert account.stats()["again"] <= 2 * 2 * 8, "in flight, or on their way into the lake"
            soaked._compare()
            soaked._look_for_leftovers()
            assert soaked._verify()


class TestTrouble:
    async def test_faults_make_no_difference(self, tmp_path: Path) -> None:
        faults = dict.fromkeys(
            [Fault.RESET, Fault.TRUNCATE, Fault.SHORT, Fault.EMPTY, Fault.HTML, Fault.FAILED, Fault.ERROR], 0.03
        )
        behaviour = Behaviour(faults=faults, fault_seed=5)
        async with field(tmp_path, SMALL, behaviour, **given(limit=20)) as account:
            result = await account.run(said(account))
            assert result.complete
            assert result.queries < 40
            assert_sound(account)

    async def test_what_always_fails_is_asked_one_by_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        attempts = counted(monkeypatch, lambda query: query.id_send is None and (query.start or 0) > 0)
        async with field(tmp_path, SMALL, **given(limit=100, concurrency=1)) as account:
            result = await account.run(said(account))
            assert result.complete
            assert attempts[None] == 13
            # Eight sends came whole with the only page that came, and the ninth in part.
            assert len(attempts) == 1 + 40 - 8
            assert_sound(account)

    async def test_a_campaign_that_is_not_known_is_no_loss(self, tmp_path: Path) -> None:
        async with field(tmp_path, SMALL, **given(scope=Scope.CAMPAIGN)) as account:
            sends = [replace(send, id_message=99 if number < 5 else None) for number, send in enumerate(said(account))]
            result = await account.run(sends)
            assert (result.complete, result.queries) == (True, 41)
            assert_sound(account)

    @pytest.mark.parametrize("number", [2, 4, 6])
    async def test_a_run_that_is_stopped_goes_on_where_it_was(
        self, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with field(tmp_path, SMALL, **given(limit=100)) as account:
            before = await drained(account, said(account), number, monkeypatch)
            result = await account.run(said(account))
            assert result.complete
            assert before.queries + result.queries <= 7
            assert_sound(account)

    @pytest.mark.parametrize("scope", [Scope.SEND, Scope.AUTO, Scope.ACCOUNT])
    async def test_other_sends_in_another_scope_are_no_harm(
        self, tmp_path: Path, scope: Scope, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with field(tmp_path, SMALL, **given(limit=100)) as account:
            assert (await drained(account, said(account)[:30], 3, monkeypatch)).interrupted
            result = await account.run(said(account)[10:], scope=scope)
            assert result.complete
            result = await account.run(said(account), scope=scope)
            assert result.complete
            assert set(outcomes(result)) == {("messages", id_send) for id_send in range(601_181, 601_221)}
            assert_sound(account)

    async def test_a_segment_that_is_lost_takes_its_slice_out_of_the_walk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        attempts = counted(monkeypatch)
        async with field(tmp_path, SMALL, **given(limit=100)) as account:
            assert (await drained(account, said(account, expected=None), 3, monkeypatch)).interrupted
            segments = sorted((tmp_path / "_harvest" / "segments").iterdir())
            assert len(segments) > 3
            for segment in segments[:3]:
                segment.unlink()
            result = await account.run(said(account, expected=None))
            assert result.complete
            assert 1 < len(attempts) <= 4
            assert_sound(account)
