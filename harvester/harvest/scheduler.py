"""The scheduler: acts on what ``plan`` decides, one decision at a time.

One loop decides; each query that goes out is a task of its own, at most ``concurrency`` of them at once, so a list of
100,000 sends opens no 100,000 of anything: slices under way are taken in a few at a time (``intake``). What an answer
proves is decided by ``proof``; accepted pages leave through the one bounded stream to the lake's wing, and a walk may
go again as soon as that stream has taken its page. A walk's pages are therefore staged in order.
"""

from __future__ import annotations

import random
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from harvester.api.transport import READ_BYTES
from harvester.errors import (
    AttemptFailed,
    PageRefused,
    SliceRefused,
    Unauthorized,
)
from harvester.events import log
from harvester.harvest import ending, parts, plan, retrying, taking, walks, widewalks
from harvester.harvest.fitting import Fitting
from harvester.harvest.intake import Intake
from harvester.harvest.lineup import Lineup
from harvester.harvest.plan import Ask, Confirm, Feed, Finished, Follow, Size, Split, State, Wait
from harvester.harvest.reaching import Reach
from harvester.harvest.timeleft import Tempo, time_left
from harvester.harvest.trust import ASKINGS
from harvester.harvest.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anyio.streams.memory import MemoryObjectSendStream

    from harvester.api.client import Client
    from harvester.api.limiter import Permit
    from harvester.budget import Hold
    from harvester.config import Settings
    from harvester.harvest.keeping import Committed
    from harvester.harvest.slices import Slices
    from harvester.harvest.walks import Walk
    from harvester.harvest.widewalks import Wide
    from harvester.lake.staging import Taken
    from harvester.model import Page, Query


_MOST_MET = 1000
_PACKED_PART = 8
_KEPT_PART = 2
"""Answers that wait for others to prove them leave half of the room to those that come in."""
_FORGET = 0.9
_NEWS = 0.2
_PATIENCE = 4.0
"""A list that says how large sends are is waited for so many times as long as an answer takes,"""
_LEAST_PATIENCE_S = 10.0
_LEAST_BODY_BYTES = 2 * READ_BYTES
"""So much of an answer may have come before any of it is counted."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A page on its way to the lake, the walk that it belongs to, and what it has of the memory budget."""

    walk: Walk
    taken: Taken
    hold: Hold


