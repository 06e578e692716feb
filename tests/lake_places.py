"""A lake with its ledger wherever a test wants it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from harvester.config import Tuning
from harvester.lake.lake import Lake, open_lake
from harvester.lake.upkeep.verify import verifying
from harvester.model import Secret, Send, SliceKey

NOW = datetime(2026, 11, 1)  # noqa: DTZ001  the lake's times have no zone
TUNING = Tuning(target_bytes=1 << 20)
LARGE = 2**62
"""A key that no float holds, and no number of 32 bits."""
WEEK_S = 7 * 86_400.0


@dataclass(frozen=True)
class Place:
    """A lake's folder, and where its ledger is."""

    root: Path
    ledger: Secret | None

    @contextmanager
    def opened(self) -> Iterator[Lake]:
        with open_lake(self.root, TUNING, ledger=self.ledger) as lake:
            yield lake

    @contextmanager
    def selected(self, *sends: Send, datasets: tuple[str, ...] = ("messages",)) -> Iterator[tuple[Lake, int]]:
        """The lake, opened by a run that has selected these sends; and the run's number."""
        with self.opened() as lake:
            run = lake.runs.begin("12345")
            lake.runs.select(run, sends, datasets, NOW)
            yield lake, run

    def findings(self) -> list[str]:
        with verifying(self.root, quick=False, ledger=self.ledger) as seen:
            return [finding.what for finding in seen.findings()]


def number_of(lake: Lake, id_send: int, dataset: str = "messages") -> int:
    record = lake.ledger.find(SliceKey(dataset, id_send))
    assert record is not None
    return record.id
