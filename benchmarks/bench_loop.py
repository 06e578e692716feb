"""How long the event loop stands still while ``harvester run`` goes at full speed: its longest stall.

A task on the loop asks for a millisecond's sleep again and again, and notes how much later it is woken. The reference
is the same task in a process that does nothing else meanwhile: what is late there is the machine's doing. (With as many
busy threads as cores, a loop waits for its turn like every other thread.) A stall counts as this process's own by as
much of it as this process used the processor meanwhile.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.account import Served, served, unpacked
from benchmarks.figures import Figure, Report, ratios
from benchmarks.running import Harvested, harvest
from benchmarks.watched import lateness
from harvester.api.json import JsonCodec
from harvester.datasets import MESSAGES

if TYPE_CHECKING:
    from benchmarks.measuring import Options

REFERENCE = "an idle loop beside it"
MOST_MS = 50.0


async def beside(account: Served) -> tuple[Harvested, list[float]]:
    """A harvest under probe, and how late an idle loop was at the same time."""
    idle: list[float] = []
    probe = asyncio.create_task(lateness(idle, []))
    with ThreadPoolExecutor(1) as threads:
        found = await asyncio.get_running_loop().run_in_executor(threads, partial(harvest, account, probe=True))
    probe.cancel()
    return found, idle


def most_of(late_s: list[float] | tuple[float, ...]) -> float:
    """What all but one in a thousand are below."""
    return sorted(late_s)[len(late_s) * 999 // 1000]


def figures(shape: str, sends: str, rounds: int) -> list[Figure]:
    stalls: list[float] = []
    mostly: list[float] = []
    idle_stalls: list[float] = []
    own: list[float] = []
    with served(sends, shape=shape) as account:
        page = unpacked(account.page(account.sends.ids[0]))
        path = "the exact decoder's" if JsonCodec(MESSAGES).decode_fast(page) is None else "the fast decoder's"
        account.make_pages()
        for _ in range(rounds):
            found, idle = asyncio.run(beside(account))
            stalls.append(max(found.late_s) * 1e3)
            mostly.append(most_of(found.late_s) * 1e3)
            own.append(max(min(late, used) for late, used in zip(found.late_s, found.own_s, strict=True)) * 1e3)
            idle_stalls.append(max(idle) * 1e3)
    compared = ratios(stalls, idle_stalls)
    return [
        Figure(f"{shape}: {REFERENCE}, longest stall", "ms", tuple(idle_stalls)),
        Figure(f"{shape}: longest stall, {path} path", "ms", tuple(stalls), goal=MOST_MS),
        Figure(f"{shape}: the same, to the idle loop's", "ms", tuple(stalls), REFERENCE, compared),
        Figure(f"{shape}: longest stall that is this process's own", "ms", tuple(own)),
        Figure(f"{shape}: 999 of 1000 are below", "ms", tuple(mostly)),
    ]


def measure(options: Options) -> Report:
    plain, mixed, rounds = ("1x10000", "1x2000", 1) if options.quick else ("8x50000", "2x25000", 1)
    found = [*figures("plain", plain, rounds), *figures("mixed", mixed, rounds)]
    return Report(f"harvests of {plain} and {mixed} messages; how late the event loop is", tuple(found))
