"""Thrift's compact protocol, as far as a Parquet file needs it: values in, bytes out.

Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_TRUE, _FALSE, _I32, _I64, _BINARY, _LIST, _STRUCT = 1, 2, 5, 6, 8, 9, 12
_LONG_LIST = 15
_CONTINUED = 0x80

I32, I64, BINARY, STRUCT = _I32, _I64, _BINARY, _STRUCT
"""Kinds of elements of a list."""

STOP = b"\0"
"""The end of a struct."""


def varint(value: int) -> bytes:
    """A number of at least 0, seven bits to a byte."""
    if value < _CONTINUED:
        return value.to_bytes(1, "little")
    out = bytearray()
    while value >= _CONTINUED:
        out.append(value & 0x7F | _CONTINUED)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(value: int) -> bytes:
    """A signed number, of 32 or 64 bits."""
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


def binary(value: bytes) -> bytes:
    """Bytes, or text in UTF-8."""
    return varint(len(value)) + value


def field(kind: int, encoded: bytes, *, skip: int = 0) -> bytes:
    """A struct's next field; ``skip`` numbers are left out before it."""
    return bytes([(skip + 1) << 4 | kind]) + encoded


def i32(value: int, *, skip: int = 0) -> bytes:
    """A field."""
    return field(_I32, number(value), skip=skip)


def i64(value: int, *, skip: int = 0) -> bytes:
    """A field."""
    return field(_I64, number(value), skip=skip)


def truth(value: bool, *, skip: int = 0) -> bytes:  # noqa: FBT001 - a value like any other
    """A field: a boolean is in its header alone."""
    return field(_TRUE if value else _FALSE, b"", skip=skip)


def text(value: bytes, *, skip: int = 0) -> bytes:
    """A field of bytes, or of text in UTF-8."""
    return field(_BINARY, binary(value), skip=skip)


def many(kind: int, elements: Sequence[bytes], *, skip: int = 0) -> bytes:
    """A field: a list of encoded elements."""
    return begin_list(kind, len(elements), skip=skip) + b"".join(elements)


def begin_list(kind: int, size: int, *, skip: int = 0) -> bytes:
    """A field: a list, of which so many encoded elements follow."""
    head = bytes([size << 4 | kind]) if size < _LONG_LIST else bytes([0xF0 | kind]) + varint(size)
    return field(_LIST, head, skip=skip)


def begin_struct(*, skip: int = 0) -> bytes:
    """A field: a struct, whose encoded fields follow, and ``STOP``."""
    return field(_STRUCT, b"", skip=skip)


def struct(*fields: bytes, skip: int = 0) -> bytes:
    """A field: a struct of encoded fields."""
    return begin_struct(skip=skip) + b"".join(fields) + STOP


__all__ = [
    "BINARY",
    "I32",
    "I64",
    "STOP",
    "STRUCT",
    "begin_list",
    "begin_struct",
    "binary",
    "field",
    "i32",
    "i64",
    "many",
    "number",
    "struct",
    "text",
    "truth",
    "varint",
]
