"""What making a page durable costs: writing and syncing its segment, and the ledger's transaction.

The reference is Arrow's own IPC file of the same page, uncompressed, into memory: no disk, no ledger. Small pages are
staged a hundred to a transaction.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from benchmarks.figures import Figure, Report, WrongResult, compared
from benchmarks.lakes import batches, lake, page
from benchmarks.measuring import in_turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.lakes import Filling
    from benchmarks.measuring import Options

REFERENCE = "Arrow IPC into memory"
SMALL_ROWS = 3


def written(batch: pa.RecordBatch, times: int) -> int:
    size = 0
    for _ in range(times):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        size += sink.getvalue().size
    return size


def staging(filling: Filling, batch: pa.RecordBatch, slices: list[int]) -> Callable[[], object]:
    """Stages one page of each of so many new slices at a time, which are there beforehand."""

    def stage(pages: int) -> None:
        todo = [slices.pop() for _ in range(pages)]
        sizes = filling.lake.stage([page(slice_id, batch) for slice_id in todo])
        if not all(sizes):
            raise WrongResult("a page was not staged")

    return partial(stage, 1 if batch.num_rows > SMALL_ROWS else 100)


def measure(options: Options) -> Report:
    rows, rounds = (5_000, 3) if options.quick else (25_000, 15)
    (batch,) = batches(1, rows)
    small = batch.slice(0, SMALL_ROWS)
    with lake() as filling:
        one = staging(filling, batch, filling.slices(rounds + 1))
        large = in_turns({REFERENCE: lambda: written(batch, 1), "a page": one}, rounds)
        many = staging(filling, small, filling.slices(100 * (rounds + 1)))
        little = in_turns(
            {f"{REFERENCE}, small": lambda: written(small, 100), f"100 pages of {SMALL_ROWS} rows": many}, rounds
        )
    figures: tuple[Figure, ...] = (
        *compared(large, REFERENCE, unit="ms", scale=1e3, goals={}),
        *compared(little, f"{REFERENCE}, small", unit="ms", scale=1e3, goals={}),
    )
    return Report(f"a page of {rows:,} messages, and many of {SMALL_ROWS}, made durable; processor time", figures)
