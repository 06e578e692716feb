"""The README holds: its examples run, its tables are those of the code, and nothing that exists is missing from it."""

from __future__ import annotations

import base64
import inspect
import json
import re
import shlex
import tomllib
from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from enum import Enum
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
import duckdb
import polars as pl
import pytest

import harvester
from harvester import __version__
from harvester.api import meaning
from harvester.api.json import JsonCodec
from harvester.api.records import RawTable
from harvester.api.redacting import Redactor
from harvester.config import Settings, parse_duration, parse_size
from harvester.console import cli
from harvester.console.cli import app, command_line
from harvester.console.exits import Exit
from harvester.console.output import print_lines
from harvester.console.planned import PlannedSend, describe
from harvester.console.sends import COLUMNS, SendList
from harvester.console.sources import PREFIX
from harvester.datasets import BOUNCES, CATALOGUE
from harvester.harvest.outcome import SliceOutcome
from harvester.harvest.planning import make_plan
from harvester.harvest.upkeep import Finding, Kind
from harvester.harvest.wanted import Wanted
from harvester.lake.layout import Footer
from harvester.model import Proof, Secret, Send
from harvester.redaction import NEEDED, Way, parse_redaction
from harvester.simulator.faults import Fault
from harvester.simulator.spec import AccountSpec, equal
from harvester.streaming.options import Options
from tests import serving
from tests.harvesting import QUICK, field
from tests.test_console_run import MD5, untouched

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cyclopts import Argument

    from harvester.console.options import LogFormat
    from harvester.console.recipes import SimulateOptions

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROSE = FENCE.sub("", README)
SENDS, ROWS_EACH = (601181, 601182), 400
COMMANDS = [name for name in app if not name.startswith("-")]


# --- what the README holds


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return [found[2] for found in FENCE.finditer(README) if found[1] == language]


def block(language: str) -> str:
    """The one fenced block of a language."""
    (only,) = blocks(language)
    return only


def section(title: str) -> str:
    """What is below a heading, up to the next one; without its fenced blocks."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", PROSE, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section {title!r}"
    return found[1]


def table(title: str, heading: str) -> list[list[str]]:
    """The cells of the table in a section whose first heading is ``heading``, without the row of headings."""
    rows = [line.strip("|").split("|") for line in section(title).splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row] for row in rows]
    start = next(index for index, row in enumerate(cells) if row[0] == heading)
    rest = cells[start + 2 :]  # without the line of dashes
    stop = next((index for index, row in enumerate(rest) if set(row[0]) == {"-"}), len(rest) + 1)
    return rest[: stop - 1]


def code(text: str) -> set[str]:
    """What stands in backquotes."""
    return set(re.findall(r"`([^`]+)`", " ".join(text.split())))


# --- what it is held against


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds all that the README's examples name; among them a lake that was really harvested."""
    home = tmp_path_factory.mktemp("home")

    async def harvest() -> bool:
        async with field(home / "lake", AccountSpec(sends=equal(len(SENDS), ROWS_EACH), foul=True)) as served:
            assert tuple(served.server.account.spec.sends.ids) == SENDS
            return (await served.run()).complete

    assert anyio.run(harvest)
    for name in ("mailkit-md5", ".mailkit-md5", ".mailkit-redact-key"):
        (home / name).write_text(MD5)
        (home / name).chmod(0o600)
    (home / "sends.csv").write_text(block("csv"))
    (home / "harvester.toml").write_text(block("toml"))
    return home


