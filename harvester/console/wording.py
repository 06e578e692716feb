"""How numbers, times and sizes read to a person. Pure functions, no colours."""

from __future__ import annotations

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024


def span(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3 min 05 s``, ``6 h 02 min``, ``2 d 4 h``."""
    if seconds < 10:  # noqa: PLR2004  one decimal is worth reading only below ten
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def size(n_bytes: float) -> str:
    """``512 B``, ``1.5 MiB``, ``128 MiB``."""
    index = 0
    while n_bytes >= _STEP and index < len(_SIZES) - 1:
        n_bytes /= _STEP
        index += 1
    digits = 1 if index and n_bytes < 100 else 0  # noqa: PLR2004  three digits are enough
    return f"{n_bytes:.{digits}f} {_SIZES[index]}"


def size_option(n_bytes: int) -> str:
    """A size as it is written on the command line: ``1GiB``, ``1536MiB``."""
    index = 0
    while n_bytes and n_bytes % _STEP == 0 and index < len(_SIZES) - 1:
        n_bytes //= _STEP
        index += 1
    return f"{n_bytes}{_SIZES[index]}"


def span_option(seconds: float) -> str:
    """A duration as it is written on the command line: ``10m``, ``24h``, ``14d``, ``90s``."""
    if seconds > _DAY and seconds % _DAY == 0:
        return f"{seconds / _DAY:g}d"
    for unit, length in (("h", _HOUR), ("m", _MINUTE)):
        if seconds and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"


def count(number: int, noun: str, nouns: str | None = None) -> str:
    """``1 slice``, ``2,000 slices``, ``2 queries`` (with ``nouns`` where an s is not enough)."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def bears(rate: float | None, concurrency: int | None) -> str:
    """What a server bears: ``4.7 queries a second``, ``6 queries at once``, ``4.7 queries a second, 6 at once``."""
    parts = []
    if rate is not None:
        parts.append(f"{rate:.3g} queries a second")
    if concurrency is not None:
        parts.append(f"{concurrency:,} at once" if parts else count(concurrency, "query", "queries") + " at once")
    return ", ".join(parts)


__all__ = ["bears", "count", "size", "size_option", "span", "span_option"]
