"""Compares two files that ``python -m benchmarks --json FILE`` wrote: what got faster or slower, beyond the noise.

Figures that have a reference are compared by their ratio to it, so that the two may come from unlike machines; others
by their medians, which mean something on one machine only. The noise is twice the spread that both files saw together,
and at least five percent; a tenth where there were too few rounds to tell.

    python -m benchmarks.compare OLD NEW
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Better, Figure, Report, spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LEAST_NOISE = 0.05
UNKNOWN_SPREAD = 0.05
"""The spread that is assumed of a figure with too few rounds, so that a tenth counts as noise."""


@dataclass(frozen=True, slots=True)
class Change:
    """How one figure changed.

    Attributes:
        name: the benchmark and the figure.
        old: its ratio, or its median, before.
        new: likewise, after.
        noise: the share by which it may differ for no reason.
        better: which way it is better.
    """

    name: str
    old: float
    new: float
    noise: float
    better: Better

    @property
    def share(self) -> float:
        """By how much it changed, as a share of what it was."""
        if self.old == self.new:
            return 0.0
        return self.new / self.old - 1 if self.old else math.inf

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``same``."""
        if abs(self.share) <= self.noise:
            return "same"
        return "better" if (self.share < 0) == (self.better is Better.LESS) else "worse"


def noise_of(old: Sequence[float], new: Sequence[float]) -> float:
    """The share by which two medians may differ for no reason."""
    spreads = [UNKNOWN_SPREAD if (found := spread(samples)) is None else found for samples in (old, new)]
    together = max(spreads) if min(len(old), len(new)) < 3 else math.hypot(*spreads)
    return max(LEAST_NOISE, 2 * together)


def change(name: str, old: Figure, new: Figure) -> Change:
    """How a figure changed; by its ratios only if it has some in both."""
    before, after = (old.judged, new.judged) if old.ratios and new.ratios else (old.samples, new.samples)
    return Change(name, statistics.median(before), statistics.median(after), noise_of(before, after), new.better)


def compare(old: Mapping[str, Report], new: Mapping[str, Report]) -> tuple[list[Change], list[str]]:
    """How the figures changed that both have, those that changed most first; and the names that only one has."""
    before, after = (
        {f"{name}: {figure.name}": figure for name, report in reports.items() for figure in report.figures}
        for reports in (old, new)
    )
    changes = [change(name, before[name], after[name]) for name in before if name in after]
    changes.sort(key=lambda found: -abs(found.share))
    return changes, sorted(before.keys() ^ after.keys())


def lines(changes: Sequence[Change], unpaired: Sequence[str]) -> list[str]:
    """What a person is told."""
    told: list[str] = []
    for verdict, heading in (("worse", "Worse:"), ("better", "Better:")):
        found = [item for item in changes if item.verdict == verdict]
        if found:
            told.append(heading)
            told += [
                f"  {item.share:+7.1%}  {item.name}: {item.old:.4g} → {item.new:.4g} (noise ±{item.noise:.0%})"
                for item in found
            ]
    same = sum(item.verdict == "same" for item in changes)
    told.append(f"{same} of {len(changes)} figures are the same within the noise.")
    if unpaired:
        told.append("Only in one of the files: " + "; ".join(unpaired))
    return told


def read(path: Path) -> dict[str, Report]:
    """The reports of a file. Raises ValueError, with what is wrong with it."""
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
        return {name: Report.from_json(report) for name, report in whole["benchmarks"].items()}
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} was not written by: python -m benchmarks --json FILE") from error


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path, metavar="OLD")
    parser.add_argument("new", type=Path, metavar="NEW")
    given = parser.parse_args(arguments)
    try:
        changes, unpaired = compare(read(given.old), read(given.new))
    except ValueError as wrong:
        parser.error(str(wrong))
    print("\n".join(lines(changes, unpaired)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
