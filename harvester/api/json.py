"""The JSON codec: the bytes of a body in, a raw table or the API's own words out. No I/O.

Two decoders yield the same thing. The fast one turns the list into lines and hands them, a slab at a time, to
``pyarrow.json``, which works off the interpreter lock; the exact one (``exact``) is asked wherever the fast one can't
tell: for a slab, so that one odd record costs little, or for the whole body.

Invariant: what the fast decoder accepts, the exact one accepts too, with the same result. An error's text never shows
a record.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeVar, cast

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from harvester.api.bounds import MOST_NAMES, check_json, json_marks, most_records
from harvester.api.exact import Gathering, Record, decode_rows
from harvester.api.lines import as_lines
from harvester.api.marks import marked_json
from harvester.api.meaning import of_other_text
from harvester.api.records import RawColumn, RawTable, Words, as_json, is_text, nothing
from harvester.api.saying import holds_key, plain, said
from harvester.errors import Cut, NotData

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from harvester.api.bounds import Marks
    from harvester.datasets import Dataset

Body = bytes | bytearray

NAMES_KEPT = 1000
"""How many names of fields that the catalogue doesn't know are remembered from page to page."""

SLAB_BYTES = 2**20
"""How much is decoded at a time: little enough for the processor's cache."""

_MOST_BRACES = 2**21
"""With more of them, looking for where records end takes too long and too much."""

_FIRST_ROWS = 8
"""How many records are looked at for one whose fields can be had as columns."""

_T_co = TypeVar("_T_co", covariant=True)
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_LOOKED_AT = 4096
_BOM = b"\xef\xbb\xbf"
_WHITESPACE = b" \t\r\n"
_OPEN = ord("{")
_LIST_OF_OBJECTS = re.compile(rb"\[[ \t\r\n]*\{")
"""How a list begins that ``pyarrow.json`` may see: a ``null`` in front ends the process (apache/arrow issue 47409)."""
_ZERO = pa.scalar(0, pa.int64())
_ROWS = msgspec.json.Decoder(list[msgspec.Raw])
_RECORD = msgspec.json.Decoder(Record)
_ANY = msgspec.json.Decoder()
_EDGES = frozenset(bytes([code]) for code in b'[]{}"')


