"""What the scheduler makes of its permits: makespans in simulated time, against what no scheduler could beat.

The real scheduler, limiter and client harvest accounts that exist in memory alone, from an API that answers in
simulated time: nothing sleeps, and the same figures come out of every run, but for the two of this machine (real time
and memory). A makespan is compared with its lower bound, and the queries asked with the fewest over all scopes; see
``benchmarks.simulated``. With --whole it ends with a billion rows in 100,000 sends.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.figures import Figure, Report, WrongResult
from benchmarks.measuring import MEBIBYTE, SEED, peak_bytes
from benchmarks.simulated.account import SimulatedAccount
from benchmarks.simulated.bounds import least_queries, least_seconds
from benchmarks.simulated.harvest import Scene, play
from harvester.config import Scope
from harvester.simulator.behaviour import Behaviour
from harvester.simulator.faults import Fault
from harvester.simulator.spec import skewed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.measuring import Options

RATE_GOAL = 1.05
LATENCY_GOAL = 1.15
TINY_GOAL = 1.2
"""Of so few queries, the first that goes alone and the last few weigh much."""
MOST_REAL_S = 120.0
MOST_MIB = 500.0
FAULTS = {Fault.FAILED: 0.05, Fault.RESET: 0.03, Fault.EMPTY: 0.01, Fault.SHORT: 0.01}


def even(sends: int, most: int) -> Sequence[int]:
    """Sends of 1 up to ``most`` messages, each size as likely."""
    rows: list[int] = np.random.default_rng(SEED).integers(1, most, sends).tolist()
    return rows


def scenes(times: int) -> Mapping[str, tuple[Scene, float | None]]:
    """Each profile by name, with its goal; ``times`` is how much of everything there is."""
    slow, quick = Behaviour(latency_s=(0.5, 1.0)), Behaviour(latency_s=(0.1, 0.3))

    def scene(rows: Sequence[int], behaviour: Behaviour, rate: float, bytes_per_s: float | None = None) -> Scene:
        return Scene(SimulatedAccount(rows), behaviour, bytes_per_s, {"rate": rate})

    usual = even(250 * times, 100_000)
    giant = [2_500_000 * times, *even(100 * times, 20_000)]
    return {
        "rate-bound": (scene(usual, slow, 8.0), RATE_GOAL),
        "latency-bound": (scene(usual, Behaviour(latency_s=(1.0, 3.0)), 50.0), LATENCY_GOAL),
        "bandwidth-bound": (scene(usual, quick, 50.0, bytes_per_s=3e6), None),
        "skewed": (scene(skewed(200 * times, 10_000_000 * times).rows, slow, 8.0), RATE_GOAL),
        "one giant": (scene(giant, slow, 8.0), RATE_GOAL),
        "throttling": (scene(usual, Behaviour(latency_s=(0.5, 1.0), rate=5.0, retry_after_s=2.0), 20.0), None),
        "many tiny": (tiny(100_000), TINY_GOAL),
        "flaky": (scene(usual, Behaviour(latency_s=(0.5, 1.0), faults=FAULTS), 8.0), None),
    }


def tiny(sends: int) -> Scene:
    """Messages of twelve a send, walked at once over the account, from an API that takes its time."""
    settings = {"rate": 8.0, "datasets": ("messages",), "scope": Scope.ACCOUNT}
    return Scene(SimulatedAccount([12] * sends), Behaviour(latency_s=(10.0, 10.0)), settings=settings)


def all_of_it(sends: int) -> Scene:
    """Messages alone, ten thousand a send on average."""
    account = SimulatedAccount(even(sends, 20_000))
    return Scene(
        account, Behaviour(latency_s=(0.1, 0.2)), settings={"rate": 50.0, "concurrency": 16, "datasets": ("messages",)}
    )


def judged(name: str, scene: Scene, goal: float | None) -> list[Figure]:
    """Plays a scene. Raises WrongResult if not every row of it came, once."""
    played = play(scene)
    if played.lake.gave_up or played.lake.wrong():
        raise WrongResult(f"{name}: {played.lake.wrong() or played.lake.gave_up}")
    bound, least = least_seconds(scene, played.queries), least_queries(scene)
    scope = min(least, key=lambda each: least[each])
    return [
        Figure(f"{name}: makespan", "s", (played.seconds,), "lower bound", (played.seconds / bound,), goal=goal),
        Figure(
            f"{name}: queries",
            "queries",
            (played.queries,),
            f"the least ({scope} scope)",
            (played.queries / least[scope],),
        ),
        Figure(f"{name}: attempts", "attempts", (len(played.asked.at),)),
    ]


def measure(options: Options) -> Report:
    figures: list[Figure] = []
    for name, (scene, goal) in scenes(1 if options.quick else 4).items():
        figures += judged(name, scene, goal)
    sends = options.sends or (100_000 if options.whole else 500 if options.quick else 5_000)
    began, busy, scene = time.perf_counter(), time.process_time(), all_of_it(sends)
    figures += judged(f"{sends:,} sends", scene, RATE_GOAL)
    took, whole = time.perf_counter() - began, sends >= 100_000
    figures += [
        Figure(f"{sends:,} sends: real time", "s", (took,), goal=MOST_REAL_S if whole else None),
        Figure(f"{sends:,} sends: processor time", "s", (time.process_time() - busy,)),
        Figure(f"{sends:,} sends: peak memory", "MiB", (peak_bytes() / MEBIBYTE,), goal=MOST_MIB),
    ]
    about = f"simulated time; last, {scene.account.total:,} rows in {sends:,} sends"
    return Report(about, tuple(figures))
