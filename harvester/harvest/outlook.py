"""How much seems to be left of a send's key ranges, by where keys lie that came and by how many it says that it has.

All of this is guessing: it decides what is asked, and never what is true.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harvester.harvest.spacing import Profile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harvester.harvest.spacing import Spacing

_AHEAD = 2.0
"""Where nobody knows how many rows a send has, so many more than are known are looked for, as a share of these."""
_MORE = 2.0
"""Where more seem to come than were said, so many times as many more are looked for."""
_ABOUT = 0.15


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


@dataclass(frozen=True, slots=True)
class Outlook:
    """What seems to be left of a send, by the ``profile`` of its keys: so many ``rows`` of each of its stretches."""

    profile: Profile
    rows: Sequence[float]


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
    return Outlook(profile, _left(stretches, profile, rows, expected, empty_from))


def adds_up(stretches: Sequence[Stretch], rows: int, expected: int) -> bool:
    """Whether the rows taken and those that seem to be left come to about as many as a send should have."""
    outlook = look(stretches, rows, expected, None)
    left = sum(outlook.rows[:-1]) if outlook else 0.0
    return abs(rows + left - expected) <= _ABOUT * left


def _left(
    stretches: Sequence[Stretch], profile: Profile, rows: int, expected: int | None, empty_from: int | None
) -> list[float]:
    """How many rows seem to be left of each stretch."""
    here = [one.start if one.cursor is None else one.cursor for one in stretches]
    left = [0.0 if one.ended else profile.rows(key, one.stop) for one, key in zip(stretches[:-1], here, strict=False)]
    inner, last = sum(left), stretches[-1]
    if last.ended:
        return [*left, 0.0]
    if expected is None or rows >= expected:
        rest = _AHEAD * (rows + inner)
    elif (rest := expected - rows - inner) < 0:
        rest = -_MORE * rest if last.cursor is not None else 0.0
    return [*left, rest if empty_from is None else min(rest, profile.rows(here[-1], empty_from))]


__all__ = ["Outlook", "Stretch", "adds_up", "look"]
