"""The command line: where options come from, which win, and what is said of those that can't be meant."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
import structlog

from harvester import __version__
from harvester.config import Refresh, Settings, Wire
from harvester.console import cli, logs, secrecy, status
from harvester.console.cli import command_line
from harvester.console.exits import Exit
from harvester.console.output import print_object
from harvester.datasets import CATALOGUE
from harvester.errors import LakeBroken
from harvester.harvest import status as real_status
from harvester.harvest.wanted import Wanted
from harvester.model import Secret
from tests.test_console_run import MD5, STATUS, outcome, untouched

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harvester.harvest.outcome import SliceOutcome
    from harvester.model import Send

RUN = ("run", "--lake", "lake")


class Told:
    """What a run was told: settings and sends. Stands in for the run itself."""

    settings: Settings
    sends: list[int]
    wanted: Wanted | None = None
    json: bool

    def __call__(self, settings: Settings, sends: Iterable[Send] | Wanted, *, json: bool, log_format: str) -> Exit:
        self.settings, self.json, self.log_format = settings, json, log_format
        self.wanted = sends if isinstance(sends, Wanted) else None
        self.sends = [] if isinstance(sends, Wanted) else [send.id_send for send in sends]
        return Exit.COMPLETE


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    told = Told()
    monkeypatch.setattr(cli, "run_harvest", told)
    return told


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An empty folder, and a command line without traces."""
    monkeypatch.chdir(tmp_path)
    with untouched(monkeypatch):
        yield


def refused(capsys: pytest.CaptureFixture[str], *tokens: str) -> str:
    """What is said of a command line that is refused, in one line and with exit status 2."""
    assert command_line(tokens) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    sentence, *hint = err.splitlines()
    assert all(line.startswith("See harvester") for line in hint)
    return sentence


@pytest.mark.parametrize(
    ("tokens", "complaint"),
    [
        (["run", "--send", "1"], "--lake is missing"),
        (
            [*RUN],
            "say what to harvest: --send ID (several may follow), --sends-file FILE, --campaign ID, or --all",
        ),
        ([*RUN, "--campaign", "5", "--all"], "give --campaign or --all, not both"),
        ([*RUN, "--send", "1", "--campaign", "5", "--all"], "give --send, --campaign or --all, not all"),
        ([*RUN, "--campaign", "x"], "--campaign: 'x' is not an id"),
        ([*RUN, "--send", "1", "--since", "2024-01-01"], "--since goes with --campaign or --all"),
        ([*RUN, "--send", "1", "--until", "2024-01-01"], "--until goes with --campaign or --all"),
        ([*RUN, "--all", "--since", "01.02.2024"], "--since: '01.02.2024' is not a day; write it like 2024-05-31"),
        ([*RUN, "--all", "--until", "2024-02-30"], "--until: '2024-02-30' is not a day"),
        ([*RUN, "--all", "--until", "20240201"], "--until: '20240201' is not a day"),
        (
            [*RUN, "--all", "--since", "2024-02-01", "--until", "2024-01-31"],
            "--since 2024-02-01 is later than --until 2024-01-31",
        ),
        ([*RUN, "--all", "--wire", "soap"], 'Invalid value "soap" for --wire. Choose from: "json", "xml"'),
        ([*RUN, "--all", "--refresh", "some"], 'Invalid value "some" for --refresh'),
        ([*RUN, "--all", "--refresh-within", "long"], "--refresh-within: 'long' is not a duration"),
        (["plan", "--send", "1"], "--lake is missing"),
        (["plan", "--lake", "lake"], "say what to harvest"),
        ([*RUN, "--send"], "say what to harvest"),
        ([*RUN, "--send", "601181", "12x"], "--send: '12x' is not an id; an id is a whole number such as 601181"),
        ([*RUN, "--send", "1", "--sends-file", "f"], "give --send or --sends-file, not both"),
        ([*RUN, "--sends-file", "absent"], "--sends-file absent: No such file or directory"),
        ([*RUN, "--send", "1", "--rate", "fast"], '--rate: unable to convert "fast"'),
        ([*RUN, "--send", "1", "--rate", "0"], "--rate is queries per second, above 0"),
        ([*RUN, "--send", "1", "--limit", "2"], "--limit goes from 3 to 25000, not 2"),
        ([*RUN, "--send", "1", "--timeout", "12x"], "--timeout: '12x' is not a duration"),
        ([*RUN, "--send", "1", "--for", "0s"], "--for is more than 0"),
        ([*RUN, "--send", "1", "--memory", "lots"], "--memory: 'lots' is not a size"),
        ([*RUN, "--send", "1", "--dataset", "opens"], "there is no dataset opens; there are messages, bounces"),
        ([*RUN, "--send", "1", "--endpoint", "api.mailkit.eu"], "--endpoint is a URL"),
        ([*RUN, "--send", "1", "--log-format", "xml"], 'Choose from: "auto", "text", "json"'),
        ([*RUN, "--send", "1", "--rat", "2"], "Unknown option: --rat. Did you mean --rate?"),
        ([*RUN, "--send", "1", "--client-md5", MD5], "Unknown option: --client-md5"),
        ([*RUN, "more"], "it is not clear what 'more' means here"),
        ([*RUN, "--send", "1", "--config", "absent.toml"], "--config absent.toml: No such file or directory"),
        ([*RUN, "--send", "1", "--client-md5-file", "absent"], "--client-md5-file absent: No such file or directory"),
        (["rnu"], 'Unknown command "rnu". Did you mean "run"?'),
        (["status"], "LAKE is missing"),
    ],
)
def test_what_cant_be_meant_is_refused_in_one_sentence(
    capsys: pytest.CaptureFixture[str], tokens: list[str], complaint: str
) -> None:
    assert complaint in refused(capsys, *tokens)


