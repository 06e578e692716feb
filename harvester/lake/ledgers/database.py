"""A ledger's database: read, and written in transactions. What kind of database it is, subclasses say.

Invariant: every commit is durable. Writers take turns; readers never wait for them.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from harvester.errors import LakeBroken, LakeError
from harvester.lake.ledgers.migrations import OLDER, format_of
from harvester.lake.ledgers.tables import FORMAT

if TYPE_CHECKING:
    from collections.abc import Iterator

    import sqlalchemy as sa


class Database:
    """An open ledger. Blocking: use it from worker threads, as many as you like.

    Attributes:
        name: what a message calls it.
        option: how commands have to be told where it is, if that is not beside the lake's data.
        epoch: which of the ledger's holders this is, where files have to tell; None where a lock on this machine does.
    """

    option = ""
    epoch: int | None = None

    def __init__(self, engine: sa.Engine, name: str) -> None:
        self.name = name
        self._engine = engine
        self._turn = threading.Lock()

    def check_whole(self) -> None:
        """Raises LakeBroken if the database is damaged, or is none of a ledger."""
        raise NotImplementedError

    def is_empty(self) -> bool:
        """Whether nothing was ever written to it."""
        raise NotImplementedError

    def meaning(self, error: DBAPIError) -> LakeError:
        """What an error of the driver's means for the lake, and what to do about it."""
        raise NotImplementedError

    def check_format(self) -> None:
        """Raises LakeBroken if this version can't use the ledger's format."""
        empty = self.is_empty()
        with self.reading() as connection:
            found = None if empty else format_of(connection)
        if empty:
            message = f"{self.name} is empty: its first run did not get far. Run the same command again"
            raise LakeBroken(message)
        if found != str(FORMAT):
            remedy = "the next run brings it up to date" if found in OLDER else "upgrade harvester"
            message = f"{self.name} has format {found}; this version of harvester reads format {FORMAT}: {remedy}"
            raise LakeBroken(message)

    def is_newer(self) -> bool:
        """Whether the ledger's format is that of a newer version. Raises LakeError."""
        with self.reading() as connection:
            found = format_of(connection)
        return found is not None and found.isdecimal() and int(found) > FORMAT

    def close(self) -> None:
        """Lets go of it."""
        with suppress(SQLAlchemyError):
            self._engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction, committed when the block ends and rolled back when it raises. Raises LakeError."""
        with self._turn, self._translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection that only reads, each statement at an instant of its own. Raises LakeError."""
        with self._translated(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def instant(self) -> Iterator[sa.Connection]:
        """A connection that only reads; all that it reads is of one instant. Raises LakeError."""
        with self.reading() as connection:
            connection.exec_driver_sql("BEGIN")
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise self.meaning(error) from error


__all__ = ["Database"]
