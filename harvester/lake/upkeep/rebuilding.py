"""Rebuilding what the ledger should say of one slice, from its data files alone.

Nouns: a *part* is a data file that was read to its end and is sound. The *chain* is the parts that adjoin, from the
first key on; only they can be kept, since what follows them is asked for again. What is not in the chain is set aside.

Invariant: a slice is complete only if its chain reaches the last key, and the last part says a proof that fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harvester.datasets import CATALOGUE
from harvester.errors import LakeAway, LakeError
from harvester.lake import layout
from harvester.lake.upkeep.consistency import fits
from harvester.lake.upkeep.contents import NotOurs, Unreadable, read_contents
from harvester.model import KEY_END, MOST_ANCHORS, KeyRange, Proof
from harvester.redaction import in_words

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from harvester.lake.layout import Footer
    from harvester.lake.storage.store import Store
    from harvester.lake.upkeep.contents import Contents
    from harvester.model import SliceKey


@dataclass(frozen=True, slots=True)
class Part:
    """A sound data file: its name, its bytes, their SHA-256, its footer, its number of rows, and what those say."""

    name: str
    bytes: int
    checksum: str
    footer: Footer
    rows: int
    contents: Contents


@dataclass(frozen=True, slots=True)
class Aside:
    """A file that can't stay where it is, and why. ``foreign``: it never was one of its slice's."""

    name: str
    why: str
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What the ledger should say of a slice.

    Attributes:
        key: dataset and send.
        parts: the chain, in key order.
        aside: the slice's other files.
        renamed: parts of the chain that have a wrong name, and the right one for each.
        proof: why the slice is complete; None if that is not proven.
        expected: ``SEND_COUNT``, if the last part says it.
        key_range: where its walk goes on; None for an unpaged dataset, and where there are no rows.
    """

    key: SliceKey
    parts: tuple[Part, ...]
    aside: tuple[Aside, ...]
    renamed: tuple[tuple[str, str], ...]
    proof: Proof | None
    expected: int | None
    key_range: KeyRange | None

    @property
    def was_there(self) -> bool:
        """Whether the slice has, or had, files of its own. In an empty folder it had some: nothing else makes one."""
        return bool(self.parts) or not self.aside or not all(file.foreign for file in self.aside)


def read_part(
    store: Store, key: SliceKey, name: str, account: str | None, now: datetime, *, redaction: str | None = None
) -> Part | Aside:
    """Reads a file to its end: a part of a slice, or why it is none. Raises LakeAway. Blocking.

    Args:
        store: the lake's files.
        key: the slice in whose folder it is.
        name: the file.
        account: whose lake it is; None if that is not known.
        now: the time, without a zone, in UTC.
        redaction: the label of what is done to people's data in the lake; None if that is not known.
    """
    try:
        with store.at_hand(name) as copy:
            cover, contents = read_contents(copy.source, CATALOGUE[key.dataset], now=now)
            size, checksum = copy.bytes, copy.checksum()
    except LakeAway:
        raise
    except Unreadable as error:
        return Aside(name, f"it {error}", foreign=isinstance(error, NotOurs))
    except LakeError as error:
        return Aside(name, f"it can't be read: {error}")
    footer = cover.footer
    if (why := _foreign(footer, key, account, redaction)) is not None:
        return Aside(name, why, foreign=True)
    if contents.fault is not None:
        return Aside(name, f"it {contents.fault}")
    return Part(name, size, checksum, footer, cover.rows, contents)


def _foreign(footer: Footer, key: SliceKey, account: str | None, redaction: str | None) -> str | None:
    """Why a file never was one of this slice and this lake; None if it may have been."""
    if (footer.dataset, footer.id_send) != (key.dataset, key.id_send):
        return f"it is one of {footer.dataset} of send {footer.id_send}"
    if None not in {account, footer.account} and footer.account != account:
        return f"it is of the account {footer.account}, not of {account}"
    if redaction is not None and (footer.redaction or "") != redaction:
        return f"it was harvested {in_words(footer.redaction)}, and the lake {in_words(redaction)}"
    return None


