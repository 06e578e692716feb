"""Blocks of records → text of either wire, the fast way: by copying texts that are escaped already.

Every record is the same number of texts one after the other: constants, texts of its own, texts from a bank. They are
joined record by record. The texts of an Arrow column lie next to each other in memory, so the buffer of the joined
column is the answer itself.

Refuses nothing, and decides nothing: which records, and whether they are plain enough for this way, is for others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from harvester.simulator.parts import Bank, Choice, Group, join_texts
from harvester.simulator.styles import Markup

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from harvester.simulator.parts import Block, Part
    from harvester.simulator.styles import Style


@dataclass(slots=True)
class _Constant:
    """Text that is the same in every block."""

    text: str


@dataclass(slots=True)
class _Picked:
    """Text from a bank, with constants around it."""

    bank: Bank
    picks: pa.UInt64Array
    before: str = ""
    after: str = ""


_Text: TypeAlias = "_Constant | _Picked | str | pa.StringArray"


def plain(block: Block, style: Style) -> memoryview:
    """The records in compact form, a comma (in JSON) **before** each: the inside of a list, but for the first one."""
    texts: list[str | pa.StringArray] = []
    for text in _joined(_absorbed(_texts(block.parts, style))):
        if isinstance(text, _Picked):
            fragments = text.bank.fragments(text.before, text.after, style)
            texts.append(fragments.take(text.picks))
        else:
            texts.append(text)
    body = join_texts(texts).buffers()[2]
    assert body is not None
    return memoryview(body)


def _texts(parts: Sequence[Part], style: Style) -> Iterator[_Text]:
    before = style.opening
    for part in parts:
        yield _Constant(before)
        if isinstance(part, Group):
            yield _Picked(part.bank, part.picks)
        else:
            for piece in style.values(part.name, part.pieces):
                if isinstance(piece, Markup):
                    yield _Constant(piece.text)
                else:
                    yield _Picked(piece.bank, piece.picks) if isinstance(piece, Choice) else piece
        before = style.between
    yield _Constant(style.closing)


def _absorbed(texts: Iterator[_Text]) -> list[_Text]:
    """The same in fewer texts: constants become part of each other, and of the bank's text next to them."""
    merged: list[_Text] = []
    for text in texts:
        last = merged[-1] if merged else None
        if isinstance(text, _Constant) and isinstance(last, _Constant):
            last.text += text.text
        elif isinstance(text, _Constant) and isinstance(last, _Picked):
            last.after += text.text
        elif isinstance(text, _Picked) and isinstance(last, _Constant):
            text.before = last.text
            merged[-1] = text
        else:
            merged.append(text)
    return merged


def _joined(texts: Sequence[_Text]) -> Iterator[str | _Picked | pa.StringArray]:
    """The same in fewer texts again: what is constant in this block becomes part of each other."""
    constant = ""
    for text in texts:
        if isinstance(text, _Constant | str):
            constant += text.text if isinstance(text, _Constant) else text
            continue
        if constant:
            yield constant
            constant = ""
        yield text
    if constant:
        yield constant


__all__ = ["plain"]
