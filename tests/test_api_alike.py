"""The vectorised JSON decoder: what it takes, what it declines, and that it never reads anything else than is there."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harvester.api.alike import Alike
from harvester.api.json import JsonCodec
from harvester.api.records import RawTable, to_batch
from harvester.datasets import BOUNCES
from harvester.errors import AttemptFailed
from tests.thorough import examples

KEY = "ID_SEND_MESSAGE"
TEXTS = st.one_of(
    st.just(""),
    st.text(alphabet='ab,:"{}[]\\/ \u00e1\U0001f600é\x7f', max_size=12),
    st.sampled_from([":", '":"', '","', "},{", '"},{"', ":x", '","NAME":"', "null", "\\"]),
)

BARE = st.one_of(st.integers(-(10**17), 10**17), st.booleans(), st.none())
NAMES = ("DATE", "EMAIL", "reason", "STATUS", "NEW", "other field", "")


@st.composite
def alike(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Records with the same fields in the same order, each a text or bare in all of them."""
    names = draw(st.permutations([KEY, *draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=5))]))
    kinds = {name: draw(st.sampled_from([TEXTS, TEXTS, BARE])) for name in names}
    rows = draw(st.integers(2, 8))
    return [{name: draw(kinds[name]) for name in names} for _ in range(rows)]


FORMS: list[dict[str, Any]] = [
    {"separators": (",", ":")},
    {"separators": (", ", ": ")},
    {"separators": (",", ":"), "ensure_ascii": False},
    {"separators": (" , ", ": "), "ensure_ascii": False},
]
forms = st.sampled_from(FORMS)


def batch(table: object) -> pa.RecordBatch:
    assert isinstance(table, RawTable)
    return to_batch(table, BOUNCES, id_send=7)


def taken(body: bytes) -> RawTable | None:
    """What this decoder alone makes of a whole list."""
    found = Alike(BOUNCES).decode(body[1:-1], last=True)
    if found is None:
        return None
    assert found[1] == len(body) - 2
    return found[0]


@settings(max_examples=examples(300))
@given(alike(), forms)
def test_what_it_takes_is_what_the_exact_decoder_reads(records: list[dict[str, Any]], form: dict[str, Any]) -> None:
    body = json.dumps(records, **form).encode()
    found = taken(body)
    exact = JsonCodec(BOUNCES).decode_exact(body)
    assert isinstance(exact, RawTable)
    if found is not None:
        assert found.met == exact.met
        assert [column.sent_as for column in found.columns] == [column.sent_as for column in exact.columns]
        assert batch(found).equals(batch(exact))


@settings(max_examples=examples(300))
@given(alike(), forms, st.data())
def test_a_list_that_was_damaged_is_declined_or_read_as_the_exact_decoder_reads_it(
    records: list[dict[str, Any]], form: dict[str, Any], data: st.DataObject
) -> None:
    body = bytearray(json.dumps(records, **form).encode())
    place = data.draw(st.integers(1, len(body) - 2))
    put = data.draw(
        st.sampled_from([b"", b'"', b"\\", b'",', b'":', b",", b"{", b"}", b"x", b"\xff", b"0", b"\x00", b"\n"])
    )
    body[place : place + data.draw(st.integers(0, 3))] = put
    found = taken(bytes(body))
    if found is None:
        return
    try:
        exact = JsonCodec(BOUNCES).decode_exact(body)
    except AttemptFailed as error:
        raise AssertionError(f"took what the exact decoder refuses: {error}") from error
    assert batch(found).equals(batch(exact))


PLAIN = [{KEY: str(number), "EMAIL": f"p{number}@example.com", "REASON": ""} for number in range(1, 6)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "changed",
    [
        PLAIN,
        [row | {"REASON": 'say "á" \\ or / \t\n 😀'} if row[KEY] == "3" else row for row in PLAIN],
        [row | {KEY: int(row[KEY])} for row in PLAIN],
        [row | {"REASON": row[KEY] == "2", "NEW": None if row[KEY] == "1" else -7} for row in PLAIN],
        [dict(reversed(row.items())) for row in PLAIN],
        [{name.lower(): value for name, value in row.items()} | {"NEW": "x\\y"} for row in PLAIN],
        [row | {"REASON": '","EMAIL'} for row in PLAIN],
    ],
)
def test_it_takes_what_the_api_usually_sends(changed: list[dict[str, Any]], form: dict[str, Any]) -> None:
    body = json.dumps(changed, **form).encode()
    found = taken(body)
    assert found is not None
    assert batch(found).equals(batch(JsonCodec(BOUNCES).decode_exact(body)))


