"""Starts and stops a simulated account: as a context beside those who ask it, or until cancelled."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from aiohttp import web

from harvester.config import Wire
from harvester.errors import UsageError
from harvester.simulator import body, records
from harvester.simulator.account import Account
from harvester.simulator.application import Server
from harvester.simulator.behaviour import Behaviour

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from harvester.simulator.spec import AccountSpec

_SHUTDOWN_S = 0.1
"""How long requests under way may take to finish when the server stops."""


@asynccontextmanager
async def serve(
    account: AccountSpec | Account, behaviour: Behaviour | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Server]:
    """Serves an account while the context lasts.

    Args:
        account: a spec, for an account in its first state, or an account as another server left it.
        behaviour: how the server behaves; None for a quick and friendly one.
        host: the address to listen on.
        port: the port to listen on; 0 for any that is free.

    Raises:
        UsageError: the address can't be listened on.
    """
    server = Server(account if isinstance(account, Account) else Account(account), behaviour or Behaviour())
    runner = web.AppRunner(
        server.application(), access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_S
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port, reuse_address=True).start()
        except OSError as error:
            raise UsageError(f"can't listen on {host}:{port}: {error.strerror or error}") from error
        server.listening(*runner.addresses[0][:2])
        yield server
    finally:
        server.stop()
        await runner.cleanup()


async def run_simulator(
    account: AccountSpec | Account,
    behaviour: Behaviour,
    host: str,
    port: int,
    ready: Callable[[Server], None] = lambda _: None,
) -> None:
    """Serves until cancelled; calls ``ready`` once it listens. Raises UsageError if it can't listen there.

    What texts look like in JSON is made before, so that the first answer takes no longer than any other.
    """
    async with serve(account, behaviour, host=host, port=port) as server:
        await anyio.to_thread.run_sync(_prepare, server.account)
        ready(server)
        await anyio.sleep_forever()


def _prepare(account: Account) -> None:
    """Renders a message, which has the account keep how each text of its banks is written."""
    if runs := account.runs(range(len(account)), None, 1):
        list(body.record_list(account, [records.messages(account, runs)], Wire.JSON))


__all__ = ["Server", "run_simulator", "serve"]
