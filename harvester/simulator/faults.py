"""Everything that may go wrong with one request, by name, and what is sent where there is no answer to spoil.

Over XML-RPC each fault is its nearest kin: an object with an error is a bare string, ``null`` is ``<nil/>``.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from harvester.simulator import envelopes
from harvester.simulator.shape import Nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harvester.config import Wire

DEFAULT_RETRY_AFTER_S = 1.0
"""What a fault that must say a ``Retry-After`` says if the behaviour names none."""
UNKNOWN_WORDS = "Something went wrong in the flux capacitor"
"""An error's text that no documentation names."""


class Fault(StrEnum):
    """What may go wrong with one request. The values are the names on the command line."""

    PARTIAL = "206"
    """The status of a part, and some of the first records."""
    REDIRECTED = "302"
    """To a page that does not exist."""
    BAD_REQUEST = "400"
    NOT_LOGGED_IN = "401"
    FORBIDDEN = "403"
    NOT_FOUND = "404"
    THROTTLED = "429"
    ODD_FAILURE = "443"
    FAILED = "500"
    NOT_IMPLEMENTED = "501"
    BAD_GATEWAY = "502"
    UNAVAILABLE = "503"
    GATEWAY_TIMEOUT = "504"
    THROTTLED_SECONDS = "429-seconds"
    """With ``Retry-After`` in seconds, whatever the behaviour says."""
    THROTTLED_DATE = "429-date"
    """With ``Retry-After`` as an HTTP date."""
    UNAVAILABLE_SECONDS = "503-seconds"
    UNAVAILABLE_DATE = "503-date"
    NOT_FOUND_DATA = "404-data"
    """404, with the whole answer as its body."""
    RESET = "reset"
    """The connection is reset in the middle of the body."""
    TRUNCATE = "truncate"
    """Well-formed HTTP, but the answer in it is cut short."""
    SHORT = "short"
    """A well-formed answer, but only some of the first records that should be there. A lone record is served whole."""
    LENGTH = "length"
    """The whole answer, under a ``Content-Length`` that promises more; then the connection ends."""
    TYPE = "type"
    """The whole answer, as ``text/html``."""
    HTML = "html"
    """200, with a page for people."""
    TEXT = "text"
    """200, with a line of plain text."""
    EMPTY = "empty"
    """200, and ``{}``, though there are records; over XML an empty string."""
    EMPTY_LIST = "empty-list"
    """``[]``, or an empty array."""
    BLANK = "blank"
    """An empty text; over XML one without a type."""
    NULL = "null"
    """``null``, or ``<nil/>``."""
    NO_BODY = "no-body"
    """200, and a body of no bytes."""
    ERROR = "error"
    """The API's own ``Error``."""
    UNAUTHORIZED = "unauthorized"
    DISALLOWED = "disallowed"
    INVALID_MESSAGE = "invalid-message"
    MISSING_SEND = "missing-send"
    INVALID_SEND = "invalid-send"
    UNKNOWN_ERROR = "unknown-error"
    """An error whose text no documentation names."""
    UNKNOWN_STATUS = "unknown-status"
    """An error with a status that no documentation names and without a text; over XML like ``unknown-error``."""
    STATUS_0 = "status-0"
    """An ``error_status`` of 0, with an empty text."""
    BARE = "bare"
    """The first record alone, without a list around it."""
    FAULT = "fault"
    """An XML-RPC ``<fault>``, as from a proxy; over JSON an object that says the same."""
    OTHER_WIRE = "other-wire"
    """The whole answer, as the other wire has it."""
    BAD_GZIP = "bad-gzip"
    """Bytes that are no gzip stream, though the header says so."""
    ENCODING = "encoding"
    """Bytes under a ``Content-Encoding`` that was not asked for."""
    HANG = "hang"
    """No answer ever."""
    SILENCE = "silence"
    """Headers and some bytes of the body, and nothing after them."""


