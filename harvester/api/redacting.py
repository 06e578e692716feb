"""People's data is taken out of an answer before its records are typed. No I/O.

It stands between decoding and typing, which all answers pass, of both wires and whatever decoder read them: so nothing
that comes after it, no page, segment, digest, stream or file, ever has what was taken out.

Invariant: a redacted field's value is nowhere in the table, whatever the field's letter case: not in its column, and
not among the extras, where values go that are no text, and fields that their dataset doesn't know.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from harvester.api.records import RawColumn, absent, some_at_a_time
from harvester.datasets import CATALOGUE, EXTRA, Kind
from harvester.redaction import NEEDED, Way

if TYPE_CHECKING:
    from collections.abc import Collection

    from harvester.api.records import RawTable
    from harvester.datasets import Column, Dataset
    from harvester.redaction import Redaction

HASH_DIGITS = 32
"""The length of a hashed text: 128 bits in hexadecimal digits."""
_DIGEST_BYTES = HASH_DIGITS // 2

_DOMAIN = r"@(?P<domain>[^\s\pZ\pC@<>,;:\"'()\\]+)[>\s]*$"
"""Nothing but a domain may be after the last @: else there may be a name there, or another address."""
_NESTED = r"^\s*[\[{]"
_PACKED = "$base64"
_BLANK = pa.scalar("")
_ANY = msgspec.json.Decoder()


class Redactor:
    """Redacts the answers to one dataset's queries. Threads may share it."""

    def __init__(self, redaction: Redaction, dataset: Dataset) -> None:
        ways = redaction.ways
        self._key = b"" if redaction.key is None else str(redaction.key).encode()
        self._columns = [
            (place, column, ways[column.name]) for place, column in enumerate(dataset.fields) if column.name in ways
        ]
        self._hidden = _spellings(frozenset(ways) - {EXTRA})
        self._kept = _spellings(NEEDED)
        self._drops_extra = EXTRA in ways

    def redacted(self, raw: RawTable) -> RawTable:
        """The records without what is to be taken out of them."""
        columns = list(raw.columns)
        for place, column, way in self._columns:
            columns[place] = RawColumn(self._changed(columns[place].values, column, way), columns[place].sent_as)
        extras = {name: self._without_nested(pieces) for name, pieces in raw.extras.items() if self.keeps(name)}
        return replace(raw, columns=tuple(columns), extras=extras)

    def keeps(self, name: str) -> bool:
        """Whether ``_extra`` may hold a field of this name."""
        return _folded(name) in self._kept if self._drops_extra else _folded(name) not in self._hidden

    def _changed(self, values: pa.StringArray, column: Column, way: Way) -> pa.StringArray:
        if way is Way.DROP or values.null_count == len(values):
            return absent(len(values))
        encoded = values.dictionary_encode()
        distinct = cast("pa.StringArray", encoded.dictionary)
        if way is Way.DOMAIN:
            changed: Any = pc.struct_field(pc.extract_regex(distinct, pattern=_DOMAIN), [0])
        elif column.kind is Kind.TEXT:
            changed = _hashed_texts(distinct, self._key)
        else:
            changed = _hashed_ids(distinct, self._key)
        return cast("pa.StringArray", changed.take(encoded.indices))

    def _without_nested(self, pieces: pa.StringArray) -> pa.StringArray:
        """Pieces of JSON without the members of objects in them that have a redacted field's name."""
        nested = pc.match_substring_regex(pieces, _NESTED)
        if not pc.any(nested).as_py():
            return pieces
        cleaned = [
            piece if piece is None or piece.lstrip()[:1] not in "[{" else self._without_members(piece)
            for piece in some_at_a_time(pieces)
        ]
        return pa.array(cleaned, pa.string())

    def _without_members(self, piece: str) -> str | None:
        value = _ANY.decode(piece)
        if isinstance(value, dict) and value.keys() == {_PACKED}:
            return None if _may_be_nested(value[_PACKED]) else piece
        left = self._left_of(value)
        return piece if left == value else msgspec.json.encode(left).decode()

    def _left_of(self, value: Any) -> Any:  # noqa: ANN401  decoded JSON
        if isinstance(value, dict):
            return {name: self._left_of(one) for name, one in value.items() if _folded(name) not in self._hidden}
        if isinstance(value, list):
            return [self._left_of(one) for one in value]
        return value


def _spellings(names: Collection[str]) -> frozenset[str]:
    """By which names an answer may call fields of these columns, whichever dataset knows them."""
    columns = (column for dataset in CATALOGUE.values() for column in dataset.columns if column.name in names)
    return frozenset(_folded(spelling) for column in columns for spelling in column.spellings)


def _folded(name: str) -> str:
    return name.strip().casefold()


def _may_be_nested(packed: object) -> bool:
    """Whether bytes that are no text may be an object or a list: what is in it can't be told by its names."""
    try:
        return base64.b64decode(str(packed)).lstrip()[:1] in {b"[", b"{"}
    except binascii.Error:
        return True


def _digests(distinct: pa.StringArray, key: bytes) -> bytes:
    """The keyed BLAKE2b of each value but the empty one, one after another; 128 bits each."""
    another = blake2b(key=key, digest_size=_DIGEST_BYTES).copy  # at two thirds of the time that a new one takes
    digests: list[bytes] = []
    for value in some_at_a_time(cast("pa.Array[Any]", distinct.cast(pa.binary()))):
        if value:
            hashing = another()
            hashing.update(value)
            digests.append(hashing.digest())
    return b"".join(digests)


def _hashed_texts(distinct: pa.StringArray, key: bytes) -> pa.StringArray:
    """Texts as 32 hexadecimal digits each; the empty one as it is. No value is null, and none there twice."""
    digits = _digests(distinct, key).hex().encode()
    offsets = np.arange(len(distinct) + 1, dtype=np.int32) * HASH_DIGITS
    blank = pc.index(distinct, _BLANK).as_py()
    if blank >= 0:
        offsets[blank + 1 :] -= HASH_DIGITS
    return pa.StringArray.from_buffers(len(distinct), pa.py_buffer(offsets.data), pa.py_buffer(digits))


def _hashed_ids(distinct: pa.StringArray, key: bytes) -> pa.StringArray:
    """Ids as numbers of up to 63 bits; the empty text, which is none, as it is."""
    halves = np.frombuffer(_digests(distinct, key), ">u8")[::2]
    numbers = cast("pa.StringArray", pc.cast(pa.array((halves >> np.uint64(1)).astype(np.int64)), pa.string()))
    blank = pc.index(distinct, _BLANK).as_py()
    if blank < 0:
        return numbers
    return pa.concat_arrays([numbers.slice(0, blank), pa.array([""], pa.string()), numbers.slice(blank)])


__all__ = ["HASH_DIGITS", "Redactor"]