def test_the_md5_code_never_comes_back_from_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    command_line([*RUN, "--send", "1", "--client-md5", MD5])
    out, err = capsys.readouterr()
    assert MD5 not in out + err


def test_both_ways_to_give_each_credential_are_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARVESTER_CLIENT_MD5", " ")
    sentence = refused(capsys, *RUN, "--send", "1")
    assert "--client-md5-file" in sentence
    assert "HARVESTER_CLIENT_MD5" in sentence
    monkeypatch.delenv("HARVESTER_CLIENT_ID")
    sentence = refused(capsys, *RUN, "--send", "1")
    assert "--client-id" in sentence
    assert "HARVESTER_CLIENT_ID" in sentence


def test_a_json_reader_gets_its_object_also_when_nothing_ran(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["run", "--json"]) == 2
    summary = json.loads(capsys.readouterr().out)
    assert (summary["complete"], summary["slices"], summary["error"]) == (False, [], "--lake is missing")


def test_sends_may_follow_one_another_and_the_option_be_repeated(told: Told) -> None:
    assert command_line([*RUN, "--send", "3", "1", "--rate", "2", "--send=2", "--send", "1"]) == 0
    assert told.sends == [3, 1, 2]


def test_every_option_reaches_the_settings(told: Told) -> None:
    options = (
        "--dataset bounces --endpoint http://localhost:1 --client-id 7 --limit 100 --rate 2.5 --burst 3 "
        "--concurrency 4 --memory 256MiB --timeout 30s --patience 2h --for 1d --json --log-format json --send 1 "
        "--wire xml --refresh unsettled --refresh-within 3d --drop-gone"
    )
    assert command_line([*RUN, *options.split()]) == 0
    settings = told.settings
    assert settings.lake == Path("lake")
    assert (settings.datasets, settings.endpoint, settings.client_id) == (("bounces",), "http://localhost:1", "7")
    assert (settings.limit, settings.rate, settings.burst, settings.concurrency) == (100, 2.5, 3, 4)
    assert (settings.memory, settings.timeout_s, settings.patience_s, settings.for_s) == (2**28, 30, 7_200, 86_400)
    assert (settings.wire, settings.refresh) == (Wire.XML, Refresh.UNSETTLED)
    assert (settings.refresh_within_s, settings.drop_gone) == (3 * 86_400, True)
    assert str(settings.client_md5) == MD5
    assert (told.json, told.log_format) == (True, "json")


def test_what_is_not_said_stays_as_the_settings_have_it(told: Told) -> None:
    assert command_line([*RUN, "--send", "1"]) == 0
    plain = Settings(lake=Path("lake"), client_id="12345", client_md5=Secret(MD5), tuning=told.settings.tuning)
    assert told.settings == plain


def test_sends_may_be_found_in_campaigns_or_everywhere(told: Told) -> None:
    assert command_line([*RUN, "--campaign", "5", "6", "--campaign=5", "--until", "2024-02-29"]) == 0
    assert told.wanted == Wanted(campaigns=(5, 6), until=date(2024, 2, 29))
    assert command_line([*RUN, "--all", "--since", "2024-01-01", "--dataset", *CATALOGUE]) == 0
    assert told.wanted == Wanted(since=date(2024, 1, 1))
    assert told.settings.datasets == tuple(CATALOGUE)


