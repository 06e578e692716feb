"""Seeded hashing of 64-bit words, one at a time and by the column. Both forms give the same bits.

The mix is the well-known xor-shift-multiply finaliser (two rounds); it is for spreading, not for secrecy.
"""

from __future__ import annotations

from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

_MASK = 2**64 - 1
_MULTIPLIER = 0xD6E8FEB86659FD93
_GOLDEN = 0x9E3779B97F4A7C15


@lru_cache(maxsize=4096)
def word(value: int) -> pa.UInt64Scalar:
    """``value`` as an unsigned 64-bit scalar, for arithmetic with columns; larger values wrap around."""
    return pa.scalar(value & _MASK, pa.uint64())


_M = word(_MULTIPLIER)
_32 = word(32)
_29 = word(29)


def mix(value: int) -> int:
    """One word, well mixed."""
    value &= _MASK
    value = ((value ^ (value >> 32)) * _MULTIPLIER) & _MASK
    value = ((value ^ (value >> 29)) * _MULTIPLIER) & _MASK
    return value ^ (value >> 32)


def salt(*values: int) -> int:
    """One word that depends on all of ``values`` and their order."""
    result = 0
    for value in values:
        result = mix(result + _GOLDEN + mix(value))
    return result


def mix_column(column: pa.UInt64Array) -> pa.UInt64Array:
    """``mix`` of every word of a column."""
    column = pc.multiply(pc.bit_wise_xor(column, pc.shift_right(column, _32)), _M)
    column = pc.multiply(pc.bit_wise_xor(column, pc.shift_right(column, _29)), _M)
    return pc.bit_wise_xor(column, pc.shift_right(column, _32))


def bits(column: pa.UInt64Array, start: int, width: int) -> pa.UInt64Array:
    """``width`` bits of every word, from bit ``start`` upwards, as numbers."""
    return pc.bit_wise_and(pc.shift_right(column, word(start)), word((1 << width) - 1))


def choose(
    mask: pa.BooleanArray, yes: pa.UInt64Array | pa.UInt64Scalar, no: pa.UInt64Array | pa.UInt64Scalar
) -> pa.UInt64Array:
    """``yes`` where the mask is true, ``no`` elsewhere."""
    chosen: pa.UInt64Array = pc.if_else(mask, yes, no)
    return chosen


__all__ = ["bits", "choose", "mix", "mix_column", "salt", "word"]
