"""What ``harvester compact`` prints of what it did."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.text import Text

from harvester.config import LEAST_FILE, Tuning
from harvester.console.exits import Exit, complain, status_of
from harvester.console.output import print_lines
from harvester.console.upkeep import Step, shown
from harvester.console.wording import count, size, span
from harvester.errors import HarvesterError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from harvester.harvest.upkeep import Compacted
    from harvester.model import Secret
    from harvester.places import Place


def compact_lake(lake: Place, ledger: Secret | None = None, *, file_size: int) -> Exit:
    """Merge small data files, and say what was done. Raises UsageError and LakeError."""
    from harvester.harvest.upkeep import Compacted, compact  # noqa: PLC0415  help comes without its dependencies

    if file_size < LEAST_FILE:
        raise UsageError(f"--file-size is at least 16KiB, not {file_size} bytes")
    done, began = Compacted(), time.monotonic()

    def step() -> Step:
        return Step("compacting", done.merged, 0, None, done.rows, 0)

    with shown(step) as tick:
        compact(lake, Tuning(target_bytes=file_size), done, tick, ledger)
    seconds = time.monotonic() - began
    try:
        print_lines(describe(done, lake, seconds))
    except HarvesterError as error:
        complain(error)
        return status_of(error)
    return Exit.COMPLETE


def describe(done: Compacted, lake: Place, seconds: float) -> Iterator[RenderableType]:
    """What was done, for people, piece by piece."""
    yield Text(str(lake), style="bold")
    yield Text(f"before: {count(done.files_before, 'data file')}, {size(done.bytes_before)}")
    yield Text(f"after:  {count(done.files, 'data file')}, {size(done.bytes)}")
    if done.merged:
        yield Text(f"Merged {count(done.merged, 'file')} with {count(done.rows, 'row')}, in {span(seconds)}.")
    else:
        yield Text("There was nothing to merge.", style="bold green")


__all__ = ["compact_lake", "describe"]
