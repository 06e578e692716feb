"""Little data files: Parquet of a few rows, written for a fifth of what a general writer takes.

A general writer sets up an encoder, a page and statistics for each of 66 columns, which costs more than all the rest of
a tiny send; where an account has 100,000 of them, that is what a run does. Here a column is one uncompressed page with
plain values, and what does not depend on the rows is encoded once. Readers find what they find in any other data file:
the same schema, statistics, checksums of pages, sorting columns and key-value metadata.

Source: https://github.com/apache/parquet-format (parquet.thrift, Encodings.md)
"""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, islice, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from harvester import __version__
from harvester.datasets import CATALOGUE
from harvester.lake import thrift

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harvester.datasets import Dataset

MOST_ROWS = 24
"""Beyond this, a general writer is about as fast."""

_MAGIC = b"PAR1"
_INT64, _BYTE_ARRAY = 2, 6
_OPTIONAL = 1
_UTF8 = 0
_PLAIN, _RLE = 0, 3
_DATA_PAGE = 0
_UNCOMPRESSED = 0
_VERSION = 2
_SIZE = struct.Struct("<I")
_FEW = 256
_SIZES = [_SIZE.pack(size) for size in range(_FEW)]
_NUMBER = struct.Struct("<q")
_MOST = thrift.field(thrift.BINARY, thrift.varint(_NUMBER.size), skip=1)
_LEAST = thrift.field(thrift.BINARY, thrift.varint(_NUMBER.size))
_BOTH_EXACT = 2 * thrift.truth(True) + thrift.STOP  # noqa: FBT003
_TWO_STOPS = 2 * thrift.STOP
_NULLS: dict[int, bytes] = {}
_SIGN = 1 << 31


class _Chunk(NamedTuple):
    """What a column came to: its page, and what the footer says of that, but for its place in the file."""

    page: bytes
    sizes: bytes
    statistics: bytes


@dataclass(slots=True)
class _Column:
    """A column of a dataset, and what of it is encoded already.

    Attributes:
        is_text: whether its values are text, and not numbers of 64 bits.
        head: the beginning of what a footer says of a chunk of it.
        empty: its chunk where all values are null, by the number of rows.
    """

    is_text: bool
    head: bytes
    empty: dict[int, _Chunk] = field(default_factory=dict)

    def chunks(self, values: pa.Array[Any], cuts: Sequence[tuple[int, int]]) -> list[_Chunk]:
        """The column's chunk of each file: of the values from one place up to another."""
        if values.null_count == len(values):
            return [self._nothing(last - first) for first, last in cuts]
        buffers: list[Any] = values.buffers()
        present = None
        if values.null_count:
            present = int.from_bytes(memoryview(buffers[0]), "little") >> values.offset
        size = len(values)
        if not self.is_text:
            numbers = memoryview(buffers[1]).cast("q")[values.offset : values.offset + size].tolist()
            return [self._of_numbers(numbers[first:last], _bits(present, first, last)) for first, last in cuts]
        stops = memoryview(buffers[1]).cast("i")[values.offset : values.offset + size + 1].tolist()
        if stops[0] == stops[size] and present is None:
            return [_blank(last - first) for first, last in cuts]
        text = buffers[2].slice(stops[0], stops[size] - stops[0]).to_pybytes() if stops[size] > stops[0] else b""
        if stops[0]:
            stops = [stop - stops[0] for stop in stops]
        return [self._of_text(text, stops[first : last + 1], _bits(present, first, last)) for first, last in cuts]

    def _of_text(self, text: bytes, stops: list[int], bits: int | None) -> _Chunk:
        rows = len(stops) - 1
        if bits is None and stops[0] == stops[rows]:
            return _blank(rows)
        if bits == 0:
            return self._nothing(rows)
        parts = [_levels(rows, bits)]
        start = stops[0]
        for place, stop in enumerate(islice(stops, 1, None)):
            if bits is None or bits >> place & 1:
                size = stop - start
                parts += (_SIZES[size] if size < _FEW else _SIZE.pack(size), text[start:stop])
            start = stop
        return _chunk(b"".join(parts), rows, b"")

    def _of_numbers(self, numbers: list[int], bits: int | None) -> _Chunk:
        rows = len(numbers)
        if bits == 0:
            return self._nothing(rows)
        if bits is not None:
            numbers = [number for place, number in enumerate(numbers) if bits >> place & 1]
        content = _levels(rows, bits) + struct.pack(f"<{len(numbers)}q", *numbers)
        return _chunk(content, rows, _statistics(rows - len(numbers), numbers))

    def _nothing(self, rows: int) -> _Chunk:
        if rows not in self.empty:
            statistics = b"" if self.is_text else _statistics(rows, [])
            self.empty[rows] = _chunk(_levels(rows, 0), rows, statistics)
        return self.empty[rows]


