"""One run of a harvest in front of a person: from settings and sends to the summary and the exit status."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
import structlog

from harvester.console import logs
from harvester.console.conduct import conduct
from harvester.console.exits import Exit, complain, status_of
from harvester.console.findings import Findings
from harvester.console.output import print_lines, print_object
from harvester.console.progress import LineView, LiveView, terminal
from harvester.console.report import report
from harvester.console.secrecy import redacted
from harvester.console.settling import loading
from harvester.datasets import DEFAULT
from harvester.errors import HarvesterError
from harvester.harvest.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harvester.config import Settings
    from harvester.console.conduct import Ending, Harvesting, Progress
    from harvester.console.options import LogFormat
    from harvester.harvest.outcome import Paced, Result, Snapshot
    from harvester.model import Send


_SWITCH_S = 0.001
"""How long a thread may hold the interpreter while others wait for it: the loop has busy decoders beside it."""


class StoppedAtOnce(HarvesterError):
    """A second signal; only ever printed, since the process ends where it would be raised."""


def run_harvest(settings: Settings, sends: Iterable[Send] | Wanted, *, json: bool, log_format: LogFormat) -> Exit:
    """Harvest sends, or those that are found, show how it goes, say how it went; the exit status."""
    with loading():  # help and usage errors come without what these need
        from harvester.harvest.finding import Finder  # noqa: PLC0415
        from harvester.harvest.run import Harvest  # noqa: PLC0415

    progress = _progress(log_format)
    harvest = Harvest(settings, Finder(settings, sends) if isinstance(sends, Wanted) else sends)

    def stop_at_once() -> NoReturn:
        progress.close()
        progress.say("Stopped at once. What the lake holds is kept; the same command resumes.")
        if json:
            _print_without_slices(_snapshot(harvest), StoppedAtOnce("stopped at once by a signal"))
        with suppress(OSError):
            sys.stdout.flush()
        # Worker threads may be in the middle of something long; ending under them is what a crash would do, too.
        os._exit(Exit.INTERRUPTED)

    async def conducted() -> Ending:
        return await conduct(harvest, progress, for_s=settings.for_s, memory=settings.memory, stop_at_once=stop_at_once)

    sys.setswitchinterval(_SWITCH_S)
    try:
        ending = anyio.run(conducted)
    finally:
        progress.close()
    # Where standard error is read by a program, it finds events there and nothing else.
    say = structlog.get_logger().error if log_format == "json" else None
    if ending.error is not None:
        complain(ending.error, say)
    if ending.result is not None:
        fields = _fields(ending.result, complete=ending.result.complete)
        structlog.get_logger().info("finished", **fields.pop("rows"), **fields)
    failed = (_print_json if json else _print_text)(ending, settings)
    if failed is not None and failed is not ending.error:
        complain(failed, say)
    return _exit(ending.result, failed)


def _progress(log_format: LogFormat) -> Progress:
    """The live view on a terminal, lines elsewhere, and the log set up to go with it. Raises UsageError."""
    console = terminal() if log_format == "auto" else None
    if console is None:
        logs.configure("json" if log_format == "json" else "text", logs.level("info"))
        return LineView()
    # A summary on the same terminal follows the picture and says more; elsewhere the last picture is all there is.
    view = LiveView(console, keep=not sys.stdout.isatty())
    logs.configure("text", logs.level("warning"), view.say)
    return view


def _print_json(ending: Ending, _settings: Settings) -> Exception | None:
    """Print the JSON summary; the error that it names, which may be one that came up while printing."""
    result = ending.result
    if result is None:
        return _print_without_slices(ending.last, ending.error)
    findings = Findings()
    fields = _fields(result, complete=result.complete and ending.error is None)
    failed = print_object(
        fields | _fields_of_lists(result),
        findings.watch(result.slices()),
        ending.error,
        after=lambda: {"changed": findings.changed},
    )
    for send in findings.rowless.shown:
        structlog.get_logger().warning("no rows at all: perhaps a mistyped id", id_send=send)
    for one in findings.miscounted.shown:
        structlog.get_logger().warning(
            "proven complete, yet not as many rows as expected",
            dataset=one.dataset,
            id_send=one.id_send,
            rows=one.rows,
            expected=one.expected,
        )
    return failed


def _print_text(ending: Ending, settings: Settings) -> Exception | None:
    """Print the summary; the run's error, or else one that came up while printing."""
    result = ending.result
    if result is None:
        return ending.error
    try:
        asked = replace(result, rows={name: result.rows[name] for name in settings.datasets})
        print_lines(report(asked, settings.lake, early=ending.error is not None))
    except HarvesterError as error:
        return ending.error or error
    return ending.error


def _exit(result: Result | None, failed: Exception | None) -> Exit:
    if failed is not None or result is None:
        return status_of(failed) if failed else Exit.INCOMPLETE
    if result.complete:
        return Exit.COMPLETE
    return Exit.INTERRUPTED if result.interrupted else Exit.INCOMPLETE


def _fields(result: Result, *, complete: bool) -> dict[str, Any]:
    return {
        "complete": complete,
        "rows": dict(result.rows),
        "queries": result.queries,
        "attempts": result.attempts,
        "seconds": round(result.seconds, 3),
    }


def _fields_of_lists(result: Result | None) -> dict[str, Any]:
    """What lists of sends and answers had to say beyond rows."""
    return {
        "doubts": [] if result is None else [redacted(doubt) for doubt in result.doubts],
        "unlisted": [] if result is None else list(result.unlisted),
        "new_fields": {} if result is None else {name: list(fields) for name, fields in result.met.items()},
        "lowered_limit": None if result is None else result.limit,
        "pace": None if result is None else _pace(result.paced),
    }


def _pace(paced: Paced | None) -> dict[str, Any] | None:
    """What the run might ask of the server in the end."""
    return None if paced is None else asdict(paced) | {"rate": round(paced.rate, 3)}


def _fields_of_snapshot(last: Snapshot | None) -> dict[str, Any]:
    """The fields of a summary where there is no result; rows that nobody counted are null, not 0."""
    if last is None or not last.slices:  # the lake was never open
        rows: dict[str, int | None] = dict.fromkeys(DEFAULT)
        return {"complete": False, "rows": rows, "queries": 0, "attempts": 0, "seconds": 0.0} | _fields_of_lists(None)
    return {
        "complete": False,
        "rows": {name: last.rows_before.get(name, 0) + rows for name, rows in last.rows.items()},
        "queries": last.queries,
        "attempts": last.attempts,
        "seconds": round(last.seconds, 3),
    } | _fields_of_lists(None)


def print_failure(error: Exception) -> None:
    """The JSON object of a run that didn't begin."""
    _print_without_slices(None, error)


def _print_without_slices(last: Snapshot | None, error: Exception | None) -> Exception | None:
    """Print the JSON object of a run without a result; the error."""
    return print_object(_fields_of_snapshot(last), error=error, after=lambda: {"changed": None})


def _snapshot(harvest: Harvesting) -> Snapshot | None:
    with suppress(Exception):  # it is called in the middle of anything
        return harvest.snapshot()
    return None


__all__ = ["print_failure", "run_harvest"]
