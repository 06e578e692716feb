"""The processes that try cases, each under limits that the system enforces, and the one that watches them.

A case that takes more than ``MOST_CPU_S`` of processor time ends its process, also in the midst of compiled code, and
so does a crash. Which case that was, the watching process knows: its number stands in memory that both share. It is
tried once more, since a machine that stands still for a while is charged to whoever runs on it.
"""

from __future__ import annotations

import multiprocessing
import resource
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from tests.fuzz.cases import Case, Maker
from tests.fuzz.oracle import Finding, Outcome, check

MOST_CPU_S = 20
"""Processor time for one case, in seconds; usual ones take some thousandths."""
MOST_MEMORY_BYTES = 2**31
"""What a process may map beyond what it has mapped when it begins."""
MOST_FINDINGS = 5
"""A process that found so much ends."""
_REPORT_EVERY = 500

Check = Callable[[Case], Outcome]
Count = tuple[str, str]
"""A wire, and how a case went."""


@dataclass
class Found:
    """A case that went wrong, what it is called, and how it went wrong."""

    case: Case
    name: str
    problem: str


@dataclass
class Tally:
    """What came of all cases.

    Attributes:
        counts: how many cases went how.
        found: those that went wrong.
        seconds: how long it took.
    """

    counts: Counter[Count] = field(default_factory=Counter)
    found: list[Found] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def mutations(self) -> int:
        return sum(count for (_, kind), count in self.counts.items() if kind == "mutations")


def run(mutations: int, seed: int, processes: int, check: Check = check) -> Iterator[Tally]:
    """Try the cases from 0 on, in that many processes; what came of it so far, now and then, and at the end.

    ``check`` is what a case is tried by; processes import it by its name.
    """
    context = multiprocessing.get_context("spawn")
    tally, began = Tally(), time.monotonic()
    places = context.Array("q", processes, lock=False)
    workers: dict[Connection, tuple[int, Any]] = {}
    tried: set[int] = set()

    def start(which: int, first: int) -> None:
        ours, theirs = context.Pipe(duplex=False)
        numbers = range(first, mutations, processes)
        worker = context.Process(target=_work, args=(made, numbers, which, places, theirs, check), daemon=True)
        worker.start()
        theirs.close()
        workers[ours] = which, worker

    made = Maker(seed)
    for which in range(processes):
        start(which, which)
    while workers:
        for end in wait(list(workers)):
            assert isinstance(end, Connection)
            which, worker = workers[end]
            try:
                counts, found = end.recv()
            except EOFError:
                del workers[end]
                worker.join()
                if worker.exitcode:
                    number = places[which]
                    if worker.exitcode == -signal.SIGXCPU and number not in tried:
                        tried.add(number)
                        start(which, number)
                        continue
                    tally.found.append(Found(made.case(number), str(number), _death(worker.exitcode)))
                    if len(tally.found) < MOST_FINDINGS:
                        start(which, number + processes)
                continue
            tally.counts += counts
            tally.found += found
        tally.seconds = time.monotonic() - began
        yield tally


def _death(code: int) -> str:
    if code == -signal.SIGXCPU:
        return f"it takes more than {MOST_CPU_S} s of processor time"
    return f"the process died: {signal.Signals(-code).name if code < 0 else f'status {code}'}"


def _work(  # noqa: PLR0917  a process takes them by position
    made: Maker, numbers: range, which: int, places: Any, end: Connection, check: Check
) -> None:
    """Try some cases; on a process of its own."""
    with suppress(KeyboardInterrupt):
        _limit_memory()
        counts: Counter[Count] = Counter()
        found: list[Found] = []
        total = 0
        for done, number in enumerate(numbers, 1):
            places[which] = number
            case = made.case(number)
            counts[case.wire, "mutations"] += 1
            try:
                limit_work()
                outcome = check(case)
            except (Exception, RecursionError) as error:  # noqa: BLE001  whatever it is, it is what is looked for
                found.append(Found(case, str(number), problem(error)))
                total += 1
            else:
                kind = outcome.kind if outcome.judged else f"not judged: {outcome.kind}"
                counts[case.wire, kind] += 1
                counts[case.wire, "fast"] += outcome.fast and outcome.kind == "records"
            if done % _REPORT_EVERY == 0 or total == MOST_FINDINGS:
                end.send((counts, found))
                counts, found = Counter(), []
            if total == MOST_FINDINGS:
                return
        end.send((counts, found))


def problem(error: BaseException) -> str:
    """What is wrong, in words; where it was raised, if that was not on purpose."""
    if isinstance(error, Finding):
        return str(error)
    return "".join(traceback.format_exception(error)[-4:])


def limit_work() -> None:
    """Give this process so much processor time from now on, and no core file if it is used up."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + MOST_CPU_S, most))


def _limit_memory() -> None:
    with suppress(ValueError, OSError):  # there are systems without such a limit
        with open("/proc/self/statm", encoding="ascii") as sizes:  # noqa: PTH123
            mapped = int(sizes.read().split()[0]) * resource.getpagesize()
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MOST_MEMORY_BYTES, most))


__all__ = ["MOST_CPU_S", "Count", "Found", "Tally", "limit_work", "problem", "run"]
