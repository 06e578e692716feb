"""The ledger's SQLite file: opened, checked for its format, read and written in transactions.

Invariant: every commit is synced (WAL, ``synchronous=FULL``). Writers take turns; readers never wait for them.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from harvester.errors import LakeBroken, LakeFull
from harvester.lake.tables import FORMAT, bring_along, facts, metadata

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FORMAT_FOUND = sa.select(facts.c.value).where(facts.c.name == "format")


class Database:
    """An open ledger file. Blocking: use it from worker threads, as many as you like."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._turn = threading.Lock()

    @classmethod
    def open(cls, path: Path, *, create: bool) -> Database:
        """Opens the ledger in an existing file; with ``create``, an empty file becomes one.

        Raises LakeBroken if it isn't one that this version can use.
        """
        engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)), connect_args={"check_same_thread": False, "timeout": 60}
        )
        event.listen(engine, "connect", _synchronous)
        database = cls(engine)
        try:
            if create:
                with database.writing() as connection:
                    facts.create(connection, checkfirst=True)
                    connection.execute(insert(facts).values(name="format", value=str(FORMAT)).on_conflict_do_nothing())
                    found = connection.scalar(_FORMAT_FOUND)
                    if found in {str(FORMAT), "1"}:  # of a newer one nothing is touched
                        metadata.create_all(connection)
                    if found == "1":
                        bring_along(connection)
            with database.reading() as connection:
                found = connection.scalar(_FORMAT_FOUND)
        except BaseException:
            database.close()
            raise
        if found != str(FORMAT):
            database.close()
            remedy = "the next run brings it up to date" if found == "1" else "upgrade harvester"
            message = f"{path} has format {found}; this version of harvester reads format {FORMAT}: {remedy}"
            raise LakeBroken(message)
        return database

    def close(self) -> None:
        """Lets go of the file."""
        with suppress(SQLAlchemyError):
            self._engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction, committed when the block ends and rolled back when it raises. Raises LakeBroken, LakeFull."""
        with self._turn, _translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection that only reads. Raises LakeBroken."""
        with _translated(), self._engine.connect() as connection:
            yield connection


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        reason = str(error.orig)
        if "full" in reason:
            message = f"could not write the ledger: {reason}. Free some space and run the same command again"
            raise LakeFull(message) from error
        raise LakeBroken(f"the ledger can't be used: {reason}") from error


def _synchronous(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own type
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


__all__ = ["Database"]
