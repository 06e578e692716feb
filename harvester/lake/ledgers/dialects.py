"""What SQLite and PostgreSQL have to be told differently. Everything else in the lake is written once, for both.

Types: numbers are 64 bits wide in either; texts are compared byte by byte in either, so that times sort as times do.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from sqlalchemy.dialects.postgresql import ARRAY

Number = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
"""A whole number of 64 bits. (SQLite's are, and only an ``INTEGER PRIMARY KEY`` numbers rows by itself.)"""
Words = sa.String().with_variant(sa.String(collation="C"), "postgresql")
"""Text that sorts byte by byte, whatever the database's language."""

Statement = TypeVar("Statement")


class PerDialect(Generic[Statement]):
    """A statement that is made once for each database, and taken by a connection's."""

    __slots__ = ("_made",)

    def __init__(self, for_sqlite: Statement, for_postgresql: Statement) -> None:
        self._made = {"sqlite": for_sqlite, "postgresql": for_postgresql}

    def on(self, connection: sa.Connection) -> Statement:
        """The statement for this connection's database."""
        return self._made[connection.dialect.name]


def upsert(
    table: sa.Table,
    keys: Sequence[str],
    change: Callable[[Mapping[str, sa.ColumnElement[Any]]], Mapping[str, Any]],
) -> PerDialect[sa.Insert]:
    """Inserts a row, or changes the one that has the same ``keys``; ``change`` gets the columns of the new row."""
    to_sqlite, to_postgresql = sqlite.insert(table), postgresql.insert(table)
    return PerDialect(
        to_sqlite.on_conflict_do_update(index_elements=keys, set_=change(dict(to_sqlite.excluded))),
        to_postgresql.on_conflict_do_update(index_elements=keys, set_=change(dict(to_postgresql.excluded))),
    )


def insert_new(table: sa.Table) -> PerDialect[sa.Insert]:
    """Inserts a row, unless there is one that it would contradict."""
    return PerDialect(sqlite.insert(table).on_conflict_do_nothing(), postgresql.insert(table).on_conflict_do_nothing())


def total(column: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    """The sum of numbers as a number; PostgreSQL's own sum is wider. Null where there are none."""
    return sa.cast(sa.func.sum(column), Number)


class Among:
    """Whether a column's number is one of a list that may be long: the list is a single value of the statement."""

    def __init__(self, column: sa.ColumnElement[int]) -> None:
        listed = sa.func.json_each(sa.bindparam("listed")).table_valued("value")
        array: ARRAY[int] = postgresql.ARRAY(sa.BigInteger)
        self._conditions: PerDialect[sa.ColumnElement[bool]] = PerDialect(
            column.in_(sa.select(listed.c.value)), column == sa.func.any(sa.bindparam("listed", type_=array))
        )

    def on(self, connection: sa.Connection) -> sa.ColumnElement[bool]:
        """The condition, whose one value is ``listed``."""
        return self._conditions.on(connection)

    @staticmethod
    def value(connection: sa.Connection, numbers: Collection[int]) -> object:
        """What ``listed`` is for these numbers."""
        return json.dumps(list(numbers)) if connection.dialect.name == "sqlite" else list(numbers)


def printable(text: str | None) -> str | None:
    """A text that any database takes: PostgreSQL knows no NUL, and nothing that is no Unicode."""
    if text is None or (text.isprintable() and text.isascii()):
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


__all__ = ["Among", "Number", "PerDialect", "Words", "insert_new", "printable", "total", "upsert"]
