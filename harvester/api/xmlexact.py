"""The exact XML-RPC decoder: slower than the fast one, right for every response. Pieces in, a raw table out.

It streams: of a list, only the records that are being read stand in the tree, and only some are held before they become
columns. Entities, document types and the network are off; what XML forbids was marked before (``xmlmarks``).

Invariant: a value becomes what it would be in JSON, so that both wires give the same records.
"""

from __future__ import annotations

import base64
import binascii
import re
from itertools import islice
from typing import TYPE_CHECKING, cast

import msgspec
from lxml import etree

from harvester.api.bounds import DEEPEST, RECORD_BYTES, RECORD_TAGS, Marks, too_many, xml_marks
from harvester.api.exact import SLAB_ROWS, Gathering, Record, slab_table
from harvester.api.marks import MARK, marked_bytes, undone
from harvester.api.records import Fault, RawTable, Words, nothing
from harvester.api.saying import holds_key, plain, said
from harvester.api.xmlmarks import XmlMarker
from harvester.errors import Cut, NotData

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

    from harvester.datasets import Dataset

PARSED_BYTES = 2**18
"""How much is parsed before the records in it are taken out of the tree."""

_ROOT = "answer"  # around the response, so that nothing but elements may stand there: no document type either
_EXTENSIONS = "http://ws.apache.org/xmlrpc/namespaces/extensions"
_LIST = ("methodResponse", "params", "param", "value", "array", "data")
_NUMBERS = frozenset({"i1", "i2", "i4", "i8", "int", "biginteger", "double", "float", "bigdecimal"})
_OTHERS = frozenset({"string", "boolean", "nil", "dateTime.iso8601", "base64"})
_SCALARS = _NUMBERS | _OTHERS
_USUAL = _SCALARS | {*_LIST, "struct", "member", "name"}
_LAST_BYTES = 128
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_DATE_TIME = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2}:[0-9]{2}:[0-9]{2})")
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,18}\s*", re.ASCII)
_BOOLEANS = {"1": b"true", "0": b"false"}
_SPACE = " \t\r\n"
_RETURN = f"{MARK}0d"
_TEXT = msgspec.json.Decoder(str)

_Value = tuple[str, bytes, bytes]
"""A value: its element's name, its JSON in a record, where numbers are strings, and its JSON where it is nested."""


