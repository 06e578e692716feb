"""Where a send is split, so that a permit that nobody else can use is used: a pure function over plain numbers.

A permit is idle when it is there and no walk is ready to ask. It then takes keys from the range that has most left to
ask: not half of them where several permits are idle, but as many as come to each of them. Pieces are whole pages of the
left range by its density, a little less, so that its last page shows the seam as well: then splitting costs no query.

One page foretells the rest where keys lie at regular distances, as numbers do that are given out one after the other to
one send. Where they don't, only most of what it foretells is cut up, and permits that are left read what comes next.

All of this is guessing: it decides what is asked, and never what is true.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harvester.harvest.outlook import look
from harvester.model import KEY_END

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harvester.harvest.outlook import Stretch
    from harvester.harvest.spacing import Profile

_LEAST_PAGES = 1.0
"""Less than this is not worth a query of its own: the range's next page may well hold it."""
_WORTH = 3.0
"""Where so many pages are left, a split may cost a query; else it may not."""
_ODD = 0.05
"""So little of a page is left to the right rather than have a whole one more to the left."""
_FAIR = 1.25
"""A range is split if it has so many times as much left as comes to each permit."""
_SURE = 2.0
"""So many standard deviations less than whole pages are left to a range: its last page has to pass its stop."""
_SLACK_ROWS = 2
_ROOM = 0.5
"""Pages are left so much emptier at most, if that costs no query."""
_UNSURE = 0.4
"""Where so much of a page has to be left over, what is known of the keys' density says too little."""
_MANY = 32
"""Where so many pages have come, a query more is a small share, and may save a wait of its own; and where more of them
came than were said, the end is probably near, and what comes next is read rather than what is far."""
_SOME = 2.5
"""So many pages have to have come before anything is looked for where perhaps nothing is: most sends are small."""
_BLIND = 0.25
"""So many first pages may be asked for where nobody knows whether there are any keys, as a share of all pages."""
_REGULAR = 0.25
"""Keys of less spread than this lie at regular distances, be it as multiples of a number or near those."""
_FIRST = 1.5
"""Where fewer pages than this have come, one has, and it foretells little of what follows, if keys are not regular."""
_FORESEEN = 0.8
"""So much of what it foretells is cut up."""
_LATE = 0.06
"""The send's last piece is so much shorter, as a share of all that it should have: it may have more than was said, and
others should not have to wait for its end. Where keys are regular, that is if it makes no other piece take longer."""
_ANY = 2**31
"""As many pieces as anybody wants."""
_NEAR = 1.1
_NEAR_ROWS = 8
"""So much more than the rows that seem to be left before a stop are asked for: asking again costs more than rows."""


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
    outlook = look(stretches, rows, expected, empty_from)
    if outlook is None:
        return None
    profile = outlook.profile
    pages = [max(one.in_flight, more / one.page_rows) for one, more in zip(stretches, outlook.rows, strict=True)]
    share = sum(pages) / (sum(one.in_flight for one in stretches) + idle)
    places = [place for place, one in enumerate(stretches) if _is_open(one)]
    most_first = sorted(places, key=lambda place: -pages[place])
    if most_first and pages[place := most_first[0]] > max(1.0, _FAIR * share):
        stretch, most = stretches[place], _looks_further(stretches, place, rows, expected)
        near = most < _ANY and rows >= _MANY * stretch.page_rows
        foreseen, late = _foreseen(stretch, pages[place], rows, expected)
        pieces = min(max(2, round(foreseen / share)), most)
        alone = _is_longest(place, pages, idle)
        at = None if near else _far(stretch, foreseen, pieces, profile, late=late, alone=alone)
        if at is not None:
            return Cut(place, at, pages[place] * (pieces - 1) / pieces)
    for place in most_first:
        if not _reads_near(stretches[place], rows) or pages[place] <= 1:
            break
        permits = min(idle, _looks_further(stretches, place, rows, expected) - 1)
        at = _ahead(stretches[place], pages[place], permits, profile, alone=_is_longest(place, pages, idle))
        if at is not None:
            return Cut(place, at, pages[place] - 1)
    return None


def _foreseen(stretch: Stretch, pages: float, rows: int, expected: int | None) -> tuple[float, float]:
    """How many of a stretch's pages are cut up into pieces, and by how many of them the last piece is shorter."""
    if stretch.stop != KEY_END:
        return pages, 0.0
    if rows < _FIRST * stretch.page_rows and not _is_regular(stretch):
        return _FORESEEN * pages, 0.0
    return pages, _LATE * expected / stretch.page_rows if expected is not None and rows < expected else 0.0


