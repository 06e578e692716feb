"""How much memory a harvest takes at its peak, with ``--memory 512MiB``: with large pages at once, and as rows grow.

The second is two harvests of unlike size, of sends as large as a page, so that both have as many under way as may be;
the reference is the smaller one. With --whole they are of one and of ten million rows.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from benchmarks.account import served
from benchmarks.figures import Figure, Report
from benchmarks.measuring import MEBIBYTE
from benchmarks.running import harvest

if TYPE_CHECKING:
    from benchmarks.measuring import Options

OPTIONS = ("--memory", "512MiB", "--concurrency", "16")
MOST_AT_ONCE = 16
MOST_MIB = 800.0
MOST_GROWTH = 1.05


def peak_mib(sends: str, *, keep: bool) -> float:
    with served(sends, keep=keep) as account:
        return harvest(account, options=OPTIONS).peak_bytes / MEBIBYTE


def measure(options: Options) -> Report:
    if options.whole:
        at_once, few, many, rounds = MOST_AT_ONCE, (40, 25_000), (400, 25_000), 3
    elif options.quick:
        at_once, few, many, rounds = 2, (1, 5_000), (2, 5_000), 1
    else:
        at_once, few, many, rounds = MOST_AT_ONCE, (40, 25_000), (80, 25_000), 1
    less, more = (f"{sends * rows / 1e6:g} million rows" for sends, rows in (few, many))
    first = peak_mib(f"{at_once}x25000", keep=True)
    small = tuple(peak_mib("{}x{}".format(*few), keep=False) for _ in range(rounds))
    large = peak_mib("{}x{}".format(*many), keep=False)
    most, growth = (None, None) if options.quick else (MOST_MIB, MOST_GROWTH)  # so little says nothing of either
    return Report(
        f"peak of the whole process, {' '.join(OPTIONS)}",
        (
            Figure(f"{at_once} queries of 25,000 rows at once", "MiB", (first,), goal=most),
            Figure(less, "MiB", small),
            Figure(more, "MiB", (large,), less, (large / median(small),), goal=growth),
        ),
    )
