"""Shows how verifying and recovering go, on standard error: a line that changes on a terminal, log lines elsewhere."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harvester.console import logs
from harvester.console.progress import terminal
from harvester.console.wording import count, size, span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LIVE_S = 0.2
_LINES_S = 10.0


@dataclass(frozen=True, slots=True)
class Step:
    """How far a reading of a lake has come.

    Attributes:
        doing: what is going on, in a word.
        files: data files read.
        bytes: their bytes.
        all_bytes: how many there will be; None if that is not known.
        rows: their rows.
        found: things found wrong.
    """

    doing: str
    files: int
    bytes: int
    all_bytes: int | None
    rows: int
    found: int


@contextmanager
def shown(step: Callable[[], Step]) -> Iterator[Callable[[], None]]:
    """Calls ``step`` whenever it is time to show how far things are. What is yielded is to be called often."""
    console = terminal()
    logs.configure("text", logs.level("info" if console is None else "warning"))
    period_s = _LINES_S if console is None else _LIVE_S
    began = last = time.monotonic()
    live = None if console is None else Live(console=console, auto_refresh=False, transient=True)

    def tick() -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < period_s:
            return
        last = now
        if live is None:
            _log(step(), now - began)
        else:
            live.update(_picture(step(), now - began), refresh=True)

    if live is None:
        yield tick
    else:
        with live:
            yield tick


def _log(step: Step, seconds: float) -> None:
    structlog.get_logger().info(
        step.doing,
        seconds=round(seconds, 1),
        files=step.files,
        bytes=step.bytes,
        all_bytes=step.all_bytes,
        rows=step.rows,
        found=step.found,
    )


def _picture(step: Step, seconds: float) -> Table:
    table = Table.grid(padding=(0, 1), expand=False)
    known = [ProgressBar(total=step.all_bytes, completed=step.bytes, width=24)] if step.all_bytes else []
    told = f"{count(step.files, 'file')} · {size(step.bytes)} · {count(step.rows, 'row')} · {span(seconds)}"
    wrong = [Text(f"{step.found:,} found", style="red")] if step.found else []
    table.add_row(Text(step.doing), *known, Text(told, no_wrap=True, overflow="ellipsis"), *wrong)
    return table


__all__ = ["Step", "shown"]
