"""Looking at a ledger: also while a run is at work on it, and where nothing may be written.

Invariant: nothing is changed, and nothing is left beside the ledger that keeps a run from going on.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from harvester.errors import LakeBroken, LakeError
from harvester.lake.ledgers.sqlite import LET_IN, WAIT_S, SqliteDatabase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harvester.lake.ledgers.database import Database

_LOG = "-wal"
_SHARED = "-shm"


@contextmanager
def looking(path: Path) -> Iterator[Database]:
    """The ledger in an existing file, for reading alone.

    Raises LakeBroken if it isn't one that this version can use, LakeError if it can't be read.
    """
    with ExitStack() as held:
        database = _as_it_lies(path)
        if database is None:
            database = SqliteDatabase(_standing_still(path, held), str(path))
            held.callback(database.close)
            database.check_format()
        else:
            held.callback(database.close)
        yield database


def _as_it_lies(path: Path) -> Database | None:
    """The ledger with the files that SQLite keeps beside it, which it may have to make; None where it can't."""
    if not (_beside(path, _SHARED).exists() or _can_be_written(path)):
        return None  # SQLite would make files that can't be written either, and leave them there
    try:
        return SqliteDatabase.open(path, create=False)
    except LakeBroken:
        raise
    except LakeError:
        return None


def _standing_still(path: Path, held: ExitStack) -> sa.Engine:
    """Connects to a ledger that nobody writes to.

    If it was left with commits that are in its write-ahead log alone, both are copied to where they can be read.
    """
    log = _beside(path, _LOG)
    try:
        if not log.exists() or not log.stat().st_size:
            return _reader(path, "immutable=1")
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="harvester-")))
        for file in (path, log):
            shutil.copyfile(file, folder / file.name)
    except OSError as error:
        raise LakeError(f"{path} can't be read: {error.strerror or error}. {LET_IN}") from error
    return _reader(folder / path.name, "mode=rw")


def _reader(path: Path, how: str) -> sa.Engine:
    """Connects to a file by its URI, with ``how`` as its query."""
    address = f"{path.absolute().as_uri()}?{how}"
    connect: Callable[[], Any] = lambda: sqlite3.connect(  # noqa: E731  SQLAlchemy asks for a function without arguments
        address, uri=True, check_same_thread=False, timeout=WAIT_S
    )
    return sa.create_engine("sqlite://", creator=connect, poolclass=sa.QueuePool)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _can_be_written(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError:
        return False
    return True


__all__ = ["looking"]
