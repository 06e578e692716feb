"""The JSON codec: the bytes of a body in, a raw table or the API's own words out. No I/O.

Two decoders yield the same thing. The fast one turns the list into lines and hands them to ``pyarrow.json``, which
works off the interpreter lock; the exact one (``exact``) is asked wherever the fast one can't tell.

Invariant: what the fast decoder accepts, the exact one accepts too, with the same result. An error's text never shows
a record.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from harvester.api.exact import Record, decode_rows
from harvester.api.lines import as_lines
from harvester.api.meaning import of_other_text
from harvester.api.records import RawColumn, RawTable, as_json, nothing
from harvester.api.surrogates import disarmed
from harvester.errors import Cut, NotData

if TYPE_CHECKING:
    from collections.abc import Callable

    from harvester.datasets import Dataset

Body = bytes | bytearray

NAMES_KEPT = 1000
"""How many names of fields that the catalogue doesn't know are remembered from page to page."""

BLOCK_BYTES = 2**20
"""How much ``pyarrow.json`` parses at a time; larger records go to the exact decoder."""

_LOOKED_AT = 4096
_BOM = b"\xef\xbb\xbf"
_WHITESPACE = b" \t\r\n"
_OPEN = ord("{")
_ZERO = pa.scalar(0, pa.int64())
_ROWS = msgspec.json.Decoder(list[msgspec.Raw])
_RECORD = msgspec.json.Decoder(Record)
_ANY = msgspec.json.Decoder()
_EDGES = frozenset(bytes([code]) for code in b'[]{}"')


@dataclass(frozen=True, slots=True)
class Words:
    """What the API says in place of records, such as ``Unauthorized``."""

    text: str