class XmlReader:
    """Reads one response, piece after piece."""

    def __init__(self, dataset: Dataset, marks: Marks | None = None) -> None:
        """``marks`` are those that the whole answer may still need."""
        self._dataset = dataset
        self._marks = marks or xml_marks()
        self._tags = self._attributes = self._bytes = 0  # of records that are not taken yet
        self._marker = XmlMarker()
        self._marked = False
        self._complete = False
        self._last = b""
        self._root: Element | None = None
        self._data: Element | None = None  # the list's element, once it is there
        self._records: list[Record] = []
        self._gathered = Gathering(dataset)
        self._parser = etree.XMLPullParser(
            events=("start", "end"),
            tag=(_ROOT, _LIST[0]),
            encoding="utf-8",
            recover=False,
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            dtd_validation=False,
            remove_comments=True,
            remove_pis=True,
            huge_tree=True,  # texts may be long; the body's size is capped elsewhere, and nesting here
        )
        self._parse(f'<{_ROOT} xmlns:ex="{_EXTENSIONS}">'.encode())

    def feed(self, piece: bytes | bytearray | memoryview) -> None:
        """Read on.

        Raises:
            NotData: it is not XML-RPC.
            OverCap: it holds more than any answer of the API can.
        """
        self._last = (self._last + bytes(piece[-_LAST_BYTES:]))[-_LAST_BYTES:]
        for start in range(0, len(piece), PARSED_BYTES):
            part = bytes(piece[start : start + PARSED_BYTES])
            self._weigh(part)
            self._parse(self._marker.feed(part))
            self._marked |= self._marker.marked
            if self._data is None:
                self._data = self._list()
            if self._data is not None:
                self._take(self._data, len(self._data) - 1)  # the last one may still grow

    def answer(self) -> RawTable | Words:
        """What the response says; nothing follows.

        Raises:
            Cut: it ended early.
            NotData: it is not XML-RPC, or nothing that the API says.
        """
        response = self._finish()
        top = _only(response)
        if top is None:
            raise _not_rpc()
        if _name(top) == "fault":
            return self._fault(top)
        if _name(top) != "params":
            raise _not_rpc()
        param = _only(top)
        if param is None:
            return nothing(self._dataset)
        if _name(param) != "param":
            raise _not_rpc()
        value = _only(param)
        if value is None:
            return nothing(self._dataset)
        if _name(value) != "value":
            raise _not_rpc()
        return self._answer(value)

    def table(self) -> RawTable:
        """The list of records that the response is, even where it is a single one that has no key; else as above."""
        self._finish()
        if self._data is None:
            raise _not_rpc()
        self._flush()
        return self._gathered.table()

    def _weigh(self, part: bytes) -> None:
        """Whether the tree may grow by a part of the response: a tag of four bytes takes a hundred there."""
        self._marks.spend(part)
        self._bytes += len(part)
        self._tags += part.count(b"<")
        self._attributes += part.count(b"=")
        if self._bytes > RECORD_BYTES or max(self._tags, self._attributes) > RECORD_TAGS:
            raise too_many("values in a record")

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed(data)
        except etree.XMLSyntaxError:
            raise _not_rpc() from None
        if len(self._parser.feed_error_log):
            raise _not_rpc()  # some errors don't raise here, and the parser would take what follows as a new document
        for event, found in self._parser.read_events():
            element = cast("Element", found)
            if self._root is None:
                self._root = element
            elif event == "end" and element.getparent() is self._root:
                self._complete = True

    def _finish(self) -> Element:
        """The whole response; of a list, its frame."""
        if not self._complete:
            if self._last.rstrip().endswith(b"</methodResponse>"):
                raise _not_rpc()  # there are errors after which the parser just stops
            raise Cut("the answer ends early, within its XML")
        self._parse(self._marker.finish() + f"</{_ROOT}>".encode())
        try:
            self._parser.close()
        except etree.XMLSyntaxError:
            raise _not_rpc() from None
        assert self._root is not None
        response = _only(self._root)
        if response is None or _name(response) != _LIST[0]:
            raise _not_rpc()
        self._data = self._list()
        if self._data is not None:
            self._take(self._data, len(self._data))
            for element in (self._data, *self._data.iterancestors()):
                _only(element)
        return response

    def _list(self) -> Element | None:
        """The element that holds the records, if the answer is a list and has come to it."""
        element = self._root
        for name in _LIST:
            if element is None or not len(element) or _name(element[0]) != name:
                return None
            element = element[0]
        return element

    def _take(self, data: Element, count: int) -> None:
        """Take the first records out of the tree."""
        if count <= 0:
            return
        _blank(data.text)
        for value in islice(data, count):
            _blank(value.tail)
            struct = _only(value)
            if _name(value) != "value":
                raise _not_rpc()
            if struct is None or _name(struct) != "struct":
                raise NotData("the answer is a list, and not of records")
            self._records.append(self._record(struct))
            if len(self._records) == SLAB_ROWS:
                self._flush()
        data.text = None
        del data[:count]
        self._tags = self._attributes = self._bytes = 0

    def _flush(self) -> None:
        if self._records:
            self._gathered.add(slab_table(self._records, self._dataset, marked=self._marked))
            self._records = []

    def _answer(self, value: Element) -> RawTable | Words:
        inner = _only(value) if len(value) else None
        if inner is not None and _name(inner) == "array":
            if self._data is None and _only(inner) is not None:
                raise _not_rpc()  # what is in it is no data, and may well be records
            lone = self._records[0] if len(self._records) == 1 and not self._gathered else None
            words = None if lone is None else said(lone, self._dataset, marked=self._marked)
            self._flush()
            return self._gathered.table() if words is None else words
        if inner is not None and _name(inner) == "struct":
            return self._object(self._record(inner))
        kind, text, _ = self._value(value, 0)
        if kind == "nil":
            return nothing(self._dataset)
        if kind != "string":
            raise NotData("the answer is a value that is neither a record nor a text")
        words = Words(plain(_TEXT.decode(text)))
        return words if words.text.strip() else nothing(self._dataset)

    def _object(self, record: Record) -> RawTable | Words:
        if not record:
            return nothing(self._dataset)
        if holds_key(record, self._dataset):
            return slab_table([record], self._dataset, marked=self._marked)
        words = said(record, self._dataset, marked=self._marked)
        if words is None:
            raise NotData("the answer is a struct that is neither a record nor an error")
        return words

    def _fault(self, fault: Element) -> Fault:
        value = _only(fault)
        struct = _only(value) if value is not None and len(value) else None
        fields = self._record(struct) if struct is not None and _name(struct) == "struct" else {}
        texts = {name: _TEXT.decode(text) for name, text in fields.items() if bytes(text).startswith(b'"')}
        code = texts.get("faultCode", "")
        return Fault(plain(texts.get("faultString", "")), int(code) if _WHOLE.fullmatch(code) else None)

    def _record(self, struct: Element) -> Record:
        return {name: msgspec.Raw(value[1]) for name, value in self._members(struct, 0)}

    def _members(self, struct: Element, depth: int) -> list[tuple[str, _Value]]:
        _blank(struct.text)
        members: list[tuple[str, _Value]] = []
        for member in struct:
            parts = list(member)
            _blank(member.text)
            _blank(member.tail)
            if _name(member) != "member" or len(parts) != 2:  # noqa: PLR2004  a name and a value
                raise _not_rpc()
            name, value = parts
            _blank(name.tail)
            _blank(value.tail)
            if _name(name) != "name":
                name, value = value, name
            if _name(name) != "name" or _name(value) != "value" or len(name):
                raise _not_rpc()
            members.append((name.text or "", self._value(value, depth)))
        return members

    def _value(self, element: Element, depth: int) -> _Value:
        if not len(element):
            return self._scalar("string", element.text or "")
        inner = _only(element)
        assert inner is not None
        kind = _name(inner)
        if kind in _SCALARS and not len(inner):
            return self._scalar(kind, inner.text or "")
        if depth == DEEPEST:
            raise NotData("the answer is nested too deeply")
        if kind == "struct":
            members = self._members(inner, depth + 1)
            piece = b"{" + b",".join([msgspec.json.encode(name) + b":" + value[2] for name, value in members]) + b"}"
            return kind, piece, piece
        data = _only(inner)
        if kind != "array" or (data is not None and _name(data) != "data"):
            raise _not_rpc()
        values: list[bytes] = []
        if data is not None:
            _blank(data.text)
            for value in data:
                _blank(value.tail)
                if _name(value) != "value":
                    raise _not_rpc()
                values.append(self._value(value, depth + 1)[2])
        piece = b"[" + b",".join(values) + b"]"
        return kind, piece, piece

    def _scalar(self, kind: str, text: str) -> _Value:
        if kind == "base64":
            text = _decoded(text)
            self._marked |= MARK in text
        elif kind == "dateTime.iso8601" and (found := _DATE_TIME.fullmatch(text)):
            text = "{}-{}-{} {}".format(*found.groups())
        elif kind == "nil":
            _blank(text)
            return kind, b"null", b"null"
        elif kind == "boolean" and text in _BOOLEANS:
            return kind, _BOOLEANS[text], _BOOLEANS[text]
        quoted = msgspec.json.encode(text)
        return kind, quoted, text.encode() if kind in _NUMBERS and _JSON_NUMBER.fullmatch(text) else quoted


def _name(element: Element) -> str:
    """An element's name without a namespace, whether that is declared or not."""
    tag = element.tag
    if tag in _USUAL:
        return tag
    return tag.rpartition("}")[2].rpartition(":")[2]


def _only(element: Element) -> Element | None:
    """The one element in another, with nothing but whitespace around it; None if there is none."""
    _blank(element.text)
    if len(element) > 1:
        raise _not_rpc()
    for inner in element:
        _blank(inner.tail)
        return inner
    return None


def _blank(text: str | None) -> None:
    """Only whitespace may stand between elements; a carriage return among it has become a mark."""
    if text and text.replace(_RETURN, "").strip(_SPACE):
        raise _not_rpc()


def _decoded(text: str) -> str:
    """What base64 stands for; the text itself if it is none, as padding is that Python would pass over."""
    packed = b"".join(undone(text).split())
    try:
        return text if len(packed) % 4 else marked_bytes(base64.b64decode(packed, validate=True))
    except binascii.Error:
        return text


def _not_rpc() -> NotData:
    return NotData("the answer begins like XML-RPC and is not")


__all__ = ["PARSED_BYTES", "XmlReader"]
