"""How a case is read: in small blocks, with its memory measured, and with the fast decoders watched."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from harvester.api import exact, json, xmlexact, xmlrpc

MEMORY_BYTES = 4 * 2**20
"""What reading may take at its peak, whatever the body's size."""
MEMORY_FACTOR = 1000
"""And this for each byte of it: a record of two bytes, ``{}``, becomes 66 columns."""


class Finding(Exception):
    """Something that does not hold."""


_SIZES = {
    "SLAB_BYTES": (json,),
    "BLOCK_BYTES": (xmlrpc,),
    "_SMALL_BLOCK_BYTES": (xmlrpc,),
    "PARSED_BYTES": (xmlexact,),
    "SLAB_ROWS": (exact, xmlexact),
}
"""How much the decoders take at a time, by the name of the constant; and where that is."""


@contextmanager
def sizes(chance: random.Random) -> Iterator[None]:
    """Small blocks and slabs, mostly: so that a body of some records has borders, too."""
    usual = {name: getattr(modules[0], name) for name, modules in _SIZES.items()}
    small = chance.choice([100, 200, 700, *[2**20] * 5])
    rows = chance.choice([2, 3, 256])  # a lone record is looked at by itself
    parsed = chance.choice([7, *[300] * 3, *[2**18] * 8])
    try:
        _set(dict(zip(usual, (5 * small, small, small, parsed, rows), strict=True)))
        yield
    finally:
        _set(usual)


def _set(sizes: Mapping[str, int]) -> None:
    for name, size in sizes.items():
        for module in _SIZES[name]:
            setattr(module, name, size)


def _held(size: int, taken: int) -> None:
    if taken > MEMORY_BYTES + MEMORY_FACTOR * size:
        raise Finding(f"reading {size} bytes took {taken} bytes of memory")


@contextmanager
def memory_held_to(size: int, *, traced: bool) -> Iterator[None]:
    """Whether what Arrow holds at its peak is bounded by the body's size; and what Python holds, if ``traced``."""
    pool = pa.default_memory_pool()
    before, highest = pool.bytes_allocated(), pool.max_memory() or 0
    if traced:
        tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1] if traced else 0
    finally:
        if traced:
            tracemalloc.stop()
    if (pool.max_memory() or 0) > highest:  # else the peak was at another time
        peak += (pool.max_memory() or 0) - before
    _held(size, peak)


@contextmanager
def watched(owner: object, name: str) -> Iterator[list[bool]]:
    """Whether a function that may decline has done its work, call by call."""
    function = getattr(owner, name)
    taken: list[bool] = []

    def watching(*arguments: Any, **more: Any) -> Any:
        made = function(*arguments, **more)
        taken.append(made is not None)
        return made

    setattr(owner, name, watching)
    try:
        yield taken
    finally:
        setattr(owner, name, function)


__all__ = ["Finding", "memory_held_to", "sizes", "watched"]
