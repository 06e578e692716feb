"""What sealing costs: segments that are on disk into a data file under its final name, synced, in the ledger.

The reference is ``pyarrow.parquet.write_table`` of the same rows into memory, with zstd and otherwise as it comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figures import Figure, Report, WrongResult, compared
from benchmarks.lakes import batches, lake, page
from benchmarks.measuring import in_turns
from benchmarks.running import rows_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.lakes import Filling
    from benchmarks.measuring import Options

REFERENCE = "pyarrow.parquet.write_table"
SMALL_ROWS, SMALL_SLICES = 3, 25


def stage(filling: Filling, rows: Sequence[pa.RecordBatch], many: int) -> list[int]:
    """So many new slices with these pages each, staged and complete."""
    slices = filling.slices(many)
    for number, batch in enumerate(rows, start=1):
        filling.lake.stage([page(slice_id, batch, last=number == len(rows)) for slice_id in slices])
    return slices


def measure(options: Options) -> Report:
    pages, rows, rounds = (2, 5_000, 3) if options.quick else (4, 25_000, 7)
    found = batches(pages, rows)
    table, small = pa.Table.from_batches(found), [found[0].slice(0, SMALL_ROWS)]
    little = pa.Table.from_batches(small)
    with lake() as filling:
        large = stage(filling, found, rounds + 1)
        tiny = stage(filling, small, SMALL_SLICES * (rounds + 1))

        def seal(slices: list[int], many: int) -> None:
            for _ in range(many):
                filling.lake.seal(slices.pop())

        def write(source: pa.Table, many: int, compression: Literal["zstd", "none"]) -> None:
            for _ in range(many):
                pq.write_table(source, pa.BufferOutputStream(), compression=compression)

        seal_one, seal_many = f"a slice of {pages} segments", f"{SMALL_SLICES} slices of {SMALL_ROWS} rows"
        whole = in_turns({REFERENCE: lambda: write(table, 1, "zstd"), seal_one: lambda: seal(large, 1)}, rounds)
        parts = in_turns(
            {
                f"{REFERENCE}, small": lambda: write(little, SMALL_SLICES, "none"),
                seal_many: lambda: seal(tiny, SMALL_SLICES),
            },
            rounds,
        )
        sealed = rows_in(filling.lake.store.state.root)
    if sealed != (rounds + 1) * (pages * rows + SMALL_SLICES * SMALL_ROWS):
        raise WrongResult(f"{sealed} rows were sealed")
    figures: tuple[Figure, ...] = (
        *compared(whole, REFERENCE, unit="ms", scale=1e3, goals={}),
        *compared(parts, f"{REFERENCE}, small", unit="ms", scale=1e3, goals={}),
    )
    return Report(f"{pages} segments of {rows:,} messages into one file, and many of {SMALL_ROWS} rows", figures)
