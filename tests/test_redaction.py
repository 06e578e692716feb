"""What is taken out of people's data: which settings can be meant, what is kept, and that nothing else gets through."""

from __future__ import annotations

import base64
import json
import random
import re
from hashlib import blake2b
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvester.api.json import JsonCodec
from harvester.api.records import RawTable, to_batch
from harvester.api.redacting import Redactor
from harvester.api.shown import shown
from harvester.api.xmlrpc import XmlCodec
from harvester.datasets import BOUNCES, CATALOGUE, EXTRA, MESSAGES, Dataset
from harvester.errors import UsageError
from harvester.model import Secret
from harvester.redaction import KINDS, NEEDED, Redaction, Way, fingerprint, in_words, parse_redaction, parts_of
from tests.wires import Record, Value, json_body, xml_body

KEY = Secret("0123456789abcdef" * 4)
OTHER = Secret("fedcba9876543210" * 4)


def hashed(text: str, key: str = KEY) -> str:
    """By the README's words, and none of the code that is tested."""
    return blake2b(text.encode(), key=key.encode(), digest_size=16).hexdigest()


def tables(records: list[Record], dataset: Dataset) -> list[RawTable]:
    """What each decoder of each wire makes of the records."""
    chance = random.Random(7)
    body, xml = json_body(records, chance), xml_body(records, chance)
    codec, xml_codec = JsonCodec(dataset), XmlCodec(dataset)
    made = [
        codec.decode(body),
        codec.decode_exact(body),
        xml_codec.decode_pieces([xml]),
        xml_codec.decode_exact([xml]),
    ]
    assert all(isinstance(one, RawTable) for one in made)
    return cast("list[RawTable]", made)


def redacted(said: str, records: list[dict[str, Value]], dataset: Dataset = BOUNCES) -> list[dict[str, Any]]:
    """The rows of records, redacted; the same by whichever way they come."""
    redactor = Redactor(parse_redaction([said], KEY), dataset)
    found = [
        to_batch(redactor.redacted(table), dataset, id_send=7, keeps=redactor.keeps).to_pylist()
        for table in tables(records, dataset)
    ]
    assert all(rows == found[0] for rows in found)
    return found[0]


class TestSettings:
    @pytest.mark.parametrize(
        ("said", "told"),
        [
            ("email", "say COLUMN=HOW"),
            ("email=", "say COLUMN=HOW"),
            ("", "is empty"),
            (" , ", "is empty"),
            ("email=md5", "there are drop, hash, domain"),
            ("emial=drop", r"no dataset has a column 'emial' \(is it email\?\)"),
            ("id_send_message=hash", "the harvest itself needs id_send_message. What can be redacted: .*first_name"),
            ("message_status=drop", "the harvest itself needs message_status"),
            ("date=drop", "the harvest itself needs date"),
            ("email=drop,email=hash", "says twice what becomes of email"),
            ("email_date=hash", "it can be dropped"),
            ("domain=domain", "domain holds no e-mail addresses; email and reply_to do"),
            ("_extra=hash", "can only be dropped"),
        ],
    )
    def test_what_cannot_be_meant_is_said(self, said: str, told: str) -> None:
        with pytest.raises(UsageError, match=told):
            parse_redaction([said], KEY)

    @pytest.mark.parametrize("name", sorted(NEEDED))
    def test_what_the_harvest_goes_by_is_not_to_be_redacted(self, name: str) -> None:
        with pytest.raises(UsageError, match="the harvest itself needs"):
            Redaction(((name, Way.DROP),))

    def test_every_other_column_can_be_dropped(self) -> None:
        names = {name for dataset in CATALOGUE.values() for name in dataset.schema.names} - NEEDED
        assert set(KINDS) | {EXTRA} == names
        assert parse_redaction([f"{name}=drop" for name in names]).label.count("=drop") == len(names)

    def test_hashing_needs_a_key(self) -> None:
        with pytest.raises(UsageError, match=r"--redact-key-file FILE, or put it into HARVESTER_REDACT_KEY"):
            parse_redaction(["email=hash"])

    @pytest.mark.parametrize("key", ["short", "x" * 31, "ab" * 20, "0123456789abcdef" * 5, "klíč" * 10, "a b" * 12])
    def test_a_key_that_is_none_is_refused_and_not_shown(self, key: str) -> None:
        with pytest.raises(UsageError, match="the key of --redact") as caught:
            parse_redaction(["email=hash"], Secret(key))
        assert key not in str(caught.value)

    def test_columns_may_be_said_in_any_order_and_letter_case(self) -> None:
        one = parse_redaction(["email=hash,first_name=drop"], KEY)
        assert one == parse_redaction(["First_Name=DROP", "EMAIL=hash"], KEY)
        assert one.label == f"email=hash,first_name=drop key={fingerprint(KEY)}"
        assert parts_of(one.label) == ({"email": "hash", "first_name": "drop"}, fingerprint(KEY))
        assert in_words("") == in_words(None) == "without --redact"

    def test_the_key_is_in_no_text_of_a_redaction(self) -> None:
        redaction = parse_redaction(["email=hash"], KEY)
        assert str(KEY) not in f"{redaction!r} {redaction.label} {in_words(redaction.label)}"
        assert fingerprint(KEY) != fingerprint(OTHER)

    def test_a_key_without_hashes_is_forgotten(self) -> None:
        assert parse_redaction(["email=drop"], KEY) == parse_redaction(["email=drop"])


