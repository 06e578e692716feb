"""What a tiny send costs, where there are many: scheduling, ledger and sealing together, in processor time a send.

Each send holds three messages, its count is known, and one query brings it. The reference asks the same queries and
decodes the same answers by the client alone: the difference is what scheduling, ledger and sealing cost.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.account import Served, served
from benchmarks.figures import Figure, Report, ratios
from benchmarks.running import harvest, run_whole

if TYPE_CHECKING:
    from benchmarks.measuring import Options

REFERENCE = "asking alone"
ROWS = 3
MOST_MS = 3.0


def asking_s(account: Served) -> float:
    """Processor time to ask for all sends and to decode their answers, in seconds."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        figures = Path(folder, "figures.json")
        command = [sys.executable, "-m", "benchmarks.asking", str(figures), account.url, account.client_id]
        command += [str(account.sends.ids[0]), str(len(account.sends.ids))]
        run_whole(command, HARVESTER_CLIENT_MD5=account.client_md5)
        return float(json.loads(figures.read_text(encoding="utf-8"))["processor_s"])


def measure(options: Options) -> Report:
    sends, rounds = (200, 1) if options.quick else (1_000, 2)
    if options.sends is not None:
        sends, rounds = options.sends, 1
    asked: list[float] = []
    whole: list[float] = []
    peaks: list[float] = []
    with served(f"{sends}x{ROWS}", keep=False) as account:
        for _ in range(rounds):
            asked.append(asking_s(account) / sends * 1e3)
            found = harvest(account)
            whole.append(found.harvest_processor_s / sends * 1e3)
            peaks.append(found.peak_bytes / 2**20)
    rest = [took - alone for took, alone in zip(whole, asked, strict=True)]
    return Report(
        f"{sends:,} sends of {ROWS} messages, processor time a send, without starting Python",
        (
            Figure(REFERENCE, "ms a send", tuple(asked)),
            Figure("the whole harvest", "ms a send", tuple(whole), REFERENCE, ratios(whole, asked)),
            Figure("scheduling, ledger and sealing", "ms a send", tuple(rest), goal=None if options.quick else MOST_MS),
            Figure("peak memory", "MiB", tuple(peaks)),
        ),
    )
