"""Runs ``harvester`` as it is, in this process, and writes down what its harvest took; to be started by ``running``.

    python -m benchmarks.watched FIGURES.json (probe|-) run --lake …

With ``probe``, the event loop is asked a thousand times a second how late it is.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harvester.console.settling import settle

settle()  # as the program does, before it loads anything

from benchmarks.measuring import peak_bytes, queued_s  # noqa: E402
from harvester.console import start  # noqa: E402
from harvester.harvest.run import Harvest  # noqa: E402

if TYPE_CHECKING:
    from harvester.harvest.outcome import Result

PROBE_S = 0.001


async def lateness(late_s: list[float], own_s: list[float]) -> None:
    """Asks this loop for a short sleep, again and again until cancelled, and notes what became of it.

    Args:
        late_s: gets how much too late each sleep ended, in seconds.
        own_s: gets how much processor time this process used meanwhile, in seconds: of a stall that other processes
            are to blame for, next to none.
    """
    while True:
        due, own = time.perf_counter() + PROBE_S, time.process_time()
        await asyncio.sleep(PROBE_S)
        late_s.append(time.perf_counter() - due)
        own_s.append(time.process_time() - own)


def main() -> None:
    figures, probe = Path(sys.argv[1]), sys.argv[2] == "probe"
    sys.argv = ["harvester", *sys.argv[3:]]
    found: dict[str, object] = {}
    run = Harvest.run

    async def watched(self: Harvest) -> Result:
        late_s: list[float] = []
        own_s: list[float] = []
        task = asyncio.create_task(lateness(late_s, own_s)) if probe else None
        began, processor_s, queued = time.perf_counter(), time.process_time(), queued_s()
        try:
            return await run(self)
        finally:
            found["harvest_s"] = time.perf_counter() - began
            found["harvest_processor_s"] = time.process_time() - processor_s
            found["queued_s"] = max(0.0, queued_s() - queued)
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
                found.update(late_s=late_s, own_s=own_s)

    Harvest.run = watched  # type: ignore[method-assign]
    try:
        start.main()
    finally:
        figures.write_text(json.dumps(found | {"peak_bytes": peak_bytes()}), encoding="utf-8")


if __name__ == "__main__":
    main()
