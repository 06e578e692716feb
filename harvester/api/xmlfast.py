"""The fast XML-RPC decoder: records that look all alike, a block at a time, by ``pyarrow.compute``. No object a value.

The first record shows how the answer is written: which whitespace stands where. With that, a block falls into members
at each ``</value></member>``, and a member into name and value at ``</name><value>``. All that stands around the
values must be what it was seen to be, byte by byte, and no value may hold markup; else this decoder can't tell.

Invariant: what it accepts, the exact decoder accepts too, with the same result.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute

from harvester.api.records import RawColumn, RawTable, absent, as_json, is_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harvester.datasets import Dataset

_S = rb"[ \t\r\n]{0,64}"  # bounded: a search must not begin anew at each of a million spaces
_OPENING = re.compile(rb"<value>" + _S + rb"<struct>")
_TURN = re.compile(rb"(" + _S + rb"</struct>" + _S + rb"</value>" + _S + rb")<value>" + _S + rb"<struct>")
_NAME_END = re.compile(rb"</name>" + _S + rb"<value>(" + _S + rb")")
_MEMBER_END = re.compile(rb"(?:>(" + _S + rb"))?</value>" + _S + rb"</member>")
_HEAD = re.compile(_S + rb"<member>" + _S + rb"<name>([^<>&]*)")
_TYPES = (b"string", b"i4", b"int", b"i8", b"double", b"boolean", b"dateTime.iso8601")
_ESCAPES = {
    **{f"&{name};": char for name, char in {"lt": "<", "gt": ">", "quot": '"', "apos": "'"}.items()},
    **{f"&#{code};": chr(code) for code in (9, 10, 13, 34, 39)},
    "&#xD;": "\r",
    "&#x27;": "'",
    "&amp;": "&",  # last: what it makes is no escape
}
_ESCAPE = "|".join(map(re.escape, _ESCAPES))
_AND = re.compile(b"&")
_LESS = re.compile(b"<")
_COMPACT_DATE = rb"\A([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2}:[0-9]{2}:[0-9]{2})\z"

_MOST_NAMES = 1000
_NONE, _ONE, _TWO = (pa.scalar(number, pa.int32()) for number in range(3))
_EMPTY, _NULL = pa.scalar(b""), pa.scalar(None, pa.binary())

pc: Any = pyarrow.compute

Texts = Any
"""An array of bytes: pyarrow's stubs know most functions for text alone."""


@dataclass(frozen=True, slots=True)
class Form:
    """How an answer is written.

    Attributes:
        turn: what stands between two records: the end of one, and whitespace.
        boundary: the same, and the beginning of the next.
        member_end: what stands between a value and the next member.
        name_end: what stands between a member's name and its value, without the whitespace that ``tight`` is about.
        before: the whitespace between ``<value>`` and the element within.
        after: the whitespace between that element and ``</value>``.
    """

    turn: bytes
    boundary: bytes
    member_end: bytes
    name_end: bytes
    before: bytes
    after: bytes

    @classmethod
    def of(cls, text: bytes) -> Form | None:
        """The form of records that begin with ``text``; None if that can't be seen in it."""
        opening, turn = _OPENING.match(text), _TURN.search(text)
        name_end, member_end = _NAME_END.search(text), _MEMBER_END.search(text)
        if not (opening and turn and name_end and member_end and turn[0] == turn[1] + opening[0]):
            return None
        before = name_end[1]
        return cls(
            turn=turn[1],
            boundary=turn[0],
            member_end=member_end[0][member_end[0].index(b"</value>") :],
            name_end=name_end[0].removesuffix(before) if before else name_end[0],
            before=before,
            after=member_end[1] or b"",
        )


def decode_block(block: bytes, form: Form, dataset: Dataset) -> RawTable | None:
    """The records of a block, or None wherever this decoder can't tell.

    Args:
        block: records one after the other, with what stands before the first one, up to the last one's last member.
        form: how the answer is written.
        dataset: whose fields become columns.
    """
    if not (block.startswith(form.boundary) and block.endswith(form.member_end)):
        return None
    members = _split(_alone(block), form.member_end)
    members = members.slice(0, len(members) - 1)
    halves = _split(members, form.name_end, max_splits=1)
    if len(halves) != 2 * len(members):
        return None
    even = pc.multiply(_count(len(members)), _TWO)
    values = _values(halves.take(pc.add(even, _ONE)), form, ascii_only=block.isascii())
    if values is None:
        return None
    return _Block(halves.take(even), values, form, dataset).table()