def test_what_to_find_comes_from_the_environment_or_the_file_too(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "h.toml").write_text('all = true\nsince = "2024-01-01"\nwire = "xml"\ndrop_gone = true\n')
    monkeypatch.setenv("HARVESTER_CONFIG", "h.toml")
    assert command_line([*RUN]) == 0
    assert told.wanted == Wanted(since=date(2024, 1, 1))
    assert (told.settings.wire, told.settings.drop_gone) == (Wire.XML, True)
    assert command_line([*RUN, "--send", "4"]) == 0, "the file's days belong to what the file wants"
    assert told.sends == [4]
    monkeypatch.setenv("HARVESTER_CAMPAIGN", "7 8")
    monkeypatch.setenv("HARVESTER_UNTIL", "2024-06-01")
    assert command_line([*RUN]) == 0
    assert told.wanted == Wanted(campaigns=(7, 8), since=date(2024, 1, 1), until=date(2024, 6, 1))
    monkeypatch.setenv("HARVESTER_ALL", "true")
    assert "give HARVESTER_CAMPAIGN or HARVESTER_ALL, not both" in refused(capsys, *RUN)
    monkeypatch.setenv("HARVESTER_ALL", "false")
    assert command_line([*RUN]) == 0
    assert told.wanted == Wanted(campaigns=(7, 8), since=date(2024, 1, 1), until=date(2024, 6, 1))


def test_a_day_in_a_file_may_be_a_day_of_toml(told: Told, tmp_path: Path) -> None:
    (tmp_path / "h.toml").write_text("all = true\nsince = 2024-01-01\n")
    assert command_line([*RUN, "--config", "h.toml"]) == 0
    assert told.wanted == Wanted(since=date(2024, 1, 1))


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "h.toml").write_text(
        'lake = "filed"\nrate = 1.25\nburst = 5\nlog-format = "text"\nclient_id = 99\ndataset = "messages"\n'
        '[run]\nlimit = 30\nsend = [1, 2]\npatience = "2h"\ntimeout = 90\njson = true\nburst = 6\n'
    )
    monkeypatch.setenv("HARVESTER_CONFIG", "h.toml")
    monkeypatch.setenv("HARVESTER_RATE", "2.5")
    monkeypatch.setenv("HARVESTER_LIMIT", "40")
    monkeypatch.setenv("HARVESTER_DATASET", "bounces messages")
    assert command_line(["run", "--limit", "50", "--lake", "given"]) == 0
    settings = told.settings
    assert (settings.limit, settings.rate, settings.burst) == (50, 2.5, 6)
    assert (settings.lake, settings.client_id) == (Path("given"), "12345")
    assert settings.datasets == ("bounces", "messages")
    assert (settings.patience_s, settings.timeout_s) == (7_200, 90)
    assert (told.sends, told.json, told.log_format) == ([1, 2], True, "text")


def test_an_empty_variable_is_as_good_as_unset(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RATE", "LIMIT", "JSON", "CAMPAIGN", "SINCE"):
        monkeypatch.setenv(f"HARVESTER_{name}", " " * (name == "LIMIT"))
    assert command_line(["run", "--send", "7", "--lake", "given", "--client-id", "12345"]) == 0
    assert (told.settings.rate, told.settings.limit, told.sends, told.json) == (1.0, 25_000, [7], False)


def test_of_two_ways_to_name_sends_the_stronger_source_wins(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sends").write_text("5\n")
    (tmp_path / "h.toml").write_text('sends_file = "sends"\n')
    assert command_line([*RUN, "--config", "h.toml"]) == 0
    assert told.sends == [5]
    monkeypatch.setenv("HARVESTER_SEND", "6 7")
    assert command_line([*RUN, "--config", "h.toml"]) == 0
    assert told.sends == [6, 7]
    assert command_line([*RUN, "--sends-file", "sends"]) == 0
    assert told.sends == [5]
    monkeypatch.setenv("HARVESTER_SENDS_FILE", "sends")
    assert "give HARVESTER_SEND or HARVESTER_SENDS_FILE, not both" in refused(capsys, *RUN)


def test_a_hyphen_stands_for_standard_input(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"8\n9\n")))
    assert command_line([*RUN, "--sends-file", "-"]) == 0
    assert told.sends == [8, 9]


