"""Lakes that are partitioned by month, day or campaign: exact, few files, and safe at every durable step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harvester.config import PartitionBy, Refresh, Scope, Tuning
from harvester.console.cli import command_line
from harvester.datasets import MESSAGES
from harvester.errors import LakeError
from harvester.harvest.status import read_status
from harvester.harvest.upkeep import Compacted, compact
from harvester.lake import layout
from harvester.lake.entries import Progress
from harvester.lake.lake import Lake, open_lake
from harvester.lake.staging import Taken
from harvester.lake.storage.store import Store
from harvester.model import KeyRange, Proof, Secret, Send, SliceKey
from harvester.places import Place
from harvester.simulator.spec import AccountSpec, listed
from tests.harvesting import QUICK, field
from tests.lake_rows import rows_of
from tests.lake_upkeep import found
from tests.partitioned import assert_exact, files
from tests.test_lake import Crash, crash_at
from tests.thorough import STRIDE, some

SENT = datetime(2026, 11, 1, 9)  # noqa: DTZ001  the API's dates have no zone
NOW = SENT + timedelta(days=20)
pytestmark = pytest.mark.anyio
CLOCK = replace(QUICK, clock=lambda: NOW)
TUNING = Tuning(target_bytes=1 << 20, clock=lambda: NOW)
SENDS = (7, 8)
MANY = 3000 if STRIDE == 1 else 500
"""Tiny sends of a month: all of them in ``make soak``, which has the time."""
OLD, NEW = SENT - timedelta(days=1), SENT
NONE = "__HIVE_DEFAULT_PARTITION__"


async def test_thousands_of_tiny_sends_come_to_a_handful_of_files(tmp_path: Path) -> None:
    spec = AccountSpec(sends=listed({1000 + number: 12 for number in range(MANY)}), first_date=SENT, days_between=0.0)
    settings: dict[str, Any] = {"partition_by": PartitionBy.MONTH, "scope": Scope.ACCOUNT, "datasets": ("messages",)}
    async with field(tmp_path, spec, tuning=CLOCK, **settings) as account:
        result = await account.run()
        assert result.complete
        assert_exact(tmp_path, account.server.account, ("messages",))
    assert {str(path.parent.relative_to(tmp_path)) for path in files(tmp_path)} == {"messages/month=2026-11"}
    assert len(files(tmp_path)) <= 24
    status = read_status(tmp_path)
    assert (status.data_files, status.partition_by, status.staged_segments) == (len(files(tmp_path)), "month", 0)


@pytest.mark.parametrize("by", some([PartitionBy.DAY, PartitionBy.CAMPAIGN, PartitionBy.MONTH], 1))
async def test_every_choice_is_exact_and_refreshed(by: PartitionBy, tmp_path: Path) -> None:
    sends = listed({601: 260, 602: 40, 603: 0, 604: 75})
    spec = AccountSpec(sends=sends, failed=0.2, waiting=0.1, first_date=SENT - timedelta(days=2), days_between=1.0)
    small = replace(CLOCK, target_bytes=30_000)
    async with field(tmp_path, spec, tuning=small, limit=50, partition_by=by) as account:
        assert (await account.run()).complete
        assert_exact(tmp_path, account.server.account)
        assert found(tmp_path) == found(tmp_path, quick=True) == []
        before = {path: path.stat().st_ino for path in files(tmp_path)}
        account.server.account.settled = True
        assert (await account.run(refresh=Refresh.UNSETTLED)).complete
        assert_exact(tmp_path, account.server.account)
        assert read_status(tmp_path).unsettled == 0
        assert set(files(tmp_path)) == set(before)
        after = {path: path.stat().st_ino for path in files(tmp_path)}
        assert (await account.run(refresh=Refresh.ALL)).complete
        assert {path: path.stat().st_ino for path in files(tmp_path)} == after, "nothing had changed"
        assert_exact(tmp_path, account.server.account)
    for path in files(tmp_path):
        footer = layout.SharedFooter.decode(pq.read_metadata(path).metadata or {})
        assert path.parent.name == f"{by.value}={footer.partition}"
        assert sum(share.rows for share in footer.shares) == pq.read_metadata(path).num_rows


async def test_a_lake_stays_partitioned_as_it_was_begun(tmp_path: Path) -> None:
    spec = AccountSpec(sends=listed({601: 5}))
    async with field(tmp_path, spec, tuning=CLOCK, partition_by=PartitionBy.MONTH) as account:
        assert (await account.run()).complete
        with pytest.raises(LakeError, match=r"partitioned by month.*leave --partition-by out"):
            await account.run(partition_by=PartitionBy.SEND)
        assert (await account.run(partition_by=None, refresh=Refresh.ALL)).complete
    assert found(tmp_path) == []
    assert read_status(tmp_path).partition_by == "month"


# --- at every durable step


def messages(id_send: int, first: int, count: int, *, status: str = "sent") -> pa.RecordBatch:
    """Messages whose dates are in two months by turns; of every fifth there is none."""
    return rows_of(
        MESSAGES,
        *(
            {
                "id_send_message": key,
                "id_send": id_send,
                "id_message": 9,
                "email": f"{key}@example.com",
                "message_status": status if key % 2 else "sent",
                "message_date": None if key % 5 == 0 else (OLD, NEW)[key % 2],
            }
            for key in range(first, first + count)
        ),
    )


def taken(lake: Lake, id_send: int, first: int, count: int, proof: Proof | None = None) -> Taken:
    record = lake.ledger.find(SliceKey(MESSAGES.name, id_send))
    assert record is not None
    last = first + count - 1
    rows = messages(id_send, first, count, status="wait")
    where = KeyRange(cursor=last, held=last, limit=10)
    return Taken(record.id, MESSAGES, rows, where, proof, 1)


def begin(lake: Lake, by: PartitionBy = PartitionBy.MONTH) -> None:
    run = lake.runs.begin("12345", "", by.value)
    lake.runs.select(run, [Send(id_send, expected=20) for id_send in SENDS], ["messages"], NOW)


def harvest(root: Path, *sends: int, ledger: Secret | None = None) -> None:
    """Two sends of two pages, or some of them; goes on where a run before was stopped."""
    with open_lake(root, TUNING, ledger=ledger) as lake:
        begin(lake)
        for id_send in sends or SENDS:
            for first, proof in ((100 * id_send, None), (100 * id_send + 10, Proof.COUNT)):
                record = lake.ledger.find(SliceKey(MESSAGES.name, id_send))
                assert record is not None
                held = record.key_range.held if record.key_range else None
                if held is None or held < first:
                    lake.stage([taken(lake, id_send, first, 10, proof)])
            lake.seal(0, everything=True)


def keys(root: Path) -> dict[str, list[int]]:
    """What readers find: the keys of each partition."""
    read: dict[str, list[int]] = {}
    for path in files(root):
        here: list[Any] = pq.ParquetFile(path).read([MESSAGES.key]).column(0).to_pylist()
        read[path.parent.name] = sorted([*read.get(path.parent.name, []), *here])
    return read


ALL = [100 * id_send + number for id_send in SENDS for number in range(20)]
TRUTH = {
    "month=2026-10": [key for key in ALL if key % 5 and not key % 2],
    "month=2026-11": [key for key in ALL if key % 5 and key % 2],
    f"month={NONE}": [key for key in ALL if not key % 5],
}


def stopped_at_every_step(
    tmp_path: Path,
    before: Callable[[Path], None],
    work: Callable[[Path], None],
    truth: dict[str, list[int]] | None = None,
    ledger: Secret | None = None,
) -> None:
    """Stops ``work`` at each durable step; the next go ends it, and nothing is lost or doubled."""
    stopped, step = True, 1 - STRIDE
    while stopped:
        step += STRIDE
        root = tmp_path / str(step)
        before(root)
        with pytest.MonkeyPatch.context() as patch:
            crash_at(step, patch)
            try:
                work(root)
            except Crash:
                pass
            else:
                stopped = False
        work(root)
        assert keys(root) == (truth or TRUTH), f"after step {step}"
        assert found(root, ledger=ledger) == [], f"after step {step}"
        assert list(Store(root).names(layout.SEGMENTS)) == list(Store(root).names(layout.WRITING)) == []
    assert step > 9


def test_sealing_loses_and_doubles_nothing_wherever_it_stops(tmp_path: Path, ledger: Secret | None) -> None:
    stopped_at_every_step(tmp_path, lambda _: None, partial(harvest, ledger=ledger), ledger=ledger)


def assert_made_once(
    here: Place, there: Place, ledger: Secret, named: int, held: Callable[[], dict[str, list[int]]]
) -> None:
    """The first holder sleeps when so many of its files have their names; the second takes over; the first wakes.

    ``here`` and ``there`` are where each of them finds the lake, and ``held`` tells what readers find.
    """
    seen: list[dict[str, list[int]]] = []
    with open_lake(here, TUNING, ledger=ledger) as first, pytest.MonkeyPatch.context() as patch:
        begin(first)
        first.stage([taken(first, id_send, 100 * id_send, 20, Proof.COUNT) for id_send in SENDS])
        publish = first.store.publish

        def sleep_in_between(names: list[tuple[str, str]]) -> None:
            assert len(names) == len(TRUTH)
            publish(names[:named])
            patch.setattr(type(first.store), "publish", lambda _, names: publish(names))
            first.ledger.database._holding.release()  # type: ignore[attr-defined]
            with open_lake(there, TUNING, ledger=ledger) as second:
                assert (second.repairs.finished, second.repairs.undone) == (1, 0)
                seen.append(held())
            publish(names[named:])

        patch.setattr(type(first.store), "publish", lambda _, names: sleep_in_between(names))
        with pytest.raises(LakeError):
            first.seal(0, everything=True)
    assert seen == [held()] == [TRUTH]


@pytest.mark.parametrize("named", [0, 1, 3])
def test_a_change_that_another_machine_takes_over_is_made_once(
    tmp_path: Path, shared_ledger: Secret, named: int
) -> None:
    assert_made_once(tmp_path, tmp_path, shared_ledger, named, lambda: keys(tmp_path))
    assert found(tmp_path, ledger=shared_ledger) == []


def refresh(root: Path, ledger: Secret | None = None) -> None:
    """Refreshes what waits: both sends in one change."""
    with open_lake(root, TUNING, ledger=ledger) as lake:
        for id_send in SENDS:
            record = lake.ledger.find(SliceKey(MESSAGES.name, id_send))
            assert record is not None
            first, last = 100 * id_send, 100 * id_send + 19
            if lake.plan_refresh(record).progress is None and statuses(root, id_send) != {"sent"}:
                brought = messages(id_send, first, 20)
                progress = Progress(KeyRange(cursor=last, held=last), in_full=True, brought=20, ended=True)
                page = Taken(record.id, MESSAGES, None, None, Proof.COUNT, 1, refreshed=brought, refresh=progress)
                lake.stage([page])
        lake.seal(0, everything=True)


def statuses(root: Path, id_send: int) -> set[str]:
    read = [pq.ParquetFile(path).read(["id_send", "message_status"]) for path in files(root)]
    rows = pa.concat_tables(read).to_pylist()
    return {row["message_status"] for row in rows if row["id_send"] == id_send}


def test_refreshing_loses_and_doubles_nothing_wherever_it_stops(tmp_path: Path, ledger: Secret | None) -> None:
    settings: Any = {"ledger": ledger}
    stopped_at_every_step(tmp_path, partial(harvest, **settings), partial(refresh, **settings), **settings)
    for root in tmp_path.iterdir():
        assert [statuses(root, id_send) for id_send in SENDS] == [{"sent"}, {"sent"}]
        assert read_status(root, ledger).unsettled == 0


# --- compacting


@pytest.mark.parametrize("by", [PartitionBy.SEND, PartitionBy.MONTH])
async def test_compacting_merges_small_files_and_changes_no_row(
    by: PartitionBy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = AccountSpec(sends=listed({601: 260, 602: 40, 604: 75}), failed=0.2, waiting=0.1, first_date=SENT)
    small = replace(CLOCK, target_bytes=20_000)
    async with field(tmp_path, spec, tuning=small, limit=50, partition_by=by) as account:
        for id_send in (601, 602, 604):
            assert (await account.run([id_send])).complete
        before = len([*files(tmp_path), *files(tmp_path, "bounces")])
        assert command_line(["compact", str(tmp_path)]) == 0
        assert f"before: {before} data files" in capsys.readouterr().out
        folders = {path.parent for path in tmp_path.rglob("*.parquet")}
        assert len(list(tmp_path.rglob("*.parquet"))) == len(folders) == read_status(tmp_path).data_files < before
        assert_exact(tmp_path, account.server.account)
        assert found(tmp_path) == []
        account.server.account.settled = True
        assert (await account.run(refresh=Refresh.ALL)).complete
        assert_exact(tmp_path, account.server.account)
    assert command_line(["compact", str(tmp_path)]) == 0
    assert "nothing to merge" in capsys.readouterr().out


def test_compacting_loses_and_doubles_nothing_wherever_it_stops(tmp_path: Path) -> None:
    def many(root: Path) -> None:
        for id_send in SENDS:
            harvest(root, id_send)

    stopped_at_every_step(tmp_path, many, lambda root: compact(root, TUNING, Compacted()))
    assert len(files(tmp_path / "1")) == len(TRUTH)


def test_compacting_a_send_loses_and_doubles_nothing_wherever_it_stops(tmp_path: Path) -> None:
    def many(root: Path) -> None:
        with open_lake(root, TUNING) as lake:
            begin(lake, PartitionBy.SEND)
            for first, proof in ((700, None), (710, Proof.COUNT)):
                lake.stage([taken(lake, 7, first, 10, proof)])
                record = lake.ledger.find(SliceKey(MESSAGES.name, 7))
                assert record is not None
                lake.seal(record.id, everything=True)

    truth = {"send=7": list(range(700, 720))}
    stopped_at_every_step(tmp_path, many, lambda root: compact(root, TUNING, Compacted()), truth)
    assert len(files(tmp_path / "1")) == 1


# --- recovering


async def test_a_lost_ledger_is_made_anew_from_what_files_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = AccountSpec(
        sends=listed({601: 260, 602: 40, 604: 75}), failed=0.2, waiting=0.1, first_date=SENT, days_between=1.0
    )
    small = replace(CLOCK, target_bytes=30_000)
    settings: dict[str, Any] = {"limit": 50, "partition_by": PartitionBy.DAY, "refresh": Refresh.NEVER}
    async with field(tmp_path, spec, tuning=small, **settings) as account:
        assert (await account.run()).complete
        whole = read_status(tmp_path)
        (tmp_path / layout.LEDGER).unlink()
        assert command_line(["recover", str(tmp_path)]) == 0
        now = read_status(tmp_path)
        assert (now.rows, now.data_files, now.unsettled) == (whole.rows, whole.data_files, whole.unsettled)
        assert found(tmp_path) == []
        asked = account.server.stats.requests
        assert (await account.run()).complete
        assert account.server.stats.requests <= asked + 1
        assert_exact(tmp_path, account.server.account)

        shared = max(files(tmp_path), key=lambda path: pq.read_metadata(path).num_rows)
        shared.unlink()  # with a sound ledger
        (missing,) = found(tmp_path)
        assert (missing.kind, "makes the ledger anew" in missing.remedy) == ("missing", True)
        capsys.readouterr()
        assert command_line(["recover", str(tmp_path)]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert (
            f"a file that it counts is missing, damaged or another one, such as {missing.file}. {missing.what}" in said
        )
        assert list((tmp_path / layout.SET_ASIDE).rglob("ledger.sqlite.aside"))
        assert found(tmp_path) == []
        assert (await account.run()).complete
        assert_exact(tmp_path, account.server.account)


def test_rows_that_follow_missing_ones_go_out_of_files_that_others_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_lake(tmp_path, TUNING) as lake:
        begin(lake)
        lake.stage([taken(lake, 7, 700, 10)])
        lake.seal(0, everything=True)
        lost = set(files(tmp_path))
        lake.stage([taken(lake, 7, 710, 10, Proof.COUNT), taken(lake, 8, 800, 20, Proof.COUNT)])
        lake.seal(0, everything=True)
    for path in lost:
        path.unlink()
    (tmp_path / layout.LEDGER).unlink()
    assert command_line(["recover", str(tmp_path)]) == 0
    assert found(tmp_path) == []
    assert keys(tmp_path) == {name: [key for key in some if key >= 800] for name, some in TRUTH.items()}
    assert len(list((tmp_path / layout.SET_ASIDE).rglob("*.aside"))) == len(TRUTH)
    assert "others follow rows that are missing" in " ".join(capsys.readouterr().out.split())
    harvest(tmp_path)
    assert keys(tmp_path) == TRUTH
    assert found(tmp_path) == []


def test_a_send_that_grows_once_it_is_complete_goes_on_where_it_ended(tmp_path: Path) -> None:
    with open_lake(tmp_path, TUNING) as lake:
        begin(lake)
        for first in (700, 710):
            lake.stage(
                [
                    taken(lake, 7, first, 10, Proof.TAIL),
                    *([taken(lake, 8, 800, 20, Proof.COUNT)] if first == 700 else []),
                ]
            )
            lake.seal(0, everything=True)
            assert found(tmp_path) == []
    assert keys(tmp_path) == TRUTH
