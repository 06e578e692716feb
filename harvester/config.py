"""Settings of a run, and how durations and sizes are written ("10m", "1GiB")."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from harvester.datasets import CATALOGUE, DEFAULT, PAGE_CAP
from harvester.errors import UsageError
from harvester.model import Secret
from harvester.redaction import Redaction

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harvester.places import Place

DEFAULT_ENDPOINT = "https://api.mailkit.eu"
LEAST_LIMIT = 3
"""The least number of records to ask for: the cursor's record, one that may come before it, and one that is new."""

LEAST_FILE = 16 * 1024
"""The least size, in bytes, that data files and their row groups can aim at."""

_LONGEST_SECRET_FILE = 4096
_LEDGERS = ("postgresql://", "postgres://")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", re.ASCII | re.IGNORECASE)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.ASCII | re.IGNORECASE)
_CATALOG = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)?")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


class Wire(Enum):
    """How the API is spoken to."""

    JSON = "json"
    XML = "xml"
    """XML-RPC."""


class Refresh(Enum):
    """Which complete slices a run asks again, since their records change."""

    DUE = "due"
    """Those of sends with unsettled messages, and young ones."""
    NEVER = "never"
    UNSETTLED = "unsettled"
    """Those of sends with unsettled messages, however young the others are."""
    ALL = "all"
    """Every one, in full."""


class Scope(Enum):
    """What one walk over messages covers."""

    AUTO = "auto"
    """Whatever takes fewest queries, as far as the sends say how many messages they have."""
    SEND = "send"
    CAMPAIGN = "campaign"
    ACCOUNT = "account"


class TableFormat(Enum):
    """What a lake's data files are a table of, beside being files."""

    DELTA = "delta"
    """Delta Lake."""
    ICEBERG = "iceberg"


@dataclass(frozen=True, slots=True)
class TableChoice:
    """Which tables a lake is to have.

    Attributes:
        format: their format.
        catalog: of Iceberg tables, a catalog of pyiceberg's settings, as ``NAME`` or ``NAME.NAMESPACE``; None for one
            of the lake's own.
    """

    format: TableFormat
    catalog: str | None = None

    def __post_init__(self) -> None:
        if self.catalog is not None and self.format is not TableFormat.ICEBERG:
            raise UsageError(f"--catalog goes with tables in the format iceberg, not {self.format.value}: leave it out")
        if self.catalog is not None and not _CATALOG.fullmatch(self.catalog):
            raise UsageError(f"--catalog is NAME or NAME.NAMESPACE, not {self.catalog!r}")

    def __str__(self) -> str:
        return self.format.value + (f" in the catalog {self.catalog}" if self.catalog else "")


class PartitionBy(Enum):
    """What the data files of a lake are sorted into folders by."""

    SEND = "send"
    """A data file holds rows of one send."""
    CAMPAIGN = "campaign"
    MONTH = "month"
    """By the dataset's first date, which does not change: ``message_date`` of messages."""
    DAY = "day"
    """Likewise."""


def parse_duration(text: str) -> float:
    """Seconds from ``90``, ``1.5s``, ``10m``, ``6h``, ``14d``. Raises UsageError."""
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise UsageError(f"{text!r} is not a duration; write it like 30s, 10m, 6h or 14d")
    return float(found[1]) * _SECONDS[(found[2] or "s").lower()]


def parse_size(text: str) -> int:
    """Bytes from ``1048576``, ``512MiB``, ``1GiB``, ``2GB`` (powers of 1000 without the i). Raises UsageError."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise UsageError(f"{text!r} is not a size; write it like 512MiB or 2GB")
    base = 1024 if found[3] else 1000
    return int(float(found[1]) * base ** _POWERS[found[2].lower()])


def parse_ledger(text: str) -> Secret:
    """The URL of the database that a lake's ledger is in, which may hold a password. Raises UsageError."""
    if not text.strip().startswith(_LEDGERS):
        raise UsageError("--ledger is the URL of a PostgreSQL database, such as postgresql://user@host/database")
    return Secret(text.strip())


def read_md5(file: Path) -> tuple[str, bool]:
    """An account's MD5 code from a file that holds nothing else, and whether other users can read it, too.

    Raises UsageError. Blocking.
    """
    return _read_word(file, "--client-md5-file", "the MD5 code")


def read_redact_key(file: Path) -> tuple[str, bool]:
    """The key of ``--redact`` from a file that holds nothing else, and whether other users can read it, too.

    Raises UsageError. Blocking.
    """
    return _read_word(file, "--redact-key-file", "the key")


def _read_word(file: Path, option: str, what: str) -> tuple[str, bool]:
    try:
        with file.open("rb") as opened:
            mode, content = os.fstat(opened.fileno()).st_mode, opened.read(_LONGEST_SECRET_FILE)
    except OSError as error:
        raise UsageError(f"{option} {file}: {error.strerror or error}") from None
    words = content.decode("ascii", "replace").split()
    if len(words) != 1 or not words[0].isascii():
        raise UsageError(f"{option} {file} should hold {what} and nothing else")
    return words[0], stat.S_ISREG(mode) and bool(mode & (stat.S_IRGRP | stat.S_IROTH))


def _can_be_asked(endpoint: str) -> bool:
    """Whether it is an http or https URL of a host, with no user, query or fragment in it."""
    try:
        parts = urlsplit(endpoint)
        plain = not (parts.username or parts.password or parts.query or parts.fragment or " " in endpoint)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and plain
    except ValueError:
        return False


