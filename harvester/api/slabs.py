"""The fast JSON decoder for slabs of any records: lines for ``pyarrow.json``, which works off the interpreter lock.

It takes records whose fields differ in order and number, with escapes and control characters, as long as the kinds of
their values can be told beforehand; what it can't be sure of it declines.

Invariant: what it accepts, the exact decoder accepts too, with the same result.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, cast

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from harvester.api.bounds import MOST_NAMES
from harvester.api.exact import Record
from harvester.api.records import RawColumn, RawTable, as_json, is_text

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from harvester.datasets import Dataset

    Body = bytes | bytearray

_FIRST_ROWS = 8
"""How many records are looked at for one whose fields can be had as columns."""

_ZERO = pa.scalar(0, pa.int64())
_RECORD = msgspec.json.Decoder(Record)
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Slabs:
    """Decodes slabs of one answer.

    Args:
        dataset: whose fields become columns.
        met: names met before that the catalogue doesn't know.
    """

    def __init__(self, dataset: Dataset, met: Collection[str]) -> None:
        self._position = dataset.places
        self._key = self._position[dataset.key]
        self._spelling = [column.api_name for column in dataset.fields]
        self._met = met
        self._schema: pa.Schema | None = None

    def learn(self, lines: bytearray, separators: Sequence[int], longest: int) -> bool:
        """Looks at the first records for the columns to expect. Whether they look like records at all.

        Args:
            lines: the records; the first one begins at 1.
            separators: where the others begin, less 1.
            longest: how long a record may be that is looked at.
        """
        start = 1
        for stop in [*separators, len(lines) - 1][:_FIRST_ROWS]:
            if self._schema is not None or stop - start > longest:
                break
            record = _record(bytes(lines[start:stop]))
            start = stop + 1
            if record is not None:
                self._schema = self._schema_of(record)
        return self._schema is not None

    def decode(self, lines: bytearray, stop: int, rows: int) -> RawTable | None:
        """The records from 1 up to ``stop``, if they are so many; None wherever this decoder can't tell."""
        if lines.find(b"\0", 1, stop) >= 0:
            return None
        slab = memoryview(lines)[1:stop]
        try:
            table = pj.read_json(
                cast("IO[bytes]", pa.BufferReader(pa.py_buffer(slab))),  # no copy
                read_options=pj.ReadOptions(use_threads=False, block_size=len(slab) + 1),
                parse_options=pj.ParseOptions(
                    explicit_schema=self._schema, newlines_in_values=False, unexpected_field_behavior="error"
                ),
            )
        except pa.ArrowInvalid:
            return None
        return self._taken(table, slab) if table.num_rows == rows else None

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
        if self._key not in spelling:
            return None  # these may not be records at all
        known = [spelling.get(number, name) for number, name in enumerate(self._spelling)]
        self._spelling = known
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


def _record(text: bytes) -> Record | None:
    try:
        return _RECORD.decode(text)
    except _NOT_JSON:
        return None


def _kind(value: bytes) -> pa.DataType | None:
    """What ``pyarrow.json`` can read such values as, without loss; None if it can't."""
    if value[:1] in (b'"', b"n"):
        return pa.string()
    if value[:1] in (b"t", b"f"):
        return pa.bool_()
    return pa.int64() if value.lstrip(b"-").isdigit() else None


__all__ = ["Slabs"]
