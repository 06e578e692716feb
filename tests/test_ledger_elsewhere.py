"""Runs whose ledger is in a PostgreSQL database: from start to end, killed, found again; and what is said of them."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import sqlalchemy as sa

from harvester.config import parse_ledger
from harvester.console.cli import command_line
from harvester.console.exits import Exit
from harvester.datasets import CATALOGUE, DEFAULT
from harvester.errors import LakeBroken, LakeError, LakeFull, LakeInUse
from harvester.harvest.status import read_status
from harvester.harvest.upkeep import Recovered, recover
from harvester.lake import layout
from harvester.lake.lake import Lake, look_into, open_lake
from harvester.lake.ledgers.postgres import meaning
from harvester.model import Proof, Secret
from harvester.simulator.server import Server as Account
from harvester.simulator.spec import AccountSpec, equal
from harvester.simulator.truth import digest, expected
from tests import serving
from tests.harvesting import lake_table, settings_for_nothing
from tests.lake_places import number_of
from tests.lake_rows import page
from tests.postgres import PASSWORD, USER, Server
from tests.test_console_run import untouched
from tests.test_shared_ledger import TUNING, begin, run_of, schema_of, sound
from tests.thorough import THOROUGH


def stage_and_seal(lake: Lake) -> None:
    """A lake with one send, complete."""
    begin(lake, 7)
    number = number_of(lake, 7)
    lake.stage([page(number, 10, 11, proof=Proof.COUNT)])
    lake.seal(number)


def ask(url: str) -> None:
    """Asks the simulated server, which answers when it has got so far."""
    with urllib.request.urlopen(url, timeout=100) as answer:
        answer.read()


def exact(server: Account, lake: Path) -> None:
    """The lake holds what the account does."""
    for dataset in (CATALOGUE[name] for name in DEFAULT):
        for id_send in server.account.spec.sends.ids:
            true = expected(server.account, dataset, id_send)
            assert digest(dataset, [lake_table(lake, dataset.name, id_send)]) == digest(dataset, [true])


def told_by(capsys: pytest.CaptureFixture[str], command: list[str]) -> tuple[int, dict[str, Any]]:
    """The exit status of a command, and the JSON object that it prints."""
    status = command_line(command)
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    printed.pop("seconds", None)
    return status, printed


class TestRuns:
    def test_kill_9_and_again_and_the_lake_is_exact(
        self, tmp_path: Path, shared_ledger: Secret, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lake, elsewhere = tmp_path / "lake", tmp_path / "elsewhere"
        elsewhere.symlink_to(lake)
        with serving.served(AccountSpec(sends=equal(12, 400), failed=0.1)) as server, untouched(monkeypatch):
            command = [*run_of(server, lake, monkeypatch, shared_ledger), "--limit", "100", "--concurrency", "2"]
            for requests in (8, 25, 40) if THOROUGH else (15,):
                with subprocess.Popen(
                    [sys.executable, "-m", "harvester", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                ) as run:
                    ask(f"{server.url}/stats?requests={requests}")
                    run.kill()
            with open_lake(elsewhere, TUNING, ledger=shared_ledger):
                assert command_line(command) == Exit.LAKE
            assert "another run is using the lake" in capsys.readouterr().err
            assert command_line([*command, "--json"]) == Exit.COMPLETE
            assert json.loads(capsys.readouterr().out)["rows"]["messages"] == 12 * 400
            exact(server, lake)
            for words in (["status"], ["verify"]):
                here, there = (told_by(capsys, [*words, str(path), "--json"]) for path in (lake, elsewhere))
                assert here == there
                assert (here[0], here[1]["complete"], here[1]["in_use"]) == (Exit.COMPLETE, True, False)
            assert command_line([*command, "--json", "--refresh", "never"]) == Exit.COMPLETE
            assert json.loads(capsys.readouterr().out)["queries"] == 0
            assert command_line(["plan", *command[1:], "--refresh", "never"]) == Exit.COMPLETE
            assert "24 of 24 slices complete already" in capsys.readouterr().out

    def test_several_lakes_share_a_database(self, tmp_path: Path, shared_ledger: Secret) -> None:
        with (
            open_lake(tmp_path / "1", TUNING, ledger=shared_ledger) as one,
            open_lake(tmp_path / "2", TUNING, ledger=shared_ledger) as other,
        ):
            begin(one, 7)
            begin(other, 7, 8)
            assert [len(list(lake.ledger.walked(None))) for lake in (one, other)] == [1, 2]
        assert schema_of(tmp_path / "1") != schema_of(tmp_path / "2")


class TestWhere:
    """The ledger is found where the lake says it is, or an error says what to do."""

    def test_a_lake_whose_ledger_is_elsewhere_is_not_taken_for_one_without(
        self, tmp_path: Path, shared_ledger: Secret, postgres_server: Server
    ) -> None:
        with open_lake(tmp_path, TUNING, ledger=shared_ledger) as lake:
            stage_and_seal(lake)
        for opening in (open_lake(tmp_path, TUNING), look_into(tmp_path)):
            with pytest.raises(LakeError, match=r"in a PostgreSQL database.*--ledger"), opening:
                pass
        other = postgres_server.url(postgres_server.database())
        for another in (open_lake(tmp_path, TUNING, ledger=other), look_into(tmp_path, other)):
            with pytest.raises(LakeBroken, match=rf"no schema {schema_of(tmp_path)} .*is --ledger right"), another:
                pass
        with look_into(tmp_path, shared_ledger) as seen:
            assert len(list(seen.ledger.walked(None))) == 1
            with (
                pytest.raises(LakeError, match="read-only"),
                seen.ledger.database.reading() as connection,
            ):
                connection.execute(sa.text("DELETE FROM facts"))

    def test_a_lake_with_its_ledger_beside_its_data_can_be_moved(self, tmp_path: Path, shared_ledger: Secret) -> None:
        with open_lake(tmp_path, TUNING) as lake:
            stage_and_seal(lake)
            with pytest.raises(LakeInUse):
                recover(tmp_path, Recovered(), ledger=shared_ledger)
        for opening in (open_lake(tmp_path, TUNING, ledger=shared_ledger), look_into(tmp_path, shared_ledger)):
            with pytest.raises(LakeError, match=r"has its ledger beside its data.*harvester recover"), opening:
                pass
        with open_lake(tmp_path, TUNING) as lake:
            assert len(list(lake.ledger.walked(None))) == 1
        recover(tmp_path, Recovered(), ledger=shared_ledger)
        assert sound(tmp_path, shared_ledger)
        assert list((tmp_path / layout.SET_ASIDE).rglob("ledger.sqlite.aside"))

    def test_a_ledger_that_is_damaged_is_made_anew_and_kept_aside(
        self, tmp_path: Path, shared_ledger: Secret, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with open_lake(tmp_path, TUNING, ledger=shared_ledger) as lake:
            stage_and_seal(lake)
            with lake.ledger.database.writing() as connection:
                connection.execute(sa.text("ALTER TABLE slices DROP COLUMN proof"))
        with pytest.raises(LakeBroken, match=r"no slices\.proof.*harvester recover"):
            sound(tmp_path, shared_ledger)
        assert command_line(["recover", str(tmp_path), "--ledger", str(shared_ledger)]) == Exit.COMPLETE
        assert f"The old ledger is kept as the schema {schema_of(tmp_path)}_aside_" in capsys.readouterr().out
        assert sound(tmp_path, shared_ledger)
        assert read_status(tmp_path, shared_ledger).rows["messages"] == 2

    def test_what_does_not_say_where_the_ledger_is_is_not_guessed_at_and_recovering_makes_it_anew(
        self, tmp_path: Path, shared_ledger: Secret, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with open_lake(tmp_path, TUNING, ledger=shared_ledger) as lake:
            stage_and_seal(lake)
        for content in ("", "[]", '{"ledger": "postgresql", "schema": "public; DROP TABLE facts"}'):
            (tmp_path / layout.ELSEWHERE).write_text(content)
            with (
                pytest.raises(LakeBroken, match="does not say where the ledger is"),
                open_lake(tmp_path, TUNING, ledger=shared_ledger),
            ):
                pass
        before = (tmp_path / layout.ELSEWHERE).read_text()
        assert command_line(["recover", str(tmp_path), "--ledger", str(shared_ledger)]) == Exit.COMPLETE
        said = " ".join(capsys.readouterr().out.split())
        assert "ledger-elsewhere.json did not say which schema it is in" in said
        assert "What was set aside is in" in said
        (aside,) = (tmp_path / layout.SET_ASIDE).rglob("ledger-elsewhere.json.aside")
        assert aside.read_text() == before
        assert sound(tmp_path, shared_ledger)
        assert read_status(tmp_path, shared_ledger).rows["messages"] == 2


class TestSaying:
    """What is said of a database: what to do, and never its password."""

    @pytest.mark.parametrize(
        ("url", "said", "status"),
        [
            ("mysql://host/database", "--ledger is the URL of a PostgreSQL database", Exit.USAGE),
            ("postgresql://user:hidden-word@[::1/x", "--ledger is a URL such as", Exit.USAGE),
            ("postgresql://user:hidden-word@127.0.0.1:1/x", "can't be reached", Exit.LAKE),
            ("postgresql://127.0.0.1:1/x?password=hidden-word", "can't be reached", Exit.LAKE),
            ("postgresql://{user}:hidden-word@127.0.0.1:{port}/x", "password authentication failed", Exit.LAKE),
            ("postgresql://{user}:{password}@127.0.0.1:{port}/x", "does not exist", Exit.LAKE),
        ],
    )
    def test_what_is_wrong_is_said_without_the_password(  # noqa: PLR0917  three of them are fixtures
        self,
        tmp_path: Path,
        postgres_server: Server,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        url: str,
        said: str,
        status: Exit,
    ) -> None:
        given = url.format(user=USER, port=postgres_server.port, password=quote(PASSWORD, safe=""))
        with untouched(monkeypatch):
            monkeypatch.setenv("HARVESTER_DEBUG", "1")
            with serving.served(AccountSpec(sends=equal(1, 5))) as server:
                command = run_of(server, tmp_path / "lake", monkeypatch, None)
                assert command_line([*command, "--ledger", given]) == status
        assert not (tmp_path / "lake" / layout.ELSEWHERE).exists()
        told = " ".join("".join(capsys.readouterr()).split())
        assert said in told
        assert not [secret for secret in ("hidden-word", PASSWORD, quote(PASSWORD, safe="")) if secret in told]
        warned = "other users of this machine can read the password in --ledger" in told
        assert warned == ("mysql" not in url)

    def test_the_password_may_come_from_where_libpq_takes_it(
        self,
        tmp_path: Path,
        postgres_server: Server,
        shared_ledger: Secret,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        database = shared_ledger.rpartition("/")[2]
        bare = postgres_server.url(database, password=None)
        passwords, services = tmp_path / "pgpass", tmp_path / "services"
        escaped = PASSWORD.replace(":", "\\:")
        passwords.write_text(f"*:*:*:*:{escaped}\n")
        passwords.chmod(0o600)
        services.write_text(f"[lake]\nhost=127.0.0.1\nport={postgres_server.port}\nuser={USER}\ndbname={database}\n")
        kept = {"PGPASSFILE": str(passwords)}
        ways = [
            (bare, {"PGPASSWORD": PASSWORD}),
            (bare, kept),
            (Secret("postgresql://"), kept | {"PGSERVICEFILE": str(services), "PGSERVICE": "lake"}),
        ]
        for number, (url, variables) in enumerate(ways):
            with monkeypatch.context() as patch:
                for name, value in variables.items():
                    patch.setenv(name, value)
                with open_lake(tmp_path / str(number), TUNING, ledger=url) as lake:
                    begin(lake, 7)
                assert command_line(["status", str(tmp_path / str(number)), "--ledger", str(url)]) == Exit.INCOMPLETE
        assert "can read the password" not in capsys.readouterr().err

    def test_the_settings_of_a_run_show_no_password(self) -> None:
        url = parse_ledger("postgresql://user:hidden-word@host/database")
        assert "hidden-word" not in repr(settings_for_nothing(ledger=url))

    def test_without_a_driver_it_is_said_how_to_get_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setitem(sys.modules, "harvester.lake.ledgers.shared", None)  # as if what it imports were not there
        assert command_line(["status", str(tmp_path), "--ledger", "postgresql://127.0.0.1:1/x"]) == Exit.USAGE
        assert "pip install 'psycopg[binary]" in capsys.readouterr().err

    def test_a_server_that_is_too_old_is_refused(
        self, tmp_path: Path, shared_ledger: Secret, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("harvester.lake.ledgers.postgres.OLDEST", 990000)
        with (
            pytest.raises(LakeError, match=r"needs PostgreSQL 99 or later; 127\.0\.0\.1:\d+/.* is \d+"),
            open_lake(tmp_path, TUNING, ledger=shared_ledger),
        ):
            pass

    @pytest.mark.parametrize(
        ("state", "kind", "said"),
        [
            ("53100", LakeFull, "Free some space"),
            ("42501", LakeError, "needs to connect to the database and to make a schema"),
            ("25006", LakeError, "that can be written to"),
            ("42P01", LakeBroken, "harvester recover"),
            ("57P01", LakeError, "run the same command again"),
            ("40P01", LakeError, "run the same command again"),
        ],
    )
    def test_what_the_servers_errors_mean(self, state: str, kind: type[LakeError], said: str) -> None:
        found = meaning(psycopg.errors.lookup(state)("it\nsays"), "the ledger")
        assert type(found) is kind
        assert said in str(found)
        assert "it says" in str(found)
