"""Lakes in an object store whose ledger several machines share: a machine that is lost takes nothing along.

Each "machine" is a state folder of its own. The stores, the database, the processes and their ends are real.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import obstore
import pyarrow.parquet as pq
import pytest
from obstore.exceptions import GenericError

from harvester.config import TableChoice, TableFormat, Tuning
from harvester.console.cli import command_line
from harvester.console.exits import Exit
from harvester.datasets import MESSAGES
from harvester.errors import LakeBroken, LakeError, LakeInUse, UsageError
from harvester.harvest.status import read_status
from harvester.harvest.upkeep import Recovered, recover
from harvester.lake import layout
from harvester.lake.lake import Lake, open_lake
from harvester.lake.staging import Taken, Whole
from harvester.lake.storage.connecting import connect
from harvester.lake.upkeep.verify import verifying
from harvester.model import Proof, Secret, SliceKey
from harvester.places import ObjectLake
from harvester.simulator.spec import AccountSpec, equal
from tests.lake_places import number_of
from tests.lake_rows import page
from tests.object_stores import CUT, PASS, Stand, mirror
from tests.postgres import Server
from tests.serving import served
from tests.test_console_run import untouched
from tests.test_ledger_elsewhere import exact
from tests.test_shared_ledger import begin

TUNING = Tuning(target_bytes=1 << 20, store_timeout_s=5.0, store_patience_s=10.0)
on_s3 = pytest.mark.parametrize("stand", ["s3"], indirect=True)


def at(lake: ObjectLake, machine: str) -> ObjectLake:
    """The same lake, as another machine finds it."""
    return replace(lake, state=lake.state.with_name(machine))


def keys(lake: ObjectLake, copy: Path) -> list[int]:
    """What readers find, as often as they find it."""
    found: list[int] = []
    for path in mirror(lake, copy).rglob("*.parquet"):
        here: list[Any] = pq.ParquetFile(path).read([MESSAGES.key]).column(0).to_pylist()
        found += here
    return sorted(found)


def names(lake: ObjectLake, under: str = "") -> set[str]:
    listed = obstore.list(connect(lake, Tuning()), under or None)
    return {meta["path"] for batch in listed for meta in batch}


def local(lake: ObjectLake) -> set[str]:
    """What is left on a machine."""
    return {path.name for path in lake.state.rglob("*") if path.is_file()}


def assert_sound(lake: ObjectLake, ledger: Secret) -> None:
    with verifying(lake, quick=False, ledger=ledger) as seen:
        assert list(seen.findings()) == []
        assert (seen.leftovers, seen.in_use) == (0, False)


# --- a holder that sleeps


@contextmanager
def asleep_before(step: str, lake: Lake, meanwhile: Callable[[], None]) -> Iterator[None]:
    """The first holder sleeps before its first such step, its lock gone; what happens meanwhile, happens; it wakes."""
    with pytest.MonkeyPatch.context() as patch:
        store, real = type(lake.store), getattr(lake.store, step)

        def sleep(_: object, *given: Any) -> None:
            patch.setattr(store, step, usual)
            lake.ledger.database._holding.release()  # type: ignore[attr-defined]
            meanwhile()
            real(*given)

        usual = getattr(store, step)
        patch.setattr(store, step, sleep)
        with pytest.raises(LakeError):
            yield


@pytest.mark.parametrize(
    ("stand", "whole"), [("s3", True), ("s3", False), ("gs", False), ("abfs", False)], indirect=["stand"]
)
def test_a_data_file_is_in_the_lake_once_whoever_gives_it_its_name(
    stand: Stand, tmp_path: Path, shared_ledger: Secret, whole: bool
) -> None:
    """The first holder sleeps between its ledger's word and the name; the second takes over, and goes on from there."""
    lake = stand.lake(tmp_path)

    def meanwhile() -> None:
        with open_lake(at(lake, "second"), TUNING, ledger=shared_ledger) as second:
            assert (second.repairs.finished, second.repairs.undone) == (1, 0)
            assert keys(lake, tmp_path / "copy") == [10, 11]
            if not whole:  # the same name, and other bytes: the first one is not to take them back
                second.stage([page(number, proof=Proof.TAIL)])
                second.seal(number)
                said.append(footer(lake, tmp_path / "copy"))

    said: list[str | None] = []
    with open_lake(lake, TUNING, ledger=shared_ledger) as first:
        begin(first, 7)
        number = number_of(first, 7)
        if whole:
            with asleep_before("publish", first, meanwhile):
                first.stage([_whole(page(number, 10, 11, proof=Proof.COUNT))])
        else:
            first.stage([page(number, 10, 11)])
            with asleep_before("publish", first, meanwhile):
                first.seal(number, everything=True)
    assert keys(lake, tmp_path / "copy") == [10, 11]
    assert said == ([] if whole else ["tail"]) == [footer(lake, tmp_path / "copy") for _ in said]
    assert_sound(at(lake, "third"), shared_ledger)
    assert names(lake, layout.HOME) == {layout.ELSEWHERE}