def _reads_near(stretch: Stretch, rows: int) -> bool:
    """Whether permits that are idle may read what comes next in a stretch, one page each."""
    come = rows / stretch.page_rows
    return come >= _MANY or (come < _FIRST and not _is_regular(stretch))


def _is_regular(stretch: Stretch) -> bool:
    return stretch.spacing is not None and stretch.spacing.spread < _REGULAR


def _is_longest(place: int, pages: Sequence[float], idle: int) -> bool:
    """Whether the send would be done sooner if this range were: all that take as long, or longer, can be split too."""
    return sum(math.ceil(more) >= math.ceil(pages[place]) for more in pages) <= idle


def _far(stretch: Stretch, pages: float, pieces: int, profile: Profile, *, late: float, alone: bool) -> int | None:
    """Where to take the last of so many pieces off a stretch of so many pages; the rest may be cut as well, soon.

    That piece is shorter than the others by ``late`` pages, but has one at least, unless all have less. Regular keys
    are known well enough to do so only as far as the whole pages of the others have so much to spare.
    """
    last = pages / pieces
    if _is_regular(stretch):
        spare = (pieces - 1) * math.ceil(last - _ODD) - (pages - last)
        late = min(late, max(0.0, spare))
    left = math.ceil(pages - max(min(last, 1.0), last - late) - _ODD)
    left -= not alone and pages - left < _LEAST_PAGES
    if pieces < 2 or left < 1 or pages - 1 < _LEAST_PAGES:  # noqa: PLR2004  one piece is no split
        return None
    slack = _slack(left, stretch)
    if pages - 1 < _WORTH and left + _queries(pages - left + slack, stretch) > 1 + _queries(pages - 1, stretch):
        return None
    return _stop_after(stretch, profile, left, pages, queries=math.ceil(pages), slack=slack)


def _ahead(stretch: Stretch, pages: float, permits: int, profile: Profile, *, alone: bool) -> int | None:
    """Where to have so many permits read the pages that come next, one each: the density there is known best.

    Args:
        stretch: the range.
        pages: how many seem to be left of it, the one under way included.
        permits: those that are idle.
        profile: where keys lie.
        alone: whether it may cost a query, since nothing else keeps the send from being done sooner.
    """
    slack = _slack(1, stretch)
    queries = math.ceil(pages + slack)
    left = min(permits, queries - 1)
    if left < 1 or slack > _UNSURE:
        return None
    if pages - 1 < _WORTH and queries - pages < (left + 1) * slack:
        if not alone:
            return None
        queries += 1
    return _stop_after(stretch, profile, left, pages, queries=queries, slack=left * slack)


def _stop_after(
    stretch: Stretch, profile: Profile, left: int, pages: float, *, queries: int, slack: float
) -> int | None:
    """Where to stop a range that is to take the next ``left`` queries, if all of its pages take so many ``queries``.

    The room that these have is shared out, so that a guess that is a little off costs none.
    """
    assert stretch.cursor is not None
    room = min(_ROOM, max(0.0, queries - pages) / queries)
    at = profile.key_after(stretch.cursor, (left - max(slack, room * left)) * stretch.page_rows)
    return at if stretch.cursor < at < stretch.stop else None


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


def worth_a_look(rows: int, expected: int | None, limit: int) -> bool:
    """Whether a send that is not split may have so much left that it could be: most sends are small, and no matter."""
    rest = rows / _SOME if expected is None or rows >= expected else expected - rows
    return rest > limit


def _looks_further(stretches: Sequence[Stretch], place: int, rows: int, expected: int | None) -> int:
    """Into how many pieces a stretch may be cut, as far as nobody knows whether there are any keys to its right.

    Where the number of rows was not said, or was too low, first pages that come back empty would be too many.
    """
    to_the_right = stretches[place + 1 :]
    if any(one.cursor is not None for one in to_the_right) or (expected is not None and rows < expected):
        return _ANY
    come = rows / stretches[place].page_rows
    return 1 if come < _SOME else 1 + max(0, int(max(1.0, _BLIND * come)) - len(to_the_right))


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


__all__ = ["Cut", "cut", "near_stop", "worth_a_look"]
