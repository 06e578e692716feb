"""The exact JSON decoder: slower than the fast one, right for every body that is JSON. Bytes in, raw table out.

It takes values of any kind (a number is kept as it was written), records whose fields differ or come in several letter
cases, and text that no column can hold. Records are worked off in slabs, so that memory stays small beside the body.
"""

from __future__ import annotations

from contextlib import suppress
from operator import itemgetter
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from harvester.api.records import RawColumn, RawTable, absent, as_json, nothing
from harvester.api.surrogates import MARK, rearmed, rearmed_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harvester.datasets import Dataset

SLAB_ROWS = 256
"""How many records are taken apart at a time: few enough for the processor's cache."""

Record = dict[str, msgspec.Raw]
"""A record whose values are still as they were sent."""

_RECORDS = msgspec.json.Decoder(list[Record])
_TEXTS = msgspec.json.Decoder(list[str | None])
_WHOLES = msgspec.json.Decoder(list[str | int | bool | None])
_TEXT = msgspec.json.Decoder(str)
_ABSENT = msgspec.Raw(b"null")


def decode_rows(rows: Sequence[msgspec.Raw], dataset: Dataset, *, halves: bool = False) -> RawTable:
    """A raw table from records as sent.

    Args:
        rows: the records.
        dataset: whose fields become columns.
        halves: whether the body held halves of surrogate pairs, by now disarmed.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: it is not JSON after all.
    """
    slabs = [
        _Slab(_RECORDS.decode(b"[" + b",".join(rows[start : start + SLAB_ROWS]) + b"]"), dataset, halves=halves).table()
        for start in range(0, len(rows), SLAB_ROWS)
    ]
    return slabs[0] if len(slabs) == 1 else _joined(slabs, dataset)


class _Slab:
    """Some records, being taken apart."""

    def __init__(self, records: list[Record], dataset: Dataset, *, halves: bool) -> None:
        self._records = records
        self._halves = halves
        self._extras: dict[str, list[str | None]] = {}
        self._spellings: list[list[str]] = [[] for _ in dataset.fields]
        self._dataset = dataset
        position = {name: number for number, column in enumerate(dataset.fields) for name in column.spellings}
        names, self._columns = _turned(records)
        self._unknown = [name for name in names if name.lower() not in position]
        for name in names:
            if (number := position.get(name.lower())) is not None:
                self._spellings[number].append(name)

    def table(self) -> RawTable:
        columns = tuple(
            self._column(column.api_name, spellings)
            for column, spellings in zip(self._dataset.fields, self._spellings, strict=True)
        )
        for name in self._unknown:
            for row, value in enumerate(self._values(name)):
                if value is not _ABSENT:
                    self._put(row, name, _piece(bytes(value)))
        extras = {name: pa.array(p, pa.string()) for name, p in self._extras.items()}
        return RawTable(len(self._records), columns, extras, frozenset(self._unknown))

    def _column(self, own: str, spellings: list[str]) -> RawColumn:
        """One catalogue field. Where a record has it in several letter cases, the catalogue's own, else the first."""
        if not spellings:
            return RawColumn(absent(len(self._records)), own)
        if len(spellings) == 1:
            return RawColumn(self._texts(self._values(spellings[0]), spellings[0]), spellings[0])
        taken: list[msgspec.Raw] = []
        names: list[str] = []
        for row, record in enumerate(self._records):
            here = [name for name in record if name in spellings]
            name = own if own in here or not here else here[0]
            taken.append(record.get(name, _ABSENT))
            names.append(name)
            for other in here:
                if other != name:
                    self._put(row, other, _piece(bytes(record[other])))
        sent_as = tuple(names)
        return RawColumn(self._texts(taken, sent_as), sent_as)

    def _values(self, name: str) -> Sequence[msgspec.Raw]:
        if name in self._columns:
            return self._columns[name]
        return [record.get(name, _ABSENT) for record in self._records]

    def _texts(self, values: Sequence[msgspec.Raw], sent_as: str | tuple[str, ...]) -> pa.StringArray:
        texts = _plain_texts(b"[" + b",".join(values) + b"]")
        if texts is None:
            texts = [self._text(row, bytes(value), sent_as) for row, value in enumerate(values)]
        if self._halves:
            for row, text in enumerate(texts):
                if text is not None and MARK in text:
                    texts[row] = None
                    self._put(row, _name_at(sent_as, row), as_json(rearmed(text)))
        return pa.array(texts, pa.string())

    def _text(self, row: int, value: bytes, sent_as: str | tuple[str, ...]) -> str | None:
        """A value as text, or None if it is null or nested; a nested one goes to the extras."""
        if value == b"null":
            return None
        if value[:1] == b'"':
            return _TEXT.decode(value)
        if value[:1] not in b"{[":
            return value.decode()
        self._put(row, _name_at(sent_as, row), _piece(value))
        return None

    def _put(self, row: int, name: str, piece: str) -> None:
        if name not in self._extras:
            self._extras[name] = [None] * len(self._records)
        self._extras[name][row] = piece


def _turned(records: list[Record]) -> tuple[Iterable[str], Mapping[str, Sequence[msgspec.Raw]]]:
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


def _piece(value: bytes) -> str:
    """A value as the piece of JSON that ``_extra`` holds: numbers and booleans as strings, nested values as sent."""
    if value == b"null":
        return "null"
    if value[:1] == b'"':
        return as_json(rearmed(_TEXT.decode(value)))
    text = value.decode()
    if value[:1] not in b"{[":
        return as_json(text)
    sent = rearmed_json(text)
    return text if sent == text else as_json(sent)


def _name_at(sent_as: str | tuple[str, ...], row: int) -> str:
    return sent_as if isinstance(sent_as, str) else sent_as[row]


def _joined(slabs: list[RawTable], dataset: Dataset) -> RawTable:
    if not slabs:
        return nothing(dataset)
    columns = tuple(_joined_column([slab.columns[number] for slab in slabs]) for number in range(len(dataset.fields)))
    names = dict.fromkeys(name for slab in slabs for name in slab.extras)
    extras: Mapping[str, pa.StringArray] = {
        name: pa.concat_arrays([slab.extras.get(name, absent(slab.rows)) for slab in slabs]) for name in names
    }
    return RawTable(sum(slab.rows for slab in slabs), columns, extras, frozenset().union(*(s.met for s in slabs)))


def _joined_column(parts: list[RawColumn]) -> RawColumn:
    values = pa.concat_arrays([part.values for part in parts])
    first = parts[0].sent_as
    if isinstance(first, str) and all(part.sent_as == first for part in parts):
        return RawColumn(values, first)
    return RawColumn(values, tuple(part.name_at(row) for part in parts for row in range(len(part.values))))


__all__ = ["SLAB_ROWS", "Record", "decode_rows"]
