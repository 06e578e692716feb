"""What each kind of answer means, by type."""

from __future__ import annotations

import re
import time
from email.utils import formatdate

import pytest

from harvester import errors
from harvester.api.meaning import (
    DEFAULT_PAUSE_S,
    FAILURES,
    RETRY_AFTER_CAP_S,
    Action,
    Failure,
    action_of,
    decides,
    of_fault,
    of_other_text,
    of_status,
    of_words,
    retry_after_s,
    table,
)
from harvester.errors import (
    AddressRefused,
    Cut,
    HarvesterError,
    NotData,
    NotTheApi,
    ServerFailed,
    SliceRefused,
    Throttled,
    TurnedAway,
    Unauthorized,
)


@pytest.mark.parametrize(
    ("status", "retry_after", "error"),
    [
        (200, None, None),
        (204, None, None),
        (206, None, Cut),
        (301, None, NotTheApi),
        (400, None, NotTheApi),
        (401, None, NotTheApi),
        (403, None, NotTheApi),
        (404, None, NotTheApi),
        (429, None, Throttled),
        (429, "7", Throttled),
        (443, None, ServerFailed),
        (500, None, ServerFailed),
        (500, "7", ServerFailed),
        (501, None, ServerFailed),
        (502, None, ServerFailed),
        (503, None, TurnedAway),
        (503, "7", Throttled),
        (503, "soon", TurnedAway),
        (503, "Fri, 31 Dec 1999 23:59:59 GMT", Throttled),
        (504, None, ServerFailed),
    ],
)
def test_a_status_is_an_error_by_type(status: int, retry_after: str | None, error: type[HarvesterError] | None) -> None:
    assert type(of_status(status, retry_after)) is (error or type(None))


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("Unauthorized", Unauthorized),
        ("Disallowed IP 203.0.113.7", AddressRefused),
        ("Disallowed IP", AddressRefused),
        ("Invalid ID_message", SliceRefused),
        ("Missing ID_send", SliceRefused),
        (" Invalid ID_send\n", SliceRefused),
        ("Error", ServerFailed),
        ("Errors", NotData),
        ("unauthorized access to the moon", NotData),
        ("error_status 3", NotData),
    ],
)
def test_the_apis_words_are_an_error_by_type(words: str, error: type[HarvesterError]) -> None:
    assert type(of_words(words)) is error


def test_a_refused_address_is_told_with_what_to_do() -> None:
    text = str(of_words("Disallowed IP 2001:db8::7"))
    assert "2001:db8::7" in text
    assert "Profile / Integration" in text


def test_only_refusals_weigh_more_than_a_failing_status() -> None:
    assert decides(of_words("Unauthorized"))
    assert decides(of_words("Invalid ID_send"))
    assert not decides(of_words("Error"))
    assert not decides(of_words("whatever"))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        (" 0 ", 0.0),
        ("1.5", 1.5),
        ("-3", None),
        ("nan", None),
        ("inf", None),
        ("1e3", None),
        ("soon", None),
        ("٣", None),
        ("100000", RETRY_AFTER_CAP_S),
        ("Fri, 31 Dec 9999 23:59:59 GMT", RETRY_AFTER_CAP_S),
        ("Fri, 31 Dec 1999 23:59:59 GMT", DEFAULT_PAUSE_S),
        ("Fri, 99 Dec 1999 23:59:59 GMT", None),
        ("9" * 50, 600.0),
    ],
)
def test_retry_after_is_believed_within_reason(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header) == seconds


def test_retry_after_may_be_a_date() -> None:
    assert retry_after_s(formatdate(time.time() + 60, usegmt=True)) == pytest.approx(60, abs=3)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("<html>\n  <p>", "an HTML page"),
        ("\ufeff <!DOCTYPE html>", "an HTML page"),
        ("<?xml version='1.0'?><methodResponse>", "XML"),
        (' {"error_status":1}', "JSON"),
        ("[]", "JSON"),
        ("upstream connect error", "a text"),
    ],
)
def test_what_is_not_in_the_protocol_is_named(text: str, kind: str) -> None:
    assert str(of_other_text(text)) == f"the answer is {kind}, and not what was asked for"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Unauthorized", Unauthorized),
        ("Disallowed IP 203.0.113.7", AddressRefused),
        ("Invalid ID_send", SliceRefused),
        ("Error", ServerFailed),
        ("Internal error at line 12", ServerFailed),
        ("", ServerFailed),
    ],
)
def test_a_faults_known_words_decide_and_others_may_pass(text: str, error: type[HarvesterError]) -> None:
    assert type(of_fault(text)) is error