class _Block:
    """A block's members: the head of each, which holds its name, and its value."""

    def __init__(self, heads: Texts, values: pa.StringArray, form: Form, dataset: Dataset) -> None:
        self._heads = heads
        self._values = values
        self._form = form
        self._dataset = dataset
        self._position = dataset.places
        self._starts = pc.starts_with(heads, form.boundary)
        self._rows = int(pc.sum(self._starts).as_py() or 0)

    def table(self) -> RawTable | None:
        width = len(self._heads) // self._rows
        first = self._heads.slice(0, width)
        if width * self._rows == len(self._heads):
            repeated = pa.concat_arrays([first] * self._rows)
            if pc.all(pc.equal(self._heads, repeated)).as_py():
                return self._alike(first.to_pylist())
        return self._unlike()

    def _alike(self, heads: list[bytes]) -> RawTable | None:
        """Where all records have the same members in the same order."""
        names = [self._name(head, starts=number == 0) for number, head in enumerate(heads)]
        if len(set(names)) < len(names):
            return None
        width, rows = len(names), self._rows
        number = _count(len(self._heads))
        column = pc.divide(number, pa.scalar(rows, pa.int32()))
        row = pc.subtract(number, pc.multiply(column, pa.scalar(rows, pa.int32())))
        turned = self._values.take(pc.add(pc.multiply(row, pa.scalar(width, pa.int32())), column))
        return self._table([(name, turned.slice(at * rows, rows), None) for at, name in enumerate(names)])

    def _unlike(self) -> RawTable | None:
        """Where members are missing here and there, or in another order."""
        encoded = self._heads.dictionary_encode()
        heads = encoded.dictionary.to_pylist()
        names = [self._name(head, starts=head.startswith(self._form.boundary)) for head in heads]
        distinct = list(dict.fromkeys(names))
        if len(distinct) > _MOST_NAMES:
            return None
        of_head = pa.array([distinct.index(name) for name in names], pa.int32())
        of_member = of_head.take(encoded.indices)
        rows = pc.cumulative_sum(pc.cast(self._starts, pa.int32()))
        found: list[tuple[str | None, pa.StringArray, pa.Array[Any] | None]] = []
        for number, name in enumerate(distinct):
            here = pc.equal(of_member, pa.scalar(number, pa.int32()))
            rows_here = rows.filter(here)
            if pc.any(pc.equal(pc.pairwise_diff(rows_here), _NONE)).as_py():
                return None  # one record has it twice
            values = self._values.filter(here)
            if len(rows_here) == self._rows:
                found.append((name, values, None))
                continue
            place = pc.index_in(pc.add(_count(self._rows), _ONE), value_set=rows_here)
            found.append((name, values.take(place), pc.is_valid(place)))
        return self._table(found)

    def _table(self, found: Sequence[tuple[str | None, pa.StringArray, pa.Array[Any] | None]]) -> RawTable | None:
        """The table of columns by name as sent; with each, where it is there at all, or None for everywhere."""
        columns: dict[int, RawColumn] = {}
        extras: dict[str, pa.StringArray] = {}
        for name, values, present in found:
            if name is None:
                return None
            number = self._position.get(name.lower())
            if number is None:
                extras[name] = pa.array(list(_pieces(values, present)), pa.string())
            elif number in columns:
                return None  # one field in two letter cases
            else:
                columns[number] = RawColumn(values, name)
        if self._position[self._dataset.key] not in columns:
            return None
        every = tuple(
            columns.get(number) or RawColumn(absent(self._rows), column.api_name)
            for number, column in enumerate(self._dataset.fields)
        )
        return RawTable(self._rows, every, extras, frozenset(extras))

    def _name(self, head: bytes, *, starts: bool) -> str | None:
        """The name in a member's head; None if there is anything else than it should be."""
        if starts:
            head = head.removeprefix(self._form.boundary)
        found = _HEAD.fullmatch(head)
        try:
            return found[1].decode() if found and b"\0" not in head else None
        except UnicodeDecodeError:
            return None


