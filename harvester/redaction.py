"""Redaction: which columns of people's data are not to be kept as they are sent, and what is kept in their place.

Nouns: a *way* is what becomes of a column's values; the *key* makes hashes that nobody without it can try out; its
*fingerprint* tells two keys apart and says nothing of them; a *label* is a redaction as one line of text, without the
key: what a lake's ledger and its data files say of it.

Columns are redacted by name, in all datasets alike, so that they still join. Refuses to touch what the harvest itself
goes by: keys, sends, campaigns, statuses, and dates that say how old a record is.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import TYPE_CHECKING

from harvester.datasets import CATALOGUE, EXTRA, Kind
from harvester.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from harvester.model import Secret

LEAST_KEY = 32
"""The fewest characters of a key: 128 bits if they are hexadecimal digits."""
MOST_KEY = 64
"""The most: BLAKE2b takes no longer one."""
_LEAST_DISTINCT = 8
_KEY_VARIABLE = "HARVESTER_REDACT_KEY"
ADDRESSES = ("email", "reply_to")
"""Columns that hold e-mail addresses."""
_MAKE_ONE = "openssl rand -hex 32 makes one"
_RUN_OF_NUMBERS = re.compile(r"(\w+_)(\d+)")


class Way(StrEnum):
    """What becomes of a column's values. What was empty stays empty."""

    DROP = "drop"
    """Null."""
    HASH = "hash"
    """A keyed BLAKE2b: of a text, 32 hexadecimal digits; of an id, a number of up to 63 bits."""
    DOMAIN = "domain"
    """What is after the @ of an address; null where that is no domain."""


def _needed() -> frozenset[str]:
    """Columns that the harvest goes by."""
    names = {"id_send", "id_message"}
    for dataset in CATALOGUE.values():
        names |= {dataset.key, *dataset.dates, *filter(None, [dataset.status])}
    return frozenset(names)


NEEDED = _needed()
"""Columns that the harvest itself goes by, in whichever dataset."""

KINDS: Mapping[str, Kind] = {
    column.name: column.kind
    for dataset in CATALOGUE.values()
    for column in dataset.columns
    if column.name not in NEEDED
}
"""Columns that can be redacted, and what they hold; beside them ``_extra``, which can be dropped."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """What is redacted, and how; nothing, if not said. Raises UsageError if that can't be meant.

    Attributes:
        columns: a column of the lake and its way, by name.
        key: of the hashes; None where there are none.
    """

    columns: tuple[tuple[str, Way], ...] = ()
    key: Secret | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(sorted(self.columns)))
        for name, way in self.columns:
            _check(name, way)
        names = [name for name, _ in self.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(f"--redact says twice what becomes of {', '.join(twice)}")
        if not self.hashes:
            object.__setattr__(self, "key", None)
        elif self.key is None:
            raise UsageError(
                f"--redact {self.hashes[0]}=hash needs a key: name a file that holds it with --redact-key-file FILE, "
                f"or put it into {_KEY_VARIABLE}; {_MAKE_ONE}"
            )
        else:
            _check_key(self.key)

    def __bool__(self) -> bool:
        return bool(self.columns)

    @property
    def ways(self) -> dict[str, Way]:
        """Each column's way."""
        return dict(self.columns)

    @property
    def hashes(self) -> tuple[str, ...]:
        """The columns that are hashed."""
        return tuple(name for name, way in self.columns if way is Way.HASH)

    @property
    def label(self) -> str:
        """Such as ``email=hash,first_name=drop key=0123456789abcdef``; empty where nothing is redacted."""
        ways = ",".join(f"{name}={way}" for name, way in self.columns)
        return ways if self.key is None else f"{ways} key={fingerprint(self.key)}"


def parse_redaction(texts: Iterable[str], key: Secret | None = None) -> Redaction:
    """A redaction from texts such as ``email=hash,first_name=drop``. Raises UsageError."""
    return Redaction(tuple(pair for text in texts for pair in _pairs(text)), key)


