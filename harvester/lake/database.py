"""The ledger's SQLite file: opened, checked for damage and format, read and written in transactions.

Invariant: every commit is synced (WAL, ``synchronous=FULL``). Writers take turns; readers never wait for them.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import threading
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from harvester.errors import LakeBroken, LakeError, LakeFull
from harvester.lake.tables import FORMAT, bring_along, facts, metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FORMAT_FOUND = sa.select(facts.c.value).where(facts.c.name == "format")
_WAIT_S = 60
"""How long a connection waits for another one's transaction, in seconds."""
_WAL = "-wal"

_FULL = ("SQLITE_FULL",)
_NOT_WRITTEN = ("SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHM", "SQLITE_IOERR_TRUNCATE", "SQLITE_IOERR_FSYNC")
_NOT_LET_IN = ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH", "SQLITE_IOERR_ACCESS")
_BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")
_REBUILD = "Put a copy of it back, or rebuild it from the data files: harvester recover"
_LET_IN = "Let the user who runs harvester read and write the folder _harvest of the lake and the files in it"


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
            sa.URL.create("sqlite", database=str(path)), connect_args={"check_same_thread": False, "timeout": _WAIT_S}
        )
        event.listen(engine, "connect", _synchronous)
        database = cls(engine)
        try:
            if create:
                database.check_whole()
                with database.writing() as connection:
                    facts.create(connection, checkfirst=True)
                    connection.execute(insert(facts).values(name="format", value=str(FORMAT)).on_conflict_do_nothing())
                    found = connection.scalar(_FORMAT_FOUND)
                    if found in {str(FORMAT), "1"}:  # of a newer one nothing is touched
                        metadata.create_all(connection)
                    if found == "1":
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

    def check_format(self, path: Path) -> None:
        """Raises LakeBroken if this version can't use the ledger's format."""
        with self.reading() as connection:
            found = connection.scalar(_FORMAT_FOUND)
        if found != str(FORMAT):
            remedy = "the next run brings it up to date" if found == "1" else "upgrade harvester"
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
def looking(path: Path) -> Iterator[Database]:
    """The ledger in an existing file, for reading alone, also where nothing may be written, and while a run goes on.

    Raises LakeBroken if it isn't one that this version can use, LakeError if it can't be read.
    """
    with ExitStack() as held:
        try:
            database = Database.open(path, create=False)
        except LakeBroken:
            raise
        except LakeError:  # SQLite can't make the files that it keeps beside a ledger, and no run at work has made them
            database = Database(_standing_still(path, held))
            held.callback(database.close)
            database.check_format(path)
        else:
            held.callback(database.close)
        yield database


def _standing_still(path: Path, held: ExitStack) -> sa.Engine:
    """Reads a ledger that nobody writes to.

    If it was left with commits that are in its write-ahead log alone, both are copied to where they can be read.
    """
    wal = path.with_name(path.name + _WAL)
    try:
        if not wal.exists() or not wal.stat().st_size:
            return _reader(path, "immutable=1")
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="harvester-")))
        for file in (path, wal):
            shutil.copyfile(file, folder / file.name)
    except OSError as error:
        raise LakeError(f"{path} can't be read: {error.strerror or error}. {_LET_IN}") from error
    return _reader(folder / path.name, "mode=rw")


def _reader(path: Path, how: str) -> sa.Engine:
    """Connects to a file by its URI, with ``how`` as its query."""
    address = f"{path.absolute().as_uri()}?{how}"
    connect: Callable[[], Any] = lambda: sqlite3.connect(  # noqa: E731  SQLAlchemy asks for a function without arguments
        address, uri=True, check_same_thread=False, timeout=_WAIT_S
    )
    return sa.create_engine("sqlite://", creator=connect, poolclass=sa.QueuePool)


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
        return LakeError(f"the ledger can't be used: {reason}. {_LET_IN}")
    if kind.startswith(_BUSY):
        return LakeError(f"the ledger can't be used: {reason}. Close what else has it open, and run again")
    return LakeBroken(f"the ledger can't be used: {reason}. {_REBUILD}")


def _synchronous(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own type
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


__all__ = ["Database", "looking"]
