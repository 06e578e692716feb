"""One walk over all sends of an account in simulated time: the lake's part, with memory in the disk's place.

What is to the right of a seam waits, as in a lake, and counts for its slices once that is proven.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.simulated.account import FIRST_ID_SEND
from harvester.datasets import MESSAGES
from harvester.harvest.keeping import Committed
from harvester.lake.wide import ScopeRecord
from harvester.model import KeyRange

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from benchmarks.simulated.account import Integers
    from benchmarks.simulated.lake import SimulatedLake
    from harvester.lake.staging import Taken


class SimulatedWide:
    """What the scheduler calls ``Wide``, and the wing behind, for the messages of all sends.

    Attributes:
        most_waiting: the most pages that waited at a time.
    """

    def __init__(self, lake: SimulatedLake, limit: int) -> None:
        """``lake`` holds what the rows come to."""
        self.most_waiting = 0
        self._lake = lake
        self._begins = [ScopeRecord(1, None, (KeyRange(limit=limit),), expected=lake.expected)]
        self._waiting: list[tuple[int, Integers, Integers]] = []

    # --- Wide

    def take(self, count: int) -> Sequence[ScopeRecord]:
        """As ``Wide.take``."""
        taken, self._begins = self._begins[:count], self._begins[count:]
        return taken

    def give_up(self, number: int) -> None:
        """Nothing is ever given up."""
        raise AssertionError(f"the walk {number} was given up")

    def rewind(self) -> None:
        """As ``Wide.rewind``: no slice goes on by itself."""

    # --- the wing

    def commit(self, page: Taken) -> Committed:
        """What a page comes to."""
        if page.discards is not None:
            raise AssertionError("the source stands by all that it brings")
        here = page.key_ranges or tuple(filter(None, [page.key_range]))
        if page.rows is not None:
            self._waiting.append(_of(page.rows))
        ready = sorted((part for part in self._waiting if part[0] < here[0].stop), key=lambda part: part[0])
        self._waiting = [part for part in self._waiting if part[0] >= here[0].stop]
        self.most_waiting = max(self.most_waiting, len(self._waiting))
        rows = complete = 0
        for _, keys, places in ready:
            rows += len(keys)
            complete += self._lake.add(places, keys)
        ended = page.proof is not None
        if len(here) == 1 and here[0].short_answers and self._lake.complete == self._lake.sends:
            ended = True
        if ended:
            complete += self._lake.settle()
        return Committed(rows, complete, ended=ended)


def _of(rows: pa.RecordBatch) -> tuple[int, Integers, Integers]:
    """A page's first key, its keys, and the places of their sends."""
    keys = rows.column(MESSAGES.key).to_numpy()
    return int(keys[0]), keys, rows.column("id_send").to_numpy() - np.int64(FIRST_ID_SEND)


__all__ = ["SimulatedWide"]
