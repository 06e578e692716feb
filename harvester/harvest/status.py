"""What a lake's ledger says, read without a run: also while one goes on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harvester.harvest.outcome import SliceOutcome
from harvester.lake.lake import look_into

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from sqlalchemy import RowMapping

    from harvester.lake.bearing import Remembered
    from harvester.model import Secret
    from harvester.places import Place


@dataclass(frozen=True, slots=True)
class LakeStatus:
    """What a lake holds.

    Attributes:
        rows: rows, by dataset.
        slices_by_state: slices, by dataset and then by state (``complete``, ``incomplete``).
        data_files: sealed files.
        data_bytes: their bytes.
        staged_segments: pages that are durable and not yet sealed.
        staged_bytes: their bytes.
        unsettled: rows whose status may still change.
        in_use: whether a run holds the lake.
        last_run: when the last run began, in UTC; None if there was none.
        redaction: the label of what is done to people's data; empty where nothing is.
        partition_by: what its folders are: ``send``, ``campaign``, ``month`` or ``day``.
        remembered: what the server was found to bear, and when; None where it bore all that it was asked.
        slices: reads every slice, in order of send and dataset, a few at a time.
    """

    rows: Mapping[str, int]
    slices_by_state: Mapping[str, Mapping[str, int]]
    data_files: int
    data_bytes: int
    staged_segments: int
    staged_bytes: int
    unsettled: int
    in_use: bool
    last_run: datetime | None
    redaction: str
    partition_by: str
    remembered: Remembered | None
    slices: Callable[[], Iterator[SliceOutcome]]


def outcomes(lake: Place, run: int | None = None, ledger: Secret | None = None) -> Iterator[SliceOutcome]:
    """Every slice of a run's selection, or of the lake if ``run`` is None, in order of send and dataset.

    ``ledger`` is the URL of the database that its ledger is in, if that is not beside its data. Raises LakeError if
    there is no lake, or it can't be read.
    """
    with look_into(lake, ledger) as seen:
        yield from (_outcome(row) for row in seen.ledger.walked(run))


def _outcome(row: RowMapping) -> SliceOutcome:
    return SliceOutcome(
        dataset=row["dataset"],
        id_send=row["id_send"],
        state="complete" if row["proof"] and row["due"] <= 0 else "incomplete",
        proof=row["proof"],
        rows=row["rows"],
        expected=row["expected"],
        unsettled=row["unsettled"],
        overdue=row["overdue"],
        changed=row["changed"],
        gone=row["gone"],
        queries=row["queries"],
        error=row["error"],
    )


def read_status(lake: Place, ledger: Secret | None = None) -> LakeStatus:
    """Reads a lake's ledger, wherever it is. Raises LakeError if there is no lake, or it can't be read."""
    with look_into(lake, ledger) as seen:
        rows: Counter[str] = Counter()
        states: dict[str, Counter[str]] = {}
        unsettled = 0
        for outcome in outcomes(lake, ledger=ledger):
            rows[outcome.dataset] += outcome.rows
            states.setdefault(outcome.dataset, Counter())[outcome.state] += 1
            unsettled += outcome.unsettled
        data_files, data_bytes = seen.inventory.sealed_bytes()
        segments, staged_bytes = seen.inventory.staged_bytes()
        return LakeStatus(
            rows=rows,
            slices_by_state=states,
            data_files=data_files,
            data_bytes=data_bytes,
            staged_segments=segments,
            staged_bytes=staged_bytes,
            unsettled=unsettled,
            in_use=seen.in_use(),
            last_run=seen.runs.last(),
            redaction=seen.runs.redaction(),
            partition_by=seen.runs.partition_by().value,
            remembered=seen.bearing.remembered(),
            slices=lambda: outcomes(lake, ledger=ledger),
        )


__all__ = ["LakeStatus", "outcomes", "read_status"]