@pytest.mark.parametrize(
    "changed",
    [
        [PLAIN[0], PLAIN[1] | {"REASON": None}],
        [PLAIN[0], {KEY: "2", "REASON": "", "EMAIL": ""}],
        [PLAIN[0], PLAIN[1] | {"MORE": "1"}],
        [PLAIN[0], {KEY.lower(): "2", "EMAIL": "", "REASON": ""}],
        [PLAIN[0] | {KEY.lower(): "1"}, PLAIN[1] | {KEY.lower(): "2"}],
        [PLAIN[0] | {"REASON": 1.5}, PLAIN[1] | {"REASON": 2}],
        [PLAIN[0] | {"REASON": []}, PLAIN[1] | {"REASON": []}],
        [PLAIN[0] | {"REASON": "\0"}, PLAIN[1]],
        [PLAIN[0] | {"REASON": "\ud800"}, PLAIN[1]],
        [{"EMAIL": "no key"}, {"EMAIL": "either"}],
        PLAIN[:1],
    ],
)
def test_it_declines_what_it_cannot_be_sure_of(changed: list[dict[str, Any]]) -> None:
    assert taken(json.dumps(changed).encode()) is None


@settings(max_examples=examples(300))
@given(alike(), alike(), forms, forms)
def test_answers_after_others_are_read_as_if_they_were_the_first(
    before: list[dict[str, Any]], records: list[dict[str, Any]], form: dict[str, Any], other: dict[str, Any]
) -> None:
    """It remembers how records were written, and these may be written likewise, or not."""
    codec = JsonCodec(BOUNCES)
    for answer, how in ((before, form), (records, other), (before, form), (before[:1], form), (before, other)):
        body = json.dumps(answer, **how).encode()
        exact = JsonCodec(BOUNCES).decode_exact(body)
        assert batch(codec.decode(body)).equals(batch(exact))


def test_a_single_record_is_taken_once_others_have_shown_how_they_are_written() -> None:
    seen = Alike(BOUNCES)
    assert seen.decode(json.dumps(PLAIN).encode()[1:-1], last=True) is not None
    lone = json.dumps(PLAIN[3:4]).encode()
    found = Alike(BOUNCES, seen.form).decode(lone[1:-1], last=True)
    assert found is not None
    assert batch(found[0]).equals(batch(JsonCodec(BOUNCES).decode_exact(lone)))


def test_slabs_that_end_anywhere_make_the_same_table(monkeypatch: pytest.MonkeyPatch) -> None:
    records: list[dict[str, Any]] = [row | {"REASON": "x" * (7 * number % 50)} for number, row in enumerate(PLAIN * 20)]
    records[33]["REASON"] = None  # its slab goes another way
    body = json.dumps(records).encode()
    whole = batch(JsonCodec(BOUNCES).decode_exact(body))
    for size in range(200, 900, 37):
        monkeypatch.setattr("harvester.api.json.SLAB_BYTES", size)
        pieces = [body[start : start + size // 3] for start in range(0, len(body), size // 3)]
        assert batch(JsonCodec(BOUNCES).decode_pieces(pieces)).equals(whole)
        assert batch(JsonCodec(BOUNCES).decode_pieces(iter(pieces))).equals(whole)


def test_one_odd_record_costs_one_slab_and_not_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harvester.api.json.SLAB_BYTES", 1000)
    records: list[dict[str, Any]] = [*PLAIN * 40]
    records[0] = records[0] | {"REASON": 7}
    records[100] = records[100] | {"REASON": None}
    rows = []
    usual = Alike.decode

    def watching(self: Alike, text: bytes, *, last: bool) -> tuple[RawTable, int] | None:
        found = usual(self, text, last=last)
        rows.append(found[0].rows if found else 0)
        return found

    monkeypatch.setattr(Alike, "decode", watching)
    table = JsonCodec(BOUNCES).decode(json.dumps(records).encode())
    assert isinstance(table, RawTable)
    assert table.rows == len(records)
    assert rows.count(0) == 2
    assert sum(rows) > 0.8 * len(records)
