"""What SQLite and PostgreSQL have to be told differently. Everything else in the lake is written once, for both.

Types: numbers are 64 bits wide in either; texts are compared byte by byte in either, so that times sort as times do.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from sqlalchemy.dialects import postgresql

Number = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
"""A whole number of 64 bits. (SQLite's are, and only an ``INTEGER PRIMARY KEY`` numbers rows by itself.)"""
Words = sa.String().with_variant(sa.String(collation="C"), "postgresql")
"""Text that sorts byte by byte, whatever the database's language."""

Statement = TypeVar("Statement")


class PerDialect(Generic[Statement]):
    """A statement that is made for a database when a connection to one first takes it.

    So that of SQLAlchemy's dialects only the one that is used is loaded: PostgreSQL's takes a while.
    """

    __slots__ = ("_made", "_make")

    def __init__(self, make: Callable[[str], Statement]) -> None:
        self._make = make
        self._made: dict[str, Statement] = {}

    def on(self, connection: sa.Connection) -> Statement:
        """The statement for this connection's database."""
        dialect = connection.dialect.name
        if dialect not in self._made:
            self._made[dialect] = self._make(dialect)
        return self._made[dialect]


def upsert(
    table: sa.Table,
    keys: Sequence[str],
    change: Callable[[Mapping[str, sa.ColumnElement[Any]]], Mapping[str, Any]],
) -> PerDialect[sa.Insert]:
    """Inserts a row, or changes the one that has the same ``keys``; ``change`` gets the columns of the new row."""

    def made(dialect: str) -> sa.Insert:
        insert = _insert(table, dialect)
        return insert.on_conflict_do_update(index_elements=keys, set_=change(dict(insert.excluded)))

    return PerDialect(made)


def insert_new(table: sa.Table) -> PerDialect[sa.Insert]:
    """Inserts a row, unless there is one that it would contradict."""
    return PerDialect(lambda dialect: _insert(table, dialect).on_conflict_do_nothing())


def _insert(table: sa.Table, dialect: str) -> sqlite.Insert | postgresql.Insert:
    if dialect == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415  see ``PerDialect``

    return postgresql.insert(table)


def total(column: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    """The sum of numbers as a number; PostgreSQL's own sum is wider. Null where there are none."""
    return sa.cast(sa.func.sum(column), Number)


class Among:
    """Whether a column's number is one of a list that may be long: the list is a single value of the statement."""

    def __init__(self, column: sa.ColumnElement[int]) -> None:
        self._conditions = PerDialect(partial(self._condition, column))

    @staticmethod
    def _condition(column: sa.ColumnElement[int], dialect: str) -> sa.ColumnElement[bool]:
        if dialect == "sqlite":
            listed = sa.func.json_each(sa.bindparam("listed")).table_valued("value")
            return column.in_(sa.select(listed.c.value))
        from sqlalchemy.dialects.postgresql import ARRAY  # noqa: PLC0415  see ``PerDialect``

        array: ARRAY[int] = ARRAY(sa.BigInteger)
        return column == sa.func.any(sa.bindparam("listed", type_=array))

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
