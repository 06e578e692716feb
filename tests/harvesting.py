"""A real harvest of a simulated account over real HTTP, and the lake held against the account's truth."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harvester.api.client import Client
from harvester.api.limiter import Permit
from harvester.budget import Hold
from harvester.config import Settings, Tuning
from harvester.datasets import CATALOGUE, DEFAULT
from harvester.harvest.outcome import Result, SliceOutcome
from harvester.harvest.run import Harvest
from harvester.model import Page, Query, Secret, Send
from harvester.places import Place
from harvester.simulator.behaviour import Behaviour
from harvester.simulator.server import Server, serve
from harvester.simulator.spec import AccountSpec
from harvester.simulator.truth import digest, expected

QUICK = Tuning(backoff_s=0.001, backoff_cap_s=0.02, apart_s=0.01, never_reached_s=1.0, silence_s=5.0, seed=7)
"""No waits that a test would have to sit through."""


@dataclass(frozen=True, slots=True)
class Field:
    """A served account and the settings to harvest it with."""

    server: Server
    settings: Settings

    @property
    def lake(self) -> Path:
        assert isinstance(self.settings.lake, Path)
        return self.settings.lake

    def harvest(self, sends: Iterable[int | Send] | None = None, **changes: Any) -> Harvest:
        chosen = self.server.account.spec.sends.ids if sends is None else sends
        known = (send if isinstance(send, Send) else Send(send) for send in chosen)
        return Harvest(replace(self.settings, **changes), known)

    async def run(self, sends: Iterable[int | Send] | None = None, **changes: Any) -> Result:
        return await self.harvest(sends, **changes).run()

    def assert_exact(self, *ids: int, erased: bool = False, datasets: Iterable[str] = DEFAULT) -> None:
        """The lake holds what the account sends of these sends (of all), in value, count and order."""
        ids = ids or tuple(self.server.account.spec.sends.ids)
        for dataset in (CATALOGUE[name] for name in datasets):
            for id_send in ids:
                held = lake_table(self.lake, dataset.name, id_send)
                true = expected(self.server.account, dataset, id_send, erased=erased)
                assert held.num_rows == true.num_rows, f"{dataset.name} of send {id_send}"
                assert held.schema.equals(true.schema)
                same = held.equals(true) or digest(dataset, [held]) == digest(dataset, [true])
                assert same, f"{dataset.name} of send {id_send}"
        assert not list((self.lake / "_harvest" / "writing").iterdir())


@asynccontextmanager
async def field(
    lake: Place, spec: AccountSpec, behaviour: Behaviour | None = None, **settings: Any
) -> AsyncIterator[Field]:
    """Serves the account and makes settings for a quick harvest of it."""
    async with serve(spec, behaviour or Behaviour(), host="127.0.0.1", port=0) as server:
        given: dict[str, Any] = {
            "rate": 1000.0,
            "burst": 100,
            "concurrency": 4,
            "patience_s": 30.0,
            "timeout_s": 20.0,
            "tuning": QUICK,
            "client_md5": Secret(spec.client_md5),
            "endpoint": server.url,
        }
        yield Field(server, Settings(lake=lake, client_id=spec.client_id, **(given | settings)))


def settings_for_nothing(**settings: Any) -> Settings:
    """Settings of a run that is never made."""
    given: dict[str, Any] = {"lake": Path("/nowhere"), "client_id": "12345", "client_md5": Secret("0" * 32)}
    return Settings(**(given | settings))


def at_attempt(number: int, action: Callable[[], object], patch: pytest.MonkeyPatch) -> None:
    """Does something right before the n-th attempt of a run: a state that a test can count on, unlike an instant."""
    made = 0
    attempt = Client.attempt

    async def counted(self: Client, query: Query, permit: Permit, hold: Hold | None = None) -> Page:
        nonlocal made
        made += 1
        if made == number:
            action()
        return await attempt(self, query, permit, hold)

    patch.setattr(Client, "attempt", counted)


def lake_table(lake: Path, dataset: str, id_send: int) -> pa.Table:
    """What a reader finds of a slice, file by file in key order."""
    files = sorted(
        (lake / dataset / f"send={id_send}").glob("*.parquet"), key=lambda path: int(path.name.split("-")[1])
    )
    tables = [pq.ParquetFile(path).read() for path in files]
    return pa.concat_tables(tables) if tables else CATALOGUE[dataset].schema.empty_table()


def outcomes(result: Result) -> dict[tuple[str, int], SliceOutcome]:
    """The result's slices, by dataset and send."""
    return {(outcome.dataset, outcome.id_send): outcome for outcome in result.slices()}


def proofs(result: Result, dataset: str) -> list[str | None]:
    """The proofs of a dataset's slices, in order of send."""
    return [outcome.proof for outcome in result.slices() if outcome.dataset == dataset]
