"""What a run found out of the server, kept in the ledger for the next one: what it bears, and that it answers at all.

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
_ADMITTED = "admitted"


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an earlier run found, and when, in UTC without a zone."""

    borne: Borne
    at: datetime


@dataclass(frozen=True, slots=True)
class Bearing:
    """What is known of the server, in the ledger's ``facts``."""

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

    def admitted(self, way: str) -> datetime | None:
        """When a run that did not come to its own end was last let in, in UTC without a zone; None if it never was.

        ``way`` says whose account, from where and to where: only what is known of the same one counts.
        """
        with self.database.reading() as connection:
            text = connection.scalar(sa.select(facts.c.value).where(facts.c.name == _ADMITTED))
        found = json.loads(text) if text is not None else {}
        return datetime.fromisoformat(found["at"]) if found.get("way") == way else None

    def note_admitted(self, way: str, now: datetime | None) -> None:
        """Notes that the account is let in now; with None, that it is not known to be any more."""
        with self.database.writing() as connection:
            if now is None:
                connection.execute(facts.delete().where(facts.c.name == _ADMITTED))
                return
            value = json.dumps({"way": way, "at": as_text(now)})
            connection.execute(PUT_FACT.on(connection), {"name": _ADMITTED, "value": value})


__all__ = ["Bearing", "Remembered"]
