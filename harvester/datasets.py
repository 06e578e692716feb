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
    DATE = "date"
    """``YYYY-MM-DD HH:MM:SS`` without a zone: ``timestamp[us]``."""
    TEXT = "text"
    """Anything else: text, verbatim."""


ARROW_TYPES: Mapping[Kind, pa.DataType] = MappingProxyType(
    {Kind.ID: pa.int64(), Kind.DATE: pa.timestamp("us"), Kind.TEXT: pa.string()}
)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a dataset. ``api_name`` is the field's name as the vendor's page spells it."""

    api_name: str
    kind: Kind

    @property
    def name(self) -> str:
        """The column's name in the lake."""
        return self.api_name.lower()


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
        status: the column that says whether a record is settled; None where records do not change.
    """

    name: str
    function: str
    key: str
    cursor: str | None
    parameters: tuple[str, ...]
    fields: tuple[Column, ...]
    implied: tuple[Column, ...] = ()
    status: str | None = None
    columns: tuple[Column, ...] = field(init=False)
    schema: pa.Schema = field(init=False)

    def __post_init__(self) -> None:
        columns = self.implied + self.fields
        schema = pa.schema([pa.field(c.name, ARROW_TYPES[c.kind]) for c in columns] + [pa.field(EXTRA, pa.string())])
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "schema", schema)

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
)
"""Every bounce of a send. Source: the vendor's page of ``mailkit.report.message.bounces``."""

CATALOGUE: Mapping[str, Dataset] = MappingProxyType({dataset.name: dataset for dataset in (MESSAGES, BOUNCES)})
"""Every dataset by its name."""

PAGE_CAP = 25_000
"""The most records that one query yields (the vendor's page of ``mailkit.report.raw.messages``)."""

UNSETTLED = ("wait", "wait_ab")
"""Values of ``message_status`` of a message that is not delivered yet (the vendor's page)."""

FAILED = "failed"
"""The value of ``message_status`` of a message that bounced (the vendor's page)."""

__all__ = [
    "ARROW_TYPES",
    "BOUNCES",
    "CATALOGUE",
    "EXTRA",
    "FAILED",
    "MESSAGES",
    "PAGE_CAP",
    "UNSETTLED",
    "Column",
    "Dataset",
    "Kind",
]
