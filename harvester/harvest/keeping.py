"""What pages of walks over many sends come to in the lake: which rows are kept, what that completes, how walks end.

A page's rows go to their slices when it is committed, in the same transaction as the walk's cursors; those of a page to
the right of a seam wait until that is proven, so that each slice gets its rows in the order of keys. The walk ends by
the proof of its own end; or with a page shorter than asked, if every slice that it feeds has as many rows as its
``SEND_COUNT`` says; or, if all of them are complete and nothing waits, with a page that held nothing of theirs.

Everything here is blocking: call it from worker threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harvester.config import Scope
from harvester.datasets import MESSAGES
from harvester.events import log
from harvester.harvest import routing
from harvester.harvest.scoping import Weighing, known_by
from harvester.lake.wide import ScopeStep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harvester.config import Settings
    from harvester.harvest.finding import Found
    from harvester.lake.lake import Lake
    from harvester.lake.staging import Taken
    from harvester.model import KeyRange


@dataclass(frozen=True, slots=True)
class Committed:
    """What one transaction came to, or several.

    Attributes:
        rows: rows that went to their slices.
        complete: slices that are complete now, less those that are not any more.
        seal: slices, by number, that are to be sealed.
        ended: whether the walk has ended.
    """

    rows: int = 0
    complete: int = 0
    seal: tuple[int, ...] = ()
    ended: bool = False

    def __add__(self, more: Committed) -> Committed:
        """Both together."""
        return Committed(
            self.rows + more.rows,
            self.complete + more.complete,
            (*self.seal, *more.seal),
            self.ended or more.ended,
        )


def commit(lake: Lake, page: Taken, limit: int) -> Iterator[Committed]:
    """Makes a page durable, and then, step by step, what follows from it; each step that is taken is told.

    Steps that are not taken are made up for by the next page, or the next run.

    Args:
        lake: the lake.
        page: a page of ``widewalks.take``; its number is the scope's, below 0.
        limit: records to ask for in one query.
    """
    scope = -page.slice_id
    if page.discards is not None:
        lake.waiting.discard(scope, *page.discards, page.key_ranges)
        return
    here = page.key_ranges or ((page.key_range,) if page.key_range is not None else ())
    short, ended = len(here) == 1 and here[0].short_answers > 0, page.proof is not None
    done, has_others_alone = _commit_page(lake, scope, page, here)
    del page  # its rows may be many, and what has waited takes their place
    yield done
    yield from _go_on(lake, scope, limit)
    if not ended and (short or has_others_alone) and not lake.waiting.has_any(scope):
        ended = not lake.scopes.has_open(scope, beside_empty=short)
        if ended:
            lake.scopes.end(scope)
    if ended:
        yield settle(lake, scope)


def _commit_page(lake: Lake, scope: int, page: Taken, here: tuple[KeyRange, ...]) -> tuple[Committed, bool]:
    """Commits a page; whether it is of the first range, and has rows of others alone."""
    rows, ended = page.rows, page.proof is not None
    if rows is None:
        lake.stage((), ScopeStep(scope, here, ended))
        return Committed(), False
    keys = rows.column(MESSAGES.key)
    first, last = keys[0].as_py(), keys[-1].as_py()
    members = lake.scopes.members(scope, routing.sends_of(rows))
    if first >= here[0].stop or lake.waiting.has_any(scope, before=first):
        kept = routing.kept(rows, members)
        waits = lake.waiting.write(scope, kept, last) if kept.num_rows else None
        lake.stage((), ScopeStep(scope, here, ended, rows.num_rows, waits=waits))
        return Committed(), False
    short = len(here) == 1 and here[0].short_answers > 0
    routed = routing.route(rows, members, limit=here[0].limit, short=short)
    lake.stage(routed.pages, ScopeStep(scope, here, ended, rows.num_rows, left=routed.left))
    return _committed(lake, routed), not members


def _go_on(lake: Lake, scope: int, limit: int) -> Iterator[Committed]:
    """Has what waits of the first range go to its slices, page by page."""
    while (page := lake.waiting.next(scope)) is not None:
        rows = lake.waiting.read(page)
        members = lake.scopes.members(scope, routing.sends_of(rows))
        routed = routing.route(rows, members, limit=limit, short=False, page_end=page.page_end)
        lake.stage(routed.pages, ScopeStep(scope, left=routed.left, routed=page.id))
        lake.waiting.remove((page.name,))
        yield _committed(lake, routed)


def _committed(lake: Lake, routed: routing.Routed) -> Committed:
    complete = [part for part in routed.pages if part.proof is not None]
    seal = [part.slice_id for part in complete if not part.leaves_nothing_to_seal]
    under_way = [part.slice_id for part in routed.pages if part.proof is None and part.rows is not None]
    seal += lake.scopes.full(under_way, lake.full_bytes) if under_way else []
    return Committed(routed.rows, len(complete) - len(routed.left), tuple(seal))


def settle(lake: Lake, scope: int) -> Committed:
    """Sees to all slices of a scope whose walk has ended, and of which nothing waits."""
    proven: list[int] = []
    while (some := lake.scopes.settle(scope, lake.clock())) is not None:
        proven += some
    return Committed(complete=len(proven), seal=tuple(proven), ended=True)


def choose(lake: Lake, run: int, settings: Settings, found: Found | None) -> None:
    """Begins walks over many sends where that takes far fewer queries, and has those of earlier runs go on.

    Args:
        lake: the lake.
        run: the run, whose selection is made.
        settings: of the run.
        found: how finding the sends went; None where they were named.
    """
    walked = MESSAGES.name in settings.datasets
    lake.waiting.remove(lake.scopes.resume(run, keep=walked and settings.scope is not Scope.SEND))
    if not walked:
        return
    weighing = Weighing(settings.limit)
    for send in lake.scopes.sends(run):
        weighing.add(send.id_message, send.size, wanted=send.fresh)
    chosen = weighing.choose(settings.scope, known_by(found))
    if chosen.account or chosen.campaigns:
        log.info("many sends are walked at once", account=chosen.account, campaigns=len(chosen.campaigns))
        lake.scopes.begin(run, None if chosen.account else chosen.campaigns, settings.limit)


def make_up(lake: Lake, limit: int) -> Iterator[Committed]:
    """Takes the steps that earlier runs have left to be taken, one by one."""
    for scope, ended in lake.scopes.numbers():
        yield from _go_on(lake, scope, limit)
        if ended:
            yield settle(lake, scope)


__all__ = ["Committed", "choose", "commit", "make_up", "settle"]
