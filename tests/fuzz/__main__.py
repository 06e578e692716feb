"""``python -m tests.fuzz``: mutated bodies of both wires, read by the harvester and by a reference.

Exits with 0 if all held, and with 1 if not; then the bodies are kept in files, with a command that reads one again.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from pathlib import Path

from tests.fuzz import guided
from tests.fuzz.cases import Case
from tests.fuzz.oracle import check
from tests.fuzz.work import Found, Tally, limit_work, problem, run

QUICK = 2_000
FULL = 1_000_000
TOLD_EVERY = 50_000
GUIDED_SHARE = 20
"""For so many mutations by chance there is one that coverage guides."""


def main(arguments: list[str] | None = None) -> int:
    options = _options().parse_args(arguments)
    if options.replay:
        return replay(options.replay)
    mutations = options.mutations or (QUICK if options.quick else FULL)
    tally, told_of, kept = Tally(), 0, Kept()
    for tally in run(mutations, options.seed, options.processes):
        kept.keep(tally.found)
        if tally.mutations >= told_of + TOLD_EVERY:
            told_of = tally.mutations
            so_far = f"{told_of:,} of {mutations:,}, {tally.seconds:,.0f} s, {len(tally.found)} did not hold"
            print(so_far, file=sys.stderr, flush=True)
    print(table(tally), flush=True)
    if options.guided and guided.installed():
        by_coverage = guided.run(mutations // GUIDED_SHARE, options.seed, options.processes)
        print(f"{by_coverage.runs:,} more guided by coverage, of which {by_coverage.kept:,} reached something new")
        kept.keep(tally.found + by_coverage.found)
    elif options.guided:
        print("None guided by coverage: atheris is not installed.")
    return kept.told()


def table(tally: Tally) -> str:
    """What came of it, a column for each wire."""
    wires = sorted({wire for wire, _ in tally.counts})
    kinds = sorted({kind for _, kind in tally.counts} - {"mutations", "records", "fast", "words"})
    names = {"mutations": "mutations", "records": "records, equal", "fast": "  of them, some by the fast decoder"}
    names |= {"words": "the API's words, equal"} | {kind: kind for kind in kinds}
    lines = [f"{'':36}" + "".join(f"{wire:>11}" for wire in wires)]
    for kind, name in names.items():
        lines.append(f"{name:36}" + "".join(f"{tally.counts[wire, kind]:>11,}" for wire in wires))
    speed = tally.mutations / tally.seconds if tally.seconds else 0
    lines.append(f"{tally.mutations:,} mutations in {tally.seconds:,.0f} s, {speed:,.0f} a second")
    return "\n".join(lines)


class Kept:
    """The bodies that went wrong: each in a file, and told of at once."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._number = 0

    def keep(self, found: list[Found]) -> None:
        """Keep those that are new at the list's end, and say how to read them again."""
        for one in found[self._number :]:
            self._folder = self._folder or Path(tempfile.mkdtemp(prefix="harvester-fuzz-"))
            path = self._folder / f"case-{one.name}"
            one.case.save(path)
            print(f"\n{one.problem}\n  python -m tests.fuzz --replay {path}", flush=True)
        self._number = len(found)

    def told(self) -> int:
        """Say how it went; the exit status."""
        print(f"\n{self._number} did not hold." if self._number else "All held.")
        return min(self._number, 1)


def replay(path: Path) -> int:
    """Read a body again that was kept."""
    case = Case.load(path)
    print(f"{case.wire}, {case.dataset}, {len(case.body)} bytes: {case.body[:4000]!r}")
    before = resource.getrlimit(resource.RLIMIT_CPU)
    limit_work()
    try:
        print(f"It holds: {check(case)}")
    except Exception as error:  # noqa: BLE001  whatever it is, it is what is looked for
        print(problem(error))
        return 1
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, before)  # of this case alone: a test replays within its own process
    return 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Reads mutated bodies of both wires.")
    parser.add_argument("--mutations", type=int, metavar="N", help=f"how many, {FULL:,} if nothing is said")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,}, which takes less than a minute")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="what all mutations follow from (0)")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="how many work at a time (2)")
    parser.add_argument(
        "--guided", action="store_true", help="a twentieth as many more that coverage guides, by atheris"
    )
    parser.add_argument("--replay", type=Path, metavar="FILE", help="read a body again that was kept, and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
