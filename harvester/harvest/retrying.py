"""Trying again: what success and failure change for a walk, how long it waits, and when it has waited long enough.

Times are in seconds on the scheduler's clock.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harvester.config import LEAST_LIMIT
from harvester.errors import CursorAbsent, PageRefused, TooBigToServe, TurnedAway
from harvester.harvest.walks import GROW_AFTER

if TYPE_CHECKING:
    import random

    from harvester.config import Settings, Tuning
    from harvester.errors import AttemptFailed
    from harvester.harvest.walks import Walk

ABSENCES = 3
"""So many well-formed answers without the cursor's record, and an anchor is asked for instead (DESIGN)."""
SIZE_FAILURES = 3
"""So many failures that the size of the query can explain, and half of it is asked for (DESIGN)."""
_LEAST_BACKOFF = 0.25
"""What fails among answers waits for this share of what others wait for, at least, however quickly answers come."""


def note_success(walk: Walk) -> None:
    """An answer was taken: failures are forgotten, and after some pages at a lowered limit a larger one is tried."""
    walk.failures = walk.lone = walk.size_failures = walk.absences = 0
    walk.asked = walk.wants_cursor = walk.lost = False
    walk.failing_since = None
    walk.error = None
    walk.anchor = -1
    if walk.key_range.limit < walk.full_limit:
        walk.good_pages += 1
        if walk.grown:
            walk.grow_after = GROW_AFTER
        walk.grown = walk.good_pages >= walk.grow_after
        if walk.grown:
            walk.good_pages = 0
            walk.key_range = replace(walk.key_range, limit=min(walk.full_limit, walk.key_range.limit * 2))


def note_failure(
    walk: Walk,
    error: AttemptFailed,
    now: float,
    settings: Settings,
    dice: random.Random,
    *,
    answer_s: float | None = None,
) -> None:
    """An attempt failed: it waits, longer each time; it may ask for less, or for another known record.

    Where others were answered meanwhile, it is tried again at once the first time, and then after about as long as an
    answer takes, and so on: it may be what all others come to wait for. Not so where the server may have too much to
    do, or for what an answer held, which may just be late.

    Args:
        walk: the walk.
        error: how it failed.
        now: the time.
        settings: of the run.
        dice: for jitter.
        answer_s: how long answers take, in seconds, if others were answered since the attempt was made; else None.
    """
    walk.error = str(error)
    walk.failures += 1
    if walk.failing_since is None:
        walk.failing_since = now
    if answer_s is not None and not isinstance(error, PageRefused | TurnedAway):
        walk.lone += 1
        wait_s = _lone_wait_s(walk.lone, answer_s, settings.tuning)
    else:
        wait_s = backoff_s(walk.failures - walk.lone, settings.tuning)
    wait_s *= dice.uniform(0.5, 1.0)
    walk.ready_at = max(now, min(now + wait_s, walk.failing_since + settings.patience_s))
    if isinstance(error, TooBigToServe) and walk.dataset.paged:
        walk.size_failures += 1
        if walk.size_failures >= SIZE_FAILURES:
            _ask_for_less(walk)
    if isinstance(error, CursorAbsent):
        walk.absences += 1
        if walk.absences >= ABSENCES:
            _ask_from_further_back(walk)


def _ask_from_further_back(walk: Walk) -> None:
    """The record asked for is lacking: the next anchor is asked for, or, after the last one, the cursor again."""
    anchors = walk.key_range.anchors
    was_last = walk.anchor + 1 == len(anchors)
    walk.lost |= was_last
    if anchors:
        walk.absences = 0
        walk.wants_cursor = False
        walk.anchor = -1 if was_last else walk.anchor + 1


def _ask_for_less(walk: Walk) -> None:
    if walk.grown:
        walk.grow_after *= 4
    walk.grown = False
    walk.size_failures = walk.good_pages = 0
    walk.key_range = replace(walk.key_range, limit=max(LEAST_LIMIT, walk.key_range.limit // 2))


def backoff_s(failures: int, tuning: Tuning) -> float:
    """How long to wait after so many failures in a row, without jitter, in seconds."""
    return _doubled(tuning.backoff_s, failures, tuning)


def _lone_wait_s(failures: int, answer_s: float, tuning: Tuning) -> float:
    """How long to wait after so many failures among answers that take so long, likewise."""
    if failures == 1:
        return 0.0
    first_s = min(tuning.backoff_s, max(tuning.backoff_s * _LEAST_BACKOFF, answer_s))
    return _doubled(first_s, failures - 1, tuning)


def _doubled(first_s: float, failures: int, tuning: Tuning) -> float:
    return min(tuning.backoff_cap_s, first_s * 2.0 ** min(failures - 1, 30))


def out_of_patience(walk: Walk, now: float, settings: Settings) -> bool:
    """Whether a walk has failed for longer than the run is patient."""
    return walk.failing_since is not None and now - walk.failing_since >= settings.patience_s


__all__ = ["ABSENCES", "SIZE_FAILURES", "backoff_s", "note_failure", "note_success", "out_of_patience"]
