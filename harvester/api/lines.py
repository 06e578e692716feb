"""From a JSON list of records to a record after the other, as ``pyarrow.json`` wants them. Bytes in, bytes out.

Only brackets and commas are looked at, and only around ``{``: that costs a twentieth of reading the JSON. It is
guesswork, and safe where the rows parsed must equal the separators and one: a newline inside a text fails to parse,
and so does a comma that is left between records.
"""

from __future__ import annotations

_COMMA, _CLOSE, _QUOTE, _NEWLINE = b',}"\n'
_WHITESPACE = b" \t\r\n"
_AFTER_TEXT = b",}]: \t\r\n"


def as_lines(body: bytes | bytearray) -> tuple[bytearray, list[int]]:
    """The list's records with a newline in place of each comma between them, without the brackets.

    Args:
        body: what begins with ``[`` and ends with ``]``.

    Returns:
        The lines, and where the separators are.
    """
    lines = bytearray(body)
    find = lines.find
    separators: list[int] = []
    place = find(b"{") + 1
    while (place := find(b"{", place)) > 0:
        comma = place - 1
        if lines[comma] != _COMMA or lines[comma - 1] != _CLOSE:
            comma = _comma_before(lines, place)
        place += 1
        following = lines[place]
        if following == _QUOTE:
            if lines[place + 1] in _AFTER_TEXT:
                continue  # the quote ends a text
        elif following not in _WHITESPACE:
            continue
        if comma:
            lines[comma] = _NEWLINE
            separators.append(comma)
    lines[0] = lines[-1] = _NEWLINE
    return lines, separators


def _comma_before(lines: bytearray, place: int) -> int:
    """Where the comma of ``} , {`` is, or 0 if what comes before ``place`` is something else."""
    comma = place - 1
    while lines[comma] in _WHITESPACE:
        comma -= 1
    close = comma - 1
    while lines[close] in _WHITESPACE:
        close -= 1
    return comma if lines[comma] == _COMMA and lines[close] == _CLOSE else 0


__all__ = ["as_lines"]
