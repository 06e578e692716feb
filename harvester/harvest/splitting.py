"""Where a send is split, so that a permit that nobody else can use is used: a pure function over plain numbers.

A permit is idle when it is there and no walk is ready to ask. It then takes keys from the range that has most left to
ask: not half of them where several permits are idle, but as many as come to each of them. Pieces are whole pages of the
left range by its density, a little less, so that its last page shows the seam as well: then splitting costs no query.

Nobody knows whether as many rows come as were said. So what whole pages leave over at the send's end is asked for
first. Where it is a full page, more come, and idle permits look there, at every second page: then few come back empty.

One page foretells the rest where keys lie at regular distances, as numbers do that are given out one after the other to
one send. Where they don't, only most of what it foretells is cut up, and permits that are left read what comes next.

Where keys have holes, a range that begins in one tells of it: the keys before it are probably missing as well.

All of this is guessing: it decides what is asked, and never what is true.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harvester.harvest.outlook import look
from harvester.model import KEY_END

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harvester.harvest.outlook import Outlook, Stretch
    from harvester.harvest.spacing import Profile, Spacing

_LEAST_PAGES = 1.0
"""Less than this is not worth a query of its own: the range's next page may well hold it."""
_WORTH = 3.0
"""Where so many pages are left, a split may cost a query; else it may not."""
_ODD = 0.05
"""So little of a page is left to the right rather than have a whole one more to the left."""
_FAIR = 1.25
"""A range is split if it has so many times as much left as comes to each permit."""
_SURE = 1.8
"""So many standard deviations less than whole pages are left to a range: its last page has to pass its stop."""
_SLACK_ROWS = 2
_ROOM = 0.5
"""Pages are left so much emptier at most, if that costs no query."""
_UNSURE = 0.4
"""Where so much of a page has to be left over, what is known of the keys' density says too little."""
_MANY = 32
"""Where so many pages have come, a query more is a small share, and may save a wait of its own; and where nobody said
how many there are, the end is probably near, and what comes next is read rather than what is far."""
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
_LEAST_WHOLE = 2.0
"""Where so many pages are left, what whole ones leave over at the send's end is a piece of its own,"""
_END_UNSURE = 0.65
"""unless so much of a page, or more, may be missing from where it seems to begin."""
_STRIDE = 2.0
"""Beyond what was said, one page in so many is looked at,"""
_LOOKING = 0.5
"""by so many of the permits at most: the further ones find nothing more often."""
_BETWEEN = 2.5
"""A range whose first page is awaited is split if it seems to have no more pages than this."""
_AMONG_HOLES = 4
"""Where there are holes, a range is cut into so many pieces at most, and its first one again: pieces that are alike may
well begin in the same hole."""
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
    pages = [max(one.in_flight, more / one.page_rows) for one, more in zip(stretches, outlook.rows, strict=True)]
    view = _View(stretches, _opened_soon(stretches, pages), pages, outlook, idle, rows, expected)
    beyond = _beyond(view)
    if beyond is not None and all(pages[-1] > pages[place] for place in view.most_first):
        return beyond
    return _share_out(view) or _read_ahead(view) or beyond


@dataclass(frozen=True, slots=True)
class _View:
    """What ``cut`` was given, and what it makes of it: ``pages`` are how many seem to be left of each stretch.

    ``known`` are the stretches as far as is known of them, with those that are about to be opened.
    """

    stretches: Sequence[Stretch]
    known: Sequence[Stretch]
    pages: Sequence[float]
    outlook: Outlook
    idle: int
    rows: int
    expected: int | None

    @property
    def permits(self) -> int:
        """How many the send has, those that are idle included."""
        return sum(one.in_flight for one in self.stretches) + self.idle

    @property
    def most_first(self) -> list[int]:
        """Which stretches may be split; the last one not where it lies beyond what was said, see ``_beyond``."""
        inner = self.known[:-1] if self.outlook.beyond else self.known
        places = [place for place, one in enumerate(inner) if _is_open(one)]
        return sorted(places, key=lambda place: -self.pages[place])


def _share_out(view: _View) -> Cut | None:
    """Takes as much off the stretch that has most left as comes to a permit, if that one has more than others."""
    pages, most_first = view.pages, view.most_first
    share = sum(pages) / view.permits
    if not most_first or pages[place := most_first[0]] <= max(1.0, _FAIR * share):
        return None
    stretch, most = view.known[place], _looks_further(view.stretches, place, view.rows, view.expected)
    foreseen = _foreseen(stretch, pages[place], view.rows)
    pieces = min(max(2, round(foreseen / share)), most)
    if any(one.hole for one in view.stretches):
        pieces = min(pieces, _AMONG_HOLES)
    at = None if view.expected is None else _end(stretch, pages[place], view.outlook.profile)
    if at is None and (most == _ANY or view.rows < _MANY * stretch.page_rows):
        alone = _is_longest(place, pages, view.idle)
        at = _far(stretch, foreseen, pieces, view.outlook.profile, alone=alone)
    return None if at is None else Cut(place, at, pages[place] * (pieces - 1) / pieces)


