"""Simulated time: an event loop whose clock leaps to the next timer as soon as nothing is left to do before it.

What runs on it takes next to no time; only waiting does. Worker threads would wait for real, and in any order: so what
is meant for them runs where it stands. Nothing here sleeps.
"""

from __future__ import annotations

import asyncio
import selectors
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from unittest.mock import patch

from anyio import to_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

Returned = TypeVar("Returned")

_TICK_S = 1e-8
"""So far goes the clock each time around: what waits until it has gone on by a rounding error would wait for ever."""


class StuckError(Exception):
    """Everything waits, and no timer would ever end it: what runs has locked itself up."""


class _Leaping(selectors.DefaultSelector):
    """Never waits: the time that it is to wait for has passed when it returns."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        self.now += _TICK_S
        if not ready:
            if timeout is None:
                raise StuckError("nothing is left to do, and nothing will come")
            self.now += max(timeout, 0.0)
        return ready


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop in simulated time, which begins at 0."""

    def __init__(self) -> None:
        self._leaping = _Leaping()
        super().__init__(self._leaping)

    def time(self) -> float:
        return self._leaping.now


async def _here(work: Callable[..., Returned], *arguments: object, **_: object) -> Returned:
    await asyncio.sleep(0)  # as on the way to a thread, others may go first
    return work(*arguments)


@contextmanager
def _no_threads() -> Iterator[None]:
    with patch.object(to_thread, "run_sync", _here):
        yield


def in_simulated_time(main: Coroutine[Any, Any, Returned]) -> Returned:
    """Runs a coroutine to its end in simulated time. Raises StuckError if it would never end."""
    with _no_threads(), asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(main)


__all__ = ["SimulatedLoop", "StuckError", "in_simulated_time"]
