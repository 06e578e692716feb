"""Sends answers: whole, or with what goes wrong on the way. Bodies are built on worker threads."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from aiohttp import hdrs, web

from harvester.config import Wire
from harvester.simulator import body
from harvester.simulator.envelopes import ENVELOPES
from harvester.simulator.faults import Fault
from harvester.simulator.records import shortened

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harvester.simulator.body import Body
    from harvester.simulator.faults import Instead
    from harvester.simulator.selection import Selection
    from harvester.simulator.stats import Stats

_THREADS = 2
_LACKING_BYTES = 100
"""How much more than it sends a ``Content-Length`` promises that promises too much."""
_OTHER = {Wire.JSON: Wire.XML, Wire.XML: Wire.JSON}
_STATUSES = {Fault.PARTIAL: 206, Fault.NOT_FOUND_DATA: 404}


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request that is being answered.

    Attributes:
        request: the request.
        wire: the wire that it came over.
        gzip: whether the answer may be compressed.
        stats: where what is sent is counted.
    """

    request: web.Request
    wire: Wire
    gzip: bool
    stats: Stats


class Replies:
    """Builds and sends answers."""

    def __init__(self) -> None:
        self._threads = anyio.CapacityLimiter(_THREADS)
        self._stopping = anyio.Event()

    def stop(self) -> None:
        """Ends the requests that hang."""
        self._stopping.set()

    async def built(self, exchange: Exchange, selection: Selection, fault: Fault | None, share: float) -> Body:
        """The body of an answer, with what is wrong with it; of what is cut short, ``share`` is left."""
        wire = exchange.wire
        if fault in {Fault.SHORT, Fault.PARTIAL, Fault.BARE}:
            left = 0.0 if fault is Fault.BARE else share
            return await self._body(exchange, selection, wire, share=left, bare=fault is Fault.BARE)
        if fault is Fault.TRUNCATE:
            pieces = body.record_list(selection.account, selection.blocks(), wire)
            text = await anyio.to_thread.run_sync(body.cut, pieces, share, limiter=self._threads)
            return await self._encoded(exchange, [text])
        return await self._body(exchange, selection, _OTHER[wire] if fault is Fault.OTHER_WIRE else wire)

    async def sent(self, exchange: Exchange, answer: Body, fault: Fault | None, share: float) -> web.StreamResponse:
        """Sends an answer, with what happens to it on the way."""
        if fault is not None and fault in {Fault.RESET, Fault.SILENCE, Fault.LENGTH}:
            return await self._partly(exchange, answer, fault, share)
        wire = _OTHER[exchange.wire] if fault is Fault.OTHER_WIRE else exchange.wire
        content_type = "text/html" if fault is Fault.TYPE else ENVELOPES[wire].content_type
        exchange.stats.body_bytes += len(answer.data)
        return web.Response(
            body=answer.data,
            status=200 if fault is None else _STATUSES.get(fault, 200),
            headers={hdrs.CONTENT_ENCODING: "gzip"} if answer.gzipped else None,
            content_type=content_type,
        )

    async def silence(self, exchange: Exchange) -> web.Response:
        """Nothing is sent, and the connection stays open until the server stops."""
        await self._stopping.wait()
        return cut_off(exchange.request)

    async def _body(
        self,
        exchange: Exchange,
        selection: Selection,
        wire: Wire,
        *,
        share: float | None = None,
        bare: bool = False,
    ) -> Body:
        blocks = selection.blocks(share)
        return await self._encoded(exchange, body.record_list(selection.account, blocks, wire, bare=bare))

    async def _encoded(self, exchange: Exchange, pieces: Iterable[bytes | memoryview]) -> Body:
        return await anyio.to_thread.run_sync(partial(body.encode, pieces, gzip=exchange.gzip), limiter=self._threads)

    async def _partly(self, exchange: Exchange, answer: Body, fault: Fault, share: float) -> web.StreamResponse:
        """Promises the whole body or more, sends some or all of it; then the connection breaks, or nothing happens."""
        response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: ENVELOPES[exchange.wire].content_type})
        if answer.gzipped:
            response.headers[hdrs.CONTENT_ENCODING] = "gzip"
        whole = fault is Fault.LENGTH
        response.content_length = len(answer.data) + (_LACKING_BYTES if whole else 0)
        response.force_close()
        await response.prepare(exchange.request)
        await response.write(answer.data if whole else answer.data[: shortened(len(answer.data), share)])
        if fault is Fault.SILENCE:
            await self.silence(exchange)
        elif fault is Fault.RESET:
            cut_off(exchange.request)
        return response


def plain(exchange: Exchange, answer: bytes) -> web.Response:
    """A short answer that is written already."""
    exchange.stats.body_bytes += len(answer)
    return web.Response(body=answer, content_type=ENVELOPES[exchange.wire].content_type)


def sent_instead(exchange: Exchange, answer: Instead) -> web.Response:
    """What is sent instead of an answer."""
    exchange.stats.body_bytes += len(answer.body)
    return web.Response(
        body=answer.body, status=answer.status, headers=answer.headers, content_type=answer.content_type
    )


def cut_off(request: web.Request) -> web.Response:
    """Closes the connection with a reset, at once. The response is for the framework; it reaches nobody."""
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response(status=500)


__all__ = ["Exchange", "Replies", "cut_off", "plain", "sent_instead"]
