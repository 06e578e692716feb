"""The simulated account over HTTP: one aiohttp application.

Bodies are built on worker threads; deciding which records they hold, and what goes wrong, happens on the loop, in the
order in which requests arrive. Nothing is logged: requests hold credentials.
"""

from __future__ import annotations

import json
import math
import socket
import struct
import time
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from aiohttp import hdrs, web

from harvester.datasets import CATALOGUE, MESSAGES
from harvester.simulator import body
from harvester.simulator.behaviour import Behaviour, Chance, Fault, RateLimit
from harvester.simulator.body import Body
from harvester.simulator.hashing import salt
from harvester.simulator.query import FUNCTIONS, NotACallError, RefusedError, parse_call, parse_query
from harvester.simulator.records import shortened
from harvester.simulator.selection import select
from harvester.simulator.stats import Stats
from harvester.simulator.truth import summary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harvester.simulator.account import Account, Run
    from harvester.simulator.query import Asked
    from harvester.simulator.selection import Selection

_THREADS = 2
_HTML = b"<!DOCTYPE html>\n<html><head><title>Mailkit</title></head><body><h1>Maintenance</h1></body></html>\n"
_STATUSES = {Fault.THROTTLED: 429, Fault.FAILED: 500, Fault.BAD_GATEWAY: 502, Fault.UNAVAILABLE: 503}


class TurnedAwayError(Exception):
    """A call is not let in.

    Attributes:
        status: the HTTP status that says so.
        retry_after_s: when to come again, in seconds, if that is said.
    """

    def __init__(self, status: int, retry_after_s: float | None) -> None:
        super().__init__(status)
        self.status = status
        self.retry_after_s = retry_after_s


