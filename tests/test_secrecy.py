"""What the program must not tell: the MD5 code to anybody, e-mail addresses in any log, and the lake to others."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from html import escape
from itertools import count
from pathlib import Path

import anyio
import pytest

from harvester.model import Secret
from harvester.simulator import AccountSpec, Behaviour, listed, serve
from tests.harvesting import lake_table
from tests.hostile import Call, Reply, between, body, raw, xml
from tests.thorough import THOROUGH

pytestmark = pytest.mark.anyio

PEOPLE = "zuzana.novakova@example.org"
SPEC = AccountSpec(seed=9, sends=listed({601: 120, 602: 80}), failed=0.2, waiting=0.1)
LOST = 602
"""A send that is never served, so that errors get into the ledger and the summary."""
ADDRESS = re.compile(rb"[A-Za-z0-9._%+-]+(?:@|%40|\\u0040|&#64;)[A-Za-z0-9-]+\.[A-Za-z]{2,}")
UMASKS = [(0o000, 0), (0o022, 0), (0o077, 0), (0o177, 0o100), (0o277, 0o200)]
"""And what each takes from an owner's folders."""
HARVESTER = [sys.executable, "-m", "harvester"]


def told_by(call: Call) -> Iterator[Reply]:
    """Answers that repeat what was asked, and name somebody."""
    code = SPEC.client_md5
    request = call.body.decode()
    spellings = (code, b64encode(f"12345:{code}".encode()).decode(), code.upper())
    for spelling in spellings if THOROUGH else spellings[:2]:
        words = f"denied: {spelling} of {PEOPLE}"
        yield body(json.dumps({"error_status": 7, "error": words}).encode())
        yield body(xml(b"<string>" + words.encode() + b"</string>"))
        yield body(f"<html><title>{words}</title></html>".encode(), status="503 Down")
        yield body(words.encode(), status="500 Oh")
        yield body(b"", f"X-Asked: {words}", f"Location: http://127.0.0.1/?{spelling}", status="302 Found")
        yield raw(f"HTTP/1.1 500 {words}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        yield raw(f"{words}\r\n\r\n".encode())
        yield body(words.encode(), f"Content-Encoding: {spelling}")
        yield body(f"<fault>{escape(words)}</fault>".encode())
    yield body(request.encode())
    yield body(f"<pre>{escape(request)}</pre>".encode(), status="404 Not Found")
    yield body(f'[{{"id_send_message":"1x","email":"{PEOPLE}","{PEOPLE}":"{code}"}}]'.encode())
    yield body(f'[{{"email":"{PEOPLE}", {request}'.encode())


def telling() -> Callable[[Call], Reply | None]:
    """A server that answers like that every other time, until it has said all there is, and for that send always."""
    asked = count()

    def reply(call: Call) -> Reply | None:
        number = next(asked)
        answers = list(told_by(call))
        told_all = number >= 2 * len(answers) and not THOROUGH
        return answers[number // 2 % len(answers)] if (number % 2 and not told_all) or call.id_send == LOST else None

    return reply


def forms() -> list[bytes]:
    """What the MD5 code looks like, letter case aside."""
    code = SPEC.client_md5.lower().encode()
    encoded = [
        b64encode(before + spelling).rstrip(b"=")[4:-2]
        for before in (b"", b"x", b"xy")
        for spelling in (code, code.upper())
    ]
    return [code, b64encode(bytes.fromhex(code.decode())).rstrip(b"=").lower(), *(form.lower() for form in encoded)]


def assert_silent(text: bytes, where: str, *, people: bool = False) -> None:
    """The code is not in it, nor, unless there may be ``people`` in it, an e-mail address."""
    assert [form for form in forms() if form in text.lower()] == [], where
    assert people or not ADDRESS.search(text), f"{where}: {ADDRESS.search(text)}"


async def harvester(*words: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {"HARVESTER_LOG_LEVEL": "debug", "HARVESTER_DEBUG": "1"} | variables
    return await anyio.run_process([*HARVESTER, *words], check=False, env=environment)


def test_the_forms_that_are_looked_for_are_found() -> None:
    code = SPEC.client_md5
    for said in (code, code.upper(), *(b64encode(f"{'x' * n}{code}!".encode()).decode() for n in range(4))):
        with pytest.raises(AssertionError):
            assert_silent(f"it is {said}".encode(), "here")
        assert_silent(Secret(code).hidden_in(f"it is {said}").encode(), "here")
    with pytest.raises(AssertionError):
        assert_silent(PEOPLE.encode(), "here")


@pytest.mark.parametrize(("wire", "log_format"), [("json", "json"), ("xml", "text")])
async def test_nothing_is_told_whatever_a_server_says(wire: str, log_format: str, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    code_file = tmp_path / "md5"
    code_file.write_text(SPEC.client_md5)
    code_file.chmod(0o600)
    account = ["--client-id", SPEC.client_id, "--client-md5-file", str(code_file), "--wire", wire]
    pace = ["--rate", "500", "--burst", "50", "--limit", "50", "--patience", "1s", "--log-format", log_format]
    async with serve(SPEC, Behaviour()) as server, between(server.url, telling()) as url:
        whole = ["--lake", str(lake), "--endpoint", url, *account, *pace]
        done = [await harvester("run", *whole, "--send", "601", str(LOST), "--json")]
        if wire == "json" and THOROUGH:  # lists are read by the same code over both
            done.append(await harvester("plan", *whole, "--all", "--since", "2016-06-01", "--until", "2016-07-01"))
    done += [await harvester("status", str(lake), *more) for more in ([], ["--json"])]
    assert b"attempt failed" in done[0].stderr
    assert done[0].returncode == 1, done[0].stderr
    assert b"it begins" in done[0].stdout + done[0].stderr
    assert b"***" in done[0].stdout + done[0].stderr
    for number, process in enumerate(done):
        assert_silent(process.stdout + process.stderr, f"output {number}")
        assert b"Traceback" not in process.stderr, process.stderr[-8000:].decode()
    for path in lake.rglob("*"):
        if path.is_file():
            holds_people = path.suffix in {".parquet", ".arrow"}
            assert_silent(path.read_bytes(), str(path), people=holds_people)
        assert_silent(str(path).encode(), "a name")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="only Linux tells of other processes there")
def test_other_processes_are_not_told_the_code(tmp_path: Path) -> None:
    command = [*HARVESTER, "demo", "--rows", "400", "--lake", str(tmp_path / "lake")]
    environment = os.environ | {"HARVESTER_CLIENT_MD5": SPEC.client_md5}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as demo:
        assert demo.stderr is not None
        assert b"Harvesting" in demo.stderr.readline()
        children = Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()
        assert children
        for child in children:
            assert_silent(Path(f"/proc/{child}/cmdline").read_bytes(), "a child's arguments")
            assert_silent(Path(f"/proc/{child}/environ").read_bytes(), "a child's environment", people=True)
        assert_silent(Path(f"/proc/{demo.pid}/cmdline").read_bytes(), "the program's arguments")
        out, err = demo.communicate()
    assert demo.returncode == 0, err
    assert_silent(out + err, "the demo's output")


@pytest.mark.parametrize(("umask", "taken"), UMASKS if THOROUGH else UMASKS[3:4])
async def test_a_lake_is_its_owners_alone_and_a_umask_can_only_take_from_that(
    umask: int, taken: int, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    async with serve(SPEC, Behaviour()) as server:
        words = ["run", "--lake", str(lake), "--endpoint", server.url, "--client-id", SPEC.client_id, "--send", "601"]
        done = await anyio.run_process(
            [*HARVESTER, *words, "--rate", "500", "--burst", "50"],
            check=False,
            env=os.environ | {"HARVESTER_CLIENT_MD5": SPEC.client_md5},
            umask=umask,
        )
    assert b"Traceback" not in done.stderr
    # Where the owner may not look into folders, only root gets on.
    assert done.returncode in ((0,) if not taken else (0, 4)), done.stderr
    if done.returncode == 0:
        assert lake_table(lake, "messages", 601).num_rows == 120
    for path in [lake, *lake.rglob("*")]:
        found = path.stat()
        allowed = 0o700 if stat.S_ISDIR(found.st_mode) else 0o600
        assert stat.S_IMODE(found.st_mode) & ~(allowed & ~umask) == 0, path
