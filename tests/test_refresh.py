"""Records that change: which slices are asked again, and what becomes of the lake."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from harvester.config import Refresh, Tuning
from harvester.datasets import BOUNCES, MESSAGES
from harvester.errors import LakeFull
from harvester.harvest.outcome import Result
from harvester.lake.inventory import Inventory
from harvester.lake.ledger import Ledger
from harvester.lake.storage.store import Store
from harvester.model import Send
from harvester.simulator.behaviour import Behaviour
from harvester.simulator.spec import AccountSpec, listed
from tests.harvesting import QUICK, Field, at_attempt, field, outcomes
from tests.thorough import STRIDE

pytestmark = pytest.mark.anyio

SENT = datetime(2026, 11, 1, 9, 0, 0)  # noqa: DTZ001  the API's dates have no zone
MESSAGES_ONLY: dict[str, Any] = {"datasets": ("messages",)}


def after(days: float, **changes: Any) -> Tuning:
    """Tuning of a run so many days after the first send."""
    now = SENT + timedelta(days=days)
    return replace(QUICK, clock=lambda: now, **changes)


def spec(rows: dict[int, int], **changes: Any) -> AccountSpec:
    return AccountSpec(sends=listed(rows), first_date=SENT, days_between=0.0, room=1000, **changes)


def files(account: Field, id_send: int, dataset: str = "messages") -> dict[str, tuple[int, bytes]]:
    """Name, number of the file on the disk, and contents of a slice's data files."""
    found = sorted((account.lake / dataset / f"send={id_send}").glob("*.parquet"))
    return {path.name: (path.stat().st_ino, path.read_bytes()) for path in found}


def of(result: Result, id_send: int, dataset: str = "messages") -> Any:
    return outcomes(result)[dataset, id_send]


