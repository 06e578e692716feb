"""What tests of verifying and of recovering share: a lake of every kind of slice, and what is found wrong with one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio

from harvester.config import Tuning
from harvester.datasets import CATALOGUE
from harvester.harvest.upkeep import Finding, verifying
from harvester.model import Secret
from harvester.simulator.spec import AccountSpec, listed
from tests.harvesting import QUICK, field

EVERY = tuple(CATALOGUE)
LARGE, SMALL, NONE = 601, 602, 603
"""A send whose messages are in several files, one whose messages are in one, and one without messages."""
SPEC = AccountSpec(sends=listed({LARGE: 3000, SMALL: 120, NONE: 0}), failed=0.1, waiting=0.02)
SETTINGS: dict[str, Any] = {"datasets": EVERY, "limit": 400}


def small_files(**changes: Any) -> Tuning:
    """Tuning that makes many files of few rows."""
    return replace(QUICK, target_bytes=50_000, **changes)


def lake_of_all(lake: Path, spec: AccountSpec = SPEC) -> Path:
    """Harvests all four datasets of an account into a lake."""

    async def harvest() -> None:
        async with field(lake, spec, tuning=small_files(), **SETTINGS) as account:
            assert (await account.run()).complete

    anyio.run(harvest)
    return lake


def found(lake: Path, *, quick: bool = False, ledger: Secret | None = None) -> list[Finding]:
    """What is wrong with a lake."""
    with verifying(lake, quick=quick, ledger=ledger) as seen:
        return list(seen.findings())


def files(lake: Path, dataset: str = "messages", id_send: int = LARGE) -> list[Path]:
    """A slice's data files, in key order."""
    return sorted((lake / dataset / f"send={id_send}").glob("*.parquet"), key=lambda path: int(path.name.split("-")[1]))
