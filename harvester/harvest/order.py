"""The order in which sends are begun: a plain function over what is known of them before they are asked.

What an earlier run has begun goes first. Then the sends that are known to be large, the largest first: a send's pages
are asked one after another, and a giant that is begun last would be left to run alone when all others are done (list
scheduling, longest first: R. L. Graham, "Bounds on multiprocessing timing anomalies", 1969). Then those of unknown
size, which may turn out to be large. Last the ones that need one query each: they fill any gap.

Once begun, what was begun earlier goes before what was begun later (``plan.choose``); so no more is under way than
there are turns.
"""

from __future__ import annotations

Place = tuple[int, int, int]
"""A send's place in the order: the lowest goes first, and no two sends have the same."""


def place(id_send: int, *, begun: bool, expected: int | None, limit: int) -> Place:
    """Where a send stands in the order.

    Args:
        id_send: the send.
        begun: whether an earlier run has asked for some of it, and not all.
        expected: its number of messages, where known.
        limit: how many records one query brings.
    """
    if begun:
        return 0, 0, id_send
    if expected is None:
        return 2, 0, id_send
    return 1 if expected >= limit else 3, -expected, id_send


__all__ = ["Place", "place"]
