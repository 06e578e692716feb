"""The ledger's SQLite file: opened, checked for damage and format, read and written in transactions.

Invariant: every commit is synced (WAL, ``synchronous=FULL``). Writers take turns; readers never wait for them.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from harvester.errors import LakeBroken, LakeError, LakeFull
from harvester.lake.tables import FORMAT, OLDER, bring_along, facts, metadata, slices

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FORMAT_FOUND = sa.select(facts.c.value).where(facts.c.name == "format")
WAIT_S = 60
"""How long a connection waits for another one's transaction, in seconds."""

_FULL = ("SQLITE_FULL",)
_NOT_WRITTEN = ("SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHM", "SQLITE_IOERR_TRUNCATE", "SQLITE_IOERR_FSYNC")
_NOT_LET_IN = ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH", "SQLITE_IOERR_ACCESS")
_BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")
_REBUILD = "Put a copy of it back, or rebuild it from the data files: harvester recover"
LET_IN = "Let the user who runs harvester read and write the folder _harvest of the lake and the files in it"


class Database:
    """An open ledger file. Blocking: use it from worker threads, as many as you like."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._turn = threading.Lock()

    @classmethod
    def open(cls, path: Path, *, create: bool) -> Database:
        """Opens the ledger in an existing file; with ``create``, an empty file becomes one.

        Raises LakeBroken if it isn't one that this version can use, LakeError if it can't be opened.
        """
        engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)), connect_args={"check_same_thread": False, "timeout": WAIT_S}
        )
        event.listen(engine, "connect", _synchronous)
        database = cls(engine)
        try:
            if create:
                database.check_whole()
                database.keep_a_log()
                with database.writing() as connection:
                    facts.create(connection, checkfirst=True)
                    connection.execute(insert(facts).values(name="format", value=str(FORMAT)).on_conflict_do_nothing())
                    found = connection.scalar(_FORMAT_FOUND)
                    if found in {str(FORMAT), *OLDER}:  # of a newer one nothing is touched
                        metadata.create_all(connection)
                        for index in slices.indexes:  # of a table that was there before, that makes none
                            index.create(connection, checkfirst=True)
                    if found in OLDER:
                        bring_along(connection)
            database.check_format(path)
        except BaseException:
            database.close()
            raise
        return database

    def check_whole(self) -> None:
        """Raises LakeBroken if the file is damaged. It reads all of it: 100,000 sends take less than a second."""
        with self.reading() as connection:
            found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
            ours = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE name = 'facts'").scalar()
            others = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar()
        if found != "ok":
            raise LakeBroken(f"the ledger is damaged: {found}. {_REBUILD}")
        if others and not ours:
            raise LakeBroken(f"the ledger is a database of something else. {_REBUILD}")

    def keep_a_log(self) -> None:
        """Has commits go to a write-ahead log, so that readers never wait; the file remembers it."""
        with self.reading() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")

    def check_format(self, path: Path) -> None:
        """Raises LakeBroken if this version can't use the ledger's format."""
        with self.reading() as connection:
            if not connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar():
                message = (
                    f"{path} is empty: its first run did not get far. Run the same command again; or, if the lake "
                    "holds data already, harvester recover"
                )
                raise LakeBroken(message)
            found = connection.scalar(_FORMAT_FOUND)
        if found != str(FORMAT):
            remedy = "the next run brings it up to date" if found in OLDER else "upgrade harvester"
            message = f"{path} has format {found}; this version of harvester reads format {FORMAT}: {remedy}"
            raise LakeBroken(message)

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
    except DBAPIError as error:
        raise _meaning(error) from error


def _meaning(error: DBAPIError) -> LakeError:
    """What an error of the driver's means for the lake, and what to do about it."""
    reason = str(error.orig)
    kind = str(getattr(error.orig, "sqlite_errorname", ""))
    if kind.startswith(_FULL):
        return LakeFull(f"could not write the ledger: {reason}. Free some space and run the same command again")
    if kind.startswith(_NOT_WRITTEN):
        return LakeFull(
            f"could not write the ledger: {reason}. The disk is full (df -h), a limit is reached (ulimit -f), or it "
            "fails: see to it and run the same command again"
        )
    if kind.startswith(_NOT_LET_IN):
        return LakeError(f"the ledger can't be used: {reason}. {LET_IN}")
    if kind.startswith(_BUSY):
        return LakeError(f"the ledger can't be used: {reason}. Close what else has it open, and run again")
    return LakeBroken(f"the ledger can't be used: {reason}. {_REBUILD}")


def _synchronous(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own type
    cursor = connection.cursor()
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


__all__ = ["LET_IN", "WAIT_S", "Database"]
