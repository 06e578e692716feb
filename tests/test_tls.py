"""TLS over real connections: who is trusted, what a refused certificate leads to; nothing goes in the clear."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from aiohttp import web
from yarl import URL

from harvester.api.transport import Answer, Transport
from harvester.errors import NotTrusted, ServerNotReached, UsageError
from harvester.simulator import Account, AccountSpec, Behaviour, Server, listed
from tests.harvesting import field, settings_for_nothing
from tests.thorough import some

pytestmark = pytest.mark.anyio

SPEC = AccountSpec(seed=5, sends=listed({601: 30}))
MD5 = "0123456789abcdef0123456789abcdef"
BODY = b'{"md5":"' + MD5.encode() + b'"}'
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@asynccontextmanager
async def tls_server(certificate: trustme.LeafCert, application: web.Application) -> AsyncIterator[str]:
    """Serves an application over TLS; its URL."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def listener(certificate: trustme.LeafCert) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers ``[]``: its URL, and the bodies of what it was asked."""
    asked: list[bytes] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(await request.read())
        return web.Response(body=b"[]")

    application = web.Application()
    application.router.add_post("/{path:.*}", answer)
    async with tls_server(certificate, application) as url:
        yield url, asked


async def ask(url: str, **changes: Any) -> bytes:
    async with Transport(settings_for_nothing(endpoint=url, **changes)) as transport:
        return b"".join((await transport.post("/json.fcgi", BODY)).chunks)


async def test_a_private_authority_is_trusted_where_its_file_is_named(authority: trustme.CA, ca_file: Path) -> None:
    async with listener(authority.issue_cert("127.0.0.1")) as (url, asked):
        assert await ask(url, ca_file=ca_file) == b"[]"
        assert asked == [BODY]


async def test_a_certificate_that_nobody_known_has_signed_is_refused_and_nothing_is_said(authority: trustme.CA) -> None:
    async with listener(authority.issue_cert("127.0.0.1")) as (url, asked):
        with pytest.raises(NotTrusted, match=r"not trusted \(.*issuer.*\).*--ca-file"):
            await ask(url)
        assert asked == []


async def test_authorities_that_are_named_take_the_place_of_others(authority: trustme.CA, ca_file: Path) -> None:
    async with listener(trustme.CA().issue_cert("127.0.0.1")) as (url, asked):
        with pytest.raises(NotTrusted, match="--ca-file"):
            await ask(url, ca_file=ca_file)
        assert asked == []
    certificate = authority.issue_cert("127.0.0.1")
    async with listener(certificate) as (url, asked):
        assert await ask(url, ca_file=ca_file) == b"[]"


@pytest.mark.parametrize(
    ("names", "days", "says"),
    [
        (["127.0.0.1"], (-9, -1), "expired"),
        (["127.0.0.1"], (1, 9), "not valid yet"),
        (["127.0.0.2"], (-1, 9), "for another host: see --endpoint"),
        (["api.mailkit.eu"], (-1, 9), "for another host: see --endpoint"),
    ],
)
async def test_a_certificate_that_is_not_this_hosts_now_is_refused(
    authority: trustme.CA, ca_file: Path, names: list[str], days: tuple[int, int], says: str
) -> None:
    since, until = (NOW + timedelta(days=count) for count in days)
    async with listener(authority.issue_cert(*names, not_before=since, not_after=until)) as (url, asked):
        with pytest.raises(NotTrusted, match=says):
            await ask(url, ca_file=ca_file)
        assert asked == []


async def test_a_host_is_held_to_its_name_too(authority: trustme.CA, ca_file: Path) -> None:
    async with listener(authority.issue_cert("localhost")) as (url, asked):
        named = str(URL(url).with_host("localhost"))
        assert await ask(named, ca_file=ca_file) == b"[]"
        assert asked == [BODY]


async def test_a_run_ends_at_once_where_the_certificate_is_refused(authority: trustme.CA, tmp_path: Path) -> None:
    async with (
        listener(authority.issue_cert("127.0.0.1")) as (url, asked),
        field(tmp_path / "lake", SPEC, endpoint=url) as account,
    ):
        harvest = account.harvest()
        with pytest.raises(ServerNotReached, match="--ca-file"):
            await harvest.run()
        assert harvest.result is not None
        assert harvest.result.attempts == 1
        assert asked == []


