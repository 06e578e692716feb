"""One large send, harvested for real by several cursors: exact, in fewer round trips, and after any kill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harvester.api.client import Client
from harvester.api.limiter import Permit
from harvester.budget import Hold
from harvester.datasets import MESSAGES
from harvester.harvest.status import read_status
from harvester.lake.lake import look_into
from harvester.lake.layout import Footer
from harvester.lake.upkeep.snapshots import snapshots
from harvester.lake.upkeep.verify import verifying
from harvester.model import KEY_END, Page, Query, Send
from harvester.simulator import AccountSpec, Behaviour, Fault, listed
from harvester.simulator.account import Account
from tests.harvesting import QUICK, Field, at_attempt, field, outcomes
from tests.soak import Plan, Soak, served
from tests.thorough import thorough

pytestmark = pytest.mark.anyio
ROWS = 6000
SLOW = Behaviour(latency_s=(0.03, 0.03))
GIVEN = {"limit": 200, "concurrency": 8, "datasets": ("messages",)}


async def harvested(account: Field, expected: int | None = ROWS, **changes: object) -> str | None:
    """Harvests the send and compares it with the truth; its proof."""
    result = await account.run([Send(601, expected=expected)], **(GIVEN | changes))
    assert result.complete, [outcome.error for outcome in result.slices()]
    account.assert_exact(datasets=("messages",))
    with verifying(account.lake, quick=False) as seen:
        assert list(seen.findings()) == []
    return outcomes(result)["messages", 601].proof


def ranges(lake: Path) -> list[tuple[int, int, int | None]]:
    """Start, stop and cursor of each key range that the ledger has of the only slice."""
    with look_into(lake) as seen:
        (only,) = [one for one in snapshots(seen.ledger.database) if one.key.dataset == "messages"]
    return [(one.start, one.stop, one.cursor) for one in only.ranges]


class TestSplit:
    @pytest.mark.parametrize("inclusive", [True, False])
    @pytest.mark.parametrize("gap", [1, 40])
    async def test_one_send_uses_all_permits_and_hardly_a_record_comes_twice(
        self, tmp_path: Path, inclusive: bool, gap: int
    ) -> None:
        spec, behaviour = AccountSpec(sends=listed({601: ROWS}), gap=gap), replace(SLOW, inclusive=inclusive)
        async with field(tmp_path, spec, behaviour) as account:
            assert await harvested(account) == "count"
            assert 4 < account.server.stats.max_in_flight <= 8, "as many as a busy machine lets wait at a time"
            assert account.server.stats.messages <= 1.1 * ROWS, "how many queries hangs on when answers come"
        assert ranges(tmp_path) == [(0, KEY_END, ranges(tmp_path)[0][2])]

    async def test_files_adjoin_and_hold_their_rows_in_the_order_of_keys(self, tmp_path: Path) -> None:
        tuning = replace(QUICK, target_bytes=50_000)
        async with field(tmp_path, AccountSpec(sends=listed({601: ROWS}), gap=3), SLOW, tuning=tuning) as account:
            await harvested(account)
        files = sorted(tmp_path.glob("messages/*/*.parquet"), key=lambda path: int(path.name.split("-")[1]))
        footers = [Footer.decode(pq.read_metadata(path).metadata or {}) for path in files]
        assert len(files) > 2
        assert [footer.start for footer in footers] == [0, *(footer.stop for footer in footers[:-1])]
        assert footers[-1].stop == KEY_END

    @pytest.mark.parametrize(("expected", "proof"), [(None, "tail"), (9000, "tail"), (2500, "tail"), (6001, "tail")])
    async def test_a_count_that_nobody_knows_or_that_is_wrong_is_no_harm(
        self, tmp_path: Path, expected: int | None, proof: str
    ) -> None:
        behaviour = replace(SLOW, no_reports=True)
        async with field(tmp_path, AccountSpec(sends=listed({601: ROWS})), behaviour) as account:
            assert await harvested(account, expected) == proof
            assert account.server.stats.max_in_flight > 1
            assert account.server.stats.messages <= 1.1 * ROWS

    @pytest.mark.parametrize(
        "erased",
        [lambda index: index < 12_000 and index % 5, lambda index: index >= 6_000 and index % 5, range(3_000, 12_000)],
        ids=["sparse, then dense", "dense, then sparse", "a hole"],
    )
    async def test_keys_may_lie_as_they_like(self, tmp_path: Path, erased: Callable[[int], int] | range) -> None:
        async with field(tmp_path, AccountSpec(sends=listed({601: 15_000})), SLOW) as account:
            there: Account = account.server.account
            gone = erased if isinstance(erased, range) else filter(erased, range(15_000))
            for index in gone:
                there.erase_index(0, index)
            await harvested(account, there.count(0))
            assert account.server.stats.max_in_flight > 4

    @pytest.mark.parametrize("fault", [Fault.FAILED, Fault.SHORT, Fault.EMPTY, Fault.RESET, Fault.TRUNCATE])
    async def test_faults(self, tmp_path: Path, fault: Fault) -> None:
        behaviour = Behaviour(latency_s=(0.0, 0.02), faults={fault: 0.15}, fault_seed=5)
        async with field(tmp_path, AccountSpec(sends=listed({601: ROWS})), behaviour) as account:
            await harvested(account)
            assert account.server.stats.faults[fault]

    async def test_where_the_rate_is_the_bound_one_cursor_is_enough(self, tmp_path: Path) -> None:
        async with field(tmp_path, AccountSpec(sends=listed({601: 1500}))) as account:
            await harvested(account, 1500, rate=5.0, burst=1)
            assert account.server.stats.starts == 7, "each but the first starts at a known record"
            assert account.server.stats.requests == 8, "the fewest that there can be"

    async def test_records_that_vanish_are_counted_and_none_is_lost(self, tmp_path: Path) -> None:
        behaviour = Behaviour(latency_s=(0.0, 0.02), vanish=0.3)
        async with field(tmp_path, AccountSpec(sends=listed({601: ROWS})), behaviour) as account:
            result = await account.run([Send(601)], **GIVEN)
            assert result.complete
            assert account.server.stats.vanished
            assert outcomes(result)["messages", 601].rows >= account.server.account.count(0)

    async def test_a_server_s_own_cap_on_pages_is_no_end(self, tmp_path: Path) -> None:
        behaviour = replace(SLOW, page_cap=150)
        async with field(tmp_path, AccountSpec(sends=listed({601: ROWS})), behaviour) as account:
            await harvested(account, limit=1000)
            assert 4 < account.server.stats.max_in_flight <= 8
            assert account.server.stats.messages <= 1.1 * ROWS


class TestSeams:
    async def test_a_first_page_that_leaves_records_out_loses_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        left_out = 0
        attempt, opened = Client.attempt, set[int]()

        async def lacking(self: Client, query: Query, permit: Permit, hold: Hold) -> Page:
            nonlocal left_out
            page = await attempt(self, query, permit, hold)
            keys = page.batch.column(MESSAGES.key).to_pylist()
            known = query.start is None or (query.start + 1) in opened
            opened.update(key for key in keys if key is not None)
            if known or len(keys) < 50:
                return page
            left_out += 1
            return replace(page, batch=page.batch.slice(30))

        monkeypatch.setattr(Client, "attempt", lacking)
        async with field(tmp_path, AccountSpec(sends=listed({601: ROWS}), gap=3), SLOW) as account:
            await harvested(account)
        assert left_out

    async def test_a_first_page_of_another_part_of_the_send_is_walked_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its records are not there any more when the left range comes to them: nothing stands by them."""
        attempt, moved = Client.attempt, 0

        async def elsewhere(self: Client, query: Query, permit: Permit, hold: Hold) -> Page:
            nonlocal moved
            page = await attempt(self, query, permit, hold)
            keys = page.batch.column(MESSAGES.key)
            if moved or query.start is None or not len(keys) or keys[0].as_py() in {query.start, query.start + 1}:
                return page
            moved += 1
            place = page.batch.schema.get_field_index(MESSAGES.key)
            shifted = page.batch.column(place).to_numpy() + 1
            made_up = page.batch.set_column(place, page.batch.schema.field(place), pa.array(shifted, pa.int64()))
            return replace(page, batch=made_up)

        monkeypatch.setattr(Client, "attempt", elsewhere)
        async with field(tmp_path, AccountSpec(sends=listed({601: ROWS}), gap=40), SLOW) as account:
            await harvested(account)
        assert moved


