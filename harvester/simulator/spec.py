"""What an account holds, as a recipe: frozen data from which every record follows, without holding any of them.

Nouns: *sends* (which, and how many rows each), *shape* (how the JSON looks), *account spec* (both, and the seed).
A record is a function of (seed, send, index) alone, so a spec of a billion rows is as small as one of ten.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from harvester.errors import UsageError
from harvester.model import KEY_END

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FIRST_ID_SEND = 601_181
"""The first send's id where ids are not listed (the vendor's own example)."""
FIRST_KEY = 723_043_606
"""The first key of an ordinary account (next to the vendor's own example)."""
AWKWARD_FIRST_KEY = 2**53 + 1_000_001
"""The first key of an awkward account: odd and beyond 2^53, so that a reader that goes through a float is found out."""
BETWEEN_SENDS = 16
"""Keys that belong to nobody between the blocks of two sends: a cursor may well name one of them."""
LARGEST_STRIDE = 2**31
"""The largest mean distance between keys: offsets within a stride are drawn from 32 bits."""


@dataclass(frozen=True, slots=True)
class Sends:
    """The sends of an account, in the order of their keys.

    Attributes:
        ids: each send's ``ID_send``; no id twice.
        rows: each send's number of messages, as long as ``ids``.
    """

    ids: Sequence[int]
    rows: Sequence[int]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.rows):
            raise UsageError(f"{len(self.ids)} sends can't have {len(self.rows)} row counts")
        if any(rows < 0 for rows in self.rows):
            raise UsageError("a send can't have fewer than no rows")
        if any(id_send <= 0 for id_send in self.ids) or len(set(self.ids)) != len(self.ids):
            raise UsageError("ids of sends are positive, and each stands once")


def equal(count: int, rows: int) -> Sends:
    """``count`` sends of ``rows`` messages each."""
    return Sends(range(FIRST_ID_SEND, FIRST_ID_SEND + count), (rows,) * count)


def listed(rows: Mapping[int, int]) -> Sends:
    """The sends given, ``ID_send`` → number of messages, in the mapping's order."""
    return Sends(tuple(rows), tuple(rows.values()))


def skewed(count: int, rows: int) -> Sends:
    """``count`` sends of ``rows`` messages together: the k-th largest has about 1/k of the largest's share (Zipf).

    The sizes stand in a fixed random order, so that the largest send is not always the first.
    """
    if count < 1:
        return Sends((), ())
    total = sum(1 / k for k in range(1, count + 1))
    sizes = [int(rows / (k * total)) for k in range(1, count + 1)]
    sizes[0] += rows - sum(sizes)
    random.Random(count).shuffle(sizes)  # noqa: S311 - a reproducible order, not a secret
    return Sends(range(FIRST_ID_SEND, FIRST_ID_SEND + count), tuple(sizes))


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


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSpec:
    """An account, as a recipe. Raises UsageError if a value can't be meant.

    Attributes:
        seed: every record follows from it; two specs that are equal serve the same bytes.
        sends: which sends, and how many messages each; see ``equal``, ``listed`` and ``skewed``.
        gap: the mean distance between neighbouring keys of a send: 1 is dense, more is irregular.
        first_key: the account's lowest possible key; None for a large one, beyond 2^53 in an awkward account.
        sends_per_campaign: neighbouring sends that share an ``ID_message``.
        failed: the share of messages that bounced, from 0 to 1.
        waiting: the share of messages that wait for delivery until the account settles, from 0 to 1.
        opened: the share of delivered messages that carry ``s_*`` fields, from 0 to 1.
        awkward: text that breaks careless readers: ``},{``, quotes, newlines, emoji, zero dates, ids beyond 2^53.
        shape: how the JSON looks.
        client_id: the client id that is let in.
        client_md5: the MD5 code that is let in.
    """

    seed: int = 0
    sends: Sends = field(default_factory=lambda: equal(1, 1000))
    gap: int = 1
    first_key: int | None = None
    sends_per_campaign: int = 4
    failed: float = 0.03
    waiting: float = 0.0
    opened: float = 0.33
    awkward: bool = False
    shape: Shape = field(default_factory=Shape)
    client_id: str = "12345"
    client_md5: str = field(default="0123456789abcdef0123456789abcdef", repr=False)

    def __post_init__(self) -> None:
        checks = [
            (1 <= self.gap <= LARGEST_STRIDE, f"the gap between keys goes from 1 to {LARGEST_STRIDE}, not {self.gap}"),
            (self.sends_per_campaign >= 1, "a campaign has at least one send"),
            (0 <= self.opened <= 1, "the share of opened messages goes from 0 to 1"),
            (
                self.failed >= 0 and self.waiting >= 0 and self.failed + self.waiting <= 1,
                "the shares of failed and waiting messages are not negative, and at most 1 together",
            ),
            (self.lowest_key > 0, "keys are positive"),
            (
                self.lowest_key + sum(self.sends.rows) * self.gap + len(self.sends.ids) * BETWEEN_SENDS < KEY_END,
                "the last keys would not fit into 63 bits; choose a smaller gap or a lower first key",
            ),
        ]
        for holds, message in checks:
            if not holds:
                raise UsageError(message)

    @property
    def lowest_key(self) -> int:
        """No key is lower; the first send's block begins here."""
        if self.first_key is not None:
            return self.first_key
        return AWKWARD_FIRST_KEY if self.awkward else FIRST_KEY


__all__ = [
    "AWKWARD_FIRST_KEY",
    "BETWEEN_SENDS",
    "FIRST_ID_SEND",
    "FIRST_KEY",
    "AccountSpec",
    "Case",
    "Nothing",
    "Numbers",
    "Sends",
    "Shape",
    "equal",
    "listed",
    "skewed",
]
