"""What a harvest tells of itself: a snapshot while it runs, a result when it ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from harvester.config import TableChoice


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a running harvest at one instant. Immutable; take another for a later instant.

    Attributes:
        seconds: since the run began.
        rows: rows taken by this run, by dataset.
        rows_before: rows that the lake held of this run's selection when the run began, by dataset.
        rows_expected: rows that the selection should have in all, by dataset, as far as sends say how many they have;
            a dataset is missing where any of its sends does not say.
        queries: queries asked by this run.
        attempts: attempts at them, retries included.
        in_flight: attempts in flight now.
        concurrency: the most attempts that may be in flight.
        rate: permits per second that the run may use.
        rate_used: permits per second that it did use, over the last half minute.
        slices: slices of this run's selection.
        slices_complete: those that are complete.
        slices_failed: those that this run has given up on.
        under_way: slices that have been begun by this run and not ended, by name, at most a screenful, largest first.
        waiting: slices that wait after a failure.
        trouble: the latest failure, in one line; None if nothing failed lately.
        paused_s: seconds for which the server's pause goes on; 0 if there is none.
        left_s: seconds that the run still takes; None while too little is known, and once it is drained.
        draining: whether the run finishes what is in flight and begins nothing.
        search: how far finding the sends is; None where they are named, or not looked for yet.
        paced: what the run may ask now; None before it has begun.
    """

    seconds: float
    rows: Mapping[str, int]
    rows_before: Mapping[str, int]
    rows_expected: Mapping[str, int]
    queries: int
    attempts: int
    in_flight: int
    concurrency: int
    rate: float
    rate_used: float
    slices: int
    slices_complete: int
    slices_failed: int
    under_way: tuple[SliceProgress, ...]
    waiting: int
    trouble: str | None
    paused_s: float
    draining: bool
    search: Search | None = None
    left_s: float | None = None
    paced: Paced | None = None


@dataclass(frozen=True, slots=True)
class Paced:
    """What the run may ask of the server now, which is less than its settings where the server bears less.

    Attributes:
        rate: permits per second.
        concurrency: attempts at once.
        refused: attempts that the server has refused because there were too many.
        pauses: pauses that it has asked for.
    """

    rate: float
    concurrency: int
    refused: int
    pauses: int


@dataclass(frozen=True, slots=True)
class Search:
    """How far finding is: lists proven or given up, of those known to be needed so far, and sends that they name."""

    lists_done: int
    lists: int
    sends: int


@dataclass(frozen=True, slots=True)
class SliceProgress:
    """One slice under way: ``rows`` held, of ``expected`` where known; ``waiting`` after a failure or not."""

    dataset: str
    id_send: int
    rows: int
    expected: int | None
    waiting: bool


@dataclass(frozen=True, slots=True)
class SliceOutcome:
    """What the lake knows of one slice. The JSON summary prints exactly these fields.

    Attributes:
        dataset: the dataset's name.
        id_send: the send.
        state: ``complete`` or ``incomplete``.
        proof: why it is complete; None if it is not.
        rows: rows that the lake holds.
        expected: rows that the send should have (``SEND_COUNT``), where known.
        unsettled: rows whose status may still change.
        overdue: rows that wait for over 60 days; they count as settled.
        changed: rows that this run's refresh changed.
        gone: rows that the lake holds and the source no longer does.
        queries: queries that this run asked.
        error: why it is incomplete, in one line; None if nothing failed.
    """

    dataset: str
    id_send: int
    state: str
    proof: str | None
    rows: int
    expected: int | None
    unsettled: int
    overdue: int
    changed: int
    gone: int
    queries: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended.

    Attributes:
        complete: whether every slice of the run's selection is complete.
        interrupted: whether it was told to stop before it was done (a signal, or ``--for``).
        rows: rows that the lake holds of the selection, by dataset.
        queries: queries asked by this run.
        attempts: attempts at them, retries included.
        seconds: how long it took.
        slices: reads every slice of the selection from the ledger, in order of send and dataset, a few at a time.
        doubts: lists of sends that are not proven, and why, a line each. Where there are any, the run is not complete.
        unlisted: sends that the ledger knows and that this run's lists lack though they should have them, by
            ``ID_send``; at most a thousand.
        met: names of fields that the API sent and that the catalogue does not know, by dataset.
        limit: the fewest records that were asked for at a time because more would not fit into memory; None if memory
            was no matter.
        told: the most permits per second, and attempts at once, that it might use at all.
        paced: what it might ask of the server in the end; None if it asked nothing.
        table: which tables the lake has; None if it has none.
    """

    complete: bool
    interrupted: bool
    rows: Mapping[str, int]
    queries: int
    attempts: int
    seconds: float
    slices: Callable[[], Iterator[SliceOutcome]]
    doubts: tuple[str, ...] = ()
    unlisted: tuple[int, ...] = ()
    met: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    limit: int | None = None
    told: tuple[float, int] | None = None
    paced: Paced | None = None
    table: TableChoice | None = None


__all__ = ["Paced", "Result", "Search", "SliceOutcome", "SliceProgress", "Snapshot"]
