"""The exact decoder of records: slower than the fast ones, right for all records. Pieces of JSON in, raw table out.

It takes values of any kind (a number is kept as it was written), records whose fields differ or come in several letter
cases, and text that no column can hold. Records are worked off in slabs, so that memory stays small beside the body.
XML is exactly decoded by way of the same records: what its values would be in JSON.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from operator import itemgetter
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from harvester.api.bounds import LONGEST_NAME, MOST_CELLS, MOST_NAMES, check_nested, most_records, too_many
from harvester.api.marks import MARK, bytes_piece, shown, shown_piece
from harvester.api.records import RawColumn, RawTable, absent, as_json, nothing
from harvester.datasets import Kind
from harvester.errors import OverCap

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from harvester.datasets import Column, Dataset

SLAB_ROWS = 64
"""How many records are taken apart at a time: few enough for the processor's cache, and for others to have the
interpreter in between."""

_TURN = threading.Lock()
"""Taking records apart is work for the interpreter alone: two at a time are no faster, and keep the loop waiting."""

Record = dict[str, msgspec.Raw]
"""A record whose values are still as they were sent."""

_RECORDS = msgspec.json.Decoder(list[Record])
_TEXTS = msgspec.json.Decoder(list[str | None])
_WHOLES = msgspec.json.Decoder(list[str | int | bool | None])
_TEXT = msgspec.json.Decoder(str)
_ABSENT = msgspec.Raw(b"null")


def decode_rows(rows: Sequence[msgspec.Raw], dataset: Dataset, *, marked: bool = False) -> RawTable:
    """A raw table from records as sent.

    Args:
        rows: the records.
        dataset: whose fields become columns.
        marked: whether there are marks in them, of what is no text.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: it is not JSON after all.
        OverCap: there is too much in it.
        NotData: a value is nested too deeply.
    """
    gathered = Gathering(dataset)
    for start in range(0, len(rows), SLAB_ROWS):
        records = _RECORDS.decode(b"[" + b",".join(rows[start : start + SLAB_ROWS]) + b"]")
        gathered.add(slab_table(records, dataset, marked=marked))
    return gathered.table()


def slab_table(records: list[Record], dataset: Dataset, *, marked: bool) -> RawTable:
    """As ``decode_rows``, of at least one and not many records."""
    with _TURN:
        if marked and any(MARK in name for record in records for name in record):
            records = [{shown(name)[0]: value for name, value in record.items()} for record in records]
        return _Slab(records, dataset, marked=marked).table()


class Gathering:
    """The tables of one answer, part by part. Bounds what they come to: a table has every name for every record."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._tables: list[RawTable] = []
        self._rows = 0
        self._names: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._tables)

    def add(self, table: RawTable) -> None:
        """Take the next table. Raises OverCap if it becomes too much."""
        self._tables.append(table)
        self._rows += table.rows
        self._names.update(table.extras)
        if self._rows > most_records(self._dataset):
            raise too_many("records")
        if len(self._names) > MOST_NAMES or len(self._names) * self._rows > MOST_CELLS:
            raise too_many("fields that are not known")
        if max(map(len, table.extras), default=0) > LONGEST_NAME:
            raise OverCap("the answer has a field whose name is too long")

    def table(self) -> RawTable:
        """All of them, in their order."""
        return joined(self._tables, self._dataset)


def joined(tables: Sequence[RawTable], dataset: Dataset) -> RawTable:
    """Tables as one, in their order."""
    if len(tables) == 1:
        return tables[0]
    if not tables:
        return nothing(dataset)
    columns = tuple(
        _joined_column([table.columns[number] for table in tables]) for number in range(len(dataset.fields))
    )
    names = dict.fromkeys(name for table in tables for name in table.extras)
    extras: Mapping[str, pa.StringArray] = {
        name: pa.concat_arrays([table.extras.get(name, absent(table.rows)) for table in tables]) for name in names
    }
    return RawTable(sum(table.rows for table in tables), columns, extras, frozenset().union(*(t.met for t in tables)))


