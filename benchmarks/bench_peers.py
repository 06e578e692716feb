"""The same rows, from the same simulated account to Parquet, by dlt: a well-known loader in Python, as a peer.

Both are whole processes, from their start to their end, and find the pages made already. dlt is the reference.
It neither proves nor resumes; it types what it can and keeps no text that doesn't fit.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.account import Served, served
from benchmarks.figures import Better, Figure, Report, WrongResult, ratios
from benchmarks.running import Used, harvest, rows_in, run_whole

if TYPE_CHECKING:
    from benchmarks.measuring import Options

REFERENCE = "dlt"
TIMES = 10.0


def by_dlt(account: Served) -> Used:
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        command = [sys.executable, "-m", "benchmarks.peer_dlt", account.url, account.client_id, account.client_md5]
        used = run_whole([*command, folder, *map(str, account.sends.ids)])
        rows = rows_in(Path(folder, "lake", "mailkit", "messages"))
    if rows != account.rows:
        raise WrongResult(f"dlt brought {rows} rows of {account.rows}")
    return used


def measure(options: Options) -> Report:
    sends, rounds = ("1x10000", 1) if options.quick else ("8x50000", 1)
    with served(sends) as account:
        account.make_pages()
        account.make_pages(ahead=1)  # as dlt asks for them
        pairs = [(harvest(account).whole, by_dlt(account)) for _ in range(rounds)]
    rows = account.rows
    speed = [tuple(rows / used.seconds for used in pair) for pair in pairs]
    cost = [tuple(used.processor_s / rows * 1e6 for used in pair) for pair in pairs]
    (ours, theirs), (our_cost, their_cost) = zip(*speed, strict=True), zip(*cost, strict=True)
    return Report(
        f"{sends} messages to Parquet, whole processes",
        (
            Figure("dlt: throughput", "rows/s", theirs, better=Better.MORE),
            Figure(
                "throughput",
                "rows/s",
                ours,
                REFERENCE,
                ratios(ours, theirs),
                Better.MORE,
                None if options.quick else TIMES,
            ),
            Figure("dlt: processor time", "µs a row", their_cost),
            Figure(
                "processor time",
                "µs a row",
                our_cost,
                REFERENCE,
                ratios(our_cost, their_cost),
                goal=None if options.quick else 1 / TIMES,
            ),
        ),
    )
