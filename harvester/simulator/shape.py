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
    """How an answer without records looks. The values are those over JSON."""

    OBJECT = "{}"
    """The API's own way; over XML an empty string."""
    LIST = "[]"
    """An empty list, or array."""
    BLANK = ""
    """A body of no bytes."""


class Case(Enum):
    """How field names are spelled."""

    DOCUMENTED = "documented"
    UPPER = "upper"
    LOWER = "lower"


class XmlTypes(Enum):
    """Which types values have over XML-RPC, where numbers are not sent in a way of their own."""

    TYPED = "typed"
    """As on the vendor's page: ids, counts and custom fields that are whole numbers are ``i4`` or ``i8``."""
    STRINGS = "strings"
    """All are ``string``."""
    UNTYPED = "untyped"
    """None has a type, so that all are strings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How answers look.

    The default is compact raw UTF-8; JSON has strings throughout, XML types as on the vendor's page. What is escaped
    and the types of XML make no difference to how fast it is served; any other change makes it slower.

    Attributes:
        pretty: indented, with spaces after colons, instead of compact.
        ascii: characters beyond ASCII are escaped.
        numbers: how values that are numbers are sent; as other than text, over XML, integers and doubles are typed.
        xml_types: which types values have over XML, where numbers are text.
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
    xml_types: XmlTypes = XmlTypes.TYPED
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


__all__ = ["Case", "Nothing", "Numbers", "Shape", "XmlTypes"]
