"""One large send by many cursors, in simulated time: how much sooner than one cursor could, and at how many queries.

Where a send is split is guessed by where its keys lie and by how many it says that it has. So this measures it where
they lie evenly, where they don't, and where the number is wrong, or has to be asked for: 120,000 messages at 2,000 to
a page, 12 queries at once, answers after half a second, less or more by three tenths. Whatever is guessed, every row
has to come once. Each round has keys and latencies of its own; with --whole there are 40 of them, which tells more of
what is up to chance, and more has a goal.
Where queries fail, or a run is killed and another one goes on, the time that this loses counts too; starting a process
doesn't. The least queries are then those of the send, and those that a kill found in flight: they are asked again.
"""

from __future__ import annotations

from functools import partial
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
FAULTS = {Fault.FAILED: 0.5, Fault.RESET: 0.35, Fault.SHORT: 0.15}
"""What goes wrong, where something does."""
FAILING = (50, 20)
KILLED_S = (0.85, 2.55)
"""Kills come between a quarter and three quarters of the time that a run takes."""

EVENLY = "keys evenly"
GAPS: Mapping[str, Callable[[Floats], Floats]] = {
    EVENLY: lambda at: np.full_like(at, 10.0),
    "keys by chance": lambda at: np.full_like(at, 20.0),
    "further and further apart": lambda at: 10 + 90 * at,
    "closer and closer": lambda at: 100 - 90 * at,
    "ten times as far from the middle on": lambda at: np.where(at < 0.5, 10.0, 100.0),
    "ten times as close from the middle on": lambda at: np.where(at < 0.5, 100.0, 10.0),
    "to and fro": lambda at: 60 + 50 * np.sin(12 * at),
    "one gap": lambda at: 10 + 1e7 * _at_gaps(at, 1),
    "three gaps": lambda at: 10 + 3e6 * _at_gaps(at, 3),
    "ten gaps": lambda at: 10 + 2e5 * _at_gaps(at, 10),
    "bursts": lambda at: np.where((at * 40).astype(np.int64) % 4 == 0, 400.0, 2.0),
}
"""How far apart keys lie, by how much of the send is before them, as a share of it."""
NOT_TO_FORETELL = {"to and fro", "three gaps", "ten gaps", "bursts"}
"""Where what came says little of what comes next: what these take is measured, and no goal."""
SAID = (0.6, 0.8, 0.95, 1.1, 1.5, 2.0)
"""How many messages the send says that it has, as a share of those that it has."""


def _at_gaps(at: Floats, gaps: int) -> Floats:
    """1 where one of so many gaps is, and 0 elsewhere."""
    found = np.zeros_like(at)
    found[[len(at) * number // (gaps + 1) for number in range(1, gaps + 1)]] = 1
    return found


def keys(name: str, number: int) -> npt.NDArray[np.int64]:
    """The keys of a send, of so many that are alike: so far apart, each by up to four fifths less or more."""
    at, dice = np.arange(ROWS) / ROWS, np.random.default_rng((SEED, number))
    chance = dice.exponential(1.0, ROWS) if name == "keys by chance" else dice.uniform(0.2, 1.8, ROWS)
    return FIRST_KEY + np.cumsum(1 + (GAPS[name](at) * chance).astype(np.int64))


def consecutive(_: int) -> npt.NDArray[np.int64]:
    """Keys without gaps."""
    return FIRST_KEY + np.arange(ROWS)


def measured(
    name: str,
    found: Callable[[int], npt.NDArray[np.int64]],
    rounds: int,
    *,
    said: float | None = 1.0,
    faults: Mapping[Fault, float] | None = None,
    killed: bool = False,
    judged: bool = False,
) -> tuple[Figure, ...]:
    """So many sends that are alike, with other keys and latencies each. Raises WrongResult if not every row came, once.

    Args:
        name: what they are.
        found: a send's keys, by its number.
        rounds: how many sends.
        said: how many messages they say that they have, as a share of those that they have; None where they are named
            without a number, and the list of their campaign's sends says it.
        faults: what fails how often.
        killed: whether a run is killed in its middle, and another one goes on; at another instant each.
        judged: whether what comes of it is a goal.
    """
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
    over: list[float] = []
    for seed in range(rounds):
        behaviour = Behaviour(latency_s=LATENCY_S, faults=faults or {}, fault_seed=seed)
        account = OneSend(found(seed), round((said or 1.0) * ROWS))
        kills = (float(np.interp(seed + 0.5, (0, rounds), KILLED_S)),) if killed else ()
        played = play(Scene(account, behaviour, settings=settings, sized=said is not None, kills=kills))
        if played.lake.gave_up or played.lake.wrong() or not played.lake.complete:
            raise WrongResult(f"{name}: {played.lake.wrong() or played.lake.gave_up or 'it is not complete'}")
        sooner.append(least * sum(LATENCY_S) / 2 / played.seconds)
        queries.append(played.queries)
        over.append(played.queries / (least + played.asked.lost))
    return (
        Figure(f"{name}: sooner", "times", tuple(sooner), better=Better.MORE, goal=LEAST_SOONER if judged else None),
        Figure(
            f"{name}: queries",
            "queries",
            tuple(queries),
            "the least",
            tuple(over),
            goal=MOST_QUERIES if judged else None,
        ),
    )


def measure(options: Options) -> Report:
    rounds = 1 if options.quick else 40 if options.whole else 5
    figures: list[Figure] = []
    for name in GAPS:
        judged = name == EVENLY or (options.whole and name not in NOT_TO_FORETELL)
        figures += measured(name, partial(keys, name), rounds, judged=judged)
    evenly = partial(keys, EVENLY)
    for name, found in (("consecutive keys", consecutive), (EVENLY, evenly)):
        for share in SAID:
            label = f"{name}, {share:g} times as many said"
            figures += measured(label, found, rounds, said=share, judged=options.whole)
    figures += measured("named without a number", evenly, rounds, said=None, judged=options.whole)
    for one_in in FAILING:
        faults = {kind: share / one_in for kind, share in FAULTS.items()}
        figures += measured(f"one query in {one_in} fails", evenly, rounds, faults=faults, judged=options.whole)
    figures += measured("killed in the middle", evenly, rounds, killed=True, judged=options.whole)
    about = f"simulated time; one send of {ROWS:,} messages, {LIMIT:,} to a page, {CONCURRENCY} cursors"
    return Report(about, tuple(figures))
