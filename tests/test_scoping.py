"""Which sends are walked together, and which rows go where: decided over numbers, and over pages made by hand."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvester.config import Scope
from harvester.datasets import MESSAGES
from harvester.harvest.routing import route, sends_of
from harvester.harvest.scoping import Chosen, Known, Weighing
from harvester.lake.staging import Whole
from harvester.lake.wide import Member
from harvester.model import Proof, SliceKey

LIMIT = 1000
ALL = Known(account=True)


def weighing(
    campaigns: dict[int | None, list[int | None]], others: dict[int, list[int | None]] | None = None
) -> Weighing:
    weighed = Weighing(LIMIT)
    for wanted, sizes in ((True, campaigns), (False, others or {})):
        for id_message, of_campaign in sizes.items():
            for size in of_campaign:
                weighed.add(id_message, size, wanted=wanted)
    return weighed


def test_many_tiny_sends_are_one_walk_over_the_account() -> None:
    tiny = weighing({number: [12] * 4 for number in range(1000)})
    chosen = tiny.choose(Scope.AUTO, ALL)
    assert chosen == Chosen(account=True)
    assert chosen.queries(tiny.campaigns, LIMIT) == 49
    assert Chosen().queries(tiny.campaigns, LIMIT) == 4000


def test_campaigns_are_walked_where_the_account_holds_much_else() -> None:
    tiny = weighing({1: [12] * 50, 2: [12] * 50}, {3: [10_000_000]})
    chosen = tiny.choose(Scope.AUTO, ALL)
    assert chosen == Chosen(campaigns=frozenset({1, 2}))
    assert chosen.queries(tiny.campaigns, LIMIT) == 2


@pytest.mark.parametrize(
    "weighed",
    [
        pytest.param(weighing({1: [400] * 50}), id="more than a quarter of a page each"),
        pytest.param(weighing({1: [12]}), id="one send"),
        pytest.param(weighing({1: [12] * 5}, {1: [9000]}), id="much that is not wanted"),
        pytest.param(weighing({1: [12] * 50}, {1: [None]}), id="something unknown that is not wanted"),
        pytest.param(weighing({1: [*[12] * 50, None]}), id="something unknown that is wanted"),
        pytest.param(weighing({None: [12] * 50, 1: [9000]}), id="no campaign is known, and a large one beside"),
        pytest.param(weighing({}), id="nothing"),
    ],
)
def test_sends_are_walked_one_by_one_where_that_takes_no_more(weighed: Weighing) -> None:
    assert weighed.choose(Scope.AUTO, Known(campaigns=(1,))) == Chosen()


def test_a_scope_that_may_hold_anything_is_never_guessed_at() -> None:
    tiny = weighing({1: [12] * 500, 2: [12] * 500})
    assert tiny.choose(Scope.AUTO, Known()) == Chosen()
    assert tiny.choose(Scope.AUTO, Known(campaigns=(2,))) == Chosen(campaigns=frozenset({2}))


def test_what_is_asked_for_is_done_whatever_it_takes() -> None:
    mixed = weighing({1: [12, None], None: [5]}, {2: [7]})
    assert mixed.choose(Scope.SEND, ALL) == Chosen()
    assert mixed.choose(Scope.CAMPAIGN, Known()) == Chosen(campaigns=frozenset({1}))
    assert mixed.choose(Scope.ACCOUNT, Known()) == Chosen(account=True)
    assert weighing({}, {2: [7]}).choose(Scope.ACCOUNT, ALL) == Chosen()


@given(st.dictionaries(st.integers(1, 5), st.lists(st.integers(0, 3000), max_size=20), max_size=5), st.booleans())
def test_what_is_chosen_never_takes_more_queries_than_one_by_one(
    sizes: dict[int | None, Any], everything: bool
) -> None:
    weighed = weighing(sizes)
    known = ALL if everything else Known(campaigns=(1, 2))
    chosen = weighed.choose(Scope.AUTO, known)
    assert chosen.queries(weighed.campaigns, LIMIT) <= Chosen().queries(weighed.campaigns, LIMIT)
    assert everything or chosen.campaigns <= {1, 2}


def batch(*rows: tuple[int, int]) -> pa.RecordBatch:
    """Rows of messages: keys, and the sends that they are of."""
    keys, sends = zip(*rows, strict=True)
    columns = {field.name: pa.nulls(len(rows), field.type) for field in MESSAGES.schema}
    columns |= {MESSAGES.key: pa.array(keys, pa.int64()), "id_send": pa.array(sends, pa.int64())}
    return pa.RecordBatch.from_pydict(columns, schema=MESSAGES.schema)


class TestRoute:
    def test_rows_go_to_their_slices_in_key_order_and_others_go_nowhere(self) -> None:
        rows = batch((1, 7), (2, 8), (3, 7), (4, 9), (5, 8), (6, 9))
        assert sends_of(rows) == [7, 8, 9]
        routed = route(rows, {7: Member(70, expected=2), 8: Member(80)}, limit=50, short=False)
        first, second = routed.pages
        assert (routed.rows, routed.left) == (4, ())
        assert first.rows is not None
        assert first.rows.column(MESSAGES.key).to_pylist() == [1, 3]
        assert (first.slice_id, first.proof, first.whole) == (70, Proof.COUNT, Whole(SliceKey("messages", 7), 2))
        assert first.key_range is not None
        assert (first.key_range.cursor, first.key_range.held, first.key_range.anchors) == (3, 3, (1,))
        assert second.rows is not None
        assert second.rows.column(MESSAGES.key).to_pylist() == [2, 5]
        assert second.proof is None

    @pytest.mark.parametrize(("short", "proof"), [(False, None), (True, Proof.COUNT)])
    def test_the_last_send_of_a_full_page_may_go_on(self, short: bool, proof: Proof | None) -> None:
        routed = route(batch((1, 7), (2, 7)), {7: Member(70, expected=2)}, limit=2, short=short)
        assert [page.proof for page in routed.pages] == [proof]

    def test_a_slice_goes_on_where_it_was(self) -> None:
        member = Member(70, rows=3, expected=5, held=30, anchors=(20,))
        (page,) = route(batch((30, 7), (31, 7), (32, 7), (33, 8)), {7: member}, limit=50, short=False).pages
        assert page.rows is not None
        assert page.rows.column(MESSAGES.key).to_pylist() == [31, 32]
        assert (page.proof, page.whole) == (Proof.COUNT, None)
        assert page.key_range is not None
        assert page.key_range.anchors == (31, 30, 20)

    def test_a_count_that_is_passed_proves_nothing(self) -> None:
        routed = route(batch((1, 7), (2, 7), (3, 8)), {7: Member(70, expected=1)}, limit=50, short=True)
        assert [page.proof for page in routed.pages] == [None]

    def test_a_complete_slice_of_which_more_comes_is_complete_no_more(self) -> None:
        member = Member(70, rows=2, expected=2, complete=True, held=2)
        routed = route(batch((1, 7), (2, 7), (9, 7)), {7: member}, limit=50, short=True)
        assert (routed.left, routed.rows) == ((70,), 0)
        assert [(page.rows, page.reopened) for page in routed.pages] == [(None, True)]
        again = route(batch((1, 7), (2, 7)), {7: member}, limit=50, short=True)
        assert (again.pages, again.left) == ((), ())
