"""Looking at many files on a few threads, in order, and never far ahead of who reads the results."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Subject = TypeVar("Subject")
Result = TypeVar("Result")

_THREADS = min(4, os.cpu_count() or 1)
_AHEAD = 16
"""So many looks for each thread are begun before the first is waited for."""


def looked_at(
    subjects: Iterable[tuple[Subject, Sequence[Callable[[], Result]]]],
    at_once: int | None = None,
) -> Iterator[tuple[Subject, list[Result]]]:
    """Each subject, in order, with the results of its looks, which are made on threads. Raises what a look raises.

    ``at_once`` is the number of threads; if None, there are as many as the machine has use for.
    """
    threads = at_once or _THREADS
    waiting: deque[tuple[Subject, list[Future[Result]]]] = deque()
    ahead = 0
    pool = ThreadPoolExecutor(threads, "look")
    try:
        for subject, looks in subjects:
            waiting.append((subject, [pool.submit(look) for look in looks]))
            ahead += len(looks)
            while ahead > _AHEAD * threads:
                first, begun = waiting.popleft()
                ahead -= len(begun)
                yield first, [look.result() for look in begun]
        for first, begun in waiting:
            yield first, [look.result() for look in begun]
    finally:
        pool.shutdown(cancel_futures=True)


__all__ = ["looked_at"]
