"""The vectorised JSON decoder: records written all alike, a slab at a time, by numpy. No object a value.

Each field's name ends with ``":``. Where records have the same fields in the same order, the n-th of these in each ends
the same name; all that stands between the values is, byte by byte, what it is in the first record; and the values are
what is left. A slab for which that holds, and whose values have no quote in them, is a slab of records. Where it
doesn't hold, this decoder can't tell.

Invariant: what it accepts, the exact decoder accepts too, with the same result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from harvester.api.form import Form
from harvester.api.records import RawColumn, RawTable, absent, as_json, without

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harvester.datasets import Dataset

    Places = NDArray[np.integer[Any]]

_BARE = r"^(?:-?(?:0|[1-9][0-9]{0,17})|true|false|null)$"
_NUL = b"\\u0000"
_QUOTE, _COLON, _SPACE = b'": '
_BACKSLASH = b"\\"
_MOST_MISSES = 4
"""After so many slabs in a row that it can't tell of, it doesn't try the answer's others."""
_TEXTS = msgspec.json.Decoder(list[str])
_AS_NULL = pa.scalar("null")


class Alike:
    """Decodes slabs of one answer. It learns from the first record of a slab how records are written.

    Attributes:
        form: how they were last seen to be written; None if that is not known.
    """

    def __init__(self, dataset: Dataset, form: Form | None = None) -> None:
        """What it is about.

        Args:
            dataset: whose fields become columns.
            form: how the records of an earlier answer were written: to look whether these are written likewise takes
                much less than to learn it, where an answer holds a few.
        """
        self.form = form
        self._dataset = dataset
        self._misses = 0

    def decode(self, text: bytes, *, last: bool) -> tuple[RawTable, int] | None:
        """The records of a slab, and how much of the text they take; None wherever this decoder can't tell.

        Args:
            text: what begins with a record, the beginning of one more at its end perhaps.
            last: whether it ends with a record, the answer's last one.
        """
        if self._misses > _MOST_MISSES:
            return None
        found = None if self.form is None else _decode(text, self.form, last=last)
        if found is None:
            own = Form.of(text, self._dataset)
            if own is not None and own != self.form:
                found = _decode(text, own, last=last)
            self.form = own
        self._misses = 0 if found is not None else self._misses + 1
        return found


def _decode(text: bytes, form: Form, *, last: bool) -> tuple[RawTable, int] | None:
    if not last:
        return Window(text, form).decode()
    found = Window(text + form.turn + form.head, form).decode()
    return (found[0], len(text)) if found and found[1] == len(text) + len(form.turn) else None


@dataclass(frozen=True, slots=True)
class Window:
    """Some text that begins with a record: a slab of records, and perhaps the beginning of one more.

    Attributes:
        text: that text.
        form: how the records are written, if they are.
    """

    text: bytes
    form: Form

    def decode(self) -> tuple[RawTable, int] | None:
        """The records that end in it, and where the next one begins; None wherever this decoder can't tell."""
        text, form = self.text, self.form
        codes = np.frombuffer(text, np.uint8)
        if not text.startswith(form.head) or codes.min() < _SPACE or (_BACKSLASH in text and _NUL in text):
            return None
        quoting = codes == _QUOTE
        escapes = _escapes(codes, quoting) if _BACKSLASH in text else None
        offsets = self._offsets(np.flatnonzero(quoting[:-1] & (codes[1:] == _COLON)).astype(np.int32))
        if offsets is None:
            return None
        rows, end = len(offsets) // (2 * len(form.names)), int(offsets[-1])
        if np.count_nonzero(quoting[:end]) != rows * form.quotes + form.head.count(b'"') or not self._is_text(end):
            return None
        table = _Values(self, offsets, rows, escapes).table()
        return None if table is None else (table, end - len(form.head))

    def _offsets(self, names: NDArray[np.int32]) -> NDArray[np.int32] | None:
        """Where each value begins and ends, by where the names end; None if that can't be."""
        form, fields = self.form, len(self.form.names)
        rows = (len(names) - 1) // fields
        if rows <= 0:
            return None
        offsets = np.empty(2 * rows * fields + 1, np.int32)
        values = offsets[:-1].reshape(rows, fields, 2)
        values[:, :, 0] = names[: rows * fields].reshape(rows, fields) + form.starts
        values[:, :, 1] = names[1 : rows * fields + 1].reshape(rows, fields) - form.ends
        offsets[-1] = offsets[-2] + len(form.between[-1])
        between = (offsets[2::2] - offsets[1::2]).reshape(rows, fields)
        if (offsets[1:] < offsets[:-1]).any() or offsets[-1] > len(self.text) or (between != form.lengths).any():
            return None
        return offsets

    def _is_text(self, end: int) -> bool:
        """Whether it is UTF-8 up to there, which is where a text begins: so all values are."""
        offsets = pa.py_buffer(np.array([0, end], np.int32).data)
        try:
            pa.StringArray.from_buffers(1, offsets, pa.py_buffer(self.text)).validate(full=True)
        except pa.ArrowInvalid:
            return False
        return True


