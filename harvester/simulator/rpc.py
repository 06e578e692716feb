"""XML-RPC calls: positional parameters → the same call as over JSON. Python's own parser reads them."""

from __future__ import annotations

import xmlrpc.client
from typing import TYPE_CHECKING
from xml.parsers.expat import ExpatError

from harvester.simulator.query import FUNCTIONS, NotACallError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

_OWN = 2
"""Parameters before the function's own: the client id and the MD5 code."""


def parse_rpc(body: bytes) -> Mapping[str, object]:
    """The call in a request's body, as it would be over JSON.

    Raises:
        NotACallError: it is no XML-RPC call.
        RefusedError: it has more parameters than its function.
    """
    try:
        parameters, function = xmlrpc.client.loads(body)
    # The parser lets through what its own conversions of values raise.
    except (ExpatError, xmlrpc.client.Error, ValueError, TypeError, LookupError, AttributeError) as error:
        raise NotACallError from error
    if function is None:
        raise NotACallError
    dataset = FUNCTIONS.get(function)
    names = dataset.parameters if dataset else ()
    own = parameters[_OWN:]
    if dataset and len(own) > len(names):
        raise RefusedError("Error")
    call: dict[str, object] = dict(zip(("id", "md5"), parameters, strict=False))
    return call | {"function": function, "parameters": dict(zip(names, own, strict=False))}


__all__ = ["parse_rpc"]