def _pieces(values: pa.StringArray, present: pa.Array[Any] | None) -> Iterator[str | None]:
    there = [True] * len(values) if present is None else present.to_pylist()
    for value, is_there in zip(values.to_pylist(), there, strict=True):
        yield ("null" if value is None else as_json(value)) if is_there else None


def _values(sent: Texts, form: Form, *, ascii_only: bool) -> pa.StringArray | None:
    """The values as text, from what stands between ``<value>`` and ``</value>``; None if there is any other markup."""
    masks: list[Texts] = []
    values: list[Texts] = []
    left = len(sent)
    for kind in _TYPES:
        opening, closing = form.before + b"<" + kind + b">", b"</" + kind + b">" + form.after
        here = pc.and_(pc.starts_with(sent, opening), pc.ends_with(sent, closing))
        if count := int(pc.sum(here).as_py() or 0):
            masks.append(here)
            values.append(_converted(kind, pc.binary_slice(sent, len(opening), -len(closing))))
            left -= count
        if not left:
            break
    else:
        for kind, value in ((b"string", _EMPTY), (b"nil", _NULL)):
            here = pc.equal(sent, form.before + b"<" + kind + b"/>" + form.after)
            masks.append(here)
            values.append(value)
            left -= int(pc.sum(here).as_py() or 0)
        if left and (form.before or form.after):
            return None  # whitespace around a value without a type belongs to it
    texts = values[0] if len(masks) == 1 and not left else pc.case_when(pc.make_struct(*masks), *values, sent)
    data = texts.buffers()[2]
    if data is not None and _LESS.search(memoryview(data)):
        return None
    if data is not None and _AND.search(memoryview(data)):
        texts = _unescaped(texts)
    if texts is None:
        return None
    texts = texts.view(pa.string())
    return texts if is_text(texts, ascii_only=ascii_only) else None


def _converted(kind: bytes, values: Texts) -> Texts:
    if kind == b"boolean":
        for sent, said in ((b"1", b"true"), (b"0", b"false")):  # ``if_else`` is not to be used: see records.without
            values = pc.replace_with_mask(values, pc.equal(values, sent), pa.scalar(said, values.type))
        return values
    if kind == b"dateTime.iso8601":
        return pc.replace_substring_regex(values, _COMPACT_DATE, rb"\1-\2-\3 \4")
    return values


def _unescaped(texts: Texts) -> Texts | None:
    """Texts with the usual escapes undone; None if there is another ``&``."""
    here = pc.fill_null(pc.match_substring(texts, "&"), fill_value=False)
    some = texts.filter(here)
    escapes = pc.sum(pc.count_substring_regex(some, _ESCAPE)).as_py()
    if escapes != pc.sum(pc.count_substring(some, "&")).as_py():
        return None
    for escape, char in _ESCAPES.items():
        some = pc.replace_substring(some, escape, char)
    return pc.replace_with_mask(texts, here, some)


def _alone(data: bytes) -> Texts:
    """An array with one value, which is not copied."""
    offsets = pa.array([0, len(data)], pa.int32()).buffers()[1]
    return pa.Array.from_buffers(pa.binary(), 1, [None, offsets, pa.py_buffer(data)])


def _split(values: Texts, pattern: bytes, max_splits: int | None = None) -> Texts:
    """All parts of all values in one array."""
    return pc.split_pattern(values, pattern, max_splits=max_splits).values


def _count(stop: int) -> pa.Array[Any]:
    """0, 1, 2 … as int32, not including ``stop``."""
    return _counted(1 << stop.bit_length()).slice(0, stop)


@lru_cache(maxsize=4)
def _counted(stop: int) -> pa.Array[Any]:
    return pa.array(range(stop), pa.int32())


__all__ = ["Form", "decode_block"]
