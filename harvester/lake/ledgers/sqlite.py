"""A ledger in an SQLite file: opened, and checked for damage.

Invariant: every commit is synced (WAL, ``synchronous=FULL``).
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event

from harvester.errors import LakeBroken, LakeError, LakeFull
from harvester.lake.ledgers.database import Database
from harvester.lake.ledgers.migrations import set_up
from harvester.lake.ledgers.tables import FORMAT

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.exc import DBAPIError

WAIT_S = 60
"""How long a connection waits for another one's transaction, in seconds."""

_FULL = ("SQLITE_FULL",)
_NOT_WRITTEN = ("SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHM", "SQLITE_IOERR_TRUNCATE", "SQLITE_IOERR_FSYNC")
_NOT_LET_IN = ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH", "SQLITE_IOERR_ACCESS")
_BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")
_REBUILD = "Put a copy of it back, or rebuild it from the data files: harvester recover"
LET_IN = "Let the user who runs harvester read and write the folder _harvest of the lake and the files in it"


class SqliteDatabase(Database):
    """An open ledger file."""

    @classmethod
    def open(cls, path: Path, *, create: bool) -> SqliteDatabase:
        """Opens the ledger in an existing file; with ``create``, an empty file becomes one.

        Raises LakeBroken if it isn't one that this version can use, LakeError if it can't be opened.
        """
        engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)), connect_args={"check_same_thread": False, "timeout": WAIT_S}
        )
        event.listen(engine, "connect", _synchronous)
        database = cls(engine, str(path))
        try:
            if create:
                database.check_whole()
                database.keep_a_log()
                with database.writing() as connection:
                    set_up(connection)
            database.check_format()
        except BaseException:
            database.close()
            raise
        return database

    @staticmethod
    def is_newer_file(path: Path) -> bool:
        """Whether a file is a ledger that a newer version of harvester wrote."""
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
                (found,) = database.execute("SELECT value FROM facts WHERE name = 'format'").fetchone()
                return int(found) > FORMAT
        except (sqlite3.Error, TypeError, ValueError):
            return False

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

    def keep_no_log(self) -> None:
        """Has the file hold all that was committed, synced, whatever is beside it."""
        with self.reading() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def is_empty(self) -> bool:
        """Whether nothing was ever written to it."""
        with self.reading() as connection:
            return not connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar()

    def meaning(self, error: DBAPIError) -> LakeError:
        """What an error of the driver's means for the lake, and what to do about it."""
        reason = str(error.orig)
        kind = str(getattr(error.orig, "sqlite_errorname", ""))
        if kind.startswith(_FULL):
            return LakeFull(f"could not write the ledger: {reason}. Free some space and run the same command again")
        if kind.startswith(_NOT_WRITTEN):
            return LakeFull(
                f"could not write the ledger: {reason}. The disk is full (df -h), a limit is reached (ulimit -f), or "
                "it fails: see to it and run the same command again"
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


__all__ = ["LET_IN", "WAIT_S", "SqliteDatabase"]
