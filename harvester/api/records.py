"""From raw text to typed records: a raw table in, a record batch in the dataset's schema out. No I/O.

Nouns: a *raw table* is what a codec makes of a body, every value as text; a *misfit* is a value that its typed column
can't hold.

Invariant: nothing is lost in typing. A value fits a typed column only if it prints back identically; else the column
is null and ``_extra`` holds the value as it was sent. Fields that the catalogue doesn't know are in ``_extra`` too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from harvester.datasets import EXTRA, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harvester.datasets import Dataset

ZERO_DATE = "0000-00-00 00:00:00"
"""How the API (a MySQL behind it) writes that there is no date; it is no date, so ``_extra`` keeps it."""

_BLANK = pa.scalar("")
_ZERO_DATE = pa.scalar(ZERO_DATE)
_NULL = pa.scalar(None, pa.string())
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_DATE_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}")
_INT64 = range(-(2**63), 2**63)
_FIRST_YEAR = pa.scalar(datetime(1, 1, 1), pa.timestamp("s"))  # noqa: DTZ001  the API's dates have no zone
_LAST_YEAR = pa.scalar(datetime(9999, 12, 31, 23, 59, 59), pa.timestamp("s"))  # noqa: DTZ001  likewise


@dataclass(frozen=True, slots=True)
class RawColumn:
    """One catalogue field as it was sent.

    Attributes:
        values: each record's value as text; null where it was null or missing.
        sent_as: the field's name as sent, or one name per record where the records don't agree.
    """

    values: pa.StringArray
    sent_as: str | tuple[str, ...]

    def name_at(self, row: int) -> str:
        """The field's name as the record ``row`` has it."""
        return self.sent_as if isinstance(self.sent_as, str) else self.sent_as[row]


@dataclass(frozen=True, slots=True)
class RawTable:
    """Records whose values are text.

    Attributes:
        rows: the number of records.
        columns: one per field of the dataset, in the catalogue's order.
        extras: what has no column: the field's name as sent → per record a piece of JSON, null where there is none.
        met: names, as sent, of fields that the catalogue doesn't know.
    """

    rows: int
    columns: tuple[RawColumn, ...]
    extras: Mapping[str, pa.StringArray]
    met: frozenset[str] = frozenset()


def nothing(dataset: Dataset) -> RawTable:
    """A raw table without rows."""
    return RawTable(0, tuple(RawColumn(absent(0), c.api_name) for c in dataset.fields), {})


def absent(rows: int) -> pa.StringArray:
    """``rows`` nulls."""
    return pa.nulls(rows, pa.string())


def to_batch(raw: RawTable, dataset: Dataset, *, id_send: int | None) -> pa.RecordBatch:
    """Type the records.

    Args:
        raw: the records, a column per field of ``dataset``.
        dataset: whose schema the batch gets.
        id_send: what the query knows and the answer doesn't; it fills the column that the dataset implies, if any.

    Returns:
        One batch with exactly ``dataset.schema``, in the order served.
    """
    arrays: dict[str, pa.Array[Any]] = {
        column.name: pa.repeat(pa.scalar(id_send, pa.int64()), raw.rows) for column in dataset.implied
    }
    extra = _Extra(raw)
    for column, sent in zip(dataset.fields, raw.columns, strict=True):
        if column.kind is Kind.TEXT:
            arrays[column.name] = sent.values
            continue
        typed, misfits = as_integers(sent.values) if column.kind is Kind.ID else as_dates(sent.values)
        arrays[column.name] = typed
        for row, text in misfits:
            extra.add(row, sent.name_at(row), text)
    arrays[EXTRA] = extra.column()
    return pa.RecordBatch.from_arrays([arrays[name] for name in dataset.schema.names], schema=dataset.schema)


Misfits = list[tuple[int, str]]
"""(row, value as sent), in order of rows."""


def as_integers(values: pa.StringArray) -> tuple[pa.Array[Any], Misfits]:
    """int64 from canonical decimals; an empty string is null. Any other value is a misfit and null."""
    values, blank = _without_blanks(values)
    if blank:
        return pa.nulls(len(values), pa.int64()), []
    try:
        typed = pc.cast(values, pa.int64())
        if pc.cast(typed, pa.string()).equals(values):
            return typed, []
    except pa.ArrowInvalid:
        pass
    return _one_by_one(values, pa.int64(), _integer)


