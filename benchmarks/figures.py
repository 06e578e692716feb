"""What benchmarks find: figures with their spread, ratios to a named reference, and goals that are met or not.

A *figure* has one sample a round. Where there is a reference, the figure also has one ratio a round, to the reference
of that very round: whatever slows the machine slows both, so ratios mean something where seconds don't.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class WrongResult(Exception):
    """What was measured did not do its work: rows are missing, or differ. No speed makes up for it."""


class Better(StrEnum):
    """Which way a figure is better."""

    LESS = "less"
    MORE = "more"


def spread(samples: Sequence[float]) -> float | None:
    """Half the distance between the quartiles, as a share of the median; None of fewer than three samples."""
    if len(samples) < 3 or not (middle := statistics.median(samples)):
        return None
    low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
    return (high - low) / 2 / abs(middle)


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured.

    Attributes:
        name: what was measured.
        unit: of the samples, such as ``ms`` or ``MiB``.
        samples: one a round.
        reference: the name of what it is compared with, if with anything.
        ratios: one a round, to the reference; none without one.
        better: which way it is better.
        goal: the bound that the ratio, or without one the sample, is to keep.
    """

    name: str
    unit: str
    samples: tuple[float, ...]
    reference: str | None = None
    ratios: tuple[float, ...] = ()
    better: Better = Better.LESS
    goal: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def judged(self) -> tuple[float, ...]:
        """What goals and comparisons look at: the ratios, or the samples where there are none."""
        return self.ratios or self.samples

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if self.goal is None:
            return None
        found = statistics.median(self.judged)
        return found <= self.goal if self.better is Better.LESS else found >= self.goal

    def as_json(self) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "name": self.name,
            "unit": self.unit,
            "samples": self.samples,
            "median": self.median,
            "spread": spread(self.samples),
            "better": self.better,
        }
        if self.ratios:
            fields |= {
                "reference": self.reference,
                "ratios": self.ratios,
                "ratio": statistics.median(self.ratios),
                "ratio_spread": spread(self.ratios),
            }
        if self.goal is not None:
            fields |= {"goal": self.goal, "met": self.met}
        return fields

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Figure:
        """Raises KeyError, TypeError or ValueError if that is no figure."""
        return cls(
            name=str(fields["name"]),
            unit=str(fields["unit"]),
            samples=tuple(map(float, fields["samples"])),
            reference=fields.get("reference"),
            ratios=tuple(map(float, fields.get("ratios", ()))),
            better=Better(fields["better"]),
            goal=fields.get("goal"),
        )

    def line(self, width: int) -> str:
        """As a line of a table whose first column has that width."""
        text = f"  {self.name:{width}}  {_short(self.median):>9} {self.unit:10} {_percent(spread(self.samples)):>5}"
        if self.ratios:
            ratio = statistics.median(self.ratios)
            text += f"  {ratio:7.3f} x {self.reference} {_percent(spread(self.ratios))}"
        if self.goal is not None:
            bound = "at most" if self.better is Better.LESS else "at least"
            text = f"{text.rstrip()}   [{bound} {self.goal:g}: {'met' if self.met else 'NOT MET'}]"
        return text.rstrip()


@dataclass(frozen=True, slots=True)
class Report:
    """What one benchmark found.

    Attributes:
        about: what was measured, and how, in one line.
        figures: its figures; no name twice.
    """

    about: str
    figures: tuple[Figure, ...]

    def lines(self) -> list[str]:
        """As a table for the screen."""
        width = max((len(figure.name) for figure in self.figures), default=0)
        return [f"  {self.about}", *(figure.line(width) for figure in self.figures)]

    def as_json(self) -> dict[str, Any]:
        return {"about": self.about, "figures": [figure.as_json() for figure in self.figures]}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Report:
        """Raises KeyError, TypeError or ValueError if that is no report."""
        return cls(str(fields["about"]), tuple(map(Figure.from_json, fields["figures"])))


def ratios(samples: Sequence[float], reference: Sequence[float]) -> tuple[float, ...]:
    """Each sample to the reference's of the same round."""
    return tuple(sample / other for sample, other in zip(samples, reference, strict=True))


def compared(
    times: Mapping[str, Sequence[float]], reference: str, *, unit: str, scale: float, goals: Mapping[str, float]
) -> tuple[Figure, ...]:
    """Seconds of several ways, round by round, as figures: the reference first, the others as ratios to it.

    Args:
        times: seconds of each way, one a round.
        reference: which of them the others are compared with.
        unit: what the samples are shown in.
        scale: how many of that unit are a second.
        goals: the most that a way's ratio is to be, by its name.
    """
    base = times[reference]
    figures = [Figure(reference, unit, tuple(taken * scale for taken in base))]
    figures += [
        Figure(name, unit, tuple(taken * scale for taken in took), reference, ratios(took, base), goal=goals.get(name))
        for name, took in times.items()
        if name != reference
    ]
    return tuple(figures)


def _short(value: float) -> str:
    """Three or more digits that say something."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"±{share:.0%}"


__all__ = ["Better", "Figure", "Report", "WrongResult", "compared", "ratios", "spread"]
