"""How far apart the keys of a send lie, as far as pages tell: how many records there may be up to some key.

Keys are given out by a whole account, so a send's own lie evenly, or by chance, or in bursts: a density alone says
little. The *spread* says how far a count may be off: by chance alone (a Poisson process) it is 1, and the count of n
expected records is off by about the spread times the square root of n.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

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
_STEPS = 16
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

    Between two such places the density goes from the one to the other evenly; beyond the last one it stays as it is.
    """

    def __init__(self, known: Sequence[tuple[int, float]]) -> None:
        """``known`` are keys and the records to a key there, one at least."""
        places = sorted(dict(known).items())
        self._base = places[0][0]
        knots = np.array([key - self._base for key, _ in places], float)
        keys = [np.linspace(*ends, _STEPS, endpoint=False) for ends in pairwise(knots)]
        self._keys = np.concatenate([*keys, knots[-1:]])
        densities = np.interp(self._keys, knots, [density for _, density in places])
        steps = np.diff(self._keys) * (densities[1:] + densities[:-1]) / 2
        self._rows = np.concatenate([[0.0], np.cumsum(steps)])
        self._before, self._after = float(densities[0]), float(densities[-1])

    def rows(self, first: int, past: int) -> float:
        """Records from one key up to another."""
        return max(0.0, self._up_to(past) - self._up_to(first))

    def key_after(self, first: int, rows: float) -> int:
        """The key up to which so many records lie from another key on."""
        wanted = self._up_to(first) + rows
        if wanted <= 0:
            return self._base + int(wanted / self._before)
        if wanted >= self._rows[-1]:
            return self._base + int(self._keys[-1] + (wanted - self._rows[-1]) / self._after)
        return self._base + int(np.interp(wanted, self._rows, self._keys))

    def _up_to(self, key: int) -> float:
        here = key - self._base
        if here <= 0:
            return here * self._before
        if here >= self._keys[-1]:
            return float(self._rows[-1] + (here - self._keys[-1]) * self._after)
        return float(np.interp(here, self._keys, self._rows))


def _steady(numbers: np.ndarray[Any, Any]) -> tuple[int, float]:
    """Records and the keys that they span, without those that lie much further apart than most: there are holes."""
    ends = np.linspace(0, len(numbers) - 1, min(_BLOCKS, len(numbers) - 1) + 1).astype(int)
    rows, spans = np.diff(ends), np.diff(numbers[ends])
    gaps = spans / rows
    near = gaps <= _HOLE * np.median(gaps)
    return int(rows[near].sum()), float(spans[near].sum())


def _spread(numbers: np.ndarray[Any, Any]) -> float:
    blocks = min(_BLOCKS, len(numbers) // _BLOCK_ROWS)
    if blocks < 2:  # noqa: PLR2004  likewise
        return 1.0
    edges = np.linspace(numbers[0], numbers[-1], blocks + 1).astype(np.int64)
    counts = np.diff(np.searchsorted(numbers, edges))
    return math.sqrt(max(0.0, float(counts.var()) - _EDGES) / float(counts.mean()))


__all__ = ["Profile", "Spacing", "learned"]
