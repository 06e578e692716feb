"""The last line of defence for the MD5 code: whatever this program prints passes through ``redacted`` first.

No part of the program puts the code into a text on purpose. This is for the text that nobody thought of: a library's
error that quotes a request's body, a traceback. The set of hidden texts belongs to the process, as its outputs do.
"""

from __future__ import annotations

import json
import re
from urllib.parse import unquote

from harvester.model import Secret

_SHORTEST = 4
"""Hiding a shorter text would make everything unreadable and protect nothing."""

_PASSWORD = re.compile(r"^\w+://[^/?#:@]*:([^/?#]*)@|[?&]password=([^&#]*)")
_hidden: set[Secret] = set()


def hide(secret: str) -> None:
    """From now on, ``redacted`` replaces ``secret``, also where JSON or ``repr`` has escaped it, or it is in base64."""
    if len(secret) >= _SHORTEST:
        _hidden.update(map(Secret, (secret, json.dumps(secret)[1:-1], repr(str(secret))[1:-1])))


def passwords_in(url: str) -> list[str]:
    """The password in a URL, or in its query, as it stands there and as it is meant; none if there is none."""
    found = [text for pair in _PASSWORD.findall(url) for text in pair]
    return [text for text in dict.fromkeys(spelling for one in found for spelling in (one, unquote(one))) if text]


def redacted(text: str) -> str:
    """``text`` with every hidden text replaced by stars."""
    for secret in _hidden:
        text = secret.hidden_in(text)
    return text


__all__ = ["hide", "passwords_in", "redacted"]