def _escapes(codes: NDArray[np.uint8], quoting: NDArray[np.bool_]) -> Places:
    """Where backslashes are; takes the quotes that they escape out of ``quoting``."""
    found = np.flatnonzero(codes == ord(_BACKSLASH))
    last = np.append(np.diff(found) != 1, True)  # of a row of them
    first = np.append(True, last[:-1])
    ends = found[last]
    odd = (ends - found[first]) % 2 == 0
    escaped = ends[odd] + 1
    quoting[escaped[escaped < len(quoting)]] = False
    return found


class _Values:
    """The values of a window, and what stands between them."""

    def __init__(self, window: Window, offsets: NDArray[np.int32], rows: int, escapes: Places | None) -> None:
        self._form = window.form
        self._rows = rows
        self._offsets = offsets
        self._escapes = escapes
        text = pa.py_buffer(window.text)
        self._pieces = pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets.data), text)

    def table(self) -> RawTable | None:
        """The table; None if there is something else in the window."""
        arrays = self._arrays()
        if arrays is None:
            return None
        form = self._form
        fields = form.dataset.fields
        columns = {place: RawColumn(absent(self._rows), fields[place].api_name) for place in form.missing}
        extras: dict[str, pa.StringArray] = {}
        for name, place, array in zip(form.names, form.places, arrays, strict=True):
            if place is None:
                extras[name] = _as_pieces(array)
            else:
                columns[place] = RawColumn(array, name)
        return RawTable(self._rows, tuple(columns[place] for place in range(len(fields))), extras, frozenset(extras))

    def _arrays(self) -> list[pa.StringArray] | None:
        """The values of each field, in the order sent."""
        count, fields, rows = len(self._pieces), len(self._form.names), self._rows
        between = self._pieces.take(_indices(np.arange(1, count, 2, dtype=np.int32))).buffers()[2]
        wanted = pa.py_buffer(b"".join(self._form.between) * rows)
        if between is None or not between.slice(0, wanted.size).equals(wanted):
            return None
        places = np.arange(0, count, 2 * fields, dtype=np.int32) + 2 * np.arange(fields, dtype=np.int32)[:, None]
        values = self._unescaped(self._pieces.take(_indices(places)))
        if values is None:
            return None
        arrays = [values.slice(field * rows, rows) for field in range(fields)]
        for field, is_text in enumerate(self._form.texts):
            if not is_text:
                bare = arrays[field]
                if not pc.all(pc.match_substring_regex(bare, _BARE)).as_py():
                    return None
                arrays[field] = without(bare, pc.equal(bare, _AS_NULL))
        return arrays

    def _unescaped(self, values: pa.StringArray) -> pa.StringArray | None:
        """The values, field by field, without escapes; None if one is no text."""
        if self._escapes is None:
            return values
        pieces = np.unique(np.searchsorted(self._offsets, self._escapes, side="right") - 1)
        pieces = pieces[pieces < len(self._pieces)]
        if not len(pieces):
            return values
        row, field = np.divmod(pieces // 2, len(self._form.names))
        where = np.sort(field * self._rows + row)
        escaped: list[Any] = values.take(_indices(where.astype(np.int32))).cast(pa.binary()).to_pylist()
        try:
            plain = pa.array(_TEXTS.decode(b'["' + b'","'.join(escaped) + b'"]'), pa.string())
        except (msgspec.DecodeError, UnicodeError):
            return None
        chosen = np.zeros(len(values), np.bool_)
        chosen[where] = True
        bits = pa.py_buffer(np.packbits(chosen, bitorder="little").data)
        mask = pa.BooleanArray.from_buffers(pa.bool_(), len(values), [None, bits])
        return cast("pa.StringArray", pc.replace_with_mask(values, cast("Any", mask), plain))


def _indices(numbers: NDArray[np.int32]) -> pa.Int32Array:
    buffer = pa.py_buffer(np.ascontiguousarray(numbers).data)
    return cast("pa.Int32Array", pa.Array.from_buffers(pa.int32(), numbers.size, [None, buffer]))


def _as_pieces(values: pa.StringArray) -> pa.StringArray:
    """What ``_extra`` holds of them."""
    return pa.array(["null" if value is None else as_json(value) for value in values.to_pylist()], pa.string())


__all__ = ["Alike"]
