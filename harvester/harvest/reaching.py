"""Whether the server is there at all, and is the API: when to wait with everything, and when that has no point.

A server that can't be reached pauses the whole run, and nobody is charged for it. One that was never reached ends it
within a minute, and so does one that is there and is not the API; one whose certificate is refused ends it at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harvester.errors import NotConnected, NotTheApi, NotTrusted, ServerNotReached, Throttled
from harvester.events import log
from harvester.harvest.retrying import backoff_s

if TYPE_CHECKING:
    from harvester.api.client import Client
    from harvester.config import Settings
    from harvester.errors import AttemptFailed


class Reach:
    """What became of attempts so far."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self._settings = settings
        self._client = client
        self._has_answered = False
        self._unreachable_since: float | None = None
        self._unreachable_times = 0
        self._fruitless_since: float | None = None

    def answered(self) -> None:
        """The API answered."""
        self._has_answered = True
        self._unreachable_since = self._fruitless_since = None

    def failed(self, error: AttemptFailed, now: float, failures: int) -> bool:
        """An attempt failed, after so many failures of the same query.

        Returns:
            Whether the query is to be charged for it. If not, the run is paused already.

        Raises:
            ServerNotReached: there is no point in going on.
        """
        if isinstance(error, NotConnected):
            self._not_connected(error, now)
            return False
        self._unreachable_since = None
        if self._fruitless_since is None:
            self._fruitless_since = now
        fruitless_s = now - self._fruitless_since
        patience_s = self._settings.patience_s
        if isinstance(error, Throttled):  # the limiter pauses every task for as long as the server says
            if fruitless_s >= patience_s:
                raise ServerNotReached(f"{error}; it has done nothing else for {fruitless_s:.0f} s")
            return False
        never = not self._has_answered and fruitless_s >= min(patience_s, self._settings.tuning.never_reached_s)
        if isinstance(error, NotTheApi) and never and failures:
            raise ServerNotReached(f"{error}, and nothing else came from {self._settings.endpoint}: see --endpoint")
        return True

    def _not_connected(self, error: NotConnected, now: float) -> None:
        tuning = self._settings.tuning
        if self._unreachable_since is None:
            self._unreachable_since = now
            self._unreachable_times = 0
        self._unreachable_times += 1
        limit_s = self._settings.patience_s
        if not self._client.reached:
            limit_s = min(limit_s, tuning.never_reached_s)
        if isinstance(error, NotTrusted) and not self._client.reached:
            raise ServerNotReached(str(error))  # a wait would not change it; in mid-run it may be one bad machine
        gives_up_at = self._unreachable_since + limit_s
        if now >= gives_up_at:
            raise ServerNotReached(f"{error}; gave up after {now - self._unreachable_since:.0f} s")
        wait_s = min(backoff_s(self._unreachable_times, tuning), gives_up_at - now)
        log.warning("the server can't be reached", reason=str(error), next_try_s=round(wait_s, 1))
        self._client.limiter.pause(wait_s)


__all__ = ["Reach"]