def _keeps_secrets(endpoint: str) -> bool:
    """Whether what is said to this endpoint is out of others' sight: by TLS, or because it stays on this machine."""
    try:
        parts = urlsplit(endpoint)
        host = parts.hostname or ""
        return parts.scheme == "https" or host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # another name than localhost
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What a user has little reason to set, and tests and benchmarks have.

    Attributes:
        connect_s: the longest that making a connection may take, in seconds.
        silence_s: the longest silence in the middle of a body, in seconds.
        body_cap_bytes: the largest decoded body that is accepted. (The vendor names 128 MB for a request.)
        backoff_s: the wait after a first failure, in seconds; it doubles with each further one.
        backoff_cap_s: the longest such wait.
        never_reached_s: a server that was not reached once in this time ends the run.
        apart_s: how far apart two askings must be to count as apart in time.
        target_bytes: the size that sealed files aim at.
        row_group_bytes: the size in memory that row groups aim at; encoded, they come to a third to a half of it.
        store_timeout_s: the longest that one request to an object store may take; none is for more than 8 MiB.
        store_patience_s: how long a request that fails is asked again. Object stores want it below 5 minutes, since
            what is asked again is signed as it was.
        window: the most slices under way that are not waiting after a failure.
        clock: tells the time, in UTC without a zone: how old sends and messages are.
        seed: of the jitter; None for one from the system.
    """

    connect_s: float = 15.0
    silence_s: float = 60.0
    body_cap_bytes: int = 256 * 2**20
    backoff_s: float = 1.0
    backoff_cap_s: float = 60.0
    never_reached_s: float = 45.0
    apart_s: float = 3.0
    target_bytes: int = 128 * 2**20
    row_group_bytes: int = 96 * 2**20
    store_timeout_s: float = 60.0
    store_patience_s: float = 180.0
    window: int = 256
    clock: Callable[[], datetime] = lambda: datetime.now(UTC).replace(tzinfo=None)
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a run is told. Times are in seconds, sizes in bytes. Raises UsageError if a value can't be meant.

    ``ledger`` is the URL of the database that the lake's ledger is in; None for beside its data.
    """

    lake: Place
    client_id: str
    client_md5: Secret
    endpoint: str = DEFAULT_ENDPOINT
    ca_file: Path | None = None
    insecure_http: bool = False
    wire: Wire = Wire.JSON
    datasets: tuple[str, ...] = DEFAULT
    limit: int = PAGE_CAP
    rate: float = 1.0
    burst: int = 1
    concurrency: int = 8
    adaptive: bool = True
    memory: int = 2**30
    timeout_s: float = 600.0
    patience_s: float = 3600.0
    for_s: float | None = None
    refresh: Refresh = Refresh.DUE
    refresh_within_s: float = 14 * 86_400.0
    drop_gone: bool = False
    scope: Scope = Scope.AUTO
    ledger: Secret | None = None
    redaction: Redaction = field(default_factory=Redaction)
    partition_by: PartitionBy | None = None
    table: TableChoice | None = None
    tuning: Tuning = field(default_factory=Tuning)

    def __post_init__(self) -> None:
        unknown = [name for name in self.datasets if name not in CATALOGUE]
        checks = [
            (not unknown, f"there is no dataset {', '.join(unknown)}; there are {', '.join(CATALOGUE)}"),
            (bool(self.datasets), "name at least one dataset"),
            (LEAST_LIMIT <= self.limit <= PAGE_CAP, f"--limit goes from {LEAST_LIMIT} to {PAGE_CAP}, not {self.limit}"),
            (0 < self.rate <= 1000, f"--rate is queries per second, above 0 and up to 1000, not {self.rate:g}"),  # noqa: PLR2004
            (self.burst >= 1, f"--burst is at least 1, not {self.burst}"),
            (1 <= self.concurrency <= 1000, f"--concurrency goes from 1 to 1000, not {self.concurrency}"),  # noqa: PLR2004
            (self.memory >= 64 * 2**20, "--memory is at least 64MiB"),
            (self.timeout_s > 0, "--timeout is more than 0"),
            (self.patience_s >= 0, "--patience is not negative"),
            (self.refresh_within_s >= 0, "--refresh-within is not negative"),
            (self.client_id.isascii() and self.client_id.isdigit(), "the client id is a number; see --client-id"),
            (bool(self.client_md5), "the client's MD5 code is empty"),
            (_can_be_asked(self.endpoint), f"--endpoint is a URL such as {DEFAULT_ENDPOINT}, not {self.endpoint!r}"),
            (
                self.insecure_http or _keeps_secrets(self.endpoint),
                f"{self.endpoint} has no TLS, and the MD5 code would go there readable: use https, or --insecure-http",
            ),
        ]
        for holds, message in checks:
            if not holds:
                raise UsageError(message)

    @property
    def answer_cap_bytes(self) -> int:
        """The largest body that is accepted, packed, and unpacked where it comes whole.

        Reading it takes several times as much, and the budget has to have room for that.
        """
        return min(self.tuning.body_cap_bytes, self.memory // 6)


__all__ = [
    "DEFAULT_ENDPOINT",
    "LEAST_FILE",
    "LEAST_LIMIT",
    "PartitionBy",
    "Refresh",
    "Scope",
    "Settings",
    "TableChoice",
    "TableFormat",
    "Tuning",
    "Wire",
    "parse_duration",
    "parse_ledger",
    "parse_size",
    "read_md5",
    "read_redact_key",
]
