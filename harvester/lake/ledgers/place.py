"""Where a lake's ledger is: in a file beside its data, or in a database that several machines share.

Both are locked, opened, looked at and made anew in the same ways, and nothing else knows which of them it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harvester.datasets import CATALOGUE
from harvester.errors import LakeBroken, LakeError, UsageError
from harvester.lake import layout
from harvester.lake.ledgers.looking import looking
from harvester.lake.ledgers.sqlite import SqliteDatabase
from harvester.places import as_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from harvester.lake.ledgers.database import Database
    from harvester.lake.storage.store import Store
    from harvester.model import Secret

    SetAside = Callable[[str], None]

LEAST_BYTES = 512
"""SQLite takes what is left of a shorter file for a database that is still empty."""
_NO_DRIVER = (
    "a ledger in PostgreSQL needs the driver psycopg, which the extra mailkit-harvester[postgresql] brings: "
    "pip install 'psycopg[binary]>=3.2.3'"
)


class LedgerPlace(ABC):
    """Where the ledger of one lake is. Every method is blocking, and raises LakeError."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @abstractmethod
    def locked(self, *, moving: bool = False) -> AbstractContextManager[None]:
        """Holds the lake for this process alone; its folders are there. The lock ends with the process however it ends.

        With ``moving``, its ledger may have been in another place until now, or be lost. Raises LakeInUse.
        """

    @abstractmethod
    def in_use(self) -> bool:
        """Whether some process, on whatever machine, holds the lake."""

    @abstractmethod
    def there(self) -> bool:
        """Whether there is a ledger with something in it."""

    @abstractmethod
    def begun(self) -> bool:
        """Whether there is a ledger, whatever may be wrong with it."""

    @abstractmethod
    def open(self) -> Database:
        """The ledger, for whoever has it locked; one of an earlier format is brought along, or a first one made.

        Raises LakeBroken if it isn't one that this version can use.
        """

    @abstractmethod
    def is_newer(self) -> bool:
        """Whether there is a ledger that a newer version of harvester wrote."""

    @abstractmethod
    def looking(self) -> AbstractContextManager[Database]:
        """The ledger, for reading alone, also while a run is at work. Raises LakeBroken if there is none to read."""

    @abstractmethod
    def made_anew(self) -> AbstractContextManager[Database]:
        """A new and empty ledger beside the old one, for whoever has that locked, to be filled."""

    @abstractmethod
    def put_in_place(self, set_aside: SetAside) -> str | None:
        """The ledger that was made anew takes the old one's place.

        Args:
            set_aside: moves a file out of the way, which may not be there.

        Returns:
            Where the old one is kept, if that is not where files are set aside.
        """

    def forget_unreadable(self, set_aside: SetAside) -> str | None:  # noqa: ARG002  a file's place is known
        """Sets aside what should say where the ledger is, if it does not, so that it can be made anew.

        Args:
            set_aside: moves a file out of the way.

        Returns:
            Why the ledger that there was can't be used; None if nothing was set aside.
        """
        return None

    def mark(self) -> bytes | None:
        """What the lake says of a ledger that is elsewhere; None if it says nothing. Raises LakeAway."""
        return self.store.content(layout.ELSEWHERE)

    def refuse_orphans(self) -> None:
        """Raises LakeBroken if there is data without a ledger: harvesting beside it would double every row."""
        orphaned = [name for name in CATALOGUE if self.store.holds_anything(name)]
        if orphaned:
            message = (
                f"{self.store.root} holds data ({', '.join(orphaned)}) but no ledger: {self.missing}. "
                "Put it back, or rebuild it from the data files: "
                f"harvester recover {as_arguments(self.store.root)}{self.option}"
            )
            raise LakeBroken(message)

    missing: str
    """What to say of a ledger that is not there."""
    option: str = ""
    """How commands have to be told where the ledger is."""


