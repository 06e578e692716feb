"""What command-line options mean: converters from what was typed to values, which name the option that is wrong.

Each takes the type hint of its parameter, which it has no use for, and the option's tokens: cyclopts hands them over.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from harvester.config import parse_duration, parse_ledger, parse_size
from harvester.console.exits import tell
from harvester.console.secrecy import hide, passwords_in
from harvester.console.sends import parse_id
from harvester.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cyclopts import Token

    from harvester.model import Secret

Parsed = TypeVar("Parsed")

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def duration(_type: object, tokens: tuple[Token, ...]) -> float:
    """A converter: seconds from ``10m``. Raises UsageError that names the option."""
    return _parsed(parse_duration, tokens[-1])


def size(_type: object, tokens: tuple[Token, ...]) -> int:
    """A converter: bytes from ``1GiB``. Raises UsageError that names the option."""
    return _parsed(parse_size, tokens[-1])


def path(_type: object, tokens: tuple[Token, ...]) -> Path:
    """A converter: a path. Raises UsageError for an empty one, which is a variable that was not set."""
    named = place(_type, tokens)
    if "://" in named:
        raise UsageError(f"{tokens[-1].keyword} names something on this machine, not a URL: {named}")
    return Path(named)


def place(_type: object, tokens: tuple[Token, ...]) -> str:
    """A converter: a folder or a URL. Raises UsageError for an empty one, which is a variable that was not set."""
    if not tokens[-1].value:
        raise UsageError(f"{tokens[-1].keyword}: the path is empty")
    return tokens[-1].value


def ids(_type: object, tokens: tuple[Token, ...]) -> tuple[int, ...]:
    """A converter: ids, each once, in the order given. Raises UsageError that names the option."""
    found: dict[int, None] = {}
    for token in tokens:
        try:
            found[parse_id(token.value)] = None
        except ValueError as error:
            raise UsageError(f"{token.keyword}: {error}") from None
    return tuple(found)


def day(_type: object, tokens: tuple[Token, ...]) -> date:
    """A converter: a day from ``2024-05-31``. Raises UsageError that names the option."""
    token = tokens[-1]
    try:
        if _DAY.fullmatch(token.value.strip()):
            return date.fromisoformat(token.value.strip())
    except ValueError:
        pass
    raise UsageError(f"{token.keyword}: {token.value!r} is not a day; write it like 2024-05-31")


def database(_type: object, tokens: tuple[Token, ...]) -> Secret:
    """A converter: the URL of a ledger's database, whose password nothing shows from then on. Raises UsageError."""
    token = tokens[-1]
    url = parse_ledger(token.value)
    passwords = passwords_in(url)
    for password in passwords:
        hide(password)
    if passwords and token.source in {"cli", ""}:
        tell(
            "harvester: other users of this machine can read the password in --ledger; keep it in HARVESTER_LEDGER, "
            "PGPASSWORD or ~/.pgpass"
        )
    return url


def _parsed(parse: Callable[[str], Parsed], token: Token) -> Parsed:
    try:
        return parse(token.value)
    except UsageError as error:
        raise UsageError(f"{token.keyword}: {error}") from None


__all__ = ["database", "day", "duration", "ids", "path", "place", "size"]
