"""Rebuilding what a ledger should say of a partitioned lake, from its data files alone.

Nouns: a slice's *chain* is the stretches that adjoin, from key 0 on, all of whose rows are there; what follows a
stretch that isn't whole is asked for again, and so it can't stay: its rows go out of files that hold other slices' rows
as well, by writing these again. What they were is set aside.

Invariant: until the new ledger has its name, beginning again finds the same: of two files that hold the same rows, the
one that was written later counts. Where there is a table, those count that it holds, which are of one state of the
lake; of others, those rows alone that are of stretches of which it holds none.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from harvester.config import PartitionBy
from harvester.datasets import CATALOGUE
from harvester.errors import LakeAway, LakeError
from harvester.lake import layout
from harvester.lake.ledgers.tables import as_text, range_values, ranges, slices
from harvester.lake.partitioned.sharedfiles import Share, SharedFile, SharedFiles, put_file
from harvester.lake.partitioned.sharing import About, Piece, ShareReader, Sharing, bring_in, publish
from harvester.lake.sealing import Sealer
from harvester.lake.upkeep.consistency import fits
from harvester.lake.upkeep.contents import Unreadable
from harvester.lake.upkeep.rebuilding import Aside
from harvester.lake.upkeep.sharechecks import read_shares
from harvester.model import KEY_END, KeyRange, Proof
from harvester.redaction import in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from harvester.lake.inventory import Inventory
    from harvester.lake.layout import SharedFooter, Told
    from harvester.lake.ledger import Ledger
    from harvester.lake.ledgers.database import Database
    from harvester.lake.storage.store import Store
    from harvester.lake.upkeep.salvaging import Recovered
    from harvester.lake.upkeep.sharechecks import Content

_ANCHORS = 16
_ROW_GROUP_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class _Read:
    """A sound file: its name, bytes, SHA-256 and footer, and what its shares hold."""

    name: str
    bytes: int
    checksum: str
    footer: SharedFooter
    contents: Sequence[Content]


class _Found(NamedTuple):
    """A share: its file, its place there, and what it says and holds."""

    file: _Read
    place: int

    @property
    def told(self) -> Told:
        return self.file.footer.shares[self.place]

    @property
    def content(self) -> Content:
        return self.file.contents[self.place]


@dataclass(slots=True)
class Salvage:
    """What is kept of a partitioned lake, and what is not.

    Attributes:
        by: what it is partitioned by; None if it is not, as far as its files say.
        aside: files that can't stay.
    """

    store: Store
    done: Recovered
    tick: Callable[[], object]
    now: datetime
    by: PartitionBy | None = None
    aside: list[Aside] = field(default_factory=list)
    _read: list[_Read] = field(default_factory=list)
    _live: AbstractSet[str] = frozenset()

    def look(self, live: AbstractSet[str] = frozenset()) -> None:
        """Reads every file of every partition; takes the account and the redaction from them if none says so yet.

        With ``live``, the files that a table holds: of others, some may be there for its earlier states.
        """
        self._live = live
        for dataset, folder in partitions(self.store):
            for name, is_folder in self.store.entries(folder):
                if name.endswith(".parquet") and not is_folder:
                    self._look_at(dataset, f"{folder}/{name}")
                    self.tick()
        told = Counter(file.footer.partition_by for file in self._read)
        if not told:
            return
        self.by = PartitionBy(told.most_common(1)[0][0])
        accounts = Counter(file.footer.account for file in self._read if file.footer.account)
        if self.done.account is None and accounts:
            self.done.account = accounts.most_common(1)[0][0]
        if self.done.redaction is None:
            self.done.redaction = Counter(file.footer.redaction or "" for file in self._read).most_common(1)[0][0]
        for file in list(self._read):
            if (why := self._foreign(file)) is not None:
                self._read.remove(file)
                self.aside.append(Aside(file.name, why, foreign=True))

    def _look_at(self, dataset: str, name: str) -> None:
        try:
            with self.store.at_hand(name) as copy:
                footer, contents = read_shares(copy.source, CATALOGUE[dataset], now=self.now)
                self._read.append(_Read(name, copy.bytes, copy.checksum(), footer, contents))
                self.done.bytes += copy.bytes
        except LakeAway:
            raise
        except Unreadable as error:
            self.aside.append(Aside(name, f"it {error}"))
        except LakeError as error:
            self.aside.append(Aside(name, f"it can't be read: {error}"))

    def _foreign(self, file: _Read) -> str | None:
        footer = file.footer
        dataset = file.name.partition("/")[0]
        folder = layout.partition_folder(dataset, footer.partition_by, footer.partition)
        if footer.dataset != dataset or file.name.rpartition("/")[0] != folder:
            return f"it is one of {footer.dataset}, {footer.partition_by}={footer.partition}"
        if self.by is None or footer.partition_by != self.by.value:
            return f"it is partitioned by {footer.partition_by}, and the lake is not"
        if None not in {footer.account, self.done.account} and footer.account != self.done.account:
            return f"it is of the account {footer.account}, not of {self.done.account}"
        if (footer.redaction or "") != self.done.redaction:
            return f"it was harvested {in_words(footer.redaction)}, and the lake {in_words(self.done.redaction)}"
        return None

    def fill(self, database: Database, ledger: Ledger, inventory: Inventory) -> None:
        """Writes what is kept into a ledger; files that have to lose rows are written again, beside what they were."""
        kept = self._kept()
        chains = {key: list(self._chain(key, some)) for key, some in kept.items()}
        numbers = self._put_slices(database, chains)
        about = {
            numbers[key]: About(self._proof(key, chain), _expected(chain)) for key, chain in chains.items() if chain
        }
        stay = defaultdict[str, set[int]](set)
        for chain in chains.values():
            for one in chain:
                stay[one.file.name].add(one.place)
        sealer = Sealer(
            self.store,
            ledger,
            inventory,
            0,
            _ROW_GROUP_BYTES,
            account=lambda: self.done.account,
            redaction=lambda: self.done.redaction or "",
        )
        assert self.by is not None
        sharing = Sharing(sealer, SharedFiles(database), self.by, self.now)
        for file in self._read:
            places = stay[file.name]
            whole = self._record(file, numbers)
            if len(places) == len(file.footer.shares):
                now: SharedFile | None = whole
            else:
                now = self._without(sharing, whole, places, about) if places else None
                gone = [told for place, told in enumerate(file.footer.shares) if place not in places]
                held = [(told, chains.get((file.footer.dataset, told.id_send), [])) for told in gone]
                self.aside.append(Aside(file.name, _why(now, replaced=all(_in(chain, told) for told, chain in held))))
            if now is not None:
                with database.writing() as connection:
                    put_file(connection, now, sealed=1)
                self.done.files += 1
                self.done.rows += now.rows

    def _without(
        self, sharing: Sharing, whole: SharedFile, places: set[int], about: dict[int, About]
    ) -> SharedFile | None:
        """A file of some of another one's shares, under a name of its own."""
        reader = ShareReader(self.store, _ROW_GROUP_BYTES)
        pieces = (
            Piece(share, batches, counted=True)
            for place, (share, batches) in enumerate(reader.all(whole))
            if place in places
        )
        name = layout.shared_file(whole.dataset, sharing.by.value, whole.partition)
        written = sharing.write(replace(whole, name=name, generation=whole.generation + 1), pieces, about)
        if written is not None:
            bring_in(self.store, [written], sharing.sealer.epoch)
            publish(self.store, [written], sharing.sealer.epoch)
        return written

    def _kept(self) -> dict[tuple[str, int], list[_Found]]:
        """Each slice's shares, each row once: of two that hold the same, the one that was written later."""
        taken = defaultdict[tuple[str, str, int], list[tuple[int, int]]](list)
        kept = defaultdict[tuple[str, int], list[_Found]](list)
        held = defaultdict[tuple[str, int], list["Told"]](list)
        for file in (file for file in self._read if file.name in self._live):
            for told in file.footer.shares:
                held[file.footer.dataset, told.id_send].append(told)
        for file in sorted(self._read, key=lambda one: (-one.footer.generation, one.name)):
            live = file.name in self._live
            mine: list[tuple[tuple[str, str, int], tuple[int, int]]] = []
            for place, told in enumerate(file.footer.shares):
                found = _Found(file, place)
                of_slice = () if live else held[file.footer.dataset, told.id_send]
                if any(one.start < told.stop and told.start < one.stop for one in of_slice):
                    continue
                where = (file.footer.dataset, file.footer.partition, told.id_send)
                ends = (found.content.first_key, found.content.last_key)
                if not any(first <= ends[1] and ends[0] <= last for first, last in taken[where]):
                    mine.append((where, ends))
                    kept[file.footer.dataset, told.id_send].append(found)
            for where, ends in mine:
                taken[where].append(ends)
        return kept

    def _chain(self, key: tuple[str, int], some: Sequence[_Found]) -> Iterator[_Found]:
        """Those of a slice's shares that can stay."""
        by_stretch = defaultdict[tuple[int, int], list[_Found]](list)
        for one in some:
            by_stretch[one.told.start, one.told.stop].append(one)
        reached, chain = 0, list[_Found]()
        for (start, stop), these in sorted(by_stretch.items()):
            rows = sum(one.told.rows for one in these)
            if start != reached or any(one.told.total != rows for one in these):
                break
            chain += sorted(these, key=lambda one: one.content.first_key)
            reached = stop
        if CATALOGUE[key[0]].paged or self._proof(key, chain) is not None:
            yield from chain

    def _proof(self, key: tuple[str, int], chain: Sequence[_Found]) -> Proof | None:
        """Why a slice is complete, if its last stretch says so."""
        if not chain or chain[-1].told.stop != KEY_END:
            return None
        said = next((proof for proof in Proof if proof == chain[-1].told.proof), None)
        rows = sum(one.told.rows for one in chain)
        wrong = said and fits(said, key[0], rows=rows, expected=_expected(chain), refreshed=True)
        return None if wrong else said

    def _put_slices(
        self, database: Database, chains: dict[tuple[str, int], list[_Found]]
    ) -> dict[tuple[str, int], int]:
        numbers: dict[tuple[str, int], int] = {}
        with database.writing() as connection:
            for key, chain in sorted(chains.items()):
                proof = self._proof(key, chain)
                made = sorted(filter(None, (_utc(one.file.footer.harvested_at) for one in chain)))
                values = {
                    "dataset": key[0],
                    "id_send": key[1],
                    "run": 0,
                    "id_message": _campaign(chain),
                    "expected": _expected(chain) if CATALOGUE[key[0]].counted else None,
                    "first_seen": made[0] if made else None,
                    "newest": max((one.content.newest for one in chain if one.content.newest), default=None),
                    "proof": proof,
                    "rows": sum(one.told.rows for one in chain),
                    "unsettled": sum(one.content.unsettled for one in chain),
                    "overdue": sum(one.content.overdue for one in chain),
                    "checked_at": made[-1] if made and proof else None,
                }
                number = connection.execute(slices.insert().values(values)).inserted_primary_key
                assert number is not None
                numbers[key] = int(number[0])
                if chain and CATALOGUE[key[0]].paged:
                    where = range_values(_key_range(chain))
                    connection.execute(ranges.insert().values(slice_id=numbers[key], **where))
                self.done.slices += 1
                self.done.complete += proof is not None
        return numbers

    def _record(self, file: _Read, numbers: dict[tuple[str, int], int]) -> SharedFile:
        footer = file.footer
        held = tuple(
            Share(
                slice_id=numbers.get((footer.dataset, told.id_send), 0),
                id_send=told.id_send,
                start=told.start,
                stop=told.stop,
                total=told.total,
                rows=told.rows,
                unsettled=content.unsettled,
                overdue=content.overdue,
                first_key=content.first_key,
                last_key=content.last_key,
            )
            for told, content in zip(footer.shares, file.contents, strict=True)
        )
        return SharedFile(
            dataset=footer.dataset,
            partition=footer.partition,
            name=file.name,
            rows=sum(share.rows for share in held),
            bytes=file.bytes,
            generation=footer.generation,
            checksum=file.checksum,
            shares=held,
        )


