"""What a request asks for: the body of a call → a query, or the reason why there is none. No I/O."""

from __future__ import annotations

import hmac
import json
import re
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import TYPE_CHECKING

from harvester.datasets import BOUNCES, CAMPAIGNS, CATALOGUE, PAGE_CAP, RAW_RESPONSES, SENDS, Dataset
from harvester.simulator.lists import MONTH, QUARTER, Days

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harvester.simulator.account import Account

FUNCTIONS: Mapping[str, Dataset] = MappingProxyType(
    {dataset.function: dataset for dataset in (*CATALOGUE.values(), CAMPAIGNS, SENDS)}
)
"""What each function of the API yields, by the function's name."""
_NUMBER = re.compile(r"-?\d{1,40}", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


class NotACallError(Exception):
    """The request's body is no call."""


class RefusedError(Exception):
    """The API answers with an error; the exception's text is the API's."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A query that makes sense.

    Attributes:
        dataset: what is asked for.
        ordinals: the sends that it covers; none where no such send is known.
        id_send: the send that it names, if it names one, known or not.
        start: the key to start from, if it names one.
        limit: the most records that are wanted.
        message: the message whose entries in a log are wanted, if it names one.
        id_message: the campaign that it names, if it names one.
        days: the range of a list, said or not; None for what is no list.
    """

    dataset: Dataset
    ordinals: range
    id_send: int | None = None
    start: int | None = None
    limit: int = 0
    message: int | None = None
    id_message: int | None = None
    days: Days | None = None


def parse_call(body: bytes) -> Mapping[str, object]:
    """The call in a request's body. Raises NotACallError."""
    try:
        call = json.loads(body)
    except ValueError as error:
        raise NotACallError from error
    if not isinstance(call, dict):
        raise NotACallError
    return call


def parse_query(account: Account, call: Mapping[str, object]) -> Asked:
    """What a call asks for. Raises RefusedError, with the API's own words."""
    given = account.spec.client_id, account.spec.client_md5
    for name, right in zip(("id", "md5"), given, strict=True):
        if not hmac.compare_digest(str(call.get(name)).encode("utf-8", "replace"), right.encode()):
            raise RefusedError("Unauthorized")
    dataset = FUNCTIONS.get(str(call.get("function")))
    if dataset is None:
        raise RefusedError("Unknown function")
    parameters = call.get("parameters")
    if not isinstance(parameters, dict):
        parameters = {}
    if dataset is CAMPAIGNS or dataset is SENDS:
        return _list(account, dataset, parameters)
    id_send = _number(parameters, "ID_send")
    if dataset is BOUNCES:
        if id_send is None:
            raise RefusedError("Missing ID_send")
        return Asked(dataset, _one(account, id_send), id_send)
    id_message = _number(parameters, "ID_message")
    limit = _number(parameters, "limit")
    return Asked(
        dataset,
        _ordinals(account, id_message, id_send),
        id_send,
        start=_number(parameters, dataset.cursor or ""),
        limit=max(0, limit or PAGE_CAP),
        message=_number(parameters, "ID_send_message") if dataset is RAW_RESPONSES else None,
        id_message=id_message,
    )


def _list(account: Account, dataset: Dataset, parameters: Mapping[str, object]) -> Asked:
    since, until = _day(parameters, "range_from"), _day(parameters, "range_to")
    if dataset is CAMPAIGNS:
        return Asked(dataset, range(0), days=Days.said(since, until, account.today, MONTH))
    id_message = _number(parameters, "ID_message")
    if id_message is None or account.campaign(id_message) is None:
        raise RefusedError("Invalid ID_message")
    return Asked(dataset, range(0), id_message=id_message, days=Days.said(since, until, account.today, QUARTER))


def _ordinals(account: Account, id_message: int | None, id_send: int | None) -> range:
    scope: range | None = range(len(account))
    if id_message is not None:
        scope = account.campaign(id_message)
        if scope is None:
            raise RefusedError("Invalid ID_message")
    assert scope is not None
    if id_send is None:
        return scope
    one = _one(account, id_send)
    return one if one and one[0] in scope else range(0)


def _one(account: Account, id_send: int) -> range:
    ordinal = account.ordinal(id_send)
    return range(0) if ordinal is None else range(ordinal, ordinal + 1)


def _number(parameters: Mapping[str, object], name: str) -> int | None:
    """A parameter's value, sent as a string or as a number; absent, empty and null are the same."""
    value = parameters.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not _NUMBER.fullmatch(text := str(value).strip()):
        raise RefusedError(f"Invalid {name}")
    return int(text)


def _day(parameters: Mapping[str, object], name: str) -> date | None:
    """A parameter's value as a day, ``YYYY-MM-DD``; absent, empty and null are the same."""
    value = parameters.get(name)
    if value is None or value == "":
        return None
    try:
        if not isinstance(value, str) or not _DAY.fullmatch(value):
            raise RefusedError(f"Invalid {name}")
        return date.fromisoformat(value)
    except ValueError as error:
        raise RefusedError(f"Invalid {name}") from error


__all__ = ["FUNCTIONS", "Asked", "NotACallError", "RefusedError", "parse_call", "parse_query"]
