"""``harvester simulate``: serves a simulated account, and says how to harvest it."""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio
from rich.text import Text

from harvester.console.exits import Exit
from harvester.console.output import forgiving, print_lines
from harvester.console.wording import count
from harvester.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harvester.console.recipes import SimulateOptions
    from harvester.simulator import AccountSpec, Behaviour, Server

_MOST_LISTED = 12
_HERE = ("127.0.0.1", "::1", "localhost")
_LAST_PORT = 65_535


def simulate_account(options: SimulateOptions) -> Exit:
    """Serve until a signal comes. Raises UsageError."""
    if not 0 <= options.port <= _LAST_PORT:
        raise UsageError(f"--port goes from 0 to {_LAST_PORT}, not {options.port}")
    account, behaviour = options.account(), options.behaviour()

    def announce(server: Server) -> None:
        if options.json:
            with forgiving():
                sys.stdout.write(_announced_json(account, server.url) + "\n")
        else:
            print_lines(_announced(account, server.url))

    anyio.run(_serve_until_told, options, account, behaviour, announce)
    return Exit.COMPLETE


async def _serve_until_told(
    options: SimulateOptions, account: AccountSpec, behaviour: Behaviour, announce: Callable[[Server], None]
) -> None:
    from harvester.simulator import run_simulator  # noqa: PLC0415  only this command pays for it

    async with anyio.create_task_group() as group:

        async def stop_on_signal() -> None:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for _ in signals:
                    group.cancel_scope.cancel()

        async def stop_with_parent() -> None:
            # Nobody writes there: it becomes readable when its other end closes.
            try:
                await anyio.wait_readable(sys.stdin.fileno())
            except PermissionError:  # a file, or /dev/null
                raise UsageError("--until-stdin-closes needs a pipe or a terminal as standard input") from None
            group.cancel_scope.cancel()

        group.start_soon(stop_on_signal)
        if options.until_stdin_closes:
            group.start_soon(stop_with_parent)
        await run_simulator(account, behaviour, options.host, options.port, announce)


def _announced(account: AccountSpec, url: str) -> Iterator[Text]:
    sends = account.sends
    yield Text(f"A simulated Mailkit account is at {url}", style="bold")
    yield Text(f"  client id  {account.client_id}")
    yield Text(f"  MD5 code   {account.client_md5}")
    yield Text(f"  holds      {count(len(sends.ids), 'send')}, {count(sum(sends.rows), 'message')}")
    yield Text("")
    yield Text("To harvest it, in another terminal:", style="bold")
    yield Text(f"  {_command(account, url)}")
    yield Text("")
    yield Text("Ctrl-C ends it.")


def _command(account: AccountSpec, url: str) -> str:
    """A command that harvests the account, ready to paste."""
    run = (
        f"HARVESTER_CLIENT_MD5={account.client_md5} harvester run --endpoint {url} --client-id {account.client_id} "
        "--rate 8 --lake ./simulated-lake"
    )
    if urlsplit(url).hostname not in _HERE:
        run += " --insecure-http"
    listed = account.sends.ids
    if len(listed) > _MOST_LISTED and isinstance(listed, range):
        return f"seq {listed[0]} {listed[-1]} | {run} --sends-file -"
    return f"{run} --send {' '.join(map(str, listed[:_MOST_LISTED]))}"


def _announced_json(account: AccountSpec, url: str) -> str:
    return json.dumps(
        {
            "url": url,
            "client_id": account.client_id,
            "client_md5": account.client_md5,
            "sends": list(account.sends.ids[:_MOST_LISTED]),
            "sends_total": len(account.sends.ids),
            "messages_total": sum(account.sends.rows),
        }
    )


__all__ = ["simulate_account"]
