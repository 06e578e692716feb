"""A simulated account in a process of its own, which makes each page once: from then on it only sends it.

Made anew each time, pages would take processor time from what is measured, on a machine of few cores. What is kept is
the very answer, by what was asked. It ends when its standard input closes, so that it never outlives who started it.

    python -m benchmarks.serving --sends 8x75000 [--shape awkward|mixed|plain] [--keep]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from typing import TYPE_CHECKING

import anyio
import msgspec
from aiohttp import web

from benchmarks.measuring import SEED
from harvester.simulator import AccountSpec, Behaviour, Numbers, Shape
from harvester.simulator.account import Account
from harvester.simulator.application import Server
from harvester.simulator.options import parse_sends

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

SHAPES = {"plain": Shape(), "awkward": Shape(), "mixed": Shape(numbers=Numbers.MIXED, unknown=True)}
"""How accounts look: as they mostly do; with text that breaks careless readers; with numbers that are now text, now
bare, beside fields that nobody knows, so that only the exact decoder can tell what was sent."""
_KEPT_BYTES = 2**30


class Kept:
    """Answers that were given before, by what was asked: at most a gibibyte of them."""

    def __init__(self) -> None:
        self._answers: dict[object, tuple[bytes, dict[str, str]]] = {}
        self._bytes = 0

    @web.middleware
    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method != "POST" or request.path != "/json.fcgi":
            return await handler(request)
        call = msgspec.json.decode(await request.read())
        asked = (call.get("function"), request.headers.get("Accept-Encoding"), *sorted(call["parameters"].items()))
        if asked in self._answers:
            body, headers = self._answers[asked]
            return web.Response(body=body, headers=headers)
        response = await handler(request)
        if isinstance(response, web.Response) and isinstance(response.body, bytes) and self._bytes < _KEPT_BYTES:
            names = ("Content-Type", "Content-Encoding")
            headers = {name: response.headers[name] for name in names if name in response.headers}
            self._answers[asked] = response.body, headers
            self._bytes += len(response.body)
        return response


async def _serve(spec: AccountSpec, *, keep: bool) -> None:
    server = Server(Account(spec), Behaviour())
    application = server.application()
    if keep:
        application.middlewares.append(Kept().answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.listening(*runner.addresses[0][:2])
    told = {"url": server.url, "client_id": spec.client_id, "client_md5": spec.client_md5}
    print(json.dumps(told), flush=True)
    await anyio.sleep_forever()


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sends", required=True)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="plain")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    shape, awkward = SHAPES[options.shape], options.shape == "awkward"
    spec = AccountSpec(seed=SEED, sends=parse_sends(options.sends), gap=3, awkward=awkward, shape=shape)
    anyio.run(lambda: _serve(spec, keep=options.keep))


if __name__ == "__main__":
    main()
