"""Which sends are wanted, where they are not named one by one: everything, or campaigns, perhaps of some days."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harvester.errors import UsageError

if TYPE_CHECKING:
    from datetime import date


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Sends to be found. Raises UsageError if a value can't be meant.

    Attributes:
        campaigns: of these campaigns (``ID_message``); none stands for the whole account.
        since: sent on this day or later; None for all from the first record on.
        until: sent on this day or earlier; None for all until now.
    """

    campaigns: tuple[int, ...] = ()
    since: date | None = None
    until: date | None = None

    def __post_init__(self) -> None:
        if self.since is not None and self.until is not None and self.since > self.until:
            raise UsageError(f"--since {self.since} is later than --until {self.until}")


__all__ = ["Wanted"]
