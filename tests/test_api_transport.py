"""The transport against real servers on loopback: whatever goes wrong below comes up as one of our errors."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harvester import __version__
from harvester.api.transport import PATHS, Answer, Transport
from harvester.config import Settings, Tuning
from harvester.errors import Cut, HarvesterError, NotConnected, NotData, OverCap, TimedOut, UsageError
from harvester.model import Secret

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

pytestmark = pytest.mark.anyio

MD5 = "0123456789abcdef0123456789abcdef"
PAYLOAD = b'{"md5":"' + MD5.encode() + b'"}'
Reply = Callable[["StreamWriter"], Awaitable[None]]


def settings(endpoint: str, *, timeout_s: float = 10.0, **tuning: Any) -> Settings:
    return Settings(
        lake=Path("unused"),
        client_id="1",
        client_md5=Secret(MD5),
        endpoint=endpoint,
        insecure_http=True,
        timeout_s=timeout_s,
        tuning=Tuning(**tuning),
    )


@asynccontextmanager
async def raw_server(reply: Reply, requests: list[bytes] | None = None) -> AsyncIterator[str]:
    """A server that reads one request and then does what ``reply`` does; yields its URL."""
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        task: asyncio.Task[None] | None = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if requests is not None:
                requests.append(head)
            await reader.readexactly(len(PAYLOAD))
            await reply(writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
        await server.wait_closed()


def sends(*parts: bytes, hang: bool = False, reset: bool = False) -> Reply:
    async def reply(writer: StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if hang:
            await asyncio.Event().wait()
        if reset:
            writer.transport.abort()

    return reply


def response(status: str, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode()


async def ask(reply: Reply, requests: list[bytes] | None = None, **changed: Any) -> Answer:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(raw_server(reply, requests))
        transport = await stack.enter_async_context(Transport(settings(url, **changed)))
        return await transport.post("/json.fcgi", PAYLOAD)


async def test_an_answer_comes_back_as_it_was_sent() -> None:
    head = response(
        "429 Slow down",
        "Content-Type: text/plain",
        "Content-Encoding: gzip",
        "Retry-After: soon",
        "Content-Length: 6",
        "Set-Cookie: a=b",
    )
    answer = await ask(sends(head, b"pac", b"ked"))
    assert b"".join(answer.chunks) == b"packed"
    assert (answer.status, answer.content_type, answer.content_encoding, answer.retry_after, answer.wire_bytes) == (
        429,
        "text/plain",
        "gzip",
        "soon",
        6,
    )


async def test_it_says_who_asks_and_what_it_accepts() -> None:
    requests: list[bytes] = []
    await ask(sends(response("200 OK", "Content-Length: 2"), b"[]"), requests)
    lines = requests[0].decode().split("\r\n")
    assert lines[0] == "POST /json.fcgi HTTP/1.1"
    assert "Accept-Encoding: gzip, deflate" in lines
    assert "Content-Type: application/json" in lines
    assert f"User-Agent: mailkit-harvester/{__version__}" in lines


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("endpoint", "below"), [("", ""), ("/", ""), ("/json.fcgi", ""), ("/rpc.fcgi/", ""), ("/mail//", "/mail")]
)
async def test_the_path_is_appended_once(endpoint: str, below: str, path: str) -> None:
    requests: list[bytes] = []
    reply = sends(response("200 OK", "Content-Length: 2"), b"[]")
    async with raw_server(reply, requests) as url, Transport(settings(url + endpoint)) as transport:
        await transport.post(path, PAYLOAD, "text/xml")
    assert requests[0].startswith(f"POST {below}{path} HTTP/1.1".encode())
    assert b"Content-Type: text/xml\r\n" in requests[0]


async def test_cookies_are_not_kept() -> None:
    requests: list[bytes] = []
    reply = sends(response("200 OK", "Set-Cookie: a=b; Path=/", "Content-Length: 2", "Connection: close"), b"[]")
    async with raw_server(reply, requests) as url, Transport(settings(url)) as transport:
        for _ in range(2):
            await transport.post("/json.fcgi", PAYLOAD)
    assert len(requests) == 2
    assert b"Cookie" not in requests[1]


async def test_redirects_are_not_followed() -> None:
    requests: list[bytes] = []
    answer = await ask(sends(response("302 Found", "Location: /elsewhere", "Content-Length: 0")), requests)
    assert answer.status == 302
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("reply", "changed", "error"),
    [
        (sends(response("200 OK", "Content-Length: 100"), b"[{"), {}, Cut),
        (sends(response("200 OK", "Transfer-Encoding: chunked"), b"5\r\n[{\r\n"), {}, Cut),
        (sends(response("200 OK", "Transfer-Encoding: chunked"), b"secret\r\n"), {}, NotData),
        (sends(response("200 OK", "Content-Length: 100"), b"[{", reset=True), {}, Cut),
        (sends(), {}, Cut),
        (sends(reset=True), {}, Cut),
        (sends(b"HTTP/1.1 200 OK\r\nContent"), {}, Cut),
        (sends(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), {}, NotData),
        (sends(hang=True), {"timeout_s": 0.2}, TimedOut),
        (sends(response("200 OK", "Content-Length: 100"), b"[{", hang=True), {"silence_s": 0.2}, TimedOut),
        (sends(response("200 OK", "Content-Length: 100"), b"[{", hang=True), {"timeout_s": 0.2}, TimedOut),
        (sends(response("200 OK", "Content-Length: 1000")), {"body_cap_bytes": 999}, OverCap),
        (sends(response("200 OK"), b"x" * 1000, hang=True), {"body_cap_bytes": 999}, OverCap),
    ],
)
async def test_failures_below_are_our_errors(
    reply: Reply, changed: dict[str, Any], error: type[HarvesterError]
) -> None:
    with pytest.raises(error) as caught:
        await ask(reply, **changed)
    assert type(caught.value) is error
    told = f"{caught.value!r} {caught.value.__cause__!r}"
    assert MD5 not in told
    assert "secret" not in told


async def test_silence_before_the_first_byte_is_not_silence_in_mid_body() -> None:
    with pytest.raises(TimedOut, match=r"within 0\.3 s"):
        await ask(sends(hang=True), timeout_s=0.3, silence_s=0.01)


async def test_a_refused_port_is_not_connected() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with Transport(settings(f"http://127.0.0.1:{taken.getsockname()[1]}")) as transport:
            with pytest.raises(NotConnected, match=r"127\.0\.0\.1 could not be connected to: .*port"):
                await transport.post("/json.fcgi", PAYLOAD)


async def test_a_name_that_does_not_exist_is_not_connected() -> None:
    async with Transport(settings("http://no-such-host.invalid", connect_s=5.0)) as transport:
        with pytest.raises(NotConnected, match=r"no-such-host\.invalid could not be connected to"):
            await transport.post("/json.fcgi", PAYLOAD)


async def test_a_server_without_tls_is_not_connected() -> None:
    async with raw_server(sends(b"hello\r\n")) as url:
        tls = settings(url.replace("http:", "https:"), connect_s=0.5)
        async with Transport(tls) as transport:
            with pytest.raises(NotConnected):
                await transport.post("/json.fcgi", PAYLOAD)


def test_an_endpoint_without_a_host_is_refused() -> None:
    with pytest.raises(UsageError, match="--endpoint"):
        Transport(settings("http:///nowhere"))


async def test_it_must_be_open_to_be_used() -> None:
    with pytest.raises(RuntimeError, match="not open"):
        await Transport(settings("http://127.0.0.1")).post("/json.fcgi", PAYLOAD)
