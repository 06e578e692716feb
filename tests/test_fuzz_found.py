"""What fuzzing has found, each as a test of its own."""

from __future__ import annotations

import pytest

from harvester.api.json import JsonCodec
from harvester.api.records import RawTable, Words
from harvester.api.xmlrpc import XmlCodec
from harvester.datasets import BOUNCES
from harvester.errors import NotData
from tests import wires

RECORD = b'{"ID_SEND_MESSAGE":"1","EMAIL":"a"}'


@pytest.mark.parametrize("odd", [b"null", b"null ", b" null,null", b"null null"])
def test_a_null_before_the_records_is_refused_and_does_not_end_the_process(odd: bytes) -> None:
    for between in (b",", b" "):
        body = b"[" + odd + between + RECORD + b"," + RECORD + b"," + RECORD + b"]"
        with pytest.raises(NotData):
            JsonCodec(BOUNCES).decode(body)
        assert JsonCodec(BOUNCES).decode_fast(body) is None


@pytest.mark.parametrize(("name", "other"), [(b"data", b"date"), (b"value", b"valve")])
def test_a_list_in_an_element_of_another_name_is_not_an_empty_answer(name: bytes, other: bytes) -> None:
    record = b"<value><struct><member><name>ID_SEND_MESSAGE</name><value>1</value></member></struct></value>"
    before, found, rest = wires.response(b"<array><data>" + record + record + b"</data></array>").partition(
        b"<%s>" % name
    )
    inside, end, after = rest.rpartition(b"</%s>" % name)
    assert found
    assert end
    for decode in (XmlCodec(BOUNCES).decode_pieces, XmlCodec(BOUNCES).decode_exact):
        with pytest.raises(NotData):
            decode([before + b"<%s>" % other + inside + b"</%s>" % other + after])


def test_a_name_with_a_nul_is_shown_the_same_by_both_decoders() -> None:
    body = b"[" + b",".join([RECORD.replace(b"EMAIL", rb"\u0000EMAIL")] * 3) + b"]"
    whole, exact = JsonCodec(BOUNCES).decode(body), JsonCodec(BOUNCES).decode_exact(body)
    assert isinstance(whole, RawTable)
    assert isinstance(exact, RawTable)
    assert set(whole.extras) == set(exact.extras) == {"\ufffdEMAIL"}


@pytest.mark.parametrize("body", ['"\ufdd0ff"', '{"error":"\ufdd0ff"}', '[{"error":"\ufdd0ff"}]'])
def test_what_the_api_says_may_hold_the_character_that_begins_a_mark(body: str) -> None:
    assert JsonCodec(BOUNCES).decode(body.encode()) == Words("\ufdd0ff")
