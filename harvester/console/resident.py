"""Keeps the memory that the process has close to what it uses, however long a run goes on.

What a page leaves behind is free, and not the system's again before it is given back. That costs processor time, and
more when it is wanted again: so it is done where the process has come to have much.
"""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import anyio.to_thread
import pyarrow as pa

_LOOK_S = 0.25
"""So often it is looked how much the process has: within that time what is free may be in use again."""
_PART = 0.375
"""A budget counts what may be needed. A process that has grown by so much of it has a good deal that is free."""
_BLIND_S = 5.0
"""So often it is given back where the system does not tell how much there is."""
_STATM = Path("/proc/self/statm")


def resident_bytes() -> int | None:
    """How much memory this process has; None where the system does not tell (Linux does: proc_pid_statm(5))."""
    try:
        return int(_STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


async def give_back(memory: int) -> None:
    """Gives what is free back to the system, again and again until cancelled. ``memory`` is the budget, in bytes."""
    before = resident_bytes()
    much = 0 if before is None else before + int(_PART * memory)
    while True:
        await anyio.sleep(_BLIND_S if before is None else _LOOK_S)
        if (resident_bytes() or 0) >= much:
            await anyio.to_thread.run_sync(pa.default_memory_pool().release_unused)


__all__ = ["give_back", "resident_bytes"]
