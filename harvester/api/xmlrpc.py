"""The XML-RPC codec: a call's body out, a response in pieces in, a raw table or the API's own words out. No I/O.

Two decoders yield the same thing. The fast one (``xmlfast``) takes blocks of records that all look alike; the exact one
(``xmlexact``) is asked wherever the fast one can't tell: for a block, so that one odd record costs little, or for the
rest of the body. Either way no more than some blocks of XML are held at once.

A response is UTF-8, or of one of the single-byte encodings of central and western Europe where its first line says so.

Invariant: what the fast decoder accepts, the exact one accepts too, with the same result. An error's text never shows
a record.
"""

from __future__ import annotations

import codecs
import re
from itertools import chain
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from harvester.api.bounds import Marks, xml_marks
from harvester.api.exact import Gathering, joined
from harvester.api.meaning import of_other_text
from harvester.api.xmlexact import XmlReader
from harvester.api.xmlfast import Form, decode_block
from harvester.errors import Cut, NotData

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from harvester.api.records import RawTable, Words
    from harvester.datasets import Dataset

Body = bytes | bytearray | memoryview

BLOCK_BYTES = 2**20
"""How much is decoded at a time, roughly."""

_BLOCKS_HELD = 8
_SMALL_BLOCK_BYTES = 2**16
_LOOKED_AT = 4096
_INT32 = range(-(2**31), 2**31)
_ENCODINGS = frozenset({"iso8859-1", "iso8859-2", "iso8859-15", "cp1250", "cp1252"})
_UTF_8 = frozenset({"utf-8", "ascii"})
_BOM = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_S = rb"[ \t\r\n]{0,64}"
_SPACE = b" \t\r\n"
_DECLARATION = re.compile(rb"<\?xml[ \t\r\n][^<>]*?\?>")
_ENCODING = re.compile(rb"""encoding[ \t\r\n]*=[ \t\r\n]*["']([A-Za-z0-9._-]+)["']""")
_HEAD = b"<methodResponse><params><param><value><array><data>"
_TAIL = b"</data></array></value></param></params></methodResponse>"
_ELEMENT = re.compile(rb"<[^<>]+>")
_PLAIN_HEAD = re.compile(_ELEMENT.sub(lambda found: _S + found[0], _HEAD) + _S)
_PLAIN_TAIL = re.compile(_S + b"</struct>" + _S + b"</value>" + _ELEMENT.sub(lambda found: _S + found[0], _TAIL) + _S)


def encode_call(function: str, client_id: int, md5: str, arguments: Sequence[str | int | None]) -> bytes:
    """The body of a call.

    Args:
        function: the API's function.
        client_id: the client's id.
        md5: its MD5 code.
        arguments: the function's own, in the order of its page; None for what is not said. That is an empty string
            where something follows, and left off where nothing does (FACTS.md, "Endpoints and credentials").
    """
    said = list(arguments)
    while said and said[-1] is None:
        said.pop()
    values = [_typed(client_id), f"<string>{escape(md5)}</string>", *map(_typed, said)]
    params = "".join(f"<param><value>{value}</value></param>" for value in values)
    call = f"<methodName>{escape(function)}</methodName><params>{params}</params>"
    return f'<?xml version="1.0" encoding="utf-8"?>\n<methodCall>{call}</methodCall>\n'.encode()


def _typed(value: str | int | None) -> str:
    if isinstance(value, int):
        return f"<int>{value}</int>" if value in _INT32 else f"<i8>{value}</i8>"
    return f"<string>{escape(value or '')}</string>"


