"""The error tree. Where an error is raised decides what it means; nothing downstream reads its text.

What is done about an error follows from where it stands (``api.meaning.action_of``); the word in brackets holds for all
below it that have none of their own.

::

    HarvesterError [stop]       ends the run
    ├── UsageError              exit 2: an option or a file says something that can't be meant
    ├── AccessRefused           exit 3: the account or its address is refused
    │   ├── Unauthorized
    │   └── AddressRefused
    ├── LakeError               exit 4: the lake can't be used
    │   ├── LakeInUse
    │   ├── LakeBroken
    │   ├── LakeFull
    │   └── LakeAway                the object store can't be reached, or refuses: nothing is known of what is there
    ├── ServerNotReached        exit 1: the server never answered
    ├── IncompleteHarvest       ends a stream that is not complete, after its last batch; see ``streaming.outcome``
    ├── SliceRefused [give up]  this slice can't be had, and asking again would not help; the others go on
    └── AttemptFailed [retry]   one attempt failed; the query may be asked again, for as long as the run is patient
        ├── NotConnected [pause]    no connection, so nothing was asked; every task waits, no slice is charged
        │   └── NotTrusted              the server can't prove who it is; ends a run that has not reached it yet
        ├── Throttled [pause]       the server asks for a pause, of every task; no slice is charged
        ├── NotData                 an answer that is no answer to the query (HTML, not JSON, wrong shape)
        │   └── NotTheApi               a redirect or a 4xx: perhaps it is not the API that was asked
        ├── TooBigToServe [retry less]  failures that the query's size can explain: ask for less after three
        │   ├── Cut                     the connection or the body ended early
        │   ├── TimedOut
        │   ├── ServerFailed            5xx, the API's own "Error", or a fault
        │   └── OverCap                 the body is larger than the cap
        └── PageRefused             well-formed, but it breaks a rule of continuity or order
            ├── CursorAbsent            a query from a known record did not bring that record back
            ├── OutOfOrder              keys that do not ascend, are missing, or belong to another send
            └── Unproven                an answer that can't be the whole truth, or that another asking contradicts
"""

from __future__ import annotations


class HarvesterError(Exception):
    """Anything that this package raises on purpose. Its text is one sentence for the person who runs it."""


class UsageError(HarvesterError):
    """An option, a setting or an input file says something that can't be meant."""


class AccessRefused(HarvesterError):
    """The API refuses the account or the address it is asked from; every further query would be refused too."""


class Unauthorized(AccessRefused):
    """The client id or its MD5 code is wrong."""


class AddressRefused(AccessRefused):
    """The account does not permit this machine's IP address."""


class LakeError(HarvesterError):
    """The lake can't be used as it is."""


class LakeInUse(LakeError):
    """Another run holds the lake."""


class LakeBroken(LakeError):
    """The lake or its ledger is not what it should be."""


class LakeFull(LakeError):
    """There is no space left where the lake is."""


class LakeAway(LakeError):
    """The object store of the lake can't be reached, or refuses. What it holds is not known, and nothing is lost."""


class ServerNotReached(HarvesterError):
    """No connection to the server could be made at all during this run."""


class SliceRefused(HarvesterError):
    """The API says that this slice can't be had (an invalid id), or has no proof to give; asking again won't help."""


class AttemptFailed(HarvesterError):
    """One attempt at a query failed in a way that another attempt may not."""


class NotConnected(AttemptFailed):
    """No connection was made, so the query was not asked."""


class NotTrusted(NotConnected):
    """The server's certificate is refused, so nothing was said to it."""


class Throttled(AttemptFailed):
    """The server asks for a pause.

    Attributes:
        retry_after_s: how long, in seconds, if the server said so.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotData(AttemptFailed):
    """What came back is not an answer of the API: HTML, an unexpected status, a body that is not what it should be."""


class NotTheApi(NotData):
    """A redirect or a 4xx status. If nothing else comes, it is not the API that is being asked."""


class TooBigToServe(AttemptFailed):
    """A failure that the size of the query can explain."""


class Cut(TooBigToServe):
    """The connection or the body ended before it was whole."""


class TimedOut(TooBigToServe):
    """The answer did not come in time."""


class ServerFailed(TooBigToServe):
    """The server answered with a 5xx status, with the API's own ``Error``, or with an XML-RPC fault."""


class TurnedAway(ServerFailed):
    """The server answered with status 503 and asked for no pause: it may have too much to do."""


class OverCap(TooBigToServe):
    """The answer is larger than the cap on one answer's size."""


class PageRefused(AttemptFailed):
    """A well-formed answer that breaks a rule of continuity or order, and is therefore not taken."""


class CursorAbsent(PageRefused):
    """A query from a known record did not bring that record back."""


class OutOfOrder(PageRefused):
    """Keys that do not ascend, are missing, or belong to another send."""


class Unproven(PageRefused):
    """An answer that can't be the whole truth, or that another asking contradicts."""


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error of a group that a person needs to hear of: one of ours if there is one, else the first."""
    ours, _ = group.split(HarvesterError)
    chosen: BaseException = ours or group
    while isinstance(chosen, BaseExceptionGroup):
        chosen = chosen.exceptions[0]
    return chosen


__all__ = [
    "AccessRefused",
    "AddressRefused",
    "AttemptFailed",
    "CursorAbsent",
    "Cut",
    "HarvesterError",
    "LakeAway",
    "LakeBroken",
    "LakeError",
    "LakeFull",
    "LakeInUse",
    "NotConnected",
    "NotData",
    "NotTheApi",
    "NotTrusted",
    "OutOfOrder",
    "OverCap",
    "PageRefused",
    "ServerFailed",
    "ServerNotReached",
    "SliceRefused",
    "Throttled",
    "TimedOut",
    "TooBigToServe",
    "Unauthorized",
    "Unproven",
    "UsageError",
    "first_of",
]