class TestValues:
    def test_hashes_are_those_that_anybody_with_the_key_can_make(self) -> None:
        people = [b"bob@x.cz", b"", "žluťoučký".encode(), b"bob@x.cz", None]
        records: list[Record] = [{"ID_SEND_MESSAGE": n + 1, "EMAIL": one} for n, one in enumerate(people)]
        rows = redacted("email=hash", records)
        assert [row["email"] for row in rows] == [
            hashed("bob@x.cz"),
            "",
            hashed("žluťoučký"),
            hashed("bob@x.cz"),
            None,
        ]
        assert hashed("bob@x.cz") != hashed("bob@x.cz", OTHER)

    def test_the_hash_of_an_id_is_a_number(self) -> None:
        sent: list[Value] = [b"5", 5, b"", b"00123", None]
        records: list[Record] = [{"ID_SEND_MESSAGE": n + 1, "ID_EMAIL": one} for n, one in enumerate(sent)]
        rows = redacted("id_email=hash", records)
        number = int(hashed("5")[:16], 16) >> 1
        assert [row["id_email"] for row in rows] == [number, number, None, int(hashed("00123")[:16], 16) >> 1, None]
        assert [row[EXTRA] for row in rows] == [None] * 5

    @pytest.mark.parametrize(
        ("address", "domain"),
        [
            ("bob@x.cz", "x.cz"),
            ('"bob@home"@X.cz', "X.cz"),
            ("Bob Novak <bob@x.cz>", "x.cz"),
            ("bob@x.cz, Bob Novak", None),
            ("bob@", None),
            ("Bob Novak", None),
            ("", None),
            ("bob@x.cz bob", None),
            ("bob@x.cz\u00a0Novak", None),
            ("bob@x\n", "x"),
        ],
    )
    def test_of_an_address_the_domain_may_be_kept_and_nothing_else(self, address: str, domain: str | None) -> None:
        (row,) = redacted("email=domain", [{"ID_SEND_MESSAGE": 1, "EMAIL": address.encode()}])
        assert row["email"] == domain

    def test_what_is_dropped_is_null_and_the_schema_stays(self) -> None:
        (row,) = redacted("email=drop,id_email=drop", [{"ID_SEND_MESSAGE": 1, "EMAIL": b"bob@x.cz", "ID_EMAIL": 5}])
        assert list(row) == BOUNCES.schema.names
        assert (row["email"], row["id_email"], row["id_send_message"]) == (None, None, 1)


