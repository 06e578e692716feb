"""How things are measured: in turns after a warm-up, in processor time; and what runs were told."""

from __future__ import annotations

import platform
import resource
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from harvester import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SEED = 1
"""Every account that is harvested here follows from it."""
MEBIBYTE = 2**20
_PACKAGES = ("aiohttp", "anyio", "dlt", "isal", "lxml", "msgspec", "orjson", "pyarrow", "SQLAlchemy")


@dataclass(frozen=True, slots=True)
class Options:
    """What a run of the benchmarks is told.

    Attributes:
        quick: less of everything: all of them in about a minute.
        whole: more of it where that tells more: memory at one and ten million rows, say.
        sends: how many tiny sends; None for as many as fit the time.
    """

    quick: bool = False
    whole: bool = False
    sends: int | None = None


def in_turns(
    ways: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.process_time
) -> dict[str, tuple[float, ...]]:
    """Times each way once a round, so that a busy machine slows all alike; a first round warms up and doesn't count.

    Throwing the result away is not timed.

    Args:
        ways: what is measured, by name.
        rounds: how often.
        clock: what time it is, in seconds; this process's processor time, of all its threads, if not given.

    Returns:
        Seconds of each way, one a round.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            began = clock()
            result = way()
            took = clock() - began
            del result
            if number:
                times[name].append(took)
    return {name: tuple(took) for name, took in times.items()}


def peak_bytes() -> int:
    """The most memory that this process ever had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # where the other figure counts what the parent had, too
        return int(status.read_text(encoding="ascii").partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def queued_s() -> float:
    """How long this process's threads have waited for a core that others had, in seconds; 0 where nobody counts it."""
    counts = [path.read_text(encoding="ascii").split() for path in Path("/proc/self/task").glob("*/schedstat")]
    return sum(int(count[1]) for count in counts) / 1e9


def versions() -> dict[str, str]:
    """Of this program, of Python, and of what does the work."""
    found = {"harvester": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


__all__ = ["MEBIBYTE", "SEED", "Options", "in_turns", "peak_bytes", "queued_s", "versions"]
