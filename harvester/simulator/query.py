"""What a request asks for: the body of a call → a query, or the reason why there is none. No I/O."""

from __future__ import annotations

import hmac
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harvester.datasets import BOUNCES, CATALOGUE, DEFAULT, PAGE_CAP, Dataset

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harvester.simulator.account import Account

_NUMBER = re.compile(r"-?\d{1,40}", re.ASCII)
_DATASETS = {dataset.function: dataset for name, dataset in CATALOGUE.items() if name in DEFAULT}


class NotACallError(Exception):
    """The request's body is no JSON object."""


class RefusedError(Exception):
    """The API answers with an error object; the exception's text is the ``error`` in it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A query that makes sense.

    Attributes:
        dataset: what is asked for.
        ordinals: the sends that it covers; none where no such send is known.
        id_send: the send that it names, if it names one, known or not.
        start: ``ID_send_message``, if it names one.
        limit: the most records that are wanted.
    """

    dataset: Dataset
    ordinals: range
    id_send: int | None
    start: int | None
    limit: int


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
        if not hmac.compare_digest(str(call.get(name)).encode(), right.encode()):
            raise RefusedError("Unauthorized")
    dataset = _DATASETS.get(str(call.get("function")))
    if dataset is None:
        raise RefusedError("Unknown function")
    parameters = call.get("parameters")
    if not isinstance(parameters, dict):
        parameters = {}
    id_send = _number(parameters, "ID_send")
    if dataset is BOUNCES:
        if id_send is None:
            raise RefusedError("Missing ID_send")
        return Asked(dataset, _one(account, id_send), id_send, None, 0)
    ordinals = _ordinals(account, _number(parameters, "ID_message"), id_send)
    limit = _number(parameters, "limit")
    return Asked(dataset, ordinals, id_send, _number(parameters, "ID_send_message"), max(0, limit or PAGE_CAP))


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


__all__ = ["Asked", "NotACallError", "RefusedError", "parse_call", "parse_query"]
