"""What the process settles before anything large is loaded: how memory is had, and what is not begun at all."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_M_ARENA_MAX = -8
"""The number of that setting in malloc.h of the GNU C library."""


def settle() -> None:
    """Settles all that. To be called once, before pyarrow is imported and before there are threads."""
    sys.meta_path.insert(0, _WithoutPandas())
    _share_memory()
    _keep_numpy_to_one_thread()


@contextmanager
def loading() -> Iterator[None]:
    """Loads modules without looking for garbage, of which they make next to none, and never looks there any more.

    It would go through what is loaded again and again: a twentieth of the time that loading takes; and later hold the
    event loop for a tenth of a second.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class _WithoutPandas:
    """Hides pandas where it is installed: pyarrow would import it with the first array, for half a second."""

    def find_spec(self, name: str, _path: object, _target: object = None, /) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("harvester does without pandas", name=name)


def _share_memory() -> None:
    """Lets one allocator serve everything, and threads share what each of them has given back.

    Arrow's own allocator keeps what a thread has freed for that thread; so does the C library's, which NumPy and Python
    use as well, unless it has few arenas. A harvest's threads take turns with large pages: each would keep as much as
    a page takes, together a third of a run's peak. Whoever sets these variables knows better.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # Arrow reads it when it is loaded
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is not None and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(_M_ARENA_MAX, max(1, (os.cpu_count() or 1) // 2))


def _keep_numpy_to_one_thread() -> None:
    """Has NumPy begin no threads for linear algebra, of which there is none here.

    There would be one for each processor, and they spin for a while before they sleep: a tenth of a second with two.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # OpenBLAS reads it when NumPy is loaded


__all__ = ["loading", "settle"]