@lru_cache
def _blank(rows: int) -> _Chunk:
    """The chunk of so many empty strings: what most columns of most records hold."""
    return _chunk(_levels(rows, None) + rows * _SIZE.pack(0), rows, b"")


def _bits(present: int | None, first: int, last: int) -> int | None:
    """Which of some values are there, a bit each; None if all are."""
    if present is None:
        return None
    every = (1 << last - first) - 1
    bits = present >> first & every
    return None if bits == every else bits


def _chunk(content: bytes, rows: int, statistics: bytes) -> _Chunk:
    """A chunk of one page, which has this content."""
    before, after, sizes = _around(rows, len(content))
    crc = zlib.crc32(content)
    folded = crc << 1 if crc < _SIGN else (_SIGN * 2 - crc << 1) - 1
    checksum = (folded & 127 | 128, folded >> 7 & 127 | 128, folded >> 14 & 127 | 128, folded >> 21 & 127 | 128)
    encoded = bytes((*checksum, folded >> 28)) if folded >> 28 else thrift.varint(folded)
    return _Chunk(b"".join((before, encoded, after, content)), sizes[len(encoded)], statistics)


@lru_cache(4096)
def _around(rows: int, size: int) -> tuple[bytes, bytes, Sequence[bytes]]:
    """What stands around a page's checksum; and how a footer tells the page's size, by the length of the checksum."""
    before = thrift.i32(_DATA_PAGE) + 2 * thrift.i32(size) + thrift.field(thrift.I32, b"")
    about = (thrift.i32(rows), thrift.i32(_PLAIN), thrift.i32(_RLE), thrift.i32(_RLE))
    after = thrift.struct(*about) + thrift.STOP
    total = len(before) + len(after) + size
    return before, after, [thrift.i64(rows) + 2 * thrift.i64(total + longer) for longer in range(6)]


@dataclass(frozen=True, slots=True)
class _Layout:
    """What all little files of a dataset have in common: their columns, and parts of their footers."""

    columns: tuple[_Column, ...]
    head: bytes
    sorting: bytes
    arrow: bytes
    tail: bytes


def encoded(dataset: Dataset, files: Sequence[tuple[Mapping[str, str], pa.RecordBatch]]) -> list[bytes]:
    """The bytes of some data files: a column is taken apart once for all of them.

    Args:
        dataset: whose schema the rows have.
        files: of each, what it says of itself, and its rows: at least one, and at most ``MOST_ROWS``.
    """
    layout = _layout(dataset.name)
    together = pa.Table.from_batches([rows for _, rows in files]).combine_chunks().to_batches()[0]
    ends = [0, *accumulate(rows.num_rows for _, rows in files)]
    cuts = list(pairwise(ends))
    columns = [column.chunks(values, cuts) for column, values in zip(layout.columns, together.columns, strict=True)]
    return [
        _file(layout, metadata, rows.num_rows, chunks)
        for (metadata, rows), chunks in zip(files, zip(*columns, strict=True), strict=True)
    ]


def _file(layout: _Layout, metadata: Mapping[str, str], count: int, columns: Sequence[_Chunk]) -> bytes:
    parts, chunks = [_MAGIC], list[bytes]()
    place = start = len(_MAGIC)
    for column, chunk in zip(layout.columns, columns, strict=True):
        parts.append(chunk.page)
        chunks += (column.head, chunk.sizes, _begins_at(place), chunk.statistics, _TWO_STOPS)
        place += len(chunk.page)
    size = place - start
    pairs = [_pair(name, value) for name, value in metadata.items()]
    footer = b"".join(
        (
            layout.head,
            thrift.i64(count),
            thrift.begin_list(thrift.STRUCT, 1),
            thrift.begin_list(thrift.STRUCT, len(layout.columns)),
            *chunks,
            thrift.i64(size),
            thrift.i64(count),
            layout.sorting,
            thrift.i64(start),
            thrift.i64(size),
            thrift.STOP,
            thrift.many(thrift.STRUCT, [layout.arrow, *pairs]),
            layout.tail,
        )
    )
    return b"".join((*parts, footer, _SIZE.pack(len(footer)), _MAGIC))


