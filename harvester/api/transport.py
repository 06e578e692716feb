"""The transport: one request over HTTP, one answer, still packed. The one place that knows aiohttp.

Invariant: whatever goes wrong below is raised as one of our errors, and no error shows what was asked (it holds the
MD5 code). Refuses to follow redirects, to keep cookies, and to unpack: that is for worker threads.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import aiohttp
import anyio
from yarl import URL

from harvester import __version__
from harvester.api import tls
from harvester.errors import Cut, NotConnected, NotData, NotTrusted, OverCap, TimedOut, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

    from harvester.budget import Hold
    from harvester.config import Settings

PATHS = ("/json.fcgi", "/rpc.fcgi")
"""Where the API listens, below the endpoint (the vendor's pages)."""

READ_BYTES = 2**18
"""How much of a body aiohttp buffers before it is taken, in bytes."""

_CHUNK_BYTES = 2**16
"""Chunks that come smaller are put together: a million of one byte each would take much more than a megabyte."""


class ConnectedLate(Exception):
    """The connection is there, but took so long that the attempt may not leave any more; it waits for the next one."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back over HTTP, as it came.

    Attributes:
        status: the HTTP status.
        content_type: the header, or an empty string.
        content_encoding: likewise.
        retry_after: the header as sent, or None.
        chunks: the body in pieces, still packed.
        wire_bytes: the size of the packed body, in bytes.
    """

    status: int
    content_type: str
    content_encoding: str
    retry_after: str | None
    chunks: tuple[bytes, ...]
    wire_bytes: int


class Transport:
    """One session with one server: ``async with Transport(settings) as transport``. Raises UsageError if made wrong."""

    def __init__(self, settings: Settings) -> None:
        tuning = settings.tuning
        try:
            self._base = URL(settings.endpoint)
        except ValueError:
            self._base = URL()
        if not self._base.host:
            raise UsageError(f"--endpoint is a URL such as https://api.mailkit.eu, not {settings.endpoint!r}")
        self._timeout_s = settings.timeout_s
        self._connect_s = tuning.connect_s
        self._silence_s = tuning.silence_s
        self._cap = settings.answer_cap_bytes
        named = settings.ca_file if self._base.scheme == "https" else None
        self._tls = True if named is None else tls.context(named)  # True: the system's, which aiohttp has loaded
        self._concurrency = settings.concurrency
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=_Connector(limit=self._concurrency, ssl=self._tls),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=READ_BYTES,
            headers={
                "Accept-Encoding": "gzip, deflate",
                "User-Agent": f"mailkit-harvester/{__version__}",
            },
            timeout=aiohttp.ClientTimeout(
                total=self._timeout_s, connect=self._connect_s, sock_connect=self._connect_s, sock_read=None
            ),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def post(
        self,
        path: str,
        payload: bytes,
        content_type: str = "application/json",
        hold: Hold | None = None,
        leave: Callable[[], bool] | None = None,
    ) -> Answer:
        """Ask once.

        Args:
            path: one of ``PATHS``; it is appended to the endpoint, unless that ends in it, or takes the other's place.
            payload: the request's body.
            content_type: what the payload is.
            hold: grows with the answer, chunk by chunk. While it has to wait, nothing is read, so the server waits.
            leave: called once there is a connection, right before the request leaves; whether it may.

        Raises:
            ConnectedLate: it may not; nothing was asked.
            NotConnected: no connection was made, so nothing was asked.
            NotTrusted: likewise, because the server's certificate is refused.
            TimedOut: no answer within ``timeout_s``, or silence in the middle of a body for ``silence_s``.
            Cut: the connection ended before the answer was whole.
            OverCap: the packed body is larger than the cap.
            NotData: what came back is not HTTP.
        """
        if self._session is None:
            raise RuntimeError("the transport is not open; use it as an async context manager")
        host = self._base.host
        headers = {"Content-Type": content_type}
        _LEAVE.set(leave)
        try:
            async with self._session.post(
                self._url(path), data=payload, headers=headers, allow_redirects=False
            ) as response:
                return await self._received(response, hold)
        except aiohttp.ConnectionTimeoutError:
            raise NotConnected(f"{host} could not be connected to within {self._connect_s:g} s") from None
        except TimeoutError:
            raise TimedOut(f"{host} did not answer in full within {self._timeout_s:g} s") from None
        except aiohttp.ClientConnectorCertificateError as error:
            why = tls.why_refused(error.certificate_error)
            raise NotTrusted(f"{host} could not be connected to: {why}") from None
        except aiohttp.ClientConnectorError as error:
            raise NotConnected(f"{host} could not be connected to: {_cause(error)}") from None
        except aiohttp.InvalidURL:
            raise UsageError(f"--endpoint is not a URL that can be asked: {str(self._base)!r}") from None
        except aiohttp.ClientResponseError:  # its text may quote the body
            raise NotData(f"{host} sent what is not HTTP") from None
        except (aiohttp.ClientError, OSError, EOFError) as error:
            raise Cut(f"the connection to {host} ended before the answer was whole ({type(error).__name__})") from None

    def _url(self, path: str) -> URL:
        base = self._base.path.rstrip("/")
        for known in PATHS:
            base = base.removesuffix(known)
        return self._base.with_path(base + path)

    async def _received(self, response: aiohttp.ClientResponse, hold: Hold | None) -> Answer:
        """Take the body; a long time before its first byte is normal, and bounded by ``timeout_s`` alone."""
        chunks: list[bytes] = []
        small = bytearray()
        size = 0
        if (response.content_length or 0) > self._cap:
            raise self._over()
        while chunk := await self._next(response):
            size += len(chunk)
            if size > self._cap:
                raise self._over()
            if hold is not None:
                await hold.grow(len(chunk))
            small += chunk
            if len(small) >= _CHUNK_BYTES:
                chunks.append(bytes(small))
                small.clear()
        if small:
            chunks.append(bytes(small))
        headers = response.headers
        return Answer(
            status=response.status,
            content_type=headers.get("Content-Type", ""),
            content_encoding=headers.get("Content-Encoding", ""),
            retry_after=headers.get("Retry-After"),
            chunks=tuple(chunks),
            wire_bytes=size,
        )

    async def _next(self, response: aiohttp.ClientResponse) -> bytes:
        if response.content.is_eof():  # all of it is here: there is nothing to wait for
            return await response.content.readany()
        with anyio.move_on_after(self._silence_s) as scope:
            return await response.content.readany()
        if scope.cancelled_caught:
            raise TimedOut(f"{self._base.host} fell silent in mid-answer for {self._silence_s:g} s")
        return b""

    def _over(self) -> OverCap:
        return OverCap(f"the packed answer is larger than {self._cap} bytes")


_LEAVE: ContextVar[Callable[[], bool] | None] = ContextVar("_LEAVE", default=None)


class _Connector(aiohttp.TCPConnector):
    """Making a connection takes time, and then the request's turn may be over: the connection is kept for the next."""

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout) -> Connection:
        connection = await super().connect(req, traces, timeout)
        leave = _LEAVE.get()
        if leave is not None and not leave():
            connection.release()
            raise ConnectedLate
        return connection


def _cause(error: aiohttp.ClientConnectorError) -> str:
    """One short line that names why a connection failed."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"its name can't be resolved ({error.os_error.strerror or error.os_error})"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return f"TLS failed ({error.os_error})"
    return f"{error.os_error.strerror or error.os_error} (port {error.port})"


__all__ = ["PATHS", "READ_BYTES", "Answer", "ConnectedLate", "Transport"]
