"""What the server bears, from one run to the next: where a run begins, and what of it is kept.

What was found is believed less by the day, since the server's mood passes: each day, half of the way back to what the
run may use is taken without asking.
"""

from __future__ import annotations

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

    async def begin(self) -> None:
        """To be called before anything is asked."""
        settings = self._settings
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
        borne = self._client.pace.borne
        now = anyio.current_time()
        if not self._settings.adaptive or borne == self._kept or (not ended and now < self._kept_at + _KEEP_S):
            return
        self._kept, self._kept_at = borne, now
        await to_thread.run_sync(self._bearing.remember, borne, self._settings.tuning.clock())


__all__ = ["Learning", "faded"]