def _read_ahead(view: _View) -> Cut | None:
    """Takes the pages that come next off the stretch that has most left and where they can be foretold."""
    for place in view.most_first:
        stretch, pages = view.known[place], view.pages[place]
        if not _reads_near(stretch, view.rows) or pages <= 1:
            break
        permits = min(view.idle, _looks_further(view.stretches, place, view.rows, view.expected) - 1)
        alone = _is_longest(place, view.pages, view.idle)
        at = _ahead(stretch, pages, permits, view.outlook.profile, alone=alone)
        if at is not None:
            return Cut(place, at, pages - 1)
    return None


def _opened_soon(stretches: Sequence[Stretch], pages: Sequence[float]) -> list[Stretch]:
    """The stretches; those whose first page is awaited as if it were here, if it is known what lies around them."""
    found: list[Stretch] = []
    spacing: Spacing | None = None
    for one, right, more in zip(stretches, [*stretches[1:], None], pages, strict=True):
        between = spacing is not None and right is not None and right.cursor is not None
        soon = one.cursor is None and between and more < _BETWEEN
        found.append(replace(one, cursor=one.start - 1, spacing=spacing) if soon else one)
        spacing = one.spacing or spacing
    return found


def _beyond(view: _View) -> Cut | None:
    """Where to look beyond what was said: every second page, if the last stretch seems to have so many left.

    Where that one has keys, the page before it is full, and is asked for next; so fewer come back empty at the end.
    """
    stretches, pages = view.stretches, view.pages[-1]
    last = stretches[-1]
    spacing = next((one.spacing for one in reversed(stretches) if one.spacing is not None), None)
    if not view.outlook.beyond or pages <= 1 or not last.in_flight or spacing is None:
        return None
    if view.outlook.awaited >= _LOOKING * view.permits:
        return None
    rows = _STRIDE * last.page_rows
    here = last.start if last.cursor is None else last.cursor
    at = view.outlook.profile.key_after(here, rows - _SURE * spacing.off_by(rows) - _SLACK_ROWS)
    return Cut(len(stretches) - 1, at, pages - 1) if at > here else None


def _end(stretch: Stretch, pages: float, profile: Profile) -> int | None:
    """Where a piece begins that is what whole pages leave over at the send's end; None if that isn't known well enough.

    It is asked for first, and shows whether more comes than was said. Where keys are regular that costs no query, and
    next to none elsewhere.
    """
    left = math.ceil(pages - 1)
    most = min(_END_UNSURE, left + 1 - pages) if _is_regular(stretch) else _END_UNSURE
    if stretch.stop != KEY_END or pages < _LEAST_WHOLE or (slack := _slack(left, stretch)) > most:
        return None
    return _stop_after(stretch, profile, left, pages, queries=left + 1, slack=slack)


def _foreseen(stretch: Stretch, pages: float, rows: int) -> float:
    """How many of a stretch's pages are cut up into pieces."""
    little = stretch.stop == KEY_END and rows < _FIRST * stretch.page_rows and not _is_regular(stretch)
    return _FORESEEN * pages if little else pages


def _reads_near(stretch: Stretch, rows: int) -> bool:
    """Whether permits that are idle may read what comes next in a stretch, one page each."""
    come = rows / stretch.page_rows
    return come >= _MANY or (come < _FIRST and not _is_regular(stretch))


def _is_regular(stretch: Stretch) -> bool:
    return stretch.spacing is not None and stretch.spacing.spread < _REGULAR


def _is_longest(place: int, pages: Sequence[float], idle: int) -> bool:
    """Whether the send would be done sooner if this range were: all that take as long, or longer, can be split too."""
    return sum(math.ceil(more) >= math.ceil(pages[place]) for more in pages) <= idle


def _far(stretch: Stretch, pages: float, pieces: int, profile: Profile, *, alone: bool) -> int | None:
    """Where to take the last of so many pieces off a stretch of so many pages; the rest may be cut as well, soon."""
    left = math.ceil(pages - pages / pieces - _ODD)
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

    Where the number of rows was not said, first pages that come back empty would be too many.
    """
    to_the_right = stretches[place + 1 :]
    if expected is not None or any(one.cursor is not None for one in to_the_right):
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
