"""What each kind of answer means, and what is done about it: one table, and the functions that decide by it.

The functions turn a status, or the API's own words, into an error by its type; from the type follows the action
(``action_of``), here and nowhere else. ``FAILURES`` says the same for people, a row for each kind of answer; the tests
hold it against the functions, the client and whole harvests. Refuses to look at records: an answer that holds them is
not this module's business. Nothing downstream reads an error's text.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TYPE_CHECKING

from harvester.api.shown import prose, shortened
from harvester.errors import (
    AccessRefused,
    AddressRefused,
    AttemptFailed,
    Cut,
    HarvesterError,
    NotConnected,
    NotData,
    NotTheApi,
    ServerFailed,
    SliceRefused,
    Throttled,
    TimedOut,
    TooBigToServe,
    TurnedAway,
    Unauthorized,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

RETRY_AFTER_CAP_S = 600.0
"""The longest pause that a ``Retry-After`` is believed, in seconds."""

DEFAULT_PAUSE_S = 5.0
"""The pause after a ``Retry-After`` that is over by this machine's clock, in seconds."""

_PARTIAL = 206
_TOO_MANY = 429
_UNAVAILABLE = 503
_NOT_FOUND = 404
_ODD_FAILURE = 443  # a status that clients of the API have seen; it belongs with the 5xx
_NUMBER = re.compile(r"[0-9]{1,300}(\.[0-9]{1,9})?")
_ADDRESS = re.compile(r"Disallowed IP\b\s*([0-9A-Fa-f.:]{0,45})")
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
    if status == _PARTIAL:
        return Cut("the server sent a part of its answer only (status 206)")
    if status == _TOO_MANY or (status == _UNAVAILABLE and pause_s is not None):
        wait = "" if pause_s is None else f" of {pause_s:g} s"
        return Throttled(f"the server asks for a pause{wait} (status {status})", pause_s)
    if status >= 500 or status == _ODD_FAILURE:  # noqa: PLR2004  HTTP's classes
        failed = TurnedAway if status == _UNAVAILABLE else ServerFailed
        return failed(f"the server failed with status {status}")
    if 300 <= status < 400:  # noqa: PLR2004  HTTP's classes
        return NotTheApi(f"the server redirects elsewhere (status {status}), and redirects are not followed")
    return NotTheApi(f"the server answered with status {status}")


def rows_count(status: int) -> bool:
    """Whether records in a body of this failing status count: a 404 with a usable body was seen from this API."""
    return status == _NOT_FOUND


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


def of_fault(text: str) -> HarvesterError:
    """The error that an XML-RPC fault stands for. The API sends none, so a proxy may have, and it may pass."""
    said = of_words(text)
    return ServerFailed(f"the answer is a fault: {excerpt(text)}") if type(said) is NotData else said


def decides(error: HarvesterError) -> bool:
    """Whether the API's words weigh more than a failing status that they came with."""
    return isinstance(error, (AccessRefused, SliceRefused))


def of_other_text(text: str) -> NotData:
    """The error for a body that is not in the protocol that was asked in."""
    start = text.lstrip("\ufeff \t\r\n")
    kind = "a text"
    if start.startswith(("[", "{")):
        kind = "JSON"
    elif start.startswith("<"):
        kind = "XML" if "<methodResponse" in text else "an HTML page"
    return NotData(f"the answer is {kind}, and not what was asked for")


def excerpt(words: str) -> str:
    """The first 120 characters of the API's words, on one line, quoted, without personal data."""
    return repr(shortened(prose(words)))


def retry_after_s(header: str | None) -> float | None:
    """Seconds from a ``Retry-After`` (seconds or an HTTP date), at most 600; None if it is absent or not readable.

    A date that is past is a pause of the usual length: the server asks for one, and only the clocks disagree.
    """
    text = (header or "").strip()
    if _NUMBER.fullmatch(text):
        return min(float(text), RETRY_AFTER_CAP_S)
    try:
        wait = parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError, OSError):
        return None
    return min(wait, RETRY_AFTER_CAP_S) if wait > 0 else DEFAULT_PAUSE_S


class Action(Enum):
    """What the harvester does about an answer. The values are the README's words."""

    TAKE = "take its records"
    PROVE = "prove it"
    """Believe it only if other askings and a witness agree."""
    PAUSE = "pause everything, then ask again"
    RETRY = "ask again"
    RETRY_LESS = "ask again, for less after three"
    GIVE_UP = "give up this slice"
    STOP = "stop the run"


_ACTIONS: tuple[tuple[type[HarvesterError], Action], ...] = (  # the first that an error belongs to
    (Throttled, Action.PAUSE),
    (NotConnected, Action.PAUSE),
    (TooBigToServe, Action.RETRY_LESS),
    (AttemptFailed, Action.RETRY),
    (SliceRefused, Action.GIVE_UP),
    (HarvesterError, Action.STOP),
)


def action_of(error: HarvesterError | type[HarvesterError]) -> Action:
    """What the harvester does about an error. It follows from the error's type alone; ``errors`` draws the same tree.

    A slice whose failures outlast the run's patience is given up, whatever they are.
    """
    kind = error if isinstance(error, type) else type(error)
    return next(action for family, action in _ACTIONS if issubclass(kind, family))


