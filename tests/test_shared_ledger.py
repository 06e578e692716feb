"""A ledger that several machines share: who holds it, what becomes of one that was cut off, and that no password shows.

The server is real, and so are the proxy between, the connections that are cut, and the processes that are killed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from harvester.config import Tuning
from harvester.console.cli import command_line
from harvester.console.exits import Exit
from harvester.errors import LakeError, LakeInUse
from harvester.lake import layout
from harvester.lake.lake import Lake, open_lake
from harvester.lake.ledger import Ledger
from harvester.lake.staging import Taken, Whole
from harvester.lake.upkeep.verify import verifying
from harvester.model import Proof, Secret, Send, SliceKey
from harvester.simulator.spec import AccountSpec, equal
from tests import serving
from tests.lake_places import NOW, number_of
from tests.lake_rows import page
from tests.postgres import PASSWORD, Proxy, Server
from tests.test_console_run import untouched
from tests.test_lake import keys

TUNING = Tuning(target_bytes=1 << 20)
LONG_GONE = "postgresql://harvester@127.0.0.1:1/nowhere"


@pytest.fixture
def proxy(postgres_server: Server) -> Iterator[Proxy]:
    with closing(Proxy(postgres_server)) as proxy:
        yield proxy


def through(proxy: Proxy, ledger: Secret, server: Server) -> Secret:
    """The URL of the same database, by way of the proxy."""
    return Secret(ledger.replace(f":{server.port}/", f":{proxy.port}/"))


def begin(lake: Lake, *sends: int) -> None:
    run = lake.runs.begin("12345")
    lake.runs.select(run, [Send(one, expected=2) for one in sends], ["messages"], NOW)


def schema_of(root: Path) -> str:
    return str(json.loads((root / layout.ELSEWHERE).read_text())["schema"])


def sound(root: Path, ledger: Secret) -> bool:
    with verifying(root, quick=False, ledger=ledger) as seen:
        return list(seen.findings()) == []


class TestFencing:
    def test_a_holder_that_was_cut_off_and_comes_back_writes_nothing(
        self, tmp_path: Path, shared_ledger: Secret, postgres_server: Server, proxy: Proxy
    ) -> None:
        """The server lost the lock's connection; its holder, who has others, does not know it."""
        root, elsewhere = tmp_path / "lake", tmp_path / "mounted elsewhere"
        with open_lake(root, TUNING, ledger=through(proxy, shared_ledger, postgres_server)) as first:
            elsewhere.symlink_to(root)
            begin(first, 7)
            number = number_of(first, 7)
            first.stage([page(number, 10, 11)])
            (lock,) = postgres_server.admin(
                "SELECT client_port FROM pg_stat_activity JOIN pg_locks USING (pid) WHERE locktype = 'advisory'",
                shared_ledger.rpartition("/")[2],
            )
            proxy.cut(int(str(lock[0])))
            with open_lake(elsewhere, TUNING, ledger=shared_ledger) as second:
                assert second.ledger.record(number).rows == 2
                with pytest.raises(
                    LakeInUse, match=rf"another run has taken over .*process {os.getpid()} on .*is lost"
                ):
                    first.stage([page(number, 20, 21)])
                second.stage([page(number, 20, 22, proof=Proof.TAIL)])
                second.seal(number)
            with pytest.raises(LakeInUse, match="taken over"):
                first.ledger.note(number, "late", 9)
            with pytest.raises(LakeInUse, match="taken over"):
                first.ledger.give_up(number, "late", 9, 10)
            assert first.ledger.record(number).rows == 4  # it may look
        assert keys(root) == [10, 11, 20, 22]
        with open_lake(root, TUNING, ledger=shared_ledger) as third:
            assert third.repairs.strays == 1  # the page that was refused
            assert next(third.ledger.walked(None))["error"] is None
        assert sound(root, shared_ledger)

    def test_whoever_takes_over_waits_for_what_is_being_committed(self, tmp_path: Path, shared_ledger: Secret) -> None:
        with open_lake(tmp_path, TUNING, ledger=shared_ledger) as first:
            begin(first, 7)
            database, schema = first.ledger.database, schema_of(tmp_path)
            with database.writing() as connection:
                assert connection.scalar(sa.text("SELECT count(*) FROM slices")) == 1
                with psycopg.connect(shared_ledger, autocommit=True) as other:
                    other.execute("SET lock_timeout = '50ms'")
                    with pytest.raises(psycopg.errors.LockNotAvailable):
                        other.execute(f"UPDATE {schema}.holder SET epoch = epoch + 1".encode())
            with psycopg.connect(shared_ledger, autocommit=True) as other:
                other.execute(f"UPDATE {schema}.holder SET epoch = epoch + 1".encode())
            with pytest.raises(LakeInUse):
                first.ledger.note(1, "late", 1)

    @pytest.mark.parametrize("whole", [True, False])
    def test_what_was_about_to_get_its_name_is_in_the_lake_once_or_not_at_all(
        self, tmp_path: Path, shared_ledger: Secret, monkeypatch: pytest.MonkeyPatch, whole: bool
    ) -> None:
        """The first holder sleeps between its ledger's word and the rename; the second takes over; the first wakes."""
        with open_lake(tmp_path, TUNING, ledger=shared_ledger) as first:
            begin(first, 7)
            number = number_of(first, 7)
            accepted = page(number, 10, 11, proof=Proof.COUNT)
            publish = first.store.publish
            seconds: list[bool] = []

            def sleep_before(names: list[tuple[str, str]]) -> None:
                monkeypatch.setattr(type(first.store), "publish", lambda _, names: publish(names))
                first.ledger.database._holding.release()  # type: ignore[attr-defined]
                with open_lake(tmp_path, TUNING, ledger=shared_ledger) as second:
                    for each in second.inventory.unsealed_slices():
                        second.seal(each)
                    seconds.append(keys(tmp_path) == [10, 11])
                publish(names)

            monkeypatch.setattr(type(first.store), "publish", lambda _, names: sleep_before(names))
            with pytest.raises(LakeError):
                _stage_and_seal(first, _whole(accepted) if whole else accepted)
        assert seconds == [True]
        assert keys(tmp_path) == [10, 11]
        assert sound(tmp_path, shared_ledger)

    def test_the_command_says_so_and_exits_with_4(
        self,
        tmp_path: Path,
        shared_ledger: Secret,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        advance, taken = Ledger.advance, list[bool]()

        def taken_over(*arguments: object) -> object:
            if not taken:
                taken.append(True)
                with psycopg.connect(shared_ledger, autocommit=True) as other:
                    other.execute(f"UPDATE {schema_of(tmp_path / 'lake')}.holder SET epoch = epoch + 1".encode())
            return advance(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(Ledger, "advance", taken_over)
        with serving.served(AccountSpec(sends=equal(2, 50))) as server, untouched(monkeypatch):
            assert command_line(run_of(server, tmp_path / "lake", monkeypatch, shared_ledger)) == Exit.LAKE
            told = capsys.readouterr().err
            assert "another run has taken over the lake" in told
            assert PASSWORD not in told
            assert command_line(run_of(server, tmp_path / "lake", monkeypatch, shared_ledger)) == Exit.COMPLETE
        assert sound(tmp_path / "lake", shared_ledger)


def _stage_and_seal(lake: Lake, accepted: Taken) -> None:
    lake.stage([accepted])
    lake.seal(accepted.slice_id)


def _whole(accepted: Taken) -> Taken:
    return replace(accepted, whole=Whole(SliceKey("messages", 7), 2))


def run_of(server: object, lake: Path, patch: pytest.MonkeyPatch, ledger: Secret | None) -> list[str]:
    """The command line of a run over an account; its secrets go into the environment."""
    spec = server.account.spec  # type: ignore[attr-defined]
    given = {"CLIENT_ID": spec.client_id, "CLIENT_MD5": spec.client_md5, "ENDPOINT": server.url}  # type: ignore[attr-defined]
    for name, value in (given | ({"LEDGER": str(ledger)} if ledger else {})).items():
        patch.setenv(f"HARVESTER_{name}", value)
    sends = [word for one in spec.sends.ids for word in ("--send", str(one))]
    return ["run", "--lake", str(lake), "--rate", "1000", "--burst", "50", *sends]


class TestConnections:
    def test_a_server_that_starts_anew_between_pages_does_not_end_a_run(
        self, tmp_path: Path, shared_ledger: Secret, postgres_server: Server
    ) -> None:
        with open_lake(tmp_path, TUNING, ledger=shared_ledger) as lake:
            begin(lake, 7)
            number = number_of(lake, 7)
            lake.stage([page(number, 10, 11)])
            postgres_server.stop()
            postgres_server.start()
            lake.stage([page(number, 20, 21)])
            assert lake.ledger.record(number).rows == 4
            with pytest.raises(LakeInUse), open_lake(tmp_path, TUNING, ledger=shared_ledger):
                pass  # it has the lock again

    def test_a_holder_whose_connections_are_gone_goes_on_where_nobody_took_over(
        self, tmp_path: Path, shared_ledger: Secret, postgres_server: Server, proxy: Proxy
    ) -> None:
        with open_lake(tmp_path, TUNING, ledger=through(proxy, shared_ledger, postgres_server)) as lake:
            begin(lake, 7)
            for key in (10, 20, 30):
                lake.stage([page(number_of(lake, 7), key)])
                proxy.tell()
            assert lake.ledger.record(number_of(lake, 7)).rows == 3

    def test_a_holder_that_comes_back_after_another_one_is_refused(
        self, tmp_path: Path, shared_ledger: Secret, postgres_server: Server, proxy: Proxy
    ) -> None:
        with open_lake(tmp_path, TUNING, ledger=through(proxy, shared_ledger, postgres_server)) as first:
            begin(first, 7)
            proxy.cut()
            with open_lake(tmp_path, TUNING, ledger=shared_ledger):
                proxy.tell()
                with pytest.raises(LakeInUse, match="taken over"):
                    first.ledger.note(1, "late", 1)
            proxy.tell()
            with pytest.raises(LakeInUse, match="taken over"):
                first.ledger.note(1, "late", 1)

    def test_a_page_takes_few_round_trips(
        self, tmp_path: Path, shared_ledger: Secret, postgres_server: Server, proxy: Proxy
    ) -> None:
        sends = range(1, 33)
        with open_lake(tmp_path, TUNING, ledger=through(proxy, shared_ledger, postgres_server)) as lake:
            begin(lake, 100, *sends)
            numbers = {one: number_of(lake, one) for one in (100, *sends)}
            lake.stage([page(numbers[100], 1)])
            before = proxy.turns
            lake.stage([page(numbers[100], 10, 11)])
            assert proxy.turns - before <= 2
            before = proxy.turns
            small = [page(numbers[one], 10 * one, 10 * one + 1, proof=Proof.COUNT, id_send=one) for one in sends]
            lake.stage(
                [
                    replace(each, whole=Whole(SliceKey("messages", one), 2))
                    for one, each in zip(sends, small, strict=True)
                ]
            )
            assert proxy.turns - before <= 6
            before = proxy.turns
            lake.stage([page(numbers[100], 20 + one) for one in sends])
            assert proxy.turns - before <= 3
