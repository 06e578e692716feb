"""What each kind of answer means, decided in one place and by type: a status, or the API's own words, to an error.

Refuses to look at records: an answer that holds them is not this module's business. Nothing downstream reads an
error's text.
"""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from harvester.errors import (
    AccessRefused,
    AddressRefused,
    NotData,
    NotTheApi,
    ServerFailed,
    SliceRefused,
    Throttled,
    Unauthorized,
)

if TYPE_CHECKING:
    from harvester.errors import HarvesterError

RETRY_AFTER_CAP_S = 600.0
"""The longest pause that a ``Retry-After`` is believed, in seconds."""

_PARTIAL = 206
_TOO_MANY = 429
_UNAVAILABLE = 503
_NOT_FOUND = 404
_ODD_FAILURE = 443  # a status that clients of the API have seen; it belongs with the 5xx
_SHOWN = 80
_NUMBER = re.compile(r"[0-9]{1,300}(\.[0-9]{1,9})?")
_WORDLESS = re.compile(r"\s+")
_ADDRESS = re.compile(r"Disallowed IP\b\s*([0-9A-Fa-f.:]*)")
_SLICE_WORDS = frozenset({"Invalid ID_message", "Missing ID_send", "Invalid ID_send"})


def of_status(status: int, retry_after: str | None = None) -> HarvesterError | None:
    """The error that an HTTP status stands for, or None where the body decides (2xx, but for a part of one).

    Args:
        status: the HTTP status.
        retry_after: the ``Retry-After`` header as sent, if any.
    """
    if 200 <= status < 300 and status != _PARTIAL:  # noqa: PLR2004  HTTP's classes
        return None
    pause_s = retry_after_s(retry_after)
    if status == _TOO_MANY or (status == _UNAVAILABLE and pause_s is not None):
        wait = "" if pause_s is None else f" of {pause_s:g} s"
        return Throttled(f"the server asks for a pause{wait} (status {status})", pause_s)
    if status >= 500 or status == _ODD_FAILURE:  # noqa: PLR2004  HTTP's classes
        return ServerFailed(f"the server failed with status {status}")
    if 300 <= status < 400:  # noqa: PLR2004  HTTP's classes
        return NotTheApi(f"the server redirects elsewhere (status {status}), and redirects are not followed")
    return NotTheApi(f"the server answered with status {status}")


def rows_count(status: int) -> bool:
    """Whether records in a body of this status count: a 404 with a usable body was seen from this API."""
    return 200 <= status < 300 or status == _NOT_FOUND  # noqa: PLR2004  HTTP's classes


def of_words(text: str) -> HarvesterError:
    """The error that the API's own words stand for. Source: the vendor's pages; the list of texts is not complete."""
    words = text.strip()
    if words == "Unauthorized":
        return Unauthorized("the API refuses the client id or its MD5 code (it says: Unauthorized)")
    if found := _ADDRESS.match(words):
        address = found[1] or "this machine's address"
        return AddressRefused(
            f"the API refuses the address {address}; permit it in Mailkit under Profile / Integration"
        )
    if words in _SLICE_WORDS:
        return SliceRefused(f"the API says: {words}")
    if words == "Error":
        return ServerFailed("the API says: Error")
    return NotData(f"the API says something unknown: {excerpt(words)}")


def decides(error: HarvesterError) -> bool:
    """Whether the API's words weigh more than a failing status that they came with."""
    return isinstance(error, (AccessRefused, SliceRefused))


def of_other_text(text: str) -> NotData:
    """The error for a body that is not JSON. Such pages come from proxies and hold no records, so a bit is shown."""
    kind = "an HTML page" if text.lstrip().startswith("<") else "a text"
    return NotData(f"the answer is {kind} and not JSON: {excerpt(text)}")


def excerpt(text: str) -> str:
    """The first 80 characters, on one line, quoted."""
    line = _WORDLESS.sub(" ", text[: 4 * _SHOWN]).strip()
    return repr(line if len(line) <= _SHOWN else line[:_SHOWN] + "…")


def retry_after_s(header: str | None) -> float | None:
    """Seconds from a ``Retry-After`` (seconds or an HTTP date), at most 600; None if absent, past or not readable."""
    text = (header or "").strip()
    if _NUMBER.fullmatch(text):
        return min(float(text), RETRY_AFTER_CAP_S)
    try:
        wait = parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError, OSError):
        return None
    return min(wait, RETRY_AFTER_CAP_S) if wait >= 0 else None


__all__ = [
    "RETRY_AFTER_CAP_S",
    "decides",
    "excerpt",
    "of_other_text",
    "of_status",
    "of_words",
    "retry_after_s",
    "rows_count",
]
