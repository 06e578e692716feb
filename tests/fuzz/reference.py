"""The rule of typing once more, for what the two reference readers make of a body: plain Python, values as bytes.

Shares nothing with the harvester but the catalogue of datasets. What a body means on its wire is said in
``reference_json`` and ``reference_xml``.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, TypeAlias

from harvester.datasets import Column, Dataset, Kind


class Refused(Exception):
    """The body is no answer of the API.

    Attributes:
        unusual: the harvester may read it all the same.
    """

    def __init__(self, *, unusual: bool = False) -> None:
        super().__init__()
        self.unusual = unusual


class Unjudged(Exception):
    """The reference can't tell: a limit decides that each reader has of its own."""


class Number(str):
    """A number, as it was written."""

    __slots__ = ()


Value: TypeAlias = "bytes | Number | bool | list[Value] | dict[bytes, Value] | None"
"""A value; a text is its bytes, the wire's escapes undone, half a surrogate pair as three bytes."""

Record = dict[str, Value]


@dataclass(frozen=True)
class Rows:
    """An answer that holds records, or none.

    Attributes:
        records: in the order sent.
        unusual: the harvester may refuse it all the same.
    """

    records: Sequence[Record]
    unusual: bool = False


@dataclass(frozen=True)
class Said:
    """An answer that is words; ``text`` is None where it doesn't matter which."""

    text: str | None
    unusual: bool = False


Answer = Rows | Said

_INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_DATE = re.compile(rb"(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)")
NOTHING = Rows(())


def shown(text: bytes) -> str:
    """A text as a person sees it."""
    return text.decode("utf-8", "replace").replace("\0", "\ufffd")


def is_text(value: bytes) -> bool:
    return shown(value).encode() == value and b"\0" not in value


def is_clean(value: Value) -> bool:
    """Whether all texts in a nested value are texts."""
    if isinstance(value, dict):
        return all(is_clean(name) and is_clean(inner) for name, inner in value.items())
    if isinstance(value, list):
        return all(map(is_clean, value))
    return not isinstance(value, bytes) or is_text(value)


def has_key(record: Iterable[str], dataset: Dataset) -> bool:
    return any(name.lower() == dataset.key for name in record)


def words_of(record: Record) -> Answer | None:
    """What an object without the dataset's key says; None where it is nothing that is known."""
    fields = {name.lower(): value for name, value in record.items()}
    status, text = fields.get("error_status"), fields.get("error")
    if isinstance(text, bytes) and text and _plain(status) != "0":
        return Said(shown(text))
    if text is None or text in (b"", False) or (isinstance(text, (list, dict)) and not text) or _is_zero(text):
        if status is None:
            return None
        if _plain(status) != "0":
            return Said(None)
        return NOTHING if set(fields) <= {"error_status", "error"} else None
    return Said(None) if _plain(status) != "0" else None


def _plain(value: Value) -> str:
    return shown(value) if isinstance(value, bytes) else str(value)


def _is_zero(value: Value) -> bool:
    return isinstance(value, Number) and float(value) == 0


def expected(records: Sequence[Record], dataset: Dataset, id_send: int | None) -> dict[str, list[Any]]:
    """The columns that the harvester should make of records: by name, and ``_extra`` as field → value."""
    columns: dict[str, list[Any]] = {column.name: [] for column in dataset.columns}
    columns["_extra"] = []
    for record in records:
        row, extra = _typed(record, dataset)
        row |= {column.name: id_send for column in dataset.implied}
        row["_extra"] = extra or None
        for name, values in columns.items():
            values.append(row.get(name))
    return columns


def _typed(record: Record, dataset: Dataset) -> tuple[dict[str, Any], dict[bytes, Value]]:
    row: dict[str, Any] = {}
    extra: dict[bytes, Value] = {}
    chosen = _chosen(record, dataset)
    for name, sent in record.items():
        value: Value = _as_text(sent)
        column = chosen.get(name)
        if column is None:
            extra[name.encode()] = _kept(value)
        elif isinstance(value, bytes):
            row[column.name], fits = _fitted(value, column)
            if not fits:
                extra[name.encode()] = _kept(value)
        elif value is not None:
            extra[name.encode()] = value
    return row, extra


def _chosen(record: Record, dataset: Dataset) -> Mapping[str, Column]:
    """Which field goes to which column: the one that is spelled as in the catalogue, else the first."""
    known = _spelled(dataset)
    found: dict[str, str] = {}
    for name in record:
        column = known.get(name.lower())
        if column is not None and (column.name not in found or name == column.api_name):
            found[column.name] = name
    return {name: known[name.lower()] for name in found.values()}


@cache
def _spelled(dataset: Dataset) -> Mapping[str, Column]:
    return {spelling: column for column in dataset.fields for spelling in column.spellings}


def _as_text(value: Value) -> Value:
    if isinstance(value, bool):
        return b"true" if value else b"false"
    return value.encode() if isinstance(value, Number) else value


def _fitted(text: bytes, column: Column) -> tuple[Any, bool]:
    """A text as its column holds it, and whether that is all of it."""
    if column.kind is Kind.TEXT:
        return shown(text), is_text(text)
    if not text:
        return None, True
    if column.kind is Kind.DATE:
        parts = _DATE.fullmatch(text)
        try:
            return (datetime(*(int(part) for part in parts.groups())), True) if parts else (None, False)  # type: ignore[arg-type]  # noqa: DTZ001
        except ValueError:
            return None, False
    number = int(text) if _INTEGER.fullmatch(text) else 2**64
    return (number, True) if -(2**63) <= number < 2**63 else (None, False)


def _kept(value: Value) -> Value:
    if isinstance(value, bytes) and not is_text(value):
        return {b"$base64": base64.b64encode(value)}
    return value


__all__ = [
    "NOTHING",
    "Answer",
    "Number",
    "Record",
    "Refused",
    "Rows",
    "Said",
    "Unjudged",
    "Value",
    "expected",
    "has_key",
    "is_clean",
    "shown",
    "words_of",
]
