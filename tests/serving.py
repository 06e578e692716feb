"""A simulated account for programs that do not await: served on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from anyio.from_thread import start_blocking_portal

from harvester.datasets import CATALOGUE
from harvester.simulator.behaviour import Behaviour
from harvester.simulator.server import Server, serve
from harvester.simulator.spec import AccountSpec
from harvester.simulator.truth import digest, expected


@contextmanager
def served(spec: AccountSpec, behaviour: Behaviour | None = None) -> Iterator[Server]:
    """Serves the account while the context lasts."""
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(serve(spec, behaviour)) as server,
    ):
        yield server


def asking(server: Server) -> dict[str, Any]:
    """How to ask the server, quickly."""
    spec = server.account.spec
    return {
        "client_id": spec.client_id,
        "client_md5": spec.client_md5,
        "endpoint": server.url,
        "rate": 1000.0,
        "burst": 100,
        "concurrency": 4,
        "timeout": 20,
        "patience": 30,
    }


def assert_exact(server: Server, dataset: str, batches: Iterable[pa.RecordBatch], *ids: int) -> None:
    """The batches hold what the account holds of these sends (of all): every value, in order within each send."""
    by_send: dict[int, list[pa.RecordBatch]] = {}
    for batch in batches:
        (id_send,) = pc.unique(batch.column("id_send")).to_pylist()
        assert isinstance(id_send, int)
        by_send.setdefault(id_send, []).append(batch)
    entry = CATALOGUE[dataset]
    truth = {
        id_send: expected(server.account, entry, id_send) for id_send in ids or tuple(server.account.spec.sends.ids)
    }
    assert by_send.keys() == {id_send for id_send, table in truth.items() if table.num_rows}
    for id_send, parts in by_send.items():
        assert all(part.schema.equals(entry.schema) for part in parts)
        assert digest(entry, parts) == digest(entry, [truth[id_send]]), f"{dataset} of send {id_send}"


def threads_of_ours() -> set[str]:
    """The threads that a harvest may have begun and that are alive."""
    names = {thread.name for thread in threading.enumerate()}
    return {name for name in names if name.startswith("harvester")}
