"""The XML-RPC codec: the same tables as over JSON, whatever the records and the writing; errors that are ours."""

from __future__ import annotations

import base64
import json
import random
import xmlrpc.client
from contextlib import suppress
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harvester.api import xmlrpc as codec_module
from harvester.api.json import JsonCodec
from harvester.api.records import Fault, RawTable, Words, to_batch
from harvester.api.xmlexact import XmlReader
from harvester.api.xmlfast import Form, decode_block
from harvester.api.xmlrpc import BLOCK_BYTES, XmlCodec, encode_call
from harvester.datasets import BOUNCES, MESSAGES
from harvester.errors import AttemptFailed, Cut, NotData
from tests import wires
from tests.thorough import examples


def typed(decoded: RawTable | Words) -> pa.RecordBatch:
    assert isinstance(decoded, RawTable)
    for column in decoded.columns:
        column.values.validate(full=True)
    batch = to_batch(decoded, BOUNCES, id_send=7)
    batch.validate(full=True)
    return batch


def decoded(body: bytes) -> RawTable | Words:
    """The body by both ways, which agree."""
    found = XmlCodec(BOUNCES).decode_pieces([body])
    exact = XmlCodec(BOUNCES).decode_exact([body])
    if isinstance(found, Words):
        assert found == exact
    else:
        assert typed(found).equals(typed(exact))
    return found


def value(inner: bytes) -> bytes:
    return wires.response(inner)


def record(*members: tuple[str, bytes]) -> bytes:
    parts = (f"<member><name>{name}</name><value>".encode() + inner + b"</value></member>" for name, inner in members)
    return b"<value><struct>" + b"".join(parts) + b"</struct></value>"


def listed(*records: bytes) -> bytes:
    return value(b"<array><data>" + b"".join(records) + b"</data></array>")


def extra(batch: pa.RecordBatch, row: int = 0) -> Any:
    text = batch["_extra"][row].as_py()
    return None if text is None else json.loads(text)


@settings(max_examples=examples(150))
@given(wires.records, st.integers(0, 2**32))
def test_the_same_records_are_the_same_over_both_wires_by_all_decoders_in_any_pieces(
    records: list[wires.Record], seed: int
) -> None:
    chance = random.Random(seed)
    as_json, as_xml = wires.json_body(records, chance), wires.xml_body(records, chance)
    truth = JsonCodec(BOUNCES).decode_exact(as_json)
    assert typed(JsonCodec(BOUNCES).decode_pieces(wires.pieces(as_json, chance))).equals(typed(truth))
    assert typed(XmlCodec(BOUNCES).decode_pieces([as_xml])).equals(typed(truth))
    exact = XmlCodec(BOUNCES).decode_exact(wires.pieces(as_xml, chance))
    assert typed(exact).equals(typed(truth))
    fast = XmlCodec(BOUNCES).decode_pieces(wires.pieces(as_xml, chance))
    assert typed(fast).equals(typed(truth))
    assert isinstance(truth, RawTable)
    assert isinstance(exact, RawTable)
    assert isinstance(fast, RawTable)
    assert fast.met == exact.met == truth.met


@settings(max_examples=examples(60))
@given(wires.alike(), st.integers(0, 2**32), st.data())
def test_a_response_that_ends_early_is_an_error_wherever_it_ends(
    records: list[wires.Record], seed: int, data: st.DataObject
) -> None:
    body = wires.xml_body(records, random.Random(seed)).rstrip()
    cut = body[: data.draw(st.integers(1, len(body) - 1))]
    for decode in (XmlCodec(BOUNCES).decode_pieces, XmlCodec(BOUNCES).decode_exact):
        with pytest.raises(Cut):
            decode([cut])


