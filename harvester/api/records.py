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
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from harvester.datasets import EXTRA, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from harvester.datasets import Dataset

_NUL = re.compile(b"\0")
_BLANK = pa.scalar("")
_NULL = pa.scalar(None, pa.string())
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_NO_DATE = pa.scalar(None, pa.timestamp("s"))
_SURE_INTEGER = "^(?:0|-?[1-9][0-9]{0,17})$"  # whatever matches is an int64
_FORMAT = "%Y-%m-%d %H:%M:%S"
_DATE_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}")
_INT64 = range(-(2**63), 2**63)
_FIRST_YEAR = pa.scalar(datetime(1, 1, 1), pa.timestamp("s"))  # noqa: DTZ001  the API's dates have no zone
_LAST_YEAR = pa.scalar(datetime(9999, 12, 31, 23, 59, 59), pa.timestamp("s"))  # noqa: DTZ001  likewise

_SOME_ROWS = 1024
_FEW_ROWS = 256
"""Columns of so few rows are typed together: each call of Arrow's takes longer than their rows do."""


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


@dataclass(frozen=True, slots=True)
class Words:
    """What the API says in place of records, such as ``Unauthorized``."""

    text: str


@dataclass(frozen=True, slots=True)
class Fault(Words):
    """An XML-RPC ``<fault>``: what went wrong on the way, not something that this API says.

    Attributes:
        code: its ``faultCode``; None where it has none that is a number.
    """

    code: int | None = None


class Codec(Protocol):
    """Makes a raw table of the answers to one dataset's queries. Threads may share it."""

    def decode_pieces(self, pieces: Iterable[bytes | bytearray]) -> RawTable | Words:
        """Decode a body that comes in pieces, split anywhere.

        Raises:
            Cut: it ends early.
            NotData: it is nothing that the API says.
            HarvesterError: whatever the pieces themselves raise.
        """
        ...


def nothing(dataset: Dataset) -> RawTable:
    """A raw table without rows."""
    return RawTable(0, tuple(RawColumn(absent(0), c.api_name) for c in dataset.fields), {})


def is_text(values: pa.StringArray, *, ascii_only: bool) -> bool:
    """Whether all values are UTF-8 without a NUL; ``ascii_only`` if what they were made of is ASCII."""
    data = values.buffers()[2]
    if data is not None and _NUL.search(memoryview(data)):
        return False
    if not ascii_only:
        try:
            values.validate(full=True)
        except pa.ArrowInvalid:
            return False
    return True


def absent(rows: int) -> pa.StringArray:
    """``rows`` nulls."""
    return pa.nulls(rows, pa.string())


def to_batch(
    raw: RawTable, dataset: Dataset, *, id_send: int | None, keeps: Callable[[str], bool] | None = None
) -> pa.RecordBatch:
    """Type the records.

    Args:
        raw: the records, a column per field of ``dataset``.
        dataset: whose schema the batch gets.
        id_send: what the query knows and the answer doesn't; it fills the column that the dataset implies, if any.
        keeps: says of a field, by its name, whether ``_extra`` may hold values of its own; all, if not given.

    Returns:
        One batch with exactly ``dataset.schema``, in the order served.
    """
    arrays: dict[str, pa.Array[Any]] = {
        column.name: pa.repeat(pa.scalar(id_send, pa.int64()), raw.rows) for column in dataset.implied
    }
    extra = _Extra(raw)
    numbers: list[tuple[str, RawColumn]] = []
    dates: list[tuple[str, RawColumn]] = []
    for column, sent in zip(dataset.fields, raw.columns, strict=True):
        if column.kind is Kind.TEXT:
            arrays[column.name] = sent.values
        else:
            (dates if column.kind is Kind.DATE else numbers).append((column.name, sent))
    for as_typed, columns in ((as_integers, numbers), (as_dates, dates)):
        values = [sent.values for _, sent in columns]
        for (name, sent), (typed, misfits) in zip(columns, _each(as_typed, values, raw.rows), strict=True):
            arrays[name] = typed
            for row, text in misfits:
                if keeps is None or keeps(sent.name_at(row)):
                    extra.add(row, sent.name_at(row), text)
    arrays[EXTRA] = extra.column()
    return pa.RecordBatch.from_arrays([arrays[name] for name in dataset.schema.names], schema=dataset.schema)


Misfits = list[tuple[int, str]]
"""(row, value as sent), in order of rows."""


