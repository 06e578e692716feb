"""Runs a harvest in front of a person: its progress is shown, signals and ``--for`` are heeded.

The first SIGINT, SIGTERM or SIGHUP lets what is in flight finish and be kept, and begins nothing more. The second
stops at once: the process ends without waiting for anything, worker threads included. That loses nothing durable,
because a cursor never outruns its rows, whatever instant the process ends at.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import anyio
import structlog

from harvester.console import resident
from harvester.console.exits import cause
from harvester.console.wording import span

if TYPE_CHECKING:
    from collections.abc import Callable

    from harvester.harvest.outcome import Result, Snapshot

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Harvesting(Protocol):
    """What this module needs of a harvest."""

    async def run(self) -> Result:
        """Harvest until all is done, given up or drained."""
        ...

    def drain(self) -> None:
        """Finish and keep what is in flight; begin nothing more."""
        ...

    def snapshot(self) -> Snapshot:
        """How far the run is; at any time while ``run`` runs."""
        ...


class Progress(Protocol):
    """A way to show how a run goes."""

    @property
    def period_s(self) -> float:
        """How often ``show`` wants to be called, in seconds."""
        ...

    def show(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        ...

    def say(self, text: str) -> None:
        """Tell the person something, in whole sentences."""
        ...

    def close(self) -> None:
        """Give the terminal back."""
        ...


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: with a result, with an error, or with both.

    Attributes:
        result: how far it came; None if that is not known.
        error: what ended it early; None if nothing did.
        last: the last snapshot that was shown; None if there was none.
    """

    result: Result | None
    error: Exception | None
    last: Snapshot | None


async def conduct(
    harvest: Harvesting, progress: Progress, *, for_s: float | None, memory: int, stop_at_once: Callable[[], None]
) -> Ending:
    """Run ``harvest`` to its end; never raises what the harvest raised.

    Args:
        harvest: what to run.
        progress: where it is shown.
        for_s: after so many seconds it drains; None if it may take as long as it takes.
        memory: its budget, in bytes.
        stop_at_once: ends the process.
    """
    watch = _Watch(harvest, progress)
    result: Result | None = None
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        await group.start(_heed_signals, harvest, progress, stop_at_once)
        group.start_soon(watch.keep_showing)
        group.start_soon(resident.give_back, memory)
        if for_s is not None:
            group.start_soon(_drain_after, harvest, progress, for_s)
        try:
            result = await harvest.run()
        except Exception as error:  # noqa: BLE001  whatever it is, it is reported by the caller, with its status
            result = getattr(harvest, "result", None)
            found = cause(error)
            failure = found if isinstance(found, Exception) else error
        group.cancel_scope.cancel()
    return Ending(result, failure, watch.last)


class _Watch:
    """Shows snapshots of a harvest, and remembers the last."""

    def __init__(self, harvest: Harvesting, progress: Progress) -> None:
        self._harvest = harvest
        self._progress = progress
        self.last: Snapshot | None = None

    async def keep_showing(self) -> None:
        try:
            while True:
                self.last = self._harvest.snapshot()
                self._progress.show(self.last)
                await anyio.sleep(self._progress.period_s)
        except Exception as error:  # noqa: BLE001  a harvest doesn't end because it can't be watched
            text = f"{type(error).__name__}: {error}"
            structlog.get_logger().warning("progress can't be shown any more", error=text)


async def _heed_signals(
    harvest: Harvesting,
    progress: Progress,
    stop_at_once: Callable[[], None],
    *,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores SIGHUP
    with anyio.open_signal_receiver(*heeded) as signals:
        task_status.started()
        draining = False
        async for _ in signals:
            if draining:
                stop_at_once()
                return
            draining = True
            harvest.drain()
            progress.say("Stopping: finishing what is in flight, and keeping it. Once more (Ctrl-C) stops at once.")


async def _drain_after(harvest: Harvesting, progress: Progress, for_s: float) -> None:
    await anyio.sleep(for_s)
    harvest.drain()
    progress.say(f"The {span(for_s)} of --for are over: finishing what is in flight.")


__all__ = ["Ending", "Harvesting", "Progress", "conduct"]