def test_a_variable_that_is_no_setting_is_warned_of(
    told: Told, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HARVESTER_RAET", "HARVESTER_LOG_LEVEL", "HARVESTER_DEBUG", "HARVESTER_SIMULATE_SEED"):
        monkeypatch.setenv(name, "1")
    assert command_line([*RUN, "--send", "1"]) == 0
    assert told.settings.rate == 1.0
    assert capsys.readouterr().err == (
        "harvester: HARVESTER_RAET is set, but no setting has that name; is it HARVESTER_RATE?\n"
    )


def test_an_error_in_the_environment_names_the_variable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARVESTER_MEMORY", "lots")
    assert "HARVESTER_MEMORY: 'lots' is not a size" in refused(capsys, *RUN, "--send", "1")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("rat = 2", "h.toml: there is no setting 'rat'; see harvester run --help"),
        ("[run]\nrat = 2", "h.toml: there is no setting 'rat'"),
        ("[plan]\nrate = 2", "h.toml: there is no setting 'plan'"),
        (f'client_md5 = "{MD5}"', "h.toml: client_md5 does not belong in a settings file"),
        ('config = "other.toml"', "h.toml: there is no setting 'config'"),
        ("rate = {a = 1}", "h.toml: rate is a number, a text"),
        ("since = 2024-01-01T00:00:00", "h.toml: since is a number, a text, a day"),
        ("rate = ", "h.toml is not TOML: "),
        ("run = 5", "h.toml: run is a table, [run]"),
        ('timeout = "soon"', "timeout in h.toml: 'soon' is not a duration"),
        ('rate = "fast"', "rate in h.toml"),
    ],
)
def test_an_error_in_the_file_names_file_and_key(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, complaint: str
) -> None:
    (tmp_path / "h.toml").write_text(text)
    sentence = refused(capsys, *RUN, "--send", "1", "--config", "h.toml")
    assert complaint in sentence
    assert MD5 not in sentence


def test_the_md5_code_comes_from_a_file_or_the_environment(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "md5"
    secret.write_text("  0123456789abcdef0123456789abcdef\r\n")
    secret.chmod(0o600)
    assert command_line([*RUN, "--send", "1", "--client-md5-file", "md5"]) == 0
    assert str(told.settings.client_md5) == "0123456789abcdef0123456789abcdef"
    assert capsys.readouterr().err == ""
    (tmp_path / "h.toml").write_text('client_md5_file = "md5"')
    assert command_line([*RUN, "--send", "1", "--config", "h.toml"]) == 0
    assert str(told.settings.client_md5) == MD5, "the environment wins over the file"
    monkeypatch.setenv("HARVESTER_CLIENT_MD5_FILE", "md5")
    assert "are both set; unset one" in refused(capsys, *RUN, "--send", "1")


def test_a_file_that_others_can_read_is_warned_of(
    told: Told, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "md5"
    secret.write_text(MD5)
    secret.chmod(0o644)
    assert command_line([*RUN, "--send", "1", "--client-md5-file", "md5"]) == 0
    assert told.settings.client_md5 == MD5
    warning = capsys.readouterr().err
    assert "other users can read md5" in warning
    assert "chmod 600 md5" in warning
    assert MD5 not in warning


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"\xff\xfe", b"code\ncode\n"])
def test_a_file_that_holds_anything_but_the_code_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "md5").write_bytes(content)
    assert "should hold the MD5 code and nothing else" in refused(
        capsys, *RUN, "--send", "1", "--client-md5-file", "md5"
    )


def test_an_error_without_a_class_of_its_own_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> Exit:
        raise RuntimeError(f"a library quotes {MD5}")

    monkeypatch.setattr(cli, "run_harvest", fail)
    assert command_line([*RUN, "--send", "1"]) == 1
    err = capsys.readouterr().err
    assert "RuntimeError (a library quotes ***)" in err
    assert len(err.splitlines()) == 1


def test_an_interrupt_before_the_run_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> Exit:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run_harvest", interrupt)
    assert command_line([*RUN, "--send", "1"]) == 130
    assert capsys.readouterr().err == "harvester: interrupted\n"


def test_help_is_there_for_whoever_asks_and_whoever_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for tokens in ([], ["--help"]):
        assert command_line(tokens) == 0
        out = capsys.readouterr().out
        assert all(command in out for command in ("run", "plan", "status", "simulate", "demo"))
    assert command_line(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_the_help_of_run_explains_its_options_defaults_and_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["run", "--help"]) == 0
    out = capsys.readouterr().out
    for text in ("[default: 1GiB]", "[default: 10m]", "[default: 1h]", "--client-md5-file FILE", "HARVESTER_RATE"):
        assert text in out
    for exit_status in Exit:
        assert str(exit_status.value) in out


