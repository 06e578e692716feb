"""What a whole harvest costs: from loopback, JSON with gzip, to sealed Parquet, by ``harvester run``, whole process.

The reference is ``orjson.loads`` alone over the same bodies, all of them, before and after each harvest.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING

import orjson

from benchmarks.account import served, unpacked
from benchmarks.figures import Better, Figure, Report, ratios
from benchmarks.measuring import MEBIBYTE
from benchmarks.running import harvest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.measuring import Options

REFERENCE = "orjson.loads"
MOST_TIMES_THE_REFERENCE = 2.0
LEAST_CORES = 1.6


def parsing_s(bodies: Sequence[bytes]) -> float:
    """Processor time of ``orjson.loads`` over packed bodies. Unpacking them, and freeing what it made, is not in it."""
    taken = 0.0
    for packed in bodies:
        body = unpacked(packed)
        began = time.process_time()
        records = orjson.loads(body)
        taken += time.process_time() - began
        del records
    return taken


def measure(options: Options) -> Report:
    sends, rounds = ("2x10000", 1) if options.quick else ("24x40000", 2)
    with served(sends) as account:
        bodies = [packed for id_send in account.sends.ids for packed in account.pages(id_send)]
        parsing_s(bodies[:1])
        parsed, runs = [parsing_s(bodies)], []
        for _ in range(rounds):
            runs.append(harvest(account))
            parsed.append(parsing_s(bodies))
    rows = account.rows
    most, least = (None, None) if options.quick else (MOST_TIMES_THE_REFERENCE, LEAST_CORES)  # starting takes too much
    reference = [(before + after) / 2 / rows for before, after in pairwise(parsed)]
    a_row = [run.processor_s_a_row for run in runs]
    return Report(
        f"{len(account.sends.ids)} sends of {account.sends.rows[0]:,} messages; {len(bodies)} pages",
        (
            Figure(REFERENCE, "µs a row", tuple(taken * 1e6 for taken in reference)),
            Figure(
                "processor time, whole process",
                "µs a row",
                tuple(taken * 1e6 for taken in a_row),
                REFERENCE,
                ratios(a_row, reference),
                goal=most,
            ),
            Figure(
                "processor time, harvesting alone",
                "µs a row",
                tuple(run.harvest_processor_s / rows * 1e6 for run in runs),
                REFERENCE,
                ratios([run.harvest_processor_s / rows for run in runs], reference),
            ),
            Figure("throughput", "rows/s", tuple(rows / run.harvest_s for run in runs), better=Better.MORE),
            Figure(
                "cores busy while harvesting",
                "cores",
                tuple(run.harvest_processor_s / run.harvest_s for run in runs),
                better=Better.MORE,
                goal=least,
            ),
            Figure(
                "cores busy or waited for",
                "cores",
                tuple((run.harvest_processor_s + run.queued_s) / run.harvest_s for run in runs),
                better=Better.MORE,
            ),
            Figure("peak memory", "MiB", tuple(run.peak_bytes / MEBIBYTE for run in runs)),
            Figure("serving it, in its own process", "µs a row", tuple(run.serving_s / rows * 1e6 for run in runs)),
        ),
    )
