"""``harvester recover``: a lost ledger is made anew, a sound one mended, and the next run brings what is missing."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import pyarrow.parquet as pq
import pytest

from harvester.config import Refresh
from harvester.console.cli import command_line
from harvester.console.exits import Exit
from harvester.datasets import BOUNCES, MESSAGES
from harvester.errors import LakeError, LakeFull
from harvester.harvest.upkeep import Recovered, recover
from harvester.lake import layout
from harvester.lake.lake import look_into
from harvester.lake.ledgers.sqlite import SqliteDatabase
from harvester.lake.runs import Runs
from harvester.lake.storage.store import Store
from harvester.lake.upkeep import anew, mending
from harvester.lake.upkeep.rebuilding import Part, read_part
from harvester.lake.upkeep.snapshots import SliceSnapshot, snapshots
from harvester.model import SliceKey
from harvester.simulator.spec import AccountSpec, listed
from tests import test_verify as done_to
from tests.harvesting import Field, at_attempt, field
from tests.lake_upkeep import EVERY, LARGE, NONE, SETTINGS, SMALL, SPEC, files, found, lake_of_all, small_files
from tests.test_verify import Damage
from tests.thorough import STRIDE, some

NOW = datetime(2026, 11, 21, 12, 0, 0)  # noqa: DTZ001  times of the lake have no zone


ONE_CURSOR: dict[str, Any] = SETTINGS | {"concurrency": 1}
"""Settings with which nothing is asked for beside what is needed, wherever keys lie."""


@pytest.fixture(scope="module")
def harvested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lake_of_all(tmp_path_factory.mktemp("whole") / "lake")


@pytest.fixture
def lake(harvested: Path, tmp_path: Path) -> Path:
    """A copy of a harvested lake, to be spoilt."""
    return Path(shutil.copytree(harvested, tmp_path / "lake"))


def recovered(lake: Path) -> Recovered:
    done = Recovered()
    recover(lake, done)
    return done


def lose_ledger(lake: Path) -> None:
    shutil.rmtree(lake / layout.HOME)


def told(lake: Path, *, rows_only: bool = False) -> dict[SliceKey, SliceSnapshot]:
    """What the ledger says of each slice, without the numbers that it gives to things."""
    with look_into(lake) as seen:
        return {
            one.key: replace(
                one,
                id=0,
                files=tuple(replace(file, id=0) for file in one.files),
                ranges=tuple(replace(where, anchors=(), limit=0, short_answers=0) for where in one.ranges),
            )
            for one in snapshots(seen.ledger.database)
            if one.rows or not rows_only
        }


def aside(lake: Path) -> list[str]:
    """What is set aside, in whichever folder."""
    return sorted(
        "/".join(path.relative_to(lake / layout.SET_ASIDE).parts[1:])
        for path in (lake / layout.SET_ASIDE).rglob("*")
        if path.is_file()
    )


class TestLost:
    def test_the_new_ledger_says_what_the_lost_one_said_of_every_slice_with_rows(self, lake: Path) -> None:
        before = told(lake, rows_only=True)
        lose_ledger(lake)
        done = recovered(lake)
        assert told(lake) == before
        assert len(before[SliceKey("messages", LARGE)].files) > 2
        assert (done.rebuilt, done.slices, done.complete, done.aside, done.folder) == (True, 8, 8, [], None)
        assert done.account == SPEC.client_id
        assert found(lake) == []

    @pytest.mark.anyio
    async def test_a_run_on_a_complete_lake_of_three_sends_asks_for_no_messages(self, tmp_path: Path) -> None:
        spec = AccountSpec(sends=listed({1: 3000, 2: 800, 3: 50}), failed=0.1)
        async with field(tmp_path / "lake", spec, limit=500) as account:
            assert (await account.run()).complete
            lose_ledger(account.lake)
            recovered(account.lake)
            account.server.stats.functions.clear()
            assert (await account.run()).complete
            assert account.server.stats.functions == {}
            account.assert_exact()
            assert found(account.lake) == []

    @pytest.mark.anyio
    async def test_sends_without_rows_are_asked_again(self, lake: Path) -> None:
        lose_ledger(lake)
        recovered(lake)
        async with field(lake, SPEC, **SETTINGS) as account:
            assert (await account.run()).complete
            assert set(account.server.stats.sends) == {NONE}
            account.assert_exact(datasets=EVERY)

    @pytest.mark.anyio
    async def test_refreshes_and_growth_go_on_as_if_nothing_had_been_lost(self, tmp_path: Path) -> None:
        spec = AccountSpec(sends=listed({601: 2500, 602: 300}), waiting=0.1, failed=0.1, room=1000)
        settings: dict[str, Any] = SETTINGS | {"tuning": small_files()}
        async with field(tmp_path / "lake", spec, **settings) as account:
            served = account.server.account
            assert (await account.run()).complete
            served.settled = True
            served.grow(601, 700)
            assert (await account.run(refresh=Refresh.ALL)).complete
            before = told(account.lake)
            assert any(file.generation for one in before.values() for file in one.files)
            lose_ledger(account.lake)
            recovered(account.lake)
            assert {key: one.files for key, one in told(account.lake).items()} == {
                key: tuple(replace(file, changed=0) for file in one.files) for key, one in before.items()
            }
            served.grow(601, 200)
            assert (await account.run(refresh=Refresh.ALL)).complete
            account.assert_exact(datasets=EVERY)
            assert found(account.lake) == []

    @pytest.mark.anyio
    async def test_what_lies_before_a_hole_is_kept_and_what_lies_behind_is_set_aside_and_asked_again(
        self, lake: Path
    ) -> None:
        first, lost, *behind = files(lake)
        lost.unlink()
        lose_ledger(lake)
        done = recovered(lake)
        assert [file.name for file in done.aside] == ["/".join(path.parts[-3:]) for path in behind]
        assert aside(lake) == [f"messages/send={LARGE}/{path.name}.aside" for path in behind]
        assert files(lake) == [first]
        kept = pq.read_metadata(first).num_rows
        async with field(lake, SPEC, tuning=small_files(), **ONE_CURSOR) as account:
            assert (await account.run([LARGE])).complete
            assert account.server.stats.messages < 3000 - kept + 50
            account.assert_exact(LARGE, datasets=EVERY)

    @pytest.mark.anyio
    async def test_of_a_slice_whose_last_file_is_not_there_the_rest_is_asked(self, lake: Path) -> None:
        *_, lost = files(lake)
        rows = pq.read_metadata(lost).num_rows
        lost.unlink()
        lose_ledger(lake)
        done = recovered(lake)
        assert (done.aside, done.slices - done.complete) == ([], 1)
        async with field(lake, SPEC, tuning=small_files(), **ONE_CURSOR) as account:
            assert (await account.run([LARGE])).complete
            assert rows <= account.server.stats.messages < rows + 50
            account.assert_exact(LARGE, datasets=EVERY)

    @pytest.mark.anyio
    async def test_pages_that_were_in_no_data_file_are_set_aside_and_asked_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spec = AccountSpec(sends=listed({601: 5000}), failed=0.1)
        async with field(tmp_path / "lake", spec, limit=200) as account:
            harvest = account.harvest()
            at_attempt(12, harvest.drain, monkeypatch)
            assert (await harvest.run()).interrupted
            pages = len(list((account.lake / layout.SEGMENTS).iterdir()))
            assert pages
            (account.lake / layout.LEDGER).unlink()
            assert recovered(account.lake).segments == pages
            assert len([name for name in aside(account.lake) if name.startswith("segments/")]) == pages
            assert (await account.run()).complete
            account.assert_exact()
            assert found(account.lake) == []

    def test_files_of_early_versions_do_not_say_whose_they_are(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Runs, "account", lambda _: None)
            lake = lake_of_all(tmp_path / "lake", AccountSpec(sends=listed({1: 300}), failed=0.1))
        lose_ledger(lake)
        done = recovered(lake)
        assert (done.account, done.slices, done.complete) == (None, 4, 4)

    @pytest.mark.anyio
    async def test_the_new_ledger_knows_whose_lake_it_is(self, lake: Path) -> None:
        lose_ledger(lake)
        recovered(lake)
        async with field(lake, AccountSpec(client_id="77", sends=SPEC.sends)) as account:
            with pytest.raises(LakeError, match="this lake was harvested from the account 12345, not 77"):
                await account.run()


class TestUnusable:
    """A ledger that can't be used is moved aside; one that others can use, or that can't be opened, is left alone."""

    @pytest.mark.parametrize("kind", ["garbage", "cut", "another database"])
    def test_one_that_is_broken_is_kept_aside(self, lake: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
        before = told(lake, rows_only=True)
        path = lake / layout.LEDGER
        whole = path.read_bytes()
        if kind == "another database":
            path.unlink()
            with sqlite3.connect(path) as database:
                database.execute("CREATE TABLE mine (id INTEGER)")
            database.close()
        else:
            path.write_bytes(b"garbage" * 1000 if kind == "garbage" else whole[: len(whole) // 2])
        assert command_line(["recover", str(lake)]) == Exit.COMPLETE
        out = capsys.readouterr().out
        assert "The old ledger could not be used" in out
        assert "_harvest/set-aside/" in out
        (kept,) = (lake / layout.SET_ASIDE).rglob("ledger.sqlite.aside")
        assert kept.stat().st_size >= 7000 if kind == "garbage" else len(whole) // 2 - 1
        assert told(lake) == before

    def test_what_sqlite_kept_beside_a_lost_ledger_does_not_meet_the_new_one(self, lake: Path) -> None:
        before = told(lake, rows_only=True)
        (lake / layout.LEDGER).unlink()
        (lake / f"{layout.LEDGER}-wal").write_bytes(b"of another time")
        recovered(lake)
        assert aside(lake) == ["ledger.sqlite-wal.aside"]
        assert told(lake) == before

    def test_one_of_a_newer_version_is_left_alone(self, lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
        done_to.in_ledger(lake, "UPDATE facts SET value = '99' WHERE name = 'format'")
        before = (lake / layout.LEDGER).read_bytes()
        assert command_line(["recover", str(lake)]) == Exit.LAKE
        assert "upgrade harvester" in capsys.readouterr().err
        assert (lake / layout.LEDGER).read_bytes() == before

    def test_one_that_is_in_use_is_left_alone(self, lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (lake / layout.LEDGER).unlink()
        with Store(lake).locked(layout.LOCK):
            assert command_line(["recover", str(lake)]) == Exit.LAKE
        assert "another run is using the lake" in capsys.readouterr().err
        assert not (lake / layout.LEDGER).exists()

    def test_no_lake_is_exit_status_4_and_becomes_none(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert command_line(["recover", str(tmp_path)]) == Exit.LAKE
        assert "is not a lake" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())

    def test_a_run_without_a_ledger_says_how_to_get_one(self, lake: Path) -> None:
        lose_ledger(lake)

        async def run() -> None:
            async with field(lake, SPEC) as account:
                await account.run()

        with pytest.raises(LakeError, match="harvester recover"):
            anyio.run(run)


MOVES_ASIDE: list[Damage] = [
    done_to.remove,
    done_to.swap,
    done_to.replace_by_that_of_another_account,
    done_to.copy_to_another_send,
    done_to.put_a_send_beside,
    done_to.remove_folder,
    done_to.replace_by_a_hand_made_one,
    done_to.copy,
    done_to.rename,
]


class TestDamage:
    @pytest.mark.parametrize("damage", some(MOVES_ASIDE, 4), ids=lambda damage: damage.__name__)
    def test_after_it_and_a_run_the_lake_is_exact(self, lake: Path, damage: Damage) -> None:
        """With a sound ledger, and without one."""
        damage(lake)
        bare = Path(shutil.copytree(lake, lake.parent / "bare"))
        lose_ledger(bare)
        for root in (lake, bare):
            held = {path.read_bytes() for path in root.rglob("*.parquet")}
            done = recovered(root)
            assert done.rebuilt is (root is bare)
            kept = {path.read_bytes() for path in root.rglob("*") if path.suffix in {".parquet", ".aside"}}
            assert held <= kept  # nothing was lost
            assert found(root) == []

        async def run() -> None:
            async with field(lake, SPEC, tuning=small_files(), **SETTINGS) as served:
                for root in (lake, bare):
                    account = Field(served.server, replace(served.settings, lake=root))
                    assert (await account.run()).complete
                    account.assert_exact(LARGE, SMALL, datasets=EVERY)
                    assert found(root) == []

        anyio.run(run)

    @pytest.mark.anyio
    async def test_a_sound_ledger_keeps_what_it_knows_of_all_other_slices(self, lake: Path) -> None:
        before = told(lake)
        done_to.remove(lake)
        done = recovered(lake)
        assert (done.rebuilt, done.slices, done.complete) == (False, 1, 0)
        now = told(lake)
        key = SliceKey("messages", LARGE)
        assert {one: now[one] for one in now if one != key} == {one: before[one] for one in before if one != key}
        assert now[key].files == before[key].files[:1]
        async with field(lake, SPEC, tuning=small_files(), **SETTINGS) as account:
            assert (await account.run()).complete
            assert set(account.server.stats.sends) == {LARGE, NONE}  # one without rows is young when first seen

    def test_where_nothing_is_wrong_nothing_is_changed(self, lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = told(lake)
        assert command_line(["recover", str(lake)]) == Exit.COMPLETE
        assert "nothing was changed" in capsys.readouterr().out
        assert told(lake) == before
        assert not (lake / layout.SET_ASIDE).exists()

    def test_files_that_a_ledger_put_back_from_a_backup_lacks_are_taken_in(self, lake: Path) -> None:
        before = told(lake)
        key = SliceKey("messages", LARGE)
        last = before[key].files[-1]
        where = f"WHERE slice_id = {done_to.LARGE_ID}"
        done_to.in_ledger(
            lake,
            f"DELETE FROM data_files {where} AND start = {last.start}",
            f"UPDATE ranges SET cursor = {last.start - 1}, held = {last.start - 1} {where}",
            f"UPDATE slices SET proof = NULL, rows = rows - {last.rows}, overdue = overdue - {last.overdue} "
            f"WHERE id = {done_to.LARGE_ID}",
        )
        assert {one.kind for one in found(lake)} == {"stray"}
        done = recovered(lake)
        assert (done.slices, done.complete, done.aside) == (1, 1, [])
        assert told(lake) == before

    def test_what_is_no_data_file_is_left_where_it_is_and_told(
        self, lake: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        done_to.put_text_beside(lake)
        done_to.put_things_elsewhere(lake)
        assert command_line(["recover", str(lake)]) == Exit.COMPLETE
        out = capsys.readouterr().out
        assert f"left as it is: messages/send={SMALL}/notes.txt" in out
        assert "left as it is: mine" in out
        assert "set aside: messages/mine.parquet" in out
        assert (lake / "messages" / f"send={SMALL}" / "notes.txt").exists()

    def test_a_byte_that_flips_loses_the_file_or_nothing(self, lake: Path) -> None:
        """No ledger says what the bytes were: the pages' own checksums and the footer have to do."""
        dice = random.Random(11)
        for dataset in (MESSAGES, BOUNCES):
            path = files(lake, dataset.name, SMALL)[0]
            name, key = f"{dataset.name}/send={SMALL}/{path.name}", SliceKey(dataset.name, SMALL)
            whole, rows = path.read_bytes(), pq.ParquetFile(path).read()
            set_aside = 0
            for place in dice.sample(range(len(whole)), 200):
                path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << dice.randrange(8)]) + whole[place + 1 :])
                part = read_part(Store(lake), key, name, None, NOW)
                if isinstance(part, Part):
                    assert pq.ParquetFile(path).read().equals(rows)
                else:
                    set_aside += 1
            assert set_aside > 150


