"""The JSON codec: two decoders that agree, whatever a body holds, and errors that are ours whatever it is."""

from __future__ import annotations

import base64
import gc
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harvester.api.exact import SLAB_ROWS, decode_rows
from harvester.api.json import NAMES_KEPT, JsonCodec
from harvester.api.records import RawTable, Words, to_batch
from harvester.datasets import BOUNCES, MESSAGES
from harvester.errors import AttemptFailed, Cut, NotData
from tests.thorough import examples

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "ID_SEND_MESSAGE"
KNOWN = [column.api_name for column in BOUNCES.fields if column.api_name != KEY]
UNKNOWN = ["NEW_FIELD", "žluťoučký", 'with "quotes"', "},{", "", "null"]
AWKWARD = [
    "},{",
    '"},{"',
    "}, {",
    "{",
    "}",
    "[]",
    "\\",
    '\\"',
    '"',
    "\n",
    "\x00",
    "\x01",
    "\x7f",
    "\ud83d",
    "\ufdd0",
    "\ufdd0ff",
    "😀",
    "ř",
    "null",
    "-0",
    "\u2028",
]

texts = st.one_of(
    st.sampled_from(["", "0", "5.1.1", *AWKWARD]), st.lists(st.sampled_from(AWKWARD)).map("".join), st.text()
)
numbers = st.one_of(st.integers(-(2**70), 2**70), st.sampled_from([0, -0.0, 1.5, 1e300]))
scalars = st.one_of(texts, numbers, st.booleans(), st.none())
nested = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2), max_leaves=4
)

cased = st.sampled_from([str.upper, str.lower, str.title])


