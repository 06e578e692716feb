"""The process that atheris works in; ``guided`` starts it. Arguments are libFuzzer's."""

from __future__ import annotations

import importlib
import random
import sys
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fuzz.cases import Case


def case_of(data: bytes) -> Case:
    """The case that some bytes are: the first one says how the others are read."""
    from harvester.config import Wire  # noqa: PLC0415  not before atheris has its hands on imports
    from tests.fuzz.cases import Case  # noqa: PLC0415
    from tests.fuzz.seeds import DATASETS  # noqa: PLC0415

    head = data[0] if data else 0
    names, wires = list(DATASETS), list(Wire)
    wire, dataset = wires[head % len(wires)], names[head // len(wires) % len(names)]
    return Case(wire.value, dataset, "", zlib.crc32(data), data[1:])


def main() -> None:
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["harvester.api"]):
        from harvester.config import Wire  # noqa: PLC0415
        from tests.fuzz import mutate  # noqa: PLC0415
        from tests.fuzz.oracle import check  # noqa: PLC0415

    wires = list(Wire)

    def try_one(data: bytes) -> None:
        check(case_of(data))

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        """By what the wire is made of half of the time, and else as libFuzzer does."""
        chance = random.Random(seed)
        if len(data) > 1 and chance.random() < 0.5:
            body = mutate.body(wires[data[0] % len(wires)], data[1:], data[1:], chance)
            return (data[:1] + body)[:most]
        changed: bytes = atheris.Mutate(data, most)
        return changed

    atheris.Setup(sys.argv, try_one, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
