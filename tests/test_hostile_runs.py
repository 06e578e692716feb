"""A run among whose sends one is served by a server that means harm: that one fails alone, and says why."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from harvester.config import Wire
from harvester.datasets import MESSAGES
from harvester.simulator import AccountSpec, listed
from tests.harvesting import QUICK, field, outcomes
from tests.hostile import Call, Reply, Say, between, body, endless, hostile, packed, raw, record, records, xml, zeros
from tests.hostile import head as response_head
from tests.thorough import some

pytestmark = pytest.mark.anyio

MIB = 2**20
SPEC = AccountSpec(seed=8, sends=listed({601: 60, 602: 40, 603: 30}), failed=0.1)
HOSTILE = 602
LIMIT = 25
FILE = re.compile(
    r"(messages|bounces)/send=60[13]/part-[0-9]+-[0-9]+\.parquet"
    r"|messages/send=602/part-1-[0-9]+\.parquet|bounces/send=602/part-[0-9]+-[0-9]+\.parquet"
    r"|_harvest/(ledger\.sqlite.*|lock)"
)
"""All that may be in the lake; the hostile server's own keys begin with 1."""


def keyed(wire: Wire, *keys: str, **more: str) -> Reply:
    """A page of records with these keys."""
    return body(records(wire, [{"id_send_message": json.dumps(key), **more} for key in keys]))


def numbers(start: int) -> list[str]:
    return [str(key) for key in range(start, start + LIMIT)]


def elsewhere(wire: Wire) -> Reply:
    """A page of other keys each time, whatever was asked."""
    starts = count(1, 1000)

    async def reply(call: Call, say: Say) -> None:
        await keyed(wire, *numbers(next(starts)))(call, say)

    return reply


Hostile = Callable[[Wire], Reply]
ANSWERS: dict[str, tuple[Hostile, str]] = {
    "a bomb": (lambda _: packed(zeros(32 * MIB)), "larger than|is a text"),
    "an endless body": (lambda _: endless(response_head(), b"[" * 65536), "larger than"),
    "a body that drips": (
        lambda _: endless(response_head(), b" ", pause_s=0.01),
        "did not answer in full within 0.2 s",
    ),
    "endless headers": (lambda _: endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 5000), "is not HTTP"),
    "a length that is too long": (
        lambda _: raw(response_head("Content-Length: 200"), b"[]"),
        "before the answer was whole",
    ),
    "a redirect": (lambda _: body(b"", "Location: http://127.0.0.1:1/", status="302 Found"), "redirects elsewhere"),
    "lists within lists": (lambda wire: body(deep(wire)), "begins like|too deeply"),
    "entities": (lambda _: body(b'<!DOCTYPE a [<!ENTITY b "c">]>' + xml(b"&b;")), "a document type|XML|HTML"),
    "a million fields": (lambda wire: body(record(wire, {f"f{n}": '"1"' for n in range(3000)})), "too many fields"),
    "a key that is a path": (lambda wire: keyed(wire, "1", "../../x"), "lack a usable id_send_message"),
    "a key that is negative": (lambda wire: keyed(wire, "-1"), "not a positive number that fits"),
    "a key that is a fraction": (lambda wire: keyed(wire, "1.5"), "lack a usable"),
    "a key beyond 64 bits": (lambda wire: keyed(wire, str(2**64)), "lack a usable"),
    "the last key that there is": (lambda wire: keyed(wire, str(2**63 - 1)), "not a positive number that fits"),
    "keys that go down": (lambda wire: keyed(wire, *reversed(numbers(1))), "ascending order"),
    "the same key again": (lambda wire: keyed(wire, "1", "1"), "ascending order"),
    "records of another send": (lambda wire: keyed(wire, "1", ID_send='"601"'), "records of another send"),
    "a page that repeats for ever": (lambda wire: keyed(wire, *numbers(1)), "brought nothing after it"),
    "pages that go on elsewhere": (elsewhere, "did not bring that record back"),
}


def deep(wire: Wire) -> bytes:
    return b"[" * 10**5 + b"]" * 10**5 if wire is Wire.JSON else xml(b"<array><data><value>" * 10**5)


EITHER = [(name, list(Wire)[place % 2]) for place, name in enumerate(ANSWERS)]
OTHER = [(name, list(Wire)[1 - place % 2]) for place, name in enumerate(ANSWERS)]


@pytest.mark.parametrize(("name", "wire"), some([*EITHER, *OTHER], len(EITHER)), ids=str)
async def test_one_send_fails_alone_and_says_why(name: str, wire: Wire, tmp_path: Path) -> None:
    make, says = ANSWERS[name]
    answer = make(wire)

    def hostile_part(call: Call) -> Reply | None:
        return answer if call.id_send == HOSTILE and call.function == MESSAGES.function else None

    async with (
        field(tmp_path / "lake", SPEC, wire=wire, limit=LIMIT, timeout_s=5.0) as account,
        between(account.server.url, hostile_part) as url,
    ):
        timeout_s = 0.2 if "drips" in name else 5.0
        tuning = replace(QUICK, body_cap_bytes=4 * MIB, backoff_cap_s=0.05)
        result = await account.run(endpoint=url, patience_s=0.15, timeout_s=timeout_s, tuning=tuning)
        assert not result.complete
        account.assert_exact(601, 603)
        account.assert_exact(HOSTILE, datasets=["bounces"])
        failed = {key: slice_ for key, slice_ in outcomes(result).items() if slice_.state != "complete"}
        assert set(failed) == {("messages", HOSTILE)}
        error = failed["messages", HOSTILE].error or ""
        assert re.search(says, error), error
        assert f"send {HOSTILE}" in error
    assert [path.name for path in tmp_path.iterdir()] == ["lake"]
    files = [str(path.relative_to(tmp_path / "lake")) for path in (tmp_path / "lake").rglob("*") if path.is_file()]
    assert [file for file in files if not FILE.fullmatch(file)] == []


@pytest.mark.parametrize("wire", Wire, ids=lambda wire: wire.value)
async def test_a_redirect_takes_the_credentials_nowhere(wire: Wire, tmp_path: Path) -> None:
    heard: list[Call] = []
    async with (
        hostile(body(b"[]"), heard) as other,
        field(tmp_path, SPEC, wire=wire) as account,
        between(
            account.server.url,
            lambda call: (
                body(b"", f"Location: {other}{call.head.split()[1].decode()}", status="307 Temporary Redirect")
                if call.id_send == HOSTILE
                else None
            ),
        ) as url,
    ):
        result = await account.run(endpoint=url, patience_s=0.2)
        account.assert_exact(601, 603)
        assert not result.complete
    assert heard == []
