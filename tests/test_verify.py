"""``harvester verify``: a lake that is as it should be is said to be, and whatever is done to one is found."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harvester.config import Refresh
from harvester.console.cli import command_line
from harvester.console.exits import Exit
from harvester.datasets import MESSAGES
from harvester.harvest.upkeep import verifying
from harvester.lake import layout
from harvester.lake.inventory import Inventory
from harvester.lake.ledger import Ledger
from harvester.lake.storage.store import Store
from harvester.lake.upkeep import verify as verify_module
from harvester.lake.upkeep.snapshots import SliceSnapshot, snapshot
from harvester.simulator.spec import AccountSpec, listed
from tests.harvesting import at_attempt, field
from tests.lake_upkeep import EVERY, LARGE, NONE, SMALL, files, found, lake_of_all, small_files

Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def harvested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lake_of_all(tmp_path_factory.mktemp("whole") / "lake")


@pytest.fixture
def lake(harvested: Path, tmp_path: Path) -> Path:
    """A copy of a harvested lake, to be spoilt."""
    return Path(shutil.copytree(harvested, tmp_path / "lake"))


def kinds(lake: Path, *, quick: bool = False) -> list[tuple[str, str]]:
    """What is found: kind, and file or slice."""
    return sorted((one.kind, one.file or f"{one.dataset} {one.id_send}") for one in found(lake, quick=quick))


def name(path: Path) -> str:
    """A data file's name from the lake's folder on."""
    return "/".join(path.parts[-3:])


def in_ledger(lake: Path, *statements: str) -> None:
    """Changes the ledger behind harvester's back."""
    database = sqlite3.connect(lake / layout.LEDGER)
    with database:
        for statement in statements:
            assert database.execute(statement).rowcount > 0, statement
    database.close()


