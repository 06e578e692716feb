"""How records are written on either wire: names, values, and what stands between them. Text in, text out.

Over XML-RPC a value has a type. As on the vendor's page, ids, counts and custom fields that are whole numbers are
``<i4>``, or ``<i8>`` where they need it, and all else is ``<string>``. A value that would not print back as it was
(``0003859``) is no number. What XML forbids is not held back: characters below a space go out as they are, as from a
careless server.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from harvester.config import Wire
from harvester.datasets import CAMPAIGNS, CATALOGUE, SENDS, Kind
from harvester.simulator.foul import around, escaped_halves
from harvester.simulator.parts import join_texts
from harvester.simulator.shape import Numbers, XmlTypes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harvester.simulator.parts import Piece
    from harvester.simulator.shape import Shape

_WHOLE = "^(0|-?[1-9][0-9]*)$"
_INTEGER = re.compile(_WHOLE, re.ASCII)
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+", re.ASCII)
_INT32 = range(-(2**31), 2**31)
_INT64 = range(-(2**63), 2**63)
_SURELY_I4 = 9
"""So many characters of a whole number, or fewer, fit 32 bits."""
_SURELY_I8 = range(12, 19)
"""So many characters of a whole number fit 64 bits and no 32."""
_NUMERIC = frozenset(
    spelling
    for dataset in (*CATALOGUE.values(), CAMPAIGNS, SENDS)
    for column in dataset.fields
    if column.kind in {Kind.ID, Kind.COUNT}
    for spelling in column.spellings
)
_XML_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})


@dataclass(frozen=True, slots=True)
class Markup:
    """Text of the wire's own, the same in every block: it becomes part of the texts around it."""

    text: str


Written: TypeAlias = "Markup | Piece"
"""A piece of a value, or what the wire writes around it."""


class Style(Protocol):
    """How one wire writes records. Hashable: banks remember their texts in each style."""

    @property
    def wire(self) -> Wire:
        """Which wire."""
        ...

    @property
    def opening(self) -> str:
        """What a record begins with; the first of a list goes without ``comma`` at its start."""
        ...

    @property
    def comma(self) -> str:
        """What separates records of a list; ``opening`` begins with it."""
        ...

    @property
    def between(self) -> str:
        """What separates the fields of a record."""
        ...

    @property
    def closing(self) -> str:
        """What a record ends with."""
        ...

    def escaped(self, text: str) -> str:
        """The text as it stands inside a value."""
        ...

    def field(self, name: str, literal: str) -> str:
        """A field with its value, which is written already."""
        ...

    def literal(self, name: str, text: str) -> str:
        """The value of a field."""
        ...

    def values(self, name: str, pieces: Sequence[Piece]) -> Iterator[Written]:
        """A field with its values for a whole block, put together from pieces."""
        ...


@dataclass(frozen=True, slots=True)
class JsonStyle:
    """Compact JSON, strings throughout.

    Attributes:
        ascii: characters beyond ASCII are escaped.
    """

    ascii: bool = False
    wire = Wire.JSON
    opening = ",{"
    comma = ","
    between = ","
    closing = "}"

    def escaped(self, text: str) -> str:
        """The text without the quotes around it."""
        return escaped_halves(around(text, self._dumped))

    def _dumped(self, text: str) -> str:
        return json.dumps(text, ensure_ascii=self.ascii)[1:-1]

    def field(self, name: str, literal: str) -> str:
        """``"name":literal``."""
        return f'"{name}":{literal}'

    def literal(self, name: str, text: str) -> str:  # noqa: ARG002  the other style looks at the name
        """A string, whatever the field."""
        return f'"{self.escaped(text)}"'

    def values(self, name: str, pieces: Sequence[Piece]) -> Iterator[Written]:
        """The pieces in one string."""
        yield Markup(f'"{name}":"')
        yield from pieces
        yield Markup('"')