@on_s3
@pytest.mark.parametrize("step", ["bring_in", "remove_all"])
def test_a_holder_that_was_cut_off_takes_nothing_back_and_leaves_nothing_that_counts(
    stand: Stand, tmp_path: Path, shared_ledger: Secret, step: str
) -> None:
    """It sleeps before a page, or a data file, is in the store; or before pages go that are in data files."""
    lake, sealing = stand.lake(tmp_path), step == "remove_all"

    def meanwhile() -> None:
        with open_lake(at(lake, "second"), TUNING, ledger=shared_ledger) as second:
            held = second.ledger.record(number).rows
            assert held == (4 if sealing else 2)
            more = [] if sealing else [20, 21]
            second.stage([page(number, *more, 30, proof=Proof.TAIL)])
            second.seal(number)

    with open_lake(lake, TUNING, ledger=shared_ledger) as first:
        begin(first, 7)
        number = number_of(first, 7)
        first.stage([page(number, 10, 11)])
        if sealing:
            first.stage([page(number, 20, 21)])
        with asleep_before(step, first, meanwhile):
            if sealing:
                first.seal(number, everything=True)
            else:
                first.stage([page(number, 20, 22)])
            first.ledger.note(number, "late", 9)  # which is refused, if nothing was before
    with open_lake(lake, TUNING, ledger=shared_ledger) as third:
        assert third.repairs.strays == (0 if sealing else 1)
    assert keys(lake, tmp_path / "copy") == [10, 11, 20, 21, 30]
    assert_sound(at(lake, "third"), shared_ledger)
    assert names(lake, layout.HOME) == {layout.ELSEWHERE}
    assert local(lake) == {"lake-url"}


def footer(lake: ObjectLake, copy: Path) -> str | None:
    """The proof that the lake's one data file says."""
    (path,) = mirror(lake, copy).rglob("*.parquet")
    return layout.Footer.decode(pq.read_metadata(path).metadata or {}).proof


def _whole(accepted: Taken) -> Taken:
    return replace(accepted, whole=Whole(SliceKey("messages", 7), 2))


# --- where the ledger is


@on_s3
def test_a_lake_whose_ledger_is_elsewhere_says_so_to_every_machine(
    stand: Stand, tmp_path: Path, shared_ledger: Secret
) -> None:
    lake = stand.lake(tmp_path)
    with open_lake(lake, TUNING, ledger=shared_ledger) as first:
        begin(first, 7)
        first.stage([page(number_of(first, 7), 10, 11, proof=Proof.COUNT)])
    assert any(name.endswith(".arrow") for name in names(lake, layout.SEGMENTS))
    other = at(lake, "other")
    for look in (
        lambda: read_status(other),
        lambda: open_lake(other, TUNING).__enter__(),
        lambda: recover(other, Recovered()),
    ):
        with pytest.raises(LakeError, match=r"in a PostgreSQL database.*--ledger"):
            look()
    assert read_status(other, shared_ledger).rows["messages"] == 2


@on_s3
def test_a_lake_with_its_ledger_on_one_machine_can_be_moved(
    stand: Stand, tmp_path: Path, shared_ledger: Secret
) -> None:
    lake, other = stand.lake(tmp_path), at(stand.lake(tmp_path), "other")
    with open_lake(lake, TUNING) as first:
        begin(first, 7)
        first.stage([page(number_of(first, 7), 10, 11, proof=Proof.COUNT)])
        first.seal(number_of(first, 7))
    with (
        pytest.raises(LakeError, match="has its ledger beside its data"),
        open_lake(lake, TUNING, ledger=shared_ledger),
    ):
        pass
    with (
        pytest.raises(LakeBroken, match=r"no ledger.*harvester recover"),
        open_lake(other, TUNING, ledger=shared_ledger),
    ):
        pass
    done = Recovered()
    recover(lake, done, ledger=shared_ledger)
    assert done.shown is not None
    assert done.shown.startswith(f"{lake.url}/{layout.SET_ASIDE}/")
    assert [name.rpartition("/")[2] for name in names(lake, layout.SET_ASIDE)] == ["ledger.sqlite.aside"]
    assert_sound(other, shared_ledger)