class _Decode(Protocol[_T_co]):
    def __call__(self, body: Body, *, marked: bool) -> _T_co: ...


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
        self._most = most_records(dataset)
        self._lock = threading.Lock()

    @property
    def met(self) -> frozenset[str]:
        """Names met so far that the catalogue doesn't know, as sent; at most 1000."""
        return frozenset(self._met)

    def decode_pieces(self, pieces: Iterable[Body]) -> RawTable | Words:
        """As ``decode``, of a body in pieces. They are put together first: a list of records is needed whole."""
        whole = bytearray()
        for piece in pieces:
            whole += piece
        return self.decode(whole)

    def decode(self, body: Body) -> RawTable | Words:
        """Decode a body.

        Returns:
            The records, none for ``[]``, ``{}``, ``""``, ``null`` and an ``error_status`` of 0; or the API's words
            where it sent those.

        Raises:
            Cut: it begins like JSON and ends early.
            NotData: it is nothing that the API says.
            OverCap: it holds more than any answer of the API can.
        """
        text = _trimmed(body)
        marks = json_marks()
        table = self._in_slabs(text, lambda slab: self._exact_slab(slab, marks))
        return self.decode_exact(text) if table is None else table

    def decode_fast(self, body: Body) -> RawTable | None:
        """The records, or None wherever this decoder can't tell. Raises OverCap, as ``decode``."""
        return self._in_slabs(_trimmed(body), _none)

    def decode_exact(self, body: Body) -> RawTable | Words:
        """As ``decode``, by the exact decoder alone."""
        body = _trimmed(body)
        check_json(body, self._most)
        try:
            return _perhaps_marked(body, self._exact, json_marks())
        except _NOT_JSON as error:
            ended = {b"[": b"]", b"{": b"}"}.get(bytes(body[:1]))
            if ended and (body[-1:] != ended or "truncated" in str(error)):
                raise Cut(f"the answer ends early, after {len(body)} bytes") from None
        raise NotData("the answer begins like JSON and is not")

    def _in_slabs(self, body: Body, otherwise: Callable[[Body], RawTable | None]) -> RawTable | None:
        """A list's records, some of them at a time; None where neither the fast way nor ``otherwise`` can tell.

        Where slabs end is guesswork. It is right if each slab by itself is a list's inside, since JSON is read from
        its start: what is whole up to there would be read likewise if the rest were there.
        """
        if not _LIST_OF_OBJECTS.match(body) or body[-1:] != b"]":
            return None
        if body.count(b"{") > _MOST_BRACES:
            return None
        lines, separators = as_lines(body)
        if len(separators) >= self._most:
            return None
        stops = [*separators, len(body) - 1]
        schema = self._schema(body, stops[:_FIRST_ROWS])
        if schema is None:
            return None
        gathered = Gathering(self.dataset)
        start, row = 1, 0
        while row < len(stops):
            last = max(row, bisect(stops, start + SLAB_BYTES) - 1)
            stop = stops[last]
            table = self._fast_slab(lines, start, stop, last + 1 - row, schema)
            if table is None:
                table = otherwise(body[start:stop])
            if table is None:
                return None
            gathered.add(table)
            start, row = stop + 1, last + 1
        whole = gathered.table()
        self._remember(whole.met)
        return whole

    def _fast_slab(self, lines: bytearray, start: int, stop: int, rows: int, schema: pa.Schema) -> RawTable | None:
        if lines.find(b"\0", start, stop) >= 0:
            return None
        slab = memoryview(lines)[start:stop]
        try:
            table = pj.read_json(
                cast("IO[bytes]", pa.BufferReader(pa.py_buffer(slab))),  # no copy
                read_options=pj.ReadOptions(use_threads=False, block_size=len(slab) + 1),
                parse_options=pj.ParseOptions(
                    explicit_schema=schema, newlines_in_values=False, unexpected_field_behavior="error"
                ),
            )
        except pa.ArrowInvalid:
            return None
        return self._taken(table, slab) if table.num_rows == rows else None

    def _exact_slab(self, slab: Body, marks: Marks) -> RawTable | None:
        if len(slab) > 2 * SLAB_BYTES:
            return None  # one record, or none at all: what it holds has to be bounded first, as a whole
        try:
            return _perhaps_marked(b"[" + slab + b"]", self._exact_rows, marks)
        except _NOT_JSON:
            return None

    def _schema(self, body: Body, stops: Sequence[int]) -> pa.Schema | None:
        """The columns to expect: as in the first record that can be had as columns, then those met before."""
        start = 1
        for stop in stops:
            if stop - start > SLAB_BYTES:
                return None
            record = _record(bytes(body[start:stop]))
            start = stop + 1
            if record is not None and (schema := self._schema_of(record)) is not None:
                return schema
        return None

    def _schema_of(self, record: Record) -> pa.Schema | None:
        """Names and kinds of value as in this record, then names met before."""
        kinds = {name: _kind(bytes(value)) for name, value in record.items()}
        if None in kinds.values() or any("\0" in name for name in kinds):
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
        if len(unknown) > MOST_NAMES:
            return None
        names = dict.fromkeys([*known, *unknown, *self._met])
        return pa.schema([pa.field(name, kinds.get(name) or pa.string()) for name in names])

    def _taken(self, table: pa.Table, slab: memoryview) -> RawTable | None:
        columns: list[RawColumn] = []
        extras: dict[str, pa.StringArray] = {}
        nulls = None
        ascii_only = bytes(slab).isascii()
        for number, name in enumerate(table.schema.names):
            values = cast("Any", table.column(number).combine_chunks())
            if values.type == pa.int64():
                if pc.any(pc.equal(values, _ZERO)).as_py():
                    return None  # a -0 may have been written
                values = pc.cast(values, pa.string())
            elif values.type == pa.bool_():
                values = pc.cast(values, pa.string())
            elif not is_text(values, ascii_only=ascii_only):
                return None  # pyarrow.json lets it through
            if number < len(self._spelling):
                columns.append(RawColumn(values, name))
                continue
            if values.null_count:
                nulls = bytes(slab).find(b"null") >= 0 if nulls is None else nulls
                if nulls:
                    return None  # a field of this name may be there and be null, or may be missing
                if values.null_count == len(values):
                    continue
            pieces = [None if value is None else as_json(value) for value in values.to_pylist()]
            extras[name] = pa.array(pieces, pa.string())
        return RawTable(table.num_rows, tuple(columns), extras, frozenset(extras))

    def _exact(self, body: Body, *, marked: bool) -> RawTable | Words:
        start = bytes(body[:1])
        if start == b"[":
            table = self._exact_list(body, marked=marked)
            if isinstance(table, RawTable):
                self._remember(table.met)
            return table
        if start == b"{":
            return self._exact_object(body, marked=marked)
        if not start:
            raise NotData("the answer's body is empty")
        if start == b'"' or body == b"null":
            words = _ANY.decode(body)
            return Words(plain(words) if marked else words) if words else nothing(self.dataset)
        raise of_other_text(self._hide(bytes(body[:_LOOKED_AT]).decode(errors="replace")))

    def _exact_list(self, body: Body, *, marked: bool) -> RawTable | Words:
        rows = _rows(body)
        if rows is None:
            raise NotData("the answer is a list, and not of records")
        if len(rows) == 1 and (words := said(_RECORD.decode(rows[0]), self.dataset, marked=marked)) is not None:
            return words
        return decode_rows(rows, self.dataset, marked=marked)

    def _exact_rows(self, body: Body, *, marked: bool) -> RawTable | None:
        """The records of a slab; None if they are not what they seem."""
        rows = _rows(body)
        return None if rows is None else decode_rows(rows, self.dataset, marked=marked)

    def _exact_object(self, body: Body, *, marked: bool) -> RawTable | Words:
        record = _RECORD.decode(body)
        if not record:
            return nothing(self.dataset)
        if holds_key(record, self.dataset):
            table = decode_rows([msgspec.Raw(bytes(body))], self.dataset, marked=marked)
            self._remember(table.met)
            return table
        if (words := said(record, self.dataset, marked=marked)) is not None:
            return words
        raise NotData("the answer is an object that is neither a record nor an error")

    def _remember(self, met: frozenset[str]) -> None:
        if met <= frozenset(self._met):
            return
        with self._lock:
            self._met = tuple(dict.fromkeys([*self._met, *sorted(met)]))[:NAMES_KEPT]


def _perhaps_marked(body: Body, decode: _Decode[_T_co], marks: Marks) -> _T_co:
    """What ``decode`` makes of the body as it is or, where that can't be decoded, of the body with marks in it."""
    if b"\\u0000" not in body:
        try:
            return decode(body, marked=False)
        except _NOT_JSON:
            marks.spend(body)
            marked = marked_json(body)
            if marked is None:
                raise
    else:
        marks.spend(body)
        marked = marked_json(body)
    return decode(body, marked=False) if marked is None else decode(marked, marked=True)


def _rows(body: Body) -> list[msgspec.Raw] | None:
    """A list's records as sent; None if something else is among them."""
    rows = _ROWS.decode(body)
    return None if any(memoryview(row)[0] != _OPEN for row in rows) else rows


def _record(text: bytes) -> Record | None:
    try:
        return _RECORD.decode(text)
    except _NOT_JSON:
        return None


def _none(_: Body) -> None:
    return None


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