@settings(max_examples=examples(150))
@given(wires.records, st.integers(0, 2**32), st.data())
def test_a_response_that_was_damaged_raises_our_errors_only_and_the_decoders_agree(
    records: list[wires.Record], seed: int, data: st.DataObject
) -> None:
    body = bytearray(wires.xml_body(records, random.Random(seed)))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body) - 1))
        match data.draw(st.sampled_from(["byte", "drop", "add"])):
            case "byte":
                body[place] = data.draw(st.sampled_from(b"\x00\xff<>&/;]\r\n x") | st.integers(0, 255))
            case "drop":
                del body[place : place + data.draw(st.integers(1, 30))]
            case _:
                bits = [
                    b"<",
                    b"</value>",
                    b"<!--",
                    b"-->",
                    b"<![CDATA[",
                    b"]]>",
                    b"&#0;",
                    b"&x;",
                    b"<string>",
                    b"<nil/>",
                ]
                body[place:place] = data.draw(st.sampled_from(bits))
    results: list[pa.RecordBatch | Words | None] = []
    for decode in (XmlCodec(BOUNCES).decode_pieces, XmlCodec(BOUNCES).decode_exact):
        result: pa.RecordBatch | Words | None = None
        with suppress(AttemptFailed):
            found = decode([bytes(body)])
            result = found if isinstance(found, Words) else typed(found)
        results.append(result)
    fast, exact = results
    assert (
        fast.equals(exact) if isinstance(fast, pa.RecordBatch) and isinstance(exact, pa.RecordBatch) else fast == exact
    )


@given(st.binary(max_size=60))
def test_any_bytes_raise_our_errors_only(body: bytes) -> None:
    for text in (body, b"<methodResponse>" + body, value(body)):
        with suppress(AttemptFailed):
            XmlCodec(BOUNCES).decode_pieces([text])


RECORDS: list[wires.Record] = [
    {wires.KEY: number, "EMAIL": b"a & <b> 'c' \"d\" > %d" % number, "STATUS": b"5.1.1", "NEW": b"x", "REASON": b""}
    for number in range(2**31 - 3, 2**31 + 3)
]


