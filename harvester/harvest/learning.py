"""What a run learns of the server, for the next one: what it bears, and that it lets the account in.

What it bears is believed less by the day, since the server's mood passes: each day, half of the way back to what the
run may use is taken without asking.

That it lets the account in is believed for minutes, of a run that was cut off: who goes on where that one was need not
send one query ahead of the others, to see whether it is refused.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from harvester.events import log
from harvester.model import Borne

if TYPE_CHECKING:
    from harvester.api.client import Client
    from harvester.config import Settings
    from harvester.lake.bearing import Bearing

_HALF_S = 86_400.0
_KEEP_S = 10.0
"""What is found is kept no more often than this, in seconds."""
_ADMITTED_S = 600.0
"""So long after it was let in, a run that is gone on with is taken to be let in still."""
_KEEP_ADMITTED_S = 60.0


def faded(borne: Borne, rate: float, concurrency: int, age_s: float) -> Borne:
    """What to begin with, of what was found so many seconds ago, by a run that may use ``rate`` and ``concurrency``."""
    left = 0.5 ** (max(age_s, 0.0) / _HALF_S)
    return Borne(
        rate=None if borne.rate is None or borne.rate >= rate else rate - (rate - borne.rate) * left,
        concurrency=None
        if borne.concurrency is None or borne.concurrency >= concurrency
        else round(concurrency - (concurrency - borne.concurrency) * left),
    )


class Learning:
    """Has a client begin where the last run ended, and keeps what it finds."""

    def __init__(self, settings: Settings, client: Client, bearing: Bearing) -> None:
        self._settings = settings
        self._client = client
        self._bearing = bearing
        self._kept = Borne()
        self._kept_at = anyio.current_time()
        self._way = f"{settings.client_id} at {settings.endpoint} from {socket.gethostname()}"
        self._admitted_at: float | None = None

    async def begin(self) -> None:
        """To be called before anything is asked."""
        settings = self._settings
        admitted_at = await to_thread.run_sync(self._bearing.admitted, self._way)
        if admitted_at is not None:
            age_s = (settings.tuning.clock() - admitted_at).total_seconds()
            self._client.admitted = 0 <= age_s < _ADMITTED_S
            self._admitted_at = anyio.current_time() - age_s
        known = await to_thread.run_sync(self._bearing.remembered)
        if known is None or not settings.adaptive:
            return
        self._kept = known.borne
        age_s = (settings.tuning.clock() - known.at).total_seconds()
        borne = faded(known.borne, settings.rate, settings.concurrency, age_s)
        if borne != Borne():
            log.info("beginning with what the server bore last", rate=borne.rate, concurrency=borne.concurrency)
            self._client.begin_with(borne)

    async def keep(self, *, ended: bool = False) -> None:
        """Keeps what was found, if that is new; at the run's end, or now and then."""
        now = anyio.current_time()
        await self._keep_admitted(now, ended=ended)
        borne = self._client.pace.borne
        if not self._settings.adaptive or borne == self._kept or (not ended and now < self._kept_at + _KEEP_S):
            return
        self._kept, self._kept_at = borne, now
        await to_thread.run_sync(self._bearing.remember, borne, self._settings.tuning.clock())

    async def _keep_admitted(self, now: float, *, ended: bool) -> None:
        admitted, kept_at = self._client.admitted, self._admitted_at
        if admitted and not ended and (kept_at is None or now >= kept_at + _KEEP_ADMITTED_S):
            self._admitted_at = now
            await to_thread.run_sync(self._bearing.note_admitted, self._way, self._settings.tuning.clock())
        elif not admitted and kept_at is not None:
            self._admitted_at = None
            await to_thread.run_sync(self._bearing.note_admitted, self._way, None)


__all__ = ["Learning", "faded"]
