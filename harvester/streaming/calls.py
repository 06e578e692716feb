"""What a program calls: ``stream``, ``read`` and ``schema``. Documented in the README."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from harvester.datasets import CATALOGUE
from harvester.streaming.options import Options, dataset_of, settings_of, wanted_of
from harvester.streaming.reading import Batches
from harvester.streaming.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date
    from typing import Unpack

    from harvester.model import Send


def schema(dataset: str = "messages") -> pa.Schema:
    """The columns of a dataset: of every batch that ``stream`` and ``read`` yield. Raises UsageError."""
    return CATALOGUE[dataset_of(dataset)].schema


def stream(
    dataset: str = "messages",
    *,
    sends: int | Send | Iterable[int | Send] | None = None,
    campaigns: int | Iterable[int] | None = None,
    all: bool = False,  # noqa: A002  as on the command line
    since: date | str | None = None,
    until: date | str | None = None,
    **options: Unpack[Options],
) -> Stream:
    """A dataset's rows as record batches: ``async for batch in harvester.stream(…)``. Nothing is written anywhere.

    Batches of a send come in key order, and no batch holds rows of two sends. Batches of different sends come as their
    pages do. Nothing is asked before the first batch is asked for, and a reader that is slow has the harvest wait.

    Args:
        dataset: messages, bounces, raw_bounces or raw_responses.
        sends: of these sends: their ids, or ``Send`` with the number of messages that they should have.
        campaigns: of all sends of these campaigns.
        all: of all sends of the account.
        since: of those of ``campaigns`` or ``all``, only sends of this day or later: a date, or such as 2024-05-31.
        until: likewise, of this day or earlier.
        **options: client_id, client_md5, client_md5_file, endpoint, ca_file, insecure_http, wire, limit, rate, burst,
            concurrency, adaptive, memory, timeout, patience, redact, redact_key and redact_key_file, as on the command
            line; see ``Options``.

    Raises:
        UsageError: an option says something that can't be meant. Whatever else goes wrong is raised where the stream
            is read: see ``Stream.__anext__``.
    """
    settings = settings_of(dataset_of(dataset), options)
    wanted = wanted_of(sends, campaigns, everything=all, since=since, until=until)
    return Stream(settings, wanted, schema(dataset))


def read(
    dataset: str = "messages",
    *,
    sends: int | Send | Iterable[int | Send] | None = None,
    campaigns: int | Iterable[int] | None = None,
    all: bool = False,  # noqa: A002  as on the command line
    since: date | str | None = None,
    until: date | str | None = None,
    **options: Unpack[Options],
) -> pa.RecordBatchReader:
    """What ``stream`` yields, for programs that do not await: a reader that Polars, DuckDB and pandas take as it is.

    It can be read once, and works inside a running event loop, too. To leave early, drop it: that ends the harvest. Its
    errors are those of ``Stream.__anext__``; libraries that read it may wrap them in errors of their own.

    Arguments and errors are those of ``stream``.
    """
    source = stream(dataset, sends=sends, campaigns=campaigns, all=all, since=since, until=until, **options)
    return pa.RecordBatchReader.from_batches(source.schema, Batches(source))


__all__ = ["read", "schema", "stream"]