@st.composite
def same_shape(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Records as the API sends them: the same fields in each, one kind of value to a field."""
    case: Callable[[str], str] = draw(cased)
    kinds: dict[str, st.SearchStrategy[Any]] = {case(KEY): st.integers(1, 2**63 - 1).map(str) | st.none()}
    for name in draw(st.lists(st.sampled_from(KNOWN), unique=True)):
        kinds[case(name)] = draw(st.sampled_from([texts, texts, texts | st.none(), st.integers(-9, 2**63 - 1)]))
    for name in draw(st.lists(st.sampled_from(UNKNOWN), unique=True, max_size=2)):
        kinds[name] = draw(st.sampled_from([texts, st.booleans(), texts | st.none()]))
    return draw(st.lists(st.fixed_dictionaries(kinds), min_size=1, max_size=5))


@st.composite
def any_shape(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Records that agree in nothing, not even in how they spell a field."""
    names = st.builds(lambda name, case: case(name), st.sampled_from([KEY, *KNOWN]), cased) | st.sampled_from(UNKNOWN)
    return draw(st.lists(st.dictionaries(names, nested, max_size=6), min_size=1, max_size=4))


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    indent: int | None = draw(st.sampled_from([None, None, 0, 1]))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,", " :"), None]))
    text = json.dumps(
        draw(same_shape() | any_shape()), indent=indent, separators=separators, ensure_ascii=draw(st.booleans())
    )
    edge = draw(st.sampled_from(["", "\n", "\ufeff"]))
    return (edge + text + draw(st.sampled_from(["", "\n", " \r\n\t"]))).encode("utf-8", "surrogatepass")


class Literal(str):
    """A number as it was written."""

    __slots__ = ()


def text_of(value: Any) -> str | None:
    """A value as the text that a column holds; None where it can hold none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str) else None


def shown(text: str) -> str | bytes:
    """A text as it is or, where it is none, its bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text.encode() if "\0" in text else text


def foul(value: Any) -> bool:
    """Whether there is what is no text in a value."""
    if isinstance(value, dict):
        return any(foul(name) or foul(inner) for name, inner in value.items())
    if isinstance(value, list):
        return any(map(foul, value))
    return isinstance(value, str) and isinstance(shown(value), bytes)


def nested_or_not(value: bytes) -> bytes | tuple[str, str]:
    """What stands for bytes that are no text: themselves, but not where they may be a nested value's JSON."""
    return ("extra", "foul") if value[:1] in (b"[", b"{") else value


def seen(table: RawTable) -> list[dict[str, Any]]:
    """The records of a raw table: the name as sent → the text, its bytes if it is none, or decoded extra JSON."""
    assert all(len(column.values) == table.rows for column in table.columns)
    records: list[dict[str, Any]] = [{} for _ in range(table.rows)]
    for column in table.columns:
        for row, text in enumerate(column.values.to_pylist()):
            if text is not None:
                records[row][column.name_at(row)] = text
    for name, pieces in table.extras.items():
        for row, piece in enumerate(pieces.to_pylist()):
            if piece is None:
                continue
            extra = json.loads(piece, parse_int=Literal, parse_float=Literal)
            if not isinstance(extra, dict) or "$base64" not in extra:
                assert name not in records[row]
                records[row][name] = ("extra", extra)
                continue
            value = base64.b64decode(extra["$base64"])
            if name in records[row]:
                assert records[row][name] == value.decode("utf-8", "replace").replace("\0", "\ufffd")
            records[row][name] = nested_or_not(value)
    return records


def expected(body: bytes) -> list[dict[str, Any]]:
    """The same by way of Python's own decoder."""
    positions = {column.name: column.api_name for column in BOUNCES.fields}
    records = []
    text = body.decode("utf-8", "surrogatepass").removeprefix("\ufeff")
    for sent in json.loads(text, parse_int=Literal, parse_float=Literal):
        record: dict[str, Any] = {}
        taken: dict[str, str] = {}
        for name in sent:
            own = positions.get(name.lower())
            if own is not None and (own not in taken or name == own):
                taken[own] = name
        for name, value in sent.items():
            text_ = text_of(value)
            if text_ is not None and isinstance(shown(text_), bytes):
                record[name] = nested_or_not(text_.encode("utf-8", "surrogatepass"))
            elif taken.get(positions.get(name.lower(), "?")) != name:
                record[name] = ("extra", value if text_ is None else text_)
            elif text_ is not None:
                record[name] = text_
            elif value is not None:
                record[name] = ("extra", value)
            if not isinstance(value, str) and foul(value):
                record[name] = ("extra", "foul")
        records.append(record)
    return records


def table(decoded: RawTable | Words) -> RawTable:
    assert isinstance(decoded, RawTable)
    return decoded


@settings(max_examples=examples(200))
@given(bodies())
def test_both_decoders_agree_with_each_other_and_with_python(body: bytes) -> None:
    codec = JsonCodec(BOUNCES)
    exact = table(codec.decode_exact(body))
    assert seen(exact) == expected(body)
    for codec_ in (JsonCodec(BOUNCES), codec):  # the latter has met all names
        fast = codec_.decode_fast(body)
        if fast is not None:
            assert seen(fast) == seen(exact)
            assert fast.met == exact.met
            assert to_batch(fast, BOUNCES, id_send=7).equals(to_batch(exact, BOUNCES, id_send=7))


@settings(max_examples=examples(200))
@given(bodies(), st.data())
def test_a_body_that_was_damaged_raises_our_errors_only_and_the_fast_decoder_takes_no_more_than_the_exact_one(
    body: bytes, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(body) - 1))
    damaged = bytearray(body)
    match data.draw(st.sampled_from(["cut", "byte", "drop", "add"])):
        case "cut":
            del damaged[place:]
        case "byte":
            damaged[place] = data.draw(st.sampled_from(b'\x00\xff\xc0"{}[],:\\ 0x\n') | st.integers(0, 255))
        case "drop":
            del damaged[place : place + data.draw(st.integers(1, 8))]
        case _:
            damaged[place:place] = data.draw(
                st.sampled_from([b'"', b",", b"{}", b"},{", b"\xed\xa0\x80", b"\\ud83d", b"\0"])
            )
    fast = JsonCodec(BOUNCES).decode_fast(damaged)
    try:
        exact = JsonCodec(BOUNCES).decode_exact(damaged)
    except AttemptFailed:
        assert fast is None
        return
    if fast is not None:
        assert seen(fast) == seen(table(exact))