@pytest.fixture(autouse=True)
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Started in that folder, with no setting in the environment but the account."""
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", str(home))
    with untouched(monkeypatch):
        yield


@dataclass
class Told:
    """Stands in for the run, the plan and the simulator: remembers what they were told."""

    settings: Settings | None = None
    sends: Wanted | tuple[Send, ...] = ()
    log_format: str = ""
    served: tuple[int, ...] = ()

    def run(self, settings: Settings, sends: Iterable[Send] | Wanted, *, json: bool, log_format: LogFormat) -> Exit:
        assert isinstance(json, bool)
        self.settings, self.log_format = settings, log_format
        self.sends = sends if isinstance(sends, Wanted) else tuple(sends)
        return Exit.COMPLETE

    def simulate(self, options: SimulateOptions) -> Exit:
        options.behaviour()
        self.served = (*self.served, len(options.account().sends.ids))
        return Exit.COMPLETE


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    told = Told()
    monkeypatch.setattr(cli, "run_harvest", told.run)
    monkeypatch.setattr(cli, "show_plan", told.run)
    monkeypatch.setattr(cli, "simulate_account", told.simulate)
    monkeypatch.setattr(cli, "table_lake", lambda _lake, wanted, _ledger: Exit.COMPLETE if wanted else Exit.INCOMPLETE)
    return told


# --- commands and options


def test_the_first_two_commands_are_make_demo_and_make_test() -> None:
    assert [found[2].strip() for found in FENCE.finditer(README)][:2] == ["make demo", "make test"]


def test_every_command_has_a_section() -> None:
    assert sorted(re.findall(r"^### harvester (\w+)$", PROSE, re.MULTILINE)) == sorted(COMMANDS)


def options_of(command: str) -> list[Argument]:
    arguments = app[command].assemble_argument_collection()
    return [one for one in arguments if one.name.startswith("--") and one.parameter.show is not False]


def default_of(option: Argument) -> str:
    """The cell of an option's default."""
    default, shown = option.field_info.default, option.parameter.show_default
    if option.required:
        return "required"
    if shown is False or default in (None, Parameter.empty):
        return ""
    return f"`{shown(default) if callable(shown) else default}`"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_in_its_commands_table_with_its_default(command: str) -> None:
    shown_at = "run" if command == "plan" else command  # plan takes the options of run, and says so
    rows = table(f"harvester {shown_at}", "option") if options_of(command) else []
    documented = [(row[0], row[1]) for row in rows]
    expected = [
        (f"`{' '.join(filter(None, [option.name, option.parameter.metavar]))}`", default_of(option))
        for option in options_of(command)
    ]
    assert sorted(documented) == sorted(expected)


def test_no_option_or_variable_is_named_that_does_not_exist() -> None:
    names = {option.name for command in COMMANDS for option in options_of(command)}
    ours = {"--help", "--version"}
    others = {"--no-cache-dir", "--whole"}  # of pip, and of the benchmarks
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", README)) <= names | ours | others
    variables = {PREFIX + name for name in ("CLIENT_MD5", "REDACT_KEY", "LOG_LEVEL", "DEBUG")}
    for command in COMMANDS:
        prefix = PREFIX if command in {"run", "plan", "status", "verify", "recover"} else f"{PREFIX}{command.upper()}_"
        variables |= {prefix + option.name[2:].replace("-", "_").upper() for option in options_of(command)}
    assert set(re.findall(rf"{PREFIX}\w+", README)) - {PREFIX} <= variables


def shown_commands() -> list[list[str]]:
    """Every ``harvester`` command line of the examples, as a shell would part it, without redirections."""
    lines = [line for language in ("sh", "crontab") for text in blocks(language) for line in text.splitlines()]
    lines = [re.sub(r"\$\(date [^)]*\)", "2024-05-31", line) for line in lines]
    found = [re.search(r"(?:^|/)harvester (?!=)([^>&|]+)", line) for line in lines]
    return [shlex.split(one[1].replace("~", "$HOME").replace("$HOME", str(Path.cwd()))) for one in found if one]