def rebuilt(key: SliceKey, found: Sequence[Part | Aside], known: Collection[str] = ()) -> Rebuilt:
    """What the ledger should say of a slice with these files.

    Args:
        key: the slice.
        found: its files.
        known: checksums of files that a sound ledger knows: of two files that cover the same, such a one is kept.
    """
    parts = [one for one in found if isinstance(one, Part)]
    aside = [one for one in found if isinstance(one, Aside)]
    chain, renamed, left = _chain(key, parts, known)
    proof = _proof(key, chain)
    if chain and proof is None and not CATALOGUE[key.dataset].paged:
        left += [Aside(part.name, "it does not say that it is all of an answer") for part in chain]
        chain, renamed = [], []
    return Rebuilt(
        key=key,
        parts=tuple(chain),
        aside=(*aside, *left),
        renamed=tuple(renamed),
        proof=proof,
        expected=chain[-1].footer.expected if chain and CATALOGUE[key.dataset].counted else None,
        key_range=_key_range(chain) if chain and CATALOGUE[key.dataset].paged else None,
    )


def _chain(
    key: SliceKey, parts: Sequence[Part], known: Collection[str]
) -> tuple[list[Part], list[tuple[str, str]], list[Aside]]:
    """The parts that adjoin from the first key on, those of them that have a wrong name, and all others."""

    def order(part: Part) -> tuple[int, bool, int, int, bool, str]:
        footer = part.footer
        newer, longer = -footer.generation, -footer.stop
        return footer.start, part.checksum not in known, newer, longer, not _fits_its_name(part), part.name

    taken = {part.name for part in parts}
    chain: list[Part] = []
    renamed: list[tuple[str, str]] = []
    left: list[Aside] = []
    reached = 0
    for part in sorted(parts, key=order):
        right_name = layout.data_file(key, part.contents.first_key, part.contents.last_key)
        if part.footer.start < reached:
            left.append(Aside(part.name, f"it covers keys that {chain[-1].name} covers"))
        elif part.footer.start > reached:
            left.append(Aside(part.name, f"no file covers the keys before it, from {reached} on"))
        elif not _fits_its_name(part) and right_name in taken:
            left.append(Aside(part.name, f"it has another file's name, and {right_name} is taken"))
        else:
            if not _fits_its_name(part):
                renamed.append((part.name, right_name))
                taken.add(right_name)
            chain.append(part)
            reached = part.footer.stop
    return chain, renamed, left


def _fits_its_name(part: Part) -> bool:
    first_key = layout.first_key_in_name(part.name)
    return first_key is not None and part.footer.start <= first_key < part.footer.stop


def _proof(key: SliceKey, chain: Sequence[Part]) -> Proof | None:
    if not chain or chain[-1].footer.stop != KEY_END:
        return None
    footer = chain[-1].footer
    said = next((proof for proof in Proof if proof == footer.proof), None)
    if said is None:
        return None
    rows = sum(part.rows for part in chain)
    refreshed = any(part.footer.generation for part in chain)
    wrong = fits(said, key.dataset, rows=rows, expected=footer.expected, refreshed=refreshed)
    return None if wrong else said


def _key_range(chain: Sequence[Part]) -> KeyRange:
    """The walk goes on from the last row, with some rows before it as anchors."""
    *before, last = (part.contents for part in chain)
    ends = [key for contents in reversed(before) for key in (contents.last_key, contents.first_key)]
    anchors = tuple(dict.fromkeys([*last.before_last, *ends]))
    return KeyRange(cursor=last.last_key, held=last.last_key, anchors=anchors[:MOST_ANCHORS])


__all__ = ["Aside", "Part", "Rebuilt", "read_part", "rebuilt"]
