"""How answers look on the wire, apart from what they hold: odd ways in which a server may write the same records."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Numbers(Enum):
    """How values that are numbers are sent."""

    TEXT = "text"
    """As strings, always."""
    BARE = "bare"
    """As bare numbers, in their very digits, wherever a value is a JSON number."""
    MIXED = "mixed"
    """As either, by seeded draw for each field of each record; empty custom fields also as null, true or false."""


class Nothing(Enum):
    """How an answer without records looks."""

    OBJECT = "{}"
    LIST = "[]"
    BLANK = ""


class Case(Enum):
    """How field names are spelled."""

    DOCUMENTED = "documented"
    UPPER = "upper"
    LOWER = "lower"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How the JSON looks. The default is compact, raw UTF-8, strings throughout; any other mix is slower to serve.

    Attributes:
        pretty: indented, with spaces after colons, instead of compact.
        ascii: characters beyond ASCII are escaped.
        numbers: how values that are numbers are sent.
        shuffle: the order of fields differs from page to page.
        case: how field names are spelled.
        missing: names of fields (as the vendor spells them) that are never sent.
        unknown: fields that no documentation names are sent: ``X_batch`` in every record, ``X_note`` in some.
        single_bare: a lone record comes as an object instead of a list of one.
        nothing: how an answer without records looks.
    """

    pretty: bool = False
    ascii: bool = False
    numbers: Numbers = Numbers.TEXT
    shuffle: bool = False
    case: Case = Case.DOCUMENTED
    missing: tuple[str, ...] = ()
    unknown: bool = False
    single_bare: bool = False
    nothing: Nothing = Nothing.OBJECT

    @property
    def plain(self) -> bool:
        """Whether records look as in the default shape, but for escapes: such pages are served the fast way."""
        return not (
            self.pretty
            or self.shuffle
            or self.missing
            or self.unknown
            or self.numbers is not Numbers.TEXT
            or self.case is not Case.DOCUMENTED
        )


__all__ = ["Case", "Nothing", "Numbers", "Shape"]
