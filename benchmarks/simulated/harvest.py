"""One harvest in simulated time: what is put together in ``harvester.harvest.run``, with memory in the disk's place.

It may be killed and begun again: then what was in flight is lost, and what the lake had taken is there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from benchmarks.simulated.api import Asked, SimulatedApi, SimulatedSpeaker, as_transport
from benchmarks.simulated.clock import in_simulated_time
from benchmarks.simulated.lake import SimulatedLake
from harvester.api.client import Client
from harvester.api.limiter import Limiter
from harvester.config import Scope, Settings, Tuning
from harvester.harvest.scheduler import Delivery, Scheduler
from harvester.model import Secret
from harvester.simulator.behaviour import Behaviour

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anyio.streams.memory import MemoryObjectReceiveStream

    from benchmarks.simulated.account import SimulatedAccount

Watch = tuple[float, "Callable[[Scheduler], None]"]
"""How often, in simulated seconds, and what looks at the scheduler then."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What is harvested, and how.

    Attributes:
        account: what there is.
        behaviour: how the API behaves.
        bytes_per_s: how many bytes of answers the link carries; None for any number.
        settings: of the run, by name, where they are not the usual ones; the scope is the send, or the account for
            messages alone, whatever takes fewer queries.
        sized: whether the sends say how many messages they have.
        kills: after how many seconds each run but the last one is killed; not of a walk over many sends.
    """

    account: SimulatedAccount
    behaviour: Behaviour = field(default_factory=Behaviour)
    bytes_per_s: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    sized: bool = True
    kills: Sequence[float] = ()

    def told(self) -> Settings:
        """The run's settings."""
        given: dict[str, Any] = {
            "tuning": Tuning(seed=1),
            "client_id": "1",
            "client_md5": Secret("0" * 32),
            "lake": Path("nowhere"),
        }
        return Settings(**(given | self.settings))


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a scene.

    Attributes:
        seconds: how long it took, in simulated time, all runs together.
        queries: queries asked by all of them, retries not counted.
        asked: what the API saw.
        lake: what it brought.
    """

    seconds: float
    queries: int
    asked: Asked
    lake: SimulatedLake


def play(scene: Scene, watch: Watch | None = None) -> Played:
    """Harvests a scene from its first query to its last proof."""
    return in_simulated_time(_play(scene, watch))


async def _play(scene: Scene, watch: Watch | None) -> Played:
    settings = scene.told()
    api = SimulatedApi(scene.account, scene.behaviour, bytes_per_s=scene.bytes_per_s)
    wide = settings.scope is Scope.ACCOUNT
    lake = SimulatedLake(scene.account, settings.datasets, settings.limit, sized=scene.sized, wide=wide)
    queries, admitted = 0, False
    for killed_after in (*scene.kills, math.inf):
        limiter = Limiter(settings.rate, settings.burst, settings.concurrency)
        client = Client(settings, as_transport(api), limiter, SimulatedSpeaker(settings, scene.account))
        client.admitted = admitted  # as the ledger keeps it: see harvest.learning
        deliver, delivered = anyio.create_memory_object_stream[Delivery](32)
        scheduler = Scheduler(settings, client=client, slices=lake, deliver=deliver, wide=lake.wide)
        lake.begin(scheduler.workload)
        with anyio.move_on_after(killed_after):
            await _run(scheduler, lake, delivered, watch)
        queries, admitted = queries + scheduler.queries, client.admitted
    return Played(anyio.current_time(), queries, api.asked, lake)


async def _run(
    scheduler: Scheduler, lake: SimulatedLake, delivered: MemoryObjectReceiveStream[Delivery], watch: Watch | None
) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scheduler.run)
        if watch is not None:
            tasks.start_soon(_look, scheduler, watch)
        await lake.keep(scheduler, delivered)
        tasks.cancel_scope.cancel()


async def _look(scheduler: Scheduler, watch: Watch) -> None:
    every_s, look = watch
    while True:
        await anyio.sleep(every_s)
        look(scheduler)


__all__ = ["Played", "Scene", "play"]