def test_a_process_ends_with_the_exit_status() -> None:
    done = subprocess.run([sys.executable, "-m", "harvester", "run"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("harvester: --lake is missing\n")


def test_a_reader_of_help_may_go_away() -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "harvester", "run", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk to write to")
@pytest.mark.parametrize("tokens", [["status", "absent", "--json"], ["run", "--help"]])
def test_a_standard_output_that_cant_be_written_to_is_one_sentence(tokens: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "harvester", *tokens],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode in {1, 4}
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("harvester: ")


def test_status_lists_what_is_there_and_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(real_status, "read_status", lambda *_: STATUS)
    assert command_line(["status", "some/lake"]) == 1
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines()[2:4]] == [
        ["messages", "27", "2", "25", "100,203"],
        ["bounces", "1", "1", "0", "5"],
    ]
    assert "3 data files, 5.0 MiB; 2 segments (4.0 KiB) not yet in data files" in out
    assert "7 messages unsettled" in out
    assert "proofs: tail 3" in out
    assert "2024-05-31 08:00:00 UTC; a run is at work on it now" in out
    assert "the server bears 4.71 queries a second, as of 2024-05-31 08:30:00 UTC" in out
    assert "messages of send 22: 3 rows; the server answered 500" in out
    assert "… and 5 more; --json lists all" in out


def test_status_tells_of_messages_that_wait_for_too_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = replace(STATUS, slices=lambda: iter([replace(outcome(1), overdue=4)]))
    monkeypatch.setattr(real_status, "read_status", lambda *_: waiting)
    command_line(["status", "some/lake"])
    assert "4 messages overdue: waiting for over 60 days, and counted as settled" in capsys.readouterr().out


def test_status_can_be_read_by_programs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(real_status, "read_status", lambda *_: STATUS)
    monkeypatch.setenv("HARVESTER_JSON", "true")
    assert command_line(["status", "some/lake"]) == 1
    summary = json.loads(capsys.readouterr().out)
    assert summary["complete"] is False
    assert summary["rows"] == {"messages": 100_203, "bounces": 5}
    assert (summary["in_use"], summary["data_files"], summary["data_bytes"]) == (True, 3, 5 * 2**20)
    assert summary["last_run"] == "2024-05-31T08:00:00+00:00"
    assert summary["pace"] == {"rate": 4.71, "concurrency": None, "at": "2024-05-31T08:30:00"}
    assert len(summary["slices"]) == 28


def test_a_lake_is_complete_only_if_it_knows_of_something() -> None:
    assert not status.is_complete(replace(STATUS, slices_by_state={}))
    assert not status.is_complete(STATUS)
    assert status.is_complete(replace(STATUS, slices_by_state={"messages": {"complete": 1, "incomplete": 0}}))


def test_no_lake_is_exit_status_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["status", str(tmp_path / "absent")]) == 4
    assert "absent" in capsys.readouterr().err


def test_log_lines_never_hold_the_md5_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """However it got there: as a value, in a library's message, in a traceback."""
    lines: list[str] = []
    forms: tuple[Literal["text", "json"], ...] = ("text", "json")
    for form in forms:
        for debugging in ("", "1"):
            monkeypatch.setenv("HARVESTER_DEBUG", debugging)
            logs.configure(form, "info", lines.append)
            secrecy.hide(MD5)
            log = structlog.get_logger()
            log.info("event", code=MD5, body={"md5": [MD5.encode()]})
            try:
                int(MD5)
            except ValueError:
                log.exception("failed")
                logging.getLogger("library").exception("POST %s", MD5)
            logging.getLogger("library").info("a body")
            log.debug("too fine")
    assert len(lines) == 12
    assert not any(MD5 in line for line in lines)
    assert sum("Traceback" in line for line in lines) == 4, "only when debugging"
    event = json.loads(lines[6])
    assert (event["event"], event["code"], event["body"]) == ("event", "***", {"md5": ["b'***'"]})


def test_an_unknown_log_level_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HARVESTER_LOG_LEVEL", "loud")
    assert "HARVESTER_LOG_LEVEL is one of debug, info" in refused(capsys, *RUN, "--send", "1")


def test_a_json_object_is_whole_even_if_reading_slices_fails(capsys: pytest.CaptureFixture[str]) -> None:
    def slices() -> Iterator[SliceOutcome]:
        yield outcome(1)
        raise LakeBroken("the ledger can't be read any more")

    failed = print_object({"complete": True}, slices())
    summary = json.loads(capsys.readouterr().out)
    assert isinstance(failed, LakeBroken)
    assert summary["error"] == "the ledger can't be read any more"
    assert len(summary["slices"]) == 1
