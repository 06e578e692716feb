"""Where a send is split, so that a permit that nobody else can use is used: a pure function over plain numbers.

A permit is idle when it is there and no walk is ready to ask. It then takes keys from the range that has most left to
ask: not half of them where several permits are idle, but as many as come to each of them. Pieces are whole pages of the
left range by its density, a little less, so that its last page shows the seam as well: then splitting costs no query.

All of this is guessing: it decides what is asked, and never what is true.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harvester.harvest.spacing import Profile
from harvester.model import KEY_END

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harvester.harvest.spacing import Spacing

_LEAST_PAGES = 1.0
"""Less than this is not worth a query of its own: the range's next page may well hold it."""
_WORTH = 3.0
"""Where so many pages are left, a split may cost a query; else it may not."""
_ODD = 0.05
"""So little of a page is left to the right rather than have a whole one more to the left."""
_FAIR = 1.25
"""A range is split if it has so many times as much left as comes to each permit."""
_SURE = 1.5
"""So many standard deviations less than whole pages are left to a range: its last page has to pass its stop."""
_SLACK_ROWS = 2
_AHEAD = 2.0
"""Where nobody knows how many rows a send has, so many more than are known are looked for, as a share of these."""
_BLIND = 0.125
"""So many first pages may be asked for where nobody knows whether there are any keys, as a share of all pages."""
_ABOUT = 0.15
_NEAR = 1.1
_NEAR_ROWS = 8
"""So much more than the rows that seem to be left before a stop are asked for: asking again costs more than rows."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """What is known of a key range that is walked.

    Attributes:
        start: its first key.
        stop: the first key after it.
        cursor: the last key seen in it; None before its first page.
        spacing: how far apart keys lie near the cursor; None where no page tells.
        page_rows: new records that a page brings.
        ended: whether it seems to have nothing left: it came to its stop, or to the send's end.
        first_density: records to a key where it starts; None where no page tells.
        in_flight: whether a query of it is under way. Nothing is taken from one that is not: it waits for something.
    """

    start: int
    stop: int
    cursor: int | None
    spacing: Spacing | None
    page_rows: int
    in_flight: bool
    ended: bool = False
    first_density: float | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """Where to split: which of the stretches, and at which key. ``pages`` is how much that seems to take off it."""

    place: int
    at: int
    pages: float


def cut(
    stretches: Sequence[Stretch], *, idle: int, rows: int, expected: int | None, empty_from: int | None
) -> Cut | None:
    """Where a send's ranges should be split for a permit that is idle; None if that would be no good.

    Args:
        stretches: the send's key ranges, in key order.
        idle: permits that are idle, this one included.
        rows: rows taken of the send.
        expected: rows that it should have, where known.
        empty_from: a key from which on there seemed to be none; None if there is no such key.
    """
    profile = _profile(stretches)
    if profile is None:
        return None
    left = _left(stretches, profile, rows, expected, empty_from)
    pages = [max(0.0, more / one.page_rows - one.in_flight) for one, more in zip(stretches, left, strict=True)]
    place = max(range(len(pages)), key=lambda place: (_is_open(stretches[place]), pages[place]))
    chosen, most = stretches[place], pages[place]
    looks = _looks_further(stretches, place, rows, expected)
    workers = sum(one.in_flight for one in stretches) + idle
    share = (sum(pages) + sum(one.in_flight for one in stretches)) / workers
    far = _far(stretches, pages, place, share, idle, looks, profile)
    if far is None and AHEAD:
        far = _ahead(stretches, pages, idle, profile, rows, expected)
    return far

def _far(stretches, pages, place, share, idle, looks, profile):
    chosen, most = stretches[place], pages[place]
    whole = most + 1
    if not _is_open(chosen) or most < _LEAST_PAGES or whole < FAIR * share: return None
    workers = sum(one.in_flight for one in stretches) + idle
    pieces = min(idle + 1 if IDLE else 999, max(2, round(whole / share)), looks)
    if pieces < 2: return None
    guesses = sum(one.cursor is None for one in stretches)
    far = max(1, round(FARS * (workers - 1))) - guesses
    if far <= 0: return None
    if pieces > far + 1:
        take = (whole - (pieces - 1 - far)) / (far + 1)
    else:
        take = whole / pieces
    keep = math.ceil(whole - take - _ODD) - 1
    keep -= most - keep < _LEAST_PAGES
    if keep < 0: return None
    slack = _slack(keep + 1, chosen)
    if most < _WORTH and keep + _queries(most - keep + slack, chosen) > _queries(most, chosen):
        return None
    room = max(0.0, math.ceil(whole + slack) - whole) * (keep + 1) / math.ceil(whole + slack)
    slack = max(slack, min(PROP * (keep + 1), room))
    at = profile.key_after(chosen.cursor, (keep + 1 - slack) * chosen.page_rows)
    return Cut(place, at, most - keep) if chosen.cursor < at < chosen.stop else None

def _ahead(stretches, pages, idle, profile, rows, expected):
    for place in sorted((p for p in range(len(pages)) if _is_open(stretches[p]) and pages[p] >= MIN), key=lambda p: -pages[p]):
        chosen, most = stretches[place], pages[place]
        whole = most + 1
        one = _slack(1, chosen) * SL
        n = math.ceil(whole + one)
        k = min(idle, n - 1, _looks_further(stretches, place, rows, expected) - 1)
        if k < 1 or one > .4: continue
        slack = k * one
        if n - whole < slack + one and whole < _WORTH2:
            level = sum(math.ceil(p) >= math.ceil(most) for p in pages)
            if level > idle or not EXTRA: continue
            n += 1
        slack = max(slack, min(PROP * k, (n - whole) * k / n))
        at = profile.key_after(chosen.cursor, (k - slack) * chosen.page_rows)
        if chosen.cursor < at < chosen.stop: return Cut(place, at, whole - k)
    return None

import os
CEIL=float(os.environ.get("CEIL","2")); OVER=float(os.environ.get("OVER","0")); FARS=float(os.environ.get('FARS','1')); IDLE=int(os.environ.get("IDLE","0")); EXTRA=int(os.environ.get('EXTRA','0')); AHEAD=int(os.environ.get('AHEAD','1')); MIN=float(os.environ.get('MIN','1')); SL=float(os.environ.get('SL','1')); _WORTH2=float(os.environ.get('WORTH2','4')); EQ=int(os.environ.get("EQ","1")); LESS=float(os.environ.get("LESS","0"))
DIV=int(os.environ.get("DIV","1")); FAIR=float(os.environ.get("FAIR","1.25")); ODDS=float(os.environ.get("ODDS","0"))
FAR=float(os.environ.get("FAR","1")); NEAR=int(os.environ.get("NEAR","0")); PROP=float(os.environ.get("PROP",".5")); TAIL=float(os.environ.get("TAIL","1")); NORM=float(os.environ.get("NORM","0"))

def _slack(pages: float, stretch: Stretch) -> float:
    """How many pages, of so many, have to be left over so that the last one passes a stop for sure."""
    assert stretch.spacing is not None
    return (_SURE * stretch.spacing.off_by(pages * stretch.page_rows) + _SLACK_ROWS) / stretch.page_rows


def _queries(pages: float, stretch: Stretch) -> int:
    """How many queries it surely takes to get so many pages and to pass the stop after them."""
    return math.ceil(pages + _slack(pages, stretch))


def _is_open(stretch: Stretch) -> bool:
    """Whether keys can be taken off a stretch: it is known where it is, and a query of it is under way."""
    return stretch.in_flight and stretch.cursor is not None and stretch.spacing is not None


def _profile(stretches: Sequence[Stretch]) -> Profile | None:
    known = [(one.start, one.first_density) for one in stretches if one.first_density is not None]
    known += [(one.cursor, one.spacing.density) for one in stretches if one.spacing and one.cursor is not None]
    return Profile(known) if known else None


def _left(
    stretches: Sequence[Stretch], profile: Profile, rows: int, expected: int | None, empty_from: int | None
) -> list[float]:
    """How many rows seem to be left of each stretch."""
    here = [one.start if one.cursor is None else one.cursor for one in stretches]
    left = [0.0 if one.ended else profile.rows(key, one.stop) for one, key in zip(stretches[:-1], here, strict=False)]
    inner, last = sum(left), stretches[-1]
    if last.ended:
        if NORM and expected is not None and rows < expected and inner > 0:
            f = min(1+NORM, max(1/(1+NORM), (expected - rows)/inner))
            left = [x*f for x in left]
        return [*left, 0.0]
    said = expected is not None and rows < expected
    rest = max(0.0, (expected or 0) - rows - inner) if said else _AHEAD * (rows + inner)
    if empty_from is not None:
        tail = profile.rows(here[-1], empty_from)
        if NORM and said and tail < rest and inner + tail > 0:
            f = min(1+NORM, (expected - rows) / (inner+tail))
            return [x*f for x in (*left, tail)]
        rest = min(rest, tail)
    return [*left, rest]


def worth_a_look(rows: int, expected: int | None, limit: int) -> bool:
    """Whether a send that is not split may have so much left that it could be: most sends are small, and no matter."""
    rest = _AHEAD * rows if expected is None or rows >= expected else expected - rows
    return rest > limit


def _looks_further(stretches: Sequence[Stretch], place: int, rows: int, expected: int | None) -> int:
    """Into how many pieces a stretch may be cut, as far as nobody knows whether there are any keys to its right.

    Where the number of rows was not said, or was too low, first pages that come back empty would be too many.
    """
    to_the_right = stretches[place + 1 :]
    if any(one.cursor is not None for one in to_the_right) or (expected is not None and rows < expected):
        return len(stretches) + rows  # as many as anybody wants
    return 1 + max(0, int(max(1.0, _BLIND * rows / stretches[place].page_rows)) - len(to_the_right))


def adds_up(stretches: Sequence[Stretch], rows: int, expected: int) -> bool:
    """Whether the rows taken and those that seem to be left come to about as many as a send should have."""
    profile = _profile(stretches)
    left = sum(_left(stretches, profile, rows, expected, None)[:-1]) if profile else 0.0
    return abs(rows + left - expected) <= _ABOUT * left


def near_stop(stretch: Stretch, density_there: float | None = None) -> int | None:
    """How many records to ask for because its stop is near; None if it is not, or nobody knows.

    Args:
        stretch: the range.
        density_there: records to a key after its stop, where known.
    """
    if stretch.stop == KEY_END or stretch.spacing is None or stretch.cursor is None:
        return None
    rows = (stretch.stop - stretch.cursor) * max(stretch.spacing.density, density_there or 0.0)
    rows = rows * _NEAR + 2 * _SURE * stretch.spacing.off_by(rows) + _NEAR_ROWS
    return int(rows) if rows < stretch.page_rows else None


__all__ = ["Cut", "Stretch", "adds_up", "cut", "near_stop", "worth_a_look"]