def as_dates(values: pa.StringArray) -> tuple[pa.Array[Any], Misfits]:
    """``timestamp[us]`` from ``YYYY-MM-DD HH:MM:SS``, years 1 to 9999; an empty string is null.

    Any other value is a misfit and null.
    """
    values, blank = _without_blanks(values)
    if blank:
        return pa.nulls(len(values), pa.timestamp("us")), []
    dates, zeros = values, pc.equal(values, _ZERO_DATE)
    misfits: Misfits = []
    if pc.any(zeros).as_py():  # common enough not to be taken one by one
        dates = cast("pa.StringArray", pc.if_else(zeros, _NULL, values))
        misfits = [(row, ZERO_DATE) for row, zero in enumerate(zeros.to_pylist()) if zero]
    try:
        seconds = pc.cast(dates, pa.timestamp("s"))
        if pc.cast(seconds, pa.string()).equals(dates) and _within_years(seconds):
            return pc.cast(seconds, pa.timestamp("us")), misfits
    except pa.ArrowInvalid:
        pass
    return _one_by_one(values, pa.timestamp("us"), _date)


def _without_blanks(values: pa.StringArray) -> tuple[pa.StringArray, bool]:
    """The values with null for each empty string, and whether none but nulls are left."""
    if values.null_count == len(values):
        return values, True
    empty = pc.equal(values, _BLANK)
    if pc.all(empty).as_py():
        return values, True
    if pc.any(empty).as_py():
        values = cast("pa.StringArray", pc.if_else(empty, _NULL, values))
    return values, False


def _within_years(seconds: pa.Array[Any]) -> bool:
    if seconds.null_count == len(seconds):
        return True
    ends = pc.min_max(seconds)
    return bool(pc.greater_equal(ends["min"], _FIRST_YEAR).as_py() and pc.less_equal(ends["max"], _LAST_YEAR).as_py())


def _one_by_one(values: pa.StringArray, to: pa.DataType, parse: Any) -> tuple[pa.Array[Any], Misfits]:  # noqa: ANN401  two parsers with two results
    typed: list[Any] = []
    misfits: Misfits = []
    for row, text in enumerate(values.to_pylist()):
        value = None if text is None else parse(text)
        typed.append(value)
        if value is None and text is not None:
            misfits.append((row, text))
    return pa.array(typed, to), misfits


def _integer(text: str) -> int | None:
    if not _INTEGER.fullmatch(text):
        return None
    number = int(text)
    return number if number in _INT64 else None


def _date(text: str) -> datetime | None:
    if not _DATE_TIME.fullmatch(text):
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S") if text[17] < "6" else None  # noqa: DTZ007  no zone is sent
    except ValueError:
        return None


class _Extra:
    """Gathers what has no column, record by record."""

    def __init__(self, raw: RawTable) -> None:
        self._rows = raw.rows
        self._fields: dict[int, dict[str, str]] = {}
        for name, pieces in raw.extras.items():
            for row, piece in _present(pieces):
                self._fields.setdefault(row, {})[name] = piece

    def add(self, row: int, name: str, text: str) -> None:
        """Note a value that its column can't hold."""
        self._fields.setdefault(row, {})[name] = as_json(text)

    def column(self) -> pa.StringArray:
        """Per record a JSON object with its fields in sorted order; null where there is nothing extra."""
        if not self._fields:
            return absent(self._rows)
        quoted: dict[str, str] = {}
        objects: list[str | None] = [None] * self._rows
        for row, fields in self._fields.items():
            pairs = sorted(fields.items()) if len(fields) > 1 else fields.items()
            for name, _ in pairs:
                if name not in quoted:
                    quoted[name] = as_json(name)
            objects[row] = "{" + ",".join([f"{quoted[name]}:{piece}" for name, piece in pairs]) + "}"
        return pa.array(objects, pa.string())


def _present(pieces: pa.StringArray) -> Iterator[tuple[int, str]]:
    return ((row, piece) for row, piece in enumerate(pieces.to_pylist()) if piece is not None)


def as_json(text: str) -> str:
    """A text as a JSON string, in UTF-8 rather than ASCII escapes."""
    return msgspec.json.encode(text).decode()


__all__ = [
    "ZERO_DATE",
    "Misfits",
    "RawColumn",
    "RawTable",
    "absent",
    "as_dates",
    "as_integers",
    "as_json",
    "nothing",
    "to_batch",
]