def _pairs(text: str) -> Iterator[tuple[str, Way]]:
    words = [word for word in re.split(r"[\s,]+", text) if word]
    if not words:  # a variable that was not set, perhaps: no reason to keep what was to be redacted
        raise UsageError("--redact is empty; say COLUMN=HOW, such as email=hash")
    for word in words:
        name, equals, way = (part.lower() for part in word.partition("="))
        if not (name and equals and way):
            raise UsageError(f"--redact {word}: say COLUMN=HOW, such as email=hash")
        if way not in set(Way):
            raise UsageError(f"--redact {word}: there is no way {way!r}; there are {', '.join(Way)}")
        yield name, Way(way)


def fingerprint(key: str) -> str:
    """What tells a key from others: 16 hexadecimal digits, which are no hash of any value."""
    return blake2b(b"", key=key.encode(), digest_size=8, person=b"fingerprint").hexdigest()


def in_words(label: str | None) -> str:
    """A label as a sentence has it: what somebody said, or that nobody said anything."""
    if not label:
        return "without --redact"
    ways, _, key = label.partition(" key=")
    return f"with --redact {ways}" + (f" (the key's fingerprint is {key})" if key else "")


def parts_of(label: str) -> tuple[dict[str, str], str | None]:
    """Of a label, each column's way, and the key's fingerprint if there is one."""
    ways, _, key = label.partition(" key=")
    pairs = (pair.partition("=") for pair in ways.split(",") if pair)
    return {name: way for name, _, way in pairs}, key or None


def _check(name: str, way: Way) -> None:
    said = f"--redact {name}={way}"
    if name in NEEDED:
        raise UsageError(f"{said}: the harvest itself needs {name}. What can be redacted: {_can_be()}")
    if name == EXTRA:
        if way is not Way.DROP:
            raise UsageError(f"{said}: {EXTRA} holds fields of all kinds, so that it can only be dropped")
    elif name not in KINDS:
        close = difflib.get_close_matches(name, KINDS, n=1)
        meant = f" (is it {close[0]}?)" if close else ""
        raise UsageError(f"{said}: no dataset has a column {name!r}{meant}. What can be redacted: {_can_be()}")
    elif way is Way.DOMAIN and name not in ADDRESSES:
        raise UsageError(f"{said}: {name} holds no e-mail addresses; {' and '.join(ADDRESSES)} do")
    elif way is Way.HASH and KINDS[name] is Kind.DATE:
        raise UsageError(f"{said}: {name} holds dates, and a hash is none; it can be dropped")


def _check_key(key: Secret) -> None:
    if not (key.isascii() and key.isprintable()) or key.split() != [str(key)]:
        raise UsageError(f"the key of --redact is one word of printable ASCII characters; {_MAKE_ONE}")
    if not LEAST_KEY <= len(key) <= MOST_KEY:
        raise UsageError(f"the key of --redact has {LEAST_KEY} to {MOST_KEY} characters, not {len(key)}; {_MAKE_ONE}")
    if (distinct := len(set(key))) < _LEAST_DISTINCT:
        raise UsageError(f"the key of --redact can be guessed: it has {distinct} different characters; {_MAKE_ONE}")


def _can_be() -> str:
    """The columns that can be redacted, those that only differ by a number as one."""
    named: dict[str, list[str]] = {}
    for name in sorted(KINDS, key=lambda one: [one[:1].isalpha(), one]):
        found = _RUN_OF_NUMBERS.fullmatch(name)
        named.setdefault(found[1] if found else name, []).append(found[2] if found else "")
    shown = [
        name if numbers == [""] else f"{name}{min(map(int, numbers))} to {name}{max(map(int, numbers))}"
        for name, numbers in named.items()
    ]
    return ", ".join([*shown, EXTRA])


__all__ = [
    "ADDRESSES",
    "KINDS",
    "LEAST_KEY",
    "MOST_KEY",
    "NEEDED",
    "Redaction",
    "Way",
    "fingerprint",
    "in_words",
    "parse_redaction",
    "parts_of",
]
