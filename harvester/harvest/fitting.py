"""How many records to ask for at a time, so that an answer can be read within the memory budget.

What a record takes is guessed at first, and learned from the answers, dataset by dataset. A budget that has no room for
an answer of as many records as the run would like makes it ask for fewer; that is said once, and in the summary.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harvester.config import LEAST_LIMIT
from harvester.events import log

if TYPE_CHECKING:
    from harvester.harvest.walks import Walk
    from harvester.model import Page

_ROOM = 0.9
_FORGET = 0.9
_TELLING_ROWS = 100
"""An answer of fewer records says little of what a record takes."""


class Fitting:
    """Lowers limits where memory is too small.

    Attributes:
        limit: how many records the run would like to ask for at a time.
        lowest: the fewest that were asked for since no more would fit; None while memory is no matter.
    """

    def __init__(self, limit: int, *, cap_bytes: int, record_bytes: int) -> None:
        """``cap_bytes`` is the largest body of an answer that can be read, ``record_bytes`` a guess at a record's."""
        self.limit = limit
        self.lowest: int | None = None
        self._cap_bytes = cap_bytes
        self._guess_bytes = record_bytes
        self._record_bytes: dict[str, float] = {}

    def note(self, page: Page) -> None:
        """Learns from an answer."""
        rows, name = page.batch.num_rows, page.query.dataset.name
        if rows >= _TELLING_ROWS:
            before = self._record_bytes.get(name, 0.0)
            self._record_bytes[name] = max(page.body_bytes / rows, _FORGET * before)

    def fits(self, dataset: str) -> int:
        """How many records of a dataset may be asked for at a time."""
        record_bytes = self._record_bytes.get(dataset, self._guess_bytes)
        return max(LEAST_LIMIT, min(self.limit, int(_ROOM * self._cap_bytes / max(record_bytes, 1.0))))

    def lower(self, walk: Walk) -> None:
        """Has a walk ask for no more than fits."""
        if not walk.dataset.paged:
            return
        walk.full_limit = fits = self.fits(walk.dataset.name)
        if walk.key_range.limit <= fits:
            return
        walk.key_range = replace(walk.key_range, limit=fits)
        if self.lowest is None:
            log.warning(
                "fewer records are asked for at a time: the answer would not fit into memory",
                limit=fits,
                wanted=self.limit,
            )
        self.lowest = fits if self.lowest is None else min(self.lowest, fits)


__all__ = ["Fitting"]
