"""What a harvest makes of its permits, in real time and over real HTTP: what is promised, as a server sees it.

How much of the rate it was told is used, and how far any window goes beyond it; how often a server refuses that bears
less than that, or takes fewer at once; and how much sooner several cursors bring one large send than one could. The
server is a process of its own and notes when queries arrive. Waiting is most of it, so a busy machine shows here.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.account import ROOT
from benchmarks.figures import Better, Figure, Report, WrongResult
from benchmarks.running import rows_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.measuring import Options

GIANT_ROWS, GIANT_LIMIT, GIANT_LATENCY_S = 120_000, 2_000, 0.5
LEAST_USED, LEAST_USED_SLOWLY = 0.97, 0.99
MOST_EARLY_MS = 50.0
MOST_REFUSED = 0.1
LEAST_SOONER, MOST_QUERIES = 8.0, 1.15


@dataclass(frozen=True, slots=True)
class Seen:
    """What one harvest came to.

    Attributes:
        arrivals_s: when queries arrived at the server, in seconds, ascending.
        refused: how many of them it refused.
        summary: what ``harvester run --json`` said.
    """

    arrivals_s: tuple[float, ...]
    refused: int
    summary: Mapping[str, Any]

    @property
    def refused_part(self) -> float:
        return self.refused / len(self.arrivals_s)

    def used(self, rate: float, *, since: int = 0) -> float:
        """Which part of the rate was used, from the query number ``since`` on to the last."""
        return (len(self.arrivals_s) - 1 - since) / (rate * (self.arrivals_s[-1] - self.arrivals_s[since]))

    def early_ms(self, rate: float) -> float:
        """By how much the most crowded window is too short for what it holds, at burst 1; 0 or less for none."""
        behind = [at - number / rate for number, at in enumerate(self.arrivals_s)]
        return 1e3 * max(most - here for most, here in zip(accumulate(behind, max), behind, strict=True))


@contextmanager
def simulated(*options: str) -> Iterator[Mapping[str, Any]]:
    """A simulated account in a process of its own; what it says of itself."""
    command = [sys.executable, "-m", "harvester", "simulate", "--json", "--port", "0", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


def harvested(sends: int, rows: int, serving: Sequence[str], asking: Sequence[str]) -> Seen:
    """Harvests the messages of an account, all sends named with their sizes. Raises WrongResult if any are missing.

    Args:
        sends: how many sends the account has.
        rows: how many messages each of them has.
        serving: options of the server.
        asking: options of the harvest.
    """
    account = simulated("--sends", f"{sends}x{rows}", *serving)
    with account as told, tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        first = told["sends"][0]
        listed = Path(folder, "sends.csv")
        listed.write_text("id_send,rows\n" + "".join(f"{first + n},{rows}\n" for n in range(sends)), "utf-8")
        command = [sys.executable, "-m", "harvester", "run", "--lake", f"{folder}/lake", "--endpoint", told["url"]]
        command += ["--client-id", told["client_id"], "--sends-file", str(listed), "--dataset", "messages"]
        command += ["--burst", "1", "--json", *asking]
        variables = os.environ | {"HARVESTER_CLIENT_MD5": told["client_md5"]}
        ran = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, check=False)
        if ran.returncode:
            raise WrongResult(f"the harvest ended with {ran.returncode}:\n{ran.stderr.decode()[-2000:]}")
        if (found := rows_in(Path(folder, "lake", "messages"))) != sends * rows:
            raise WrongResult(f"the lake holds {found} rows, and the account {sends * rows}")
        with urllib.request.urlopen(f"{told['url']}/stats") as answer:
            stats = json.loads(answer.read())
    return Seen(tuple(stats["arrivals_s"]), stats["throttled"] + stats["busy"], json.loads(ran.stdout))


def at_a_rate(rate: int, seconds: float, *, whole: float | None, then: float | None) -> tuple[Figure, ...]:
    """Many small sends at a rate, at uneven latency: how much of the rate is used, and the worst window.

    Args:
        rate: queries per second.
        seconds: how long that takes.
        whole: how much of the rate is to be used from the first query on, which goes alone until it is answered;
        then: and from then on.
    """
    asking = ("--rate", str(rate), "--concurrency", str(2 * rate))
    seen = harvested(round(rate * seconds), 3, ("--latency", "0.1..0.9"), asking)
    used, used_then = seen.used(rate), seen.used(rate, since=1)
    return (
        Figure(f"{rate} a second: used", "of the rate", (used,), better=Better.MORE, goal=whole),
        Figure(
            f"{rate} a second: used from the first answer on",
            "of the rate",
            (used_then,),
            better=Better.MORE,
            goal=then,
        ),
        Figure(f"{rate} a second: any window too short by", "ms", (seen.early_ms(rate),), goal=MOST_EARLY_MS),
    )


def learned() -> tuple[Figure, ...]:
    """What is refused by servers that bear less than was told, and what the harvest settles at: that takes its time."""
    throttled = harvested(120, 3, ("--latency", "0.1..0.3", "--server-rate", "5"), ("--rate", "20"))
    crowded = ("--latency", "0.1..0.3", "--server-concurrency", "6")
    full = harvested(240, 3, crowded, ("--rate", "1000", "--concurrency", "12"))
    return (
        Figure("told 20 a second, 5 are let in: refused", "of queries", (throttled.refused_part,), goal=MOST_REFUSED),
        Figure("told 12 at once, 6 are let in: refused", "of queries", (full.refused_part,)),
        Figure("the same: settled at", "at once", (float(full.summary["pace"]["concurrency"]),)),
    )


def giant(rows: int, goal: float | None) -> tuple[Figure, ...]:
    """One send of so many messages, by many cursors: by how much sooner than one could, and at how many queries."""
    asking = ("--rate", "1000", "--concurrency", "12", "--limit", str(GIANT_LIMIT))
    seen = harvested(1, rows, ("--latency", str(GIANT_LATENCY_S)), asking)
    least = math.ceil((rows - 1) / (GIANT_LIMIT - 1))
    queries = len(seen.arrivals_s)
    sooner = least * GIANT_LATENCY_S / (seen.arrivals_s[-1] - seen.arrivals_s[0] + GIANT_LATENCY_S)
    return (
        Figure(
            "one large send, 12 cursors: sooner than one cursor could",
            "times",
            (sooner,),
            better=Better.MORE,
            goal=goal,
        ),
        Figure("the same: queries", "", (float(queries),), "the least", (queries / least,), goal=MOST_QUERIES),
    )


def measure(options: Options) -> Report:
    if options.quick:
        figures = (*at_a_rate(8, 1.2, whole=None, then=None), *giant(GIANT_ROWS // 10, None))
    else:
        figures = (
            *at_a_rate(8, 30, whole=LEAST_USED, then=LEAST_USED_SLOWLY),
            *at_a_rate(50, 12, whole=None, then=LEAST_USED),
            *learned(),
            *giant(GIANT_ROWS, LEAST_SOONER),
        )
    return Report("permits, as the server sees queries arrive", figures)
