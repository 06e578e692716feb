"""Reads lists of sends: one id a line, or CSV with a header. A stream: no more than one line is held at a time.

A list is read through once before it is used, so that an error on its last line is known before the first query. What
is read is kept in an unnamed temporary file meanwhile: standard input and pipes can be read only once, and a file may
change under the reader.
"""

from __future__ import annotations

import csv
import re
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Self, TypeVar

from harvester.errors import UsageError
from harvester.model import Send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType

COLUMNS: Final = ("id_send", "id_message", "rows", "sent_at")
STANDARD_INPUT: Final = "-"
_LONGEST_LINE = 64 * 1024
_IN_MEMORY = 2**20
_LARGEST_ID = 2**63 - 2
_NUMBER = re.compile(r"[0-9]{1,19}")
_Value = TypeVar("_Value")


def parse_id(text: str) -> int:
    """An id from its decimal digits. Raises ValueError with a clause that names the text."""
    text = text.strip()
    number = int(text) if _NUMBER.fullmatch(text) else 0
    if not 0 < number <= _LARGEST_ID:
        raise ValueError(f"{text!r} is not an id; an id is a whole number such as 601181")
    return number


def _parse_rows(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is not a number of rows")
    return int(text)


def _parse_time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a date; write it like 2024-05-31 or 2024-05-31 08:00:00") from None
    if time.tzinfo is not None:
        raise ValueError(f"{text!r} names a zone; the API's dates have none")
    return time


@dataclass(frozen=True, slots=True)
class _Table:
    """The shape that a CSV's header tells: what separates the cells, and where each column is (None: not there)."""

    separator: str
    id_send: int
    id_message: int | None
    rows: int | None
    sent_at: int | None
    width: int


def _cells(line: str, separator: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator, strict=True))]
    except csv.Error as error:
        raise ValueError(f"this is not CSV: {error}") from None


def _header(line: str) -> _Table | None:
    """The table that a first line announces; None if it is no header."""
    separator = next((mark for mark in ",;\t" if mark in line), ",")
    names = [name.lower() for name in _cells(line, separator)] if "id_send" in line.lower() else []
    if "id_send" not in names:
        return None
    for name in names:
        if name not in COLUMNS:
            raise ValueError(f"there is no column {name!r}; there are {', '.join(COLUMNS)}")
        if names.count(name) > 1:
            raise ValueError(f"the column {name!r} is there twice")
    places = {name: names.index(name) if name in names else None for name in COLUMNS}
    return _Table(
        separator, names.index("id_send"), places["id_message"], places["rows"], places["sent_at"], len(names)
    )


def _optional(cells: list[str], place: int | None, parse: Callable[[str], _Value]) -> _Value | None:
    return None if place is None or not cells[place] else parse(cells[place])


def _from_row(table: _Table, line: str) -> Send:
    cells = _cells(line, table.separator)
    if len(cells) != table.width:
        raise ValueError(f"{len(cells)} cells where the header has {table.width}")

    return Send(
        id_send=parse_id(cells[table.id_send]),
        id_message=_optional(cells, table.id_message, parse_id),
        expected=_optional(cells, table.rows, _parse_rows),
        sent_at=_optional(cells, table.sent_at, _parse_time),
    )


def _parse(lines: Iterator[bytes], name: str) -> Iterator[Send]:
    table: _Table | None = None
    first = True
    for number, raw in enumerate(lines, start=1):
        try:
            if len(raw) > _LONGEST_LINE:
                raise ValueError("this line is too long for a list of sends")  # noqa: TRY301  one place adds the line
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            if not line or line.startswith("#"):
                continue
            if first:
                first = False
                table = _header(line)
                if table:
                    continue
            yield _from_row(table, line) if table else Send(parse_id(line.partition("#")[0]))
        except UnicodeDecodeError:
            raise UsageError(f"{name}, line {number}: this is not UTF-8 text") from None
        except ValueError as error:
            raise UsageError(f"{name}, line {number}: {error}") from None


def _lines(source: IO[bytes]) -> Iterator[bytes]:
    while line := source.readline(_LONGEST_LINE + 1):
        yield line


def _opened(path: str) -> AbstractContextManager[IO[bytes]]:
    if path != STANDARD_INPUT:
        return Path(path).expanduser().open("rb")
    if sys.stdin is None:  # a process may be started without one
        raise UsageError("--sends-file -: there is no standard input")
    return nullcontext(sys.stdin.buffer)  # not ours to close


class SendList:
    """A list of sends, proven readable: iterate over it, once at a time, for its sends. Close it at the end.

    Attributes:
        name: the file's name, for messages.
        total: how many sends it lists.
    """

    def __init__(self, path: str) -> None:
        """Read the list through. Raises UsageError that names file and line."""
        self.name = "standard input" if path == STANDARD_INPUT else path
        self._kept = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  closed by close()
        try:
            with _opened(path) as source:
                self.total = sum(1 for _ in _parse(self._keeping(source), self.name))
        except OSError as error:
            self.close()
            raise UsageError(f"--sends-file {path}: {error.strerror or error}") from None
        except UsageError:
            self.close()
            raise
        if not self.total:
            self.close()
            raise UsageError(f"{self.name} lists no sends")

    def _keeping(self, source: IO[bytes]) -> Iterator[bytes]:
        for line in _lines(source):
            self._kept.write(line)
            yield line

    def __iter__(self) -> Iterator[Send]:
        self._kept.seek(0)
        return _parse(_lines(self._kept), self.name)

    def close(self) -> None:
        """Give the temporary file back."""
        self._kept.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


__all__ = ["COLUMNS", "STANDARD_INPUT", "SendList", "parse_id"]
