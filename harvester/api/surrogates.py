r"""Halves of surrogate pairs in JSON, such as ``"cut \ud83d"``: what cutting a text in the middle of an emoji leaves.

JSON's grammar allows such an escape, yet no column can hold it and no decoder here takes it. So it is disarmed before
decoding, into a mark and the escape's own six characters, and a text that holds the mark is kept in ``_extra`` with
the escape as it was sent.
"""

from __future__ import annotations

import re

MARK = "\ufdd0"
"""A code point that Unicode keeps out of texts for uses such as this one."""

_HALF = re.compile(
    rb"\\\\"  # an escaped backslash: what follows it is no escape
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair
    rb"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"  # a half
)
_DISARMED = rb"\ufdd0\\"
_MARKS = re.compile(rb"\xef\xb7\x90|\\u[fF][dD][dD]0")


def disarmed(body: bytes | bytearray) -> bytes | None:
    """The body with its halves disarmed; None if it has none, or has the mark already."""
    if _MARKS.search(body):
        return None
    halves = 0

    def disarm(found: re.Match[bytes]) -> bytes:
        nonlocal halves
        if found[1] is None:
            return found[0]
        halves += 1
        return _DISARMED + found[1][1:]

    changed = _HALF.sub(disarm, bytes(body))
    return changed if halves else None


def rearmed(text: str) -> str:
    """A decoded text without its marks: the escapes as characters."""
    return text.replace(MARK, "")


def rearmed_json(value: str) -> str:
    """A piece of JSON as it was sent."""
    return value.replace(_DISARMED.decode(), "\\")


__all__ = ["MARK", "disarmed", "rearmed", "rearmed_json"]
