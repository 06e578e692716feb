"""What stands around records in an answer, and answers that hold none: the API's words, and what goes wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from harvester.config import Wire
from harvester.simulator.shape import Nothing
from harvester.simulator.styles import XmlStyle

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROLOGUE = '<?xml version="1.0" encoding="utf-8"?>\n<methodResponse>'
_FAULT_TEXT = "Bad gateway"


@dataclass(frozen=True, slots=True)
class Envelope:
    """How a wire wraps an answer.

    Attributes:
        content_type: the type that its bodies are sent as.
        before: what every answer begins with.
        opening: what a list begins with, after that.
        closing: what a list ends with.
        after: what every answer ends with.
    """

    content_type: str
    before: str
    opening: str
    closing: str
    after: str

    def around(self, value: str) -> bytes:
        """A whole answer, of one value that is written already."""
        return f"{self.before}{value}{self.after}".encode()


ENVELOPES: Mapping[Wire, Envelope] = MappingProxyType(
    {
        Wire.JSON: Envelope("application/json", "", "[", "]", ""),
        Wire.XML: Envelope(
            "text/xml",
            f"{_PROLOGUE}<params><param>",
            "<value><array><data>",
            "</data></array></value>",
            "</param></params></methodResponse>",
        ),
    }
)


def refused(wire: Wire, text: str, status: int = 1) -> bytes:
    """The API's words for what is wrong: an object with ``error_status`` and ``error``, or a bare string."""
    if wire is Wire.JSON:
        return json.dumps({"error_status": status, "error": text}).encode()
    return ENVELOPES[wire].around(f"<value>{XmlStyle().string(text)}</value>")


def unknown_status(wire: Wire, text: str) -> bytes:
    """An error whose status nobody documents, without a text; over XML, where there is no status, the text."""
    return b'{"error_status": 7}' if wire is Wire.JSON else refused(wire, text)


def nothing(wire: Wire, how: Nothing) -> bytes:
    """An answer without records."""
    if wire is Wire.JSON or how is Nothing.BLANK:
        return how.value.encode()
    if how is Nothing.OBJECT:
        return refused(wire, "")
    envelope = ENVELOPES[wire]
    return envelope.around(envelope.opening + envelope.closing)


def blank(wire: Wire) -> bytes:
    """An empty text; over XML-RPC one without a type."""
    return b'""' if wire is Wire.JSON else ENVELOPES[wire].around("<value></value>")


def null(wire: Wire) -> bytes:
    """Nothing, as a value."""
    return b"null" if wire is Wire.JSON else ENVELOPES[wire].around("<value><nil/></value>")


def status_zero(wire: Wire) -> bytes:
    """The object of an error that is none."""
    if wire is Wire.JSON:
        return refused(wire, "", 0)
    style = XmlStyle()
    members = style.field("error_status", "<i4>0</i4>") + style.field("error", style.string(""))
    return ENVELOPES[wire].around(style.opening + members + style.closing)


def fault(wire: Wire) -> bytes:
    """An XML-RPC fault; over JSON an object that says the same."""
    if wire is Wire.JSON:
        return json.dumps({"fault": {"faultCode": 4, "faultString": _FAULT_TEXT}}).encode()
    style = XmlStyle()
    members = style.field("faultCode", "<int>4</int>") + style.field("faultString", style.string(_FAULT_TEXT))
    return f"{_PROLOGUE}<fault>{style.opening}{members}{style.closing}</fault></methodResponse>".encode()


__all__ = ["ENVELOPES", "Envelope", "blank", "fault", "nothing", "null", "refused", "status_zero", "unknown_status"]
