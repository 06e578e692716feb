"""The options of ``harvester run`` and ``harvester plan``, and how they become a run's settings and sends.

Defaults are those of ``config.Settings``; this module adds what a command line needs: names, help, units, and where the
account's credentials may come from. The MD5 code is never an option, since every user of a machine can read the
arguments of its processes.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from harvester.config import (
    DEFAULT_ENDPOINT,
    LEAST_FILE,
    LEAST_LIMIT,
    PartitionBy,
    Refresh,
    Scope,
    Settings,
    TableChoice,
    TableFormat,
    Tuning,
    Wire,
    read_md5,
    read_redact_key,
)
from harvester.console.converters import database, day, duration, ids, path, place, size
from harvester.console.exits import tell
from harvester.console.secrecy import hide
from harvester.console.sends import SendList
from harvester.console.sources import KEY_VARIABLE, MD5_VARIABLE
from harvester.console.wording import size_option, span_option
from harvester.datasets import CATALOGUE, DEFAULT, PAGE_CAP
from harvester.errors import UsageError
from harvester.harvest.wanted import Wanted
from harvester.model import Secret, Send
from harvester.places import place_of
from harvester.redaction import Redaction, Way, parse_redaction

LogFormat = Literal["auto", "text", "json"]

WHAT = Group("What to harvest, and where to", sort_key=1)
ACCOUNT = Group("The account", sort_key=2)
PACE = Group("Pace and patience", sort_key=3)
AGAIN = Group("What to ask again", sort_key=4)
OUTPUT = Group("Output and settings", sort_key=5)

_TUNING = Tuning()
LEDGER_HELP = (
    "The PostgreSQL database that the lake's ledger is in, where several machines use the lake: "
    "postgresql://user@host/database. If not given, the ledger is in a file of the lake's. Needs psycopg: "
    "pip install 'psycopg[binary]'."
)


def table_choice(table: str | None, catalog: str | None, option: str = "--table") -> TableChoice | None:
    """The tables that a lake is to have, by ``option``; None for those that it has. Raises UsageError."""
    if table is None:
        if catalog is not None:
            raise UsageError(
                f"--catalog goes with {option} iceberg. Of a lake that has tables already, leave both out: it knows "
                "their catalog"
            )
        return None
    return TableChoice(TableFormat(table), catalog)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What ``harvester run`` and ``harvester plan`` can be told. Times are in seconds, sizes in bytes."""

    lake: Annotated[
        str,
        Parameter(
            group=WHAT,
            converter=place,
            metavar="LAKE",
            help="The folder that holds, or will hold, the Parquet files; or a URL in an object store: "
            "s3://bucket/prefix, gs://bucket/prefix, abfs://container@account.dfs.core.windows.net/prefix.",
        ),
    ]
    state: Annotated[
        Path | None,
        Parameter(
            group=WHAT,
            converter=path,
            metavar="DIR",
            help="Of a lake in an object store: the local folder for its ledger, and for pages until they are in data "
            "files; or, with --ledger, for files that are being written, and nothing that counts. If not given, one "
            "below ~/.local/state/harvester that is named after the lake.",
        ),
    ] = None
    ledger: Annotated[
        Secret | None,
        Parameter(group=WHAT, converter=database, metavar="URL", help=LEDGER_HELP),
    ] = None
    send: Annotated[
        tuple[int, ...],
        Parameter(
            group=WHAT,
            converter=ids,
            consume_multiple=True,
            metavar="ID...",
            show_default=False,
            help="Sends to harvest, by their ID_send; several may follow, and the option may be repeated.",
        ),
    ] = ()
    sends_file: Annotated[
        str | None,
        Parameter(
            group=WHAT,
            metavar="FILE",
            allow_leading_hyphen=True,  # of the hyphen that stands for standard input
            help="A file that lists the sends, or - for standard input: one ID_send a line (# begins a comment), or "
            "CSV with a header: id_send, and if you like id_message, rows (how many messages the send has), sent_at.",
        ),
    ] = None
    campaign: Annotated[
        tuple[int, ...],
        Parameter(
            group=WHAT,
            converter=ids,
            consume_multiple=True,
            metavar="ID...",
            show_default=False,
            help="Campaigns whose sends to harvest, by their ID_message; several may follow.",
        ),
    ] = ()
    all_: Annotated[
        bool,
        Parameter(name="--all", group=WHAT, show_default=False, help="Harvest all sends of the account."),
    ] = False
    since: Annotated[
        date | None,
        Parameter(
            group=WHAT,
            converter=day,
            metavar="DAY",
            help="With --campaign or --all: only sends of this day (YYYY-MM-DD) or later. If not given, all from the "
            "first message on.",
        ),
    ] = None
    until: Annotated[
        date | None,
        Parameter(
            group=WHAT,
            converter=day,
            metavar="DAY",
            help="With --campaign or --all: only sends of this day (YYYY-MM-DD) or earlier.",
        ),
    ] = None
    dataset: Annotated[
        tuple[str, ...],
        Parameter(
            group=WHAT,
            consume_multiple=True,
            metavar="NAME...",
            show_default=" ".join,
            help=f"What to harvest of each send: {', '.join(CATALOGUE)}.",
        ),
    ] = DEFAULT
    partition_by: Annotated[
        Literal["send", "campaign", "month", "day"] | None,
        Parameter(
            group=WHAT,
            metavar="NAME",
            help="What the folders of a new lake are: sends, if this is not given; or campaigns, months or days (of "
            "message_date): then a data file holds rows of many sends. A lake stays as it was begun.",
        ),
    ] = None
    file_size: Annotated[
        int,
        Parameter(
            group=WHAT,
            metavar="SIZE",
            converter=size,
            show_default=size_option,
            help="The size that data files aim at.",
        ),
    ] = _TUNING.target_bytes
    row_group_size: Annotated[
        int,
        Parameter(
            group=WHAT,
            metavar="SIZE",
            converter=size,
            show_default=size_option,
            help="The size that their row groups aim at, in memory; in the file they take a third to a half of that. "
            "An eighth of --memory at most.",
        ),
    ] = _TUNING.row_group_bytes
    table: Annotated[
        Literal["delta", "iceberg"] | None,
        Parameter(
            group=WHAT,
            metavar="FORMAT",
            help="Also make each dataset a table, for Delta Lake or Iceberg: delta, iceberg. A lake that has tables "
            "keeps them in step without this.",
        ),
    ] = None
    catalog: Annotated[
        str | None,
        Parameter(
            group=WHAT,
            metavar="NAME",
            help="With --table iceberg: a catalog of pyiceberg's settings, or NAME.NAMESPACE. If not given, the lake "
            "has one of its own, in _harvest/catalog.sqlite.",
        ),
    ] = None
    redact: Annotated[
        tuple[str, ...],
        Parameter(
            group=WHAT,
            consume_multiple=True,
            metavar="COLUMN=HOW...",
            show_default=False,
            help=f"What not to keep of people's data, such as email=hash,first_name=drop: {', '.join(Way)}. It is "
            "taken out before anything is written. A lake is always redacted in the same way.",
        ),
    ] = ()
    redact_key_file: Annotated[
        Path | None,
        Parameter(
            group=WHAT,
            converter=path,
            metavar="FILE",
            help=f"A file that holds the key of --redact COLUMN=hash. Or put the key itself into {KEY_VARIABLE}; it is "
            "never an argument.",
        ),
    ] = None
    client_id: Annotated[
        str | None,
        Parameter(group=ACCOUNT, metavar="N", help="The account's client id, a number. Or HARVESTER_CLIENT_ID."),
    ] = None
    client_md5_file: Annotated[
        Path | None,
        Parameter(
            group=ACCOUNT,
            converter=path,
            metavar="FILE",
            help=f"A file that holds the account's MD5 code. Or put the code itself into {MD5_VARIABLE}; it is never "
            "an argument, because other users of a machine can read arguments.",
        ),
    ] = None
    endpoint: Annotated[str, Parameter(group=ACCOUNT, metavar="URL", help="The API's address.")] = DEFAULT_ENDPOINT
    ca_file: Annotated[
        Path | None,
        Parameter(
            group=ACCOUNT,
            converter=path,
            metavar="FILE",
            help="Certificates of authorities, in PEM: the API's certificate has to be signed by one of these, instead "
            "of one that the system trusts. For private authorities.",
        ),
    ] = None
    insecure_http: Annotated[
        bool,
        Parameter(
            group=ACCOUNT,
            show_default=False,
            help="Allow an endpoint on another machine that begins with http://. The MD5 code and all data go there "
            "unencrypted.",
        ),
    ] = False
    wire: Annotated[
        Literal["json", "xml"],
        Parameter(group=ACCOUNT, metavar="NAME", help="How to speak to the API: json, or xml for XML-RPC."),
    ] = "json"
    rate: Annotated[
        float,
        Parameter(
            group=PACE,
            metavar="NUMBER",
            help="The most queries a second, of all tasks together: what Mailkit allows you.",
        ),
    ] = 1.0
    burst: Annotated[
        int, Parameter(group=PACE, metavar="N", help="How many queries may start at once after a quiet time.")
    ] = 1
    concurrency: Annotated[int, Parameter(group=PACE, metavar="N", help="The most queries in flight at once.")] = 8
    adaptive: Annotated[
        Literal["on", "off"],
        Parameter(
            group=PACE,
            metavar="HOW",
            help="on: ask less often, and fewer queries at once, where the server bears no more. off: rate and "
            "concurrency are fixed; pauses that the server asks for are kept all the same.",
        ),
    ] = "on"
    limit: Annotated[
        int, Parameter(group=PACE, metavar="N", help=f"Records to ask for in one query, {LEAST_LIMIT} to {PAGE_CAP}.")
    ] = PAGE_CAP
    scope: Annotated[
        Literal["auto", "send", "campaign", "account"],
        Parameter(
            group=PACE,
            metavar="NAME",
            help="What one walk over messages covers: a send, a campaign, the account; or auto, whatever takes fewest "
            "queries, as far as the lists of sends say how many messages there are.",
        ),
    ] = "auto"
    memory: Annotated[
        int,
        Parameter(
            group=PACE,
            metavar="SIZE",
            converter=size,
            show_default=size_option,
            help="The memory to stay within, such as 512MiB or 2GiB.",
        ),
    ] = 2**30
    timeout: Annotated[
        float,
        Parameter(
            group=PACE,
            metavar="DURATION",
            converter=duration,
            show_default=span_option,
            help="The longest that one answer may take: 90s, 10m.",
        ),
    ] = 600.0
    patience: Annotated[
        float,
        Parameter(
            group=PACE,
            metavar="DURATION",
            converter=duration,
            show_default=span_option,
            help="How long to keep trying a send that fails, or a server that went away, before giving up for now.",
        ),
    ] = 3600.0
    refresh: Annotated[
        Literal["never", "unsettled", "all"] | None,
        Parameter(
            group=AGAIN,
            metavar="WHICH",
            help="Which complete sends to ask again, since their records change: never any, unsettled (those with "
            "messages that wait for delivery), or all. If not given: unsettled ones, and young ones.",
        ),
    ] = None
    refresh_within: Annotated[
        float,
        Parameter(
            group=AGAIN,
            metavar="DURATION",
            converter=duration,
            show_default=span_option,
            help="How long a send counts as young, from the day it was sent: opens and bounces keep arriving.",
        ),
    ] = 14 * 86_400.0
    drop_gone: Annotated[
        bool,
        Parameter(
            group=AGAIN,
            show_default=False,
            help="Take rows out of the lake that a refresh does not bring back. Without it they stay, and are counted.",
        ),
    ] = False
    for_: Annotated[
        float | None,
        Parameter(
            name="--for",
            group=PACE,
            metavar="DURATION",
            converter=duration,
            help="Stop after this time, in order: finish what is in flight, keep it, and exit with 130 if there is "
            "more to do. The same command resumes. Such as 6h.",
        ),
    ] = None
    json: Annotated[
        bool, Parameter(group=OUTPUT, show_default=False, help="Print one JSON object instead of the summary.")
    ] = False
    log_format: Annotated[
        LogFormat,
        Parameter(
            group=OUTPUT,
            metavar="FORMAT",
            help="How to tell of progress on standard error. auto: a live view on a terminal, lines of text elsewhere.",
        ),
    ] = "auto"
    config: Annotated[
        Path | None,
        Parameter(
            group=OUTPUT,
            metavar="FILE",
            help="A TOML file with any of these options (rate = 2.5), at its top level or in [run].",
        ),
    ] = None

    def settings(self) -> Settings:
        """The settings of the run. Raises UsageError."""
        if self.sends_file == "":
            raise UsageError("--sends-file: the path is empty")
        finds = bool(self.campaign) or self.all_
        if not self.send and self.sends_file is None and not finds:
            raise UsageError(
                "say what to harvest: --send ID (several may follow), --sends-file FILE, --campaign ID, or --all"
            )
        if (self.since or self.until) and not finds:
            raise UsageError(f"{'--since' if self.since else '--until'} goes with --campaign or --all")
        if not self.client_id:
            raise UsageError("which account? Give its client id with --client-id N, or in HARVESTER_CLIENT_ID")
        if self.for_ is not None and self.for_ <= 0:
            raise UsageError("--for is more than 0")
        for option, given in (("--file-size", self.file_size), ("--row-group-size", self.row_group_size)):
            if given < LEAST_FILE:
                raise UsageError(f"{option} is at least 16KiB, not {given} bytes")
        return Settings(
            lake=place_of(self.lake, self.state),
            client_id=self.client_id.strip(),
            client_md5=_md5(self.client_md5_file),
            endpoint=self.endpoint,
            ca_file=self.ca_file and self.ca_file.expanduser(),
            insecure_http=self.insecure_http,
            wire=Wire(self.wire),
            datasets=tuple(dict.fromkeys(self.dataset)),
            limit=self.limit,
            rate=self.rate,
            burst=self.burst,
            concurrency=self.concurrency,
            adaptive=self.adaptive == "on",
            memory=self.memory,
            timeout_s=self.timeout,
            patience_s=self.patience,
            for_s=self.for_,
            refresh=Refresh.DUE if self.refresh is None else Refresh(self.refresh),
            refresh_within_s=self.refresh_within,
            drop_gone=self.drop_gone,
            scope=Scope(self.scope),
            ledger=self.ledger,
            redaction=self._redaction(),
            partition_by=None if self.partition_by is None else PartitionBy(self.partition_by),
            tuning=replace(_TUNING, target_bytes=self.file_size, row_group_bytes=self.row_group_size),
            table=table_choice(self.table, self.catalog),
        )

    def _redaction(self) -> Redaction:
        """What is to be redacted. A key without anything to hash is an error: what was to be hashed would be kept."""
        key = _secret(self.redact_key_file, KEY_VARIABLE, read_redact_key, "the key of --redact")
        redaction = parse_redaction(self.redact, key)
        if key is not None and not redaction.hashes:
            source = "--redact-key-file" if self.redact_key_file else KEY_VARIABLE
            raise UsageError(
                f"{source} is given, but nothing is to be hashed: say --redact COLUMN=hash, or leave it out"
            )
        return redaction

    @contextmanager
    def sends(self) -> Iterator[Iterable[Send] | Wanted]:
        """The sends to harvest, or what is to be found, while the block lasts. Raises UsageError."""
        if self.campaign or self.all_:
            yield Wanted(campaigns=self.campaign, since=self.since, until=self.until)
        elif self.sends_file is not None:
            with SendList(self.sends_file) as listed:
                yield listed
        else:
            yield [Send(id_send) for id_send in self.send]


def _md5(file: Path | None) -> Secret:
    """The account's MD5 code, from the file if there is one, else from the environment."""
    code = _secret(file, MD5_VARIABLE, read_md5, "the account's MD5 code")
    if code is None:
        raise UsageError(
            "the account's MD5 code is missing: name a file that holds it with --client-md5-file FILE, "
            f"or put it into {MD5_VARIABLE}"
        )
    return code


def _secret(file: Path | None, variable: str, read: Callable[[Path], tuple[str, bool]], what: str) -> Secret | None:
    """A secret, hidden from now on: from the file if there is one, else from the environment, if it is there."""
    if file is None:
        secret = os.environ.get(variable, "").strip()
    else:
        secret, seen_by_others = read(file.expanduser())
        if seen_by_others:
            tell(f"harvester: other users can read {file}, which holds {what}; chmod 600 {file} keeps it yours")
    if not secret:
        return None
    hide(secret)
    return Secret(secret)


__all__ = ["LEDGER_HELP", "LogFormat", "RunOptions"]