class _Slab:
    """Some records, being taken apart."""

    def __init__(self, records: list[Record], dataset: Dataset, *, marked: bool) -> None:
        self._records = records
        self._marked = marked
        self._extras: dict[str, list[str | None]] = {}
        self._spellings: list[list[str]] = [[] for _ in dataset.fields]
        self._dataset = dataset
        position = dataset.places
        names, self._columns = _turned(records)
        if len(names) > MOST_NAMES + len(position):
            raise too_many("fields in a record")
        self._unknown = [name for name in names if name.lower() not in position]
        for name in names:
            if (number := position.get(name.lower())) is not None:
                self._spellings[number].append(name)

    def table(self) -> RawTable:
        columns = tuple(
            self._column(column, spellings)
            for column, spellings in zip(self._dataset.fields, self._spellings, strict=True)
        )
        for name in self._unknown:
            for row, value in enumerate(self._values(name)):
                if value is not _ABSENT:
                    self._put(row, name, self._piece(bytes(value)))
        extras = {name: pa.array(p, pa.string()) for name, p in self._extras.items()}
        return RawTable(len(self._records), columns, extras, frozenset(self._unknown))

    def _column(self, column: Column, spellings: list[str]) -> RawColumn:
        """One catalogue field. Where a record has it in several letter cases, the catalogue's own, else the first."""
        own, is_text = column.api_name, column.kind is Kind.TEXT
        if not spellings:
            return RawColumn(absent(len(self._records)), own)
        if len(spellings) == 1:
            return RawColumn(self._texts(self._values(spellings[0]), spellings[0], is_text=is_text), spellings[0])
        taken: list[msgspec.Raw] = []
        names: list[str] = []
        for row, record in enumerate(self._records):
            here = [name for name in record if name in spellings]
            name = own if own in here or not here else here[0]
            taken.append(record.get(name, _ABSENT))
            names.append(name)
            for other in here:
                if other != name:
                    self._put(row, other, self._piece(bytes(record[other])))
        sent_as = tuple(names)
        return RawColumn(self._texts(taken, sent_as, is_text=is_text), sent_as)

    def _values(self, name: str) -> Sequence[msgspec.Raw]:
        if name in self._columns:
            return self._columns[name]
        return [record.get(name, _ABSENT) for record in self._records]

    def _texts(self, values: Sequence[msgspec.Raw], sent_as: str | tuple[str, ...], *, is_text: bool) -> pa.StringArray:
        texts = _plain_texts(b"[" + b",".join(values) + b"]")
        if texts is None:
            texts = [self._text(row, bytes(value), sent_as) for row, value in enumerate(values)]
        if self._marked:
            for row, text in enumerate(texts):
                if text is not None and MARK in text:
                    plain, value = shown(text)
                    texts[row] = plain if value is None or is_text else None
                    if value is not None:
                        self._put(row, _name_at(sent_as, row), bytes_piece(value))
        return pa.array(texts, pa.string())

    def _text(self, row: int, value: bytes, sent_as: str | tuple[str, ...]) -> str | None:
        """A value as text, or None if it is null or nested; a nested one goes to the extras."""
        if value == b"null":
            return None
        if value[:1] == b'"':
            return _TEXT.decode(value)
        if value[:1] not in b"{[":
            return value.decode()
        self._put(row, _name_at(sent_as, row), self._piece(value))
        return None

    def _piece(self, value: bytes) -> str:
        """A value as the piece of JSON that ``_extra`` holds: numbers and booleans as strings, nested ones as sent."""
        if value == b"null":
            return "null"
        if value[:1] == b'"':
            text = _TEXT.decode(value)
            if not self._marked or MARK not in text:
                return as_json(text)
            plain, foul = shown(text)
            return as_json(plain) if foul is None else bytes_piece(foul)
        text = value.decode()
        if value[:1] not in b"{[":
            return as_json(text)
        check_nested(value)
        return shown_piece(text) if self._marked and MARK in text else text

    def _put(self, row: int, name: str, piece: str) -> None:
        if name not in self._extras:
            self._extras[name] = [None] * len(self._records)
        self._extras[name][row] = piece


def _turned(records: list[Record]) -> tuple[Collection[str], Mapping[str, Sequence[msgspec.Raw]]]:
    """The names of all fields in order of appearance; and, where all records have the same ones, their values."""
    names = list(records[0])
    if len(names) > 1 and set(map(len, records)) == {len(names)}:
        with suppress(KeyError):
            return names, dict(zip(names, zip(*map(itemgetter(*names), records), strict=True), strict=True))
    union: Record = {}
    for record in records:
        union.update(record)
    return union, {}


def _plain_texts(values: bytes) -> list[str | None] | None:
    """A list of values as texts; None if there is one that must be looked at as it was written."""
    try:
        return _TEXTS.decode(values)
    except msgspec.DecodeError:
        pass
    try:
        mixed = _WHOLES.decode(values)
    except msgspec.DecodeError:
        return None
    if 0 in mixed and any(value == 0 and value is not False for value in mixed):
        return None  # a -0 may have been written
    return [_whole_as_text(value) if isinstance(value, int) else value for value in mixed]


def _whole_as_text(value: int) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _name_at(sent_as: str | tuple[str, ...], row: int) -> str:
    return sent_as if isinstance(sent_as, str) else sent_as[row]


def _joined_column(parts: list[RawColumn]) -> RawColumn:
    values = pa.concat_arrays([part.values for part in parts])
    first = parts[0].sent_as
    if isinstance(first, str) and all(part.sent_as == first for part in parts):
        return RawColumn(values, first)
    return RawColumn(values, tuple(part.name_at(row) for part in parts for row in range(len(part.values))))


__all__ = ["SLAB_ROWS", "Gathering", "Record", "decode_rows", "joined", "slab_table"]
