"""Standard output: text for people, or exactly one JSON object, written slice by slice, or send by send.

A reader that goes away (``| head``) is no error: the rest is thrown away, quietly, and the exit status stays the run's.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console

from harvester.console.exits import sentence
from harvester.console.secrecy import redacted
from harvester.errors import HarvesterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from _typeshed import DataclassInstance
    from rich.console import RenderableType


class OutputLost(HarvesterError):
    """Standard output can't be written to. What was harvested is not affected."""


class Terminal(Console):
    """A rich console to which a reader that has gone away is an ordinary error; rich itself would end the process."""

    def on_broken_pipe(self) -> None:
        """Called while the error is being handled."""
        raise BrokenPipeError


@contextmanager
def forgiving() -> Iterator[None]:
    """Ends the block quietly if the reader of standard output has gone away. Raises OutputLost."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard_the_rest()
    except OSError as error:
        discard_the_rest()
        raise OutputLost(f"could not write to standard output: {error.strerror or error}") from error


def discard_the_rest() -> None:
    """What is still buffered has nowhere to go: the interpreter must not try again when it exits."""
    with suppress(OSError, ValueError):  # a standard output that is no file has no number
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def print_lines(lines: Iterable[RenderableType]) -> None:
    """Print text, with colours on a terminal. Long lines are left whole, so that they can be copied."""
    with forgiving():
        console = Terminal(highlight=False)
        for line in lines:
            console.print(line, soft_wrap=True)


def print_object(
    fields: Mapping[str, Any],
    items: Iterable[DataclassInstance] = (),
    error: Exception | None = None,
    *,
    name: str = "slices",
    after: Callable[[], Mapping[str, Any]] = dict,
) -> Exception | None:
    """Print one JSON object: ``fields``, then the list of ``items``, then what is only known ``after`` it.

    ``error`` comes last, if there is one. An error that comes up while items are read is printed as the object's
    ``error``; the error printed is returned.
    """
    with forgiving():
        write = sys.stdout.write
        head = msgspec.json.encode(fields).decode()
        write(head[:-1] + ("," if fields else "") + f'"{name}":[')
        separator = "\n  "
        rest = iter(items)
        while True:
            try:
                one = next(rest, None)
            except Exception as failed:  # noqa: BLE001  half an object is worse than one that says what is missing
                error = failed
                break
            if one is None:
                break
            write(separator + _item(one))
            separator = ",\n  "
        write("]")
        for field, value in after().items():
            write(f',"{field}":{msgspec.json.encode(value).decode()}')
        if error is not None:
            write(f',"error":{msgspec.json.encode(sentence(error)).decode()}')
        write("}\n")
    return error


def _item(one: DataclassInstance) -> str:
    error = getattr(one, "error", None)
    return msgspec.json.encode(one if error is None else replace(one, error=redacted(error))).decode()


__all__ = ["OutputLost", "Terminal", "discard_the_rest", "forgiving", "print_lines", "print_object"]
