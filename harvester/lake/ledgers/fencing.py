"""Holding a ledger that several machines share: one holder at a time, and none that was cut off can write.

Nouns: the *lock* is an advisory lock of the database's, on a connection of its own: it dies with its holder, and with
the connection. The *epoch* is a number that grows with each holder and is in the ledger itself.

Invariant: every transaction begins by finding its holder's epoch in the ledger, and keeps it from changing until it
ends. So whoever takes over waits for what is being committed, and whatever the one before wants to commit then is
refused: its lock may be gone for long without its knowing.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from harvester.errors import LakeInUse
from harvester.lake.ledgers.postgres import is_alive, translated

if TYPE_CHECKING:
    from harvester.lake.ledgers.postgres import Address

_TRIES = 20
_AGAIN_S = 0.05
"""The server takes a moment to notice that a holder is gone; only a run holds the lock for longer than that."""
_TAKE = b"SELECT pg_try_advisory_lock(%s)"
_IS_TAKEN = b"""
SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND (classid::bigint << 32 | objid::bigint) = %s
"""
_TABLE = """
CREATE TABLE IF NOT EXISTS {schema}.holder (
    one integer PRIMARY KEY CHECK (one = 1), epoch bigint NOT NULL, host text NOT NULL, process bigint NOT NULL,
    since timestamptz NOT NULL
)
"""
_NEXT = """
INSERT INTO {schema}.holder AS old (one, epoch, host, process, since)
VALUES (1, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint, %s, %s, clock_timestamp())
ON CONFLICT (one) DO UPDATE SET epoch = greatest(old.epoch + 1, excluded.epoch), host = excluded.host,
    process = excluded.process, since = excluded.since
RETURNING epoch
"""
"""An epoch is the time that it began at, in milliseconds since 1970, or one more than the last: it never comes again,
not even in a ledger that was made anew."""
_EPOCH = "SELECT epoch FROM {schema}.holder"
_WHO = "SELECT process, host, to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') FROM {schema}.holder"


class Holding:
    """The lock on a lake's ledger. Blocking; one thread at a time."""

    def __init__(self, address: Address, schema: str, number: int, lake: str) -> None:
        """``number`` is the lock's, in the whole database; ``lake`` is what messages call the lake."""
        self._address = address
        self._schema = schema
        self._name = f"the ledger {schema} in {address.shown}"
        self._number = number
        self._lake = lake
        self._connection: psycopg.Connection[Any] | None = None
        self._begun: tuple[str, int] | None = None

    def take(self) -> None:
        """Takes the lock. Raises LakeInUse if another process has it."""
        tries = _TRIES
        while not self._take():
            tries -= 1
            if tries:
                time.sleep(_AGAIN_S)
                continue
            message = f"another run is using the lake {self._lake} ({self._who()}); wait for it, or stop it"
            raise LakeInUse(message)

    def keep(self) -> None:
        """Takes the lock again if its connection was lost. Raises LakeInUse if another process has taken over by now.

        The server may not have noticed yet that the connection was lost: then nobody can have taken over.
        """
        if self._connection is None or not is_alive(self._connection):
            self.release()
            if not self._take() and (self._begun is None or not self._goes_on(*self._begun)):
                raise LakeInUse(self.taken_over())

    def begin(self, name: str) -> int:
        """Makes a schema if it is not there, and begins a new epoch in it, which is returned."""
        connection = self._connection
        assert connection is not None
        schema = sql.Identifier(name)
        with translated(self._name), connection.transaction():
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {schema}").format(schema=schema))
            connection.execute(sql.SQL(_TABLE).format(schema=schema))
            row = connection.execute(
                sql.SQL(_NEXT).format(schema=schema), (socket.gethostname(), os.getpid())
            ).fetchone()
        assert row is not None
        self._begun = name, int(row[0])
        return self._begun[1]

    def execute(self, *statements: sql.Composed) -> None:
        """Has statements done in one transaction, by whoever has the lock."""
        self.keep()
        assert self._connection is not None
        with translated(self._name), self._connection.transaction():
            for statement in statements:
                self._connection.execute(statement)

    def has_schema(self) -> bool:
        """Whether the ledger's schema is there."""
        assert self._connection is not None
        with translated(self._name):
            found = self._connection.execute(b"SELECT 1 FROM pg_namespace WHERE nspname = %s", (self._schema,))
            return found.fetchone() is not None

    def release(self) -> None:
        """Lets go of the lock."""
        if self._connection is not None:
            with suppress(psycopg.Error):  # it is not asked to: it may be one that never answers
                self._connection.close()
            self._connection = None

    def is_taken(self) -> bool:
        """Whether some process has the lock. Asks on a connection of its own."""
        with translated(self._name), self._address.connect() as connection:
            row = connection.execute(_IS_TAKEN, (self._number,)).fetchone()
            return bool(row and row[0])

    def taken_over(self) -> str:
        """What to say to a holder that was cut off."""
        return (
            f"another run has taken over the lake {self._lake} ({self._who()}), since this one was cut off from its "
            "ledger: it writes nothing more. Nothing is lost: what it had not committed, the other one asks for"
        )

    def _take(self) -> bool:
        with translated(self._name):
            connection = self._address.connect()
            try:
                row = connection.execute(_TAKE, (self._number,)).fetchone()
            except BaseException:
                connection.close()
                raise
            if row is None or not row[0]:
                connection.close()
                return False
        self._connection = connection
        return True

    def _goes_on(self, schema: str, epoch: int) -> bool:
        with translated(self._name), self._address.connect() as connection:
            row = connection.execute(sql.SQL(_EPOCH).format(schema=sql.Identifier(schema))).fetchone()
            return row is not None and row[0] == epoch

    def _who(self) -> str:
        with suppress(psycopg.Error), self._address.connect() as connection:
            row = connection.execute(sql.SQL(_WHO).format(schema=sql.Identifier(self._schema))).fetchone()
            if row is not None:
                return f"process {row[0]} on {row[1]}, since {row[2]} UTC"
        return "it is not known which"


__all__ = ["Holding"]
