"""Lakes in object stores: the same rows as in a folder, whatever the store does, and every crash put right."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import obstore
import pytest
from anyio import to_thread

from harvester.config import Refresh, Tuning
from harvester.datasets import CATALOGUE, DEFAULT
from harvester.errors import LakeAway, LakeBroken, LakeError, UsageError
from harvester.harvest.status import read_status
from harvester.harvest.upkeep import Recovered, recover, verifying
from harvester.lake import layout
from harvester.lake.lake import open_lake
from harvester.lake.storage.connecting import connect
from harvester.lake.storage.store import Store
from harvester.places import ObjectLake
from harvester.simulator.behaviour import Behaviour, Fault
from harvester.simulator.server import Server
from harvester.simulator.spec import AccountSpec, listed
from harvester.simulator.truth import digest, expected
from tests.harvesting import QUICK, field, lake_table, outcomes
from tests.killing import AFTER, BEFORE, LATE, Killing
from tests.object_stores import (
    BUCKET,
    BUSY,
    CUT,
    DENIED,
    ELSEWHERE,
    HALF,
    LOST,
    MUTE,
    PASS,
    Stand,
    mirror,
)
from tests.serving import served
from tests.thorough import THOROUGH, some

LARGE, SMALL, NONE = 601, 602, 603
SENT = datetime(2026, 11, 1, 9, 0, 0)  # noqa: DTZ001  the API's dates have no zone
NASTY = AccountSpec(
    seed=11,
    sends=listed({LARGE: 250, SMALL: 20, NONE: 0}),
    gap=5,
    awkward=True,
    foul=True,
    failed=0.2,
    waiting=0.1,
    first_date=SENT,
    days_between=0.0,
)
PLAIN = AccountSpec(sends=listed({LARGE: 220, SMALL: 20}), failed=0.2, waiting=0.2, first_date=SENT, days_between=0.0)
TUNING = replace(
    QUICK, clock=lambda: SENT + timedelta(days=20), target_bytes=30_000, store_timeout_s=5.0, store_patience_s=10.0
)
IMPATIENT = replace(TUNING, store_timeout_s=0.5, store_patience_s=0.3)


on_s3 = pytest.mark.parametrize("stand", ["s3"], indirect=True)


def assert_exact(server: Server, lake: ObjectLake, copy: Path, datasets: tuple[str, ...] = DEFAULT) -> None:
    """The lake holds what the account holds, and nothing else; ``verify`` agrees; nothing is left over."""
    mirror(lake, copy)
    for dataset in (CATALOGUE[name] for name in datasets):
        for id_send in server.account.spec.sends.ids:
            held, true = lake_table(copy, dataset.name, id_send), expected(server.account, dataset, id_send)
            assert held.schema.equals(true.schema)
            assert digest(dataset, [held]) == digest(dataset, [true]), f"{dataset.name} of send {id_send}"
    assert_sound(lake)
    assert_tidy(lake)


def assert_tidy(lake: ObjectLake) -> None:
    """Nothing is left over in the state folder."""
    home = lake.state / layout.HOME
    assert [path for folder in ("segments", "writing") for path in (home / folder).iterdir()] == []
    assert {path.name for path in home.iterdir()} <= {"ledger.sqlite", "lock", "lake-url", "segments", "writing"}


def assert_sound(lake: ObjectLake) -> None:
    for quick in (True, False):
        with verifying(lake, quick=quick) as seen:
            assert list(seen.findings()) == []
            assert seen.complete


def rows(folder: Path) -> dict[str, str]:
    """What readers find, by slice: a digest each. In how many files it comes differs from run to run."""
    slices = sorted({path.parent for path in folder.rglob("*.parquet")})
    return {
        f"{one.parent.name} of {one.name}": digest(
            CATALOGUE[one.parent.name], [lake_table(folder, one.parent.name, int(one.name.partition("=")[2]))]
        )
        for one in slices
    }


@pytest.fixture(scope="module")
def in_a_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], dict[str, str]]:
    """What a lake in a folder holds of the nasty account, as it was harvested and as it was refreshed."""
    folder = tmp_path_factory.mktemp("local") / "lake"
    found: list[dict[str, str]] = []

    async def harvest() -> None:
        async with field(folder, NASTY, tuning=TUNING, limit=80) as account:
            for settled in (False, True):
                account.server.account.settled = settled
                assert (await account.run()).complete
                found.append(rows(folder))
            account.assert_exact()

    anyio.run(harvest)
    return found[0], found[1]


@pytest.mark.anyio
async def test_the_nasty_account_is_the_same_in_a_store_and_in_a_folder(
    stand: Stand, in_a_folder: tuple[dict[str, str], dict[str, str]], tmp_path: Path
) -> None:
    lake, copy = stand.lake(tmp_path), tmp_path / "copy"
    faults = Behaviour(faults={Fault.FAILED: 0.1, Fault.RESET: 0.1}, fault_seed=3)
    async with field(lake, NASTY, faults, tuning=TUNING, limit=80) as account:
        assert (await account.run()).complete
        assert rows(mirror(lake, copy)) == in_a_folder[0]
        account.server.account.settled = True
        result = await account.run()
        assert result.complete
        assert outcomes(result)["messages", LARGE].changed > 0
        assert rows(mirror(lake, copy)) == in_a_folder[1]
        assert_tidy(lake)
        assert (await account.run(refresh=Refresh.NEVER)).queries == 0
        status = read_status(lake)
        assert (status.data_files, status.staged_segments) == (len(list(copy.rglob("*.parquet"))), 0)

        shutil.rmtree(lake.state)
        with pytest.raises(LakeBroken, match=r"no ledger.*harvester recover"):
            await account.run()
        done = Recovered()
        await to_thread.run_sync(recover, lake, done)
        assert (done.rebuilt, done.files, done.aside) == (True, status.data_files, [])
        assert (await account.run(refresh=Refresh.NEVER)).complete
        assert rows(mirror(lake, copy)) == in_a_folder[1]


@pytest.mark.anyio
@on_s3
@pytest.mark.parametrize("fates", some([((BUSY, CUT, LOST, HALF),), ((MUTE,),)], 1), ids=["broken", "mute"])
async def test_what_passes_is_tried_again(stand: Stand, fates: tuple[str, ...], tmp_path: Path) -> None:
    """Every third or tenth request of each kind fails: reading, writing, listing, removing."""
    lake, counts = stand.lake(tmp_path), dict[str, int]()
    often = 10 if fates == (MUTE,) else 3

    def say(method: str, _path: str) -> str:
        counts[method] = number = counts.get(method, 0) + 1
        return fates[number // often % len(fates)] if number % often == 1 else PASS

    tuning = replace(TUNING, store_timeout_s=0.4)
    async with field(lake, PLAIN, tuning=tuning, limit=100) as account:
        stand.proxy.say = say
        assert (await account.run()).complete
        account.server.account.settled = True
        assert (await account.run()).complete
        stand.proxy.say = lambda *_: PASS
        assert_exact(account.server, lake, tmp_path / "copy")
    assert counts["PUT"] > 5
    assert counts["GET"] > 5


@pytest.mark.anyio
@pytest.mark.parametrize(("stand", "fate"), [("s3", BUSY), ("s3", DENIED), ("abfs", LOST)], indirect=["stand"])
async def test_a_store_that_takes_nothing_ends_the_run_and_loses_nothing(
    stand: Stand, fate: str, tmp_path: Path
) -> None:
    """Pages wait in local segments; the next run uploads them, and asks the API for no message again."""
    lake = stand.lake(tmp_path)
    async with field(lake, PLAIN, tuning=IMPATIENT, limit=100, concurrency=1) as account:
        stand.proxy.say = lambda method, _path: fate if method == "PUT" else PASS
        with pytest.raises(LakeAway, match=f"could not upload {lake.url}/messages/.*; nothing is lost"):
            await account.run()
        stand.proxy.say = lambda *_: PASS
        held = read_status(lake).rows["messages"]
        assert held > 0
        served_before = account.server.stats.requests
        assert (await account.run(tuning=TUNING)).complete
        assert_exact(account.server, lake, tmp_path / "copy")
        asked = account.server.stats.requests - served_before
        assert asked <= (240 - held) // 99 + 8


@pytest.mark.anyio
@on_s3
@pytest.mark.parametrize(
    ("fate", "bucket", "says"),
    [
        (DENIED, BUCKET, "the store answered 403 Forbidden. Let the credentials list, read, write and delete there"),
        (ELSEWHERE, BUCKET, "region.*AWS_REGION"),
        (PASS, "no-such-bucket", "no bucket no-such-bucket. Make it"),
        (BUSY, BUCKET, "503"),
    ],
)
async def test_a_store_that_can_not_be_used_is_told_of_before_anything_is_asked(
    stand: Stand, fate: str, bucket: str, says: str, tmp_path: Path
) -> None:
    stand.proxy.say = lambda *_: fate
    lake = ObjectLake(f"s3://{bucket}/{tmp_path.name}", tmp_path / "state")
    async with field(lake, PLAIN, tuning=IMPATIENT) as account:
        with pytest.raises(LakeAway, match=says) as told:
            await account.run()
        assert account.server.stats.requests == 0
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 600


@on_s3
def test_what_is_not_known_is_never_called_missing_or_set_aside(stand: Stand, tmp_path: Path) -> None:
    """``verify`` and ``recover`` end where the store does not answer, and leave everything as it was."""
    lake = harvested(stand, tmp_path)
    before = rows(mirror(lake, tmp_path / "copy"))
    stand.proxy.say = lambda _method, path: DENIED if "part-" in path else PASS
    with verifying(lake, quick=False) as seen, pytest.raises(LakeAway):
        list(seen.findings())
    (lake.state / layout.LEDGER).unlink()
    with pytest.raises(LakeAway):
        recover(lake, Recovered())
    stand.proxy.say = lambda *_: PASS
    assert rows(mirror(lake, tmp_path / "copy")) == before
    recover(lake, Recovered())
    assert_sound(lake)


@on_s3
def test_verify_names_what_is_wrong_and_recover_sets_it_aside(stand: Stand, tmp_path: Path) -> None:
    lake = harvested(stand, tmp_path)
    store = connect(lake, Tuning())
    names = [meta["path"] for batch in obstore.list(store, f"messages/send={LARGE}") for meta in batch]
    flipped = bytearray(bytes(obstore.get(store, names[0]).bytes()))
    flipped[len(flipped) // 2] ^= 1
    obstore.put(store, names[0], bytes(flipped))
    obstore.delete(store, names[1])
    obstore.put(store, f"messages/send={SMALL}/stray.parquet", b"PAR1")
    with verifying(lake, quick=False) as seen:
        found = {(finding.kind.value, finding.file) for finding in seen.findings()}
    assert found == {
        ("damaged", names[0]),
        ("missing", names[1]),
        ("foreign", f"messages/send={SMALL}/stray.parquet"),
    }
    done = Recovered()
    recover(lake, done)
    assert done.folder is not None
    aside = {path.name for path in (lake.state / done.folder).rglob("*.aside")}
    assert {f"{names[0].rpartition('/')[2]}.aside", "stray.parquet.aside"} <= aside
    with verifying(lake, quick=False) as seen:
        assert list(seen.findings()) == []
        assert not seen.complete


def harvested(stand: Stand, folder: Path, spec: AccountSpec = PLAIN) -> ObjectLake:
    """A lake with everything in it."""
    lake = stand.lake(folder)

    async def harvest() -> None:
        async with field(lake, spec, tuning=TUNING, limit=100) as account:
            assert (await account.run()).complete

    anyio.run(harvest)
    return lake


@on_s3
def test_a_state_folder_belongs_to_one_lake(stand: Stand, tmp_path: Path) -> None:
    lake = stand.lake(tmp_path)
    with open_lake(lake, TUNING):
        pass
    other = ObjectLake(f"s3://{BUCKET}/other", lake.state)
    with pytest.raises(LakeBroken, match=f"belongs to the lake {lake.url}.*--state"), open_lake(other, TUNING):
        pass
    with pytest.raises(LakeBroken, match="--state"):
        read_status(other)


@on_s3
def test_a_file_larger_than_a_part_goes_up_in_parts_and_comes_back(stand: Stand, tmp_path: Path) -> None:
    lake = stand.lake(tmp_path)
    store = Store(lake, TUNING)
    store.make_home()
    written = tmp_path / "state" / layout.WRITING / "large"
    content = os.urandom(20 * 2**20)
    written.write_bytes(content)
    checksum = store.checksum(f"{layout.WRITING}/large")
    stand.proxy.say = lambda _method, path: CUT if "partNumber=2" in path else PASS
    impatient = Store(lake, IMPATIENT)
    with pytest.raises(LakeAway):
        impatient.publish([(f"{layout.WRITING}/large", "messages/large")])
    assert store.size("messages/large") is None
    stand.proxy.say = lambda *_: PASS
    store.publish([(f"{layout.WRITING}/large", "messages/large")])
    assert not written.exists()
    assert store.holds("messages/large", len(content), checksum)
    assert not store.holds("messages/large", len(content), "0" * 64)
    with store.at_hand("messages/large") as copy:
        assert (copy.bytes, copy.checksum()) == (len(content), checksum)
    store.move("messages/large", f"{layout.SET_ASIDE}/now/large.aside")
    assert (tmp_path / "state" / layout.SET_ASIDE / "now" / "large.aside").read_bytes() == content
    assert store.size("messages/large") is None
    with pytest.raises(LakeError, match="it is not there"), store.at_hand("messages/large"):
        pass


@on_s3
def test_without_the_packages_the_command_that_installs_them_is_told(
    stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore.exceptions", None)
    with (
        pytest.raises(UsageError, match=r"pip install 'mailkit-harvester\[s3\]'"),
        open_lake(stand.lake(tmp_path), TUNING),
    ):
        pass


@on_s3
def test_credentials_and_endpoint_come_from_the_profile_files_too(
    stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in stand.environment:
        monkeypatch.delenv(name)
    config, credentials = tmp_path / "config", tmp_path / "credentials"
    config.write_text(f"[profile lakes]\nregion = eu-central-1\nendpoint_url = {stand.proxy.url}\n")
    credentials.write_text("[lakes]\naws_access_key_id = from-file\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_PROFILE", "lakes")
    Store(stand.lake(tmp_path), TUNING).check()
    assert stand.proxy.seen
    monkeypatch.setenv("AWS_PROFILE", "another")
    with pytest.raises(UsageError, match="another"):
        Store(stand.lake(tmp_path), TUNING).check()


# --- kill -9

MANY = AccountSpec(
    sends=listed({601: 250, 602: 150} | dict.fromkeys(range(603, 608), 20)),
    failed=0.3,
    waiting=0.3,
    first_date=datetime.now(UTC).replace(tzinfo=None, microsecond=0) - timedelta(days=20),
    days_between=0.0,
)


@on_s3
@pytest.mark.timeout(200)
def test_a_run_killed_in_mid_upload_is_put_right_wherever_the_upload_ends(stand: Stand, tmp_path: Path) -> None:
    with served(MANY) as server:
        killing = Killing(stand, stand.lake(tmp_path), server)
        if THOROUGH:
            killing.killed(2, LATE)
        killing.run()
        server.account.settled = True
        for number, when in ((1, BEFORE), (2, AFTER)) if THOROUGH else ((2, AFTER),):
            killing.killed(number, when)
        killing.run()
        assert_exact(server, killing.lake, tmp_path / "copy", ("messages",))
