"""Parties that this project did not write: a server on Python's own ``xmlrpc.server`` is harvested to the exact rows.

And both protocols bring the same: one nasty account, harvested over JSON and over XML, makes two lakes that are equal.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from harvester.config import Settings, Wire
from harvester.datasets import BOUNCES, CATALOGUE, MESSAGES, Dataset
from harvester.harvest.run import Harvest
from harvester.model import Secret, Send
from harvester.simulator import AccountSpec, Behaviour, Case, Nothing, Numbers, Shape, XmlTypes, listed
from tests.harvesting import QUICK, field, lake_table, outcomes, proofs
from tests.thorough import thorough

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harvester.harvest.outcome import Result

pytestmark = pytest.mark.anyio

MD5 = "0123456789abcdef0123456789abcdef"
FIRST_KEY = 723_043_605
SENDS = {601: 355, 602: 1, 603: 0, 604: 120}


def message(id_send: int, key: int) -> dict[str, Any]:
    """A record as Python's marshaller sends it: whole numbers, strings, None and Booleans."""
    number = key - FIRST_KEY
    return {
        "ID_message": 32443,
        "ID_send": id_send,
        "ID_send_message": key,
        "ID_user_list": "" if number % 7 == 0 else None,
        "ID_email": str(2**60 + number),
        "email": f"Žofie & <{number}>@example.com",
        "date_sent": "0000-00-00 00:00:00" if number % 5 == 0 else "2016-06-20 16:07:00",
        "message_status": "failed" if number % 10 == 0 else "sent",
        "custom_1": number,
        "custom_2": number % 2 == 0,
        "custom_3": "]]> two\nlines\t" + "é" * (number % 3),
        "new_field": f"n{number}",
    }


def message_row(id_send: int, key: int) -> dict[str, Any]:
    """What a lake holds of it, as far as it says anything."""
    number = key - FIRST_KEY
    extra = f'{{"new_field":"n{number}"}}'
    if number % 5 == 0:
        extra = f'{{"date_sent":"0000-00-00 00:00:00","new_field":"n{number}"}}'
    return {
        "id_message": 32443,
        "id_send": id_send,
        "id_send_message": key,
        "id_email": 2**60 + number,
        "email": f"Žofie & <{number}>@example.com",
        "date_sent": None if number % 5 == 0 else datetime(2016, 6, 20, 16, 7),  # noqa: DTZ001  the API's dates have no zone
        "message_status": "failed" if number % 10 == 0 else "sent",
        "custom_1": str(number),
        "custom_2": "true" if number % 2 == 0 else "false",
        "custom_3": "]]> two\nlines\t" + "é" * (number % 3),
        "_extra": extra,
    }


def bounce(key: int) -> dict[str, Any]:
    return {"ID_SEND_MESSAGE": key, "DATE": "2016-06-20 16:08:00", "STATUS": "5.1.1", "EMAIL_STATUS": "permanent"}


def bounce_row(id_send: int, key: int) -> dict[str, Any]:
    return {
        "id_send": id_send,
        "id_send_message": key,
        "date": datetime(2016, 6, 20, 16, 8),  # noqa: DTZ001  likewise
        "status": "5.1.1",
        "email_status": "permanent",
    }


