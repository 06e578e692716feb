"""Key ranges of a slice that is walked by several cursors, and the seams between them. Pure functions over keys.

Nouns: the *left* and the *right* range of a seam adjoin: where the left one stops, the right one starts. What the left
one *met* is the first key at or after its stop that a page of it held. A range is *opened* by its first page, which
starts at no known record; so its rows are trusted only as far as its left neighbour confirms where it begins.

Invariant: ranges are disjoint and cover every key. A seam is proven when the key that the left range met is the first
key of the right one; then the two are one, and go on from the right one's cursor. Whatever a split was guessed from,
no row is missed: a range goes on until it has met a key that its right neighbour begins with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from harvester.harvest.proof import anchors
from harvester.model import MOST_ANCHORS

if TYPE_CHECKING:
    from harvester.harvest.proof import Step
    from harvester.model import KeyRange

_FIRST_KEYS = 16
"""So many first keys of a range are kept: enough to tell a record that was erased from a range that is not true."""


class Seam(Enum):
    """What is known of a seam."""

    OPEN = auto()
    """The left range has met nothing yet, or the right one has no rows yet."""
    PROVEN = auto()
    """The left range met the first key of the right one."""
    RIGHT_LACKS = auto()
    """The left range met a key before the right one's first: the right one's first page left some out."""
    LEFT_LACKS = auto()
    """The left range met a later key than the right one's first: its page left some out, or they are erased by now."""


@dataclass(frozen=True, slots=True)
class Inside:
    """Which keys of a page are a range's own.

    Attributes:
        first: the index of the first key that is not before the range's start.
        past: the index of the first key that is not before its stop; the number of keys if there is none.
        met: that key; None if there is none.
    """

    first: int
    past: int
    met: int | None


def inside(key_range: KeyRange, keys: pa.Int64Array) -> Inside:
    """Which of these ascending keys are the range's own."""
    first = pc.less(keys, pa.scalar(key_range.start, pa.int64())).true_count
    past = pc.less(keys, pa.scalar(key_range.stop, pa.int64())).true_count
    return Inside(first, past, keys[past].as_py() if past < len(keys) else None)


def opened(key_range: KeyRange, keys: pa.Int64Array, own: Inside, *, short: bool) -> KeyRange:
    """A range after its first page, of which at least one key is its own.

    Args:
        key_range: where the walk is.
        keys: the page's keys.
        own: which of them are the range's own.
        short: whether the page was shorter than asked.
    """
    ours = keys.slice(own.first, own.past - own.first)
    last = ours[-1].as_py()
    return replace(
        key_range,
        cursor=last,
        held=last,
        anchors=anchors(ours, ()),
        short_answers=int(short and own.met is None),
        missing=(),
        first_keys=tuple(ours.slice(0, _FIRST_KEYS).to_numpy().tolist()) if key_range.start else (),
        rows=len(ours) if key_range.start else 0,
    )


def stopped(before: KeyRange, step: Step, keys: pa.Int64Array, own: Inside) -> Step:
    """A page's step, of a page that passes the range's stop: the cursor stays within the range.

    Args:
        before: where the walk was.
        step: the step as it is without a stop.
        keys: the page's keys.
        own: which of them are the range's own; one is, at least: the record that was asked from.
    """
    ours = keys.slice(0, own.past)
    last = ours[-1].as_py()
    held = before.held or 0
    older = (before.cursor, *before.anchors)
    after = replace(
        step.key_range,
        cursor=last,
        held=max(held, last),
        anchors=anchors(ours, tuple(key for key in older if key is not None and key < last and key not in step.erased)),
        short_answers=0,
        missing=(),
    )
    return replace(step, key_range=after, short=False, at_end=False)


def seam(met: int | None, right: KeyRange) -> Seam:
    """What is known of the seam between a range that met a key, or None yet, and its right neighbour."""
    if met is None or not right.first_keys:
        return Seam.OPEN
    if met == right.first_keys[0]:
        return Seam.PROVEN
    return Seam.RIGHT_LACKS if met < right.first_keys[0] else Seam.LEFT_LACKS


def split(key_range: KeyRange, at: int) -> tuple[KeyRange, KeyRange]:
    """A range as two: up to a key after its cursor, and from there on."""
    right = replace(
        key_range,
        start=at,
        cursor=None,
        held=None,
        anchors=(),
        short_answers=0,
        missing=(),
        first_keys=(),
        rows=0,
    )
    return replace(key_range, stop=at), right


def joined(left: KeyRange, right: KeyRange) -> KeyRange:
    """Two neighbours whose seam is proven, as one, which can be asked from the left one's records as well."""
    rows = left.rows + right.rows if left.start else 0
    older = () if left.cursor is None else (left.cursor, *left.anchors)
    known = (*right.anchors, *older)[:MOST_ANCHORS]
    return replace(right, start=left.start, first_keys=left.first_keys, rows=rows, anchors=known)


__all__ = ["Inside", "Seam", "inside", "joined", "opened", "seam", "split", "stopped"]