class BesideData(LedgerPlace):
    """In an SQLite file in the lake's ``_harvest/``, with a lock of this machine's."""

    missing = f"{layout.LEDGER} is missing or empty"

    @contextmanager
    def locked(self, *, moving: bool = False) -> Iterator[None]:  # noqa: ARG002  nothing moves to here
        """Holds the lake: see LedgerPlace."""
        with self.store.locked(layout.LOCK):
            self._refuse_elsewhere()
            yield

    def in_use(self) -> bool:
        """Whether some process on this machine holds the lake."""
        return self.store.is_locked(layout.LOCK)

    def there(self) -> bool:
        """Whether there is a ledger with something in it."""
        return (self.store.size(layout.LEDGER) or 0) >= LEAST_BYTES

    def begun(self) -> bool:
        """Whether there is a ledger, whatever may be wrong with it."""
        if self.store.size(layout.LEDGER):
            return True
        self.store.check()
        return self.mark() is not None

    def open(self) -> Database:
        """The ledger, to be written: see LedgerPlace."""
        self.store.touch(layout.LEDGER)  # which also says so if it can't be written to
        self.store.sync_folder(layout.HOME)
        return SqliteDatabase.open(self.store.state.root / layout.LEDGER, create=True)

    def is_newer(self) -> bool:
        """Whether there is a ledger that a newer version of harvester wrote."""
        return SqliteDatabase.is_newer_file(self.store.state.root / layout.LEDGER)

    @contextmanager
    def looking(self) -> Iterator[Database]:
        """The ledger, for reading alone: see LedgerPlace. Where it is on this machine, no object store is asked."""
        has_ledger = self.store.size(layout.LEDGER) is not None
        if not has_ledger or self.store.objects is None:
            self.store.check()
            self._refuse_elsewhere()
        if not self.there():
            self.refuse_orphans()
        if not has_ledger:
            raise LakeBroken(f"{self.store.root} is not a lake: there is no {self.store.local(layout.LEDGER)}")
        with looking(self.store.state.root / layout.LEDGER) as database:
            yield database

    @contextmanager
    def made_anew(self) -> Iterator[Database]:
        """A new ledger: see LedgerPlace."""
        for end in layout.OF_SQLITE:
            self.store.remove(layout.REBUILT + end)
        self.store.touch(layout.REBUILT)
        database = SqliteDatabase.open(self.store.state.root / layout.REBUILT, create=True)
        try:
            yield database
            database.keep_no_log()
        finally:
            database.close()

    def put_in_place(self, set_aside: SetAside) -> str | None:
        """The ledger that was made anew takes the old one's place: see LedgerPlace."""
        set_files_aside(set_aside)
        self.store.publish([(layout.REBUILT, layout.LEDGER)])
        return None

    def _refuse_elsewhere(self) -> None:
        if self.mark() is not None:
            message = (
                f"the ledger of the lake {self.store.root} is in a PostgreSQL database, as {layout.ELSEWHERE} says: "
                "name the database with --ledger, or in HARVESTER_LEDGER"
            )
            raise LakeError(message)


def set_files_aside(set_aside: SetAside) -> None:
    """Moves a ledger's file out of the way; what SQLite kept beside it must not meet another one."""
    for end in layout.OF_SQLITE:
        set_aside(layout.LEDGER + end)


def ledger_place(store: Store, ledger: Secret | None) -> LedgerPlace:
    """Where a lake's ledger is, by the URL of the database; None for beside its data.

    Raises UsageError if the URL can't be meant, or there is no driver for it.
    """
    if ledger is None:
        return BesideData(store)
    try:
        from harvester.lake.ledgers.shared import Shared  # noqa: PLC0415  its driver is an extra
    except ImportError:
        raise UsageError(_NO_DRIVER) from None
    return Shared(store, ledger)


__all__ = ["BesideData", "LedgerPlace", "ledger_place", "set_files_aside"]
