"""What each error means to whoever started the program: an exit status and one sentence."""

from __future__ import annotations

import os
import sys
import traceback
from enum import IntEnum
from typing import TYPE_CHECKING

from harvester.console.secrecy import redacted
from harvester.errors import AccessRefused, HarvesterError, LakeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Exit(IntEnum):
    """The exit statuses: a contract with scripts."""

    COMPLETE = 0
    INCOMPLETE = 1
    USAGE = 2
    REFUSED = 3
    LAKE = 4
    INTERRUPTED = 130


_STATUSES: tuple[tuple[type[HarvesterError], Exit], ...] = (
    (UsageError, Exit.USAGE),
    (AccessRefused, Exit.REFUSED),
    (LakeError, Exit.LAKE),
)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def cause(error: BaseException) -> BaseException:
    """The one error to speak of: of a group, an error that this package raised on purpose before any other."""
    leaves = list(_leaves(error))
    return next((leaf for leaf in leaves if isinstance(leaf, HarvesterError)), leaves[0])


def status_of(error: BaseException) -> Exit:
    """The exit status that an error ends with."""
    found = cause(error)
    return next((status for kind, status in _STATUSES if isinstance(found, kind)), Exit.INCOMPLETE)


def debugging() -> bool:
    """Whether tracebacks are wanted (HARVESTER_DEBUG=1)."""
    return os.environ.get("HARVESTER_DEBUG", "").lower() not in {"", "0", "false", "no"}


def sentence(error: BaseException) -> str:
    """One sentence for the person who runs the program, the MD5 code never in it."""
    found = cause(error)
    if isinstance(found, HarvesterError):
        return redacted(str(found))
    text = " ".join(str(found).split())
    detail = f" ({text})" if text else ""
    return redacted(
        f"something went wrong that should not have: {type(found).__name__}{detail}. "
        "Nothing that the lake holds is lost. HARVESTER_DEBUG=1 shows the details; please report them."
    )


def complain(error: BaseException, say: Callable[[str], object] | None = None) -> None:
    """Say (on standard error, if not told otherwise) what went wrong; with HARVESTER_DEBUG=1, where."""
    say = say or (lambda text: tell(f"harvester: {text}"))
    say(sentence(error))
    if debugging():
        say(redacted("".join(traceback.format_exception(error)).rstrip()))


def tell(text: str) -> None:
    """Write a line to standard error. A closed or full standard error is no reason to fail."""
    try:
        print(text, file=sys.stderr, flush=True)  # noqa: T201  speaking to a person is this package's work
    except (OSError, ValueError):
        return


__all__ = ["Exit", "cause", "complain", "debugging", "sentence", "status_of", "tell"]
