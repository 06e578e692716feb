"""Many sends walked by several cursors into a real ledger: whatever is guessed, served, lost or killed, each row once.

Time is simulated and the source is made of keys, those of all sends mixed; the lake, its files and its ledger are real.
A kill loses what is on its way, and leaves out steps of the last commit; sometimes a file is lost besides.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from harvester.datasets import MESSAGES
from harvester.harvest import keeping, parts, widewalks
from harvester.harvest.lineup import Lineup
from harvester.harvest.plan import State
from harvester.harvest.walks import Walk
from harvester.lake.lake import Lake, open_lake
from harvester.lake.segments import read_segment
from harvester.lake.staging import Taken
from harvester.lake.upkeep.verify import verifying
from harvester.lake.waiting import all_waiting
from harvester.model import KEY_END, Page, Proof, Query, Send, SliceKey
from tests.harvesting import QUICK, lake_table
from tests.test_scoping import batch
from tests.test_seams import failing, some_keys
from tests.thorough import some
from tests.walking import Committed, Source, Walking, at_once

SENDS = (7, 8, 9, 10, 11)


def send_of(key: int) -> int:
    """Of which send a key is: they lie mixed, and one of them in a stretch of its own here and there."""
    return 11 if key // 997 % 3 == 1 else SENDS[key * 7919 % 4]


class Killed(Exception):
    """The run ends here, between two transactions."""


@dataclass(slots=True)
class IntoLake(Committed):
    """What a real lake holds, looked at after each step; a step may be the last before a kill."""

    lake: Lake = None  # type: ignore[assignment]
    keys: tuple[int, ...] = ()
    kills: Iterator[bool] = field(default_factory=lambda: iter(()))
    most_waiting: int = 0

    def take(self, page: Taken) -> None:
        self._take_steps(keeping.commit(self.lake, page, 50))

    def make_up(self) -> None:
        self._take_steps(keeping.make_up(self.lake, 50))

    def _take_steps(self, steps: Iterator[keeping.Committed]) -> None:
        for step in steps:
            self.look()
            if step.ended:
                self.proof = Proof.TAIL
            if next(self.kills, False):
                raise Killed

    def look(self) -> None:
        """Of a member, the lake holds each row up to the first that waits in the first range, or up to its cursor."""
        waiting = [page.first_key for _, page in all_waiting(self.lake.ledger.database)]
        self.most_waiting = max(self.most_waiting, len(waiting))
        for scope in self.lake.scopes.take(0, 9):
            first = scope.key_ranges[0]
            assert (first.start, scope.key_ranges[-1].stop) == (0, KEY_END)
            assert all(left.stop == right.start for left, right in pairwise(scope.key_ranges))
            held_up_to = (first.held or 0) + 1
            until = min([held_up_to, *(key for key in waiting if key < first.stop)])
            for id_send, member in self.lake.scopes.members(scope.id, SENDS).items():
                found, true = self.rows_of(id_send), [key for key in self.keys if send_of(key) == id_send]
                assert found == true[: len(found)]
                assert len(found) == member.rows >= sum(key < until for key in true)

    def rows_of(self, id_send: int) -> list[int]:
        """The keys of a send's rows, staged and sealed, file by file."""
        record = self.lake.ledger.find(SliceKey("messages", id_send))
        assert record is not None
        found = lake_table(self.lake.store.state.root, "messages", id_send).column(MESSAGES.key).to_pylist()
        for segment in self.lake.inventory.staged(record.id):
            found += read_segment(self.lake.store, segment).column(MESSAGES.key).to_pylist()
        return [key for key in found if key is not None]


@dataclass(slots=True)
class WideWalking(Walking):
    """A walk over all sends, in simulated time, into a real lake."""

    def _begin(self) -> tuple[State, Walk]:
        into = self.committed
        assert isinstance(into, IntoLake)
        into.make_up()
        state, nothing = Walking._begin(self)
        scopes = into.lake.scopes.take(0, 9)
        lead = widewalks.begin(scopes[0], self.limit) if scopes else nothing
        state.walks = Lineup({lead.slice_id: lead})
        return state, lead

    def _commit(self, lead: Walk, on_their_way: deque[Taken]) -> None:
        while on_their_way and (
            len(on_their_way) > self.lag or on_their_way[-1].proof or any(part.stays for part in parts.of(lead))
        ):
            self.committed.take(on_their_way.popleft())
            widewalks.note_commit(lead)

    def _taken(self, state: State, walk: Walk, query: Query, keys: list[int]) -> Taken | None:
        rows = batch(*((key, send_of(key)) for key in keys)) if keys else batch((1, 1)).slice(0, 0)
        taken = at_once(widewalks.take(state, walk, Page(query, rows, 1)))
        if taken is not None:
            widewalks.note_delivery(walk)
        return taken