class Scheduler:
    """Runs one harvest's walks to their ends. ``run`` returns when all are complete or given up, or it was drained.

    Attributes:
        state: what decisions are made over.
        fitting: how many records are asked for at a time.
        rows: rows taken by this run, by dataset.
        queries: queries asked, retries not counted.
        complete: slices completed by this run.
        met: names of fields that came and that the catalogue doesn't know, by dataset.
        workload: what is still to be asked.
        tempo: what answers have taken lately.
        trouble: the last failure, in one line, and when it was; None if there was none.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        client: Client,
        slices: Slices,
        deliver: MemoryObjectSendStream[Delivery],
        wide: Wide | None = None,
    ) -> None:
        """``wide`` has the walks over many sends, if there are any."""
        self.settings = settings
        self.state = State(
            walks=Lineup(),
            witness=walks.witness_walk(),
            concurrency=settings.concurrency,
            share=client.budget.share,
            body_bytes=settings.limit * client.record_bytes // _PACKED_PART,
            window=settings.tuning.window,
            apart_s=settings.tuning.apart_s,
            splits=slices.splits,
            rate=settings.rate,
        )
        self.fitting = Fitting(settings.limit, cap_bytes=client.answer_cap_bytes, record_bytes=client.record_bytes)
        self.rows = dict.fromkeys(settings.datasets, 0)
        self.queries = 0
        self.complete = 0
        self.met: defaultdict[str, set[str]] = defaultdict(set)
        self.trouble: tuple[float, str] | None = None
        self.workload = Workload(settings.limit)
        self.tempo = Tempo()
        self._client = client
        self._budget = client.budget
        self._limiter = client.limiter
        self._slices = slices
        self._deliver = deliver
        self._dice = random.Random(settings.tuning.seed)  # noqa: S311 - jitter, not secrecy
        self._reach = Reach(settings, client)
        self._intake = Intake(self.state, self.workload, settings.limit, slices=slices, wide=wide, changed=self._change)
        self._changed = anyio.Event()
        self._permit_wait: anyio.CancelScope | None = None
        self._idle_wait = False
        self._limiter.on_release = self._change

    @property
    def queries_in_flight(self) -> int:
        """Queries in flight at this instant."""
        return self._limiter.in_flight

    @property
    def gave_up(self) -> int:
        """Slices given up by this run."""
        return self._intake.gave_up

    def drain(self) -> None:
        """Begins nothing more; what is in flight is finished and delivered."""
        self.state.draining = True
        if self._permit_wait is not None:
            self._permit_wait.cancel()
        self._change()

    def time_left(self) -> float | None:
        """How long the run still takes, in seconds; None while too little is known."""
        trust = self.state.trust
        left = self.workload.left(self.state.walks.values(), ASKINGS if trust.false_ends else 1)
        if left is None:
            return None
        queries, rows, longest = left
        return time_left(
            self.tempo,
            anyio.current_time(),
            queries=queries,
            rows=rows,
            longest=0.0 if self.state.splits else longest,
            page_rows=self.settings.limit,
            rate=self._limiter.rate,
            turns=self._limiter.concurrency,
        )

    async def run(self) -> None:
        """Runs until there is nothing left to do.

        Raises (in an ExceptionGroup): AccessRefused, LakeError, ServerNotReached.
        """
        async with self._deliver, anyio.create_task_group() as asking:
            while True:
                self._changed = anyio.Event()
                match self._decide():
                    case Ask():
                        await self._ask_next(asking)
                    case Split() | Confirm() | Size():
                        self._idle_wait = True  # whatever changes, it is decided again
                        await self._ask_next(asking)
                    case Follow(walk):
                        await self._intake.follow(walk)
                    case Feed():
                        await self._intake.feed()
                    case Wait(until):
                        await self._wait(until)
                    case Finished():
                        break
            await self._intake.note_unfinished()
            asking.cancel_scope.cancel()  # how large sends are is of no use any more

    def _decide(self, in_hand: int = 0) -> plan.Decision:
        """Decides over how things are now; ``in_hand`` permits are taken and not used yet."""
        if self.state.alone and self._client.admitted:
            self.state.alone = False
            self.state.body_bytes = max(self._client.earnest_bytes or self.state.body_bytes, _LEAST_BODY_BYTES)
        self.state.in_flight = self._limiter.in_flight - in_hand
        self.state.concurrency = self._limiter.concurrency
        self.state.rate = self._limiter.rate
        self.state.parked = self._budget.parked_holds
        return plan.choose(self.state, anyio.current_time())

    def _change(self) -> None:
        self._changed.set()
        if self.state.draining:
            self._intake.look_again()
        if self._idle_wait and self._permit_wait is not None:
            self._permit_wait.cancel()

    async def _wait(self, until: float | None) -> None:
        if until is None:
            await self._changed.wait()
            return
        with anyio.move_on_after(max(0.0, until - anyio.current_time())):
            await self._changed.wait()

    async def _ask_next(self, asking: anyio.abc.TaskGroup) -> None:
        """Takes a permit, and then decides who gets it: things may have changed while waiting for it."""
        permit: Permit | None = None
        with anyio.CancelScope() as self._permit_wait:
            permit = await self._limiter.acquire()
        self._permit_wait = None
        self._idle_wait = False
        if permit is None:
            return
        decision = self._decide(in_hand=1)
        if isinstance(decision, Size):
            self.state.sizes.begin(decision.query)
            self.state.busy += 1
            self.queries += 1
            asking.start_soon(self._ask_size, decision.query, permit)
            return
        walk = plan.asked(decision)
        if walk is None:
            permit.unused()
            return
        walk.busy = True
        self.fitting.lower(walk)
        parts.trim(walk)
        self.state.busy += 1
        if not walk.asked:
            walk.asked = True
            walk.of_slice.queries += 1
            self.queries += 1
        # Of a send that is earlier in line the answer is read first: so slices end, and are sealed, all the time.
        asking.start_soon(self._ask, walk, permit, self._budget.parking(walk.of_slice.turn))

    # --- one query

    @contextmanager
    def _turn(self, permit: Permit) -> Iterator[None]:
        """As long as a query is busy that a permit was given to."""
        try:
            yield
        except BaseException:
            self.state.draining = True  # the run ends: no query goes out before that has come round
            raise
        finally:
            permit.release()
            self.state.busy -= 1
            self._change()

    async def _ask(self, walk: Walk, permit: Permit, hold: Hold) -> None:
        delivered = False
        with self._turn(permit):
            try:
                delivered = await self._ask_once(walk, permit, hold)
                await self._note_size(walk.of_slice)
            finally:
                if not delivered:
                    hold.release()
                walk.busy = False

    async def _ask_once(self, walk: Walk, permit: Permit, hold: Hold) -> bool:
        """One attempt, and what follows from it; whether a page is delivered, and its hold with it."""
        asked_at, answers = anyio.current_time(), self.state.trust.answers
        self.tempo.note_attempt(asked_at, self._limiter.in_flight)
        try:
            page = await self._client.attempt(walk.query(), permit, hold)
            self._reached(page, anyio.current_time() - asked_at)
            self._change()  # it is parked no more
            if not await self._may_be_judged(walk, hold) or self._is_over(walk):
                return False
            try:
                if walk is not self.state.witness:
                    return await self._take(walk, page, hold)
                taking.take_witness(self.state, page)
            except PageRefused as refused:
                raise type(refused)(f"{refused}{_came(page)}") from None
        except AttemptFailed as error:
            if not isinstance(error, PageRefused):  # that answer came, and was counted
                now = anyio.current_time()
                self.tempo.note_failure(now, self._limiter.in_flight, now - asked_at)
            await self._failed(walk, error, among_answers=self.state.trust.answers > answers)
        except SliceRefused as error:
            self._reach.answered()
            if not self._is_over(walk):
                await self._intake.give_up(walk, str(error))
        return False

    async def _may_be_judged(self, walk: Walk, hold: Hold) -> bool:
        """Waits with an answer for the messages that may prove it, if it came before they were complete.

        Where a drain leaves them unfinished, or it would leave others too little room to come in, it is not taken.
        """
        if walk.follows is None:
            return True
        hold.park()
        kept = self._budget.parked * _KEPT_PART <= self._budget.share
        if not kept:
            hold.release()
        if not await self._intake.is_over(walk.follows) or not kept:
            walk.follows = None
            return False
        await hold.work(0)
        return True

    def _is_over(self, walk: Walk) -> bool:
        """Whether an answer comes too late: its slice is complete or given up, or its part was joined to another."""
        lead = walk.of_slice
        return walk is not self.state.witness and (
            self.state.walks.get(lead.slice_id) is not lead or not ending.is_awaited(walk)
        )

    def _reached(self, page: Page, answer_s: float) -> None:
        usual_s = self.state.answer_s
        self.state.answer_s = answer_s if usual_s is None else usual_s + _NEWS * (answer_s - usual_s)
        met = self.met[page.query.dataset.name]
        if len(met) < _MOST_MET:
            met |= page.met
        self._reach.answered()
        guess = int(self.state.body_bytes * _FORGET) if self.queries > 1 else 0
        self.state.body_bytes = max(page.wire_bytes, guess, _LEAST_BODY_BYTES)
        self.fitting.note(page)
        self.tempo.note_answer(anyio.current_time(), self._limiter.in_flight, page.batch.num_rows, page.seconds)

    async def _take(self, walk: Walk, page: Page, hold: Hold) -> bool:
        """Takes a page; whether it is delivered, and its hold with it."""
        trust = self.state.trust
        believed = not (trust.false_ends or trust.false_empties)
        try:
            if walk.scope is not None:
                taken = await widewalks.take(self.state, walk, page)
            else:
                taken = await taking.take(self.state, walk, page, self._slices.failed_keys)
        finally:
            if believed and (trust.false_ends or trust.false_empties):
                log.warning("the source said that there is nothing more where there was; ends are asked for more often")
        if taken is None:
            return False
        await self._hand_over(walk, taken, hold)
        return True

    async def _hand_over(self, walk: Walk, taken: Taken, hold: Hold) -> None:
        lead = walk.of_slice
        lead.done = taken.proof is not None
        if walk.scope is not None:
            widewalks.note_delivery(walk)
        elif taken.rows is not None:
            self.rows[walk.key.dataset] += taken.rows.num_rows
        self.state.uncommitted += 1
        # Nothing is awaited from where the walk moved on until here: a slice's pages go in the order they were taken.
        await self._deliver.send(Delivery(lead, taken, hold))

    async def delivered(self, delivery: Delivery, segment_bytes: int) -> None:
        """The lake has made a page durable."""
        delivery.hold.release()
        self.state.uncommitted -= 1
        delivery.walk.staged_bytes += segment_bytes
        if delivery.taken.proof is not None:
            self.complete += 1
            self.workload.complete(delivery.walk)
            await self._intake.ended(delivery.walk.slice_id)
        self._change()

    async def delivered_wide(self, walk: Walk, hold: Hold, committed: Committed) -> None:
        """The lake has made a page of a walk over many sends durable, and what it held of each."""
        hold.release()
        self.state.uncommitted -= 1
        self.rows[walk.key.dataset] += committed.rows
        self.complete += committed.complete
        widewalks.note_commit(walk)
        if committed.ended:
            await self._intake.ended_wide(walk)
        elif walk.done:
            await self._intake.give_up_wide(walk, "")
        elif committed.complete:
            self._intake.rewind()
        self._change()

    # --- sizes

    async def _ask_size(self, query: Query, permit: Permit) -> None:
        """One attempt at a list that says how large sends are. Whatever becomes of it, the harvest goes on."""
        sizes, tuning = self.state.sizes, self.settings.tuning
        with self._turn(permit):
            try:
                with anyio.fail_after(max(_LEAST_PATIENCE_S, _PATIENCE * (self.state.answer_s or 0.0))):
                    page = await self._client.attempt(query, permit)
                sizes.take(page, anyio.current_time(), tuning)
            except (AttemptFailed, SliceRefused, TimeoutError, Unauthorized) as error:
                sizes.fail(query, error, anyio.current_time(), tuning)
                self._client.admitted = True  # it was let in to messages
            finally:
                sizes.end(query)
            for walk in list(self.state.walks.values()):
                await self._note_size(walk)

    async def _note_size(self, lead: Walk) -> None:
        """Has a slice know how large it is, if that is known by now."""
        expected = self.state.sizes.learned(lead)
        if expected is not None:
            self.workload.sized(lead, expected)
            self._change()
            await to_thread.run_sync(self._slices.note_size, lead.slice_id, expected)

    # --- failures

    async def _failed(self, walk: Walk, error: AttemptFailed, *, among_answers: bool) -> None:
        """An attempt failed; ``among_answers`` says whether answers to others were taken since it was made."""
        now = anyio.current_time()
        self.trouble = (now, str(error))
        log.info("attempt failed", query=str(walk.query()), kind=type(error).__name__, reason=str(error))
        ending.note_failure(walk)
        if not self._reach.failed(error, now, walk.failures):
            walk.error = str(error)
            return
        if self._is_over(walk):
            return
        answer_s = self.state.answer_s if among_answers else None
        retrying.note_failure(walk, error, now, self.settings, self._dice, answer_s=answer_s)
        if not (retrying.out_of_patience(walk, now, self.settings) or widewalks.is_hopeless(walk)):
            return
        if walk is not self.state.witness:
            await self._intake.give_up(walk, str(error))
            return
        for waiting in [walk for walk in self.state.walks.values() if walk.awaits_witness]:
            await self._intake.give_up(waiting, str(error))
        retrying.note_success(walk)


def _came(page: Page) -> str:
    """What an answer brought that is refused, in a clause: its keys, and nothing else of it."""
    keys = page.batch.column(page.query.dataset.key)
    if not len(keys):
        return ""
    return f"; what came: {len(keys):,} records, the first with the key {keys[0]}, the last with {keys[-1]}"


__all__ = ["Delivery", "Scheduler"]
