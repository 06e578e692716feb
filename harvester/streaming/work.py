"""The harvest behind a stream: the same client, scheduler and proofs as a run's, with a reader in the lake's place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from harvester.api.client import Client
from harvester.datasets import CATALOGUE
from harvester.errors import first_of
from harvester.events import log
from harvester.harvest.finding import Finder
from harvester.harvest.scheduler import Delivery, Scheduler
from harvester.harvest.wanted import Wanted
from harvester.model import Proof
from harvester.streaming.outcome import IncompleteHarvest, Outcome
from harvester.streaming.selection import Selection

if TYPE_CHECKING:
    from harvester.config import Settings
    from harvester.harvest.finding import Found
    from harvester.model import Send
    from harvester.streaming.handover import Handover

_STREAM_PAGES = 4
_WARNED_OF = 20


class Work:
    """One harvest of one dataset.

    Attributes:
        scheduler: what asks; None before it is known what to ask.
    """

    def __init__(self, settings: Settings, wanted: tuple[Send, ...] | Wanted, handover: Handover) -> None:
        self.scheduler: Scheduler | None = None
        self._settings = settings
        self._dataset = CATALOGUE[settings.datasets[0]]
        self._wanted = wanted
        self._handover = handover
        self._rows = 0

    async def run(self) -> Outcome:
        """Harvests until every slice is complete or given up, at the reader's pace.

        Raises:
            AccessRefused: the API refuses the account or the address.
            IncompleteHarvest: something could not be had, or not be proven. Everything else was given.
            ServerNotReached: the server was never reached, or not for longer than the harvest is patient.
            UsageError: the file of certificates can't be read.
        """
        began_at = anyio.current_time()
        try:
            async with Client.open(self._settings) as client:
                found, sends = await self._find(client)
                selection = Selection(self._dataset, sends, self._settings.tuning.clock(), self._settings.limit)
                scheduler = await self._harvest(client, selection)
        except BaseExceptionGroup as group:
            raise first_of(group) from None
        finally:
            self._handover.end()
        outcome = Outcome(
            dataset=self._dataset.name,
            rows=self._rows,
            proofs=selection.proofs,
            incomplete=selection.incomplete,
            doubts=found.doubts if found else (),
            new_fields=tuple(sorted(scheduler.met[self._dataset.name])),
            queries=scheduler.queries + (found.queries if found else 0),
            attempts=client.attempts,
            seconds=anyio.current_time() - began_at,
        )
        for id_send in self._named_without_rows(outcome):
            log.warning("no rows at all: perhaps a mistyped id", id_send=id_send)
        if not outcome.complete:
            raise IncompleteHarvest(outcome)
        return outcome

    def _named_without_rows(self, outcome: Outcome) -> list[int]:
        if isinstance(self._wanted, Wanted) or not self._dataset.counted:
            return []  # a send that a list names may be empty, and any send may be without bounces
        return [id_send for id_send, proof in outcome.proofs.items() if proof is Proof.EMPTY][:_WARNED_OF]

    async def _find(self, client: Client) -> tuple[Found | None, tuple[Send, ...]]:
        if not isinstance(self._wanted, Wanted):
            return None, self._wanted
        found = await Finder(self._settings, self._wanted).find(client)
        return found, tuple(replace(send, proven=found.proven) for send in found.sends)

    async def _harvest(self, client: Client, selection: Selection) -> Scheduler:
        deliver, delivered = anyio.create_memory_object_stream[Delivery](_STREAM_PAGES)
        self.scheduler = scheduler = Scheduler(self._settings, client=client, slices=selection, deliver=deliver)
        async with deliver, delivered, anyio.create_task_group() as tasks:
            tasks.start_soon(scheduler.run)
            async for delivery in delivered:
                taken = delivery.taken
                if taken.rows is not None:
                    self._rows += taken.rows.num_rows
                    await self._handover.give(taken.rows)
                if taken.proof is not None:
                    selection.complete(taken.slice_id, taken.proof)
                await scheduler.delivered(delivery, 0)
                del delivery, taken  # or their rows would be held until the next ones come
        return scheduler


__all__ = ["Work"]
