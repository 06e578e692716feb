"""The catalogue: what each report function of the API yields. Data, not code: a new dataset is a new entry here.

Invariant: a column's name is the API's field name in lower case, in every dataset, so that datasets join by name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Mapping

EXTRA = "_extra"
"""The column that holds what no typed column can: a JSON object, field name as the API sent it → value as text."""


class Kind(Enum):
    """What a column holds."""

    ID = "id"
    """A number that names something: int64."""
    COUNT = "count"
    """A number of things: int64. In lists of campaigns and sends; no dataset of the lake has one."""
    DATE = "date"
    """``YYYY-MM-DD HH:MM:SS`` without a zone: ``timestamp[us]``."""
    TEXT = "text"
    """Anything else: text, verbatim."""


ARROW_TYPES: Mapping[Kind, pa.DataType] = MappingProxyType(
    {Kind.ID: pa.int64(), Kind.COUNT: pa.int64(), Kind.DATE: pa.timestamp("us"), Kind.TEXT: pa.string()}
)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a dataset.

    Attributes:
        api_name: the field's name as the API spells it.
        kind: what it holds.
        right_name: the name that the API means, where it misspells it; None where it doesn't.
        name: the column's name in the lake.
        spellings: the names, in lower case, by which an answer may call the field: as it is, and as it should be.
    """

    api_name: str
    kind: Kind
    right_name: str | None = None
    name: str = field(init=False)
    spellings: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        name = (self.right_name or self.api_name).lower()
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "spellings", frozenset({self.api_name.lower(), name}))


@dataclass(frozen=True, slots=True)
class Dataset:
    """One report function: how to ask, and what its records hold.

    Attributes:
        name: the dataset's name on the command line and its folder in the lake.
        function: the API's function.
        key: the column that orders records; for a paged dataset also its cursor.
        cursor: the API's parameter that says which record to start from; None where the function has no paging.
        parameters: the function's parameters in the order that its page shows (XML-RPC's positional order).
        fields: the columns that the API sends.
        implied: columns that the query, not the answer, knows (a bounce does not say which send it belongs to).
        status: the column that says whether a record is settled; None where none says so.
        dates: the columns that say how old a record is; the first of them does not change with time.
        counted: whether the list of sends says how many records a send has (``SEND_COUNT``).
        columns: all columns of the lake, but for ``_extra``.
        schema: of the lake's files.
        places: where in ``fields`` an answer's field belongs, by its name in lower case.
    """

    name: str
    function: str
    key: str
    cursor: str | None
    parameters: tuple[str, ...]
    fields: tuple[Column, ...]
    implied: tuple[Column, ...] = ()
    status: str | None = None
    dates: tuple[str, ...] = ()
    counted: bool = False
    columns: tuple[Column, ...] = field(init=False)
    schema: pa.Schema = field(init=False)
    places: Mapping[str, int] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        columns = self.implied + self.fields
        schema = pa.schema([pa.field(c.name, ARROW_TYPES[c.kind]) for c in columns] + [pa.field(EXTRA, pa.string())])
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "schema", schema)
        places = {name: place for place, column in enumerate(self.fields) for name in column.spellings}
        object.__setattr__(self, "places", MappingProxyType(places))

    @property
    def paged(self) -> bool:
        """Whether the function is asked page by page, along its key."""
        return self.cursor is not None


def _columns(kind: Kind, *names: str) -> tuple[Column, ...]:
    return tuple(Column(name, kind) for name in names)


MESSAGES = Dataset(
    name="messages",
    function="mailkit.report.raw.messages",
    key="id_send_message",
    cursor="ID_send_message",
    parameters=("ID_message", "ID_send", "ID_send_message", "limit"),
    fields=(
        *_columns(Kind.ID, "ID_message", "ID_send", "ID_send_message", "ID_user_list", "ID_email", "ID_template"),
        *_columns(Kind.TEXT, "type_message", "email"),
        *_columns(Kind.DATE, "email_date", "message_date", "date_sent"),
        *_columns(Kind.TEXT, "ab_version", "message_status", "tld", "domain"),
        *_columns(Kind.TEXT, *(f"custom_{number}" for number in range(1, 26))),
        *_columns(Kind.TEXT, "prefix", "vocative", "first_name", "last_name", "full_name", "nick_name", "gender"),
        *_columns(Kind.TEXT, "reply_to", "company", "street", "city", "state", "country", "zip"),
        *_columns(Kind.TEXT, "phone", "mobile", "fax"),
        *_columns(Kind.TEXT, "s_continent", "s_country", "s_region", "s_city", "s_org", "s_browser", "s_os"),
        *_columns(Kind.TEXT, "preview_url"),
    ),
    status="message_status",
    dates=("message_date", "date_sent"),
    counted=True,
)
"""Every message of a send. Source: the vendor's page of ``mailkit.report.raw.messages``."""

