"""A ledger that several machines share: where it is, and how it is held, opened and made anew.

A lake whose ledger is elsewhere says so in ``_harvest/ledger-elsewhere.json``, with the name of the schema that it has
in the database. The name is made up once, so that it does not matter under which path or URL a machine reaches the
lake, any number of lakes may share a database, and a lake that is begun anew in the same place never meets the ledger
of one that was there before.
"""

from __future__ import annotations

import json
import re
import secrets
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING

from psycopg import sql

from harvester.errors import LakeBroken, LakeError
from harvester.lake import layout
from harvester.lake.ledgers.fencing import Holding
from harvester.lake.ledgers.migrations import set_up
from harvester.lake.ledgers.place import LedgerPlace, set_files_aside
from harvester.lake.ledgers.postgres import Address, PostgresDatabase, translated
from harvester.places import as_arguments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harvester.lake.ledgers.database import Database
    from harvester.lake.ledgers.place import SetAside
    from harvester.lake.storage.store import Store
    from harvester.model import Secret

_KIND = "postgresql"
_SCHEMA = re.compile(r"harvester_([0-9a-f]{16})")
_BYTES = 8


class Shared(LedgerPlace):
    """In a schema of a PostgreSQL database, with a lock of the database's, so that it holds for every machine."""

    option = PostgresDatabase.option

    def __init__(self, store: Store, url: Secret) -> None:
        super().__init__(store)
        self._address = Address(url)
        self._holding: Holding | None = None
        self._known: str | None = None

    @property
    def missing(self) -> str:  # type: ignore[override]
        """What to say of a ledger that is not there."""
        schema = self._schema()
        if schema is None:
            return f"{layout.ELSEWHERE}, which says where it is, is missing"
        return f"there is no schema {schema} in {self._address.shown}, or nothing is in it (is --ledger right?)"

    @contextmanager
    def locked(self, *, moving: bool = False) -> Iterator[None]:
        """Holds the lake: see LedgerPlace."""
        with ExitStack() as held:
            if self.store.size(layout.LEDGER):  # nobody is to use that one meanwhile
                held.enter_context(self.store.locked(layout.LOCK))
            if self._schema() is None:
                if not moving:
                    self._refuse_beside()
                    self.refuse_orphans()
                self._name()
            schema = self._schema()
            assert schema is not None
            self._holding = self._holding_of(schema)
            held.callback(self._holding.release)
            self._holding.take()
            yield

    def _name(self) -> None:
        """Makes up a name for the ledger, and has the lake say it, unless it says one by now.

        Object stores differ in whether they tell the first of two from the second. So those who come at the same
        instant take turns, by a lock of the database's.
        """
        turn = int.from_bytes(sha256(str(self.store.root).encode()).digest()[:_BYTES], signed=True)
        with translated(self._address.shown), self._address.connect() as connection:  # before the lake says anything
            connection.execute(b"SELECT pg_advisory_lock(%s)", (turn,))
            known = {"ledger": _KIND, "schema": f"harvester_{secrets.token_hex(_BYTES)}"}
            content = f"{json.dumps(known)}\n".encode()
            self.store.write_first(layout.ELSEWHERE, content, f"{layout.WRITING}/{secrets.token_hex(_BYTES)}")

    def in_use(self) -> bool:
        """Whether some process, on whatever machine, holds the lake."""
        schema = self._schema()
        return schema is not None and self._holding_of(schema).is_taken()

    def there(self) -> bool:
        """Whether there is a ledger with something in it."""
        schema = self._schema()
        if schema is None:
            return False
        database = PostgresDatabase(self._address, schema)
        try:
            return not database.is_empty()
        finally:
            database.close()

    def begun(self) -> bool:
        """Whether there is a ledger, whatever may be wrong with it."""
        if self.store.size(layout.LEDGER):
            return True
        self.store.check()
        return self.there()

    def open(self) -> Database:
        """The ledger, to be written: see LedgerPlace."""
        self._refuse_beside()
        schema = self._schema()
        assert schema is not None
        return self._opened(schema)

    def is_newer(self) -> bool:
        """Whether there is a ledger that a newer version of harvester wrote."""
        schema = self._schema()
        if schema is None or not self.there():
            return False
        database = PostgresDatabase(self._address, schema)
        try:
            return database.is_newer()
        finally:
            database.close()

    @contextmanager
    def looking(self) -> Iterator[Database]:
        """The ledger, for reading alone: see LedgerPlace."""
        self.store.check()
        schema = self._schema()
        if schema is None:
            self._refuse_beside()
            self.refuse_orphans()
            raise LakeBroken(f"{self.store.root} is not a lake: there is no {layout.ELSEWHERE} in it")
        database = PostgresDatabase(self._address, schema)
        try:
            if database.is_empty():
                self.refuse_orphans()
            database.check_format()
            yield database
        finally:
            database.close()

    @contextmanager
    def made_anew(self) -> Iterator[Database]:
        """A new ledger: see LedgerPlace."""
        schema = self._rebuilt()
        self._held.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))
        database = self._opened(schema)
        try:
            yield database
        finally:
            database.close()

    def put_in_place(self, set_aside: SetAside) -> str | None:
        """The ledger that was made anew takes the old one's place, in one transaction: see LedgerPlace."""
        schema = self._schema()
        assert schema is not None
        kept = None
        rename = "ALTER SCHEMA {} RENAME TO {}"
        steps = [sql.SQL(rename).format(sql.Identifier(self._rebuilt()), sql.Identifier(schema))]
        if self._held.has_schema():
            kept = f"{schema}_aside_{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
            steps.insert(0, sql.SQL(rename).format(sql.Identifier(schema), sql.Identifier(kept)))
        self._held.execute(*steps)
        set_files_aside(set_aside)
        return kept and f"the schema {kept} of {self._address.shown}"

    def forget_unreadable(self, set_aside: SetAside) -> str | None:
        """Sets aside what should say where the ledger is, and doesn't: see LedgerPlace."""
        try:
            self._schema()
        except LakeBroken:
            set_aside(layout.ELSEWHERE)
            return (
                f"{layout.ELSEWHERE} did not say which schema it is in. What it was stays in {self._address.shown}, "
                "as a schema harvester_… that no lake names"
            )
        return None

    def _opened(self, schema: str) -> PostgresDatabase:
        database = PostgresDatabase(self._address, schema, self._held)
        try:
            database.hold(self._held.begin(schema))
            with database.writing() as connection:
                set_up(connection)
            database.check_format()
            database.check_whole()
        except BaseException:
            database.close()
            raise
        return database

    @property
    def _held(self) -> Holding:
        assert self._holding is not None, "the lake is not locked"
        return self._holding

    def _holding_of(self, schema: str) -> Holding:
        found = _SCHEMA.fullmatch(schema)
        assert found
        number = int.from_bytes(bytes.fromhex(found[1]), signed=True)
        return Holding(self._address, schema, number, str(self.store.root))

    def _rebuilt(self) -> str:
        return f"{self._schema()}_rebuilt"

    def _schema(self) -> str | None:
        """The name of the ledger's schema; None if the lake says none. Raises LakeBroken if what it says is none.

        Whoever has been told it once does not ask again: it never changes.
        """
        if self._known is None:
            self._known = self._told()
        return self._known

    def _told(self) -> str | None:
        content = self.mark()
        if content is None:
            return None
        try:
            known = json.loads(content)
            if known["ledger"] == _KIND and _SCHEMA.fullmatch(known["schema"]):
                return str(known["schema"])
        except (ValueError, KeyError, TypeError):
            pass
        message = (
            f"{layout.ELSEWHERE} in {self.store.root} does not say where the ledger is. Put a copy of it back; or "
            f"make the ledger anew, from the data files: harvester recover {as_arguments(self.store.root)}{self.option}"
        )
        raise LakeBroken(message)

    def _refuse_beside(self) -> None:
        if self.store.size(layout.LEDGER):
            message = (
                f"the lake {self.store.root} has its ledger beside its data, in {layout.LEDGER}: leave --ledger out; "
                "or make it anew in the database, from the data files: "
                f"harvester recover {as_arguments(self.store.root)}{self.option}"
            )
            raise LakeError(message)


__all__ = ["Shared"]
