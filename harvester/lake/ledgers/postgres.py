"""A ledger in a PostgreSQL database, in a schema of its own, so that several lakes may share the database.

Round trips: a transaction's statements are sent without waiting for one another's results (a pipeline), so that a
page's commit waits for a distant server once, and once more for each result that it needs.

Invariant: the password is in no message, whatever the server says.
"""

from __future__ import annotations

import logging
import os
import select
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import sqlalchemy as sa
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, DisconnectionError

from harvester.errors import LakeBroken, LakeError, LakeFull, LakeInUse, UsageError
from harvester.events import log
from harvester.lake.ledgers.database import Database
from harvester.lake.ledgers.tables import make_indexes_partial, metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harvester.lake.ledgers.fencing import Holding
    from harvester.model import Secret

OLDEST = 120000
"""The oldest server that can be used, as it numbers its versions."""
FENCED = "ZL001"
"""The SQLSTATE that says that another holder has taken over."""

_PORTS = 65_536
_PATIENCE_S = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)
"""The waits between attempts to reach a server again: it may be starting anew."""
_DEFAULTS = {
    "fallback_application_name": "harvester",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
"""So that neither end waits for long for one that is gone."""
_SESSION = """
SET client_encoding = 'UTF8';
SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;
SET idle_in_transaction_session_timeout = '120s';
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
"""
"""What a lost machine held is let go within half a minute; what is committed stays, whenever the server's power fails.
"""
_FULL = ("53100",)
_NOT_LET_IN = ("28", "42501", "3D000")
_NOT_WRITTEN = ("25006",)
_NOT_OURS = ("42P01", "42703", "3F000", "XX001", "XX002")
_PIPELINE = "pipeline"
_INSTANT = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"

# What it warns of (a pipeline that ended early) is raised as an error beside, which says more.
logging.getLogger("psycopg").setLevel(logging.CRITICAL)

make_indexes_partial("postgresql")


class Address:
    """Where a database is. What is not said comes from where libpq takes it: ``PGPASSWORD``, ``.pgpass``, a service.

    Attributes:
        shown: the host, the port and the database, as far as they are given; never the password.
    """

    def __init__(self, url: Secret) -> None:
        try:
            given = {name: str(value) for name, value in conninfo_to_dict(str(url)).items() if value is not None}
        except psycopg.Error:  # its text would quote the URL
            message = "--ledger is a URL such as postgresql://user@host/database; this one can't be read"
            raise UsageError(message) from None
        served = "service" in given or "PGSERVICE" in os.environ
        own = served or "PGCONNECT_TIMEOUT" in os.environ
        unsaid = {name: value for name, value in _DEFAULTS.items() if not (own and name == "connect_timeout")}
        self._parameters: dict[str, Any] = unsaid | given
        if any(port and not (port.isdecimal() and 0 < int(port) < _PORTS) for port in given.get("port", "").split(",")):
            raise UsageError(f"--ledger: there is no port {given['port']}")
        server = ":".join(filter(None, (given.get("host"), given.get("port"))))
        self.shown = "/".join(filter(None, (server, given.get("dbname")))) or "PostgreSQL"
        self._was_reached = False

    def connect(self, setting_up: sql.Composed | None = None) -> psycopg.Connection[Any]:
        """A new connection, each statement a transaction of its own. It is patient once the server has been reached."""
        session = sql.Composed([sql.SQL(_SESSION), *(setting_up or ())])
        for wait_s in _PATIENCE_S if self._was_reached else ():
            try:
                return self._connect(session)
            except psycopg.OperationalError as error:
                reason = " ".join(str(error).split())
                log.warning("the ledger can't be reached", ledger=self.shown, reason=reason, next_try_s=wait_s)
                time.sleep(wait_s)
        return self._connect(session)

    def _connect(self, session: sql.Composed) -> psycopg.Connection[Any]:
        connection = psycopg.connect(**self._parameters, autocommit=True)
        try:
            self._refuse_older(connection)
            connection.execute(session)
        except BaseException:
            connection.close()
            raise
        self._was_reached = True
        return connection

    def _refuse_older(self, connection: psycopg.Connection[Any]) -> None:
        if connection.info.server_version < OLDEST:
            found = connection.info.parameter_status("server_version")
            raise LakeError(f"a ledger needs PostgreSQL {OLDEST // 10000} or later; {self.shown} is {found}")


def is_alive(connection: psycopg.Connection[Any]) -> bool:
    """Whether the server has not hung up, as far as this machine knows. It asks nobody."""
    if connection.closed:
        return False
    watch = select.poll()
    watch.register(connection.fileno(), select.POLLIN)
    if watch.poll(0):
        try:
            connection.pgconn.consume_input()
        except psycopg.Error:
            return False
    return not connection.broken and not watch.poll(0)


class PostgresDatabase(Database):
    """An open ledger in a schema of a database."""

    option = " --ledger URL"

    def __init__(self, address: Address, schema: str, holding: Holding | None = None) -> None:
        """``holding`` has the ledger locked; without it, nothing can be written."""
        mine = sql.SQL("SET search_path TO {}; SET default_transaction_read_only TO {}").format(
            sql.Identifier(schema), sql.SQL("on" if holding is None else "off")
        )
        engine = sa.create_engine(
            "postgresql+psycopg://", creator=lambda: address.connect(mine), isolation_level="AUTOCOMMIT"
        )
        event.listen(engine, "checkout", _check)
        event.listen(engine, "after_cursor_execute", _wait_for_rows)
        super().__init__(engine, f"the ledger {schema} in {address.shown}")
        self.schema = schema
        self._holding = holding
        self._fence = b""

    def hold(self, epoch: int) -> None:
        """From now on, every transaction is refused unless this epoch is still the ledger's."""
        self.epoch = epoch
        self._fence = (
            f"DO $$BEGIN PERFORM 1 FROM holder WHERE epoch = {epoch:d} FOR SHARE; IF NOT FOUND THEN "
            f"RAISE EXCEPTION USING ERRCODE = '{FENCED}', MESSAGE = 'another holder has taken over'; END IF; END$$"
        ).encode()

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction: see Database. If another holder has taken over, LakeInUse is raised and nothing is written."""
        assert self._holding is not None
        with self._turn, self._translated():
            self._holding.keep()
            with self._engine.connect() as connection, _pipeline(connection) as driver:
                driver.execute(b"BEGIN")
                if self._fence:
                    driver.execute(self._fence)
                yield connection
                driver.execute(b"COMMIT")

    @contextmanager
    def instant(self) -> Iterator[sa.Connection]:
        """A connection that only reads, all of one instant: see Database."""
        with self.reading() as connection:
            connection.exec_driver_sql(_INSTANT)
            yield connection

    def is_empty(self) -> bool:
        """Whether nothing was ever written to it: there is no such schema, or nothing in it."""
        with self.reading() as connection:
            query = sa.text("SELECT 1 FROM pg_tables WHERE schemaname = :schema AND tablename = 'facts'")
            return connection.scalar(query, {"schema": self.schema}) is None

    def check_whole(self) -> None:
        """Raises LakeBroken if tables or columns are missing. Damaged pages are for the server to find."""
        with self.reading() as connection:
            found = sa.inspect(connection).get_multi_columns(schema=self.schema)
        there = {(table, column["name"]) for (_, table), columns in found.items() for column in columns}
        lacking = [
            f"{table.name}.{column.name}"
            for table in metadata.sorted_tables
            for column in table.c
            if (table.name, column.name) not in there
        ]
        if lacking:
            raise LakeBroken(f"{self.name} is damaged: there is no {lacking[0]}. {_REBUILD}")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise self.meaning(error) from error
        except psycopg.Error as error:
            raise self._meaning(error) from error

    def meaning(self, error: DBAPIError) -> LakeError:
        """What an error of the driver's means for the lake, and what to do about it."""
        return self._meaning(error.orig)

    def _meaning(self, error: BaseException | None) -> LakeError:
        state = str(getattr(error, "sqlstate", None) or "")
        if state == FENCED and self._holding is not None:
            return LakeInUse(self._holding.taken_over())
        return meaning(error, self.name)


_REBUILD = "Put a copy of it back, or rebuild it from the data files: harvester recover LAKE --ledger URL"


def meaning(error: BaseException | None, name: str) -> LakeError:
    """What an error of the driver's means for a ledger of this name, and what to do about it."""
    state = str(getattr(error, "sqlstate", None) or "")
    reason = " ".join(str(error).split()).rstrip(".?")
    if state.startswith(_FULL):
        return LakeFull(f"could not write {name}: {reason}. Free some space there and run the same command again")
    if state.startswith(_NOT_OURS):
        return LakeBroken(f"{name} can't be used: {reason}. {_REBUILD}")
    if state.startswith(_NOT_LET_IN):
        return LakeError(
            f"{name} can't be used: {reason}. Its user needs to connect to the database and to make a schema in it"
        )
    if state.startswith(_NOT_WRITTEN):
        return LakeError(f"could not write {name}: {reason}. Name the server that can be written to with --ledger")
    if not state or state.startswith(("08", "57")):
        return LakeError(
            f"{name} can't be reached: {reason}. See to the server, or to what --ledger says of it, and run the same "
            "command again: it goes on from what is committed"
        )
    return LakeError(f"{name} can't be used: {reason}. See to it and run the same command again")


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Turns the driver's errors into those of a lake."""
    try:
        yield
    except psycopg.Error as error:
        raise meaning(error, name) from error


@contextmanager
def _pipeline(connection: sa.Connection) -> Iterator[psycopg.Connection[Any]]:
    """Has statements sent without waiting for results, as far as the driver's library can do that."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    if not psycopg.Pipeline.is_supported():
        yield driver
        return
    with driver.pipeline() as pipeline:
        connection.info[_PIPELINE] = pipeline
        try:
            yield driver
        finally:
            del connection.info[_PIPELINE]


def _wait_for_rows(connection: sa.Connection, *what: Any) -> None:  # noqa: ANN401 - the last says what was executed
    """What brings rows is waited for, and with it all that was sent before."""
    *_, context, many = what
    pipeline = connection.info.get(_PIPELINE)
    if pipeline is None or context.isddl or many:
        return
    changes = context.isinsert or context.isupdate or context.isdelete
    if not changes or context.compiled.effective_returning:
        pipeline.sync()


def _check(connection: psycopg.Connection[Any], _record: object, _proxy: object) -> None:
    if not is_alive(connection):
        raise DisconnectionError


__all__ = ["FENCED", "OLDEST", "Address", "PostgresDatabase", "is_alive", "meaning", "translated"]
