"""How far apart the keys of a send lie, as far as pages tell: how many records there may be up to some key.

Keys are given out by a whole account, so a send's own lie evenly, or by chance, or in bursts: a density alone says
little. The *spread* says how far a count may be off: by chance alone (a Poisson process) it is 1, and the count of n
expected records is off by about the spread times the square root of n.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow as pa

_BLOCKS = 16
_BLOCK_ROWS = 8
"""Blocks of fewer records than this say nothing of how evenly they lie."""
_HOLE = 4.0
"""Where records lie so many times further apart than most of their page, there is a hole, which foretells nothing."""
_END_ROWS = 0.5
"""Where what came begins and ends is known to about so much of a record."""
_EDGES = 1 / 3
"""The variance of a count between two edges that keys at regular distances have, whatever lies between."""
_ALIKE = 1.2
"""Densities that differ by a smaller factor than this don't."""
_KEPT = 0.2
"""What a page says counts for so much when the next one has come."""


@dataclass(frozen=True, slots=True)
class Spacing:
    """What pages told, those that came last most.

    Attributes:
        rows: records that came, and
        keys: the keys that they span, holes left out; both of earlier pages count less.
        spread: how far counts are off.
        at: the key around which the newest page lay.
    """

    rows: float
    keys: float
    spread: float
    at: int

    @property
    def density(self) -> float:
        """Records to a key."""
        return self.rows / self.keys

    def off_by(self, rows: float) -> float:
        """How many records a count of so many is off by: by chance, its own and that of what came."""
        return self.spread * math.sqrt(max(0.0, rows) * (1 + rows / self.rows)) + _END_ROWS * rows / self.rows


def learned(before: Spacing | None, keys: pa.Array[Any]) -> Spacing | None:
    """What is known after one page more, of these ascending keys."""
    if len(keys) < 2:  # noqa: PLR2004  a distance is between two
        return before
    numbers = keys.to_numpy()
    here = Spacing(*_steady(numbers), _spread(numbers), int(numbers[0] + (numbers[-1] - numbers[0]) // 2))
    if before is None:
        return here
    rows, keys_spanned = _KEPT * before.rows, _KEPT * before.keys
    spread = (before.spread * rows + here.spread * here.rows) / (rows + here.rows)
    return Spacing(rows + here.rows, keys_spanned + here.keys, spread, here.at)


class Profile:
    """How many records lie between two keys of a send, between and around the places where densities are known.

    Between two such places the density goes from the one to the other evenly, key by key. But where densities only rise
    from place to place, or only fall, the distance of neighbours does so, record by record. Beyond the last place all
    stays as it is.
    """

    def __init__(self, known: Iterable[tuple[int, float]]) -> None:
        """``known`` are keys and the records to a key there, one at least."""
        places = sorted(dict(known).items())
        self._keys = [key for key, _ in places]
        densities = [density for _, density in places]
        self._trend = _is_trend(densities)
        lengths = [to - at for at, to in pairwise(self._keys)]
        means = [2 / (1 / a + 1 / b) if self._trend else (a + b) / 2 for a, b in pairwise(densities)]
        steps = [length * mean for length, mean in zip(lengths, means, strict=True)]
        self._rows = list(accumulate(steps, initial=0.0))
        # Records to a key, by key; or keys to a record, by record.
        self._change = [1 / density for density in densities] if self._trend else densities
        changes = zip(pairwise(self._change), steps if self._trend else lengths, strict=True)
        self._slopes = [*((b - a) / over for (a, b), over in changes), 0.0]

    def rows(self, first: int, past: int) -> float:
        """Records from one key up to another."""
        return max(0.0, self._up_to(past) - self._up_to(first))

    def key_after(self, first: int, rows: float) -> int:
        """The key up to which so many records lie from another key on."""
        wanted = self._up_to(first) + rows
        place, change, slope = self._at(self._rows, wanted)
        convert = _sum if self._trend else _length
        return self._keys[place] + int(convert(wanted - self._rows[place], change, slope))

    def _up_to(self, key: int) -> float:
        place, change, slope = self._at(self._keys, key)
        convert = _length if self._trend else _sum
        return self._rows[place] + convert(key - self._keys[place], change, slope)

    def _at(self, known: Sequence[float], wanted: float) -> tuple[int, float, float]:
        """The last known place before what is wanted, and what changes from there on, and how much."""
        place = bisect_right(known, wanted) - 1
        return (place, self._change[place], self._slopes[place]) if place >= 0 else (0, self._change[0], 0.0)


def _is_trend(densities: Sequence[float]) -> bool:
    """Whether densities only rise, or only fall, but for small differences."""
    rises = any(now > _ALIKE * least for now, least in zip(densities, accumulate(densities, min), strict=True))
    falls = any(now * _ALIKE < most for now, most in zip(densities, accumulate(densities, max), strict=True))
    return not (rises and falls)


def _sum(length: float, first: float, slope: float) -> float:
    """What comes together over a length of what changes evenly, by so much."""
    return length * (first + slope * length / 2)


def _length(total: float, first: float, slope: float) -> float:
    """Over which length so much comes together, likewise."""
    return 2 * total / (first + math.sqrt(max(0.0, first**2 + 2 * slope * total)))


def _steady(numbers: np.ndarray[Any, Any]) -> tuple[int, float]:
    """Records and the keys that they span, without a few that lie much further apart than all others: there is a hole.

    Where there are several, there will be more.
    """
    ends = np.linspace(0, len(numbers) - 1, min(_BLOCKS, len(numbers) - 1) + 1).astype(int)
    rows, spans = np.diff(ends), np.diff(numbers[ends])
    gaps = spans / rows
    near = gaps <= _HOLE * np.median(gaps)
    holes = np.count_nonzero(np.diff(near, prepend=True, append=True)) // 2
    if holes > 1:
        return len(numbers) - 1, float(numbers[-1] - numbers[0])
    return int(rows[near].sum()), float(spans[near].sum())


def _spread(numbers: np.ndarray[Any, Any]) -> float:
    blocks = min(_BLOCKS, len(numbers) // _BLOCK_ROWS)
    if blocks < 2:  # noqa: PLR2004  likewise
        return 1.0
    edges = np.linspace(numbers[0], numbers[-1], blocks + 1).astype(np.int64)
    counts = np.diff(np.searchsorted(numbers, edges))
    return math.sqrt(max(0.0, float(counts.var()) - _EDGES) / float(counts.mean()))


__all__ = ["Profile", "Spacing", "learned"]