def partitions(store: Store) -> Iterator[tuple[str, str]]:
    """Every folder of a partition, with its dataset."""
    for dataset in CATALOGUE:
        for name, is_folder in store.entries(dataset):
            if is_folder and layout.partition_of_folder(name) is not None:
                yield dataset, f"{dataset}/{name}"


def _in(chain: Sequence[_Found], told: Told) -> bool:
    """Whether a slice's chain, which begins at key 0, covers what a share covered."""
    return bool(chain) and told.stop <= chain[-1].told.stop


def _why(now: SharedFile | None, *, replaced: bool) -> str:
    """Why a file can't stay: what takes the place of some of its rows, if anything does, is ``now``."""
    if replaced:
        if now is None:
            return "it was replaced: later files hold its rows"
        return f"part of it was replaced: later files hold those rows, and {now.name} the others"
    rest = "none of its rows can stay" if now is None else f"only the rows that are in {now.name} now can stay"
    return f"{rest}: others follow rows that are missing, and are asked for again, or are in another file as well"


def _expected(chain: Sequence[_Found]) -> int | None:
    return chain[-1].told.expected if chain else None


def _campaign(chain: Sequence[_Found]) -> int | None:
    campaigns = {one.content.id_message for one in chain}
    return campaigns.pop() if len(campaigns) == 1 else None


def _key_range(chain: Sequence[_Found]) -> KeyRange:
    """The walk goes on from the last row, with some rows before it as anchors."""
    known = sorted({key for one in chain for key in (one.content.first_key, one.content.last_key)}, reverse=True)
    return KeyRange(cursor=known[0], held=known[0], anchors=tuple(known[1 : 1 + _ANCHORS]))


def _utc(text: str) -> str | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return as_text(time.astimezone(UTC) if time.tzinfo else time)


__all__ = ["Salvage", "partitions"]
