"""Lakes and streams without people's data: exact in all else, and never of two kinds."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import anyio
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import harvester
from harvester.config import Refresh, Settings, Wire
from harvester.console import cli
from harvester.console.cli import command_line
from harvester.console.exits import Exit
from harvester.datasets import CATALOGUE, EXTRA, MESSAGES
from harvester.errors import LakeError, UsageError
from harvester.harvest.upkeep import Kind
from harvester.lake import layout
from harvester.lake.lake import look_into, open_lake
from harvester.lake.ledgers import tables
from harvester.lake.ledgers.tables import range_values
from harvester.model import KeyRange, Secret
from harvester.redaction import Redaction, parse_redaction
from harvester.simulator.shape import Shape
from harvester.simulator.spec import AccountSpec, listed
from harvester.simulator.truth import expected
from harvester.streaming import options
from tests.harvesting import QUICK, Field, at_attempt, field, lake_table
from tests.hostile import Reply, body, hostile
from tests.lake_upkeep import found
from tests.serving import asking, served
from tests.test_console_run import untouched
from tests.test_recover import lose_ledger, recovered

KEY = Secret("0123456789abcdef" * 4)
OTHER_KEY = Secret("fedcba9876543210" * 4)
SAID = "email=hash,reply_to=domain,id_email=hash,first_name=drop,last_name=drop,custom_1=hash"
REDACTION = parse_redaction([SAID], KEY)
EVERY = tuple(CATALOGUE)
SPEC = AccountSpec(
    sends=listed({601: 90, 602: 25}), failed=0.2, waiting=0.1, awkward=True, foul=True, shape=Shape(unknown=True)
)
SMALL = AccountSpec(sends=listed({601: 60}), failed=0.2)


def as_redacted(row: dict[str, Any]) -> dict[str, Any]:
    """A true row, redacted as the README says."""
    extra = {} if row[EXTRA] is None else json.loads(row[EXTRA])
    row = dict(row)
    for name, value in extra.items():
        if name.lower() == "id_email" and isinstance(value, str):
            row["id_email"] = value  # no number of 64 bits: what is hashed is what was sent, if that is text
    for name in ("email", "custom_1"):
        if row.get(name):
            row[name] = blake2b(row[name].encode(), key=KEY.encode(), digest_size=16).hexdigest()
    if row.get("id_email") is not None:
        digest = blake2b(str(row["id_email"]).encode(), key=KEY.encode(), digest_size=16).digest()
        row["id_email"] = int.from_bytes(digest[:8]) >> 1
    row.update(dict.fromkeys({"first_name", "last_name"} & row.keys()))
    if row.get("reply_to") is not None:
        row["reply_to"] = row["reply_to"].rpartition("@")[2] if "@" in row["reply_to"] else None
    left = {name: value for name, value in extra.items() if name.lower() not in REDACTION.ways}
    row[EXTRA] = json.dumps(left, sort_keys=True) if left else None
    return row


def normal(row: dict[str, Any]) -> dict[str, Any]:
    return row | {EXTRA: row[EXTRA] and json.dumps(json.loads(row[EXTRA]), sort_keys=True)}


def assert_redacted(account: Field, datasets: tuple[str, ...] = EVERY) -> None:
    """The lake holds the truth, redacted, and says so."""
    for dataset in (CATALOGUE[name] for name in datasets):
        for id_send in account.server.account.spec.sends.ids:
            held = lake_table(account.lake, dataset.name, id_send)
            true = expected(account.server.account, dataset, id_send)
            assert held.schema.equals(dataset.schema)
            assert [normal(row) for row in held.to_pylist()] == [as_redacted(row) for row in true.to_pylist()]
    labels = {footer_of(path) for path in account.lake.glob("*/*/*.parquet")}
    assert labels == {REDACTION.label}


def footer_of(path: Path) -> str | None:
    return layout.Footer.decode(pq.read_metadata(path).metadata or {}).redaction


def harvested(lake: Path, redaction: Redaction, spec: AccountSpec = SMALL) -> None:
    async def harvest() -> None:
        async with field(lake, spec, redaction=redaction) as account:
            assert (await account.run()).complete

    anyio.run(harvest)


class TestLakes:
    @pytest.mark.anyio
    @pytest.mark.parametrize("wire", list(Wire))
    async def test_it_holds_the_truth_but_for_what_was_taken_out(self, tmp_path: Path, wire: Wire) -> None:
        async with field(tmp_path, SPEC, wire=wire, limit=40, redaction=REDACTION, datasets=EVERY) as account:
            assert (await account.run()).complete
            assert_redacted(account)
            messages = pa.concat_tables([lake_table(tmp_path, "messages", one) for one in SPEC.sends.ids])
            for name in ("bounces", "raw_bounces", "raw_responses"):
                others = pa.concat_tables([lake_table(tmp_path, name, one) for one in SPEC.sends.ids])
                both = others.join(messages, "id_send_message", right_suffix=" of message")
                assert both.num_rows == others.num_rows > 0
                assert both["email"].equals(both["email of message"])
                assert both["id_email"].equals(both["id_email of message"])

    @pytest.mark.anyio
    async def test_a_refresh_brings_what_changed_and_nothing_else(self, tmp_path: Path) -> None:
        spec = replace(SMALL, waiting=0.3)
        async with field(tmp_path, spec, redaction=REDACTION) as account:
            assert (await account.run()).complete
            account.server.account.settled = True
            result = await account.run(refresh=Refresh.ALL)
            waited = sum(one.changed for one in result.slices() if one.dataset == MESSAGES.name)
            assert 0 < waited < 40
            assert_redacted(account, ("messages", "bounces"))

    @pytest.mark.anyio
    async def test_what_is_staged_is_redacted_already(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async with field(tmp_path, SMALL, redaction=REDACTION, limit=20, datasets=("messages",)) as account:
            harvest = account.harvest()
            at_attempt(3, harvest.drain, monkeypatch)
            assert (await harvest.run()).interrupted
            staged = sorted((tmp_path / layout.SEGMENTS).iterdir())
            assert staged
            truth = expected(account.server.account, MESSAGES, 601)
            people = {row["email"] for row in truth.to_pylist()}
            for path in staged:
                rows = pa.ipc.open_file(str(path)).read_all() if path.suffix == ".arrow" else pq.read_table(path)
                assert pc.all(pc.match_substring_regex(rows["email"], "^[0-9a-f]{32}$")).as_py()
                assert rows["first_name"].null_count == rows.num_rows
            ledger = b"".join(path.read_bytes() for path in (tmp_path / layout.HOME).glob("ledger*"))
            assert not [one for one in people if one.encode() in ledger]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "answer",
    [
        body(b'[{"ID_EMAIL":"5551999","ID_send":"601","email":"bob'),
        body(b'{"error_status":7,"error":"what of \\"ID_email\\":\\"5551999\\", \\"ID_send\\":\\"601\\""}'),
    ],
    ids=["cut", "words"],
)
async def test_an_error_shows_no_id_that_is_redacted(tmp_path: Path, answer: Reply) -> None:
    async with field(tmp_path / "plain", SMALL) as account, hostile(answer) as url:
        told = []
        for redaction in (Redaction(), parse_redaction(["id_email=drop"])):
            lake = tmp_path / (redaction.label or "plain")
            result = await account.run(lake=lake, endpoint=url, redaction=redaction, patience_s=0.0)
            told.append(next(result.slices()).error or "")
    assert ["5551999" in one for one in told] == [True, False]
    assert all("601" in one for one in told)


OTHERS = {
    "nothing": Redaction(),
    "less": parse_redaction(["email=hash"], KEY),
    "another way": parse_redaction([SAID.replace("email=hash", "email=drop", 1)], KEY),
    "another key": parse_redaction([SAID], OTHER_KEY),
}


class TestOtherSettings:
    @pytest.mark.anyio
    @pytest.mark.parametrize("other", OTHERS)
    @pytest.mark.parametrize("other_first", [False, True])
    async def test_a_lake_is_redacted_in_one_way_only(self, tmp_path: Path, other: str, other_first: bool) -> None:
        first, then = (OTHERS[other], REDACTION) if other_first else (REDACTION, OTHERS[other])
        async with field(tmp_path, replace(SMALL, sends=listed({601: 5}))) as account:
            assert (await account.run(redaction=first, datasets=("messages",))).complete
            asked = account.server.stats.requests
            with pytest.raises(LakeError, match="Say the same as before, or use another folder") as caught:
                await account.run(redaction=then, datasets=("messages",))
            for redaction in (first, then):
                ways, _, key = redaction.label.partition(" key=")
                assert (ways or "without --redact") in str(caught.value)
                assert key in str(caught.value)
            assert account.server.stats.requests == asked
            assert (await account.run(redaction=first)).complete

    @pytest.mark.anyio
    @pytest.mark.parametrize("attempt", [1, 2])
    async def test_a_first_run_that_was_interrupted_counts_once_it_holds_anything(
        self, tmp_path: Path, attempt: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with field(tmp_path, SMALL, limit=20, concurrency=1, datasets=("messages",)) as account:
            harvest = account.harvest()
            with monkeypatch.context() as patch:
                at_attempt(attempt, harvest.drain if attempt > 1 else _refused, patch)
                if attempt > 1:
                    assert (await harvest.run()).interrupted
                else:
                    with pytest.raises(LakeError, match="stopped here"):
                        await harvest.run()
            if attempt > 1:
                with pytest.raises(LakeError, match="harvested without --redact"):
                    await account.run(redaction=REDACTION)
            else:
                assert (await account.run(redaction=REDACTION)).complete
                assert_redacted(account, ("messages",))

    def test_pages_that_wait_in_a_walk_over_many_sends_count_too(self, tmp_path: Path) -> None:
        with open_lake(tmp_path, QUICK) as lake:
            lake.runs.begin("12345")
            lake.runs.begin("12345", REDACTION.label)  # it holds nothing yet
            waits = {"name": "x", "rows": 1, "bytes": 1, "first_key": 1, "last_key": 1, "page_end": 1, "checksum": 0}
            with lake.ledger.database.writing() as connection:
                scope = {"id": 1, "ended": 0} | range_values(KeyRange())
                known = {column.name: scope[column.name] for column in tables.scopes.c if column.name in scope}
                connection.execute(tables.scopes.insert(), known)
                connection.execute(tables.scope_segments.insert(), waits | {"scope_id": 1})
            with pytest.raises(LakeError, match="Say the same as before"):
                lake.runs.begin("12345")

    def test_a_lake_of_a_version_that_could_not_redact_is_not_redacted(self, tmp_path: Path) -> None:
        harvested(tmp_path, Redaction())
        with look_into(tmp_path) as seen, seen.runs.database.writing() as connection:
            connection.exec_driver_sql("DELETE FROM facts WHERE name = 'redaction'")
        with pytest.raises(LakeError, match="harvested without --redact"):
            harvested(tmp_path, REDACTION)
        harvested(tmp_path, Redaction())


def _refused() -> None:
    raise LakeError("stopped here")


class TestUpkeep:
    @pytest.mark.parametrize("redaction", [REDACTION, Redaction()], ids=["redacted", "plain"])
    def test_a_ledger_that_is_made_anew_knows_how_the_lake_is_redacted(
        self, tmp_path: Path, redaction: Redaction
    ) -> None:
        harvested(tmp_path, redaction)
        lose_ledger(tmp_path)
        assert recovered(tmp_path).redaction == redaction.label
        other = Redaction() if redaction else REDACTION
        with pytest.raises(LakeError, match="Say the same as before"):
            harvested(tmp_path, other)
        harvested(tmp_path, redaction)

    def test_a_file_that_is_redacted_otherwise_is_found_and_set_aside(self, tmp_path: Path) -> None:
        lake, plain = tmp_path / "lake", tmp_path / "plain"
        harvested(lake, REDACTION, replace(SMALL, sends=listed({601: 60, 602: 30})))
        harvested(plain, Redaction())
        (there,) = (lake / "messages" / "send=601").glob("*.parquet")
        shutil.copy(plain / there.relative_to(lake), there)
        (finding,) = found(lake)
        assert finding.kind is Kind.FOREIGN
        assert "without --redact" in finding.what
        lose_ledger(lake)
        done = recovered(lake)
        assert [file.name for file in done.aside] == [str(there.relative_to(lake))]
        assert done.redaction == REDACTION.label

    def test_status_says_it(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        harvested(tmp_path, REDACTION)
        assert command_line(["status", str(tmp_path), "--json"]) == Exit.COMPLETE
        told = json.loads(capsys.readouterr().out)["redaction"]
        assert told == {
            "columns": {name: str(way) for name, way in REDACTION.columns},
            "key": REDACTION.label.partition(" key=")[2],
        }
        assert command_line(["status", str(tmp_path)]) == Exit.COMPLETE
        told = " ".join(capsys.readouterr().out.split())
        assert "harvested with --redact custom_1=hash,email=hash" in told
        assert KEY not in told


class TestCommandLine:
    @pytest.fixture(autouse=True)
    def told(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
        self.settings: Settings | None = None

        def run(settings: Settings, *_: Any, **__: Any) -> Exit:
            self.settings = settings
            return Exit.COMPLETE

        monkeypatch.setattr(cli, "run_harvest", run)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "key").write_text(f"{KEY}\n")
        (tmp_path / "key").chmod(0o600)
        with untouched(monkeypatch):
            yield

    def run(self, *tokens: str) -> Redaction:
        assert command_line(["run", "--lake", "lake", "--send", "1", *tokens]) == Exit.COMPLETE
        assert self.settings is not None
        return self.settings.redaction

    def refused(self, capsys: pytest.CaptureFixture[str], *tokens: str) -> str:
        assert command_line(["run", "--lake", "lake", "--send", "1", *tokens]) == Exit.USAGE
        assert self.settings is None
        return capsys.readouterr().err

    def test_by_arguments(self) -> None:
        expected = parse_redaction(["email=hash,city=drop,zip=drop"], KEY)
        given = ("--redact", "email=hash,city=drop", "zip=drop", "--redact-key-file", "key")
        assert self.run(*given) == expected
        assert self.run("--redact", "email=hash", "--redact", "city=drop,zip=drop", *given[3:]) == expected

    def test_by_the_environment(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setenv("HARVESTER_REDACT", "email=hash,city=drop zip=drop")
        monkeypatch.setenv("HARVESTER_REDACT_KEY", KEY)
        assert self.run() == parse_redaction(["email=hash,city=drop,zip=drop"], KEY)
        assert self.run("--redact", "email=hash") == parse_redaction(["email=hash"], KEY)
        assert capsys.readouterr().err == ""
        monkeypatch.setenv("HARVESTER_REDACT_KEY_FILE", "key")
        self.settings = None
        assert "are both set" in self.refused(capsys)

    @pytest.mark.parametrize("said", ['"email=hash,city=drop"', '["email=hash", "city=drop"]'])
    def test_by_the_settings_file(self, tmp_path: Path, said: str) -> None:
        (tmp_path / "h.toml").write_text(f'redact_key_file = "key"\n[run]\nredact = {said}\n')
        assert self.run("--config", "h.toml") == parse_redaction(["email=hash,city=drop"], KEY)

    def test_the_key_is_refused_in_a_settings_file(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "h.toml").write_text(f'redact = "email=hash"\nredact_key = "{KEY}"\n')
        told = self.refused(capsys, "--config", "h.toml")
        assert "name a file that holds it in redact_key_file" in told
        assert KEY not in told

    def test_a_key_for_nothing_is_an_error_since_something_may_have_been_forgotten(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert "nothing is to be hashed" in self.refused(capsys, "--redact-key-file", "key")
        assert "nothing is to be hashed" in self.refused(capsys, "--redact-key-file", "key", "--redact", "city=drop")

    def test_a_file_that_others_can_read_is_warned_of(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "key").chmod(0o644)
        self.run("--redact", "email=hash", "--redact-key-file", "key")
        assert "other users can read key, which holds the key of --redact" in capsys.readouterr().err

    @pytest.mark.parametrize("tokens", [("--redact", ""), ("--redact", "email=hash"), ("--redact-key-file", "nowhere")])
    def test_what_cannot_be_meant_ends_with_2(
        self, tokens: tuple[str, ...], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert "redact" in self.refused(capsys, *tokens)


class TestStreams:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setattr(options, "TUNING", QUICK)
        with untouched(monkeypatch):
            yield

    def test_they_are_redacted_as_lakes_are(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "key").write_text(KEY)
        (tmp_path / "key").chmod(0o600)
        ways: list[dict[str, Any]] = [
            {"redact": SAID, "redact_key": KEY},
            {"redact": SAID.split(","), "redact_key_file": tmp_path / "key"},
            {"redact": {name: str(way) for name, way in REDACTION.columns}, "redact_key": str(KEY)},
            {},
        ]
        with served(SMALL) as server:
            true = [as_redacted(row) for row in expected(server.account, MESSAGES, 601).to_pylist()]
            for given in ways:
                if not given:
                    monkeypatch.setenv("HARVESTER_REDACT", SAID)
                    monkeypatch.setenv("HARVESTER_REDACT_KEY", KEY)
                table = harvester.read("messages", sends=601, **(asking(server) | given)).read_all()
                assert table.schema.equals(harvester.schema("messages"))
                assert table.to_pylist() == true

    def test_what_cannot_be_meant_is_said_in_python_s_words(self) -> None:
        account = {"client_id": "1", "client_md5": "0" * 32}
        with pytest.raises(UsageError, match="name a file that holds it with redact_key_file"):
            harvester.stream("messages", sends=1, redact="email=hash", **account)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="no dataset has a column 'emial'"):
            harvester.stream("messages", sends=1, redact={"emial": "drop"}, **account)  # type: ignore[arg-type]