class Peer:
    """A small account behind Python's own server. Keys ascend from send to send.

    Attributes:
        calls: the parameters of each call, after the credentials.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.functions: dict[str, Callable[..., Any]] = {
            MESSAGES.function: self.messages,
            BOUNCES.function: self.bounces,
        }
        self.keys: dict[int, range] = {}
        first = FIRST_KEY
        for id_send, rows in SENDS.items():
            self.keys[id_send] = range(first, first + rows)
            first += rows + 10

    def messages(self, client_id: int, md5: str, *asked: Any) -> Any:
        self.calls.append(("messages", asked))
        if (client_id, md5) != (12345, MD5):
            return "Unauthorized"
        given = dict(zip(MESSAGES.parameters, asked, strict=False))
        id_send, start = given.get("ID_send"), int(given.get("ID_send_message") or 0)
        sends = [int(id_send)] if id_send else list(self.keys)
        records = [message(send, key) for send in sends for key in self.keys[send] if key >= start]
        return records[: int(given.get("limit") or 25_000)] or ""

    def bounces(self, client_id: int, md5: str, *asked: Any) -> Any:
        self.calls.append(("bounces", asked))
        if (client_id, md5) != (12345, MD5):
            return "Unauthorized"
        if not asked:
            return "Missing ID_send"
        return [bounce(key) for key in self.failed(int(asked[0]))] or ""

    def failed(self, id_send: int) -> list[int]:
        return [key for key in self.keys[id_send] if (key - FIRST_KEY) % 10 == 0]

    def table(self, dataset: Dataset, id_send: int) -> pa.Table:
        """What a lake should hold."""
        if dataset is MESSAGES:
            rows = [message_row(id_send, key) for key in self.keys[id_send]]
        else:
            rows = [bounce_row(id_send, key) for key in self.failed(id_send)]
        return pa.Table.from_pylist(rows, schema=dataset.schema)


class Handler(SimpleXMLRPCRequestHandler):
    rpc_paths = ("/rpc.fcgi",)


@contextmanager
def served(peer: Peer) -> Iterator[str]:
    """Serves it on loopback, in a thread; yields its URL."""
    with SimpleXMLRPCServer(("127.0.0.1", 0), Handler, logRequests=False, allow_none=True) as server:
        for name, function in peer.functions.items():
            server.register_function(function, name)
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def settings(lake: Path, endpoint: str, **given: Any) -> Settings:
    common: dict[str, Any] = {"rate": 1000.0, "burst": 100, "patience_s": 30.0, "tuning": QUICK, "wire": Wire.XML}
    return Settings(
        lake=lake, client_id="12345", client_md5=Secret(MD5), endpoint=endpoint, limit=100, **(common | given)
    )


@pytest.mark.parametrize("counted", [False, True])
async def test_a_server_on_pythons_own_library_is_harvested_exactly(tmp_path: Path, counted: bool) -> None:
    peer = Peer()
    with served(peer) as url:
        sends = [Send(id_send, expected=rows if counted else None) for id_send, rows in SENDS.items()]
        result = await Harvest(settings(tmp_path, url), sends).run()
        assert result.complete, [outcome.error for outcome in result.slices()]
        assert proofs(result, "messages") == [
            *(["count"] * 2 if counted else ["tail"] * 2),
            "empty",
            proofs(result, "messages")[0],
        ]
        assert proofs(result, "bounces") == ["covers", "empty", "empty", "covers"]
    for id_send in SENDS:
        for dataset in (MESSAGES, BOUNCES):
            assert lake_table(tmp_path, dataset.name, id_send).equals(peer.table(dataset, id_send))
    assert ("messages", ("", 601, "", 100)) in [
        (name, tuple(as_number(value) for value in asked)) for name, asked in peer.calls
    ]


def as_number(value: Any) -> Any:
    """A parameter as a number, however it was sent; an empty one as it is."""
    return int(value) if value != "" else value


SHAPES = {
    "plain": Shape(),
    "pretty": Shape(pretty=True, ascii=True),
    "bare": Shape(numbers=Numbers.BARE, single_bare=True),
    "mixed": Shape(numbers=Numbers.MIXED, shuffle=True, unknown=True),
    "strings": Shape(xml_types=XmlTypes.STRINGS, case=Case.UPPER, unknown=True),
    "untyped": Shape(xml_types=XmlTypes.UNTYPED, case=Case.LOWER, missing=("fax", "BOUNCE_CAT", "ID_email")),
    "lists": Shape(nothing=Nothing.LIST, single_bare=True, unknown=True),
}


@pytest.mark.parametrize("foul", [False, True], ids=["text", "foul"])
@pytest.mark.parametrize(
    "shape", [name if name in ("plain", "mixed", "untyped") else pytest.param(name, marks=thorough) for name in SHAPES]
)
async def test_both_wires_make_the_same_lake_cell_for_cell(tmp_path: Path, shape: str, foul: bool) -> None:
    spec = AccountSpec(
        seed=9,
        sends=listed({601: 200, 602: 1, 603: 0, 604: 40}),
        gap=5,
        awkward=True,
        foul=foul,
        failed=0.2,
        waiting=0.05,
        shape=SHAPES[shape],
    )
    lakes = {wire: tmp_path / wire.value for wire in Wire}
    async with field(tmp_path, spec, Behaviour(no_reports=True), limit=90, datasets=tuple(CATALOGUE)) as account:
        results = {wire: await account.run(lake=lakes[wire], wire=wire) for wire in Wire}
    for wire in Wire:
        assert results[wire].complete, [slice_.error for slice_ in results[wire].slices()]
    assert tellings(results[Wire.JSON]) == tellings(results[Wire.XML])
    for dataset in CATALOGUE.values():
        for id_send in spec.sends.ids:
            over_json, over_xml = (lake_table(lakes[wire], dataset.name, id_send) for wire in Wire)
            assert over_json.equals(over_xml), f"{dataset.name} of send {id_send}"
        keys = lake_table(lakes[Wire.XML], dataset.name, 601)[dataset.key]
        assert pc.min(keys).as_py() > 2**53


def tellings(result: Result) -> dict[tuple[str, int], tuple[Any, ...]]:
    """What a run says of its slices."""
    return {name: (slice_.state, slice_.proof, slice_.rows) for name, slice_ in outcomes(result).items()}