@given(st.binary(max_size=60))
def test_any_bytes_raise_our_errors_only(body: bytes) -> None:
    with suppress(AttemptFailed):
        JsonCodec(BOUNCES).decode(body)


RECORDS = [
    {KEY: str(number), "DATE": "2016-01-01 01:01:01", "EMAIL": f"p{number}@example.com"} for number in range(1, 6)
]


@pytest.mark.parametrize(
    "change",
    [
        lambda records: records,
        lambda records: [{name.lower(): value for name, value in record.items()} for record in records],
        lambda records: [dict(reversed(record.items())) for record in records],
        lambda records: [{KEY: record[KEY]} if row == 2 else record for row, record in enumerate(records)],
        lambda records: [record | {"NEW_FIELD": "x"} for record in records],
        lambda records: [record | {KEY: int(record[KEY])} for record in records],
        lambda records: [record | {"REASON": True} for record in records],
        lambda records: [record | {"REASON": None} for record in records],
        lambda records: [record | {"REASON": 'a "quoted" \\ \n text 😀 { } , [ ]'} for record in records],
        lambda records: [record | {"REASON": '[{"a": "1"},{"b": "2"}], {x},{y}, }, {'} for record in records],
        lambda records: [record | {"REASON": "},{"} for record in records],
        lambda records: records[:1],
    ],
)
@pytest.mark.parametrize("form", [{"separators": (",", ":")}, {}, {"indent": 1}, {"ensure_ascii": False}])
def test_the_fast_decoder_takes_what_the_api_usually_sends(change: Any, form: dict[str, Any]) -> None:
    body = json.dumps(change(RECORDS), **form).encode()
    fast = JsonCodec(BOUNCES).decode_fast(body)
    assert fast is not None
    assert seen(fast) == expected(body)


def test_names_met_before_take_the_fast_way_on_the_next_page() -> None:
    late = json.dumps([*RECORDS, {KEY: "6", "NEW_FIELD": "x"}]).encode()
    codec = JsonCodec(BOUNCES)
    assert codec.decode_fast(late) is None
    assert table(codec.decode(late)).met == {"NEW_FIELD"}
    assert codec.met == {"NEW_FIELD"}
    fast = codec.decode_fast(late)
    assert fast is not None
    assert seen(fast) == expected(late)


