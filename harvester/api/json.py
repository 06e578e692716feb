"""The JSON codec: the bytes of a body in, a raw table or the API's own words out. No I/O.

Three decoders yield the same thing. A list is decoded a slab at a time, as it comes: by the vectorised decoder where
all records are written alike (``alike``), else by ``pyarrow.json`` (``slabs``), else by the exact one (``exact``), so
that one odd record costs little. The exact one is asked for the whole body where none can tell.

Invariant: what the fast decoders accept, the exact one accepts too, with the same result. An error's text never shows
a record.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from harvester.api.alike import Alike
from harvester.api.bounds import check_json, json_marks, most_records
from harvester.api.exact import Gathering, Record, decode_rows
from harvester.api.feed import BOM, WHITESPACE, Feed
from harvester.api.lines import as_lines
from harvester.api.marks import marked_json
from harvester.api.meaning import of_other_text
from harvester.api.records import RawTable, Words, nothing
from harvester.api.saying import holds_key, plain, said
from harvester.api.slabs import Slabs
from harvester.errors import Cut, NotData

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from harvester.api.bounds import Marks
    from harvester.api.form import Form
    from harvester.datasets import Dataset

Body = bytes | bytearray

NAMES_KEPT = 1000
"""How many names of fields that the catalogue doesn't know are remembered from page to page."""

SLAB_BYTES = 2**20
"""How much is decoded at a time: little enough for the processor's cache."""

_MOST_BRACES = 2**21
"""With more of them, looking for where records end takes too long and too much."""

_T_co = TypeVar("_T_co", covariant=True)
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_LOOKED_AT = 4096
_COMMA = ord(",")
_OPEN = ord("{")
_ROWS = msgspec.json.Decoder(list[msgspec.Raw])
_RECORD = msgspec.json.Decoder(Record)
_ANY = msgspec.json.Decoder()
_TRIES = 4
"""So many ends of a slab are tried: one may lie within a text that looks like the end of a record."""
_EDGES = frozenset(bytes([code]) for code in b'[]{}"')


class _Decode(Protocol[_T_co]):
    def __call__(self, body: Body, *, marked: bool) -> _T_co: ...