def test_what_is_to_the_right_of_a_seam_waits_and_goes_to_its_slices_in_the_order_of_keys(tmp_path: Path) -> None:
    found = list(range(1000, 1900, 3))
    into = IntoLake(keys=tuple(found))
    walking = WideWalking(Source(found), limit=20, concurrency=8, lag=2, committed=into)
    with open_lake(tmp_path, QUICK) as into.lake:
        run = into.lake.runs.begin("12345")
        into.lake.runs.select(run, sizes(found, Random(1)), ("messages",), QUICK.clock())
        into.lake.scopes.begin(run, None, walking.limit)
        walking.run()
        assert not into.lake.scopes.has_any()
        for id_send in SENDS:
            assert into.rows_of(id_send) == [key for key in found if send_of(key) == id_send]
    assert walking.splits > 3
    assert into.most_waiting > 3
    assert walking.now <= 0.6 * len(found) / walking.limit, "one cursor takes a second for each page"


def test_an_end_that_is_said_twice_early_in_a_run_is_not_the_end_of_all_sends(tmp_path: Path) -> None:
    asked = 0

    def ends_early(_query: Query, keys: list[int]) -> list[int]:
        nonlocal asked
        asked += 1
        return keys[: {3: 10, 4: 1}.get(asked, len(keys))]

    found = list(range(1000, 1600, 3))
    into = IntoLake(keys=tuple(found))
    walking = WideWalking(Source(found, ends_early), limit=20, concurrency=1, committed=into)
    with open_lake(tmp_path, QUICK) as into.lake:
        run = into.lake.runs.begin("12345")
        into.lake.runs.select(run, [Send(id_send) for id_send in SENDS], ("messages",), QUICK.clock())
        into.lake.scopes.begin(run, None, walking.limit)
        walking.run()
        for id_send in SENDS:
            assert into.rows_of(id_send) == [key for key in found if send_of(key) == id_send]


def sizes(found: Sequence[int], dice: Random) -> list[Send]:
    """All sends, with their sizes, wrong ones, or none."""
    kind = dice.choice(["right", "none", "some wrong"])
    sends = []
    for id_send in SENDS:
        rows = sum(send_of(key) == id_send for key in found)
        wrong = dice.choice([None, rows + 3, max(0, rows - 3), rows])
        sends.append(Send(id_send, expected={"right": rows, "none": None, "some wrong": wrong}[kind]))
    return sends


@pytest.mark.parametrize("seed", some(range(120), 8))
def test_whatever_is_guessed_served_lost_or_killed_each_row_comes_once(tmp_path: Path, seed: int) -> None:
    dice = Random(seed)
    found = next(keys for keys in iter(lambda: some_keys(dice), None) if len(keys) >= 200)[:240]
    source = Source(found, failing(dice), inclusive=dice.random() < 0.5)
    kills = iter([dice.random() < 0.3 for _ in range(30)]) if dice.random() < 0.7 else iter(())
    into = IntoLake(keys=tuple(found), kills=kills)
    walking = WideWalking(
        source,
        limit=dice.choice([20, 50]),
        concurrency=dice.choice([2, 5, 12]),
        latency_s=lambda: dice.uniform(0.2, 2.0),
        lag=dice.choice([0, 3]),
        committed=into,
    )
    begun = False
    said: defaultdict[int, set[int | None]] = defaultdict(set)
    while into.proof is None:
        with open_lake(tmp_path, QUICK) as into.lake:
            run = into.lake.runs.begin("12345")
            listed = sizes(found, dice)
            for send in listed:
                said[send.id_send].add(send.expected)
            into.lake.runs.select(run, listed, ("messages",), QUICK.clock())
            if not begun:
                into.lake.scopes.begin(run, None, walking.limit)
            begun = True
            into.lake.waiting.remove(into.lake.scopes.resume(run, keep=True))
            with suppress(Killed):
                walking.run()
        with verifying(tmp_path, quick=False) as seen:
            assert list(seen.findings()) == []
        lost = sorted((tmp_path / "_harvest" / "segments").glob("scope-*"))
        if lost and dice.random() < 0.5:
            dice.choice(lost).unlink()
    with open_lake(tmp_path, QUICK) as into.lake:
        assert not into.lake.scopes.has_any()
        assert not list((tmp_path / "_harvest" / "segments").glob("scope-*"))
        for id_send in SENDS:
            true = [key for key in found if send_of(key) == id_send]
            record = into.lake.ledger.find(SliceKey("messages", id_send))
            assert record is not None
            rows, well_said = into.rows_of(id_send), said[id_send] <= {None, len(true)}
            if record.reopened:  # more came than was said: it goes on by itself, from where it is
                assert rows == true[: len(rows)]
                assert not well_said
            else:
                assert rows == true
                assert (record.proof is not None) >= (bool(true) and well_said)
            assert record.rows == len(rows)
