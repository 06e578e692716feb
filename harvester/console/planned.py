"""What ``harvester plan`` prints: what a run would ask, for people or as one JSON object."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from rich.table import Table
from rich.text import Text

from harvester.console import logs
from harvester.console.exits import Exit
from harvester.console.output import print_lines, print_object
from harvester.console.report import doubtful
from harvester.console.wording import count, span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import RenderableType

    from harvester.config import Settings
    from harvester.console.options import LogFormat
    from harvester.harvest.planning import Plan
    from harvester.harvest.wanted import Wanted
    from harvester.model import Send

_MOST = 20


@dataclass(frozen=True, slots=True)
class PlannedSend:
    """A send of a plan, as the JSON object lists it."""

    id_send: int
    id_message: int | None
    sent_at: str | None
    rows: int | None


def show_plan(settings: Settings, wanted: Iterable[Send] | Wanted, *, json: bool, log_format: LogFormat) -> Exit:
    """Print what a run would ask; the exit status says whether the lists of sends are proven.

    Raises AccessRefused, LakeError, ServerNotReached, UsageError.
    """
    from harvester.harvest.planning import make_plan  # noqa: PLC0415  help comes without its dependencies

    logs.configure("json" if log_format == "json" else "text", logs.level("warning"))
    plan = anyio.run(partial(make_plan, settings, wanted))
    if json:
        print_object(_fields(plan, settings), map(_send, plan.each()), name="sends")
    else:
        print_lines(describe(plan, settings))
    return Exit.COMPLETE if plan.found is None or plan.found.proven else Exit.INCOMPLETE


def describe(plan: Plan, settings: Settings) -> Iterator[RenderableType]:
    """The plan for people, piece by piece."""
    found = plan.found
    where = "" if found is None else f" from {found.since} to {found.until}"
    yield Text(f"{count(plan.sends, 'send')}{where}", style="bold")
    if found is not None and 0 < plan.sends <= _MOST:
        yield _table(plan)
    for name in settings.datasets:
        known = f"{plan.rows[name]:,}" if name in plan.rows else "not known how many"
        if name in plan.rows and plan.unsized:
            known = f"at least {known}"
        yield Text(f"  {name:<14}{known} rows; the lake holds {plan.rows_held[name]:,}")
    least = "at least " if plan.at_least else ""
    yield Text(f"  {'queries':<14}{least}{plan.queries:,}")
    yield Text(f"  {'time':<14}at least {span(plan.seconds)} at {settings.rate:g} queries a second")
    done = f"{plan.slices_complete + plan.slices_due:,} of {count(plan.slices, 'slice')} complete already"
    due = f", {plan.slices_due:,} of them due for refreshing" if plan.slices_due else ""
    yield Text(f"  {'lake':<14}{settings.lake}: {done}{due}")
    if plan.unsized:
        sends = count(plan.unsized, "send does not", "sends do not")
        yield Text(f"{sends} say how many messages there are: more may be needed.", style="yellow")
    if found is not None:
        asked = count(found.queries, "query", "queries")
        yield Text(f"Asked for this: {asked} for {count(len(found.lists), 'list')} of campaigns and sends.")
        yield from doubtful(found.doubts)


def _table(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("  send", "campaign", "sent at", "messages"):
        table.add_column(title, justify="left" if title == "sent at" else "right", no_wrap=True)
    for send in plan.each():
        table.add_row(
            f"  {send.id_send}",
            "" if send.id_message is None else str(send.id_message),
            "" if send.sent_at is None else f"{send.sent_at}",
            "?" if send.expected is None else f"{send.expected:,}",
        )
    return table


def _send(send: Send) -> PlannedSend:
    sent_at = None if send.sent_at is None else send.sent_at.isoformat(" ")
    return PlannedSend(send.id_send, send.id_message, sent_at, send.expected)


def _fields(plan: Plan, settings: Settings) -> dict[str, Any]:
    found = plan.found
    return {
        "proven": found is None or found.proven,
        "doubts": [] if found is None else list(found.doubts),
        "since": None if found is None else found.since.isoformat(),
        "until": None if found is None else found.until.isoformat(),
        "total": {
            "sends": plan.sends,
            "slices": plan.slices,
            "slices_complete": plan.slices_complete,
            "slices_due": plan.slices_due,
        },
        "rows": {name: plan.rows.get(name) for name in settings.datasets},
        "rows_held": dict(plan.rows_held),
        "unsized": plan.unsized,
        "queries": plan.queries,
        "at_least": plan.at_least,
        "seconds": round(plan.seconds, 3),
        "rate": settings.rate,
        "asked": {"queries": 0, "attempts": 0}
        if found is None
        else {"queries": found.queries, "attempts": found.attempts},
    }


__all__ = ["PlannedSend", "describe", "show_plan"]
