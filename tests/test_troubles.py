"""The lake's own troubles: each ends a run with a sentence that says what to do, harms nothing, and passes.

A trouble is made for real where the machine lets it: a small file system, a mount that is read-only, another user.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from anyio import from_thread

from harvester.config import Refresh, Tuning
from harvester.console.exits import Exit, status_of
from harvester.errors import AccessRefused, LakeBroken, LakeError, LakeFull, LakeInUse
from harvester.harvest import sealing
from harvester.harvest.outcome import Result
from harvester.harvest.run import Harvest
from harvester.harvest.status import read_status
from harvester.lake import layout
from harvester.lake.lake import Glance, Lake, look_into, open_lake
from harvester.lake.storage.store import Store
from harvester.simulator import AccountSpec, Behaviour, Fault, equal, listed
from tests.harvesting import QUICK, Field, at_attempt, field
from tests.thorough import THOROUGH

pytestmark = pytest.mark.anyio

SENT = datetime(2026, 11, 1, 9, 0, 0)  # noqa: DTZ001  the API's dates have no zone
SPEC = AccountSpec(
    seed=4, sends=listed({601: 700, 602: 500}), gap=3, failed=0.1, waiting=0.05, first_date=SENT, days_between=0.0
)
MONTH_LATER = replace(QUICK, clock=lambda: SENT + timedelta(days=30))
NOBODY = 65534


async def ends(account: Field, **changes: Any) -> str:
    """What a run says that the lake ends, with exit status 4."""
    with pytest.raises(LakeError) as raised:
        await account.run(**changes)
    assert status_of(raised.value) is Exit.LAKE
    return str(raised.value)


def contents(lake: Path) -> dict[str, bytes]:
    """What a lake's files hold; locks apart, which say who held them."""
    return {
        str(path.relative_to(lake)): path.read_bytes()
        for path in lake.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def data(lake: Path) -> dict[str, bytes]:
    """What readers find."""
    return {name: held for name, held in contents(lake).items() if name.endswith(".parquet")}


def folder_of(name: str) -> str:
    return name.rpartition("/")[0]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of its own, of 16 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a file system")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def used_bytes(disk: Path) -> int:
    held = os.statvfs(disk)
    return (held.f_blocks - held.f_bfree) * held.f_frsize


def resize(disk: Path, size_bytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size_bytes}", str(disk)], check=True)


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestDiskFull:
    async def test_at_any_phase_of_a_run_on_a_disk_that_is_a_little_less_full_each_time(self, small_disk: Path) -> None:
        """Each run gets a little further than the last, into every phase; the last comes to the exact end."""
        lake = small_disk / "lake"
        async with field(lake, SPEC, limit=100, concurrency=2, tuning=MONTH_LATER) as account:
            for settled in (False, True):  # harvesting, and then refreshing
                account.server.account.settled = settled
                size, result, full = max(16 * 1024, used_bytes(small_disk)), None, 0
                while result is None:
                    resize(small_disk, size)
                    with suppress(LakeFull):
                        result = await account.run()
                    full += result is None
                    with suppress(LakeBroken):  # where there is not even a ledger yet
                        read_status(lake)
                    size += (24 if THOROUGH else 56) * 1024
                assert result.complete
                account.assert_exact()
                assert full

    async def test_at_any_phase_of_a_run_whose_files_may_not_grow(self, tmp_path: Path) -> None:
        full = 0
        async with field(tmp_path / "lake", SPEC, limit=300, concurrency=2) as account:
            for size in (0, 3_000, 9_000, 20_000, 50_000, 80_000):
                with files_of_at_most(size), suppress(LakeFull):
                    await account.run()
                    full -= 1
                full += 1
            assert full > 3
            assert (await account.run()).complete
            account.assert_exact()


@contextmanager
def as_nobody() -> Iterator[None]:
    """Has the process be a user whom modes keep out. What it needs to import, it has to have by then."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def give_to_nobody(folder: Path) -> None:
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)


@contextmanager
def read_only(folder: Path, view: Path | None = None) -> Iterator[None]:
    """Has a folder be on a file system that is read-only, for real, at its own place or at another."""
    place = str(view or folder)
    bound = subprocess.run(["mount", "--bind", str(folder), place], capture_output=True, check=False)
    if bound.returncode != 0:
        pytest.skip("this user may not mount a file system")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
        yield
    finally:
        subprocess.run(["umount", place], check=True)


async def killed_after(account: Field, first: list[int], second: list[int], **changes: Any) -> Path:
    """A lake as a killed run leaves it: what it did of ``second`` is in the ledger's write-ahead log alone."""
    assert (await account.run(first)).complete
    with closing(sqlite3.connect(account.lake / layout.LEDGER)) as reader:  # so that the log is not put into the ledger
        reader.execute("SELECT * FROM facts").fetchone()
        await account.run(second, **changes)
        left = account.lake.with_name("left")
        shutil.copytree(account.lake, left)
    return left


class TestNotLetIn:
    @pytest.mark.parametrize(
        ("forbidden", "mode"),
        [
            ("", 0o000),
            ("_harvest", 0o500),
            ("_harvest", 0o000),
            ("_harvest/lock", 0o000),
            ("_harvest/ledger.sqlite", 0o400),
            ("_harvest/ledger.sqlite", 0o000),
            ("_harvest/segments", 0o500),
            ("_harvest/segments", 0o000),
            ("_harvest/writing", 0o500),
            ("messages", 0o500),
            ("messages/send=602", 0o500),
        ],
    )
    async def test_what_may_not_be_written_or_read(self, open_folder: Path, forbidden: str, mode: int) -> None:
        async with field(open_folder / "lake", SPEC, limit=300) as account:
            assert (await account.run([601])).complete
            if forbidden == "messages/send=602":
                (account.lake / forbidden).mkdir(mode=0o700)
            give_to_nobody(account.lake)
            held, place = data(account.lake), account.lake / forbidden
            before = place.stat().st_mode
            place.chmod(mode)
            with as_nobody():
                assert "Let the user who runs harvester read and write" in await ends(account)
            place.chmod(before)
            assert held.items() <= data(account.lake).items()
            with as_nobody():
                assert (await account.run()).complete
            account.assert_exact()

    async def test_a_folder_that_may_not_be_made(self, open_folder: Path) -> None:
        async with field(open_folder / "lake", SPEC) as account:
            assert (await account.run(lake=open_folder / "warm")).complete
            open_folder.chmod(0o511)
            with as_nobody():
                assert "could not make the folder" in await ends(account)
            open_folder.chmod(0o711)
            assert (await account.run()).complete

    async def test_a_read_only_file_system(self, tmp_path: Path) -> None:
        async with field(tmp_path / "lake", SPEC) as account:
            assert (await account.run([601])).complete
            before = contents(account.lake)
            with read_only(account.lake):
                assert "mounted for writing" in await ends(account)
                status = read_status(account.lake)
                assert (status.rows["messages"], status.in_use) == (700, False)
            assert contents(account.lake) == before
            assert (await account.run()).complete

    async def test_the_status_of_a_lake_that_may_only_be_read_counts_what_is_only_in_the_log(
        self, tmp_path: Path
    ) -> None:
        async with field(tmp_path / "lake", SPEC) as account:
            left = await killed_after(account, [601], [602])
            for shared in left.glob("_harvest/*-shm"):
                shared.unlink()
            with read_only(left):
                assert read_status(left).rows["messages"] == 1200
            assert not list(left.glob("_harvest/*-shm"))

    async def test_the_status_of_a_lake_in_use_where_it_may_only_be_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        view = tmp_path / "view"
        view.mkdir()

        def look() -> None:
            command = [sys.executable, "-m", "harvester", "status", "--json", str(view)]
            with read_only(account.lake, view):
                done = subprocess.run(command, capture_output=True, text=True, check=False)
            told = json.loads(done.stdout)
            assert told["in_use"]
            assert told["rows"]["messages"] >= 700

        async with field(tmp_path / "lake", SPEC, limit=100) as account:
            assert (await account.run([601])).complete
            at_attempt(3, look, monkeypatch)
            assert (await account.run([602])).complete


class TestSomethingElseInItsPlace:
    @pytest.mark.parametrize(
        ("place", "held", "says"),
        [
            ("", False, "move that away"),
            ("_harvest", False, "move that away"),
            ("messages", False, "move that away"),
            ("", True, "move that away"),
            ("_harvest", True, "move that away"),
            ("_harvest/segments", True, "move that away"),
            ("_harvest/writing", True, "move that away"),
            ("bounces", True, "move that away"),
            ("messages/send=601", True, "move that away"),
            ("messages/send=602", True, "move that away"),
        ],
    )
    async def test_a_file_in_place_of_a_folder(self, tmp_path: Path, place: str, held: bool, says: str) -> None:
        async with field(tmp_path / "lake", SPEC, limit=300) as account:
            if held:
                assert (await account.run([601])).complete
            there, aside = account.lake / place, tmp_path / "aside"
            if there.exists():
                there.rename(aside)
            there.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            there.write_text("mine")
            assert says in await ends(account, refresh=Refresh.ALL)
            assert there.read_text() == "mine"
            there.unlink()
            if aside.exists():
                if there.exists():
                    shutil.rmtree(there)
                aside.rename(there)
            assert (await account.run()).complete
            account.assert_exact()

    @pytest.mark.parametrize("place", ["_harvest/ledger.sqlite", "_harvest/lock"])
    async def test_a_folder_in_place_of_a_file(self, tmp_path: Path, place: str) -> None:
        async with field(tmp_path / "lake", SPEC) as account:
            (account.lake / place / "mine").mkdir(parents=True)
            assert await ends(account)
            assert (account.lake / place / "mine").is_dir()
            shutil.rmtree(account.lake / place)
            assert (await account.run()).complete


class TestInUse:
    @pytest.mark.parametrize("number", [1, 4, 9])
    async def test_a_second_run_disturbs_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        refused = 0

        def second() -> None:
            nonlocal refused
            before = (account.lake / layout.LOCK).read_bytes()
            with pytest.raises(LakeInUse, match=str(os.getpid())), open_lake(account.lake, QUICK):
                pass
            assert (account.lake / layout.LOCK).read_bytes() == before
            refused += 1

        async with field(tmp_path / "lake", SPEC, limit=100) as account:
            at_attempt(number, second, monkeypatch)
            assert (await account.run()).complete
            account.assert_exact()
            assert refused == 1
            assert not read_status(account.lake).in_use

    def test_a_look_at_the_lock_is_not_taken_for_a_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        look = ExitStack()
        look.enter_context(Store(tmp_path).locked("lock"))  # which lasts for an instant
        monkeypatch.setattr(time, "sleep", lambda _: look.close())
        with Store(tmp_path).locked("lock"):
            assert Store(tmp_path).is_locked("lock")


def said(lake: Lake | Glance) -> list[Any]:
    """What a ledger says of slices and files."""
    return [(*row.values(), lake.inventory.files(row["id"])) for row in lake.ledger.walked(None)]


class TestLedger:
    async def test_a_ledger_that_was_cut_short_anywhere_is_refused_and_left_alone(self, tmp_path: Path) -> None:
        async with field(tmp_path / "lake", SPEC) as account:
            assert (await account.run()).complete
            whole = (account.lake / layout.LEDGER).read_bytes()
            before, refused, dice = data(account.lake), 0, Random(5)
            with look_into(account.lake) as seen:
                before_cut = said(seen)
            places = {0, 1, 15, 16, 99, 100, len(whole) - 1, *range(512, len(whole), 4096), *range(0, len(whole), 8192)}
            for size in sorted(places | {dice.randrange(len(whole)) for _ in range(20)}):
                (account.lake / layout.LEDGER).write_bytes(whole[:size])
                try:
                    with open_lake(account.lake, QUICK) as lake:
                        assert said(lake) == before_cut, f"{size} of {len(whole)} bytes"
                except LakeBroken:
                    refused += 1
                    assert (account.lake / layout.LEDGER).read_bytes() == whole[:size]
                    with pytest.raises(LakeError), look_into(account.lake) as seen:
                        said(seen)
            assert refused > 30
            (account.lake / layout.LEDGER).write_bytes(whole[:5000])
            assert "harvester recover" in await ends(account)
            assert data(account.lake) == before
            (account.lake / layout.LEDGER).write_bytes(whole)
            assert (await account.run()).complete
            account.assert_exact()

    async def test_a_ledger_with_garbage_in_it_is_refused_or_does_no_harm(self, tmp_path: Path) -> None:
        async with field(tmp_path / "lake", SPEC) as account:
            assert (await account.run()).complete
            whole = (account.lake / layout.LEDGER).read_bytes()
            before, dice, refused = data(account.lake), Random(6), 0
            for place in range(0, len(whole), 4096):
                garbled = bytearray(whole)
                garbled[place : place + 512] = dice.randbytes(512)
                (account.lake / layout.LEDGER).write_bytes(garbled)
                try:
                    await account.run()
                except LakeBroken:
                    refused += 1
                assert data(account.lake) == before, f"garbage at {place}"
            assert refused > 5

    async def test_a_database_of_something_else_is_not_written_to(self, tmp_path: Path) -> None:
        async with field(tmp_path / "lake", SPEC) as account:
            (account.lake / "_harvest").mkdir(parents=True)
            path = account.lake / layout.LEDGER
            with closing(sqlite3.connect(path)) as other:
                other.execute("CREATE TABLE mine (x)")
            before = path.read_bytes()
            assert "something else" in await ends(account)
            assert path.read_bytes() == before

    async def test_a_write_ahead_log_that_is_damaged_or_gone_or_of_another_ledger(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The ledger then falls back to what it said before: nothing is doubled, and nothing joins what it lacks."""
        async with (
            field(tmp_path / "other" / "lake", SPEC) as another,
            field(tmp_path / "one" / "lake", SPEC, limit=100, patience_s=0.0) as account,
        ):
            foreign = (await killed_after(another, [602], [601])) / f"{layout.LEDGER}-wal"
            with monkeypatch.context() as patch:  # the run gives up half-way, and seals what it has
                at_attempt(14, lambda: account.server.fail_sends.add(602), patch)
                left = await killed_after(account, [601], [602])
                account.server.fail_sends.clear()
            log = (left / f"{layout.LEDGER}-wal").read_bytes()
            apart = len(log) // (5 if THOROUGH else 2)
            damages = [b"", foreign.read_bytes(), Random(1).randbytes(len(log))]
            damages += [log[:size] for size in range(0, len(log), apart)]
            damages += [log[:at] + b"garbage" + log[at + 7 :] for at in range(40, len(log), apart)]
            fell_back = 0
            for number, damage in enumerate([None, *damages, log]):
                lake = tmp_path / str(number)
                shutil.copytree(left, lake)
                for beside in lake.glob("_harvest/*-shm"):
                    beside.write_bytes(b"garbage" * 1000)
                (lake / f"{layout.LEDGER}-wal").unlink()
                if damage is not None:
                    (lake / f"{layout.LEDGER}-wal").write_bytes(damage)
                again = replace(account, settings=replace(account.settings, lake=lake, patience_s=30.0))
                before = data(lake)
                try:
                    assert (await again.run()).complete
                except LakeBroken:
                    fell_back += 1
                    assert damage is not log
                    after = data(lake)
                    assert {name: after.get(name) for name in before} == before
                    assert not {folder_of(name) for name in after.keys() - before} & {
                        folder_of(name) for name in before
                    }
                else:
                    again.assert_exact()
            assert fell_back > len(damages) // 2

    async def test_a_lake_of_another_account_is_left_alone(self, tmp_path: Path) -> None:
        async with field(tmp_path / "lake", SPEC) as account:
            assert (await account.run([601])).complete
            asked, before = account.server.stats.requests, contents(account.lake)
            assert "use another folder" in await ends(account, client_id="54321")
            assert account.server.stats.requests == asked
            assert contents(account.lake) == before
            assert (await account.run()).complete

    async def test_a_mistyped_client_id_does_not_bind_a_new_lake(self, tmp_path: Path) -> None:
        async with field(tmp_path / "lake", SPEC) as account:
            with pytest.raises(AccessRefused):
                await account.run([601], client_id="54321")
            assert (await account.run([601])).complete


class TestDraining:
    """Whatever a run is waiting for, a signal ends the wait; the bound here is a guard, since nothing is slow."""

    @pytest.mark.parametrize(
        ("behaviour", "tuning"),
        [
            (Behaviour(faults={Fault.FAILED: 1.0}), replace(QUICK, backoff_s=1000.0, backoff_cap_s=1000.0)),
            (Behaviour(faults={Fault.THROTTLED_SECONDS: 1.0}, retry_after_s=500), QUICK),
            (Behaviour(faults={Fault.EMPTY: 1.0}), replace(QUICK, apart_s=1000.0)),
        ],
        ids=["after a failure", "since the server asks for a pause", "between two askings"],
    )
    async def test_what_waits(self, tmp_path: Path, behaviour: Behaviour, tuning: Tuning) -> None:
        async with field(tmp_path / "lake", SPEC, behaviour, tuning=tuning) as account:
            result = await drained_once_it_waits(account.harvest(), lambda: account.server.stats.requests > 0)
            assert result.interrupted
            account.server.behaviour = Behaviour()

    async def test_while_the_server_is_away(self, tmp_path: Path) -> None:
        tuning = replace(QUICK, backoff_s=1000.0, backoff_cap_s=1000.0, never_reached_s=3000.0)
        async with field(tmp_path / "lake", SPEC, tuning=tuning, patience_s=3000.0) as account:
            harvest = account.harvest(endpoint="http://127.0.0.1:1")
            result = await drained_once_it_waits(harvest, lambda: harvest.snapshot().paused_s > 0)
            assert result.interrupted

    async def test_rows_that_are_not_sealed_yet_are_no_complete_lake(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sealing, "AFTER_DRAIN_S", -1.0)
        async with field(tmp_path / "lake", replace(SPEC, sends=equal(8, 500))) as account:
            harvest = account.harvest()
            seal = Lake.seal

            def drain(lake: Lake, slice_id: int, **kwargs: Any) -> None:
                from_thread.run_sync(harvest.drain)
                seal(lake, slice_id, **kwargs)

            monkeypatch.setattr(Lake, "seal", drain)
            stopped = await harvest.run()
            assert (stopped.complete, stopped.interrupted) == (False, True)
            monkeypatch.setattr(Lake, "seal", seal)
            resumed = await account.run()
            assert resumed.complete
            account.assert_exact()


async def drained_once_it_waits(harvest: Harvest, waits: Callable[[], bool]) -> Result:
    """How a run ends that is drained in the middle of a wait."""
    results: list[Result] = []

    async def run() -> None:
        results.append(await harvest.run())

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            while not waits() or harvest.snapshot().in_flight:  # noqa: ASYNC110  nothing tells when a run waits
                await anyio.sleep(0.001)
            harvest.drain()
    return results[0]
