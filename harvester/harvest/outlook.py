"""How much seems to be left of a send's key ranges, by where keys lie that came and by how many it says that it has.

All of this is guessing: it decides what is asked, and never what is true.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from harvester.harvest.spacing import Profile
from harvester.model import KEY_END

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harvester.harvest.spacing import Spacing

_AHEAD = 2.0
"""Where nobody knows how many rows a send has, so many more than are known are looked for, as a share of these."""
_SHOWN = 16.0
"""Where more come than were said, so many times as many further ones are looked for as have shown,"""
_FURTHER = 0.3
"""but not many more at a time than have shown: by so much, as a share of all that are known."""
_ABOUT = 0.15
_HOLE_ROWS = 32
"""Where so many records would have found room, and none is, there is a hole."""


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
        first_spacing: how far apart they lie where it starts; None where no page tells.
        first_keys: the first keys seen in it, where they are known.
        in_flight: whether a query of it is under way, or will soon be tried again. Nothing is taken from any other.
    """

    start: int
    stop: int
    cursor: int | None
    spacing: Spacing | None
    page_rows: int
    in_flight: bool
    ended: bool = False
    first_spacing: Spacing | None = None
    first_keys: Sequence[int] = ()

    @property
    def hole(self) -> int:
        """How many keys of a hole it begins with; 0 if it doesn't begin in one."""
        if len(self.first_keys) < 2 or self.first_spacing is None:  # noqa: PLR2004  a distance is between two
            return 0
        first, *_, last = self.first_keys
        apart = max((last - first) / (len(self.first_keys) - 1), 1 / self.first_spacing.density)
        return first - self.start if first - self.start > _HOLE_ROWS * apart else 0


@dataclass(frozen=True, slots=True)
class Outlook:
    """What seems to be left of a send.

    Attributes:
        profile: where its keys lie.
        rows: so many are left of each of its stretches.
        beyond: whether as many as were said have come, or seem to lie where keys are known, and its end was not seen.
        awaited: so many of the stretches lie after the last one that has keys.
    """

    profile: Profile
    rows: Sequence[float]
    beyond: bool
    awaited: int


def look(stretches: Sequence[Stretch], rows: int, expected: int | None, empty_from: int | None) -> Outlook | None:
    """What seems to be left of a send; None where no page tells.

    Args:
        stretches: its key ranges, in key order.
        rows: rows taken of it.
        expected: rows that it should have, where known.
        empty_from: a key from which on there seemed to be none; None if there is no such key.
    """
    known = [seen for one in stretches for seen in (one.first_spacing, one.spacing) if seen is not None]
    if not known:
        return None
    profile = Profile([(seen.at, seen.density) for seen in known])
    past = KEY_END if empty_from is None else empty_from
    here = [one.start if one.cursor is None else one.cursor for one in stretches]
    last, places = stretches[-1], range(len(stretches) - 1)
    # A stretch that begins somewhere in a hole has probably as much of that before it as after.
    stops = [left.stop - right.hole for left, right in pairwise(stretches)]
    left = [0.0 if stretches[at].ended else profile.rows(here[at], min(stops[at], past)) for at in places]
    opened = max(at for at, one in enumerate(stretches) if one.cursor is not None)
    there = rows + sum(left[:opened])
    beyond = expected is not None and there >= expected and not last.ended
    if last.ended:
        rest = 0.0
    elif expected is None:
        rest = _AHEAD * (rows + sum(left))
    elif beyond:
        more = there - expected
        rest = min(_SHOWN * more, _FURTHER * there + more) - sum(left[opened:])
    else:
        rest = expected - rows - sum(left)
    left.append(min(max(0.0, rest), profile.rows(here[-1], past)))
    return Outlook(profile, left, beyond, len(stretches) - 1 - opened)


def is_foreseen(stretches: Sequence[Stretch], rows: int, expected: int | None, empty_from: int) -> bool:
    """Whether the page under way of the last of these stretches seems to hold the send's end, and no count will say so.

    Args:
        stretches: its key ranges up to where there seemed to be no keys, in key order.
        rows: rows taken of it.
        expected: rows that it should have, where known.
        empty_from: the key from which on there seemed to be none.
    """
    outlook, last = look(stretches, rows, expected, empty_from), stretches[-1]
    if outlook is None or last.cursor is None:
        return False
    rest = outlook.profile.rows(last.cursor, empty_from)
    if rest > last.page_rows:
        return False
    there, off_by = rows + sum(outlook.rows[:-1]), _ABOUT * (rest + sum(outlook.rows[:-1]))
    return expected is None or not there - off_by <= expected <= there + rest + off_by


def adds_up(stretches: Sequence[Stretch], rows: int, expected: int) -> bool:
    """Whether the rows taken and those that seem to be left come to about as many as a send should have."""
    outlook = look(stretches, rows, expected, None)
    left = sum(outlook.rows[:-1]) if outlook else 0.0
    return abs(rows + left - expected) <= _ABOUT * left


__all__ = ["Outlook", "Stretch", "adds_up", "is_foreseen", "look"]