@dataclass(frozen=True, slots=True)
class XmlStyle:
    """Compact XML-RPC.

    Attributes:
        ascii: characters beyond ASCII are escaped.
        types: which types values have.
    """

    ascii: bool = False
    types: XmlTypes = XmlTypes.TYPED
    wire = Wire.XML
    opening = "<value><struct>"
    comma = ""
    between = ""
    closing = "</struct></value>"

    def escaped(self, text: str) -> str:
        """The text between tags; only what must be is escaped."""
        return around(text, self._escaped)

    def _escaped(self, text: str) -> str:
        text = text.translate(_XML_ESCAPES)
        return text.encode("ascii", "xmlcharrefreplace").decode() if self.ascii else text

    def field(self, name: str, literal: str) -> str:
        """A member."""
        return f"<member><name>{name}</name><value>{literal}</value></member>"

    def literal(self, name: str, text: str) -> str:
        """The value in its type."""
        if self.types is XmlTypes.TYPED and _may_be_number(name) and (kind := whole(text)):
            return f"<{kind}>{text}</{kind}>"
        return self.string(text)

    def string(self, text: str) -> str:
        """The value as a string."""
        return self.escaped(text) if self.types is XmlTypes.UNTYPED else f"<string>{self.escaped(text)}</string>"

    def values(self, name: str, pieces: Sequence[Piece]) -> Iterator[Written]:
        """The pieces in one member; numbers where the field may hold them and its pieces are no choices from banks."""
        texts = [piece for piece in pieces if isinstance(piece, str | pa.Array)]
        before, after = f"<member><name>{name}</name><value>", "</value></member>"
        if self.types is XmlTypes.TYPED and _may_be_number(name) and len(texts) == len(pieces):
            yield Markup(before)
            yield from _tagged(texts)
            yield Markup(after)
            return
        tag = "" if self.types is XmlTypes.UNTYPED else "string"
        yield Markup(f"{before}<{tag}>" if tag else before)
        yield from pieces
        yield Markup(f"</{tag}>{after}" if tag else after)


def style_of(shape: Shape, wire: Wire) -> JsonStyle | XmlStyle:
    """How records of this shape are written on a wire."""
    if wire is Wire.JSON:
        return JsonStyle(shape.ascii)
    # Where some numbers are numbers and some are not, the shape says which; there is nothing left to guess.
    guess = shape.xml_types is XmlTypes.TYPED and shape.numbers is Numbers.TEXT
    types = XmlTypes.STRINGS if shape.xml_types is XmlTypes.TYPED and not guess else shape.xml_types
    return XmlStyle(shape.ascii, types)


def whole(text: str) -> str | None:
    """``i4`` or ``i8`` for a whole number that prints back as it is and fits; else None."""
    if not _INTEGER.match(text) or text.endswith("\n") or (value := int(text)) not in _INT64:
        return None
    return "i4" if value in _INT32 else "i8"


def number(text: str) -> str | None:
    """``i4``, ``i8`` or ``double`` for a number that prints back as it is; else None."""
    return whole(text) or ("double" if _DECIMAL.fullmatch(text) else None)


def _may_be_number(name: str) -> bool:
    name = name.lower()
    return name in _NUMERIC or name.startswith("custom_")


def _tagged(texts: Sequence[str | pa.StringArray]) -> Iterator[Written]:
    """A value for each record in its type, where nothing needs escaping."""
    if all(isinstance(text, str) for text in texts):
        joined = "".join(text for text in texts if isinstance(text, str))
        kind = whole(joined) or "string"
        yield from (f"<{kind}>", joined, f"</{kind}>")
        return
    column = texts[0] if len(texts) == 1 and not isinstance(texts[0], str) else join_texts(texts)
    kinds = _kinds(column)
    if isinstance(kinds, str):
        yield from (f"<{kinds}>", column, f"</{kinds}>")
    else:
        yield from ("<", kinds, ">", column, "</", kinds, ">")


def _kinds(column: pa.StringArray) -> str | pa.StringArray:
    """The type of each value; one for all where they are alike, which the shortest and the longest tell."""
    lengths = pc.min_max(pc.binary_length(column))
    shortest, longest = lengths["min"].as_py(), lengths["max"].as_py()
    if shortest and longest and pc.all(pc.match_substring_regex(column, _WHOLE)).as_py():
        if longest <= _SURELY_I4:
            return "i4"
        if shortest in _SURELY_I8 and longest in _SURELY_I8:
            return "i8"
    return pa.array([whole(text or "") or "string" for text in column.to_pylist()], pa.string())


__all__ = ["JsonStyle", "Markup", "Style", "Written", "XmlStyle", "number", "style_of", "whole"]
