"""A server that means harm: raw sockets on loopback, so that it can send what no library would.

It reads one call a connection, hands it to a function that writes whatever it likes, and then hangs up.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import chain, repeat

from harvester.config import Wire


@dataclass(frozen=True, slots=True)
class Call:
    """What was asked, as it came."""

    head: bytes
    body: bytes

    @property
    def function(self) -> str:
        found = re.search(rb'"function":"([^"]*)"|<methodName>([^<]*)<', self.body)
        return (found[1] or found[2]).decode() if found else ""

    @property
    def id_send(self) -> int | None:
        """``ID_send`` of the call, over either wire; None if it names none."""
        if self.body.startswith(b"{"):
            said = json.loads(self.body)["parameters"].get("ID_send")
            return int(said) if said else None
        values = re.findall(rb"<value><(?:string|int|i8)>([^<]*)</", self.body)[2:]
        place = 0 if self.function.endswith("message.bounces") else 1
        return int(values[place]) if len(values) > place and values[place].isdigit() else None


Say = Callable[[bytes], Awaitable[None]]
"""Writes, and waits until it is on its way."""
Reply = Callable[[Call, Say], Awaitable[None]]


@asynccontextmanager
async def hostile(reply: Reply, calls: list[Call] | None = None) -> AsyncIterator[str]:
    """Serves until the block ends; its URL. ``calls`` gets what was asked."""
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: asyncio.Task[None] | None = asyncio.current_task()
        assert task is not None
        handlers.add(task)

        async def say(data: bytes) -> None:
            writer.write(data)
            await writer.drain()
            if writer.transport.is_closing():
                raise ConnectionError

        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: *(\d+)", head)
            call = Call(head, await reader.readexactly(int(length[1]) if length else 0))
            if calls is not None:
                calls.append(call)
            await reply(call, say)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            handlers.discard(task)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tuple(handlers):
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
        await server.wait_closed()


@asynccontextmanager
async def between(url: str, reply: Callable[[Call], Reply | None]) -> AsyncIterator[str]:
    """A server in front of an honest one: what ``reply`` has no answer to is passed on; its URL."""
    port = int(url.rpartition(":")[2])

    async def either(call: Call, say: Say) -> None:
        own = reply(call)
        if own is not None:
            await own(call, say)
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(call.head[:-2] + b"Connection: close\r\n\r\n" + call.body)
            while data := await reader.read(2**16):
                await say(data)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async with hostile(either) as own_url:
        yield own_url


# --- ways to send


def raw(*parts: bytes) -> Reply:
    """These bytes, and then the end."""
    return stream(lambda: parts)


def stream(parts: Callable[[], Iterable[bytes]], pause_s: float = 0.0) -> Reply:
    """Bytes for as long as they are taken, with a pause between them."""

    async def reply(_: Call, say: Say) -> None:
        for part in parts():
            await say(part)
            await asyncio.sleep(pause_s)

    return reply


def head(*headers: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "Connection: close", "", ""]).encode()


def body(content: bytes, *headers: str, status: str = "200 OK") -> Reply:
    """A well-behaved response with this body."""
    return raw(head(f"Content-Length: {len(content)}", *headers, status=status), content)


def packed(content: bytes) -> Reply:
    """The body as it is, said to be gzip."""
    return body(content, "Content-Encoding: gzip")


def endless(begin: bytes, part: bytes, pause_s: float = 0.0) -> Reply:
    """``begin``, and then ``part`` for ever."""
    return stream(lambda: chain([begin], repeat(part)), pause_s)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


# --- bodies


def zeros(size: int) -> bytes:
    """Packed zeros: a thousandth of what they unpack to."""
    return gzip.compress(bytes(size), compresslevel=1)


def xml(value: bytes) -> bytes:
    """A method response with this value."""
    return b"<methodResponse><params><param><value>" + value + b"</value></param></params></methodResponse>"


def xml_list(*values: bytes) -> bytes:
    inner = b"".join(b"<value>" + value + b"</value>" for value in values)
    return xml(b"<array><data>" + inner + b"</data></array>")


def xml_record(fields: dict[str, bytes]) -> bytes:
    """A struct whose values are given as XML."""
    members = (
        b"<member><name>%b</name><value>%b</value></member>" % (name.encode(), value) for name, value in fields.items()
    )
    return b"<struct>" + b"".join(members) + b"</struct>"


def record(wire: Wire, fields: dict[str, str]) -> bytes:
    """A list of one record; values are as they are written in JSON, or within a string in XML."""
    return records(wire, [fields])


def records(wire: Wire, many: Iterable[dict[str, str]]) -> bytes:
    if wire is Wire.XML:
        as_xml = [
            xml_record({k: b"<string>" + v.strip('"').encode() + b"</string>" for k, v in f.items()}) for f in many
        ]
        return xml_list(*as_xml)
    objects = ["{" + ",".join(f"{json.dumps(k)}:{v}" for k, v in f.items()) + "}" for f in many]
    return ("[" + ",".join(objects) + "]").encode()
