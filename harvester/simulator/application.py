"""The simulated account over HTTP: one aiohttp application.

Deciding which records an answer holds, and what goes wrong, happens on the loop, in the order in which requests arrive.
Nothing is logged: requests hold credentials.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

import anyio
from aiohttp import hdrs, web

from harvester.config import Wire
from harvester.datasets import MESSAGES
from harvester.simulator.behaviour import Behaviour, Chance, Fault, RateLimit
from harvester.simulator.controls import Controls
from harvester.simulator.envelopes import refused
from harvester.simulator.faults import SPOILING, instead, status_only
from harvester.simulator.hashing import salt
from harvester.simulator.query import FUNCTIONS, NotACallError, RefusedError, parse_call, parse_query
from harvester.simulator.replies import Exchange, Replies, cut_off, plain, sent_instead
from harvester.simulator.rpc import parse_rpc
from harvester.simulator.selection import select
from harvester.simulator.stats import Stats

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harvester.simulator.account import Account, Run
    from harvester.simulator.query import Asked

_PATHS = {Wire.JSON: "/json.fcgi", Wire.XML: "/rpc.fcgi"}
_PARSERS = {Wire.JSON: parse_call, Wire.XML: parse_rpc}


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
        account: what is served; ``erase``, ``grow`` and ``settled`` take effect at once.
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
        self._replies = Replies()
        self._arrived = anyio.Event()

    @property
    def url(self) -> str:
        """Where the server is, ``http://host:port``; below it are ``/json.fcgi`` and ``/rpc.fcgi``."""
        return self._url

    @property
    def behaviour(self) -> Behaviour:
        """How the server behaves. Setting it starts its script, chance and the rate's clock afresh."""
        return self._behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._chance = Chance(behaviour)
        self._rate = RateLimit(behaviour.rate, behaviour.burst, time.monotonic()) if behaviour.rate else None
        self._workers = anyio.Semaphore(behaviour.workers) if behaviour.workers else None

    def listening(self, host: str, port: int) -> None:
        """Notes where the server is."""
        self._url = f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def stop(self) -> None:
        """Ends the requests that hang."""
        self._replies.stop()

    async def arrival(self) -> None:
        """Returns after the next call of the API has arrived."""
        await self._arrived.wait()

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(client_max_size=2**20)
        app.add_routes([web.post(path, partial(self._call, wire)) for wire, path in _PATHS.items()])
        app.add_routes(Controls(self).routes())
        return app

    async def _call(self, wire: Wire, request: web.Request) -> web.StreamResponse:
        text = await request.read()
        self.stats.requests += 1
        self.stats.arrivals_s.append(time.monotonic())
        self.stats.entered()
        self._arrived.set()
        self._arrived = anyio.Event()
        accepted = "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "").lower()
        exchange = Exchange(request, wire, self.behaviour.gzip and accepted, self.stats)
        try:
            if self.down:
                return cut_off(request)
            return await self._query(exchange, self._admit(_PARSERS[wire](text), request.remote))
        except NotACallError:
            return web.Response(status=400, text="Bad request\n")
        except TurnedAwayError as turned:
            return sent_instead(exchange, status_only(turned.status, turned.retry_after_s))
        except RefusedError as words:
            return plain(exchange, refused(wire, str(words)))
        except ConnectionResetError:  # whoever asked is gone, in the middle of an answer
            return cut_off(request)
        finally:
            self.stats.left()

    def _admit(self, call: Mapping[str, object], remote: str | None) -> Asked:
        """What a call asks for, if it is let in. Raises TurnedAwayError or RefusedError."""
        function = str(call.get("function"))
        self.stats.functions[function if function in FUNCTIONS else ""] += 1
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

    async def _query(self, exchange: Exchange, asked: Asked) -> web.StreamResponse:
        """The answer to a query, or what it meets instead. Chance is drawn before anything is waited for.

        Answers are built while they are waited for: latency is the time until one begins, not before it is built.
        """
        latency_s, fault, share = self._chance.latency_s(), self._chance.fault(), self._chance.share()
        if asked.id_send in self.fail_sends:
            fault = Fault.FAILED
        if fault is not None:
            self.stats.faults[fault.value] += 1
        selection = answer = None
        async with self._workers or nullcontext():
            begins_at = anyio.current_time() + latency_s
            if fault is None or fault in SPOILING:
                lacking = asked.days is not None and self._chance.lacking()
                selection = select(self.account, asked, self.behaviour, lacking=lacking)
                answer = await self._replies.built(exchange, selection, fault, share)
            await anyio.sleep_until(begins_at)
        if fault is Fault.HANG:
            return await self._replies.silence(exchange)
        if answer is None or selection is None:
            assert fault is not None
            return sent_instead(
                exchange, instead(fault, exchange.wire, exchange.request.remote, self.behaviour.retry_after_s)
            )
        response = await self._replies.sent(exchange, answer, fault, share)
        if fault is None:
            self._served(asked, selection.runs)
        return response

    def _served(self, asked: Asked, runs: tuple[Run, ...]) -> None:
        """Counts what is served, and has what chance wants erased vanish."""
        served = sum(run.count for run in runs)
        self.stats.messages += served
        if asked.dataset is MESSAGES and asked.id_send is not None and served >= asked.limit:
            self.stats.served_full(asked.id_send, asked.start)
        self._vanish(runs)

    def _vanish(self, runs: tuple[Run, ...]) -> None:
        """Erases the record that the next query would name as its cursor, if chance wants it so."""
        if not runs or not self.behaviour.vanish:
            return
        ordinal, index = runs[-1].ordinal, runs[-1].first + runs[-1].count - 1
        drawn = salt(self.behaviour.fault_seed, self.account.key(ordinal, index)) / 2**64
        if drawn < self.behaviour.vanish and self.account.erase_index(ordinal, index):
            self.stats.vanished += 1


__all__ = ["Server", "TurnedAwayError"]
