"""What the simulator tells of itself and how it is told to change, over HTTP; not part of the API that it simulates."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio
import anyio.to_thread
from aiohttp import web

from harvester.datasets import CATALOGUE
from harvester.errors import UsageError
from harvester.simulator.query import NotACallError, parse_call
from harvester.simulator.stats import Stats
from harvester.simulator.truth import summary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harvester.simulator.account import Account


class Controlled(Protocol):
    """A server that can be told."""

    account: Account
    stats: Stats
    down: bool
    fail_sends: set[int]

    async def arrival(self) -> None:
        """Returns after the next call of the API has arrived."""
        ...


class Controls:
    """The routes beside the API's."""

    def __init__(self, server: Controlled) -> None:
        self._server = server
        self._threads = anyio.CapacityLimiter(1)

    def routes(self) -> list[web.RouteDef]:
        """``GET /stats``, ``GET /truth``, ``POST /control``."""
        return [
            web.get("/stats", self._get_stats),
            web.get("/truth", self._get_truth),
            web.post("/control", self._control),
        ]

    async def _get_stats(self, request: web.Request) -> web.Response:
        """The counts and this process's processor time; with ``?requests=N`` once there have been so many calls."""
        awaited = request.query.get("requests", "0")
        while awaited.isdecimal() and self._server.stats.requests < int(awaited):
            await self._server.arrival()
        return web.json_response(self._server.stats.as_json() | {"processor_s": time.process_time()})

    async def _get_truth(self, request: web.Request) -> web.Response:
        """Rows and digest of a send's slices, as a correct lake holds them now."""
        account = self._server.account
        text = request.query.get("id_send", "")
        if not text.isdecimal() or account.ordinal(int(text)) is None:
            return web.Response(status=404, text="No such send\n")
        erased = request.query.get("erased", "") == "1"
        summed = {}
        for name, dataset in CATALOGUE.items():
            sum_up = partial(summary, account, dataset, int(text), erased=erased)
            found = await anyio.to_thread.run_sync(sum_up, limiter=self._threads)
            summed[name] = {"rows": found.rows, "digest": found.digest}
        return web.json_response({"id_send": int(text), **summed})

    async def _control(self, request: web.Request) -> web.Response:
        """Changes what is served: ``settled``, ``down``, ``fail_sends``, ``erase``, ``grow``, ``reset_stats``.

        ``grow`` is an object, ``ID_send`` → number of further messages; the sends after one that can't grow are left.
        """
        try:
            order = parse_call(await request.read())
            return web.json_response({"erased": self._told(order)})
        except NotACallError:
            return web.Response(status=400, text="Bad request\n")
        except UsageError as error:
            return web.Response(status=400, text=f"{error}\n")

    def _told(self, order: Mapping[str, object]) -> int:
        """Does as it is told; returns how many records it erased. Raises UsageError."""
        server = self._server
        if "settled" in order:
            server.account.settled = bool(order["settled"])
        if "down" in order:
            server.down = bool(order["down"])
        if isinstance(sends := order.get("fail_sends"), list):
            server.fail_sends = {int(id_send) for id_send in sends}
        if isinstance(more := order.get("grow"), dict):
            for id_send, rows in more.items():
                server.account.grow(int(id_send), int(rows))
        if order.get("reset_stats"):
            server.stats = Stats(in_flight=server.stats.in_flight)
        if isinstance(records := order.get("erase"), list):
            return sum(server.account.erase(int(record["id_send"]), int(record["key"])) for record in records)
        return 0


__all__ = ["Controlled", "Controls"]
