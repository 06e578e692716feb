"""What the server was found to bear, kept in the ledger from one run to the next.

Everything here is blocking: call it from a worker thread.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from harvester.lake.ledgers.tables import PUT_FACT, as_text, facts
from harvester.model import Borne

if TYPE_CHECKING:
    from harvester.lake.ledgers.database import Database

_NAME = "borne"


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an earlier run found, and when, in UTC without a zone."""

    borne: Borne
    at: datetime


@dataclass(frozen=True, slots=True)
class Bearing:
    """What the server bears, in the ledger's ``facts``."""

    database: Database

    def remembered(self) -> Remembered | None:
        """What was found last; None where nothing is known, or the server bore all that it was asked."""
        with self.database.reading() as connection:
            text = connection.scalar(sa.select(facts.c.value).where(facts.c.name == _NAME))
        if text is None:
            return None
        found = json.loads(text)
        return Remembered(Borne(found["rate"], found["concurrency"]), datetime.fromisoformat(found["at"]))

    def remember(self, borne: Borne, now: datetime) -> None:
        """Notes what was found now, in place of what was known before."""
        with self.database.writing() as connection:
            if borne == Borne():
                connection.execute(facts.delete().where(facts.c.name == _NAME))
                return
            value = json.dumps({"rate": borne.rate, "concurrency": borne.concurrency, "at": as_text(now)})
            connection.execute(PUT_FACT.on(connection), {"name": _NAME, "value": value})


__all__ = ["Bearing", "Remembered"]