class JsonCodec:
    """Decodes the answers to one dataset's queries. Threads may share it.

    ``hide`` takes secrets out of what an error shows of an answer that holds no records.

    It remembers unknown names and the letter case of known ones, so that the next page takes the fast way.
    """

    def __init__(self, dataset: Dataset, hide: Callable[[str], str] = str) -> None:
        self.dataset = dataset
        self._hide = hide
        self._position = {name: number for number, column in enumerate(dataset.fields) for name in column.spellings}
        self._spelling = tuple(column.api_name for column in dataset.fields)
        self._met: tuple[str, ...] = ()
        self._lock = threading.Lock()

    @property
    def met(self) -> frozenset[str]:
        """Names met so far that the catalogue doesn't know, as sent; at most 1000."""
        return frozenset(self._met)

    def decode(self, body: Body) -> RawTable | Words:
        """Decode a body.

        Returns:
            The records, none for ``[]``, ``{}``, ``""``, ``null`` and an ``error_status`` of 0; or the API's words
            where it sent those.

        Raises:
            Cut: it begins like JSON and ends early.
            NotData: it is nothing that the API says.
        """
        text = _trimmed(body)
        if text[:1] == b"[":
            table = self.decode_fast(text)
            if table is not None:
                return table
        return self.decode_exact(text)

    def decode_fast(self, body: Body) -> RawTable | None:
        """The records, or None wherever this decoder can't tell; it raises nothing."""
        body = _trimmed(body)
        if body[:1] != b"[" or body[-1:] != b"]" or b"\0" in body:
            return None
        lines, separators, first_stop = as_lines(body)
        first = bytes(body[1:first_stop])
        schema = self._schema(first)
        if schema is None:
            return None
        # Blocks end between records where a record has a line of its own; they are small for the processor's cache.
        block_bytes = len(lines) + 1 if b"\n" in first.strip() else BLOCK_BYTES
        try:
            table = pj.read_json(
                cast("IO[bytes]", pa.BufferReader(pa.py_buffer(lines))),  # no copy
                read_options=pj.ReadOptions(use_threads=False, block_size=block_bytes),
                parse_options=pj.ParseOptions(
                    explicit_schema=schema, newlines_in_values=False, unexpected_field_behavior="error"
                ),
            )
            if table.num_rows != separators + 1:
                return None
            if not body.isascii():
                table.validate(full=True)  # pyarrow.json lets through what is not UTF-8
        except pa.ArrowInvalid:
            return None
        return self._taken(table, body)

    def decode_exact(self, body: Body) -> RawTable | Words:
        """As ``decode``, by the exact decoder alone."""
        body = _trimmed(body)
        try:
            try:
                return self._exact(body, halves=False)
            except msgspec.DecodeError:
                if (plain := disarmed(body)) is None:
                    raise
            return self._exact(plain, halves=True)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            ended = {b"[": b"]", b"{": b"}"}.get(bytes(body[:1]))
            if ended and (body[-1:] != ended or "truncated" in str(error)):
                raise Cut(f"the answer ends early, after {len(body)} bytes") from None
        raise NotData("the answer begins like JSON and is not")

    def _schema(self, first: bytes) -> pa.Schema | None:
        """The columns to expect: names and kinds of value as in the first record, then those met before."""
        try:
            record = _RECORD.decode(first)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        kinds = {name: _kind(bytes(value)) for name, value in record.items()}
        if None in kinds.values():
            return None
        spelling: dict[int, str] = {}
        for name in kinds:
            number = self._position.get(name.lower())
            if number is not None and spelling.setdefault(number, name) != name:
                return None  # one field in two letter cases
        if self._position[self.dataset.key] not in spelling:
            return None  # these may not be records at all
        known = [spelling.get(number, name) for number, name in enumerate(self._spelling)]
        self._spelling = tuple(known)
        unknown = [name for name in kinds if name.lower() not in self._position]
        names = dict.fromkeys([*known, *unknown, *self._met])
        return pa.schema([pa.field(name, kinds.get(name) or pa.string()) for name in names])

    def _taken(self, table: pa.Table, body: Body) -> RawTable | None:
        columns: list[RawColumn] = []
        extras: dict[str, pa.StringArray] = {}
        nulls = None
        for number, name in enumerate(table.schema.names):
            values = cast("Any", table.column(number).combine_chunks())
            if values.type == pa.int64():
                if pc.any(pc.equal(values, _ZERO)).as_py():
                    return None  # a -0 may have been written
                values = pc.cast(values, pa.string())
            elif values.type == pa.bool_():
                values = pc.cast(values, pa.string())
            if number < len(self._spelling):
                columns.append(RawColumn(values, name))
                continue
            if values.null_count:
                nulls = b"null" in body if nulls is None else nulls
                if nulls:
                    return None  # a field of this name may be there and be null, or may be missing
                if values.null_count == len(values):
                    continue
            pieces = [None if value is None else as_json(value) for value in values.to_pylist()]
            extras[name] = pa.array(pieces, pa.string())
        met = frozenset(extras)
        self._remember(met)
        return RawTable(table.num_rows, tuple(columns), extras, met)

    def _exact(self, body: Body, *, halves: bool) -> RawTable | Words:
        start = bytes(body[:1])
        if start == b"[":
            return self._list(_ROWS.decode(body), halves=halves)
        if start == b"{":
            return self._object(body, halves=halves)
        if not start:
            raise NotData("the answer's body is empty")
        if start == b'"' or body == b"null":
            said = _ANY.decode(body)
            return Words(said) if said else nothing(self.dataset)
        raise of_other_text(self._hide(bytes(body[:_LOOKED_AT]).decode(errors="replace")))

    def _list(self, rows: list[msgspec.Raw], *, halves: bool) -> RawTable | Words:
        if any(memoryview(row)[0] != _OPEN for row in rows):
            raise NotData("the answer is a list, and not of records")
        if len(rows) == 1:
            record = _RECORD.decode(rows[0])
            if words := self._words(record):
                return words
            if self._says_no_error(record):
                return nothing(self.dataset)
        return self._rows(rows, halves=halves)

    def _object(self, body: Body, *, halves: bool) -> RawTable | Words:
        record = _RECORD.decode(body)
        if not record:
            return nothing(self.dataset)
        if self._holds_key(record):
            return self._rows([msgspec.Raw(bytes(body))], halves=halves)
        if words := self._words(record):
            return words
        if self._says_no_error(record):
            return nothing(self.dataset)
        raise NotData("the answer is an object that is neither a record nor an error")

    def _rows(self, rows: list[msgspec.Raw], *, halves: bool) -> RawTable:
        table = decode_rows(rows, self.dataset, halves=halves)
        self._remember(table.met)
        return table

    def _holds_key(self, record: Record) -> bool:
        return any(name.lower() == self.dataset.key for name in record)

    def _words(self, record: Record) -> Words | None:
        """The API's words, if this is an error and not a record. A status of 0 is no error."""
        if self._holds_key(record):
            return None
        fields = {name.lower(): _ANY.decode(value) for name, value in record.items()}
        status, text = fields.get("error_status"), fields.get("error")
        if str(status) == "0" or (status is None and not text):
            return None
        return Words(text if text and isinstance(text, str) else f"error_status {status}")

    def _says_no_error(self, record: Record) -> bool:
        """Whether it says that nothing went wrong, and nothing else: then there are no records in it."""
        fields = {name.lower(): _ANY.decode(value) for name, value in record.items()}
        return (
            fields.keys() <= {"error_status", "error"}
            and str(fields.get("error_status")) == "0"
            and not fields.get("error")
        )

    def _remember(self, met: frozenset[str]) -> None:
        if met <= frozenset(self._met):
            return
        with self._lock:
            self._met = tuple(dict.fromkeys([*self._met, *sorted(met)]))[:NAMES_KEPT]


def _trimmed(body: Body) -> Body:
    """The body without a byte order mark and whitespace around it; a copy only where there was some."""
    if body[:3] == _BOM:
        body = body[3:]
    if bytes(body[:1]) in _EDGES and bytes(body[-1:]) in _EDGES:
        return body
    return body.strip(_WHITESPACE)


def _kind(value: bytes) -> pa.DataType | None:
    """What ``pyarrow.json`` can read such values as, without loss; None if it can't."""
    if value[:1] in (b'"', b"n"):
        return pa.string()
    if value[:1] in (b"t", b"f"):
        return pa.bool_()
    return pa.int64() if value.lstrip(b"-").isdigit() else None


__all__ = ["NAMES_KEPT", "Body", "JsonCodec", "Words"]