@lru_cache(1024)
def _pair(name: str, value: str) -> bytes:
    """What a file says of itself; much of it is what others say as well."""
    return thrift.text(name.encode()) + thrift.text(value.encode()) + thrift.STOP


@lru_cache(65536)
def _begins_at(place: int) -> bytes:
    return thrift.i64(place, skip=1)


@lru_cache
def _layout(name: str) -> _Layout:
    dataset = CATALOGUE[name]
    fields = list(dataset.schema)
    elements = [thrift.i32(0, skip=2) + thrift.text(b"schema") + thrift.i32(len(fields)) + thrift.STOP]
    columns: list[_Column] = []
    for found in fields:
        is_text = pa.types.is_string(found.type)
        physical = thrift.i32(_BYTE_ARRAY if is_text else _INT64)
        element = physical + thrift.i32(_OPTIONAL, skip=1) + thrift.text(found.name.encode())
        if is_text:
            element += thrift.i32(_UTF8, skip=1) + thrift.struct(thrift.struct(), skip=3)
        elif pa.types.is_timestamp(found.type):
            microseconds = thrift.struct(thrift.struct(skip=1))
            of_no_zone = thrift.struct(thrift.truth(False), microseconds, skip=7)  # noqa: FBT003
            element += thrift.struct(of_no_zone, skip=5)
        elements.append(element + thrift.STOP)
        encodings = thrift.many(thrift.I32, [thrift.number(_RLE), thrift.number(_PLAIN)])
        path = thrift.many(thrift.BINARY, [thrift.binary(found.name.encode())])
        about = physical + encodings + path + thrift.i32(_UNCOMPRESSED)
        columns.append(_Column(is_text, thrift.i64(0, skip=1) + thrift.begin_struct() + about))
    key = thrift.i32(dataset.schema.get_field_index(dataset.key))
    ascending = key + thrift.truth(False) + thrift.truth(False) + thrift.STOP  # noqa: FBT003
    arrow = base64.b64encode(dataset.schema.serialize())
    in_their_types_order = thrift.struct() + thrift.STOP
    return _Layout(
        columns=tuple(columns),
        head=thrift.i32(_VERSION) + thrift.many(thrift.STRUCT, elements),
        sorting=thrift.many(thrift.STRUCT, [ascending]),
        arrow=thrift.text(b"ARROW:schema") + thrift.text(arrow) + thrift.STOP,
        tail=thrift.text(f"harvester version {__version__}".encode())
        + thrift.many(thrift.STRUCT, [in_their_types_order] * len(fields))
        + thrift.STOP,
    )


@lru_cache(1024)
def _levels(rows: int, bits: int | None) -> bytes:
    """Definition levels, as a page begins with them: which of so many values are there, as in ``_bits``."""
    if bits is None or bits == 0:
        runs = thrift.varint(rows << 1) + bytes([bits is None])
    else:
        groups = (rows + 7) // 8
        runs = thrift.varint(groups << 1 | 1) + bits.to_bytes(groups, "little")
    return _SIZE.pack(len(runs)) + runs


def _statistics(nulls: int, numbers: Sequence[int]) -> bytes:
    """What a footer says of a chunk's values: how many are null, the largest and the smallest, and that they are so."""
    counted = _NULLS.get(nulls) or _NULLS.setdefault(nulls, thrift.begin_struct(skip=2) + thrift.i64(nulls, skip=2))
    if not numbers:
        return counted + thrift.STOP
    return b"".join((counted, _MOST, _NUMBER.pack(max(numbers)), _LEAST, _NUMBER.pack(min(numbers)), _BOTH_EXACT))


__all__ = ["MOST_ROWS", "encoded"]