@pytest.mark.parametrize(
    "change",
    [
        lambda records: records,
        lambda records: [{name.lower(): value for name, value in record.items()} for record in records],
        lambda records: [dict(list(record.items())[: 2 + row % 3]) for row, record in enumerate(records)],
        lambda records: [dict(reversed(record.items())) if row % 2 else record for row, record in enumerate(records)],
        lambda records: [record | {"STATUS": None if row % 2 else 5} for row, record in enumerate(records)],
        lambda records: [record | {"NEW": None} if row % 2 else record for row, record in enumerate(records)],
        lambda records: [record | {"REASON": row % 2 == 0} for row, record in enumerate(records)],
        lambda records: [record | {"EMAIL": "ř\r\n\x01]]>\ufdd0".encode()} for record in records],
    ],
)
@pytest.mark.parametrize("seed", range(8))
def test_the_fast_decoder_takes_what_the_api_usually_sends(
    change: Any, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = change(RECORDS)
    chance = random.Random(seed)
    style = wires.Style(chance)
    style.odd = style.untyped = False
    body = wires.xml_body(records, chance, style)
    truth = typed(JsonCodec(BOUNCES).decode_exact(wires.json_body(records, chance)))
    with monkeypatch.context() as patch:
        patch.setattr(codec_module, "XmlReader", None)  # the exact decoder would fail
        assert typed(XmlCodec(BOUNCES).decode_pieces([body])).equals(truth)
    assert typed(XmlCodec(BOUNCES).decode_exact([body])).equals(truth)


TYPED = [
    (b"<i4>5</i4>", "5"),
    (b"<int>-7</int>", "-7"),
    (b"<i8>9007199254740993</i8>", "9007199254740993"),
    (b"<double>1.50</double>", "1.50"),
    (b"<boolean>1</boolean>", "true"),
    (b"<boolean>0</boolean>", "false"),
    (b"<boolean>yes</boolean>", "yes"),
    (b"<string>x</string>", "x"),
    (b"<string></string>", ""),
    (b"<string/>", ""),
    (b"x &amp; y", "x & y"),
    (b" x ", " x "),
    (b"", ""),
    (b"<nil/>", None),
    (b"<ex:nil/>", None),
    (b'<n:i8 xmlns:n="urn:x">12</n:i8>', "12"),
    (b"<dateTime.iso8601>20160620T14:37:47</dateTime.iso8601>", "2016-06-20 14:37:47"),
    (b"<dateTime.iso8601>2016-06-20T14:37:47</dateTime.iso8601>", "2016-06-20T14:37:47"),
    (b"<base64>xZ kg\nYQ==</base64>", "ř a"),
    (b"<base64>%%%</base64>", "%%%"),
    (b"<base64>bnVsnVsnVsbA==</base64>", "bnVsnVsnVsbA=="),
    (b"\n <string>x</string>\r\n ", "x"),
    (b"<string>a<!-- b -->c<![CDATA[<&#0;>]]>&#x159;</string>", "ac<&#0;>ř"),
]


@pytest.mark.parametrize(("inner", "text"), TYPED)
def test_each_type_becomes_the_text_that_json_would_give(inner: bytes, text: str | None) -> None:
    many = [record((wires.KEY, b"<i4>%d</i4>" % number), ("REASON", inner)) for number in range(1, 4)]
    assert typed(decoded(listed(*many)))["reason"].to_pylist() == [text] * 3
    same = typed(decoded(listed(*many, record((wires.KEY, b"<int>9</int>"), ("REASON", b"<string>z</string>")))))
    assert same["reason"].to_pylist() == [text] * 3 + ["z"]


def test_nested_values_are_json_in_extra() -> None:
    inner = (
        b"<array><data><value><i4>1</i4></value><value><double>1.5</double></value><value><int>007</int></value><value>"
        b"<struct><member><value><boolean>1</boolean></value><name>a\x01</name></member></struct></value><value><nil/>"
        b"</value><value>t</value><value><array></array></value></data></array>"
    )
    batch = typed(decoded(listed(record((wires.KEY, b"1"), ("REASON", inner)))))
    assert batch["_extra"].to_pylist() == [r'{"REASON":[1,1.5,"007",{"a\u0001":true},null,"t",[]]}']


def test_what_is_no_text_is_shown_with_replacements_and_kept_exactly() -> None:
    sent = [
        (wires.KEY, b"<string>1&#0;</string>"),
        ("DATE", b"\xff"),
        ("STATUS", b"<string>a\xffb\0c</string>"),
        ("REASON", b"<string>cut &#xD83D;</string>"),
        ("EMAIL", b"<string>\x01&#x1F;\r\xef\xbf\xbe&#xFFFF;\xef\xb7\x90&#xfdd0;ab</string>"),
        ("NEW", b"<base64>AAE=</base64>"),
        ("LIST", b"<array><data><value>\xff\x01</value></data></array>"),
        ("n\xff", b"<string>x</string>"),
    ]
    body = listed(record(*sent), record(*sent)).replace("n\xff".encode(), b"n\xff")
    batch = typed(decoded(body))
    assert batch["id_send_message"].to_pylist() == [None] * 2
    assert batch["date"].to_pylist() == [None] * 2
    assert batch["status"].to_pylist() == ["a\ufffdb\ufffdc"] * 2
    assert batch["reason"].to_pylist() == ["cut \ufffd\ufffd\ufffd"] * 2
    assert batch["email"].to_pylist() == ["\x01\x1f\r\ufffe\uffff\ufdd0\ufdd0ab"] * 2
    kept = {
        wires.KEY: b"1\0",
        "DATE": b"\xff",
        "STATUS": b"a\xffb\0c",
        "REASON": b"cut \xed\xa0\xbd",
        "NEW": b"\0\1",
        "LIST": b'["\xff\\u0001"]',
    }
    assert extra(batch) == {name: {"$base64": base64.b64encode(raw).decode()} for name, raw in kept.items()} | {
        "n\ufffd": "x"
    }


@pytest.mark.parametrize(
    "inner",
    [
        b"<array><data></data></array>",
        b"<array><data/></array>",
        b"<array/>",
        b"<string></string>",
        b"<string/>",
        b"",
        b"\n",
        b"<nil/>",
        b"<struct/>",
        b"<struct><member><name>error_status</name><value><i4>0</i4></value></member></struct>",
    ],
)
def test_an_empty_answer_has_no_rows(inner: bytes) -> None:
    batch = typed(decoded(value(inner)))
    assert batch.num_rows == 0
    assert batch.schema.equals(BOUNCES.schema)


ERROR = [("error_status", b"<i4>1</i4>"), ("error", b"<string>Unauthorized</string>")]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (value(b"<string>Unauthorized</string>"), Words("Unauthorized")),
        (value(b"Disallowed IP 10.0.0.1"), Words("Disallowed IP 10.0.0.1")),
        (value(b"<string>a\xff&#0;</string>"), Words("a\ufffd\ufffd")),
        (value(record(*ERROR)[7:-8]), Words("Unauthorized")),
        (listed(record(*ERROR)), Words("Unauthorized")),
        (value(record(("error_status", b"3"))[7:-8]), Words("error_status 3")),
        (xmlrpc.client.dumps(xmlrpc.client.Fault(4, "too many")).encode(), Fault("too many", 4)),
        (b"<methodResponse><fault><value/></fault></methodResponse>", Fault("", None)),
        (b"<methodResponse><fault><value>down</value></fault></methodResponse>", Fault("", None)),
    ],
)
def test_what_the_api_says_is_told_from_records(body: bytes, words: Words) -> None:
    if b"<methodResponse>" in body and b"<fault>" in body:
        body = body.replace(b"<methodCall>", b"<methodResponse>")
    assert decoded(body) == words


