"""``harvester simulate`` and ``harvester demo``: options become recipes, and no simulator outlives its purpose."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from harvester.console import cli, demo
from harvester.console.cli import command_line
from harvester.console.exits import Exit
from harvester.console.recipes import SimulateOptions
from harvester.datasets import CATALOGUE, DEFAULT
from harvester.simulator import (
    Account,
    AccountSpec,
    Behaviour,
    Case,
    Fault,
    Nothing,
    Numbers,
    Shape,
    XmlTypes,
    expected,
    parse_sends,
)
from tests.test_console_run import untouched

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from harvester.config import Settings
    from harvester.model import Send
from harvester.places import state_of

EVERYTHING = (
    "--sends 601181=12,601182=30 --seed 7 --gaps 3 --first-key 99 --sends-per-campaign 2 --failed 0.1 "
    "--waiting 0.2 --opened 0.5 --opened-later 0.25 --room 5 --first-date 2026-11-01T14:30:00 --days-between 2.5 "
    "--today 2026-12-01 --awkward --foul --client-id 777 --pretty --ascii --numbers mixed --xml-types untyped "
    "--shuffle --case upper --missing FAX PHONE "
    "--unknown --bare-single --nothing [] --page-cap 10 --exclusive --latency 0.2..0.8 --server-rate 5 "
    "--server-burst 2 --server-concurrency 3 --server-workers 2 --busy-status 429 --no-gzip "
    "--faults 500=0.05,reset=0.02 --fault-seed 9 --retry-after 2s "
    "--fail-sends 601181 601182 --vanish 0.25 --disallowed --script 429-date,ok,hang --no-reports "
    "--unsteady-lists 0.5 --total-counts --hidden-sends 601182"
)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with untouched(monkeypatch):
        yield


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[SimulateOptions]:
    """The options that ``harvester simulate`` was called with, each time."""
    told: list[SimulateOptions] = []
    monkeypatch.setattr(cli, "simulate_account", told.append)
    return told


def test_every_field_of_the_simulators_recipes_can_be_set(told: list[SimulateOptions]) -> None:
    assert command_line(["simulate", *EVERYTHING.split()]) == 0
    account, behaviour = told[0].account(), told[0].behaviour()
    assert account == AccountSpec(
        seed=7,
        sends=parse_sends("601181=12,601182=30"),
        gap=3,
        first_key=99,
        sends_per_campaign=2,
        failed=0.1,
        waiting=0.2,
        opened=0.5,
        opened_later=0.25,
        room=5,
        first_date=datetime.fromisoformat("2026-11-01 14:30:00"),
        days_between=2.5,
        today=date(2026, 12, 1),
        awkward=True,
        foul=True,
        shape=Shape(
            pretty=True,
            ascii=True,
            numbers=Numbers.MIXED,
            xml_types=XmlTypes.UNTYPED,
            shuffle=True,
            case=Case.UPPER,
            missing=("FAX", "PHONE"),
            unknown=True,
            single_bare=True,
            nothing=Nothing.LIST,
        ),
        client_id="777",
    )
    assert behaviour == Behaviour(
        page_cap=10,
        inclusive=False,
        latency_s=(0.2, 0.8),
        rate=5,
        burst=2,
        most_in_flight=3,
        workers=2,
        busy_status=429,
        gzip=False,
        faults={Fault.FAILED: 0.05, Fault.RESET: 0.02},
        fault_seed=9,
        retry_after_s=2,
        fail_sends=frozenset({601181, 601182}),
        vanish=0.25,
        disallowed=True,
        script=(Fault.THROTTLED_DATE, None, Fault.HANG),
        no_reports=True,
        unsteady_lists=0.5,
        total_counts=True,
        hidden_sends=frozenset({601182}),
    )
    for made, plain in ((account, AccountSpec()), (account.shape, Shape()), (behaviour, Behaviour())):
        names = {field.name for field in fields(made)} - {"client_md5"}
        assert all(getattr(made, name) != getattr(plain, name) for name in names), "a field that no option sets"


def test_defaults_are_the_simulators(told: list[SimulateOptions]) -> None:
    assert command_line(["simulate"]) == 0
    assert told[0].account() == AccountSpec(sends=parse_sends("6x2000"))
    assert told[0].behaviour() == Behaviour()


@pytest.mark.parametrize("sends", ["6x20", "1x20", "5000x1"])
def test_messages_that_wait_belong_to_sends_of_the_last_days(told: list[SimulateOptions], sends: str) -> None:
    before = datetime.now(UTC).replace(tzinfo=None)
    assert command_line(["simulate", "--waiting", "0.1", "--sends", sends]) == 0
    spec = told[0].account()
    assert before - timedelta(days=30) < spec.first_date <= spec.last_date < before
    assert spec.today is not None
    assert spec.last_date.date() < spec.today


def test_dates_are_taken_as_given(told: list[SimulateOptions]) -> None:
    assert command_line(["simulate", "--waiting", "0.1", "--first-date", "2020-02-29", "--days-between", "0"]) == 0
    before = datetime.now(UTC).date()
    spec = told[0].account()
    assert spec.first_date == spec.last_date == datetime.fromisoformat("2020-02-29")
    assert spec.today is not None
    assert before <= spec.today <= datetime.now(UTC).date()


def test_settings_of_real_runs_are_not_the_simulators(
    told: list[SimulateOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARVESTER_CLIENT_ID", "5")
    monkeypatch.setenv("HARVESTER_JSON", "true")
    monkeypatch.setenv("HARVESTER_SIMULATE_SEED", "6")
    assert command_line(["simulate"]) == 0
    assert (told[0].client_id, told[0].json, told[0].seed) == ("12345", False, 6)


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("--sends", "many", "'many' does not say which sends"),
        ("--faults", "418=1", "'418=1' is not a fault"),
        ("--script", "500,odd", "'odd' is not a fault; write 500,ok,reset"),
        ("--first-date", "yesterday", "'yesterday' is not a date"),
        ("--first-date", "2020-01-01T00:00:00Z", "has a time zone"),
        ("--first-date", "9998-12-31T00:00:00", "between the years 1970 and 9999"),
        ("--latency", "slow", "'slow' is not a latency"),
        ("--gaps", "0", "the gap between keys"),
        ("--fail-sends", "x", "--fail-sends: 'x' is not an id"),
        ("--numbers", "roman", "Choose from"),
    ],
)
def test_what_cant_be_meant_is_refused(
    capsys: pytest.CaptureFixture[str], option: str, value: str, complaint: str
) -> None:
    assert command_line(["simulate", option, value]) == 2
    assert complaint in capsys.readouterr().err


def simulator(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "harvester", "simulate", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_simulator_says_where_it_is_and_stops_when_told() -> None:
    with simulator("--json", "--sends", "20x10") as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (0, "", "")
    assert told["url"].startswith("http://127.0.0.1:")
    assert (told["client_id"], len(told["client_md5"])) == ("12345", 32)
    assert told["sends"][:2] == [601181, 601182]
    assert (told["sends_total"], told["messages_total"]) == (20, 200)


def test_the_simulator_shows_a_command_that_harvests_it_and_ends_with_its_parent() -> None:
    with simulator("--sends", "20x10", "--until-stdin-closes") as process:
        assert process.stdout is not None
        assert process.stdin is not None
        text = "".join(iter(process.stdout.readline, "Ctrl-C ends it.\n"))
        process.stdin.close()
        assert process.wait() == 0
    assert (
        "seq 601181 601200 | HARVESTER_CLIENT_MD5=0123456789abcdef0123456789abcdef harvester run --endpoint http"
        in text
    )
    assert text.rstrip().endswith("--sends-file -")


def test_a_file_as_standard_input_never_closes_and_is_refused() -> None:
    command = [sys.executable, "-m", "harvester", "simulate", "--until-stdin-closes"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == Exit.USAGE
    assert "--until-stdin-closes needs a pipe or a terminal as standard input" in done.stderr
    assert "Traceback" not in done.stderr


class Pretended:
    """Stands in for a run: fills the lake with the truth, or with something like it."""

    def __init__(self, *, rows: int, forget: int = 0) -> None:
        self._account = Account(AccountSpec(sends=parse_sends(f"skewed:8:{rows}")))
        self._forget = forget
        self.endpoint = ""

    def __call__(self, settings: Settings, sends: Iterable[Send], **_: Any) -> Exit:
        self.endpoint = settings.endpoint
        for send in sends:
            for name, dataset in ((name, CATALOGUE[name]) for name in DEFAULT):
                folder = state_of(settings.lake) / name / f"send={send.id_send}"
                folder.mkdir(parents=True)
                table = expected(self._account, dataset, send.id_send)
                half = table.num_rows // 2
                pq.write_table(table.slice(0, half), folder / "part-9-99.parquet")
                pq.write_table(table.slice(half, table.num_rows - half - self._forget), folder / "part-100-200.parquet")
        return Exit.COMPLETE


def test_the_demo_holds_the_lake_against_the_truth(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(demo, "run_harvest", Pretended(rows=2_000))
    assert command_line(["demo", "--rows", "2000", "--lake", str(tmp_path / "lake")]) == 0
    assert "every value compared" in capsys.readouterr().out


def test_the_demo_says_so_if_they_differ_and_leaves_no_simulator_behind(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pretended = Pretended(rows=2_000, forget=1)
    monkeypatch.setattr(demo, "run_harvest", pretended)
    assert command_line(["demo", "--rows", "2000", "--lake", str(tmp_path / "lake")]) == 1
    out = capsys.readouterr().out
    assert "The lake differs from the truth" in out
    assert "messages of send 601181: " in out
    gone = demo._Simulated(pretended.endpoint, "", "", ())
    with pytest.raises(demo.SimulatorFailed):
        gone.get("/stats")


def test_a_demo_that_was_stopped_ends_with_the_runs_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    account = demo._Simulated("http://127.0.0.1:1", "1", "2", (601181,))
    monkeypatch.setattr(demo, "_simulator", lambda _: nullcontext(account))
    monkeypatch.setattr(demo, "run_harvest", lambda *_, **__: Exit.INTERRUPTED)
    assert command_line(["demo", "--lake", str(tmp_path / "lake")]) == 130
    assert "truth" not in capsys.readouterr().out
