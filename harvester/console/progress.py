"""Shows how a run goes, on standard error: a live view on a terminal, a log line every ten seconds elsewhere.

Invariant: what is drawn is of bounded size, whatever the number of sends, and is readable at 80 columns.
"""

from __future__ import annotations

import math
import os
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import structlog
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harvester.console.output import Terminal
from harvester.console.secrecy import redacted
from harvester.console.wording import bears, count, span

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from harvester.harvest.outcome import Search, SliceProgress, Snapshot

MOST_SLICES = 8
"""Slices under way that the live view lists."""
_SMOOTH_S = 15.0
_LEAST_BASIS_S = 3.0
"""Before this time into a run, an estimate of what is left would be a guess."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What a series of snapshots tells.

    Attributes:
        rows_per_s: rows per second, smoothed over some seconds.
        done: the part of the work that is done, 0 to 1; None if the amount of work is not known.
        left_s: the time left, in seconds; None if it can't be told.
    """

    rows_per_s: float
    done: float | None
    left_s: float | None


class Meter:
    """Turns snapshots into a pace. Feed it every snapshot once, in order."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._rows = 0
        self._rows_per_s = 0.0

    def read(self, snapshot: Snapshot) -> Pace:
        """The pace at this snapshot."""
        rows, passed = sum(snapshot.rows.values()), snapshot.seconds - self._seconds
        if passed > 0:
            # While the average is younger than the time it smooths over, it is the plain average so far.
            weight = max(1 - math.exp(-passed / _SMOOTH_S), passed / snapshot.seconds)
            self._rows_per_s += weight * ((rows - self._rows) / passed - self._rows_per_s)
            self._seconds, self._rows = snapshot.seconds, rows
        return Pace(self._rows_per_s, _done(snapshot), snapshot.left_s if snapshot.seconds >= _LEAST_BASIS_S else None)


def _done(now: Snapshot) -> float | None:
    """The part done: by rows where all sends say how many they have; else by slices, and what is known of them."""
    have: float = sum(now.rows_before.get(name, 0) + now.rows.get(name, 0) for name in now.rows_expected)
    total = sum(now.rows_expected.values())
    if have >= total:
        begun = sum(min(one.rows / one.expected, 1.0) for one in now.under_way if one.expected)
        have, total = now.slices_complete + now.slices_failed + begun, now.slices
    return min(have / total, 1.0) if total else None


def picture(snapshot: Snapshot, pace: Pace) -> RenderableType:
    """The live view of one snapshot."""
    parts: list[RenderableType] = [_headline(snapshot, pace)]
    if pace.done is not None:
        parts.append(_bar(pace))
    parts += [_queries(snapshot), _search(snapshot.search) if _searches(snapshot) else _slices(snapshot)]
    if snapshot.under_way:
        parts.append(_under_way(snapshot.under_way[:MOST_SLICES]))
    if slowed := _slowed(snapshot):
        parts.append(_line(slowed, "yellow"))
    if snapshot.paused_s > 0:
        parts.append(_line(f"the server asked for a pause: {span(snapshot.paused_s)} more", "yellow"))
    if snapshot.trouble:
        parts.append(_line(f"latest trouble: {redacted(snapshot.trouble)}", "yellow"))
    if snapshot.draining:
        parts.append(_line("finishing what is in flight; Ctrl-C stops at once", "bold yellow"))
    return Group(*parts)


def _line(text: str, style: str = "") -> Text:
    return Text(" ".join(text.split()), style=style, no_wrap=True, overflow="ellipsis")


def _headline(snapshot: Snapshot, pace: Pace) -> Text:
    totals = [f"{name} {snapshot.rows_before.get(name, 0) + rows:,}" for name, rows in snapshot.rows.items()]
    return _line(" · ".join([*totals, f"{pace.rows_per_s:,.0f} rows/s", span(snapshot.seconds)]), "bold")


def _bar(pace: Pace) -> Table:
    done = pace.done or 0.0
    table = Table.grid(padding=(0, 1), expand=False)
    table.add_column(width=44)
    table.add_column(justify="right", width=4)
    table.add_column(no_wrap=True)
    # Rounded down: 100% is for all of it.
    left = "" if pace.left_s is None else f"about {span(pace.left_s)} left"
    table.add_row(ProgressBar(total=1.0, completed=done, width=44), f"{math.floor(done * 100)}%", left)
    return table


def _queries(snapshot: Snapshot) -> Text:
    again = snapshot.attempts - snapshot.queries
    retries = f" (+{again:,} again)" if again > 0 else ""
    return _line(
        f"{count(snapshot.queries, 'query', 'queries')}{retries} · {snapshot.rate_used:.2f} of {snapshot.rate:g}"
        f" a second · {snapshot.in_flight}/{snapshot.concurrency} in flight"
    )


def _slowed(snapshot: Snapshot) -> str | None:
    """What the server bears, where that is less than the run may use."""
    paced = snapshot.paced
    if paced is None:
        return None
    rate = paced.rate if paced.rate < snapshot.rate else None
    concurrency = paced.concurrency if paced.concurrency < snapshot.concurrency else None
    return f"the server bears {bears(rate, concurrency)}" if rate is not None or concurrency is not None else None


def _searches(snapshot: Snapshot) -> bool:
    """Whether the sends are still being looked for."""
    return snapshot.search is not None and not snapshot.slices


def _search(search: Search | None) -> Text:
    if search is None or not search.lists:
        return _line("finding sends: since when there are some")
    lists = f"{search.lists_done:,} of {count(search.lists, 'list')}"
    return _line(f"finding sends: {lists} · {count(search.sends, 'send')} so far")


def _slices(snapshot: Snapshot) -> Text:
    parts = [f"{snapshot.slices_complete:,} of {count(snapshot.slices, 'slice')} complete"]
    if snapshot.slices_failed:
        parts.append(f"{snapshot.slices_failed:,} given up")
    if snapshot.waiting:
        parts.append(f"{snapshot.waiting:,} waiting after a failure")
    return _line(" · ".join(parts), "red" if snapshot.slices_failed else "")


def _under_way(slices: tuple[SliceProgress, ...]) -> Table:
    table = Table.grid(padding=(0, 1), expand=False)
    table.add_column(no_wrap=True, min_width=10)
    table.add_column(no_wrap=True, justify="right", min_width=8)
    table.add_column(no_wrap=True, justify="right", min_width=23)
    table.add_column(width=20)
    for one in slices:
        rows = f"{one.rows:,}" if one.expected is None else f"{one.rows:,} of {one.expected:,}"
        fill: RenderableType = Text("waiting", style="yellow") if one.waiting else Text("")
        if one.expected and not one.waiting:
            fill = ProgressBar(total=one.expected, completed=min(one.rows, one.expected), width=20)
        table.add_row(f"  {one.dataset}", str(one.id_send), rows, fill)
    return table


class LiveView:
    """The live view of a terminal. What is said or logged meanwhile is printed above it."""

    period_s = 0.2

    def __init__(self, console: Console, *, keep: bool) -> None:
        """``keep`` leaves the last picture standing at the end."""
        self._console = console
        self._meter = Meter()
        self._live = Live(console=console, auto_refresh=False, transient=not keep, redirect_stdout=False)

    def show(self, snapshot: Snapshot) -> None:
        """Draw a snapshot."""
        if not self._live.is_started:
            self._live.start()
        self._live.update(picture(snapshot, self._meter.read(snapshot)), refresh=True)

    def say(self, text: str) -> None:
        """Print a line above the picture."""
        try:
            self._console.print(Text(redacted(text)), soft_wrap=True)
        except OSError:  # the terminal is gone; there is nobody to tell
            return

    def close(self) -> None:
        """Give the terminal back, with its cursor."""
        try:
            self._live.stop()
        except OSError:
            return


class LineView:
    """A line of log at the start, and every ten seconds."""

    period_s = 10.0

    def __init__(self) -> None:
        self._meter = Meter()
        self._log = structlog.get_logger()

    def show(self, snapshot: Snapshot) -> None:
        """Log a snapshot, once the lake is open and it is known what there is to do."""
        if _searches(snapshot) and snapshot.search is not None:
            self._log.info("finding sends", seconds=round(snapshot.seconds, 1), **asdict(snapshot.search))
        if not snapshot.slices:
            return
        pace = self._meter.read(snapshot)
        known = {
            "done_percent": None if pace.done is None else math.floor(pace.done * 100),
            "left_s": None if pace.left_s is None else round(pace.left_s),
            "paused_s": round(snapshot.paused_s) or None,
            "bears": _slowed(snapshot),
            "trouble": snapshot.trouble,
            "draining": snapshot.draining or None,
        }
        self._log.info(
            "progress",
            seconds=round(snapshot.seconds, 1),
            **{name: snapshot.rows_before.get(name, 0) + rows for name, rows in snapshot.rows.items()},
            rows_per_s=round(pace.rows_per_s),
            queries=snapshot.queries,
            attempts=snapshot.attempts,
            rate_used=round(snapshot.rate_used, 2),
            in_flight=snapshot.in_flight,
            slices=snapshot.slices,
            slices_complete=snapshot.slices_complete,
            slices_failed=snapshot.slices_failed,
            **{name: value for name, value in known.items() if value is not None},
        )

    def say(self, text: str) -> None:
        """Log what is said."""
        self._log.warning(text)

    def close(self) -> None:
        """There is nothing to give back."""


def terminal() -> Terminal | None:
    """A console for the live view, if standard error is a terminal that can show one."""
    if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM", "dumb") in {"dumb", "unknown", ""}:
        return None
    return Terminal(stderr=True, highlight=False)


__all__ = ["MOST_SLICES", "LineView", "LiveView", "Meter", "Pace", "picture", "terminal"]