def test_a_record_may_come_as_a_bare_struct() -> None:
    batch = typed(decoded(value(record(("id_send_message", b"<i4>5</i4>"), ("error", b"x"))[7:-8])))
    assert batch.select(["id_send_message", "_extra"]).to_pylist() == [
        {"id_send_message": 5, "_extra": '{"error":"x"}'}
    ]


ONE = record((wires.KEY, b"<i4>1</i4>"), ("EMAIL", b"secret@example.com"))
BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "secret"><!ENTITY b "&a;&a;&a;&a;">]>'
    b"<methodResponse><params><param><value>&b;</value></param></params></methodResponse>"
)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        b'[{"ID_SEND_MESSAGE":"1","EMAIL":"secret"}]',
        b"secret",
        b"<html><h1>secret</h1></html>",
        b"<!DOCTYPE html><html>secret</html>",
        BOMB,
        BOMB.replace(b"&b;", b"x"),
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd">' + listed(ONE, ONE),
        listed(ONE, ONE).replace(b"secret@", b"&secret;"),
        listed(ONE, ONE).replace(b"<methodResponse>", b'<!DOCTYPE a [<!ENTITY x "y">]><methodResponse>'),
        listed(ONE, ONE).replace(b"<params>", b"<!DOCTYPE a []><params>"),
        listed(ONE, ONE) + b"more",
        listed(ONE, ONE) + b"<methodResponse/>",
        listed(ONE, ONE) + b"\0",
        listed(ONE, ONE) + b"</answer>",
        listed(ONE, ONE).replace(b"</data>", b"secret</data>"),
        listed(ONE, ONE, b"<value><i4>1</i4></value>"),
        listed(ONE, ONE).replace(b"</param>", b"</param><param><value/></param>"),
        listed(ONE, ONE, b"<value>secret</value>"),
        listed(b"<value/>"),
        listed(ONE, record((wires.KEY, b"<odd>1</odd>"))),
        listed(ONE, record((wires.KEY, b"<i4>1</i4>x"))),
        listed(ONE, record((wires.KEY, b"<i4>1</i4><i4>2</i4>"))),
        listed(ONE, ONE.replace(b"<name>", b"<name>a</name><name>")),
        listed(ONE, ONE.replace(b"&", b"").replace(b"secret", b"a & b")),
        listed(ONE, ONE.replace(b"<struct>", b"<struct>secret")),
        listed(ONE, ONE.replace(b"<member>", b"<member\0>")),
        value(b"<i4>12</i4>"),
        value(b"<struct><member><name>x</name><value>secret</value></member></struct>"),
        b"<methodResponse></methodResponse>",
        b"<methodResponse>secret</methodResponse>",
        xmlrpc.client.dumps(("secret",), "f").encode(),
        '<?xml version="1.0"?><methodResponse/>'.encode("utf-16"),
        b'<?xml version="1.0" encoding="koi8-r"?><methodResponse/>',
        b'<?xml version="1.0" encoding="hex"?><methodResponse/>',
    ],
)
def test_what_is_no_answer_is_refused_and_not_shown(body: bytes) -> None:
    for decode in (XmlCodec(BOUNCES).decode_pieces, XmlCodec(BOUNCES).decode_exact):
        with pytest.raises(NotData) as caught:
            decode([body])
        assert "secret" not in f"{caught.value} {caught.value.__cause__}"


