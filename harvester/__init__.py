"""Harvests whole Mailkit accounts, message by message, and proves that it did.

Into a lake of partitioned Parquet, by the command ``harvester``; or as record batches, for programs: ``stream``,
``read`` and ``schema``. What these need is imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harvester.errors import AccessRefused, HarvesterError, ServerNotReached, UsageError
    from harvester.model import Proof, Secret, Send
    from harvester.streaming.calls import read, schema, stream
    from harvester.streaming.outcome import IncompleteHarvest, Outcome
    from harvester.streaming.stream import Stream

__version__ = "0.1.0"

_HOMES = {
    "errors": ("AccessRefused", "HarvesterError", "ServerNotReached", "UsageError"),
    "model": ("Proof", "Secret", "Send"),
    "streaming.calls": ("read", "schema", "stream"),
    "streaming.outcome": ("IncompleteHarvest", "Outcome"),
    "streaming.stream": ("Stream",),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401  whatever has that name
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "AccessRefused",
    "HarvesterError",
    "IncompleteHarvest",
    "Outcome",
    "Proof",
    "Secret",
    "Send",
    "ServerNotReached",
    "Stream",
    "UsageError",
    "__version__",
    "read",
    "schema",
    "stream",
]