@dataclass(frozen=True, slots=True)
class Failure:
    """A row of the table: kinds of answers that mean the same.

    Attributes:
        kinds: short names, by which the simulator produces them.
        answer: what they look like.
        meaning: what they mean, in one clause.
        error: what the client raises; None where it returns a page.
        empty: whether that page is one without records.
    """

    kinds: tuple[str, ...]
    answer: str
    meaning: str
    error: type[HarvesterError] | None = None
    empty: bool = False

    @property
    def action(self) -> Action:
        """What the harvester does."""
        if self.error is not None:
            return action_of(self.error)
        return Action.PROVE if self.empty else Action.TAKE


FAILURES = (
    Failure(("206",), "status 206", "a part of an answer, whatever it holds", Cut),
    Failure(
        ("302",),
        "a redirect",
        "perhaps not the API: redirects are never followed; the run ends if nothing else comes",
        NotTheApi,
    ),
    Failure(
        ("400", "401", "403", "404"),
        "status 4xx without words of the API",
        "perhaps not the API: the run ends if nothing else comes in its first while",
        NotTheApi,
    ),
    Failure(("404-data",), "status 404 with records", "records, all the same"),
    Failure(
        ("429", "429-seconds", "429-date", "503-seconds", "503-date"),
        "status 429, or 503 with Retry-After",
        "the server asks for a pause: Retry-After, seconds or a date, up to 10 minutes; else 1 s, 2, 4 … at most 60",
        Throttled,
    ),
    Failure(
        ("443", "500", "501", "502", "504"),
        "status 5xx or 443",
        "the server failed; its Error or another unknown text in the body changes nothing",
        ServerFailed,
    ),
    Failure(("503",), "status 503 without Retry-After", "the server failed, or has too much to do", TurnedAway),
    Failure(
        ("reset", "truncate", "length", "bad-gzip"),
        "a connection that breaks, or a body that ends early, is shorter than it says, or can't be unpacked",
        "half an answer",
        Cut,
    ),
    Failure(
        ("short",),
        "well-formed, but records are missing at its end",
        "records; that there are more is found by asking on from the last one, which has to come back",
    ),
    Failure(("hang",), "no answer within --timeout", "the query may be too much for the server", TimedOut),
    Failure(("silence",), "an answer that stops coming in mid-body for a minute", "half an answer", TimedOut),
    Failure(("type",), "data with another content type", "records: the body decides, not its header"),
    Failure(("bare",), "one record, not in a list", "a list of one"),
    Failure(("html",), "an HTML page in place of data", "a proxy's page, or maintenance", NotData),
    Failure(("text",), "some other text in place of data", "not an answer of the API", NotData),
    Failure(
        ("other-wire",), "JSON where XML was asked for, or XML for JSON", "not an answer to what was asked", NotData
    ),
    Failure(("encoding",), "a Content-Encoding that was not asked for", "can't be read", NotData),
    Failure(("no-body",), "no body at all", "not an answer: the API's own empty ones have a body", NotData),
    Failure(
        ("empty", "empty-list", "blank", "null", "status-0"),
        '{}, [], "", null, an empty string, an error_status of 0',
        "no records, or a failure that looks like it: never believed alone, nor at all in mid-send",
        empty=True,
    ),
    Failure(("error",), "Error", "the API failed", ServerFailed),
    Failure(
        ("fault",),
        "an XML-RPC fault",
        "a proxy or the API failed, unless the fault says one of the words below",
        ServerFailed,
    ),
    Failure(
        ("unknown-error", "unknown-status"),
        "an error's text, or an error_status without one, that is not known",
        "nothing is known of it, so it may pass",
        NotData,
    ),
    Failure(
        ("invalid-message", "missing-send", "invalid-send"),
        "Invalid ID_message, Missing ID_send, Invalid ID_send",
        "this send can't be had, and asking again won't help",
        SliceRefused,
    ),
    Failure(
        ("unauthorized",),
        "Unauthorized, whatever the status",
        "the client id or its MD5 code is wrong; from lists of sends alone: the account may not ask for those",
        Unauthorized,
    ),
    Failure(
        ("disallowed",),
        "Disallowed IP a.b.c.d, whatever the status",
        "the account does not permit this address",
        AddressRefused,
    ),
)
"""The table of failures: each kind of answer, what it means and what is done. Source: FACTS.md, "Failures"."""


def table() -> Iterator[tuple[str, str, str]]:
    """The rows of ``FAILURES`` as people read them: the answer, what it means, what the harvester does."""
    for failure in FAILURES:
        yield failure.answer, failure.meaning, failure.action.value


__all__ = [
    "DEFAULT_PAUSE_S",
    "FAILURES",
    "RETRY_AFTER_CAP_S",
    "Action",
    "Failure",
    "action_of",
    "decides",
    "excerpt",
    "of_fault",
    "of_other_text",
    "of_status",
    "of_words",
    "retry_after_s",
    "rows_count",
    "table",
]