def test_unknown_words_are_shown_on_one_line_without_addresses() -> None:
    text = str(of_words("no\nrecord of jan@example.com " + "x" * 500))
    assert "'no record of … xxx" in text
    assert len(text) < 200


def test_each_kind_of_answer_stands_in_the_table_once() -> None:
    kinds = [kind for failure in FAILURES for kind in failure.kinds]
    assert len(set(kinds)) == len(kinds)
    assert all(failure.kinds for failure in FAILURES)
    answers = [failure.answer for failure in FAILURES]
    assert len(set(answers)) == len(answers)


def test_the_table_reads_as_rows_of_plain_text() -> None:
    rows = list(table())
    assert len(rows) == len(FAILURES)
    assert ("status 404 with records", "records, all the same", "take its records") in rows
    for row in rows:
        assert all(cell and "|" not in cell and "\n" not in cell for cell in row)


STATUSES = [kind for failure in FAILURES for kind in failure.kinds if kind.isdigit()]
WORDS = {
    "error": "Error",
    "unauthorized": "Unauthorized",
    "disallowed": "Disallowed IP 203.0.113.7",
    "invalid-message": "Invalid ID_message",
    "missing-send": "Missing ID_send",
    "invalid-send": "Invalid ID_send",
    "unknown-error": "Something else",
    "unknown-status": "error_status 7",
}


def of_kind(kind: str) -> Failure:
    return next(failure for failure in FAILURES if kind in failure.kinds)


@pytest.mark.parametrize("kind", STATUSES)
def test_the_table_says_of_statuses_what_is_decided(kind: str) -> None:
    assert type(of_status(int(kind))) is of_kind(kind).error


@pytest.mark.parametrize(
    ("kind", "header"), [("seconds", "7"), ("date", formatdate(time.time() + 60, usegmt=True))], ids=["seconds", "date"]
)
@pytest.mark.parametrize("status", [429, 503])
def test_the_table_says_of_pauses_what_is_decided(status: int, kind: str, header: str) -> None:
    assert type(of_status(status, header)) is of_kind(f"{status}-{kind}").error


@pytest.mark.parametrize("kind", WORDS)
def test_the_table_says_of_words_what_is_decided(kind: str) -> None:
    assert type(of_words(WORDS[kind])) is of_kind(kind).error


def test_a_fault_stands_in_the_table() -> None:
    assert type(of_fault("whatever")) is of_kind("fault").error


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.kinds[0])
def test_an_action_follows_from_the_errors_type(failure: Failure) -> None:
    if failure.error is None:
        assert failure.action is (Action.PROVE if failure.empty else Action.TAKE)
    else:
        assert failure.action is action_of(failure.error) is action_of(failure.error("why"))


def drawn() -> dict[str, tuple[str | None, str]]:
    """The drawing in ``errors``: each error's name → its parent's name and its action."""
    found: dict[str, tuple[str | None, str]] = {}
    path: list[str] = []
    for indent, name, action in re.findall(
        r"^    ([ │├└─]*)([A-Z][A-Za-z]+)(?: \[([a-z ]+)\])?(?= |$)", str(errors.__doc__), re.MULTILINE
    ):
        path = [*path[: len(indent) // 4], name]
        parent = path[-2] if len(path) > 1 else None
        found[name] = parent, action or found[str(parent)][1]
    return found


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name[0].isupper()])
def test_the_drawing_of_the_tree_is_the_tree(name: str) -> None:
    error = getattr(errors, name)
    parent, action = drawn()[name]
    assert error.__base__.__name__ == parent or (parent is None and error is HarvesterError)
    assert action_of(error) is Action[action.upper().replace(" ", "_")]
