"""What ``harvester status`` prints of a lake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from harvester.config import PartitionBy
from harvester.console.exits import Exit, complain, status_of
from harvester.console.findings import COMPLETE, Findings
from harvester.console.output import print_lines, print_object
from harvester.console.report import open_slices
from harvester.console.wording import bears, count, size
from harvester.datasets import CATALOGUE, DEFAULT
from harvester.errors import HarvesterError
from harvester.redaction import in_words, parts_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from harvester.harvest.status import LakeStatus
    from harvester.model import Secret
    from harvester.places import Place

_MOST = 20


def show_status(lake: Place, ledger: Secret | None = None, *, json: bool) -> Exit:
    """Print the status of a lake; the exit status says whether it is complete. Raises LakeError."""
    from harvester.harvest.status import read_status  # noqa: PLC0415  help comes without its dependencies

    status = read_status(lake, ledger)
    complete = is_complete(status)
    if json:
        failed = print_object(_fields(status), status.slices())
        if failed is not None:
            complain(failed)
            return status_of(failed)
    else:
        try:
            print_lines(describe(status, lake))
        except HarvesterError as error:
            complain(error)
            return status_of(error)
    return Exit.COMPLETE if complete else Exit.INCOMPLETE


def is_complete(status: LakeStatus) -> bool:
    """Whether every slice that the lake knows of is complete. A lake that knows of none is not."""
    states = [state for by_state in status.slices_by_state.values() for state, number in by_state.items() if number]
    return bool(states) and all(state == COMPLETE for state in states)


def describe(status: LakeStatus, lake: Place) -> Iterator[RenderableType]:
    """The status for people, piece by piece."""
    findings = Findings(_MOST).read(status.slices())
    yield Text(str(lake), style="bold")
    yield _table(status)
    staged = ""
    if status.staged_segments:
        staged = f"; {count(status.staged_segments, 'segment')} ({size(status.staged_bytes)}) not yet in data files"
    yield Text(f"{count(status.data_files, 'data file')}, {size(status.data_bytes)}{staged}")
    if status.unsettled:
        yield Text(f"{count(status.unsettled, 'message')} unsettled: not delivered yet, their status may still change")
    if findings.overdue:
        yield Text(f"{count(findings.overdue, 'message')} overdue: waiting for over 60 days, and counted as settled")
    if findings.proofs:
        proofs = ", ".join(f"{proof} {number:,}" for proof, number in sorted(findings.proofs.items()))
        yield Text(f"proofs: {proofs}")
    last = "never" if status.last_run is None else f"{status.last_run:%Y-%m-%d %H:%M:%S} UTC"
    yield Text(f"last run: {last}{'; a run is at work on it now' if status.in_use else ''}")
    if status.redaction:
        yield Text(f"harvested {in_words(status.redaction)}")
    if status.partition_by != PartitionBy.SEND.value:
        yield Text(f"partitioned by {status.partition_by}")
    if status.remembered is not None:
        borne, at = status.remembered.borne, status.remembered.at
        yield Text(f"the server bears {bears(borne.rate, borne.concurrency)}, as of {at:%Y-%m-%d %H:%M:%S} UTC")
    yield from open_slices(findings, "--json lists all")


def _table(status: LakeStatus) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for title in ("slices", "complete", "incomplete", "rows"):
        table.add_column(title, justify="right")
    for dataset in sorted(status.slices_by_state, key=list(CATALOGUE).index):
        by_state = status.slices_by_state[dataset]
        slices, complete = sum(by_state.values()), by_state.get(COMPLETE, 0)
        rows = status.rows.get(dataset, 0)
        table.add_row(dataset, f"{slices:,}", f"{complete:,}", f"{slices - complete:,}", f"{rows:,}")
    return table


def _fields(status: LakeStatus) -> dict[str, Any]:
    return {
        "complete": is_complete(status),
        "rows": {
            name: status.rows.get(name, 0) for name in CATALOGUE if name in DEFAULT or name in status.slices_by_state
        },
        "in_use": status.in_use,
        "data_files": status.data_files,
        "data_bytes": status.data_bytes,
        "staged_segments": status.staged_segments,
        "staged_bytes": status.staged_bytes,
        "unsettled": status.unsettled,
        "last_run": None if status.last_run is None else status.last_run.isoformat(),
        "pace": _pace(status),
        "redaction": _redaction(status),
        "partition_by": status.partition_by,
    }


def _redaction(status: LakeStatus) -> dict[str, Any] | None:
    if not status.redaction:
        return None
    columns, key = parts_of(status.redaction)
    return {"columns": columns, "key": key}


def _pace(status: LakeStatus) -> dict[str, Any] | None:
    if status.remembered is None:
        return None
    borne, at = status.remembered.borne, status.remembered.at
    rate = None if borne.rate is None else round(borne.rate, 3)
    return {"rate": rate, "concurrency": borne.concurrency, "at": at.isoformat()}


__all__ = ["describe", "is_complete", "show_status"]
