"""What an object store's errors mean, in a sentence that says what to do."""

from __future__ import annotations

import re

from harvester.errors import LakeAway, LakeError

_LONGEST_REASON = 240
_QUERY = re.compile(r"\?[^\s)]*")
_REGION = "Perhaps the bucket is in another region: set AWS_REGION to that"
_REMEDIES = (
    ("without LOCATION|PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocation|status code: 30", _REGION),
    (
        "InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|AuthenticationFailed|401 Unauth",
        "Correct the credentials",
    ),
    ("[Cc]redential|token request", "Correct the credentials"),
    ("403 Forbidden|AccessDenied|AuthorizationFailure", "Let the credentials list, read, write and delete there"),
    ("status code: 5|429", "Wait until the store is well again"),
)
"""What is to be done about an error, by what its text holds."""


class NotThere(LakeError):
    """There is no such object."""


def meaning(what: str, error: Exception, bucket: str) -> LakeError:
    """What an error means for the lake, and what to do about it; ``what`` completes "could not …"."""
    text = str(error)
    if re.search("NoSuchBucket|ContainerNotFound|bucket does not exist", text):
        return LakeAway(
            f"could not {what}: there is no bucket {bucket}. Make it, or correct the lake's URL, and "
            "run the same command again; nothing is lost"
        )
    if isinstance(error, FileNotFoundError):
        return NotThere(f"could not {what}: it is not there")
    remedy = next((remedy for pattern, remedy in _REMEDIES if re.search(pattern, text)), "See to it")
    return LakeAway(f"could not {what}: {_reason(text)}. {remedy}, and run the same command again; nothing is lost")


def _reason(text: str) -> str:
    """The store's own words, without what a person can't use, and without the queries of URLs, which may be signed."""
    text = _QUERY.sub("", text.partition("\n\nDebug")[0])
    status = re.search(r"status code: (\d{3}[^:<.]*)", text)
    message, code = re.search(r"<Message>([^<]*)", text), re.search(r"<Code>([^<]*)", text)
    if status:
        said = ", ".join(found[1] for found in (code, message) if found)
        text = f"the store answered {status[1]}{f': {said}' if said else ''}"
    elif broken := re.search(r"Error performing \w+ (\S+) in .*? - (.*)", text, re.DOTALL):
        text = f"{broken[2]} ({broken[1]})"
    text = " ".join(text.split()).rstrip(".: ")
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]} …"


__all__ = ["NotThere", "meaning"]