class TestSound:
    @pytest.mark.parametrize("quick", [False, True])
    def test_a_lake_that_was_just_harvested_is_sound_and_complete(self, harvested: Path, quick: bool) -> None:
        assert len(files(harvested)) > 2
        with verifying(harvested, quick=quick) as seen:
            assert not list(seen.findings())
        held = list(harvested.glob("*/*/*.parquet"))
        assert (seen.complete, seen.slices, seen.incomplete, seen.moving) == (True, 3 * len(EVERY), 0, 0)
        assert (seen.files, seen.bytes) == (len(held), sum(path.stat().st_size for path in held))
        assert seen.rows == sum(pq.read_metadata(path).num_rows for path in held)
        assert (seen.segments, seen.leftovers, seen.set_aside) == (0, 0, 0)

    @pytest.mark.anyio
    async def test_so_is_one_after_refreshes_growth_and_erasures(self, tmp_path: Path) -> None:
        account_spec = AccountSpec(sends=listed({601: 2500, 602: 300}), waiting=0.1, failed=0.1, room=1000)
        settings: dict[str, Any] = {"limit": 500, "datasets": EVERY, "tuning": small_files()}
        async with field(tmp_path / "lake", account_spec, **settings) as account:
            assert (await account.run()).complete
            served = account.server.account
            served.settled = True
            served.grow(601, 700)
            served.erase(602, served.key(1, 7))
            served.erase(601, served.key(0, 2499))
            for drop_gone in (False, True):
                assert (await account.run(refresh=Refresh.ALL, drop_gone=drop_gone)).complete
                assert found(account.lake) == []

    @pytest.mark.anyio
    async def test_one_of_a_run_that_was_drained_is_sound_and_not_complete(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with field(tmp_path / "lake", AccountSpec(sends=listed({601: 5000})), limit=200) as account:
            harvest = account.harvest()
            at_attempt(8, harvest.drain, monkeypatch)
            assert (await harvest.run()).interrupted
        (account.lake / layout.WRITING / "messages.send=601.part-1-2").touch()
        (account.lake / layout.SEGMENTS / "99-1.arrow").touch()
        with verifying(account.lake, quick=False) as seen:
            assert not list(seen.findings())
        assert (seen.complete, seen.incomplete, seen.segments > 0, seen.leftovers) == (False, 2, True, 2)

    @pytest.mark.anyio
    async def test_it_can_be_verified_at_every_instant_of_a_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Before and after each step that changes files or ledger, from the first page to a refresh's last file."""
        account_spec = AccountSpec(sends=listed({601: 1000, 602: 40}), waiting=0.2, failed=0.1)
        settings: dict[str, Any] = {"limit": 300, "concurrency": 2, "tuning": small_files()}
        async with field(tmp_path / "lake", account_spec, **settings) as account:
            looks = _at_each_step(monkeypatch, account.lake)
            assert (await account.run()).complete
            account.server.account.settled = True
            assert (await account.run(refresh=Refresh.ALL)).complete
            account.assert_exact()
        assert len(looks) > 40
        assert all(look == [] for look in looks)


def _at_each_step(patch: pytest.MonkeyPatch, lake: Path) -> list[list[Any]]:
    """What is found wrong before and after each step of what follows."""
    looks: list[list[Any]] = []

    def look() -> None:
        if (lake / layout.LEDGER).exists() and (lake / layout.LEDGER).stat().st_size:
            looks.append(found(lake))

    def watched(step: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*args: Any, **kwargs: Any) -> Any:
            look()
            result = step(*args, **kwargs)
            look()
            return result

        return stepped

    for owner, names in (
        (Store, ("publish", "remove")),
        (Ledger, ("advance",)),
        (Inventory, ("intend", "fulfil", "note_unchanged", "end_refresh")),
    ):
        for step in names:
            patch.setattr(owner, step, watched(getattr(owner, step)))
    return looks


# --- what is done to files


def remove(lake: Path) -> None:
    files(lake)[1].unlink()


def remove_folder(lake: Path) -> None:
    shutil.rmtree(lake / "bounces" / f"send={SMALL}")


def shorten(lake: Path) -> None:
    path = files(lake)[0]
    path.write_bytes(path.read_bytes()[:-100])


def lengthen(lake: Path) -> None:
    path = files(lake)[0]
    path.write_bytes(path.read_bytes() + b"more")


def empty(lake: Path) -> None:
    files(lake)[0].write_bytes(b"")


def swap(lake: Path) -> None:
    one, other, *_ = files(lake)
    one.rename(lake / "kept")
    other.rename(one)
    (lake / "kept").rename(other)


def replace_by_that_of_another_send(lake: Path) -> None:
    shutil.copy(files(lake, id_send=SMALL)[0], files(lake)[0])


def replace_by_a_hand_made_one(lake: Path) -> None:
    path = files(lake)[0]
    pq.write_table(pq.ParquetFile(path).read(), path)


def replace_by_that_of_another_account(lake: Path) -> None:
    path = files(lake)[0]
    other = lake.parent / "other"
    lake_of_all(other, AccountSpec(client_id="77", sends=listed({LARGE: 3000}), failed=0.1, waiting=0.02))
    shutil.copy(files(other)[0], path)


def replace_by_an_older_one(lake: Path) -> None:
    path = files(lake)[0]
    with pq.ParquetFile(path) as file:
        rows, footer = file.read(), layout.Footer.decode(file.metadata.metadata or {})
    with pq.ParquetWriter(path, MESSAGES.schema) as writer:
        writer.write_table(rows.slice(1))
        writer.add_key_value_metadata(replace(footer, generation=7).encode())


def copy(lake: Path) -> None:
    shutil.copy(files(lake)[0], files(lake)[0].with_name("copy.parquet"))


def copy_to_another_send(lake: Path) -> None:
    shutil.copy(files(lake)[0], lake / "messages" / f"send={SMALL}")


def rename(lake: Path) -> None:
    files(lake)[0].rename(files(lake)[0].with_name("renamed.parquet"))


def put_a_hand_made_one_beside(lake: Path) -> None:
    pq.write_table(pa.table({"id_send": [SMALL]}), lake / "messages" / f"send={SMALL}" / "mine.parquet")


def put_garbage_beside(lake: Path) -> None:
    (lake / "messages" / f"send={NONE}").mkdir()
    (lake / "messages" / f"send={NONE}" / "part-1-2.parquet").write_bytes(b"PAR1")


def put_text_beside(lake: Path) -> None:
    (lake / "messages" / f"send={SMALL}" / "notes.txt").write_text("mine")


def put_a_send_beside(lake: Path) -> None:
    shutil.copytree(lake / "messages" / f"send={SMALL}", lake / "messages" / "send=77")


def put_things_elsewhere(lake: Path) -> None:
    (lake / "mine").mkdir()
    (lake / "messages" / "mine.parquet").touch()
    (lake / layout.HOME / "mine.parquet").touch()


MESSAGES_OF_LARGE = f"messages/send={LARGE}/part-"
DAMAGES: list[tuple[Damage, list[tuple[str, str]]]] = [
    (remove, [("missing", MESSAGES_OF_LARGE)]),
    (remove_folder, [("missing", f"bounces/send={SMALL}/part-")]),
    (shorten, [("damaged", MESSAGES_OF_LARGE)]),
    (lengthen, [("damaged", MESSAGES_OF_LARGE)]),
    (empty, [("damaged", MESSAGES_OF_LARGE)]),
    (swap, [("swapped", MESSAGES_OF_LARGE)] * 2),
    (replace_by_that_of_another_send, [("swapped", MESSAGES_OF_LARGE)]),
    (replace_by_a_hand_made_one, [("damaged", MESSAGES_OF_LARGE)]),
    (replace_by_that_of_another_account, [("foreign", MESSAGES_OF_LARGE)]),
    (replace_by_an_older_one, [("swapped", MESSAGES_OF_LARGE)]),
    (copy, [("doubled", f"messages/send={LARGE}/copy.parquet")]),
    (copy_to_another_send, [("foreign", f"messages/send={SMALL}/part-")]),
    (rename, [("missing", MESSAGES_OF_LARGE), ("stray", f"messages/send={LARGE}/renamed.parquet")]),
    (put_a_hand_made_one_beside, [("foreign", f"messages/send={SMALL}/mine.parquet")]),
    (put_garbage_beside, [("foreign", f"messages/send={NONE}/part-1-2.parquet")]),
    (put_text_beside, [("stray", f"messages/send={SMALL}/notes.txt")]),
    (put_a_send_beside, [("stray", "messages/send=77")]),
    (
        put_things_elsewhere,
        [("stray", "_harvest/mine.parquet"), ("stray", "messages/mine.parquet"), ("stray", "mine")],
    ),
]


class TestFiles:
    @pytest.mark.parametrize(("damage", "expected"), DAMAGES, ids=[damage.__name__ for damage, _ in DAMAGES])
    def test_whatever_is_done_to_a_file_is_found_and_nothing_else_is(
        self, lake: Path, damage: Damage, expected: list[tuple[str, str]]
    ) -> None:
        damage(lake)
        for quick in (False, True):
            told = kinds(lake, quick=quick)
            assert len(told) == len(expected)
            for (kind, where), (expected_kind, start) in zip(told, expected, strict=True):
                assert (kind, where[: len(start)]) == (expected_kind, start)

    def test_a_byte_that_flips_anywhere_is_found(self, lake: Path) -> None:
        dice = random.Random(7)
        for path in [files(lake)[0], *(files(lake, dataset, SMALL)[0] for dataset in EVERY)]:
            whole = path.read_bytes()
            for place in [0, len(whole) - 1, *dice.sample(range(len(whole)), 6)]:
                path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << dice.randrange(8)]) + whole[place + 1 :])
                assert kinds(lake) in ([("damaged", name(path))], [("swapped", name(path))])
            path.write_bytes(whole)
        assert found(lake) == []

    def test_what_file_managers_leave_and_empty_folders_are_nobodys_business(self, lake: Path) -> None:
        (lake / ".DS_Store").touch()
        (lake / "messages" / f"send={SMALL}" / ".DS_Store").touch()
        (lake / "messages" / "send=78").mkdir()
        assert found(lake) == []
        (lake / "messages" / f"send={SMALL}" / "._part-1-2.parquet").touch()  # readers do find that one
        assert kinds(lake) == [("foreign", f"messages/send={SMALL}/._part-1-2.parquet")]

    @pytest.mark.anyio
    async def test_a_page_that_is_missing_or_damaged_is_found(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with field(tmp_path / "lake", AccountSpec(sends=listed({601: 5000})), limit=200) as account:
            harvest = account.harvest()
            at_attempt(12, harvest.drain, monkeypatch)
            assert (await harvest.run()).interrupted
        gone, short, other, flipped, *_ = sorted((account.lake / layout.SEGMENTS).iterdir())
        gone.unlink()
        short.write_bytes(short.read_bytes()[:-1])
        other.write_bytes(b"\0" * other.stat().st_size)
        content = bytearray(flipped.read_bytes())
        content[len(content) // 2] ^= 1
        flipped.write_bytes(content)
        expected = [("damaged", short), ("damaged", other), ("damaged", flipped), ("missing", gone)]
        assert kinds(account.lake) == sorted((kind, "/".join(path.parts[-3:])) for kind, path in expected)


LARGE_ID = f"(SELECT id FROM slices WHERE dataset = 'messages' AND id_send = {LARGE})"
SMALL_ID = f"(SELECT id FROM slices WHERE dataset = 'messages' AND id_send = {SMALL})"
LAST_FILE = f"id = (SELECT id FROM data_files WHERE slice_id = {LARGE_ID} ORDER BY start DESC LIMIT 1)"
SECOND_FILE = f"id = (SELECT id FROM data_files WHERE slice_id = {LARGE_ID} ORDER BY start LIMIT 1 OFFSET 1)"
REST = 'stop, cursor, held, anchors, "limit", short_answers, missing, first_keys, rows'


class TestLedger:
    @pytest.mark.parametrize(
        ("statement", "expected"),
        [
            (f"UPDATE slices SET rows = rows + 1 WHERE id = {SMALL_ID}", ["counts"]),
            (f"UPDATE slices SET unsettled = unsettled + 1 WHERE id = {SMALL_ID}", ["counts"]),
            (f"UPDATE data_files SET rows = rows + 1 WHERE slice_id = {SMALL_ID}", ["counts", "counts"]),
            (f"UPDATE data_files SET overdue = overdue + 1 WHERE slice_id = {SMALL_ID}", ["counts", "counts"]),
            (f"UPDATE data_files SET last_key = last_key - 1 WHERE slice_id = {SMALL_ID}", ["rows"]),
            (f"UPDATE data_files SET generation = 1 WHERE slice_id = {SMALL_ID}", ["ranges"]),
            (f"UPDATE data_files SET start = start + 1 WHERE {SECOND_FILE}", ["ranges"] * 3),
            (f"UPDATE data_files SET start = start - 1 WHERE {SECOND_FILE}", ["ranges", "ranges"]),
            (f"UPDATE data_files SET stop = last_key WHERE {LAST_FILE}", ["ranges", "ranges"]),
            (f"UPDATE slices SET proof = 'sure' WHERE id = {SMALL_ID}", ["proof"]),
            (f"UPDATE slices SET proof = 'empty' WHERE id = {SMALL_ID}", ["proof"]),
            (f"UPDATE slices SET proof = 'covers' WHERE id = {SMALL_ID}", ["proof"]),
            (f"UPDATE slices SET proof = 'count', expected = 121 WHERE id = {SMALL_ID}", ["proof"]),
            (f"UPDATE slices SET proof = 'tail' WHERE dataset = 'bounces' AND id_send = {SMALL}", ["proof"]),
            (f"UPDATE slices SET proof = 'tail' WHERE dataset = 'messages' AND id_send = {NONE}", ["proof"]),
            (f"UPDATE ranges SET cursor = cursor - 1, held = held - 1 WHERE slice_id = {SMALL_ID}", ["cursor"]),
            (f"DELETE FROM ranges WHERE slice_id = {SMALL_ID}", ["cursor"]),
            (f"INSERT INTO ranges SELECT slice_id, 5, {REST} FROM ranges WHERE slice_id = {SMALL_ID}", ["cursor"] * 2),
            (f"UPDATE ranges SET start = 5 WHERE slice_id = {SMALL_ID}", ["cursor"]),
        ],
    )
    def test_a_ledger_that_contradicts_itself_or_the_files_is_found(
        self, lake: Path, statement: str, expected: list[str]
    ) -> None:
        in_ledger(lake, statement)
        assert [kind for kind, _ in kinds(lake)] == expected

    @pytest.mark.parametrize("content", [b"", b"garbage" * 1000, None])
    def test_one_that_cant_be_read_is_exit_status_4(
        self, lake: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = lake / layout.LEDGER
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2] if content is None else content)
        assert command_line(["verify", str(lake), "--json"]) == Exit.LAKE
        printed = json.loads(capsys.readouterr().out)
        assert (printed["sound"], printed["complete"], printed["findings"]) == (False, False, [])
        assert "harvester recover" in printed["error"]

    def test_no_lake_is_exit_status_4(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert command_line(["verify", str(tmp_path)]) == Exit.LAKE
        assert "is not a lake" in capsys.readouterr().err

    def test_a_slice_that_never_holds_still_is_counted_and_not_accused(
        self, lake: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        remove(lake)
        changes = iter(range(100))

        def moving(*args: Any) -> SliceSnapshot | None:
            seen: SliceSnapshot | None = snapshot(*args)
            return seen and replace(seen, expected=next(changes))

        monkeypatch.setattr(verify_module, "snapshot", moving)
        with verifying(lake, quick=False) as seen:
            assert not list(seen.findings())
        assert seen.moving == 1


class TestCommand:
    @pytest.mark.parametrize("quick", [False, True])
    def test_a_sound_lake_is_said_to_be_so(
        self, harvested: Path, quick: bool, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert command_line(["verify", str(harvested), *["--quick"] * quick]) == Exit.COMPLETE
        out = capsys.readouterr().out
        assert "Nothing is wrong, and every slice is complete." in out
        assert ("every byte" in out) is not quick

    def test_what_is_wrong_is_told_with_what_to_do(self, lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = files(lake)[1]
        remove(lake)
        assert command_line(["verify", str(lake)]) == Exit.INCOMPLETE
        out = capsys.readouterr().out
        assert f"missing: {name(path)}" in out
        assert f"harvester recover {lake}" in out
        assert "Found 1 thing wrong." in out
        assert command_line(["verify", str(lake), "--json"]) == Exit.INCOMPLETE
        printed = json.loads(capsys.readouterr().out)
        assert (printed["sound"], printed["complete"], printed["found"]) == (False, True, 1)
        (finding,) = printed["findings"]
        assert set(finding) == {"kind", "dataset", "id_send", "file", "what", "remedy"}
        assert (finding["kind"], finding["file"], finding["id_send"]) == ("missing", name(path), LARGE)

    def test_of_many_findings_the_first_are_told(self, lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for number in range(25):
            (lake / f"mine-{number}").mkdir()
        assert command_line(["verify", str(lake)]) == Exit.INCOMPLETE
        out = capsys.readouterr().out
        assert out.count("stray: mine-") == 20
        assert "and 5 more" in out

    def test_an_incomplete_lake_is_exit_status_1_though_nothing_is_wrong(
        self, lake: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        in_ledger(lake, f"UPDATE slices SET proof = NULL WHERE id = {SMALL_ID}")
        assert command_line(["verify", str(lake)]) == Exit.INCOMPLETE
        assert "Nothing is wrong, but 1 slice is not complete" in capsys.readouterr().out
