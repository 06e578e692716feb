"""Cases: what is read, how a case is made from a seed and a number, and how one is kept in a file."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

from harvester.config import Wire
from tests import wires
from tests.fuzz import mutate, seeds


@dataclass(frozen=True)
class Case:
    """A body and how it is read.

    Attributes:
        wire: what it is read as, ``json`` or ``xml``.
        dataset: of which dataset it is an answer, by name.
        encoding: the ``Content-Encoding`` that it is said to have.
        chance: what the sizes of pieces and blocks follow from.
        body: the bytes.
    """

    wire: str
    dataset: str
    encoding: str
    chance: int
    body: bytes

    def save(self, path: Path) -> None:
        """Keep it: a line that says how to read it, then the body."""
        head = {name: value for name, value in asdict(self).items() if name != "body"}
        path.write_bytes(json.dumps(head).encode() + b"\n" + self.body)

    @classmethod
    def load(cls, path: Path) -> Case:
        head, _, body = path.read_bytes().partition(b"\n")
        return cls(body=body, **json.loads(head))


class Maker:
    """Makes cases. What a number gives depends on nothing but the seed.

    (And on hypothesis, which draws from what it finds in the modules that are loaded. So processes get the maker as a
    whole.)
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._seeds = {wire: seeds.bodies(wire, seed) for wire in Wire}
        self._records = seeds.records(seed)

    def case(self, number: int) -> Case:
        chance = random.Random(f"{self._seed}:{number}")
        wire = chance.choice([Wire.JSON, Wire.XML])
        if chance.random() < 0.3:
            dataset, body = self._structured(wire, chance)
        else:
            dataset, body = chance.choice(self._seeds[wire])
            body = self._mutated(wire, body, chance)
        encoding = ""
        if chance.random() < 0.08:
            encoding, body = _packed(body, chance)
        return Case(wire.value, dataset, encoding, chance.getrandbits(32), body)

    def _structured(self, wire: Wire, chance: random.Random) -> tuple[str, bytes]:
        """Records that were changed as such and then written anew; half of these are damaged further."""
        dataset, records = chance.choice(self._records)
        records = mutate.records(records, dataset, chance)
        write = wires.json_body if wire is Wire.JSON else wires.xml_body
        body = write(records, chance)
        return dataset, self._mutated(wire, body, chance) if chance.random() < 0.5 else body

    def _mutated(self, wire: Wire, body: bytes, chance: random.Random) -> bytes:
        for _ in range(chance.choice([1, 1, 1, 2, 3, 5])):
            _, other = chance.choice(self._seeds[wire])
            body = mutate.body(wire, body, other, chance)
        return body


def _packed(body: bytes, chance: random.Random) -> tuple[str, bytes]:
    """The body compressed in some way, and mostly damaged."""
    level = chance.randint(0, 9)
    if chance.random() < 0.1:
        body *= chance.choice([10, 300])
    how = chance.choice(["gzip", "gzip", "members", "zlib", "bare"])
    if how == "members":
        cut = chance.randint(0, len(body))
        packed = gzip.compress(body[:cut], level, mtime=0) + b"\0" * chance.choice([0, 0, 3])
        packed += gzip.compress(body[cut:], level, mtime=0)
    elif how == "gzip":
        packed = gzip.compress(body, level, mtime=0)
    else:
        stream = zlib.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS if how == "zlib" else -zlib.MAX_WBITS)
        packed = stream.compress(body) + stream.flush()
    for _ in range(chance.choice([0, 1, 1, 2, 3])):
        packed = mutate.raw(packed, packed, chance)
    encoding = "deflate" if how in ("zlib", "bare") else "gzip"
    return chance.choice([encoding] * 9 + ["", "identity", "deflate", "br"]), packed


__all__ = ["Case", "Maker"]
