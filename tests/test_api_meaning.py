"""What each kind of answer means, by type."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from harvester.api.meaning import RETRY_AFTER_CAP_S, decides, of_other_text, of_status, of_words, retry_after_s
from harvester.errors import (
    AddressRefused,
    HarvesterError,
    NotData,
    NotTheApi,
    ServerFailed,
    SliceRefused,
    Throttled,
    Unauthorized,
)


@pytest.mark.parametrize(
    ("status", "retry_after", "error"),
    [
        (200, None, None),
        (204, None, None),
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
        (503, None, ServerFailed),
        (503, "7", Throttled),
        (503, "soon", ServerFailed),
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
        ("Fri, 31 Dec 1999 23:59:59 GMT", None),
        ("Fri, 99 Dec 1999 23:59:59 GMT", None),
        ("9" * 50, 600.0),
    ],
)
def test_retry_after_is_believed_within_reason(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header) == seconds


def test_retry_after_may_be_a_date() -> None:
    assert retry_after_s(formatdate(time.time() + 60, usegmt=True)) == pytest.approx(60, abs=3)


def test_a_text_is_shown_on_one_line_and_shortened() -> None:
    text = str(of_other_text("<html>\n  <p>" + "x" * 500))
    assert "an HTML page" in text
    assert "<html> <p>" in text
    assert len(text) < 150
