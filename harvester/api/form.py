"""How the records of an answer are written, as the first one shows: what stands between the values. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harvester.datasets import Dataset

    Places = NDArray[np.integer[Any]]

_S = rb" {0,64}"
_MEMBER = re.compile(
    _S + rb'"([^"\\\x00-\x1f]{0,1000})":' + _S + rb'(?:"((?:[^"\\\x00-\x1f]|\\.)*+)"|([-0-9a-z]{1,20}))'
)
_NEXT = re.compile(_S + rb"," + _S)
_END = re.compile(_S + rb"\}(" + _S + rb"," + _S + rb")(?=\{)")


@dataclass(frozen=True)
class Form:
    """How the records of an answer are written.

    Attributes:
        dataset: theirs.
        names: of their fields, in the order sent.
        texts: whether each is sent as a text rather than bare.
        between: what stands between each field's value and the next one's; after the last, up to the next record's
            first value. A text's quotes are no part of it.
        head: what stands before a record's first value.
        turn: what stands between two records.
    """

    dataset: Dataset
    names: tuple[str, ...]
    texts: tuple[bool, ...]
    between: tuple[bytes, ...]
    head: bytes
    turn: bytes

    @classmethod
    def of(cls, text: bytes, dataset: Dataset) -> Form | None:
        """The form of records of which ``text`` begins with one; None if that can't be seen in it.

        Nor has something a form that may be no record, or whose fields go by the same name in two letter cases.
        """
        names: list[bytes] = []
        texts: list[bool] = []
        starts: list[int] = []
        ends: list[int] = []
        place = 1
        while found := _MEMBER.match(text, place):
            group = 2 if found[2] is not None else 3
            names.append(found[1])
            texts.append(group == 2)  # noqa: PLR2004
            starts.append(found.start(group))
            ends.append(found.end(group))
            place = found.end()
            following = _NEXT.match(text, place)
            if following is None:
                break
            place = following.end()
        end = _END.match(text, place)
        if end is None or text[:1] != b"{" or len(set(names)) < len(names) or not names:
            return None
        head = text[: starts[0]]
        between = [text[end:start] for end, start in zip(ends, starts[1:], strict=False)]
        between.append(text[ends[-1] : end.end()] + head)
        try:
            decoded = tuple(name.decode() for name in names)
        except UnicodeDecodeError:
            return None
        form = cls(dataset, decoded, tuple(texts), tuple(between), head, end[1])
        places = [place for place in form.places if place is not None]
        if len(set(places)) < len(places) or dataset.key not in {dataset.fields[place].name for place in places}:
            return None
        return form

    @cached_property
    def places(self) -> tuple[int | None, ...]:
        """Where the dataset has each field; None for one that it doesn't know."""
        return tuple(self.dataset.places.get(name.lower()) for name in self.names)

    @cached_property
    def missing(self) -> tuple[int, ...]:
        """The dataset's fields that the records don't have."""
        return tuple(sorted(set(range(len(self.dataset.fields))) - set(self.places)))

    @cached_property
    def quotes(self) -> int:
        """How many of them a record has."""
        return sum(4 if text else 2 for text in self.texts)

    @cached_property
    def starts(self) -> Places:
        """How far from the end of each field's name its value begins."""
        before = (self.between[-1], *self.between[:-1])
        return np.array([len(gap) - gap.rindex(b'":') for gap in before], np.int32)

    @cached_property
    def ends(self) -> Places:
        """How far before the end of the next field's name each value ends."""
        return np.array([gap.rindex(b'":') for gap in self.between], np.int32)

    @cached_property
    def lengths(self) -> Places:
        """Of what stands between the values."""
        return np.array([len(gap) for gap in self.between], np.int32)


__all__ = ["Form"]