def test_nesting_is_bounded() -> None:
    for opening in (b"<array><data><value>", b"<struct><member><name>a</name><value>"):
        for depth in (70, 100_000):
            for close in (b"", b"</value></data></array>" * depth + b"</value></member></struct>"):
                deep = opening * depth + close
                with pytest.raises(AttemptFailed):
                    XmlCodec(BOUNCES).decode_pieces([listed(ONE, ONE.replace(b"secret", deep))])
    with pytest.raises(AttemptFailed):
        XmlCodec(BOUNCES).decode_pieces([b"<a>" * 100_000])


@pytest.mark.parametrize(
    "odd",
    [
        b"<!-- </struct></value><value><struct><member> -->",
        b"<![CDATA[</value></member></struct></value><value><struct><member><name>]]>",
        b"<![CDATA[</value></member></struct></value></data></array></value></param></params></methodResponse>]]>",
        b"<?x </struct></value><value><struct> ?>",
    ],
)
def test_markup_that_looks_like_the_end_of_a_record_is_none(odd: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_module, "BLOCK_BYTES", 300)
    many = [record((wires.KEY, b"<i4>%d</i4>" % number), ("REASON", b"<string>x</string>")) for number in range(9)]
    for place in range(9):
        body = listed(*many[:place], many[place].replace(b"x</", b"x" + odd + b"</"), *many[place + 1 :])
        assert typed(decoded(body))["id_send_message"].to_pylist() == list(range(9))


def test_one_odd_record_costs_few_slow_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [record((wires.KEY, b"<i4>%d</i4>" % number), ("REASON", b"x" * 1000)) for number in range(5000)]
    body = listed(*many).replace(b"xx", b"x\xff", 1)
    slow: list[int] = []

    class Counting(XmlReader):
        def feed(self, piece: bytes | bytearray | memoryview) -> None:
            slow.append(len(piece))
            super().feed(piece)

    monkeypatch.setattr(codec_module, "XmlReader", Counting)
    assert typed(XmlCodec(BOUNCES).decode_pieces([body])).num_rows == 5000
    assert 0 < sum(slow) < BLOCK_BYTES // 4


@pytest.mark.parametrize("encoding", ["ISO-8859-1", "iso-8859-2", "windows-1250", "cp1252", "us-ascii", "UTF-8"])
def test_a_response_may_say_that_it_is_encoded_otherwise(encoding: str) -> None:
    text = "a é" if encoding != "us-ascii" else "a e"
    sent = record((wires.KEY, b"<i4>1</i4>"), ("REASON", b"<string>" + text.encode(encoding) + b"</string>"))
    body = listed(sent, sent, sent).replace(b"utf-8", encoding.encode())
    assert typed(decoded(body))["reason"].to_pylist() == [text] * 3
    assert typed(XmlCodec(BOUNCES).decode_pieces([b"\xef\xbb\xbf\n" + listed(ONE, ONE)])).num_rows == 2