class TestExtra:
    def test_a_redacted_field_is_not_in_it_whatever_its_spelling(self) -> None:
        person: Record = {
            "ID_SEND_MESSAGE": 1,
            "EMAIL": b"bob@x.cz\xff",
            "email": b"bob@x.cz",
            "eMail": b"bob@x.cz",
            "First_Name": b"bob@x.cz",
            "new": {b"Email": b"bob@x.cz", b"kept": [{b"EMAIL": b"bob@x.cz", b"n": 1}]},
            "foul": {b"EMAIL": b"bob@x.cz", b"foul": b"\xff"},
            "foul_text": b"\xff",
        }
        (row,) = redacted("email=hash,first_name=drop", [person])
        assert json.loads(row[EXTRA]) == {
            "new": {"kept": [{"n": 1}]},
            "foul_text": {"$base64": base64.b64encode(b"\xff").decode()},
        }

    def test_what_has_nothing_to_do_with_it_stays_as_it_was_sent(self) -> None:
        person: Record = {"ID_SEND_MESSAGE": 1, "EMAIL": b"x", "new": {b"n": 1, b"m": [b"x"]}, "DATE": b"0000-00-00"}
        (row,) = redacted("email=drop", [person])
        assert row[EXTRA] == '{"DATE":"0000-00-00","new":{"n":1,"m":["x"]}}'

    def test_all_of_it_may_be_dropped_but_for_what_the_harvest_goes_by(self) -> None:
        person: Record = {"ID_SEND_MESSAGE": 1, "ID_EMAIL": b"bob", "new": b"bob", "REASON": b"\xff", "id_SEND": b"x"}
        (row,) = redacted("_extra=drop", [person])
        assert row[EXTRA] == '{"id_SEND":"x"}'
        (row,) = redacted("_extra=drop", [{"id_send_message": 1, "id_send": b"007", "id_email": b"bob"}], MESSAGES)
        assert row[EXTRA] == '{"id_send":"007"}'


SECRET = b"zuzana"
_HOLDING = st.sampled_from([SECRET, SECRET + b"@x.cz", b"\xff" + SECRET, b"\0" + SECRET, b"x" + SECRET + b'"}'])
_NESTED: st.SearchStrategy[Value] = st.recursive(
    _HOLDING,
    lambda inner: st.lists(inner, min_size=1, max_size=2) | st.dictionaries(st.sampled_from([b"email", b"n"]), inner),
    max_leaves=3,
)
_SPELLED = st.sampled_from(["EMAIL", "email", "Email", "eMAIL", "FIRST_NAME", "first_name", "REASON", "Reason"])
_PEOPLE = st.lists(st.dictionaries(_SPELLED, _NESTED | _HOLDING, min_size=1), min_size=1, max_size=4)


@given(_PEOPLE, st.sampled_from(["drop", "hash"]))
def test_no_value_of_a_redacted_field_gets_through(people: list[dict[str, Value]], way: str) -> None:
    records: list[Record] = [{"ID_SEND_MESSAGE": number + 1, **one} for number, one in enumerate(people)]
    text = json.dumps(redacted(f"email={way},first_name={way},reason={way}", records), default=str)
    assert "zuzana" not in text
    for packed in re.findall(r"[A-Za-z0-9+/]{4,}", text):
        assert SECRET not in base64.b64decode(packed[: len(packed) // 4 * 4])


@pytest.mark.parametrize(
    "answer",
    [
        b'[{"ID_EMAIL":"5551","ID_send":"7"',
        b'{"error_status":1,"error":"no","id_email":5551}',
        b"<methodResponse><name>ID_email</name><value><i4>5551</i4></value>",
    ],
)
def test_ids_that_are_redacted_are_not_shown_in_errors_either(answer: bytes) -> None:
    assert "5551" in shown(answer)
    assert "5551" not in shown(answer, masked={"id_email"})