class JsonCodec:
    """Decodes the answers to one dataset's queries. Threads may share it.

    ``hide`` takes secrets out of what an error shows of an answer that holds no records.

    It remembers names that the catalogue doesn't know, so that the next page takes the fast way; and how records were
    written, which is mostly how they are written everywhere.
    """

    def __init__(self, dataset: Dataset, hide: Callable[[str], str] = str) -> None:
        self.dataset = dataset
        self._hide = hide
        self._met: tuple[str, ...] = ()
        self._form: Form | None = None
        self._most = most_records(dataset)
        self._lock = threading.Lock()

    @property
    def met(self) -> frozenset[str]:
        """Names met so far that the catalogue doesn't know, as sent; at most 1000."""
        return frozenset(self._met)

    def decode_pieces(self, pieces: Iterable[Body]) -> RawTable | Words:
        """Decode a body that comes in pieces, split anywhere.

        A list of records is decoded while it comes. What is something else, or can't be decoded that way, is put
        together: so ``pieces`` is gone over once more then, if it is no iterator.

        Returns:
            The records, none for ``[]``, ``{}``, ``""``, ``null`` and an ``error_status`` of 0; or the API's words
            where it sent those.

        Raises:
            Cut: it begins like JSON and ends early.
            NotData: it is nothing that the API says.
            OverCap: it holds more than any answer of the API can.
            HarvesterError: whatever the pieces themselves raise.
        """
        if isinstance(pieces, Iterator):
            pieces = list(pieces)
        marks = json_marks()
        table = self._in_slabs(pieces, lambda slab: self._exact_slab(slab, marks))
        if table is not None:
            return table
        whole = bytearray()
        for piece in pieces:
            whole += piece
        return self.decode_exact(whole)

    def decode(self, body: Body) -> RawTable | Words:
        """As ``decode_pieces``, of a body that is whole already."""
        return self.decode_pieces((body,))

    def decode_fast(self, body: Body) -> RawTable | None:
        """The records, or None wherever the fast decoders can't tell. Raises OverCap, as ``decode``."""
        return self._in_slabs((body,), _none)

    def decode_exact(self, body: Body) -> RawTable | Words:
        """As ``decode``, by the exact decoder alone."""
        body = _trimmed(body)
        check_json(body, self._most)
        try:
            return _perhaps_marked(body, self._exact, json_marks())
        except _NOT_JSON as error:
            ended = {b"[": b"]", b"{": b"}"}.get(bytes(body[:1]))
            if ended and (body[-1:] != ended or "truncated" in str(error)):
                raise Cut(f"the answer ends early, after {len(body)} bytes") from None
        raise NotData("the answer begins like JSON and is not")

    def _in_slabs(self, pieces: Iterable[Body], otherwise: Callable[[Body], RawTable | None]) -> RawTable | None:
        """A list's records, a slab at a time; None where neither the fast ways nor ``otherwise`` can tell.

        Where slabs end is guesswork. It is right if each slab by itself is a list's inside, since JSON is read from
        its start: what is whole up to there would be read likewise if the rest were there.
        """
        feed = Feed(pieces)
        if not feed.opens_list(min(SLAB_BYTES, _LOOKED_AT)):
            return None
        gathered = Gathering(self.dataset)
        alike, slabs = Alike(self.dataset, self._form), Slabs(self.dataset, self._met)
        braces = 0
        while feed.fill(SLAB_BYTES):
            found = alike.decode(feed.text, last=feed.ended)
            if found is not None:
                gathered.add(found[0])
                feed.drop(found[1])
                continue
            braces += feed.text.count(b"{")
            if braces > _MOST_BRACES:
                return None
            lines, separators = as_lines(b"[" + feed.text + b"]")
            if not separators and not feed.ended and len(feed.text) < 2 * SLAB_BYTES:
                feed.fill(4 * SLAB_BYTES)
                lines, separators = as_lines(b"[" + feed.text + b"]")
            learned = slabs.learn(lines, separators, SLAB_BYTES)
            if not separators and not (feed.ended and (learned or gathered)):
                return None  # the only record of an answer may be words
            found = _slab(slabs if learned else None, otherwise, lines, separators, ended=feed.ended)
            if found is None:
                return None
            gathered.add(found[0])
            feed.drop(found[1])
        if not feed.closed:
            return None
        whole = gathered.table()
        self._form = alike.form
        self._remember(whole.met)
        return whole

    def _exact_slab(self, slab: Body, marks: Marks) -> RawTable | None:
        if len(slab) > 2 * SLAB_BYTES:
            return None  # records of that size, or none at all: what they hold has to be bounded first, as a whole
        try:
            return _perhaps_marked(b"[" + slab + b"]", self._exact_rows, marks)
        except _NOT_JSON:
            return None

    def _exact(self, body: Body, *, marked: bool) -> RawTable | Words:
        start = bytes(body[:1])
        if start == b"[":
            table = self._exact_list(body, marked=marked)
            if isinstance(table, RawTable):
                self._remember(table.met)
            return table
        if start == b"{":
            return self._exact_object(body, marked=marked)
        if not start:
            raise NotData("the answer's body is empty")
        if start == b'"' or body == b"null":
            words = _ANY.decode(body)
            return Words(plain(words) if marked else words) if words else nothing(self.dataset)
        raise of_other_text(self._hide(bytes(body[:_LOOKED_AT]).decode(errors="replace")))

    def _exact_list(self, body: Body, *, marked: bool) -> RawTable | Words:
        rows = _rows(body)
        if rows is None:
            raise NotData("the answer is a list, and not of records")
        if len(rows) == 1 and (words := said(_RECORD.decode(rows[0]), self.dataset, marked=marked)) is not None:
            return words
        return decode_rows(rows, self.dataset, marked=marked)

    def _exact_rows(self, body: Body, *, marked: bool) -> RawTable | None:
        """The records of a slab; None if they are not what they seem."""
        rows = _rows(body)
        return None if rows is None else decode_rows(rows, self.dataset, marked=marked)

    def _exact_object(self, body: Body, *, marked: bool) -> RawTable | Words:
        record = _RECORD.decode(body)
        if not record:
            return nothing(self.dataset)
        if holds_key(record, self.dataset):
            table = decode_rows([msgspec.Raw(bytes(body))], self.dataset, marked=marked)
            self._remember(table.met)
            return table
        if (words := said(record, self.dataset, marked=marked)) is not None:
            return words
        raise NotData("the answer is an object that is neither a record nor an error")

    def _remember(self, met: frozenset[str]) -> None:
        if met <= frozenset(self._met):
            return
        with self._lock:
            self._met = tuple(dict.fromkeys([*self._met, *sorted(met)]))[:NAMES_KEPT]


def _slab(
    slabs: Slabs | None,
    otherwise: Callable[[Body], RawTable | None],
    lines: bytearray,
    separators: Sequence[int],
    *,
    ended: bool,
) -> tuple[RawTable, int] | None:
    """A slab's records, by ``slabs`` or ``otherwise``, and where they end; None where neither can tell."""
    stop, rows = (len(lines) - 1, len(separators) + 1) if ended else (separators[-1], len(separators))
    table = None if slabs is None else slabs.decode(lines, stop, rows)
    if table is not None:
        return table, stop
    for place in separators:
        lines[place] = _COMMA
    for end in [stop] if ended else reversed(separators[-_TRIES:]):
        table = otherwise(lines[1:end])
        if table is not None:
            return table, end
    return None


def _perhaps_marked(body: Body, decode: _Decode[_T_co], marks: Marks) -> _T_co:
    """What ``decode`` makes of the body as it is or, where that can't be decoded, of the body with marks in it."""
    if b"\\u0000" not in body:
        try:
            return decode(body, marked=False)
        except _NOT_JSON:
            marks.spend(body)
            marked = marked_json(body)
            if marked is None:
                raise
    else:
        marks.spend(body)
        marked = marked_json(body)
    return decode(body, marked=False) if marked is None else decode(marked, marked=True)


def _rows(body: Body) -> list[msgspec.Raw] | None:
    """A list's records as sent; None if something else is among them."""
    rows = _ROWS.decode(body)
    return None if any(memoryview(row)[0] != _OPEN for row in rows) else rows


def _none(_: Body) -> None:
    return None


def _trimmed(body: Body) -> Body:
    """The body without a byte order mark and whitespace around it; a copy only where there was some."""
    if body[:3] == BOM:
        body = body[3:]
    if bytes(body[:1]) in _EDGES and bytes(body[-1:]) in _EDGES:
        return body
    return body.strip(WHITESPACE)


__all__ = ["NAMES_KEPT", "Body", "JsonCodec", "Words"]
