"""Blocks of records → JSON text, the fast way: by copying pieces that are escaped already.

Refuses nothing, and decides nothing: which records, and whether they are plain enough for this way, is for others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from harvester.simulator.parts import Bank, Choice, Group

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harvester.simulator.parts import Block, Part


@dataclass(slots=True)
class _Constant:
    """JSON text that is the same in every block."""

    text: str


@dataclass(slots=True)
class _Picked:
    """JSON text from a bank, with constants around it."""

    bank: Bank
    picks: pa.UInt64Array
    before: str = ""
    after: str = ""


_Token: TypeAlias = "_Constant | _Picked | str | pa.StringArray"


def plain(block: Block, *, ascii_only: bool) -> memoryview:
    """The records as compact JSON objects, a comma **before** each: the inside of a list, but for the first byte.

    The pieces of all records are joined by row, and the rows of an Arrow column of text lie next to each other in memory;
    so the column's own buffer is the text, without another copy.
    """
    tokens = _absorbed(list(_tokens(block.parts)))
    rows = pc.binary_join_element_wise(*(_piece(token, ascii_only=ascii_only) for token in tokens), "")
    if isinstance(rows, pa.StringScalar):  # every record is the same, to the letter
        rows = pa.repeat(rows, block.count)
    return memoryview(rows.buffers()[2])


def _tokens(parts: Sequence[Part]) -> Iterator[_Token]:
    opening = ",{"
    for part in parts:
        if isinstance(part, Group):
            yield _Constant(opening)
            yield _Picked(part.bank, part.picks)
        else:
            yield _Constant(f'{opening}"{part.name}":"')
            for piece in part.pieces:
                yield _Picked(piece.bank, piece.picks) if isinstance(piece, Choice) else piece
            yield _Constant('"')
        opening = ","
    yield _Constant("}")


def _absorbed(tokens: Sequence[_Token]) -> list[_Token]:
    """The same text in fewer tokens: constants become part of each other, and of the bank's text next to them."""
    merged: list[_Token] = []
    for token in tokens:
        last = merged[-1] if merged else None
        if isinstance(token, _Constant) and isinstance(last, _Constant):
            last.text += token.text
        elif isinstance(token, _Constant) and isinstance(last, _Picked):
            last.after += token.text
        elif isinstance(token, _Picked) and isinstance(last, _Constant):
            token.before = last.text
            merged[-1] = token
        else:
            merged.append(token)
    return merged


def _piece(token: _Token, *, ascii_only: bool) -> str | pa.StringArray:
    if isinstance(token, _Constant):
        return token.text
    if isinstance(token, _Picked):
        return token.bank.fragments(token.before, token.after, ascii_only=ascii_only).take(token.picks)
    return token


__all__ = ["plain"]