class TestInterrupted:
    @pytest.mark.parametrize("with_ledger", [False, True])
    def test_a_stop_at_any_step_leaves_it_to_be_done_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_ledger: bool
    ) -> None:
        lake = lake_of_all(tmp_path / "lake", AccountSpec(sends=listed({LARGE: 1500, SMALL: 40}), failed=0.2))
        for damage in (done_to.shorten, done_to.copy_to_another_send, done_to.remove_folder):
            damage(lake)
        files(lake, "messages", SMALL)[-1].rename(lake / "messages" / f"send={SMALL}" / "odd.parquet")
        if not with_ledger:
            (lake / layout.LEDGER).write_bytes(b"garbage" * 1000)
        undisturbed = Path(shutil.copytree(lake, lake.parent / "undisturbed"))
        recovered(undisturbed)
        number, stopped = 1 - STRIDE, True
        while stopped:
            number, stopped = number + STRIDE, False
            root = Path(shutil.copytree(lake, lake.parent / str(number)))
            with monkeypatch.context() as patch:
                _stop_at(number, patch)
                try:
                    recovered(root)
                except LakeFull:
                    stopped = True
            recovered(root)
            assert told(root) == told(undisturbed)
            assert aside(root) == aside(undisturbed)
            assert found(root) == []
        assert number > 8


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
        (Store, "touch"),
        (Store, "move"),
        (Store, "remove"),
        (Store, "publish"),
        (anew, "put_slices"),
        (anew, "name_campaigns"),
        (mending, "put_slices"),
        (mending, "name_campaigns"),
        (SqliteDatabase, "open"),
    ):
        patch.setattr(owner, name, stopping(getattr(owner, name)))