BOUNCES = Dataset(
    name="bounces",
    function="mailkit.report.message.bounces",
    key="id_send_message",
    cursor=None,
    parameters=("ID_send",),
    implied=_columns(Kind.ID, "ID_SEND"),
    fields=(
        *_columns(Kind.ID, "ID_SEND_MESSAGE", "ID_USER_LIST"),
        *_columns(Kind.DATE, "DATE"),
        *_columns(Kind.TEXT, "STATUS"),
        *_columns(Kind.ID, "ID_EMAIL"),
        *_columns(Kind.TEXT, "EMAIL", "EMAIL_STATUS", "BOUNCE_CAT", "REASON"),
    ),
    dates=("date",),
)
"""Every bounce of a send. Source: the vendor's page of ``mailkit.report.message.bounces``."""

RAW_BOUNCES = Dataset(
    name="raw_bounces",
    function="mailkit.report.raw.bounces",
    key="id_undelivered_log",
    cursor="ID_undelivered_log",
    parameters=("ID_message", "ID_send", "ID_undelivered_log", "limit"),
    fields=(
        *_columns(Kind.ID, "ID_MESSAGE", "ID_SEND"),
        Column("ID_SEND_MESSGE", Kind.ID, right_name="ID_SEND_MESSAGE"),
        *_columns(Kind.ID, "ID_EMAIL", "ID_USER_LIST", "ID_UNDELIVERED_LOG"),
        *_columns(Kind.TEXT, "EMAIL", "STATUS", "TEXT_STATUS", "REMOTE_MTA", "BOUNCE_CAT", "UTM_CAMPAIGN"),
        *_columns(Kind.TEXT, "CAMPAIGN_NAME", "SUBJECT"),
    ),
)
"""Every bounce, as it was logged. Source: FACTS.md, "Two sisters of raw.messages"."""

RAW_RESPONSES = Dataset(
    name="raw_responses",
    function="mailkit.report.raw.responses",
    key="id_log",
    cursor="ID_log",
    parameters=("ID_message", "ID_send", "ID_send_message", "ID_log", "limit"),
    fields=(
        *_columns(Kind.DATE, "date"),
        *_columns(Kind.TEXT, "email"),
        *_columns(Kind.ID, "ID_email", "ID_user_list", "ID_message", "ID_send", "ID_send_message", "ID_log"),
        *_columns(Kind.TEXT, "ab_version", "domain", "tld", "type"),
        *_columns(Kind.ID, "ID_url"),
        *_columns(Kind.TEXT, "link_type", "link_url", "link_text", "link_title", "referer", "unsubscribe_answer"),
        *_columns(Kind.TEXT, "IP", "IP_orig", "continent", "country", "code3", "code", "region", "region_code", "city"),
        *_columns(Kind.TEXT, "user_agent", "browser", "browser_major", "browser_minor", "browser_type"),
        *_columns(Kind.TEXT, "os", "os_version", "device", "org"),
    ),
    dates=("date",),
)
"""Every open, click and other response. Source: FACTS.md, "Two sisters of raw.messages"."""

CATALOGUE: Mapping[str, Dataset] = MappingProxyType(
    {dataset.name: dataset for dataset in (MESSAGES, BOUNCES, RAW_BOUNCES, RAW_RESPONSES)}
)
"""Every dataset that a lake can hold, by its name."""

DEFAULT = (MESSAGES.name, BOUNCES.name)
"""The datasets that are harvested where none is named."""

CAMPAIGNS = Dataset(
    name="campaigns",
    function="mailkit.report",
    key="id_message",
    cursor=None,
    parameters=("range_from", "range_to"),
    fields=(*_columns(Kind.ID, "ID_MESSAGE"), *_columns(Kind.TEXT, "NAME"), *_columns(Kind.COUNT, "SEND_COUNT")),
)
"""The list of campaigns that sent something between two days. Source: FACTS.md, "Finding sends"."""

SENDS = Dataset(
    name="sends",
    function="mailkit.report.campaign",
    key="id_send",
    cursor=None,
    parameters=("ID_message", "range_from", "range_to"),
    fields=(
        *_columns(Kind.ID, "ID_SEND"),
        *_columns(Kind.TEXT, "SUBJECT"),
        *_columns(Kind.DATE, "DATE"),
        *_columns(Kind.COUNT, "SEND_COUNT", "DELIVERED_COUNT"),
    ),
)
"""The list of a campaign's sends between two days. Source: FACTS.md, "Finding sends"."""

PAGE_CAP = 25_000
"""The most records that one query yields (the vendor's page of ``mailkit.report.raw.messages``)."""

UNSETTLED = ("wait", "wait_ab")
"""Values of ``message_status`` of a message that is not delivered yet (the vendor's page)."""

FAILED = "failed"
"""The value of ``message_status`` of a message that bounced (the vendor's page)."""

__all__ = [
    "ARROW_TYPES",
    "BOUNCES",
    "CAMPAIGNS",
    "CATALOGUE",
    "DEFAULT",
    "EXTRA",
    "FAILED",
    "MESSAGES",
    "PAGE_CAP",
    "RAW_BOUNCES",
    "RAW_RESPONSES",
    "SENDS",
    "UNSETTLED",
    "Column",
    "Dataset",
    "Kind",
]
