"""What a block of records is made of, before anyone decides whether it becomes JSON or a table.

Nouns: *bank* (a few hundred texts, or rows of texts, that records choose from), *part* (one field, or a group of
neighbouring fields that vary together). Banks are escaped once and for all in each style, with the constant text around
them; that, and choosing whole groups at a time, is what makes a page cheap to serve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harvester.simulator.styles import Style

_TO_TEXT = pc.CastOptions.safe(pa.string())


def join_texts(texts: Sequence[str | pa.StringArray], between: str = "") -> pa.StringArray:
    """The texts of each record, one after the other. At least one is a column; a string stands for all records."""
    # Scalars are made here because pyarrow, handed a string, first looks for numpy: 0.2 ms each where there is none.
    values = [pa.scalar(text, pa.string()) if isinstance(text, str) else text for text in (*texts, between)]
    joined: pa.StringArray = pc.call_function("binary_join_element_wise", values)
    return joined


def as_text(values: pa.Array[Any]) -> pa.StringArray:
    """Each value as text; null stays null."""
    text: pa.StringArray = pc.call_function("cast", [values], options=_TO_TEXT)
    return text


class Bank:
    """Rows of texts under field names (none for a bank of pieces that are put together to a value).

    Attributes:
        names: the fields, as the vendor spells them.
        rows: the variants; each as long as ``names``, or of one text where there are no names.
    """

    def __init__(self, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.names = tuple(names)
        self.rows = tuple(tuple(row) for row in rows)
        self._columns = tuple(pa.array(column, pa.string()) for column in zip(*self.rows, strict=True))
        self._fragments: dict[tuple[str, str, Style], pa.StringArray] = {}

    def column(self, number: int, picks: pa.UInt64Array) -> pa.StringArray:
        """The raw texts of one field, for each pick."""
        return self._columns[number].take(picks)

    def fragments(self, before: str, after: str, style: Style) -> pa.StringArray:
        """Each variant as the wire has it between ``before`` and ``after``.

        That is fields with what separates them, or the bare inside of a string where the bank has no names.
        """
        key = (before, after, style)
        if key not in self._fragments:
            texts = [before + self._render(row, style) + after for row in self.rows]
            self._fragments[key] = pa.array(texts, pa.string())
        return self._fragments[key]

    def _render(self, row: Sequence[str], style: Style) -> str:
        if not self.names:
            return style.escaped(row[0])
        pairs = zip(self.names, row, strict=True)
        return style.between.join(style.field(name, style.literal(name, value)) for name, value in pairs)


def texts(values: Sequence[str]) -> Bank:
    """A bank of single texts."""
    return Bank((), [(value,) for value in values])


@dataclass(frozen=True, slots=True)
class Choice:
    """A text from a bank without names for each record. ``picks`` are places in the bank."""

    bank: Bank
    picks: pa.UInt64Array


Piece: TypeAlias = "str | pa.StringArray | Choice"
"""A piece of a value: the same for all records, one for each (nothing in it needs escaping), or chosen from a bank."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its name as the vendor spells it, and the pieces that its value is put together from."""

    name: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring fields that vary together."""

    bank: Bank
    picks: pa.UInt64Array


Part: TypeAlias = Field | Group


@dataclass(frozen=True, slots=True)
class Block:
    """Some records.

    Attributes:
        key: the field that tells them apart, as the vendor spells it.
        count: how many there are.
        parts: what they are made of, in the order in which the fields are sent.
    """

    key: str
    count: int
    parts: tuple[Part, ...]

    def columns(self) -> dict[str, pa.StringArray]:
        """Field name, as the vendor spells it → the raw text of each record. In the order in which fields are sent."""
        columns: dict[str, pa.StringArray] = {}
        for part in self.parts:
            if isinstance(part, Group):
                for number, name in enumerate(part.bank.names):
                    columns[name] = part.bank.column(number, part.picks)
            else:
                columns[part.name] = self._joined(part.pieces)
        return columns

    def _joined(self, pieces: Sequence[Piece]) -> pa.StringArray:
        raw = [piece.bank.column(0, piece.picks) if isinstance(piece, Choice) else piece for piece in pieces]
        if all(isinstance(piece, str) for piece in raw):
            return pa.repeat("".join(piece for piece in raw if isinstance(piece, str)), self.count)
        return join_texts(raw)


__all__ = ["Bank", "Block", "Choice", "Field", "Group", "Part", "Piece", "as_text", "join_texts", "texts"]
