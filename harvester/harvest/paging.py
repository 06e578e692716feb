"""How many queries a walk takes: arithmetic over rows and limits."""

from __future__ import annotations


def pages(rows: int, limit: int, again: int = 1) -> int:
    """How many queries bring so many rows, of a walk that has not begun, up to the proof ``count``.

    Each page after the first brings records again: the last one, since a walk asks from one before its key, and a
    second one (``again``) where there is a record with just that key. The last page has to be shorter than asked.
    """
    return 1 if rows < limit else 1 + more_pages(rows - limit, limit, again)


def more_pages(rows: int, limit: int, again: int = 1) -> int:
    """How many queries bring so many further rows, of a walk that is under way."""
    return 1 + rows // (limit - again)


__all__ = ["more_pages", "pages"]