def _each(
    as_typed: Callable[[pa.StringArray], tuple[pa.Array[Any], Misfits]], columns: Sequence[pa.StringArray], rows: int
) -> Iterable[tuple[pa.Array[Any], Misfits]]:
    """What ``as_typed`` makes of each column; so many rows are in each."""
    if rows > _FEW_ROWS or len(columns) <= 1:
        return map(as_typed, columns)
    together, misfits = as_typed(pa.concat_arrays(columns))
    of_column: list[Misfits] = [[] for _ in columns]
    for place, text in misfits:
        of_column[place // rows].append((place % rows, text))
    return [(together.slice(place * rows, rows), found) for place, found in enumerate(of_column)]


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
    fits = pc.match_substring_regex(values, _SURE_INTEGER)
    sure = without(values, pc.invert(fits))
    return _sorted_out(values, fits, pc.cast(sure, pa.int64()), _integer)


def as_dates(values: pa.StringArray) -> tuple[pa.Array[Any], Misfits]:
    """``timestamp[us]`` from ``YYYY-MM-DD HH:MM:SS``, years 1 to 9999; an empty string is null.

    Any other value is a misfit and null.
    """
    values, blank = _without_blanks(values)
    if blank:
        return pa.nulls(len(values), pa.timestamp("us")), []
    try:
        seconds = pc.cast(values, pa.timestamp("s"))
        if pc.cast(seconds, pa.string()).equals(values) and _within_years(seconds):
            return pc.cast(seconds, pa.timestamp("us")), []
    except pa.ArrowInvalid:
        pass
    parsed = pc.strptime(values, format=_FORMAT, unit="s", error_is_null=True)
    fits = pc.and_(pc.equal(pc.cast(parsed, pa.string()), values), pc.greater_equal(parsed, _FIRST_YEAR))
    sure = cast("pa.TimestampArray[Any, Any]", pc.if_else(fits, parsed, _NO_DATE))
    return _sorted_out(values, fits, pc.cast(sure, pa.timestamp("us")), _date)


def without(values: pa.StringArray, unwanted: pa.BooleanArray) -> pa.StringArray:
    """The values with null for those that are unwanted.

    Up to pyarrow 23, ``if_else`` makes other bytes of texts that are a slice of others; columns of an answer are.
    """
    return cast("pa.StringArray", pc.replace_with_mask(values, cast("Any", unwanted), cast("Any", _NULL)))


def _without_blanks(values: pa.StringArray) -> tuple[pa.StringArray, bool]:
    """The values with null for each empty string, and whether none but nulls are left."""
    if values.null_count == len(values):
        return values, True
    empty = pc.equal(values, _BLANK)
    if pc.all(empty).as_py():
        return values, True
    if pc.any(empty).as_py():
        values = without(values, empty)
    return values, False


def _within_years(seconds: pa.Array[Any]) -> bool:
    if seconds.null_count == len(seconds):
        return True
    ends: Any = pc.min_max(seconds)
    return bool(_FIRST_YEAR.value <= ends["min"].value and ends["max"].value <= _LAST_YEAR.value)


def _sorted_out(
    values: pa.StringArray, fits: pa.BooleanArray, typed: pa.Array[Any], parse: Callable[[str], object]
) -> tuple[pa.Array[Any], Misfits]:
    """The typed column and the rest, which are misfits, unless ``parse`` can type one of them after all."""
    misfits = [
        (row, text)
        for row, (text, fit) in enumerate(zip(some_at_a_time(values), some_at_a_time(fits), strict=True))
        if text is not None and not fit
    ]
    late = {text: value for text in {text for _, text in misfits} if (value := parse(text)) is not None}
    if not late:
        return typed, misfits
    column = list(some_at_a_time(typed))
    for row, text in misfits:
        if text in late:
            column[row] = late[text]
    return pa.array(column, typed.type), [(row, text) for row, text in misfits if text not in late]


def _integer(text: str) -> int | None:
    if not _INTEGER.fullmatch(text):
        return None
    number = int(text)
    return number if number in _INT64 else None


def _date(text: str) -> datetime | None:
    if not _DATE_TIME.fullmatch(text):
        return None
    try:
        return datetime.strptime(text, _FORMAT) if text[17] < "6" else None  # noqa: DTZ007  no zone is sent
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
    return ((row, piece) for row, piece in enumerate(some_at_a_time(pieces)) if piece is not None)


def some_at_a_time(values: pa.Array[Any]) -> Iterator[Any]:
    """The values as objects, some at a time: making them holds the interpreter, and other threads wait for it."""
    for start in range(0, len(values), _SOME_ROWS):
        yield from values.slice(start, _SOME_ROWS).to_pylist()


def as_json(text: str) -> str:
    """A text as a JSON string, in UTF-8 rather than ASCII escapes."""
    return msgspec.json.encode(text).decode()


__all__ = [
    "Codec",
    "Fault",
    "Misfits",
    "RawColumn",
    "RawTable",
    "Words",
    "absent",
    "as_dates",
    "as_integers",
    "as_json",
    "is_text",
    "nothing",
    "some_at_a_time",
    "to_batch",
    "without",
]