SPOILING = frozenset(
    {
        Fault.PARTIAL,
        Fault.NOT_FOUND_DATA,
        Fault.RESET,
        Fault.TRUNCATE,
        Fault.SHORT,
        Fault.LENGTH,
        Fault.TYPE,
        Fault.BARE,
        Fault.OTHER_WIRE,
        Fault.SILENCE,
    }
)
"""There is an answer, but something happens to it. Of all others but ``HANG`` something else is sent instead."""
_PAUSES = {
    Fault.THROTTLED_SECONDS: 429,
    Fault.THROTTLED_DATE: 429,
    Fault.UNAVAILABLE_SECONDS: 503,
    Fault.UNAVAILABLE_DATE: 503,
}
_DATED = {Fault.THROTTLED_DATE, Fault.UNAVAILABLE_DATE}
_WORDS = {
    Fault.ERROR: "Error",
    Fault.UNAUTHORIZED: "Unauthorized",
    Fault.INVALID_MESSAGE: "Invalid ID_message",
    Fault.MISSING_SEND: "Missing ID_send",
    Fault.INVALID_SEND: "Invalid ID_send",
    Fault.UNKNOWN_ERROR: UNKNOWN_WORDS,
}
_BODIES: Mapping[Fault, Callable[[Wire], bytes]] = MappingProxyType(
    {
        Fault.EMPTY: lambda wire: envelopes.nothing(wire, Nothing.OBJECT),
        Fault.EMPTY_LIST: lambda wire: envelopes.nothing(wire, Nothing.LIST),
        Fault.BLANK: envelopes.blank,
        Fault.NULL: envelopes.null,
        Fault.NO_BODY: lambda _: b"",
        Fault.STATUS_0: envelopes.status_zero,
        Fault.FAULT: envelopes.fault,
        Fault.BAD_GZIP: lambda _: b"\x1f\x8b these bytes are no gzip stream",
        Fault.ENCODING: lambda _: b"\x0b\x02\x80 these bytes are no brotli stream either",
    }
)
_ENCODINGS = {Fault.BAD_GZIP: "gzip", Fault.ENCODING: "br"}
_PAGE = b"<!DOCTYPE html>\n<html><head><title>Mailkit</title></head><body><h1>Maintenance</h1></body></html>\n"
_LINE = b"The service is busy.\n"


@dataclass(frozen=True, slots=True)
class Instead:
    """What is sent instead of an answer.

    Attributes:
        body: its bytes, as they are sent.
        content_type: what they are said to be.
        status: the HTTP status.
        headers: further headers.
    """

    body: bytes
    content_type: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def instead(fault: Fault, wire: Wire, remote: str | None, retry_after_s: float | None) -> Instead:
    """What is sent instead of an answer.

    Args:
        fault: what goes wrong, and is not among those that spoil an answer.
        wire: over which wire.
        remote: the address that asks.
        retry_after_s: the behaviour's ``Retry-After``, in seconds.
    """
    content_type = envelopes.ENVELOPES[wire].content_type
    if fault in _PAUSES:
        pause_s = DEFAULT_RETRY_AFTER_S if retry_after_s is None else retry_after_s
        return status_only(_PAUSES[fault], pause_s, dated=fault in _DATED)
    if fault is Fault.REDIRECTED:
        return Instead(b"", "text/html", 302, {"Location": "/elsewhere"})
    if fault.isdecimal():
        return status_only(int(fault), retry_after_s)
    if fault in _BODIES:
        headers = {"Content-Encoding": _ENCODINGS[fault]} if fault in _ENCODINGS else {}
        return Instead(_BODIES[fault](wire), content_type, headers=headers)
    if fault in {Fault.HTML, Fault.TEXT}:
        return Instead(_PAGE, "text/html") if fault is Fault.HTML else Instead(_LINE, "text/plain")
    return Instead(_words(fault, wire, remote), content_type)


def status_only(status: int, retry_after_s: float | None, *, dated: bool = False) -> Instead:
    """A status, and when to come again if that is said: in whole seconds, or as a date."""
    headers: dict[str, str] = {}
    if retry_after_s is not None:
        seconds = math.ceil(retry_after_s)
        headers["Retry-After"] = formatdate(time.time() + seconds, usegmt=True) if dated else str(seconds)
    return Instead(f"{status}\n".encode(), "text/plain", status, headers)


def _words(fault: Fault, wire: Wire, remote: str | None) -> bytes:
    if fault is Fault.DISALLOWED:
        return envelopes.refused(wire, f"Disallowed IP {remote}")
    if fault is Fault.UNKNOWN_STATUS:
        return envelopes.unknown_status(wire, UNKNOWN_WORDS)
    return envelopes.refused(wire, _WORDS[fault])


__all__ = ["DEFAULT_RETRY_AFTER_S", "SPOILING", "UNKNOWN_WORDS", "Fault", "Instead", "instead", "status_only"]