async def test_a_certificate_that_is_refused_in_mid_run_is_waited_for(
    authority: trustme.CA, ca_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        tls_server(authority.issue_cert("127.0.0.1"), account_application()) as url,
        field(tmp_path / "lake", SPEC, endpoint=url, ca_file=ca_file, limit=10, concurrency=1) as account,
    ):
        post = Transport.post
        asked = 0

        async def expired_twice(self: Transport, path: str, payload: bytes, *more: Any) -> Answer:
            nonlocal asked
            asked += 1
            if asked in (3, 4):
                raise NotTrusted("its certificate has expired")
            return await post(self, path, payload, *more)

        monkeypatch.setattr(Transport, "post", expired_twice)
        result = await account.run()
        assert result.complete
        account.assert_exact()


def account_application() -> web.Application:
    return Server(Account(SPEC), Behaviour()).application()


@pytest.mark.parametrize("wire", some(["json", "xml"], 1))
async def test_the_program_harvests_over_tls_with_a_private_authority(
    authority: trustme.CA, ca_file: Path, tmp_path: Path, wire: str
) -> None:
    async with tls_server(authority.issue_cert("127.0.0.1"), account_application()) as url:
        done = await harvester(tmp_path, "--endpoint", url, "--wire", wire, "--ca-file", str(ca_file))
        assert done.returncode == 0, done.stderr
        again = await harvester(tmp_path, "--endpoint", url, HARVESTER_CA_FILE=str(ca_file))
        assert again.returncode == 0, again.stderr


async def test_the_program_says_what_to_do_about_a_certificate_at_once(authority: trustme.CA, tmp_path: Path) -> None:
    async with listener(authority.issue_cert("127.0.0.1")) as (url, asked):
        done = await harvester(tmp_path, "--endpoint", url)
        assert done.returncode == 1
        assert "certificate is not trusted" in done.stderr
        assert "--ca-file" in done.stderr
        assert "Traceback" not in done.stderr
        assert asked == []


async def harvester(tmp_path: Path, *more: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs the program while the loop goes on serving."""
    command = [sys.executable, "-m", "harvester", "run", "--lake", str(tmp_path / "lake"), "--send", "601"]
    settings = ["--client-id", SPEC.client_id, "--rate", "500", "--burst", "50", "--patience", "20s"]
    environment = os.environ | {"HARVESTER_CLIENT_MD5": SPEC.client_md5} | variables
    done = await anyio.run_process([*command, *settings, *more], check=False, env=environment)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.parametrize(
    ("content", "says"),
    some(
        [
            (None, "No such file"),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds no certificates in PEM"),
            (b"", "holds no certificates in PEM"),
            (b"0\x82\x03", "holds no certificates in PEM"),
        ],
        kept=2,
    ),
)
async def test_a_file_without_certificates_is_a_usage_error_before_anything_is_made(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    done = await harvester(tmp_path, "--ca-file", str(path))
    assert done.returncode == 2
    assert f"--ca-file {path}" in done.stderr
    assert says in done.stderr
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.10", "[::1]", "localhost:8020", "[::1]:8020"]
)
def test_plain_http_may_go_to_this_machine(host: str) -> None:
    settings_for_nothing(endpoint=f"http://{host}")


@pytest.mark.parametrize(
    "host",
    [
        "api.mailkit.eu",
        "localhost.example.com",
        "127.0.0.1.example.com",
        "example.localhost",
        "127.1",
        "2130706433",
        "0.0.0.0",
        "10.0.0.1",
        "[::]",
        "[fe80::1]",
        "localhost%2eexample.com",
        "127。0。0。1",
    ],
)
def test_plain_http_to_another_machine_is_refused_unless_it_is_allowed_by_name(host: str) -> None:
    with pytest.raises(UsageError, match="--insecure-http"):
        settings_for_nothing(endpoint=f"http://{host}")
    settings_for_nothing(endpoint=f"http://{host}", insecure_http=True)
    settings_for_nothing(endpoint=f"https://{host}")


@pytest.mark.parametrize("host", ["localhost@example.com", "localhost\\@example.com", "example.com#localhost"])
def test_a_host_cannot_be_dressed_up_as_this_machine(host: str) -> None:
    with pytest.raises(UsageError, match="--endpoint"):
        settings_for_nothing(endpoint=f"http://{host}")


async def test_the_program_refuses_plain_http_with_2(tmp_path: Path) -> None:
    done = await harvester(tmp_path, "--endpoint", "http://192.0.2.1")
    assert done.returncode == 2
    assert "no TLS" in done.stderr
    assert "--insecure-http" in done.stderr
    assert not (tmp_path / "lake").exists()