def test_names_met_are_bounded() -> None:
    codec = JsonCodec(BOUNCES)
    for page in range(3):
        codec.decode(json.dumps([{KEY: "1"} | {f"field {page} {n}": "" for n in range(NAMES_KEPT // 2)}]).encode())
    assert len(codec.met) == NAMES_KEPT


def test_records_that_differ_from_slab_to_slab_keep_their_names_and_extras() -> None:
    records: list[dict[str, Any]] = [{KEY: str(number)} for number in range(SLAB_ROWS)]
    records += [{KEY.lower(): number, "NEW": [number]} for number in range(SLAB_ROWS + 3)]
    body = json.dumps(records).encode()
    assert seen(table(JsonCodec(BOUNCES).decode_exact(body))) == expected(body)


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{}",
        b'""',
        b"null",
        b" [ ] \n",
        b"{ }\n",
        b"\xef\xbb\xbf[]",
        b'{"error_status":0}',
        b'{"error_status":"0","error":""}',
        b'[{"ERROR_STATUS":0,"ERROR":null}]',
    ],
)
def test_an_empty_answer_has_no_rows(body: bytes) -> None:
    decoded = table(JsonCodec(MESSAGES).decode(body))
    batch = to_batch(decoded, MESSAGES, id_send=None)
    assert batch.num_rows == 0
    assert batch.schema.equals(MESSAGES.schema)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error_status":1,"error":"Unauthorized"}', "Unauthorized"),
        (b'{"error_status":"1","error":"Missing ID_send"}', "Missing ID_send"),
        (b'{"ERROR_STATUS":2,"ERROR":"Error"}', "Error"),
        (b'{"error":"Error"}', "Error"),
        (b'{"error_status":3}', "error_status 3"),
        (b'[{"error_status":1,"error":"Unauthorized"}]', "Unauthorized"),
        (b'"Unauthorized"', "Unauthorized"),
        (b' "Disallowed IP 10.0.0.1"\n', "Disallowed IP 10.0.0.1"),
    ],
)
def test_the_apis_own_words_are_told_from_records(body: bytes, words: str) -> None:
    assert JsonCodec(MESSAGES).decode(body) == Words(words)


def test_a_record_may_come_as_a_bare_object_and_have_a_field_called_error() -> None:
    body = b'{"id_send_message": 5, "error": "x", "Email": "a@b.cz"}'
    batch = to_batch(table(JsonCodec(BOUNCES).decode(body)), BOUNCES, id_send=9)
    assert batch.select(["id_send", "id_send_message", "email", "_extra"]).to_pylist() == [
        {"id_send": 9, "id_send_message": 5, "email": "a@b.cz", "_extra": '{"error":"x"}'}
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        b"true",
        b"12",
        b"Unauthorized",
        b"[1]",
        b'["Unauthorized"]',
        b"[[]]",
        b"[null]",
        b'{"data":[]}',
        b'{"error_status":0,"data":[]}',
        b'{"error_status":0,"error":"Error"}',
        b'[{"ID_SEND_MESSAGE":"1"} {"ID_SEND_MESSAGE":"2"}]',
        b'[{"ID_SEND_MESSAGE":"1"}] []',
        b'[{"ID_SEND_MESSAGE":"1"}\x00]',
        b'[{"ID_SEND_MESSAGE":"1"}\xff]',
        b'[{"ID_SEND_MESSAGE":"1",\x01"DATE":""}]',
        b'[{"ID_SEND_MESSAGE":01}]',
        b"\x80\x81",
    ],
)
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(NotData):
        JsonCodec(BOUNCES).decode(body)


@pytest.mark.parametrize(
    "body", [b"[", b"{", b'[{"EMAIL":"a', b'[{"EMAIL":"a"}', b'[{"EMAIL":"a"},', b'{"EMAIL":"a"', b'[{"EMAIL":["a"]']
)
def test_json_that_ends_early_is_cut(body: bytes) -> None:
    with pytest.raises(Cut):
        JsonCodec(BOUNCES).decode(body)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":', b'[{"ID_SEND_MESSAGE":'])
def test_deep_nesting_is_refused_without_a_crash(opening: bytes) -> None:
    with pytest.raises(AttemptFailed):
        JsonCodec(BOUNCES).decode(opening * 100_000)
    inner = opening * 100_000 + b"1" + b"]" * 100_000
    with pytest.raises(AttemptFailed):
        JsonCodec(BOUNCES).decode(b'[{"ID_SEND_MESSAGE":"1","X":' + inner + b"}]")


def test_an_error_names_a_proxys_page_and_never_shows_a_record() -> None:
    with pytest.raises(NotData, match="an HTML page"):
        JsonCodec(BOUNCES).decode(b"  <html>\n<h1>502 Bad Gateway</h1>" + b"x" * 1000)
    for body in (
        b'[{"EMAIL":"secret@example.com"',
        b'[{"EMAIL":"secret@example.com"]',
        b'{"EMAIL":"secret@example.com"}',
    ):
        with pytest.raises(AttemptFailed) as caught:
            JsonCodec(BOUNCES).decode(body)
        assert "secret" not in f"{caught.value} {caught.value.__cause__}"


def in_base64(value: bytes) -> dict[str, str]:
    return {"$base64": base64.b64encode(value).decode()}


