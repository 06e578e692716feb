"""Where a send is split, so that a permit that nobody else can use is used: a pure function over plain numbers.

A permit is idle when it is there and no walk is ready to ask. It then takes keys from the range that has most left to
ask: not half of them where several permits are idle, but as many as come to each of them. Pieces are whole pages of the
left range by its density, a little less, so that its last page shows the seam as well: then splitting costs no query.

All of this is guessing: it decides what is asked, and never what is true.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harvester.model import KEY_END

if TYPE_CHECKING:
    from collections.abc import Sequence

_LEAST_PAGES = 0.6
"""Less than this is not worth a query of its own: the range's next page may well hold it."""
_SLACK = 0.01
"""So much less than whole pages is left to a range, since densities vary."""
_SLACK_ROWS = 2
_BLIND = 0.125
"""So many first pages may be asked for where nobody knows whether there are any keys, as a share of all pages."""
_NEAR = 1.1
"""So much more than the rows that seem to be left before a stop are asked for, since the page has to pass it."""
_NEAR_ROWS = 8


@dataclass(frozen=True, slots=True)
class Stretch:
    """What is known of a key range that is walked.

    Attributes:
        start: its first key.
        stop: the first key after it.
        cursor: the last key seen in it; None before its first page.
        density: records to a key, near the cursor; None where no page tells.
        page_rows: new records that a page brings.
        in_flight: whether a query of it is under way. Nothing is taken from one that is not: it waits for something.
    """

    start: int
    stop: int
    cursor: int | None
    density: float | None
    page_rows: int
    in_flight: bool


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
    left = _left(stretches, rows, expected, empty_from)
    pages = [_ahead(stretch, more) for stretch, more in zip(stretches, left, strict=True)]
    open_to = [
        place
        for place, stretch in enumerate(stretches)
        if stretch.in_flight and stretch.cursor is not None and stretch.density and pages[place] >= _LEAST_PAGES
    ]
    if not open_to:
        return None
    place = max(open_to, key=pages.__getitem__)
    if stretches[place].stop == KEY_END and not _may_look_further(stretches, rows, expected):
        return None
    share = sum(pages) / (len(stretches) + idle)
    pieces = min(idle + 1, max(2, round(pages[place] / share)))
    keep = round(pages[place] * (pieces - 1) / pieces)
    while keep and pages[place] - keep < _LEAST_PAGES:
        keep -= 1
    return _at(stretches[place], place, keep, pages[place])


def _at(stretch: Stretch, place: int, keep: int, pages: float) -> Cut | None:
    """Splits a stretch where so many pages after the one that is under way end."""
    assert stretch.cursor is not None
    assert stretch.density is not None
    rows = (keep + 1) * stretch.page_rows
    at = stretch.cursor + int((rows * (1 - _SLACK) - _SLACK_ROWS) / stretch.density)
    return Cut(place, at, pages - keep) if stretch.cursor < at < stretch.stop else None


def _ahead(stretch: Stretch, rows: float) -> float:
    """Pages that will be left of a stretch after the one that is under way."""
    return max(0.0, rows / stretch.page_rows - stretch.in_flight)


def _left(stretches: Sequence[Stretch], rows: int, expected: int | None, empty_from: int | None) -> list[float]:
    """How many rows seem to be left of each stretch."""
    known = [stretch.density for stretch in stretches if stretch.density]
    usual = sum(known) / len(known) if known else 0.0
    *inner, last = stretches
    left = [_between(stretch, stretch.stop, usual) for stretch in inner]
    if last.stop != KEY_END:
        return [*left, _between(last, last.stop, usual)]
    known_rest = None if expected is None or rows >= expected else max(0.0, expected - rows - sum(left))
    rest = float(rows) if known_rest is None else known_rest  # where nobody knows, it may be half-way
    if empty_from is not None:
        rest = min(rest, _between(last, empty_from, usual))
    return [*left, rest]


def _between(stretch: Stretch, stop: int, usual: float) -> float:
    """How many rows seem to be left of a stretch up to a key."""
    here = stretch.start if stretch.cursor is None else stretch.cursor
    return max(0, stop - here) * (stretch.density or usual)


def _may_look_further(stretches: Sequence[Stretch], rows: int, expected: int | None) -> bool:
    """Whether a first page may be asked for beyond all keys that were seen.

    Where the number of rows is not what was said, or was not said, all of them may come back empty.
    """
    if expected is not None and rows < expected:
        return True
    blind = 0
    for stretch in reversed(stretches):
        if stretch.cursor is not None:
            break
        blind += 1
    return blind < max(1, int(_BLIND * rows / stretches[0].page_rows))


def near_stop(stretch: Stretch) -> int | None:
    """How many records to ask for because its stop is near; None if it is not, or nobody knows."""
    if stretch.stop == KEY_END or not stretch.density:
        return None
    rows = _between(stretch, stretch.stop, stretch.density) * _NEAR + _NEAR_ROWS
    return int(rows) if rows < stretch.page_rows else None


__all__ = ["Cut", "Stretch", "cut", "near_stop"]
