"""What mutation starts from: bodies of the simulator in all shapes, its faults, and records that hypothesis draws."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import lru_cache

from hypothesis import HealthCheck, Phase, given, seed, settings

from harvester.config import Wire
from harvester.datasets import BOUNCES, CAMPAIGNS, CATALOGUE, MESSAGES, SENDS, Dataset
from harvester.simulator import Account, AccountSpec, Behaviour, Case, Fault, Nothing, Numbers, Shape, XmlTypes, listed
from harvester.simulator.body import record_list
from harvester.simulator.envelopes import refused
from harvester.simulator.faults import SPOILING, instead
from harvester.simulator.lists import Days
from harvester.simulator.query import Asked
from harvester.simulator.selection import select
from tests import wires

Seeds = list[tuple[str, bytes]]
"""Bodies, each with the name of the dataset that it is an answer of."""

DATASETS: dict[str, Dataset] = {**CATALOGUE, CAMPAIGNS.name: CAMPAIGNS, SENDS.name: SENDS}
_DRAWN = 120
_SHORTER = tuple(f"custom_{number}" for number in range(4, 26))  # without these, a message has 44 fields
_SHAPES = (
    Shape(missing=("fax",)),  # not as plain as can be: such a page is faster to make only if it is long
    Shape(pretty=True),
    Shape(ascii=True, missing=("fax",)),
    Shape(numbers=Numbers.BARE, missing=_SHORTER),
    Shape(numbers=Numbers.MIXED, unknown=True, missing=_SHORTER),
    Shape(xml_types=XmlTypes.UNTYPED, case=Case.LOWER, missing=_SHORTER),
    Shape(xml_types=XmlTypes.STRINGS, case=Case.UPPER, shuffle=True, missing=_SHORTER),
    Shape(single_bare=True, nothing=Nothing.LIST, missing=("email", "EMAIL", "NAME", *_SHORTER)),
)


def bodies(wire: Wire, chance: int) -> Seeds:
    """Bodies to mutate. ``chance`` decides what hypothesis draws."""
    found = [*_served(wire), *_odd(wire)]
    for dataset, records in _drawn(chance):
        write = wires.json_body if wire is Wire.JSON else wires.xml_body
        found.append((dataset, write(records, random.Random(len(found)))))
    return found


def records(chance: int) -> list[tuple[str, list[wires.Record]]]:
    """Records to change and write: drawn ones, and some of the simulator's, whose values are texts."""
    served = [(name, json.loads(body)) for name, body in _served(Wire.JSON) if body.startswith(b"[") and _is_text(body)]
    known = [
        (name, [{field: _meant(value) for field, value in record.items()} for record in rows]) for name, rows in served
    ]
    return [*_drawn(chance), *known]


def _meant(value: object) -> wires.Value:
    return str(value).encode("utf-8", "surrogatepass") if isinstance(value, (str, float)) else value  # type: ignore[return-value]


def _is_text(body: bytes) -> bool:
    return body.decode("utf-8", "replace").encode() == body


@lru_cache(maxsize=2)
def _drawn(chance: int) -> list[tuple[str, list[wires.Record]]]:
    found: list[tuple[str, list[wires.Record]]] = []

    @seed(chance)
    @settings(
        max_examples=_DRAWN,
        database=None,
        deadline=None,
        derandomize=False,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(wires.records)
    def draw(drawn: list[wires.Record]) -> None:
        found.append((BOUNCES.name, drawn))

    draw()
    return found


@lru_cache(maxsize=2)
def _served(wire: Wire) -> Seeds:
    return list(_answers(wire))


def _answers(wire: Wire) -> Iterator[tuple[str, bytes]]:
    for number, shape in enumerate(_SHAPES):
        for awkward, foul in ((False, False), (True, False), (True, True)):
            spec = AccountSpec(
                seed=number, sends=listed({7: 3, 8: 1, 9: 0}), failed=0.5, awkward=awkward, foul=foul, shape=shape
            )
            account = Account(spec)
            for dataset, asked in _queries(account):
                selection = select(account, asked, Behaviour())
                yield dataset.name, b"".join(record_list(account, selection.blocks(), wire))


def _queries(account: Account) -> Iterator[tuple[Dataset, Asked]]:
    for dataset in CATALOGUE.values():
        for ordinal in range(2):
            yield dataset, Asked(dataset, range(ordinal, ordinal + 1), limit=2)
    days = Days(account.today.replace(year=account.today.year - 1), account.today)
    yield CAMPAIGNS, Asked(CAMPAIGNS, range(0), days=days)
    campaign = next(send.id_message for send in account.sends)
    yield SENDS, Asked(SENDS, range(0), id_message=campaign, days=days)


def _odd(wire: Wire) -> Iterator[tuple[str, bytes]]:
    """Errors and faults, of which the two best-known datasets have one each."""
    for dataset in (BOUNCES, MESSAGES):
        for fault in (each for each in Fault if each not in SPOILING | {Fault.HANG}):
            if body := instead(fault, wire, "10.0.0.1", None).body:
                yield dataset.name, body
        yield dataset.name, refused(wire, "Disallowed IP 10.0.0.1")
    values = b"<array><data><value><struct><member><name>error</name><value>Error</value></member></struct></value>"
    yield (
        BOUNCES.name,
        b'[{"error_status":1,"error":"Error"}]' if wire is Wire.JSON else wires.response(values + b"</data></array>"),
    )


__all__ = ["DATASETS", "Seeds", "bodies", "records"]