class TestResuming:
    async def test_a_drained_run_keeps_its_ranges_and_seals_nothing_behind_a_seam(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tuning = replace(QUICK, target_bytes=1)
        async with field(tmp_path, AccountSpec(sends=listed({601: ROWS})), SLOW, tuning=tuning) as account:
            harvest = account.harvest([Send(601, expected=ROWS)], **GIVEN)
            at_attempt(16, harvest.drain, monkeypatch)
            assert (await harvest.run()).interrupted
            kept = ranges(tmp_path)
            assert len(kept) > 4
            assert (kept[0][0], kept[-1][1]) == (0, KEY_END)
            assert all(left[1] == right[0] for left, right in pairwise(kept))
            assert all(cursor is None or start <= cursor < stop for start, stop, cursor in kept)
            sealed = list(tmp_path.glob("messages/*/*.parquet"))
            assert sealed
            assert all(int(path.stem.split("-")[2]) < kept[0][1] for path in sealed)
            assert read_status(tmp_path).staged_segments > 6
            with verifying(tmp_path, quick=False) as seen:
                assert list(seen.findings()) == []
            monkeypatch.undo()
            await harvested(account)
            assert account.server.stats.messages <= 1.1 * ROWS

    async def test_a_page_that_is_lost_has_its_own_range_go_back_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with field(tmp_path, AccountSpec(sends=listed({601: ROWS})), SLOW) as account:
            harvest = account.harvest([Send(601, expected=ROWS)], **GIVEN)
            at_attempt(22, harvest.drain, monkeypatch)
            await harvest.run()
            before = ranges(tmp_path)
            third = before[2]
            found = (tmp_path / "_harvest" / "segments").iterdir()
            inside = sorted(path for path in found if third[0] <= int(path.stem.split("-")[1]) < third[1])
            inside[-1].unlink()
            monkeypatch.undo()
            seen: list[int | None] = []
            attempt = Client.attempt

            async def watched(self: Client, query: Query, permit: Permit, hold: Hold) -> Page:
                seen.append(query.start)
                return await attempt(self, query, permit, hold)

            monkeypatch.setattr(Client, "attempt", watched)
            await harvested(account)
            *inner, _ = before  # the last one may be at the send's end
            others = {cursor - 1 for start, _, cursor in inner if start != third[0] and cursor is not None}
            assert others <= set(seen)
            assert [start for start in seen if start is not None and third[0] - 1 <= start < (third[2] or 0) - 1]

    @pytest.mark.timeout(240)
    @thorough
    def test_kill_9_while_a_send_is_split_loses_and_doubles_nothing(self, tmp_path: Path) -> None:
        faults = "500=0.02,reset=0.02,truncate=0.02,short=0.01"
        plan = Plan(rows=20_000, sends=1, limit=250, concurrency=8, latency="0.02..0.06", faults=faults, seed=4)
        with served(plan) as account:
            soaked = Soak(plan, account, tmp_path)
            for requests in (30, 60):  # of some 85 pages
                soaked.kill_once(requests, lambda: len(ranges(tmp_path / "lake")) > 2)
            soaked._half(0)
            assert account.stats()["again"] <= 2 * 2 * 8, "in flight, or on their way into the lake"
            soaked._compare()
            soaked._look_for_leftovers()
            assert soaked._verify()