class TestUnsettled:
    async def test_what_waited_is_asked_again_until_it_is_settled(self, tmp_path: Path) -> None:
        account_spec = spec({601: 3000, 602: 500, 603: 40}, waiting=0.1, failed=0.05)
        async with field(tmp_path, account_spec, tuning=after(20), limit=1000) as account:
            first = await account.run()
            assert first.complete
            waiting = {one.id_send: one.unsettled for one in first.slices() if one.dataset == "messages"}
            assert all(waiting.values())
            account.assert_exact()
            account.server.account.settled = True
            second = await account.run(tuning=after(21))
            assert second.complete
            account.assert_exact()
            for id_send, count in waiting.items():
                outcome = of(second, id_send)
                assert (outcome.changed, outcome.unsettled, outcome.gone) == (count, 0, 0)
            third = await account.run(tuning=after(22))
            assert (third.complete, third.queries) == (True, 0)

    async def test_only_files_that_hold_unsettled_rows_are_asked_again_and_replaced(self, tmp_path: Path) -> None:
        account_spec = spec({601: 20_000}, waiting=0.0004, seed=3)
        tuning = after(20, target_bytes=60_000)
        async with field(tmp_path, account_spec, tuning=tuning, limit=500, **MESSAGES_ONLY) as account:
            assert (await account.run()).complete
            before = files(account, 601)
            waits = {
                name: pq.read_table(account.lake / "messages" / "send=601" / name)
                .column("message_status")
                .to_pylist()
                .count("wait")
                for name in before
            }
            assert 0 < sum(count > 0 for count in waits.values()) < len(waits)
            account.server.account.settled = True
            asked = account.server.stats.requests
            second = await account.run()
            assert second.complete
            account.assert_exact(datasets=["messages"])
            now = files(account, 601)
            assert list(now) == list(before)
            assert {name for name in now if now[name] != before[name]} == {name for name in waits if waits[name]}
            assert account.server.stats.requests - asked < 40

    async def test_a_message_that_waits_for_over_60_days_counts_as_settled(self, tmp_path: Path) -> None:
        async with field(tmp_path, spec({601: 400}, waiting=0.2), tuning=after(59), **MESSAGES_ONLY) as account:
            assert of(await account.run(), 601).unsettled
            second = await account.run(tuning=after(61))
            outcome = of(second, 601)
            assert (second.queries > 0, outcome.unsettled, outcome.changed) == (True, 0, 0)
            assert outcome.overdue
            assert (await account.run(tuning=after(62))).queries == 0

    async def test_bounces_of_a_send_with_unsettled_messages_are_asked_again(self, tmp_path: Path) -> None:
        async with field(tmp_path, spec({601: 800}, waiting=0.5, failed=0.2), tuning=after(30)) as account:
            bounced = of(await account.run(), 601, "bounces").rows
            account.server.account.settled = True
            assert of(await account.run(), 601, "bounces").rows > bounced
            account.assert_exact()

    async def test_an_old_list_that_lacks_a_message_that_failed_since_is_not_believed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is what an answer that was cut short may look like."""
        sends = [Send(601, expected=400)]
        async with field(tmp_path, spec({601: 400}, waiting=0.5, failed=0.2), tuning=after(30)) as account:
            assert (await account.run(sends)).complete
            served = account.server.account
            served.settled = True
            with monkeypatch.context() as patch:  # messages, then bounces, and bounces again
                at_attempt(2, lambda: setattr(served, "settled", False), patch)
                at_attempt(3, lambda: setattr(served, "settled", True), patch)
                again = await account.run(sends, concurrency=1)
            assert (again.complete, of(again, 601, "bounces").proof, again.queries) == (True, "covers", 3)
            account.assert_exact()


class TestYoung:
    async def test_a_young_slice_is_asked_again_in_full_and_an_old_one_is_not(self, tmp_path: Path) -> None:
        account_spec = spec({601: 2500}, opened=0.1, opened_later=0.3)
        async with field(tmp_path, account_spec, tuning=after(13), limit=1000, **MESSAGES_ONLY) as account:
            assert (await account.run()).complete
            account.server.account.settled = True
            assert (await account.run(tuning=after(15))).queries == 0
            changed = of(await account.run(), 601).changed
            assert changed > 0
            account.assert_exact(datasets=["messages"])

    async def test_a_one_page_send_of_known_size_costs_one_query_to_refresh(self, tmp_path: Path) -> None:
        async with field(tmp_path, spec({601: 700}), tuning=after(1), **MESSAGES_ONLY) as account:
            sends = list(account.server.account.sends)
            assert (await account.run(sends)).queries == 1
            again = await account.run(sends)
            assert (again.complete, again.queries, of(again, 601).proof) == (True, 1, "count")
            assert (of(again, 601).changed, of(again, 601).gone) == (0, 0)

    async def test_what_did_not_change_is_not_written_again(self, tmp_path: Path) -> None:
        async with field(tmp_path, spec({601: 700}, failed=0.1), tuning=after(1)) as account:
            assert (await account.run()).complete
            before = [files(account, 601, name) for name in ("messages", "bounces")]
            again = await account.run()
            assert again.complete
            assert again.queries > 0
            assert [files(account, 601, name) for name in ("messages", "bounces")] == before

    async def test_age_counts_from_the_list_else_the_rows_else_when_it_was_first_seen(self, tmp_path: Path) -> None:
        rows = {601: 50, 602: 50, 603: 0}
        sends = [Send(601, sent_at=SENT - timedelta(days=30)), Send(602), Send(603)]
        async with field(tmp_path, spec(rows, failed=0.0), tuning=after(10), **MESSAGES_ONLY) as account:
            assert (await account.run(sends)).complete
            account.server.stats.sends.clear()
            assert (await account.run(sends)).complete
            assert set(account.server.stats.sends) == {602, 603}
            account.server.stats.sends.clear()
            assert (await account.run(sends, tuning=after(20))).complete
            assert set(account.server.stats.sends) == {603}  # first seen ten days after it was sent
            account.server.stats.sends.clear()
            assert (await account.run(sends, tuning=after(25))).queries == 0

    async def test_a_young_empty_slice_that_gets_rows_gets_them_in_the_lake(self, tmp_path: Path) -> None:
        async with field(tmp_path, spec({601: 0, 602: 9}), tuning=after(2), **MESSAGES_ONLY) as account:
            assert of(await account.run(), 601).proof == "empty"
            account.server.account.grow(601, 30)
            second = await account.run()
            assert (second.complete, of(second, 601).rows, of(second, 601).proof) == (True, 30, "tail")
            account.assert_exact(datasets=["messages"])

    async def test_refresh_never_unsettled_and_all(self, tmp_path: Path) -> None:
        account_spec = spec({601: 300}, waiting=0.1)
        async with field(tmp_path, account_spec, tuning=after(2), **MESSAGES_ONLY) as account:
            assert (await account.run()).complete
            assert (await account.run(refresh=Refresh.NEVER)).queries == 0
            assert (await account.run(refresh=Refresh.UNSETTLED)).queries == 1
            account.server.account.settled = True
            assert (await account.run(refresh=Refresh.UNSETTLED, tuning=after(90))).queries == 1
            assert (await account.run(refresh=Refresh.UNSETTLED)).queries == 0
            assert (await account.run(tuning=after(90))).queries == 0
            assert (await account.run(refresh=Refresh.ALL, tuning=after(90))).queries == 2
            account.assert_exact(datasets=["messages"])


class TestGrown:
    async def test_a_changed_count_has_only_the_new_part_fetched(self, tmp_path: Path) -> None:
        async with field(tmp_path, spec({601: 2500}), tuning=after(40), limit=1000, **MESSAGES_ONLY) as account:
            assert (await account.run(list(account.server.account.sends))).complete
            account.server.account.grow(601, 700)
            account.server.stats.messages = 0
            second = await account.run(list(account.server.account.sends))
            assert (of(second, 601).rows, of(second, 601).proof, second.queries) == (3200, "count", 1)
            assert account.server.stats.messages <= 702
            account.assert_exact(datasets=["messages"])
            assert len(files(account, 601)) == 1
            assert (await account.run(list(account.server.account.sends))).queries == 0

    async def test_what_grew_and_what_waited_are_asked_in_one_run(self, tmp_path: Path) -> None:
        account_spec = spec({601: 2500}, waiting=0.1)
        async with field(tmp_path, account_spec, tuning=after(40), limit=1000, **MESSAGES_ONLY) as account:
            waiting = of(await account.run(list(account.server.account.sends)), 601).unsettled
            account.server.account.grow(601, 40)
            account.server.account.settled = True
            second = await account.run(list(account.server.account.sends))
            assert (second.complete, of(second, 601).rows, of(second, 601).changed) == (True, 2540, waiting)
            account.assert_exact(datasets=["messages"])
            assert (await account.run(list(account.server.account.sends))).queries == 0

    async def test_a_large_new_part_gets_files_of_its_own(self, tmp_path: Path) -> None:
        tuning = after(40, target_bytes=60_000)
        account_spec = replace(spec({601: 9000}), room=20_000)
        async with field(tmp_path, account_spec, tuning=tuning, limit=500, **MESSAGES_ONLY) as account:
            assert (await account.run(list(account.server.account.sends))).complete
            before = len(files(account, 601))
            account.server.account.grow(601, 9000)
            assert (await account.run(list(account.server.account.sends))).complete
            assert len(files(account, 601)) > before
            account.assert_exact(datasets=["messages"])

    async def test_without_a_count_refresh_all_finds_what_is_new(self, tmp_path: Path) -> None:
        async with field(tmp_path, spec({601: 2500}), tuning=after(40), limit=1000, **MESSAGES_ONLY) as account:
            assert (await account.run()).complete
            account.server.account.grow(601, 7)
            assert (await account.run()).queries == 0
            second = await account.run(refresh=Refresh.ALL)
            assert (second.complete, of(second, 601).rows) == (True, 2507)
            account.assert_exact(datasets=["messages"])

    async def test_a_count_that_is_too_high_is_complete_by_tail_and_asked_once(self, tmp_path: Path) -> None:
        async with field(tmp_path, spec({601: 50}), tuning=after(40), **MESSAGES_ONLY) as account:
            sends = [Send(601, expected=60)]
            first = await account.run(sends)
            assert (of(first, 601).proof, of(first, 601).rows, of(first, 601).expected) == ("tail", 50, 60)
            assert (await account.run(sends)).queries == 0


class TestGone:
    async def test_rows_that_are_not_brought_back_stay_and_count(self, tmp_path: Path) -> None:
        async with field(tmp_path, spec({601: 300}), tuning=after(2), **MESSAGES_ONLY) as account:
            assert (await account.run()).complete
            served = account.server.account
            for index in (0, 7, 150, 299):  # the first and the last are known records of the walk
                served.erase(601, served.key(0, index))
            for _ in range(2):
                again = await account.run()
                assert (again.complete, of(again, 601).gone, of(again, 601).rows) == (True, 4, 300)
                account.assert_exact(erased=True, datasets=["messages"])
            dropped = await account.run(drop_gone=True)
            assert (dropped.complete, of(dropped, 601).gone, of(dropped, 601).rows) == (True, 0, 296)
            account.assert_exact(datasets=["messages"])

    async def test_a_file_whose_rows_are_all_gone_keeps_them(self, tmp_path: Path) -> None:
        tuning = after(2, target_bytes=20_000)
        account_spec = spec({601: 2000})
        async with field(tmp_path, account_spec, tuning=tuning, limit=200, drop_gone=True, **MESSAGES_ONLY) as account:
            assert (await account.run()).complete
            first, second, *_ = sorted(files(account, 601))
            served = account.server.account
            keys = [served.key(0, index) for index in range(2000)]
            start, stop = (int(name.split("-")[1]) for name in (second, sorted(files(account, 601))[2]))
            lost = [key for key in keys if start <= key < stop]
            for key in lost:
                served.erase(601, key)
            assert first
            again = await account.run(limit=1500)
            assert (again.complete, of(again, 601).gone, of(again, 601).rows) == (True, len(lost), 2000)

    @pytest.mark.parametrize("drop_gone", [False, True])
    async def test_no_answer_makes_a_slice_that_has_rows_empty(self, tmp_path: Path, drop_gone: bool) -> None:
        async with field(tmp_path, spec({601: 30, 602: 30}), tuning=after(2), drop_gone=drop_gone) as account:
            assert (await account.run()).complete
            served = account.server.account
            for index in range(30):
                served.erase(601, served.key(0, index))
            again = await account.run()
            assert (again.complete, of(again, 601).gone, of(again, 601).rows) == (True, 30, 30)
            account.assert_exact(601, erased=True, datasets=["messages"])


class TestCrashes:
    @pytest.mark.parametrize("dataset", [MESSAGES, BOUNCES], ids=lambda dataset: dataset.name)
    async def test_a_stop_at_each_durable_step_leaves_each_file_old_or_new(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Any
    ) -> None:
        """Every step of a refresh that others can see fails once; the run after it ends as an undisturbed one would."""
        names = ("messages", "bounces") if dataset is BOUNCES else ("messages",)
        account_spec = spec({601: 900}, waiting=0.1, failed=0.1)
        tuning = after(20, target_bytes=30_000)
        number, steps = 1 - STRIDE, 0
        undone = True
        async with field(tmp_path / "0", account_spec, tuning=tuning, limit=300, concurrency=1) as served:
            assert (await served.run(datasets=names)).complete
            before = {name: files(served, 601, name) for name in names}
            served.server.account.settled = True
            while undone:
                number += STRIDE
                undone = False
                lake = tmp_path / str(number)
                shutil.copytree(served.lake, lake)
                account = Field(served.server, replace(served.settings, lake=lake))
                with monkeypatch.context() as patch:
                    _stop_at(number, patch)
                    try:
                        await account.run(datasets=names)
                    except LakeFull:
                        undone = True
                        steps = number
                _assert_old_or_new(account, before)
                assert (await account.run(datasets=names)).complete
                account.assert_exact(datasets=names)
                assert not list((lake / "_harvest" / "segments").iterdir())
        assert steps > 20 - STRIDE

    async def test_what_an_interrupted_run_refreshed_is_not_asked_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = {601: 2500, 602: 2500, 603: 2500}
        async with field(tmp_path, spec(rows), tuning=after(2), limit=500, concurrency=1, **MESSAGES_ONLY) as account:
            undisturbed = await account.run()
            assert undisturbed.complete
            whole = (await account.run()).queries
            harvest = account.harvest()
            with monkeypatch.context() as patch:
                at_attempt(10, harvest.drain, patch)
                stopped = await harvest.run()
            assert stopped.interrupted
            resumed = await account.run()
            assert resumed.complete
            assert whole <= stopped.queries + resumed.queries <= whole + 1
            account.assert_exact(datasets=["messages"])
            assert (await account.run()).queries == whole  # this one resumes nothing

    async def test_a_refresh_that_fails_leaves_what_was_there_and_says_so(self, tmp_path: Path) -> None:
        account_spec = spec({601: 900, 602: 900})
        async with field(tmp_path, account_spec, tuning=after(2), patience_s=0.1, **MESSAGES_ONLY) as account:
            assert (await account.run()).complete
            account.server.behaviour = Behaviour(fail_sends=frozenset({601}))
            account.server.fail_sends = {601}
            failed = await account.run()
            assert (failed.complete, of(failed, 601).state, of(failed, 602).state) == (False, "incomplete", "complete")
            assert (of(failed, 601).rows, of(failed, 601).proof) == (900, "tail")
            account.assert_exact(datasets=["messages"])
            account.server.fail_sends = set()
            assert (await account.run()).complete


def _stop_at(number: int, patch: pytest.MonkeyPatch) -> None:
    """Has the n-th durable step of what follows fail, and all after it."""
    taken = 0

    def stopping(step: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*args: Any, **kwargs: Any) -> Any:
            nonlocal taken
            taken += 1
            if taken >= number:
                raise LakeFull("stopped by the test")
            return step(*args, **kwargs)

        return stepped

    for owner, name in (
        (Store, "create"),
        (Store, "sync_folder"),
        (Store, "publish"),
        (Store, "remove"),
        (Ledger, "advance"),
        (Inventory, "intend"),
        (Inventory, "fulfil"),
        (Inventory, "note_unchanged"),
        (Inventory, "end_refresh"),
    ):
        patch.setattr(owner, name, stopping(getattr(owner, name)))


def _assert_old_or_new(account: Field, before: dict[str, dict[str, tuple[int, bytes]]]) -> None:
    """Each file that was there is there, readable and as long as it was, or longer; and no key is there twice."""
    for dataset, old in before.items():
        now = files(account, 601, dataset)
        assert set(old) <= set(now)
        keys = [
            key
            for name in now
            for key in pq.read_table(account.lake / dataset / "send=601" / name, partitioning=None)
            .column("id_send_message")
            .to_pylist()
        ]
        if dataset == "messages":
            assert len(set(keys)) == len(keys) == 900
