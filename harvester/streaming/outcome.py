"""How a stream ended."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from harvester.errors import HarvesterError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harvester.model import Proof

_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a stream ended.

    Attributes:
        dataset: the dataset's name.
        rows: rows that were yielded.
        proofs: the sends that are complete, by ``ID_send``, and why each of them is known to be.
        incomplete: the sends that are not, by ``ID_send``, and why, in a line. What was had of them was yielded.
        doubts: lists of sends that are not proven, and why, a line each: there may be other sends.
        new_fields: names of fields that the API sent and that the catalogue does not know; they are in ``_extra``.
        queries: queries asked, retries not counted.
        attempts: attempts at them.
        seconds: how long it took, waiting for whoever read the batches included.
    """

    dataset: str
    rows: int
    proofs: Mapping[int, Proof]
    incomplete: Mapping[int, str]
    doubts: tuple[str, ...]
    new_fields: tuple[str, ...]
    queries: int
    attempts: int
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether every row is proven to have been yielded."""
        return not self.incomplete and not self.doubts


class IncompleteHarvest(HarvesterError):
    """Not everything that was asked for could be had, or be proven to be all. Raised after the last batch.

    Every row that could be had was yielded before.

    Attributes:
        outcome: what is complete, what is not, and why.
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(_told(outcome))
        self.outcome = outcome

    def __reduce__(self) -> tuple[type[IncompleteHarvest], tuple[Outcome]]:
        """Made anew from its outcome, where it is sent to another process."""
        return type(self), (self.outcome,)


def _told(outcome: Outcome) -> str:
    """What is incomplete, by name as far as a sentence can hold it."""
    parts: list[str] = []
    lacking = outcome.incomplete
    if lacking:
        sends = len(lacking) + len(outcome.proofs)
        named = [f"send {id_send}: {reason}" for id_send, reason in islice(lacking.items(), _NAMED)]
        share = f"{len(lacking):,} of {sends:,} sends"
        parts.append(f"the {outcome.dataset} of {share} are incomplete ({_listed(named, len(lacking))})")
    if outcome.doubts:
        parts.append(f"lists of sends are not proven ({_listed(outcome.doubts[:_NAMED], len(outcome.doubts))})")
    return "; ".join(parts)


def _listed(named: list[str] | tuple[str, ...], count: int) -> str:
    more = [f"and {count - len(named):,} more"] if count > len(named) else []
    return "; ".join([*named, *more])


__all__ = ["IncompleteHarvest", "Outcome"]
