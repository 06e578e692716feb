"""What a harvest takes at least, whoever schedules it: queries, and the time that they need.

A lower bound on the makespan is the largest of three: queries ÷ rate, queries x latency ÷ concurrency, and bytes ÷
bandwidth. Queries are the least of the scope that was walked: a send each, a campaign each, or the whole account.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.simulated.api import packed_bytes
from harvester.datasets import BOUNCES, MESSAGES
from harvester.harvest.paging import pages

if TYPE_CHECKING:
    from benchmarks.simulated.harvest import Scene


def least_queries(scene: Scene) -> dict[str, int]:
    """The fewest queries that bring all of a scene up to its proofs, by the scope that messages are walked by."""
    settings, account = scene.told(), scene.account
    limit = min(settings.limit, scene.behaviour.page_cap)
    lists = len(account.rows) if BOUNCES.name in settings.datasets else 0
    if MESSAGES.name not in settings.datasets:
        return {"send": lists}
    starts = np.arange(0, len(account.rows), account.campaign_sends)
    by_campaign = np.add.reduceat(account.rows, starts).tolist()
    scopes = {"send": account.rows.tolist(), "campaign": by_campaign, "account": [account.total]}
    return {name: lists + sum(pages(rows, limit) for rows in walks) for name, walks in scopes.items()}


def least_seconds(scene: Scene, queries: int) -> float:
    """The least time that a scene takes.

    Args:
        scene: what is harvested.
        queries: how many were asked; the least ones of the scope that was walked count.
    """
    settings, behaviour, account = scene.told(), scene.behaviour, scene.account
    leasts = least_queries(scene).values()
    least = max((each for each in leasts if each <= queries), default=min(leasts))
    rate = min(settings.rate, behaviour.rate or settings.rate)
    by_rate = (least - settings.burst) / rate + behaviour.latency_s[0]
    slots = min(settings.concurrency, behaviour.most_in_flight or settings.concurrency)
    by_latency = least * sum(behaviour.latency_s) / 2 / slots
    rows = account.total * (MESSAGES.name in settings.datasets)
    by_link = packed_bytes(rows) / scene.bytes_per_s if scene.bytes_per_s else 0.0
    return max(by_rate, by_latency, by_link)


__all__ = ["least_queries", "least_seconds"]
