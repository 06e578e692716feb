"""One large send by many cursors, in simulated time: how much sooner than one cursor could, and at how many queries.

Where a send is split is guessed by where its keys lie and by how many it says that it has. So this measures it where
they lie evenly, where they don't, and where the number is wrong: 120,000 messages at 2,000 to a page, 12 queries at
once, answers after half a second, less or more by three tenths. Whatever is guessed, every row has to come once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.figures import Better, Figure, Report, WrongResult
from benchmarks.measuring import SEED
from benchmarks.simulated.account import FIRST_KEY, OneSend
from benchmarks.simulated.harvest import Scene, play
from harvester.harvest.paging import pages
from harvester.simulator.behaviour import Behaviour
from harvester.simulator.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from benchmarks.measuring import Options

    Floats = npt.NDArray[np.float64]

ROWS, LIMIT, CONCURRENCY = 120_000, 2_000, 12
LATENCY_S = (0.35, 0.65)
LEAST_SOONER = 8.0
MOST_QUERIES = 1.15
FAULTS = {Fault.FAILED: 0.03, Fault.RESET: 0.02, Fault.SHORT: 0.01}

GAPS: Mapping[str, Callable[[Floats], Floats]] = {
    "keys evenly": lambda at: np.full_like(at, 10.0),
    "keys by chance": lambda at: np.random.default_rng(SEED).exponential(20.0, len(at)),
    "further and further apart": lambda at: 10 + 90 * at,
    "closer and closer": lambda at: 100 - 90 * at,
    "ten times as far from the middle on": lambda at: np.where(at < 0.5, 10.0, 100.0),
    "ten times as close from the middle on": lambda at: np.where(at < 0.5, 100.0, 10.0),
    "to and fro": lambda at: 60 + 50 * np.sin(12 * at),
    "one gap": lambda at: 10 + 1e7 * _at_gaps(at, 1),
    "three gaps": lambda at: 10 + 3e6 * _at_gaps(at, 3),
    "bursts": lambda at: np.where((at * 40).astype(np.int64) % 4 == 0, 400.0, 2.0),
}
"""How far apart keys lie, by how much of the send is before them, as a share of it."""
SAID = (0.6, 0.8, 0.95, 1.1, 1.5, 2.0)
"""How many messages the send says that it has, as a share of those that it has."""


def _at_gaps(at: Floats, gaps: int) -> Floats:
    """1 where one of so many gaps is, and 0 elsewhere."""
    found = np.zeros_like(at)
    found[[len(at) * number // (gaps + 1) for number in range(1, gaps + 1)]] = 1
    return found


def keys(gap: Callable[[Floats], Floats]) -> npt.NDArray[np.int64]:
    """The keys of a send, so far apart, each by up to four fifths less or more."""
    at = np.arange(ROWS) / ROWS
    gaps = gap(at) * np.random.default_rng(SEED).uniform(0.2, 1.8, ROWS)
    return FIRST_KEY + np.cumsum(1 + gaps.astype(np.int64))


def measured(
    name: str, account: OneSend, rounds: int, *, faults: Mapping[Fault, float] | None = None, judged: bool = False
) -> tuple[Figure, ...]:
    """A send, so many times, with other latencies each. Raises WrongResult if not every row of it came, once."""
    settings = {
        "rate": 1000.0,
        "burst": CONCURRENCY,
        "concurrency": CONCURRENCY,
        "limit": LIMIT,
        "datasets": ("messages",),
    }
    least = pages(ROWS, LIMIT)
    sooner: list[float] = []
    queries: list[float] = []
    for seed in range(rounds):
        behaviour = Behaviour(latency_s=LATENCY_S, faults=faults or {}, fault_seed=seed)
        played = play(Scene(account, behaviour, settings=settings))
        if played.lake.gave_up or played.lake.wrong() or not played.lake.complete:
            raise WrongResult(f"{name}: {played.lake.wrong() or played.lake.gave_up or 'it is not complete'}")
        sooner.append(least * sum(LATENCY_S) / 2 / played.seconds)
        queries.append(played.queries)
    return (
        Figure(f"{name}: sooner", "times", tuple(sooner), better=Better.MORE, goal=LEAST_SOONER if judged else None),
        Figure(
            f"{name}: queries",
            "queries",
            tuple(queries),
            "the least",
            tuple(each / least for each in queries),
            goal=MOST_QUERIES if judged else None,
        ),
    )


def measure(options: Options) -> Report:
    rounds = 1 if options.quick else 5
    figures: list[Figure] = []
    for name, gap in GAPS.items():
        figures += measured(name, OneSend(keys(gap), ROWS), rounds, judged=name == "keys evenly")
    evenly = keys(GAPS["keys evenly"])
    for name, found in (("consecutive keys", FIRST_KEY + np.arange(ROWS)), ("keys evenly", evenly)):
        for share in SAID:
            figures += measured(f"{name}, {share:g} times as many said", OneSend(found, round(share * ROWS)), rounds)
    figures += measured("one query in 17 fails", OneSend(evenly, ROWS), rounds, faults=FAULTS)
    about = f"simulated time; one send of {ROWS:,} messages, {LIMIT:,} to a page, {CONCURRENCY} cursors"
    return Report(about, tuple(figures))
