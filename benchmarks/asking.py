"""Asks one query of each of many sends by the client alone: no plan, no ledger, no lake; started by ``bench_sends``.

python -m benchmarks.asking FIGURES.json URL CLIENT_ID FIRST_ID_SEND SENDS        with the code in HARVESTER_CLIENT_MD5
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from harvester.api.client import Client
from harvester.config import Settings
from harvester.datasets import MESSAGES, PAGE_CAP
from harvester.model import Query, Secret

if TYPE_CHECKING:
    from collections.abc import Iterator


async def ask(settings: Settings, ids: Iterator[int]) -> None:
    async with Client.open(settings) as client, anyio.create_task_group() as tasks:

        async def work() -> None:
            for id_send in ids:
                await client.attempt(Query(MESSAGES, id_send, limit=PAGE_CAP), await client.limiter.acquire())

        for _ in range(settings.concurrency):
            tasks.start_soon(work)


def main() -> None:
    figures, url, client_id, first, many = sys.argv[1:]
    md5 = Secret(os.environ["HARVESTER_CLIENT_MD5"])
    settings = Settings(lake=Path("unused"), client_id=client_id, client_md5=md5, endpoint=url, rate=1000.0, burst=1000)
    began = time.process_time()
    anyio.run(ask, settings, iter(range(int(first), int(first) + int(many))))
    Path(figures).write_text(json.dumps({"processor_s": time.process_time() - began}), encoding="utf-8")


if __name__ == "__main__":
    main()