class XmlCodec:
    """Decodes the answers to one dataset's queries. Threads may share it.

    ``hide`` takes secrets out of what an error shows of an answer that holds no records.
    """

    def __init__(self, dataset: Dataset, hide: Callable[[str], str] = str) -> None:
        self.dataset = dataset
        self._hide = hide

    def decode_pieces(self, pieces: Iterable[Body]) -> RawTable | Words:
        """Decode a response that comes in pieces, split anywhere.

        Returns:
            The records, none for an empty array, struct, string or nil; or what the API says in place of them, a
            ``Fault`` if it is one.

        Raises:
            Cut: it ends early.
            NotData: it is not XML-RPC, or nothing that the API says.
            OverCap: it holds more than any answer of the API can.
            HarvesterError: whatever the pieces themselves raise.
        """
        response, marks = self._response(pieces), xml_marks()
        data = _gathered(response, b"", BLOCK_BYTES)
        head = _PLAIN_HEAD.match(data)
        form = Form.of(data[head.end() :]) if head else None
        if head is None or form is None:
            return self._read(chain([data], response), marks).answer()
        data = form.turn + data[head.end() :]
        gathered = Gathering(self.dataset)
        while True:
            block, data = _next_block(data, response, form)
            table = self._block(block, form, marks) if block else None
            if table is None:
                rest = (block + data)[len(form.turn) :]
                table, data = self._read(chain([_HEAD, rest], response), marks).table(), b""
            gathered.add(table)
            if not data.startswith(form.boundary):
                return gathered.table()

    def decode_exact(self, pieces: Iterable[Body]) -> RawTable | Words:
        """As ``decode_pieces``, by the exact decoder alone."""
        return self._read(self._response(pieces), xml_marks()).answer()

    def _read(self, pieces: Iterable[bytes], marks: Marks) -> XmlReader:
        reader = XmlReader(self.dataset, marks)
        for piece in pieces:
            reader.feed(piece)
        return reader

    def _block(self, block: bytes, form: Form, marks: Marks) -> RawTable | None:
        """A block's records; None if it doesn't end where it seems to.

        An odd record is closed in on by halves, so that few others go the slow way with it.
        """
        table = decode_block(block, form, self.dataset)
        if table is None and len(block) > _SMALL_BLOCK_BYTES:
            middle = block.rfind(form.boundary, 1, len(block) // 2 + len(form.boundary))
            first = self._block(block[:middle], form, marks) if middle > 0 else None
            second = None if first is None else self._block(block[middle:], form, marks)
            table = None if first is None or second is None else joined([first, second], self.dataset)
        return self._exact_block(block, form, marks) if table is None else table

    def _exact_block(self, block: bytes, form: Form, marks: Marks) -> RawTable | None:
        """A block's records; None if it doesn't end where it seems to.

        Where blocks end is guesswork. It is right if a block by itself is a list's inside, since XML is read from its
        start: what is whole up to there would be read likewise if the rest were there.
        """
        try:
            return self._read([_HEAD, block[len(form.turn) :], form.turn, _TAIL], marks).table()
        except (Cut, NotData):
            return None

    def _response(self, pieces: Iterable[Body]) -> Iterator[bytes]:
        """The response as UTF-8, in pieces of no more than some MB, without what stands before its first element."""
        rest = _sliced(pieces)
        head = _gathered(rest, b"", _LOOKED_AT)
        ended = len(head) < _LOOKED_AT
        if head.startswith(_UTF_16):
            raise NotData("the answer is UTF-16, which XML-RPC is not read from")
        text = head.removeprefix(_BOM).lstrip(_SPACE)
        if not text:
            raise NotData("the answer's body is empty")
        encoding = "utf-8"
        if declaration := _DECLARATION.match(text):
            encoding = _encoding(declaration[0])
            text = text[declaration.end() :].lstrip(_SPACE)
        if ended and b"<methodResponse".startswith(text):
            raise Cut("the answer ends early, before it says anything")
        if text[:9].upper() == b"<!DOCTYPE" and text[9:].lstrip(_SPACE)[:4].lower() != b"html":
            raise NotData("the answer has a document type, which XML-RPC has not")
        if not text.startswith((b"<methodResponse", b"<!--", b"<?")):
            raise of_other_text(self._hide(text[:_LOOKED_AT].decode(errors="replace")))
        whole = chain([text], rest)
        return whole if encoding in _UTF_8 else _as_utf_8(whole, encoding)


def _next_block(data: bytes, response: Iterator[bytes], form: Form) -> tuple[bytes, bytes]:
    """The next block and what is held after it: after the last one, the response's end. No block where none shows."""
    for held in range(1, _BLOCKS_HELD + 1):
        data = _gathered(response, data, held * BLOCK_BYTES)
        if len(data) < held * BLOCK_BYTES:
            stop = data.rfind(form.member_end) + len(form.member_end)
            return (data[:stop], data[stop:]) if _PLAIN_TAIL.fullmatch(data, stop) else (b"", data)
        stop = data.rfind(form.boundary, 1)
        if stop > 0:
            return data[:stop], data[stop:]
    return b"", data


def _gathered(pieces: Iterator[bytes], data: bytes, least: int) -> bytes:
    """The data and as many pieces as it takes; less than ``least`` bytes only where no piece is left."""
    size = len(data)
    parts = [data]
    while size < least and (piece := next(pieces, None)) is not None:
        parts.append(piece)
        size += len(piece)
    return b"".join(parts)


def _sliced(pieces: Iterable[Body]) -> Iterator[bytes]:
    for piece in pieces:
        view = memoryview(piece)
        for start in range(0, len(view), BLOCK_BYTES):
            yield bytes(view[start : start + BLOCK_BYTES])


def _encoding(declaration: bytes) -> str:
    """The encoding that the XML declaration names, as Python calls it."""
    found = _ENCODING.search(declaration)
    if found is None:
        return "utf-8"
    name = found[1].decode()
    try:
        encoding = codecs.lookup(name).name
    except LookupError:
        encoding = ""
    if encoding not in _UTF_8 | _ENCODINGS:
        raise NotData(f"the answer is encoded as {name[:40]!r}, which XML-RPC is not read from")
    return encoding


def _as_utf_8(pieces: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    decode = codecs.getincrementaldecoder(encoding)("surrogateescape").decode
    return (decode(piece).encode("utf-8", "surrogateescape") for piece in pieces)


__all__ = ["BLOCK_BYTES", "Body", "XmlCodec", "encode_call"]