class Alive(XmlReader):
    """Counts how many records are in the tree after each piece."""

    most = 0

    def feed(self, piece: bytes | bytearray | memoryview) -> None:
        super().feed(piece)
        if self._data is not None:
            Alive.most = max(Alive.most, len(self._data))


def test_memory_holds_neither_the_body_nor_its_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    one = record(*((column.api_name, b"<string>%s</string>" % (b"x" * 8)) for column in MESSAGES.fields))
    count = 4000
    taken: list[int] = []

    def pieces(strange: bytes) -> Any:
        head, tail = listed(b"|").split(b"|")
        yield head + strange
        for number in range(count):
            taken.append(number)
            yield one
        yield tail

    monkeypatch.setattr(codec_module, "XmlReader", Alive)
    for strange in (b"", b"<!-- by the exact decoder -->"):
        before = pa.total_allocated_bytes()
        found = XmlCodec(MESSAGES).decode_pieces(pieces(strange))
        assert isinstance(found, RawTable)
        assert found.rows == count
        assert pa.total_allocated_bytes() - before < 3 * count * len(MESSAGES.fields) * 12
    assert 0 < Alive.most <= 1


def test_pythons_own_responses_are_read() -> None:
    records = [
        {
            wires.KEY: number,
            "EMAIL": "<a> & \"b\" 'c' ]]> ř 😀",
            "DATE": xmlrpc.client.DateTime(datetime(2016, 6, 20, 14, 37, number)),  # noqa: DTZ001  no zone is sent
            "REASON": None,
            "STATUS": 5.5,
            "BOUNCE_CAT": xmlrpc.client.Binary(b"\0\xff"),
            "NEW": [1, {"a": True}],
        }
        for number in range(1, 5)
    ]
    body = xmlrpc.client.dumps((records,), methodresponse=True, allow_none=True).encode()
    batch = typed(decoded(body))
    assert batch.drop_columns(["id_send", "id_user_list", "id_email", "email_status", "_extra"]).to_pylist() == [
        {
            "id_send_message": number,
            "date": datetime(2016, 6, 20, 14, 37, number),  # noqa: DTZ001  likewise
            "status": "5.5",
            "email": "<a> & \"b\" 'c' ]]> ř 😀",
            "bounce_cat": "\ufffd\ufffd",
            "reason": None,
        }
        for number in range(1, 5)
    ]
    assert extra(batch) == {"BOUNCE_CAT": {"$base64": "AP8="}, "NEW": [1, {"a": True}]}


def test_pythons_own_reader_reads_calls() -> None:
    body = encode_call("mailkit.report", 12, "a<&>b", [None, 2**40, "ř", -(2**31), None, None])
    arguments, function = xmlrpc.client.loads(body)
    assert function == "mailkit.report"
    assert arguments == (12, "a<&>b", "", 2**40, "ř", -(2**31))
    assert b"<i8>1099511627776</i8>" in body
    assert b"<int>-2147483648</int>" in body
    assert xmlrpc.client.loads(encode_call("f", 1, "m", []))[0] == (1, "m")


def test_the_fast_decoder_refuses_what_it_was_not_shown() -> None:
    text = ONE + ONE
    form = Form.of(text)
    assert form is not None
    block = (form.turn + text)[: -len("</struct></value>")]
    table = decode_block(block, form, BOUNCES)
    assert table is not None
    assert table.rows == 2
    for change in (b"", b"<", b"\0", b"\xff", b"&#0;", b"&nbsp;", b"<b/>"):
        odd = block.replace(b"secret", b"s" + change + b"t") if change else block[:-1]
        assert decode_block(odd, form, BOUNCES) is None
    assert decode_block(block.replace(b"EMAIL", b"EMAIL</name><value>x</value></member>"), form, BOUNCES) is None
    assert decode_block(block.replace(wires.KEY.encode(), b"OTHER"), form, BOUNCES) is None
    assert decode_block(block.replace(b"EMAIL", wires.KEY.lower().encode()), form, BOUNCES) is None