def test_what_is_no_text_is_shown_with_replacements_and_kept_exactly() -> None:
    body = (
        rb'[{"ID_SEND_MESSAGE":"1\u0000","DATE":"\udc00","REASON":"cut \ud83d","STATUS":"a'
        b"\xffb\0c"
        rb'","NEW":"\udc00","LIST":["\ud800\u0001"],"EMAIL":"whole \ud83d\ude00 and \\ud83d \u0001'
        b"\x02\n\xef\xb7\x90"
        rb'","EMAIL_STATUS":"\ufdd0ab","BOUNCE_CAT":["'
        b"\x01\n"
        rb'"]}]'
    )
    batch = to_batch(table(JsonCodec(BOUNCES).decode(body)), BOUNCES, id_send=1)
    assert batch.drop_columns(["id_user_list", "id_email"]).to_pylist() == [
        {
            "id_send": 1,
            "id_send_message": None,
            "date": None,
            "status": "a\ufffdb\ufffdc",
            "email": "whole 😀 and \\ud83d \x01\x02\n\ufdd0",
            "email_status": "\ufdd0ab",
            "bounce_cat": None,
            "reason": "cut \ufffd\ufffd\ufffd",
            "_extra": batch["_extra"][0].as_py(),
        }
    ]
    assert json.loads(batch["_extra"][0].as_py()) == {
        "ID_SEND_MESSAGE": in_base64(b"1\0"),
        "DATE": in_base64(b"\xed\xb0\x80"),
        "STATUS": in_base64(b"a\xffb\0c"),
        "REASON": in_base64(b"cut \xed\xa0\xbd"),
        "NEW": in_base64(b"\xed\xb0\x80"),
        "LIST": in_base64(b'["\xed\xa0\x80\\u0001"]'),
        "BOUNCE_CAT": ["\x01\n"],
    }


def test_a_name_that_is_no_text_is_read_with_replacements() -> None:
    body = b'[{"ID_SEND_MESSAGE":"1","a\xff\\u0000":"x"}]'
    batch = to_batch(table(JsonCodec(BOUNCES).decode(body)), BOUNCES, id_send=1)
    assert batch["_extra"].to_pylist() == ['{"a\ufffd\ufffd":"x"}']


def test_one_odd_record_costs_one_slow_slab(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [{KEY: str(number), "REASON": "x" * 1000} for number in range(5000)]
    body = json.dumps(records).encode().replace(b"x", b"\xff", 1)
    slow: list[int] = []

    def counting(rows: list[Any], *arguments: Any, **options: Any) -> RawTable:
        slow.append(len(rows))
        return decode_rows(rows, *arguments, **options)

    monkeypatch.setattr("harvester.api.json.decode_rows", counting)
    assert table(JsonCodec(BOUNCES).decode(body)).rows == 5000
    assert 0 < sum(slow) < 2500


@pytest.mark.parametrize("first", ["1", [1]], ids=["guessed at", "not to be guessed at"])
def test_a_body_is_never_read_as_a_whole_where_its_slabs_can_be(first: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading it whole holds the interpreter, and with it the loop, for as long as that takes."""
    odd = [first if number < 100 else number for number in range(400)]
    records = [{KEY: str(number), "TEXT": odd[number], "REASON": 'a },{"b" },{ "c"'} for number in range(400)]
    body = json.dumps(records, separators=(",", ":")).encode()
    whole = JsonCodec(BOUNCES).decode_exact(body)
    monkeypatch.setattr("harvester.api.json.SLAB_BYTES", 2000)
    monkeypatch.delattr(JsonCodec, "decode_exact")
    in_slabs = JsonCodec(BOUNCES).decode(body)
    assert to_batch(table(in_slabs), BOUNCES, id_send=1).equals(to_batch(table(whole), BOUNCES, id_send=1))


def test_null_fields_that_the_catalogue_does_not_know_are_told_from_missing_ones() -> None:
    codec = JsonCodec(BOUNCES)
    body = json.dumps([{KEY: "1", "NEW": "x"}, {KEY: "2", "NEW": None}, {KEY: "3"}]).encode()
    for _ in range(2):
        batch = to_batch(table(codec.decode(body)), BOUNCES, id_send=1)
        assert batch["_extra"].to_pylist() == ['{"NEW":"x"}', '{"NEW":null}', None]


def test_columns_are_plain_strings_in_one_piece() -> None:
    decoded = table(JsonCodec(BOUNCES).decode(json.dumps(RECORDS).encode()))
    assert all(column.values.type == pa.string() for column in decoded.columns)
    gc.collect()
    for column in decoded.columns:
        column.values.validate(full=True)