class Server:
    """A simulated account that is being served.

    Attributes:
        account: what is served; ``erase`` and ``settled`` take effect at once.
        stats: what has been asked and answered.
        down: while True, every connection is closed without an answer.
        fail_sends: ``ID_send`` of sends that answer 500.
    """

    def __init__(self, account: Account, behaviour: Behaviour) -> None:
        self.account = account
        self.stats = Stats()
        self.down = False
        self.fail_sends = set(behaviour.fail_sends)
        self.behaviour = behaviour
        self._url = ""
        self._threads = anyio.CapacityLimiter(_THREADS)
        self._arrived = anyio.Event()
        self._stopping = anyio.Event()

    @property
    def url(self) -> str:
        """Where the server is, ``http://host:port``; the functions are at ``/json.fcgi`` below it."""
        return self._url

    @property
    def behaviour(self) -> Behaviour:
        """How the server behaves. Setting it starts chance and the rate's clock afresh."""
        return self._behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._chance = Chance(behaviour)
        self._rate = RateLimit(behaviour.rate, behaviour.burst, time.monotonic()) if behaviour.rate else None

    def listening(self, host: str, port: int) -> None:
        """Notes where the server is."""
        self._url = f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def stop(self) -> None:
        """Ends the requests that hang."""
        self._stopping.set()

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(client_max_size=2**20)
        app.add_routes(
            [
                web.post("/json.fcgi", self._call),
                web.get("/stats", self._get_stats),
                web.get("/truth", self._get_truth),
                web.post("/control", self._control),
            ]
        )
        return app

    async def _call(self, request: web.Request) -> web.StreamResponse:
        text = await request.read()
        self.stats.requests += 1
        self.stats.arrivals_s.append(time.monotonic())
        self.stats.entered()
        self._arrived.set()
        self._arrived = anyio.Event()
        try:
            if self.down:
                return _cut_off(request)
            return await self._query(request, self._admit(parse_call(text), request.remote))
        except NotACallError:
            return web.Response(status=400, text="Bad request\n")
        except TurnedAwayError as turned:
            return _status(turned.status, turned.retry_after_s)
        except RefusedError as refused:
            return self._response(Body(_error(str(refused)), gzipped=False))
        finally:
            self.stats.left()

    def _admit(self, call: Mapping[str, object], remote: str | None) -> Asked:
        """What a call asks for, if it is let in. Raises TurnedAwayError or RefusedError."""
        self.stats.functions[_function(call)] += 1
        if self._rate and (wait_s := self._rate.wait_s(time.monotonic())):
            self.stats.throttled += 1
            raise TurnedAwayError(429, wait_s)
        most = self.behaviour.most_in_flight
        if most is not None and self.stats.in_flight > most:
            self.stats.busy += 1
            raise TurnedAwayError(self.behaviour.busy_status, self.behaviour.retry_after_s)
        if self.behaviour.disallowed:
            raise RefusedError(f"Disallowed IP {remote}")
        asked = parse_query(self.account, call)
        if self.behaviour.no_reports and asked.days is not None:
            raise RefusedError("Unauthorized")
        if asked.dataset is MESSAGES:
            self.stats.starts += asked.start is not None
            if asked.id_send is not None:
                self.stats.sends[asked.id_send] += 1
        return asked

    async def _query(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        """The answer to a query, or what it meets instead. Chance is drawn before anything is waited for."""
        latency_s, fault, share = self._chance.latency_s(), self._chance.fault(), self._chance.share()
        if latency_s:
            await anyio.sleep(latency_s)
        if asked.id_send in self.fail_sends:
            fault = Fault.FAILED
        if fault is None:
            return await self._answer(request, asked)
        self.stats.faults[fault.value] += 1
        instead = self._instead(fault)
        return await self._spoilt(request, asked, fault, share) if instead is None else instead

    async def _answer(self, request: web.Request, asked: Asked, share: float | None = None) -> web.StreamResponse:
        """The answer to a query, or its first ``share``."""
        selection = self._select(asked)
        pieces = body.json_list(self.account, selection.blocks(share))
        response = self._response(await self._encoded(request, pieces))
        if share is None:
            self.stats.messages += sum(run.count for run in selection.runs)
            self._vanish(selection.runs)
        return response

    def _instead(self, fault: Fault) -> web.Response | None:
        """What is sent instead of an answer; None if there is an answer, but something happens to it."""
        if fault in _STATUSES:
            return _status(_STATUSES[fault], self.behaviour.retry_after_s)
        if fault is Fault.HTML:
            return web.Response(body=_HTML, content_type="text/html")
        texts = {Fault.EMPTY: b"{}", Fault.ERROR: _error("Error")}
        return self._response(Body(texts[fault], gzipped=False)) if fault in texts else None

    async def _spoilt(self, request: web.Request, asked: Asked, fault: Fault, share: float) -> web.StreamResponse:
        """An answer of which only a share arrives, or nothing at all."""
        if fault is Fault.HANG:
            await self._stopping.wait()
            return _cut_off(request)
        if fault is Fault.SHORT:
            return await self._answer(request, asked, share)
        pieces = body.json_list(self.account, self._select(asked).blocks())
        if fault is Fault.RESET:
            return await self._reset(request, await self._encoded(request, pieces), share)
        text = await anyio.to_thread.run_sync(body.cut, pieces, share, limiter=self._threads)
        return self._response(await self._encoded(request, [text]))

    def _select(self, asked: Asked) -> Selection:
        lacking = asked.days is not None and self._chance.lacking()
        return select(self.account, asked, self.behaviour, lacking=lacking)

    def _vanish(self, runs: tuple[Run, ...]) -> None:
        """Erases the record that the next query would name as its cursor, if chance wants it so."""
        if not runs or not self.behaviour.vanish:
            return
        ordinal, index = runs[-1].ordinal, runs[-1].first + runs[-1].count - 1
        drawn = salt(self.behaviour.fault_seed, self.account.key(ordinal, index)) / 2**64
        if drawn < self.behaviour.vanish and self.account.erase_index(ordinal, index):
            self.stats.vanished += 1

    async def _encoded(self, request: web.Request, pieces: Iterable[bytes | memoryview]) -> Body:
        gzip = self.behaviour.gzip and "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "").lower()
        return await anyio.to_thread.run_sync(partial(body.encode, pieces, gzip=gzip), limiter=self._threads)

    def _response(self, answer: Body) -> web.Response:
        self.stats.body_bytes += len(answer.data)
        headers = {hdrs.CONTENT_ENCODING: "gzip"} if answer.gzipped else None
        return web.Response(body=answer.data, headers=headers, content_type="application/json")

    async def _reset(self, request: web.Request, answer: Body, share: float) -> web.StreamResponse:
        """Promises the whole body, sends some of it, and resets the connection."""
        response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: "application/json"})
        if answer.gzipped:
            response.headers[hdrs.CONTENT_ENCODING] = "gzip"
        response.content_length = len(answer.data)
        await response.prepare(request)
        await response.write(answer.data[: shortened(len(answer.data), share)])
        _cut_off(request)
        return response

    async def _get_stats(self, request: web.Request) -> web.Response:
        """The counts and this process's processor time; with ``?requests=N`` once there have been so many calls."""
        awaited = request.query.get("requests", "0")
        while awaited.isdecimal() and self.stats.requests < int(awaited):
            await self._arrived.wait()
        return web.json_response(self.stats.as_json() | {"processor_s": time.process_time()})

    async def _get_truth(self, request: web.Request) -> web.Response:
        """Rows and digest of a send's slices, as a correct lake holds them now."""
        text = request.query.get("id_send", "")
        if not text.isdecimal() or self.account.ordinal(int(text)) is None:
            return web.Response(status=404, text="No such send\n")
        erased = request.query.get("erased", "") == "1"
        summed = {}
        for name, dataset in CATALOGUE.items():
            sum_up = partial(summary, self.account, dataset, int(text), erased=erased)
            found = await anyio.to_thread.run_sync(sum_up, limiter=self._threads)
            summed[name] = {"rows": found.rows, "digest": found.digest}
        return web.json_response({"id_send": int(text), **summed})

    async def _control(self, request: web.Request) -> web.Response:
        """Changes the account or the server: ``settled``, ``down``, ``fail_sends``, ``erase``, ``reset_stats``."""
        try:
            order = parse_call(await request.read())
        except NotACallError:
            return web.Response(status=400, text="Bad request\n")
        if "settled" in order:
            self.account.settled = bool(order["settled"])
        if "down" in order:
            self.down = bool(order["down"])
        if isinstance(sends := order.get("fail_sends"), list):
            self.fail_sends = {int(id_send) for id_send in sends}
        erased = 0
        if isinstance(records := order.get("erase"), list):
            erased = sum(self.account.erase(int(record["id_send"]), int(record["key"])) for record in records)
        if order.get("reset_stats"):
            self.stats = Stats(in_flight=self.stats.in_flight)
        return web.json_response({"erased": erased})


def _function(call: Mapping[str, object]) -> str:
    function = str(call.get("function"))
    return function if function in FUNCTIONS else ""


def _status(status: int, retry_after_s: float | None) -> web.Response:
    headers = None if retry_after_s is None else {hdrs.RETRY_AFTER: str(math.ceil(retry_after_s))}
    return web.Response(status=status, headers=headers, text=f"{status}\n")


def _error(text: str) -> bytes:
    return json.dumps({"error_status": 1, "error": text}).encode()


def _cut_off(request: web.Request) -> web.Response:
    """Closes the connection with a reset, at once. The response is for the framework; it reaches nobody."""
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response(status=500)


__all__ = ["Server", "TurnedAwayError"]