@on_s3
@pytest.mark.parametrize("tells", ["who", "nothing", "that it can't"])
def test_of_several_that_begin_a_lake_at_once_one_does(
    stand: Stand, tmp_path: Path, shared_ledger: Secret, monkeypatch: pytest.MonkeyPatch, tells: str
) -> None:
    """Also in a store that does not tell who was first, or says that it can't."""
    put = obstore.put

    def put_always(*given: Any, mode: Any = None, **further: Any) -> Any:
        if mode is not None and tells == "that it can't":
            raise GenericError("Server returned error response - status code: 501 Not Implemented")
        return put(*given, **further)

    if tells != "who":
        monkeypatch.setattr(obstore, "put", put_always)
    lake, opened = stand.lake(tmp_path), list[str]()
    together = threading.Barrier(2)

    def begin_it(number: int) -> None:
        together.wait()
        try:
            with open_lake(at(lake, str(number)), TUNING, ledger=shared_ledger) as held:
                opened.append(held.ledger.database.schema)  # type: ignore[attr-defined]
        except LakeInUse:
            pass

    threads = [threading.Thread(target=begin_it, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = json.loads(bytes(obstore.get(connect(lake, Tuning()), layout.ELSEWHERE).bytes()))
    assert set(opened) == {said["schema"]}


@on_s3
def test_with_the_database_lost_the_ledger_is_made_anew_from_any_machine(
    stand: Stand, tmp_path: Path, postgres_server: Server
) -> None:
    lake, database = stand.lake(tmp_path), postgres_server.database()
    with open_lake(lake, TUNING, ledger=postgres_server.url(database)) as first:
        begin(first, 7, 8)
        number = number_of(first, 7)
        first.stage([page(number, 10, 11, proof=Proof.COUNT)])
        first.seal(number)
        first.stage([page(number_of(first, 8), 20, 21, id_send=8)])
    postgres_server.admin(f"DROP DATABASE {database} WITH (FORCE)")
    shutil.rmtree(lake.state)
    ledger, other = postgres_server.url(postgres_server.database()), at(lake, "other")
    with pytest.raises(LakeBroken, match=r"no schema .*is --ledger right.*harvester recover"):
        read_status(other, ledger)
    done = Recovered()
    recover(other, done, ledger=ledger)
    assert (done.rebuilt, done.files, done.complete, done.segments) == (True, 1, 1, 1)
    assert_sound(lake, ledger)
    with open_lake(lake, TUNING, ledger=ledger) as again:
        begin(again, 7, 8)
        assert again.ledger.record(number_of(again, 8)).rows == 0
    obstore.delete(connect(lake, Tuning()), layout.ELSEWHERE)
    with pytest.raises(LakeBroken, match=r"ledger-elsewhere\.json, which says where it is, is missing"):
        read_status(lake, ledger)
    recover(lake, Recovered(), ledger=ledger)
    assert_sound(other, ledger)
    obstore.put(connect(lake, Tuning()), layout.ELSEWHERE, b"garbage")
    with pytest.raises(LakeBroken, match=r"ledger-elsewhere\.json in .* does not say where the ledger is"):
        read_status(lake, ledger)
    done = Recovered()
    recover(lake, done, ledger=ledger)
    assert "did not say which schema" in str(done.why)
    assert_sound(other, ledger)
    assert keys(lake, tmp_path / "copy") == [10, 11]


@on_s3
def test_an_iceberg_catalog_that_is_a_file_is_refused(stand: Stand, tmp_path: Path, shared_ledger: Secret) -> None:
    with (
        pytest.raises(UsageError, match="name a catalog"),
        open_lake(stand.lake(tmp_path), TUNING, ledger=shared_ledger, table=TableChoice(TableFormat.ICEBERG)),
    ):
        pass


# --- kill -9


@on_s3
def test_a_page_that_is_lost_or_damaged_in_the_store_is_asked_for_again(
    stand: Stand, tmp_path: Path, shared_ledger: Secret
) -> None:
    lake = stand.lake(tmp_path)
    with open_lake(lake, TUNING, ledger=shared_ledger) as first:
        begin(first, 7)
        number = number_of(first, 7)
        first.stage([page(number, 10, 11), page(number, 20, 21), page(number, 30, 31)])
        pages = [segment.name for segment in first.inventory.staged(number)]
    store = connect(lake, Tuning())
    content = bytearray(bytes(obstore.get(store, pages[1]).bytes()))
    content[len(content) // 2] ^= 1
    obstore.put(store, pages[1], bytes(content))
    obstore.delete(store, pages[2])
    with verifying(at(lake, "other"), quick=False, ledger=shared_ledger) as seen:
        assert [finding.kind.value for finding in seen.findings()] == ["damaged", "missing"]
    with open_lake(at(lake, "other"), TUNING, ledger=shared_ledger) as second:
        assert second.repairs.lost == 2
        assert second.ledger.record(number).rows == 2


@on_s3
@pytest.mark.timeout(200)
def test_kill_9_on_one_machine_and_again_on_another_and_the_lake_is_exact(
    stand: Stand,
    tmp_path: Path,
    shared_ledger: Secret,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lake, concurrency = stand.lake(tmp_path), 2
    spec = AccountSpec(sends=equal(3, 400), failed=0.1)

    def told(words: list[str], machine: str) -> tuple[int, dict[str, Any]]:
        status = command_line([*words, "--state", str(at(lake, machine).state), "--json"])
        printed: dict[str, Any] = json.loads(capsys.readouterr().out)
        printed.pop("seconds", None)
        return status, printed

    with served(spec) as server, untouched(monkeypatch):
        for name, value in {"CLIENT_MD5": spec.client_md5, "LEDGER": str(shared_ledger)}.items():
            monkeypatch.setenv(f"HARVESTER_{name}", value)
        run = ["run", "--lake", lake.url, "--endpoint", server.url, "--client-id", spec.client_id, "--rate", "1000"]
        run += [
            "--burst",
            "50",
            "--limit",
            "100",
            "--concurrency",
            str(concurrency),
            "--send",
            *map(str, spec.sends.ids),
        ]
        command = [sys.executable, "-m", "harvester", *run, "--state", str(at(lake, "a").state)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            with urllib.request.urlopen(f"{server.url}/stats?requests=9", timeout=100) as answer:
                answer.read()
            process.send_signal(signal.SIGSTOP)
            assert command_line([*run, "--state", str(at(lake, "b").state)]) == Exit.LAKE
            said = capsys.readouterr().err
            assert f"another run is using the lake {lake.url} (process {process.pid} on " in said
            assert told(["status", lake.url], "b")[1]["in_use"]
            process.kill()
        shutil.rmtree(at(lake, "a").state)
        status, summary = told(run, "b")
        assert (status, summary["rows"]["messages"]) == (Exit.COMPLETE, 3 * 400)
        assert server.stats.again <= 2 * concurrency
        exact(server, mirror(lake, tmp_path / "copy"))
        for words in (["status", lake.url], ["verify", lake.url]):
            answers = [told(words, machine) for machine in ("a", "b")]
            assert answers[0] == answers[1]
            assert (answers[0][0], answers[0][1]["complete"], answers[0][1]["in_use"]) == (Exit.COMPLETE, True, False)
        assert told([*run, "--refresh", "never"], "a")[1]["queries"] == 0
    assert names(lake, layout.HOME) == {layout.ELSEWHERE}
    assert local(at(lake, "b")) == {"lake-url"}


@on_s3
def test_a_store_that_takes_no_page_ends_the_run_and_counts_none(
    stand: Stand, tmp_path: Path, shared_ledger: Secret
) -> None:
    lake = stand.lake(tmp_path)
    with open_lake(lake, replace(TUNING, store_patience_s=0.2), ledger=shared_ledger) as first:
        begin(first, 7)
        number = number_of(first, 7)
        stand.proxy.say = lambda method, _path: CUT if method == "PUT" else PASS
        with pytest.raises(LakeError, match=f"could not upload {lake.url}/_harvest/segments/.*; nothing is lost"):
            first.stage([page(number, 10, 11)])
        assert first.ledger.record(number).rows == 0
        stand.proxy.say = lambda *_: PASS
        first.stage([page(number, 10, 11)])
    assert local(lake) == {"lake-url"}