def test_every_command_line_that_is_shown_is_accepted(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    shown = shown_commands()
    assert {tokens[0] for tokens in shown} == {
        "run",
        "plan",
        "status",
        "verify",
        "recover",
        "compact",
        "simulate",
        "table",
        "--version",
    }
    for tokens in shown:
        assert command_line(tokens) == 0, capsys.readouterr().err
    assert told.settings is not None
    assert told.sends == Wanted(since=date(2024, 5, 31))  # of the nightly run, which is the last
    assert told.served == (20, 6)


def test_the_simulated_account_changes_as_the_example_tells_it_to(tmp_path: Path) -> None:
    (order,) = [shlex.split(line) for text in blocks("sh") for line in text.splitlines() if line.startswith("curl")]
    body = order[order.index("-d") + 1]

    async def tell() -> tuple[int, bool]:
        async with field(tmp_path / "lake", AccountSpec(sends=equal(6, 2000), room=100)) as served:
            path = order[-1].partition("8020")[2]
            async with aiohttp.ClientSession() as session, session.post(served.server.url + path, data=body) as answer:
                assert answer.status == 200, await answer.text()
            account = served.server.account
            return next(send.expected or 0 for send in account.sends if send.id_send == SENDS[0]), account.settled

    assert anyio.run(tell) == (2020, True)


def test_every_fault_of_the_simulator_is_named() -> None:
    assert set(Fault) <= code(section("harvester simulate"))


def test_the_settings_file_is_accepted_and_says_what_it_seems_to_say(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HARVESTER_CLIENT_MD5")
    monkeypatch.delenv("HARVESTER_CLIENT_ID")
    assert command_line(["run", "--config", "harvester.toml"]) == 0
    settings, document = told.settings, tomllib.loads(block("toml"))
    says: dict[str, Any] = document | document["run"]
    assert settings is not None
    assert (settings.lake, settings.client_id) == (Path(says["lake"]), str(says["client_id"]))
    assert str(settings.client_md5) == MD5
    assert (settings.datasets, settings.rate) == (tuple(says["dataset"]), says["rate"])
    assert (settings.concurrency, settings.memory) == (says["concurrency"], parse_size(says["memory"]))
    assert settings.timeout_s == parse_duration(says["timeout"])
    assert settings.patience_s == parse_duration(says["patience"])
    assert told.log_format == says["log_format"]
    assert (says["all"], told.sends) == (True, Wanted())


def test_the_lists_of_sends_are_read_as_they_are_explained(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text(block("text"))
    with SendList(str(plain)) as sends:
        assert list(sends) == [Send(601181), Send(601182)]
    with SendList("sends.csv") as sends:
        first, second, third = sends
    assert (first.id_message, first.expected, str(first.sent_at)) == (32443, 120_000, "2024-05-31 08:00:00")
    assert second.expected == 5_000
    assert third == Send(601183)
    assert [row[0] for row in table("Lists of sends", "column")] == [f"`{name}`" for name in COLUMNS]


# --- reading the lake


def test_the_sql_runs_on_duckdb(home: Path) -> None:
    assert (home / "lake").is_dir()
    reading, odd = blocks("sql")
    with duckdb.connect() as database:
        statements = database.extract_statements(reading)
        statuses, domains, bounces, proofs = [database.execute(one).fetchall() for one in statements]
        originals = database.execute(odd).fetchall()
        held = database.execute("SELECT count(*) FROM 'lake/bounces/*/*.parquet'").fetchall()[0][0]
    assert sum(number for _, number in statuses) == len(SENDS) * ROWS_EACH
    assert 0 < sum(number for _, number in domains) <= ROWS_EACH
    assert sum(number for *_, number in bounces) == held > 0
    assert [(name.split("/")[2], proof) for name, proof in proofs] == [(f"send={one}", Proof.TAIL) for one in SENDS]
    assert originals
    for _, shown, original in originals:
        assert original.decode("utf-8", "replace").replace("\0", "\ufffd") == shown
        assert "\ufffd" in shown


def test_the_python_brings_bytes_back_that_are_not_text(capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = [text for text in blocks("python") if "b64decode" in text]
    exec(compile(text, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed
    with duckdb.connect() as database:
        counted = "SELECT sum(len(regexp_extract_all(_extra, 'base64'))) FROM 'lake/messages/*/*.parquet'"
        assert len(printed) == database.execute(counted).fetchall()[0][0]
    assert all(re.fullmatch(r"\d+ \w+ b['\"].*['\"]", line) for line in printed)
    (example,) = [json.loads(one) for one in code(section("Bytes that are not text")) if one.startswith("{")]
    assert base64.b64decode(example["first_name"]["$base64"]) == b"caf\xe9"


def test_the_python_runs_on_polars(capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = [text for text in blocks("python") if "scan_parquet" in text]
    names: dict[str, Any] = {}
    exec(compile(text, "README.md", "exec"), names)
    assert capsys.readouterr().out.count("shape: ") == 3
    messages: pl.LazyFrame = names["messages"]
    one: pl.LazyFrame = names["one"]
    assert messages.collect().height == len(SENDS) * ROWS_EACH
    assert one.collect()["id_send"].unique().to_list() == [601181]


def test_the_python_for_spark_is_python() -> None:
    (text,) = [text for text in blocks("python") if "spark" in text]
    compile(text, "README.md", "exec")  # tests/test_readers.py runs it, where there is Spark
    assert all((Path(path) / "send=601181").is_dir() for path in re.findall(r'parquet\("(.+?)"\)', text))


def test_the_python_runs_on_pandas_and_pyarrow(capsys: pytest.CaptureFixture[str]) -> None:
    (pandas,) = [text for text in blocks("python") if "import pandas" in text]
    (arrow,) = [text for text in blocks("python") if "import pyarrow" in text]
    names: dict[str, Any] = {}
    exec(compile(pandas, "README.md", "exec"), names)
    assert (len(names["messages"]), len(names["one"])) == (len(SENDS) * ROWS_EACH, ROWS_EACH)
    capsys.readouterr()
    exec(compile(arrow, "README.md", "exec"), names)
    assert capsys.readouterr().out == f"{len(SENDS) * ROWS_EACH} {ROWS_EACH}\n"


def test_the_python_makes_the_hashes_that_a_redacted_lake_holds(capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = [text for text in blocks("python") if "blake2b" in text]
    exec(compile(text, "README.md", "exec"), {})
    raw = JsonCodec(BOUNCES).decode(b'[{"ID_SEND_MESSAGE":1,"EMAIL":"jan@example.com"}]')
    assert isinstance(raw, RawTable)
    redactor = Redactor(parse_redaction(["email=hash"], Secret(MD5)), BOUNCES)
    column = dict(zip(BOUNCES.schema.names[1:], redactor.redacted(raw).columns, strict=False))["email"]
    assert column.values.to_pylist() == capsys.readouterr().out.split()


def test_every_way_of_redacting_is_explained_and_what_cannot_be_is_named() -> None:
    assert [row[0] for row in table("People's data", "how")] == [f"`{way}`" for way in Way]
    (needed,) = [part for part in section("People's data").split("\n- ") if part.startswith("**Which columns")]
    keys = {dataset.key for dataset in CATALOGUE.values()}
    assert code(needed) == set(NEEDED) - keys


# --- rows without a lake


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An account that is asked where nothing else is said."""
    monkeypatch.setattr("harvester.streaming.options.TUNING", QUICK)
    with serving.served(AccountSpec(sends=equal(len(SENDS), ROWS_EACH), failed=0.1)) as server:
        spec = server.account.spec
        given = {"CLIENT_ID": spec.client_id, "CLIENT_MD5": spec.client_md5, "ENDPOINT": server.url, "RATE": "1000"}
        for name, value in given.items():
            monkeypatch.setenv(PREFIX + name, value)
        yield


@pytest.mark.usefixtures("account")
def test_the_python_that_streams_runs(capsys: pytest.CaptureFixture[str]) -> None:
    awaits, reads, fails = [text for text in blocks("python") if "import harvester" in text]
    names: dict[str, Any] = {}
    for text in (awaits, reads, fails):
        exec(compile(text, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    for id_send in SENDS:
        assert f"{ROWS_EACH} messages of send {id_send}\n" in printed
    frame: pl.DataFrame = names["frame"]
    assert (frame.height, len(names["table"])) == (ROWS_EACH, ROWS_EACH)
    assert "bounce_cat" in printed
    assert sum(batch.num_rows for batch in names["batches"]) == len(SENDS) * ROWS_EACH


def test_every_argument_of_stream_and_read_is_explained() -> None:
    documented = {name: row[1] for row in table("Arguments", "argument") for name in re.findall(r"`(\w+)`", row[0])}
    parameters = inspect.signature(harvester.stream).parameters
    assert parameters == inspect.signature(harvester.read).parameters
    assert list(documented) == [*(name for name in parameters if name != "options"), *Options.__annotations__]
    defaults = {item.name: item.default for item in fields(Settings)} | {"dataset": "messages", "all": False}
    for name, shown in documented.items():
        default = defaults.get(name, defaults.get(f"{name}_s"))
        said = re.findall(r"`([^`]+)`", shown)
        if said and not said[-1].startswith(PREFIX):
            meant = said[-1].strip('"')
            parse = {"memory": parse_size, "timeout": parse_duration, "patience": parse_duration}.get(name, str)
            assert parse(meant) == (default.value if isinstance(default, Enum) else parse(str(default)))


# --- what scripts and readers rely on


def test_every_exit_status_is_explained_in_order() -> None:
    rows = table("Exit statuses", "status")
    assert [row[0] for row in rows] == [str(status.value) for status in Exit]
    assert all(row[1] and row[2] for row in rows)


def test_every_proof_is_explained() -> None:
    rows = table("Proofs", "proof")
    of = {
        Proof.COUNT: [one.name for one in CATALOGUE.values() if one.counted],
        Proof.TAIL: [one.name for one in CATALOGUE.values() if one.paged],
        Proof.COVERS: ["bounces"],
        Proof.AGREED: [one.name for one in CATALOGUE.values() if not one.paged],
    }
    names = {proof: ", ".join(f"`{name}`" for name in of[proof]) if proof in of else "all" for proof in Proof}
    assert [(row[0], row[1]) for row in rows] == [(f"`{proof}`", names[proof]) for proof in Proof]


def test_the_table_of_wrong_answers_is_that_of_the_code() -> None:
    assert [tuple(row) for row in table("When an answer is wrong", "what came back")] == list(meaning.table())
    said = section("When an answer is wrong").lower()
    for action in meaning.Action:
        words = action.value.removeprefix("ask again, ").removesuffix(", then ask again")
        assert f"**{words}:**" in said or action is meaning.Action.TAKE


def test_every_dataset_is_explained() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section("Columns and types").splitlines()]
    (names, _, functions, columns, keys, _) = [row[1:] for row in rows if len(row) > 1 and set(row[0]) != {"-"}]
    assert names == list(CATALOGUE)
    for dataset, function, count, key in zip(CATALOGUE.values(), functions, columns, keys, strict=True):
        assert function == f"`{dataset.function}`"
        assert count.startswith(f"{len(dataset.fields)} that the vendor documents")
        assert code(count) == set(dataset.schema.names) - {column.name for column in dataset.fields}
        assert key.startswith(f"`{dataset.key}`")
    dates = {
        name
        for one in CATALOGUE.values()
        for name in one.schema.names
        if "timestamp" in str(one.schema.field(name).type)
    }
    assert dates <= code(section("Columns and types"))


def test_every_key_of_a_data_files_footer_is_explained() -> None:
    footer = Footer("messages", 1, 0, 1, 0, "", "", proof="tail", expected=1, account="12345", redaction="x")
    assert [row[0] for row in table("Files", "key")] == [f"`{key}`" for key in footer.encode()]


def test_the_json_summary_has_the_fields_that_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["run", "--json"]) == Exit.USAGE
    printed = json.loads(capsys.readouterr().out)
    shown = json.loads(blocks("json")[0])
    assert [*shown, "error"] == list(printed)
    explained = " ".join(row[0] for row in table("The JSON summary", "field"))
    assert code(explained) == set(printed)
    for one in shown["slices"]:
        assert list(one) == [attribute.name for attribute in fields(SliceOutcome)]
    for name in shown["rows"]:
        assert shown["rows"][name] == sum(one["rows"] for one in shown["slices"] if one["dataset"] == name)
    assert shown["queries"] == sum(one["queries"] for one in shown["slices"])
    assert shown["changed"] == sum(one["changed"] for one in shown["slices"])
    (of_slices,) = [part for part in section("The JSON summary").split("\n\n") if part.startswith("Of a slice")]
    assert {attribute.name for attribute in fields(SliceOutcome)} <= code(of_slices)


def test_the_fields_of_status_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["status", "lake", "--json"]) == Exit.COMPLETE
    printed = json.loads(capsys.readouterr().out)
    (paragraph,) = [part for part in section("The JSON summary").split("\n\n") if "`harvester status --json`" in part]
    assert code(paragraph) == set(printed) | {"harvester status --json"}


def test_the_json_verification_has_the_fields_that_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["verify", "lake", "--json"]) == Exit.COMPLETE
    printed, shown = json.loads(capsys.readouterr().out), json.loads(blocks("json")[2])
    assert list(shown) == list(printed)
    for one in shown["findings"]:
        assert list(one) == [attribute.name for attribute in fields(Finding)]
    explained = table("The JSON verification", "field")
    assert code(" ".join(row[0] for row in explained)) == {*printed, "error"}
    assert [row[0] for row in table("The JSON verification", "kind")] == [f"`{kind}`" for kind in Kind]


def test_the_json_plan_has_the_fields_that_are_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tokens = ["plan", "--lake", str(tmp_path / "none"), "--client-id", "12345", "--sends-file", "sends.csv", "--json"]
    assert command_line(tokens) == Exit.COMPLETE
    printed, shown = json.loads(capsys.readouterr().out), json.loads(blocks("json")[1])
    assert list(shown) == list(printed)
    assert list(shown["total"]) == list(printed["total"])
    assert list(shown["asked"]) == ["queries", "attempts"] == list(printed["asked"])
    for one in (*shown["sends"], *printed["sends"]):
        assert list(one) == [attribute.name for attribute in fields(PlannedSend)]
    assert shown["rows"]["messages"] == sum(one["rows"] for one in shown["sends"])
    assert shown["seconds"] == (shown["queries"] - 1) / shown["rate"]
    explained = table("The JSON plan", "field")
    assert code(" ".join(row[0] for row in explained)) == {*printed, "error"}
    assert set(shown["total"]) - {"sends", "slices"} <= code(" ".join(row[1] for row in explained))


def test_the_plan_that_is_shown_is_what_a_plan_prints(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = datetime(2024, 6, 1, 8, 0, 0)  # noqa: DTZ001  the API's dates have no zone
    tuning = replace(QUICK, clock=lambda: datetime(2024, 6, 7, 12, 0, 0))  # noqa: DTZ001  likewise

    async def plan() -> None:
        async with field(
            Path("lake"), AccountSpec(sends=equal(6, 2000), first_date=first, days_between=1.0), tuning=tuning
        ) as served:
            settings = replace(served.settings, rate=2.0, burst=1, tuning=tuning)
            made = await make_plan(served.settings, Wanted())
            # Found at a rate that a test has time for, and told of at the one that is shown.
            print_lines(describe(replace(made, seconds=(made.queries - 1) / 2.0), settings))

    anyio.run(plan)
    (shown,) = [text.splitlines() for text in blocks("console") if "sends from" in text]
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert printed[-len(shown) :] == shown  # after lines of the log


# --- the project itself


def test_every_make_target_is_explained() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    rows = table("Development", "command")
    explained = set(re.findall(r"make ([a-z-]+)", " ".join(row[0] for row in rows)))
    assert explained == targets
    assert set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)", README, re.MULTILINE)) <= targets


def test_links_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.+)$", PROSE, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(([^)\s]+)\)", PROSE)
    local = [link for link in links if not link.startswith("https://")]
    assert len(local) > 10
    for link in local:
        path, _, anchor = link.partition("#")
        assert (ROOT / path).exists(), link
        assert not anchor or anchor in anchors, link


def test_every_part_of_the_package_is_in_the_tree_of_the_code() -> None:
    (tree,) = [text for text in blocks("") if text.startswith("harvester/")]
    parts = {
        path.name + "/" * path.is_dir() for path in (ROOT / "harvester").iterdir() if not path.name.startswith("_")
    }
    assert parts - {"py.typed"} <= set(re.findall(r"[\w.]+/?", tree))


def test_the_changelog_begins_with_this_version() -> None:
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == __version__
